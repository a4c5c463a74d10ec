"""One run of a flow on Prefect: its tasks started in order, each as the worker's own processes, and what they told."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.backends.backend import Done
from penstock.backends.call import MARGIN_S, Told, call
from penstock.backends.compiled import text_of
from penstock.backends.prefect_artifact import markdown, slug, veil, veiled
from penstock.backends.tasks import Task
from penstock.engine.wire import rebuilt
from penstock.errors import PenstockError, StepError, UsageError, bounded

MOST_DELAYS = 50
"""Delays between tries that Prefect takes one by one; the last holds for all further ones."""
WATCH_S = 5.0
"""Seconds between two questions whether a run was cancelled that no process of Prefect's watches over."""
OWN_PROCESS = "PREFECT__FLOW_RUN_ID"
"""Variable by which Prefect tells a process that it made whose run it is; whoever made it ends it, too."""
JOBS = "PENSTOCK_JOBS"
"""Variable that says how many processes of steps a worker has."""
SKIPPED, REFUSED = "Skipped", "Refused"
"""Names of states that count as completed: nothing was to do behind a refusal; the gate or the audit refused."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a Prefect flow holds of ours: text and numbers, for Prefect sends it to the process of each run.

    Attributes
    ----------
    flow, root : str
        The flow's name, and the folder of its project.
    tasks : tuple of Task
    commands : dict
        Task → command lines of its starts of the worker, up to the run's id.
    secrets : tuple of str
        Variables whose values are asked of Prefect's Secret blocks.
    environment : dict
        Variables that the worker gets beside those of its process.
    defaults : dict
        Parameters that a run need not name where they have this value.
    jobs : int
        Tasks that run at once.
    """

    flow: str
    root: str
    tasks: tuple[Task, ...]
    commands: Mapping[str, tuple[tuple[str, ...], ...]]
    secrets: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    jobs: int = 1

    def parts_of(self, task: Task) -> int:
        """Parts in which a task is done: no more than run at once, as each costs a start of the worker; 0 for none."""
        found = min(task.parts, self.jobs)
        return found if found > 1 else 0

    def set_by(self, params: Mapping[str, Any]) -> Iterator[str]:
        """Arguments of the worker for what a run sets otherwise than the declaration, as a person would write it."""
        for name, value in params.items():
            if value is not None and (name not in self.defaults or value != self.defaults[name]):
                whole = isinstance(value, float) and value.is_integer()
                yield from ("--param", f"{name}={int(value) if whole else text_of(value)}")


def carry_out(plan: Plan, params: Mapping[str, Any], done: Done | None = None) -> Any:
    """Run every task within a Prefect flow run, each as soon as those that it needs have ended.

    Parameters
    ----------
    plan : Plan
    params : dict
        Values of this run.
    done : callable, optional
        Called with the flow run's id and the steps of each task that has ended, and of each part of one.

    Returns
    -------
    prefect.states.State
        Of the flow run.

    Raises
    ------
    BaseException
        Whatever interrupts the flow, such as a cancellation; every worker is ended first.
    """
    from prefect.context import FlowRunContext

    context: Any = FlowRunContext.get()
    secrets = _secrets(plan.secrets)
    run = _Run(plan, params, str(context.flow_run.id), {**plan.environment, **secrets}, veil(secrets), done)
    try:
        run.carry_out()
    except BaseException:
        run.end()
        raise
    return run.ended()


def _secrets(names: tuple[str, ...]) -> dict[str, str]:
    """Variables and their values, from the Secret blocks of the same names.

    Raises
    ------
    UsageError
        There is no such block.
    """
    if not names:
        return {}
    from prefect.blocks.system import Secret

    found = {}
    for name in names:
        try:
            value: Any = Secret.load(slug(name)).get()
        except ValueError as error:
            what = f"Prefect has no Secret block {slug(name)}, from which steps get {name}"
            raise UsageError(
                what, hint=f"Secret(value=…).save({slug(name)!r}), or the page Blocks of its UI"
            ) from error
        found[name] = value if isinstance(value, str) else json.dumps(value, default=str)
    return found


