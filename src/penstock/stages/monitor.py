"""One window of a model's life: have inputs or answers moved, and is it still as good as it was?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.core.data_check import Check
from penstock.core.metric import Metric
from penstock.core.target import Target
from penstock.errors import DataError, bounded
from penstock.stages.cohort import as_answers, decay, join_labels
from penstock.stages.conform import Failures
from penstock.stages.own_checks import run_checks
from penstock.stages.profiles import compared_as, values_of
from penstock.stats.checks import json_number
from penstock.stats.drift import against_profile
from penstock.stats.multiple import holm

if TYPE_CHECKING:
    import pandas as pd

ENOUGH = 30
"""Rows below which a window gives no verdict."""


def window(
    current: pd.DataFrame | None,
    *,
    profile: Mapping[str, Any],
    prediction_profile: Mapping[str, Any] | None,
    input: Mapping[str, Any],  # noqa: A002 – the bundle's own word
    predictions: pd.DataFrame | None,
    labels: pd.DataFrame | None,
    label_on: tuple[str, ...],
    metrics: tuple[str, ...],
    target: Target,
    reference_metrics: Mapping[str, Any],
    alpha: float = 0.01,
    own: tuple[Metric, ...] = (),
    weight: str | None = None,
    checks: tuple[Check, ...] = (),
) -> dict[str, Any]:
    """Compare a window of traffic, or a file, with the model's reference: inputs, answers, and late labels.

    The chance of any false drift alarm is at most `alpha` over all columns together, answers included (Holm); of any
    false decay alarm likewise over all metrics. Fewer than `ENOUGH` rows give no verdict, and it is said.

    Parameters
    ----------
    current : DataFrame or None
        Input rows, those of `predictions` in the same order where both are given.
    profile, prediction_profile, input : dict
        As `package` and `compare` give them.
    predictions : DataFrame or None
        Answers as logged: "score" or "scores", "label", or "value"; "id" and key columns.
    labels : DataFrame or None
        Outcomes, maybe late and for some rows only: the columns of `label_on` and the target.
    label_on : tuple of str
        Columns that name a prediction in both; where one side lacks them, "id" if both have it.
    metrics, target
        As for `compare`.
    reference_metrics : dict
        Scorer name → {"value", "low", "high"} on the hold-out; or a verdict's "metrics" (its "challenger").
    own : tuple of Metric
        Metrics of the user's own that `metrics` names.
    weight : str, optional
        Column of the weights by which the reference was judged. Weights and the columns of metrics are taken from
        input rows or labels; a figure whose columns are in neither is not judged, and it is said.
    checks : tuple of Check
        The user's own, run on all input rows. What fails at severity "error" is an alarm, a warning is a note; one that
        raises here (a column is absent, say) is a note too.

    Returns
    -------
    dict
        "alarm", "alarms" (of "kind", "what", "text"), "drift", "metrics", "share_labelled", "notes", "summary", …;
        "checks", how many were run, where there are any.
    """
    notes: list[str] = []
    failed = _checked(current, checks, notes)
    drift = _drift(current, profile, predictions, prediction_profile, input, alpha, notes)
    judged: dict[str, Any] = {}
    beside = tuple(dict.fromkeys([*([weight] if weight else []), *(name for one in own for name in one.columns)]))
    joined = _labelled(current, predictions, labels, label_on, target, beside)
    n_predictions = 0 if predictions is None else len(predictions)
    n_labelled = 0 if joined is None else len(joined)
    share = n_labelled / n_predictions if joined is not None and n_predictions else None
    if joined is not None and n_labelled >= ENOUGH:
        judged = decay(joined, input, metrics, target.column, reference_metrics, alpha, notes, own=own, weight=weight)
    elif joined is not None:
        notes.append(f"only {n_labelled} rows have a label; {ENOUGH} are needed to judge the model")
    n_rows = 0 if current is None else len(current)
    return {
        **_told([*failed, *_alarms(drift, judged)], drift, judged, notes, n_rows, share),
        **({"checks": len(checks)} if checks and current is not None else {}),
        "n_rows": n_rows,
        "n_predictions": n_predictions,
        "n_labelled": n_labelled,
        "alpha": alpha,
    }


def _checked(current: pd.DataFrame | None, checks: tuple[Check, ...], notes: list[str]) -> list[dict[str, str]]:
    """An alarm for each failure of a check of the user's own."""
    alarms: list[dict[str, str]] = []
    if current is None:
        return alarms
    for check in checks:
        failures = Failures(())
        try:
            warnings = run_checks((check,), current, failures)
        except Exception as error:  # a check is made for training's table; this one may lack columns
            notes.append(f"the check {check.name} could not be run on this table: {_error_text(error)}")
            continue
        alarms += [{"kind": "check", "what": check.name, "text": f"check {one['text']}"} for one in failures.found]
        notes += [f"warning: check {one['text']}" for one in warnings]
    return alarms


def _error_text(error: Exception) -> str:
    return bounded(f"{type(error).__name__}: {error}", 200)


def _told(
    alarms: list[dict[str, str]],
    drift: list[dict[str, Any]],
    judged: dict[str, Any],
    notes: list[str],
    n_rows: int,
    share: float | None,
) -> dict[str, Any]:
    """What was found, and whether it is an alarm."""
    return {
        "summary": _summary(alarms, drift, judged, notes, n_rows, share),
        "alarm": bool(alarms),
        "alarms": alarms,
        "drift": drift,
        "metrics": judged,
        "share_labelled": share,
        "notes": notes,
    }


