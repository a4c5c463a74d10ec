"""Leaving the values of some columns out of a report, wherever they would stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from penstock.core.names import did_you_mean
from penstock.errors import UsageError
from penstock.lifecycle.evidence import Evidence

REDACTED = "redacted"


def check_columns(seen: Evidence, columns: Iterable[str]) -> None:
    """Refuse a name that is no column, so that a slip of the pen shows nothing that was to be hidden.

    Raises
    ------
    UsageError
        No such column; or the target, which the report is about.
    """
    known = known_columns(seen)
    target = seen.files["schema"].get("target")
    for name in columns:
        if name == target:
            raise UsageError(f"--redact {name}: it is the target, and the report is about it")
        if name not in known:
            there = ", ".join(sorted(known)[:20])
            raise UsageError(f"--redact {name}: no such column{did_you_mean(name, known)}", hint=f"there are {there}")


def known_columns(seen: Evidence) -> set[str]:
    """Every column of the table."""
    parts = (seen.files["schema"], seen.files["input"])
    return {str(one["name"]) for part in parts for one in part.get("columns", ())}


def redacted(seen: Evidence, columns: Iterable[str]) -> Evidence:
    """The same evidence without any value of these columns; names of columns, counts and figures stay.

    Slices by such a column, its profile, its partial dependence, its bounds and categories, and its cells in the worst
    mistakes go. In sentences of others (rules, findings, notes) the labels of its slices are replaced, and notes and
    examples that concern it are left out, and so are all figures that steps logged.

    Parameters
    ----------
    seen : Evidence
    columns : iterable of str
        Names that are no column of this table are passed over: a project's setting covers several workflows.
    """
    known = known_columns(seen)
    hidden = frozenset(name for name in columns if name in known)
    if not hidden:
        return seen
    labels = _labels(seen, hidden)
    files = {name: _without(name, one, hidden) for name, one in seen.files.items()}
    comparison = {**seen.comparison, "slices": _others(seen.comparison.get("slices") or (), hidden)}
    verdict = seen.verdict
    if verdict is not None:
        verdict = replace(verdict, body=_replaced(dict(verdict.body), labels))
    before, profile = seen.before
    return replace(
        seen,
        files=_replaced(files, labels),
        comparison=_replaced(comparison, labels),
        verdict=verdict,
        moves=tuple(replace(move, why=_replaced(move.why, labels)) for move in seen.moves),
        reports={step: _report(one, hidden) for step, one in seen.reports.items()},
        before=(before, {name: one for name, one in profile.items() if name not in hidden}),
        logged=tuple(one.hidden("left out, since it may show what is redacted") for one in seen.logged),
        redacted=tuple(sorted(hidden)),
    )


def _labels(seen: Evidence, hidden: frozenset[str]) -> dict[str, str]:
    """Label of a slice → what stands for it, longest first, so that no part of a longer one is left."""
    found = [*(seen.files["metrics"].get("slices") or ()), *(seen.comparison.get("slices") or ())]
    labels = {str(one["label"]): f"{one['column']} ({REDACTED})" for one in found if one["column"] in hidden}
    bodies = [seen.comparison, *([seen.verdict.body] if seen.verdict is not None else [])]
    # A rule may be about slices by a column that `slices=` does not name.
    judged = [one["slice"] for body in bodies for rule in body.get("rules") or () for one in _slices(rule)]
    labels |= {label: f"{c} ({REDACTED})" for label in judged for c in hidden if label.startswith(_begins(c))}
    return dict(sorted(labels.items(), key=lambda item: -len(item[0])))


def _slices(rule: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    found: Iterable[Mapping[str, Any]] = (rule.get("figures") or {}).get("slices") or ()
    return found


def _begins(column: str) -> tuple[str, ...]:
    """How the labels of a column's slices begin, as `stages.slicing` writes them."""
    return tuple(f"{column}{mark}" for mark in ("=", " ≤ ", " in (", " > ", " missing", ": other values"))


def _replaced(value: Any, labels: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _replaced(one, labels) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(one, labels) for one in value]
    if isinstance(value, str):
        for label, text in labels.items():
            value = value.replace(label, text)
    return value


def _others(slices: Iterable[Mapping[str, Any]], hidden: frozenset[str]) -> list[Mapping[str, Any]]:
    return [one for one in slices if one["column"] not in hidden]


def _without(name: str, body: Mapping[str, Any], hidden: frozenset[str]) -> Mapping[str, Any]:
    """A file of the bundle without the values of hidden columns."""
    if name == "metrics" and body:
        worst = [_row(one, hidden) for one in body.get("worst_rows") or ()]
        told = [one for one in body.get("dependence") or () if one["column"] not in hidden]
        return {**body, "slices": _others(body.get("slices") or (), hidden), "worst_rows": worst, "dependence": told}
    if name in ("schema", "input") and body:
        return {**body, "columns": [_bare(one) if one["name"] in hidden else one for one in body.get("columns", ())]}
    if name == "profile" and body:
        return {**body, "columns": {c: one for c, one in body["columns"].items() if c not in hidden}}
    if name == "audit" and body:
        return {**body, "findings": [_finding(one, hidden) for one in body.get("findings", ())]}
    return body


def _row(one: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    values = {c: cell for c, cell in (one.get("values") or {}).items() if c not in hidden}
    gone = [c for c in (*(one.get("values") or {}), *(one.get("rare") or ())) if c in hidden]
    return {**one, "values": values, "rare": [c for c in one.get("rare") or () if c not in hidden], REDACTED: gone}


def _bare(one: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("name", "role", "type", "kind", "null", "unique", "unseen")
    return {key: value for key, value in one.items() if key in kept} | {REDACTED: True}


def _finding(one: Mapping[str, Any], hidden: frozenset[str]) -> Mapping[str, Any]:
    about = set(str(one.get("column", "")).split(" + "))
    example = str(one.get("example", ""))
    # Of a step an example names its row by the key, and says what a cell was.
    told = about & hidden or any(f"{name}=" in example or f" {name} " in example for name in hidden)
    return {**one, "example": ""} if told else one


def _report(body: Mapping[str, Any], hidden: frozenset[str]) -> Mapping[str, Any]:
    """A stage's report without notes that concern a hidden column."""
    notes = body.get("notes")
    if not notes:
        return body
    return {**body, "notes": [note for note in notes if not any(name in str(note) for name in hidden)]}
