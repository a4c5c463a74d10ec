"""The plots of a report, drawn from the points that evaluation keeps; each with a line that says how to read it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.lifecycle.charts import Area, Axis, Dots, Line, Rug, Rule, chart, padded
from penstock.lifecycle.report_figures import number, value

UNIT = (0.0, 1.0)
RECALLS = (0.1, 0.25, 0.5, 0.75, 0.9)
MAX_ROWS = 11
"""Of a drawing's numbers, so many rows stand below it."""
STYLES = ("main", "second", "third", "fourth")
Numbers = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with its title, a line on how to read it, and some of its numbers for those who cannot see it."""

    title: str
    reading: str
    svg: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


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
        found.append(_roc(points["roc"], points.get("roc_band")))
    if "precision_recall" in points:
        found.append(_precision_recall(points["precision_recall"], points.get("precision_recall_band"), metrics))
    if points.get("calibration"):
        found.append(_calibration(points["calibration"], metrics))
    if points.get("residuals", {}).get("observed"):
        found += _residuals(points["residuals"], points.get("residual_bins") or (), metrics, target)
    return found


def _roc(points: Numbers, band: Numbers | None) -> Plot:
    x, y = points["false_positive_rate"], points["true_positive_rate"]
    told = "True positive rate against false positive rate as the threshold falls; the diagonal is chance."
    shade = [Area(band["x_low"], band["y_high"], band["x_high"], band["y_low"])] if band else []
    svg = chart(
        "roc",
        "ROC curve",
        told,
        Axis("false positive rate", *UNIT),
        Axis("true positive rate", *UNIT),
        [*shade, Line(UNIT, UNIT, "guide"), Line(x, y)],
    )
    at = _reached(y, x, 0.1)
    reading = f"At 10 % false positives it finds {_percent(at)} of the positives. Dashed: chance."
    rows = [[_percent(limit), _percent(_reached(y, x, limit))] for limit in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)]
    return Plot("ROC curve", f"{reading}{_shaded(band)}", svg, ("false positives up to", "positives found"), rows)


def _shaded(band: Any) -> str:
    return " Shaded: pointwise 95 % band, each threshold by itself." if band else ""


def _reached(y: Sequence[float], x: Sequence[float], limit: float) -> float:
    """The greatest y among the points with x up to a limit."""
    return max((b for a, b in zip(x, y, strict=True) if a <= limit), default=0.0)


def _precision_recall(points: Numbers, band: Numbers | None, metrics: Mapping[str, Any]) -> Plot:
    x, y = points["recall"], points["precision"]
    share = _positives(metrics)
    marks: list[Any] = [Area(band["recall"], band["high"], band["recall"], band["low"])] if band else []
    marks += [] if share is None else [Line(UNIT, (share, share), "guide")]
    told = "Precision against recall as the threshold falls; the level line is the share of positives."
    svg = chart(
        "pr",
        "Precision and recall",
        told,
        Axis("recall", *UNIT),
        Axis("precision", *UNIT),
        [*marks, Line(x, y)],
    )
    found = {limit: next((b for a, b in zip(x, y, strict=True) if a >= limit), None) for limit in RECALLS}
    half = found[0.5]
    reading = "" if half is None else f"Finding half of the positives, {_percent(half)} of the calls are right. "
    reading += "" if share is None else f"Dashed: the share of positives, {_percent(share)}."
    rows = [[_percent(limit), _percent(value)] for limit, value in found.items() if value is not None]
    head = ("positives found at least", "of the calls right")
    return Plot("Precision and recall", f"{reading.strip()}{_shaded(band)}", svg, head, rows)


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
        verdict = f"{above} above the line, {below} below it, the other {len(bins) - above - below} hold it"
    reading = (
        f"{len(bins)} bins of equally many rows with 95 % intervals, each by itself: {verdict}. "
        "On the dashed line a probability is true."
    )
    rows = [
        [f"{one['n']:,}", _percent(one["predicted"]), _percent(one["observed"]),
         f"{_percent(one['low'])} … {_percent(one['high'])}"]
        for one in bins
    ]  # fmt: skip
    return Plot("Calibration", reading, svg, ("rows", "predicted", "observed", "interval"), rows)


def _residuals(
    points: Numbers, bins: Sequence[Mapping[str, float]], metrics: Mapping[str, Any], target: str
) -> list[Plot]:
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
    at, low_, middle, high_ = ([one[name] for one in bins] for name in ("predicted", "low", "median", "high"))
    over: list[Any] = [Area(at, high_, at, low_), Line(at, middle)] if bins else []
    second = chart(
        "residuals",
        "Residuals",
        "Observed minus predicted against predicted; an even band around zero is what one hopes for.",
        Axis("predicted", left, right),
        Axis("observed − predicted", bottom, top),
        [Line((left, right), (0.0, 0.0), "guide"), Dots(said, rest, style="cloud"), *over],
    )
    above = sum(one > 0 for one in rest) / len(rest)
    return [
        Plot("Observed against predicted", f"{target}: {shown} Dashed: exact.", first),
        Plot(
            "Residuals by prediction",
            f"{_percent(above)} lie above zero: the model said too little there."
            + (" Line and shade: median and middle half of ten parts with equally many rows." if bins else ""),
            second,
            ("rows", "predicted, mean", "median residual", "middle half"),
            [
                [f"{one['n']:,}", number(one["predicted"]), number(one["median"]),
                 f"{number(one['low'])} … {number(one['high'])}"]
                for one in bins
            ],
        ),
    ]  # fmt: skip


def threshold_plots(report: Mapping[str, Any]) -> list[Plot]:
    """What each threshold would mean, and the chosen one.

    Parameters
    ----------
    report : dict
        Of `stages.decide`: "curve", "threshold", "metric_shown".
    """
    curve, at = report.get("curve") or {}, report.get("threshold")
    if not curve or at is None:
        return []
    x = curve["threshold"]
    axis = Axis("threshold", *padded([*x, at]))
    if all(0 <= one <= 1.001 for one in x):
        axis = Axis("threshold", *UNIT)
    shares = [("recall", "main"), ("precision", "second"), ("rate", "third")]
    names = {"rate": "called positive"}
    near = sorted(_nearest(x, at))
    rows = [
        [number(x[i]), *(_percent(math.nan if curve[key][i] is None else curve[key][i]) for key, _ in shares)]
        for i in near
    ]
    svg = chart(
        "threshold",
        "Threshold",
        f"Recall, precision and the share called positive by threshold; {number(at)} is chosen.",
        axis,
        Axis("share", *UNIT),
        [*(Line(x, curve[key], style, names.get(key, key)) for key, style in shares), Rule(at, number(at))],
    )
    head = ("threshold", "recall", "precision", "called positive")
    found = [
        Plot("What each threshold means", f"The upright line is the threshold in use, {number(at)}.", svg, head, rows)
    ]
    if "metric" in curve:
        found.append(_metric_by_threshold(report, x, curve["metric"], axis, near))
    return found


def _metric_by_threshold(
    report: Mapping[str, Any], x: Sequence[float], y: Sequence[float | None], axis: Axis, near: Sequence[int]
) -> Plot:
    """The rule's metric, cost or gain, by threshold."""
    name, at = str(report.get("metric_shown") or "metric"), report["threshold"]
    svg = chart(
        "metric-by-threshold",
        f"{name} by threshold",
        f"{name} on out-of-fold rows by threshold; the chosen one is marked.",
        axis,
        Axis(name, *padded([value for value in y if value is not None])),
        [Line(x, y), Rule(at, number(at))],
    )
    value = report.get("value")
    flat = [one for one in (*y, value) if one is not None]
    reading = f"{name} is {number(value)} at {number(at)}" if value is not None else f"{name} at each threshold"
    span = f"; over all thresholds it lies between {number(min(flat))} and {number(max(flat))}." if flat else "."
    return Plot(
        f"{name} by threshold", reading + span, svg, ("threshold", name), [[number(x[i]), number(y[i])] for i in near]
    )


