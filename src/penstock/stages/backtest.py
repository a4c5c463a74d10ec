"""What models of the past would have been worth: measured on the rows that came after, and summed up.

Three ways to run a model are held side by side: as its gate decided, never retrained (the first that passed, for
ever), and always promoted (whatever the gate said).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.core.metric import Metric
from penstock.core.split import Split, duration_s
from penstock.core.target import Roles, Target
from penstock.stages import scoring
from penstock.stages.asknown import moment_of
from penstock.stages.evaluate import figure_json
from penstock.stages.predicted import Predicted, predict
from penstock.stages.problem import Problem, problem_of
from penstock.stages.rules import when
from penstock.stages.split import final_rows
from penstock.stages.thresholds import relabelled
from penstock.stages.train import features_and_target
from penstock.stages.uncertainty import difference, interval
from penstock.stats.checks import json_number
from penstock.stats.intervals import Interval, normal_quantile
from penstock.stats.pooled import pooled

if TYPE_CHECKING:
    import pandas as pd

WAYS = ("gated", "never", "always")
"""As the gate decided; the first champion for ever; the newest model whatever the gate said."""
CONFIDENCE = 0.95
DAY_S = 86_400.0


def measure(
    table: pd.DataFrame,
    *,
    models: Mapping[str, Any],
    abouts: Mapping[str, Mapping[str, Any]],
    newest: Mapping[str, Any],
    start: str,
    stop: str,
    schema: dict[str, Any],
    target: Target,
    roles: Roles,
    metrics: tuple[str, ...],
    seed: int,
    own: tuple[Metric, ...] = (),
    decision: Mapping[str, Any] | None = None,
    split: Split | None = None,
    frozen_columns: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Figures of the three ways on the rows that came in one window.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_columns)
        Validated, with the window's rows and their labels.
    models : dict
        Way → fitted estimator, or None where nothing had passed yet.
    abouts : dict
        Way → "name", "champion_input" (columns it reads), "champion_threshold", for "gated" and "never".
    newest : dict
        The contract of the newest model ("columns"), for "always".
    start, stop : str
        The window: from the first moment to before the second.
    schema, target, roles, metrics, seed, own
        As for `evaluate`.
    decision : dict, optional
        From `decide`, of the newest model.
    split : Split, optional
        Where a hash keeps a final hold-out: its rows are left alone.
    frozen_columns : tuple of str
        As for `split`.

    Returns
    -------
    dict
        "n_rows"; "figures": {way: {scorer: figure}}; "differences": {"never" and "always": what the gated way was
        better by, in the primary metric}; "errors": {way: why it could not answer}; "primary".
    """
    problem = problem_of(schema, target).judged_by(own)
    assert roles.time is not None
    moments = when(table, roles.time)
    rows = table[(moments >= moment_of(start)) & (moments < moment_of(stop))].reset_index(drop=True)
    if split is not None and len(rows):
        known: dict[str, Any] = {"target": target, "roles": roles, "seed": seed, "task": str(schema["task"])}
        final = final_rows(rows, split=split, frozen_columns=frozen_columns, **known)
        rows = rows[~final].reset_index(drop=True)
    inputs = {way: abouts[way].get("champion_input") for way in abouts}
    inputs["always"] = [column["name"] for column in newest["columns"]]
    bounds = {way: abouts[way].get("champion_threshold") for way in abouts}
    bounds["always"] = None if decision is None else decision["threshold"]
    names: tuple[str, ...] = ()
    answers: dict[str, Predicted] = {}
    errors: dict[str, str] = {}
    for way in WAYS if len(rows) else ():
        if models.get(way) is None:
            errors[way] = "no model had passed yet"
            continue
        try:
            answers[way] = _answers(models[way], rows, inputs[way], bounds[way], problem, target, roles)
        except Exception as error:  # an old model need not fit a later table
            errors[way] = f"{type(error).__name__}: {str(error)[:200]}"
            continue
        names = names or scoring.chosen(metrics, problem, has_proba=answers[way].has_proba)
    names = names or scoring.chosen(metrics, problem, has_proba=True)
    return {
        "n_rows": len(rows),
        "primary": names[0],
        "figures": {way: {n: figure_json(n, _figure(n, one, seed)) for n in names} for way, one in answers.items()},
        "differences": _differences(names[0], answers, abouts, seed),
        "errors": errors,
    }


