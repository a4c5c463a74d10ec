"""What may come in: limits and strict JSON first, then the types of the bundle's input contract.

`strict_json` refuses what JSON leaves open (duplicate keys, NaN, overflowing numbers, broken UTF-8). `Door` holds
the records against one model's contract: msgspec converts what is right in one go, and only after it says no does
a slow second pass over plain values find every fault. What the fast pass accepts the slow one accepts too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from penstock.errors import DataError
from penstock.serve.contract import MAX_TEXT, Column, Contract, Fault, kind_of, show

MAX_BODY = 1 << 20
"""Bytes of a request's body."""

MAX_RECORDS = 1_000
"""Records in one request."""

MAX_DEPTH = 16
"""Levels of lists and objects; a right request has three."""


def refusal(status: int, what: str, faults: Sequence[Fault] = ()) -> DataError:
    """A request that is refused, as an error with its HTTP status.

    Returns
    -------
    DataError
        `facts` has "status" and "faults" (a list of `Fault`).
    """
    return DataError(what, status=status, faults=list(faults))


def strict_json(body: bytes | bytearray) -> Any:
    """Read JSON and refuse whatever two readers could understand in two ways.

    Parameters
    ----------
    body : bytes
        UTF-8 without a byte order mark.

    Raises
    ------
    DataError
        With status 400: not UTF-8, not JSON, NaN or Infinity, a number that overflows, a name that stands
        twice in one object, nested too deeply.

    Examples
    --------
    >>> strict_json(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refusal(400, f"the body is not UTF-8: byte {error.start} begins no character") from error
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise refusal(400, f"the body is not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise refusal(400, f"the body is nested more than {MAX_DEPTH} levels deep") from error
    except ValueError as error:  # more digits than Python turns into an integer
        raise refusal(400, "the body holds a number with too many digits") from error
    if not _shallow(value, MAX_DEPTH):
        raise refusal(400, f"the body is nested more than {MAX_DEPTH} levels deep")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise refusal(400, f"the name {show(twice)} stands twice in one object")
    return made


def _constant(word: str) -> Any:
    raise refusal(400, f"{word} is not JSON; send null for a value that is not known")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise refusal(400, f"the number {text[:40]} is too large")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float)


def _shallow(value: Any, depth: int) -> bool:
    if not isinstance(value, (dict, list)):
        return True
    if depth == 0:
        return False
    inner = value.values() if isinstance(value, dict) else value
    return all(_shallow(item, depth - 1) for item in inner if isinstance(item, (dict, list)))


class Door:
    """One model's door: from the bytes of a body to checked records.

    Parameters
    ----------
    contract : Contract
    max_records : int, default=1000
    """

    def __init__(self, contract: Contract, *, max_records: int = MAX_RECORDS) -> None:
        self.contract = contract
        self.max_records = max_records
        self._type = _record_type(contract.columns)
        self._late = tuple(column for column in contract.columns if _needs_late_check(column))

    def records(self, body: bytes | bytearray) -> list[dict[str, Any]]:
        """Checked records of a body.

        Raises
        ------
        DataError
            Status 400 (not strict JSON), 413 (too many records) or 422 (`faults` lists up to 20).
        """
        request = strict_json(body)
        records = self._shape(request)
        # Escapes are where NUL and half surrogate pairs come from; the fast pass does not look for them.
        escaped = b"\\u0000" in body or b"\\ud" in body or b"\\uD" in body
        if (escaped or not self._fast(records)) and (faults := self.contract.faults(records)):
            raise refusal(422, _sentence(faults), faults)
        return records

    def _shape(self, request: Any) -> list[Any]:
        if not isinstance(request, dict) or list(request) != ["records"]:
            raise refusal(422, 'the body must be {"records": [...]} and nothing else')
        records = request["records"]
        if not isinstance(records, list):
            raise refusal(422, f'"records" must be a list of objects, got {kind_of(records)}')
        if not records:
            raise refusal(422, '"records" is empty')
        if len(records) > self.max_records:
            raise refusal(413, f"{len(records):,} records; at most {self.max_records:,} are answered at once")
        return records

    def _fast(self, records: list[Any]) -> bool:
        """Whether every record is plainly right; False only means that the slow pass must look."""
        import msgspec

        if self._type is None:
            return False
        try:
            msgspec.convert(records, self._type)
        except (msgspec.ValidationError, OverflowError):
            return False
        wide = len(self.contract.columns)
        if any(len(record) > wide for record in records):
            return False
        return all(column.fault(record[column.name]) is None for column in self._late for record in records)


def _sentence(faults: Sequence[Fault]) -> str:
    first = faults[0]
    place = f'record {first.row}, field "{first.field[:100]}"' if first.field else f"record {first.row}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{place} {first.fault}{more}"


def _record_type(columns: Sequence[Column]) -> Any:
    """The msgspec type of a list of records, or None where a column's name cannot be a field's.

    msgspec refuses quotes, backslashes and control characters in names.
    """
    import msgspec

    fields = [(f"f{index}", _field_type(column)) for index, column in enumerate(columns)]
    names = {f"f{index}": column.name for index, column in enumerate(columns)}
    try:
        record = msgspec.defstruct("Record", fields, rename=names)
        return list[record]  # type: ignore[valid-type]
    except ValueError:
        return None


def _field_type(column: Column) -> Any:
    kind: Any
    if _is_closed(column):
        kind = Literal[column.categories or ()]
    else:
        kind = _kind_type(column)
    return kind | None if column.missing == "allow" else kind


def _kind_type(column: Column) -> Any:
    import msgspec

    if column.kind == "integer":
        low, high = column.bounds or (-(2**63), 2**63 - 1)
        # msgspec compares with 64-bit bounds; the slow pass looks at what lies above them.
        return Annotated[int, msgspec.Meta(ge=int(low), le=min(int(high), 2**63 - 1))]
    if column.kind == "text" and not column.kinds <= {str}:
        return str | bool | int | float
    if column.kind == "text":
        return Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
    return {"number": float, "boolean": bool, "datetime": str}[column.kind]


def _is_closed(column: Column) -> bool:
    """Whether the column takes one of few known words or whole numbers, which msgspec can check."""
    if column.unseen != "refuse" or not column.categories:
        return False
    kinds = {type(level) for level in column.categories}
    return (column.kind == "text" and kinds == {str}) or (column.kind == "integer" and kinds == {int})


def _needs_late_check(column: Column) -> bool:
    """Whether msgspec's type leaves something open that `Column.fault` decides."""
    if column.kind == "datetime" or (column.kind == "number" and column.bounds is not None):
        return True
    if column.kind == "text" and not column.kinds <= {str}:
        return True
    return column.unseen == "refuse" and column.categories is not None and not _is_closed(column)


def pick(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The fields of a record that are there, in the order of the names."""
    return {name: record[name] for name in names if name in record}
