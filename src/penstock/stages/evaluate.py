"""Judge the declared estimator by cross-validation on the training rows; the hold-out stays closed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from penstock.core.checkpoints import PartDoneError
from penstock.core.fit import Fit
from penstock.core.metric import Metric
from penstock.core.notes import note
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.core.threshold import Threshold
from penstock.stages import scoring
from penstock.stages.baseline import baseline_answers, baseline_name
from penstock.stages.curves import confusion, curves
from penstock.stages.dependence import dependences
from penstock.stages.importance import MAX_ROWS, importances, spread
from penstock.stages.mistakes import worst_rows
from penstock.stages.own import prove
from penstock.stages.predicted import Predicted, join, predict
from penstock.stages.problem import Problem, problem_of
from penstock.stages.slicing import SMALL, slices_of
from penstock.stages.thresholds import check_rule, cross_fitted
from penstock.stages.train import features_and_target, fit_on
from penstock.stages.uncertainty import interval_over_folds, size_of
from penstock.stages.weights import weights_of
from penstock.stats.checks import json_number
from penstock.stats.intervals import Interval
from penstock.stats.weighting import effective_rows

if TYPE_CHECKING:
    import pandas as pd

SLICE_BOOT = 200
"""Bootstrap replicates for a slice, where a metric has no closed form: slices are many."""


@dataclass(frozen=True)
class OutOfFold:
    """Answers for rows that the answering fit had not seen.

    Attributes
    ----------
    rows : ndarray of int
        Positions in the training table, in the order of the folds.
    fold : ndarray of int
        Which fold judged each of them.
    model, baseline : Predicted
    fits : tuple of (fitted estimator, ndarray of int)
        Each fold's fit with the rows that it was judged on.
    """

    rows: Any
    fold: Any
    model: Predicted
    baseline: Predicted
    fits: tuple[tuple[Any, Any], ...]


def evaluate(
    train: pd.DataFrame,
    *,
    model: Any,
    target: Target,
    roles: Roles,
    schema: dict[str, Any],
    split: Split,
    metrics: tuple[str, ...],
    slices: tuple[str, ...],
    seed: int,
    decide: Threshold | None = None,
    own: tuple[Metric, ...] = (),
    baseline: Any = None,
    fit: Fit | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Cross-validate on the training rows, by folds of the split's own rule; every fit is thrown away.

    Parameters
    ----------
    train : DataFrame of shape (n_rows, n_columns)
    model : unfitted estimator
    target : Target
    roles : Roles
    schema : dict
    split : Split
    metrics : tuple of str
        Scorer names, the first primary; empty for the task's defaults.
    slices : tuple of str
        Columns by whose values the primary metric is given too.
    seed : int
    decide : Threshold, optional
        Labels are then those of a threshold, cross-fitted: each fold's is chosen on the other folds.
    own : tuple of Metric
        Metrics of the user's own that `metrics` names.
    baseline : estimator, str or callable, optional
        See `baseline.baseline_answers`.
    fit : Fit, optional
        Early stopping and sampling inside each fold.

    Returns
    -------
    report : dict
        Plain JSON of bounded size. Figures are of all out-of-fold answers, in scikit-learn's sign.
    predictions : DataFrame
        "row" (position in `train`), "fold", then the columns of `Predicted.to_frame`; in the table's order.

    Raises
    ------
    DeclarationError
        If a metric does not fit the task.
    DataError
        If a slice's column is absent.
    """
    problem = problem_of(schema, target).judged_by(own)
    scoring.chosen(metrics, problem, has_proba=True)  # a wrong name is told before anything is fitted
    if decide is not None:
        check_rule(decide, problem)
    by_column = {column: slices_of(train, column, train) for column in slices}
    learn: dict[str, Any] = {"target": target, "roles": roles, "split": split, "seed": seed, "fit": fit}
    out = out_of_fold(train, model=model, problem=problem, baseline=baseline, metrics=metrics, own=own, **learn)
    if decide is not None:
        out = replace(out, model=cross_fitted(decide, out.model, out.fold))
    prove(out.model, metrics)
    names = scoring.chosen(metrics, problem, has_proba=out.model.has_proba)
    found = [_slice_figure(names[0], one, out, seed) for column in slices for one in by_column[column]]
    found.sort(key=lambda one: (one["low"] is None, one["low"] or 0.0, one["label"]))
    X, y = features_and_target(train, target, roles)
    asked = (out.fits, X, y, problem)
    drops = importances(*asked, metric=names[0], seed=seed, table=train, weight=roles.weight)
    telling = sorted(drops, key=lambda one: one["low"] is None or one["low"] <= 0)  # what is not useless, first
    first = [one["column"] for one in telling] or [str(name) for name in X.columns]
    report = _report(out, names, found, drops, len(train), seed, baseline_name(baseline))
    report["dependence"] = dependences(*asked, first, weight=weights_of(train, roles))
    report["explained"] = {"folds": len(out.fits), "n_rows": sum(len(rows) for _, rows in spread(out.fits, MAX_ROWS))}
    report["worst_rows"] = worst_rows(out.model, out.rows, X, first)
    if out.model.weight is not None:
        report["weight"] = weight_json(str(roles.weight), out.model)
    if decide is not None:
        report |= {"decide": decide.text, "scope": f"{report['scope']}; labels by cross-fitted thresholds"}
    return report, _frame(out)


