"""One step of a run whose steps other processes run too: what a task of Airflow, Prefect, Dagster or Kubeflow does.

The backend has compiled the flow and knows only ids. Whether the step runs, is reused or is skipped is decided here,
at the time, from what the run has on the ledger.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.fan import items_text, mapped_by
from penstock.core.flow import Graph
from penstock.core.names import did_you_mean
from penstock.core.plan import Decision, Reason
from penstock.core.ports import Home
from penstock.core.run import Group, Run, StepRun
from penstock.engine.checkpoints import searches
from penstock.engine.events import Event, Listener, silent
from penstock.engine.handle import Server
from penstock.engine.local import Execution
from penstock.engine.logs import followed
from penstock.engine.outcome import Outcome
from penstock.engine.planner import recipe_of
from penstock.engine.pool import Pool
from penstock.engine.processes import Terminated, terminable
from penstock.engine.shared import Shared, done_before, learn_results, needed, refusal_before
from penstock.engine.wire import rebuilt
from penstock.errors import (
    CancelledError,
    InternalError,
    PenstockError,
    StepError,
    StepKilledError,
    StoreError,
    UsageError,
    bounded,
)
from penstock.lifecycle.alive import is_gone
from penstock.lifecycle.attempt import Attempt, Rehearse
from penstock.lifecycle.kept_attempt import kept_effects, restore
from penstock.lifecycle.machine import machine
from penstock.lifecycle.remote_record import Part, begun, broken, conclude_part, put_end, run_of, states_of
from penstock.lifecycle.remote_tasks import key_of, noted
from penstock.lifecycle.run import Request, attempt_of, facts_of, fetcher_of, jobs_of, open_server

SKIPPED = 99
"""Exit code of a step that a refusal before it left out."""
FINAL_CODES = (2, 3, 6)
"""Exit codes of failures that another try of the same would repeat."""


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
    part : str
        "3/8" of a part of a step, which gives nothing by itself.
    """

    run: str
    flow: str
    states: dict[str, str]
    outcome: Outcome
    attempt: Attempt | None = None
    error: PenstockError | None = None
    reason: str = ""
    part: str = ""
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
        return ({"part": self.part} if self.part else {}) | {
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
        known = self.outcome.artifacts if not self.part else {}
        outputs = {name: one for (maker, name), one in known.items() if maker == step}
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
        A failed step does not raise, nor one that could not begin: both are on record.

    Raises
    ------
    PenstockError
        The file or its declaration has a fault, so that the run is not known.
    CancelledError
    """
    server = open_server(home, request, entry)
    try:
        graph = server.opened()
        _check_steps(graph, part)
        run, began = begun(home, graph, request, part), time.time()
        with noted(home, run, part) as killed:
            if killed is not None:
                _tell_killed(home, run, part, killed, listen)
            try:
                with terminable():
                    return _Call(home, graph, request, part, run, rehearse, listen, log).answer(server)
            except (KeyboardInterrupt, Terminated, CancelledError) as stop:
                with contextlib.suppress(StoreError):
                    put_end(home, graph, run, "cancelled")
                raise cancelled(stop) from None
            except Exception as raised:
                internal = InternalError(bounded(f"{type(raised).__name__}: {raised}", 500))
                error = raised if isinstance(raised, PenstockError) else internal
                with contextlib.suppress(StoreError):
                    broken(home, run, part, error, began)
                    put_end(home, graph, run, "failed", error.what)
                if error is internal:
                    raise
                states = dict.fromkeys(part.steps, "failed")
                return Answer(run.id, graph.name, states, Outcome(run), error=error, part=part.name)
    finally:
        server.close()


def cancelled(stop: BaseException) -> CancelledError:
    """What a worker answers that was asked to end, at whatever moment."""
    if isinstance(stop, CancelledError):
        return stop
    error = CancelledError("the run was cancelled; what had finished is kept")
    error.exit_code = 143 if isinstance(stop, Terminated) else 130  # type: ignore[misc]  # this one error has two codes
    return error


def _tell_killed(home: Home, run: Run, part: Part, mark: Mapping[str, Any], listen: Listener) -> None:
    """Say of an earlier try that it ended without a word; on record too, where its process is known to be gone."""
    gone = is_gone(mark)
    text = f"an earlier try of {key_of(part)} on {mark.get('host')} {'was killed' if gone else 'has not told its end'}"
    listen(Event("note", part.steps[0], facts={"text": text}))
    if gone and part.of is None:
        error = StepKilledError("its worker was killed", hint="the backend's log may tell by what")
        broken(home, run, part, error, float(mark.get("began", 0.0)))


@dataclass(slots=True)
class _Call:
    """One process's part in a run, while it is carried out."""

    home: Home
    graph: Graph
    request: Request
    part: Part
    run: Run
    rehearse: Rehearse
    listen: Listener
    log: int | None
    rows: list[StepRun] = field(default_factory=list)

    def answer(self, server: Server) -> Answer:
        """Skip, repeat a failure that is on record, or run."""
        self.rows, graph = self.home.ledger.step_runs(self.run.id), needed(self.graph, self.part.steps)
        before = done_before(graph, self.run, [row for row in self.rows if row.step not in self.part.steps])
        if why := next(filter(None, (refusal_before(graph, step, before) for step in self.part.steps)), ""):
            return self._skipped(before, why)
        todo = tuple(node for node in graph.nodes if node.id not in before.states)
        if self.part.of is not None:  # of all items of a step the facts are not asked for, since it does but some
            todo = tuple(replace(node, mapped=False) for node in todo)
        facts, seen = facts_of(self.home, replace(graph, nodes=todo), self.request)
        learn_results(before, facts, self.home.ledger)
        if (error := self._failed_before(graph, before, facts)) is not None:
            return self._told(before, error)
        self.run = run_of(self.home, self.run.id) or self.run
        if self.run.state != "running":
            self.run = replace(self.run, state="running", ended=None)
            self.home.ledger.commit(Group(runs=[self.run]))
        attempts: dict[str, int] = {}
        for row in self.rows:
            attempts[row.step] = max(attempts.get(row.step, 0), row.attempt)
        wanted, done = frozenset(self.part.steps), frozenset(before.states)
        shared = Shared(wanted, before, attempts, done, self.part.of, self._hopeless(), self._items())
        attempt = self._attempt(before)
        logs = os.path.join(self.home.config.root, ".penstock", "logs", self.run.id)
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
        if self.part.of is None:
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

    def _hopeless(self) -> dict[str, Mapping[str, Any]]:
        """Recipe → error, of the items that failed in this run in a way that no other try mends."""
        failed = [row for row in self.rows if row.state == "failed" and mapped_by(row.step) in self.part.steps]
        errors = {row.recipe: row.error for row in failed if row.recipe is not None and row.error is not None}
        return {recipe: error for recipe, error in errors.items() if not may_get_better(rebuilt(dict(error)))}

    def _items(self) -> tuple[StepRun, ...]:
        """Rows of items that the step's own last row does not count yet."""
        found: list[StepRun] = []
        for row in self.rows:
            if row.step in self.part.steps:
                found.clear()
            elif mapped_by(row.step) in self.part.steps:
                found.append(row)
        return tuple(found)

    def _told(
        self, outcome: Outcome, error: PenstockError | None, attempt: Attempt | None = None, why: str = ""
    ) -> Answer:
        """The answer; the run's end goes on record where this was the last of its steps."""
        states = {step: outcome.states.get(step, "failed" if error else "skipped") for step in self.part.steps}
        for step in self.part.steps:  # refused within this very process
            decision = outcome.decisions.get(step)
            why = why or (str(decision.reason) if decision is not None and states[step] == "skipped" else "")
            why = why or str(outcome.notes.get(step, {}).get("skip", ""))
        if error is None and self.part.of is None:
            self._keep_rows(outcome, states)
        if error is not None:
            put_end(self.home, self.graph, self.run, "failed", error.what)
        elif self.part.of is not None:
            self._tell_part(outcome)
            self._stand_by_failure()
        elif not conclude_part(self.home, self.graph, self.request, self.run, self.rehearse):
            self._stand_by_failure()
        made = self.home.ledger.step_runs(self.run.id) if self.part.of is None else []  # a part has no row
        rows = {row.step: row for row in made}
        decided = next((d.reason for s in self.part.steps if (d := outcome.decisions.get(s)) is not None), "")
        why, metrics = why or str(decided), self._metrics(outcome) if error is None else {}
        name = self.part.name
        return Answer(self.run.id, self.graph.name, states, outcome, attempt, error, why, name, rows, metrics)

    def _keep_rows(self, outcome: Outcome, states: Mapping[str, str]) -> None:
        """Put what was done on record once more where a try that went on beside this one took the number of its row.

        A backend that takes a task for dead starts it again, and the first may still run: both count the same rows.
        """
        rows = self.home.ledger.step_runs(self.run.id)
        known = done_before(self.graph, self.run, rows).states
        lost = [step for step in self.part.steps if states[step] in ("done", "reused") and step not in known]
        group = Group()
        for step in lost:
            decision, n = outcome.decisions[step], max(row.attempt for row in rows if row.step == step)
            made = [outcome.artifacts.get((step, name)) for name in self.graph.node(step).names]
            outputs = tuple(one for one in made if one is not None)
            action, reason = "reuse" if states[step] == "reused" else "run", decision.reason.to_json()
            notes, recipe, now = outcome.notes.get(step, {}), decision.recipe, time.time()
            row = StepRun(self.run.id, step, n + 1, recipe, action, "done", reason, outputs, notes=notes, started=now)
            group.step_runs.append(row)
        if lost:
            self.home.ledger.commit(group)

    def _tell_part(self, outcome: Outcome) -> None:
        """Say in the log what came of a part of a step."""
        [step], (k, n) = self.part.steps, self.part.of or (1, 1)
        if (items := outcome.notes.get(step, {}).get("items")) is not None:
            self.listen(Event("note", step, facts={"text": f"{step}, part {k} of {n}: {items_text(items)}"}))

    def _stand_by_failure(self) -> None:
        """Leave a run that stands at the failure of another task as it was before this one went on."""
        self.run = run_of(self.home, self.run.id) or self.run
        if self.run.state != "running" or "error" not in self.run.info:  # none has failed so far
            return
        rows = self.home.ledger.step_runs(self.run.id)
        if "failed" in states_of(self.graph, self.run, rows).values():
            put_end(self.home, self.graph, self.run, "failed")

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


def _nothing() -> None:
    """There is no log to copy to."""


def _after(copy: Callable[[], None], listen: Listener) -> Listener:
    """Tell of a step after what it has printed."""

    def told(event: Event) -> None:
        copy()
        listen(event)

    return told


def _check_steps(graph: Graph, part: Part) -> None:
    known = [node.id for node in graph.nodes]
    for step in part.steps:
        if step not in known:
            near = did_you_mean(step, known)
            hint = "the file has changed since the flow was exported: export it again"
            raise UsageError(f"{graph.name} has no step {step}{near}", hint=hint)
    if part.of is None:
        return
    if len(part.steps) > 1:
        raise UsageError(f"--part: of one step, not of {', '.join(part.steps)}")
    node = graph.node(part.steps[0])
    if (not node.mapped or node.uncacheable) and not searches(node):
        why = (
            f"what its items give is not kept ({node.uncacheable})"
            if node.mapped
            else "it goes through no list, and searches nothing"
        )
        hint = "the file has changed since the flow was exported: export it again"
        raise UsageError(f"--part: {node.id} is not done in parts: {why}", hint=hint)
