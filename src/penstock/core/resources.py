"""What a step asks for of the machine that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.units import is_number
from penstock.errors import DeclarationError


@dataclass(frozen=True)
class Resources:
    """Processors, memory and GPUs that a step needs while it runs, and labels of machines; part of no recipe.

    On this machine a step waits until what it asks for is free. A backend passes the request on.

    Parameters
    ----------
    cpu : float, optional
        Processors, above 0. A step that says nothing counts as one.
    memory : str or int, optional
        As "4GiB" or in bytes; given as bytes afterwards. Also the limit of a step that has none of its own.
    gpu : int, default=0
        GPUs that nobody else uses meanwhile.
    labels : dict of str to str, optional
        For backends: a queue, a pool, the labels of nodes. This machine has none.

    Raises
    ------
    DeclarationError
        With every fault.

    Examples
    --------
    >>> Resources(cpu=2, memory="4GiB", gpu=1).memory
    4294967296
    """

    cpu: float | None = None
    memory: Any = None
    gpu: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = []
        if self.cpu is not None and not (is_number(self.cpu) and self.cpu > 0):
            faults.append(f"cpu={self.cpu!r}: a number of processors above 0, or None")
        if not _is_whole(self.gpu) or self.gpu < 0:
            faults.append(f"gpu={self.gpu!r}: a whole number from 0")
        labels = self.labels
        if not isinstance(labels, Mapping) or not all(
            isinstance(part, str) and part for pair in labels.items() for part in pair
        ):
            faults.append(f"labels={labels!r}: a dict of texts to texts, as {{'queue': 'gpu'}}")
        memory = _bytes(self.memory, faults)
        if not faults and (self.cpu, memory, self.gpu, dict(labels)) == (None, None, 0, {}):
            faults.append("nothing is asked for; give cpu=, memory=, gpu= or labels=, or leave it out")
        if faults:
            raise DeclarationError([f"Resources: {fault}" for fault in faults])
        object.__setattr__(self, "memory", memory)
        object.__setattr__(self, "labels", dict(labels))

    def to_json(self) -> dict[str, Any]:
        """As plain data: what is asked for, and nothing else.

        Examples
        --------
        >>> Resources(gpu=1).to_json()
        {'gpu': 1}
        """
        found = {"cpu": self.cpu, "memory": self.memory, "gpu": self.gpu, "labels": dict(self.labels)}
        return {name: value for name, value in found.items() if value}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bytes(memory: Any, faults: list[str]) -> int | None:
    """A size in bytes; what is wrong with it is added to the faults."""
    wrong = f"memory={memory!r}: a size above 0 such as '4GiB', or bytes"
    if memory is not None and not isinstance(memory, str) and not _is_whole(memory):
        faults.append(wrong)
        return None
    try:
        size = memory_bytes(memory)
    except DeclarationError:
        size = 0
    if size is not None and size <= 0:
        faults.append(wrong)
    return size


def resources_faults(given: Any) -> list[str]:
    """What is wrong with a workflow's `resources=`, as sentences; names are held against its steps later.

    Examples
    --------
    >>> resources_faults({"train": 2})
    ["resources={'train': 2}: ps.Resources(cpu=…, memory=…, gpu=…) is meant"]
    """
    if given is None:
        return []
    if not isinstance(given, Mapping):
        return [f"resources={given!r}: a dict of a stage's or step's name to ps.Resources(…)"]
    return [
        f"resources={{{name!r}: {value!r}}}: ps.Resources(cpu=…, memory=…, gpu=…) is meant"
        for name, value in given.items()
        if not isinstance(value, Resources) or not isinstance(name, str)
    ]


_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10}
_UNITS |= {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def memory_bytes(text: str | int | None) -> int | None:
    """Bytes in a text such as "512MiB".

    Raises
    ------
    DeclarationError

    Examples
    --------
    >>> memory_bytes("2KiB"), memory_bytes("1.5TB")
    (2048, 1500000000000)
    """
    if text is None or isinstance(text, int):
        return text
    number = text.rstrip("BkKMGTi").strip()
    unit = text[len(text.rstrip("BkKMGTi")) :]
    try:
        return int(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        raise DeclarationError(f"step: memory={text!r}: a size such as '512MiB' or '2GB'") from None