def weight_json(column: str, predicted: Predicted) -> dict[str, Any]:
    """By which column figures are weighted, and what the rows are worth (Kish's effective number)."""
    return {"column": column, "n_effective": round(effective_rows(predicted.weight, len(predicted)), 1)}


def _report(
    out: OutOfFold,
    names: tuple[str, ...],
    slices: list[dict[str, Any]],
    importance: list[dict[str, Any]],
    n_rows: int,
    seed: int,
    against: str,
) -> dict[str, Any]:
    """All figures as plain JSON."""
    problem = out.model.problem
    figures = {name: _figure(name, out, seed) for name in names}
    return {
        "summary": _summary(names[0], figures[names[0]], slices, against),
        "task": problem.task,
        "classes": list(problem.classes),
        "positive": problem.positive,
        "primary": names[0],
        "n_rows": n_rows,
        "n_judged": len(out.rows),
        "folds": _folds(out, names),
        "metrics": figures,
        "slices": slices,
        "curves": curves(out.model),
        "confusion": confusion(out.model),
        "importance": importance,
        "scope": f"cross-validated on {len(out.rows):,} training rows; the hold-out was not opened",
        **({"baseline": against} if against else {}),
    }


def out_of_fold(
    train: pd.DataFrame,
    *,
    model: Any,
    problem: Problem,
    target: Target,
    roles: Roles,
    split: Split,
    seed: int,
    baseline: Any = None,
    fit: Fit | None = None,
    metrics: tuple[str, ...] | None = None,
    own: tuple[Metric, ...] = (),
) -> OutOfFold:
    """Fit on each fold's training rows, answer for its held-out rows; the baseline on the same folds."""
    import time

    import numpy as np

    from penstock.stages.split import fold_indices

    folds = fold_indices(train, target=target, roles=roles, split=split, seed=seed, task=problem.task)
    X, y = features_and_target(train, target, roles)
    answers, dummies, seconds = [], [], []
    fit_s = predict_s = 0.0
    fits: list[tuple[Any, Any]] = []
    part_done: PartDoneError | None = None
    for learn, judge in folds:
        began = time.perf_counter()
        rows = train.iloc[learn]
        declared: dict[str, Any] = {"target": target, "roles": roles, "split": split, "seed": seed, "how": fit}
        fitting = time.perf_counter()
        try:
            fitted = fit_on(model, rows, problem, **declared, metrics=metrics, own=own).fitted
        except PartDoneError as done:  # of this fold's search; there is one in each
            part_done = done
            continue
        asking, asked = time.perf_counter(), train.iloc[judge]
        answers.append(predict(fitted, X.iloc[judge], y.iloc[judge], problem).beside(asked, roles.weight))
        fit_s, predict_s = fit_s + asking - fitting, predict_s + time.perf_counter() - asking
        about: dict[str, Any] = {"target": target, "roles": roles, "seed": seed}
        dummies.append(baseline_answers(baseline, rows, asked, problem, **about))
        fits.append((fitted, judge))
        seconds.append(round(time.perf_counter() - began, 4))
    if part_done is not None:
        raise part_done
    note(folds=len(folds), fold_s=seconds, fit_s=round(fit_s, 4), predict_s=round(predict_s, 4))
    judged = np.concatenate([np.asarray(judge) for _, judge in folds])
    number = np.repeat(np.arange(len(folds)), [len(judge) for _, judge in folds])
    return OutOfFold(judged, number, join(answers), join(dummies), tuple(fits))


