"""The model that knows nothing but the target: what any model must beat."""

from __future__ import annotations

from typing import Any

from penstock.stages.problem import Problem


def fit_baseline(X: Any, y: Any, problem: Problem) -> Any:
    """Class shares for classes, the mean for a number; features are not looked at.

    Parameters
    ----------
    X : frame of shape (n_rows, n_features)
    y : array-like of shape (n_rows,)
    problem : Problem

    Returns
    -------
    fitted DummyClassifier or DummyRegressor
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor

    dummy = DummyRegressor() if problem.task == "regression" else DummyClassifier(strategy="prior")
    return dummy.fit(X, y)
