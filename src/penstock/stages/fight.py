"""Two versions side by side on held-out rows that neither has learned from, because a person asked."""

from __future__ import annotations

from collections.abc import Mapping
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
from penstock.stages.judged import difference_text
from penstock.stages.predicted import Predicted, predict
from penstock.stages.problem import Problem, problem_of
from penstock.stages.seen import unseen
from penstock.stages.spent import with_looks
from penstock.stages.thresholds import relabelled
from penstock.stages.train import features_and_target

if TYPE_CHECKING:
    import pandas as pd

FIRST, SECOND = "challenger", "champion"
"""Under which names the two stand in a comparison: is the first better than the second?"""


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
    """Hold a version against another on each metric, and say whether it is better by the first.

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
        Plain JSON: "outcome" ("better": the first is; "worse"; "not enough evidence"), "sentence", "rules", "primary",
        "metrics": name → figures of both and their "difference", "n_rows", "looks", "notes".

    Raises
    ------
    DataError
        Fewer than 30 rows are left that neither has learned from.
    """
    problem = problem_of(schema, target).judged_by(own)
    notes = list(about.get("notes") or ())
    rows = _unseen(test, seen, about.get("learned"), notes)
    a, b = (
        _answers(model, about[who], rows, target, roles, problem)
        for model, who in ((first, "first"), (second, "second"))
    )
    names = scoring.chosen(metrics, problem, has_proba=a.has_proba and b.has_proba)
    c = Comparison(
        challenger=a,
        champion=b,
        baseline=b,
        name=str(about["second"]["name"]),
        primary=names[0],
        test=rows,
        train=rows,
        seed=seed,
        looks=about.get("looks") or {},
    )
    judged = judge(Beats(), c)
    verdict = {
        "summary": judged.sentence,
        "outcome": outcome_of([judged]),
        "sentence": judged.sentence,
        "rules": [judged.to_json()],
        "primary": names[0],
        "metrics": {name: _figures(name, c) for name in names},
        "n_rows": len(rows),
        "notes": notes,
        "scope": "about these two fitted models on the population that the rows were drawn from",
    }
    return with_looks(verdict, c.looks)


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
    answers = predict(model, X, y, problem).beside(rows, roles.weight)
    return answers if about["threshold"] is None else relabelled(answers, about["threshold"])


def _figures(name: str, c: Comparison) -> dict[str, Any]:
    d = c.difference(name, SECOND, 0.95)
    both = {who: figure_json(name, c.interval(name, 0.95, who)) for who in (FIRST, SECOND)}
    return {**both, "difference": {**d.to_json(), "text": difference_text(name, d)}}
