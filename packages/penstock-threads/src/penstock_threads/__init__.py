"""Runs a flow by threads of one process, each of which starts the worker for one task after another."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Literal

from penstock.backends.backend import Done, Ended, Finding, Options, Outcome
from penstock.backends.call import MARGIN_S, Told, call
from penstock.backends.compiled import Compiled
from penstock.backends.tasks import Task
from penstock.errors import UsageError

State = Literal["success", "skipped", "failed"]
JOBS = 4


class Threads:
    """The backend.

    Attributes
    ----------
    states : dict
        Task id → how it ended, of the last run; a task that never began is not there.
    logs : dict
        Task id → lines of its log.
    parts : dict
        Task id → how many threads did a part of its step each.
    stop : threading.Event
        Set it to cancel the run that goes on.
    """

    name = "threads"
    away = False

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self.logs: dict[str, list[str]] = {}
        self.parts: dict[str, int] = {}
        self.stop = threading.Event()

    def check(self, flow: Compiled, options: Options) -> list[Finding]:  # noqa: ARG002  the port's signature
        """What does not work here: schedules, which nobody would keep."""
        if options.schedule:
            return [Finding("error", "threads end with the command: there is no schedule", "leave --schedule out")]
        return []

    def export(self, flow: Compiled, options: Options) -> str:  # noqa: ARG002  the port's signature
        """Refuse: there is nothing that a file could be written for.

        Raises
        ------
        UsageError
        """
        raise UsageError("threads run here: there is no file to write", hint=f"penstock run {flow.file} --on threads")

    def run(self, flow: Compiled, where: str, options: Options, done: Done) -> Ended:  # noqa: ARG002  the port's
        """Run the tasks, each as soon as those that it needs have ended well.

        Raises
        ------
        KeyboardInterrupt
            The workers are ended first.
        """
        run = f"threads-{uuid.uuid4().hex[:12]}"
        self.states.clear()
        self.logs.clear()
        self.parts.clear()
        self.stop.clear()
        running: dict[Future[State], Task] = {}
        left = list(flow.tasks)
        with ThreadPoolExecutor(JOBS) as pool:
            try:
                while left or running:
                    for task in [task for task in left if self._is_ready(task) and not self._is_over()]:
                        left.remove(task)
                        running[pool.submit(self._task, flow, task, run, done)] = task
                    if not running:
                        break
                    ended, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        task = running.pop(future)
                        self.states[task.id] = future.result()
                        done(run, task.steps)
            except BaseException:
                self.stop.set()
                raise
        if self.stop.is_set():
            return Ended(run, "cancelled", outcome="cancelled")
        state: Outcome = "failed" if "failed" in self.states.values() else "success"
        return Ended(run, state, outcome=state)

    def _is_over(self) -> bool:
        return self.stop.is_set() or "failed" in self.states.values()

    def _is_ready(self, task: Task) -> bool:
        return all(self.states.get(need) in ("success", "skipped") for need in task.needs)

    def _parts(self, flow: Compiled, task: Task, run: str, done: Done, log: list[str]) -> bool:
        """The parts of a step, side by side; whether all went well, so that its task can make a whole of them."""

        def part(k: int) -> bool:
            command = flow.command(task.steps, self.name, run, part=f"{k}/{task.parts}")
            told = self._tried(command, task, log)
            done(run, task.steps)
            return told.state not in ("failed", "cancelled")

        with ThreadPoolExecutor(JOBS) as pool:
            went = list(pool.map(part, range(1, task.parts + 1)))
        self.parts[task.id] = len(went)
        return all(went)

    def _task(self, flow: Compiled, task: Task, run: str, done: Done) -> State:
        """One task: its calls in order, tried as often as it may be."""
        log = self.logs.setdefault(task.id, [])
        if task.parts and not self._parts(flow, task, run, done, log):
            return "failed"
        skipped = True
        for steps in task.calls:
            told = self._tried(flow.command(steps, self.name, run), task, log)
            if told.state in ("failed", "cancelled"):
                return "failed"
            skipped = skipped and told.state == "skipped"
        return "skipped" if skipped else "success"

    def _tried(self, command: list[str], task: Task, log: list[str]) -> Told:
        """One call, again after a failure that another try may mend."""
        limit = None if task.timeout_s is None else task.timeout_s + MARGIN_S
        attempt = 0
        while True:
            told = call(command, echo=log.append, timeout_s=limit, unwanted=self.stop.is_set)
            if not told.retriable or attempt == task.retries or self.stop.wait(task.backoff_s * 2**attempt):
                return told
            attempt += 1
