"""Several candidates: which one is fitted and sees the hold-out, chosen by cross-validation on the training rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.core.metric import Metric
from penstock.core.target import Target
from penstock.errors import DeclarationError
from penstock.stages import scoring
from penstock.stages.evaluate import evaluate, figure_json
from penstock.stages.judged import difference_text
from penstock.stages.predicted import Predicted
from penstock.stages.problem import Problem, problem_of
from penstock.stages.stored import from_frame
from penstock.stages.train import train as fit_one
from penstock.stages.uncertainty import difference, interval_over_folds, size_of
from penstock.stats.checks import json_number
from penstock.stats.intervals import normal_quantile
from penstock.stats.paired import Difference

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.975
"""Of each one-sided bound of a difference on the leaderboard: both sides together at 0.95."""


def candidate(train: pd.DataFrame, *, name: str, **known: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    """Cross-validate one candidate, as `evaluate` does; a metric that it cannot answer is refused by its name.

    Parameters
    ----------
    train : DataFrame of shape (n_rows, n_columns)
    name : str
    **known
        As for `evaluate`.

    Raises
    ------
    DeclarationError, DataError
    """
    try:
        return evaluate(train, **known)
    except DeclarationError as error:
        raise DeclarationError(
            [f"candidate {name!r}: {fault}" for fault in error.faults], where=error.where, hint=error.hint
        ) from error


def choose(
    *,
    reports: Mapping[str, dict[str, Any]],
    predictions: Mapping[str, pd.DataFrame],
    names: tuple[str, ...],
    metrics: tuple[Any, ...],
    schema: dict[str, Any],
    target: Target,
    seed: int,
    own: tuple[Metric, ...] = (),
) -> tuple[dict[str, Any], pd.DataFrame, str]:
    """The winner: of those within one standard error of the best, the first listed.

    The standard error is that of the paired difference to the best on the same out-of-fold rows (the rule of
    Breiman et al., Classification and Regression Trees, 1984, §3.4.3, with paired differences).

    Parameters
    ----------
    reports, predictions : dict
        Candidate → what `evaluate` gave.
    names : tuple of str
        Candidates in the order of the declaration.
    metrics : tuple
        As declared; the first decides.
    schema, target, seed, own
        As for `evaluate`.

    Returns
    -------
    report : dict
        The winner's, with "candidates" (the leaderboard, best first), "winner" and "why".
    predictions : DataFrame
        The winner's.
    winner : str
    """
    problem = problem_of(schema, target).judged_by(own)
    answers = {name: from_frame(predictions[name], problem) for name in names}
    fold = predictions[names[0]]["fold"].to_numpy()
    primary = _primary(metrics, problem, answers)
    figures = {name: interval_over_folds(primary, answers[name], fold, seed=seed) for name in names}
    best = max(names, key=lambda name: (_rank(figures[name].value), -names.index(name)))
    behind = {name: over_folds(primary, answers[best], answers[name], fold, seed=seed) for name in names}
    winner = next(name for name in names if name == best or _as_good(behind[name]))
    why = _why(winner, best, primary, behind[winner])
    board = []
    for name in sorted(names, key=lambda name: (-_rank(figures[name].value), names.index(name))):
        apart = over_folds(primary, answers[winner], answers[name], fold, seed=seed)
        figure = figure_json(primary, figures[name])
        board.append(
            {"name": name, "chosen": name == winner, **figure, "behind": _behind(name, winner, primary, apart)}
        )
    told = {"candidates": board, "winner": winner, "why": why, "chosen_by": primary}
    among = f" of {len(names)} candidates" if len(names) > 1 else ""
    summary = f"{winner}{among}: {reports[winner]['summary']}"
    return {**reports[winner], **told, "summary": summary}, predictions[winner], winner


def train_winner(
    train: pd.DataFrame, *, winner: str, model: Mapping[str, Any], **known: Any
) -> tuple[Any, dict[str, Any]]:
    """Fit the chosen candidate alone on all training rows, as `train` does.

    Parameters
    ----------
    train : DataFrame of shape (n_rows, n_columns)
    winner : str
    model : dict
        Candidate → unfitted estimator.
    **known
        As for `train`.

    Returns
    -------
    fitted : estimator
    report : dict
        With "candidate".
    """
    fitted, report = fit_one(train, model=model[winner], **known)
    return fitted, {**report, "candidate": winner, "summary": f"{winner}: {report['summary']}"}


def over_folds(name: str, a: Predicted, b: Predicted, fold: Any, *, seed: int) -> Difference:
    """The metric of a minus that of b on the same out-of-fold rows.

    Areas under the ROC curve are compared fold by fold, as their figure is made: scores of different fits are not on
    one scale. Folds are weighted by rows (by what these weigh) and their variances summed. Everything else is taken
    over all rows together.

    Parameters
    ----------
    name : str
        Scorer name.
    a, b : Predicted
    fold : ndarray of int, shape (n_rows,)
    seed : int

    Returns
    -------
    Difference
        With bounds of `LEVEL` each.
    """
    import numpy as np

    if name != "roc_auc":
        return difference(name, a, b, confidence=LEVEL, seed=seed)
    parts, sizes = [], []
    for number in np.unique(fold):
        inside = a.take(fold == number)
        part = difference(name, inside, b.take(fold == number), confidence=LEVEL, seed=seed)
        if math.isfinite(part.value):
            parts.append(part)
            sizes.append(size_of(inside))
    n, whole = sum(part.n for part in parts), sum(sizes)
    if not n:
        return difference(name, a, b, confidence=LEVEL, seed=seed)
    value = sum(size * part.value for size, part in zip(sizes, parts, strict=True)) / whole
    se = math.sqrt(sum((size / whole * part.se) ** 2 for size, part in zip(sizes, parts, strict=True)))
    half = normal_quantile(LEVEL, sides=1) * se if math.isfinite(se) else math.inf
    informative = sum(part.n_informative for part in parts)
    return Difference(value, value - half, value + half, se, n, informative, f"DeLong over {len(parts)} folds", LEVEL)


def _primary(metrics: tuple[Any, ...], problem: Problem, answers: Mapping[str, Predicted]) -> str:
    """The metric that decides; without a declared one, the first that every candidate can answer."""
    return scoring.chosen(metrics, problem, has_proba=all(one.has_proba for one in answers.values()))[0]


def _rank(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _as_good(behind: Difference) -> bool:
    """Whether the best is not ahead by more than a standard error; equal answers are equally good."""
    return behind.value <= behind.se if math.isfinite(behind.se) else behind.value == 0


def _why(winner: str, best: str, primary: str, behind: Difference) -> str:
    if winner == best:
        return f"{winner} is the best by {scoring.shown_name(primary)}"
    gap = scoring.number(abs(behind.value))
    return (
        f"{winner} is listed before {best}, the best by {scoring.shown_name(primary)}, and within one standard error "
        f"of it ({gap} apart, standard error {scoring.number(behind.se)})"
    )


def _behind(name: str, winner: str, primary: str, apart: Difference) -> dict[str, Any] | None:
    """How far the winner is ahead of a candidate; None for itself."""
    if name == winner:
        return None
    text = f"{winner} {difference_text(primary, apart)}" if math.isfinite(apart.value) else "n/a"
    return {**apart.to_json(), "value": json_number(apart.value), "text": text}
