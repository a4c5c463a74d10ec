"""Intervals of a metric and paired differences of two models: closed forms first, a bootstrap for the rest."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from penstock.errors import DataError
from penstock.stages import scoring
from penstock.stages.own import PER_DRAW
from penstock.stages.predicted import Predicted
from penstock.stats.auc import delong, delong_interval
from penstock.stats.bootstrap import bootstrap_interval, paired_bootstrap
from penstock.stats.intervals import Interval, mean_interval, normal_quantile, wilson_interval
from penstock.stats.paired import Difference, paired_auc, paired_t
from penstock.stats.weighting import weighted_share

N_BOOT = 400
"""Replicates for metrics without a closed form: percentile bounds at 0.95 rest on 20 of them."""


def interval(
    name: str, predicted: Predicted, *, confidence: float = 0.95, seed: int = 0, n_boot: int = N_BOOT
) -> Interval:
    """Two-sided interval of a metric of one model, taking the model as fixed.

    DeLong for the area under the ROC curve, Wilson for proportions, t for means (and for roots of means through
    the root), a percentile bootstrap for the rest. Weighted rows have the same with linearised variances: weighted
    DeLong (`stats.auc.areas`), Wilson on the effective number of trials (`stats.weighting.weighted_share`), t on the
    sandwich error (`stats.intervals.mean_and_se`); the bootstrap draws rows, and weights stay with their rows.

    Parameters
    ----------
    name : str
        Scorer name.
    predicted : Predicted
    confidence : float, default=0.95
        Of both sides together.
    seed, n_boot : int
        For the bootstrap.

    Returns
    -------
    Interval
        In the scorer's own sign: greater is better. With open bounds where these rows do not bound the metric.
    """
    n = len(predicted)
    value = scoring.figure(name, predicted)
    if not math.isfinite(value):
        return Interval(-math.inf, math.nan, math.inf, n, "no value on these rows")
    if (counts := _proportion(name, predicted)) is not None:
        wilson = wilson_interval(*counts, confidence)
        if predicted.weight is None:
            return wilson
        return replace(wilson, value=value, n=n, method=f"Wilson on {counts[1]:,.0f} effective rows")
    rows = scoring.row_scores(name, predicted)
    if rows is not None:
        mean = mean_interval(rows, confidence, predicted.weight)
        through = scoring.from_mean(name)
        low = through(mean.low) if math.isfinite(mean.low) else -math.inf
        high = through(min(mean.high, 0.0)) if scoring.is_error(name) else mean.high
        return Interval(low, value, high, n, mean.method if predicted.weight is None else f"weighted {mean.method}")
    if name == "roc_auc":
        return delong_interval(predicted.y, predicted.column("score"), confidence, weights=predicted.weight)
    predicted = scoring.narrow(name, predicted)
    function, n_boot = scoring.metric(name, predicted), _replicates(name, predicted, n_boot)
    return bootstrap_interval(function, scoring.arrays(name, predicted), confidence, n_boot, seed)


def interval_over_folds(
    name: str, predicted: Predicted, fold: Any, *, confidence: float = 0.95, seed: int = 0, n_boot: int = N_BOOT
) -> Interval:
    """The same for answers of several fits, one a fold.

    The area under the ROC curve is averaged over the folds, weighted by rows, because scores of different fits are
    not on one scale; its variance is the sum of DeLong's, on the logit scale. Everything else is taken over all
    rows together.

    Parameters
    ----------
    name : str
    predicted : Predicted
    fold : ndarray of int, shape (n_rows,)
        Which fit answered.
    confidence, seed, n_boot
        See `interval`.
    """
    pooled = interval(name, predicted, confidence=confidence, seed=seed, n_boot=n_boot)
    if name != "roc_auc" or not math.isfinite(pooled.value):
        return pooled
    parts = _fold_areas(predicted, fold)
    n = sum(rows for rows, _, _ in parts)
    area = sum(rows * value for rows, value, _ in parts) / n if n else math.nan
    variance = sum((rows / n) ** 2 * part for rows, _, part in parts) if n else math.nan
    weighted = "" if predicted.weight is None else "weighted "
    if not (0 < area < 1 and 0 < variance < math.inf):
        return pooled
    logit = math.log(area / (1 - area))
    half = normal_quantile(confidence) * math.sqrt(variance) / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-(logit + side))) for side in (-half, half))
    return Interval(low, area, high, len(predicted), f"{weighted}DeLong over {len(parts)} folds, logit")


def figure_over_folds(name: str, predicted: Predicted, fold: Any) -> float:
    """The value of `interval_over_folds` alone; NaN where there is none."""
    if name != "roc_auc":
        return scoring.figure(name, predicted)
    parts = _fold_areas(predicted, fold)
    n = sum(rows for rows, _, _ in parts)
    return sum(rows * value for rows, value, _ in parts) / n if n else math.nan


def error_over_folds(name: str, a: Predicted, b: Predicted, fold: Any, *, seed: int = 0, n_boot: int = N_BOOT) -> float:
    """Standard error of the paired difference of two models' figures over folds, taken as `interval_over_folds` does.

    Parameters
    ----------
    name : str
    a, b : Predicted
        Answers for the same rows in the same order.
    fold : ndarray of int, shape (n_rows,)
    seed, n_boot
        See `difference`.

    Returns
    -------
    float
        Infinite where the rows do not tell. Of an area under the ROC curve, where a fold by itself does not tell, that
        of all rows ranked together.
    """
    import numpy as np

    if name == "roc_auc":
        sizes = {number: size_of(a.take(fold == number)) for number in np.unique(fold)}
        known = [n for n in sizes if scoring.answerable(name, a.take(fold == n))]
        whole = sum(sizes[number] for number in known)
        errors = [difference(name, a.take(fold == n), b.take(fold == n)).se * sizes[n] / whole for n in known]
        if errors and math.isfinite(total := math.hypot(*errors)):
            return total
    return difference(name, a, b, seed=seed, n_boot=n_boot).se


def size_of(predicted: Predicted) -> float:
    """Rows, or what they weigh together."""
    return len(predicted) if predicted.weight is None else float(predicted.weight.sum())


def _fold_areas(predicted: Predicted, fold: Any) -> list[tuple[float, float, float]]:
    """Rows (what they weigh, with weights), area and its variance of each fold that has both classes."""
    import numpy as np

    found: list[tuple[float, float, float]] = []
    for number in np.unique(fold):
        part = predicted.take(fold == number)
        y, weight = part.y, part.weight
        known = y if weight is None else y[weight > 0]
        if 0 < known.sum() < len(known):
            areas, covariance = delong(y, part.column("score")[None], weights=weight)
            size = len(y) if weight is None else float(weight.sum())
            found.append((size, float(areas[0]), float(covariance[0, 0])))
    return found


def _replicates(name: str, predicted: Predicted, n_boot: int) -> int:
    """Fewer for a function of the user's own on many rows, whose cost is not ours to know."""
    if name not in predicted.problem.own:
        return n_boot
    return min(n_boot, max(100, PER_DRAW // max(len(predicted), 1)))


def _proportion(name: str, predicted: Predicted) -> tuple[float, float] | None:
    """Successes and trials of a metric that is a share of rows, effective ones with weights; None for others."""
    if predicted.weight is not None:
        return _weighted_proportion(name, predicted)
    if name == "accuracy":
        return int((predicted.y == predicted.column("label")).sum()), len(predicted)
    if name not in {"recall", "precision"} or predicted.problem.task != "binary":
        return None
    positive, said = predicted.y == 1, predicted.column("label") == 1
    trials = int((positive if name == "recall" else said).sum())
    return (int((positive & said).sum()), trials) if trials else None


def _weighted_proportion(name: str, predicted: Predicted) -> tuple[float, float] | None:
    import numpy as np

    if name not in {"accuracy", "recall", "precision"} or (name != "accuracy" and predicted.problem.task != "binary"):
        return None
    label = predicted.column("label")
    sides = {"recall": predicted.y == 1, "precision": label == 1, "accuracy": np.ones(len(predicted), dtype=np.bool_)}
    weight = predicted.weight[sides[name]]
    if not weight.sum() > 0:
        return None
    share, trials = weighted_share((predicted.y == label)[sides[name]], weight)
    return share * trials, trials


def difference(
    name: str, a: Predicted, b: Predicted, *, confidence: float = 0.95, seed: int = 0, n_boot: int = N_BOOT
) -> Difference:
    """The metric of model a minus that of model b on the same rows: greater than zero speaks for a.

    Paired t for means; DeLong for the area under the ROC curve; for roots of means paired t on the linearised
    per-row errors (delta method; van der Vaart 1998, §3.1); a paired bootstrap for the rest; with weights as for
    `interval`. It speaks of these two fitted models on the population that the rows come from.

    Parameters
    ----------
    name : str
    a, b : Predicted
        Answers for the same rows in the same order.
    confidence : float, default=0.95
        Of each one-sided bound.
    seed, n_boot : int
        For the bootstrap.

    Returns
    -------
    Difference
        With open bounds where the rows do not tell.
    """
    first, second = scoring.figure(name, a), scoring.figure(name, b)
    if not (math.isfinite(first) and math.isfinite(second)):
        return _unknown(len(a), confidence)
    try:
        return _difference(name, a, b, confidence, seed, n_boot)
    except DataError:
        return _unknown(len(a), confidence)


def _difference(name: str, a: Predicted, b: Predicted, confidence: float, seed: int, n_boot: int) -> Difference:
    rows_a, rows_b = scoring.row_scores(name, a), scoring.row_scores(name, b)
    if rows_a is not None:
        if name in scoring.ROOTS:
            rows_a, rows_b = _linear(name, rows_a, a.weight), _linear(name, rows_b, a.weight)
        return paired_t(rows_a, rows_b, confidence, weights=a.weight)
    if name == "roc_auc":
        return paired_auc(a.y, a.column("score"), b.column("score"), confidence, weights=a.weight)
    a, b = scoring.narrow(name, a), scoring.narrow(name, b)
    truth, first, *beside = scoring.arrays(name, a)
    return paired_bootstrap(
        scoring.metric(name, a),
        truth,
        first,
        scoring.arrays(name, b)[1],
        confidence,
        _replicates(name, a, n_boot),
        seed,
        beside=tuple(beside),
        weights=a.weight,
    )


def _linear(name: str, rows: Any, weight: Any) -> Any:
    """Rows whose mean is the metric, and whose spread is that of its first-order expansion."""
    mean = float(rows.mean() if weight is None else weight @ rows / weight.sum())
    return scoring.from_mean(name)(mean) + scoring.slope(name, mean) * (rows - mean)


def _unknown(n: int, confidence: float) -> Difference:
    return Difference(math.nan, -math.inf, math.inf, math.inf, n, 0, "no value on these rows", confidence)
