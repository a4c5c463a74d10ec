"""Permutation importance on rows that the model was not fitted on."""

from __future__ import annotations

import math
from typing import Any

from penstock.stages import scoring
from penstock.stages.predicted import predict
from penstock.stages.problem import Problem
from penstock.stages.uncertainty import difference
from penstock.stats.checks import json_number
from penstock.stats.intervals import normal_quantile

MAX_ROWS = 1_000
MAX_COLUMNS = 100
REPEATS = 3
N_BOOT = 60
"""Replicates for the standard error of a loss, where the metric has no closed form: columns are many."""


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

    The interval is the mean loss ∓ 1.96 standard errors of the paired difference between the answers before and after a
    deal, on the same rows (`uncertainty.difference`). That error holds both the draw of the rows and the deal; that the
    loss is a mean over several deals is not taken off it, so that the interval is rather too wide. A column whose
    interval reaches zero is not told from a useless one, each column judged by itself.

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
        {"column", "drop", "low", "high"}: mean loss of the metric over the repeats with its 95 % interval, null where
        the rows do not bound it; the most important first. Empty where the metric has no value on these rows.
    """
    import numpy as np
    import pandas as pd

    if len(X) < 2:
        return []
    keep = np.unique(np.linspace(0, len(X) - 1, min(len(X), MAX_ROWS)).round().astype(int))
    X, y = X.iloc[keep], y.iloc[keep]
    beside = X if table is None else table.iloc[keep]
    only = scoring.response(metric, problem)
    untouched = predict(estimator, X, y, problem, only=only).beside(beside, weight)
    whole = scoring.figure(metric, untouched)
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
        drop = float(np.mean(drops))
        first = difference(metric, untouched, answers.take(parts[0]), seed=seed, n_boot=N_BOOT)
        half = normal_quantile(0.95) * first.se
        ends = {"low": json_number(drop - half), "high": json_number(drop + half)}
        found.append({"column": str(column), "drop": drop, **ends})
    return sorted(found, key=lambda one: (-one["drop"], one["column"]))
