"""An immutable value, named by the digest of its bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

INLINE_LIMIT = 4096
"""JSON artifacts up to this many bytes live in the ledger row, not in the store."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One stored value.

    Attributes
    ----------
    digest : str
        SHA-256 of the bytes, 64 hexadecimal digits.
    format : str
        The format that reads the bytes back: "parquet", "json", "skops", "npy", "bytes", "path", "bundle".
    size : int
        Number of bytes.
    text : str or None
        The bytes themselves (UTF-8), when they are JSON of at most `INLINE_LIMIT` bytes; then no object exists.
    refs : tuple of str
        Digests of the objects that these bytes name (a bundle's files). They live as long as this artifact.
    """

    digest: str
    format: str
    size: int
    text: str | None = None
    refs: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        data: dict[str, Any] = {"digest": self.digest, "format": self.format, "size": self.size}
        if self.text is not None:
            data["text"] = self.text
        if self.refs:
            data["refs"] = list(self.refs)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Artifact:
        """The inverse of `to_json`."""
        return cls(data["digest"], data["format"], data["size"], data.get("text"), tuple(data.get("refs", ())))


@dataclass(frozen=True, slots=True)
class Written:
    """A value that a step of Penstock's own has already written in a format's bytes (a table larger than memory).

    Attributes
    ----------
    path : str
        A file that the step made; it is moved into the store.
    format : str
        The format of its bytes.
    """

    path: str
    format: str
    refs: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Batched:
    """A pandas table too large to hold, as a step of Penstock's own returns it: its format asks for it part by part.

    Attributes
    ----------
    rows : int
        Rows in all.
    frames : callable
        Gives pandas frames of any length, none empty, with one set of dtypes and no row labels but numbers.
    """

    rows: int
    frames: Callable[[], Iterable[Any]]


class StoredTable(Protocol):
    """A table too large to hold, as a stage of Penstock's own receives it: read a batch at a time."""

    columns: list[str]

    def __len__(self) -> int:
        """Rows in all."""
        ...

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """The rows in order as Arrow tables of bounded size; all columns, or those named, in that order."""
        ...

    def frame(self, table: Any) -> Any:
        """Rows from `batches` as pandas, with the dtypes that the whole table would have."""
        ...
