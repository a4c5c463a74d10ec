"""One step of a run whose steps other processes run too: what a task of Airflow, Prefect, Dagster or Kubeflow does.

The backend has compiled the flow and knows only ids. Whether the step runs, is reused or is skipped is decided here,
at the time, from what the run has on the ledger.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.digest import digest_value
from penstock.core.fan import mapped_by
from penstock.core.flow import Graph
from penstock.core.names import did_you_mean
from penstock.core.plan import Decision, Reason
from penstock.core.ports import Home
from penstock.core.run import Group, Run, StepRun
from penstock.engine.events import Event, EventKind, Listener, silent
from penstock.engine.handle import Server
from penstock.engine.local import Execution
from penstock.engine.logs import followed
from penstock.engine.outcome import Outcome, counts_of
from penstock.engine.planner import recipe_of
from penstock.engine.pool import Pool
from penstock.engine.shared import Shared, done_before, learn_results, needed, refusal_before
from penstock.engine.wire import rebuilt
from penstock.errors import CancelledError, PenstockError, StepError, StoreError, UnknownNameError, UsageError, bounded
from penstock.lifecycle.attempt import Attempt, Rehearse
from penstock.lifecycle.code_state import code_state
from penstock.lifecycle.kept_attempt import kept_effects, restore
from penstock.lifecycle.kept_code import kept
from penstock.lifecycle.machine import machine
from penstock.lifecycle.mirror import tell_run
from penstock.lifecycle.run import Report as RunReport
from penstock.lifecycle.run import Request, attempt_of, conclude, facts_of, fetcher_of, info_of, jobs_of, open_server

SKIPPED = 99
"""Exit code of a step that a refusal before it left out."""
FINAL_CODES = (2, 3, 6)
"""Exit codes of failures that another try of the same would repeat."""


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
    """

    backend: str
    run: str
    steps: tuple[str, ...]

    def id_of(self, flow: str) -> str:
        """Our run for the backend's, the same for every one of its tasks: 16 hexadecimal digits."""
        return digest_value("run", [self.backend, self.run, flow])[:16]


@dataclass(slots=True)
class Answer:
    """What came of it.

    Attributes
    ----------
    run, flow : str
    states : dict
        Step → "done", "reused", "skipped" or "failed".
    outcome : Outcome
    attempt : Attempt or None
    error : PenstockError or None
    reason : str
        Why it was skipped or refused, or how it was decided.
    """

    run: str
    flow: str
    states: dict[str, str]
    outcome: Outcome
    attempt: Attempt | None = None
    error: PenstockError | None = None
    reason: str = ""
    _walls: Mapping[str, Any] = field(default_factory=dict)
    _metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """How the whole ended: "failed", "cancelled", "skipped", "done" or "reused"."""
        if self.error is not None:
            return "cancelled" if isinstance(self.error, CancelledError) else "failed"
        found = set(self.states.values())
        return "skipped" if found == {"skipped"} else "done" if found - {"reused", "skipped"} else "reused"

    @property
    def exit_code(self) -> int:
        """0 done, reused or refused; 99 skipped; else the failure's own."""
        if self.error is not None:
            return self.error.exit_code
        return SKIPPED if self.state == "skipped" else 0

    @property
    def retriable(self) -> bool:
        """Whether another try may end better."""
        return self.error is not None and may_get_better(self.error)

    def to_json(self) -> dict[str, Any]:
        """As the backend reads it: ids, digests and figures, never data."""
        a = self.attempt
        verdict = a.verdict if a is not None else None
        return {
            "state": self.state,
            "run": self.run,
            "flow": self.flow,
            "exit": self.exit_code,
            "retriable": self.retriable,
            "reason": bounded(self.reason, 1_000),
            "steps": {step: self._step(step, state) for step, state in self.states.items()},
            "passed": a.passed if a is not None else None,
            "verdict": {k: verdict[k] for k in ("outcome", "sentence", "rules")} if verdict is not None else None,
            "version": a.version.name if a is not None and a.version is not None else None,
            "champion": bool(a is not None and (a.promoted or a.reigns)),
            "error": self.error.to_json() if self.error is not None else None,
        }

    def _step(self, step: str, state: str) -> dict[str, Any]:
        outputs = {name: one for (maker, name), one in self.outcome.artifacts.items() if maker == step}
        decision = self.outcome.decisions.get(step)
        row = self._walls.get(step)
        metrics = self._metrics.get(step)
        return ({"metrics": dict(metrics)} if metrics else {}) | {
            "state": state,
            "reason": decision.because if decision is not None else "",
            "outputs": {n: {"digest": a.digest, "format": a.format, "size": a.size} for n, a in outputs.items()},
            "wall_s": round(row.wall_s, 3) if row is not None else 0.0,
            "peak_bytes": row.peak_bytes if row is not None else 0,
        }


