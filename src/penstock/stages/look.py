"""One look at a block of cells: values where they are plainly written, else text for the rules of `infer`.

Most blocks of most columns are nothing but numbers written in one way, or nothing but texts without spaces around
them. Those are told by a few passes over lengths and bytes, and cast once. A block with anything else in it goes
through `infer.guess` as it is, so there is one set of rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penstock.stages import infer
from penstock.stages.infer import MARKERS, NEVER_WORDS, Guess

_EXACT = 1 << 53
_MOST_INT = 1 << 62
"""Whole numbers beyond it, either way, are left to the slower rules."""
_MOST_FLOAT = 1e18
"""A number of 19 digits or more that is no int64 is text: from here on the slower rules decide."""
_PROBE = 32


@dataclass(slots=True, eq=False)
class Seen:
    """A block of one column after one look.

    Attributes
    ----------
    guess : Guess
    values : pyarrow.Array
        int64, float64, bool or text with missing cells null when `plain`; else the text, stripped if asked for.
    plain : bool
    """

    guess: Guess
    values: Any
    plain: bool


def look(column: Any, na: tuple[str, ...], known: str, *, strip: bool) -> Seen:
    """Tell what a block of a column holds.

    Parameters
    ----------
    column : pyarrow.Array
        Text cells, none missing yet; or values of a source that says their types itself, missing cells null.
    na : tuple of str
        Texts that mean "missing".
    known : str
        Kind that earlier blocks gave: once text, a column stays text.
    strip : bool
        Whether spaces around cells are dropped.

    Examples
    --------
    >>> import pyarrow as pa
    >>> seen = look(pa.array(["1", "", "3"]), (), "", strip=True)
    >>> seen.guess.kind, seen.guess.blank, seen.values.to_pylist()
    ('int', 1, [1, None, 3])
    >>> look(pa.array(["1", "007"]), (), "", strip=True).plain
    False
    """
    import pyarrow as pa

    if column.type != pa.string():
        return _typed(column, na)
    cells = _Cells(column)
    if known == "str":
        seen = _texts(cells, na, strip=strip)
    elif any(c.isdigit() for text in na for c in text):
        seen = None  # a declared text may be a number
    else:
        seen = _numbers(cells, {}, na)
        if seen is None and known in ("int", "float"):
            gone, markers = cells.marked((*MARKERS, *na))
            seen = _numbers(cells.without(gone), markers, na) if gone is not None else None
    if seen is None:
        if strip:
            column = infer.stripped_column(column)
        seen = Seen(infer.guess(column, na, known), column, plain=False)
    return seen


class _Cells:
    """A block of text cells with its lengths in bytes; empty cells are missing.

    Parameters
    ----------
    column : pyarrow.Array of string
        Without nulls, but for those of `without`.
    """

    def __init__(self, column: Any) -> None:
        import numpy as np

        _, offsets, data = column.buffers()
        self.column, n = column, len(column)
        if offsets is None or not n:
            ends = np.zeros(n + 1, dtype=np.int32)
        else:
            ends = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + n + 1]
        self.raw = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
        self.starts, self.length = ends[:-1], np.diff(ends)
        self.n_bytes = int(ends[-1]) - int(ends[0])
        self.blank = n - int(np.count_nonzero(self.length))
        self.present: Any = self.length > 0 if self.blank else None

    def byte(self, at: Any) -> Any:
        """One byte of each cell; what is said of a place behind the last cell means nothing."""
        return self.raw.take(at, mode="clip")

    def without(self, gone: Any) -> _Cells:
        """The same cells, some more of them missing."""
        import copy

        fewer = copy.copy(self)
        fewer.present = ~gone if self.present is None else self.present & ~gone
        fewer.n_bytes = int(self.length[fewer.present].sum())
        return fewer

    def nulled(self) -> Any:
        """The column with its missing cells null; no byte of text is copied."""
        import numpy as np
        import pyarrow as pa

        if self.present is None:
            return self.column
        offset, n = self.column.offset, len(self.column)
        bits = np.packbits(np.concatenate([np.zeros(offset, bool), self.present]), bitorder="little")
        _, offsets, data = self.column.buffers()
        return pa.Array.from_buffers(pa.string(), n, [pa.py_buffer(bits), offsets, data], offset=offset)

    def marked(self, texts: tuple[str, ...]) -> tuple[Any, dict[str, int]]:
        """Which cells are one of some texts (None where none is), and how many are each."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        raw = [text.encode() for text in texts if text]
        begins = np.zeros(256, dtype=bool)
        begins[[text[0] for text in raw]] = True
        maybe = begins[self.byte(self.starts)]
        maybe &= self.length <= max(map(len, raw))
        maybe &= self.length > 0
        if not maybe.any():
            return None, {}
        some = self.column.filter(pa.array(maybe))
        among = pc.is_in(some, pa.array(list(dict.fromkeys(texts)), pa.string()))
        counted = pc.value_counts(some.filter(among)).to_pylist()
        if not counted:
            return None, {}
        maybe[maybe] = among.to_numpy(zero_copy_only=False)
        return maybe, {row["values"]: row["counts"] for row in sorted(counted, key=lambda r: str(r["values"]))}


