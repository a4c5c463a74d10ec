r"""Types of text columns, decided on every row: what a whole column is, which cells are missing.

The rules, in words:

* An empty cell is missing, in every column; so is every text declared by `na=`.
* A text such as NA, NULL, nan or - (`MARKERS`) is missing where all other cells of the column are numbers or
  booleans. In a text column only ?, #N/A, <NA> and \N (`NEVER_WORDS`) are missing; NA may be Namibia and None
  may be a category, so they stay text, and `sniffed` says so.
* int64: digits without leading zeros, none missing; with missing cells float64, as scikit-learn's users expect.
  Codes with leading zeros, a leading plus, or more than 64 bits stay text.
* float64: decimal point, exponent, inf. bool: true/false in any case; with missing cells 1.0, 0.0 and missing.
* Everything else is text. Dates are read only where declared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from penstock.errors import DataError, DeclarationError, bounded

NEVER_WORDS = ("?", "#N/A", "<NA>", "\\N")
MARKERS = (
    *NEVER_WORDS,
    *("NA", "N/A", "n/a", "na", "NULL", "Null", "null", "None", "none", "NaN", "nan", "NAN", "-", "--", "."),
)
TYPES = ("int", "float", "bool", "str", "category", "datetime")
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_EXACT = 2**53


@dataclass(slots=True)
class Guess:
    """What is known of one column; blocks are merged by `merge`.

    Attributes
    ----------
    kind : str
        "" (nothing but missing cells), "int", "float", "bool" or "str", markers left aside.
    cells : int
        Rows seen.
    blank : int
        Empty cells.
    markers : dict
        Marker or declared text → number of cells.
    big : bool
        Whether an integer lies beyond 2**53, where float64 is not exact.
    words : set of str or None
        Distinct cells, kept for a column that was declared as a category.
    zoned : bool or None
        For dates: whether they carry an offset.
    """

    kind: str = ""
    cells: int = 0
    blank: int = 0
    markers: dict[str, int] = field(default_factory=dict)
    big: bool = False
    words: set[str] | None = None
    zoned: bool | None = None

    def merge(self, other: Guess) -> None:
        """Take in another block of the same column."""
        if other.kind and self.kind != other.kind:
            numbers = {self.kind, other.kind} == {"int", "float"}
            self.kind = other.kind if not self.kind else "float" if numbers else "str"
        self.cells += other.cells
        self.blank += other.blank
        self.big = self.big or other.big
        for marker, count in other.markers.items():
            self.markers[marker] = self.markers.get(marker, 0) + count
        if self.words is not None and other.words is not None:
            self.words |= other.words

    def missing(self, declared: tuple[str, ...]) -> tuple[str, ...]:
        """Texts that mean missing in this column, beside the empty cell."""
        known = NEVER_WORDS if self.kind == "str" else MARKERS
        return tuple(m for m in self.markers if m in known or m in declared)


def stripped(block: Any) -> Any:
    """A block of text columns with the spaces around its cells dropped."""
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([stripped_column(c) for c in block.columns], names=block.schema.names)


def stripped_column(column: Any) -> Any:
    """A column of text with the spaces around its cells dropped."""
    import pyarrow.compute as pc

    return pc.utf8_trim_whitespace(column) if _may_be_padded(column) else column


def _ends(column: Any) -> tuple[Any, Any, Any]:
    """Length in bytes, first and last byte of each cell; what is said of an empty cell's bytes means nothing."""
    import numpy as np

    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    starts, last = ends[:-1], np.maximum(ends[1:], 1) - 1
    return np.diff(ends), raw[np.minimum(starts, len(raw) - 1)], raw[last]


def _may_be_padded(column: Any) -> bool:
    """Whether a cell begins or ends with anything but a plain visible character: those beyond ASCII are not told."""
    import numpy as np

    if column.type != "string":
        return True
    plain = np.zeros(256, dtype=bool)
    plain[0x21:0x7F] = True
    length, first, last = _ends(column)
    return not ((plain[first] & plain[last]) | (length == 0)).all()


