"""What became of one rule of a gate, and the words in which figures and differences are told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.stages import scoring
from penstock.stats.paired import Difference

if TYPE_CHECKING:
    from penstock.core.gate import Improves, NotWorse, NoWorseOn
    from penstock.stages.comparison import Comparison

COARSE = ("accuracy", "balanced_accuracy", "f1", "f1_macro", "f1_micro", "f1_weighted")
"""Metrics that tell two versions of a model apart only on very many rows: by default log loss stands in for them."""
FINE = "neg_log_loss"
MARKS = {"pass": "✓", "fail": "✗", "unknown": "?"}
STARTS = {"pass": "better than required", "fail": "refused", "unknown": "not enough evidence"}


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
        "bound", "difference", "slices", "cost", "own" or "none".
    against : str
        "champion", "baseline", another alias or version, or "".
    figures : dict
    fought : bool
        False where the model that it is to be held against gives no answer: nothing was looked at.
    """

    rule: str
    outcome: str
    text: str
    sentence: str = ""
    decides: bool = True
    kind: str = "none"
    against: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    fought: bool = True

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
            **({} if self.fought else {"fought": False}),
        }


def held_to(
    rule: Any, outcome: str, text: str, kind: str, against: str = "", figures: dict[str, Any] | None = None
) -> Judged:
    """A rule that holds one figure to a requirement: "roc_auc 0.812 [0.796, 0.828] ≥ 0.750"."""
    return Judged(
        repr(rule),
        outcome,
        f"{text} {MARKS[outcome]}",
        f"{STARTS[outcome]}: {text}",
        True,
        kind,
        against,
        figures or {},
    )


def finer(rule: NotWorse | Improves | NoWorseOn, against: str, c: Comparison) -> tuple[str, str]:
    """The metric that tells whether a version is not worse, and a word where it is not the one declared first.

    Log loss is no measure of a model whose probabilities it finds no better than the baseline's, as those of a single
    tree: then the declared metric stays.
    """
    if rule.metric is not None:
        return rule.metric, ""
    other = c.of(against)
    if c.primary not in COARSE or c.same_estimator or other is None:
        return c.primary, ""
    if not (all(scoring.answerable(FINE, one) for one in (c.challenger, other)) and c.lead(FINE, against) > 0):
        return c.primary, ""
    return FINE, f"by log_loss, {c.primary} being too coarse for this: "


def nothing_yet(rule: Any, what: str) -> Judged:
    """A rule against a champion where there is none."""
    return Judged(repr(rule), "pass", f"{what}: no champion yet, nothing to compare ✓", decides=False)


def interval_text(name: str, value: float, low: float, high: float) -> str:
    """The figure and its bounds; those of an error are turned round."""
    if scoring.is_error(name):
        value, low, high = 0.0 - value, -high, -low
    if not (math.isfinite(low) and math.isfinite(high)):
        return scoring.number(value)
    return f"{scoring.number(value)} [{scoring.number(low)}, {scoring.number(high)}]"


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


def rounded_up(rows: float) -> int:
    """A number of rows as a planner says it: two digits, upwards.

    Examples
    --------
    >>> rounded_up(1234.5), rounded_up(40)
    (1300, 40)
    """
    if not math.isfinite(rows):
        return 0
    digits: int = 10 ** max(int(math.log10(max(rows, 1))) - 1, 0)
    return int(math.ceil(rows / digits) * digits)
