"""Processes and their children: ending whole trees, watching memory, starting without a shell."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence

from penstock.core.processes import adopt_orphans, descendants, die_with_parent, kill_tree, resident_bytes

__all__ = [
    "THREAD_VARIABLES",
    "Terminated",
    "adopt_orphans",
    "cores",
    "descendants",
    "die_with_parent",
    "environment",
    "kill_tree",
    "machine_memory",
    "resident_bytes",
    "spawn",
    "terminable",
]

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)


def spawn(arguments: Sequence[str], *, environment: dict[str, str], session: bool = True) -> int:
    """Start a program by its argument list; inheritable file descriptors go with it.

    `os.posix_spawn` rather than `subprocess`, which costs more to import than everything else here.
    """
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_CLOSE, null)]
    try:
        return os.posix_spawn(arguments[0], list(arguments), environment, file_actions=actions, setsid=session)
    finally:
        os.close(null)


def environment(jobs: int, threads: int = 1) -> dict[str, str]:
    """Environment of servers and workers: threads of native libraries pinned, hashes as they come.

    Parameters
    ----------
    jobs : int
        Workers that run at once; estimators with `n_jobs` share what cores are left.
    threads : int, default=1
        Threads of BLAS, OpenMP and polars in one worker.
    """
    values = dict(os.environ)
    for name in THREAD_VARIABLES:
        values.setdefault(name, str(threads))
    values.setdefault("LOKY_MAX_CPU_COUNT", str(max(1, cores() // max(jobs, 1))))
    values["PYTHONUNBUFFERED"] = "0" if values.get("PYTHONUNBUFFERED") is None else values["PYTHONUNBUFFERED"]
    if values["PYTHONUNBUFFERED"] == "0":
        del values["PYTHONUNBUFFERED"]
    return values


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's limit if lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                total = min(total, int(file.read()))
        except (OSError, ValueError):
            continue
    return total


class Terminated(BaseException):
    """SIGTERM arrived; raised in the main thread as `KeyboardInterrupt` is for Ctrl-C."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end what is inside as Ctrl-C does.

    Raises
    ------
    Terminated
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
