"""Metrics by scorer name, computed from stored answers alone; equal to scikit-learn's, the positive class given.

Class codes put the positive class at 1, so scorers that assume `pos_label=1` are right for any labels: text ones,
on which they would raise, and 1/2, on which they would silently score the wrong class.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from penstock.core.names import (
    CLASSIFICATION_SCORERS,
    OF_SEVERAL_CLASSES,
    OF_TWO_CLASSES,
    REGRESSION_SCORERS,
    did_you_mean,
)
from penstock.errors import DeclarationError
from penstock.stages import own
from penstock.stages.counts import OF_ALL_CLASSES, OF_CLASS_ONE
from penstock.stages.predicted import Predicted, response_of
from penstock.stages.problem import Problem
from penstock.stats.auc import roc_auc

Matrix = Any

NEEDS_PROBA = (
    "neg_log_loss",
    "neg_brier_score",
    "d2_brier_score",
    "d2_log_loss_score",
    "roc_auc_ovo",
    "roc_auc_ovo_weighted",
    "roc_auc_ovr",
    "roc_auc_ovr_weighted",
)
RANKING = ("average_precision", "roc_auc", "top_k_accuracy")
NEEDS_BINARY, NEEDS_MULTICLASS = OF_TWO_CLASSES, OF_SEVERAL_CLASSES


def allowed(problem: Problem) -> tuple[str, ...]:
    """Scorers that fit the task, in alphabetic order; then the user's own that do."""
    mine = tuple(name for name, metric in problem.own.items() if problem.task in metric.tasks)
    if problem.task == "regression":
        return (*REGRESSION_SCORERS, *mine)
    others = NEEDS_BINARY if problem.task == "multiclass" else NEEDS_MULTICLASS
    return (*(name for name in CLASSIFICATION_SCORERS if name not in others), *mine)


def needs_proba(name: str, problem: Problem) -> bool:
    """Whether a metric reads probabilities."""
    metric = problem.own.get(name)
    return name in NEEDS_PROBA if metric is None else metric.needs == "proba"


def chosen(metrics: tuple[str, ...], problem: Problem, *, has_proba: bool) -> tuple[str, ...]:
    """The metrics to compute: those declared, else the task's defaults.

    Parameters
    ----------
    metrics : tuple of str
        Scorer names; the first is primary. Empty for the defaults: roc_auc and neg_log_loss for two classes,
        neg_log_loss and accuracy for several, neg_root_mean_squared_error and r2 for a number; without
        probabilities no log loss.
    problem : Problem
    has_proba : bool
        Whether the model gives probabilities.

    Raises
    ------
    DeclarationError
        Naming every metric that does not fit, and those that do.
    """
    if not metrics:
        return _defaults(problem.task, has_proba=has_proba)
    fit = allowed(problem)
    faults = [f"metrics=: {unfit(name, problem)}" for name in metrics if name not in fit]
    faults += [
        f"metrics=: {name!r} needs probabilities, and this model has no predict_proba"
        for name in metrics
        if name in fit and needs_proba(name, problem) and not has_proba
    ]
    if faults:
        raise DeclarationError(faults, where=f"column {problem.column}", hint=f"allowed: {', '.join(fit)}")
    return tuple(dict.fromkeys(metrics))


def unfit(name: str, problem: Problem) -> str:
    """That a metric does not fit the task, and which of its kin would."""
    return f"{name!r} does not fit a {problem.task} target{_instead(name, allowed(problem))}"


def _instead(name: str, fit: tuple[str, ...]) -> str:
    """Names of its kin that fit: for several classes f1 has f1_macro and others."""
    kin = [one for one in fit if one.startswith((f"{name}_", f"{name.partition('_')[0]}_"))]
    return f"; {', '.join(kin)} would" if kin else did_you_mean(name, fit)


def _defaults(task: str, *, has_proba: bool) -> tuple[str, ...]:
    if task == "regression":
        return ("neg_root_mean_squared_error", "r2")
    if task == "binary":
        return ("roc_auc", "neg_log_loss") if has_proba else ("roc_auc",)
    return ("neg_log_loss", "accuracy") if has_proba else ("accuracy",)


