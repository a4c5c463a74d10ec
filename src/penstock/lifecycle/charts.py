"""Small charts as SVG text: lines, points with error bars, ranges. Deterministic, styled by the page's own CSS.

Built as an element tree, so that no text from data can become markup.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Union
from xml.etree.ElementTree import Element, SubElement, tostring

WIDTH, HEIGHT = 360.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 12.0, 10.0, 44.0
BAR_WIDTH, BAR_HEIGHT = 180.0, 18.0
SPARK_WIDTH, SPARK_HEIGHT = 110.0, 24.0
FEW_BARS = 12
"""Up to so many bars stand apart."""
MAX_TICKS = 6
_UNSEEN = {
    **dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}"),
    # Marks that turn the direction of what follows, and the byte order mark: they can make a page say what it does not.
    **dict.fromkeys(
        (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF), "\N{REPLACEMENT CHARACTER}"
    ),
    **dict.fromkeys((0x2028, 0x2029), " "),
    **dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}"),
}


def harmless(text: str, limit: int = 300) -> str:
    r"""A text from data without control characters and marks of direction, of bounded length.

    Escaping is the template's and the element tree's part.

    Examples
    --------
    >>> harmless("a\x00b\u202ec\u2028d"), harmless("x" * 9, 4)
    ('a�b�c d', 'xxx…')
    """
    text = text.translate(_UNSEEN)
    return text if len(text) <= limit else text[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a chart: its label and the range that it shows."""

    label: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points; `style` is "main", "guide" or "second" … "fourth", `name` stands at its end."""

    x: Sequence[float]
    y: Sequence[float | None]
    style: str = "main"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Area:
    """What lies between two lines, such as a band; `style` is "band"."""

    x: Sequence[float]
    y: Sequence[float]
    back_x: Sequence[float]
    back_y: Sequence[float]


@dataclass(frozen=True, slots=True)
class Rule:
    """An upright line at a value of x, with a word at its top."""

    x: float
    name: str


@dataclass(frozen=True, slots=True)
class Rug:
    """Short strokes on the floor: where values of x lie."""

    x: Sequence[float]


Mark = Union["Line", "Area", "Rule", "Rug", "Dots"]


@dataclass(frozen=True, slots=True)
class Dots:
    """Points, with error bars along y where `low` and `high` are given; `style` is "main" or "cloud"."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    style: str = "main"


def chart(name: str, title: str, told: str, x: Axis, y: Axis, marks: Sequence[Mark]) -> str:
    """A chart with two axes.

    Parameters
    ----------
    name : str
        Unique on the page: the ids of title and description begin with it.
    title, told : str
        What screen readers say: the chart's name, and what is to be seen on it.
    x, y : Axis
    marks : sequence of Line, Area, Rule, Rug or Dots
        Drawn in this order; values that are not finite, or lie outside both ranges by far, are left out.

    Returns
    -------
    str
        An <svg> element.

    Examples
    --------
    >>> svg = chart("roc", "ROC", "A curve.", Axis("x", 0, 1), Axis("y", 0, 1), [Line([0, 1], [0, 1])])
    >>> svg.startswith('<svg class="chart"'), "<script" in svg
    (True, False)
    """
    svg = _root("chart", WIDTH, HEIGHT)
    svg.set("role", "img")
    svg.set("aria-labelledby", f"{name}-title {name}-desc")
    _text(svg, "title", title).set("id", f"{name}-title")
    _text(svg, "desc", told).set("id", f"{name}-desc")
    place = _Place(x, y)
    _axes(svg, place)
    for mark in marks:
        _DRAWN[type(mark)](svg, place, mark)
    _names(svg, place, [mark for mark in marks if isinstance(mark, Line) and mark.name])
    return tostring(svg, encoding="unicode")


def range_bar(
    low: float | None,
    value: float | None,
    high: float | None,
    span: tuple[float, float],
    guide: float | None = None,
    style: str = "main",
) -> str:
    """One figure with its interval on a scale that several share; the numbers stand beside it, so readers skip it.

    Parameters
    ----------
    low, value, high : float or None
        An open bound reaches to the edge.
    span : (float, float)
        What the whole width stands for.
    guide : float, optional
        A value to compare with: an upright stroke.
    style : str
        "main", "other" or "faint".
    """
    svg = _root(f"range {style}", BAR_WIDTH, BAR_HEIGHT)
    svg.set("aria-hidden", "true")
    first, last = span
    middle = BAR_HEIGHT / 2

    def at(number: float) -> float:
        share = (number - first) / (last - first) if last > first else 0.5
        return 4 + min(max(share, 0.0), 1.0) * (BAR_WIDTH - 8)

    _stroke(svg, "rail", 4, middle, BAR_WIDTH - 4, middle)
    if guide is not None and math.isfinite(guide):
        _stroke(svg, "guide", at(guide), 1, at(guide), BAR_HEIGHT - 1)
    if value is not None and math.isfinite(value):
        _stroke(svg, "bar", at(first if low is None else low), middle, at(last if high is None else high), middle)
        SubElement(svg, "circle", {"class": "dot", "cx": _n(at(value)), "cy": _n(middle), "r": "4"})
    return tostring(svg, encoding="unicode")


