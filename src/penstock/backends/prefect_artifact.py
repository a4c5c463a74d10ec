"""What came of a run, as the Markdown of an artifact: pure, from the answers of its steps."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from penstock.core.secret import forms_of
from penstock.errors import bounded

MOST_STEPS = 100
"""Steps, rules and figures that a table has at most."""
MOST_DIGESTS = 3
"""Digests of a step that are shown."""
MOST_TEXT = 1_000
"""Characters of a sentence."""
UNSAFE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Characters that a server on PostgreSQL refuses, with all that is sent beside them, or that steer a terminal."""


def slug(text: str) -> str:
    """A name as Prefect takes it for artifacts and blocks: lower-case letters, digits and dashes.

    Examples
    --------
    >>> slug("Churn_weekly"), slug("DATABASE_URL")
    ('churn-weekly', 'database-url')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "flow"


def veil(secrets: Mapping[str, str]) -> Callable[[str], str]:
    """What makes a text fit to be shown: no value of a secret in any form, and no character that a server refuses.

    Parameters
    ----------
    secrets : dict
        Name → value.

    Examples
    --------
    >>> veil({"WORD": "opensesame"})("it is opensesame, or b3BlbnNlc2FtZQ=="), veil({})("a" + chr(0) + "b")
    ('it is <WORD>, or <WORD>==', 'a�b')
    """
    names = {form: name for name, value in secrets.items() if value for form in forms_of(value)}
    pattern = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True)))) if names else None

    def fit(text: str) -> str:
        shown = pattern.sub(lambda match: f"<{names[match[0]]}>", text) if pattern is not None else text
        return UNSAFE.sub("\ufffd", shown)

    return fit


def veiled(tree: Any, fit: Callable[[str], str]) -> Any:
    """The same for every text in plain data; the names of its fields stay."""
    if isinstance(tree, str):
        return fit(tree)
    if isinstance(tree, list | tuple):
        return [veiled(one, fit) for one in tree]
    return {name: veiled(one, fit) for name, one in tree.items()} if isinstance(tree, Mapping) else tree


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
    lines = [f"# {_plain(flow)}", "", *_of_version(flow, root, told), *_of_figures(told), *_of_steps(told)]
    return "\n".join([*lines, "", f"`penstock show {run}`" if run else "no step came as far as the ledger"])


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
    if rules := list(verdict.get("rules") or ()):
        lines += ["| outcome | value | interval | required | rows | rule |", "|---|--:|--:|--:|--:|---|"]
        lines += [_rule(one) for one in rules[:MOST_STEPS]] + [""]
    if version:
        page = os.path.join(root, ".penstock", "reports", f"{flow}-{str(version).rpartition('@')[2]}.html")
        # A browser opens no file from a page of a server: the path is to be copied.
        place = f" · `{page}` on the machine of the run" if os.path.exists(page) and "`" not in page else ""
        lines += [f"report: `penstock report {version}`{place}", ""]
    return lines


def _rule(rule: Mapping[str, Any]) -> str:
    figures: Mapping[str, Any] = rule.get("figures") or {}
    interval = f"{_number(figures['low'])} … {_number(figures['high'])}" if {"low", "high"} <= figures.keys() else ""
    cells = [_number(figures.get("value")), interval, _number(figures.get("required")), _number(figures.get("n"))]
    return f"| {_plain(rule.get('outcome', ''))} | {' | '.join(cells)} | {_plain(rule.get('text', ''))} |"


def _of_figures(told: list[Mapping[str, Any]]) -> list[str]:
    """Cross-validated figures of the steps that evaluate."""
    found = [(step, one["metrics"]) for step, one in _steps(told).items() if one.get("metrics")]
    rows = [
        f"| {_plain(step)} | {_plain(name)} | {_number(value)} |" for step, of in found for name, value in of.items()
    ]
    return ["| step | metric | value |", "|---|---|--:|", *rows[:MOST_STEPS], ""] if rows else []


def _of_steps(told: list[Mapping[str, Any]]) -> list[str]:
    steps = _steps(told)
    lines = ["| step | state | s | MiB | artifacts |", "|---|---|--:|--:|---|"]
    for name, step in list(steps.items())[:MOST_STEPS]:
        digests = list(dict.fromkeys(str(one["digest"])[:12] for one in step.get("outputs", {}).values()))
        made = ", ".join(f"`{digest}`" for digest in digests[:MOST_DIGESTS])
        made += f" and {len(digests) - MOST_DIGESTS} more" if len(digests) > MOST_DIGESTS else ""
        figures = f"{_number(step.get('wall_s'))} | {step.get('peak_bytes', 0) >> 20}"
        lines.append(f"| {_plain(name)} | {_plain(step['state'])} | {figures} | {made} |")
    if len(steps) > MOST_STEPS:
        lines.append(f"| and {len(steps) - MOST_STEPS} more | | | | |")
    failed = [one for one in told if one.get("state") == "failed"]
    return lines + [
        line for one in failed[:MOST_STEPS] for line in ("", f"**failed**: {_plain(one.get('reason', ''))}")
    ]


def _steps(told: list[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {name: step for answer in told for name, step in answer.get("steps", {}).items()}


def _last(told: list[Mapping[str, Any]], what: str) -> Any:
    return next((answer[what] for answer in reversed(told) if answer.get(what)), None)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""


def _plain(text: Any) -> str:
    """Text that Markdown takes as text, on one line."""
    return re.sub(r"([\\`*_|<\[])", r"\\\1", bounded(" ".join(str(text).split()), MOST_TEXT))
