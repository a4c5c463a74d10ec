"""Which rows of a fit are learned from, which it stops by, and what each one weighs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.core.answer import plain
from penstock.core.fit import Fit
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError, DeclarationError
from penstock.stages import keys
from penstock.stages.rules import classes_of, first_held_out, known_before, rule_of, unit_columns, when
from penstock.stages.seeding import derive

if TYPE_CHECKING:
    import pandas as pd

LEAST = 2
"""Rows on each side of the cut below which early stopping is refused."""


class Guidance:
    """How the rows of a fit are divided, known for every training row by its position.

    One object for all clones: a copy, shallow or deep, is the object itself.

    Parameters
    ----------
    train : DataFrame of shape (n_rows, n_columns)
        All rows that the outermost fit is given.
    fit : Fit
    target, roles, split, seed, task
        As given to `train`.

    Raises
    ------
    DeclarationError
        Classes are sampled and the target is a number, or a class is not among its labels.
    """

    def __init__(
        self, train: pd.DataFrame, fit: Fit, *, target: Target, roles: Roles, split: Split, seed: int, task: str
    ) -> None:
        self.fit = fit
        self.share = fit.early_stopping or 0.0
        self._target, self._split = target, split
        self._rule = rule_of(roles, split)
        self._classes: Any = classes_of(train, target, task)
        self._kept, self._factor = _sampled(train, fit.sample, target, roles, seed, task)
        self._moments: Any = None
        self._number: Any = None
        if self.share and self._rule == "time":
            assert roles.time is not None
            self._moments = when(train, roles.time)
            columns = [name for name in (roles.time, target.time) if name and name in train.columns]
            self._times = train[columns].reset_index(drop=True)
        elif self.share:
            self._number = _numbers(train, self._rule, target, roles, split, seed)

    def __copy__(self) -> Guidance:
        return self

    def __deepcopy__(self, _memo: Any) -> Guidance:
        return self

    @property
    def weighs(self) -> bool:
        """Whether rows that stay stand for rows that were left out."""
        return self._factor is not None

    def divide(self, rows: Any) -> tuple[Any, Any]:
        """Positions, within one fit's rows, of those to learn from and those to stop by.

        Parameters
        ----------
        rows : array of int, shape (n_rows,)
            Which training rows this fit was given.

        Returns
        -------
        learn, stop : ndarray of int
            Ascending. Where the rule is time, rows whose label was not known at the cut are in neither.

        Raises
        ------
        DataError
            Too few rows, or too few classes, on one side.
        """
        import numpy as np

        given = np.asarray(rows)
        here = np.arange(len(given)) if self._kept is None else np.flatnonzero(self._kept[given])
        if not len(here):
            raise DataError(
                f"sample={self.fit.sample!r} leaves none of {len(given):,} rows",
                hint="give a larger share, or more rows",
            )
        if not self.share:
            return here, here[:0]
        learn, stop = self._cut(given[here])
        self._check(given[here], learn, stop)
        return here[learn], here[stop]

    def weigh(self, rows: Any, weight: Any) -> Any:
        """Weights of some training rows: those declared times what a row stands for; None where all are alike."""
        import numpy as np

        given = None if weight is None else np.asarray(weight, dtype=np.float64)
        if self._factor is None:
            return given
        stands = self._factor[np.asarray(rows)]
        return stands if given is None else given * stands

    def _cut(self, rows: Any) -> tuple[Any, Any]:
        import numpy as np

        if self._moments is not None:
            moments, table = self._moments[rows], self._times.iloc[rows]
            cut = first_held_out(moments, Split(test=self.share))
            before = known_before(table, moments, cut, self._target, self._split)
            return np.flatnonzero(before), np.flatnonzero(moments >= cut)
        number = self._number[rows]
        held = number.astype(np.float64) < self.share * 2.0**64
        if not self._sound(rows, held):
            held = self._by_quota(number, rows)
        return np.flatnonzero(~held), np.flatnonzero(held)

    def _by_quota(self, number: Any, rows: Any) -> Any:
        """Units with the smallest numbers, class by class unless they are groups: exact where a share is too rough."""
        import numpy as np

        _, first, unit = np.unique(number, return_index=True, return_inverse=True)
        plain_units = self._classes is None or self._rule == "groups"
        label = np.zeros(len(first), dtype=np.intp) if plain_units else self._classes[rows][first]
        held = np.zeros(len(first), dtype=bool)
        for one in np.unique(label):
            units = np.flatnonzero(label == one)  # in the order of their numbers
            held[units[: max(1, round(self.share * len(units)))]] = True
        return held[unit]

    def _sound(self, rows: Any, held: Any) -> bool:
        import numpy as np

        sides = (held, ~held)
        if self._classes is None:
            return all(int(side.sum()) >= LEAST for side in sides)
        n_classes = len(np.unique(self._classes[rows]))
        return all(len(np.unique(self._classes[rows][side])) == n_classes for side in sides)

    def _check(self, rows: Any, learn: Any, stop: Any) -> None:
        import numpy as np

        few = min(len(learn), len(stop)) < LEAST
        if not few and self._classes is not None:
            few = len(np.unique(self._classes[rows][learn])) < min(2, len(np.unique(self._classes[rows])))
        if few:
            raise DataError(
                f"early_stopping={self.share:g} leaves {len(learn):,} rows to learn from and {len(stop):,} to stop by, "
                f"of {len(rows):,}",
                hint="give another share, fewer folds, or more rows",
            )


def _numbers(train: pd.DataFrame, rule: str, target: Target, roles: Roles, split: Split, seed: int) -> Any:
    import numpy as np

    if rule == "random":
        generator = np.random.default_rng([seed, split.salt, 2])
        return generator.integers(0, 2**64, len(train), dtype=np.uint64)
    columns = unit_columns(train, rule, target, roles, ())
    return keys.rows(train, columns, keys.secret("early stopping", seed, split.salt))


def _sampled(train: pd.DataFrame, sample: Any, target: Target, roles: Roles, seed: int, task: str) -> tuple[Any, Any]:
    """Which rows stay, and how many rows each stands for; both None where nothing is sampled."""
    import numpy as np

    if sample is None:
        return None, None
    by_class = isinstance(sample, Mapping)
    shares = _shares(train[target.column], sample, task) if by_class else np.full(len(train), float(sample))
    if roles.key:
        number = keys.rows(train, list(roles.key), keys.secret("sample", seed, 0)).astype(np.float64) / 2.0**64
    else:
        number = np.random.default_rng(derive(seed, "sample")).random(len(train))
    uneven = by_class and len(set(np.unique(shares).tolist())) > 1
    return (number < shares) | (shares >= 1.0), 1.0 / shares if uneven else None


def _shares(labels: pd.Series[Any], sample: Mapping[Any, float], task: str) -> Any:
    import numpy as np

    if task == "regression":
        raise DeclarationError("fit=: sample= names classes, and the target is a number: give one share, sample=0.1")
    known = {plain(label) for label in labels.unique()}
    wrong = [label for label in sample if label not in known]
    if wrong:
        listed = ", ".join(map(repr, sorted(known, key=repr)[:20]))
        raise DeclarationError(
            f"fit=: sample= names {wrong[0]!r}, which is no class of the target", hint=f"there are {listed}"
        )
    return np.array([float(sample.get(plain(label), 1.0)) for label in labels])


def told(fit: Fit) -> dict[str, Any]:
    """A `Fit` as plain JSON, for a report."""
    data = dataclasses.asdict(fit)
    if isinstance(fit.sample, Mapping):
        data["sample"] = {str(label): share for label, share in fit.sample.items()}
    return {name: value for name, value in data.items() if value is not None}
