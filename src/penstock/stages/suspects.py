"""All that the audit asks of columns: which betray the target, which name rows, which may be known too late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.core.target import Roles, Target
from penstock.stages.absence import absences
from penstock.stages.betrayal import Finding, betrayals, judged
from penstock.stages.identifiers import identifiers
from penstock.stages.problem import Problem
from penstock.stages.questions import SKILL_ROWS, questions
from penstock.stages.skill import thinned
from penstock.stages.train import features_and_target

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Suspects:
    """What was found of columns, and what was and was not tried.

    Attributes
    ----------
    findings : list of Finding
    tried, not_tried : list of dict
        {"what", "rows"} and {"what", "why"}.
    n_columns : int
        Columns that the model sees.
    """

    findings: list[Finding]
    tried: list[dict[str, Any]]
    not_tried: list[dict[str, str]]
    n_columns: int


def suspects(train: pd.DataFrame, target: Target, roles: Roles, problem: Problem) -> Suspects:
    """Look for columns that betray the target, from the plainest to the most doubtful.

    What one check flags is taken out before the next one looks: a strong leak masks weaker ones.

    Parameters
    ----------
    train : DataFrame
        Training rows.
    target : Target
    roles : Roles
    problem : Problem
    """
    X, y = features_and_target(train, target, roles)
    X, groups = X.reset_index(drop=True), _groups(train, roles)
    truth = problem.encode(y)
    rows, kept, entity = judged(X, truth, groups)
    found = betrayed(rows, kept, problem, entity)
    found += identifiers(_without(X, found), truth, problem)
    time = train[roles.time].reset_index(drop=True).loc[rows.index] if roles.time else None
    graver = [one for one in found if one.grade != "note"]
    left = _without(rows, graver)
    found += questions(left, kept, problem, groups=entity, time=time)
    return Suspects(found, *_tried(X, rows, left, problem, roles), X.shape[1])


def betrayed(X: pd.DataFrame, truth: Any, problem: Problem, groups: Any = None) -> list[Finding]:
    """Columns that are the target in other words, and those of which a missing cell tells the class.

    Parameters
    ----------
    X, truth, problem, groups
        As for `betrayals`.
    """
    found = betrayals(X, truth, problem, groups)
    if problem.task == "regression":
        return found
    return found + absences(_without(X, found), truth, problem, groups)


def _groups(train: pd.DataFrame, roles: Roles) -> Any:
    """A number for the entity of each row; None without groups."""
    if not roles.groups:
        return None
    return train.groupby(list(roles.groups), sort=False, dropna=False).ngroup().to_numpy()


def _without(X: pd.DataFrame, found: list[Finding]) -> pd.DataFrame:
    named = {part for one in found for part in (one.column, *one.column.split(" + "))}
    return X[[name for name in X.columns if str(name) not in named]]


def _tried(
    X: pd.DataFrame, rows: pd.DataFrame, left: pd.DataFrame, problem: Problem, roles: Roles
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    n, task = len(rows), problem.task
    tried: list[dict[str, Any]] = [
        {"what": f"copies and re-codings of the target among {X.shape[1]} columns", "rows": n},
        {
            "what": "R² of each column alone" if task == "regression" else "how each number alone parts classes",
            "rows": n,
        },
        {
            "what": "exact weighted sums of columns" if task == "regression" else "cells missing for one class",
            "rows": n,
        },
        {"what": "columns that name rows", "rows": len(X)},
    ]
    not_tried = []
    if n < SKILL_ROWS:
        why = f"fewer than {SKILL_ROWS} distinct training rows"
        not_tried.append({"what": "each column alone beside a model with all", "why": why})
    else:
        few = len(thinned(n, left.shape[1]))
        tried.append({"what": f"each of {left.shape[1]} columns alone beside a model with all", "rows": few})
        tried.append({"what": "names that speak of what comes after the event", "rows": few})
        if roles.time:
            tried.append({"what": f"dates later than {roles.time}", "rows": few})
    if not roles.time:
        not_tried.append({"what": "dates later than the row's time", "why": "not provable: declare time="})
    return tried, not_tried
