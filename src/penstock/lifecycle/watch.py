"""One look at the world: the traffic since a time, or a table, against what the champion was trained and judged on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from penstock.core.flow import Graph
from penstock.core.ports import Home
from penstock.core.run import Run
from penstock.engine.events import Listener, silent
from penstock.engine.local import Outcome
from penstock.errors import UnknownNameError
from penstock.lifecycle.monitor import Watch, log_folder
from penstock.lifecycle.run import Request, carry_out
from penstock.lifecycle.versions import CHAMPION, alias, who_am_i


@dataclass(slots=True)
class Looked:
    """What a look came to.

    Attributes
    ----------
    graph : Graph
    outcome : Outcome
    watch : Watch
        `found` has the window's report.
    """

    graph: Graph
    outcome: Outcome
    watch: Watch


def look(
    home: Home,
    request: Request,
    entry: str,
    workflow: str,
    *,
    data: str | None = None,
    since: float | None = None,
    listen: Listener = silent,
    began: Callable[[Graph, Run], None] = lambda *_: None,
) -> Looked:
    """Hold a window against the champion, and put what was found on record.

    Parameters
    ----------
    request : Request
        The file that declares the workflow.
    workflow : str
        Its name.
    data : str, optional
        A table; the log of the champion's predictions by default.
    since : float, optional
        Unix time in seconds: only predictions from then on.

    Raises
    ------
    UnknownNameError
        The workflow has no champion.
    PenstockError, CancelledError
        As `run.run`.
    """
    champion, _ = alias(home.ledger, workflow, CHAMPION)
    if champion is None:
        raise UnknownNameError(f"{workflow} has no champion to monitor", hint="`penstock run` makes one")
    extra = {"data": data, "log": log_folder(home, workflow), "model": champion.name, "since": since}
    watches: list[Watch] = []

    def act(graph: Graph, record: Run) -> Watch:
        watches.append(Watch(home, str(graph.about["workflow"]), who_am_i(), record.id))
        return watches[0]

    asked = replace(request, what="monitor", extra=extra)
    graph, outcome = carry_out(home, asked, entry, act, listen=listen, began=began)
    return Looked(graph, outcome, watches[0])
