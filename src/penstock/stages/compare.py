"""The verdict on a fitted model: held against rules, champion and baseline on held-out rows.

The only stage that sees the hold-out. A verdict is about these two fitted models on the population that the rows
were drawn from; it says nothing of the procedures that made them, nor of other populations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.core.gate import Beats, Rule
from penstock.core.metric import Metric
from penstock.core.target import Roles, Target
from penstock.stages import scoring
from penstock.stages.baseline import baseline_answers, baseline_name
from penstock.stages.comparison import ENOUGH, Comparison
from penstock.stages.evaluate import figure_json, is_small, weight_json
from penstock.stages.judge import Judged, check_rules, judge
from penstock.stages.own import prove
from penstock.stages.predicted import Predicted, predict
from penstock.stages.problem import Problem, problem_of
from penstock.stages.profiles import prediction_profile
from penstock.stages.seen import unseen, unseen_of_table
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
        "looks": which look at this hold-out it is, and at which part of alpha it decides (`Comparison.looks`).
    rules : tuple of rules
        All must pass. Without a champion the baseline takes its place, and is added where no rule decides.
    metrics, slices : tuple of str
    target, roles, schema, seed
        As for `evaluate`.
    seen : ndarray of uint64 or DataFrame, optional
        Digests of the rows that the champion has learned from, or the rows: it is compared on other rows only.
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
    answers = _answers(test, fitted, champion, about, target, roles, problem)
    learn: dict[str, Any] = {"target": target, "roles": roles, "seed": seed}
    answers["baseline"] = baseline_answers(baseline, train, test, problem, **learn)
    names = scoring.chosen(metrics, problem, has_proba=answers["challenger"].has_proba)
    prove(answers["challenger"], problem.own)
    notes: list[str] = []
    if about.get("advice"):
        notes.append(str(about["advice"]))
    if answers["champion"] is not None:
        answers |= _only_fresh(test, seen, about, target, roles, notes)
    answers |= _at_thresholds(answers, decision, about)
    if decision is not None and (one_sided := _one_sided(answers["challenger"], decision["threshold"])):
        notes.append(one_sided)
    c = Comparison(
        **answers,
        name=str(about.get("champion") or ""),
        primary=names[0],
        test=test,
        train=train,
        seed=seed,
        same_declaration=bool(about.get("same_declaration")),
        newer_data=bool(about.get("newer_data")),
        same_estimator=bool(about.get("same_estimator")),
        baseline_name=baseline_name(baseline),
        looks=about.get("looks") or {},
    )
    verdict = with_looks({**_verdict(c, rules, names, slices), "notes": notes}, c.looks)
    if c.challenger.weight is not None:
        verdict["weight"] = weight_json(str(roles.weight), c.challenger)
    return verdict


def _only_fresh(
    test: pd.DataFrame,
    seen: Any,
    about: Mapping[str, Any],
    target: Target,
    roles: Roles,
    notes: list[str],
) -> dict[str, Any]:
    """The held-out rows that the champion has not seen, or why it cannot answer: it has seen nearly all."""
    name, learned = about.get("champion"), about.get("learned")
    if seen is None:
        if about.get("unseen_from"):
            notes.append(str(about["unseen_from"]))
        return {}
    fresh = unseen(test, seen, learned) if learned is not None else unseen_of_table(test, seen, target, roles)
    if fresh is None:
        why = "the columns are gone that name the rows that it has learned from"
        if about.get("champion_refit"):  # every row that was there has been learned from
            return {"champion": None, "champion_error": f"{why}; declare key="}
        notes.append(f"{why}: rows that {name} has seen may be among these; declare key=")
        return {}
    if about.get("champion_refit"):
        notes.append(
            f"{name} was refitted on all rows that there were; {len(fresh):,} of these {len(test):,} are newer"
        )
    if len(fresh) == len(test):
        return {}
    if len(fresh) >= ENOUGH:
        return {"fresh": fresh}
    why = f"it was trained on {len(test) - len(fresh):,} of these {len(test):,} rows"
    if about.get("champion_refit"):
        why = f"it was refitted on all rows; {len(fresh):,} of these {len(test):,} are newer, {ENOUGH} are needed"
    return {"champion": None, "champion_error": why}


def _at_thresholds(
    answers: Mapping[str, Any], decision: Mapping[str, Any] | None, about: Mapping[str, Any]
) -> dict[str, Predicted]:
    """Each model's labels by its own threshold, where it has one."""
    found = {"challenger": None if decision is None else decision["threshold"]}
    if answers["champion"] is not None:
        found["champion"] = about.get("champion_threshold")
    return {who: relabelled(answers[who], bound) for who, bound in found.items() if bound is not None}


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
        "prediction_profile": prediction_profile(c.challenger),
        **({"baseline": c.baseline_name} if c.baseline_name else {}),
        "scope": (
            f"about these fitted models on the population that the {n:,} held-out rows were drawn from, "
            "not about the procedures that made them"
        ),
    }


def _answers(
    test: pd.DataFrame,
    fitted: Any,
    champion: Any,
    about: Mapping[str, Any],
    target: Target,
    roles: Roles,
    problem: Problem,
) -> dict[str, Any]:
    """What each model says of the held-out rows, by who it is."""
    X, y = features_and_target(test, target, roles)
    challenger = predict(fitted, X, y, problem).beside(test, roles.weight)
    opponent, why = _ask_champion(champion, about, test, X, y, problem)
    return {
        "challenger": challenger,
        "champion": None if opponent is None else opponent.beside(test, roles.weight),
        "champion_error": why,
    }


def outcome_of(judged: list[Judged]) -> str:
    """The rules together: all must pass; evidence against one is enough to refuse."""
    outcomes = {one.outcome for one in judged if one.decides}
    if "fail" in outcomes:
        return WORSE
    return BETTER if outcomes == {"pass"} else UNDECIDED


def _ask_champion(
    champion: Any, about: Mapping[str, Any], test: pd.DataFrame, X: Any, y: Any, problem: Problem
) -> tuple[Predicted | None, str]:
    """The champion's answers, or why there are none: an old model need not fit today's table."""
    if champion is None:
        return None, about.get("unanswered") or ("it was not found" if about.get("champion") else "")
    columns = about.get("champion_input")
    try:
        rows = X if columns is None else test[list(columns)]
        return predict(champion, rows, y, problem), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {str(error)[:200]}"


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
