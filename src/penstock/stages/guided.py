"""An estimator around another for the time of a fit: it divides the rows, and passes on weights and rows to stop by.

scikit-learn is imported here at the top; whoever needs this module imports it when something is to be fitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, get_routing_for_object
from sklearn.utils.metaestimators import available_if

from penstock.core.fit import can_stop
from penstock.core.tree import parts_of
from penstock.stages import labels
from penstock.stages.guidance import Guidance


def steps_of(estimator: Any) -> list[Any] | None:
    """The steps of a pipeline (scikit-learn's or another's with the same form); None for anything else."""
    steps = getattr(estimator, "steps", None)
    return steps if isinstance(steps, list) and steps and hasattr(estimator, "named_steps") else None


def last_of(estimator: Any) -> Any:
    """What learns at the end of a pipeline of pipelines."""
    while (steps := steps_of(estimator)) is not None:
        estimator = steps[-1][1]
    return estimator


def _has(name: str) -> Any:
    def check(self: Any) -> bool:
        getattr(getattr(self, "estimator_", self.guided_estimator), name)
        return True

    return check


class Guided(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Fits a clone of an estimator on some of the rows, and lets it stop by others.

    Its parameters are those of the estimator, so that a search sets them through it. `plain` takes it away again.

    Parameters
    ----------
    guided_estimator : estimator
        A learner, or a pipeline that ends in one.
    guidance : Guidance or None
        How rows are divided; None passes on what was given and no more.
    """

    def __init__(self, guided_estimator: Any, guidance: Guidance | None = None) -> None:
        self.guided_estimator = guided_estimator
        self.guidance = guidance

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The estimator's parameters beside our own two."""
        own = {"guided_estimator": self.guided_estimator, "guidance": self.guidance}
        return {**self.guided_estimator.get_params(deep=True), **own} if deep else own

    def set_params(self, **params: Any) -> Guided:
        """Ours here, all others on the estimator."""
        own = ("guided_estimator", "guidance")
        for name in own:
            if name in params:
                setattr(self, name, params[name])
        theirs = {name: value for name, value in params.items() if name not in own}
        if theirs:
            self.guided_estimator.set_params(**theirs)
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None, rows: Any = None, groups: Any = None) -> Guided:
        """Fit a clone of the estimator.

        Parameters
        ----------
        X : frame or matrix of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
        sample_weight : array of shape (n_rows,), optional
        rows : array of int, shape (n_rows,)
            Which training rows these are; needed where rows are divided.
        groups : array of shape (n_rows,), optional
            For a search at the end of a pipeline.
        """
        estimator, n = clone(self.guided_estimator), len(y)
        learn, stop, rounds = np.arange(n), np.arange(0), 0
        if self.guidance is not None:
            learn, stop = self.guidance.divide(rows)
            sample_weight, rounds = self.guidance.weigh(rows, sample_weight), self.guidance.fit.rounds
        held = (_part(X, stop), _part(y, stop), _part(sample_weight, stop)) if len(stop) else None
        given = {"sample_weight": sample_weight, "rows": rows, "groups": groups}
        if len(learn) < n:
            X, y = _part(X, learn), _part(y, learn)
            given = {name: _part(values, learn) for name, values in given.items()}
            _narrow_folds(estimator, learn, n)
        given = {name: values for name, values in given.items() if values is not None}
        self.estimator_ = _fit_chain(estimator, X, y, given, held, rounds)
        if hasattr(self.estimator_, "classes_"):
            self.classes_ = self.estimator_.classes_
        self.rows_ = {"rows": len(learn), "validation_rows": len(stop)}
        return self

    @available_if(_has("predict"))  # type: ignore[untyped-decorator]
    def predict(self, X: Any) -> Any:
        """The estimator's."""
        return self.estimator_.predict(X)

    @available_if(_has("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:
        """The estimator's."""
        return self.estimator_.predict_proba(X)

    @available_if(_has("decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> Any:
        """The estimator's."""
        return self.estimator_.decision_function(X)

    @property
    def feature_importances_(self) -> Any:
        """The learner's, for what selects features by them."""
        return labels.inside(self.estimator_).feature_importances_

    @property
    def coef_(self) -> Any:
        """The learner's."""
        return labels.inside(self.estimator_).coef_

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy, or R², as scikit-learn's mixins have it."""
        judge = accuracy_score if is_classifier(self) else r2_score
        return float(judge(y, self.predict(X), sample_weight=sample_weight))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self) -> Any:
        return get_tags(self.guided_estimator)


def _part(values: Any, rows: Any) -> Any:
    return None if values is None else _safe_indexing(values, rows)


def _narrow_folds(estimator: Any, learn: Any, n: int) -> None:
    """Folds that name row positions (ours, by the split's rule) are told in positions among the rows that stay."""
    place = np.full(n, -1)
    place[learn] = np.arange(len(learn))
    for _, part in parts_of(estimator):
        if isinstance(part, type) or not callable(getattr(part, "get_params", None)):
            continue
        cv = part.get_params(deep=False).get("cv")
        if isinstance(cv, list) and cv:
            sides = [[place[np.asarray(side)] for side in pair] for pair in cv]
            part.set_params(cv=[tuple(side[side >= 0] for side in pair) for pair in sides])


def _fit_chain(estimator: Any, X: Any, y: Any, given: dict[str, Any], held: Any, rounds: int) -> Any:
    """Fit a learner, or a pipeline whose own `fit` prepares the rows for it; give the plain fitted estimator."""
    holders = []
    leaf = estimator
    while (steps := steps_of(leaf)) is not None:
        holders.append(leaf)
        leaf = steps[-1][1]
    end = _End(leaf, given, held, rounds, holders)
    if not holders:
        end.fit(X, y)
        return end.leaf
    inner = holders[-1]
    inner.steps[-1] = (inner.steps[-1][0], end)
    # Transforms get weights only where their owner asked for it. Else routing is off for them: while it is on, a
    # TargetEncoder of scikit-learn 1.9 fails on rows without groups.
    wanted = get_routing_for_object(estimator).consumes("fit", ["sample_weight"])
    passed = {name: values for name, values in given.items() if name in wanted}
    with config_context(enable_metadata_routing=bool(passed)):
        estimator.fit(X, y, **passed)
    inner.steps[-1] = (inner.steps[-1][0], end.leaf)
    return estimator


class _End:
    """Stands at a pipeline's end while it is fitted: by then every transform before it has been."""

    def __init__(self, leaf: Any, given: dict[str, Any], held: Any, rounds: int, holders: list[Any]) -> None:
        self.leaf, self.given, self.held, self.rounds, self.holders = leaf, given, held, rounds, holders

    def __sklearn_tags__(self) -> Any:
        return get_tags(self.leaf)

    def fit(self, X: Any, y: Any) -> _End:
        """Fit the learner on what the transforms gave; `leaf` is then what answers in the labels of `y`."""
        with config_context(enable_metadata_routing=True):
            names = sorted(self.given)
            passed = get_routing_for_object(self.leaf).consumes("fit", names) if is_around(self.leaf) else None
        if passed is not None:  # a search, a stack, … hands on what the parts inside asked for
            with config_context(enable_metadata_routing=True):
                self.leaf.fit(X, y, **{name: self.given[name] for name in names if name in passed})
            return self
        given = {name: values for name, values in self.given.items() if name == "sample_weight"}
        if self.held is not None:
            seen, truth, weight = self.held
            for holder in self.holders:
                for _, step in holder.steps[:-1]:
                    if step is not None and step != "passthrough" and hasattr(step, "transform"):
                        seen = step.transform(seen)
            given |= stopping(self.leaf, seen, truth, weight, self.rounds, y)
        told = y
        if numbered := labels.takes_numbers_only(self.leaf) and not labels.are_numbers(np.unique(y).tolist()):
            told = labels.codes(y, y)
        # What does not know metadata routing refuses weights while it is on; what does takes them either way.
        with config_context(enable_metadata_routing=False):
            self.leaf.fit(X, told, **given)
            if numbered:
                self.leaf = labels.around(self.leaf, y)
        return self


PARTS = ("estimator", "base_estimator", "regressor", "classifier", "final_estimator", "estimators")
"""Parameters of estimators around others, under which what learns stands."""


def routes(estimator: Any) -> bool:
    """Whether scikit-learn's routing knows an estimator: CatBoost has no such method, AdaBoost's only raises."""
    unsupported = any(base.__name__ == "_RoutingNotSupportedMixin" for base in type(estimator).__mro__)
    return hasattr(estimator, "get_metadata_routing") and not unsupported


def is_around(estimator: Any) -> bool:
    """Whether an estimator fits others inside, and hands metadata on to them through scikit-learn's routing."""
    if not routes(estimator) or type(estimator).__name__ == "FrozenEstimator":
        return False
    if not any(name in estimator.get_params(deep=False) for name in PARTS):
        return False
    try:
        return isinstance(estimator.get_metadata_routing(), MetadataRouter)
    except RuntimeError:  # it asks others inside that have no such thing to say
        return True


def stopping(leaf: Any, X: Any, y: Any, weight: Any, rounds: int, learned: Any = None) -> dict[str, Any]:
    """What a learner's `fit` wants, so that it stops by these rows; sets its patience where it has none.

    Parameters
    ----------
    leaf : estimator
        Changed in place: XGBoost takes its patience as a parameter alone.
    X, y, weight
        Transformed rows, their truth, and their weights or None.
    rounds : int
        Patience, in rounds.
    learned : array-like, optional
        Truth of the rows that it learns from, for learners to which classes are numbers.
    """
    kinds = {base.__name__ for base in type(leaf).__mro__}
    # LightGBM 4.7 numbers the labels that it learns from by itself, and leaves those of `eval_y` as they are.
    if learned is not None and ("LGBMClassifier" in kinds or labels.takes_numbers_only(leaf)):
        y = labels.codes(y, learned)
    if "XGBModel" in kinds:
        if leaf.get_params().get("early_stopping_rounds") is None:
            leaf.set_params(early_stopping_rounds=rounds)
        return {"eval_set": [(X, y)], "verbose": False, **_weights("sample_weight_eval_set", weight)}
    if "LGBMModel" in kinds:
        return {"eval_X": (X,), "eval_y": (y,), **_weights("eval_sample_weight", weight), **_patience(leaf, rounds)}
    if "CatBoost" in kinds:
        return _catboost(leaf, X, y, weight, rounds)
    if not can_stop(leaf):
        return {}
    leaf.set_params(early_stopping=True)
    return {"X_val": X, "y_val": y, **({} if weight is None else {"sample_weight_val": weight})}


def _weights(name: str, weight: Any) -> dict[str, Any]:
    return {} if weight is None else {name: [weight]}


def _patience(leaf: Any, rounds: int) -> dict[str, Any]:
    names = ("early_stopping_round", "early_stopping_rounds", "early_stopping", "n_iter_no_change")
    if any(leaf.get_params().get(name) for name in names):
        return {}
    from lightgbm import early_stopping

    return {"callbacks": [early_stopping(rounds, verbose=False)]}


def _catboost(leaf: Any, X: Any, y: Any, weight: Any, rounds: int) -> dict[str, Any]:
    from catboost import Pool

    params = leaf.get_params()
    kinds = {name: params.get(name) for name in ("cat_features", "text_features", "embedding_features")}
    pool = Pool(X, y, weight=weight, **{name: value for name, value in kinds.items() if value is not None})
    patient = any(params.get(name) for name in ("early_stopping_rounds", "od_type", "od_wait", "od_pval"))
    return {"eval_set": pool, **({} if patient else {"early_stopping_rounds": rounds})}


def stopped_at(fitted: Any) -> int | None:
    """The round that was best, counted from 1; None where the learner does not tell."""
    leaf = labels.inside(last_of(fitted))
    kinds = {base.__name__ for base in type(leaf).__mro__}
    if "XGBModel" in kinds:
        try:
            return int(leaf.best_iteration) + 1
        except AttributeError:
            return None
    if "CatBoost" in kinds:
        best = leaf.get_best_iteration()
        return None if best is None else int(best) + 1
    found = getattr(leaf, "best_iteration_", None) or getattr(leaf, "n_iter_", None)
    return int(found) if isinstance(found, int | np.integer) else None


def plain(fitted: Any, *, requests: bool = False) -> Any:
    """A fitted estimator without anything of ours: each `Guided` gives way to what it fitted.

    Parameters
    ----------
    fitted : object
        Changed in place below the top.
    requests : bool, default=False
        Also forget the metadata requests on every estimator: they were ours.
    """
    return _plain(fitted, {}, requests)


def _plain(value: Any, seen: dict[int, Any], requests: bool) -> Any:
    if isinstance(value, Guided):
        return _plain(getattr(value, "estimator_", value.guided_estimator), seen, requests)
    if id(value) in seen:
        return value
    if isinstance(value, dict) and (type(value) is dict or type(value).__module__.startswith("sklearn.")):
        seen[id(value)] = value  # a plain one, or a Bunch
        for name, part in value.items():
            value[name] = _plain(part, seen, requests)
    elif type(value) is list:
        seen[id(value)] = value
        value[:] = [_plain(part, seen, requests) for part in value]
    elif type(value) is tuple:
        parts = [_plain(part, seen, requests) for part in value]
        if any(new is not old for new, old in zip(parts, value, strict=True)):
            return tuple(parts)
    elif type(value).__module__.startswith("sklearn.") or callable(getattr(value, "get_params", None)):
        _plain_attributes(value, seen, requests)
    return value


def _plain_attributes(value: Any, seen: dict[int, Any], requests: bool) -> None:
    seen[id(value)] = value
    if isinstance(value, type):
        return
    held: dict[str, Any] = getattr(value, "__dict__", {})
    if requests:
        held.pop("_metadata_request", None)
    for name, part in list(held.items()):
        new = _plain(part, seen, requests)
        if new is not part:
            held[name] = new


def guided_in(fitted: Any) -> list[Guided]:
    """Every fitted `Guided` in an estimator, in the order of its attributes."""
    return [one for one in objects_in(fitted) if isinstance(one, Guided) and hasattr(one, "estimator_")]


def objects_in(fitted: Any) -> list[Any]:
    """Every estimator and every object of scikit-learn's inside a fitted estimator, in the order of its attributes.

    What a `Guided` holds is not looked into.
    """
    found: list[Any] = []
    seen: set[int] = set()
    stack = [fitted]
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, list | tuple):
            stack.extend(reversed(value))
        elif isinstance(value, dict):
            stack.extend(reversed(list(value.values())))
        elif not isinstance(value, type) and (
            type(value).__module__.startswith("sklearn.") or callable(getattr(value, "get_params", None))
        ):
            found.append(value)
            if not isinstance(value, Guided):
                stack.extend(reversed(list(getattr(value, "__dict__", {}).values())))
    return found
