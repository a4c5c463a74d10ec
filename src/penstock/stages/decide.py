"""The decision threshold: chosen on out-of-fold predictions of the training rows, never on the hold-out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from penstock.core.metric import Metric
from penstock.core.target import Target
from penstock.core.threshold import Threshold
from penstock.errors import RefusedError
from penstock.stages import scoring, thresholds
from penstock.stages.curves import confusion
from penstock.stages.evaluate import figure_json
from penstock.stages.predicted import Predicted
from penstock.stages.problem import problem_of
from penstock.stages.stored import from_frame
from penstock.stages.uncertainty import interval_over_folds
from penstock.stats.checks import json_number

if TYPE_CHECKING:
    import pandas as pd

CHOSEN = (
    "chosen on all out-of-fold predictions of the training rows: its value here is a little optimistic; "
    "the figures of `evaluate` are cross-fitted, those of the gate are on held-out rows"
)
GIVEN = "given by a person, so it owes nothing to these rows: the out-of-fold predictions of the training rows"


def decide(
    predictions: pd.DataFrame,
    *,
    decide: Threshold,
    schema: dict[str, Any],
    target: Target,
    own: tuple[Metric, ...] = (),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose the threshold for the estimator that is fitted on all training rows.

    Parameters
    ----------
    predictions : DataFrame
        Out-of-fold predictions of the training rows, as `evaluate` stores them, with their weights.
    decide : Threshold
    schema, target, own
        As for `evaluate`.

    Returns
    -------
    decision : dict
        "threshold", "score" ("proba" or "decision"), "positive", "negative", "rule".
    report : dict
        "summary", "rule", "threshold", "value", "met", "tried", "n_rows", "curve", "confusion", "scope".

    Raises
    ------
    DeclarationError
        Not two classes, a model without a score, a metric that reads no labels.
    RefusedError
        No threshold reaches the precision, or keeps to the rate, that was asked for.
    """
    problem = problem_of(schema, target).judged_by(own)
    answers = from_frame(predictions, problem)
    found = thresholds.choose(decide, answers)
    if not found.met:
        raise RefusedError(
            f"no threshold gives {decide.text} on the out-of-fold predictions; the best is {found.value:.3f}",
            where=f"column {target.column}",
            hint="ask for less, or train a better model",
        )
    return decision(found.threshold, decide.text, answers), report(found, decide, answers)


def decision(threshold: float, rule: str, answers: Predicted) -> dict[str, Any]:
    """What stands beside an estimator: all that turns a score into a label."""
    negative, positive = answers.problem.classes
    kind = "proba" if answers.has_proba else "decision"
    return {"threshold": threshold, "score": kind, "positive": positive, "negative": negative, "rule": rule}


def report(found: thresholds.Chosen, rule: Threshold, answers: Predicted) -> dict[str, Any]:
    """How the threshold came about, and what others would have meant, as plain JSON."""
    labelled = thresholds.relabelled(answers, found.threshold)
    metric = thresholds.metric_of(rule, answers.problem)[0] if rule.rule in ("maximise", "minimise") else rule.rule
    value = scoring.shown(metric, json_number(found.value))
    share = float((labelled.column("label") == 1).mean())
    reached = f" ({scoring.shown_name(metric)} {scoring.number(value)} out of fold)" if value is not None else ""
    return {
        "summary": f"positive from {scoring.number(found.threshold)} on: {rule.text}{reached} · "
        f"{share:.1%} of the rows",
        "rule": rule.text,
        "threshold": found.threshold,
        "metric": metric if metric != "at" else None,
        "metric_shown": scoring.shown_name(metric) if metric != "at" else None,
        "value": value,
        "met": found.met,
        "tried": found.tried,
        "n_rows": len(answers),
        "share_positive": share,
        "curve": thresholds.curve(rule, answers),
        "confusion": confusion(labelled),
        "scope": GIVEN if rule.rule == "at" else CHOSEN,
    }


def rejudged(
    old: dict[str, Any],
    predictions: pd.DataFrame,
    *,
    threshold: float,
    schema: dict[str, Any],
    target: Target,
    seed: int,
    own: tuple[Metric, ...] = (),
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The report of an evaluation under another threshold: what reads labels is computed anew, the rest stays.

    Parameters
    ----------
    old : dict
        From `evaluate`.
    predictions : DataFrame
        Its out-of-fold predictions.
    threshold : float
        Given by a person: it owes nothing to these rows, so that no cross-fitting is needed.
    schema, target, seed, own
        As for `evaluate`.

    Returns
    -------
    metrics : dict
        The report; without slices where the primary metric reads labels: they are not known under this threshold.
    threshold : dict
        As the report of `decide`.
    decision : dict
        As that of `decide`.

    Raises
    ------
    DeclarationError
        A threshold that is no probability, for a model that gives them.
    """
    problem = problem_of(schema, target).judged_by(own)
    answers = from_frame(predictions, problem)
    thresholds.check_given(threshold, answers)
    labelled = thresholds.relabelled(answers, threshold)
    fold = predictions["fold"].to_numpy()
    metrics = dict(old["metrics"])
    for name, was in metrics.items():
        if scoring.response(name, problem) == "label":
            kept = {key: was[key] for key in ("baseline", "baseline_shown") if key in was}
            metrics[name] = {**figure_json(name, interval_over_folds(name, labelled, fold, seed=seed)), **kept}
    rule = Threshold(at=threshold)
    new = {**old, "metrics": metrics, "confusion": confusion(labelled), "decide": f"{rule.text}, by hand"}
    if scoring.response(old["primary"], problem) == "label":
        new["slices"] = []
    found = thresholds.Chosen(threshold, math.nan)
    return new, report(found, rule, answers), decision(threshold, f"{rule.text}, by hand", answers)