def figure(name: str, predicted: Predicted) -> float:
    """A metric of stored answers; greater is better, as in scikit-learn.

    Parameters
    ----------
    name : str
        Scorer name.
    predicted : Predicted

    Returns
    -------
    float
        What `sklearn.metrics.get_scorer(name)` gives for the model, the positive class as declared; NaN where the
        metric has no value on these rows (one class only, say).
    """
    if len(predicted) == 0:
        return math.nan
    try:
        return metric(name, predicted)(*arrays(name, predicted))
    except (ValueError, ZeroDivisionError):
        return math.nan


def arrays(name: str, predicted: Predicted) -> tuple[Any, ...]:
    """What `metric(name, predicted)` is a function of: truth, answers, and the weight where there is one.

    A metric of the user's own is given other things (`own.arrays`). All have one row for each answer.
    """
    if name in predicted.problem.own:
        return own.arrays(predicted.problem.own[name], predicted)
    beside = () if predicted.weight is None else (predicted.weight,)
    return (predicted.y, predicted.answers, *beside)


def metric(name: str, like: Predicted) -> Callable[..., float]:
    """The metric as a function of its `arrays`, for resampling; may raise ValueError.

    Parameters
    ----------
    name : str
    like : Predicted
        Answers of the same layout.
    """
    if name in like.problem.own:
        return own.function_of(like.problem.own[name], like)
    fast = FAST.get(name)
    if fast is not None and like.problem.task in fast[0] and not (name in SLOW_WEIGHTED and like.weight is not None):
        _, response, function = fast
        return lambda y, answers, *weight: float(
            function(y, response_of(answers, response, like.proba, like.decision), *weight)
        )
    guise, scorer = like.guise(), _scorer(name)

    def by_scorer(y: Any, answers: Matrix, *weight: Any) -> float:
        with warnings.catch_warnings():
            # A class that a slice or a resample lacks is no news to the user; the value is scikit-learn's.
            warnings.simplefilter("ignore")
            return float(scorer(guise, answers, y, **({"sample_weight": weight[0]} if weight else {})))

    return by_scorer


def answerable(name: str, answers: Predicted) -> bool:
    """Whether a model gives the kind of answer that a metric reads."""
    if name in answers.problem.own:
        return own.answerable(answers.problem.own[name], answers)
    if name in NEEDS_PROBA:
        return answers.has_proba
    if name in RANKING:
        return answers.has_proba or answers.decision is not None
    return True


def response(name: str, problem: Problem | None = None) -> str:
    """What a metric reads of a classifier: "label", "proba" or "ranking".

    Parameters
    ----------
    name : str
    problem : Problem, optional
        Which knows the user's own metrics.

    Examples
    --------
    >>> response("f1"), response("neg_log_loss"), response("roc_auc")
    ('label', 'proba', 'ranking')
    """
    if problem is not None and name in problem.own:
        return own.READS[problem.own[name].needs]
    if name in NEEDS_PROBA:
        return "proba"
    return "ranking" if name in RANKING else "label"


def narrow(name: str, predicted: Predicted) -> Predicted:
    """Only those answers that a metric reads, in one layout for all models.

    So two models can be compared though one gives decision values and the other probabilities, and rows count as
    evidence only where the answers differ that the metric reads.
    """
    import numpy as np

    read = response(name, predicted.problem)
    if predicted.problem.task == "regression" or read == "label":
        return replace(predicted, answers=predicted.answers[:, :1], proba=None, decision=None)
    if read == "proba":
        values = predicted.column("proba")
    elif predicted.problem.task == "binary":
        values = predicted.column("score")[:, None]
    else:
        values = predicted.answers[:, predicted.decision or predicted.proba]
    answers, where = np.hstack([np.zeros((len(values), 1)), values]), slice(1, 1 + values.shape[1])
    if read == "proba":
        return replace(predicted, answers=answers, proba=where, decision=None)
    return replace(predicted, answers=answers, proba=None, decision=where)


@functools.cache
def _scorer(name: str) -> Any:
    from sklearn.metrics import get_scorer

    return get_scorer(name)


# ── per-row parts of the metrics that are means ──────────────────────────────────────────────────────────────