def figure_json(name: str, found: Interval) -> dict[str, Any]:
    """An interval as plain JSON, in the scorer's sign and as shown to people."""
    low, high = scoring.shown(name, json_number(found.low)), scoring.shown(name, json_number(found.high))
    ends = (high, low) if scoring.is_error(name) else (low, high)
    return {
        **found.to_json(),
        "shown": {
            "name": scoring.shown_name(name),
            "value": scoring.shown(name, json_number(found.value)),
            "low": ends[0],
            "high": ends[1],
            "lower_is_better": scoring.is_error(name),
        },
    }


def figure_text(figure: dict[str, Any]) -> str:
    """A figure with its interval: "0.843 [0.822, 0.863]".

    Examples
    --------
    >>> figure_text({"shown": {"value": 0.8431, "low": 0.8222, "high": 0.8634}})
    '0.843 [0.822, 0.863]'
    """
    shown = figure["shown"]
    if shown["low"] is None or shown["high"] is None:
        return scoring.number(shown["value"])
    return f"{scoring.number(shown['value'])} [{scoring.number(shown['low'])}, {scoring.number(shown['high'])}]"


def _figure(name: str, out: OutOfFold, seed: int) -> dict[str, Any]:
    figure = figure_json(name, interval_over_folds(name, out.model, out.fold, seed=seed))
    dummy = _mean_over_folds(name, out)
    return {**figure, "baseline": json_number(dummy), "baseline_shown": scoring.shown(name, json_number(dummy))}


def _mean_over_folds(name: str, out: OutOfFold) -> float:
    """The baseline's figure: each fold's dummy has a level of its own, which would count as ranking if pooled."""
    import numpy as np

    parts = [out.baseline.take(out.fold == number) for number in np.unique(out.fold)]
    figures = [(size_of(part), scoring.figure(name, part)) for part in parts if scoring.answerable(name, part)]
    known = [(n, value) for n, value in figures if math.isfinite(value)]
    return sum(n * value for n, value in known) / sum(n for n, _ in known) if known else math.nan


def is_small(predicted: Predicted) -> bool:
    """Whether rows are too few to be judged by themselves, counted as what they are worth."""
    return effective_rows(predicted.weight, len(predicted)) < SMALL


def _slice_figure(name: str, one: Any, out: OutOfFold, seed: int) -> dict[str, Any]:
    import numpy as np

    inside = np.isin(out.rows, one.rows)
    n = int(inside.sum())
    found = Interval(-math.inf, math.nan, math.inf, n, "no row")
    rows = out.model.take(inside)
    if n:
        found = interval_over_folds(name, rows, out.fold[inside], seed=seed, n_boot=SLICE_BOOT)
    return {"column": one.column, "label": one.label, "small": is_small(rows), **figure_json(name, found)}


def _folds(out: OutOfFold, names: tuple[str, ...]) -> list[dict[str, Any]]:
    found = []
    for number in range(int(out.fold.max()) + 1):
        rows = out.model.take(out.fold == number)
        values = {name: json_number(scoring.figure(name, rows)) for name in names}
        found.append({"fold": number, "n_judged": len(rows), "metrics": values})
    return found


def _summary(name: str, figure: dict[str, Any], slices: list[dict[str, Any]], against: str) -> str:
    lower = " (lower is better)" if scoring.is_error(name) else ""
    text = f"{scoring.shown_name(name)} {figure_text(figure)}{lower}"
    text += f" · baseline {f'{against} ' if against else ''}{scoring.number(figure['baseline_shown'])}"
    judged = [one for one in slices if not one["small"] and one["low"] is not None]
    if judged:
        text += f" · worst slice {judged[0]['label']} {figure_text(judged[0])}"
    return text


def _frame(out: OutOfFold) -> pd.DataFrame:
    frame: pd.DataFrame = out.model.to_frame()
    frame.insert(0, "fold", out.fold)
    frame.insert(0, "row", out.rows)
    return frame.sort_values(["row", "fold"], kind="stable", ignore_index=True)
