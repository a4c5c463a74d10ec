"""Stored answers of a model: one matrix per model, which any scorer can judge again without the model."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.answer import plain
from penstock.stages.blame import add_blame
from penstock.stages.problem import Problem


@dataclass(frozen=True)
class Predicted:
    """What a model answered for some rows, and the truth.

    Attributes
    ----------
    problem : Problem
    y : ndarray of shape (n_rows,)
        The truth as class codes, or values.
    answers : ndarray of shape (n_rows, n_columns), float64
        Regression: the value. Classes: predicted class code, then probabilities of all classes in the problem's
        order (where the model gives them), then decision values (one column if binary, where the model gives them).
    proba, decision : slice or None
        Which columns those are.
    weight : ndarray of shape (n_rows,), float64, or None
        What each row weighs; None where no weight is declared. Every figure of these answers is weighted by it.
    columns : dict
        Name → ndarray of shape (n_rows,): further columns of the table, which metrics of the user's own read.
    cluster : ndarray of shape (n_rows,), or None
        Group of each row, where rows of one group depend on one another; the evidence is then counted in groups.
    """

    problem: Problem
    y: Any
    answers: Any
    proba: slice | None = None
    decision: slice | None = None
    weight: Any = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    cluster: Any = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Any) -> Predicted:
        """The same for some rows (positions or a mask)."""
        weight = None if self.weight is None else self.weight[rows]
        columns = {name: values[rows] for name, values in self.columns.items()}
        cluster = None if self.cluster is None else self.cluster[rows]
        return replace(
            self, y=self.y[rows], answers=self.answers[rows], weight=weight, columns=columns, cluster=cluster
        )

    def beside(self, table: Any, weight: str | None, groups: tuple[str, ...] = ()) -> Predicted:
        """The same, with weight, groups and the columns that metrics read taken from the rows that were answered for.

        Parameters
        ----------
        table : DataFrame of shape (n_rows, n_columns)
            In the order of the answers.
        weight : str or None
            Column of the weights.
        groups : tuple of str
            Columns whose rows with equal values depend on one another.
        """
        import numpy as np

        wanted = dict.fromkeys(name for metric in self.problem.own.values() for name in metric.columns)
        cluster = table.groupby(list(groups), dropna=False, sort=False).ngroup().to_numpy() if groups else None
        if cluster is not None and len(np.unique(cluster)) == len(cluster):
            cluster = None  # each row is a group of its own
        values = None if weight is None else table[weight].to_numpy(dtype=np.float64)
        columns = {name: table[name].to_numpy() for name in wanted}
        return replace(self, weight=values, columns=columns, cluster=cluster)

    def column(self, response: str) -> Any:
        """One kind of answer: "label", "value", "score" (binary) or "proba"; see `response`."""
        return response_of(self.answers, response, self.proba, self.decision)

    @property
    def has_proba(self) -> bool:
        """Whether the model gives probabilities."""
        return self.proba is not None

    def guise(self) -> Any:
        """An estimator whose X is `answers`: scikit-learn's own scorers judge stored answers through it."""
        return _guises()[self.problem.task == "regression"](self.proba, self.decision, len(self.problem.classes))

    def to_frame(self) -> Any:
        """As a table to store: y_true and label, proba (or proba:CLASS), decision (or decision:CLASS); or value.

        Then weight, and column:NAME for the columns that metrics of the user's own read, where there are any.
        """
        import pandas as pd

        beside = {} if self.weight is None else {"weight": self.weight}
        beside |= {f"column:{name}": values for name, values in self.columns.items()}
        if self.problem.task == "regression":
            return pd.DataFrame({"y_true": self.y, "value": self.answers[:, 0], **beside})
        classes = self.problem.classes
        columns = {"y_true": _labels(classes, self.y), "label": _labels(classes, self.answers[:, 0].astype(int))}
        binary = self.problem.task == "binary"
        for name, where in (("proba", self.proba), ("decision", self.decision)):
            if where is None:
                continue
            values = self.answers[:, where]
            if binary:
                columns[name] = values[:, -1]
            else:
                columns |= {f"{name}:{label}": values[:, code] for code, label in enumerate(classes)}
        return pd.DataFrame(columns | beside)


def response_of(answers: Any, response: str, proba: slice | None, decision: slice | None) -> Any:
    """Columns of a matrix of answers.

    Parameters
    ----------
    response : {"label", "value", "proba", "score"}
        "score" is the ranking of a binary model: its decision values, as scikit-learn prefers them, else the
        probability of the positive class.
    """
    if response in {"label", "value"}:
        return answers[:, 0]
    if response == "proba":
        return answers[:, proba]
    return answers[:, decision][:, -1] if decision is not None else answers[:, proba][:, -1]


