"""What a look at the hold-out spends: the level at which "better" is decided, and what a verdict says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.stages import scoring
from penstock.stats.checks import json_number
from penstock.stats.looks import winners_luck
from penstock.stats.paired import Difference

if TYPE_CHECKING:
    from penstock.stages.comparison import Comparison

NO_LOOK = "no rule could be held against anything: no look at the hold-out was spent"
TWO_SIDED = 1.959963984540054
"""Standard errors from a figure to either end of its 95 % interval."""


def at_level(confidence: float, d: Difference, by: float, c: Comparison, outcome: str, reason: str) -> tuple[str, str]:
    """A rule's outcome once this look's level is asked for besides its confidence.

    The interval that is shown keeps the rule's confidence; for a bootstrap the p-value is the normal approximation,
    since no number of draws tells bounds so far out.

    Parameters
    ----------
    confidence : float
        The rule's.
    d : Difference
    by : float
        What is required.
    c : Comparison
    outcome, reason : str
        By the rule's own confidence.
    """
    if outcome != "pass" or not c.looks:
        return outcome, reason
    p, level, number = d.p_value(by), c.level(confidence), int(c.looks["number"])
    if p > level:
        return "unknown", f"p {p:.2g}, and look {number} at this hold-out decides at {level:.2g}"
    if number > 1 and not reason:
        return outcome, f"look {number}, decided at {level:.2g}"
    return outcome, reason


def searched(confidence: float, d: Difference, by: float, c: Comparison) -> dict[str, Any]:
    """The figures of a search: its level and its p-value; none where no look is told."""
    return {"level": c.level(confidence), "p_value": json_number(d.p_value(by))} if c.looks else {}


def with_looks(verdict: dict[str, Any], looks: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict that says what its look spent, and how much too good the winner's figure may be.

    Parameters
    ----------
    verdict : dict
        Its "notes" say so too, from the second look on. Where no rule could be fought it was no look: "looks" is {}.
    looks : dict
        `Comparison.looks`; of a comparison that knows of none the verdict stays as it is.
    """
    if not looks:
        return verdict
    rules = [one for one in verdict["rules"] if one["decides"]]
    if not any(one.get("fought", True) for one in rules):
        return {**verdict, "looks": {}, "notes": [*verdict["notes"], NO_LOOK]}
    found = [one["figures"] for one in rules if "level" in one["figures"]]
    share, sides = float(looks["share"]), int(looks.get("sides", 1))
    alpha = round(max((one["level"] * sides / share for one in found), default=0.0), 12)
    primary = verdict["metrics"][verdict["primary"]]["challenger"]
    low, high = primary["low"], primary["high"]
    se = math.nan if low is None or high is None else (high - low) / (2 * TWO_SIDED)
    luck = winners_luck(se, int(looks["number"]))
    spent = {
        "generation": looks["generation"],
        "number": int(looks["number"]),
        "search": bool(found),
        "alpha": alpha if found else None,
        "level": alpha * share if found else None,
        "left": alpha * (float(looks["left"]) - share) if found else None,
        "too_good": json_number(luck),
    }
    if sides > 1:
        spent["sides"] = sides
    note = note_of(spent, scoring.shown_name(verdict["primary"]))
    return {**verdict, "looks": spent, "notes": [*verdict["notes"], *([note] if note else [])]}


def note_of(spent: Mapping[str, Any], metric: str) -> str:
    """What a person should know of a look; "" of the first one.

    Examples
    --------
    >>> note_of({"number": 3, "search": True, "alpha": 0.05, "level": 0.0019, "left": 0.0086, "too_good": None}, "r2")
    'look 3 at this hold-out: it spent 0.0019 of α 0.05, 0.0086 is left'
    """
    if spent["number"] < 2:
        return ""
    text = f"look {spent['number']} at this hold-out: "
    if spent["search"]:
        ways = ", half of it for each way" if spent.get("sides", 1) > 1 else ""
        text += f"it spent {spent['level']:.2g} of α {spent['alpha']:.2g}{ways}, {spent['left']:.2g} is left"
    else:
        text += "no search, so it spent nothing of α"
    if spent["too_good"] is None:
        return text
    return f"{text}; its {metric} is expected to be at most {scoring.number(spent['too_good'])} too good"
