"""Cut points of a ranking: the threshold that meets a rule, and what each threshold would mean."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from penstock.core.names import SCORERS
from penstock.core.threshold import Threshold
from penstock.errors import DeclarationError
from penstock.stages import scoring
from penstock.stages.predicted import Predicted
from penstock.stages.problem import Problem

MOST_TRIED = 400
"""Cut points at which a metric is computed that cannot be had from counts; then those around the best."""
CURVE_POINTS = 200


@dataclass(frozen=True, slots=True)
class Cuts:
    """Every distinct way to cut a ranking in two, from nobody called positive to everybody.

    Attributes
    ----------
    score : ndarray of shape (n_cuts,)
        The lowest score that is called positive; infinite for nobody.
    below : ndarray of shape (n_cuts,)
        The highest score that is not; minus infinity for everybody.
    hits, said : ndarray of shape (n_cuts,)
        Weight of the positive rows that are called positive, and of all rows that are.
    positive, total : float
        Weight of the positive rows, and of all.
    """

    score: Any
    below: Any
    hits: Any
    said: Any
    positive: float
    total: float

    def __len__(self) -> int:
        return len(self.score)

    def threshold(self, at: int) -> float:
        """A number that cuts here, with as few decimals as the gap between the two scores allows."""
        high, low = float(self.score[at]), float(self.below[at])
        if math.isinf(high):
            return math.nextafter(low, math.inf)
        if math.isinf(low):
            return high
        middle = low + (high - low) / 2
        for digits in range(17):
            found = round(middle, digits)
            if low < found <= high:
                return found
        return high


@dataclass(frozen=True, slots=True)
class Chosen:
    """The threshold that a rule led to.

    Attributes
    ----------
    threshold : float
    value : float
        What the rule speaks of, at this threshold: the metric in the scorer's own sign, the recall, …
    met : bool
        False where no threshold meets the rule: then it is the one that comes nearest.
    tried : int
        Cut points at which the metric was computed; all of them where counts suffice.
    """

    threshold: float
    value: float
    met: bool = True
    tried: int = 0


def scores(predicted: Predicted) -> Any:
    """What a threshold is held against: the probability of the positive class, else the decision value.

    As `core.answer.positive_scores` gives it to whoever asks the model.

    Raises
    ------
    DeclarationError
        Not a task of two classes, or a model that gives only labels.
    """
    if predicted.problem.task != "binary":
        raise DeclarationError(
            f"decide=: a threshold parts two classes, and this is a {predicted.problem.task} target",
            where=f"column {predicted.problem.column}",
            hint="leave decide= out",
        )
    if predicted.proba is not None:
        return predicted.answers[:, predicted.proba][:, 1]
    if predicted.decision is not None:
        return predicted.answers[:, predicted.decision][:, -1]
    raise DeclarationError("decide=: this model gives labels only: it has neither predict_proba nor decision_function")


def cuts(y: Any, score: Any, weight: Any = None) -> Cuts:
    """All cut points, in one sort.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        1 for the positive class.
    score : ndarray of shape (n_rows,)
    weight : ndarray of shape (n_rows,), optional

    Examples
    --------
    >>> import numpy as np
    >>> found = cuts(np.array([0, 1, 1]), np.array([0.2, 0.4, 0.4]))
    >>> found.hits.tolist(), found.said.tolist(), [found.threshold(at) for at in range(3)]
    ([0.0, 2.0, 2.0], [0.0, 2.0, 3.0], [0.4000000000000001, 0.3, 0.2])
    """
    import numpy as np

    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    weights = np.ones(len(score)) if weight is None else np.asarray(weight, dtype=np.float64)[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    values = ranked[last]
    hits, said = np.cumsum(weights * (y[order] == 1))[last], np.cumsum(weights)[last]
    return Cuts(
        np.append(np.inf, values),
        np.append(values, -np.inf),
        np.append(0.0, hits),
        np.append(0.0, said),
        float(hits[-1]),
        float(said[-1]),
    )


def check_given(threshold: float, predicted: Predicted) -> None:
    """Refuse what a slip of the hand gives: 27 where 0.27 was meant would call no row positive, and pass many a gate.

    Raises
    ------
    DeclarationError
        The model gives probabilities, and the threshold is none.
    """
    if predicted.has_proba and not 0 <= threshold <= 1:
        raise DeclarationError(
            f"a threshold of {threshold:g}: this model gives probabilities, which lie between 0 and 1",
            hint="0.27 is meant for 27 %",
        )


def choose(rule: Threshold, predicted: Predicted) -> Chosen:
    """The threshold that a rule asks for, on these rows.

    Parameters
    ----------
    rule : Threshold
    predicted : Predicted
        Of a binary task.

    Raises
    ------
    DeclarationError
        The metric does not read labels, or the model gives no score.
    """
    import numpy as np

    score = scores(predicted)
    found = cuts(predicted.y, score, predicted.weight)
    if rule.rule == "at":
        check_given(float(rule.value), predicted)
        return Chosen(float(rule.value), math.nan)
    if rule.rule in ("maximise", "minimise"):
        return _best(rule, found, predicted)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = {
            "recall": found.hits / found.positive,
            "precision": found.hits / found.said,
            "rate": found.said / found.total,
        }[rule.rule]
    if rule.rule == "recall":
        at = int(np.argmax(share >= rule.value))  # the first that finds enough: the highest
        return Chosen(found.threshold(at), float(share[at]), tried=len(found))
    good = np.flatnonzero(share >= rule.value if rule.rule == "precision" else share <= rule.value)
    if len(good):
        return Chosen(found.threshold(int(good[-1])), float(share[good[-1]]), tried=len(found))
    at = int(np.nanargmax(share))
    return Chosen(found.threshold(at), float(share[at]), met=False, tried=len(found))


def _best(rule: Threshold, found: Cuts, predicted: Predicted) -> Chosen:
    """Where a metric is best; of equal ones the highest threshold."""
    import numpy as np

    name, sign = metric_of(rule, predicted.problem)
    if name in OF_COUNTS:
        values = sign * values_at(name, found)
        at = int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))
        return Chosen(found.threshold(at), float(sign * values[at]), tried=len(found))
    figure = functools.cache(lambda at: sign * _figure_at(name, found.threshold(at), predicted))
    tried = [int(at) for at in _spread(len(found), MOST_TRIED)]
    first = _argmax(tried, figure)
    place = tried.index(first)
    low, high = tried[max(place - 1, 0)], tried[min(place + 1, len(tried) - 1)]
    near = [low + int(at) for at in _spread(high - low + 1, MOST_TRIED)]
    best = _argmax(sorted({*tried, *near}), figure)
    return Chosen(found.threshold(best), sign * figure(best), tried=len({*tried, *near}))


def _argmax(places: list[int], figure: Callable[[int], float]) -> int:
    def rank(at: int) -> tuple[float, int]:
        value = figure(at)
        return (value if math.isfinite(value) else -math.inf, -at)

    return max(places, key=rank)


def _spread(n: int, most: int) -> Any:
    import numpy as np

    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def _figure_at(name: str, threshold: float, predicted: Predicted) -> float:
    return scoring.figure(name, relabelled(predicted, threshold))


def relabelled(predicted: Predicted, threshold: Any) -> Predicted:
    """The same answers, but a row is called positive from a threshold on.

    Parameters
    ----------
    predicted : Predicted
    threshold : float or ndarray of shape (n_rows,)
    """
    answers = predicted.answers.copy()
    answers[:, 0] = scores(predicted) >= threshold
    return replace(predicted, answers=answers)


def cross_fitted(rule: Threshold, answers: Predicted, fold: Any) -> Predicted:
    """The answers, each fold's labels by the threshold that the rule leads to on the other folds.

    So the label of a row owes nothing to its own truth, and label metrics are not flattered by the choice.

    Parameters
    ----------
    rule : Threshold
    answers : Predicted
        Out of fold.
    fold : ndarray of int, shape (n_rows,)
    """
    import numpy as np

    bound = np.empty(len(answers))
    for number in np.unique(fold):
        inside = fold == number
        bound[inside] = choose(rule, answers.take(~inside)).threshold
    return relabelled(answers, bound)


def check_rule(rule: Threshold, problem: Problem) -> None:
    """Refuse a rule that cannot apply, before anything is fitted.

    Raises
    ------
    DeclarationError
    """
    import numpy as np

    empty = np.zeros((0, 3))
    scores(Predicted(problem, np.zeros(0), empty, proba=slice(1, 3)))
    if rule.rule in ("maximise", "minimise"):
        metric_of(rule, problem)


def metric_of(rule: Threshold, problem: Problem) -> tuple[str, float]:
    """A rule's metric, and 1 where a greater figure of it is better, else -1.

    Scorers are greater when better, so an error that is minimised is its scorer maximised; only what is no error may
    really be minimised.

    Raises
    ------
    DeclarationError
        No such metric, or one that a threshold does not change.
    """
    name = str(getattr(rule.value, "scorer", rule.value))
    known = (*SCORERS, *problem.own)
    negated = f"neg_{name}" in known and name not in known
    name = f"neg_{name}" if negated else name
    if name not in known:
        raise DeclarationError(f"decide=: {rule!r}: {name!r} is no metric", hint="a metric of labels, such as 'f1'")
    if scoring.response(name, problem) != "label":
        raise DeclarationError(
            f"decide=: {rule!r}: {name} reads scores, so that no threshold changes it",
            hint="name a metric of labels, such as 'f1' or 'balanced_accuracy'",
        )
    return name, -1.0 if rule.rule == "minimise" and not scoring.is_error(name) else 1.0


# ── metrics from counts, at every cut at once ────────────────────────────────────────────────────────────────


def _ratio(part: Any, whole: Any) -> Any:
    """Zero where there is nothing to divide by, as `stages.counts` has it."""
    import numpy as np

    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _f1(c: Cuts) -> Any:
    return _ratio(2 * c.hits, c.said + c.positive)


def _other(c: Cuts) -> Cuts:
    """The same cuts, seen from the other class."""
    negative = c.total - c.positive
    return Cuts(c.score, c.below, negative - (c.said - c.hits), c.total - c.said, negative, c.total)


def _macro(of: Callable[[Cuts], Any]) -> Callable[[Cuts], Any]:
    return lambda c: (of(c) + of(_other(c))) / 2


def _weighted(of: Callable[[Cuts], Any]) -> Callable[[Cuts], Any]:
    return lambda c: (c.positive * of(c) + (c.total - c.positive) * of(_other(c))) / c.total


def _accuracy(c: Cuts) -> Any:
    return (c.hits + _other(c).hits) / c.total


def _matthews(c: Cuts) -> Any:
    import numpy as np

    negative = c.total - c.positive
    spread = np.sqrt(c.said * (c.total - c.said) * c.positive * negative)
    return _ratio(c.hits * c.total - c.said * c.positive, spread)


def _precision(c: Cuts) -> Any:
    return _ratio(c.hits, c.said)


def _recall(c: Cuts) -> Any:
    return _ratio(c.hits, c.positive)


def _jaccard(c: Cuts) -> Any:
    return _ratio(c.hits, c.said + c.positive - c.hits)


_FIGURES = {"precision": _precision, "recall": _recall, "f1": _f1, "jaccard": _jaccard}
OF_COUNTS: Mapping[str, Callable[[Cuts], Any]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _macro(_recall),
    "matthews_corrcoef": _matthews,
    **_FIGURES,
    **{f"{name}_macro": _macro(of) for name, of in _FIGURES.items()},
    **{f"{name}_weighted": _weighted(of) for name, of in _FIGURES.items()},
}
"""Metrics that are had at every cut point in one pass."""


def values_at(name: str, found: Cuts) -> Any:
    """A metric of `OF_COUNTS` at each cut; macro averages count both classes where both occur."""
    return OF_COUNTS[name](found)


def curve(rule: Threshold, predicted: Predicted) -> dict[str, list[float | None]]:
    """What each threshold would mean: at most `CURVE_POINTS` points, from the highest score down.

    Returns
    -------
    dict
        "threshold", "recall", "precision" (null where nobody is called positive), "rate", and under "metric" the
        rule's metric as it is shown to people, where it has one.
    """
    from penstock.stats.checks import json_number

    found = cuts(predicted.y, scores(predicted), predicted.weight)
    keep = [int(at) for at in _spread(len(found), CURVE_POINTS)]
    drawn: dict[str, Any] = {
        "threshold": [found.threshold(at) for at in keep],
        "recall": _recall(found)[keep].tolist(),
        "precision": [float(found.hits[at] / found.said[at]) if found.said[at] else None for at in keep],
        "rate": (found.said / found.total)[keep].tolist(),
    }
    if rule.rule in ("maximise", "minimise"):
        name, _ = metric_of(rule, predicted.problem)
        if name in OF_COUNTS:
            values = [float(value) for value in values_at(name, found)[keep]]
        else:
            values = [_figure_at(name, found.threshold(at), predicted) for at in keep]
        drawn["metric"] = [scoring.shown(name, json_number(value)) for value in values]
    return drawn
