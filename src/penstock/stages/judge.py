"""One rule of a gate against a comparison: pass, fail or unknown, with the figures and a sentence.

A rule fails on evidence against it: the other end of the interval lies beyond what is required. Where the interval
holds the requirement the rule is unknown, not failed. A NaN never passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.gate import AtLeast, AtMost, Beats, Improves, NotWorse, NoWorseOn, Rule
from penstock.core.names import SCORERS
from penstock.errors import DeclarationError
from penstock.stages import scoring
from penstock.stages.comparison import ENOUGH, POWER, Comparison
from penstock.stages.problem import Problem
from penstock.stages.spent import at_level, searched
from penstock.stats.checks import json_number
from penstock.stats.multiple import holm
from penstock.stats.paired import Difference
from penstock.stats.weighting import effective_rows

MARKS = {"pass": "✓", "fail": "✗", "unknown": "?"}
MARGIN_LEAST, MARGIN_MOST = 0.01, 0.05
"""Bounds of the default margin of `NotWorse`, as shares of the champion's lead over the baseline."""
SLICE_MARGIN = 0.02


@dataclass(frozen=True)
class Judged:
    """What became of one rule.

    Attributes
    ----------
    rule : str
        As declared.
    outcome : {"pass", "fail", "unknown"}
    text : str
        One line, ending in ✓, ✗ or ?.
    sentence : str
        The same as a verdict's sentence.
    decides : bool
        False where there was nothing to compare: such a rule neither refuses nor promotes.
    kind : str
        "bound", "difference", "slices" or "none".
    against : str
        "champion", "baseline" or "".
    figures : dict
    """

    rule: str
    outcome: str
    text: str
    sentence: str = ""
    decides: bool = True
    kind: str = "none"
    against: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "rule": self.rule,
            "outcome": self.outcome,
            "text": self.text,
            "decides": self.decides,
            "kind": self.kind,
            "against": self.against,
            "figures": self.figures,
        }


def check_rules(rules: tuple[Rule, ...], problem: Problem) -> None:
    """Refuse rules over metrics that do not fit, or against versions that cannot be compared with.

    Raises
    ------
    DeclarationError
        With every fault.
    """
    fit, faults = scoring.allowed(problem), []
    for rule in rules:
        if rule.metric is not None and scorer_of(rule, problem)[0] not in fit:
            faults.append(f"gate=: {rule!r}: {rule.metric!r} does not fit a {problem.task} target")
        if isinstance(rule, Beats | NotWorse) and rule.alias not in ("champion", "baseline"):
            faults.append(f'gate=: {rule!r}: only "champion" and "baseline" can be compared with')
    if faults:
        raise DeclarationError(faults, where="gate", hint=f"metrics that fit: {', '.join(fit)}")


def scorer_of(rule: Rule, problem: Problem) -> tuple[str, bool]:
    """A rule's scorer, and whether its value speaks of an error that scikit-learn negates."""
    name, known = str(rule.metric), {*SCORERS, *problem.own}
    if isinstance(rule, AtMost) and name not in known and f"neg_{name}" in known:
        return f"neg_{name}", True
    return name, False


def judge(rule: Rule, c: Comparison) -> Judged:
    """Hold one rule against the comparison.

    Parameters
    ----------
    rule : one of `core.gate`'s
    c : Comparison
    """
    if isinstance(rule, AtLeast | AtMost):
        return _bound(rule, c)
    metric = rule.metric or c.primary
    if isinstance(rule, NoWorseOn):
        return _no_worse_on(rule, metric, c)
    if isinstance(rule, Improves):
        if not c.first and (c.same_estimator or (c.same_declaration and c.newer_data)):
            return _not_worse(rule, metric, "champion", None, c)
        return _beats(rule, metric, "champion", 0.0, c)
    if isinstance(rule, NotWorse):
        if rule.alias == "champion" and c.first:
            return Judged(repr(rule), "pass", f"{_call(rule)}: no champion yet, nothing to compare ✓", decides=False)
        return _not_worse(rule, metric, rule.alias, rule.margin, c)
    return _beats(rule, metric, rule.alias, rule.by, c)


# ── a metric against a value ─────────────────────────────────────────────────────────────────────────────────


