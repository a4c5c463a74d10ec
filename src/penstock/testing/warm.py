"""Workers' servers and scratch servers that are forked from a process that has their libraries already.

Most of what a small run costs is that fresh processes import pandas and scikit-learn. A test that is not about how
processes start can run them from here: each is a process of its own with the arguments, environment, working directory
and open files that it was meant to get, and a child of whoever asked. All that it has over a fresh one are modules of
libraries that are loaded.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn
from unittest import mock

from penstock.core.processes import adopt_orphans
from penstock.engine import processes
from penstock.engine.server import busy_threads

ENTRIES = ("penstock.worker", "penstock.serve")
"""Modules that are run in a fork."""

LOADED = ("penstock.serve.main", "penstock.serve.app", "uvicorn", "uvloop", "httptools")
"""What is imported once for servers, beside what a worker's server imports before it forks."""

_HIGH = 500
_LONGEST = 1 << 20
_MOST_FILES = 64


class Warm:
    """A process that has imported much and does nothing but fork; it is started when the first process is asked for.

    Parameters
    ----------
    entries : sequence of str
        Modules that are run in a fork.
    loaded : sequence of str
        What is imported once; by default all that the workers and servers of a workflow import.
    """

    def __init__(self, entries: Sequence[str] = ENTRIES, loaded: Sequence[str] = ()) -> None:
        self._entries, self._loaded = entries, loaded
        self._sock: socket.socket | None = None
        self._spawn = processes.spawn
        self._fixed = _fixed(processes.environment(1))

    def spawn(self, arguments: Sequence[str], *, environment: dict[str, str], session: bool = True) -> int:
        """Start a program as `engine.processes.spawn` does: forked where it is one of the entries, else anew.

        Also anew where a variable that Python or a library reads as it starts is another than it was at first.

        Raises
        ------
        RuntimeError
            The process that forks has ended.
        """
        known = tuple(arguments[1:3]) == ("-P", "-m") and arguments[3] in self._entries
        if not known or _fixed(environment) != self._fixed:
            return self._spawn(arguments, environment=environment, session=session)
        if self._sock is None:
            self._start()
        assert self._sock is not None
        files = _open_files(inheritable=True)
        request = {
            "arguments": list(arguments[3:]),
            "environment": environment,
            "session": session,
            "folder": os.getcwd(),
            "files": files,
        }
        with _adopting():
            socket.send_fds(self._sock, [json.dumps(request).encode()], files)
            answer = self._sock.recv(_LONGEST)
        if not answer:
            raise RuntimeError("the process that has the libraries has ended; what it said is on standard error")
        return int(answer)

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.set_inheritable(theirs.fileno(), True)
        command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), *self._loaded]
        self._pid = self._spawn(command, environment=processes.environment(1))
        theirs.close()
        self._sock = ours

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """What this process starts inside is forked."""
        with mock.patch.object(processes, "spawn", self.spawn):
            yield

    def close(self) -> None:
        """End the process. What was forked from it goes on."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
            os.waitpid(self._pid, 0)


def _fixed(environment: dict[str, str]) -> dict[str, str]:
    """Variables that take effect as Python or a library starts, and never after."""
    names = (name for name in environment if name.startswith("PYTHON") or name in processes.THREAD_VARIABLES)
    return {name: environment[name] for name in names}


def _open_files(*, inheritable: bool = False) -> list[int]:
    """Standard error, and what was opened since: all of it, or what a program that is started gets."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        # The folder itself was open while it was listed, and another thread may close what it had open.
        with contextlib.suppress(OSError):
            if os.get_inheritable(int(name)) or not inheritable:
                found.append(int(name))
    return sorted(fd for fd in found if fd > 1)


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """A process whose parent ends inside becomes a child of this one."""
    adopt_orphans()
    try:
        yield
    finally:
        adopt_orphans(really=False)


def main(fd: int, names: Sequence[str] = ()) -> None:
    """Fork when asked, until the socket is closed.

    Parameters
    ----------
    fd : int
        Of a socket that keeps messages apart.
    names : sequence of str
        What is imported first, each as "module" or "module:function", which is called.
    """
    for each in _open_files():
        if each not in (2, fd):  # what was meant for the first process that was asked for
            os.close(each)
    _load(names or _all())
    sock = socket.socket(fileno=fd)
    while True:
        data, files, _, _ = socket.recv_fds(sock, _LONGEST, _MOST_FILES)
        if not data:
            return
        go, begin = os.pipe()
        told, tell = os.pipe()
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid:  # the child is an orphan now, whom the process that asked adopts
                os.write(tell, str(pid).encode())
                os._exit(0)
            os.close(begin)
            os.read(go, 1)  # until it is adopted
            for each in (go, told, tell):
                os.close(each)
            sock.close()
            _become(json.loads(data), files)
        for each in (go, tell, *files):
            os.close(each)
        os.waitpid(between, 0)
        os.close(begin)
        sock.send(os.read(told, 32))
        os.close(told)


def _all() -> list[str]:
    """What workers and servers import: libraries, and the modules of all stages."""
    from penstock.worker import FRAMES, LIBRARIES

    folder = importlib.import_module("penstock.stages").__path__[0]
    files = (name.partition(".") for name in sorted(os.listdir(folder)))
    own = [f"penstock.stages.{stem}" for stem, _, suffix in files if suffix == "py" and stem != "__init__"]
    return [*LIBRARIES, *FRAMES, *LOADED, *own]


def _load(names: Sequence[str]) -> None:
    """Import what all have in common. None of it may leave a thread behind: forks would lose it."""
    for entry in names:
        name, _, function = entry.partition(":")
        module = importlib.import_module(name)
        if function:
            getattr(module, function)()
    sys.modules.pop("penstock.worker", None)  # it is to run as the main module, as if it were new
    if busy_threads():
        raise RuntimeError(f"an import left threads behind: {busy_threads()}")
    gc.freeze()


def _become(request: dict[str, Any], files: list[int]) -> NoReturn:
    """Turn this process into the program that was asked for."""
    if request["session"]:
        os.setsid()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH) for fd in files]
    for fd in files:
        os.close(fd)
    for fd, meant in zip(high, request["files"], strict=True):
        os.dup2(fd, meant)
        os.close(fd)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"][1:]
    runpy.run_module(request["arguments"][0], run_name="__main__", alter_sys=True)
    raise SystemExit


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
