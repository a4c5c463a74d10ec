"""The fork server: imports the user's file once, describes the flow, and forks a worker when asked.

It does nothing else, so that forking is safe: where the import itself ran a native thread pool, the coordinator
spawns workers instead. It ends with its coordinator's socket, killing each worker's process group first.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from penstock.engine.child import Runtime, framed, work
from penstock.engine.describe import Live
from penstock.engine.garbage import few_collections
from penstock.engine.processes import adopt_orphans, descendants, die_with_parent, kill_tree
from penstock.engine.wire import Lines
from penstock.errors import PenstockError

Loaded = tuple[Live, Runtime]
QUIET_THREADS = ("jemalloc_bg_thd", "python", "python3")
"""Threads that importing a library leaves behind and that hold no lock over a fork."""


def serve(fd: int, load: Callable[[Mapping[str, Any]], Loaded]) -> None:
    """Answer one coordinator until it hangs up.

    Parameters
    ----------
    fd : int
        Our end of its socket.
    load : callable
        Imports the file that a request names, and gives the flow and what workers need.
    """
    sock = socket.socket(fileno=fd)
    lines = Lines(sock)
    request = lines.next()
    if request is None:
        return
    die_with_parent()  # an import may take long and does not look at the socket
    try:
        live, runtime = load(request["open"])
    except PenstockError as error:
        lines.send({"error": error.to_json() | {"exit": error.exit_code}})
        return
    except BaseException as error:  # the user's file may raise anything
        lines.send({"error": _import_error(error, request["open"].get("file", ""))})
        return
    die_with_parent(really=False)  # from here on the socket tells, and workers are ended first
    lines.send({"flow": live.graph.to_json(), "threads": busy_threads(), "pid": os.getpid()})
    _Server(lines, live, runtime, load).run()


def _import_error(error: BaseException, file: str) -> dict[str, Any]:
    from penstock.core.flow import Node

    data = framed(error, Node(os.path.basename(file), "", None, ""))
    if isinstance(error, SystemExit):
        data["what"] = f"called sys.exit({error.code!r}) while it was imported"
        data["hint"] = "what declares is imported: put what only scripts do under `if __name__ == '__main__':`"
    return data | {"error": "DeclarationError", "where": os.path.basename(file), "exit": 2}


def busy_threads() -> list[str]:
    """Names of this process's threads that the import started and that make a fork unsafe."""
    if not sys.platform.startswith("linux"):
        return ["unknown"]
    names = []
    for thread in os.listdir("/proc/self/task"):
        if int(thread) == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/comm") as file:
            names.append(file.read().strip())
    return [name for name in names if not name.startswith((*QUIET_THREADS, "polars"))]


class _Server:
    def __init__(self, lines: Lines, live: Live, runtime: Runtime, load: Callable[[Mapping[str, Any]], Loaded]) -> None:
        self.load = load
        self.lines = lines
        self.live = live
        self.runtime = runtime
        self.children: set[int] = set()
        self.warmed = False

    def run(self) -> None:
        """Fork on request, report children that ended, end with the socket."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            while not self.lines.closed:
                both: list[Any] = [self.lines.sock, reader]
                ready, _, _ = select.select(both, [], [])
                if reader in ready:
                    os.read(reader, 4096)
                    self.reap()
                if self.lines.sock in ready and not self.take(reader, writer):
                    break
        finally:
            self.end()

    def end(self) -> None:
        """Kill every worker with its children, and what steps left behind."""
        for pid in self.children:
            kill_tree(pid)
        for pid in descendants(os.getpid()) if self.warmed else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while self.children:
            pid, _ = os.waitpid(-1, 0)
            self.children.discard(pid)

    def take(self, reader: int, writer: int) -> bool:
        """Read one request; False when the coordinator is gone."""
        try:
            data, fds, _, _ = socket.recv_fds(self.lines.sock, 4096, 2)
        except ConnectionResetError:
            return False
        if not data:
            return False
        for fd in fds:
            os.set_inheritable(fd, False)  # a step's children must not hold its worker's socket open
        if data.startswith(b"fork"):
            self.fork(fds, reader, writer, lambda: become(None, self.live, self.runtime, fds))
        elif data.startswith(b"split"):
            self.fork(fds, reader, writer, lambda: serve(fds[0], self.load))
        elif data.startswith(b"become"):
            become(self.lines, self.live, self.runtime, fds)
            return False
        return True

    def fork(self, fds: list[int], reader: int, writer: int, live: Callable[[], None]) -> None:
        """One more worker, or server like this one, that talks over the socket that came with the request."""
        self.warm_up()
        pid = os.fork()
        if pid:
            for fd in fds:
                os.close(fd)
            self.children.add(pid)
            return
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(reader)
            os.close(writer)
            self.lines.sock.close()
            os.setpgid(0, 0)
            die_with_parent()
            live()
            code = 0
        finally:
            os._exit(code)

    def warm_up(self) -> None:
        """Import once what every worker would import, before the first fork and only if there is one."""
        if self.warmed:
            return
        self.warmed = True
        adopt_orphans()
        with few_collections():
            for entry in self.runtime.warm:
                name, _, function = entry.partition(":")
                with contextlib.suppress(ImportError):
                    module = importlib.import_module(name)
                    if function:
                        getattr(module, function)()
        gc.freeze()  # workers need not go through it when they look for garbage, and so copy less of it

    def reap(self) -> None:
        """Tell the coordinator how each ended child ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid not in self.children:  # what a step left behind
                continue
            self.children.discard(pid)
            with contextlib.suppress(OSError):
                self.lines.send({"exit": pid, "status": os.waitstatus_to_exitcode(status)})


def become(lines: Lines | None, live: Live, runtime: Runtime, fds: list[int]) -> None:
    """Turn this process into a worker: `fds` are its socket and its log."""
    log = fds[1] if len(fds) > 1 else None
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if log is not None:
        os.dup2(log, 1)
        os.dup2(log, 2)
    if lines is not None:
        threading.Thread(target=_end_with, args=(lines.sock,), daemon=True).start()
    own = Lines(socket.socket(fileno=fds[0])) if fds else lines
    if own is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            work(own, live, runtime, log)


def _end_with(sock: socket.socket) -> None:
    """End this spawned worker and its children when the coordinator is gone, whatever its step is doing."""
    with contextlib.suppress(OSError):
        while sock.recv(4096):
            pass
    for pid in descendants(os.getpid()):  # first: ending the group ends this process
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    kill_tree(os.getpid())
