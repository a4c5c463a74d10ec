"""Rules about slices of a column: no harm on one of them, and no gap between two of them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

from penstock.core.gate import RATES, MaxGap, NoWorseOn
from penstock.stages import scoring
from penstock.stages.comparison import ENOUGH, Comparison
from penstock.stages.judged import MARKS, Judged, finer, held_to, nothing_yet
from penstock.stages.predicted import Predicted
from penstock.stages.uncertainty import interval, trials_of
from penstock.stats.intervals import Interval, wilson_interval
from penstock.stats.multiple import holm
from penstock.stats.weighting import effective_rows

SLICE_MARGIN = 0.02
"""Default margin of `NoWorseOn`, as a share of the champion's lead over the baseline."""


def no_worse_on(rule: NoWorseOn, c: Comparison) -> Judged:
    """Whether there is evidence of harm on a slice, by log loss where the first metric is too coarse to tell."""
    if c.first:
        return nothing_yet(rule, f"NoWorseOn({rule.column!r})")
    if c.champion is None:
        text = f"not enough evidence on slices of {rule.column}: the champion cannot answer: {c.champion_error}"
        return Judged(repr(rule), "unknown", f"{text} ?", text, kind="slices", against="champion", fought=False)
    metric, finely = finer(rule, "champion", c)
    lead = c.lead(metric)
    margin = rule.margin if rule.margin is not None else max(SLICE_MARGIN * lead if math.isfinite(lead) else 0.0, 0.0)
    found = [_slice(label, rows, metric, margin, rule.confidence, c) for label, rows in c.slices(rule.column)]
    known = [one for one in found if one["outcome"] != "unknown"]
    harmed, adjusted = holm([one["p_value"] for one in known], 1 - rule.confidence)
    for one, harm, p in zip(known, harmed, adjusted, strict=True):
        one |= {"outcome": "fail" if harm else "pass", "adjusted": float(p)}
    judged = _slices_judged(rule, metric, margin, found)
    return replace(judged, text=finely + judged.text, sentence=finely + judged.sentence) if finely else judged


def _slice(label: str, rows: Any, metric: str, margin: float, confidence: float, c: Comparison) -> dict[str, Any]:
    """Evidence that the challenger is worse than the champion by more than the margin, on one slice."""
    d = c.difference(metric, "champion", confidence, rows)
    harm = c.difference(metric, "champion", confidence, rows, reverse=True).p_value(margin)
    known = math.isfinite(d.value) and d.n_informative >= ENOUGH
    return {"slice": label, **d.to_json(), "p_value": harm, "outcome": "pass" if known else "unknown"}


def _slices_judged(rule: NoWorseOn, metric: str, margin: float, found: list[dict[str, Any]]) -> Judged:
    bad = [one for one in found if one["outcome"] == "fail"]
    known = [one for one in found if one["outcome"] != "unknown"]
    small = len(found) - len(known)
    note = f"; {small} with fewer than {ENOUGH} rows that tell, not judged" if small else ""
    name = scoring.shown_name(metric)
    if bad:
        worst = min(bad, key=lambda one: one["value"])
        size = scoring.number(abs(worst["value"]))
        text = f"worse on {len(bad)} of {len(found)} slices of {rule.column}: {name} by {size} on {worst['slice']}"
    elif all(one["value"] is None for one in found):  # NaN never passes
        text = f"not enough evidence: {name} has no value on any slice of {rule.column}"
        return Judged(repr(rule), "unknown", f"{text} ?", text, kind="slices", against="champion")
    elif not known:
        text = f"no slice of {rule.column} has enough rows to judge"
    else:
        text = f"no evidence of harm on {len(known)} slices of {rule.column} ({name}, margin {scoring.number(margin)})"
    outcome = "fail" if bad else "pass"
    return Judged(
        repr(rule),
        outcome,
        f"{text}{note} {MARKS[outcome]}",
        f"{text}{note}",
        kind="slices",
        against="champion",
        figures={"metric": metric, "margin": margin, "slices": found},
    )


# ── no gap between slices ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Gap:
    """The difference of two slices, with the bounds of its size."""

    size: float
    low: float
    high: float
    between: str


