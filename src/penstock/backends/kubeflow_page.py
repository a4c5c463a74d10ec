"""What came of a task, as the page that Kubeflow's UI shows in a frame: pure, from the worker's answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from penstock.core.markup import block, safe, table, tag

MOST_STEPS = 200
"""Steps that the table has at most."""
MARKS = {"done": ("✓", "good"), "reused": ("✓", "faint"), "skipped": ("–", "warn"), "failed": ("✗", "bad")}
STYLE = "body{margin:1em;background:#fff;color:#1f2328}iframe{width:100%;height:70em;border:1px solid #d0d7de}"


def page(outcome: str, answers: Sequence[Mapping[str, Any]], reasons: Sequence[str] = (), report: str = "") -> str:
    """Outcome, version, verdict and rules, a line a step, and the version's report where one was written.

    Parameters
    ----------
    outcome : str
        The task's own word: "passed", "refused", "skipped" or "failed".
    answers : sequence of dict
        What the worker told, one for each start of it.
    reasons : sequence of str
        Why it failed.
    report : str
        A whole page of HTML, which stands in a frame of its own.

    Examples
    --------
    >>> "<th>rows</th>" in page("passed", [{"steps": {"rows": {"state": "done"}}}])
    True
    """
    parts = [tag("p", _head(outcome, answers), "head")]
    parts += [tag("p", safe(reason), "bad") for reason in reasons]
    parts += _verdict(next((told["verdict"] for told in reversed(answers) if told.get("verdict")), {}))
    parts.append(_steps(answers))
    frame = f'<iframe sandbox title="report" srcdoc="{escape(report)}"></iframe>' if report else ""
    head = f'<meta charset="utf-8"><title>{safe(outcome)}</title><style>{STYLE}</style>'
    return f"<!DOCTYPE html>\n<html><head>{head}</head><body>{block(*parts)}{frame}</body></html>\n"


def _head(outcome: str, answers: Iterable[Mapping[str, Any]]) -> str:
    found: dict[str, str] = {}
    for told in answers:
        found |= {name: str(told[name]) for name in ("flow", "run", "version") if told.get(name)}
        if told.get("champion"):
            found["stands"] = "champion"
    named = ("version", "stands") if "version" in found else ("flow",)
    style = {"passed": "good", "failed": "bad"}.get(outcome, "warn")
    words = [tag("span", safe(outcome), style), *(safe(found[n]) for n in named if n in found)]
    if "run" in found:
        words.append(tag("code", f"penstock show {safe(found['run'])}"))
    return " · ".join(words)


def _verdict(verdict: Mapping[str, Any]) -> list[str]:
    if not verdict:
        return []
    rows = [_rule(rule) for rule in verdict.get("rules", ())]
    header = ("rule", "", "value", "interval", "required", "rows")
    shown = [table(rows, ("", "w", "n", "n", "n", "n"), header)] if rows else []
    return [tag("p", safe(verdict.get("sentence", ""))), *shown]


def _rule(rule: Mapping[str, Any]) -> tuple[str, ...]:
    figures: Mapping[str, Any] = rule.get("figures") or {}
    between = f"{_number(figures['low'])} … {_number(figures['high'])}" if {"low", "high"} <= figures.keys() else ""
    told = (_number(figures.get(name)) for name in ("value", "required", "n"))
    value, required, n = told
    return safe(rule.get("text", "")), safe(rule.get("outcome", "")), value, between, required, n


def _steps(answers: Iterable[Mapping[str, Any]]) -> str:
    steps = {name: step for told in answers for name, step in told.get("steps", {}).items()}
    rows = []
    for name, step in list(steps.items())[:MOST_STEPS]:
        mark, style = MARKS.get(step["state"], ("", ""))
        made = step.get("outputs", {}).items()
        digests = "<br>".join(f"{safe(output)} {tag('code', safe(str(one['digest'])[:12]))}" for output, one in made)
        figures = " · ".join(f"{safe(metric)} {_number(value)}" for metric, value in step.get("metrics", {}).items())
        why = "<br>".join(filter(None, (safe(step.get("reason", "")), figures)))
        memory = _number(step.get("peak_bytes", 0) / 2**20)
        state = tag("span", f"{mark} {safe(step['state'])}", style)
        rows.append((safe(name), state, why, _number(step.get("wall_s", 0)), memory, digests))
    if len(steps) > MOST_STEPS:
        rows.append((f"and {len(steps) - MOST_STEPS} more", "", "", "", "", ""))
    return table(rows, ("th", "w", "", "n", "n", ""), ("step", "state", "why", "s", "MiB", "outputs"))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""
