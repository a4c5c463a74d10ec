"""The pool of workers of one run: feeding, limiting and ending processes."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.core.flow import Node
from penstock.engine import processes
from penstock.engine.handle import Server, describe_exit
from penstock.engine.wire import Lines
from penstock.errors import StoreError

QUICK_S = 0.005
"""Steps that take less than this are queued at a worker several at a time, which saves a wake-up a step."""
DEPTH = 8
"""At most this many of them."""
MOST_SWEPT = 100
"""How often a log's folder is made again."""
WATCH_S = 0.2
"""How often the memory of a running step is looked at."""


@dataclass(eq=False)
class Worker:
    """One worker process and what it has been given."""

    lines: Lines
    log: int
    log_path: str
    pid: int = 0
    tasks: deque[Node] = field(default_factory=deque)
    since: float | None = None
    status: int | None = None
    killed: str = ""
    log_seen: int = 0
    spent: bool = False


@dataclass(frozen=True)
class Answer:
    """What came of a task.

    Attributes
    ----------
    node : Node
    data : dict
        The worker's answer, or {"error": …} when it could give none.
    worker : Worker
    """

    node: Node
    data: Mapping[str, Any]
    worker: Worker


class Pool:
    """Workers of one run.

    Parameters
    ----------
    server : Server
    jobs : int
        Most workers at once.
    logs : str
        Folder for their logs.
    """

    def __init__(self, server: Server, jobs: int, logs: str) -> None:
        self._server = server
        self._jobs = jobs
        self.logs = logs
        self._selector = selectors.DefaultSelector()
        self._selector.register(server.lines.sock, selectors.EVENT_READ, None)
        self.workers: list[Worker] = []
        self._exits: dict[int, int] = {}
        self._mean_s = 1.0
        self._begun = 0
        self._watched = time.monotonic()
        self._memory = int(processes.machine_memory() * 0.9)

    @property
    def running(self) -> int:
        """Tasks given and not yet answered."""
        return sum(len(worker.tasks) for worker in self.workers)

    def room(self) -> int:
        """How many more tasks can be given now."""
        depth = DEPTH if self._mean_s < QUICK_S else 1
        have = sum(max(0, depth - len(worker.tasks)) for worker in self.workers)
        return have + (self._jobs - len(self.workers)) * depth

    def give(self, tasks: Sequence[tuple[Node, Mapping[str, Any]]]) -> None:
        """Hand tasks out: to idle workers first, then to new ones, then behind others."""
        batches: dict[int, list[Mapping[str, Any]]] = {}
        by_id = {}
        for node, message in tasks:
            worker = self._fresh() if message.get("gpus") else self._least()
            if worker.pid and not worker.tasks:
                worker.since = time.monotonic()
            worker.tasks.append(node)
            batches.setdefault(id(worker), []).append(message)
            by_id[id(worker)] = worker
        for key, messages in batches.items():
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                by_id[key].lines.send(*messages)

    def _least(self) -> Worker:
        """The worker with the least to do; a new one while there may be more and none is idle."""
        best = min(self.workers, key=lambda worker: len(worker.tasks), default=None)
        if best is not None and (not best.tasks or len(self.workers) >= self._jobs):
            return best
        return self._more()

    def _fresh(self) -> Worker:
        """A worker for a step that uses a GPU: a library asks once a process which ones there are."""
        idle = [worker for worker in self.workers if not worker.tasks]
        if idle and len(self.workers) >= self._jobs:
            self._retire(idle[0])
        worker = self._more()
        worker.spent = True
        return worker

    def _more(self) -> Worker:
        self._begun += 1
        path = os.path.join(self.logs, f"worker-{self._begun}-{os.getpid()}.log")
        log = _open_log(path)
        worker = Worker(self._server.worker(log), log, path)
        self.workers.append(worker)
        self._selector.register(worker.lines.sock, selectors.EVENT_READ, worker)
        return worker

    def _retire(self, worker: Worker) -> None:
        """Let an idle worker end, and wait for it: until then it holds its GPU's memory."""
        self._selector.unregister(worker.lines.sock)
        worker.lines.close()
        self.workers.remove(worker)
        self._exit_of(worker.pid)
        os.close(worker.log)

    def poll(self, timeout: float | None) -> list[Answer]:
        """Wait for answers, deaths and limits; at most `timeout` seconds."""
        answers: list[Answer] = []
        ready = [key.data for key, _ in self._selector.select(self._patience(timeout))]
        if None in ready:  # first: a worker's end asks the server too, and there is nothing left to read then
            self._server_says()
        for worker in ready:
            if worker is not None:
                answers += self._worker_says(worker)
        self._limit()
        return answers

    def _patience(self, timeout: float | None) -> float | None:
        """Wait no longer than until the next limit has to be looked at."""
        waits = [] if timeout is None else [timeout]
        now = time.monotonic()
        for worker in self.workers:
            if worker.tasks and worker.since is not None:
                limit = worker.tasks[0].timeout_s
                waits.append(WATCH_S)
                if limit is not None:
                    waits.append(max(0.0, worker.since + limit - now))
        return min(waits) if waits else None

    def _server_says(self) -> None:
        for message in self._server.lines.receive():
            if "exit" in message:
                self._exits[message["exit"]] = message["status"]
        if self._server.lines.closed:
            self._selector.unregister(self._server.lines.sock)
            for worker in self.workers:
                worker.killed = worker.killed or "its server ended"

    def _worker_says(self, worker: Worker) -> list[Answer]:
        answers: list[Answer] = []
        for message in worker.lines.receive():
            if "hello" in message:
                worker.pid = message["hello"]
            elif "kept" in message:  # the step goes on
                answers.append(Answer(worker.tasks[0], message, worker))
                continue
            else:
                node = worker.tasks.popleft()
                self._mean_s = 0.7 * self._mean_s + 0.3 * message["wall_s"]
                answers.append(Answer(node, message, worker))
            # A worker takes its tasks one after the other: the next begins when it is ready or has answered.
            worker.since = time.monotonic() if worker.tasks else None
        if worker.lines.closed:
            answers += self._died(worker)
        elif worker.spent and not worker.tasks:
            self._retire(worker)
        return answers

    def _died(self, worker: Worker) -> Iterator[Answer]:
        """A worker's end is the answer to what it was doing; what was queued behind is given out again."""
        self._selector.unregister(worker.lines.sock)
        worker.lines.close()
        self.workers.remove(worker)
        if worker.pid:
            processes.kill_tree(worker.pid)
        status = self._exit_of(worker.pid)
        for place, node in enumerate(worker.tasks):
            if place == 0 and (worker.since is not None or worker.killed):
                yield Answer(node, {"error": death(worker, node, status), "wall_s": 0.0}, worker)
            else:
                yield Answer(node, {"again": True}, worker)
        os.close(worker.log)

    def _exit_of(self, pid: int) -> int | None:
        """How a worker ended, as its server tells; waits a moment for the message."""
        end = time.monotonic() + 1.0
        while pid not in self._exits and time.monotonic() < end and not self._server.lines.closed:
            if self._server.threads:
                return self._server.end_of_twin(pid)
            ready = selectors.DefaultSelector()
            ready.register(self._server.lines.sock, selectors.EVENT_READ)
            if ready.select(0.1):
                self._server_says()
            ready.close()
        return self._exits.get(pid)

    def _limit(self) -> None:
        """End workers whose step is over its time or memory."""
        now = time.monotonic()
        look = now - self._watched >= WATCH_S
        if look:
            self._watched = now
        for worker in self.workers:
            if worker.since is None or not worker.tasks or worker.killed:
                continue
            node = worker.tasks[0]
            if node.timeout_s is not None and now - worker.since >= node.timeout_s:
                worker.killed = "time"
            elif look and processes.resident_bytes(worker.pid) > (node.limit or self._memory):
                worker.killed = "memory"
            if worker.killed:
                processes.kill_tree(worker.pid)

    def close(self) -> None:
        """End every worker with its children."""
        for worker in self.workers:
            if worker.tasks and worker.pid:
                processes.kill_tree(worker.pid)
            worker.lines.close()
            os.close(worker.log)
        self.workers.clear()
        self._selector.close()