def histogram_bar(heights: Sequence[float]) -> str:
    """A histogram the size of a word, as one path; the numbers stand beside it, so readers skip it.

    Parameters
    ----------
    heights : sequence of float
        Not negative; the tallest fills the height.
    """
    svg = _root("histogram", SPARK_WIDTH, SPARK_HEIGHT)
    svg.set("aria-hidden", "true")
    most, width = max(heights, default=0.0), SPARK_WIDTH / max(len(heights), 1)
    gap, floor = (2.0 if len(heights) <= FEW_BARS else 0.0), _n(SPARK_HEIGHT)
    bars = []
    for i, height in enumerate(heights):
        top = SPARK_HEIGHT - (height / most * (SPARK_HEIGHT - 1) if most > 0 else 0.0)
        bars.append(f"M{_n(i * width)},{floor}V{_n(top)}H{_n((i + 1) * width - gap)}V{floor}")
    SubElement(svg, "path", {"class": "bar", "d": "".join(bars)})
    return tostring(svg, encoding="unicode")


def ticks(low: float, high: float, most: int = MAX_TICKS) -> list[float]:
    """Round numbers within a range, 1, 2 or 5 times a power of ten apart.

    Examples
    --------
    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(-30.0, 970.0)
    [0.0, 200.0, 400.0, 600.0, 800.0]
    """
    width = high - low
    if not (math.isfinite(width) and width > 1e-300):  # below that, no step fits between two floats
        return [low] if math.isfinite(low) else []
    rough = width / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(count * step, 12) for count in range(first, last + 1)]


def padded(values: Sequence[float], share: float = 0.04) -> tuple[float, float]:
    """The range of some values with a margin on both sides; a unit around a single value.

    Examples
    --------
    >>> padded([1.0, 3.0], 0.5)
    (0.0, 4.0)
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    if low == high:
        return low - 0.5, low + 0.5
    margin = high * share - low * share  # no difference of two floats: that of the largest is infinite
    return max(low - margin, -sys.float_info.max), min(high + margin, sys.float_info.max)


class _Place:
    """From values to places in the drawing."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self.x, self.y = x, y

    def across(self, value: float) -> float:
        return LEFT + _share(value, self.x) * (WIDTH - LEFT - RIGHT)

    def up(self, value: float) -> float:
        return HEIGHT - BOTTOM - _share(value, self.y) * (HEIGHT - TOP - BOTTOM)


def _share(value: float, axis: Axis) -> float:
    width = axis.high / 2 - axis.low / 2  # halves: the difference of two large floats is infinite
    return min(max((value / 2 - axis.low / 2) / width, -0.02), 1.02) if width > 0 else 0.5


def _axes(svg: Element, place: _Place) -> None:
    floor, side = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value in ticks(place.y.low, place.y.high):
        _stroke(svg, "grid", LEFT, place.up(value), side, place.up(value))
        _label(svg, _tick(value), LEFT - 6, place.up(value) + 4, "end")
    for value in ticks(place.x.low, place.x.high):
        _stroke(svg, "grid", place.across(value), TOP, place.across(value), floor)
        _label(svg, _tick(value), place.across(value), floor + 16, "middle")
    _stroke(svg, "axis", LEFT, floor, side, floor)
    _stroke(svg, "axis", LEFT, TOP, LEFT, floor)
    _label(svg, place.x.label, (LEFT + side) / 2, HEIGHT - 6, "middle", "name")
    upright = _label(svg, place.y.label, 0, 0, "middle", "name")
    upright.set("transform", f"translate(12 {_n((TOP + floor) / 2)}) rotate(-90)")


def _line(svg: Element, place: _Place, line: Line) -> None:
    pairs = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None and _known(x, y)]
    points = [(place.across(x), place.up(y)) for x, y in pairs]
    if len(points) > 1:
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        SubElement(svg, "polyline", {"class": f"line {line.style}", "points": path})


