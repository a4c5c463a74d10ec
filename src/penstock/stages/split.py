"""Rows to learn from and rows to judge by: a row keeps its side when the table grows.

* by key (the default with `key=`): the keyed hash of the key's canonical text falls under the test share or not;
* by groups: the same with the group, which overrides the key: a group never stands on both sides;
* without a key: the same with the row's content (the columns frozen in the schema, target left out), so that
  equal rows share a side; where more than half of the rows are copies, the copy's number joins the hash;
* by time: the newest rows; rows whose label was not yet known at the first held-out moment leave training;
* at random, or `stable=False`: exact quotas, stratified for classes; a row may then change sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.artifact import Batched, StoredTable
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError
from penstock.stages import keys
from penstock.stages.copies import copies, group_agreement
from penstock.stages.folds import fold_indices
from penstock.stages.large import LargeTable
from penstock.stages.rules import classes_of, first_held_out, known_before, rule_of, unit_columns, when

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Mask = npt.NDArray[np.bool_]

__all__ = ["fold_indices", "split"]

COPIES = 0.5
"""Below this share of distinct rows, copies are not kept together: they are different rows that look alike."""
FEW = 30
"""Fewer held-out rows of a class than this are advised against."""


def split(
    table: pd.DataFrame | StoredTable,
    *,
    target: Target,
    roles: Roles,
    split: Split,
    seed: int,
    task: str,
    frozen_columns: tuple[str, ...] = (),
) -> tuple[pd.DataFrame | Batched, pd.DataFrame | Batched, dict[str, Any]]:
    """Divide a validated table.

    Parameters
    ----------
    table : pandas.DataFrame or StoredTable of shape (n_rows, n_columns)
        One that is stored is read in batches; what is held is a few numbers a row.
    target, roles, split
        As declared.
    seed : int
        The workflow's seed; with `split.salt` it keys the hash.
    task : {"binary", "multiclass", "regression"}
        From the schema.
    frozen_columns : tuple of str
        Without a key: columns whose content decides, those of the first run. By default all but the target.

    Returns
    -------
    train, test : pandas.DataFrame or Batched
        As the table came. In the table's order, with a fresh index.
    report : dict
        Counts, class shares of both sides, the rule, what left training; `summary` is one line.

    Raises
    ------
    DeclarationError
        See `rule_of`.
    DataError
        A missing key or time, a side without rows or with one class only.
    """
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        table = LargeTable(table)  # type: ignore[assignment]  # it has what the rules ask of a frame
    train, test, report = _divided(table, target, roles, split, seed, task, frozen_columns)
    if isinstance(train, LargeTable):
        return train.batched(), test.batched(), report
    return train, test, report


def _divided(
    table: Any, target: Target, roles: Roles, split: Split, seed: int, task: str, frozen_columns: tuple[str, ...]
) -> tuple[Any, Any, dict[str, Any]]:
    """The same for a frame and for what stands for one: `table` is either, here and below."""
    rule = rule_of(roles, split)
    notes: list[str] = []
    dropped: dict[str, int] = {}
    facts: dict[str, Any] = {}
    if rule == "time":
        held, keep, facts = _by_time(table, target, roles, split)
        dropped["gap"] = int((~held & ~keep).sum())
        facts["copies_kept"] = int((keep & copies(table, held, target, roles)[1]).sum())
    else:
        held = _by_hash(table, rule, target, roles, split, seed, task, frozen_columns, notes)
        keep = ~held
        if rule != "content":
            straddling = _straddling(table, held, target, roles, notes)
            dropped["copies"] = int(straddling.sum())
            keep &= ~straddling
    train, test = table[keep & ~held].reset_index(drop=True), table[held].reset_index(drop=True)
    report = _report(train, test, rule, target, roles, split, task)
    report |= facts | {"dropped": {name: n for name, n in dropped.items() if n}, "notes": notes + report["notes"]}
    _check_sides(train, test, target, report, task, rule)
    report["summary"] = _summary(report, target, task)
    return train, test, report


# ── by hash ──────────────────────────────────────────────────────────────────────────────────────────────────


def _by_hash(
    table: pd.DataFrame,
    rule: str,
    target: Target,
    roles: Roles,
    split: Split,
    seed: int,
    task: str,
    frozen: tuple[str, ...],
    notes: list[str],
) -> Mask:
    import numpy as np

    share = float(split.test)
    if rule == "random":
        number = np.random.default_rng([seed, split.salt]).permutation(len(table)).astype(np.uint64)
        return _quota(number, share, classes_of(table, target, task))
    secret = keys.secret("side", seed, split.salt)
    number = keys.rows(table, unit_columns(table, rule, target, roles, frozen), secret)
    if rule == "content":
        number = _tell_copies_apart(number, secret, notes)
    if split.stable:
        return keys.below(number, share)
    return _quota(number, share, None if rule == "groups" else classes_of(table, target, task))


def _tell_copies_apart(number: keys.Hashes, secret: bytes, notes: list[str]) -> keys.Hashes:
    """Let each copy find its own side where most rows are copies: else a handful of contents decide the share."""
    import numpy as np
    import pandas as pd

    distinct = _n_distinct(number) / max(len(number), 1)
    if distinct >= COPIES:
        return number
    notes.append(
        f"only {distinct:.0%} of the rows are distinct: copies are told apart by their order and may stand on both "
        "sides; declare key= if rows have one"
    )
    order = np.argsort(number, kind="stable")
    new = np.append(True, np.diff(number[order].view(np.int64)) != 0)
    copy = np.empty(len(number), dtype=np.int64)
    copy[order] = np.arange(len(number)) - np.flatnonzero(new)[np.cumsum(new) - 1]
    return keys.rows(pd.DataFrame({"content": number.view("int64"), "copy": copy}), ["content", "copy"], secret)


def _n_distinct(number: keys.Hashes) -> int:
    """How many different numbers there are, by sorting: a table of 64-bit numbers would need four times their size."""
    import numpy as np

    ordered = np.sort(number)
    return int((ordered[1:] != ordered[:-1]).sum()) + bool(len(ordered))


def _quota(number: keys.Hashes, share: float, classes: npt.NDArray[np.intp] | None) -> Mask:
    """The lowest numbers up to an exact share (of each class); rows with equal numbers are not divided."""
    import numpy as np

    held = np.zeros(len(number), dtype=bool)
    for rows in (
        [np.arange(len(number))] if classes is None else [np.flatnonzero(classes == c) for c in np.unique(classes)]
    ):
        order = rows[np.argsort(number[rows], kind="stable")]
        want = round(share * len(order))
        ends = np.flatnonzero(np.append(np.diff(number[order].view(np.int64)) != 0, True)) + 1
        ends = np.concatenate([[0], ends])
        held[order[: ends[np.argmin(np.abs(ends - want))]]] = True
    return held


def _straddling(table: pd.DataFrame, held: Mask, target: Target, roles: Roles, notes: list[str]) -> Mask:
    """Training rows that equal a held-out row in features and target, where such copies are no coincidence.

    Few columns make different rows look alike. Copies are taken as true when at least half of the rows are
    distinct and rows with equal features agree on the target half-way better than chance.
    """
    import numpy as np
    import pandas as pd

    alike, straddling = copies(table, held, target, roles)
    if not straddling.any():
        return straddling
    labels = pd.factorize(table[target.column])[0]
    chance = float(((np.bincount(labels[labels >= 0]) / len(labels)) ** 2).sum())
    n_distinct, agree = group_agreement(alike, labels)
    if n_distinct / len(table) < COPIES or agree < (1 + chance) / 2:
        notes.append(
            f"{int(straddling.sum()):,} training rows look like a held-out row but stay: rows that look alike are "
            f"common here, or differ in {target.column}, so they are taken for different rows"
        )
        return np.zeros(len(table), dtype=bool)
    return straddling


# ── by time ──────────────────────────────────────────────────────────────────────────────────────────────────


def _by_time(table: pd.DataFrame, target: Target, roles: Roles, split: Split) -> tuple[Mask, Mask, dict[str, Any]]:
    assert roles.time is not None
    moments = when(table, roles.time)
    cut = first_held_out(moments, split)
    facts = {"from": _moment(cut), "gap": split.gap or target.delay}
    return moments >= cut, known_before(table, moments, cut, target, split), facts


def _moment(value: Any) -> Any:
    return float(value) if value.dtype.kind == "f" else keys._iso(str(value))  # noqa: SLF001  the one way dates are written


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────


def _shares(side: pd.DataFrame, target: Target, task: str) -> dict[str, float]:
    column = side[target.column]
    if task == "regression":
        return {"mean": float(column.mean())} if len(side) else {}
    counts = column.value_counts(sort=False)
    return {str(label): int(n) / len(side) for label, n in sorted(counts.items(), key=lambda item: str(item[0])) if n}


def _report(
    train: pd.DataFrame, test: pd.DataFrame, rule: str, target: Target, roles: Roles, split: Split, task: str
) -> dict[str, Any]:
    roled: dict[str, list[str]] = {"time": [roles.time or ""], "groups": [*roles.groups], "key": [*roles.key]}
    names = roled.get(rule, [])
    said = {"content": "by row content", "random": "at random"}.get(rule, f"by {', '.join(names)}")
    shares = {"train": _shares(train, target, task), "test": _shares(test, target, task)}
    notes = [] if task == "regression" else _thin(test, target, shares)
    return {
        "rule": rule,
        "columns": names,
        "said": said + ("" if split.stable or rule == "time" else " (exact quotas)"),
        "n_train": len(train),
        "n_test": len(test),
        "shares": shares,
        "notes": notes,
    }


def _thin(test: pd.DataFrame, target: Target, shares: dict[str, dict[str, float]]) -> list[str]:
    """Advice on classes with too few held-out rows to be judged by."""
    notes = []
    for label, share in (shares["train"] | shares["test"]).items():
        n = round(shares["test"].get(label, 0.0) * len(test))
        if n < FEW and share:
            need = f"about {round(FEW / share):,} held-out rows would hold {FEW}"
            notes.append(f"only {n} held-out rows have {target.column} = {label}: {need}")
    return notes[:5]


def _check_sides(
    train: pd.DataFrame, test: pd.DataFrame, target: Target, report: dict[str, Any], task: str, rule: str
) -> None:
    """Refuse a split that cannot be learned from or judged by.

    Raises
    ------
    DataError
    """
    numbers = f"{len(train):,} rows to train on and {len(test):,} held out, {report['said']}"
    if report["dropped"]:
        numbers += ", after leaving out " + ", ".join(f"{n:,} ({why})" for why, n in report["dropped"].items())
    remedy = {
        "time": "declare another test= (a share, a span or a date) or a shorter gap=",
        "groups": "there may be too few groups: declare a larger test=, or another salt=",
    }.get(rule, "declare a larger test=, stable=False (exact quotas), or gather more rows")
    if not len(train) or not len(test):
        raise DataError(f"a side of the split is empty: {numbers}", hint=remedy, report=report)
    if task == "regression":
        return
    for side, rows in (("training", train), ("held-out", test)):
        if rows[target.column].nunique() < 2:
            only = rows[target.column].iloc[0]
            raise DataError(
                f"all {len(rows):,} {side} rows have {target.column} = {only}: {numbers}", hint=remedy, report=report
            )


def _summary(report: dict[str, Any], target: Target, task: str) -> str:
    parts = [f"train {report['n_train']:,} · test {report['n_test']:,}", report["said"]]
    train, test = report["shares"]["train"], report["shares"]["test"]
    if task == "regression":
        parts.append(f"mean {target.column} {train['mean']:.4g} / {test['mean']:.4g}")
    elif task == "binary":
        label = _shown_class(train, target)
        name = target.column if target.positive is None else f"{target.column} = {label}"
        parts.append(f"{name} {100 * train.get(label, 0):.1f} % / {100 * test.get(label, 0):.1f} %")
    else:
        rarest = min(train, key=lambda label: (train[label], label))
        parts.append(f"rarest {rarest} {100 * train[rarest]:.1f} % / {100 * test.get(rarest, 0):.1f} %")
    if report.get("from") is not None:
        parts[1] += f" from {report['from']}"
    parts += [f"{n:,} left out ({why})" for why, n in report["dropped"].items()]
    return " · ".join(parts)


def _shown_class(train: dict[str, float], target: Target) -> str:
    """The positive class; where it is plain, the one that says so."""
    if target.positive is not None and str(target.positive) in train:
        return str(target.positive)
    plain = [label for label in train if label.lower() in ("1", "1.0", "true", "yes")]
    return plain[0] if plain else max(train)
