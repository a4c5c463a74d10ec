"""A sweep of tries on the command line: a line for each as it ends, then all of them ranked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.core.ports import Home
    from penstock.lifecycle.run import Request
    from penstock.lifecycle.tries import Try


def sweep(home: Home, requests: Sequence[Request], *, quiet: bool, verbose: bool, as_json: bool) -> int:
    """Try each combination, and tell.

    Raises
    ------
    PenstockError
        The first one that did not go through; what was tried before it is on record.
    """
    from penstock.cli.output import clean, document, duration, say
    from penstock.cli.projects import WORKER
    from penstock.engine.events import Event
    from penstock.lifecycle.sweep import each
    from penstock.lifecycle.tries import attempt

    def tell(event: Event) -> None:
        if verbose and event.kind in ("done", "reused") and not as_json:
            say(f"    {clean(event.step)} {event.kind}")

    start, found = time.perf_counter(), []
    if not quiet and not as_json:
        say(f"{len(requests)} tries")
    for number, (request, entry) in enumerate(each(home, requests, WORKER), 1):
        report, present = attempt(home, request, entry, listen=tell)
        if report.error is not None:
            raise report.error
        assert present is not None
        found.append((request.extra["set"], present))
        if not quiet and not as_json:
            took = duration(report.wall_s)
            say(f"  {number}/{len(requests)}  {clean(_text(request.extra['set']))}  {_figure(present)}  {took}")
    ranked = sorted(found, key=lambda pair: (-pair[1].value, pair[1].at))
    if as_json:
        document({"tries": [one.to_json() | {"set": dict(given)} for given, one in ranked]})
        return 0
    _tell(ranked, time.perf_counter() - start, quiet=quiet)
    return 0


def _figure(one: Try) -> str:
    from penstock.lifecycle.figures import figure_text

    return figure_text(one.metrics[one.primary])


def _text(given: dict[str, Any]) -> str:
    return " ".join(f"{path}={value}" for path, value in given.items())


def _tell(ranked: list[tuple[Any, Try]], wall_s: float, *, quiet: bool) -> None:
    """The best first, each with what was set; where the rows differ, figures are not compared."""
    from penstock.cli.output import clean, columns, duration, say

    best = ranked[0]
    apart = len({one.rows for _, one in ranked}) > 1
    say(f"best of {len(ranked)}: {clean(_text(best[0]))} · {_figure(best[1])} · {duration(wall_s)}")
    if quiet:
        return
    paths = list(best[0])
    rows = [
        [str(rank), f"run:{one.run[:4]}", _figure(one), *(given[path] for path in paths)]
        for rank, (given, one) in enumerate(ranked, 1)
    ]
    for line in columns(["", "try", "cross-validated", *paths], rows, right=[0]):
        say(line)
    if apart:
        say("note  these tries learned from different rows: their figures are not of the same question")