def _area(svg: Element, place: _Place, area: Area) -> None:
    there = [(place.across(x), place.up(y)) for x, y in zip(area.x, area.y, strict=True) if _known(x, y)]
    back = [(place.across(x), place.up(y)) for x, y in zip(area.back_x, area.back_y, strict=True) if _known(x, y)]
    path = " ".join(f"{_n(x)},{_n(y)}" for x, y in [*there, *reversed(back)])
    SubElement(svg, "polygon", {"class": "band", "points": path})


def _rule(svg: Element, place: _Place, rule: Rule) -> None:
    if not _known(rule.x):
        return
    at = place.across(rule.x)
    _stroke(svg, "rule", at, TOP, at, HEIGHT - BOTTOM)
    left = at > (LEFT + WIDTH - RIGHT) / 2
    _label(svg, rule.name, at + (-5 if left else 5), TOP + 11, "end" if left else "start", "name")


def _rug(svg: Element, place: _Place, rug: Rug) -> None:
    for x in rug.x:
        if _known(x) and place.x.low <= x <= place.x.high:
            _stroke(svg, "rug", place.across(x), HEIGHT - BOTTOM, place.across(x), HEIGHT - BOTTOM - 7)


def _names(svg: Element, place: _Place, lines: Sequence[Line]) -> None:
    """Each line's name at the point where it is furthest from the other lines."""
    shown = {i: [(x, y) for x, y in zip(one.x, one.y, strict=True) if y is not None] for i, one in enumerate(lines)}
    drawn = {i: [(place.across(x), place.up(y)) for x, y in points if _known(x, y)] for i, points in shown.items()}
    for i, line in enumerate(lines):
        others = [points for j, points in drawn.items() if j != i and points]
        inner = [(x, y) for x, y in drawn[i] if LEFT + 40 <= x <= WIDTH - RIGHT - 40] or drawn[i]
        if inner:
            x, y = max(inner, key=lambda point: min((_apart(point, points) for points in others), default=0.0))
            _label(svg, line.name, x, y - 7 if y > TOP + 20 else y + 16, "middle", f"name {line.style}")


def _apart(point: tuple[float, float], line: Sequence[tuple[float, float]]) -> float:
    """How far above or below a line a point lies."""
    return abs(point[1] - min(line, key=lambda other: abs(other[0] - point[0]))[1])


def _dots(svg: Element, place: _Place, dots: Dots) -> None:
    radius = "1.8" if dots.style == "cloud" else "3.5"
    for i, (x, y) in enumerate(zip(dots.x, dots.y, strict=True)):
        if not _known(x, y):
            continue
        if dots.low is not None and dots.high is not None:
            _stroke(svg, "error", place.across(x), place.up(dots.low[i]), place.across(x), place.up(dots.high[i]))
        circle = {"class": f"dot {dots.style}", "cx": _n(place.across(x)), "cy": _n(place.up(y)), "r": radius}
        SubElement(svg, "circle", circle)


_DRAWN: dict[type, Callable[[Element, _Place, Any], None]] = {
    Line: _line,
    Area: _area,
    Rule: _rule,
    Rug: _rug,
    Dots: _dots,
}


def _known(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)


def _root(kind: str, width: float, height: float) -> Element:
    # In HTML the name space is understood; without it the text stays short.
    return Element("svg", {"class": kind, "viewBox": f"0 0 {_n(width)} {_n(height)}"})


def _stroke(svg: Element, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
    SubElement(svg, "line", {"class": kind, "x1": _n(x1), "y1": _n(y1), "x2": _n(x2), "y2": _n(y2)})


def _label(svg: Element, text: str, x: float, y: float, anchor: str, kind: str = "tick") -> Element:
    element = _text(svg, "text", text, 60)
    element.attrib |= {"class": kind, "x": _n(x), "y": _n(y), "text-anchor": anchor}
    return element


def _text(parent: Element, tag: str, text: str, limit: int = 300) -> Element:
    element = SubElement(parent, tag)
    element.text = harmless(text, limit)
    return element


def _tick(value: float) -> str:
    """A tick's number: as short as it can be told.

    Examples
    --------
    >>> _tick(0.2), _tick(25000.0), _tick(-3.0)
    ('0.2', '25,000', '−3')
    """
    size = abs(value)
    text = f"{value:,.0f}" if 1000 <= size < 1e7 and value == int(value) else f"{value:.6g}"
    return text.replace("-", "−")


def _n(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")
