"""Intervals of a metric and paired differences of two models: closed forms first, a bootstrap for the rest."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from penstock.errors import DataError
from penstock.stages import scoring
from penstock.stages.counts import OF_CELLS
from penstock.stages.own import PER_DRAW
from penstock.stages.predicted import Predicted
from penstock.stages.resampled import FEWER, of_counts
from penstock.stages.saved import saved_losses
from penstock.stats.auc import delong, delong_interval, several
from penstock.stats.bootstrap import (
    bootstrap_interval,
    difference_of_draws,
    interval_of_draws,
    paired_bootstrap,
    weighted_bootstrap,
)
from penstock.stats.intervals import (
    Interval,
    mean_and_se,
    mean_interval,
    normal_quantile,
    t_quantile,
    wilson_interval,
)
from penstock.stats.paired import Difference, count_informative, paired_auc, paired_t, with_half
from penstock.stats.ratios import counts_interval, paired_counts, saved_rows
from penstock.stats.weighting import checked_weights, weighted_share

N_BOOT = 1_000
"""Replicates for metrics without a closed form: percentile bounds at 0.95 rest on 50 of them."""
AREAS = {  # averaged over pairs of classes; weighed by how many rows have them
    "roc_auc_ovr": (False, False),
    "roc_auc_ovr_weighted": (False, True),
    "roc_auc_ovo": (True, False),
    "roc_auc_ovo_weighted": (True, True),
}
SCALES = {"matthews_corrcoef": "atanh", "positive_likelihood_ratio": "log", "neg_negative_likelihood_ratio": "none"}


def interval(
    name: str, predicted: Predicted, *, confidence: float = 0.95, seed: int = 0, n_boot: int = N_BOOT
) -> Interval:
    """Two-sided interval of a metric of one model, taking the model as fixed.

    DeLong for the area under the ROC curve (and its averages over several classes), Wilson for proportions (and for
    F1, which grows with the share of hits among all that is true or said), the multinomial cells of the confusion
    matrix for other ratios of counts, t for means (for roots of means through the root, for R² and its kin by their
    expansion), a percentile bootstrap for the rest. Weighted rows have the same with linearised variances: weighted
    DeLong (`stats.auc.areas`), Wilson on the effective number of trials (`stats.weighting.weighted_share`), t on the
    sandwich error (`stats.intervals.mean_and_se`). Where rows depend on one another within groups, each form is that
    of groups, and the bootstrap draws whole groups.

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
    closed = _closed_interval(name, predicted, value, confidence)
    if closed is not None:
        return closed
    n_boot = _replicates(name, predicted, n_boot)
    if (function := of_counts(name, predicted)) is not None:
        draws = weighted_bootstrap((function,), n, n_boot, seed, predicted.cluster)[:, 0]
        return interval_of_draws(value, draws, n, confidence)
    predicted = scoring.narrow(name, predicted)
    arrays = scoring.arrays(name, predicted)
    return bootstrap_interval(scoring.metric(name, predicted), arrays, confidence, n_boot, seed, predicted.cluster)


def _closed_interval(name: str, predicted: Predicted, value: float, confidence: float) -> Interval | None:
    """The interval of a metric that needs no resampling; None for the others."""
    weight, cluster = predicted.weight, predicted.cluster
    if (wilson := _wilson(name, predicted, value, confidence)) is not None:
        return wilson
    rows = scoring.row_scores(name, predicted)
    if rows is not None:
        mean = mean_interval(rows, confidence, weight, cluster)
        through = scoring.from_mean(name)
        low = through(mean.low) if math.isfinite(mean.low) else -math.inf
        high = through(min(mean.high, 0.0)) if scoring.is_error(name) else mean.high
        return Interval(low, value, high, mean.n, mean.method if weight is None else f"weighted {mean.method}")
    if name == "roc_auc":
        return delong_interval(predicted.y, predicted.column("score"), confidence, cluster, weight)
    if name in OF_CELLS:
        known = {"clusters": cluster, "weights": weight, "k": max(len(predicted.problem.classes), 2)}
        of = (OF_CELLS[name], predicted.y, predicted.column("label"))
        return counts_interval(*of, confidence, **known, scale=SCALES.get(name, "logit"))
    if (losses := saved_losses(name, predicted)) is not None:
        mean = mean_interval(saved_rows(*losses, weight)[1], confidence, weight, cluster)
        return Interval(mean.low, value, min(mean.high, 1.0), mean.n, f"{mean.method} of a ratio")
    return _area_interval(name, predicted, value, confidence)