@dataclass(slots=True)
class _Run:
    """A flow run while it is carried out.

    Attributes
    ----------
    stop : threading.Event
        Set when all workers are to end.
    futures : dict
        Task → what Prefect promises of it.
    parts : dict
        Task → what Prefect promises of its parts.
    told : dict
        Task, and part of it or 0 → what the last start of the worker told; None while it runs.
    answers : dict
        Task → its answers, in the order in which its steps ended; those of the last try.
    cancelled : bool
        Whether somebody cancelled the run in Prefect.
    """

    plan: Plan
    params: Mapping[str, Any]
    id: str
    environment: Mapping[str, str]
    fit: Callable[[str], str]
    done: Done | None
    stop: threading.Event = field(default_factory=threading.Event)
    futures: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, list[Any]] = field(default_factory=dict)
    told: dict[tuple[str, int], Told | None] = field(default_factory=dict)
    answers: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    cancelled: bool = False
    _ended: queue.SimpleQueue[tuple[Task, int]] = field(default_factory=queue.SimpleQueue)

    def carry_out(self) -> None:
        """Submit tasks as they become ready, so that none holds a thread only to wait for another."""
        waiting, over = list(self.plan.tasks), set[str]()
        left = {task.id: self.plan.parts_of(task) for task in waiting}
        while len(over) < len(self.plan.tasks):
            for task in [one for one in waiting if over.issuperset(one.needs)]:
                waiting.remove(task)
                self._divide(task) if left[task.id] else self._submit(task)
            found = self._next()
            if found is None:
                return
            task, part = found
            self._tell(task)
            if not part:
                over.add(task.id)
                continue
            left[task.id] -= 1
            if not left[task.id]:
                self._submit(task)

    def _divide(self, task: Task) -> None:
        """Submit the parts of a task; the task itself, which makes a whole of them, comes when they have ended."""
        numbers = list(range(1, self.plan.parts_of(task) + 1))
        needed = [self.futures[need] for need in task.needs]
        self.parts[task.id] = list(self._native(task, parts=len(numbers)).map(part=numbers, wait_for=needed))
        for number, future in zip(numbers, self.parts[task.id], strict=True):
            future.add_done_callback(lambda _, one=number: self._ended.put((task, one)))

    def _submit(self, task: Task) -> None:
        needed = [*(self.futures[need] for need in task.needs), *self.parts.get(task.id, ())]
        future = self.futures[task.id] = self._native(task).submit(wait_for=needed)
        future.add_done_callback(lambda _: self._ended.put((task, 0)))

    def _next(self) -> tuple[Task, int] | None:
        """The next task, or part of one, that has ended; None, with all workers ended, if the run was cancelled.

        A run that Prefect started in a process of its own is ended with that process. Of any other, Prefect only
        notes that somebody wants its end.
        """
        watched = os.environ.get(OWN_PROCESS) != self.id
        while True:
            with contextlib.suppress(queue.Empty):
                return self._ended.get(timeout=WATCH_S if watched else None)
            if cancelled(self.id):
                self.cancelled = True
                self.end()
                return None

    def end(self) -> None:
        """End every worker, and wait until none is left."""
        self.stop.set()
        for future in [*self.futures.values(), *(part for parts in self.parts.values() for part in parts)]:
            with contextlib.suppress(Exception):  # how a task ended that nobody waits for any more
                future.wait()

    def _native(self, task: Task, parts: int = 0) -> Any:
        """The task as one of Prefect's, or what does any of its parts."""
        from prefect import task as native
        from prefect.cache_policies import NO_CACHE

        def carry(part: int = 0) -> Any:
            return self._carry(task, part, parts)

        def may_get_better(_: Any, run: Any, __: Any) -> bool:
            return self._may_get_better(task, run.name)

        delays = [task.backoff_s * 2.0**n for n in range(min(task.retries, MOST_DELAYS))]
        limit = None if task.timeout_s is None else task.timeout_s + MARGIN_S * len(task.calls)
        steps = bounded(", ".join(task.steps), 500)
        make = native(
            name=f"{task.id} part" if parts else task.id,
            task_run_name=f"{task.id} {{part}}/{parts}" if parts else task.id,
            description=f"{self.plan.flow}: {steps}" + (" in parts" if parts else ""),
            tags=list(tags_of(task)),
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=task.retries,
            retry_delay_seconds=delays or None,
            retry_condition_fn=may_get_better,
            timeout_seconds=limit,
        )
        return make(carry)

    def _may_get_better(self, task: Task, name: str) -> bool:
        """Whether a task run may be tried again; each part has its own name."""
        part = int(name.rpartition(" ")[2].partition("/")[0]) if name != task.id else 0
        told = self.told.get((task.id, part))
        return not self.stop.is_set() and (told is None or told.retriable)

    def _carry(self, task: Task, part: int, parts: int) -> Any:
        """Start the worker for each of a task's calls; the state in which it ended."""
        from prefect.states import Cancelled, Completed, Failed

        before = [*(self.futures[need] for need in task.needs), *(() if part else self.parts.get(task.id, ()))]
        if any(state_of(future).name == SKIPPED for future in before):
            return Completed(name=SKIPPED, message="something before it was skipped")
        refused: Told | None = None
        answers: list[Mapping[str, Any]] = []
        said = []
        if not part:
            self.answers[task.id] = answers
        for number, steps in enumerate(task.calls):
            if self.stop.is_set():
                return Cancelled(message=f"{', '.join(steps)} did not begin")
            told = self._start(task, part, parts, self.plan.commands[task.id][number])
            if self.stop.is_set():
                return Cancelled(message=f"the worker of {', '.join(steps)} was ended")
            answers.append(told.answer)
            if told.state not in ("done", "reused", "skipped"):
                error = error_of(told, steps)
                return Failed(message=str(error), data=error)
            if told.state == "skipped" and number == 0:
                return Completed(name=SKIPPED, message=told.reason)
            refused = refused or (told if told.refused else None)
            if told.state == "skipped":
                break
            said.append(f"{', '.join(steps)} {told.state}")
        return Completed(name=REFUSED if refused else None, message=refused.reason if refused else "; ".join(said))

    def _start(self, task: Task, part: int, parts: int, command: tuple[str, ...]) -> Told:
        """Start the worker once and wait for what it tells; its log is the task's."""
        from prefect.logging import get_run_logger

        logger: Any = get_run_logger()
        words = ("--part", f"{part}/{parts}") if part else ()
        # Parts that run at once share what a worker that does it all would have for its items.
        share = {JOBS: str(max(1, self.plan.jobs // parts))} if part else {}
        self.told[task.id, part] = None
        told = call(
            [*command, "--run", self.id, *words, *self.plan.set_by(self.params)],
            environment={**self.environment, **share},
            echo=lambda line: logger.info("%s", self.fit(line)),
            unwanted=self.stop.is_set,
        )
        told = self.told[task.id, part] = replace(told, answer=veiled(told.answer, self.fit))
        return told

    def _tell(self, task: Task) -> None:
        """Tell of a task that has ended, or a part of it, if the run stands on record since its worker came so far."""
        tolds = (told for (name, _), told in list(self.told.items()) if name == task.id)
        if self.done is not None and any(told is not None and told.answer.get("run") for told in tolds):
            self.done(self.id, task.steps)

    def ended(self) -> Any:
        """The flow run's state, when all tasks have one; an artifact tells what came of it."""
        from prefect.states import Cancelled, Completed, Failed

        if self.cancelled:
            return Cancelled(message="cancelled in Prefect; what was done is reused by the next run")
        parts = {f"{name} {n}": one for name, found in self.parts.items() for n, one in enumerate(found, start=1)}
        states = {name: state_of(future) for name, future in {**parts, **self.futures}.items()}
        if answers := [answer for found in list(self.answers.values()) for answer in found]:
            _keep(self.plan.flow, markdown(self.plan.flow, self.plan.root, answers))
        for name, state in states.items():
            if state.is_failed() or state.is_crashed():
                error = getattr(state.data, "result", state.data)
                found = error if isinstance(error, Exception) else StepError(str(state.message), where=name)
                return Failed(message=f"{name}: {state.message}", data=found)
        refused = next((state for state in states.values() if state.name == REFUSED), None)
        if refused is not None:
            return Completed(name=REFUSED, message=refused.message)
        return Completed()


def state_of(future: Any) -> Any:
    """The state in which a task ended.

    Who has not waited is told what Prefect's server knows, and that hears of the end later than this process.
    """
    future.wait()
    return future.state


def cancelled(run: str) -> bool:
    """Whether Prefect has noted that somebody wants the end of a run; an answer that does not come is none."""
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run).state
    except Exception:
        return False
    return bool(state is not None and (state.is_cancelling() or state.is_cancelled()))


def error_of(told: Told, steps: tuple[str, ...]) -> PenstockError:
    """The failure that a worker told of, as the exception that it was."""
    if told.answer.get("error"):
        return rebuilt(told.answer["error"])
    return StepError(told.reason, where=", ".join(steps))


def tags_of(task: Task) -> Iterator[str]:
    """Tags of a task: its part, its labels, and "gpu" where it asks for one.

    Examples
    --------
    >>> list(tags_of(Task("fit", ("fit",), (("fit",),), part="train", resources={"labels": {"queue": "big"}})))
    ['train', 'queue=big']
    """
    if task.part:
        yield task.part
    for name, value in task.resources.get("labels", {}).items():
        yield f"{name}={value}"
    if task.resources.get("gpu"):
        yield "gpu"


def _keep(flow: str, text: str) -> None:
    """Keep an artifact; what is wrong with it does not undo what the run achieved."""
    from prefect.artifacts import create_markdown_artifact
    from prefect.logging import get_run_logger

    try:
        create_markdown_artifact(text, key=slug(flow), description=f"What came of {flow}")
    except Exception as error:
        get_run_logger().warning("no artifact of this run: %s", error)
