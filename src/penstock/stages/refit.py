"""Fit once more on training and held-out rows together, with everything fixed that the first fit found out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from penstock.core.fit import Fit, can_stop
from penstock.core.notes import note
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.core.tree import parts_of
from penstock.stages import inner, labels
from penstock.stages.problem import problem_of
from penstock.stages.train import fit_ready

if TYPE_CHECKING:
    import pandas as pd


def refit(
    train: pd.DataFrame,
    test: pd.DataFrame,
    *,
    fitted: Any,
    target: Target,
    roles: Roles,
    schema: dict[str, Any],
    split: Split,
    seed: int,
    fit: Fit | None = None,
) -> tuple[Any, dict[str, Any]]:
    """The twin of the judged estimator that is served.

    Nothing is chosen again: of a search its best parameters stay, of early stopping the number of iterations. Seeds
    are those of the first fit. Inner folds (of a calibrator, a stack) are made anew over all rows, and what boosts
    inside one, fitted several times over, stops anew in each of these fits: it has no one number of iterations.

    Parameters
    ----------
    train, test : DataFrame
        All rows that either side of the split has.
    fitted : estimator
        The judged one; not changed.
    target, roles, schema, split, seed, fit
        As for `train`.

    Returns
    -------
    fitted : estimator
    report : dict
        "summary", "n_rows", "n_train", "n_test", "fixed": parameter path → value.
    """
    import pandas as pd

    rows = pd.concat([train, test], ignore_index=True)
    problem = problem_of(schema, target)
    estimator, fixed = settled(fitted)
    _declared_folds(estimator)

    def make_folds(folds: int | None) -> inner.Folds:
        from penstock.stages.split import fold_indices

        rule = split if folds is None else dataclasses.replace(split, folds=folds)
        return fold_indices(rows, target=target, roles=roles, split=rule, seed=seed, task=problem.task)

    estimator, _ = inner.with_folds(estimator, make_folds)
    how = _still_asked(fit, estimator, fixed)
    known: dict[str, Any] = {"target": target, "roles": roles, "split": split, "seed": seed}
    again, _, times = fit_ready(estimator, rows, problem, **known, how=how)
    note(rows=len(rows), **times)
    told = ", ".join(f"{path}={value}" for path, value in fixed.items())
    anew = how is not None and how.early_stopping is not None
    return again, {
        "summary": f"what is served is fitted on all {len(rows):,} rows; its judged twin knows {len(train):,} of them"
        + (f" · fixed {told}" if told else "")
        + (" · its parts stop anew, each by rows of its own fit" if anew else ""),
        "n_rows": len(rows),
        "n_train": len(train),
        "n_test": len(test),
        "fixed": fixed,
    }


def _still_asked(fit: Fit | None, estimator: Any, fixed: Mapping[str, Any]) -> Fit | None:
    """What of a `Fit` holds for the twin: where the rounds are fixed, nothing is left to stop by."""
    if fit is None:
        return None
    stops = not fixed and any(can_stop(part) for _, part in parts_of(estimator))
    asked = fit if stops else dataclasses.replace(fit, early_stopping=None)
    return asked if asked.early_stopping is not None or asked.sample is not None else None


def settled(fitted: Any) -> tuple[Any, dict[str, Any]]:
    """An unfitted copy in which what the fit found out is a parameter.

    Searches, at the top or as the last step of pipelines, give way to their best estimator; estimators that stopped
    early get the number of iterations that they kept, and stop early no more.

    Parameters
    ----------
    fitted : estimator

    Returns
    -------
    estimator
    fixed : dict
        Parameter path → number of iterations.

    Examples
    --------
    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> X, y = [[i] for i in range(40)], [0, 1] * 20
    >>> model = HistGradientBoostingClassifier(early_stopping=True, n_iter_no_change=2, random_state=0).fit(X, y)
    >>> twin, fixed = settled(model)
    >>> twin.early_stopping, fixed == {"max_iter": model.n_iter_}
    (False, True)
    """
    fixed: dict[str, Any] = {}
    return _settled(fitted, (), fixed), fixed


def _settled(fitted: Any, path: tuple[str, ...], fixed: dict[str, Any]) -> Any:
    from sklearn.base import clone

    fitted = labels.inside(fitted)
    if hasattr(fitted, "best_estimator_"):
        return _settled(fitted.best_estimator_, path, fixed)
    steps = getattr(fitted, "steps", None)
    if isinstance(steps, list) and steps:
        copy = clone(fitted)
        copy.steps = [
            (name, part if part is None or isinstance(part, str) else _settled(part, (*path, name), fixed))
            for name, part in steps
        ]
        return copy
    inside = getattr(fitted, "regressor_", None)
    if inside is not None and "regressor" in fitted.get_params(deep=False):
        return clone(fitted).set_params(regressor=_settled(inside, (*path, "regressor"), fixed))
    copy = clone(fitted)
    changes = _iterations(fitted)
    if changes:
        copy.set_params(**changes)
        fixed.update({"__".join((*path, name)): changes[name] for name in changes if name in _COUNTS})
    return copy


_CATBOOST_COUNTS = ("iterations", "n_estimators", "num_boost_round", "num_trees")
_COUNTS = ("max_iter", *_CATBOOST_COUNTS)


def _iterations(fitted: Any) -> dict[str, Any]:
    """Parameters that fix where an early stop came to; empty where there was none."""
    params = fitted.get_params(deep=False)
    for stopped in (_boosted_trees, _xgboost, _lightgbm, _catboost, _linear):
        changes = stopped(fitted, params)
        if changes:
            return changes
    return {}


def _boosted_trees(fitted: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """scikit-learn's two kinds of gradient boosting."""
    if getattr(fitted, "do_early_stopping_", False) and "early_stopping" in params:
        return {"max_iter": int(fitted.n_iter_), "early_stopping": False}
    if params.get("n_iter_no_change") is not None and hasattr(fitted, "n_estimators_"):
        return {"n_estimators": int(fitted.n_estimators_), "n_iter_no_change": None}
    return {}


