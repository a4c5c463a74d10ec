"""What could make a model look better than it is: rows on both sides, columns that give the target away.

The proof says what was tried on how many rows, what was found, and what could not be tried. It never says "clean".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.core.target import Roles, Target
from penstock.stages.betrayal import Finding
from penstock.stages.overlap import copies, out_of_order, shared_names
from penstock.stages.problem import problem_of
from penstock.stages.suspects import suspects

if TYPE_CHECKING:
    import pandas as pd

GRADES = ("error", "warning", "note")
MAX_FINDINGS = 100
OF_COLUMNS = ("copy", "re-coding", "sum", "absence", "identifier", "skill", "name", "timing")
"""Findings about what a column says; those about rows on both sides are not waived by naming a column."""
OF_STEPS = ("labels", "features", "look-ahead", "position", "de-duplication", "columns", "random", "refit")
"""Findings about a step before the split: waived by its name or a column's."""
NO_STEPS: dict[str, Any] = {"summary": "", "findings": [], "not_tried": [], "tried": []}
BETRAYED = ("copy", "re-coding", "sum", "absence")
TWICE = "held-out rows that equal a training row, or nearly"
NEVER_TRIED = {
    "what": "leaks that look like honest predictors",
    "why": "no statistic tells them apart; name them in after=",
}


def audit(
    train: pd.DataFrame,
    test: pd.DataFrame,
    *,
    target: Target,
    roles: Roles,
    schema: dict[str, Any],
    waive: Mapping[str, str] | None = None,
    steps: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Look for overlap between the sides and for columns that betray the target.

    Parameters
    ----------
    train, test : DataFrame
        Of the held-out rows only features, keys, groups and times are compared, and whether a row equals a
        training row; no statistic of their labels is computed.
    target : Target
    roles : Roles
    schema : dict
    waive : dict, optional
        Column or step → why it is known in time: what is found of it becomes a note that says so.
    steps : dict, optional
        What `stages.scramble` found of the steps before the split; None where there are none.

    Returns
    -------
    dict
        "summary", "grade" (the worst, or None), "findings" (errors first), "tried" and "not_tried" as lists of
        {"what", "rows"} and {"what", "why"}, "n_train", "n_test".
    """
    problem = problem_of(schema, target)
    columns = suspects(train, target, roles, problem)
    overlapping, n_copies = copies(train, test, target, roles)
    sides, tried, not_tried = _sides(train, test, roles)
    again = dict(steps) if steps is not None else NO_STEPS
    findings = [*columns.findings, *overlapping, *sides]
    findings += [Finding(**one) for one in again["findings"]]
    findings = waived(findings, waive or {})
    findings.sort(key=lambda one: (GRADES.index(one.grade), one.column))
    tried = [*again["tried"], *columns.tried, {"what": TWICE, "rows": len(test)}, *tried]
    proved = f"{again['summary']} · " if again["summary"] else ""
    return {
        "summary": proved + _summary(findings, columns.n_columns, n_copies, len(test), problem.task),
        "grade": findings[0].grade if findings else None,
        "findings": [one.to_json() for one in findings[:MAX_FINDINGS]],
        "n_findings": {grade: sum(one.grade == grade for one in findings) for grade in GRADES},
        "tried": tried,
        "not_tried": [*again["not_tried"], *columns.not_tried, *not_tried, NEVER_TRIED],
        "n_train": len(train),
        "n_test": len(test),
    }


def waived(findings: list[Finding], waive: Mapping[str, str]) -> list[Finding]:
    """Findings with those of waived columns as notes, and a note for each waiver that waives nothing.

    Parameters
    ----------
    findings : list of Finding
    waive : dict
        Column or step → reason. A sum of several columns is waived by any of them, as it takes them all; what a step
        does to several columns by its name, or by all of them.

    Examples
    --------
    >>> found = waived([Finding("error", "copy", "tenure is a copy", "tenure")], {"tenure": "signed first"})
    >>> found[0].grade, found[0].what
    ('note', 'tenure is a copy (waived: signed first)')
    """
    told, used = [], set()
    for one in findings:
        named = _answering(one, waive)
        if not named or one.kind not in (*OF_COLUMNS, *OF_STEPS):
            told.append(one)
            continue
        used.update(named)
        why = "; ".join(dict.fromkeys(waive[column] for column in named))
        told.append(replace(one, grade="note", kind="waived", what=f"{one.what} (waived: {why})"))
    for column, why in waive.items():
        if column not in used:
            what = f"the waiver of {column!r} waives nothing: nothing was found of it ({why})"
            told.append(Finding("note", "waiver", what, column))
    return told


def _answering(one: Finding, waive: Mapping[str, str]) -> list[str]:
    """Names whose waivers answer a finding."""
    columns = one.column.split(" + ")
    if one.step:
        return [one.step] if one.step in waive else columns if set(columns) <= set(waive) else []
    return [name for name in columns if name in waive]


def _sides(
    train: pd.DataFrame, test: pd.DataFrame, roles: Roles
) -> tuple[list[Finding], list[dict[str, Any]], list[dict[str, str]]]:
    """Keys, groups and times across the sides, as far as they are declared."""
    findings: list[Finding] = []
    tried: list[dict[str, Any]] = []
    not_tried: list[dict[str, str]] = []
    # With time a key or group may honestly return later.
    grade = "note" if roles.time else "error"
    for what, columns in (("key", roles.key), ("group", roles.groups)):
        field = f"{what}s=" if what == "group" else f"{what}="
        if columns:
            findings += shared_names(train, test, columns, what, grade)
            tried.append({"what": f"the same {what} on both sides ({', '.join(columns)})", "rows": len(test)})
        else:
            not_tried.append({"what": f"the same {what} on both sides", "why": f"not provable: declare {field}"})
    if roles.time:
        findings += out_of_order(train, test, roles.time)
        tried.append({"what": f"training rows later than held-out ones ({roles.time})", "rows": len(train)})
    else:
        not_tried.append({"what": "training rows later than held-out ones", "why": "not provable: declare time="})
    return findings, tried, not_tried


def _summary(findings: list[Finding], n_columns: int, n_copies: int, n_test: int, task: str) -> str:
    betrayed = [one for one in findings if one.kind in BETRAYED]
    if betrayed:
        text = betrayed[0].what + (f" (and {len(betrayed) - 1} more)" if len(betrayed) > 1 else "")
    else:
        what = "no copy, sum or re-coding" if task == "regression" else "no copy or re-coding"
        text = f"{what} of the target among {n_columns} columns"
    text += f" · {n_copies:,} of {n_test:,} held-out rows also in train"
    counts = [(grade, sum(one.grade == grade for one in findings)) for grade in GRADES]
    words = [f"{n} {grade}{'s' if n > 1 else ''}" for grade, n in counts if n]
    return " · ".join([text, *words])
