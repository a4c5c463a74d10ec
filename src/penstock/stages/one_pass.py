"""Text columns become typed ones while their types are still being found: most tables are parsed once.

Each block is looked at once. In memory its values are kept until the types of whole columns are known; a table that
streams is written with the types of its first blocks. Where a later block says otherwise, the column (in memory) or
the whole table (streamed) is read once more, with the types that are then known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from penstock.core.source import Source
from penstock.errors import DataError
from penstock.stages import infer
from penstock.stages.columns import write
from penstock.stages.infer import Guess
from penstock.stages.limits import Limits
from penstock.stages.look import Seen, look
from penstock.stages.text_source import TextTable

AHEAD = 16 << 20
"""Bytes of cells looked at before a table that streams gets its first types."""

Dress = Callable[[Any, int], Any]
"""Puts columns that stand in no file into a batch of the file of this number."""


class Typing:
    """Columns of one or several files, typed on all of their rows.

    Parameters
    ----------
    tables : sequence of TextTable
    columns : list of str
        Those to read.
    source : Source
    limits : Limits
    width : int
        Columns of the whole table, for errors.
    dress : callable

    Attributes
    ----------
    guesses : dict
        Column → what is known of it.
    """

    def __init__(
        self,
        tables: Sequence[TextTable],
        columns: list[str],
        source: Source,
        limits: Limits,
        *,
        width: int,
        dress: Dress,
    ) -> None:
        self._tables, self._columns, self._source, self._limits = tables, columns, source, limits
        self._width, self._dress = width, dress
        self._forced = {name: forced(name, source, tables) for name in columns}
        self.guesses = {name: Guess(words=set() if self._forced[name] == "category" else None) for name in columns}

    @property
    def n_rows(self) -> int:
        """Rows seen so far."""
        return self.guesses[self._columns[0]].cells

    def kinds(self) -> dict[str, str]:
        """The type of each column, by the rows seen so far."""
        return {name: infer.decide(guess, self._forced[name]) for name, guess in self.guesses.items()}

    def in_memory(self) -> Any:
        """One table in one chunk a column, so that its bytes do not depend on how it was read."""
        import pyarrow as pa

        seen = [(at, self._look(at, block)) for at, block in self._blocks(self._columns)]
        self._refuse_nothing()
        kinds = self.kinds()
        whole = [(at, self._batch(at, seen.pop(0)[1], kinds)) for at in [at for at, _ in seen]]
        again = list(dict.fromkeys(name for _, batch in whole for name, values in batch.items() if values is None))
        if again:
            for (at, batch), (_, block) in zip(whole, self._blocks(again), strict=True):
                batch.update(self._converted(at, block, kinds))
        table = pa.Table.from_batches([self._dress(pa.RecordBatch.from_pydict(b), at) for at, b in whole])
        names, columns = table.column_names, table.columns
        del whole, table, seen
        for place, column in enumerate(columns):  # one after another: the blocks of one are freed before the next
            columns[place] = column.combine_chunks()
            del column
        return pa.Table.from_arrays(columns, names=names)

    def streamed(self) -> Any:
        """A Parquet file, written while the table is read."""
        blocks = self._blocks(self._columns)
        ahead, size = [], 0
        for at, block in blocks:
            ahead.append((at, self._look(at, block)))
            size += block.nbytes
            if size >= AHEAD:
                break
        self._refuse_nothing()
        try:
            return write(self._while_reading(ahead, blocks))
        except _OtherwiseError:
            kinds = self.kinds()
            return write(self._again(kinds))

    def _while_reading(self, ahead: list[tuple[int, list[Seen]]], blocks: Iterator[tuple[int, Any]]) -> Iterator[Any]:
        """Batches with the types of the first blocks.

        Raises
        ------
        _OtherwiseError
            A later block says otherwise; then all blocks were looked at.
        """
        import pyarrow as pa

        kinds, first = self.kinds(), self._settled()

        def finished(at: int, seen: list[Seen]) -> Any:
            try:
                batch = self._batch(at, seen, kinds) if self._settled() == first else None
            except DataError:  # a fault of a cell is told after those of rows, which are found while reading
                batch = None
            if batch is None or any(values is None for values in batch.values()):
                raise _OtherwiseError
            return self._dress(pa.RecordBatch.from_pydict(batch), at)

        try:
            while ahead:
                yield finished(*ahead.pop(0))
            for at, block in blocks:
                yield finished(at, self._look(at, block))
        except _OtherwiseError:
            for at, block in blocks:
                self._look(at, block)
            raise

    def _again(self, kinds: dict[str, str]) -> Iterator[Any]:
        import pyarrow as pa

        for at, block in self._blocks(self._columns):
            yield self._dress(pa.RecordBatch.from_pydict(self._converted(at, block, kinds)), at)

    def _blocks(self, columns: list[str]) -> Iterator[tuple[int, Any]]:
        for at, table in enumerate(self._tables):
            for block in table.blocks(columns):
                yield at, block

    def _look(self, at: int, block: Any) -> list[Seen]:
        where, na, strip = self._tables[at].where, self._source.na, self._source.strip
        found = []
        for name, column in zip(self._columns, block.columns, strict=True):
            guess, kind = self.guesses[name], self._forced[name]
            if kind in ("", "str"):
                seen = look(column, na, kind or guess.kind, strip=strip)
                seen.guess.kind = kind or seen.guess.kind
            else:
                seen = self._declared(name, column, kind, where)
            guess.merge(seen.guess)
            found.append(seen)
        self._limits.check_rows(self.n_rows)
        return found

    def _declared(self, name: str, column: Any, kind: str, where: str) -> Seen:
        """Cells of a column whose type is declared stay text until all of them are known."""
        na, guess = self._source.na, self.guesses[name]
        if self._source.strip:
            column = infer.stripped_column(column)
        found = infer.guess(column, na, guess.kind)
        if kind == "category":
            found.kind = "str"
            gone = {"", *infer.NEVER_WORDS, *na}
            found.words = {word for word in column.unique().to_pylist() if word not in gone}
        if kind == "datetime":
            _merge_zone(guess, infer.zone(column, where, name), where, name)
        return Seen(found, column, plain=False)

    def _settled(self) -> list[Any]:
        """What the values of a block depend on, beside the block itself."""
        settled: list[Any] = []
        for name, guess in self.guesses.items():
            kind = self._forced[name]
            settled.append(infer.decide(guess, kind))
            if kind not in ("", "str"):
                gaps = bool(guess.blank or guess.markers)
                settled.append((guess.kind, gaps, guess.zoned, len(guess.words or ())))
        return settled

    def _batch(self, at: int, seen: list[Seen], kinds: dict[str, str]) -> dict[str, Any]:
        """Column → values of its type; None where they have to be read again."""
        where, na = self._tables[at].where, self._source.na
        batch = {}
        for name, one in zip(self._columns, seen, strict=True):
            if one.plain:
                batch[name] = _widened(one.values, kinds[name])
            else:
                batch[name] = infer.convert(one.values, self.guesses[name], kinds[name], na, where, name)
        return batch

    def _converted(self, at: int, block: Any, kinds: dict[str, str]) -> dict[str, Any]:
        """A block by types that are known for certain."""
        where, na = self._tables[at].where, self._source.na
        batch = {}
        for name, column in zip(block.schema.names, block.columns, strict=True):
            if column.type != "string":
                batch[name] = _widened(column, kinds[name])
                continue
            cells = infer.stripped_column(column) if self._source.strip else column
            batch[name] = infer.convert(cells, self.guesses[name], kinds[name], na, where, name)
        return batch

    def _refuse_nothing(self) -> None:
        if self.n_rows == 0:
            raise DataError(
                f"a header line with {self._width} columns and no rows below it",
                where=self._tables[0].where,
                hint="the table has no data",
            )


class _OtherwiseError(Exception):
    """A block does not have the types of the first ones."""


def _widened(values: Any, kind: str) -> Any:
    """Values of a block as those of its column's type, or None where only its text would tell."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = {"int": pa.int64(), "float": pa.float64(), "empty": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
    if values.type == wanted[kind]:
        return values
    if values.null_count == len(values):
        return pa.nulls(len(values), wanted[kind])
    return pc.cast(values, pa.float64(), safe=False) if kind == "float" else None


def forced(name: str, source: Source, tables: Sequence[TextTable]) -> str:
    """The type that a column must have: as declared, else as the files themselves say."""
    declared = "datetime" if name in source.dates else source.types.get(name, "")
    if declared:
        return declared
    if any(name in table.texts for table in tables):
        return "str"
    return "datetime" if any(name in table.times for table in tables) else ""


def _merge_zone(known: Guess, new: bool | None, where: str, name: str) -> None:
    if new is not None and known.zoned is not None and new != known.zoned:
        raise DataError(f"column {name!r}: some dates carry an offset and some do not", where=where, column=name)
    known.zoned = known.zoned if new is None else new