def row_scores(name: str, predicted: Predicted) -> Any:
    """What each row contributes to a metric that is a mean, or a function of one; else None.

    Parameters
    ----------
    name : str
    predicted : Predicted

    Returns
    -------
    ndarray of shape (n_rows,) or None
        Greater is better. The metric is `from_mean(name)` of their mean.
    """
    if name == "top_k_accuracy" and (predicted.decision is not None or predicted.has_proba):
        return _top_two(predicted.y, predicted.answers[:, predicted.decision or predicted.proba])
    if name not in MEANS:
        return None
    response, function = MEANS[name]
    return function(predicted.y, predicted.column(response))


def from_mean(name: str) -> Callable[[float], float]:
    """From the mean of `row_scores` to the metric: the identity, but for roots; increasing."""
    return _minus_root if name in ROOTS else float


def slope(name: str, mean: float) -> float:
    """Derivative of `from_mean(name)` at a mean, for the delta method."""
    return 0.5 / math.sqrt(-mean) if name in ROOTS and mean < 0 else 1.0


def _minus_root(mean: float) -> float:
    return -math.sqrt(max(-mean, 0.0))


def _hit(y: Any, label: Any) -> Any:
    return (y == label).astype(float)


def _top_two(y: Any, scores: Any) -> Any:
    """Ties broken as sklearn.metrics.top_k_accuracy_score does, whose k is 2."""
    import numpy as np

    first = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, :2]
    return (first == y[:, None]).any(axis=1).astype(float)


def _log_score(y: Any, proba: Any) -> Any:
    import numpy as np

    eps = np.finfo(np.float64).eps  # as sklearn.metrics.log_loss clips
    return np.log(np.clip(proba[np.arange(len(y)), y], eps, 1 - eps))


def _brier(y: Any, proba: Any) -> Any:
    import numpy as np

    off = ((proba - np.eye(proba.shape[1])[y]) ** 2).sum(axis=1)
    return -(off / 2 if proba.shape[1] == 2 else off)


def _absolute(y: Any, value: Any) -> Any:
    return -abs(y - value)


def _squared(y: Any, value: Any) -> Any:
    return -((y - value) ** 2)


def _relative(y: Any, value: Any) -> Any:
    import numpy as np

    return -abs(y - value) / np.maximum(abs(y), np.finfo(np.float64).eps)


def _squared_log(y: Any, value: Any) -> Any:
    import numpy as np

    _need(bool((y > -1).all() and (value > -1).all()), "logarithmic errors need values above -1")
    return -((np.log1p(y) - np.log1p(value)) ** 2)


def _poisson(y: Any, value: Any) -> Any:
    from scipy.special import xlogy

    _need(bool((y >= 0).all() and (value > 0).all()), "a Poisson deviance needs y >= 0 and predictions > 0")
    return -2 * (xlogy(y, y / value) - y + value)


def _gamma(y: Any, value: Any) -> Any:
    import numpy as np

    _need(bool((y > 0).all() and (value > 0).all()), "a gamma deviance needs y > 0 and predictions > 0")
    return -2 * (np.log(value / y) + y / value - 1)


def _need(condition: bool, why: str) -> None:
    if not condition:
        raise ValueError(why)


MEANS: Mapping[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "accuracy": ("label", _hit),
    "neg_log_loss": ("proba", _log_score),
    "neg_brier_score": ("proba", _brier),
    "neg_mean_absolute_error": ("value", _absolute),
    "neg_mean_squared_error": ("value", _squared),
    "neg_root_mean_squared_error": ("value", _squared),
    "neg_mean_absolute_percentage_error": ("value", _relative),
    "neg_mean_squared_log_error": ("value", _squared_log),
    "neg_root_mean_squared_log_error": ("value", _squared_log),
    "neg_mean_poisson_deviance": ("value", _poisson),
    "neg_mean_gamma_deviance": ("value", _gamma),
}
"""Metrics that are means of per-row figures (or roots of them): closed forms apply."""
SLOW_WEIGHTED = ("neg_median_absolute_error",)
"""Metrics whose weighted form is left to scikit-learn: a weighted median has several definitions."""
ROOTS = ("neg_root_mean_squared_error", "neg_root_mean_squared_log_error")


# ── whole-column metrics that are resampled often, without scikit-learn's overhead ───────────────────────────