def death(worker: Worker, node: Node, status: int | None) -> dict[str, Any]:
    """The error of a step whose process ended."""
    where = f"step {node.id}"
    if worker.killed == "time":
        what = f"ran longer than its limit of {node.timeout_s:g} s and was ended, with its children"
        return {"error": "StepTimeoutError", "what": what, "where": where, "hint": "raise timeout_s, or make it faster"}
    if worker.killed == "memory":
        limit = f"its limit of {node.limit / 2**20:,.0f} MiB" if node.limit else "90 % of the machine's memory"
        what = f"used more than {limit} and was ended, with its children"
        return {"error": "StepMemoryError", "what": what, "where": where, "hint": "raise memory=, or use less of it"}
    hint = "the log has what it printed"
    if status == -signal.SIGKILL:
        hint = "SIGKILL mostly means that the machine ran out of memory"
    what = f"its process ended with {describe_exit(status)}"
    return {"error": "StepKilledError", "what": what, "where": where, "hint": hint}


def _open_log(path: str) -> int:
    """Open a worker's log, and make its folder.

    Raises
    ------
    StoreError
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        for _ in range(MOST_SWEPT):  # another task of the run may sweep the empty folder away in between
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                return os.open(path, flags, 0o600)
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise StoreError(
            f"the log of the steps cannot be written: {error.strerror}",
            where=os.path.dirname(path),
            hint="Give this user the right to write the folder; if the disk is full, free some space.",
        ) from error
