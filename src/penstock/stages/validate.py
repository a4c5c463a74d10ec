"""A table is held against what is declared and against its schema; every failure is told at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.core.answer import plain
from penstock.core.artifact import Batched, StoredTable
from penstock.core.data_check import Check
from penstock.core.names import DECIDE, did_you_mean
from penstock.core.target import Roles, Target
from penstock.errors import DeclarationError, StepOutputError, ValidationFailedError, bounded
from penstock.stages import conform
from penstock.stages.conform import Failures
from penstock.stages.facts import Facts, facts_of
from penstock.stages.large import LargeTable
from penstock.stages.order import order_of
from penstock.stages.own_checks import run_checks
from penstock.stages.problem import Problem
from penstock.stages.schema import CATEGORIES, infer, roles_of, task_of, type_of

if TYPE_CHECKING:
    import pandas as pd


def validate(
    table: pd.DataFrame | StoredTable,
    *,
    target: Target,
    roles: Roles,
    schema: dict[str, Any] | None,
    slices: tuple[str, ...] = (),
    task: str | None = None,
    checks: tuple[Check, ...] = (),
    columns: Mapping[str, tuple[str, ...]] | None = None,
    fits: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[pd.DataFrame | Batched, dict[str, Any], dict[str, Any]]:
    """Check a table and put its rows in the order of their key.

    Parameters
    ----------
    table : pandas.DataFrame or StoredTable of shape (n_rows, n_columns)
        One that is stored is read in batches; only the columns of target, key and time are ever held whole.
    target, roles, slices
        As declared.
    schema : dict or None
        Accepted schema to hold the table against; None to infer one.
    task : {"classification", "regression"}, optional
        Kind of the estimator, where it is known; else see `schema.task_of`.
    checks : tuple of Check
        The user's own, run on all rows.
    columns : dict, optional
        Field → further columns that it names.
    fits : dict, optional
        Scorer name → tasks that it fits, of those that do not fit every task; `DECIDE` for a threshold.

    Returns
    -------
    table : pandas.DataFrame or Batched
        As it came: the same rows, without those whose target is missing if so declared; with a key in its order
        (by time, then key, with a time).
    schema : dict
        Inferred, or the given one.
    report : dict
        Counts, notes and an empty list of failures; `summary` is one line. "warnings" where a check of that severity
        failed.

    Raises
    ------
    ValidationFailedError
        With all failures: kind, column, count and up to five sample rows each.
    DeclarationError
        No positive class where it is not plain, or one that does not exist; a metric that does not fit the target.
    StepOutputError
        What the steps before it made is no table.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"id": [2, 1, 3], "age": [30, 40, 50], "left": ["no", "yes", "no"]})
    >>> _, schema, report = validate(table, target=Target("left"), roles=Roles(key=("id",)), schema=None)
    >>> schema["positive"], report["summary"]
    ('yes', '3 rows × 3 columns · binary, left = yes 33.3 % · schema inferred')
    """
    named = {"slices": slices, **(columns or {})}
    held, inferred, report = _validate(_known(table), target, roles, schema, named, task, checks, fits or {})
    return held.batched() if isinstance(held, LargeTable) else held, inferred, report


def _validate(
    table: Any,
    target: Target,
    roles: Roles,
    schema: dict[str, Any] | None,
    named: Mapping[str, tuple[str, ...]],
    task: str | None,
    checks: tuple[Check, ...],
    fits: Mapping[str, tuple[str, ...]],
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The same for a frame and for what stands for one: `table` is either, here and below."""
    table, dropped, notes, facts, warnings = _checked(table, target, roles, schema, named, checks)
    known = schema["task"] if schema else task_of(table[target.column], task)
    _check_kind(table, target, known)
    _check_fits(fits, known, target)
    table = _whole_labels(table, target, known)
    classes = [plain(label) for label in table[target.column].unique()]
    positive = positive_of(target, classes if schema is None else schema.get("classes", classes), known)
    table = in_order(table, roles)
    if schema is None:
        held = infer(table, target=target, roles=roles, task=known, positive=positive, facts=facts)
    else:
        held = schema | ({"positive": positive} if known == "binary" else {})
    report = _report(table, held, target, schema is not None, dropped, notes)
    if checks:
        report["checks"] = len(checks)
        report["summary"] += f" · {len(checks)} {'check' if len(checks) == 1 else 'checks'} of your own"
    if warnings:
        report["warnings"] = warnings
        report["notes"] = [*notes, *(f"warning: {one['text']}" for one in warnings)]
        report["summary"] += f", {len(warnings)} {'warning' if len(warnings) == 1 else 'warnings'}"
    return table, held, report


