"""Which GPUs a process may use, and which of them a step sees."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable that says which GPUs a process sees."""
LIST_S = 20.0
"""Seconds that `nvidia-smi -L` may take."""


@contextlib.contextmanager
def seeing(gpus: str | None) -> Iterator[None]:
    """Let this process see some GPUs alone, as `Admission.visible` gave them; afterwards what it saw before."""
    before = os.environ.get(VISIBLE)
    if gpus is not None:
        os.environ[VISIBLE] = gpus
    try:
        yield
    finally:
        if gpus is not None and before is None:
            os.environ.pop(VISIBLE, None)
        elif gpus is not None and before is not None:
            os.environ[VISIBLE] = before


def gpu_ids(
    configured: int | None = None,
    environment: Mapping[str, str] | None = None,
    listed: Callable[[], str] | None = None,
) -> tuple[str, ...]:
    """Ids of the GPUs that this process may use: as configured, as the environment says, as the driver lists them.

    Parameters
    ----------
    configured : int, optional
        Of what is seen no more than this many; where nothing is seen, so many all the same.
    environment : mapping, optional
        `os.environ` by default.
    listed : callable, optional
        Gives what `nvidia-smi -L` says.

    Examples
    --------
    >>> gpu_ids(environment={VISIBLE: "2,3"}), gpu_ids(environment={VISIBLE: ""}), gpu_ids(2, {}, lambda: "")
    (('2', '3'), (), ('0', '1'))
    """
    environment = os.environ if environment is None else environment
    if VISIBLE in environment:
        named = [name.strip() for name in environment[VISIBLE].split(",")]
        seen: Sequence[str] = (
            named[: named.index("-1")] if "-1" in named else named
        )  # CUDA stops at the first wrong one
        seen = [name for name in seen if name]
    elif configured is not None:
        seen = [str(number) for number in range(configured)]
    else:
        seen = parsed((listed or _list)())
    return tuple(seen if configured is None else seen[:configured])


def parsed(text: str) -> list[str]:
    r"""Ids in what `nvidia-smi -L` says: a GPU's number, or of one that is divided the ids of its parts.

    Examples
    --------
    >>> parsed("GPU 0: NVIDIA H100 (UUID: GPU-1)\nGPU 1: NVIDIA H100 (UUID: GPU-2)")
    ['0', '1']
    """
    found: dict[str, list[str]] = {}
    number = ""
    for line in text.splitlines():
        if whole := re.match(r"GPU (\d+):", line):
            number = whole[1]
            found[number] = []
        elif (part := re.search(r"\(UUID: (MIG-[^)]+)\)", line)) and number:
            found[number].append(part[1])
    return [one for whole, parts in found.items() for one in parts or [whole]]


def _list() -> str:
    """What `nvidia-smi -L` says; nothing where there is no such program or it fails."""
    import subprocess

    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=LIST_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
