"""What a worker tells once it has resolved a secret: prints, notes, errors and outputs, all without the value."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from penstock.core.secret import found_in, hidden_bytes, hidden_tree, revealed, watch
from penstock.errors import StepOutputError

BLOCK = 1 << 20
TABLES = ("pandas", "polars", "pyarrow")


class Discretion:
    """Keeps a step's prints in memory from the moment a secret is resolved, and writes them down without its value.

    Only the whole of what was printed can be searched: a value may be split over two writes. The output of a process
    that dies in such a step is lost with it. A process that a step leaves behind prints into nothing.

    Parameters
    ----------
    log : int or None
        File descriptor of the worker's log.
    """

    def __init__(self, log: int | None) -> None:
        self._log = log
        self._held = -1

    def __enter__(self) -> Discretion:
        watch(self.begin)
        if revealed():  # an earlier step of this worker may have left a value in a module
            self.begin()
        return self

    def begin(self) -> None:
        """Hold back what is printed from now on; let no core file be written, which would have the value."""
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if self._held >= 0 or self._log is None:
            return
        self._held = _memory()
        for stream in (1, 2):
            os.dup2(self._held, stream)

    def __exit__(self, *_: object) -> None:
        watch(lambda: None)
        if self._held < 0 or self._log is None:
            return
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os.lseek(self._held, 0, os.SEEK_SET)
        text = hidden_bytes(b"".join(iter(lambda: os.read(self._held, BLOCK), b"")))
        for stream in (1, 2):
            os.dup2(self._log, stream)
        os.close(self._held)
        self._held = -1
        os.lseek(self._log, 0, os.SEEK_END)
        while text:
            text = text[os.write(self._log, text) :]


def _memory() -> int:
    """A file that has no name anywhere: in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("output")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def told(answer: dict[str, Any]) -> dict[str, Any]:
    """A worker's answer without values of secrets in its texts; artifacts were looked at before they were made."""
    if not revealed():
        return answer
    return {word: part if word == "outputs" else hidden_tree(part) for word, part in answer.items()}


def guarded(stage: Callable[[bytes | str], tuple[str, int]], where: str) -> Callable[[bytes | str], tuple[str, int]]:
    """Staging that refuses bytes in which a secret's value stands.

    Raises
    ------
    StepOutputError
    """
    if not revealed():
        return stage

    def looked_at(data: bytes | str) -> tuple[str, int]:
        refuse(found_in(_blocks(data) if isinstance(data, str) else [bytes(data)]), where)
        return stage(data)

    return looked_at


def check_table(value: Any, where: str) -> None:
    """Refuse a table with a secret's value in a cell: its bytes are compressed, so they are not searched.

    Raises
    ------
    StepOutputError
    """
    if not revealed() or type(value).__module__.partition(".")[0] not in TABLES or not hasattr(value, "columns"):
        return
    names = list(value.column_names if hasattr(value, "column_names") else value.columns)
    for place, name in enumerate(names):
        if type(value).__module__.startswith("pandas"):
            cells = value.iloc[:, place].dropna().unique().tolist()
        else:
            unique = value[name].unique()
            cells = unique.to_pylist() if hasattr(unique, "to_pylist") else unique.to_list()
        texts = (str(cell).encode("utf-8", "surrogatepass") + b"\0" for cell in cells if not isinstance(cell, float))
        refuse(found_in([str(name).encode(), b"\0"]) or found_in(texts), where)


def refuse(name: str, where: str) -> None:
    """Refuse an output in which the value of a named secret stands.

    Raises
    ------
    StepOutputError
        If there is a name.
    """
    if name:
        raise StepOutputError(
            f"the output holds the value of the secret {name}",
            where=where,
            hint="return what was made with it; what a step returns is kept",
        )


def _blocks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield block
