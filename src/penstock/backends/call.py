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
from penstock.errors import PenstockError, StepTimeoutError, UsageError

SKIPPED = 99
"""Exit code of a step that a refusal before it left out."""
FINAL = (2, 3, 6)
"""Exit codes after which no other try can end better, whether the worker came as far as an answer or not."""
CANCELLED = (130, 143)
"""Exit codes of a worker that was asked to end."""
MOST_ANSWER = 16 << 20
"""Bytes of an answer that are read; ids, digests and figures are far less."""
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
        said = str(self.answer.get("state", ""))
        if self.code == 0:
            return said if said in ("done", "reused") else "failed"
        if self.code == SKIPPED:
            return said if said == "skipped" else "failed"
        if said in ("failed", "cancelled"):
            return said
        return "cancelled" if self.code in CANCELLED else "failed"

    @property
    def retriable(self) -> bool:
        """Whether another try may end better; of a worker that was killed nothing speaks against it."""
        return self.state == "failed" and self.code not in FINAL and bool(self.answer.get("retriable", True))

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

    Returns
    -------
    Told
        A worker that was ended for its time has failed; one that nobody wanted any more was cancelled, unless it had
        answered by then. One that cannot be started has failed too.

    Raises
    ------
    BaseException
        Whatever interrupts this process meanwhile; the worker is ended first.
    """
    handle, path = tempfile.mkstemp(prefix="penstock-answer-", suffix=".json")
    os.close(handle)
    given = {**os.environ, **(environment or {}), "PENSTOCK_RESULT": path, "PENSTOCK_TIED": str(os.getpid())}
    try:
        try:
            process = _started(command, given)
        except OSError as error:
            return _not_started(command, error)
        reader = threading.Thread(target=_read, args=(process, echo), daemon=True)
        reader.start()
        try:
            code, ended = _wait(process, timeout_s, unwanted)
        except BaseException:
            end(process)
            raise
        reader.join(5.0)
        if ended == "limit":
            echo(f"penstock: ended after {timeout_s:g} s")
        return _told(code, _answer(path), ended, timeout_s)
    finally:
        for name in (path, f"{path}.part"):
            with contextlib.suppress(OSError):
                os.unlink(name)


def _started(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        list(command),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _not_started(command: Sequence[str], error: OSError) -> Told:
    """What is told of a program that is not there, or that the system could not start just now."""
    hint = "--python names the Python that runs the steps"
    fault = UsageError(f"{command[0]} does not start: {error.strerror or error}", hint=hint)
    final = isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError)
    return Told(fault.exit_code if final else 1, _of_ours(fault, {}, retriable=not final))


def _told(code: int, answer: dict[str, Any], ended: str, timeout_s: float | None) -> Told:
    """What a worker told, put right where we ended it: it cannot know why."""
    told = Told(code, answer)
    if not ended or told.state in ("done", "reused", "skipped"):
        return told
    if ended == "limit" and answer.get("state") == "failed":  # it had answered, and only its end took too long
        return told
    if ended == "limit":
        what = f"its worker had not ended after {timeout_s:g} s and was ended, with its children"
        late = StepTimeoutError(what, hint="a step holds its own limit (timeout_s); the worker itself hung")
        return Told(code, _of_ours(late, answer, retriable=True))
    return Told(code, answer | {"state": "cancelled", "retriable": False})


def _of_ours(error: PenstockError, answer: Mapping[str, Any], *, retriable: bool) -> dict[str, Any]:
    told = {"state": "failed", "exit": error.exit_code, "retriable": retriable, "reason": error.what}
    return {**answer, **told, "error": error.to_json()}


def _wait(
    process: subprocess.Popen[str], timeout_s: float | None, unwanted: Callable[[], bool] | None
) -> tuple[int, str]:
    """The exit code of a worker, and why it was ended: "limit", "unwanted", or "" where it ended by itself."""
    over = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = None if over is None else max(0.0, over - time.monotonic())
        pause = left if unwanted is None else ASK_S if left is None else min(ASK_S, left)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(pause), ""
        if over is not None and time.monotonic() >= over:
            return end(process), "limit"
        if unwanted is not None and unwanted():
            return end(process), "unwanted"


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
            with contextlib.suppress(Exception):  # a log that is not taken must not end who writes it
                echo(line.rstrip("\n"))


def _answer(path: str) -> dict[str, Any]:
    """The answer in a file; {} where there is none, or what stands there is none."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(MOST_ANSWER + 1)[:MOST_ANSWER])
    except (OSError, ValueError, RecursionError):
        return {}
    return found if _is_answer(found) else {}


def _is_answer(found: Any) -> bool:
    """Whether it has the form of `lifecycle.remote.Answer.to_json`, as far as backends read it."""
    if not isinstance(found, dict) or not isinstance(found.get("state"), str):
        return False
    if not all(isinstance(found.get(name), dict | None) for name in ("error", "verdict")):
        return False
    steps = found.get("steps", {})
    if not isinstance(steps, dict):
        return False
    return all(isinstance(one, dict) and _are_outputs(one.get("outputs", {})) for one in steps.values())


def _are_outputs(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(one, dict) and "digest" in one for one in found.values())
