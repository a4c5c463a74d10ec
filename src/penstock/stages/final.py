"""The final hold-out: figures on rows that neither training, nor cross-validation, nor the gate has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.core.metric import Metric
from penstock.core.target import Roles, Target
from penstock.stages import scoring
from penstock.stages.baseline import baseline_answers, baseline_name
from penstock.stages.evaluate import figure_json, figure_text, is_small
from penstock.stages.predicted import Predicted, predict
from penstock.stages.problem import problem_of
from penstock.stages.slicing import slices_of
from penstock.stages.thresholds import relabelled
from penstock.stages.train import features_and_target
from penstock.stages.uncertainty import interval

if TYPE_CHECKING:
    import pandas as pd


def final(
    rows: pd.DataFrame,
    train: pd.DataFrame,
    *,
    fitted: Any,
    metrics: tuple[str, ...],
    slices: tuple[str, ...],
    target: Target,
    roles: Roles,
    schema: dict[str, Any],
    seed: int,
    decision: Mapping[str, Any] | None = None,
    own: tuple[Metric, ...] = (),
    baseline: Any = None,
) -> dict[str, Any]:
    """Ask the judged estimator and the baseline of the final rows; no rule is applied, and nothing is decided.

    Parameters
    ----------
    rows, train : DataFrame
        Final and training rows. The baseline is fitted on the latter.
    fitted : estimator
    metrics, slices, target, roles, schema, seed, decision, own, baseline
        As for `compare`.

    Returns
    -------
    dict
        "summary", "n_rows", "metrics": scorer → {"version", "baseline"} as figures with 95 % intervals, "slices".

    Raises
    ------
    DataError
        If the rows cannot be judged: no row, an unknown label.
    """
    problem = problem_of(schema, target).judged_by(own)
    X, y = features_and_target(rows, target, roles)
    answers = {"version": predict(fitted, X, y, problem).beside(rows, roles.weight, roles.groups)}
    if decision is not None:
        answers["version"] = relabelled(answers["version"], decision["threshold"])
    learn: dict[str, Any] = {"target": target, "roles": roles, "seed": seed}
    simple = baseline_answers(baseline, train, rows, problem, **learn)
    answers["baseline"] = replace(simple, cluster=answers["version"].cluster)
    names = scoring.chosen(metrics, problem, has_proba=answers["version"].has_proba)
    figures = {
        name: {who: figure_json(name, interval(name, one, seed=seed)) for who, one in answers.items()} for name in names
    }
    said = [f"{scoring.shown_name(name)} {figure_text(figures[name]['version'])}" for name in names]
    than = baseline_name(baseline) or "baseline"
    said[0] += f" ({than} {figure_text(figures[names[0]]['baseline'])})"
    return {
        "summary": f"{len(rows):,} rows · " + " · ".join(said[:3]),
        "n_rows": len(rows),
        "metrics": figures,
        "slices": [one for column in slices for one in _of_slices(column, rows, train, answers["version"], names[0])],
    }


def _of_slices(
    column: str, rows: pd.DataFrame, train: pd.DataFrame, answers: Predicted, name: str
) -> list[dict[str, Any]]:
    """The first metric on each slice of a column."""
    found = []
    for one in slices_of(rows, column, train):
        part = answers.take(one.rows)
        figure = figure_json(name, interval(name, part, n_boot=200))
        found.append({"column": column, "label": one.label, "small": is_small(part), **figure})
    return found