def _labelled(
    current: pd.DataFrame | None,
    predictions: pd.DataFrame | None,
    labels: pd.DataFrame | None,
    on: tuple[str, ...],
    target: Target,
    beside: tuple[str, ...],
) -> pd.DataFrame | None:
    """Predictions with their labels; None where one of the two was not given."""
    if labels is None or predictions is None:
        return None
    named = _named(as_answers(predictions), current, (*on, *(name for name in beside if name not in labels.columns)))
    return join_labels(named, labels, _joined_on(named, labels, on), target.column, beside)


def _named(predictions: pd.DataFrame, current: pd.DataFrame | None, on: tuple[str, ...]) -> pd.DataFrame:
    """Predictions with the columns that name them, taken from the input rows where the answers lack them."""
    absent = [name for name in on if name not in predictions.columns]
    if current is None or len(current) != len(predictions):
        return predictions
    return predictions.assign(**{name: current[name].to_numpy() for name in absent if name in current.columns})


def _joined_on(predictions: pd.DataFrame, labels: pd.DataFrame, on: tuple[str, ...]) -> tuple[str, ...]:
    """The declared columns where both sides have them, else the prediction's id where both have that."""
    both = set(predictions.columns) & set(labels.columns)
    if on and both.issuperset(on):
        return on
    return ("id",) if "id" in both or not on else on


def _drift(
    current: pd.DataFrame | None,
    profile: Mapping[str, Any],
    predictions: pd.DataFrame | None,
    prediction_profile: Mapping[str, Any] | None,
    contract: Mapping[str, Any],
    alpha: float,
    notes: list[str],
) -> list[dict[str, Any]]:
    """A test of every column and of the answers, corrected together; the most drifted first."""
    kinds = {column["name"]: column["kind"] for column in contract["columns"]}
    tests: list[tuple[str, str, Any]] = []
    if current is not None and _enough(len(current), "rows", notes):
        tests += _tests("input", current, profile, kinds, notes)
    if predictions is not None and prediction_profile and _enough(len(predictions), "predictions", notes):
        answers = {"score": "number", "value": "number", "label": "text"}
        tests += _tests("prediction", predictions, prediction_profile, answers, notes)
    reject, adjusted = holm([drift.p_value for _, _, drift in tests], alpha)
    found = [
        {"what": what, "column": name, **drift.to_json(), "adjusted": float(p), "drifted": bool(moved)}
        for (what, name, drift), p, moved in zip(tests, adjusted, reject, strict=True)
    ]
    return sorted(found, key=lambda one: (one["adjusted"], -(one["effect"] or math.inf), one["column"]))


def _enough(n: int, what: str, notes: list[str]) -> bool:
    if n < ENOUGH:
        notes.append(f"only {n} {what}; {ENOUGH} are needed for a verdict on drift")
    return n >= ENOUGH


def _tests(
    what: str, table: pd.DataFrame, profile: Mapping[str, Any], kinds: Mapping[str, str], notes: list[str]
) -> list[tuple[str, str, Any]]:
    found = []
    for name, reference in profile["columns"].items():
        if name not in table.columns:
            notes.append(f"{what} column {name!r} is absent and was not tested")
            continue
        kind = kinds.get(name, "number" if reference["kind"] == "numeric" else "text")
        try:
            values = values_of(table[name], kind if compared_as(kind) == reference["kind"] else "text")
            found.append((what, name, against_profile(reference, values)))
        except (ValueError, TypeError, DataError) as problem:
            notes.append(f"{what} column {name!r} was not tested: {str(problem)[:150]}")
    return found


def _alarms(drift: list[dict[str, Any]], judged: Mapping[str, Any]) -> list[dict[str, str]]:
    alarms = []
    for one in drift:
        if one["drifted"]:
            size = json_number(one["effect"] if one["effect"] is not None else math.inf)
            unit = "total variation" if one["method"] == "chi2" else "standard deviations"
            moved = f" by {size:.2g} ({unit})" if size is not None else ""
            if one["method"] == "missing":
                moved = f": missing {one['missing_reference']:.1%} → {one['missing_current']:.1%}"
            noun = "answers" if one["what"] == "prediction" else one["column"]
            text = f"{noun} moved{moved}, p {one['adjusted']:.1g}"
            alarms.append({"kind": f"{one['what']} drift", "what": one["column"], "text": text})
    for name, one in judged.items():
        if one["decayed"]:
            alarms.append({"kind": "decay", "what": name, "text": one["text"]})
    return alarms


def _summary(
    alarms: list[dict[str, str]],
    drift: list[dict[str, Any]],
    judged: Mapping[str, Any],
    notes: list[str],
    n_rows: int,
    share: float | None,
) -> str:
    if alarms:
        more = f" and {len(alarms) - 1} more" if len(alarms) > 1 else ""
        text = f"alarm: {alarms[0]['text']}{more}"
    elif drift or judged:
        text = f"no alarm: {len(drift)} columns of {n_rows:,} rows tested"
    else:
        text = "no verdict: " + (notes[0] if notes else "nothing to compare")
    for one in judged.values():
        text += f" · {one['text']}"
        break
    return text if share is None else f"{text} · {share:.0%} labelled"
