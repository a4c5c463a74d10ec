"""The page of a back-test: figures by origin and by age, drawn, with the numbers in tables below."""

from __future__ import annotations

import datetime as dt
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from penstock.lifecycle.charts import Axis, Dots, Line, chart, harmless, padded
from penstock.lifecycle.figures import number
from penstock.lifecycle.plots import Plot
from penstock.store.files import explain, write_durably

MAX_TEXT = 600
WAYS = ("gated", "never", "always")
_LINES = "Points: as gated, with 95 % intervals. Dashed: never retrained."
"""Told below a drawing: lines that lie on each other have no room for names."""
STYLES = {"never": "second", "always": "third"}


def write_page(found: Mapping[str, Any], path: str) -> str:
    """Write the page; readers see the old file or the new one, never a part.

    Parameters
    ----------
    found : dict
        The document of `stages.backtest.result`.
    path : str

    Returns
    -------
    str
        The absolute path.

    Raises
    ------
    StoreError
        Disk full, read-only, no such folder.
    """
    path = os.path.abspath(path)
    try:
        write_durably(path, page(found).encode("utf-8"), f"{path}.{os.getpid()}.part")
    except OSError as error:
        raise explain(error, "write the page", path) from error
    return path


def page(found: Mapping[str, Any]) -> str:
    """The page as text: one HTML file that loads nothing and holds no script."""
    drawn = [
        {"title": one.title, "reading": one.reading, "svg": Markup(one.svg), "head": one.head, "rows": one.rows}  # noqa: S704  our own drawing
        for one in plots(found)
    ]
    rows = [_row(one, found["primary"]) for one in found["origins"]]
    text: str = _template().render(found=found, plots=drawn, rows=rows, name=_shown(found)["name"])
    return text


def plots(found: Mapping[str, Any]) -> list[Plot]:
    """What came out, by origin and by age; nothing where nothing could be measured."""
    kept = [one for one in found["origins"] if not one["skipped"]]
    drawn = [_by_origin(found, kept)] if any(one["figures"] for one in kept) else []
    return [*drawn, *([_by_age(found)] if found["by_age"] else [])]


def _by_origin(found: Mapping[str, Any], kept: Sequence[Mapping[str, Any]]) -> Plot:
    name, zero = _shown(found)["name"], kept[0]["at"]
    series = {way: _points(found["primary"], way, kept, zero) for way in WAYS}
    values = [v for points in series.values() for _, one in points for v in (one["value"], one["low"], one["high"])]
    last = max((x for points in series.values() for x, _ in points), default=1.0)
    gated = series["gated"]
    svg = chart(
        "by-origin",
        f"{name} by origin",
        f"{name} on the rows that came in the window after each origin, for three ways to run the model.",
        Axis(f"days after {zero}", *padded([0.0, last])),
        Axis(name, *padded([v for v in values if v is not None])),
        [
            *(Line([x for x, _ in series[way]], [one["value"] for _, one in series[way]], STYLES[way])
              for way in STYLES),
            Line([x for x, _ in gated], [one["value"] for _, one in gated], "main"),
            _dots(gated),
        ],
    )  # fmt: skip
    return Plot(
        f"{name} after each origin",
        f"{_LINES} Dotted: always promoted.{_better(found)}",
        svg,
    )


def _by_age(found: Mapping[str, Any]) -> Plot:
    name = _shown(found)["name"]
    ways = {
        way: [(one["age_days"], one["figures"][way]["shown"]) for one in found["by_age"] if way in one["figures"]]
        for way in ("never", "gated")
    }
    values = [v for points in ways.values() for _, one in points for v in (one["value"], one["low"], one["high"])]
    ages = [age for points in ways.values() for age, _ in points]
    svg = chart(
        "by-age",
        f"{name} by age",
        f"{name} by the age of the model when the window began.",
        Axis("age of the model in days", *padded(ages)),
        Axis(name, *padded([v for v in values if v is not None])),
        [
            Line([x for x, _ in ways["never"]], [one["value"] for _, one in ways["never"]], "second"),
            Line([x for x, _ in ways["gated"]], [one["value"] for _, one in ways["gated"]], "main"),
            _dots(ways["gated"]),
        ],
    )  # fmt: skip
    head = ("age", "as gated", "never retrained", "than a fresh model")
    rows = [
        [days(one["age_days"]), interval(one["figures"].get("gated")), interval(one["figures"].get("never")),
         gain(one["than_fresh"])]
        for one in found["by_age"]
    ]  # fmt: skip
    reading = f"{_LINES} Over all windows at that age, weighted by rows.{_better(found)}"
    return Plot(f"{name} by age of the model", reading, svg, head, rows)


