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


@dataclass(eq=False)
class LargeTable:
    """Some rows of a stored table, in some order.

    Parameters
    ----------
    stored : StoredTable
    keep : numpy.ndarray of bool, shape (n_stored_rows,), optional
        Rows that belong to it.
    order : numpy.ndarray of int64, shape (n_rows,), optional
        For `batched`: places, among the rows that are kept, in the order wanted.
    casts : dict
        Column → dtype.

    Notes
    -----
    `table[name]`, `table[[names]]` and `table[mask]` are what they are for a frame: a Series or a frame in memory,
    in the file's order, and fewer rows of the same table.
    """

    stored: StoredTable
    keep: npt.NDArray[np.bool_] | None = None
    order: npt.NDArray[np.int64] | None = None
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

    def batched(self) -> Batched:
        """The rows in order, for the format to write."""
        return Batched(len(self), self._parts)

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

    def _parts(self, size: int) -> Iterator[pd.DataFrame]:
        tables = self._as_they_are(size) if self.order is None else self._sorted(self.order, size)
        for table in tables:
            yield self._frame(table)

    def _as_they_are(self, size: int) -> Iterator[pa.Table]:
        """Batches joined and cut to parts of so many rows."""
        import pyarrow as pa

        held: list[pa.Table] = []
        n = 0
        for table in self._tables(None):
            rest = table
            while n + rest.num_rows >= size:
                yield pa.concat_tables([*held, rest.slice(0, size - n)])
                rest, held, n = rest.slice(size - n), [], 0
            if rest.num_rows:
                held.append(rest)
                n += rest.num_rows
        if n:
            yield pa.concat_tables(held)

    def _sorted(self, order: npt.NDArray[np.int64], size: int) -> Iterator[pa.Table]:
        """Parts in the order wanted: each row first goes to a file for its part."""
        import numpy as np
        import pyarrow as pa

        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
            for part in self._scattered(place, size, Path(folder)):
                with pa.OSFile(str(part)) as file, pa.ipc.open_file(file) as reader:
                    table = reader.read_all()
                part.unlink()
                at = table.column(table.num_columns - 1).to_numpy()
                rows = np.empty(len(at), dtype=np.int64)
                rows[at - at.min()] = np.arange(len(at))
                yield table.select(range(table.num_columns - 1)).take(rows)

    def _scattered(self, place: npt.NDArray[np.int64], size: int, folder: Path) -> list[Path]:
        """One file for each part, with the place of each row as a last column."""
        import numpy as np
        import pyarrow as pa

        paths = [folder / f"{number}.arrow" for number in range(-(-len(place) // size))]
        writers: list[Any] = []
        at = 0
        try:
            for table in self._tables(None):
                here = place[at : at + table.num_rows]
                at += table.num_rows
                whole = pa.Table.from_arrays([*table.columns, pa.array(here)], names=[*table.column_names, ""])
                if not writers:
                    writers = [pa.ipc.new_file(str(path), whole.schema) for path in paths]
                part = here // size
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


def slices(table: Any, columns: Sequence[str]) -> Iterable[pd.DataFrame]:
    """Some columns of a frame or a large table, a bounded number of rows at a time."""
    if isinstance(table, LargeTable):
        return table.frames(columns)
    narrow = table[list(columns)]
    return (narrow.iloc[at : at + SLICE] for at in range(0, max(len(narrow), 1), SLICE))
