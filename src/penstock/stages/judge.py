"""One rule of a gate against a comparison: pass, fail or unknown, with the figures and a sentence.

A rule fails on evidence against it: the other end of the interval lies beyond what is required. Where the interval
holds the requirement the rule is unknown, not failed. A NaN never passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

from penstock.core.gate import (
    ALWAYS,
    RATES,
    AtLeast,
    AtMost,
    Calibrated,
    Faster,
    Improves,
    MaxGap,
    NotWorse,
    NoWorseOn,
    Rule,
    Smaller,
    said,
)
from penstock.core.names import SCORERS
from penstock.errors import DeclarationError
from penstock.stages import scoring
from penstock.stages.comparison import ENOUGH, POWER, Comparison
from penstock.stages.costs import calibrated, faster, smaller
from penstock.stages.gaps import max_gap, no_worse_on
from penstock.stages.judged import (
    MARKS,
    Judged,
    difference_text,
    finer,
    held_to,
    interval_text,
    nothing_yet,
    rounded_up,
)
from penstock.stages.own import line_of
from penstock.stages.problem import Problem
from penstock.stages.spent import at_level, searched
from penstock.stats.checks import json_number
from penstock.stats.intervals import HEAVY, largest_share, normal_quantile
from penstock.stats.paired import Difference

MARGIN_LEAST, MARGIN_MOST = 0.01, 0.05
"""Bounds of the default margin of `NotWorse`, as shares of the champion's lead over the baseline."""


def check_rules(rules: tuple[Rule, ...], problem: Problem) -> None:
    """Refuse rules over metrics that do not fit.

    Raises
    ------
    DeclarationError
        With every fault.
    """
    fit, faults = scoring.allowed(problem), []
    for rule in rules:
        metric = getattr(rule, "metric", None)
        if isinstance(rule, MaxGap) and metric in RATES:
            if problem.task != "binary":
                faults.append(f"gate=: {rule!r}: {metric!r} is of two classes, and the target is {problem.task}")
        elif metric is not None and scorer_of(rule, problem)[0] not in fit:
            faults.append(f"gate=: {rule!r}: {metric!r} does not fit a {problem.task} target")
        if isinstance(rule, Calibrated) and problem.task == "regression":
            faults.append(f"gate=: {rule!r}: a regressor gives no probabilities")
    if faults:
        raise DeclarationError(faults, where="gate", hint=f"metrics that fit: {', '.join(fit)}")


def scorer_of(rule: Any, problem: Problem) -> tuple[str, bool]:
    """A rule's scorer, and whether its value speaks of an error that scikit-learn negates."""
    name, known = str(rule.metric), {*SCORERS, *problem.own}
    if isinstance(rule, AtMost | MaxGap) and name not in known and f"neg_{name}" in known:
        return f"neg_{name}", True
    return name, False


def judge(rule: Rule, c: Comparison) -> Judged:
    """Hold one rule against the comparison.

    Parameters
    ----------
    rule : one of `core.gate`'s, or a function of a comparison
    c : Comparison

    Raises
    ------
    DeclarationError
        If a function of the user's gives neither bool nor (bool, sentence).
    Exception
        Whatever such a function raises, with a note that names it and the line.
    """
    if isinstance(rule, FunctionType):
        return _own(rule, c)
    if isinstance(rule, AtLeast | AtMost):
        return _bound(rule, c)
    if isinstance(rule, Calibrated):
        return calibrated(rule, c)
    if isinstance(rule, Faster):
        return faster(rule, c)
    if isinstance(rule, Smaller):
        return smaller(rule, c)
    if isinstance(rule, MaxGap):
        return max_gap(rule, rule.metric if rule.metric in RATES else scorer_of(rule, c.challenger.problem)[0], c)
    metric = rule.metric or c.primary
    if isinstance(rule, NoWorseOn):
        return no_worse_on(rule, c)
    if isinstance(rule, Improves):
        if not c.first and (c.same_estimator or (c.same_declaration and c.newer_data)):
            return _not_worse(rule, "champion", None, c)
        return _beats(rule, metric, "champion", 0.0, c)
    if isinstance(rule, NotWorse):
        if rule.alias == "champion" and c.first:
            return nothing_yet(rule, "NotWorse")
        return _not_worse(rule, rule.alias, rule.margin, c)
    return _beats(rule, metric, rule.alias, rule.by, c)


# ── a metric against a value ─────────────────────────────────────────────────────────────────────────────────