def _mean(rows: Any, weight: Any) -> float:
    return float(rows.mean() if weight is None else weight @ rows / weight.sum())


def _r2(y: Any, value: Any, weight: Any = None) -> float:
    off, spread = (y - value) ** 2, (y - _mean(y, weight)) ** 2
    if weight is not None:
        off, spread = weight * off, weight * spread
    _need(bool(spread.sum() > 0), "R² needs a target that varies")
    return float(1 - off.sum() / spread.sum())


def _d2(loss_of: Callable[[Any, Any], Any]) -> Callable[..., float]:
    """Share of a loss that a model saves beside one that always answers with the class shares of these rows."""

    def metric(y: Any, proba: Any, weight: Any = None) -> float:
        import numpy as np

        whole = len(y) if weight is None else weight.sum()
        shares = np.bincount(y, weights=weight, minlength=proba.shape[1]) / whole
        _need(bool(shares.max() < 1), "both losses need two classes")
        null = _mean(loss_of(y, np.broadcast_to(shares, proba.shape)), weight)
        return float(1 - _mean(loss_of(y, proba), weight) / null)

    return metric


def _average_precision(y: Any, score: Any, weight: Any = None) -> float:
    import numpy as np

    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # last row of each run of ties
    hits = np.cumsum(y[order] if weight is None else y[order] * weight[order])[last]
    passed = last + 1 if weight is None else np.cumsum(weight[order])[last]
    _need(bool(len(hits)) and hits[-1] > 0, "average precision needs a positive row")
    if weight is not None:
        passed = np.where(passed > 0, passed, 1.0)  # rows without weight above all others: nothing passed, nothing hit
    return float((np.diff(hits, prepend=0) * hits / passed).sum() / hits[-1])


def _median_error(y: Any, value: Any) -> float:
    import numpy as np

    return -float(np.median(abs(y - value)))


def _by_rows(name: str) -> Callable[..., float]:
    function = MEANS[name][1]
    return lambda y, answer, weight=None: from_mean(name)(_mean(function(y, answer), weight))


_BINARY, _CLASSES, _NUMBER = ("binary",), ("binary", "multiclass"), ("regression",)
FAST: Mapping[str, tuple[tuple[str, ...], str, Callable[..., float]]] = {
    "average_precision": (_BINARY, "score", _average_precision),
    "roc_auc": (_BINARY, "score", roc_auc),
    **{name: (_BINARY, "label", function) for name, function in OF_CLASS_ONE.items()},
    **{name: (_CLASSES, "label", function) for name, function in OF_ALL_CLASSES.items()},
    "d2_log_loss_score": (_CLASSES, "proba", _d2(_log_score)),
    "d2_brier_score": (_CLASSES, "proba", _d2(_brier)),
    "r2": (_NUMBER, "value", _r2),
    "neg_median_absolute_error": (_NUMBER, "value", _median_error),
    **{name: (_NUMBER if MEANS[name][0] == "value" else _CLASSES, MEANS[name][0], _by_rows(name)) for name in MEANS},
}


# ── how a figure is shown ────────────────────────────────────────────────────────────────────────────────────


def shown_name(name: str) -> str:
    """A scorer's name as people say it: errors lose their `neg_`.

    Examples
    --------
    >>> shown_name("neg_log_loss")
    'log_loss'
    """
    return name.removeprefix("neg_")


def is_error(name: str) -> bool:
    """Whether the metric is shown as an error, lower being better."""
    return name.startswith("neg_")


def shown(name: str, value: float | None) -> float | None:
    """A figure as people say it: errors are positive numbers.

    Examples
    --------
    >>> shown("neg_root_mean_squared_error", -41.2), shown("roc_auc", 0.8)
    (41.2, 0.8)
    """
    if value is None or not is_error(name):
        return value
    return 0.0 - value


def number(value: float | None) -> str:
    """A figure in a sentence: three decimals, or three significant digits when it is large or tiny.

    Examples
    --------
    >>> number(0.8434), number(41.234), number(None), number(0.00012)
    ('0.843', '41.2', 'n/a', '0.00012')
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}" if size >= 0.01 or value == 0 else f"{value:.2g}"
