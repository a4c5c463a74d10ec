"""Permutation importance on rows that the model was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.stages import scoring
from penstock.stages.predicted import Predicted, join, predict
from penstock.stages.problem import Problem
from penstock.stages.uncertainty import error_over_folds, figure_over_folds
from penstock.stats.checks import json_number
from penstock.stats.intervals import normal_quantile

MAX_ROWS = 1_000
MAX_COLUMNS = 100
REPEATS = 3
"""Deals of each column."""
N_BOOT = 60
"""Replicates for the standard error of a loss, where the metric has no closed form: columns are many."""


def importances(
    fits: Sequence[tuple[Any, Any]],
    X: Any,
    y: Any,
    problem: Problem,
    *,
    metric: str,
    seed: int,
    table: Any = None,
    weight: str | None = None,
) -> list[dict[str, Any]]:
    """How much worse the metric gets when a column's values are dealt anew among the rows.

    Breiman (2001), Machine Learning 45:5, §10, by cross-validation: each fold's own fit answers for rows of its fold,
    and values are dealt within the fold. Where scores of different fits are not on one scale (the area under the ROC
    curve), the metric is averaged over the folds; everything else is taken over all rows together.

    The cost is bounded by `MAX_ROWS` of all folds together, `MAX_COLUMNS` and `REPEATS`, never by a clock, so that the
    same rows give the same figures.

    The interval is the mean loss ∓ 1.96 standard errors of the paired difference between the answers before and after a
    deal, on the same rows (`uncertainty.error_over_folds`). That error holds both the draw of the rows and the
    deal; that the loss is a mean over several deals is not taken off it, so that the interval is rather too wide. A
    column whose interval reaches zero is not told from a useless one, each column judged by itself.

    Parameters
    ----------
    fits : sequence of (fitted estimator, ndarray of int)
        Each with the positions of rows that it was not fitted on.
    X : DataFrame of shape (n_rows, n_features)
    y : Series of shape (n_rows,)
    problem : Problem
    metric : str
        Scorer name.
    seed : int
    table : DataFrame, optional
        The same rows with all columns, where the metric reads weights or columns beside the answers.
    weight : str, optional
        Column of the weights.

    Returns
    -------
    list of dict
        {"column", "drop", "low", "high"}: mean loss of the metric over the repeats with its 95 % interval, null where
        the rows do not bound it; the most important first. Empty where the metric has no value on these rows.
    """
    import numpy as np

    only = scoring.response(metric, problem)
    beside = X if table is None else table
    folds = [_Fold(fitted, X, y, beside, rows, problem, only, weight) for fitted, rows in spread(fits, MAX_ROWS)]
    if sum(len(one.rows) for one in folds) < 2:
        return []
    untouched = join([one.untouched() for one in folds])
    fold = np.repeat(np.arange(len(folds)), [len(one.rows) for one in folds])
    if not math.isfinite(figure_over_folds(metric, untouched, fold)):
        return []
    found = []
    for first in range(0, min(X.shape[1], MAX_COLUMNS), len(folds)):
        places = range(first, min(first + len(folds), X.shape[1], MAX_COLUMNS))
        dealt = [one.dealt(places, [seed, number]) for number, one in enumerate(folds)]
        for at, position in enumerate(places):
            answers = [join([one[at][repeat] for one in dealt]) for repeat in range(REPEATS)]
            loss = _loss(metric, untouched, answers, fold, seed)
            if loss is not None:  # dealt anew, the answers may lie where the metric has no value
                found.append({"column": str(X.columns[position]), **loss})
    return sorted(found, key=lambda one: (-one["drop"], one["column"]))


def spread(fits: Sequence[tuple[Any, Any]], most: int) -> list[tuple[Any, Any]]:
    """At most so many rows of all folds together, evenly many of each, evenly spaced within it.

    Parameters
    ----------
    fits : sequence of (fitted estimator, ndarray of int)
    most : int

    Examples
    --------
    >>> spread([("a", [0, 1, 2, 3]), ("b", [4, 5])], 4)
    [('a', [0, 3]), ('b', [4, 5])]
    """
    import numpy as np

    share = max(most // max(len(fits), 1), 2)
    places = [np.unique(np.linspace(0, len(rows) - 1, min(len(rows), share)).round().astype(int)) for _, rows in fits]
    return [
        (fitted, [int(rows[at]) for at in kept]) for (fitted, rows), kept in zip(fits, places, strict=True) if len(kept)
    ]


@dataclass(frozen=True)
class _Fold:
    """Rows of one fold with the fit that had not seen them."""

    fitted: Any
    X: Any
    y: Any
    table: Any
    rows: list[int]
    problem: Problem
    only: str
    weight: str | None

    def untouched(self) -> Predicted:
        """Answers as the rows are."""
        return self._answers(self.X.iloc[self.rows], 1)

    def dealt(self, places: Iterable[int], seed: list[int]) -> list[list[Predicted]]:
        """Answers with each of some columns dealt anew, each as often as `REPEATS` says.

        All in one call, for what a pipeline costs is mostly per call.
        """
        import numpy as np
        import pandas as pd

        rows, n, blocks = self.X.iloc[self.rows], len(self.rows), []
        for position in places:
            column = rows.columns[position]
            for repeat in range(REPEATS):
                deal = np.random.default_rng([*seed, position, repeat]).permutation(n)
                blocks.append(rows.assign(**{column: rows[column].iloc[deal].set_axis(rows.index)}))
        answers = self._answers(pd.concat(blocks, ignore_index=True), len(blocks))
        parts = [answers.take(np.arange(at * n, (at + 1) * n)) for at in range(len(blocks))]
        return [parts[at : at + REPEATS] for at in range(0, len(parts), REPEATS)]

    def _answers(self, X: Any, times: int) -> Predicted:
        import pandas as pd

        truth = pd.concat([self.y.iloc[self.rows]] * times, ignore_index=True)
        beside = pd.concat([self.table.iloc[self.rows]] * times, ignore_index=True)
        return predict(self.fitted, X, truth, self.problem, only=self.only).beside(beside, self.weight)


def _loss(
    metric: str, untouched: Predicted, dealt: Sequence[Predicted], fold: Any, seed: int
) -> dict[str, float | None] | None:
    """Mean loss over the deals with its interval; None where the metric has no value after one of them."""
    whole = figure_over_folds(metric, untouched, fold)
    drops = [whole - figure_over_folds(metric, one, fold) for one in dealt]
    if not all(math.isfinite(drop) for drop in drops):
        return None
    error = error_over_folds(metric, untouched, dealt[0], fold, seed=seed, n_boot=N_BOOT)
    drop, half = sum(drops) / len(drops), normal_quantile(0.95) * error
    return {"drop": drop, "low": json_number(drop - half), "high": json_number(drop + half)}