def _bound(rule: AtLeast | AtMost, c: Comparison) -> Judged:
    name, flipped = scorer_of(rule, c.challenger.problem)
    least = isinstance(rule, AtLeast) or flipped
    value = -rule.value if flipped else rule.value
    # Each end of an interval at 2c - 1 is a one-sided bound at c.
    found = c.interval(name, 2 * rule.confidence - 1)
    worth = effective_rows(c.challenger.weight, found.n)
    few = worth < ENOUGH and rule.by == "bound"
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
    shown = _interval_text(name, found.value, found.low, found.high)
    sign, asked_for = ("≥", value) if least else ("≤", value)
    if turned:
        sign, asked_for = ("≤" if least else "≥"), 0.0 - value
    reason = f" (only {worth:.0f} rows)" if few else ""
    asked = {"required": rule.value, "by": rule.by, "confidence": rule.confidence}
    figures = {"metric": name, **found.to_json(), **asked}
    text = f"{scoring.shown_name(name)} {shown} {sign} {scoring.number(asked_for)}{reason}"
    start = {"pass": "better than required", "fail": "refused", "unknown": "not enough evidence"}[outcome]
    return Judged(repr(rule), outcome, f"{text} {MARKS[outcome]}", f"{start}: {text}", kind="bound", figures=figures)


def _interval_text(name: str, value: float, low: float, high: float) -> str:
    """The figure and its bounds; those of an error are turned round."""
    if scoring.is_error(name):
        value, low, high = 0.0 - value, -high, -low
    if not (math.isfinite(low) and math.isfinite(high)):
        return scoring.number(value)
    return f"{scoring.number(value)} [{scoring.number(low)}, {scoring.number(high)}]"


# ── one model against another ────────────────────────────────────────────────────────────────────────────────


def _beats(rule: Rule, metric: str, against: str, by: float, c: Comparison) -> Judged:
    note = ""
    if against == "champion" and c.first:
        against, note = "baseline", "no champion yet: "
    d = c.difference(metric, against, rule.confidence)
    outcome, reason = at_level(rule.confidence, d, by, c, *_outcome(d, by, c, against))
    if outcome == "unknown" and d.value > by and math.isfinite(d.se) and not reason:
        reason = f"about {_rows_needed(d, by):,} rows would tell"
    than = f"than {_who(against, c)}" + (f" by {scoring.number(by)}" if by else "")
    claim = {
        "pass": f"better {than}",
        "fail": f"{'not better' if by else 'worse'} {than}",
        "unknown": f"not enough evidence that it is better {than}",
    }[outcome] + _on_which(against, c)
    judged = _judged(rule, outcome, note, claim, reason, metric, d, against, required=by)
    return replace(judged, figures=judged.figures | searched(rule.confidence, d, by, c))


def _not_worse(rule: Rule, metric: str, against: str, margin: float | None, c: Comparison) -> Judged:
    d = c.difference(metric, against, rule.confidence)
    lead = c.lead(metric)
    if margin is None:
        if against == "baseline" or (math.isfinite(lead) and lead <= 0):
            # Beside a champion that knows nothing there is no lead to take a share of.
            return _beats(rule, metric, "baseline", 0.0, c)
        margin = _default_margin(d, lead)
    outcome, reason = _outcome(d, -margin, c, against)
    shown = scoring.number(margin)
    if lead > 0:
        shown += f" ({100 * margin / lead:.1f} % of its lead over the baseline)"
    who = f"{_who(against, c)} by more than {shown}"
    claim = {
        "pass": f"not worse than {who}",
        "fail": f"worse than {who}",
        "unknown": f"not enough evidence that it is not worse than {who}",
    }[outcome] + _on_which(against, c)
    return _judged(rule, outcome, "", claim, reason, metric, d, against, required=-margin)


def _default_margin(d: Difference, lead: float) -> float:
    """The smallest margin from 1 % to 5 % of the lead that equal models meet four times in five on these rows."""
    if not math.isfinite(lead):
        return math.nan
    wanted = POWER * d.se if math.isfinite(d.se) else math.inf
    return min(max(wanted, MARGIN_LEAST * lead), MARGIN_MOST * lead)


def _outcome(d: Difference, required: float, c: Comparison, against: str) -> tuple[str, str]:
    """pass, fail or unknown, and why unknown where that is not the interval."""
    if against == "champion" and c.champion is None:
        return "unknown", f"the champion cannot answer: {c.champion_error}"
    if against == "champion" and c.same_estimator and d.value == 0 and d.n_informative == 0 and required < 0:
        # No draw on few rows: it is the very same estimator, and the metric reads nothing in which the two differ.
        return "pass", "the estimator is the same"
    if not math.isfinite(d.value) or math.isnan(required):
        return "unknown", "the metric has no value on these rows"
    if d.n_informative < ENOUGH:
        return "unknown", f"the two differ on only {d.n_informative} rows; {ENOUGH} are needed"
    if d.low > required:
        return "pass", ""
    return ("fail", "") if d.high < required else ("unknown", "")


