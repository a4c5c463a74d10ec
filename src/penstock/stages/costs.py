"""Rules about what a model costs in use: time for an answer, bytes on disk; and how far its probabilities hold."""

from __future__ import annotations

import math
import time
from typing import Any

from penstock.core.gate import Calibrated, Faster, Smaller
from penstock.core.units import size_text
from penstock.stages import scoring
from penstock.stages.comparison import ENOUGH, Comparison
from penstock.stages.judged import Judged, held_to, nothing_yet
from penstock.stats.calibration import calibration_error
from penstock.stats.intervals import quantile_interval
from penstock.stats.paired import paired_t

CALLS, SECONDS, LEAST_CALLS = 100, 4.0, 10
"""Timed calls of each model at most; seconds for all together, past which no more are made; calls in any case."""


def calibrated(rule: Calibrated, c: Comparison) -> Judged:
    """The calibration error of the challenger: of the positive class, or of the class that it predicts."""
    answers = c.challenger
    if not answers.has_proba:
        return held_to(rule, "unknown", "calibration error: this model gives no probabilities", "bound")
    proba = answers.column("proba")
    if answers.problem.task == "binary":
        p, hit = proba[:, 1], answers.y == 1
    else:
        said = proba.argmax(axis=1)
        p, hit = proba[range(len(said)), said], said == answers.y
    if c.worth() < 2 * ENOUGH:
        text = f"calibration error: {c.worth():.0f} {c.unit}, {2 * ENOUGH} are needed"
        return held_to(rule, "unknown", text, "bound")
    found = calibration_error(p, hit, 2 * rule.confidence - 1, rule.bins, answers.cluster, answers.weight)
    outcome = "pass" if found.high <= rule.at_most else "fail" if found.low > rule.at_most else "unknown"
    ends = ", ".join(scoring.number(end) for end in (found.low, found.high))
    text = f"calibration error {scoring.number(found.value)} [{ends}] ≤ {scoring.number(rule.at_most)}"
    asked = {"required": rule.at_most, "confidence": rule.confidence}
    return held_to(rule, outcome, text, "bound", figures={"metric": "calibration_error", **found.to_json(), **asked})


def smaller(rule: Smaller, c: Comparison) -> Judged:
    """Bytes of the stored estimator against another's, or a number."""
    mine, against = c.sizes.get("challenger"), rule.than if isinstance(rule.than, str) else ""
    if against == "champion" and c.first:
        return nothing_yet(rule, "Smaller")
    theirs = c.sizes.get(against) if against else int(rule.than)
    if mine is None or theirs is None:
        text = f"size: nothing tells the size of {c.who(against)}" if mine is not None else "size: it is not known"
        return held_to(rule, "unknown", text, "cost", against)
    limit = theirs * (1 - rule.by) if against else float(theirs)
    outcome = "pass" if (mine < limit if against else mine <= limit) else "fail"
    told = f" ({c.who(against)}{f' less {100 * rule.by:g} %' if rule.by else ''})" if against else ""
    text = f"size {size_text(mine)} {'<' if against else '≤'} {size_text(int(limit))}{told}"
    return held_to(rule, outcome, text, "cost", against, {"metric": "size", "value": mine, "required": limit})


def faster(rule: Faster, c: Comparison) -> Judged:
    """Time of one call against another model's, both called in turn, or against seconds."""
    against = rule.than if isinstance(rule.than, str) else ""
    if against == "champion" and c.first:
        return nothing_yet(rule, "Faster")
    if "challenger" not in c.models or (against and against not in c.models):
        why = f"{c.who(against)} cannot answer: {c.error(against)}" if against else "there is no model to call"
        return held_to(rule, "unknown", f"time of a call: {why}", "cost", against)
    people = ["challenger", *([against] if against else [])]
    n_rows = min(rule.rows, len(c.challenger))
    times = _times([c.models[who] for who in people], n_rows)
    rows = f"{n_rows:,} row{'s' if n_rows != 1 else ''}"
    medians = [sorted(one)[len(one) // 2] for one in times]
    if not against:
        found = quantile_interval(times[0], 0.5, 2 * rule.confidence - 1)
        limit = float(rule.than)
        outcome = "pass" if found.high <= limit else "fail" if found.low > limit else "unknown"
        ends = f"{_ms(found.low)}, {_ms(found.high)}"
        text = f"time of {rows} {_ms(found.value)} [{ends}] ≤ {_ms(limit)} ms here"
        return held_to(rule, outcome, text, "cost", figures={"metric": "time", **found.to_json(), "required": limit})
    logs = [[math.log(max(value, 1e-9)) for value in one] for one in times]
    d = paired_t(logs[0], logs[1], rule.confidence)
    limit = math.log(1 - rule.by)
    outcome = "pass" if d.high < limit else "fail" if d.low > limit else "unknown"
    ratio, low, high = (math.exp(end) for end in (d.value, d.low, d.high))
    text = (
        f"time of {rows} {ratio:.2f} [{low:.2f}, {high:.2f}] of that of {c.who(against)} "
        f"({_ms(medians[0])} and {_ms(medians[1])} ms here) < {1 - rule.by:.2f}"
    )
    figures = {"metric": "time", "value": ratio, "low": low, "high": high, "n": len(times[0]), "required": 1 - rule.by}
    return held_to(rule, outcome, text, "cost", against, {**figures, "seconds": medians})


def _ms(seconds: float) -> str:
    return scoring.number(1000 * seconds)


def _times(models: list[tuple[Any, Any]], rows: int) -> list[list[float]]:
    """Seconds of calls of each model on the same rows; who is called first changes from turn to turn."""
    found: list[list[float]] = [[] for _ in models]
    for model, X in models:  # what is set up on first use is no part of an answer
        model.predict(X.iloc[:rows])
    end, n = time.perf_counter() + SECONDS, len(models[0][1])
    for turn in range(CALLS):
        if turn >= LEAST_CALLS and time.perf_counter() > end:
            break
        start = (turn * rows) % max(n - rows + 1, 1)
        for at in range(len(models)) if turn % 2 else reversed(range(len(models))):
            model, X = models[at]
            part = X.iloc[start : start + rows]
            began = time.perf_counter()
            model.predict(part)
            found[at].append(time.perf_counter() - began)
    return found
