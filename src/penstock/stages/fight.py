"""Two versions side by side on held-out rows that neither has learned from, because a person asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.core.gate import Beats
from penstock.core.metric import Metric
from penstock.core.target import Roles, Target
from penstock.errors import DataError
from penstock.stages import scoring
from penstock.stages.compare import outcome_of
from penstock.stages.comparison import ENOUGH, Comparison
from penstock.stages.evaluate import figure_json
from penstock.stages.judge import judge
from penstock.stages.judged import MARKS, Judged, difference_text
from penstock.stages.predicted import Predicted, predict
from penstock.stages.problem import Problem, problem_of
from penstock.stages.seen import unseen
from penstock.stages.spent import at_level, with_looks
from penstock.stages.thresholds import relabelled
from penstock.stages.train import features_and_target

if TYPE_CHECKING:
    import pandas as pd

ME, OTHER = "challenger", "champion"
"""Under which names the two stand in a comparison: is the one whose side is told better than the other?"""
SIDES = ("first", "second")


def fight(
    test: pd.DataFrame,
    *,
    first: Any,
    second: Any,
    about: Mapping[str, Any],
    metrics: tuple[str, ...],
    target: Target,
    roles: Roles,
    schema: dict[str, Any],
    seed: int,
    seen: Any = None,
    own: tuple[Metric, ...] = (),
) -> dict[str, Any]:
    """Hold two versions against each other on each metric, and say of either whether it is better by the first.

    Parameters
    ----------
    test : DataFrame
        Held-out rows of the newer of the two.
    first, second : estimator
    about : dict
        "first", "second": {"name", "columns": those that it reads, "threshold": its own or None}; "learned": what
        `seen` are digests of, or None; "notes"; "looks": as for `compare`.
    metrics, target, roles, schema, seed, own
        As for `compare`.
    seen : ndarray of uint64, optional
        Digests of the rows that the older of the two has learned from.

    Returns
    -------
    dict
        Plain JSON: "summary"; "first", "second": the verdict as told from either side. One is {"outcome" ("better";
        "worse"; "not enough evidence"), "sentence", "rules", "primary", "metrics": name → figures of both and their
        "difference", "n_rows", "looks", "notes"}. Where one is better the other is worse: each way is decided at half
        of the look's level.

    Raises
    ------
    DataError
        Fewer than 30 rows are left that neither has learned from.
    """
    problem = problem_of(schema, target).judged_by(own)
    notes = list(about.get("notes") or ())
    rows = _unseen(test, seen, about.get("learned"), notes)
    answers = {
        side: _answers(model, about[side], rows, target, roles, problem)
        for side, model in zip(SIDES, (first, second), strict=True)
    }
    names = scoring.chosen(metrics, problem, has_proba=all(one.has_proba for one in answers.values()))
    looks = {**about["looks"], "sides": len(SIDES)} if about.get("looks") else {}
    views = {
        side: Comparison(
            challenger=answers[side],
            champion=answers[other],
            baseline=answers[other],
            name=str(about[other]["name"]),
            primary=names[0],
            test=rows,
            train=rows,
            seed=seed,
            looks=looks,
        )
        for side, other in (SIDES, SIDES[::-1])
    }
    told = {side: _told(views[side], views[other], names, notes) for side, other in (SIDES, SIDES[::-1])}
    return {"summary": told[SIDES[0]]["sentence"], **told}


def _told(mine: Comparison, theirs: Comparison, names: tuple[str, ...], notes: list[str]) -> dict[str, Any]:
    """The verdict from one side."""
    judged = _judged(mine, theirs)
    verdict = {
        "summary": judged.sentence,
        "outcome": outcome_of([judged]),
        "sentence": judged.sentence,
        "rules": [judged.to_json()],
        "primary": names[0],
        "metrics": {name: _figures(name, mine) for name in names},
        "n_rows": len(mine.challenger),
        "notes": notes,
        "scope": "about these two fitted models on the population that the rows were drawn from",
    }
    return with_looks(verdict, mine.looks)


def _judged(mine: Comparison, theirs: Comparison) -> Judged:
    """Whether it is better; that it is worse must be shown as well as that the other one is better."""
    rule = Beats()
    judged, turned = judge(rule, mine), judge(rule, theirs)
    if judged.outcome != "fail" or turned.outcome == "pass":
        return judged
    d = theirs.difference(theirs.primary, OTHER, rule.confidence)
    _, reason = at_level(rule.confidence, d, rule.by, theirs, "pass", "")
    shown = difference_text(mine.primary, mine.difference(mine.primary, OTHER, rule.confidence))
    sentence = f"not enough evidence that it is worse than {mine.who(OTHER)}: {shown} ({reason})"
    return replace(judged, outcome="unknown", text=f"{sentence} {MARKS['unknown']}", sentence=sentence)


def _unseen(test: pd.DataFrame, seen: Any, learned: Mapping[str, Any] | None, notes: list[str]) -> pd.DataFrame:
    """The rows that the older one has not learned from."""
    if seen is not None and learned is not None:
        fresh = unseen(test, seen, learned)
        if fresh is None:
            notes.append("the columns are gone that name the rows that the older one has learned from")
        elif len(fresh) < ENOUGH:
            raise DataError(
                f"only {len(fresh):,} of the {len(test):,} held-out rows are new to both; {ENOUGH} are needed",
                hint="run the newer one again once there are newer rows",
            )
        else:
            test = test.iloc[fresh].reset_index(drop=True)
    return test


def _answers(
    model: Any, about: Mapping[str, Any], rows: pd.DataFrame, target: Target, roles: Roles, problem: Problem
) -> Predicted:
    """What one of them says of the rows, by its own columns and at its own threshold."""
    X, y = features_and_target(rows, target, roles)
    lacking = [name for name in about["columns"] if name not in rows.columns]
    if lacking:
        raise DataError(f"{about['name']} reads columns that the held-out rows do not have: {', '.join(lacking[:5])}")
    X = rows[list(about["columns"])]
    answers = predict(model, X, y, problem).beside(rows, roles.weight, roles.groups)
    return answers if about["threshold"] is None else relabelled(answers, about["threshold"])


def _figures(name: str, c: Comparison) -> dict[str, Any]:
    d = c.difference(name, OTHER, 0.95)
    both = {who: figure_json(name, c.interval(name, 0.95, who)) for who in (ME, OTHER)}
    return {**both, "difference": {**d.to_json(), "text": difference_text(name, d)}}