def _bound(rule: AtLeast | AtMost, c: Comparison) -> Judged:
    name, flipped = scorer_of(rule, c.challenger.problem)
    least = isinstance(rule, AtLeast) or flipped
    value = -rule.value if flipped else rule.value
    # Each end of an interval at 2c - 1 is a one-sided bound at c.
    found = c.interval(name, 2 * rule.confidence - 1)
    worth = c.worth()
    few = worth < ENOUGH and rule.by == "bound"
    reason = f" (only {worth:.0f} {c.unit}; {ENOUGH} are needed)" if few else ""
    if not math.isfinite(found.value) or few:
        outcome = "unknown"
    elif rule.by == "point":
        outcome = "pass" if (found.value >= value if least else found.value <= value) else "fail"
    elif least:
        outcome = "pass" if found.low >= value else "fail" if found.high < value else "unknown"
    else:
        outcome = "pass" if found.high <= value else "fail" if found.low > value else "unknown"
    # People see errors as positive numbers, whichever way the rule was written.
    turned = scoring.is_error(name)
    shown = interval_text(name, found.value, found.low, found.high)
    sign, asked_for = ("≥", value) if least else ("≤", value)
    if turned:
        sign, asked_for = ("≤" if least else "≥"), 0.0 - value
    if outcome == "unknown" and not few:
        reason = _rows_for_bound(
            found.value - value if least else value - found.value, found, rule.confidence, least, c
        )
    text = f"{scoring.shown_name(name)} {shown} {sign} {scoring.number(asked_for)}{reason}{_heavy(name, c)}"
    asked = {"required": rule.value, "by": rule.by, "confidence": rule.confidence}
    return held_to(rule, outcome, text, "bound", figures={"metric": name, **found.to_json(), **asked})


def _heavy(name: str, c: Comparison) -> str:
    """Says so where one row makes up much of the variance: no method has bounds that hold then."""
    if c.challenger.problem.task != "regression":
        return ""
    rows = scoring.row_scores(name, c.challenger)
    share = 0.0 if rows is None else largest_share(rows)
    return (
        f" (heavy tail: one row is {100 * share:.0f} % of the variance; the bounds are too narrow)"
        if share > HEAVY
        else ""
    )


def _rows_for_bound(ahead: float, found: Any, confidence: float, least: bool, c: Comparison) -> str:
    """About how many rows would show it four times in five, if the figure is what it seems to be."""
    half = found.value - found.low if least else found.high - found.value
    if not (ahead > 0 and math.isfinite(half) and half > 0):
        return ""
    z = normal_quantile(2 * confidence - 1)
    rows = rounded_up(c.worth() * (half * (z + POWER - normal_quantile(0.9)) / z / ahead) ** 2)
    return f" (about {rows:,} {c.unit} would tell)"


# ── one model against another ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Fight:
    """A difference that is held to a requirement, and what is said beside it."""

    rule: Any
    metric: str
    against: str
    d: Difference
    required: float
    note: str = ""
    where: str = ""
    after: str = ""
    more: dict[str, Any] | None = None


def _beats(rule: Any, metric: str, against: str, by: float, c: Comparison) -> Judged:
    note = ""
    if against == "champion" and c.first:
        against, note = "baseline", "no champion yet: "
    d = c.difference(metric, against, rule.confidence)
    more = searched(rule.confidence, d, by, c) if _fought(against, c) else {}
    fight = _Fight(rule, metric, against, d, by, note, _on_which(against, c), more=more)
    than = f"than {c.who(against)}" + (f" by {scoring.number(by)}" if by else "")
    return _judged(fight, c, f"better {than}", f"{'not better' if by else 'worse'} {than}", f"it is better {than}")


def _not_worse(rule: Any, against: str, margin: float | None, c: Comparison) -> Judged:
    metric, note = finer(rule, against, c)
    lead = c.lead(metric, against)
    rows = _decisive(metric, against, rule.confidence, c)
    whole = c.difference(metric, against, rule.confidence)
    d = whole if rows is None else c.difference(metric, against, rule.confidence, rows)
    if margin is None:
        if against == "baseline" or (math.isfinite(lead) and lead <= 0):
            # Beside a version that knows nothing there is no lead to take a share of.
            judged = _beats(rule, metric, "baseline", 0.0, c)
            return replace(judged, text=note + judged.text, sentence=note + judged.sentence) if note else judged
        margin = _default_margin(d, lead)
    where, after, more = _on_which(against, c), "", {}
    if rows is not None:
        where = f" on the {len(rows):,} held-out rows newer than what it was trained on"
        after = f"; on all {whole.n:,}: {difference_text(metric, whole)}"
        more = {"rows": "newer", "all": whole.to_json()}
    if c.beat is not None and against == "champion":
        since = c.difference_to(metric, c.beat, rule.confidence)
        if math.isfinite(since.value):
            after += f"; to {c.beat.name}, the last that beat: {difference_text(metric, since)}"
            more["last_that_beat"] = {"version": c.beat.name, **since.to_json()}
    shown = scoring.number(margin)
    if lead > 0:
        shown += f" ({100 * margin / lead:.1f} % of its lead over the baseline)"
    who = f"{c.who(against)} by more than {shown}"
    fight = _Fight(rule, metric, against, d, -margin, note, where, after, more)
    return _judged(fight, c, f"not worse than {who}", f"worse than {who}", f"it is not worse than {who}")


