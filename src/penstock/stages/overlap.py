"""Rows, keys, groups and moments that stand on both sides of the split."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock.core.target import Roles, Target
from penstock.stages.alike import alike
from penstock.stages.betrayal import Finding
from penstock.stages.coincidence import MORE_THAN_CHANCE, by_chance
from penstock.stages.keys import rows, secret, times

if TYPE_CHECKING:
    import pandas as pd

MANY_COPIES = 0.01
"""Share of held-out rows with a true copy in training from which that is a warning."""

SHOWN = 5
"""Cells by which a row without a key is told."""

SECRET = secret("overlap", 0, 0)


def copies(train: pd.DataFrame, test: pd.DataFrame, target: Target, roles: Roles) -> tuple[list[Finding], int]:
    """Held-out rows that equal a training row in all features and the target, exactly or nearly.

    Few columns make different rows look alike, and where these say much of the target they agree on it too. So copies
    are true ones where rows of equal features agree on the target half-way better than chance, and where there are
    `MORE_THAN_CHANCE` times as many as there would be without any (`coincidence.by_chance`). Near copies are those of
    which that is true once numbers are rounded to six significant digits and texts folded.

    Returns
    -------
    findings : list
    n_copies : int
        Held-out rows with an exact copy in training.
    """
    features = roles.visible([str(name) for name in train.columns], target)
    if not (len(train) and len(test)):
        return [], 0
    exact = _met(train, test, features, target.column, near=False)
    near = _met(train, test, features, target.column, near=True)
    shares = train[target.column].value_counts(normalize=True).to_numpy()
    chance = float((shares**2).sum())
    columns = [*features, target.column]
    all_of = f"all {len(features)} features and the target"
    where = (train, test, columns)
    shown = list(roles.key) or columns
    found = _copied(exact, chance, f"equal a training row in {all_of}", lambda: by_chance(*where), test[shown])
    rest = tuple((n - m) * (exact[1] == 0) for n, m in zip(near, exact, strict=True))
    how = f"equal a training row in {all_of} but for rounding, case or white space"
    found += _copied(rest, chance, how, lambda: by_chance(*where, near=True)[exact[1] == 0], test[shown])
    return found, int((exact[1] > 0).sum())


def _met(train: pd.DataFrame, test: pd.DataFrame, features: list[str], target: str, *, near: bool) -> tuple[Any, Any]:
    """For each held-out row, how many training rows are like it in the features, and in the target too."""
    like, same = alike(train, test, features, target, near=near)
    return _count_in(like[1], like[0]), _count_in(same[1], same[0])


def _copied(
    met: tuple[Any, ...], chance: float, how: str, expected: Callable[[], Any], shown: pd.DataFrame
) -> list[Finding]:
    """What to say of rows that are like training rows, by how often the target agrees and what chance gives.

    The example is told by its key, else by what stands in its first columns: places change on the way from a file.
    """
    import numpy as np

    like, same = met
    n = int((same > 0).sum())
    if n == 0:
        return []
    meets = like > 0
    agree = float((same[meets] / like[meets]).mean())
    true_copies = agree > (1 + chance) / 2 and n >= max(5, MANY_COPIES * len(same))
    true_copies = true_copies and n > MORE_THAN_CHANCE * float(expected().sum())
    what = f"{n:,} of {len(same):,} held-out rows {how}"
    if not true_copies:
        what += "; such likeness may be chance"
    first = shown.iloc[int(np.flatnonzero(same)[0]), :SHOWN]
    example = "the held-out row with " + ", ".join(f"{name}={value}" for name, value in first.items())[:200]
    return [Finding("warning" if true_copies else "note", "overlap", what, "", n, example)]


def _count_in(wanted: Any, hashes: Any) -> Any:
    """How often each wanted hash occurs."""
    import numpy as np

    known, counts = np.unique(hashes, return_counts=True)
    at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return np.where(known[at] == wanted, counts[at], 0)


def shared_names(
    train: pd.DataFrame, test: pd.DataFrame, columns: tuple[str, ...], what: str, grade: str
) -> list[Finding]:
    """Keys or groups that occur on both sides, by their canonical text: 1, 1.0 and "1" are one."""
    import numpy as np

    there = test[list(columns)].notna().all(axis=1).to_numpy()  # rows without a name have none in common
    both = np.isin(rows(test, columns, SECRET), rows(train, columns, SECRET)) & there
    n = int(both.sum())
    if n == 0:
        return []
    first = test[list(columns)].iloc[int(np.flatnonzero(both)[0])]
    example = ", ".join(f"{name}={value}" for name, value in first.items())[:200]
    text = f"{n:,} held-out rows have a {what} that training rows have too"
    return [Finding(grade, what, text, " + ".join(columns), n, example)]


def out_of_order(train: pd.DataFrame, test: pd.DataFrame, column: str) -> list[Finding]:
    """Training rows later than the first held-out one."""
    import numpy as np

    before, after = times(train[column]), times(test[column])
    after = after[~np.isnan(after)]
    if not len(after):
        return []
    first = after.min()
    late = before > first
    n = int(late.sum())
    if n == 0:
        return []
    what = f"{n:,} training rows are later than the first held-out row: the model is judged on a past it has seen"
    return [Finding("warning", "time", what, column, n, f"first held-out row at {first}")]
