"""One run of a flow on Prefect: its tasks started in order, each as the worker's own processes, and what they told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.backends.backend import Done
from penstock.backends.call import MARGIN_S, Told, call
from penstock.backends.compiled import text_of
from penstock.backends.prefect_artifact import markdown, slug
from penstock.backends.tasks import Task
from penstock.engine.wire import rebuilt
from penstock.errors import PenstockError, StepError

MOST_DELAYS = 50
"""Delays between tries that Prefect takes one by one; the last holds for all further ones."""
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
    defaults : dict
        Parameters that a run need not name where they have this value.
    """

    flow: str
    root: str
    tasks: tuple[Task, ...]
    commands: Mapping[str, tuple[tuple[str, ...], ...]]
    secrets: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)

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
        Called with the flow run's id and the steps of each task that has ended.

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
    run = _Run(plan, params, str(context.flow_run.id), _secrets(plan.secrets), done)
    try:
        run.carry_out()
    except BaseException:
        run.stop.set()
        for future in run.futures.values():
            future.wait()
        raise
    return run.ended()


def _secrets(names: tuple[str, ...]) -> dict[str, str]:
    """Variables and their values, from the Secret blocks of the same names."""
    if not names:
        return {}
    from prefect.blocks.system import Secret

    return {name: str(Secret.load(slug(name)).get()) for name in names}


@dataclass(slots=True)
class _Run:
    """A flow run while it is carried out.

    Attributes
    ----------
    stop : threading.Event
        Set when all workers are to end.
    futures : dict
        Task → what Prefect promises of it.
    told : dict
        Task → what the last start of the worker told; None while it runs.
    answers : list of dict
        Answers of the steps that ended well, in the order in which they did.
    """

    plan: Plan
    params: Mapping[str, Any]
    id: str
    environment: Mapping[str, str]
    done: Done | None
    stop: threading.Event = field(default_factory=threading.Event)
    futures: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Told | None] = field(default_factory=dict)
    answers: list[Mapping[str, Any]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def carry_out(self) -> None:
        """Submit tasks as they become ready, so that none holds a thread only to wait for another."""
        ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        waiting, over = list(self.plan.tasks), set[str]()
        while waiting or len(over) < len(self.futures):
            ready = [task for task in waiting if over.issuperset(task.needs)]
            waiting = [task for task in waiting if task not in ready]
            for task in ready:
                needed = [self.futures[need] for need in task.needs]
                future = self.futures[task.id] = self._native(task).submit(wait_for=needed)
                future.add_done_callback(lambda _, one=task.id: ended.put(one))
            over.add(one := ended.get())
            self._tell(one)

    def _native(self, task: Task) -> Any:
        """The task as one of Prefect's."""
        from prefect import task as native
        from prefect.cache_policies import NO_CACHE

        def carry() -> Any:
            return self._carry(task)

        def may_get_better(*_: Any) -> bool:
            told = self.told.get(task.id)
            return told is None or told.retriable

        delays = [task.backoff_s * 2.0**n for n in range(min(task.retries, MOST_DELAYS))]
        make = native(
            name=task.id,
            task_run_name=task.id,
            description=f"{self.plan.flow}: {', '.join(task.steps)}",
            tags=list(tags_of(task)),
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=task.retries,
            retry_delay_seconds=delays or None,
            retry_condition_fn=may_get_better,
            timeout_seconds=None if task.timeout_s is None else task.timeout_s + MARGIN_S,
        )
        return make(carry)

    def _carry(self, task: Task) -> Any:
        """Start the worker for each of a task's calls; the state in which it ended."""
        from prefect.states import Cancelled, Completed, Failed

        if any(self.futures[need].state.name == SKIPPED for need in task.needs):
            return Completed(name=SKIPPED, message="something before it was skipped")
        refused: Told | None = None
        for number, steps in enumerate(task.calls):
            if self.stop.is_set():
                return Cancelled(message=f"{', '.join(steps)} did not begin")
            told = self._start(task.id, self.plan.commands[task.id][number])
            if self.stop.is_set():
                return Cancelled(message=f"the worker of {', '.join(steps)} was ended")
            if told.state not in ("done", "reused", "skipped"):
                error = error_of(told, steps)
                return Failed(message=str(error), data=error)
            with self._lock:
                self.answers.append(told.answer)
            if told.state == "skipped" and number == 0:
                return Completed(name=SKIPPED, message=told.reason)
            refused = refused or (told if told.refused else None)
            if told.state == "skipped":
                break
        return Completed(name=REFUSED if refused else None, message=(refused or told).reason)

    def _start(self, task: str, command: tuple[str, ...]) -> Told:
        """Start the worker once and wait for what it tells; its log is the task's."""
        from prefect.logging import get_run_logger

        logger: Any = get_run_logger()
        self.told[task] = None
        told = self.told[task] = call(
            [*command, "--run", self.id, *self.plan.set_by(self.params)],
            environment=self.environment,
            echo=lambda line: logger.info("%s", line),
            unwanted=self.stop.is_set,
        )
        return told

    def _tell(self, task: str) -> None:
        """Tell of a task that has ended, if the run stands on record since its worker came so far."""
        told = self.told.get(task)
        if self.done is not None and told is not None and told.answer.get("run"):
            self.done(self.id, next(one.steps for one in self.plan.tasks if one.id == task))

    def ended(self) -> Any:
        """The flow run's state, when all tasks have one; an artifact tells what came of it."""
        from prefect.states import Completed, Failed

        states = {name: future.state for name, future in self.futures.items()}
        if self.answers:
            _keep(self.plan.flow, markdown(self.plan.flow, self.plan.root, self.answers))
        for name, state in states.items():
            if state.is_failed() or state.is_crashed():
                error = getattr(state.data, "result", state.data)
                found = error if isinstance(error, Exception) else StepError(str(state.message), where=name)
                return Failed(message=f"{name}: {state.message}", data=found)
        refused = next((state for state in states.values() if state.name == REFUSED), None)
        if refused is not None:
            return Completed(name=REFUSED, message=refused.message)
        return Completed()


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
