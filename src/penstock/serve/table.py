"""A table as the model was trained on it: columns by name, values checked, dtypes as in training."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from penstock.core.answer import plain
from penstock.core.names import did_you_mean
from penstock.errors import DataError, bounded
from penstock.serve.contract import Column, Contract, show


class Checked(NamedTuple):
    """A frame with the training dtypes, and how many rows hold an unseen level, by column."""

    frame: Any
    unseen: dict[str, int]


def as_trained(frame: Any, contract: Contract, gaps: Collection[str] = ()) -> Checked:
    """The columns of a contract taken from a table by name, checked and cast.

    Parameters
    ----------
    frame : pandas.DataFrame of shape (n_rows, any)
    contract : Contract
    gaps : collection of str
        Columns that lack a value in some other row of the same table, of which these rows are a part.

    Raises
    ------
    DataError
        Every fault of every column, with counts and an example; `faults` lists them.
    """
    import pandas as pd

    if len(frame) == 0:
        raise DataError("the table has no rows", hint="check the file, its delimiter and its header")
    names = [str(name) for name in frame.columns]
    faults = _name_faults(names, contract)
    done: dict[str, Any] = {}
    unseen: dict[str, int] = {}
    for column in contract.columns:
        if names.count(column.name) != 1:
            continue
        values = frame.iloc[:, names.index(column.name)].reset_index(drop=True)
        found, cast = _cast(values, column)
        strange = 0 if found else _unseen(cast, column, found)
        if strange:
            unseen[column.name] = strange
        if found:
            faults.extend(f'column "{bounded(column.name, 100)}" {fault}' for fault in found)
        else:
            done[column.name] = _training_dtype(cast, column, has_gaps=column.name in gaps)
    if faults:
        text = faults[0] if len(faults) == 1 else f"{len(faults)} faults:\n  - " + "\n  - ".join(faults)
        raise DataError(
            text, hint="give the model columns as it was trained on them: their names, types and levels", faults=faults
        )
    return Checked(pd.DataFrame(done, columns=[c.name for c in contract.columns], copy=False), unseen)


def _name_faults(names: list[str], contract: Contract) -> list[str]:
    faults = []
    for column in contract.columns:
        count = names.count(column.name)
        if count == 0:
            faults.append(f'column "{column.name}" is missing{did_you_mean(column.name, names)}')
        elif count > 1:
            faults.append(f'column "{column.name}" is there {count} times')
    return faults


def _cast(values: Any, column: Column) -> tuple[list[str], Any]:
    """Faults, and the values as plain numbers, booleans, text or times with gaps."""
    gaps = values.isna()
    cast, wrong, want = _CASTS[column.kind](values, column)
    wrong = wrong & ~gaps
    faults = []
    if wrong.any():
        faults.append(f"must be {want}: {_count(wrong)}, such as {show(str(values[wrong].iloc[0]))}")
    if gaps.any() and column.missing != "allow":
        faults.append(f"has no value in {_count(gaps)}, and the model cannot answer without it")
    return faults, cast


def _unseen(cast: Any, column: Column, faults: list[str]) -> int:
    """Rows with an unseen level; a fault where the model refuses them."""
    if column.categories is None:
        return 0
    strange = ~cast.isin(list(column.categories)) & ~cast.isna()
    if not strange.any():
        return 0
    if column.unseen == "refuse":
        faults.append(
            f"has levels that training never saw: {_count(strange)}, such as {show(str(cast[strange].iloc[0]))}"
        )
    return int(strange.sum())


def _training_dtype(cast: Any, column: Column, *, has_gaps: bool) -> Any:
    if column.kind in ("number", "integer") and column.dtype.startswith(("float", "int", "uint")):
        gaps = has_gaps or bool(cast.isna().any())
        return cast.astype("float64" if gaps and not column.dtype.startswith("float") else column.dtype)
    if column.kind == "datetime":
        return cast.astype(column.dtype)
    plain = cast.astype(object)
    return column.values([None if gap else value for value, gap in zip(plain, cast.isna(), strict=True)])


def _numbers(values: Any, column: Column) -> tuple[Any, Any, str]:
    import numpy as np
    import pandas as pd

    if values.dtype == bool or str(values.dtype) == "boolean":
        return values, pd.Series(data=True, index=values.index), "a number"
    cast = pd.to_numeric(values, errors="coerce")
    plain = cast.astype("float64")
    low, high = column.bounds or (-np.inf, np.inf)
    wrong = ~np.isfinite(plain) | (plain < low) | (plain > high)
    return cast, wrong, "a finite number"


def _integers(values: Any, column: Column) -> tuple[Any, Any, str]:
    cast, wrong, _ = _numbers(values, column)
    if cast.dtype != bool and str(cast.dtype) != "boolean":
        wrong = wrong | (cast.astype("float64") % 1 != 0)
    return cast, wrong, f"a whole number that {column.dtype} can hold"


_WORDS = {True: True, False: False, "true": True, "false": False}


def _booleans(values: Any, _column: Column) -> tuple[Any, Any, str]:
    import pandas as pd

    def read(value: Any) -> Any:
        return _WORDS.get(value.lower() if isinstance(value, str) else value)

    if values.dtype == bool:
        return values, pd.Series(data=False, index=values.index), "true or false"
    known = values.astype(object)
    cast = known.where(known.isna(), known.map(read, na_action="ignore"))
    is_bool = cast.map(lambda value: isinstance(value, bool))
    return cast.where(is_bool, None), ~is_bool, "true or false"


def _texts(values: Any, column: Column) -> tuple[Any, Any, str]:
    import pandas as pd

    def read(value: Any) -> Any:
        value = plain(value)
        if type(value) in column.kinds and value in column.levels:
            return value  # a column of objects may hold booleans or numbers
        # A code such as 02134 with a gap beside it arrives as 2134.0; training saw text without the ".0".
        whole = isinstance(value, float) and value.is_integer()
        text = str(int(value)) if whole else str(value)
        return next((level for level in column.levels if str(level) == text), text) if mixed else text

    mixed = not column.kinds <= {str}
    cast = values.astype(object).map(read, na_action="ignore")
    return cast, pd.Series(data=False, index=values.index), "text"


def _datetimes(values: Any, column: Column) -> tuple[Any, Any, str]:
    import pandas as pd

    aware = "," in column.dtype
    if not pd.api.types.is_datetime64_any_dtype(values.dtype):
        values = pd.to_datetime(values, errors="coerce", format="ISO8601", utc=aware)
    wrong = values.isna()
    if (values.dt.tz is not None) != aware:
        wrong = pd.Series(data=True, index=values.index)
    return values, wrong, "a date as ISO 8601" + (" with an offset" if aware else "")


_CASTS: dict[str, Callable[[Any, Column], tuple[Any, Any, str]]] = {
    "number": _numbers,
    "integer": _integers,
    "boolean": _booleans,
    "text": _texts,
    "datetime": _datetimes,
}


def _count(mask: Any) -> str:
    count = int(mask.sum())
    return "1 row" if count == 1 else f"{count:,} rows"
