"""Permutation importance on rows that the model was not fitted on."""

from __future__ import annotations

import math
from typing import Any

from penstock.stages import scoring
from penstock.stages.predicted import predict
from penstock.stages.problem import Problem

MAX_ROWS = 1_000
MAX_COLUMNS = 100
REPEATS = 3


def importances(
    estimator: Any,
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

    Breiman (2001), Machine Learning 45:5, §10. The cost is bounded by `MAX_ROWS`, `MAX_COLUMNS` and `REPEATS`, never
    by a clock, so that the same rows give the same figures.

    Parameters
    ----------
    estimator : fitted estimator
    X : DataFrame of shape (n_rows, n_features)
        Rows that it was not fitted on.
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
        {"column", "drop", "low", "high"}: mean, least and greatest loss of the metric over the repeats; the most
        important first. Empty where the metric has no value on these rows.
    """
    import numpy as np
    import pandas as pd

    if len(X) < 2:
        return []
    keep = np.unique(np.linspace(0, len(X) - 1, min(len(X), MAX_ROWS)).round().astype(int))
    X, y = X.iloc[keep], y.iloc[keep]
    beside = X if table is None else table.iloc[keep]
    only = scoring.response(metric, problem)
    whole = scoring.figure(metric, predict(estimator, X, y, problem, only=only).beside(beside, weight))
    if not math.isfinite(whole):
        return []
    found = []
    repeated, truth = pd.concat([X] * REPEATS, ignore_index=True), pd.concat([y] * REPEATS, ignore_index=True)
    beside = pd.concat([beside] * REPEATS, ignore_index=True)
    for position, column in enumerate(X.columns[:MAX_COLUMNS]):
        deals = [np.random.default_rng([seed, position, repeat]).permutation(len(X)) for repeat in range(REPEATS)]
        # All repeats in one call: what a pipeline costs is mostly per call.
        dealt = X[column].iloc[np.concatenate(deals)].reset_index(drop=True)
        answers = predict(estimator, repeated.assign(**{column: dealt}), truth, problem, only=only)
        answers = answers.beside(beside, weight)
        parts = np.split(np.arange(len(answers)), REPEATS)
        drops = [whole - scoring.figure(metric, answers.take(part)) for part in parts]
        if not all(math.isfinite(drop) for drop in drops):
            continue  # dealt anew, the answers lie where the metric has no value
        found.append(
            {
                "column": str(column),
                "drop": float(np.mean(drops)),
                "low": float(min(drops)),
                "high": float(max(drops)),
            }
        )
    return sorted(found, key=lambda one: (-one["drop"], one["column"]))
