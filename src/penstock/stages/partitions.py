"""Columns that stand in the names of folders: `year=2026/month=3/x.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from penstock.core.source import Source
from penstock.errors import DataError
from penstock.stages import infer
from penstock.stages.infer import Guess
from penstock.stages.limits import Limits

NOTHING = "__HIVE_DEFAULT_PARTITION__"
"""How a missing value is written in a folder's name."""


class Partitions:
    """The values that the folders of each file give to all of its rows.

    Numbers are numbers also with leading zeros (`month=03` is 3), unless `types=` says "str".

    Parameters
    ----------
    files : sequence of str
        Name of each file, relative to the source's folder.
    source : Source
    limits : Limits
    many : bool
        Whether several files were declared; a single file's folders say nothing.

    Attributes
    ----------
    names : list of str
    types : dict
        Name → pyarrow type.

    Raises
    ------
    DataError
        Files whose folders name other columns.
    """

    def __init__(self, files: Sequence[str], source: Source, limits: Limits, *, many: bool) -> None:
        self.limits, self.many = limits, many
        pairs = [_pairs(file) if many else {} for file in files]
        self.names = list(pairs[0])
        for file, found in zip(files, pairs, strict=True):
            if list(found) != self.names:
                raise DataError(
                    f"folders name {_told(found)} for {file}, but {_told(pairs[0])} for {files[0]}",
                    where=file,
                    hint="all files of one source lie at the same depth, under folders of the same names",
                )
        self._values = {name: _typed(name, [found[name] for found in pairs], source, files[0]) for name in self.names}
        self.types = {name: values.type for name, values in self._values.items()}

    @property
    def shown(self) -> str:
        """For the summary."""
        return f" by {', '.join(self.names)}" if self.names else ""

    def beside(self, header: list[str], where: str) -> list[str]:
        """The columns of the files and these.

        Raises
        ------
        DataError
            A column that is in the files too.
        """
        both = [name for name in self.names if name in header]
        if both:
            raise DataError(
                f"column {both[0]!r} stands in the files and in the names of their folders",
                where=where,
                hint="leave it out of the files, or name the folders otherwise",
                column=both[0],
            )
        return [*header, *self.names]

    def with_columns(self, batch: Any, at: int, columns: list[str]) -> Any:
        """A batch of the file number `at` with these columns put in, in the order of `columns`."""
        import pyarrow as pa

        if not self.names:
            return batch
        arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
        repeated = pa.array([at] * batch.num_rows, pa.int32())
        arrays |= {name: values.take(repeated) for name, values in self._values.items() if name in columns}
        return pa.RecordBatch.from_arrays([arrays[name] for name in columns], names=columns)


def _pairs(file: str) -> dict[str, str]:
    folders = [part.partition("=") for part in file.split("/")[:-1] if "=" in part]
    return {unquote(name): unquote(value) for name, _, value in folders if name}


def _told(found: dict[str, str]) -> str:
    return ", ".join(map(repr, found)) or "no column"


def _typed(name: str, values: list[str], source: Source, where: str) -> Any:
    """One value for each file, typed on all of them by the rules for columns of text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    forced = "datetime" if name in source.dates else source.types.get(name, "")
    cells = pa.array(["" if value == NOTHING else value for value in values], pa.string())
    if forced not in ("str", "category", "datetime"):
        cells = pc.replace_substring_regex(cells, r"^(-?)0+([0-9]+)$", r"\1\2")
    found = Guess(words=set() if forced == "category" else None)
    block = infer.guess(cells, source.na)
    if forced in ("str", "category"):
        block.kind = "str"
        block.words = {text for text in values if text not in ("", NOTHING, *source.na)}
    if forced == "datetime":
        found.zoned = infer.zone(cells, where, name)
    found.merge(block)
    return infer.convert(cells, found, infer.decide(found, forced), source.na, where, name)