def _decisive(metric: str, against: str, confidence: float, c: Comparison) -> Any:
    """The newest rows, where these can decide; None for all that the other version has not learned from."""
    rows, other = c.newest(against), c.opponent(against)
    if rows is None or other.answers is None:
        return None
    if len(rows) == (len(c.challenger) if other.fresh is None else len(other.fresh)):
        return None
    d = c.difference(metric, against, confidence, rows)
    return rows if math.isfinite(d.value) and d.n_informative >= ENOUGH else None


def _default_margin(d: Difference, lead: float) -> float:
    """The smallest margin from 1 % to 5 % of the lead that equal models meet four times in five on these rows."""
    if not math.isfinite(lead):
        return math.nan
    wanted = POWER * d.se if math.isfinite(d.se) else math.inf
    return min(max(wanted, MARGIN_LEAST * lead), MARGIN_MOST * lead)


def _outcome(fight: _Fight, c: Comparison) -> tuple[str, str]:
    """pass, fail or unknown, and why unknown where that is not the interval."""
    d, required = fight.d, fight.required
    if not _fought(fight.against, c):
        return "unknown", f"{_versed(fight.against, c)} cannot answer: {c.error(fight.against)}"
    if fight.against == "champion" and c.same_estimator and d.value == 0 and d.n_informative == 0 and required < 0:
        # No draw on few rows: it is the very same estimator, and the metric reads nothing in which the two differ.
        return "pass", "the estimator is the same"
    if not math.isfinite(d.value) or math.isnan(required):
        return "unknown", "the metric has no value on these rows"
    if d.n_informative < ENOUGH:
        told = f"the two differ on only {d.n_informative} {c.unit}; {ENOUGH} are needed"
        if d.n_informative:
            told += f": about {rounded_up(d.n * ENOUGH / d.n_informative):,} held-out rows"
        return "unknown", told
    if d.low > required:
        return "pass", ""
    if d.high < required:
        return "fail", ""
    return "unknown", _rows_needed(d, required)


def _rows_needed(d: Difference, required: float) -> str:
    """Rows at which such a difference would be seen four times in five: a power calculation.

    For a margin the difference is taken as none, or as it is where that is better.
    """
    ahead = (d.value if required >= 0 else max(d.value, 0.0)) - required
    if not (ahead > 0 and math.isfinite(d.se)):
        return ""
    return f"about {rounded_up(d.n * (POWER * d.se / ahead) ** 2):,} rows would tell"


def _judged(fight: _Fight, c: Comparison, passed: str, failed: str, doubted: str) -> Judged:
    outcome, reason = _outcome(fight, c)
    if "level" in (fight.more or {}):  # a search: it is decided at the look's own level
        outcome, reason = at_level(fight.rule.confidence, fight.d, fight.required, c, outcome, reason)
    claim = {"pass": passed, "fail": failed, "unknown": f"not enough evidence that {doubted}"}[outcome] + fight.where
    figures = {
        "metric": fight.metric,
        **fight.d.to_json(),
        "required": json_number(fight.required),
        **(fight.more or {}),
    }
    sentence = f"{claim}: {difference_text(fight.metric, fight.d)}" + (f" ({reason})" if reason else "")
    text = f"{fight.note}{sentence}{fight.after} {MARKS[outcome]}"
    told = sentence if fight.note.startswith("no champion") else fight.note + sentence
    said_so: dict[str, Any] = {"kind": "difference", "against": fight.against, "figures": figures}
    return Judged(repr(fight.rule), outcome, text, told, fought=_fought(fight.against, c), **said_so)


def _fought(against: str, c: Comparison) -> bool:
    """Whether there is somebody to be held against: a version that is not there, or cannot answer, is not fought."""
    return against == "baseline" or not c.error(against)


def _versed(against: str, c: Comparison) -> str:
    return "the champion" if against == "champion" else c.who(against)


def _on_which(against: str, c: Comparison) -> str:
    """Says so where another version is asked about some of the held-out rows only."""
    if against in ALWAYS[1:] or c.opponent(against).fresh is None:
        return ""
    return f" on the {len(c.opponent(against).fresh):,} held-out rows that it was not trained on"


# ── a function of the user's ─────────────────────────────────────────────────────────────────────────────────


def _own(rule: Any, c: Comparison) -> Judged:
    name = said(rule)
    try:
        found = rule(c)
    except Exception as error:
        error.add_note(f"the gate's function {name}{line_of(error)}")
        raise
    passed, told = found if isinstance(found, tuple) and len(found) == 2 else (found, "")
    is_bool = isinstance(passed, bool) or type(passed).__name__ in ("bool", "bool_")
    if not is_bool or not isinstance(told, str):
        raise DeclarationError(
            f"gate=: {name} returned {repr(found)[:80]}, and must return True or False, or that and a sentence",
            where="gate",
        )
    outcome = "pass" if passed else "fail"
    text = f"{name}: {' '.join(told.split())[:300]}" if told else name
    start = "passed" if passed else "refused"
    return Judged(name, outcome, f"{text} {MARKS[outcome]}", f"{start}: {text}", kind="own")
