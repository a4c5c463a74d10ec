"""Logged answers and the labels that came later: the model's figures on them, held against the hold-out's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.core.answer import plain
from penstock.core.metric import Metric
from penstock.core.target import Target
from penstock.errors import DataError
from penstock.stages import scoring
from penstock.stages.evaluate import figure_json, figure_text
from penstock.stages.predicted import Predicted
from penstock.stages.problem import Problem, problem_of
from penstock.stages.scoring import answerable
from penstock.stages.uncertainty import interval
from penstock.stats.intervals import normal_quantile
from penstock.stats.multiple import holm

if TYPE_CHECKING:
    import pandas as pd


ANSWER = "answer:"
"""Stands before the name of an answer, so that a target or a column called "label" or "value" is told from it."""


def as_answers(predictions: pd.DataFrame) -> pd.DataFrame:
    """Logged answers under names that no column of a table has."""
    return predictions.rename(columns={name: ANSWER + name for name in ("label", "score", "scores", "value")})


def join_labels(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    on: tuple[str, ...],
    target: str,
    beside: tuple[str, ...] = (),
) -> pd.DataFrame:
    """Predictions that have a label, each with its latest one (labels may be corrected: the last row counts).

    Parameters
    ----------
    predictions, labels : DataFrame
        The former as `as_answers` gives them.
    on : tuple of str
        Columns that name a prediction in both. Compared as text where their types differ.
    target : str
        The label's column.
    beside : tuple of str
        Further columns to take from the labels, where they have them.

    Raises
    ------
    DataError
        If a column is absent.
    """
    for what, table, needed in (("predictions", predictions, on), ("labels", labels, (*on, target))):
        absent = [name for name in needed if name not in table.columns]
        if absent:
            raise DataError(
                f"the {what} have no column {', '.join(map(repr, absent))}",
                hint=f"columns: {', '.join(map(str, list(table.columns)[:20]))}",
            )
    taken = [name for name in beside if name in labels.columns and name not in (*on, target)]
    known = labels[[*on, target, *taken]].dropna(subset=[target]).drop_duplicates(list(on), keep="last")
    asked = predictions.drop(columns=[target, *taken], errors="ignore")
    left, right = asked.copy(), known.copy()
    for name in on:
        if left[name].dtype != right[name].dtype:
            left[name], right[name] = _as_text(left[name]), _as_text(right[name])
    return left.merge(right, on=list(on), how="inner", validate="m:1")


def _as_text(column: Any) -> Any:
    """1, 1.0 and "1" alike."""

    def text(value: Any) -> str:
        value = plain(value)
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    return column.map(text).astype(object)


def decay(
    joined: pd.DataFrame,
    contract: Mapping[str, Any],
    metrics: tuple[str, ...],
    target: str,
    reference: Mapping[str, Any],
    alpha: float,
    notes: list[str],
    *,
    own: tuple[Metric, ...] = (),
    weight: str | None = None,
) -> dict[str, Any]:
    """The metrics on labelled rows, each tested against the hold-out's figure; Holm over the metrics.

    The two sets of rows are independent: the difference over the root of the summed squared standard errors, which
    are read off the intervals (normal law), one-sided.

    Returns
    -------
    dict
        Scorer name → figure with "reference", "p_value", "adjusted", "decayed", "text".
    """
    if weight is not None and weight not in joined.columns:
        notes.append(f"the figures are weighted by {weight!r}, which neither input rows nor labels have: not judged")
        return {}
    for one in own:
        if absent := [name for name in one.columns if name not in joined.columns]:
            notes.append(f"{one.name} reads {absent[0]!r}, which neither input rows nor labels have: not judged")
            metrics = tuple(name for name in metrics if name != one.scorer)
            own = tuple(other for other in own if other is not one)
            if not metrics:
                return {}
    predicted = from_answers(joined, contract, target)
    predicted = replace(predicted, problem=predicted.problem.judged_by(own)).beside(joined, weight)
    names = scoring.chosen(metrics, predicted.problem, has_proba=True)
    found: dict[str, Any] = {}
    for name in names:
        if not answerable(name, predicted):
            notes.append(f"{name} needs probabilities, which the answers do not have")
            continue
        figure = figure_json(name, interval(name, predicted))
        was = reference.get(name)
        was = was.get("challenger", was) if was else None
        found[name] = {**figure, "reference": was, "p_value": _p_worse(figure, was) if was else None}
    tested = [name for name, one in found.items() if one["p_value"] is not None]
    worse, adjusted = holm([found[name]["p_value"] for name in tested], alpha)
    for name, p, is_worse in zip(tested, adjusted, worse, strict=True):
        found[name] |= {"adjusted": float(p), "decayed": bool(is_worse)}
    for name, one in found.items():
        one.setdefault("decayed", False)
        was = one["reference"]
        then = f" (was {scoring.number(scoring.shown(name, was['value']))})" if was else ""
        one["text"] = f"{scoring.shown_name(name)} {figure_text(one)}{then}"
    return found


def _p_worse(now: Mapping[str, Any], was: Mapping[str, Any]) -> float:
    """One-sided p-value of "no worse than then"; 1 where either is unknown."""
    from scipy.special import ndtr

    errors = [_standard_error(one) for one in (now, was)]
    if now["value"] is None or was["value"] is None or not all(math.isfinite(error) for error in errors):
        return 1.0
    spread = math.hypot(*errors)
    return float(ndtr((now["value"] - was["value"]) / spread)) if spread > 0 else 1.0


def _standard_error(figure: Mapping[str, Any]) -> float:
    """Half the width towards the other figure would be finer; half of the whole is used."""
    if figure.get("low") is None or figure.get("high") is None:
        return math.inf
    return float(figure["high"] - figure["low"]) / (2 * normal_quantile(0.95))


def from_answers(joined: pd.DataFrame, contract: Mapping[str, Any], target: str) -> Predicted:
    """Stored answers as `predict` would have kept them.

    Parameters
    ----------
    joined : DataFrame
        Of `as_answers` "score" and "label", "scores" and "label", or "value"; and the target.
    contract : dict
        The bundle's input contract.
    target : str

    Raises
    ------
    DataError
        If a label is none of the classes.
    """
    import numpy as np

    problem = problem_of(contract, Target(target))
    if problem.task == "regression":
        values = joined[f"{ANSWER}value"].to_numpy(dtype=np.float64)[:, None]
        return Predicted(problem, problem.encode(joined[target]), values)
    truth = problem.encode(_as_labels(joined[target], problem))
    label = problem.encode(_as_labels(joined[f"{ANSWER}label"], problem)).astype(np.float64)[:, None]
    if problem.task == "multiclass":
        return _several(joined, problem, truth, label)
    if f"{ANSWER}score" not in joined.columns:
        return Predicted(problem, truth, label)
    score = joined[f"{ANSWER}score"].to_numpy(dtype=np.float64)[:, None]
    if ((score >= 0) & (score <= 1)).all():
        return Predicted(problem, truth, np.hstack([label, 1 - score, score]), proba=slice(1, 3))
    return Predicted(problem, truth, np.hstack([label, score]), decision=slice(1, 2))


def _several(joined: pd.DataFrame, problem: Problem, truth: Any, label: Any) -> Predicted:
    import numpy as np

    if f"{ANSWER}scores" not in joined.columns:
        return Predicted(problem, truth, label)
    names = [str(one) for one in problem.classes]
    proba = np.array([[float(scores[name]) for name in names] for scores in joined[f"{ANSWER}scores"]])
    return Predicted(problem, truth, np.hstack([label, proba]), proba=slice(1, 1 + len(names)))


def _as_labels(column: Any, problem: Problem) -> Any:
    """Labels in the classes' own type: a log or a file may have turned 1 into "1" or 1.0, True into "true"."""
    import numpy as np

    known: dict[str, Any] = {}
    for label in problem.classes:
        for text in (str(label), str(label).lower() if isinstance(label, bool) else str(label)):
            known[text] = label
    found = np.empty(len(column), dtype=object)
    for at, value in enumerate(_as_text(column)):
        found[at] = known.get(value, value)
    return found
