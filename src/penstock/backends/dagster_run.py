"""A run on Dagster that somebody waits for: its job in this process, or in one process for each task."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from penstock.backends.backend import Done, Ended, Options
from penstock.backends.compiled import Compiled
from penstock.backends.dagster_assets import definitions_of, forking
from penstock.backends.dagster_kept import packed, unpacked
from penstock.backends.dagster_task import Native, word
from penstock.backends.tasks import Task
from penstock.errors import CancelledError, StepError, UsageError, bounded
from penstock.lifecycle.run import jobs_of

MARK = "penstock/waits"
"""Tag by which who started a run finds it."""
LOOK_S = 0.5
"""Seconds between two looks at which tasks have ended."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run config under which Dagster prints no events."""
FOR_ONE_RUN = {
    "telemetry": {"enabled": False},
    "python_logs": {"python_log_level": "CRITICAL"},
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    },
}
"""Settings of an instance that nobody looks at; a log that is captured takes two processes more for each step."""
INTERRUPTS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")
"""Errors by which Dagster says that somebody stopped a run."""


def is_wide(tasks: Sequence[Task]) -> bool:
    """Whether some tasks, or parts of one, need not wait for each other.

    Examples
    --------
    >>> first, second = Task("a", ("a",), (("a",),)), Task("b", ("b",), (("b",),), needs=("a",))
    >>> is_wide([first, second]), is_wide([first, second, Task("c", ("c",), (("c",),), needs=("a",))])
    (False, True)
    """
    before: dict[str, set[str]] = {}
    for task in tasks:
        before[task.id] = set(task.needs).union(*(before[need] for need in task.needs))
    return any(len(before[task.id]) < number or task.parts for number, task in enumerate(tasks))


def run_job(flow: Compiled, options: Options, done: Done, *, side_by_side: bool) -> Ended:
    """Run a flow's job and wait for its end.

    Raises
    ------
    UsageError
        `DAGSTER_HOME` is no folder.
    CancelledError
        Somebody stopped it, here or in Dagster.
    """
    home = os.environ.get("DAGSTER_HOME", "")
    if home and not (os.path.isabs(home) and os.path.isdir(home)):
        raise UsageError(f"DAGSTER_HOME={home}: no absolute path of a folder", hint="make it, or unset the variable")
    with _instance(kept=bool(home), lasting=side_by_side) as instance:
        if side_by_side:
            ended = _in_processes(flow, options, done, instance, echo=bool(home))
        else:
            native = Native(environment=options.environment, listen=done, echo=bool(home))
            job = definitions_of(flow, native).resolve_job_def(word(flow.name))
            ended = job.execute_in_process(run_config=QUIET, instance=instance, raise_on_error=False)
        events = list(ended.all_events)
        run = instance.get_run_by_id(ended.run_id)
    if run.status.value == "CANCELED" or any(_is_interrupt(event) for event in events):
        raise CancelledError(f"{flow.name} was stopped on Dagster", hint="run again: what is done is reused")
    for event in events:
        if event.is_step_failure:
            _raise_unrecorded(event)
    if ended.success:
        return Ended(ended.run_id, "SUCCESS", outcome="success")
    return Ended(ended.run_id, "FAILURE", outcome="failed", reason=_why_failed(events))


@contextlib.contextmanager
def _instance(*, kept: bool, lasting: bool) -> Iterator[Any]:
    """Dagster's record of runs: the user's own, or one for this run, in a folder where other processes must see it."""
    import dagster as dg

    with contextlib.ExitStack() as stack:
        if kept:
            yield stack.enter_context(dg.DagsterInstance.get())
        elif lasting:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-dagster-"))
            yield stack.enter_context(dg.DagsterInstance.local_temp(folder, overrides=FOR_ONE_RUN))
        else:
            yield stack.enter_context(dg.DagsterInstance.ephemeral())


def _in_processes(flow: Compiled, options: Options, done: Done, instance: Any, *, echo: bool) -> Any:
    """Run the job by Dagster's own executor of many processes."""
    import dagster as dg

    given = {"flow": packed(flow, "step"), "environment": dict(options.environment), "echo": echo}
    job = dg.build_reconstructable_job(__name__, "job_of", (json.dumps(given | {"jobs": int(jobs_of(flow.home))}),))
    mark = secrets.token_hex(8)
    with _told(flow, instance, mark, done):
        return dg.execute_job(job, instance=instance, run_config=QUIET, tags={MARK: mark})


def job_of(text: str) -> Any:
    """The job of a flow, for a process that does a task of it.

    Parameters
    ----------
    text : str
        As `_in_processes` packs it.

    Returns
    -------
    dagster.JobDefinition
    """
    given = json.loads(text)
    flow = unpacked(given["flow"])
    native = Native(environment=given["environment"], echo=given["echo"], executor=forking(given["jobs"]))
    return definitions_of(flow, native).resolve_job_def(word(flow.name))


@contextlib.contextmanager
def _told(flow: Compiled, instance: Any, mark: str, done: Done) -> Iterator[None]:
    """Tell of tasks that have ended while Dagster goes on; what was not told by the end its caller tells."""
    steps = {f"{word(flow.name)}__{task.id}": task.steps for task in flow.tasks}
    look, over = _looking(steps, instance, mark, done), threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_S):
            with contextlib.suppress(Exception):  # a database that is busy is asked again
                look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _looking(steps: dict[str, tuple[str, ...]], instance: Any, mark: str, done: Done) -> Callable[[], None]:
    import dagster as dg

    ends = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_SKIPPED}
    state: dict[str, Any] = {"run": "", "cursor": None}

    def look() -> None:
        if not state["run"]:
            runs = instance.get_runs(filters=dg.RunsFilter(tags={MARK: mark}), limit=1)
            state["run"] = runs[0].run_id if runs else ""
            return
        found = instance.get_records_for_run(state["run"], state["cursor"], ends, limit=100)
        for record in found.records:
            task = str(record.event_log_entry.step_key).partition(".")[0]
            if task in steps:  # of a part too: it is told how many there are
                done(state["run"], steps[task])
        state["cursor"] = found.cursor

    return look


def _is_interrupt(event: Any) -> bool:
    told = event.job_failure_data if event.is_failure and event.event_type_value == "PIPELINE_FAILURE" else None
    return told is not None and told.error is not None and told.error.cls_name in INTERRUPTS


def _why_failed(events: Sequence[Any]) -> str:
    """What Dagster says of the steps that failed, those of ours and others such as a hook or an input."""
    failed = [event for event in events if event.is_step_failure or event.is_failure]
    told = [f"{event.step_key or 'the run'}: {event.message}" for event in failed if event.message]
    return bounded("; ".join(told[:3]), 500)


def _raise_unrecorded(event: Any) -> None:
    """Raise what a step failed with, where the worker did not come as far as putting the run on record."""
    told = event.step_failure_data.user_failure_data
    run = told.metadata.get("penstock run") if told is not None else None
    if run is not None and not run.value:
        raise StepError(str(told.description), where=str(event.step_key), hint="the log of the step tells more")
