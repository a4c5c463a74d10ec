"""`penstock diff`: what two runs differ in."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from penstock.cli.options import Json, Quiet

_RUN = "run:3f9c, last, last~1, or a version such as churn@7 for the run that made it."


def command(
    first: Annotated[str, typer.Argument(metavar="RUN", help=_RUN)],
    second: Annotated[
        str, typer.Argument(metavar="[RUN]", show_default=False, help="The other; the newest run by default.")
    ] = "last",
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Compare and tell."""
    from penstock.cli.output import document
    from penstock.cli.projects import here
    from penstock.lifecycle.differ import diff
    from penstock.lifecycle.naming import run_of

    home = here(make=False)
    a, b = run_of(home, first), run_of(home, second)
    found = diff(home, a, b)
    if as_json:
        document(found)
        return 0
    _tell(found, a.id[:4], b.id[:4], quiet=quiet)
    return 0


def _tell(found: dict[str, Any], a: str, b: str, *, quiet: bool) -> None:
    from penstock.cli.output import clean, columns, paint, say

    changed = bool(found["parameters"] or found["steps"] or any(found["only"].values()) or found["unknown"])
    say(paint(f"run {a} → run {b}: {_count(found) if changed else 'the same steps, inputs and parameters'}", "bold"))
    if quiet:
        return
    for name, (old, new) in found["parameters"].items():
        say(f"  parameter {clean(name)}: {clean(str(old))} → {clean(str(new))}")
    for step, reasons in found["steps"].items():
        say(f"  {clean(step)}")
        for reason in reasons:
            say(f"    {clean(reason)}")
    for text in found["environment"]:
        say(f"  environment: {clean(text)}")
    for run, steps in found["only"].items():
        if steps:
            say(f"  only in run {run[:4]}: {clean(', '.join(steps))}")
    if found["unknown"]:
        say(f"  of these nothing is kept any more: {clean(', '.join(found['unknown']))}")
    rows = [[_name(pair), _delta(pair), *map(_shown, pair)] for pair in found["figures"].values()]
    if rows:
        for line in columns(["cross-validated", "difference", f"run {a}", f"run {b}"], rows, right=[1]):
            say(line)


def _count(found: dict[str, Any]) -> str:
    n = len(found["steps"])
    return f"{n} step{'s' if n != 1 else ''} differ{'s' if n == 1 else ''}"


def _name(pair: list[Any]) -> str:
    shown = next(one for one in pair if one is not None)
    return str(shown["name"]) + (" (lower is better)" if shown.get("lower_is_better") else "")


def _shown(one: Any) -> str:
    from penstock.lifecycle.figures import figure_text

    return "–" if one is None else figure_text({"shown": one | {"name": "", "lower_is_better": False}}).strip()


def _delta(pair: list[Any]) -> str:
    from penstock.lifecycle.figures import number

    if any(one is None or one["value"] is None for one in pair):
        return ""
    moved = pair[1]["value"] - pair[0]["value"]
    size = number(abs(moved)) if abs(moved) >= 0.0005 else f"{abs(moved):.1g}"
    return f"{'−' if moved < 0 else '+'}{size}" if moved else "0"