def may_get_better(error: PenstockError) -> bool:
    """Whether another try of the same may end otherwise."""
    if isinstance(error, StepError):
        return error.retriable
    return error.exit_code not in FINAL_CODES and not isinstance(error, CancelledError)


def run_part(
    home: Home,
    request: Request,
    part: Part,
    entry: str,
    *,
    rehearse: Rehearse,
    listen: Listener = silent,
    log: int | None = None,
) -> Answer:
    """Run one step of a backend's run, or say why it need not run.

    Parameters
    ----------
    home : Home
    request : Request
        The file and its parameters; the same for every task of the run.
    part : Part
    entry : str
        Module of the worker's process entry, "penstock.worker".
    rehearse : callable
    listen : callable
        Told of each step.
    log : int, optional
        File descriptor to which what the steps print is copied while they do.

    Returns
    -------
    Answer
        A failed step does not raise.

    Raises
    ------
    PenstockError
        The file or its declaration has a fault, or what the step needs was not run.
    CancelledError
    """
    server = open_server(home, request, entry)
    try:
        graph = server.opened()
        _check_steps(graph, part.steps)
        run = _begun(home, graph, request, part)
        rows = home.ledger.step_runs(run.id)
        part_graph = needed(graph, part.steps)
        before = done_before(part_graph, run, [row for row in rows if row.step not in part.steps])
        return _Call(home, graph, request, part, run, rows, rehearse, listen, log).answer(part_graph, before, server)
    finally:
        server.close()


