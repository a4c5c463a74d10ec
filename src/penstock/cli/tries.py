"""`penstock try`: an afternoon's tries, cross-validated and ranked; the hold-out stays closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Env, Force, Jobs, Json, Note, Params, Quiet, Refresh, Seed, Set, Target, Verbose

if TYPE_CHECKING:
    from penstock.core.ports import Home
    from penstock.lifecycle.run import Report, Request
    from penstock.lifecycle.tries import Try

MOST_SHOWN = 5
"""Tries on the leaderboard, beside the present one."""


def command(
    file: Target = None,
    param: Params = None,
    settings: Set = None,
    most: Annotated[int, typer.Option("--max", min=1, help="Combinations of a sweep at most.")] = 50,
    force: Force = None,
    refresh: Refresh = None,
    jobs: Jobs = None,
    seed: Seed = None,
    note: Note = "",
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", show_default=False, help="Only this candidate. Repeatable."),
    ] = None,
    env: Env = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Try, record, rank."""
    from penstock.cli.projects import parameters, target
    from penstock.lifecycle.run import Request
    from penstock.lifecycle.sweep import combinations, given_of, requests_of

    sets = combinations(given_of(settings or ()), most)
    flags = {"jobs": jobs, "seed": seed}
    found = target(file, env, flags)
    request = Request(
        found.file,
        found.variable,
        params=parameters(param),
        force=tuple(force or ()),
        refresh=tuple(refresh or ()),
        flags=flags,
        note=note,
        extra={"only": only} if only else {},
    )
    if len(sets) > 1:
        from penstock.cli.sweeping import sweep

        return sweep(found.home, requests_of(request, sets), quiet=quiet, verbose=verbose, as_json=as_json)
    [request] = requests_of(request, sets) if settings else [request]
    return _one(found.home, request, quiet=quiet, verbose=verbose, as_json=as_json)


def _one(home: Home, request: Request, *, quiet: bool, verbose: bool, as_json: bool) -> int:
    """One try, and the leaderboard."""
    from penstock.cli.output import document
    from penstock.cli.progress import Progress
    from penstock.cli.projects import WORKER
    from penstock.cli.run import title, to_json
    from penstock.lifecycle.tries import attempt, board

    with Progress(home, title(request.file, request.variable), quiet=quiet or as_json, verbose=verbose) as progress:
        report, present = attempt(home, request, WORKER, listen=progress, began=progress.began)
        progress.flush()
    if as_json:
        tries = board(home, present, report.graph.name)
        document(_document(to_json(report), present, tries))
        return report.exit_code
    if report.error is not None:
        raise report.error
    assert present is not None
    tries = board(home, present, report.graph.name)
    _tell(present, tries, report.wall_s, quiet=quiet)
    if not quiet:
        _tell_ages(report)
    return 0


def _tell_ages(report: Report) -> None:
    """Of what moment the rows are that a try took from a query's snapshot."""
    from penstock.cli.output import clean, say

    for step, decision in report.outcome.decisions.items():
        if decision.reason.why == "snapshot":
            say(f"note  {clean(step)}: {decision.reason}; `penstock run` asks the database")


def _document(run: dict[str, Any], present: Try | None, tries: list[Try]) -> dict[str, Any]:
    keep = ("flow", "run", "state", "exit_code", "wall_s", "error")
    mine = present.to_json() if present is not None else None
    return {name: run[name] for name in keep} | {"try": mine, "board": [one.to_json() for one in tries]}


def _tell(present: Try, tries: list[Try], wall_s: float, *, quiet: bool) -> None:
    """The figures beside the best try so far, then the leaderboard."""
    from penstock.cli.output import columns, duration, paint, say

    rank = next(i for i, one in enumerate(tries, 1) if one.result == present.result)
    where = f"try {rank} of {len(tries)}" if len(tries) > 1 else "the first try on these rows"
    if tries[rank - 1].run != present.run:
        where += f" · equal to run:{tries[rank - 1].run[:4]}"
    say(f"{figure(present)} · {where} · {duration(wall_s)}")
    if quiet:
        return
    others = [one for one in present.metrics if one != present.primary]
    if others:
        say("  " + " · ".join(figure(present, name) for name in others))
    if len(tries) < 2:
        say(paint("cross-validated on the training rows; the hold-out was not opened", "dim"))
        return
    shown = [(i, one) for i, one in enumerate(tries, 1) if i <= MOST_SHOWN or i == rank]
    rows = [
        ["▸" if i == rank else "", str(i), f"run:{one.run[:4]}", figure(one), model(one), one.note] for i, one in shown
    ]
    for line in columns(["", "", "try", "cross-validated", "model", "note"], rows, right=[1]):
        say(line)


def model(one: Try) -> str:
    """A try's model, of several candidates with its name."""
    return f"{one.candidate}: {one.model}" if one.candidate else one.model


def figure(one: Try, name: str = "") -> str:
    """A metric of a try with its interval, as shown to people."""
    from penstock.lifecycle.figures import figure_text

    return figure_text(one.metrics[name or one.primary])
