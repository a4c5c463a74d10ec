"""Two fitted estimators asked the same rows: how far apart their answers are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.stages.predicted import predict
from penstock.stages.problem import problem_of
from penstock.stages.thresholds import relabelled
from penstock.stages.train import features_and_target

if TYPE_CHECKING:
    import pandas as pd

    from penstock.core.target import Roles, Target


def agree(
    test: pd.DataFrame,
    *,
    fitted: Any,
    recorded: Any,
    target: Target,
    roles: Roles,
    schema: dict[str, Any],
    decision: dict[str, Any] | None = None,
    recorded_decision: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Compare an estimator that was trained again with the one on record, on held-out rows.

    Parameters
    ----------
    test : DataFrame of shape (n_rows, n_columns)
    fitted, recorded : fitted estimator
    target, roles, schema
        As for `evaluate`.
    decision, recorded_decision : dict, optional
        What turns the scores of each into labels, as `decide` gives it.

    Returns
    -------
    dict
        "n_rows"; "identical": whether every answer is; "max_difference": see `apart`; "labels": rows whose label
        differs, 0 for a regression.
    """
    problem = problem_of(schema, target)
    X, y = features_and_target(test, target, roles)
    ours, theirs = predict(fitted, X, y, problem), predict(recorded, X, y, problem)
    if decision is not None and recorded_decision is not None:
        ours = relabelled(ours, decision["threshold"])
        theirs = relabelled(theirs, recorded_decision["threshold"])
    classes = problem.task != "regression"
    if ours.answers.shape != theirs.answers.shape:
        return {"n_rows": len(y), "identical": False, "max_difference": None, "labels": 0}
    labels = int((ours.answers[:, 0] != theirs.answers[:, 0]).sum()) if classes else 0
    first = 1 if classes and ours.answers.shape[1] > 1 else 0
    difference = apart(ours.answers[:, first:], theirs.answers[:, first:], least=1.0 if classes else 0.0)
    identical = difference == 0.0 and labels == 0
    return {"n_rows": len(y), "identical": identical, "max_difference": difference, "labels": labels}


def apart(a: Any, b: Any, least: float = 1.0) -> float | None:
    """The largest difference of two matrices, in each column relative to its largest value where that is above `least`.

    So a difference of probabilities is absolute; with 0, one of amounts is a share of the largest, however small.

    Parameters
    ----------
    a, b : ndarray of shape (n_rows, n_columns), float64
    least : float, default=1.0
        What a difference is measured by where all values are smaller.

    Returns
    -------
    float or None
        None where one has a finite value and the other has not.

    Examples
    --------
    >>> import numpy as np
    >>> apart(np.array([[0.5, 1000.0]]), np.array([[0.5, 1001.0]])) < 0.001
    True
    >>> apart(np.array([[1e-9]]), np.array([[2e-9]]), least=0.0)
    0.5
    """
    import numpy as np

    if len(a) == 0:
        return 0.0
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    if not np.isfinite(a[~equal]).all() or not np.isfinite(b[~equal]).all():
        return None
    sizes = np.maximum(np.where(np.isfinite(a), np.abs(a), 0.0), np.where(np.isfinite(b), np.abs(b), 0.0))
    gaps = np.where(equal, 0.0, np.abs(np.where(equal, 0.0, a) - np.where(equal, 0.0, b)))
    by = np.maximum(sizes.max(axis=0), least)
    return float((gaps.max(axis=0) / np.where(by > 0, by, 1.0)).max())