def _area_interval(name: str, predicted: Predicted, value: float, confidence: float) -> Interval | None:
    """Of an area averaged over several classes, on the logit scale."""
    found = _area_rows(name, predicted)
    if found is None:
        return None
    _, se, df, over = found
    if not (0 < value < 1 and 0 < se < math.inf):
        return Interval(-math.inf, value, math.inf, len(predicted), "DeLong, no spread")
    logit, half = math.log(value / (1 - value)), t_quantile(confidence, df) * se / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-(logit + side))) for side in (-half, half))
    return Interval(low, value, high, len(predicted), f"DeLong{over}, logit")


def _area_rows(name: str, a: Predicted, b: Predicted | None = None) -> tuple[float, float, float, str] | None:
    """Value, standard error, degrees of freedom and clusters of an average area, or of the difference of two."""
    import numpy as np

    if name not in AREAS or not a.has_proba or (b is not None and not b.has_proba):
        return None
    pairs, prevalence = AREAS[name]
    value, influence = 0.0, np.zeros(len(a))
    for sign, one in ((1, a), (-1, b)):
        if one is not None:
            area, part = several(one.y, one.column("proba"), pairs=pairs, prevalence=prevalence, weights=one.weight)
            value, influence = value + sign * area, influence + sign * part
    mean = mean_and_se(influence * len(a), clusters=a.cluster)
    clustered = a.cluster is not None
    over = f" over {int(mean.df) + 1} clusters" if clustered else ""
    return value, mean.se, mean.df if clustered else math.inf, over