def _judged(
    rule: Rule,
    outcome: str,
    note: str,
    claim: str,
    reason: str,
    metric: str,
    d: Difference,
    against: str,
    *,
    required: float,
) -> Judged:
    figures = {"metric": metric, **d.to_json(), "required": json_number(required)}
    sentence = f"{claim}: {difference_text(metric, d)}" + (f" ({reason})" if reason else "")
    text = f"{note}{sentence} {MARKS[outcome]}"
    return Judged(repr(rule), outcome, text, sentence, kind="difference", against=against, figures=figures)


def _rows_needed(d: Difference, by: float) -> int:
    """Rows at which a difference of this size would be seen four times in five: a power calculation."""
    rows = d.n * (POWER * d.se / (d.value - by)) ** 2
    digits: int = 10 ** max(int(math.log10(max(rows, 1))) - 1, 0)
    return int(math.ceil(rows / digits) * digits)


def difference_text(metric: str, d: Difference) -> str:
    """How far apart, as people say it: "roc_auc +0.343 [0.322, 0.363]", "log_loss lower by 0.020 [0.010, 0.030]".

    Examples
    --------
    >>> difference_text("neg_log_loss", Difference(-0.02, -0.03, -0.01, 0.005, 100, 100, "t"))
    'log_loss higher by 0.020 [0.010, 0.030]'
    """
    value, low, high = d.value, d.low, d.high
    turned = scoring.is_error(metric) and value < 0
    if turned:
        value, low, high = -value, -high, -low
    bounded = math.isfinite(low) and math.isfinite(high)
    ends = f" [{_signed(low)}, {_signed(high)}]" if bounded else ""
    if scoring.is_error(metric):
        return f"{scoring.shown_name(metric)} {'higher' if turned else 'lower'} by {_signed(value)}{ends}"
    return f"{metric} {'+' if value > 0 else ''}{_signed(value)}{ends}"


def _signed(value: float) -> str:
    return scoring.number(value).replace("-", "−") if math.isfinite(value) else "n/a"


def _who(against: str, c: Comparison) -> str:
    if against == "baseline":
        return f"the baseline {c.baseline_name}".rstrip()
    return c.name or "the champion"


def _on_which(against: str, c: Comparison) -> str:
    """Says so where the champion is asked about some of the held-out rows only."""
    if against != "champion" or c.fresh is None:
        return ""
    return f" on the {len(c.fresh):,} held-out rows that it was not trained on"


def _call(rule: Rule) -> str:
    return repr(rule).partition("(")[0]


# ── slice by slice ───────────────────────────────────────────────────────────────────────────────────────────


def _no_worse_on(rule: NoWorseOn, metric: str, c: Comparison) -> Judged:
    if c.first:
        text = f"NoWorseOn({rule.column!r}): no champion yet, nothing to compare ✓"
        return Judged(repr(rule), "pass", text, decides=False)
    if c.champion is None:
        text = f"not enough evidence on slices of {rule.column}: the champion cannot answer: {c.champion_error}"
        return Judged(repr(rule), "unknown", f"{text} ?", text, kind="slices", against="champion")
    lead = c.lead(metric)
    margin = rule.margin if rule.margin is not None else max(SLICE_MARGIN * lead if math.isfinite(lead) else 0.0, 0.0)
    found = [_slice(label, rows, metric, margin, rule.confidence, c) for label, rows in c.slices(rule.column)]
    known = [one for one in found if one["outcome"] != "unknown"]
    harmed, adjusted = holm([one["p_value"] for one in known], 1 - rule.confidence)
    for one, harm, p in zip(known, harmed, adjusted, strict=True):
        one |= {"outcome": "fail" if harm else "pass", "adjusted": float(p)}
    return _slices_judged(rule, metric, margin, found)


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
    elif not known:
        text = f"no slice of {rule.column} has enough rows to judge"
    else:
        text = f"no evidence of harm on {len(known)} slices of {rule.column} ({name}, margin {scoring.number(margin)})"
    outcome = "fail" if bad else "pass"
    figures = {"metric": metric, "margin": margin, "slices": found}
    return Judged(
        repr(rule),
        outcome,
        f"{text}{note} {MARKS[outcome]}",
        f"{text}{note}",
        kind="slices",
        against="champion",
        figures=figures,
    )
