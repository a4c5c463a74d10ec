"""Families of processes: ending whole trees, watching their memory, leaving no orphan.

Both the workers of a run and the model processes of a server are watched and ended with these.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(really: bool = True) -> None:
    """Ask the kernel to kill this process when its parent dies; elsewhere than Linux a closed socket ends it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if really else 0)


def adopt_orphans(really: bool = True) -> None:
    """Become the parent of whatever this process's descendants leave behind, so that it can be found and ended."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(really))


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
