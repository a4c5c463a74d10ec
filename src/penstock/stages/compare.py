"""The verdict on a fitted model: held against rules, champion and baseline on held-out rows.

The only stage that sees the hold-out. A verdict is about these two fitted models on the population that the rows
were drawn from; it says nothing of the procedures that made them, nor of other populations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.core.gate import LAST, Beats, Rule
from penstock.core.metric import Metric
from penstock.core.target import Roles, Target
from penstock.stages import scoring
from penstock.stages.baseline import baseline_answers, baseline_name
from penstock.stages.comparison import CHAMPION, Comparison
from penstock.stages.evaluate import figure_json, is_small, weight_json
from penstock.stages.judge import check_rules, judge
from penstock.stages.judged import Judged
from penstock.stages.opponents import Given, ask, rows_for
from penstock.stages.own import prove
from penstock.stages.predicted import Predicted, predict
from penstock.stages.problem import problem_of
from penstock.stages.profiles import prediction_profile
from penstock.stages.spent import with_looks
from penstock.stages.thresholds import relabelled, scores
from penstock.stages.train import features_and_target

if TYPE_CHECKING:
    import pandas as pd

BETTER, WORSE, UNDECIDED = "better", "worse", "not enough evidence"


def compare(
    test: pd.DataFrame,
    train: pd.DataFrame,
    *,
    fitted: Any,
    champion: Any,
    about: Mapping[str, Any],
    rules: tuple[Rule, ...],
    metrics: tuple[str, ...],
    slices: tuple[str, ...],
    target: Target,
    roles: Roles,
    schema: dict[str, Any],
    seed: int,
    seen: Any = None,
    held: Any = None,
    rivals: Mapping[str, Mapping[str, Any]] | None = None,
    decision: Mapping[str, Any] | None = None,
    own: tuple[Metric, ...] = (),
    baseline: Any = None,
) -> dict[str, Any]:
    """Judge a challenger on the hold-out.

    Parameters
    ----------
    test, train : DataFrame
        Held-out and training rows. The baseline is fitted on the latter.
    fitted, champion : estimator
        The challenger; the champion or None.
    about : dict
        "champion": its name or None; "same_declaration", "newer_data", "same_estimator": bool; "champion_input":
        columns it reads; "champion_threshold": its own; "learned": what `seen` are digests of; "champion_refit": bool;
        "unseen_from": why it cannot be told which rows it has seen; "advice": what to do where it cannot be asked;
        "sizes": who → bytes; "rivals": the same of each of `rivals`;
        "looks": which look at this hold-out it is, and at which part of alpha it decides (`Comparison.looks`).
    rules : tuple of rules
        All must pass. Without a champion the baseline takes its place, and is added where no rule decides.
    metrics, slices : tuple of str
    target, roles, schema, seed
        As for `evaluate`.
    seen : ndarray of uint64 or DataFrame, optional
        Digests of the rows that the champion has learned from, or the rows: it is compared on other rows only.
    held : ndarray of uint64, optional
        Digests of the rows that were held out when the champion was made: others are newer.
    rivals : dict, optional
        Alias or number of a further version → {"fitted", "seen", "held"}.
    decision : dict, optional
        From `decide`: metrics that read labels judge each model at its own threshold.
    own, baseline
        As for `evaluate`.

    Returns
    -------
    dict
        Plain JSON: "outcome" ("better": all rules passed; "worse": evidence against one; "not enough evidence"),
        "sentence", "rules", "against", "metrics", "slices", "n_rows", "prediction_profile", "scope".

    Raises
    ------
    DeclarationError
        If a rule's metric does not fit the task.
    DataError
        If the held-out rows cannot be judged: no row, an unknown label.
    """
    problem = problem_of(schema, target).judged_by(own)
    check_rules(rules, problem)
    X, y = features_and_target(test, target, roles)
    challenger = predict(fitted, X, y, problem).beside(test, roles.weight, roles.groups)
    learn: dict[str, Any] = {"target": target, "roles": roles, "seed": seed}
    simple = baseline_answers(baseline, train, test, problem, **learn)
    names = scoring.chosen(metrics, problem, has_proba=challenger.has_proba)
    prove(challenger, problem.own)
    notes: list[str] = [str(about["advice"])] if about.get("advice") else []
    given = {CHAMPION: Given(champion, about, seen, held)}
    given |= {
        name: Given(about=dict(about.get("rivals", {}).get(name) or {}), **one) for name, one in (rivals or {}).items()
    }
    others = {
        name: ask(one, test, X, y, problem, target, roles, notes if name == CHAMPION else [])
        for name, one in given.items()
    }
    if decision is not None:
        challenger = relabelled(challenger, decision["threshold"])
        if one_sided := _one_sided(challenger, decision["threshold"]):
            notes.append(one_sided)
    models = {"challenger": (fitted, X)}
    models |= {
        who: (one.fitted, rows_for(one, test, X)) for who, one in given.items() if others[who].answers is not None
    }
    present, last = others.pop(CHAMPION), others.pop(LAST, None)
    c = Comparison(
        challenger=challenger,
        baseline=replace(simple, cluster=challenger.cluster),
        champion=present.answers,
        name=present.name,
        primary=names[0],
        test=test,
        train=train,
        seed=seed,
        same_declaration=bool(about.get("same_declaration")),
        newer_data=bool(about.get("newer_data")),
        same_estimator=bool(about.get("same_estimator")),
        champion_error=present.error,
        fresh=present.fresh,
        newer=present.newer,
        baseline_name=baseline_name(baseline),
        rivals=others,
        beat=last if last is not None and last.answers is not None else None,
        sizes=dict(about.get("sizes") or {}),
        models=models,
        looks=about.get("looks") or {},
    )
    verdict = with_looks({**_verdict(c, rules, names, slices), "notes": notes}, c.looks)
    if c.challenger.weight is not None:
        verdict["weight"] = weight_json(str(roles.weight), c.challenger)
    return verdict


def _one_sided(answers: Predicted, threshold: float) -> str:
    """What to say of a threshold under which all held-out rows get one label, "" of others: rules of scores pass it."""
    said = answers.column("label") == 1
    if not len(answers) or said.any() != said.all():
        return ""
    which, end, score = ("every one", "lowest", min) if said.all() else ("none", "highest", max)
    reached = float(score(scores(answers)))
    return (
        f"the threshold {threshold:.6g} calls {which} of the {len(answers):,} held-out rows "
        f"{answers.problem.classes[1]}: the {end} score is {reached:.6g}"
    )


def _verdict(c: Comparison, rules: tuple[Rule, ...], names: tuple[str, ...], slices: tuple[str, ...]) -> dict[str, Any]:
    """The rules judged, and all figures, as plain JSON."""
    judged = [judge(rule, c) for rule in rules]
    if not any(one.decides for one in judged):
        judged.append(judge(Beats("baseline"), c))
    outcome = outcome_of(judged)
    sentence = _sentence(outcome, judged)
    n = len(c.challenger)
    return {
        "summary": sentence,
        "outcome": outcome,
        "sentence": sentence,
        "against": c.name or None,
        "rules": [one.to_json() for one in judged],
        "primary": names[0],
        "metrics": {name: _figures(name, c) for name in names},
        "slices": [figure for column in slices for figure in _slice_figures(column, c)],
        "n_rows": n,
        "n_fresh": n if c.fresh is None else len(c.fresh),
        **({} if c.newer is None else {"n_newer": len(c.newer)}),
        **({} if c.challenger.cluster is None else {"n_groups": int(c.worth())}),
        "prediction_profile": prediction_profile(c.challenger),
        **({"baseline": c.baseline_name} if c.baseline_name else {}),
        "scope": (
            f"about these fitted models on the population that the {n:,} held-out rows were drawn from, "
            "not about the procedures that made them"
        ),
    }


def outcome_of(judged: list[Judged]) -> str:
    """The rules together: all must pass; evidence against one is enough to refuse."""
    outcomes = {one.outcome for one in judged if one.decides}
    if "fail" in outcomes:
        return WORSE
    return BETTER if outcomes == {"pass"} else UNDECIDED


def _sentence(outcome: str, judged: list[Judged]) -> str:
    """The rule that says most: the first that failed, else that is unknown, else a difference that passed."""
    wanted = {WORSE: "fail", UNDECIDED: "unknown", BETTER: "pass"}[outcome]
    said = [one for one in judged if one.decides and one.outcome == wanted]
    return next((one for one in said if one.kind == "difference"), said[0]).sentence


def _figures(name: str, c: Comparison) -> dict[str, Any]:
    people = ("challenger", "baseline") if c.champion is None else ("challenger", "champion", "baseline")
    return {who: figure_json(name, c.interval(name, 0.95, who)) for who in people}


def _slice_figures(column: str, c: Comparison) -> list[dict[str, Any]]:
    from penstock.stages.uncertainty import interval

    found = []
    for label, rows in c.slices(column):
        part = c.challenger.take(rows)
        figure = figure_json(c.primary, interval(c.primary, part, seed=c.seed, n_boot=200))
        found.append({"column": column, "label": label, "small": is_small(part), **figure})
    return found