def _may_be_marked(column: Any, texts: tuple[str, ...]) -> tuple[Any, Any]:
    """Which cells may be one of some texts, by length and first byte; and which are empty."""
    import numpy as np

    raw = [text.encode() for text in texts if text]
    begins = np.zeros(256, dtype=bool)
    begins[[text[0] for text in raw]] = True
    length, first, _ = _ends(column)
    return begins[first] & (length <= max(map(len, raw))) & (length > 0), length == 0


def guess(column: Any, declared: tuple[str, ...], known: str = "") -> Guess:
    """Look at one block of a column.

    Parameters
    ----------
    column : pyarrow.Array of string
        Cells, already stripped.
    declared : tuple of str
        `na=`.
    known : str
        Kind that earlier blocks gave: once text, a column stays text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = Guess(cells=len(column))
    texts = tuple(dict.fromkeys((*MARKERS, *declared)))
    maybe, blank = _may_be_marked(column, texts)
    found.blank = int(blank.sum())
    keep = ~blank
    if maybe.any():
        some = column.filter(pa.array(maybe))
        marked = pc.is_in(some, pa.array(texts, pa.string()))
        counted = pc.value_counts(some.filter(marked)).to_pylist()
        found.markers = {row["values"]: row["counts"] for row in sorted(counted, key=lambda r: str(r["values"]))}
        keep[maybe] = ~marked.to_numpy(zero_copy_only=False)
    if "" in declared and found.blank:
        found.markers = {"": found.blank, **found.markers}
    n = int(keep.sum())
    if known == "str":
        found.kind = "str" if n else ""
        return found
    if n < len(column):
        column = column.filter(pa.array(keep))
    if n:
        found.kind, found.big = _kind(column)
    return found


def _kind(column: Any) -> tuple[str, bool]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_code(column):
        return "str", False
    numbers = _try(column, pa.int64())
    if numbers is not None:
        low, high = pc.min_max(numbers).as_py().values()
        return "int", high > _EXACT or low < -_EXACT
    if _try(column, pa.float64()) is None:
        return ("bool" if pc.all(pc.is_in(column, pa.array(_TRUE + _FALSE))).as_py() else "str"), False
    whole = pc.match_substring_regex(column, r"^-?\d{19,}$")
    plus = pc.starts_with(column, "+")
    return ("str" if pc.any(pc.or_(whole, plus)).as_py() else "float"), False


def _try(column: Any, kind: Any) -> Any:
    """The column as another type, or None. A few cells first: a cast that fails costs an error for every cell."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        pc.cast(column[:32], kind)
        return pc.cast(column, kind)
    except pa.ArrowInvalid:
        return None


def _is_code(column: Any) -> bool:
    """Whether a cell has a leading zero (00123, -07, 0x1F): text, because a number would lose it."""
    import numpy as np
    import pyarrow.compute as pc

    _, first, _ = _ends(column)
    if not np.isin(first, np.frombuffer(b"0-", np.uint8)).any():
        return False
    zero = pc.or_(pc.starts_with(column, "0"), pc.starts_with(column, "-0"))
    if not pc.any(zero).as_py():
        return False
    some = column.filter(zero)
    return bool(pc.any(pc.match_substring_regex(some, r"^-?0[0-9xX]")).as_py())


def decide(found: Guess, forced: str) -> str:
    """The type that a column gets: one of `TYPES`, or "empty"."""
    if forced:
        return forced
    gaps = found.blank + sum(found.markers.values()) > 0
    if found.kind == "int" and gaps:
        return "str" if found.big else "float"
    if found.kind == "bool" and gaps:
        return "float"
    return found.kind or "empty"