def predict(estimator: Any, X: Any, y: Any, problem: Problem, *, only: str = "") -> Predicted:
    """Ask a fitted estimator once, and keep all that scorers need.

    Parameters
    ----------
    estimator : fitted estimator
    X : frame of shape (n_rows, n_features)
    y : array-like of shape (n_rows,)
        The truth, as labels or values.
    problem : Problem
    only : {"", "label", "proba", "ranking"}
        Ask for no more than this; "ranking" is one of probabilities and decision values.

    Raises
    ------
    DataError
        If a label of `y` is none of the problem's classes.
    """
    import numpy as np

    truth = problem.encode(y)
    try:
        if problem.task == "regression":
            values = np.asarray(estimator.predict(X), dtype=np.float64)
            return Predicted(problem, truth, values.reshape(len(truth), -1))
        return _classify(estimator, X, truth, problem, only)
    except Exception as error:
        add_blame(error, X, None)
        raise


def _classify(estimator: Any, X: Any, truth: Any, problem: Problem, only: str) -> Predicted:
    import numpy as np

    wanted, order = _wanted(estimator, only), problem.order(estimator.classes_)
    labels = problem.encode(estimator.predict(X)) if "label" in wanted else np.zeros(len(truth))
    parts = [labels.astype(np.float64)[:, None]]
    width, proba, decision = 1, None, None
    if "proba" in wanted:
        # A fold may lack a class: the model then gives it no probability.
        parts.append(_spread(np.asarray(estimator.predict_proba(X), dtype=np.float64), order, problem, 0.0))
        proba, width = slice(width, width + len(problem.classes)), width + len(problem.classes)
    if "decision" in wanted:
        values = _decision(np.asarray(estimator.decision_function(X), dtype=np.float64), order, problem)
        if values is not None:
            parts.append(values)
            decision = slice(width, width + values.shape[1])
    return Predicted(problem, truth, np.hstack(parts), proba, decision)


def _wanted(estimator: Any, only: str) -> list[str]:
    """Which answers to ask for, of those that the estimator gives."""
    methods = (("proba", "predict_proba"), ("decision", "decision_function"))
    given = [name for name, method in methods if hasattr(estimator, method)]
    if only == "ranking":
        return given[-1:]  # decision values first, as scikit-learn's scorers prefer them
    return [name for name in ("label", *given) if only in {"", name}]


def join(parts: list[Predicted]) -> Predicted:
    """Answers of several fits of one estimator, one below the other.

    Where a fold lacked a class, an estimator may give decision values of another width; they are then left out.
    """
    import numpy as np

    first = parts[0]
    if any((part.proba, part.decision) != (first.proba, first.decision) for part in parts):
        parts = [_without_decision(part) for part in parts]
        first = parts[0]
    y = np.concatenate([part.y for part in parts])
    weight = None if first.weight is None else np.concatenate([part.weight for part in parts])
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in first.columns}
    return replace(first, y=y, answers=np.vstack([part.answers for part in parts]), weight=weight, columns=columns)


def _without_decision(part: Predicted) -> Predicted:
    width = part.proba.stop if part.proba is not None else 1
    return replace(part, answers=part.answers[:, :width], decision=None)


def _decision(values: Any, order: list[int], problem: Problem) -> Any:
    """Decision values, one column if binary (greater speaks for the positive class), else one a class."""
    import numpy as np

    if problem.task == "binary":
        if values.ndim != 1:
            return None
        return (values if order == [0, 1] else -values)[:, None]
    if values.ndim != 2 or values.shape[1] != len(order):
        return None
    return _spread(values, order, problem, -np.inf)


def _spread(values: Any, order: list[int], problem: Problem, missing: float) -> Any:
    import numpy as np

    spread = np.full((len(values), len(problem.classes)), missing)
    spread[:, order] = values
    return spread


def _labels(classes: tuple[Any, ...], codes: Any) -> list[Any]:
    return [plain(classes[code]) for code in codes]


@functools.cache
def _guises() -> tuple[type, type]:
    """The two estimator classes; made on first use, because scikit-learn is imported late."""
    import numpy as np
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.metaestimators import available_if

    class StoredRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
        def __init__(self, proba: Any = None, decision: Any = None, n_classes: int = 0) -> None:
            self.proba = proba
            self.decision = decision
            self.n_classes = n_classes

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, X: Any) -> Any:
            return X[:, 0]

    class StoredClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def __init__(self, proba: Any = None, decision: Any = None, n_classes: int = 0) -> None:
            self.proba = proba
            self.decision = decision
            self.n_classes = n_classes

        @property
        def classes_(self) -> Any:
            return np.arange(self.n_classes)

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, X: Any) -> Any:
            return X[:, 0].astype(np.int64)

        @available_if(lambda self: self.proba is not None)  # type: ignore[untyped-decorator]
        def predict_proba(self, X: Any) -> Any:
            return X[:, self.proba]

        @available_if(lambda self: self.decision is not None)  # type: ignore[untyped-decorator]
        def decision_function(self, X: Any) -> Any:
            values = X[:, self.decision]
            return values[:, 0] if values.shape[1] == 1 else values

    return StoredClassifier, StoredRegressor
