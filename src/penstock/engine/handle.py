"""The fork server's handle: starting it, asking it for the flow and for workers, and how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.core.flow import Graph
from penstock.engine import processes
from penstock.engine.wire import Lines, rebuilt
from penstock.errors import DeclarationError, InternalError, StepKilledError


@dataclass
class Server:
    """A process that has imported the user's file.

    Parameters
    ----------
    command : sequence of str
        The worker's entry, to which the number of a socket's file descriptor is appended.
    environment : dict
    """

    command: Sequence[str]
    environment: dict[str, str]
    request: dict[str, Any] = field(default_factory=dict)
    pid: int = 0
    threads: list[str] = field(default_factory=list)
    _lines: Lines | None = None
    _opened: bool = False
    _twins: dict[int, Server] = field(default_factory=dict)

    def start(self) -> None:
        """Start the process; it begins to import at once, and `open` waits for its answer. One that runs goes on."""
        if self._lines is not None:
            return
        ours, theirs = socket.socketpair()
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            try:
                self.pid = processes.spawn([*self.command, str(theirs.fileno())], environment=self.environment)
            except BaseException:
                ours.close()
                raise
        self._lines = Lines(ours)

    def send_open(self, request: Mapping[str, Any]) -> None:
        """Tell it which file to import."""
        self.request = dict(request)
        self.lines.send({"open": self.request})

    def opened(self) -> Graph:
        """The flow that the file declares.

        Raises
        ------
        PenstockError
            What the file's import or its declaration raised.
        """
        answer = self.lines.next()
        if answer is None:
            status = self.wait() if self.pid else None  # 0 would be this process's own group
            raise DeclarationError(
                f"the process that imports the file ended with {describe_exit(status)}",
                where=os.path.basename(self.request.get("file", "")),
                hint="does the file end the process (os._exit) or crash a library when it is imported?",
            )
        if "error" in answer:
            raise rebuilt(answer["error"])
        self.threads, self.pid = answer["threads"], answer["pid"]
        self._opened = True
        return Graph.from_json(answer["flow"])

    @property
    def lines(self) -> Lines:
        """The conversation with it."""
        if self._lines is None:
            raise InternalError("the server was not started")
        return self._lines

    def worker(self, log: int) -> Lines:
        """A new worker, forked where that is safe, else spawned.

        Raises
        ------
        StepKilledError
            The server is gone.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                if not self.threads:
                    socket.send_fds(self.lines.sock, [b"fork\n"], [theirs.fileno(), log])
                else:
                    twin = self._twin()
                    socket.send_fds(twin.lines.sock, [b"become\n"], [theirs.fileno(), log])
            except OSError as error:
                ours.close()
                what = "the process that starts workers has ended"
                raise StepKilledError(
                    what, hint="did something kill it? run again: what had finished is kept"
                ) from error
        return Lines(ours)

    def split(self) -> Server:
        """Another server that has imported the same files, forked from this one where that is safe.

        Raises
        ------
        StepKilledError
            This one is gone.
        """
        twin = Server(self.command, self.environment)
        if self.threads:
            twin.start()
            return twin
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self.lines.sock, [b"split\n"], [theirs.fileno()])
            except OSError as error:
                ours.close()
                what = "the process that has imported the file has ended"
                raise StepKilledError(what, hint="run again: what had finished is kept") from error
        twin._lines = Lines(ours)
        return twin

    def _twin(self) -> Server:
        """Another process that has imported the file, to become one worker."""
        twin = Server(self.command, self.environment)
        twin.start()
        self._twins[twin.pid] = twin
        twin.send_open(self.request)
        twin.opened()
        return twin

    def end_of_twin(self, pid: int) -> int | None:
        """Exit code of a spawned worker that has ended."""
        twin = self._twins.pop(pid, None)
        if twin is None:
            return None
        status = twin.wait(1.0)
        twin.lines.close()
        return status

    def close(self) -> None:
        """Hang up; the server kills its workers and ends. One that still imports is ended at once."""
        for twin in self._twins.values():
            twin.close()
        self._twins.clear()
        if self._lines is not None:
            self._lines.close()
            if self.pid:  # one that was forked from another tells its id when it has opened, and ends by its socket
                self.wait(5.0 if self._opened else 0.0)

    def wait(self, seconds: float = 5.0) -> int:
        """Exit code of the process; it is killed when it does not end by itself in time."""
        end = time.monotonic() + seconds
        pause = 0.001
        while time.monotonic() < end:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    return os.waitstatus_to_exitcode(status)
                time.sleep(pause)
                pause = min(pause * 2, 0.05)
                continue
            return 0
        processes.kill_tree(self.pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        return -signal.SIGKILL


def describe_exit(status: int | None) -> str:
    """An exit code in words.

    Examples
    --------
    >>> describe_exit(-9)
    'signal SIGKILL'
    >>> describe_exit(3)
    'exit code 3'
    """
    if status is None:
        return "no exit code that could be learnt"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-status).name}"
    return f"exit code {status}"