def _known(table: Any) -> Any:
    """A frame, or a table too large to be one; what a user's step returned need not be any.

    Raises
    ------
    StepOutputError
    """
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        if hasattr(table, "batches"):
            return LargeTable(table)
        given = "nothing (None)" if table is None else f"a {type(table).__name__}"
        raise StepOutputError(
            f"the step behind data= returned {given}, where a table is meant",
            where="step validate",
            hint="return a pandas, polars or pyarrow table from it",
        )
    return table


def _checked(
    table: pd.DataFrame,
    target: Target,
    roles: Roles,
    schema: dict[str, Any] | None,
    named: Mapping[str, tuple[str, ...]],
    checks: tuple[Check, ...],
) -> tuple[pd.DataFrame, dict[str, int], list[str], dict[str, Facts], list[dict[str, Any]]]:
    """Every check; the table without rows that may be dropped, their number, notes, facts of its columns, warnings.

    Raises
    ------
    ValidationFailedError
    """
    failures = Failures(tuple(name for name in roles.key if name in table.columns))
    _check_named(table, target, roles, named, failures)
    if target.column not in table.columns:
        raise failed(failures, len(table))
    table, dropped = _without_missing_targets(table, target, failures)
    conform.check_target(table, target, failures)
    limit = max([CATEGORIES, *(len(c.get("categories", ())) for c in (schema["columns"] if schema else ()))])
    facts = facts_of(table, [str(name) for name in table.columns if name != target.column], limit)
    _check_cells(table, target, roles, failures, facts)
    notes = conform.check_schema(table, schema, target, roles, failures, facts) if schema is not None else []
    # A function of the user's own is given the whole table: here one that is stored is held, all of it.
    warnings = run_checks(checks, table[list(table.columns)], failures) if checks else []
    if failures.found:
        raise failed(failures, len(table))
    return table, dropped, notes, facts, warnings


def failed(failures: Failures, n_rows: int) -> ValidationFailedError:
    """The error that lists every failure, bounded."""
    found = failures.found
    lines = [f"{item['text']}" for item in found]
    report = {"n_rows": n_rows, "failures": found, "summary": f"{len(found)} failures in {n_rows:,} rows"}
    what = lines[0] if len(lines) == 1 else f"{len(lines)} failures:\n  - " + "\n  - ".join(lines)
    hints = list(dict.fromkeys(item["hint"] for item in found if item["hint"]))
    return ValidationFailedError(what, hint="; ".join(hints[:5]), report=report)


def positive_of(target: Target, classes: list[Any], task: str) -> Any:
    """The positive class of a binary task; never guessed: true, 1 and yes are plain, any other must be declared.

    Raises
    ------
    DeclarationError
        Naming both classes.

    Examples
    --------
    >>> positive_of(Target("y"), ["No", "Yes"], "binary")
    'Yes'
    """
    if task != "binary":
        if target.positive is not None:
            raise DeclarationError(
                f"target: positive={target.positive!r}, but {target.column!r} is a {task} target",
                hint="positive= belongs to two classes: leave it out",
            )
        return None
    both = " and ".join(repr(label) for label in sorted(classes, key=str))
    if target.positive is not None:
        same = [label for label in classes if label == target.positive] or [
            label for label in classes if str(label) == str(target.positive)
        ]
        if not same:
            raise DeclarationError(f"target: positive={target.positive!r} is not a class of {target.column!r}: {both}")
        return same[0]
    for label in classes:
        others = {_plain_word(other) for other in classes if other is not label}
        if (_plain_word(label), others) in (("yes", {"no"}), ("true", {"false"}), ("1", {"0"})):
            return label
    raise DeclarationError(
        f"target: which class of {target.column!r} is the positive one, {both}? It is never guessed",
        hint=f"target=ps.Target({target.column!r}, positive={max(classes, key=str)!r}), or the other",
    )


def _plain_word(label: Any) -> str:
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, int | float):
        return "1" if label == 1 else "0" if label == 0 else ""
    return str(label).strip().lower() if str(label).strip().lower() in ("yes", "no", "true", "false") else ""


def in_order(table: Any, roles: Roles) -> Any:
    """Rows in the order of their key; by time, then key, where there is a time; as they are without a key."""
    order = order_of(table, roles) if roles.key else None
    if isinstance(table, LargeTable):
        return table.ordered(order)
    return (table if order is None else table.iloc[order]).reset_index(drop=True)


