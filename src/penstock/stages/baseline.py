"""What any model must beat: the model that knows nothing but the target, or what the declaration names."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.core.tree import is_estimator
from penstock.errors import DataError, StepOutputError
from penstock.stages.own import line_of
from penstock.stages.predicted import Predicted, predict
from penstock.stages.problem import Problem
from penstock.stages.train import features_and_target, fit_on

if TYPE_CHECKING:
    import pandas as pd


def fit_baseline(X: Any, y: Any, problem: Problem, weight: Any = None) -> Any:
    """Class shares for classes, the mean for a number; features are not looked at.

    Parameters
    ----------
    X : frame of shape (n_rows, n_features)
    y : array-like of shape (n_rows,)
    problem : Problem
    weight : array of shape (n_rows,), optional
        Shares and mean are then weighted.

    Returns
    -------
    fitted DummyClassifier or DummyRegressor
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor

    dummy = DummyRegressor() if problem.task == "regression" else DummyClassifier(strategy="prior")
    return dummy.fit(X, y, sample_weight=weight)


def baseline_name(baseline: Any) -> str:
    """What a declared baseline is called: the column, the function, the estimator's class; "" for the default.

    Examples
    --------
    >>> baseline_name("lag_168"), baseline_name(None)
    ('lag_168', '')
    """
    if baseline is None or isinstance(baseline, str):
        return baseline or ""
    return type(baseline).__name__ if is_estimator(baseline) else str(baseline.__name__)


def baseline_answers(
    baseline: Any,
    train: pd.DataFrame,
    table: pd.DataFrame,
    problem: Problem,
    *,
    target: Target,
    roles: Roles,
    seed: int,
) -> Predicted:
    """The baseline's answers for a table, with weights and columns beside them.

    Parameters
    ----------
    baseline : None, estimator, str or callable
        None for the class shares or the mean; an estimator, fitted on `train` as a model would be; a column that
        holds the prediction (a missing number is the training mean); `function(table)` or `function(train, table)`
        that gives one prediction a row, of a table without target and what is known only after it.
    train, table : DataFrame
        Rows to learn from; rows to answer for.
    problem, target, roles, seed
        As for `evaluate`.

    Raises
    ------
    DataError
        If the column is absent.
    StepOutputError
        If the function does not give one prediction a row.
    Exception
        Whatever estimator or function raises; of a function with a note that names it and the line.
    """
    X, y = features_and_target(table, target, roles)
    if baseline is None or is_estimator(baseline):
        learn, truth = features_and_target(train, target, roles)
        weight = None if roles.weight is None else train[roles.weight]
        if baseline is None:
            fitted = fit_baseline(learn, truth, problem, weight)
        else:
            fitted = fit_on(baseline, train, problem, target=target, roles=roles, split=Split(), seed=seed).fitted
        return predict(fitted, X, y, problem).beside(table, roles.weight)
    if isinstance(baseline, str):
        if baseline not in table.columns:
            raise DataError(f"baseline= names a column that the table lacks: {baseline!r}")
        said, what = table[baseline], f"the column {baseline!r}"
    else:
        said, what = _called(baseline, train, table, target), f"the baseline {baseline.__name__!r}"
    return _as_answers(said, what, train, y, problem, target).beside(table, roles.weight)


def _called(function: Any, train: pd.DataFrame, table: pd.DataFrame, target: Target) -> Any:
    """What the user's function says of a table that does not hold the truth."""
    late = [name for name in (target.column, target.time, *target.after) if name in table.columns]
    shown = table.drop(columns=late).reset_index(drop=True)
    wants = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    try:
        return function(train.reset_index(drop=True), shown) if len(wants) > 1 else function(shown)
    except Exception as error:
        error.add_note(f"the baseline {function.__name__!r}{line_of(error)}")
        raise


def _as_answers(said: Any, what: str, train: pd.DataFrame, y: Any, problem: Problem, target: Target) -> Predicted:
    """Predictions of any kind as stored answers: values; labels; or a binary score, a probability if it can be one."""
    import numpy as np
    import pandas as pd

    if np.ndim(said) != 1 or len(said) != len(y):
        shape = np.shape(said) or type(said).__name__
        raise StepOutputError(
            f"{what} gave {shape}, where one prediction for each of {len(y):,} rows is meant", where="baseline="
        )
    given, truth = pd.Series(np.asarray(said)), problem.encode(y)
    if problem.task == "regression":
        values = pd.to_numeric(given, errors="coerce").fillna(float(train[target.column].mean()))
        return Predicted(problem, truth, values.to_numpy(dtype=np.float64)[:, None])
    if given.isin(problem.classes).all():
        label = problem.encode(given.to_numpy()).astype(np.float64)[:, None]
        if problem.task == "binary":  # labels rank rows too, in two classes
            return Predicted(problem, truth, np.hstack([label, label]), decision=slice(1, 2))
        return Predicted(problem, truth, label)
    score = pd.to_numeric(given, errors="coerce").to_numpy(dtype=np.float64)
    if problem.task != "binary" or np.isnan(score).any():
        raise StepOutputError(
            f"{what} gave {given.iloc[0]!r}, which is none of the classes {list(problem.classes)!r}", where="baseline="
        )
    if ((score >= 0) & (score <= 1)).all():
        both = np.column_stack([score > 0.5, 1 - score, score]).astype(np.float64)
        return Predicted(problem, truth, both, proba=slice(1, 3))
    return Predicted(problem, truth, np.column_stack([score > 0, score]).astype(np.float64), decision=slice(1, 2))
