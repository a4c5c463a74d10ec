"""The plots of a report, drawn from the points that evaluation keeps; each with a line that says how to read it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.lifecycle.charts import Axis, Dots, Line, chart, padded

UNIT = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with its title and a line on how to read it."""

    title: str
    reading: str
    svg: str


def plots(metrics: Mapping[str, Any], target: str) -> list[Plot]:
    """Every plot that a report's points allow.

    Parameters
    ----------
    metrics : dict
        The report of `stages.evaluate`: "curves", "task", "positive", "n_judged", "confusion".
    target : str
        Column that is predicted.
    """
    points = metrics.get("curves") or {}
    found = []
    if "roc" in points:
        found.append(_roc(points["roc"]))
    if "precision_recall" in points:
        found.append(_precision_recall(points["precision_recall"], metrics))
    if points.get("calibration"):
        found.append(_calibration(points["calibration"], metrics))
    if points.get("residuals", {}).get("observed"):
        found += _residuals(points["residuals"], metrics, target)
    return found


def _roc(points: Mapping[str, Sequence[float]]) -> Plot:
    x, y = points["false_positive_rate"], points["true_positive_rate"]
    told = "True positive rate against false positive rate as the threshold falls; the diagonal is chance."
    svg = chart(
        "roc",
        "ROC curve",
        told,
        Axis("false positive rate", *UNIT),
        Axis("true positive rate", *UNIT),
        [Line(UNIT, UNIT, "guide"), Line(x, y)],
    )
    at = _reached(y, x, 0.1)
    return Plot("ROC curve", f"At 10 % false positives it finds {_percent(at)} of the positives. Dashed: chance.", svg)


def _reached(y: Sequence[float], x: Sequence[float], limit: float) -> float:
    """The greatest y among the points with x up to a limit."""
    return max((b for a, b in zip(x, y, strict=True) if a <= limit), default=0.0)


def _precision_recall(points: Mapping[str, Sequence[float]], metrics: Mapping[str, Any]) -> Plot:
    x, y = points["recall"], points["precision"]
    share = _positives(metrics)
    marks: list[Line | Dots] = [] if share is None else [Line(UNIT, (share, share), "guide")]
    told = "Precision against recall as the threshold falls; the level line is the share of positives."
    svg = chart(
        "pr",
        "Precision and recall",
        told,
        Axis("recall", *UNIT),
        Axis("precision", *UNIT),
        [*marks, Line(x, y)],
    )
    half = next((b for a, b in zip(x, y, strict=True) if a >= 0.5), None)
    reading = "" if half is None else f"Finding half of the positives, {_percent(half)} of the calls are right. "
    reading += "" if share is None else f"Dashed: the share of positives, {_percent(share)}."
    return Plot("Precision and recall", reading.strip(), svg)


def _positives(metrics: Mapping[str, Any]) -> float | None:
    """Share of the positive class among the judged rows."""
    confusion, positive = metrics.get("confusion"), metrics.get("positive")
    if not confusion or positive not in confusion["classes"]:
        return None
    rows = [sum(row) for row in confusion["counts"]]
    share: float | None = rows[confusion["classes"].index(positive)] / sum(rows) if sum(rows) else None
    return share


def _calibration(bins: Sequence[Mapping[str, float]], metrics: Mapping[str, Any]) -> Plot:
    x, y = [one["predicted"] for one in bins], [one["observed"] for one in bins]
    low, high = [one["low"] for one in bins], [one["high"] for one in bins]
    binary = metrics.get("task") == "binary"
    svg = chart(
        "calibration",
        "Calibration",
        "Observed share against predicted probability in bins of equal size, with intervals; the diagonal is perfect.",
        Axis("predicted probability" + ("" if binary else " of the answer"), *UNIT),
        Axis("observed share" if binary else "share of right answers", *UNIT),
        [Line(UNIT, UNIT, "guide"), Dots(x, y, low, high)],
    )
    above = sum(one["predicted"] < one["low"] for one in bins)
    below = sum(one["predicted"] > one["high"] for one in bins)
    verdict = "every interval holds the line"
    if above or below:
        verdict = f"{above} lie above the line, {below} below, {len(bins) - above - below} hold it"
    reading = (
        f"{len(bins)} bins of equal size with 95 % intervals: {verdict}. On the dashed line a probability is true."
    )
    return Plot("Calibration", reading, svg)


def _residuals(points: Mapping[str, Sequence[float]], metrics: Mapping[str, Any], target: str) -> list[Plot]:
    said, seen = list(points["predicted"]), list(points["observed"])
    low, high = padded([*said, *seen])
    shown = f"{len(said):,} of {int(metrics.get('n_judged', len(said))):,} rows, evenly spaced."
    first = chart(
        "observed",
        "Observed against predicted",
        "One point a row; on the diagonal the prediction is exact.",
        Axis("predicted", low, high),
        Axis("observed", low, high),
        [Line((low, high), (low, high), "guide"), Dots(said, seen, style="cloud")],
    )
    rest = [b - a for a, b in zip(said, seen, strict=True)]
    left, right = padded(said)
    bottom, top = padded(rest)
    second = chart(
        "residuals",
        "Residuals",
        "Observed minus predicted against predicted; an even band around zero is what one hopes for.",
        Axis("predicted", left, right),
        Axis("observed − predicted", bottom, top),
        [Line((left, right), (0.0, 0.0), "guide"), Dots(said, rest, style="cloud")],
    )
    above = sum(one > 0 for one in rest) / len(rest)
    return [
        Plot("Observed against predicted", f"{target}: {shown} Dashed: exact.", first),
        Plot("Residuals", f"{_percent(above)} lie above zero: the model said too little there.", second),
    ]


def _percent(share: float) -> str:
    r"""A share as people read it.

    Examples
    --------
    >>> _percent(0.2655), _percent(0.0004)
    ('26.6\xa0%', '0.04\xa0%')
    """
    if not math.isfinite(share):
        return "n/a"
    value = 100 * share
    return (f"{value:.1f}" if value >= 0.1 or value == 0 else f"{value:.1g}") + "\N{NO-BREAK SPACE}%"
