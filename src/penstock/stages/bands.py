"""How far the points of a curve may lie from the truth: pointwise bands of a ROC and a precision–recall curve."""

from __future__ import annotations

import math
from typing import Any

from penstock.stages.predicted import Predicted
from penstock.stats.intervals import wilson_interval
from penstock.stats.weighting import weighted_share

MAX_CUTS = 60
"""Thresholds at which a band is computed, evenly spaced among those that occur."""
LEVEL = 0.95


def bands(predicted: Predicted) -> dict[str, Any]:
    """Pointwise 95 % bands over the thresholds of a ranking.

    At one threshold the two rates of a ROC curve are shares of different rows, the positives and the negatives, hence
    independent: Wilson intervals at √0.95 each make a rectangle that holds the true point in 95 % of samples. The band
    is drawn through the corners of these rectangles (threshold-wise regions: Macskassy, Provost & Rosset 2005, ICML,
    §3; Wilson 1927, JASA 22:209). For precision it is Wilson's interval among the rows called positive. With weights
    the trials are effective ones (`stats.weighting.weighted_share`).

    A band is pointwise: it speaks of one threshold at a time, and the whole curve leaves it more often than in 5 % of
    samples. It takes rows as independent and the fits as they are: how much another training table would change the
    curve is not in it.

    Parameters
    ----------
    predicted : Predicted
        Of a binary task with both classes.

    Returns
    -------
    dict
        "roc_band": {"x_low", "y_high", "x_high", "y_low"}, corners from the strictest threshold to the loosest;
        "precision_recall_band": {"recall", "low", "high"}.
    """
    import numpy as np

    score = predicted.column("score")
    weight = None if predicted.weight is None else predicted.weight
    counted = np.ones(len(score), dtype=np.bool_) if weight is None else weight > 0
    ranked = np.unique(score[counted])[::-1]
    cuts = ranked[np.unique(np.linspace(0, len(ranked) - 1, min(len(ranked), MAX_CUTS)).round().astype(int))]
    positive = predicted.y == 1
    each = math.sqrt(LEVEL)
    true = [_share(score[positive & counted] >= cut, _of(weight, positive & counted), each) for cut in (np.inf, *cuts)]
    false = [
        _share(score[~positive & counted] >= cut, _of(weight, ~positive & counted), each) for cut in (np.inf, *cuts)
    ]
    right = [_share(positive[counted & (score >= cut)], _of(weight, counted & (score >= cut)), LEVEL) for cut in cuts]
    rising = np.maximum.accumulate
    return {
        "roc_band": {
            "x_low": _rounded(rising([low for _, low, _ in false])),
            "y_high": _rounded(rising([high for _, _, high in true])),
            "x_high": _rounded(rising([high for _, _, high in false])),
            "y_low": _rounded(rising([low for _, low, _ in true])),
        },
        "precision_recall_band": {
            "recall": _rounded([value for value, _, _ in true[1:]]),
            "low": _rounded([low for _, low, _ in right]),
            "high": _rounded([high for _, _, high in right]),
        },
    }


def _of(weight: Any, rows: Any) -> Any:
    return None if weight is None else weight[rows]


def _share(hit: Any, weight: Any, level: float) -> tuple[float, float, float]:
    """A share with its interval."""
    if weight is None:
        found = wilson_interval(int(hit.sum()), len(hit), level)
    else:
        part, trials = weighted_share(hit, weight)
        found = wilson_interval(min(part * trials, trials), trials, level)
    return found.value, found.low, found.high


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]
