"""A run of what only this process holds: a fork of it takes the place of the process that imports a file.

A notebook's kernel has threads: its sockets, its history, its event loop. The fork has the calling thread alone, in a
session of its own, and native libraries are told to use one thread before a step runs, so that none waits for threads
that the fork does not have. What the kernel holds may differ from any file, so steps of the caller's own code are
never reused, nor is what they give remembered.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from penstock.core.ports import Home
from penstock.engine import processes
from penstock.engine.child import Runtime
from penstock.engine.describe import Live
from penstock.engine.handle import Server
from penstock.engine.server import serve
from penstock.engine.wire import Lines
from penstock.errors import UsageError
from penstock.lifecycle import found
from penstock.lifecycle.run import Opener, jobs_of

Load = Callable[[Mapping[str, Any]], tuple[Live, Runtime]]
IN_MEMORY = "its code is what this process holds, which may differ from any file"


def forked(declared: Any, types: tuple[str, ...]) -> Opener:
    """What opens a server for a declaration in hand.

    Parameters
    ----------
    declared : Workflow, Flow or Ref
    types : tuple of str
        Exact names of classes that artifacts of this run may hold.
    """

    def load(request: Mapping[str, Any]) -> tuple[Live, Runtime]:
        from penstock.worker import prepare

        live, runtime = prepare(declared, dict(request), found.without_acting)
        return distrust(live), replace(runtime, formats=_formats(request, types))

    def opener(home: Home) -> Server:
        return ForkedServer(load, processes.environment(jobs_of(home)))

    return opener


def _formats(request: Mapping[str, Any], types: tuple[str, ...]) -> Any:
    from penstock.project import configure, open_store

    return open_store(configure(request["root"], request.get("flags")), types)[1]


def distrust(live: Live) -> Live:
    """The same flow, in which no step that reaches the caller's own code is reused."""
    nodes = tuple(
        node
        if node.uncacheable or not _own(live.graph.codes.get(node.code, {}))
        else replace(node, uncacheable=IN_MEMORY)
        for node in live.graph.nodes
    )
    notes = [f"{node.id} runs each time: {IN_MEMORY}" for node in nodes if node.uncacheable == IN_MEMORY]
    return replace(live, graph=replace(live.graph, nodes=nodes, notes=(*live.graph.notes, *notes)))


def _own(parts: Mapping[str, str]) -> bool:
    """Whether a code part has definitions that are neither Penstock's nor a library's."""
    return any(
        name != "python" and not name.startswith("library:") and name.partition(":")[0].partition(".")[0] != "penstock"
        for name in parts
    )


class ForkedServer(Server):
    """A fork of this process, which serves a run as the process that imports a file does.

    Parameters
    ----------
    load : callable
        Gives the flow and what workers need, in the fork.
    environment : dict
    """

    def __init__(self, load: Load, environment: dict[str, str]) -> None:
        super().__init__((), environment)
        self._load = load

    def start(self) -> None:
        """Fork.

        Raises
        ------
        UsageError
            This system cannot fork.
        """
        if not hasattr(os, "fork"):
            raise UsageError(
                "what only this process holds needs a fork of it", hint="write it to a file and import that"
            )
        ours, theirs = socket.socketpair()
        for stream in (sys.stdout, sys.stderr):  # what waits to be written is written once
            with contextlib.suppress(Exception):
                stream.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is known: see above
            self.pid = os.fork()
        if not self.pid:
            _become_server(ours, theirs, self.environment, self._load)
        theirs.close()
        self._lines = Lines(ours)

    def _twin(self) -> Server:
        twin = ForkedServer(self._load, self.environment)
        twin.start()
        self._twins[twin.pid] = twin
        twin.send_open(self.request)
        twin.opened()
        return twin


def _become_server(ours: socket.socket, theirs: socket.socket, environment: Mapping[str, str], load: Load) -> NoReturn:
    """Serve until the parent hangs up, and end without what the parent's own end would do."""
    try:
        os.setsid()
        gc.freeze()  # what the parent holds is neither copied nor finalised here
        ours.close()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        found.inside = True
        _speak_to_files()
        os.environ.update(environment)
        _one_thread()
        sys.settrace(None)
        serve(theirs.detach(), load)
    finally:
        os._exit(0)


def _speak_to_files() -> None:
    """A notebook's output goes over its sockets; a fork writes to descriptors, which a worker points at its log."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  they live as long as the process
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _one_thread() -> None:
    """Native libraries that the parent has loaded keep to one thread, as in any worker."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