def _answers(
    model: Any,
    rows: pd.DataFrame,
    columns: Sequence[str] | None,
    bound: float | None,
    problem: Problem,
    target: Target,
    roles: Roles,
) -> Predicted:
    X, y = features_and_target(rows, target, roles)
    asked = X if columns is None else rows[list(columns)]
    found = predict(model, asked, y, problem).beside(rows, roles.weight, roles.groups)
    return found if bound is None else relabelled(found, bound)


def _figure(name: str, answers: Predicted, seed: int) -> Interval:
    if not scoring.answerable(name, answers):
        return Interval(-math.inf, math.nan, math.inf, len(answers), "no value on these rows")
    return interval(name, answers, confidence=CONFIDENCE, seed=seed)


def _differences(
    name: str, answers: Mapping[str, Predicted], abouts: Mapping[str, Mapping[str, Any]], seed: int
) -> dict[str, Any]:
    """By how much the gated way is better than each other; the same model differs from itself by nothing."""
    found: dict[str, Any] = {}
    for way in WAYS[1:]:
        if "gated" not in answers or way not in answers:
            continue
        n = len(answers[way])
        if way == "never" and abouts["gated"].get("name") == abouts["never"].get("name"):
            found[way] = {"value": 0.0, "se": 0.0, "n": n}
        elif all(scoring.answerable(name, answers[one]) for one in ("gated", way)):
            d = difference(name, answers["gated"], answers[way], confidence=CONFIDENCE, seed=seed)
            found[way] = {"value": json_number(d.value), "se": json_number(d.se), "n": n}
    return found


def result(
    *,
    origins: list[dict[str, Any]],
    decisions: list[dict[str, Any]],
    splits: list[dict[str, Any]],
    measures: list[dict[str, Any]],
    told: dict[str, Any],
) -> dict[str, Any]:
    """All of a back-test as one document.

    Parameters
    ----------
    origins : list of dict
        From `calendar`, all of them.
    decisions, splits, measures : list of dict
        Of the origins that were not skipped, in order.
    told : dict
        "workflow", "every", "window", "delay", "cuts", "warnings" (what was not cut), "notes".

    Returns
    -------
    dict
        The same, and "origins" (one a row of the table), "by_age", "overall", "retraining", "summary", "primary".
    """
    overlap = math.ceil(duration_s(told["window"]) / duration_s(told["every"]))
    rows, taken = [], zip(decisions, splits, measures, strict=True)
    for one in origins:
        if one["skipped"]:
            rows.append({**one})
            continue
        decision, split, measured = next(taken)
        age = _days(one["at"], decision["champion_at"]) if decision["champion_at"] else None
        sides = {side: split[side] for side in ("n_train", "n_test")}
        rows.append({**one, **sides, **decision, "age_days": age, **measured})
    kept = [one for one in rows if not one["skipped"]]
    primary = measures[0]["primary"]
    metrics = list(dict.fromkeys([primary, *(n for one in measures for way in one["figures"].values() for n in way)]))
    shared = [one for one in kept if all(way in one["figures"] for way in WAYS)]  # the same windows for all three
    overall = {way: {name: _pooled(name, way, shared, overlap) for name in metrics} for way in WAYS}
    gains = {way: _gain(primary, way, kept, overlap) for way in WAYS[1:]}
    found = {
        **told,
        "primary": primary,
        "origins": rows,
        "by_age": _by_age(primary, kept, overlap),
        "overall": overall,
        "retraining": gains,
    }
    if overlap > 1:
        found["notes"] = [
            *found["notes"],
            f"windows overlap: a row counts up to {overlap} times, and intervals over windows are widened for it",
        ]
    found["summary"] = _summary(found, kept)
    return found


def _pooled(name: str, way: str, rows: Sequence[Mapping[str, Any]], overlap: int) -> dict[str, Any]:
    """A figure over several windows, weighted by their rows."""
    half = normal_quantile(CONFIDENCE)
    parts = [(one["n_rows"], one["figures"][way][name]) for one in rows if name in one["figures"].get(way, {})]
    known = [(n, f) for n, f in parts if None not in (f["value"], f["low"], f["high"])]
    mean = pooled([f["value"] for _, f in known], [(f["high"] - f["low"]) / 2 / half for _, f in known],
                  [n for n, _ in known], overlap)  # fmt: skip
    low, high = mean.value - half * mean.se, mean.value + half * mean.se
    n_rows = sum(n for n, _ in known)
    figure = figure_json(name, Interval(low, mean.value, high, n_rows, f"mean of {len(known)} windows by rows"))
    return figure | {"n_windows": len(known), "left_out": len(rows) - len(known)}


