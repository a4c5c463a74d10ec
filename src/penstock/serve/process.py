"""A model that runs in a process of its own: started, asked, watched, ended and started again.

Whatever the project's classes do there, the server goes on: whoever waits for an answer that cannot come is told so at
once, and the process is started again, later each time. Before each start the types are held against the host anew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.core.processes import kill_tree, resident_bytes
from penstock.errors import DataError, ModelAwayError, ModelError, PenstockError, UntrustedTypeError, bounded
from penstock.serve.own import Host
from penstock.serve.pipe import receive, send

ENTRY = "penstock.serve.answering"
LOAD_S = 120.0
"""Seconds in which libraries must have been imported and the estimator loaded."""

BACKOFF_S = (0.5, 30.0)
"""Seconds until a model process that ended is started again: at first, and at most."""

STEADY_S = 60.0
"""After so many seconds without an end the next one counts as the first."""

LOOK_S = 0.05
"""Seconds between two looks at the memory of the process itself; at that of its children every twentieth time."""

SAID = 2_000
"""Characters kept of what the process printed last."""

Begin = Callable[[], tuple[Mapping[str, Any], bytes]]
"""Gives the first message: what is allowed, and the estimator's bytes. Raises where the host does not allow it."""


class ModelProcess:
    """One estimator behind a socket.

    Parameters
    ----------
    name : str
        The version's.
    begin : callable
        Asked before each start.
    host : Host
        Its limits.
    """

    def __init__(self, name: str, begin: Begin, host: Host) -> None:
        self.name = name
        self._begin = begin
        self._host = host
        self._asking = threading.Lock()  # one question at a time: the process answers them in turn
        self._changing = threading.Lock()
        self._closed = threading.Event()
        self._running: _Running | None = None
        self._why = ""
        self._restarts = 0
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        """Start it for the first time.

        Raises
        ------
        UntrustedTypeError, FormatError
            The host does not allow its types, or the estimator cannot be read.
        ModelError
            It did not start.
        """
        self._running = self._start()
        self._watcher = threading.Thread(target=self._watch, name=f"watch {self.name}", daemon=True)
        self._watcher.start()

    def records(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answers for checked records.

        Raises
        ------
        ValueError
            The model refuses these values, or raised an error of values.
        ModelError
            It raised something else.
        ModelAwayError
            The process is not there, ended, took too long or used too much memory.
        """
        return self._ask({"records": list(records)}, b"", self._host.timeout_s)

    def frame(self, frame: Any, timeout_s: float) -> list[dict[str, Any]]:
        """Answers for the rows of a frame that has the contract's columns and dtypes; raises as `records`."""
        from penstock.formats import parquet

        return self._ask({"frame": True}, parquet.dumps(frame, "pandas"), timeout_s)

    def state(self) -> dict[str, Any]:
        """For `/model`: whether it answers, how often it was started again and why."""
        running = self._running
        return {
            "pid": running.pid if running else None,
            "ready": running is not None,
            "restarts": self._restarts,
            "last_end": self._why or None,
            "memory": resident_bytes(running.keeper.pid) if running else 0,
            "memory_limit": self._host.memory,
        }

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked."""
        return self._running is not None

    def close(self) -> None:
        """End it for good. Does not wait: whoever waits for an answer is told at once."""
        self._closed.set()
        running, self._running = self._running, None
        if running is not None:
            running.end()

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, question: Mapping[str, Any], blob: bytes, timeout_s: float) -> list[dict[str, Any]]:
        running, until = self._running, time.monotonic() + timeout_s
        if running is None or not self._asking.acquire(timeout=timeout_s):
            raise self._away()
        try:
            if running is not self._running:
                raise self._away()
            until = time.monotonic() + timeout_s
            send(running.connection, question, blob, until)
            answer, _ = receive(running.connection, until)
        except TimeoutError:
            self._fail(running, f"it took longer than {timeout_s:g} s for one answer")
            raise self._away() from None
        except (OSError, EOFError, ValueError):
            self._fail(running, "")
            raise self._away() from None
        finally:
            self._asking.release()
        if "answers" in answer:
            return list(answer["answers"])
        raise _raised(answer, self.name)

    def _away(self) -> ModelAwayError:
        why = f": {self._why}" if self._why else ""
        return ModelAwayError(f"the model process of {self.name} is being started again{why}", where=self.name)

    # ── starting, watching, ending ───────────────────────────────────────────────────────────────────────────

    def _start(self) -> _Running:
        about, data = self._begin()
        running = _Running(self._host)
        until = time.monotonic() + LOAD_S
        try:
            send(running.connection, about, data, until)
            answer, _ = receive(running.connection, until)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            why = running.end_and_tell() or f"it did not answer: {type(error).__name__}"
            raise ModelError(f"the model process of {self.name} did not start: {why}", where=self.name) from error
        if "ready" not in answer:
            running.end()
            raise _raised(answer, self.name)
        running.pid = int(answer["ready"])
        return running

    def _fail(self, running: _Running, why: str) -> None:
        """End a process that can no longer be asked; the first to say why is believed."""
        with self._changing:
            if self._running is not running:
                return
            self._running = None
            self._restarts += 1
            self._why = why or "it ended"
        said = running.end_and_tell()
        self._why = why or said or self._why
        print(f"penstock serve: the model process of {self.name} was ended: {self._why}", file=sys.stderr)

    def _watch(self) -> None:
        """Look after the process until it is closed: memory, its end, another start."""
        wait, looks = BACKOFF_S[0], 0
        while not self._closed.is_set():
            running = self._running
            if running is not None:
                looks += 1
                self._look(running, whole=looks % 20 == 0)
                self._closed.wait(LOOK_S)
                continue
            if self._closed.wait(wait):
                return
            began = time.monotonic()
            if self._again():
                lived = self._lives_since(began)
                wait = BACKOFF_S[0] if lived >= STEADY_S else min(wait * 2, BACKOFF_S[1])
            else:
                wait = min(wait * 2, BACKOFF_S[1])

    def _lives_since(self, began: float) -> float:
        """Watch a process that was started again until it ends or has proved steady; seconds that it lived."""
        looks = 0
        while (running := self._running) is not None and time.monotonic() - began < STEADY_S:
            looks += 1
            self._look(running, whole=looks % 20 == 0)
            if self._closed.wait(LOOK_S):
                break
        return time.monotonic() - began

    def _look(self, running: _Running, *, whole: bool) -> None:
        used = resident_bytes(running.keeper.pid) if whole else _own_memory(running.pid)
        if used > self._host.memory:
            self._fail(running, f"it used {used >> 20:,} MiB of memory, and {self._host.memory >> 20:,} are allowed")
        elif running.keeper.poll() is not None:
            self._fail(running, "")

    def _again(self) -> bool:
        try:
            running = self._start()
        except PenstockError as error:
            self._why = bounded(error.what, 500)
            print(f"penstock serve: {error}", file=sys.stderr)
            return False
        with self._changing:
            self._running = running
        if self._closed.is_set():
            self.close()
        print(f"penstock serve: the model process of {self.name} answers again", file=sys.stderr)
        return True


class _Running:
    """One start of the process: keeper, socket, lifeline, and the end of what it prints."""

    def __init__(self, host: Host) -> None:
        ours, theirs = socket.socketpair()
        self.connection = ours
        life, self._lifeline = os.pipe()
        self.pid = 0
        self._said = b""
        command = [sys.executable, "-P", "-m", ENTRY, str(theirs.fileno()), str(life)]
        try:
            self.keeper = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment(host.secret),
                pass_fds=(theirs.fileno(), life),
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(life)
        self._reader = threading.Thread(target=self._drain, name="model process says", daemon=True)
        self._reader.start()
        self._ended = threading.Lock()

    def _drain(self) -> None:
        """Read what it prints, so that it never waits for us; only the end is kept."""
        pipe = self.keeper.stdout
        assert pipe is not None
        with contextlib.suppress(OSError, ValueError):
            while part := os.read(pipe.fileno(), 65_536):
                self._said = (self._said + part)[-SAID:]
        pipe.close()

    def end(self) -> None:
        """Cut its lifeline and kill it with all that it started."""
        with self._ended:
            if self._lifeline < 0:
                return
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)  # whoever waits for an answer wakes up
            self.connection.close()
            os.close(self._lifeline)
            self._lifeline = -1
        try:
            self.keeper.wait(2.0)  # the keeper ends all that is below it
        except subprocess.TimeoutExpired:
            kill_tree(self.keeper.pid)
            self.keeper.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.keeper.pid, signal.SIGKILL)  # where somebody below had killed the keeper

    def end_and_tell(self) -> str:
        """End it; how it ended by itself, and its last words, or "" where it had to be ended."""
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.keeper.wait(0.2)
        self.end()
        if not code:
            return "it ended" if code == 0 else ""
        self._reader.join(0.5)
        how = f"it was killed by signal {code - 128}" if code > 128 else f"it ended with code {code}"
        last = self._said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return f"{how} ({bounded(last, 200)})" if last else how


def environment(secret: str = "") -> dict[str, str]:
    """Environment of a model process: the server's, without its settings and its secret."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PENSTOCK_") and (not secret or value != secret)
    }


def _own_memory(pid: int) -> int:
    """Resident bytes of one process; 0 where /proc does not tell."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def _raised(answer: Mapping[str, Any], name: str) -> Exception:
    """What the model process says was raised there, as an error here."""
    kind, what = str(answer.get("kind")), str(answer.get("what"))
    if answer.get("fault") == "value":
        return ValueError(what)
    if answer.get("fault") == "ours":
        known = {"UntrustedTypeError": UntrustedTypeError, "DataError": DataError}
        return known.get(kind, ModelError)(what, where=name, hint=str(answer.get("hint", "")))
    return ModelError(f"the model raised {bounded(kind, 100)}: {bounded(what, 500)}", where=name)
