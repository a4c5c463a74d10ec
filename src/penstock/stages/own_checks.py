"""Checks of the user's own on a table: run on all rows, each failure with its count and sample rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from penstock.core.data_check import Check
from penstock.errors import StepOutputError, bounded
from penstock.stages.conform import SAMPLES, Failures, shown
from penstock.stages.own import line_of

if TYPE_CHECKING:
    import pandas as pd

MAX_TEXTS = 50
"""Failures of one check that are told; how many more there are is told too."""


def run_checks(checks: Iterable[Check], table: pd.DataFrame, failures: Failures) -> list[dict[str, Any]]:
    """Run every check on a copy of the table.

    Parameters
    ----------
    checks : iterable of Check
    table : DataFrame of shape (n_rows, n_columns)
    failures : Failures
        Gets what failed at severity "error". Where something failed before, a check that raises is told as one that
        could not be run: a column that is absent is no fault of its own.

    Returns
    -------
    list of dict
        What failed at severity "warning", in the form of failures.

    Raises
    ------
    StepOutputError
        If a function returns something else than is asked of it.
    Exception
        Whatever one raises, with a note that names it and the line.
    """
    warnings = Failures(failures.key)
    for check in checks:
        into = failures if check.severity == "error" else warnings
        try:
            _run(check, table, into)
        except Exception as error:
            if failures.found:
                what = f"{type(error).__name__}: {error}"
                into.add("check", check.name, f"{check.name} could not be run after the failures above: {what}")
                continue
            error.add_note(f"the check {check.name!r}{line_of(error)}")
            raise
    return warnings.found


def _run(check: Check, table: pd.DataFrame, into: Failures) -> None:
    if check.is_schema:
        _schema(check, table, into)
        return
    answer = check.held(table.copy())
    if isinstance(answer, str):
        answer = [answer] if answer else []
    if isinstance(answer, bool) or type(answer).__name__ in ("bool_", "bool"):
        if not answer:
            into.add("check", check.name, f"{check.name} does not hold", count=len(table))
    elif hasattr(answer, "dtype"):
        _rows(check, answer, table, into)
    elif answer is None:
        raise StepOutputError(
            f"the check {check.name!r} returned nothing (None)", hint="return True where all is well, or an empty text"
        )
    else:
        _texts(check, answer, into)


def _texts(check: Check, answer: Any, into: Failures) -> None:
    texts = list(answer) if isinstance(answer, Iterable) else [answer]
    if not all(isinstance(text, str) for text in texts):
        kind = type(answer).__name__
        raise StepOutputError(
            f"the check {check.name!r} returned a {kind}", hint="a bool, a Series of bool, a text or several is meant"
        )
    texts = [text for text in texts if text]
    for text in texts[:MAX_TEXTS]:
        into.add("check", check.name, f"{check.name}: {text}")
    if len(texts) > MAX_TEXTS:
        into.add("check", check.name, f"{check.name}: {len(texts) - MAX_TEXTS:,} more", count=len(texts) - MAX_TEXTS)


def _rows(check: Check, answer: Any, table: pd.DataFrame, into: Failures) -> None:
    """A mask of good rows; a missing answer is a bad row."""
    import numpy as np
    import pandas as pd

    good = pd.Series(np.asarray(answer) if isinstance(answer, np.ndarray) else answer)
    kinds = {type(value) for value in good.dropna().head(1_000)} if good.dtype == object else set()
    if len(good) != len(table) or not (good.dtype.name in ("bool", "boolean") or kinds <= {bool, np.bool_}):
        raise StepOutputError(
            f"the check {check.name!r} returned {len(good):,} values of type {good.dtype} for {len(table):,} rows",
            hint="return a bool for each row, False where it is bad",
        )
    bad = ~good.astype("boolean").fillna(False).to_numpy(dtype=bool)
    if bad.any():
        _add_rows(
            check.name, f"{check.name} does not hold in {int(bad.sum()):,} rows", np.flatnonzero(bad), table, into
        )


def _add_rows(name: str, text: str, places: Any, table: pd.DataFrame, into: Failures, values: Any = None) -> None:
    """One failure of some rows: the first few are shown with their key, else with their first cells."""
    columns = [column for column in into.key or table.columns[:3] if column in table.columns]
    samples = []
    for position, at in enumerate(places[:SAMPLES]):
        cells = ", ".join(f"{column} {shown(table[column].iloc[int(at)])}" for column in columns)
        told = cells if values is None else shown(values[position])
        samples.append({"row": int(at) + 1, "value": told, **({"key": cells} if into.key else {})})
    said = "; ".join(f"row {one['row']}: {one['value']}" for one in samples)
    into.add("check", name, f"{text} ({said})", count=len(places), samples=samples)


# ── pandera ──────────────────────────────────────────────────────────────────────────────────────────────────


def _schema(check: Check, table: pd.DataFrame, into: Failures) -> None:
    """Every failure case of a pandera schema, told check by check; what it would coerce is not kept."""
    frame = _frame_for(check.held, table)
    try:
        check.held.validate(frame, lazy=True)
    except Exception as error:
        cases = getattr(error, "failure_cases", None)
        if cases is None:
            raise
        cases = cases.to_pandas() if hasattr(cases, "to_pandas") else cases
    else:
        return
    for (column, what), found in cases.fillna({"column": ""}).groupby(["column", "check"], sort=False):
        text = f"{check.name}: {column or 'the table'} fails {bounded(str(what), 200)}"
        placed = found[found["index"].notna()]
        positions = table.index.get_indexer(placed["index"]) if hasattr(frame, "iloc") else placed["index"].astype(int)
        if len(placed):
            values = table[column].iloc[positions].tolist() if column in table.columns else None
            _add_rows(check.name, f"{text} in {len(placed):,} rows", list(positions), table, into, values)
        else:
            seen = ", ".join(shown(case) for case in found["failure_case"].head(SAMPLES))
            into.add("check", check.name, f"{text}: {seen}")


def _frame_for(schema: Any, table: pd.DataFrame) -> Any:
    """The table as the schema's own kind of frame, whole and eager: a lazy one is not checked in all rows."""
    kind = schema if isinstance(schema, type) else type(schema)
    if any("pandera.api.polars" in base.__module__ for base in kind.__mro__):
        import polars as pl

        return pl.from_pandas(table)
    return table.copy()