def _gain(name: str, way: str, rows: Sequence[Mapping[str, Any]], overlap: int) -> dict[str, Any]:
    """By how much the gated way was better than another, over the windows in which both answered."""
    half = normal_quantile(CONFIDENCE)
    parts = [one["differences"][way] for one in rows if way in one["differences"]]
    known = [one for one in parts if None not in (one["value"], one["se"])]
    mean = pooled([one["value"] for one in known], [one["se"] for one in known], [one["n"] for one in known], overlap)
    bounds = {"low": json_number(mean.value - half * mean.se), "high": json_number(mean.value + half * mean.se)}
    return {"metric": name, "value": json_number(mean.value), **bounds, "n_windows": len(known)}


def _by_age(name: str, rows: Sequence[Mapping[str, Any]], overlap: int) -> list[dict[str, Any]]:
    """The reigning champion's figure by its age when the window began, and that of the one never replaced."""
    ages: dict[float, dict[str, list[Mapping[str, Any]]]] = {}
    for one in rows:
        for way in ("gated", "never"):
            since = one["champion_at"] if way == "gated" else one["first_at"]
            if since and way in one["figures"]:
                ages.setdefault(_days(one["at"], since), {}).setdefault(way, []).append(one)
    found = []
    for age, ways in sorted(ages.items()):
        figures = {way: _pooled(name, way, windows, overlap) for way, windows in ways.items()}
        fresh = _gain(name, "always", ways.get("gated", []), overlap)
        found.append({"age_days": age, "figures": figures, "than_fresh": fresh if "gated" in ways else None})
    return found


def _days(later: str, earlier: str) -> float:
    return float((moment_of(later) - moment_of(earlier)).astype("int64")) / 1e6 / DAY_S


def _summary(found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """How many were promoted, and what it brought."""
    name = found["primary"]
    promoted = sum(one["promoted"] for one in rows)
    parts = [f"{promoted} of {len(rows)} models promoted, one every {found['every']}"]
    shown = {way: found["overall"][way][name]["shown"] for way in WAYS}
    if shown["gated"]["value"] is not None:
        words = {"gated": "as gated", "never": "never retrained", "always": "always promoted"}
        told = [
            f"{scoring.number(shown[way]['value'])} {words[way]}" for way in WAYS if shown[way]["value"] is not None
        ]
        parts.append(f"{scoring.shown_name(name)} {', '.join(told)}")
    if not any(one["n_rows"] for one in rows):
        parts.append("no rows came after an origin to measure by: a longer --window takes more")
    gain = found["retraining"]["never"]
    if not promoted:
        parts.append("none passed")
    elif gain["value"] == gain["low"] == gain["high"] == 0:
        parts.append("the first champion was never replaced")
    elif gain["value"] is not None:
        parts.append(f"retraining brought {gain_text(name, gain)}")
    if uncut := [source for source, column in found["cuts"].items() if not column]:
        said = "was" if len(uncut) == 1 else "were"
        parts.append(f"{', '.join(uncut)} {said} not cut, so later rows may have been known")
    return " · ".join(parts)


def gain_text(name: str, gain: Mapping[str, Any]) -> str:
    """A gain as people say it: better or worse, in the metric's own units.

    Examples
    --------
    >>> gain_text("neg_log_loss", {"value": 0.02, "low": 0.01, "high": 0.03})
    'log_loss lower by 0.020 [0.010, 0.030]'
    >>> gain_text("roc_auc", {"value": -0.01, "low": -0.02, "high": 0.0})
    'roc_auc −0.010 [−0.020, 0.000]'
    """
    value, low, high = gain["value"], gain["low"], gain["high"]
    turned = scoring.is_error(name) and value < 0
    if turned:
        value, low, high = -value, -high, -low
    ends = f"[{_signed(low)}, {_signed(high)}]"
    if scoring.is_error(name):
        return f"{scoring.shown_name(name)} {'higher' if turned else 'lower'} by {_signed(value)} {ends}"
    return f"{scoring.shown_name(name)} {'+' if value > 0 else ''}{_signed(value)} {ends}"


def _signed(value: float) -> str:
    return scoring.number(0.0 + value).replace("-", "−")