def _check_named(
    table: pd.DataFrame,
    target: Target,
    roles: Roles,
    more: Mapping[str, tuple[str, ...]],
    failures: Failures,
) -> None:
    """Every column that the declaration names is there."""
    columns = [str(name) for name in table.columns]
    named = {"target": [target.column], "key": roles.key, "groups": roles.groups, "features": roles.features or ()}
    named |= {"time": [roles.time] if roles.time else [], "weight": [roles.weight] if roles.weight else []}
    named |= {**more, "drop": roles.drop, "Target.after": target.after}
    named |= {"Target.time": [target.time] if target.time else []}
    for field, names in named.items():
        for name in names:
            if name not in columns:
                failures.add(
                    "missing column",
                    name,
                    f"{field} names the column {name!r}, which is not in the table{did_you_mean(name, columns)}",
                    hint="the table has " + bounded(", ".join(columns), 300),
                )


def _without_missing_targets(
    table: pd.DataFrame, target: Target, failures: Failures
) -> tuple[pd.DataFrame, dict[str, int]]:
    missing = table[target.column].isna()
    n = int(missing.sum())
    if not n:
        return table, {}
    if target.missing == "drop":
        return table[~missing], {"target missing": n}
    failures.rows(
        "target missing",
        target.column,
        table,
        missing,
        f"the target {target.column!r} is missing in {n:,} of {len(table):,} rows",
        hint=f'drop these rows by ps.Target({target.column!r}, missing="drop")',
    )
    return table, {}


def _check_fits(fits: Mapping[str, tuple[str, ...]], task: str, target: Target) -> None:
    """Every metric fits the target, and so does a threshold: told before anything is trained.

    Raises
    ------
    DeclarationError
    """
    from penstock.stages.scoring import unfit

    problem = Problem(task, (), target.column)
    if DECIDE in fits and task not in fits[DECIDE]:
        raise DeclarationError(
            f"{DECIDE}: a threshold parts two classes, and this is a {task} target",
            where=f"column {target.column}",
            hint=f"leave {DECIDE} out",
        )
    faults = [unfit(name, problem) for name, tasks in fits.items() if task not in tasks]
    if faults:
        raise DeclarationError(faults, where=f"metrics= or gate=, column {target.column}")


def _check_kind(table: pd.DataFrame, target: Target, task: str) -> None:
    """A regressor's target is numbers.

    Raises
    ------
    ValidationFailedError
    """
    kind = type_of(table[target.column])
    if task != "regression" or kind in ("integer", "number", "boolean"):
        return
    failures = Failures()
    example = conform.shown(table[target.column].iloc[0])
    failures.add(
        "target type",
        target.column,
        f"the target {target.column!r} is {kind} (such as {example}), and the estimator is a regressor",
        count=len(table),
        hint="give a classifier, or make the target a number in a step",
    )
    raise failed(failures, len(table))


def _whole_labels(table: pd.DataFrame, target: Target, task: str) -> pd.DataFrame:
    """Class labels that became floats only because some were missing are whole numbers again."""
    column = table[target.column]
    if task == "regression" or column.dtype.kind != "f" or not (column % 1 == 0).all():
        return table
    return table.astype({target.column: "int64"})


def _check_cells(
    table: pd.DataFrame, target: Target, roles: Roles, failures: Failures, facts: dict[str, Facts]
) -> None:
    columns = [str(name) for name in table.columns]
    features = [name for name, role in roles_of(columns, target, roles).items() if role == "feature"]
    features += [name for name in roles.features or () if name in columns and name not in features]
    conform.check_features(table, features, failures, facts)
    conform.check_key(table, roles, failures)
    conform.check_time(table, roles, failures)
    conform.check_weight(table, roles, failures)


def _report(
    table: pd.DataFrame, schema: dict[str, Any], target: Target, held: bool, dropped: dict[str, int], notes: list[str]
) -> dict[str, Any]:
    said = str(schema["task"])
    if schema["task"] == "binary":
        share = float((table[target.column] == schema["positive"]).mean())
        said += f", {target.column} = {schema['positive']} {100 * share:.1f} %"
    elif schema["task"] == "multiclass":
        said += f", {len(schema['classes'])} classes of {target.column}"
    else:
        said += f" of {target.column}"
    parts = [f"{len(table):,} rows × {table.shape[1]:,} columns", said]
    parts += [f"{n:,} rows dropped ({why})" for why, n in dropped.items()]
    parts.append("holds against the schema" if held else "schema inferred")
    return {
        "n_rows": len(table),
        "n_columns": int(table.shape[1]),
        "task": schema["task"],
        "dropped": dropped,
        "failures": [],
        "notes": notes,
        "summary": " · ".join(parts),
    }
