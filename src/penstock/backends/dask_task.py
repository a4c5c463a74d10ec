"""What happens on a Dask worker: it starts our worker for one task, and ends it when nobody wants the task any more.

A Dask worker imports this module by its name; what comes to it and what it gives is text and numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from penstock.backends.call import MARGIN_S, Told, call
from penstock.errors import PenstockError, bounded

LOGGER = "distributed.worker.penstock"
"""Below the logger that a Dask client reads with `get_worker_logs`."""
TOPIC = "penstock"
"""Of Dask's events (`client.get_events`): how each task ended, skipped ones too, for which Dask has no word."""
MOST_LINE = 2_000
"""Characters of a printed line that stand in Dask's log, which is kept in memory."""
MOST_REASON = 1_000
"""Characters of a failure's reason; of an error that is longer than it likes Dask makes another one."""
MOST_KEPT = 100
"""Final failures that a Dask worker remembers."""
TICK_S = 0.2
"""Seconds between two looks whether a task that waits for its next try is still wanted."""
GONE = ("closing", "closed", "failed")
"""States of a Dask worker that ends."""

_running: set[str] = set()
_final: dict[str, dict[str, Any]] = {}


class TaskFailedError(Exception):
    """A task failed; Dask marks it as erred with this, and tries again where the task has tries left.

    Parameters
    ----------
    told : dict
        "task", "run" (our id; "" where none came to be), "code", "reason" and "error", as JSON has them.
    """

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(told)
        self.told = told

    def __str__(self) -> str:
        return f"{self.told['task']}: {self.told['reason']}"


def carry_out(job: Mapping[str, Any], *before: Mapping[str, Any]) -> dict[str, Any]:
    """Start the worker once for each call of a task, in order, as long as each ends well.

    Parameters
    ----------
    job : dict
        As `dask.job_of` makes it: ids, command lines and limits.
    *before : dict
        What the tasks gave that it needs: that they are there is what counts.

    Returns
    -------
    dict
        "task", "state", "run", "passed" and "outputs", step → name → digest.

    Raises
    ------
    TaskFailedError
    """
    from distributed import get_worker

    del before
    worker = get_worker()
    key = str(worker.get_current_task())
    if key in _final:  # Dask tries again whatever failed
        raise TaskFailedError(_final[key])

    def unwanted() -> bool:
        return is_unwanted(worker, key)

    _running.add(key)
    try:
        told = _calls(job, key, unwanted)
        steps = [step for one in job["calls"] for step in one["steps"]]
        short = {name: told[name] for name in ("task", "state", "run", "code")}
        worker.log_event(TOPIC, {"key": key, "steps": steps, **short})
        if told["state"] in ("done", "reused", "skipped"):
            return told
        if not told["retriable"] and job["retries"]:
            _remember(key, told)
        elif job["retries"] and not unwanted():
            _wait(float(job["backoff_s"]), unwanted)
        raise TaskFailedError(told)
    finally:
        _running.discard(key)


def answer_slice(job: Mapping[str, Any]) -> dict[str, Any]:
    """Start the process that answers a slice of a table.

    Parameters
    ----------
    job : dict
        As `dask_predict.job_of` makes it: ids, digests and a command line.

    Returns
    -------
    dict
        "digest" of the answers, "rows" and "unseen".

    Raises
    ------
    TaskFailedError
    """
    from distributed import get_worker

    worker = get_worker()
    key = str(worker.get_current_task())
    if key in _final:
        raise TaskFailedError(_final[key])
    log = logging.getLogger(LOGGER)
    _running.add(key)
    try:
        told = call(
            [job["python"] or sys.executable, *job["arguments"]],
            echo=lambda line: log.info("%s %s", key, bounded(line, MOST_LINE)),
            unwanted=lambda: is_unwanted(worker, key),
        )
        if told.state == "done":
            return {name: told.answer[name] for name in ("digest", "rows", "unseen")}
        failed = {"task": key, "run": "", "code": told.code, "reason": bounded(told.reason, MOST_REASON)}
        failed |= {"error": told.answer.get("error")}
        if not told.retriable:
            _remember(key, failed)
        raise TaskFailedError(failed)
    finally:
        _running.discard(key)


