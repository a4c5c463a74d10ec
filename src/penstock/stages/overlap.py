"""Rows, keys, groups and moments that stand on both sides of the split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.target import Roles, Target
from penstock.stages.betrayal import Finding

if TYPE_CHECKING:
    import pandas as pd

MANY_COPIES = 0.01
"""Share of held-out rows with a true copy in training from which that is a warning."""


def copies(train: pd.DataFrame, test: pd.DataFrame, target: Target, roles: Roles) -> tuple[list[Finding], int]:
    """Held-out rows that equal a training row in all features and the target.

    Few columns make different rows look alike; copies are true ones where rows of equal features agree on the
    target half-way better than chance.

    Returns
    -------
    findings : list
    n_copies : int
        Held-out rows with a copy in training.
    """
    import numpy as np

    features = roles.visible([str(name) for name in train.columns], target)
    alike_train, alike_test = _hashes(train, features), _hashes(test, features)
    whole_train, whole_test = (_hashes(table, [*features, target.column]) for table in (train, test))
    alike, same = _count_in(alike_test, alike_train), _count_in(whole_test, whole_train)
    n = int((same > 0).sum())
    if n == 0:
        return [], 0
    shares = train[target.column].value_counts(normalize=True).to_numpy()
    chance = float((shares**2).sum())
    meets = alike > 0
    agree = float((same[meets] / alike[meets]).mean())
    true_copies = agree > (1 + chance) / 2 and n >= max(5, MANY_COPIES * len(test))
    grade = "warning" if true_copies else "note"
    what = f"{n:,} of {len(test):,} held-out rows equal a training row in all {len(features)} features and the target"
    if not true_copies:
        what += "; such likeness may be chance"
    example = f"held-out row {int(np.flatnonzero(same)[0])}"
    return [Finding(grade, "overlap", what, "", n, example)], n


def _count_in(wanted: Any, hashes: Any) -> Any:
    """How often each wanted hash occurs."""
    import numpy as np

    known, counts = np.unique(hashes, return_counts=True)
    at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return np.where(known[at] == wanted, counts[at], 0)


def shared_names(
    train: pd.DataFrame, test: pd.DataFrame, columns: tuple[str, ...], what: str, grade: str
) -> list[Finding]:
    """Keys or groups that occur on both sides."""
    import numpy as np

    both = np.isin(_hashes(test, list(columns)), _hashes(train, list(columns)))
    n = int(both.sum())
    if n == 0:
        return []
    first = test[list(columns)].iloc[int(np.flatnonzero(both)[0])]
    example = ", ".join(f"{name}={value}" for name, value in first.items())[:200]
    text = f"{n:,} held-out rows have a {what} that training rows have too"
    return [Finding(grade, what, text, " + ".join(columns), n, example)]


def out_of_order(train: pd.DataFrame, test: pd.DataFrame, column: str) -> list[Finding]:
    """Training rows later than the first held-out one."""
    from penstock.stages.keys import times

    before, after = times(train[column]), times(test[column])
    first = after.min()
    late = before > first
    n = int(late.sum())
    if n == 0:
        return []
    what = f"{n:,} training rows are later than the first held-out row: the model is judged on a past it has seen"
    return [Finding("warning", "time", what, column, n, f"first held-out row at {first}")]


def _hashes(table: pd.DataFrame, columns: list[str]) -> Any:
    """A 64-bit hash of some cells of each row; equal cells of equal types, equal hash."""
    import pandas as pd

    return pd.util.hash_pandas_object(table[columns], index=False, categorize=True).to_numpy()
