"""Measuring whole commands: CPU seconds of a process and all its descendants, contenders alternating in one run."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB", "NUMEXPR")
TIMEOUT_S = 300
_PR_SET_CHILD_SUBREAPER = 36


def environment() -> dict[str, str]:
    """Threads pinned and byte code on, for every contender alike; the package is this checkout's."""
    values = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "PENSTOCK"))}
    values |= {f"{name}_NUM_THREADS": "1" for name in THREADS}
    return values | {"POLARS_MAX_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends first, so that their CPU time is counted too."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def cpu_s(command: Sequence[str], folder: Path) -> float:
    """CPU seconds, user and system, of a command with everything that it started.

    Raises
    ------
    RuntimeError
        The command did not end with 0; its last output is told.
    """
    before = _children_s()
    with open(folder / "output.txt", "w+") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=output, stderr=output)
        code = process.wait(TIMEOUT_S)
        _reap()
        if code:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {code}: {output.read()[-2000:]}")
    return _children_s() - before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap() -> None:
    """Wait for adopted descendants."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


@dataclass(frozen=True)
class Contender:
    """A command, how many units of work it does, and what makes its folder ready before each time."""

    command: Sequence[str]
    folder: Path
    prepare: Callable[[], object] = lambda: None


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
            spent = cpu_s(contender.command, contender.folder)
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