def _points(name: str, way: str, kept: Sequence[Mapping[str, Any]], zero: str) -> list[tuple[float, Mapping[str, Any]]]:
    start = dt.datetime.fromisoformat(zero)
    found = []
    for one in kept:
        figure = one["figures"].get(way, {}).get(name)
        if figure is not None and figure["value"] is not None:
            after = (dt.datetime.fromisoformat(one["at"]) - start).total_seconds() / 86_400
            found.append((after, figure["shown"]))
    return found


def _dots(points: Sequence[tuple[float, Mapping[str, Any]]]) -> Dots:
    known = [(x, one) for x, one in points if None not in (one["value"], one["low"], one["high"])]
    low, high = [one["low"] for _, one in known], [one["high"] for _, one in known]
    return Dots([x for x, _ in known], [one["value"] for _, one in known], low, high)


def _shown(found: Mapping[str, Any]) -> Mapping[str, Any]:
    shown: Mapping[str, Any] = found["overall"]["gated"][found["primary"]]["shown"]
    return shown


def _better(found: Mapping[str, Any]) -> str:
    return " Lower is better." if _shown(found)["lower_is_better"] else " Higher is better."


def _row(one: Mapping[str, Any], primary: str) -> list[str]:
    if one["skipped"]:
        return [one["at"], f"{one['n_known']:,}", "", "", "", f"skipped: {one['skipped']}"]
    figure = one["figures"].get("gated", {}).get(primary)
    shown = interval(figure) if figure is not None else one["errors"].get("gated", "no rows came")
    word = "promoted" if one["promoted"] else "kept"
    return [one["at"], f"{one['n_train']:,}", one["champion_at"] or "none", days(one["age_days"]), shown,
            f"{word}: {one['verdict']}"]  # fmt: skip


def days(age: float | None) -> str:
    """An age as people say it.

    Examples
    --------
    >>> days(30.0), days(0.5), days(None)
    ('30 d', '0.5 d', '')
    """
    return "" if age is None else f"{age:g} d"


def interval(figure: Mapping[str, Any] | None) -> str:
    """A figure with its interval, without its name; "–" where there is none.

    Examples
    --------
    >>> interval({"shown": {"value": 0.8431, "low": 0.8222, "high": None}}), interval(None)
    ('0.843', '–')
    """
    if figure is None:
        return "–"
    shown = figure["shown"]
    ends = "" if None in (shown["low"], shown["high"]) else f" [{number(shown['low'])}, {number(shown['high'])}]"
    return f"{number(shown['value'])}{ends}"


def gain(found: Mapping[str, Any] | None) -> str:
    """By how much one way is better than another, in the scorer's sign: above 0 is better.

    Examples
    --------
    >>> gain({"value": 0.02, "low": 0.01, "high": 0.03})
    'better by 0.020 [0.010, 0.030]'
    >>> gain({"value": -0.02, "low": -0.03, "high": 0.01})
    'worse by 0.020 [−0.010, 0.030]'
    """
    if found is None or found["value"] is None:
        return "–"
    if found["value"] == found["low"] == found["high"] == 0:
        return "is the fresh model"
    sign = -1 if found["value"] < 0 else 1
    ends = sorted((sign * found["low"], sign * found["high"]))
    word = "worse" if sign < 0 else "better"
    low, high = (number(end).replace("-", "\N{MINUS SIGN}") for end in ends)
    return f"{word} by {number(sign * found['value'])} [{low}, {high}]"


@functools.cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(os.path.join(os.path.dirname(__file__), "templates")),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else harmless(str(value), MAX_TEXT),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("backtest.html.j2")