@dataclass(slots=True)
class _Call:
    """One process's part in a run, while it is carried out."""

    home: Home
    graph: Graph
    request: Request
    part: Part
    run: Run
    rows: list[StepRun]
    rehearse: Rehearse
    listen: Listener
    log: int | None

    def answer(self, graph: Graph, before: Outcome, server: Server) -> Answer:
        """Skip, repeat a failure that is on record, or run."""
        if why := next(filter(None, (refusal_before(graph, step, before) for step in self.part.steps)), ""):
            return self._skipped(before, why)
        todo = tuple(node for node in graph.nodes if node.id not in before.states)
        facts, seen = facts_of(self.home, replace(graph, nodes=todo), self.request)
        learn_results(before, facts, self.home.ledger)
        if (error := self._failed_before(graph, before, facts)) is not None:
            return self._told(before, error)
        if self.run.state != "running":
            self.run = replace(self.run, state="running", ended=None)
            self.home.ledger.commit(Group(runs=[self.run]))
        attempts: dict[str, int] = {}
        for row in self.rows:
            attempts[row.step] = max(attempts.get(row.step, 0), row.attempt)
        shared = Shared(frozenset(self.part.steps), before, attempts, frozenset(before.states))
        attempt = self._attempt(before)
        logs = os.path.join(self.home.config.root, ".penstock", "logs", self.run.id)
        try:
            with followed(logs, self.log) if self.log is not None else contextlib.nullcontext(_nothing) as copy:
                outcome = Execution(
                    graph,
                    facts,
                    self.home,
                    self.run,
                    lambda: Pool(server, self._jobs(), logs),
                    effects=kept_effects(attempt) if attempt is not None else {},
                    seen=seen,
                    listen=_after(copy, self.listen),
                    made=machine(),
                    fetcher=fetcher_of(self.home),
                    shared=shared,
                ).execute()
        except CancelledError:
            with contextlib.suppress(StoreError):
                self._ended("cancelled", "")
            raise
        return self._told(outcome, outcome.error, attempt)

    def _jobs(self) -> int:
        """Processes of this task: one, but for a mapped step, whose items share what the task may use."""
        mapped = [self.graph.node(step) for step in self.part.steps if self.graph.node(step).mapped]
        each = max((node.resources.get("cpu", 1) for node in mapped), default=0)
        return max(1, int(jobs_of(self.home) // max(each, 1))) if mapped else 1

    def _attempt(self, before: Outcome) -> Attempt | None:
        found = attempt_of(self.home, self.graph, self.run, self.request, self.rehearse)
        if found is not None:
            restore(found, before)
        return found

    def _skipped(self, before: Outcome, why: str) -> Answer:
        """Put on record that the steps are left out, and why."""
        group = Group()
        for step in self.part.steps:
            n = 1 + max((row.attempt for row in self.rows if row.step == step), default=0)
            reason = Reason("refused", why)
            before.decisions[step] = Decision(step, "skip", reason)
            group.step_runs.append(
                StepRun(self.run.id, step, n, None, "skip", "skipped", reason.to_json(), started=time.time())
            )
        self.home.ledger.commit(group)
        before.states.update(dict.fromkeys(self.part.steps, "skipped"))
        return self._told(before, None, self._attempt(before), why)

    def _failed_before(self, graph: Graph, before: Outcome, facts: Any) -> PenstockError | None:
        """The failure on record of the same step with the same inputs and code, where no try can end better."""
        last = {row.step: row for row in self.rows}
        for step in self.part.steps:
            row, node = last.get(step), graph.node(step)
            if row is None or row.state != "failed" or row.error is None or row.recipe is None:
                continue
            if not all(need in before.artifacts for need in node.needs):
                continue
            error = rebuilt(dict(row.error))
            found = recipe_of(node, before.artifacts, facts)
            if found is not None and found[0] == row.recipe and not may_get_better(error):
                return error
        return None

    def _told(
        self, outcome: Outcome, error: PenstockError | None, attempt: Attempt | None = None, why: str = ""
    ) -> Answer:
        """The answer; the run's end goes on record where this was the last of its steps."""
        states = {step: outcome.states.get(step, "failed" if error else "skipped") for step in self.part.steps}
        for step in self.part.steps:  # refused within this very process
            decision = outcome.decisions.get(step)
            why = why or (str(decision.reason) if decision is not None and states[step] == "skipped" else "")
            why = why or str(outcome.notes.get(step, {}).get("skip", ""))
        if error is not None:
            self._ended("failed", error.what)
        else:
            conclude_part(self.home, self.graph, self.request, self.run, self.rehearse)
        rows = {row.step: row for row in self.home.ledger.step_runs(self.run.id)}
        decided = next((d.reason for s in self.part.steps if (d := outcome.decisions.get(s)) is not None), "")
        why, metrics = why or str(decided), self._metrics(outcome) if error is None else {}
        return Answer(self.run.id, self.graph.name, states, outcome, attempt, error, why, rows, metrics)

    def _metrics(self, outcome: Outcome) -> dict[str, dict[str, float]]:
        """Cross-validated figures of the steps that evaluate, as people see them: errors positive."""
        found = {}
        for step in self.part.steps:
            report = outcome.artifacts.get((step, "report"))
            if report is not None and self.graph.node(step).part == "evaluate":
                told: Mapping[str, Any] = self.home.formats.load(report, self.home.objects).get("metrics", {})
                shown = {name: one["shown"]["value"] for name, one in told.items()}
                found[step] = {name: value for name, value in shown.items() if value is not None}
        return found

    def _ended(self, state: str, what: str) -> None:
        """Put on record that the run stands at a failure, until a backend tries again."""
        info = {**self.run.info, "error": what} if what else self.run.info
        rows = self.home.ledger.step_runs(self.run.id)
        states = _states(self.graph, self.run, rows)
        run = replace(self.run, state=state, ended=time.time(), counts=counts_of(states), info=info)
        self.home.ledger.commit(Group(runs=[run]))
        tell_run(self.home, self.run.id)


def _nothing() -> None:
    """There is no log to copy to."""


def _after(copy: Callable[[], None], listen: Listener) -> Listener:
    """Tell of a step after what it has printed."""

    def told(event: Event) -> None:
        copy()
        listen(event)

    return told


def _check_steps(graph: Graph, steps: tuple[str, ...]) -> None:
    known = [node.id for node in graph.nodes]
    for step in steps:
        if step not in known:
            near = did_you_mean(step, known)
            hint = "the file has changed since the flow was exported: export it again"
            raise UsageError(f"{graph.name} has no step {step}{near}", hint=hint)


def _begun(home: Home, graph: Graph, request: Request, part: Part) -> Run:
    """The run that the backend's stands for, made by whichever task comes first."""
    run_id = part.id_of(graph.name)
    found = [run for run in home.ledger.runs(prefix=run_id, limit=2) if run.id == run_id]
    if found:
        return found[0]
    info = info_of(home, graph, request) | {"backend": {"name": part.backend, "run": bounded(part.run, 500)}}
    info.pop("process", None)  # tasks come and go, on any machine
    info["code"] = code_state(home, graph, request.file) | kept(home, graph)
    run = Run(run_id, graph.name, request.what, "running", time.time(), info=info)
    home.ledger.commit(Group(runs=[run]))
    return run


def _states(graph: Graph, run: Run, rows: list[StepRun]) -> dict[str, str]:
    """Step → how it ended, also of steps that no task was started for since something before them refused."""
    before = done_before(graph, run, rows)
    states = dict(before.states)
    for row in rows:
        if row.step not in states and row.state in ("failed", "skipped") and not mapped_by(row.step):
            states[row.step] = row.state
    for node in graph.nodes:
        if node.id not in states and refusal_before(graph, node.id, before):
            states[node.id] = "skipped"
    return states


def conclude_part(home: Home, graph: Graph, request: Request, run: Run, rehearse: Rehearse) -> bool:
    """Put the end of a run on record when all of its steps have ended, whoever ran them; whether they have."""
    rows = home.ledger.step_runs(run.id)
    states = _states(graph, run, rows)
    if any(states.get(node.id, "failed") == "failed" for node in graph.nodes):
        return False
    report = _report(home, graph, request, run, rows, rehearse)
    ended = max((row.started + row.wall_s for row in rows), default=time.time())
    info = {name: value for name, value in run.info.items() if name != "error"}
    report.outcome.run = replace(run, state="done", ended=ended, counts=counts_of(states), info=info)
    report.wall_s = max(0.0, ended - run.started)
    home.ledger.commit(Group(runs=[report.outcome.run]))
    conclude(home, report)
    return True


def report_of(home: Home, graph: Graph, request: Request, part: Part, rehearse: Rehearse) -> RunReport:
    """How a backend's run stands, put together from the ledger.

    Raises
    ------
    UnknownNameError
        None of its tasks has come as far as putting the run on record.
    """
    run_id = part.id_of(graph.name)
    run = next((run for run in home.ledger.runs(prefix=run_id, limit=2) if run.id == run_id), None)
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
    states = _states(graph, run, rows)
    outcome.states = {node.id: states[node.id] for node in graph.nodes if node.id in states}
    attempt = attempt_of(home, graph, run, request, rehearse)
    if attempt is not None:
        restore(attempt, outcome)
    return RunReport(graph, outcome, attempt)


def events_of(home: Home, report: RunReport, steps: Collection[str]) -> list[Event]:
    """What a listener would have been told of some steps, had it been there."""
    rows = {row.step: row for row in home.ledger.step_runs(report.outcome.run.id)}
    found = []
    for step in steps:
        row, state = rows.get(step), report.outcome.states.get(step)
        if row is None or state not in _KINDS:
            continue
        facts = row.error if row.state == "failed" and row.error is not None else row.notes
        decision = report.outcome.decisions.get(step)
        found.append(Event(_KINDS[state], step, decision, row.outputs, row.wall_s, facts))
    return found


_KINDS: dict[str, EventKind] = {"done": "done", "reused": "reused", "skipped": "skipped", "failed": "failed"}