def _typed(column: Any, na: tuple[str, ...]) -> Seen:
    """Values of a source that says their types itself."""
    import pyarrow as pa

    kinds = {pa.int64(): "int", pa.float64(): "float", pa.bool_(): "bool"}
    present = len(column) - column.null_count
    found = Guess(kinds.get(column.type, "") if present else "", len(column), column.null_count)
    found.markers = {"": found.blank} if "" in na and found.blank else {}
    if found.kind == "int":
        found.big = _is_big(column)
    return Seen(found, column, plain=True)


def _is_big(numbers: Any) -> bool:
    import pyarrow.compute as pc

    low, high = pc.min_max(numbers).as_py().values()
    return bool(high > _EXACT or low < -_EXACT)


def _texts(cells: _Cells, na: tuple[str, ...], *, strip: bool) -> Seen | None:
    """A block of a text column, unless a cell may have spaces around it that have to go."""
    if strip and not _bare(cells):
        return None
    gone, markers = cells.marked((*MARKERS, *na))
    found = Guess("", len(cells.column), cells.blank, markers)
    n_gone = cells.blank + sum(markers.values())
    found.kind = "str" if n_gone < found.cells else ""
    if "" in na and cells.blank:
        found.markers = {"": cells.blank, **markers}
    if any(m in NEVER_WORDS or m in na for m in markers):
        gone, _ = cells.marked((*NEVER_WORDS, *na))
        cells = cells.without(gone)
    return Seen(found, cells.nulled(), plain=True)


def _bare(cells: _Cells) -> bool:
    """Whether every cell begins and ends with a visible character of ASCII."""
    import numpy as np

    visible = np.zeros(256, dtype=bool)
    visible[0x21:0x7F] = True
    bare = visible[cells.byte(cells.starts)]
    bare &= visible[cells.byte(cells.starts + (cells.length - 1))]
    if cells.blank:
        bare |= cells.length == 0
    return bool(bare.all())


def _numbers(cells: _Cells, markers: dict[str, int], na: tuple[str, ...]) -> Seen | None:
    """A block of nothing but plainly written numbers and missing cells, or None."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = cells.nulled()
    if text.null_count == len(text):
        return None
    found = Guess("", len(text), cells.blank, markers)
    if "" in na and cells.blank:
        found.markers = {"": cells.blank, **markers}
    for kind, is_plain in ((pa.int64(), _plain_ints), (pa.float64(), _plain_floats)):
        try:  # a few cells first: a cast that fails costs an error for every cell
            pc.cast(text[:_PROBE], kind)
            values = pc.cast(text, kind)
        except pa.ArrowInvalid:
            continue
        if not is_plain(values, cells):
            return None
        found.kind = "int" if kind == pa.int64() else "float"
        found.big = found.kind == "int" and _is_big(values)
        return Seen(found, values, plain=True)
    return None


def _plain_ints(values: Any, cells: _Cells) -> bool:
    """Whether the text is what these numbers are written as: leading zeros, signs and the like all make it longer."""
    import numpy as np

    whole = values.drop_null() if values.null_count else values
    numbers = whole.to_numpy()
    low, high = int(numbers.min()), int(numbers.max())
    if max(-low, high) > _MOST_INT:
        return False
    written = len(numbers)
    if low < 0:
        written += int(np.count_nonzero(numbers < 0))
        numbers = np.abs(numbers)
    for power in range(1, len(str(max(-low, high)))):
        written += int(np.count_nonzero(numbers >= 10**power))
    return written == cells.n_bytes


def _plain_floats(values: Any, cells: _Cells) -> bool:
    """Whether each number begins as one: no NaN, no plus, no leading zero but that of 0.5, not 19 digits or more."""
    import numpy as np
    import pyarrow.compute as pc

    low, high = pc.min_max(values).as_py().values()
    if not (low > -_MOST_FLOAT and high < _MOST_FLOAT) or pc.any(pc.is_nan(values)).as_py():
        return False
    minus = cells.byte(cells.starts) == ord("-")
    starts = cells.starts + minus
    lead = cells.byte(starts)
    good = np.zeros(256, dtype=bool)
    good[[ord(c) for c in "0123456789."]] = True
    plain = good[lead]
    zero = lead == ord("0")
    after = np.zeros(256, dtype=bool)
    after[[ord(c) for c in ".eE"]] = True
    plain &= ~zero | after[cells.byte(starts + 1)] | (cells.length - minus <= 1)
    if cells.present is not None:
        plain |= ~cells.present
    return bool(plain.all())