def is_unwanted(worker: Any, key: str) -> bool:
    """Whether a task that runs here was cancelled, or its client is gone, or the Dask worker ends."""
    task = worker.state.tasks.get(key)
    return task is None or task.state == "cancelled" or worker.status.name in GONE


def running(run: str) -> list[str]:
    """Keys of a run's tasks that this process has not ended yet."""
    return sorted(key for key in tuple(_running) if run in key)  # other threads add and remove meanwhile


def dask_setup(worker: Any) -> None:  # noqa: ARG001  Dask's
    """Leave Ctrl-C to the client, whose terminal sends it to the workers of a cluster of its own too.

    Dask calls this by its name in each process of a cluster that was told to load this module first.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def look(file: str, environment: str = "dev") -> dict[str, str]:
    """What this machine sees of a project.

    Parameters
    ----------
    file : str
        Declares the flow; or a folder of the project.
    environment : str
        The run's; one that is not "dev" is what a task is told, whatever this machine's own is.

    Returns
    -------
    dict
        "version" of Penstock, "file": SHA-256 of the declaring file, "" where there is none, "store" and "ledger":
        SHA-256 of where they are (a place may hold a password), and "error": why they are not known.
    """
    from penstock import __version__
    from penstock.project import configure, find_root

    seen = {"version": __version__, "file": "", "store": "", "ledger": "", "error": ""}
    if os.path.isdir(file):
        seen["file"] = "a folder"
    with contextlib.suppress(OSError), open(file, "rb") as text:
        seen["file"] = hashlib.sha256(text.read()).hexdigest()
    try:
        config = configure(find_root(file), environment=environment if environment != "dev" else None)
    except PenstockError as error:
        return seen | {"error": bounded(str(error), 500)}
    return seen | {name: place_of(getattr(config, name)) for name in ("store", "ledger")}


def place_of(text: str) -> str:
    """A place by which two can be compared without being told."""
    return hashlib.sha256(text.encode()).hexdigest()


def _calls(job: Mapping[str, Any], key: str, unwanted: Callable[[], bool]) -> dict[str, Any]:
    """What came of all calls together: one that failed ends them, as does one that was skipped."""
    log = logging.getLogger(LOGGER)
    states: list[str] = []
    outputs: dict[str, dict[str, str]] = {}
    last = Told(0)
    for one in job["calls"]:
        limit = one["limit_s"]
        last = call(
            [job["python"] or sys.executable, *one["arguments"]],
            environment=job["environment"],
            echo=lambda line: log.info("%s %s", key, bounded(line, MOST_LINE)),
            timeout_s=None if limit is None else limit + MARGIN_S,
            unwanted=unwanted,
        )
        states.append(last.state)
        for step, told in last.answer.get("steps", {}).items():
            outputs[step] = {name: str(output["digest"]) for name, output in told["outputs"].items()}
        if last.state not in ("done", "reused"):
            break
    told = {"task": job["task"], "run": str(last.answer.get("run", "")), "code": last.code, "outputs": outputs}
    if states[-1] in ("failed", "cancelled"):
        error = last.answer.get("error")
        return told | {
            "state": states[-1],
            "retriable": last.retriable,
            "reason": bounded(last.reason, MOST_REASON),
            "error": error,
        }
    state = next((word for word in ("done", "reused") if word in states), "skipped")
    return told | {"state": state, "passed": last.answer.get("passed")}


def _remember(key: str, told: dict[str, Any]) -> None:
    while len(_final) >= MOST_KEPT:
        _final.pop(next(iter(_final)), None)
    _final[key] = told


def _wait(seconds: float, unwanted: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not unwanted():
        time.sleep(min(TICK_S, left))
