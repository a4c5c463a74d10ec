"""The single checks of a table: each adds what it finds to one list of failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.answer import plain
from penstock.core.names import did_you_mean
from penstock.core.target import Roles, Target
from penstock.errors import DataError, bounded
from penstock.stages import keys
from penstock.stages.facts import Facts
from penstock.stages.order import all_different
from penstock.stages.schema import roles_of, type_of

if TYPE_CHECKING:
    import pandas as pd

SAMPLES = 5
NAMES = 20


class Failures:
    """Failures found so far.

    Parameters
    ----------
    key : tuple of str
        Key columns, shown with each sample row.
    """

    def __init__(self, key: tuple[str, ...] = ()) -> None:
        self.key = key
        self.found: list[dict[str, Any]] = []

    def add(self, kind: str, column: str, text: str, *, count: int = 1, hint: str = "", samples: Any = ()) -> None:
        """One failure: what, where, how often, sample rows, and what to do."""
        self.found.append(
            {
                "kind": kind,
                "column": bounded(column, 200),
                "count": count,
                "text": bounded(text, 800),
                "hint": bounded(hint, 400),
                "samples": list(samples),
            }
        )

    def rows(self, kind: str, column: str, table: pd.DataFrame, bad: Any, text: str, *, hint: str = "") -> None:
        """One failure of some rows; `bad` is a boolean mask."""
        import numpy as np

        places = np.flatnonzero(np.asarray(bad))
        part = table[list(dict.fromkeys([column, *self.key]))].iloc[places[:SAMPLES]]
        samples = [self._sample(part, number, int(at), column) for number, at in enumerate(places[:SAMPLES])]
        shown = ", ".join(f"row {s['row']}: {s['value']}" for s in samples)
        self.add(kind, column, f"{text} ({shown})", count=len(places), hint=hint, samples=samples)

    def _sample(self, part: pd.DataFrame, number: int, at: int, column: str) -> dict[str, Any]:
        sample: dict[str, Any] = {"row": at + 1, "value": shown(part[column].iloc[number])}
        if self.key and column not in self.key:
            sample["key"] = [shown(part[name].iloc[number]) for name in self.key]
        return sample


def shown(value: Any) -> str:
    """A cell as short text."""
    value = plain(value)
    return bounded(repr(value) if isinstance(value, str) else str(value), 60)


def _rows(bad: Any) -> str:
    """How many rows a boolean mask marks, in words."""
    n = int(bad.sum())
    return f"{n:,} row{'' if n == 1 else 's'}"


def check_target(table: pd.DataFrame, target: Target, failures: Failures) -> None:
    """At least two rows and two different, finite values."""
    import numpy as np

    name = target.column
    labels = table[name].dropna()
    if len(labels) < 2:
        text = f"{len(labels)} row with a target" if len(labels) else "no row with a target"
        failures.add(
            "rows",
            name,
            f"the table has {text}: a model cannot be trained and judged on that",
            hint="gather more rows, or look at what the steps before it leave out",
        )
        return
    if labels.nunique() < 2:
        failures.add(
            "constant target",
            name,
            f"the target {name!r} is {shown(labels.iloc[0])} in all {len(labels):,} rows: there is nothing to learn",
            count=len(labels),
            hint=f"check how {name!r} is made, or name another target=",
        )
    if labels.dtype.kind == "f" and np.isinf(labels.to_numpy()).any():
        bad = np.isinf(table[name].to_numpy())
        failures.rows("infinite", name, table, bad, f"the target {name!r} is infinite in {_rows(bad)}")


def check_features(
    table: pd.DataFrame, features: list[str], failures: Failures, facts: dict[str, Facts] | None = None
) -> None:
    """Features exist, have a value somewhere, and no infinities."""
    import numpy as np

    if not features:
        failures.add("no features", "", "no column is left for the model: all have a role or are dropped")
    facts = facts or {}
    empty = [name for name in features if len(table) and _all_missing(table, name, facts.get(name))]
    if empty:
        more = f" and {len(empty) - NAMES} more" if len(empty) > NAMES else ""
        names = ", ".join(repr(name) for name in empty[:NAMES])
        failures.add(
            "all null",
            empty[0],
            f"{len(empty)} columns have no value in any row: {names}{more}"
            if len(empty) > 1
            else f"the column {names} has no value in any row",
            count=len(empty),
            hint=f"leave {'it' if len(empty) == 1 else 'them'} out by drop=[{names}]",
        )
    for name in features:
        if (name in facts and not facts[name].infinite) or table[name].dtype.kind != "f":
            continue
        bad = np.isinf(table[name].to_numpy(dtype="float64", na_value=np.nan))
        if bad.any():
            failures.rows(
                "infinite",
                name,
                table,
                bad,
                f"{name!r} is infinite in {_rows(bad)}",
                hint="make them missing or correct them in a step; estimators refuse infinities",
            )


def _all_missing(table: pd.DataFrame, name: str, seen: Facts | None) -> bool:
    return bool(table[name].isna().all()) if seen is None else seen.nulls == seen.rows


def check_key(table: pd.DataFrame, roles: Roles, failures: Failures) -> None:
    """Every row has a key of its own."""
    names = [name for name in roles.key if name in table.columns]
    if not names or len(names) < len(roles.key):
        return
    said = ", ".join(repr(name) for name in names)
    held = table[names]
    missing = held.isna().any(axis=1)
    if missing.any():
        failures.rows("null key", names[0], table, missing, f"the key {said} is missing in {missing.sum():,} rows")
    elif all_different(held):
        return
    again = held.duplicated(keep=False) & ~missing
    if again.any():
        distinct = held.loc[again].drop_duplicates()
        failures.rows(
            "duplicate key",
            names[0],
            table,
            held.duplicated() & ~missing,
            f"the key {said} does not name one row: {len(distinct):,} keys stand on {again.sum():,} rows",
            hint="add a column to key=, declare groups= instead, or keep one row of each in a step",
        )


def check_time(table: pd.DataFrame, roles: Roles, failures: Failures) -> None:
    """The time of the event can be read and is never missing."""
    import numpy as np

    if not roles.time or roles.time not in table.columns:
        return
    try:
        found = keys.times(table[roles.time])
    except DataError as error:
        failures.add("type", roles.time, error.what, hint=error.hint)
        return
    missing = np.isnan(found) if found.dtype.kind == "f" else np.isnat(found)
    if missing.any():
        failures.rows(
            "null time", roles.time, table, missing, f"the time {roles.time!r} is missing in {missing.sum():,} rows"
        )


def check_weight(table: pd.DataFrame, roles: Roles, failures: Failures) -> None:
    """Weights are numbers from 0, finite, not all 0."""
    import numpy as np

    name = roles.weight
    if not name or name not in table.columns:
        return
    if type_of(table[name]) not in ("integer", "number"):
        failures.add("type", name, f"the weight {name!r} is {type_of(table[name])}: it must be a number")
        return
    values = table[name].to_numpy(dtype="float64", na_value=np.nan)
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        failures.rows(
            "weight", name, table, bad, f"the weight {name!r} is missing, infinite or negative in {bad.sum():,} rows"
        )
    elif len(values) and not values.any():
        failures.add("weight", name, f"the weight {name!r} is 0 in all rows")


# ── against a schema ─────────────────────────────────────────────────────────────────────────────────────────


def check_schema(
    table: pd.DataFrame,
    schema: dict[str, Any],
    target: Target,
    roles: Roles,
    failures: Failures,
    facts: dict[str, Facts] | None = None,
) -> list[str]:
    """Hold a table against an accepted schema.

    Parameters
    ----------
    facts : dict, optional
        Of its columns, as they are known: a column that they acquit is not looked at.

    Returns
    -------
    list of str
        What differs but is no failure: columns that the model does not see.
    """
    notes: list[str] = []
    present = [str(name) for name in table.columns]
    expected = {column["name"]: column for column in schema["columns"]}
    told = {item["column"] for item in failures.found if item["kind"] == "missing column"}
    if schema["target"] != target.column:
        failures.add(
            "target", target.column, f"the schema's target is {schema['target']!r}, declared is {target.column!r}"
        )
    for name, column in expected.items():
        if name in present and column["role"] == "hidden" and not column.get("feature"):
            continue
        if name in present:
            if facts is None or name not in facts or not _acquitted(facts[name], name, column, failures):
                check_column(table, name, column, schema, failures)
        elif column["role"] == "hidden":
            notes.append(f"{name} is gone (the model does not see it)")
        elif name not in told:
            extra = [other for other in present if other not in expected]
            failures.add(
                "missing column", name, f"the column {name!r} of the schema is gone{did_you_mean(name, extra)}"
            )
    now = roles_of(present, target, roles)
    for name in present:
        if name in expected:
            continue
        if now[name] == "hidden":
            notes.append(f"{name} is new (the model does not see it)")
        else:
            failures.add(
                "extra column",
                name,
                f"the column {name!r} is not in the schema, and the model would see it",
                hint=f"leave it out by drop=[{name!r}], or accept a new schema: penstock schema accept",
            )
    return notes


def _acquitted(seen: Facts, name: str, column: dict[str, Any], failures: Failures) -> bool:
    """Whether the facts of a column show that `check_column` would find nothing."""
    if seen.nulls and not column["null"] and column["role"] not in ("target", "key", "time"):
        return False
    if column.get("unique") and name not in failures.key:
        return False
    if seen.nulls == seen.rows:
        return True
    if seen.kind != column["type"] and (seen.kind, column["type"]) != ("integer", "number"):
        return False
    if "min" in column or "max" in column:
        if seen.infinite or seen.low is None or seen.high is None:
            return False
        if seen.low < column.get("min", seen.low) or seen.high > column.get("max", seen.high):
            return False
    return "categories" not in column or (seen.words is not None and seen.words <= set(column["categories"]))


def check_column(
    table: pd.DataFrame, name: str, column: dict[str, Any], schema: dict[str, Any], failures: Failures
) -> None:
    """Hold one column against its line in the schema: type, nulls, then range, categories or labels."""
    series = table[name]
    missing = series.isna()
    if missing.any() and not column["null"] and column["role"] not in ("target", "key", "time"):
        failures.rows(
            "nulls", name, table, missing, f"{name!r} is missing in {missing.sum():,} rows; the schema allows none"
        )
    if column.get("unique") and name not in failures.key:
        again = series.duplicated() & ~missing
        if again.any():
            failures.rows(
                "unique", name, table, again, f"{name!r} repeats an earlier row's value in {again.sum():,} rows"
            )
    if missing.all() or not _fits(table, name, column["type"], failures):
        return
    if column["role"] == "target" and schema["task"] != "regression":
        _check_labels(table, schema, name, failures)
    if "min" in column or "max" in column:
        _check_range(table, name, column, failures)
    if "categories" in column:
        _check_categories(table, name, column["categories"], failures)


def _fits(table: pd.DataFrame, name: str, kind: str, failures: Failures) -> bool:
    """Whether the values are of a type; whole floats are integers, 0 and 1 are booleans that had gaps."""
    series = table[name]
    now = type_of(series)
    if now == kind or (kind, now) == ("number", "integer"):
        return True
    if (kind, now) in (("integer", "number"), ("boolean", "number"), ("boolean", "integer")):
        values = series.dropna()
        fits = values % 1 == 0 if kind == "integer" else values.isin((0, 1))
        if fits.all():
            return True
        bad = series.notna() & ~series.index.isin(values.index[fits])
    elif now == "text" and kind in ("integer", "number"):
        import pandas as pd

        bad = series.notna() & pd.to_numeric(series, errors="coerce").isna()
    else:
        bad = series.notna()
    failures.rows(
        "type",
        name,
        table,
        bad,
        f"{name!r} was {kind} and is now {now}: {_misfits(int(bad.sum()))}",
        hint="correct the cells, or declare types=/na= in ps.read",
    )
    return False


def _check_range(table: pd.DataFrame, name: str, column: dict[str, Any], failures: Failures) -> None:
    import numpy as np

    values = table[name].to_numpy(dtype="float64", na_value=np.nan)
    low, high = column.get("min", -np.inf), column.get("max", np.inf)
    bad = (values < low) | (values > high)
    if bad.any():
        failures.rows(
            "range",
            name,
            table,
            bad,
            f"{name!r} lies outside {low} … {high} in {bad.sum():,} rows",
            hint="correct the data, or widen the range in the schema file",
        )


def _check_categories(table: pd.DataFrame, name: str, known: list[str], failures: Failures) -> None:
    series = table[name]
    bad = series.notna() & ~series.astype(str).isin(known)
    if bad.any():
        new = series[bad].astype(str).value_counts()
        listed = ", ".join(f"{shown(word)} ({n:,})" for word, n in list(new.items())[:SAMPLES])
        failures.rows(
            "categories",
            name,
            table,
            bad,
            f"{name!r} has {len(new):,} values that the schema does not list, in {bad.sum():,} rows: {listed}",
            hint="correct the data, or accept a new schema: penstock schema accept",
        )


def _check_labels(table: pd.DataFrame, schema: dict[str, Any], name: str, failures: Failures) -> None:
    series = table[name]
    now = [plain(label) for label in series.dropna().unique()]
    new = [label for label in now if label not in schema["classes"]]
    if new:
        was = ", ".join(shown(label) for label in schema["classes"][:NAMES])
        found = ", ".join(shown(label) for label in sorted(now, key=str)[:NAMES])
        bad = series.isin(new)
        failures.rows(
            "labels",
            name,
            table,
            bad,
            f"the labels of {name!r} are {found}; the schema has {was}",
            hint="make the labels alike in a step, or accept a new schema: penstock schema accept",
        )


def _misfits(count: int) -> str:
    return "1 value does not fit" if count == 1 else f"{count:,} values do not fit"
