"""Searches over parameters that were declared without a score to choose by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from penstock.core.tree import is_estimator

KEEPS_TRUTH = ("CalibratedClassifierCV", "FixedThresholdClassifier", "TunedThresholdClassifierCV")
"""Estimators around one other that give it the target as it is. Stacks and votes number the classes, a transformed
target is another: no metric of the target can be asked there."""


@dataclass(frozen=True, slots=True)
class OpenSearch:
    """A search without `scoring=`.

    Attributes
    ----------
    path : str
        Where it stands, such as "model" or "model.estimator".
    estimator : str
        Its class.
    why_not : str
        Why it keeps scikit-learn's own score; "" where it gets the first metric.
    """

    path: str
    estimator: str
    why_not: str = ""


def open_searches(model: Any) -> list[OpenSearch]:
    """Searches in an estimator that were declared without `scoring=`.

    Parameters
    ----------
    model : estimator, or dict of them by name

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.model_selection import GridSearchCV
    >>> open_searches(GridSearchCV(Ridge(), {}))
    [OpenSearch(path='model', estimator='GridSearchCV', why_not='')]
    >>> open_searches(GridSearchCV(Ridge(), {}, scoring="r2"))
    []
    """
    models = model.values() if type(model) is dict else (model,)
    return [place for one in models for _, place in searches_in(one)]


def searches_in(model: Any) -> Iterator[tuple[Any, OpenSearch]]:
    """The same with the search itself before each.

    Parameters
    ----------
    model : estimator
    """
    yield from _walk(model, "model", "")


def _walk(value: Any, path: str, why_not: str) -> Iterator[tuple[Any, OpenSearch]]:
    if isinstance(value, list | tuple):
        for part in value:
            name = value[0] if value and isinstance(value[0], str) else ""
            yield from _walk(part, f"{path}.{name}" if name and is_estimator(part) else path, why_not)
        return
    if not is_estimator(value):
        return
    kind, params = type(value).__name__, value.get_params(deep=False)
    search = any(base.__name__ == "BaseSearchCV" for base in type(value).__mro__) or kind.endswith("SearchCV")
    if search and params.get("scoring", "") is None:
        yield value, OpenSearch(path, kind, why_not)
    steps = params.get("steps")
    if isinstance(steps, list):
        for name, step in steps:
            yield from _walk(step, f"{path}.{name}", why_not)
            if hasattr(step, "fit_resample"):
                why_not = why_not or "a step before it takes rows away or makes new ones"
        return
    below = "" if search or kind in KEEPS_TRUTH else f"inside {kind} the target is not the table's"
    for name, part in params.items():
        yield from _walk(part, f"{path}.{name}", why_not or below)
