"""A run of a backend's on the ledger: its id here, its beginning, how it stands, and its end.

No process sees the whole of such a run. What each of its tasks did is rows; all else is put together from them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass, replace

from penstock.core.digest import digest_value
from penstock.core.fan import mapped_by
from penstock.core.flow import Graph
from penstock.core.plan import Reason
from penstock.core.ports import Home
from penstock.core.run import Group, Run, StepRun
from penstock.engine.events import Event, EventKind
from penstock.engine.outcome import counts_of
from penstock.engine.shared import done_before, refusal_before
from penstock.engine.wire import rebuilt
from penstock.errors import PenstockError, StepError, UnknownNameError, bounded
from penstock.lifecycle.alive import TASKS
from penstock.lifecycle.attempt import Rehearse
from penstock.lifecycle.code_state import code_state
from penstock.lifecycle.kept_attempt import restore
from penstock.lifecycle.kept_code import kept
from penstock.lifecycle.mirror import tell_run
from penstock.lifecycle.records import failed_items
from penstock.lifecycle.run import Report as RunReport
from penstock.lifecycle.run import Request, attempt_of, conclude, info_of


@dataclass(frozen=True, slots=True)
class Part:
    """What a backend asks for.

    Attributes
    ----------
    backend : str
        Its name.
    run : str
        Its own id of the run: any text.
    steps : tuple of str
        Steps to run, mostly one.
    of : (int, int), optional
        K and N: the K-th of N parts of the work of one step, of which the rest is others'.
    """

    backend: str
    run: str
    steps: tuple[str, ...]
    of: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The part as "3/8"; "" for whole steps."""
        return "{}/{}".format(*self.of) if self.of is not None else ""

    def id_of(self, flow: str) -> str:
        """Our run for the backend's, the same for every one of its tasks: 16 hexadecimal digits."""
        return digest_value("run", [self.backend, self.run, flow])[:16]


def run_of(home: Home, run_id: str) -> Run | None:
    """A run by its whole id; None where there is none."""
    return next((run for run in home.ledger.runs(prefix=run_id, limit=2) if run.id == run_id), None)


def begun(home: Home, graph: Graph, request: Request, part: Part) -> Run:
    """The run that the backend's stands for, made by whichever task comes first."""
    run_id = part.id_of(graph.name)
    if (found := run_of(home, run_id)) is not None:
        return found
    info = info_of(home, graph, request) | {"backend": {"name": part.backend, "run": bounded(part.run, 500)}}
    info.pop("process", None)  # tasks come and go, on any machine
    info["code"] = code_state(home, graph, request.file) | kept(home, graph)
    if (found := run_of(home, run_id)) is not None:  # another task was first meanwhile, and has noted itself there
        return found
    run = Run(run_id, graph.name, request.what, "running", time.time(), info=info)
    home.ledger.commit(Group(runs=[run]))
    return run


def states_of(graph: Graph, run: Run, rows: list[StepRun]) -> dict[str, str]:
    """Step → how it ended, also of steps that no task was started for since something before them refused."""
    before = done_before(graph, run, rows)
    states = dict(before.states)
    for row in rows:
        if row.step not in states and row.state in ("failed", "skipped") and not mapped_by(row.step):
            states[row.step] = row.state
    for step in failed_items(rows):
        states.setdefault(step, "failed")
    for node in graph.nodes:
        if node.id not in states and refusal_before(graph, node.id, before):
            states[node.id] = "skipped"
    return states


def conclude_part(home: Home, graph: Graph, request: Request, run: Run, rehearse: Rehearse) -> bool:
    """Put the end of a run on record when all of its steps have ended, whoever ran them; whether they have."""
    rows, run = home.ledger.step_runs(run.id), run_of(home, run.id) or run
    states = states_of(graph, run, rows)
    if any(states.get(node.id, "failed") == "failed" for node in graph.nodes):
        return False
    report = _report(home, graph, request, run, rows, rehearse)
    ended = max((row.started + row.wall_s for row in rows), default=time.time())
    info = {name: value for name, value in run.info.items() if name not in ("error", TASKS)}
    report.outcome.run = replace(run, state="done", ended=ended, counts=counts_of(states), info=info)
    report.wall_s = max(0.0, ended - run.started)
    home.ledger.commit(Group(runs=[report.outcome.run]))
    conclude(home, report)
    return True


