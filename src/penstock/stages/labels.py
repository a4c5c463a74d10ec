"""Class labels as their user wrote them, for a learner that takes none but 0, 1, 2 …

Only XGBoost's classifier is so. It is fitted on the place of each label among the sorted ones, and scikit-learn's own
`VotingClassifier` of one then stands around it: the class whose documented work it is to number the labels for what
stands inside and to give them back. Decision 0019 says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from penstock.core.answer import plain


def takes_numbers_only(estimator: Any) -> bool:
    """Whether a learner refuses classes that are not 0, 1, 2 …: XGBoost's, unless a subclass fits in its own way."""
    kinds = {base.__name__ for base in type(estimator).__mro__}
    return "XGBClassifier" in kinds and str(type(estimator).fit.__module__).startswith("xgboost.")


def are_numbers(classes: Iterable[Any]) -> bool:
    """Whether classes, in any order, are 0, 1, 2 … already. False and True are not: answers would be 0 and 1.

    Examples
    --------
    >>> are_numbers([1, 0]), are_numbers([0.0, 1.0]), are_numbers([1, 2]), are_numbers(["no"]), are_numbers([True])
    (True, True, False, False, False)
    """
    labels = list(classes)
    if any(isinstance(label, bool) or not isinstance(label, int | float) for label in labels):
        return False
    return sorted(labels) == list(range(len(labels)))


def codes(values: Any, labels: Any) -> Any:
    """The place of each value among the sorted distinct labels.

    Parameters
    ----------
    values, labels : array-like of shape (n_values,), (n_labels,)

    Returns
    -------
    ndarray of int, shape (n_values,)

    Raises
    ------
    ValueError
        A value is none of the labels.
    """
    import numpy as np

    classes, given = np.unique(np.asarray(labels)), np.asarray(values)
    places = np.searchsorted(classes, given).clip(max=len(classes) - 1)
    if (unknown := given[classes[places] != given]).size:
        raise ValueError(f"{plain(unknown[0])!r} is a label of rows to stop by only: none to learn from has it")
    return places


def around(fitted: Any, y: Any) -> Any:
    """A fitted learner of numbers as a classifier of the labels that they stand for.

    Parameters
    ----------
    fitted : estimator
        Fitted on `codes(y, y)`.
    y : array-like of shape (n_rows,)

    Returns
    -------
    VotingClassifier
        As its own fit would leave it, of one estimator: its probabilities are that one's.
    """
    import numpy as np
    from sklearn.base import clone
    from sklearn.ensemble import VotingClassifier
    from sklearn.frozen import FrozenEstimator

    name = type(fitted).__name__.lower()
    voting = VotingClassifier([(name, FrozenEstimator(fitted))], voting="soft").fit(None, np.unique(np.asarray(y)))
    voting.estimators = [(name, clone(fitted))]  # so that a copy can be fitted anew, on labels
    voting.estimators_ = [fitted]
    voting.named_estimators_[name] = fitted
    return voting


def inside(fitted: Any) -> Any:
    """The learner that `around` stands around; anything else as it is."""
    alone = getattr(fitted, "estimators_", None) if type(fitted).__name__ == "VotingClassifier" else None
    if isinstance(alone, list) and len(alone) == 1 and fitted.voting == "soft" and takes_numbers_only(alone[0]):
        return alone[0]
    return fitted
