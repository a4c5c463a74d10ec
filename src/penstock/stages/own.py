"""Metrics of the user's own on stored answers: what they are given, and whose fault it is when they raise."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from penstock.core.metric import WEIGHT, Metric
from penstock.errors import DeclarationError
from penstock.stages.predicted import Predicted
from penstock.stages.problem import Problem

READS = {"": "label", "label": "label", "value": "label", "score": "ranking", "proba": "proba"}
"""What a metric needs, as `predict(only=…)` and `scoring.narrow` call it."""
PER_DRAW = 20_000_000
"""Rows times replicates of a bootstrap: 400 replicates up to 50,000 rows, 200 at 100,000, at least 100. A choice by the
number of rows and never by a clock, so that the same rows give the same interval."""


def arrays(metric: Metric, predicted: Predicted) -> tuple[Any, ...]:
    """Truth, answers, the weight where there is one, and the metric's columns, one row each."""
    beside = [] if predicted.weight is None else [predicted.weight]
    beside += [predicted.columns[name] for name in metric.columns]
    if metric.is_scorer:
        return (predicted.y, predicted.answers, *beside)
    problem = predicted.problem
    if problem.task == "regression":
        return (predicted.y, predicted.column("value"), *beside)
    truth = labels_of(problem, predicted.y)
    if metric.needs == "proba":
        proba = predicted.column("proba")
        return (truth, proba[:, -1] if problem.task == "binary" else proba, *beside)
    if metric.needs == "score":
        return (truth, predicted.column("score"), *beside)
    return (truth, labels_of(problem, predicted.answers[:, 0].astype(int)), *beside)


def labels_of(problem: Problem, codes: Any) -> Any:
    """Class codes as labels, in an array of the labels' own type."""
    import numpy as np

    kinds = {type(label) for label in problem.classes}
    known = np.array(problem.classes, dtype=None if len(kinds) == 1 else object)
    return known[codes]


def function_of(metric: Metric, like: Predicted) -> Callable[..., float]:
    """The metric as a function of its `arrays`, greater being better; may raise what the user's function raises."""
    sign = 1.0 if metric.greater_is_better else -1.0
    weighted = like.weight is not None
    if metric.is_scorer:
        guise, scorer = like.guise(), _in_codes(metric.function, like.problem)

        def by_scorer(y: Any, answers: Any, *beside: Any) -> float:
            more = {WEIGHT: beside[0]} if weighted else {}
            return float(scorer(guise, answers, y, **more))  # a scorer has its sign in it

        return by_scorer

    def by_function(y: Any, answers: Any, *beside: Any) -> float:
        more = {WEIGHT: beside[0]} if weighted else {}
        more |= dict(zip(metric.columns, beside[weighted:], strict=True))
        return sign * float(metric.function(y, answers, **more))

    return by_function


def _in_codes(scorer: Any, problem: Problem) -> Any:
    """A scorer that names labels, with the codes by which stored answers are kept."""
    given = dict(scorer._kwargs)  # noqa: SLF001  scikit-learn's own place
    code = {label: number for number, label in enumerate(problem.classes)}
    if "pos_label" in given and given["pos_label"] in code:
        given["pos_label"] = code[given["pos_label"]]
    if "labels" in given and given["labels"] is not None:
        given["labels"] = [code.get(label, label) for label in given["labels"]]
    return type(scorer)(scorer._score_func, scorer._sign, given, scorer._response_method)  # noqa: SLF001


def prove(predicted: Predicted, names: Iterable[str]) -> None:
    """Call each of the user's own metrics on all rows, where nothing excuses an error.

    Raises
    ------
    DeclarationError
        If one returns no number.
    Exception
        Whatever one raises, with a note that names the metric and the line.
    """
    for name in names:
        metric = predicted.problem.own.get(name)
        if metric is None or not answerable(metric, predicted):
            continue
        try:
            value: Any = function_of(metric, predicted)(*arrays(metric, predicted))
        except TypeError as error:
            error.add_note(f"the metric {metric.name!r}{line_of(error)}; it must return one number")
            raise
        except Exception as error:
            error.add_note(f"the metric {metric.name!r}{line_of(error)}")
            raise
        if not isinstance(value, float) or math.isinf(value):
            raise DeclarationError(f"the metric {metric.name!r} is {value!r}, and must be a finite number or NaN")


def answerable(metric: Metric, predicted: Predicted) -> bool:
    """Whether a model gave what the metric reads."""
    read = READS[metric.needs]
    if predicted.problem.task == "regression" or read == "label":
        return True
    return predicted.has_proba or (read == "ranking" and predicted.decision is not None)


def line_of(error: BaseException) -> str:
    """Where the user's own code raised, as ", churn.py line 12"."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "penstock" not in frame.filename.split("/")
    ]
    frames = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    if not frames:
        return ""
    return f", {frames[-1].filename.rpartition('/')[2]} line {frames[-1].lineno}"