def broken(home: Home, run: Run, part: Part, error: PenstockError, began: float) -> None:
    """Put on record that steps failed before they began, or outside of themselves: each has a row of its own."""
    attempts: dict[str, int] = {}
    for row in home.ledger.step_runs(run.id):
        attempts[row.step] = max(attempts.get(row.step, 0), row.attempt)
    reason = Reason("refused", bounded(error.what, 500)).to_json()
    took = max(0.0, time.time() - began)
    rows = [
        StepRun(
            run.id, step, attempts.get(step, 0) + 1, None, "run", "failed", reason,
            error=error.to_json(), started=began, wall_s=took,
        )
        for step in part.steps
    ]  # fmt: skip
    home.ledger.commit(Group(step_runs=rows))


def report_of(home: Home, graph: Graph, request: Request, part: Part, rehearse: Rehearse) -> RunReport:
    """How a backend's run stands, put together from the ledger.

    Raises
    ------
    UnknownNameError
        None of its tasks has come as far as putting the run on record.
    """
    run_id = part.id_of(graph.name)
    run = run_of(home, run_id)
    if run is None:
        what = f"{part.backend} ran no task of {graph.name} under {bounded(part.run, 200)}"
        raise UnknownNameError(what, hint=f"the logs of {part.backend} tell why")
    rows = home.ledger.step_runs(run_id)
    report = _report(home, graph, request, run, rows, rehearse)
    failed = [row for row in rows if report.outcome.states.get(row.step) == "failed" and row.error is not None]
    if failed:
        report.outcome.error = rebuilt(dict(failed[-1].error or {}))
    elif run.state == "failed":
        report.outcome.error = StepError(str(run.info.get("error", "a task failed")), where=f"run {run_id[:4]}")
    report.wall_s = max(0.0, (run.ended or time.time()) - run.started)
    page = os.path.join(home.config.root, ".penstock", "reports", f"{graph.name}-{run.info.get('version')}.html")
    report.page = page if os.path.exists(page) else ""
    return report


def _report(home: Home, graph: Graph, request: Request, run: Run, rows: list[StepRun], rehearse: Rehearse) -> RunReport:
    """A run as far as its rows tell of it."""
    outcome = done_before(graph, run, rows)
    states = states_of(graph, run, rows)
    outcome.states = {node.id: states[node.id] for node in graph.nodes if node.id in states}
    attempt = attempt_of(home, graph, run, request, rehearse)
    if attempt is not None:
        restore(attempt, outcome)
    return RunReport(graph, outcome, attempt)


def events_of(home: Home, report: RunReport, steps: Collection[str]) -> list[Event]:
    """What a listener would have been told of some steps, had it been there."""
    every = home.ledger.step_runs(report.outcome.run.id)
    rows, items = {row.step: row for row in every}, failed_items(every)
    found = []
    for step in steps:
        row, state = rows.get(step), report.outcome.states.get(step)
        if row is None and state == "failed" and step in items:
            error = {**(items[step][0].error or {}), "what": report.error.what if report.error is not None else ""}
            found.append(Event("failed", step, None, (), 0.0, error))
        if row is None or state not in _KINDS:
            continue
        facts = row.error if row.state == "failed" and row.error is not None else row.notes
        decision = report.outcome.decisions.get(step)
        found.append(Event(_KINDS[state], step, decision, row.outputs, row.wall_s, facts))
    return found


_KINDS: dict[str, EventKind] = {"done": "done", "reused": "reused", "skipped": "skipped", "failed": "failed"}


def put_end(home: Home, graph: Graph, run: Run, state: str, what: str = "") -> None:
    """Put on record that a run ended otherwise than by its last step, until a task of it is tried again."""
    run = run_of(home, run.id) or run  # other tasks note themselves there
    info = {**run.info, "error": what} if what else run.info
    states = states_of(graph, run, home.ledger.step_runs(run.id))
    home.ledger.commit(Group(runs=[replace(run, state=state, ended=time.time(), counts=counts_of(states), info=info)]))
    tell_run(home, run.id)


def give_up(home: Home, graph: Graph, part: Part, state: str, what: str) -> None:
    """End a run that is on record as running, of which its backend carries out no task any more.

    Parameters
    ----------
    home : Home
    graph : Graph
    part : Part
        Of which the steps do not matter.
    state : str
        "failed" or "cancelled".
    what : str
        Why, in a sentence.
    """
    run_id = part.id_of(graph.name)
    for run in home.ledger.runs(prefix=run_id, limit=2):
        if run.id == run_id and run.state == "running":
            put_end(home, graph, run, state, bounded(what, 1_000) if state == "failed" else "")
