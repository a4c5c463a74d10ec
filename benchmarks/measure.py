"""Measuring whole commands: CPU seconds of a process and all its descendants, contenders alternating in one run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB", "NUMEXPR")
NOT_TAKEN_OVER = ("PYTHON", "PENSTOCK", "AIRFLOW", "DAGSTER", "PREFECT")
TIMEOUT_S = 900
_PR_SET_CHILD_SUBREAPER = 36


def environment() -> dict[str, str]:
    """Threads pinned and byte code on, for every contender alike; the package is this checkout's."""
    values = {name: text for name, text in os.environ.items() if not name.startswith(NOT_TAKEN_OVER)}
    values |= {f"{name}_NUM_THREADS": "1" for name in THREADS}
    return values | {"POLARS_MAX_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends first, so that their CPU time is counted too."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def cpu_s(
    command: Sequence[str],
    folder: Path,
    env: Mapping[str, str] | None = None,
    *,
    beside: Collection[int] = (),
    watch: Callable[[int], object] | None = None,
) -> float:
    """CPU seconds, user and system, of a command with everything that it started.

    Parameters
    ----------
    command : sequence of str
        What runs; it prints to `output.txt`.
    folder : Path
        Where.
    env : mapping of str to str, optional
        Variables beside those of `environment`.
    beside : collection of int
        Children of this process that live on: they are not waited for, and so not counted.
    watch : callable, optional
        Asked again and again with the command's process id while it runs.

    Raises
    ------
    RuntimeError
        The command did not end with 0, or not in time; its last output is told.
    """
    before, others = _children_s(), children(os.getpid())
    with open(folder / "output.txt", "w+") as output:
        given = environment() | dict(env or {})
        process = subprocess.Popen(
            command, cwd=folder, env=given, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            while watch and process.poll() is None:
                watch(process.pid)
                time.sleep(0.02)
            code: int | str = process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for pid in tree(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait()
            code = f"no end within {TIMEOUT_S} s"
        _reap({process.pid, *beside, *others})
        if code:
            output.seek(0)
            raise RuntimeError(f"{' '.join(map(str, command))} ended with {code}: {output.read()[-2000:]}")
    return _children_s() - before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap(known: Collection[int]) -> None:
    """Wait for adopted descendants: all children but those that somebody else waits for."""
    while strangers := [pid for pid in children(os.getpid()) if pid not in known]:
        for pid in strangers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def children(pid: int) -> list[int]:
    """Ids of the processes that each thread of a process has started or adopted; none where there is no `/proc`."""
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, tasks.read_text().split())
    return found


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    pids = [pid]
    for one in pids:
        pids += children(one)
    return pids


def used_s(pid: int) -> float:
    """CPU seconds of a process that lives, and of all its descendants, those that have ended included."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, words[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> list[int]:
    """Resident bytes of a process and of each descendant: pages that they share are in each."""
    found = []
    for one in tree(pid):
        with contextlib.suppress(OSError):
            found.append(int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    return found


@dataclass(frozen=True)
class Contender:
    """A command, its folder, what makes that ready before each time, and variables that the command needs."""

    command: Sequence[str]
    folder: Path
    prepare: Callable[[], object] = lambda: None
    env: Mapping[str, str] = field(default_factory=dict)


def alternate(contenders: Mapping[str, Contender], repeat: int) -> dict[str, list[float]]:
    """CPU seconds of each contender, `repeat` times, taken in turns and in changing order.

    One turn beforehand is not counted: it writes byte code and warms the disk's cache.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeat + 1):
        names = list(contenders) if turn % 2 else list(contenders)[::-1]
        for name in names:
            contender = contenders[name]
            contender.prepare()
            spent = cpu_s(contender.command, contender.folder, contender.env)
            if turn:
                seconds[name].append(spent)
    return seconds


def ratio(ours: Sequence[float], bare: Sequence[float]) -> float:
    """Ratio of the medians."""
    return median(ours) / median(bare)


def span(ours: Sequence[float], bare: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest ratio of runs that were neighbours in time."""
    ratios = sorted(a / b for a, b in zip(ours, bare, strict=True))
    return ratios[0], ratios[-1]
