"""Metrics of predicted labels, from the confusion matrix alone: one pass over the rows, for bootstraps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

LabelMetric = Callable[..., float]


def confusion_of(y: Any, label: Any, weight: Any = None) -> Any:
    """Rows by true (first axis) and predicted class code; with weights, what they weigh.

    Parameters
    ----------
    y, label : arrays of shape (n_rows,)
        Class codes from 0.
    weight : array of shape (n_rows,), optional

    Examples
    --------
    >>> import numpy as np
    >>> confusion_of(np.array([0, 1, 1]), np.array([0.0, 1.0, 0.0])).tolist()
    [[1, 0], [1, 1]]
    """
    import numpy as np

    said = label.astype(np.int64)
    k = int(max(y.max(), said.max(), 1)) + 1
    return np.bincount(y * k + said, weights=weight, minlength=k * k).reshape(k, k)


def _ratio(part: Any, whole: Any) -> Any:
    """Zero where there is nothing to divide by, as scikit-learn's `zero_division="warn"`."""
    import numpy as np

    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


def _precision(hits: Any, said: Any, true: Any) -> Any:
    del true
    return _ratio(hits, said)


def _recall(hits: Any, said: Any, true: Any) -> Any:
    del said
    return _ratio(hits, true)


def _f1(hits: Any, said: Any, true: Any) -> Any:
    return _ratio(2.0 * hits, said + true)


def _jaccard(hits: Any, said: Any, true: Any) -> Any:
    return _ratio(hits, said + true - hits)


def _averaged(of: Callable[[Any, Any, Any], Any], average: str) -> Callable[[Any], float]:
    """A per-class figure of class 1 ("binary"), or averaged over the classes that occur."""

    def figure(cells: Any) -> float:
        hits, said, true = cells.diagonal().astype(float), cells.sum(axis=0), cells.sum(axis=1)
        if average == "micro":
            return float(of(hits.sum(), said.sum(), true.sum()))
        figures = of(hits, said, true)
        if average == "binary":
            return float(figures[1])
        weights = true if average == "weighted" else (said + true > 0)
        return float((figures * weights).sum() / weights.sum())

    return figure


def _balanced_accuracy(cells: Any) -> float:
    true = cells.sum(axis=1)
    occurs = true > 0
    return float((cells.diagonal()[occurs] / true[occurs]).mean())


def _matthews(cells: Any) -> float:
    """Gorodkin (2004), Computational Biology and Chemistry 28:367; 0 where one side has a single class."""
    cells = cells.astype(float)
    n, hits, said, true = cells.sum(), cells.trace(), cells.sum(axis=0), cells.sum(axis=1)
    spread = (n * n - said @ said) * (n * n - true @ true)
    return float((hits * n - said @ true) / math.sqrt(spread)) if spread > 0 else 0.0


def _positive_likelihood_ratio(cells: Any) -> float:
    """Altman & Bland (1994), BMJ 309:102."""
    false = cells[0, 1] / cells[0].sum()
    return float(cells[1, 1] / cells[1].sum() / false) if false > 0 else math.nan


def _minus_negative_likelihood_ratio(cells: Any) -> float:
    true = cells[0, 0] / cells[0].sum()
    return float(-cells[1, 0] / cells[1].sum() / true) if true > 0 else math.nan


def _of_rows(figure: Callable[[Any], float]) -> LabelMetric:
    """The figure as a function of truth, labels and weights."""
    return lambda y, label, weight=None: figure(confusion_of(y, label, weight))


_FIGURES = {"precision": _precision, "recall": _recall, "f1": _f1, "jaccard": _jaccard}
_CLASS_ONE = {name: _averaged(of, "binary") for name, of in _FIGURES.items()}
_ALL = {
    "balanced_accuracy": _balanced_accuracy,
    "matthews_corrcoef": _matthews,
    **{
        f"{name}_{average}": _averaged(of, average)
        for name, of in _FIGURES.items()
        for average in ("macro", "micro", "weighted")
    },
}
OF_CELLS: Mapping[str, Callable[[Any], float]] = {
    **_CLASS_ONE,
    **_ALL,
    "positive_likelihood_ratio": _positive_likelihood_ratio,
    "neg_negative_likelihood_ratio": _minus_negative_likelihood_ratio,
}
"""Metrics as functions of a confusion matrix, the same for any multiple of it: closed forms apply."""
OF_CLASS_ONE: Mapping[str, LabelMetric] = {name: _of_rows(figure) for name, figure in _CLASS_ONE.items()}
"""Metrics of the positive class."""
OF_ALL_CLASSES: Mapping[str, LabelMetric] = {name: _of_rows(figure) for name, figure in _ALL.items()}
"""Metrics of any number of classes."""
