"""Processes and their children: ending whole trees, watching memory, starting without a shell."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

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
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


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


def die_with_parent(really: bool = True) -> None:
    """Ask the kernel to kill this process when its parent dies; elsewhere than Linux a closed socket ends it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if really else 0)


def adopt_orphans() -> None:
    """Become the parent of whatever this process's descendants leave behind, so that it can be found and ended."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Process ids below one, found in /proc; empty where there is none."""
    children: dict[int, list[int]] = {}
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    for name in names:
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    stack = [pid]
    while stack:
        below = children.get(stack.pop(), [])
        found += below
        stack += below
    return found


def kill_tree(pid: int) -> None:
    """End a worker, its process group, and children that left the group."""
    below = descendants(pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for child in [pid, *below]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(child, signal.SIGKILL)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants, in bytes; 0 where /proc does not tell."""
    total = 0
    page = os.sysconf("SC_PAGE_SIZE")
    for each in [pid, *descendants(pid)]:
        try:
            with open(f"/proc/{each}/statm", "rb") as file:
                total += int(file.read().split()[1]) * page
        except (OSError, IndexError, ValueError):
            continue
    return total


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
