"""`penstock compare`: two versions against each other on held-out rows, at the price of a look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Env, Jobs, Json, Quiet, Verbose

if TYPE_CHECKING:
    from penstock.core.ports import Home
    from penstock.lifecycle.fights import Fight
    from penstock.lifecycle.versions import Version

EPILOG = "Exit codes: 0 the first is better, 4 it is worse, 7 not enough evidence, or they are equal."
CODES = {"better": 0, "worse": 4}
MARKS = {"better": ("✓", "green"), "worse": ("✗", "red")}


def command(
    first: Annotated[str, typer.Argument(metavar="A", help="churn@7, churn@challenger, or run:3f9c for its version.")],
    second: Annotated[
        str | None, typer.Argument(metavar="[B]", show_default=False, help="The other; the champion by default.")
    ] = None,
    jobs: Jobs = None,
    env: Env = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Compare and tell."""
    from penstock.cli.output import document, say
    from penstock.cli.progress import Progress
    from penstock.cli.projects import WORKER, here, target
    from penstock.lifecycle.fights import equal, fight
    from penstock.lifecycle.run import Request

    home = here(env=env, flags={"jobs": jobs}, make=False)
    a = _version(home, first)
    b = _version(home, second or a.workflow)
    if equal(home, a, b):
        if as_json:
            document({"first": a.name, "second": b.name, "equal": True, "look": None, "exit_code": 7})
        else:
            say(f"{a.name} and {b.name} are equal: no look spent")
        return 7
    at = target(a.workflow, env, {"jobs": jobs})
    request = Request(at.file, at.variable, flags={"jobs": jobs})
    with Progress(at.home, at.file, quiet=not verbose or as_json, verbose=verbose) as progress:
        fought = fight(at.home, request, WORKER, a, b, listen=progress, began=progress.began)
        progress.flush()
    code = CODES.get(fought.verdict["outcome"], 7)
    document(_document(fought, code)) if as_json else _tell(fought, quiet=quiet)
    return code


def _version(home: Home, text: str) -> Version:
    """The version that a text names, or that a run made.

    Raises
    ------
    UnknownNameError, UsageError
    """
    from penstock.core.run import Run
    from penstock.errors import UsageError
    from penstock.lifecycle.naming import run_or_version
    from penstock.lifecycle.versions import version

    found = run_or_version(home, text)
    if not isinstance(found, Run):
        return found
    if "version" not in found.info:
        raise UsageError(f"run {found.id[:4]} registered no version", hint=f"`penstock models {found.flow}` lists them")
    return version(home.ledger, found.flow, int(found.info["version"]))


def _document(fought: Fight, code: int) -> dict[str, Any]:
    told = {"first": fought.first.name, "second": fought.second.name, "equal": False, "look": fought.look}
    return told | dict(fought.verdict) | {"exit_code": code}


def _tell(fought: Fight, *, quiet: bool) -> None:
    from penstock.cli.output import clean, columns, paint, say

    verdict, a, b = fought.verdict, fought.first.name, fought.second.name
    mark, colour = MARKS.get(verdict["outcome"], ("?", "yellow"))
    by_gate = verdict.get("judged_by")
    if not quiet:
        say(paint(f"{a} against {b} · {verdict['n_rows']:,} held-out rows that neither has learned from", "bold"))
        rows = []
        for _, one in sorted(verdict["metrics"].items(), key=lambda item: item[0] != verdict["primary"]):
            name, *shown = clean(one["challenger"]["shown"]["name"]), *map(_shown, (one["challenger"], one["champion"]))
            rows.append([name, *shown, *([] if by_gate else [clean(one["difference"]["text"])])])
        for line in columns(["", a, b, *([] if by_gate else ["difference"])], rows):
            say(f"  {line}")
    say(paint(f"{mark} {a}: {clean(verdict['sentence'])}", colour))
    if quiet:
        return
    looked = "no look spent: this fight is on record" if fought.look is None else f"look {fought.look}, on record"
    if by_gate:
        looked = f"no look spent: the gate has judged it (look {by_gate['look']}, run {by_gate['run'][:4]})"
    say(f"  {looked}")
    for note in verdict["notes"]:
        say(f"  note: {clean(note)}")


def _shown(one: dict[str, Any]) -> str:
    """A figure with its interval, without its name."""
    from penstock.lifecycle.figures import figure_text

    return figure_text({"shown": one["shown"] | {"name": "", "lower_is_better": False}}).strip()
