"""`penstock run --on BACKEND`: the same run, carried out elsewhere while we wait and tell of it."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from penstock.errors import BackendError, CancelledError, PenstockError, UnknownNameError, UsageError, bounded

if TYPE_CHECKING:
    from penstock.backends.backend import Ended
    from penstock.cli.progress import Progress
    from penstock.cli.projects import Target
    from penstock.lifecycle.run import Report, Request

ALIASES = {"kfp": "kubeflow"}
"""Short names of backends, as URLs have them."""
MOST_NAMED = 5
"""Steps that are named of those that did not end."""
REFUSED = ("force", "refresh", "note", "exploratory", "allow_dirty")
"""What a run elsewhere cannot be asked for: its tasks decide at run time."""


def split_place(text: str) -> tuple[str, str]:
    """Name and place of "dask" or "dask://host:8786".

    Examples
    --------
    >>> split_place("dask://host:8786"), split_place("prefect"), split_place("kfp://host")
    (('dask', 'host:8786'), ('prefect', ''), ('kubeflow', 'host'))
    """
    name, _, where = text.partition("://")
    return ALIASES.get(name, name), where


def _options(text: str, where: str) -> Any:
    """What follows "?" in a place: "image=…", and what that backend alone knows."""
    from urllib.parse import parse_qsl

    from penstock.backends.backend import Options

    given = dict(parse_qsl(text))
    image = given.pop("image", "")
    return Options(group="step", image=image, more=given | {"on": where})


def _most(text: str) -> int:
    """How many parts a mapped step is divided into at most, as a place says after "?parts=".

    Raises
    ------
    UsageError
    """
    from penstock.backends.tasks import MOST_PARTS

    if not text:
        return MOST_PARTS
    if not text.isdecimal() or len(text) > 4:
        raise UsageError(f"--on …?parts={bounded(text, 50)}: a number is meant", hint="parts=0 leaves each step in one")
    return int(text)


def run_on(found: Target, request: Request, on: str, progress: Progress) -> Report:
    """Run a declaration on a backend and wait for its end.

    Returns
    -------
    Report
        With an error where a step failed, or where the backend ended the run before its steps did.

    Raises
    ------
    UsageError
        The flow, or what was asked for, cannot be had there; each fault with its remedy.
    BackendError
        It ended the run before any task came as far as the ledger.
    PenstockError
    """
    from penstock.backends.backend import backend as named
    from penstock.backends.compiled import compiled
    from penstock.backends.preflight import preflight
    from penstock.engine.events import Event
    from penstock.engine.processes import Terminated, terminable
    from penstock.lifecycle.rehearse import rehearse_with
    from penstock.lifecycle.remote import cancelled
    from penstock.lifecycle.remote_record import Part, events_of, give_up, report_of

    place, _, more = on.partition("?")
    name, where = split_place(place)
    asked = [word for word in REFUSED if getattr(request, word)] + [
        n for n, v in request.flags.items() if v is not None
    ]
    asked += ["final"] if request.extra.get("final") else []
    if asked:
        words = ", ".join(f"--{word.replace('_', '-')}" for word in asked)
        raise UsageError(f"{words}: not together with --on", hint="leave it out, or run here")
    chosen = named(name)
    options = _options(more, where)
    place = f"{found.file}:{found.variable}" if found.variable else found.file
    most = _most(options.more.pop("parts", ""))
    flow = compiled(place, group="step", parts=most, until=request.until, params=request.params, extra=request.extra)
    wrong = [one for one in preflight(flow, chosen, options) if one.grade == "error"]
    if wrong:
        more = "".join(f"; {one.what} → {one.remedy}" for one in wrong[1:])
        raise UsageError(f"it cannot run on {name}: {wrong[0].what}{more}", hint=wrong[0].remedy)
    divided = {task.steps[0]: task.parts for task in flow.tasks if task.parts}
    told, parts = list[str](), Counter[str]()
    lock, rehearse = threading.Lock(), rehearse_with("penstock.serve")

    def done(run: str, steps: tuple[str, ...]) -> None:
        with lock, contextlib.suppress(UnknownNameError):  # of a task that did not come as far there is nothing to tell
            report = report_of(found.home, flow.graph, request, Part(name, run, steps), rehearse)
            if progress.graph is None:
                progress.began(flow.graph, report.outcome.run)
            for event in events_of(found.home, report, [step for step in steps if step not in told]):
                told.append(event.step)
                progress(event)
            for step in [step for step in steps if step in divided and step not in told]:
                parts[step] += 1
                if parts[step] == 1:
                    progress(Event("started", step))
                progress(Event("progress", step, facts={"done": parts[step], "total": divided[step]}))

    try:
        with terminable():
            ended: Ended = chosen.run(flow, where, options, done)
    except Terminated as stop:
        raise cancelled(stop) from None
    done(ended.run, tuple(node.id for node in flow.graph.nodes))
    part = Part(name, ended.run, ())
    try:
        report = report_of(found.home, flow.graph, request, part, rehearse)
    except UnknownNameError as error:
        raise _fault(name, ended, []) or BackendError(error.what, hint=error.hint) from error
    left = [node.id for node in report.graph.nodes if node.id not in report.outcome.states]
    if report.error is None and (fault := _fault(name, ended, left)) is not None:
        state = "cancelled" if isinstance(fault, CancelledError) else "failed"
        give_up(found.home, flow.graph, part, state, fault.what)
        report = report_of(found.home, flow.graph, request, part, rehearse)
        report.outcome.error = fault
    return report


def _fault(name: str, ended: Ended, left: list[str]) -> PenstockError | None:
    """What went wrong that the ledger does not know of; None where nothing did.

    Parameters
    ----------
    left : list of str
        Steps that did not end.
    """
    if ended.outcome in ("", "success") and not left:
        return None
    told = f"{name} ended the run as {ended.state}"
    told += f": {bounded(ended.reason, 1_000)}" if ended.reason else ""
    more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
    told += f"; {', '.join(left[:MOST_NAMED])}{more} did not end" if left else ""
    where = f"run {bounded(ended.run, 100)}"
    hint = f"its page and logs tell why: {ended.url}" if ended.url else f"the logs of {name} tell why"
    if ended.outcome == "cancelled":
        return CancelledError(told, where=where, hint="run again: what is done is reused")
    return BackendError(told, where=where, hint=hint)
