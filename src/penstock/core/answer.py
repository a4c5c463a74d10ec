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
        order; "positive": the scored class, for "binary"; "threshold": the score from which on a row is called
        positive, where one was decided on.

    Returns
    -------
    list of dict, length n_rows
        binary {"label", "score"}: the predicted class and the probability (or decision value) of the positive
        one, and "threshold" where one was decided on; multiclass {"label", "scores": {class as text: probability}};
        regression {"value"}.
    """
    if contract["task"] == "regression":
        return [{"value": value} for value in _floats(estimator.predict(X))]
    if contract.get("threshold") is not None:
        scores = _floats(positive_scores(estimator, X, contract["positive"]))
        return [decided(score, contract) for score in scores]
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


def decided(score: float, contract: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a score under a contract with a threshold.

    Examples
    --------
    >>> decided(0.3, {"classes": ["no", "yes"], "positive": "yes", "threshold": 0.25})
    {'label': 'yes', 'score': 0.3, 'threshold': 0.25}
    """
    positive, threshold = contract["positive"], contract["threshold"]
    other = next(label for label in contract["classes"] if label != positive)
    return {"label": positive if score >= threshold else other, "score": score, "threshold": threshold}


def with_decision(contract: Mapping[str, Any], decision: Mapping[str, Any] | None) -> dict[str, Any]:
    """A contract with the threshold of a bundle's decision, where it has one."""
    return dict(contract) if decision is None else {**contract, "threshold": decision["threshold"]}


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
