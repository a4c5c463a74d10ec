"""What came of a run, as the Markdown of an artifact: pure, from the answers of its steps."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

MOST_STEPS = 100
"""Steps that the table has at most."""


def slug(text: str) -> str:
    """A name as Prefect takes it for artifacts and blocks: lower-case letters, digits and dashes.

    Examples
    --------
    >>> slug("Churn_weekly"), slug("DATABASE_URL")
    ('churn-weekly', 'database-url')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "flow"


def markdown(flow: str, root: str, answers: Iterable[Mapping[str, Any]]) -> str:
    """Verdict, version, figures and links, then a line a step.

    Parameters
    ----------
    flow : str
        Its name.
    root : str
        The project's folder, below which a version's report lies.
    answers : iterable of dict
        What the worker told, in the order in which the steps ended.

    Examples
    --------
    >>> print(markdown("tiny", "/project", [{"run": "ab12", "steps": {"one": {"state": "done", "wall_s": 2.0}}}]))
    # tiny
    <BLANKLINE>
    | step | state | s | MiB | artifacts |
    |---|---|--:|--:|---|
    | one | done | 2 | 0 |  |
    <BLANKLINE>
    `penstock show ab12`
    """
    told = list(answers)
    run = next((answer["run"] for answer in told if answer.get("run")), "")
    lines = [f"# {_plain(flow)}", "", *_of_version(flow, root, told), *_of_steps(told)]
    return "\n".join([*lines, "", f"`penstock show {run}`"])


def _of_version(flow: str, root: str, told: list[Mapping[str, Any]]) -> list[str]:
    """The version that came of it, its verdict and where its report lies; nothing for a flow that has none."""
    version = _last(told, "version")
    verdict: Mapping[str, Any] = _last(told, "verdict") or {}
    lines = []
    if version:
        stands = "champion" if any(one.get("champion") for one in told) else "challenger"
        lines += [f"**{version}** · {stands}", ""]
    if verdict:
        lines += [f"**{_plain(verdict['outcome'])}**: {_plain(verdict['sentence'])}", ""]
    if verdict.get("rules"):
        lines += ["| rule | outcome | value | interval | required | rows |", "|---|---|--:|--:|--:|--:|"]
        lines += [_rule(one) for one in verdict["rules"]] + [""]
    if version:
        page = os.path.join(root, ".penstock", "reports", f"{flow}-{str(version).rpartition('@')[2]}.html")
        link = f"[report](file://{quote(page)})" if os.path.exists(page) else "report"
        lines += [f"{link}: `penstock report {version}`", ""]
    return lines


def _rule(rule: Mapping[str, Any]) -> str:
    figures: Mapping[str, Any] = rule.get("figures") or {}
    interval = f"{_number(figures['low'])} … {_number(figures['high'])}" if {"low", "high"} <= figures.keys() else ""
    cells = [_number(figures.get("value")), interval, _number(figures.get("required")), _number(figures.get("n"))]
    return f"| {_plain(rule.get('text', ''))} | {_plain(rule.get('outcome', ''))} | {' | '.join(cells)} |"


def _of_steps(told: list[Mapping[str, Any]]) -> list[str]:
    steps = {name: step for answer in told for name, step in answer.get("steps", {}).items()}
    lines = ["| step | state | s | MiB | artifacts |", "|---|---|--:|--:|---|"]
    for name, step in list(steps.items())[:MOST_STEPS]:
        made = ", ".join(f"`{str(one['digest'])[:12]}`" for one in step.get("outputs", {}).values())
        figures = f"{_number(step.get('wall_s'))} | {step.get('peak_bytes', 0) >> 20}"
        lines.append(f"| {_plain(name)} | {_plain(step['state'])} | {figures} | {made} |")
    if len(steps) > MOST_STEPS:
        lines.append(f"| and {len(steps) - MOST_STEPS} more | | | | |")
    return lines


def _last(told: list[Mapping[str, Any]], what: str) -> Any:
    return next((answer[what] for answer in reversed(told) if answer.get(what)), None)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""


def _plain(text: Any) -> str:
    """Text that Markdown takes as text, on one line."""
    return re.sub(r"([\\`*_|<\[])", r"\\\1", " ".join(str(text).split()))
