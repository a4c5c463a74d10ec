"""How many jobs a fit may use: one, wherever their number would change what is fitted, or what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from penstock.core.tree import is_estimator
from penstock.stages.inner import KEEPS_ROWS

SLICES = "the kernel is computed in as many slices as there are jobs"
STAYS = "the number of jobs stays in what is fitted"
PINNED = {
    "LatentDirichletAllocation": "each job draws random numbers of its own",
    "KernelPCA": SLICES,
    "Nystroem": SLICES,
    "CalibratedClassifierCV": "what another process has fitted is kept as a copy",
    "Isomap": STAYS,
    "KNeighborsTransformer": STAYS,
    "LocallyLinearEmbedding": STAYS,
}
"""Classes of scikit-learn that are fitted otherwise by several jobs → why; found by `benchmarks.reproducibility`."""
SUMS = ("BaseForest", "BaseBagging")
"""Bases of those whose threads add their answers up in the order in which they end."""
ASKS_NOTHING = (
    *KEEPS_ROWS,
    *("OneVsRestClassifier", "OneVsOneClassifier", "MultiOutputClassifier", "MultiOutputRegressor"),
    *("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV"),
)
"""Estimators whose own fit does not learn from answers of what they hold. Searches choose by them: their scores may
differ in the last digit, and a forest in a search keeps its jobs."""


def hold(model: Any) -> list[str]:
    """Let parts be fitted by one job where more would give something else; changed in place, so give a clone.

    Parameters
    ----------
    model : estimator

    Returns
    -------
    list of str
        A sentence for each part that was declared with more.

    Examples
    --------
    >>> from sklearn.decomposition import KernelPCA
    >>> hold(KernelPCA(n_jobs=-1))
    ['KernelPCA is fitted by one job, although n_jobs=-1: the kernel is computed in as many slices as there are jobs']
    """
    told = []
    for part, is_asked in _parts(model):
        why = next((PINNED[name] for name in _of_sklearn(part) if name in PINNED), "")
        if not why and is_asked and _sums(part):
            why = "its answers, which are learned from, add up in the order in which jobs end"
        n_jobs = getattr(part, "n_jobs", None)
        if why and n_jobs not in (None, 1):
            part.set_params(n_jobs=1)
            told.append(f"{type(part).__name__} is fitted by one job, although n_jobs={n_jobs}: {why}")
    return list(dict.fromkeys(told))


def answer_alone(declared: Any, fitted: Any) -> None:
    """Let fitted forests answer by one job, so that their sums come out the same each time.

    So does the model that is stored: what is written down has `n_jobs` at its default.

    Parameters
    ----------
    declared : estimator
        What was fitted, before it was.
    fitted : estimator
        Changed in place.
    """
    if not any(_sums(part) and part.n_jobs not in (None, 1) for part, _ in _parts(declared)):
        return
    stack, seen = [fitted], set[int]()
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, list | tuple):
            stack += value
        elif isinstance(value, dict):
            stack += value.values()
        elif is_estimator(value):
            if _sums(value):
                value.n_jobs = None
            if not any(base.__name__ == "BaseForest" for base in type(value).__mro__):  # a forest holds trees only
                stack += vars(value).values()


def _sums(part: Any) -> bool:
    return any(name in SUMS for name in _of_sklearn(part))


def _of_sklearn(part: Any) -> list[str]:
    """Names of scikit-learn's classes that an estimator is one of."""
    return [base.__name__ for base in type(part).__mro__ if base.__module__.startswith("sklearn.")]


def _parts(model: Any) -> Iterator[tuple[Any, bool]]:
    """Every estimator among the parameters, and whether another one asks it while that one is fitted."""
    stack = [(model, False)]
    while stack:
        value, is_asked = stack.pop()
        if isinstance(value, list | tuple):
            stack += [(item, is_asked) for item in value]
        elif isinstance(value, dict):
            stack += [(item, is_asked) for item in value.values()]
        elif is_estimator(value):
            yield value, is_asked
            below = is_asked or type(value).__name__ not in ASKS_NOTHING
            stack += [(part, below) for _, part in sorted(value.get_params(deep=False).items())]
