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
PARQUET = b"PAR1"


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
        plain = _blocks(data) if isinstance(data, str) else iter([bytes(data)])
        refuse(found_in(plain) or found_in(_cells(data)), where)
        return stage(data)

    return looked_at


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


def _cells(data: bytes | str) -> Iterator[bytes]:
    """What the cells of a Parquet table hold, whose bytes are compressed; nothing of any other bytes."""
    head = data[:4] if not isinstance(data, str) else next(_blocks(data), b"")[:4]
    if head != PARQUET:
        return
    import pyarrow as pa
    from pyarrow import parquet as pq

    with (
        contextlib.suppress(pa.ArrowException),
        pq.ParquetFile(data if isinstance(data, str) else pa.BufferReader(data)) as file,
    ):
        for batch in file.iter_batches(use_threads=False):
            for column in batch.columns:
                yield from _texts(column)


def _texts(array: Any) -> Iterator[bytes]:
    """Different texts, bytes and numbers of a column, of whatever its cells are made of; no floats and no times."""
    import pyarrow as pa
    import pyarrow.types as of

    if isinstance(array, pa.DictionaryArray):
        yield from _texts(array.dictionary)
    elif isinstance(array, pa.ExtensionArray):
        yield from _texts(array.storage)
    elif isinstance(array, pa.MapArray):
        yield from _texts(array.keys)
        yield from _texts(array.items)
    elif of.is_nested(array.type):
        parts = array.flatten()
        for part in parts if of.is_struct(array.type) else [parts]:
            yield from _texts(part)
    elif not (of.is_floating(array.type) or of.is_temporal(array.type) or of.is_boolean(array.type)):
        cells = array.unique().to_pylist()
        told = (one if isinstance(one, bytes) else str(one).encode("utf-8", "surrogatepass") for one in cells)
        yield b"\0".join([*told, b""])