def _nearest(x: Sequence[float], at: float) -> set[int]:
    """Positions for a table: evenly spread, and the one next to the chosen value."""
    spread = {round(i * (len(x) - 1) / (MAX_ROWS - 2)) for i in range(MAX_ROWS - 1)}
    return spread | {min(range(len(x)), key=lambda i: abs(x[i] - at))}


def dependence_plots(found: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """Partial dependence of numbers, each with the deciles of its values on the floor.

    Parameters
    ----------
    found : sequence of dict
        As `stages.dependence` gives them; those of categories are told as a table, see `report_figures.levels`.
    """
    span = [value for one in found for line in one["lines"] for value in (*line["low"], *line["high"])]
    drawn = []
    for i, one in enumerate(found):
        if one["kind"] == "numeric":
            drawn.append(_dependence(one, f"dependence-{i}", padded(span)))
    return drawn


def _dependence(one: Mapping[str, Any], name: str, span: tuple[float, float]) -> Plot:
    x, lines = one["at"], one["lines"]
    band = [Area(x, lines[0]["high"], x, lines[0]["low"])] if len(lines) == 1 else []
    svg = chart(
        name,
        f"{one['of']} by {one['column']}",
        f"Mean {one['of']} when {one['column']} is set to a value in every row.",
        Axis(one["column"], *padded(x, 0.02)),
        Axis(one["of"], *span),
        [
            *band,
            *(Line(x, line["mean"], STYLES[i % 4], line["name"]) for i, line in enumerate(lines)),
            Rug(one["deciles"]),
        ],
    )
    first = lines[0]["mean"]
    reading = (
        "" if len(lines) > 1 else f"From {number(first[0])} at {value(x[0])} to {number(first[-1])} at {value(x[-1])}."
    )
    keep = sorted({round(i * (len(x) - 1) / (MAX_ROWS - 1)) for i in range(MAX_ROWS)})
    head = (one["column"], *(line["name"] or "mean" for line in lines))
    return Plot(
        one["column"], reading, svg, head, [[value(x[i]), *(number(line["mean"][i]) for line in lines)] for i in keep]
    )


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
