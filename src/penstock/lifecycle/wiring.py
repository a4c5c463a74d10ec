"""The steps behind a version as a drawing: what went into what, from the sources to the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from penstock.core.run import Result
from penstock.lifecycle.charts import harmless

MAX_STEPS = 40
"""Of more steps there is no drawing: it could not be read."""
BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y = 112.0, 26.0, 34.0, 12.0
MAX_NAME = 15


def edges(results: Mapping[str, Result]) -> list[tuple[str, str]]:
    """Which step's output went into which step, by the digests of what they took and gave.

    Parameters
    ----------
    results : dict
        Step → its result.
    """
    made: dict[str, str] = {}
    for step, result in results.items():
        for output in result.outputs:
            made.setdefault(output.digest, step)
    found = [
        (made[digest], step) for step, result in results.items() for digest in _taken(result.tree) if digest in made
    ]
    return [(a, b) for a, b in dict.fromkeys(found) if a != b]


def _taken(tree: Any) -> list[str]:
    """Digests of the artifacts in an encoded argument tree."""
    if isinstance(tree, list):
        if len(tree) == 3 and tree[0] == "artifact":
            return [str(tree[2])]
        return [digest for part in tree for digest in _taken(part)]
    return [digest for part in tree.values() for digest in _taken(part)] if isinstance(tree, dict) else []


def drawing(results: Mapping[str, Result], name: str) -> str:
    """The steps in columns, each to the right of all that it needs; "" for none, or for too many to be read.

    Parameters
    ----------
    results : dict
        Step → its result, in the order in which they are told.
    name : str
        What all of it leads to.
    """
    if not results or len(results) > MAX_STEPS:
        return ""
    known = edges(results)
    last = [step for step in results if not any(a == step for a, _ in known)]
    arrows = [*known, *((step, name) for step in last)]
    columns = _columns([*results, name], arrows)
    place = {step: (x, y) for x, steps in enumerate(columns) for y, step in enumerate(steps)}
    tallest = max(len(steps) for steps in columns)
    width = len(columns) * (BOX_WIDTH + GAP_X) - GAP_X
    height = tallest * (BOX_HEIGHT + GAP_Y) - GAP_Y
    svg = Element("svg", {"class": "wiring", "viewBox": f"-2 -2 {width + 4:g} {height + 4:g}", "role": "img"})
    svg.set("aria-labelledby", "wiring-title wiring-desc")
    svg.set("style", f"max-width:{width + 4:g}px;min-width:{min(width, 560):g}px")
    _text(svg, "title", "What went into what")
    _text(svg, "desc", "; ".join(f"{a} into {b}" for a, b in arrows))
    svg[0].set("id", "wiring-title")
    svg[1].set("id", "wiring-desc")
    at = {step: _corner(x, y, len(columns[x]), tallest) for step, (x, y) in place.items()}
    for a, b in arrows:
        _arrow(svg, at[a], at[b])
    for step in place:
        _box(svg, step, at[step], "box result" if step == name else "box")
    return tostring(svg, encoding="unicode")


def _columns(steps: list[str], arrows: list[tuple[str, str]]) -> list[list[str]]:
    """Steps by the length of the longest way to them; what stands on a circle of digests stays where it was."""
    depth = dict.fromkeys(steps, 0)
    for _ in steps:
        for a, b in arrows:
            depth[b] = min(max(depth[b], depth[a] + 1), len(steps))
    found: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for step in steps:
        found[depth[step]].append(step)
    return [column for column in found if column]


def _corner(x: int, y: int, n: int, tallest: int) -> tuple[float, float]:
    offset = (tallest - n) * (BOX_HEIGHT + GAP_Y) / 2
    return x * (BOX_WIDTH + GAP_X), offset + y * (BOX_HEIGHT + GAP_Y)


def _arrow(svg: Element, a: tuple[float, float], b: tuple[float, float]) -> None:
    x1, y1, x2, y2 = a[0] + BOX_WIDTH, a[1] + BOX_HEIGHT / 2, b[0], b[1] + BOX_HEIGHT / 2
    middle = x2 - GAP_X / 2
    path = f"M{x1:g},{y1:g}H{x1 + GAP_X / 4:g}C{middle:g},{y1:g} {middle:g},{y2:g} {x2:g},{y2:g}"
    SubElement(svg, "path", {"class": "arrow", "d": path})


def _box(svg: Element, name: str, at: tuple[float, float], kind: str) -> None:
    box = {"class": kind, "x": f"{at[0]:g}", "y": f"{at[1]:g}", "width": f"{BOX_WIDTH:g}", "height": f"{BOX_HEIGHT:g}"}
    SubElement(svg, "rect", {**box, "rx": "4"})
    shown = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
    place = {"x": f"{at[0] + BOX_WIDTH / 2:g}", "y": f"{at[1] + BOX_HEIGHT / 2 + 4:g}", "text-anchor": "middle"}
    _text(svg, "text", shown).attrib.update(place)


def _text(parent: Element, tag: str, text: str) -> Element:
    element = SubElement(parent, tag)
    element.text = harmless(text, 2_000)
    return element
