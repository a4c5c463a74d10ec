"""Fit the declared estimator on the training rows, as `clone(model).fit(X, y)` would, every random part seeded."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from penstock.core.fit import Fit
from penstock.core.metric import Metric
from penstock.core.notes import note
from penstock.core.search import OpenSearch, open_searches
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError, DeclarationError
from penstock.stages import inner, scoring, searches
from penstock.stages.blame import add_blame
from penstock.stages.jobs import answer_alone, hold
from penstock.stages.problem import Problem, problem_of
from penstock.stages.remembered import remembering, searched
from penstock.stages.routing import guide
from penstock.stages.seeding import derive, seeded, seeds

if TYPE_CHECKING:
    import pandas as pd

MAX_LISTED = 200
"""Names of features listed in a report."""


def train(
    train: pd.DataFrame,
    *,
    model: Any,
    target: Target,
    roles: Roles,
    schema: dict[str, Any],
    split: Split,
    seed: int,
    fit: Fit | None = None,
    metrics: tuple[str, ...] | None = None,
    own: tuple[Metric, ...] = (),
) -> tuple[Any, dict[str, Any]]:
    """Fit the estimator on the training rows.

    The result equals `clone(model).fit(X, y)` bit for bit, with each `random_state` that was None derived from
    the workflow's seed and its path, and with folds by the split's rule where a search, calibrator or threshold
    estimator was declared with `cv=None` or a number.

    Parameters
    ----------
    train : DataFrame of shape (n_rows, n_columns)
    model : unfitted estimator
        Not changed.
    target : Target
    roles : Roles
    schema : dict
        As `validate` gives it: "task", "classes", "positive".
    split : Split
    seed : int
    fit : Fit, optional
        Early stopping and sampling.
    metrics : tuple of str, optional
        Scorer names: a search without `scoring=` chooses by the first, by the task's default where there is none.
        None: it chooses by scikit-learn's default.
    own : tuple of Metric
        Metrics of the user's own that `metrics` names.

    Returns
    -------
    fitted : estimator
        Of a search, what it chose.
    report : dict
        "summary", "estimator", "n_rows", "n_features", "n_features_out", "features", "left_out", "seed", "seeds",
        "inner_folds", "search"; "fit" where weights, groups or a `Fit` were declared; "notes" where parts are fitted by
        one job although more were declared.

    Raises
    ------
    DataError
        If there is no row or no column to learn from, or a weight is none.
    DeclarationError
        If a part of the estimator cannot take what was declared.
    Exception
        Whatever the estimator raises, with a note that names the column where it can be found.
    """
    problem = problem_of(schema, target)
    X, _ = features_and_target(train, target, roles)
    known: dict[str, Any] = {"target": target, "roles": roles, "split": split, "seed": seed}
    done = fit_on(model, train, problem, **known, how=fit, metrics=metrics, own=own)
    fitted, places = done.fitted, done.places
    note(rows=len(X), columns=X.shape[1], **done.times)
    n_out = _features_out(fitted)
    name = _final_name(model)
    report = {
        "summary": _summary(name, X.shape[1], n_out, seed, places),
        "estimator": name,
        "task": problem.task,
        "n_rows": len(X),
        "n_features": int(X.shape[1]),
        "n_features_out": n_out,
        "features": [str(column) for column in X.columns[:MAX_LISTED]],
        "left_out": _left_out(train, target, roles),
        "seed": seed,
        "seeds": seeds(model, seed),
        "inner_folds": [dataclasses.asdict(place) for place in places],
        "search": searched(fitted, done.by, MAX_LISTED),
    }
    if done.held:
        report["notes"] = done.held
    if done.searches:
        report["searches"] = done.searches
        report["summary"] = f"{report['summary']}{_search_words(done.searches)}"
    if done.report:
        report["fit"] = done.report
        report["summary"] = f"{report['summary']}{_fit_words(done.report)}"
    # A search is a way to choose: what is kept and judged is what it chose, and the report says how.
    return getattr(fitted, "best_estimator_", fitted), report


def features_and_target(table: pd.DataFrame, target: Target, roles: Roles) -> tuple[pd.DataFrame, pd.Series[Any]]:
    """X, the columns that the model sees in the table's order, and y, the target in the type of its values.

    Raises
    ------
    DataError
        If the target is missing, no column is left, or there is no row.
    """
    columns = [str(name) for name in table.columns]
    if target.column not in columns:
        raise DataError(f"there is no column {target.column!r}, the target", hint=f"columns: {', '.join(columns[:20])}")
    visible = roles.visible(columns, target)
    absent = [name for name in roles.features or () if name not in columns]
    if absent:
        raise DataError(f"features= names columns that the table lacks: {', '.join(map(repr, absent[:20]))}")
    if not visible:
        hidden = ", ".join(roles.hidden(target))
        raise DataError("no column is left for the model to learn from", hint=f"left out by their role: {hidden}")
    if len(table) == 0:
        raise DataError("the table has no row")
    y = table[target.column]
    # Truths beside missing cells are objects, and stay so where the rows without a target are dropped.
    return table[visible], y.infer_objects() if y.dtype == object else y


def prepared(
    model: Any, train: pd.DataFrame, problem: Problem, *, target: Target, roles: Roles, split: Split, seed: int
) -> tuple[Any, list[inner.InnerFolds]]:
    """A seeded clone with our folds for what cross-validates inside; ready to be fitted on these rows."""
    estimator = seeded(model, seed)

    def make_folds(folds: int | None) -> inner.Folds:
        from penstock.stages.split import fold_indices

        rule = split if folds is None else dataclasses.replace(split, folds=folds)
        return fold_indices(train, target=target, roles=roles, split=rule, seed=seed, task=problem.task)

    return inner.with_folds(estimator, make_folds)


@dataclasses.dataclass(frozen=True)
class FittedOn:
    """What came of one fit.

    Attributes
    ----------
    fitted : estimator
        A plain one, as scikit-learn's own `fit` would leave it; of a search, the search.
    places : list of InnerFolds
    report : dict
        Weights, groups, sampling and early stopping, as plain JSON; empty where nothing was declared.
    times : dict
        Seconds.
    searches : list of dict
        Searches declared without `scoring=`: "path", "estimator", "by" (as people say it), "why_not".
    by : dict
        Path of those that were given the first metric → its scorer name.
    held : list of str
        Parts that were fitted by one job although more were declared, a sentence each.
    """

    fitted: Any
    places: list[inner.InnerFolds]
    report: dict[str, Any]
    times: dict[str, float]
    searches: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    by: dict[str, str] = dataclasses.field(default_factory=dict)
    held: list[str] = dataclasses.field(default_factory=list)


def fit_on(
    model: Any,
    rows: pd.DataFrame,
    problem: Problem,
    *,
    target: Target,
    roles: Roles,
    split: Split,
    seed: int,
    how: Fit | None = None,
    metrics: tuple[str, ...] | None = None,
    own: tuple[Metric, ...] = (),
) -> FittedOn:
    """Fit a seeded clone on some rows, with all that was declared: folds, weights, groups, sampling, early stopping.

    Every fit of a workflow goes through here: the one that is kept, and those of its cross-validation.

    Parameters
    ----------
    model : unfitted estimator
        Not changed.
    rows : DataFrame of shape (n_rows, n_columns)
    problem, target, roles, split, seed
    how : Fit, optional
    metrics, own
        As for `train`.

    Raises
    ------
    DataError, DeclarationError
    Exception
        Whatever the estimator raises.
    """
    estimator, places = prepared(model, rows, problem, target=target, roles=roles, split=split, seed=seed)
    held = hold(estimator)
    by, left = None, []
    if metrics is not None and (left := open_searches(model)):
        rows = rows if rows.index.is_unique else rows.reset_index(drop=True)
        by = searches.judge_by_first(estimator, rows, problem, roles=roles, metrics=metrics, own=own)
    known: dict[str, Any] = {"target": target, "roles": roles, "split": split, "seed": seed}
    fitted, report, times = fit_ready(estimator, rows, problem, **known, how=how)
    if by is not None:
        searches.forget(fitted, by)
    told = [{**dataclasses.asdict(one), "by": _chosen_by(one, by)} for one in left]
    given = {one.path: by.name for one in left if by is not None and not one.why_not}
    return FittedOn(fitted, places, report, times, told, given, held)


def _chosen_by(place: OpenSearch, by: searches.FirstMetric | None) -> str:
    return "scikit-learn's default score" if by is None or place.why_not else scoring.shown_name(by.name)


def _search_words(found: list[dict[str, Any]]) -> str:
    """For the summary: "search by roc_auc"."""
    return "".join(f" · search by {name}" for name in dict.fromkeys(one["by"] for one in found))


def fit_ready(
    estimator: Any,
    rows: pd.DataFrame,
    problem: Problem,
    *,
    target: Target,
    roles: Roles,
    split: Split,
    seed: int,
    how: Fit | None = None,
) -> tuple[Any, dict[str, Any], dict[str, float]]:
    """Fit a seeded clone, whose folds are set, in place: what `fit_on` does after it has made one.

    Returns
    -------
    fitted : estimator
    report, times : dict
        As in `FittedOn`.
    """
    X, y = features_and_target(rows, target, roles)
    ready = guide(estimator, rows, problem, target=target, roles=roles, split=split, seed=seed, fit=how)
    fitted, times = fit_timed(ready.estimator, X, y, seed, ready.params)
    report = ready.report
    if ready.around:
        from penstock.stages.guided import guided_in, plain

        kept = [one for one in guided_in(getattr(fitted, "best_estimator_", fitted)) if one.guidance is not None]
        if kept:
            report = {**report, "fits": [_one_fit(one) for one in kept[:MAX_LISTED]]}
        fitted = plain(fitted, requests=ready.requests)
    answer_alone(estimator, fitted)
    return fitted, report, times


def _one_fit(guided: Any) -> dict[str, Any]:
    from penstock.stages.guided import last_of, stopped_at
    from penstock.stages.labels import inside

    facts = {"estimator": type(inside(last_of(guided.estimator_))).__name__, **guided.rows_}
    return {**facts, "best_iteration": stopped_at(guided.estimator_)} if guided.rows_["validation_rows"] else facts


def _fit_words(report: dict[str, Any]) -> str:
    """For the summary: "weighted by fnlwgt · stopped at round 83 by 4,211 rows"."""
    words = [f"weighted by {report['weight']}"] if "weight" in report else []
    words += [f"groups {', '.join(report['groups'])} to the inner splitter"] if "groups" in report else []
    for one in report.get("fits", [])[:1]:
        if "sample" in report:
            words.append(f"sampled to {one['rows'] + one['validation_rows']:,} rows")
        if one.get("best_iteration") is not None:
            words.append(f"best at round {one['best_iteration']:,}, judged by {one['validation_rows']:,} rows")
    return "".join(f" · {word}" for word in words)


def fit(estimator: Any, X: Any, y: Any, seed: int, params: dict[str, Any] | None = None) -> Any:
    """Fit in place; an error of the estimator's passes with a note that names the column.

    What draws from the global generators, having no seed to set, draws the same each time; their state is restored.
    With `params`, scikit-learn's metadata routing carries them, whatever the user's own setting.

    Raises
    ------
    DeclarationError
        If `fit` is none of a fitted estimator's methods.
    """
    if not callable(getattr(estimator, "fit", None)):
        raise DeclarationError(f"model=: {type(estimator).__name__} has no fit")
    with _global_seeds(seed), _routing(on=bool(params)), remembering():
        try:
            return estimator.fit(X, y, **(params or {}))
        except Exception as error:
            add_blame(error, X, y)
            raise


def _routing(*, on: bool) -> contextlib.AbstractContextManager[Any]:
    if not on:
        return contextlib.nullcontext()
    import sklearn

    context: contextlib.AbstractContextManager[Any] = sklearn.config_context(enable_metadata_routing=True)
    return context


@contextlib.contextmanager
def _global_seeds(seed: int) -> Iterator[None]:
    import random

    import numpy as np

    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002 – the legacy one is what is used
    random.seed(derive(seed, "random"))
    np.random.seed(derive(seed, "numpy.random"))  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002


def fit_timed(
    estimator: Any, X: Any, y: Any, seed: int, params: dict[str, Any] | None = None
) -> tuple[Any, dict[str, float]]:
    """Fit, and how long preprocessing and the whole took, in seconds.

    Of a pipeline, preprocessing is timed through its `memory`, which calls what it is given and keeps nothing:
    the fit is untouched.
    """
    stopwatch = _Stopwatch()
    pipeline = getattr(estimator, "guided_estimator", estimator)
    timed = type(pipeline).__name__ == "Pipeline" and getattr(pipeline, "memory", 0) is None
    if timed:
        pipeline.memory = stopwatch
    began = time.perf_counter()
    try:
        fitted = fit(estimator, X, y, seed, params)
    finally:
        for one in (pipeline, getattr(estimator, "estimator_", pipeline)) if timed else ():
            one.memory = None
    times = {"fit_s": round(time.perf_counter() - began, 4)}
    if timed:
        times["preprocess_s"] = round(stopwatch.seconds, 4)
    return fitted, times


class _Stopwatch:
    """A pipeline's `memory` that keeps nothing but the time."""

    location = None  # what a pipeline asks, to know that nothing is kept and no clone is needed

    def __init__(self) -> None:
        self.seconds = 0.0

    def __deepcopy__(self, _memo: Any) -> _Stopwatch:
        return self

    def cache(self, function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def _final_name(model: Any) -> str:
    """The class that learns, through pipelines; a wrapper is named with what it wraps."""
    steps = getattr(model, "steps", None)
    if isinstance(steps, list) and steps:
        return _final_name(steps[-1][1])
    name = type(model).__name__
    inner = model.get_params(deep=False).get("estimator") if hasattr(model, "get_params") else None
    if hasattr(inner, "get_params"):
        return f"{name}({_final_name(inner)})"
    return name


def _left_out(train: pd.DataFrame, target: Target, roles: Roles) -> dict[str, str]:
    """Column → why the model does not see it, the target aside."""
    words = [
        ("key", roles.key),
        ("groups", roles.groups),
        ("time", (roles.time, target.time)),
        ("weight", (roles.weight,)),
        ("known only after", target.after),
        ("drop", roles.drop),
    ]
    seen = set(roles.visible([str(name) for name in train.columns], target))
    hidden = [str(name) for name in train.columns if str(name) not in seen and str(name) != target.column]
    why = {name: next((word for word, names in words if name in names), "not in features") for name in hidden}
    return dict(list(why.items())[:MAX_LISTED])


def _features_out(fitted: Any) -> int | None:
    """Number of features that reach the final estimator; None where that cannot be told."""
    fitted = getattr(fitted, "best_estimator_", fitted)
    last = fitted.steps[-1][1] if isinstance(getattr(fitted, "steps", None), list) else fitted
    last = getattr(last, "best_estimator_", last)
    if last is not fitted and hasattr(last, "steps"):
        return _features_out(last)
    try:
        return int(last.n_features_in_)
    except AttributeError:
        return None


def _summary(name: str, n_in: int, n_out: int | None, seed: int, places: list[inner.InnerFolds]) -> str:
    width = f"{n_in} → {n_out} features" if n_out is not None and n_out != n_in else f"{n_in} features"
    ours = sum(place.ours for place in places)
    folds = " · inner folds by the split's rule" if ours else ""
    return f"{name} · {width} · seed {seed}{folds}"
