"""Metrics of sorted answers under resampling: sorted once, each replicate is one pass over the counts of the rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from penstock.stages.predicted import Predicted

OfCounts = Callable[[Any], float]
"""A metric as a function of how often each row occurs: uint8 of shape (n_rows,)."""
FEWER = {"average_precision": 400}
"""Replicates at most of a metric whose one pass is long: percentile bounds at 0.95 then rest on 20 of them."""


def of_counts(name: str, predicted: Predicted) -> OfCounts | None:
    """The metric on resampled rows as a function of their counts; None for a metric that has no such form here.

    Parameters
    ----------
    name : str
        Scorer name.
    predicted : Predicted
        Without weights of rows: with them the general bootstrap serves.
    """
    if predicted.weight is not None or name not in _MADE:
        return None
    response, task, make = _MADE[name]
    if predicted.problem.task != task:
        return None
    return make(predicted.y, predicted.column(response))


def _average_precision(y: Any, score: Any) -> OfCounts:
    import numpy as np

    order = np.argsort(-score, kind="stable")
    ranked, positive = score[order], np.flatnonzero(y[order] == 1)
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # last row of each run of ties
    run = np.searchsorted(last, positive)  # the run that a positive row is in
    alone = len(last) == len(ranked)

    def metric(counts: Any) -> float:
        drawn = counts[order]
        passed = np.cumsum(drawn, dtype=np.int32)
        of_positive = drawn[positive]
        hits = np.cumsum(of_positive, dtype=np.int32)
        if not len(hits) or hits[-1] == 0:
            return math.nan
        if not alone:  # hits and rows count to the end of the run of ties
            ends = np.searchsorted(run, run, side="right") - 1
            hits_to, passed_to = hits[ends], passed[last[run]]
        else:
            hits_to, passed_to = hits, passed[positive]
        return float((of_positive * (hits_to / np.maximum(passed_to, 1))).sum() / hits[-1])

    return metric


def _median_error(y: Any, value: Any) -> OfCounts:
    import numpy as np

    off = abs(y - value)
    order = np.argsort(off, kind="stable")
    ranked = off[order]

    def metric(counts: Any) -> float:
        reached = np.cumsum(counts[order], dtype=np.int64)
        n = int(reached[-1])
        if n == 0:
            return math.nan
        low, high = np.searchsorted(reached, [(n + 1) // 2, n // 2 + 1])
        return -float(ranked[low] + ranked[high]) / 2

    return metric


def _max_error(y: Any, value: Any) -> OfCounts:
    import numpy as np

    off = abs(y - value)
    order = np.argsort(-off, kind="stable")

    def metric(counts: Any) -> float:
        drawn = counts[order] > 0
        return -float(off[order[int(np.argmax(drawn))]]) if drawn.any() else math.nan

    return metric


_MADE: Mapping[str, tuple[str, str, Callable[[Any, Any], OfCounts]]] = {
    "average_precision": ("score", "binary", _average_precision),
    "neg_median_absolute_error": ("value", "regression", _median_error),
    "neg_max_error": ("value", "regression", _max_error),
}
