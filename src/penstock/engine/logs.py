"""What steps print: workers write one log each; every step gets the part that is its own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from penstock.engine.pool import Answer

MOST_BYTES = 16 << 20
"""No more of one step's output is kept than this."""


def keep_log(answer: Answer) -> None:
    """Copy what a step printed from its worker's log into a file of its own.

    A step that ended with its process could not say where its part ends: it gets all that is new.
    """
    worker = answer.worker
    span = answer.data.get("log")
    if span is None and "error" not in answer.data:
        return
    with contextlib.suppress(OSError):
        begin, end = span or (worker.log_seen, os.path.getsize(worker.log_path))
        worker.log_seen = end
        if end <= begin:
            return
        with open(worker.log_path, "rb") as log:
            log.seek(begin)
            text = log.read(min(end - begin, MOST_BYTES))
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in answer.node.id)
        with open(os.path.join(os.path.dirname(worker.log_path), f"{name}.log"), "ab") as file:
            file.write(text)


def sweep_logs(folder: str) -> None:
    """Remove our workers' own logs, whose parts were copied to their steps', and a folder that is then empty."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith("worker-") and name.endswith(f"-{os.getpid()}.log"):
                os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


@contextlib.contextmanager
def followed(folder: str, target: int, every_s: float = 0.2) -> Iterator[Callable[[], None]]:
    """Copy what this process's workers print to a file descriptor while it is printed.

    Yields
    ------
    callable
        Copies at once what is there, for whoever is about to write something of their own.
    """
    over, turn, places = threading.Event(), threading.Lock(), dict[str, int]()

    def copy() -> None:
        with turn, contextlib.suppress(OSError):
            for name in sorted(os.listdir(folder)):
                if name.startswith("worker-") and name.endswith(f"-{os.getpid()}.log"):
                    with open(os.path.join(folder, name), "rb") as log:
                        log.seek(places.get(name, 0))
                        while block := log.read(1 << 16):
                            os.write(target, block)
                        places[name] = log.tell()

    def follow() -> None:
        while not over.wait(every_s):
            copy()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield copy
    finally:
        over.set()
        thread.join()
