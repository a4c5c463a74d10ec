"""Metrics that are the share of a loss that a model saves beside the best constant answer: R² and its kin."""

from __future__ import annotations

from typing import Any

from penstock.stages.predicted import Predicted
from penstock.stages.scoring import MEANS
from penstock.stats.weighting import checked_weights, weighted_quantile

_D2 = {"d2_log_loss_score": "neg_log_loss", "d2_brier_score": "neg_brier_score"}
SAVED = ("r2", "explained_variance", "d2_absolute_error_score", *_D2)
"""They have a closed form."""


def saved_losses(name: str, predicted: Predicted) -> tuple[Any, Any] | None:
    """Per-row losses of the model and of the best constant answer, where the metric is the share saved; else None.

    Parameters
    ----------
    name : str
    predicted : Predicted

    Returns
    -------
    tuple of ndarray of shape (n_rows,), or None
        R², explained variance and the D² figures; see `stats.ratios.saved_rows`.
    """
    import numpy as np

    y, weight = predicted.y, checked_weights(predicted.weight, len(predicted))
    if name in _D2:
        proba = predicted.column("proba")
        shares = np.bincount(y, weights=weight, minlength=proba.shape[1]) / (len(y) if weight is None else weight.sum())
        return -MEANS[_D2[name]][1](y, proba), -MEANS[_D2[name]][1](y, np.broadcast_to(shares, proba.shape))
    if name not in SAVED or predicted.problem.task != "regression":
        return None
    off = y - predicted.column("value")
    if name == "d2_absolute_error_score":
        middle = float(np.median(y)) if weight is None else weighted_quantile(y, 0.5, weight)
        return abs(off), abs(y - middle)
    return (off if name == "r2" else off - mean(off, weight)) ** 2, (y - mean(y, weight)) ** 2


def mean(rows: Any, weight: Any) -> float:
    """Of rows, by their weights where there are any."""
    return float(rows.mean() if weight is None else weight @ rows / weight.sum())