def _wilson(name: str, predicted: Predicted, value: float, confidence: float) -> Interval | None:
    """Of a metric that is a share of rows, or grows with one; None for others."""
    counts = _proportion(name, predicted)
    if counts is None:
        return None
    found = wilson_interval(*counts, confidence)
    if name == "f1":  # with J the share of hits, F1 is 2J / (1 + J)
        low, high = (2 * end / (1 + end) for end in (found.low, found.high))
        return Interval(min(low, value), value, max(high, value), found.n, "Wilson of hits, through F1")
    if predicted.weight is None and predicted.cluster is None:
        return found
    return replace(found, value=value, n=len(predicted), method=f"Wilson on {counts[1]:,.0f} effective rows")


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
        return min(n_boot, FEWER.get(name, n_boot))
    return min(n_boot, max(100, PER_DRAW // max(len(predicted), 1)))


def _proportion(name: str, predicted: Predicted) -> tuple[float, float] | None:
    """Successes and trials of a share of rows, effective ones with weights or groups; None for other metrics."""
    import numpy as np

    binary = predicted.problem.task == "binary"
    if name == "accuracy":
        trials = np.ones(len(predicted), dtype=np.bool_)
        hit = predicted.y == predicted.column("label")
    elif name in {"recall", "precision", "jaccard", "f1"} and binary:
        positive, said = predicted.y == 1, predicted.column("label") == 1
        trials = {"recall": positive, "precision": said}.get(name, positive | said)
        hit = positive & said
    else:
        return None
    if name == "f1" and not (checked_weights(predicted.weight, len(hit)) is None and predicted.cluster is None):
        return None  # conditioning on all that is true or said is for plain counts
    return trials_of(hit, trials, predicted)


def trials_of(hit: Any, trials: Any, predicted: Predicted) -> tuple[float, float] | None:
    """Successes among trials, as many as they are worth with weights and in groups; None without any.

    The effective number is p (1 - p) over the variance of the share that weights and groups give (Korn & Graubard
    1998, Survey Methodology 24:193), never more than the rows.

    Parameters
    ----------
    hit, trials : ndarray of bool, shape (n_rows,)
    predicted : Predicted
        Whose weights and groups they are.
    """
    n = int(trials.sum())
    weight = None if predicted.weight is None else predicted.weight[trials]
    if not n or (weight is not None and not weight.sum() > 0):
        return None
    if predicted.cluster is None:
        if weight is None:
            return int(hit[trials].sum()), n
        share, worth = weighted_share(hit[trials], weight)
        return share * worth, worth
    mean = mean_and_se(hit[trials].astype(float), weight, predicted.cluster[trials])
    share = min(max(mean.value, 0.0), 1.0)
    worth = share * (1 - share) / mean.se**2 if 0 < mean.se < math.inf else mean.df + 1
    worth = min(max(worth, 1.0), n)
    return share * worth, worth


def difference(
    name: str, a: Predicted, b: Predicted, *, confidence: float = 0.95, seed: int = 0, n_boot: int = N_BOOT
) -> Difference:
    """The metric of model a minus that of model b on the same rows: greater than zero speaks for a.

    Paired t for means; DeLong for the area under the ROC curve; for roots of means and for R² and its kin paired t on
    the linearised per-row errors (delta method; van der Vaart 1998, §3.1); the eight-cell multinomial for ratios of
    counts; a paired bootstrap for the rest; with weights and groups as for `interval`. It speaks of
    these two fitted models on the population that the rows come from.

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
    closed = _closed_difference(name, a, b, confidence)
    if closed is not None:
        return closed
    n_boot = _replicates(name, a, n_boot)
    one, other = of_counts(name, a), of_counts(name, b)
    a, b = scoring.narrow(name, a), scoring.narrow(name, b)
    truth, first, *beside = scoring.arrays(name, a)
    second = scoring.arrays(name, b)[1]
    if one is not None and other is not None:
        draws = weighted_bootstrap((one, other), len(a), n_boot, seed, a.cluster)
        differs = (first != second).reshape(len(a), -1).any(axis=1)
        value = scoring.figure(name, a) - scoring.figure(name, b)
        informative = count_informative(differs, a.cluster)
        return difference_of_draws(value, draws[:, 0] - draws[:, 1], len(a), informative, confidence)
    metric = scoring.metric(name, a)
    rows: dict[str, Any] = {"clusters": a.cluster, "beside": tuple(beside), "weights": a.weight}
    return paired_bootstrap(metric, truth, first, second, confidence, n_boot, seed, **rows)


def _closed_difference(name: str, a: Predicted, b: Predicted, confidence: float) -> Difference | None:
    """The difference of a metric that needs no resampling; None for the others."""
    known: dict[str, Any] = {"clusters": a.cluster, "weights": a.weight}
    rows_a, rows_b = scoring.row_scores(name, a), scoring.row_scores(name, b)
    if rows_a is not None:
        if name not in scoring.ROOTS:
            return paired_t(rows_a, rows_b, confidence, **known)
        linear = (_linear(name, rows_a, a.weight), _linear(name, rows_b, a.weight))
        return _of_rows(paired_t(*linear, confidence, **known), rows_a != rows_b, a)
    if name == "roc_auc":
        return paired_auc(a.y, a.column("score"), b.column("score"), confidence, **known)
    if name in OF_CELLS:
        labels = (a.column("label"), b.column("label"))
        return paired_counts(OF_CELLS[name], a.y, *labels, confidence, **known, k=max(len(a.problem.classes), 2))
    losses_a, losses_b = saved_losses(name, a), saved_losses(name, b)
    if losses_a is not None and losses_b is not None:
        linear = (saved_rows(*losses_a, a.weight)[1], saved_rows(*losses_b, a.weight)[1])
        return _of_rows(paired_t(*linear, confidence, **known), losses_a[0] != losses_b[0], a)
    if (areas := _area_rows(name, a, b)) is not None:
        value, se, df, over = areas
        half = t_quantile(confidence, df, sides=1) * se if se > 0 or value == 0 else math.inf
        differs = (a.column("proba") != b.column("proba")).any(axis=1)
        informative = count_informative(differs, a.cluster, a.weight)
        return with_half(value, half, se, len(a), informative, f"DeLong{over}", confidence, df)
    return None


def _of_rows(found: Difference, differs: Any, a: Predicted) -> Difference:
    """The same, only rows with different losses counted as evidence: expanded rows differ wherever the figures do."""
    return replace(found, n_informative=count_informative(differs, a.cluster, a.weight))


def _linear(name: str, rows: Any, weight: Any) -> Any:
    """Rows whose mean is the metric, and whose spread is that of its first-order expansion."""
    mean = float(rows.mean() if weight is None else weight @ rows / weight.sum())
    return scoring.from_mean(name)(mean) + scoring.slope(name, mean) * (rows - mean)


def _unknown(n: int, confidence: float) -> Difference:
    return Difference(math.nan, -math.inf, math.inf, math.inf, n, 0, "no value on these rows", confidence)
