"""Whether the process that began a run is still there: a run that nobody ended is told as interrupted."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from penstock.core.run import Run

INTERRUPTED = "interrupted"
TASKS = "tasks"
"""Where a backend's run keeps the marks of the processes that do its tasks."""


def mark() -> dict[str, Any]:
    """What names this process, so that another one can tell later whether it still runs.

    Returns
    -------
    dict
        "host", "boot" (of the machine), "pid" and "start" (in ticks since the boot, so that a number that was given
        to another process is not mistaken for it). "boot" and "start" are empty where the system does not tell.
    """
    return {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "start": _start(os.getpid())}


def state_of(run: Run) -> str:
    """A run's state; one that is on record as running while its process is gone is "interrupted".

    Of a process on another machine nothing is known: its run stays "running". So does a backend's run between two
    tasks; one whose tasks were all killed is interrupted until one of them is tried again.
    """
    process, tasks = run.info.get("process"), run.info.get(TASKS)
    found = [process] if isinstance(process, Mapping) else list(tasks.values()) if isinstance(tasks, Mapping) else []
    return INTERRUPTED if run.state == "running" and found and all(map(is_gone, found)) else run.state


def is_ours(process: Mapping[str, Any]) -> bool:
    """Whether a process was one of this machine."""
    return process.get("host") == socket.gethostname()


def is_gone(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine is gone; of another machine's nothing is known."""
    if not is_ours(process):
        return False
    if process.get("boot") and _boot() and process["boot"] != _boot():
        return True  # the machine was started anew since
    pid = process.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's: there
    return bool(process.get("start")) and _start(pid) not in ("", process["start"])


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def _start(pid: int) -> str:
    """When a process began, in ticks since the boot; "" where /proc does not tell, "gone" for one that has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "gone" if fields[0] == b"Z" else fields[19].decode()