def convert(column: Any, found: Guess, kind: str, na: tuple[str, ...], where: str, name: str) -> Any:
    """Turn a block of cells into its column's type.

    Raises
    ------
    DataError
        A cell that is not of a declared type, with its row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    gone = pa.array(["", *found.missing(na)], pa.string())
    if kind not in ("str", "category") and found.kind == "str":
        gone = pa.array(["", *dict.fromkeys((*MARKERS, *na))], pa.string())
    if found.blank or found.markers:
        column = pc.if_else(pc.is_in(column, gone), pa.scalar(None, pa.string()), column)
    if kind == "str":
        return column
    if kind == "empty":
        return pa.nulls(len(column), pa.float64())
    try:
        return _cast(column, found, kind)
    except (pa.ArrowInvalid, ValueError):
        raise _fault(column, kind, where, name) from None


def _cast(column: Any, found: Guess, kind: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if kind == "int":
        whole = pc.cast(column, pa.int64())
        return pc.cast(whole, pa.float64()) if whole.null_count or found.blank or found.markers else whole
    if kind == "float":
        return pc.cast(_true_false(column) if found.kind == "bool" else column, pa.float64())
    if kind == "bool":
        return _booleans(column, gaps=bool(found.blank or found.markers))
    if kind == "category":
        words = pa.array(sorted(found.words or ()), pa.string())
        return pa.DictionaryArray.from_arrays(pc.index_in(column, words), words)
    zone = "UTC" if found.zoned else None
    return pc.cast(column, pa.timestamp("us", tz=zone))


def _true_false(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    word = pc.utf8_lower(column)
    number = pc.if_else(pc.equal(word, "true"), "1", pc.if_else(pc.equal(word, "false"), "0", word))
    return pc.cast(number, pa.string())


def _booleans(column: Any, *, gaps: bool) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    number = pc.cast(_true_false(column), pa.float64())
    if not pc.all(pc.is_in(number, pa.array([0.0, 1.0, None]))).as_py():
        raise ValueError
    return number if gaps else pc.cast(number, pa.bool_())


def zone(column: Any, where: str, name: str) -> bool | None:
    """Whether the dates of a block carry an offset; None when it has none at all.

    Raises
    ------
    DataError
        A cell that is not an ISO 8601 date or time.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    present = pc.if_else(pc.is_in(column, pa.array(["", *MARKERS], pa.string())), pa.scalar(None, pa.string()), column)
    if present.null_count == len(present):
        return None
    for tz in (None, "UTC"):
        try:
            pc.cast(present, pa.timestamp("us", tz=tz))
            return tz is not None
        except pa.ArrowInvalid:
            continue
    raise _fault(present, "datetime", where, name)


_READS_AS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "datetime": "a date such as 2026-01-31 or 2026-01-31T10:00:00 (all with an offset, or none)",
}


def _fault(column: Any, kind: str, where: str, name: str) -> DataError:
    """Name the cells that are not of a type (they are looked for one by one: only on the way out)."""
    import pyarrow as pa

    bad, zones = [], set()
    for row, cell in enumerate(column, 1):
        text = cell.as_py()
        if text is None:
            continue
        ok = False
        for tz in (None, "UTC") if kind == "datetime" else (None,):
            try:
                _cast(pa.array([text], pa.string()), Guess(zoned=tz is not None), kind)
                ok = True
                zones.add(tz)
            except (pa.ArrowInvalid, ValueError):
                continue
        if not ok:
            bad.append(f"row {row}: {bounded(text, 60)!r}")
            if len(bad) > 5:
                break
    what = "; ".join(bad[:5]) or ("some cells carry an offset and some do not" if len(zones) > 1 else "mixed cells")
    return DataError(
        f"column {name!r} was declared {kind!r}, but a cell is not {_READS_AS.get(kind, kind)}: {what}",
        where=where,
        hint="correct the cells, add the text to na=, or declare another type",
        column=name,
    )


def check_types(types: dict[str, str], where: str) -> None:
    """Refuse an unknown type name.

    Raises
    ------
    DeclarationError
    """
    wrong = {name: kind for name, kind in types.items() if kind not in TYPES}
    faults = [f"types: {name!r}: {kind!r} is not one of {', '.join(TYPES)}" for name, kind in wrong.items()]
    if faults:
        raise DeclarationError(faults, where=where)
