"""The columns that a model learned from, in small: histograms, commonest categories, and how far they moved."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

from markupsafe import Markup

from penstock.lifecycle.charts import histogram_bar
from penstock.lifecycle.report_figures import percent, value

BINS = 24
FEW = 12
"""A number with at most so many values has a bar for each."""
TAIL = 0.005
"""Share on either side of a number that its histogram leaves out, so that a far value does not hide the rest."""
TOP = 3
RARE = 10
"""A text that fewer rows share may name a person; it stands in no report."""
LEVEL = 0.01
"""Chance that any column at all is marked as moved where none has."""
MAX_MOVED = 20

Profile = Mapping[str, Any]


def column(profile: Profile) -> dict[str, Any]:
    """A column of training rows in a few words: what is missing, where it lies, and its shape drawn.

    Parameters
    ----------
    profile : dict
        As `stats.profile` writes it.

    Returns
    -------
    dict
        "missing" (a share, "" for none), "said", "drawn".
    """
    n, missing = int(profile["n"]), int(profile["missing"])
    told = _numbers(profile) if profile["kind"] == "numeric" else _categories(profile)
    return {"missing": percent(missing / n) if n and missing else "", **told}


def _numbers(profile: Profile) -> dict[str, Any]:
    points = _points(profile)
    if not points:
        return {"said": "", "drawn": ""}
    middle, low, high = (_quantile(points, q) for q in (0.5, TAIL, 1 - TAIL))
    said = f"{value(points[0][0])} … {value(points[-1][0])}, median {value(middle)}"
    heights = [mass for _, mass in points] if len(points) <= FEW else _heights(points, low, high)
    return {"said": said, "drawn": Markup(histogram_bar(heights))}  # noqa: S704  our own drawing


def _points(profile: Profile) -> list[tuple[float, float]]:
    """Values with the rows at each, those between two kept values counted at the upper one."""
    values = [float(one) for one in profile["values"]]
    between = profile.get("between") or [0] * len(values)
    rows = [at + below for at, below in zip(profile["counts"], between, strict=True)]
    return [(one, mass) for one, mass in zip(values, rows, strict=True) if math.isfinite(one)]


def _quantile(points: Sequence[tuple[float, float]], q: float) -> float:
    reached = list(itertools.accumulate(mass for _, mass in points))
    return points[min(bisect.bisect_left(reached, q * reached[-1]), len(points) - 1)][0]


def _heights(points: Sequence[tuple[float, float]], low: float, high: float) -> list[float]:
    heights = [0.0] * BINS
    for one, mass in points:
        if low <= one <= high and high > low:
            heights[min(int((one - low) / (high - low) * BINS), BINS - 1)] += mass
    return heights


def _categories(profile: Profile) -> dict[str, Any]:
    counts, n = profile["counts"], int(profile["n"]) - int(profile["missing"])
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [(name, rows) for name, rows in ranked if rows >= RARE][:TOP]
    distinct = len(counts) + int(profile.get("other_categories", 0))
    parts = [f"{name} {percent(rows / n)}" for name, rows in shown]
    rest = distinct - len(shown)
    if rest:
        parts.append(f"{rest:,} more" if shown else f"{distinct:,} different texts, none on {RARE} rows or more")
    drawn = histogram_bar([rows for _, rows in ranked[:BINS]])
    return {"said": " · ".join(parts), "drawn": Markup(drawn)}  # noqa: S704  our own drawing


def moved(now: Mapping[str, Profile], before: Mapping[str, Profile]) -> dict[str, Any]:
    """How far each column moved since another training table, the furthest first.

    For numbers the distance is Kolmogorov and Smirnov's, the largest gap between the two distribution functions; a
    column is marked where it exceeds what two independent samples show by chance (Massart 1990, Annals of Probability
    18:1269, for each of them). For categories it is half the sum of the gaps between shares (total variation), marked
    by the chi-squared test of homogeneity (its quantile after Wilson & Hilferty 1931). The level is `LEVEL` for all
    columns together (Bonferroni). Tables that share rows move less by chance than that, so the marks come late.

    Parameters
    ----------
    now, before : dict
        Column → profile.

    Returns
    -------
    dict
        "rows": {"column", "distance", "marked"} of at most `MAX_MOVED` columns; "n", "n_marked", "more", and "gone" and
        "new" columns.
    """
    both = [name for name in now if name in before and now[name]["kind"] == before[name]["kind"]]
    found: list[dict[str, Any]] = []
    for name in both:
        measure = _numeric_distance if now[name]["kind"] == "numeric" else _categorical_distance
        distance, marked = measure(now[name], before[name], LEVEL / len(both))
        found.append({"column": name, "distance": distance, "marked": marked})
    found.sort(key=lambda one: (not one["marked"], -one["distance"], one["column"]))
    return {
        "rows": found[:MAX_MOVED],
        "more": max(len(found) - MAX_MOVED, 0),
        "n": len(both),
        "n_marked": sum(one["marked"] for one in found),
        "gone": [name for name in before if name not in now],
        "new": [name for name in now if name not in before],
    }


def _numeric_distance(now: Profile, before: Profile, level: float) -> tuple[float, bool]:
    a, b = _points(now), _points(before)
    n, m = (sum(mass for _, mass in points) for points in (a, b))
    if not n or not m:
        return 0.0, False
    distance = gap = 0.0
    steps = sorted([(one, mass / n) for one, mass in a] + [(one, -mass / m) for one, mass in b])
    for _, same in itertools.groupby(steps, key=lambda step: step[0]):
        gap += sum(height for _, height in same)
        distance = max(distance, abs(gap))
    bound = math.sqrt(math.log(4 / level) / 2) * (1 / math.sqrt(n) + 1 / math.sqrt(m))
    return distance, distance > bound


def _categorical_distance(now: Profile, before: Profile, level: float) -> tuple[float, bool]:
    a, b = ({**one["counts"], "": one.get("other", 0)} for one in (now, before))
    n, m = sum(a.values()), sum(b.values())
    if not n or not m:
        return 0.0, False
    names = sorted({*a, *b})
    distance = sum(abs(a.get(name, 0) / n - b.get(name, 0) / m) for name in names) / 2
    cells = [(a.get(name, 0), b.get(name, 0)) for name in names if a.get(name, 0) + b.get(name, 0) > 0]
    statistic = sum(
        (x - (x + y) * n / (n + m)) ** 2 / ((x + y) * n / (n + m))
        + (y - (x + y) * m / (n + m)) ** 2 / ((x + y) * m / (n + m))
        for x, y in cells
    )
    return distance, len(cells) > 1 and statistic > _chi_squared(len(cells) - 1, 1 - level)


def _chi_squared(df: int, q: float) -> float:
    """Quantile of the chi-squared law, after Wilson & Hilferty.

    Examples
    --------
    >>> round(_chi_squared(5, 0.99), 1)
    15.1
    """
    spread = 2 / (9 * df)
    return float(df * (1 - spread + NormalDist().inv_cdf(q) * math.sqrt(spread)) ** 3)
