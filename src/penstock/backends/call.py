"""Starting the worker for one step and reading what it answers; for backends whose tasks run where Penstock is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.core.processes import descendants, kill_tree

SKIPPED = 99
"""Exit code of a step that a refusal before it left out."""
GRACE_S = 10.0
"""Seconds that a worker has to end after it was asked to."""
ASK_S = 0.2
"""Seconds between two questions whether a worker is still wanted."""
MARGIN_S = 30.0
"""Seconds by which a backend's own time limit exceeds the step's, which the worker holds."""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one start of the worker.

    Attributes
    ----------
    code : int
        Exit code; negative for a signal.
    answer : dict
        As `lifecycle.remote.Answer.to_json` has it; {} where there is none.
    """

    code: int
    answer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """Either "done", "reused", "skipped", "failed" or "cancelled".

        A process that ends with 0 or 99 without having said so has failed: something else ended it.
        """
        state = str(self.answer.get("state", ""))
        if self.code == 0:
            return state if state in ("done", "reused") else "failed"
        if self.code == SKIPPED:
            return state if state == "skipped" else "failed"
        return "cancelled" if self.code in (130, 143) else "failed"

    @property
    def retriable(self) -> bool:
        """Whether another try may end better; of a worker that was killed nothing speaks against it."""
        return self.state == "failed" and bool(self.answer.get("retriable", True))

    @property
    def refused(self) -> bool:
        """Whether the gate, or the audit, refused: no failure, and nothing after it is to happen."""
        return self.state in ("done", "reused") and self.answer.get("passed") is False

    @property
    def reason(self) -> str:
        """In a sentence what came of it."""
        error: Mapping[str, Any] = self.answer.get("error") or {}
        if error:
            where = f"{error['where']}: " if error.get("where") else ""
            return f"{where}{error.get('what', '')}"
        if self.answer.get("reason"):
            return str(self.answer["reason"])
        return f"the worker ended with {self.code} and no answer"


def call(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    echo: Callable[[str], None] = lambda _: None,
    timeout_s: float | None = None,
    unwanted: Callable[[], bool] | None = None,
) -> Told:
    """Start the worker, wait for it, and read its answer.

    Parameters
    ----------
    command : sequence of str
        From `Compiled.command`; no shell sees it.
    environment : dict, optional
        Added to this process's.
    echo : callable
        Takes each line of the worker's log as it is written.
    timeout_s : float, optional
        Seconds after which the worker is ended, with all its children. It holds the steps' own limits itself.
    unwanted : callable, optional
        Asked a few times a second, by the thread that waits; as soon as it says so the worker is ended. For backends
        that cannot interrupt a task.

    Raises
    ------
    BaseException
        Whatever interrupts this process meanwhile; the worker is ended first.
    """
    handle, path = tempfile.mkstemp(prefix="penstock-answer-", suffix=".json")
    os.close(handle)
    given = {**os.environ, **(environment or {}), "PENSTOCK_RESULT": path, "PENSTOCK_TIED": "1"}
    try:
        process = subprocess.Popen(
            list(command),
            env=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        reader = threading.Thread(target=_read, args=(process, echo), daemon=True)
        reader.start()
        try:
            code = _wait(process, timeout_s, unwanted)
        except BaseException as stop:
            code = end(process)
            if not isinstance(stop, subprocess.TimeoutExpired):
                raise
            echo(f"penstock: ended after {timeout_s:g} s")
        reader.join(5.0)
        return Told(code, _answer(path))
    finally:
        for name in (path, f"{path}.part"):
            with contextlib.suppress(OSError):
                os.unlink(name)


def _wait(process: subprocess.Popen[str], timeout_s: float | None, unwanted: Callable[[], bool] | None) -> int:
    """The exit code of a worker that ends by itself, or is ended because nobody wants it any more."""
    if unwanted is None:
        return process.wait(timeout_s)
    over = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(ASK_S)
        if over is not None and time.monotonic() > over:
            raise subprocess.TimeoutExpired(process.args, timeout_s or 0.0)
        if unwanted():
            return end(process)


def end(process: subprocess.Popen[str]) -> int:
    """Ask a worker to end, then make it and all its children; its exit code."""
    below = descendants(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    if process.poll() is None:
        kill_tree(process.pid)
    for pid in below:  # a worker that ended by itself ended these; one that was killed could not
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) in (pid, process.pid):
                os.kill(pid, signal.SIGKILL)
    return process.wait()


def _read(process: subprocess.Popen[str], echo: Callable[[str], None]) -> None:
    assert process.stderr is not None
    with contextlib.suppress(ValueError, OSError), process.stderr:
        for line in process.stderr:
            echo(line.rstrip("\n"))


def _answer(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
