"""Folds by the split's rule for estimators that cross-validate inside their own fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

Folds = list[tuple[Any, Any]]

KEEPS_ROWS = (
    "Pipeline",
    "FeatureUnion",
    "ColumnTransformer",
    "TransformedTargetRegressor",
    "VotingClassifier",
    "VotingRegressor",
)
"""Estimators that fit every part on all the rows that they were given, so that row numbers stay true inside."""
NONE_IS_A_CHOICE = ("RidgeCV", "RidgeClassifierCV", "ClassifierChain", "RegressorChain")
"""Here `cv=None` asks for no folds at all (an exact formula; the true labels); it stays."""


@dataclasses.dataclass(frozen=True, slots=True)
class InnerFolds:
    """One place inside an estimator that cross-validates.

    Attributes
    ----------
    path : str
        Parameter path, such as "model__cv" or "cv".
    estimator : str
        The class there.
    folds : int or None
        Number asked for, None for the default.
    ours : bool
        Whether it gets the folds of the split's rule.
    why_not : str
        Else why not.
    """

    path: str
    estimator: str
    folds: int | None
    ours: bool
    why_not: str = ""


def inner_places(model: Any) -> list[InnerFolds]:
    """Where an estimator would cross-validate by a default of scikit-learn's: `cv` is None or a number.

    Parameters
    ----------
    model : estimator

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.model_selection import GridSearchCV
    >>> inner_places(GridSearchCV(Ridge(), {}))
    [InnerFolds(path='cv', estimator='GridSearchCV', folds=None, ours=True, why_not='')]
    """
    return [place for _, place in _places(model, (), rows_known=True)]


def with_folds(model: Any, make_folds: Callable[[int | None], Folds]) -> tuple[Any, list[InnerFolds]]:
    """The estimator with our folds where `cv` is None or a number; changed in place, so give a clone.

    Parameters
    ----------
    model : estimator
    make_folds : callable
        From a number of folds (None for the default) to pairs of row positions.

    Returns
    -------
    model
        The same object: equal to one that was declared with `cv=` those folds.
    places : list of InnerFolds
    """
    places = []
    for estimator, place in list(_places(model, (), rows_known=True)):
        if place.ours:
            folds = make_folds(place.folds)
            if _needs_partition(estimator) and not _is_partition(folds):
                why = "it needs every row held out once, and folds by time leave the first rows out"
                place = dataclasses.replace(place, ours=False, why_not=why)  # noqa: PLW2901
            else:
                estimator.set_params(cv=folds)
        places.append(place)
    return model, places


def _places(value: Any, path: tuple[str, ...], *, rows_known: bool) -> Any:
    """Walk an estimator tree; `rows_known` while row numbers are those of the training table."""
    if isinstance(value, list | tuple):
        for position, part in enumerate(value):
            name = value[0] if position and isinstance(value[0], str) else str(position)
            here = (*path, name) if callable(getattr(part, "get_params", None)) else path
            yield from _places(part, here, rows_known=rows_known)
        return
    if isinstance(value, type) or not callable(getattr(value, "get_params", None)):
        return
    kind, params = type(value).__name__, value.get_params(deep=False)
    cv = params.get("cv", "")
    wants_folds = "cv" in params and (cv is None or (isinstance(cv, int) and not isinstance(cv, bool)))
    if wants_folds and _cross_validates(kind, params) and not (cv is None and kind in NONE_IS_A_CHOICE):
        why = "" if rows_known else "its rows are chosen by the estimator around it, which knows no keys or times"
        yield value, InnerFolds("__".join((*path, "cv")), kind, cv, rows_known, why)
    inside = rows_known and kind in KEEPS_ROWS
    for name, part in sorted(params.items()):
        if name != "cv":
            # Names of steps stand for themselves in scikit-learn's paths.
            below = path if isinstance(part, list | tuple) else (*path, name)
            yield from _places(part, below, rows_known=inside)


def _cross_validates(kind: str, params: dict[str, Any]) -> bool:
    """Searches, calibrators, threshold tuners, selectors and stacks; linear models named …CV; target encoding.

    A target encoder that takes a splitter (scikit-learn 1.9) has no seed of its own left: its folds are ours too.
    """
    if kind == "TargetEncoder":
        return params.get("random_state") == "deprecated"
    return "estimator" in params or "estimators" in params or kind.endswith("CV")


def _needs_partition(estimator: Any) -> bool:
    """Whether it predicts each row once (`cross_val_predict`), rather than scoring fold by fold."""
    kind, params = type(estimator).__name__, estimator.get_params(deep=False)
    return kind.startswith(("Stacking", "TargetEncoder")) or (
        kind == "CalibratedClassifierCV" and params.get("ensemble") is False
    )


def _is_partition(folds: Folds) -> bool:
    import numpy as np

    held = np.concatenate([np.asarray(judge) for _, judge in folds])
    seen = np.unique(np.concatenate([np.asarray(rows) for pair in folds for rows in pair]))
    return len(held) == len(np.unique(held)) == len(seen)