def _xgboost(fitted: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    if params.get("early_stopping_rounds") is None or "tree_method" not in params:
        return {}
    return {"n_estimators": int(fitted.best_iteration) + 1, "early_stopping_rounds": None}


def _lightgbm(fitted: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    best = getattr(fitted, "best_iteration_", None) if "num_leaves" in params else None
    return {"n_estimators": int(best)} if best else {}


def _catboost(fitted: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    ask: Callable[[], Any] | None = getattr(fitted, "get_best_iteration", None)
    best = ask() if ask is not None else None
    if best is None:
        return {}
    # It knows one parameter under several names, and takes no None; without rows to watch it stops nowhere.
    count = next((name for name in _CATBOOST_COUNTS if name in params), "iterations")
    return {count: int(best) + 1} | ({"use_best_model": False} if "use_best_model" in params else {})


def _linear(fitted: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Stochastic gradient descent and perceptrons."""
    if params.get("early_stopping") is not True or not hasattr(fitted, "n_iter_"):
        return {}
    epochs = int(fitted.n_iter_)
    # All of these epochs, and no stop by another rule before them.
    never: dict[str, Any] = {"n_iter_no_change": epochs} if hasattr(fitted, "n_layers_") else {"tol": None}
    return {"max_iter": epochs, "early_stopping": False, **never}


def _declared_folds(estimator: Any) -> None:
    """Row positions of the first fit's folds, put in by `inner.with_folds`, give way to their number."""
    stack = [estimator]
    while stack:
        value = stack.pop()
        if isinstance(value, list | tuple):
            stack.extend(value)
        elif not isinstance(value, type) and callable(getattr(value, "get_params", None)):
            params = value.get_params(deep=False)
            cv = params.get("cv")
            if isinstance(cv, list) and cv and all(isinstance(pair, tuple) and len(pair) == 2 for pair in cv):
                value.set_params(cv=len(cv))
            stack.extend(part for name, part in params.items() if name != "cv")
