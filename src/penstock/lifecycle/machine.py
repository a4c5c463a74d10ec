"""What is recorded of the machine with each result: it may change the last bits of a figure."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def machine() -> dict[str, Any]:
    """CPU level, and threads of the native libraries in workers.

    Returns
    -------
    dict
        "cpu": the highest x86-64 micro-architecture level ("x86-64-v3"), or the machine's name elsewhere;
        "threads": threads of BLAS and OpenMP in one worker.
    """
    return {"cpu": cpu_level(_flags(), _machine_name()), "threads": 1}


def _machine_name() -> str:
    import os

    return os.uname().machine if hasattr(os, "uname") else "unknown"


def _flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("flags"):
                    return frozenset(line.split())
    except OSError:
        pass
    return frozenset()


def cpu_level(flags: frozenset[str], name: str) -> str:
    """Micro-architecture level, as the x86-64 psABI defines it.

    Parameters
    ----------
    flags : frozenset of str
        As `/proc/cpuinfo` names them.
    name : str
        The machine's name.

    Examples
    --------
    >>> cpu_level(frozenset({"avx2", "bmi2", "fma", "avx512f", "avx512bw"}), "x86_64")
    'x86-64-v4'
    """
    if name != "x86_64":
        return name
    if {"avx512f", "avx512bw"} <= flags:
        return "x86-64-v4"
    if {"avx2", "bmi2", "fma"} <= flags:
        return "x86-64-v3"
    return "x86-64-v2" if "sse4_2" in flags else "x86-64"
