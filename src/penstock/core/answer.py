"""What a model answers for a row: one shape for bundles, servers, files and monitors.

Nothing heavy is imported: estimators and frames are used by their methods alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def answers(estimator: Any, X: Any, contract: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Answers for the rows of a frame.

    Parameters
    ----------
    estimator : fitted estimator
    X : frame of shape (n_rows, n_features)
    contract : dict
        "task": "binary", "multiclass" or "regression"; "classes": labels as JSON values, in the estimator's
        order; "positive": the scored class, for "binary".

    Returns
    -------
    list of dict, length n_rows
        binary {"label", "score"}: the predicted class and the probability (or decision value) of the positive
        one; multiclass {"label", "scores": {class as text: probability}}; regression {"value"}.
    """
    if contract["task"] == "regression":
        return [{"value": value} for value in _floats(estimator.predict(X))]
    labels = [plain(label) for label in estimator.predict(X)]
    if contract["task"] == "binary":
        scores = positive_scores(estimator, X, contract["positive"])
        return [{"label": label, "score": score} for label, score in zip(labels, _floats(scores), strict=True)]
    if not hasattr(estimator, "predict_proba"):
        return [{"label": label} for label in labels]
    names = [str(plain(label)) for label in estimator.classes_]
    rows = estimator.predict_proba(X).tolist()
    return [
        {"label": label, "scores": dict(zip(names, row, strict=True))} for label, row in zip(labels, rows, strict=True)
    ]


def positive_scores(estimator: Any, X: Any, positive: Any) -> Any:
    """Probability of the positive class, or the decision value where the estimator gives no probability.

    Parameters
    ----------
    positive : scalar
        A label of `estimator.classes_`, or its JSON form.

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    classes = [plain(label) for label in estimator.classes_]
    index = classes.index(plain(positive))
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba(X)[:, index]
    decision = estimator.decision_function(X)
    return decision if index == 1 else -decision


def plain(value: Any) -> Any:
    """A scalar as Python's own: numpy scalars lose their library.

    Examples
    --------
    >>> plain(3)
    3
    """
    return value.item() if hasattr(value, "item") else value


def _floats(values: Any) -> list[float]:
    return [float(value) for value in values]
