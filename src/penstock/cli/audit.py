"""`penstock audit`: prove a declaration's data and steps, or show the proof of a version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Env, Force, Full, Jobs, Json, Params, Quiet, Refresh, Seed, Verbose

if TYPE_CHECKING:
    from penstock.core.ports import Home

STEP = "audit"
LATE = ("copy", "re-coding", "sum", "absence")
"""Kinds of findings that are about columns."""
EPILOG = (
    "Nothing is registered, and no look at the hold-out is spent. Exit codes: 0 no error was found, 4 one was, "
    "2 declaration, 3 data, 5 a step failed, 130 cancelled."
)


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE[:VARIABLE]|NAME@VERSION]",
            show_default=False,
            help="The file to prove, the project's only workflow by default; or a version, whose proof is shown.",
        ),
    ] = None,
    full: Full = False,
    param: Params = None,
    force: Force = None,
    refresh: Refresh = None,
    jobs: Jobs = None,
    seed: Seed = None,
    env: Env = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Make or read the proof, and tell it; exit code 4 where it holds an error."""
    from penstock.lifecycle.naming import is_file

    if name is None or full or is_file(name):
        flags = {"jobs": jobs, "seed": seed}
        told, proof = _made(name, env, flags, full, param, force, refresh, quiet=quiet or as_json, verbose=verbose)
    else:
        told, proof = _kept(name, env)
    _tell(told, proof, as_json=as_json, quiet=quiet)
    return 4 if proof["n_findings"]["error"] else 0


def _made(
    name: str | None,
    env: str | None,
    flags: Mapping[str, Any],
    full: bool,
    param: list[str] | None,
    force: list[str] | None,
    refresh: list[str] | None,
    *,
    quiet: bool,
    verbose: bool,
) -> tuple[str, dict[str, Any]]:
    """Run the steps up to the audit; their proof."""
    from penstock.cli.progress import Progress
    from penstock.cli.projects import WORKER, parameters, target
    from penstock.cli.run import title
    from penstock.lifecycle.run import Request, run

    found = target(name, env, flags)
    named = title(found.file, found.variable)
    request = Request(
        found.file,
        found.variable,
        what=STEP,
        params=parameters(param),
        force=tuple(force or ()),
        refresh=tuple(refresh or ()),
        until=STEP,
        flags=flags,
        extra={"full": True} if full else {},
    )
    with Progress(found.home, named, quiet=quiet, verbose=verbose) as progress:
        report = run(found.home, request, WORKER, rehearse=_never, listen=progress, began=progress.began)
        progress.flush()
    if report.error is not None:
        raise report.error
    proof: dict[str, Any] = report.value(found.home, STEP)
    return named, proof


def _never(*_: object) -> int:
    """No version is made, so none is rehearsed."""
    return 0


def _kept(name: str, env: str | None) -> tuple[str, dict[str, Any]]:
    """The proof in a version's bundle."""
    from penstock.cli.projects import here

    home = here(env=env, make=False)
    version = _version(home, name)
    from penstock.lifecycle.versions import parts_of

    proof: dict[str, Any] = home.formats.load(parts_of(home, version.bundle)["audit"], home.objects)
    return version.name, proof


def _version(home: Home, name: str) -> Any:
    """As named, else the champion, else the newest."""
    from penstock.lifecycle.naming import workflow_of
    from penstock.lifecycle.versions import CHAMPION, alias, resolve, versions

    if "@" in name:
        return resolve(home.ledger, name)
    workflow = workflow_of(home, name)
    champion, _ = alias(home.ledger, workflow, CHAMPION)
    return champion if champion is not None else versions(home.ledger, workflow)[-1]


def _tell(told: str, proof: Mapping[str, Any], *, as_json: bool, quiet: bool) -> None:
    """The proof as a document or for a person."""
    from penstock.cli.output import clean, document, paint, say, width, wrapped

    if as_json:
        document({"of": told, **proof})
        return
    if not quiet:
        for line in lines_of(proof):
            say(wrapped(clean(line), width(), " " * (len(line) - len(line.lstrip()) + 2)))
    counts = proof["n_findings"]
    words = [f"{n} {grade}{'s' * (n != 1)}" for grade, n in counts.items() if n]
    mark, colour = ("✗", "red") if counts["error"] else ("✓", "green")
    rows = f"{proof['n_train']:,} training and {proof['n_test']:,} held-out rows"
    said = " · ".join(words) if words else "nothing was found by what was tried"
    say(paint(f"{mark} {clean(told)}: {said} · {rows}", colour))


def lines_of(proof: Mapping[str, Any]) -> list[str]:
    """What was found and what can be done about it, tried and not tried, a line each.

    Examples
    --------
    >>> proof = {"findings": [], "tried": [{"what": "keys", "rows": 1200}], "not_tried": [{"what": "x", "why": "y"}]}
    >>> lines_of(proof)
    ['tried', '  keys (1,200 rows)', 'not tried', '  x: y']
    """
    lines = ["found"] if proof["findings"] else []
    for one in proof["findings"]:
        lines.append(f"  {one['grade']}: {one['what']}")
        lines += [f"    such as {one['example']}"] if one["example"] else []
        lines += [f"    → {told}"] if (told := advice(one)) else []
    lines += ["tried", *(f"  {one['what']} ({one['rows']:,} rows)" for one in proof["tried"])]
    lines += ["not tried", *(f"  {one['what']}: {one['why']}" for one in proof["not_tried"])]
    return lines


def advice(finding: Mapping[str, Any]) -> str:
    """What to do about an error, by what it is about; nothing for what does not refuse.

    Examples
    --------
    >>> advice({"grade": "error", "kind": "copy", "column": "paid"})
    'known too late: ps.Audit(known_late=["paid"]) hides it from the model; else waive={"paid": "why"}'
    >>> advice({"grade": "note", "kind": "skill", "column": "paid"})
    ''
    """
    if finding["grade"] != "error":
        return ""
    step, column = finding.get("step", ""), finding["column"]
    if step:
        ways = ["fit it inside model="]
        if finding["kind"] == "look-ahead":
            ways = ["take only what was known at each row's time"]
        if finding["kind"] != "labels" and "labels" not in finding["what"]:
            ways.append('say why it is known: @ps.step(across_rows="why")')
        return f'{", or ".join(ways)}; else ps.Audit(waive={{{json.dumps(step)}: "why"}})'
    if finding["kind"] in LATE:
        names = ", ".join(json.dumps(name, ensure_ascii=False) for name in column.split(" + "))
        first = names.partition(", ")[0]
        return f'known too late: ps.Audit(known_late=[{names}]) hides it from the model; else waive={{{first}: "why"}}'
    return ""