def max_gap(rule: MaxGap, metric: str, c: Comparison) -> Judged:
    """Whether a rate differs between slices by more than it may.

    Each slice has the interval that its figure has everywhere, and the bounds of a difference are put together from
    those of its two parts (MOVER: Newcombe 1998, Statistics in Medicine 17:873, method 10; Zou & Donner 2008,
    Statistics in Medicine 27:1693), slices being of different rows. That *all* pairs are within the limit is shown by
    showing it for each at the same level (intersection-union: Berger 1982, Technometrics 24:295); that *one* is not is
    corrected for the number of ordered pairs (Bonferroni).
    """
    parts = [(label, c.challenger.take(rows)) for label, rows in c.slices(rule.by)]
    known = [(label, part) for label, part in parts if _judgeable(metric, part)]
    small = len(parts) - len(known)
    note = f"; {small} with fewer than {ENOUGH} rows that tell, not judged" if small else ""
    name = scoring.shown_name(metric)
    if len(known) < 2:
        text = f"{name} gap: fewer than two slices of {rule.by} have enough rows to judge{note}"
        return held_to(rule, "unknown", text, "slices", figures={"metric": metric, "slices": []})
    alpha = 1 - rule.confidence
    gaps = _gaps(metric, known, 1 - 2 * alpha, c.seed)
    corrected = _gaps(metric, known, 1 - 2 * alpha / (len(known) * (len(known) - 1)), c.seed)
    widest = max(gaps, key=lambda one: one.size)
    high = max(one.high for one in gaps)
    if not math.isfinite(high):
        outcome = "unknown"
    else:
        over = any(one.low > rule.at_most for one in corrected)
        outcome = "fail" if over else "pass" if high <= rule.at_most else "unknown"
    shown = ", ".join(scoring.number(end) for end in (widest.low, high))
    text = (
        f"{name} gap {scoring.number(widest.size)} [{shown}] between {widest.between} ≤ {scoring.number(rule.at_most)}"
    )
    slices = [{"slice": label, **_interval(metric, part, 0.95, c.seed).to_json()} for label, part in known]
    figures = {
        "metric": metric,
        "value": widest.size,
        "low": widest.low,
        "high": high if math.isfinite(high) else None,
        "required": rule.at_most,
        "confidence": rule.confidence,
        "slices": slices,
    }
    return held_to(rule, outcome, text + note, "slices", figures=figures)


def _gaps(metric: str, parts: list[tuple[str, Predicted]], confidence: float, seed: int) -> list[_Gap]:
    found = [(label, _interval(metric, part, confidence, seed)) for label, part in parts]
    return [_between(*one, *other) for one, other in itertools.combinations(found, 2)]


def _between(label: str, one: Interval, other_label: str, other: Interval) -> _Gap:
    if one.value < other.value:
        label, one, other_label, other = other_label, other, label, one
    size = one.value - other.value
    up = math.hypot(one.high - one.value, other.value - other.low)
    down = math.hypot(one.value - one.low, other.high - other.value)
    # The difference may have the other sign: the bound of its size is the farther of the two ends.
    return _Gap(size, size - down, max(size + up, down - size), f"{label} and {other_label}")


def _interval(metric: str, part: Predicted, confidence: float, seed: int) -> Interval:
    """Of a rate or metric on one slice; errors as positive numbers."""
    if metric in RATES:
        counts = trials_of(*_hits(metric, part), part)
        if counts is None:
            return Interval(-math.inf, math.nan, math.inf, len(part), "no row")
        return wilson_interval(*counts, confidence)
    found = interval(metric, part, confidence=confidence, seed=seed)
    if not scoring.is_error(metric):
        return found
    return Interval(-found.high, -found.value, -found.low, found.n, found.method)


def _hits(rate: str, part: Predicted) -> tuple[Any, Any]:
    """Rows that were called positive, and those that the rate is taken over."""
    said, positive = part.column("label") == 1, part.y == 1
    return said, {"tpr": positive, "fpr": ~positive}.get(rate, positive | ~positive)


def _judgeable(metric: str, part: Predicted) -> bool:
    """Whether a slice has enough rows (groups) of the kind that the figure reads, and a figure."""
    read = _hits(metric, part)[1] if metric in RATES else slice(None)
    taken = part.take(read)
    if taken.cluster is not None:
        import numpy as np

        worth: float = len(np.unique(taken.cluster))
    else:
        worth = effective_rows(taken.weight, len(taken))
    return worth >= ENOUGH and (metric in RATES or math.isfinite(scoring.figure(metric, part)))
