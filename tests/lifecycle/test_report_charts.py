"""The drawings: well-formed, told to screen readers, within their frame, and deaf to hostile text."""

import itertools
import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.lifecycle import charts
from penstock.lifecycle.charts import Axis, Dots, Line, chart, harmless, padded, range_bar, ticks

UNIT = Axis("share", 0.0, 1.0)
CANARY = '"><img src=x onerror=alert(1)></svg><script>alert(2)</script>{{7*7}}\u2028\u202e\x00'
finite = st.floats(-1e12, 1e12)


def drawn(svg):
    return ET.fromstring(svg)


def coordinates(svg):
    text = " ".join(re.findall(r'(?:x1|x2|y1|y2|cx|cy|points)="([^"]*)"', svg))
    return [float(one) for one in re.findall(r"-?[\d.]+", text)]


def test_a_chart_is_told_to_those_who_do_not_see_it():
    svg = drawn(chart("roc", "ROC curve", "It bends.", UNIT, UNIT, [Line([0, 1], [0, 1])]))
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby").split() == [svg.find("title").get("id"), svg.find("desc").get("id")]
    assert (svg.find("title").text, svg.find("desc").text) == ("ROC curve", "It bends.")


def test_text_from_data_never_becomes_markup_nor_turns_a_line_round():
    axis = Axis(CANARY, 0.0, 1.0)
    svg = chart("a", CANARY, CANARY, axis, axis, [Dots([0.5], [0.5])])
    tags = {element.tag for element in drawn(svg).iter()}
    assert tags == {"svg", "title", "desc", "line", "text", "circle"}
    assert not set("\u2028\u202e\x00") & set(svg)


def test_without_the_cleaning_the_marks_of_direction_would_be_on_the_page(monkeypatch):
    monkeypatch.setattr(charts, "harmless", lambda text, limit=300: text.replace("\x00", ""))
    assert "\u202e" in chart("a", CANARY, "", UNIT, UNIT, [])


@given(st.lists(st.tuples(finite, finite), max_size=30), finite, finite)
@example([], 0.0, 5e-324)
@example([(1e308, -1e308), (0.0, 0.0)], -1.7e308, 1.7e308)
def test_every_mark_lies_within_the_frame_whatever_the_numbers(points, one, other):
    x, y = [p[0] for p in points], [p[1] for p in points]
    axis = Axis("x", min(one, other), max(one, other))
    svg = chart("a", "t", "d", axis, axis, [Line(x, y), Dots(x, y, y, x, "cloud")])
    assert all(-10 <= place <= charts.WIDTH + 10 for place in coordinates(svg))
    drawn(svg)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_value_that_is_no_number_is_left_out(value):
    svg = chart("a", "t", "d", UNIT, UNIT, [Line([0, 0.5, 1], [0, value, 1]), Dots([0.5, 0.7], [value, 0.7])])
    assert svg.count("<circle") == 1
    assert len(re.search(r'points="([^"]*)"', svg)[1].split()) == 2
    assert "nan" not in svg
    assert "inf" not in svg


@given(finite, st.floats(1e-9, 1e9))
def test_ticks_are_round_evenly_spaced_and_few(low, width):
    high = low + width
    found = ticks(low, high)
    assert len(found) <= charts.MAX_TICKS + 1
    slack = max(abs(low), abs(high), width) * 1e-9
    assert all(low - slack <= tick <= high + slack for tick in found)
    gaps = [b - a for a, b in itertools.pairwise(found)]
    assert all(math.isclose(gap, gaps[0], rel_tol=1e-6, abs_tol=4 * slack) for gap in gaps)


def test_ticks_of_no_range():
    assert ticks(3.0, 3.0) == [3.0]
    assert ticks(math.nan, 1.0) == []


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=8))
@example([1.7976931348623157e308, -9.98e291])
@example([0.0, 5e-324])
def test_a_padded_range_is_a_range_that_holds_every_number(values):
    low, high = padded(values)
    assert low <= high
    assert all(low <= value <= high for value in values if math.isfinite(value))


def test_a_range_bar_shows_an_open_bound_to_the_edge_and_keeps_what_is_beyond_within():
    svg = drawn(range_bar(None, 5.0, 9.0, (0.0, 1.0), guide=-4.0))
    assert svg.get("aria-hidden") == "true"
    bar = next(one for one in svg.iter("line") if one.get("class") == "bar")
    assert (float(bar.get("x1")), float(bar.get("x2"))) == (4.0, charts.BAR_WIDTH - 4)
    assert float(svg.find("circle").get("cx")) == charts.BAR_WIDTH - 4
    assert not list(drawn(range_bar(0.0, None, 1.0, (0.0, 1.0))).iter("circle"))
    assert len(list(drawn(range_bar(0.2, 0.2, 0.2, (0.2, 0.2))).iter("circle"))) == 1


@given(st.text())
def test_harmless_text_keeps_letters_and_is_bounded(text):
    clean = harmless(text, 50)
    assert len(clean) <= 50
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", clean)
    assert harmless(clean, 50) == clean
