"""A table too large to hold, with what the checks and the split ask of a frame: a column at a time, in batches.

Columns with a role (target, key, time) are held while they are looked at, the others never: their facts are merged
from batches. Rows are put in another order by one pass over the file: each goes to the part of the output that it
belongs to, in a file of its own; then each part, which is one row group, is put in order and given on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.core.artifact import Batched, StoredTable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

SLICE = 1 << 17
"""Rows of a frame looked at together where the work on a whole column would need many times its memory."""

PART = 1 << 19
"""Rows put in order together."""


@dataclass(eq=False)
class LargeTable:
    """Some rows of a stored table, in some order.

    Parameters
    ----------
    stored : StoredTable
    keep : numpy.ndarray of bool, shape (n_stored_rows,), optional
        Rows that belong to it.
    place : numpy.ndarray of integers, shape (n_rows,), optional
        For `batched`: where each of the rows that are kept comes to stand.
    casts : dict
        Column → dtype.

    Notes
    -----
    `table[name]`, `table[[names]]` and `table[mask]` are what they are for a frame: a Series or a frame in memory,
    in the file's order, and fewer rows of the same table.
    """

    stored: StoredTable
    keep: npt.NDArray[np.bool_] | None = None
    place: npt.NDArray[np.integer[Any]] | None = None
    casts: Mapping[str, str] | None = None
    _last: tuple[str, Any] = ("", None)

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return self.stored.columns

    def __len__(self) -> int:
        return len(self.stored) if self.keep is None else int(self.keep.sum())

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), len(self.columns)

    def __getitem__(self, what: Any) -> Any:
        if isinstance(what, str):
            if self._last[0] != what:
                self._last = (what, self._loaded([what])[what])
            return self._last[1]
        if isinstance(what, list):
            return self._loaded(what)
        import numpy as np

        mask = np.asarray(what, dtype=bool)
        if self.keep is None:
            keep = mask
        else:
            keep = self.keep.copy()
            keep[keep] = mask
        return replace(self, keep=keep, _last=("", None))

    def astype(self, casts: Mapping[str, str]) -> LargeTable:
        """The same table with other dtypes of some columns."""
        return replace(self, casts={**(self.casts or {}), **casts}, _last=("", None))

    def reset_index(self, *, drop: bool) -> LargeTable:
        """Itself: it has no row labels but numbers."""
        assert drop
        return self

    def frames(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Some columns, a batch at a time, in the file's order."""
        for table in self._tables(columns):
            yield self._frame(table)

    def ordered(self, order: npt.NDArray[np.int64] | None) -> LargeTable:
        """The same rows in another order: `order` holds their places now."""
        import numpy as np

        if order is None:
            return self
        place: npt.NDArray[np.integer[Any]]
        place = np.empty(len(order), dtype=np.uint32 if len(order) < 1 << 32 else np.uint64)
        place[order] = np.arange(len(order), dtype=place.dtype)
        return replace(self, place=place, _last=("", None))

    def batched(self) -> Batched:
        """The rows in order, for the format to write."""
        lean = replace(self, _last=("", None))
        return Batched(len(lean), lean.parts)

    def _loaded(self, columns: list[str]) -> pd.DataFrame:
        import pyarrow as pa

        return self._frame(pa.concat_tables(list(self._tables(columns))))

    def _tables(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        at = 0
        for table in self.stored.batches(columns):
            rows = slice(at, at + table.num_rows)
            at = rows.stop
            yield table if self.keep is None else table.filter(self.keep[rows])

    def _frame(self, table: pa.Table) -> pd.DataFrame:
        frame: pd.DataFrame = self.stored.frame(table)
        casts = {name: dtype for name, dtype in (self.casts or {}).items() if name in frame.columns}
        return frame.astype(casts) if casts else frame

    # ── rows for the format ──────────────────────────────────────────────────────────────────────────────────

    def parts(self) -> Iterator[pd.DataFrame]:
        """The rows in order, in frames of bounded size."""
        import pyarrow as pa

        pa.default_memory_pool().release_unused()
        for table in self._tables(None) if self.place is None else self._sorted(self.place):
            yield self._frame(table)

    def _sorted(self, place: npt.NDArray[np.integer[Any]]) -> Iterator[pa.Table]:
        """Rows in the order wanted: each first goes to a file for its part."""
        import numpy as np
        import pyarrow as pa

        n = len(self.columns)
        with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
            for path in self._scattered(place, Path(folder)):
                at = _column_of(path, n).to_numpy()
                rows = np.empty(len(at), dtype=np.int64)
                rows[at - at.min()] = np.arange(len(at))
                part = pa.table([_column_of(path, i).take(rows) for i in range(n)], names=self.columns)
                path.unlink()
                for start in range(0, len(at), SLICE):
                    yield part.slice(start, SLICE)
                del part

    def _scattered(self, place: npt.NDArray[np.integer[Any]], folder: Path) -> list[Path]:
        """One file for each part, with the place of each row as a last column."""
        import numpy as np
        import pyarrow as pa

        paths = [folder / f"{number}.arrow" for number in range(-(-len(place) // PART))]
        writers: list[Any] = []
        at = 0
        try:
            for table in self._tables(None):
                here = place[at : at + table.num_rows]
                at += table.num_rows
                whole = pa.Table.from_arrays([*table.columns, pa.array(here)], names=[*table.column_names, ""])
                if not writers:
                    writers = [pa.ipc.new_file(str(path), whole.schema) for path in paths]
                part = here // PART
                rows = np.argsort(part, kind="stable")
                whole = whole.take(rows)
                ends = np.searchsorted(part[rows], np.arange(len(paths) + 1))
                for writer, start, end in zip(writers, ends[:-1], ends[1:], strict=True):
                    if end > start:
                        writer.write_table(whole.slice(start, end - start))
        finally:
            for writer in writers:
                writer.close()
        return paths


def _column_of(path: Path, number: int) -> pa.ChunkedArray:
    """One column of an Arrow file; the others are not held."""
    import pyarrow as pa

    options = pa.ipc.IpcReadOptions(included_fields=[number])
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file, options=options) as reader:
        return reader.read_all().column(0).combine_chunks()


def slices(table: Any, columns: Sequence[str]) -> Iterable[pd.DataFrame]:
    """Some columns of a frame or a large table, a bounded number of rows at a time."""
    if isinstance(table, LargeTable):
        return table.frames(columns)
    narrow = table[list(columns)]
    return (narrow.iloc[at : at + SLICE] for at in range(0, max(len(narrow), 1), SLICE))
