"""Folds of the cross-validation inside the training rows, by the same rule as the split itself."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from penstock.core.split import Split, is_splitter
from penstock.core.target import Roles, Target
from penstock.errors import DataError
from penstock.stages import keys
from penstock.stages.copies import looks, told_apart, why_different
from penstock.stages.custom import all_pairs
from penstock.stages.rules import classes_of, known_before, rule_of, unit_columns, when

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Rows = npt.NDArray[np.intp]


def fold_indices(
    train: pd.DataFrame, *, target: Target, roles: Roles, split: Split, seed: int, task: str
) -> list[tuple[Rows, Rows]]:
    """Positions of the rows to fit on and to judge by, fold for fold.

    By key or groups, a hash of its own gives each unit its fold, so that a row keeps its fold when the table
    grows; where a fold would lack a class, and without a key, units are dealt out in the order of their hash,
    class by class. Rows that are copies of a judged one are not fitted on, as in the split. By time, folds chain
    forward: each is judged on rows newer than those it was fitted on, with the gap between and the horizon purged.

    Parameters
    ----------
    train : pandas.DataFrame of shape (n_rows, n_columns)
        Training rows from `split`.
    target, roles, split, seed, task
        As given to `split`.

    Returns
    -------
    list of (numpy.ndarray, numpy.ndarray)
        `split.folds` pairs of row positions, in ascending order; of a splitter those that it makes.

    Raises
    ------
    DataError
        Too few rows, groups or moments for so many folds, or a fold without two classes.
    """
    if is_splitter(split.folds):
        return _of_splitter(train, target, roles, split, seed, task)
    if split.folds < 2:
        raise DataError(f"split: folds={split.folds}: cross-validation needs at least 2")
    by_time = rule_of(roles, split) == "time"
    found = _chain(train, target, roles, split) if by_time else _deal(train, target, roles, split, seed, task)
    _check(found, train, target, split, task, by_time=by_time)
    return found


def _of_splitter(
    train: pd.DataFrame, target: Target, roles: Roles, split: Split, seed: int, task: str
) -> list[tuple[Rows, Rows]]:
    """What the user's own splitter makes of the training rows."""
    found = all_pairs(train, split.folds, target, roles, seed, "folds")
    if len(found) < 2:
        raise DataError(f"the splitter {type(split.folds).__name__} makes one fold: cross-validation needs at least 2")
    _check(found, train, target, dataclasses.replace(split, folds=len(found)), task)
    return found


def _deal(
    train: pd.DataFrame, target: Target, roles: Roles, split: Split, seed: int, task: str
) -> list[tuple[Rows, Rows]]:
    import numpy as np

    rule = rule_of(roles, split)
    classes = classes_of(train, target, task)
    if rule == "random":
        number = np.random.default_rng([seed, split.salt, 1]).permutation(len(train)).astype(np.uint64)
    else:
        secret = keys.secret("fold", seed, split.salt)
        number = keys.rows(train, unit_columns(train, rule, target, roles, ()), secret)
        number, apart = told_apart(number, secret) if rule == "content" else (number, "")
        if apart:
            return _pairs(_round_robin(number, classes, split.folds), split.folds)
    if rule in ("key", "groups") and split.stable:
        fold = (number.astype(np.float64) * (split.folds / 2.0**64)).astype(np.intp).clip(max=split.folds - 1)
        if _sound(pairs := _without_copies(_pairs(fold, split.folds), train, target, roles), classes):
            return pairs
    fold = _round_robin(number, None if rule == "groups" else classes, split.folds)
    return _without_copies(_pairs(fold, split.folds), train, target, roles)


def _without_copies(
    pairs: list[tuple[Rows, Rows]], train: pd.DataFrame, target: Target, roles: Roles
) -> list[tuple[Rows, Rows]]:
    """The same without rows to fit on that are copies of a row to judge by."""
    import numpy as np

    if not roles.visible([str(name) for name in train.columns], target):
        return pairs
    alike, whole = looks(train, target, roles)
    ordered = np.sort(whole)
    if not (ordered[1:] == ordered[:-1]).any():
        return pairs
    kept = []
    for fit, judge in pairs:
        straddling = np.isin(whole[fit], whole[judge])
        if straddling.any() and not why_different(alike, straddling, len(fit), train, target):
            fit = fit[~straddling]  # noqa: PLW2901  what is left of it
        kept.append((fit, judge))
    return kept


def _round_robin(number: keys.Hashes, classes: Rows | None, folds: int) -> Rows:
    """Deal units (rows with one number) to the folds in the order of their numbers, class after class."""
    import numpy as np

    _, first, unit = np.unique(number, return_index=True, return_inverse=True)
    label = np.zeros(len(first), dtype=np.intp) if classes is None else classes[first]
    order = np.lexsort((np.arange(len(first)), label))  # units are in the order of their numbers already
    fold = np.empty(len(first), dtype=np.intp)
    fold[order] = np.arange(len(first)) % folds
    dealt: Rows = fold[unit]
    return dealt


def _pairs(fold: Rows, folds: int) -> list[tuple[Rows, Rows]]:
    import numpy as np

    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(folds)]


def _chain(train: pd.DataFrame, target: Target, roles: Roles, split: Split) -> list[tuple[Rows, Rows]]:
    """`folds` + 1 stretches of about equal size; each but the first is judged after fitting on what lies before."""
    import numpy as np

    assert roles.time is not None
    moments = when(train, roles.time)
    ordered = np.sort(moments)
    starts = [ordered[len(ordered) * i // (split.folds + 1)] for i in range(1, split.folds + 1)]
    found = []
    for at, cut in enumerate(starts):
        valid = moments >= cut
        if at + 1 < len(starts):
            valid &= moments < starts[at + 1]
        found.append((np.flatnonzero(known_before(train, moments, cut, target, split)), np.flatnonzero(valid)))
    return found


def _sound(pairs: list[tuple[Rows, Rows]], classes: Rows | None) -> bool:
    import numpy as np

    if classes is None:
        return all(len(side) for pair in pairs for side in pair)
    return all(len(np.unique(classes[side])) >= 2 for pair in pairs for side in pair)


def _check(
    pairs: list[tuple[Rows, Rows]],
    train: pd.DataFrame,
    target: Target,
    split: Split,
    task: str,
    *,
    by_time: bool = False,
) -> None:
    classes: Any = classes_of(train, target, task)
    if _sound(pairs, classes):
        return
    sizes = ", ".join(f"{len(fit):,}/{len(valid):,}" for fit, valid in pairs[:10])
    ways = [f"declare fewer folds (ps.Split(folds={min(split.folds - 1, 3)}))"] if split.folds > 2 else []
    ways += [f"a shorter {'horizon' if split.horizon else 'gap'}="] if by_time else []
    lacks = "no rows" if classes is None else "fewer than two classes"
    raise DataError(
        f"{len(train):,} training rows do not make {split.folds} folds: one has {lacks} (rows fitted/judged: {sizes})",
        hint=", ".join([*ways, "or gather more rows"] if ways else ["gather more rows"]),
    )
