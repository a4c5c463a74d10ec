"""What a gate has already told of two versions: asked again by hand, it is told again and spends nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_value
from penstock.core.flow import Graph
from penstock.core.gate import Beats
from penstock.core.ports import Ledger
from penstock.core.run import Entry
from penstock.lifecycle.versions import Version, stream

ALIKE = ("own", "roles", "seed", "target")
"""What else is told to a comparison, whoever asks for it: were it another, so could the answer be."""
PEOPLE = ("challenger", "champion")


def question_of(
    graph: Graph, test: Artifact | None, newer: Artifact, older: Artifact, seen: Artifact, thresholds: list[Any]
) -> str:
    """Digest of what is asked when one model is held against another: by first metric, rows and both estimators.

    Parameters
    ----------
    graph : Graph
        With a step "compare".
    test : Artifact or None
        Held-out rows.
    newer, older : Artifact
        Estimators.
    seen : Artifact
        Digests of the rows that the older one has learned from.
    thresholds : list
        From which score on either says yes, or None.
    """
    given = dict(graph.node("compare").tree[1][1][1])
    metrics = given.get("metrics")
    asked = [metrics[1][:1] if metrics else None, *(given.get(name) for name in ALIKE)]
    parts = [None if one is None else one.digest for one in (test, newer, older, seen)]
    return digest_value("question", [asked, parts, thresholds])


def on_record(
    ledger: Ledger, workflow: str, question: str, load: Callable[[Artifact], Any]
) -> tuple[Entry, dict[str, Any]] | None:
    """The gate's look at which a question was answered, and its verdict; None where none was.

    A gate may have asked by another metric, for more than "better", or for "not worse": that is another question.

    Parameters
    ----------
    ledger : Ledger
    workflow : str
    question : str
        From `question_of`.
    load : callable
        A JSON artifact's value.
    """
    verdicts = {one.number: one for one in ledger.stream(stream(workflow, "verdict"))}
    for look in ledger.stream(stream(workflow, "look")):
        if look.body.get("question") != question or (one := verdicts.get(look.body["verdict"])) is None:
            continue
        verdict = load(Artifact.from_json(one.body["comparison"]))
        if _searched(verdict) is not None:
            return look, verdict
    return None


def _searched(verdict: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The rule that asked what `penstock compare` asks: is it better by the first metric, at all?"""
    for rule in verdict["rules"]:
        figures = rule["figures"]
        asked = (rule["kind"], rule["against"], figures.get("metric"), figures.get("required"))
        same = asked == ("difference", PEOPLE[1], verdict["primary"], 0.0)
        if same and "level" in figures and figures["confidence"] == Beats().confidence:
            found: Mapping[str, Any] = rule
            return found
    return None


def told(look: Entry, verdict: Mapping[str, Any], newer: Version, older: Version, *, turned: bool) -> dict[str, Any]:
    """The gate's answer in the form of `stages.fight`, as told from the side of the newer or the older version.

    The gate asked whether the newer one is better. That it is worse is said where that is shown at the level of
    this look too; no version is promoted for it.

    Parameters
    ----------
    look : Entry
    verdict : dict
        From `on_record`.
    newer, older : Version
    turned : bool
        Tell it of the older one.
    """
    rule = _searched(verdict)
    assert rule is not None
    outcome = _outcome(rule)
    sentence = _sentence(rule, outcome, newer, older, turned=turned)
    if turned:
        outcome = {"better": "worse", "worse": "better"}.get(outcome, outcome)
    people = PEOPLE[::-1] if turned else PEOPLE
    metrics = {
        name: {side: one[who] for side, who in zip(PEOPLE, people, strict=True)}
        for name, one in verdict["metrics"].items()
    }
    metrics[verdict["primary"]]["difference"] = _difference(rule["figures"], turned=turned)
    n, fresh = verdict["n_rows"], verdict["n_fresh"]
    notes = [] if n == fresh else [f"{newer.name}'s figures are of all {n:,} held-out rows"]
    return {
        "summary": sentence,
        "outcome": outcome,
        "sentence": sentence,
        "primary": verdict["primary"],
        "metrics": metrics,
        "n_rows": fresh,
        "looks": verdict["looks"],
        "notes": [*verdict["notes"], *notes],
        "judged_by": {"look": look.number, "run": look.body["run"], "rule": rule["rule"]},
        "scope": f"about {newer.name} and {older.name}, on the population that the rows were drawn from",
    }


def _outcome(rule: Mapping[str, Any]) -> str:
    figures = rule["figures"]
    p = figures["p_value"] if figures["p_value"] is not None else math.nan
    if rule["outcome"] == "pass":
        return "better"
    return "worse" if rule["outcome"] == "fail" and 1 - p <= figures["level"] else "not enough evidence"


def _sentence(rule: Mapping[str, Any], outcome: str, newer: Version, older: Version, *, turned: bool) -> str:
    """The gate's words, of the side that is asked about."""
    said, who = rule["text"].rsplit(" ", 1)[0], newer.name if turned else "it"
    if outcome != "not enough evidence":
        return f"{'worse' if outcome == 'better' else 'better'} than {who}: {who} is {said}" if turned else said
    if rule["outcome"] == "unknown":
        return str(said.replace("that it is", f"that {who} is", 1))
    level = f"at the level of the look, {rule['figures']['level']:.2g}"
    return f"not enough evidence that {who} is worse than {older.name} {level}: {said.partition(': ')[2]}"


def _difference(figures: Mapping[str, Any], *, turned: bool) -> dict[str, Any]:
    ends = [figures[name] for name in ("value", "low", "high")]
    if turned:
        ends = [None if one is None else 0.0 - one for one in (ends[0], ends[2], ends[1])]
    return dict(zip(("value", "low", "high"), ends, strict=True))
