"""Back-testing: at each moment of the past, what would have been trained, gated and promoted with what was known then.

Nothing of it is a decision on record: there is no version, no verdict, no alias and no look. A run of its own kind
keeps what was found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.flow import Graph, Node
from penstock.core.ports import Home
from penstock.core.run import Group, Run
from penstock.core.split import duration_s
from penstock.engine.events import Listener, silent
from penstock.engine.local import Effect, Execution, Outcome
from penstock.errors import UsageError
from penstock.lifecycle import rivals
from penstock.lifecycle.attempt import NOTHING, keywords, refusal
from penstock.lifecycle.kept import costs
from penstock.lifecycle.lower import PARTS
from penstock.lifecycle.past import CALENDAR, STATE, WHAT
from penstock.lifecycle.records import NOT_COMPARED
from penstock.lifecycle.register import json_artifact
from penstock.lifecycle.run import Opener, Request, carry_out
from penstock.stats.looks import alpha_left, next_level


@dataclass
class Succession:
    """Who would have reigned. It reads comparisons, and hands models on by their names; nothing is put on record.

    Parameters
    ----------
    home : Home
    workflow : str
    """

    home: Home
    workflow: str

    def effects(self) -> dict[str, Callable[..., Effect]]:
        """Entry → method, for the engine."""
        return {f"penstock.lifecycle:{name}": getattr(self, name) for name in ("incumbent", "succession")}

    def incumbent(self, node: Node, inputs: Mapping[Any, Artifact], _execution: Execution) -> Effect:
        """Who reigns when an origin's model is to be compared, and how it is to be fought."""
        given = self._given(node, inputs)
        past = self._load(given.get("past_about")) or {}
        same = bool(past) and past["judged"] == given["judged"].digest and past["decision"] == _digest(given)
        about = {
            "champion": past.get("name"),
            "same_declaration": True,
            "newer_data": True,
            "moves": 0,
            "champion_input": past.get("champion_input"),
            "champion_threshold": past.get("champion_threshold"),
            "unseen_from": None,
            "same_estimator": same,
            "learned": past.get("learned"),
            "champion_refit": bool(past.get("champion_refit")),
            "unanswered": "",
            "looks": _next(self._load(given.get("past_looks"))),
            "sizes": {"challenger": given["judged"].size, **({"champion": given["past_fitted"].size} if past else {})},
            "rivals": {name: rivals.absent(name) for name in rivals.outputs_of(node.outputs)},
        }
        parts = {name: given.get(f"past_{name}", NOTHING) for name in PARTS}
        parts["about"] = json_artifact(self.home.objects, about)
        return Effect(tuple(parts.get(name, NOTHING) for name in node.outputs), changed=False)

    def succession(self, node: Node, inputs: Mapping[Any, Artifact], _execution: Execution) -> Effect:
        """Whether the model of an origin takes over."""
        given, at = self._given(node, inputs), node.id.partition("@")[2]
        comparison, audit = self._load(given["comparison"]), self._load(given["audit"])
        refused, _ = refusal(audit)
        past = self._load(given.get("past_about")) or {}
        same = bool(past) and past["judged"] == given["judged"].digest and past["decision"] == _digest(given)
        passed = comparison["outcome"] == "better" and not refused
        promoted = passed and not same
        state = {name: given.get(f"past_{name}", NOTHING) for name in STATE}
        if promoted:
            about = {
                "name": f"{self.workflow} of {at}",
                "at": at,
                "judged": given["judged"].digest,
                "decision": _digest(given),
                "champion_input": [column["name"] for column in self._load(given["input"])["columns"]],
                "champion_threshold": (self._load(given.get("decision")) or {}).get("threshold"),
                "learned": self._load(given["learned"]),
                "champion_refit": given["served"].digest != given["judged"].digest,
            }
            made = json_artifact(self.home.objects, about)
            state |= {"fitted": given["served"], "about": made, "seen": given["seen"], "held": given["held"]}
            if not past:
                state |= {"first": given["served"], "first_about": made}
            past = about
        if not same and not refused:  # who is refused opens no hold-out
            looked = _after(self._load(given.get("past_looks")), comparison, won=passed)
            state["looks"] = json_artifact(self.home.objects, looked)
        first = self._load(state["first_about"]) or {}
        decision = {
            "outcome": NOT_COMPARED if refused else comparison["outcome"],
            "verdict": "the same model as the champion" if same else refused or comparison["sentence"],
            "rules": [] if refused else [rule["text"] for rule in comparison["rules"]],
            "passed": passed,
            "promoted": promoted,
            "champion_at": past.get("at"),
            "first_at": first.get("at"),
        }
        made = json_artifact(self.home.objects, decision)
        if state["first_about"] == NOTHING:  # nobody reigns: what is read of it is an empty answer
            empty = json_artifact(self.home.objects, {})
            state |= {"about": empty, "first_about": empty}
        return Effect((*(state[name] for name in STATE), made), changed=False)

    def _given(self, node: Node, inputs: Mapping[Any, Artifact]) -> dict[str, Artifact]:
        return {name: inputs[tree[1], tree[2]] for name, tree in keywords(node)}

    def _load(self, artifact: Artifact | None) -> Any:
        return None if artifact is None else self.home.formats.load(artifact, self.home.objects)


def _next(before: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a look would have been told of those before it: as on a ledger that has seen this past alone."""
    before = before or {"n": 0, "won": []}
    won = before["won"]
    told = {"tests": len(won), "share": next_level(won, 1.0), "left": alpha_left(won, 1.0)}
    return {"generation": WHAT, "number": before["n"] + 1, **told}


def _after(before: Mapping[str, Any] | None, comparison: Mapping[str, Any], *, won: bool) -> dict[str, Any]:
    before = before or {"n": 0, "won": []}
    looks = comparison.get("looks")
    search = bool((looks or {}).get("search"))
    return {"n": before["n"] + (looks != {}), "won": [*before["won"], *([won] if search else [])]}


def _digest(given: Mapping[str, Artifact]) -> str | None:
    """The digest of the threshold that goes with a model."""
    return given["decision"].digest if "decision" in given else None


# ── the use case ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Backtest:
    """How a back-test ended.

    Attributes
    ----------
    outcome : Outcome
    found : dict
        The document of `stages.backtest.result`; empty where a step failed.
    """

    outcome: Outcome
    found: Mapping[str, Any] = field(default_factory=dict)


def backtest(
    home: Home,
    request: Request,
    entry: str | Opener,
    asked: Mapping[str, Any],
    cut: Mapping[str, str] | None = None,
    *,
    listen: Listener = silent,
    began: Callable[[Graph, Run], None] = lambda *_: None,
) -> Backtest:
    """Go through the past of a workflow.

    Parameters
    ----------
    request : Request
        The file that declares it.
    asked : dict
        "from" and "until": moments or None; "every" and "window": durations, the latter or None.
    cut : dict, optional
        Source → the column with the time of its rows.

    Returns
    -------
    Backtest
        A failed step does not raise; the outcome has it.

    Raises
    ------
    UsageError
        A duration or moment that is none; every origin had too few rows.
    PenstockError, CancelledError
        As `run.run`.
    """
    _check(asked)
    extra = {**request.extra, "asked": dict(asked), "cut": dict(cut or {})}
    first = dataclasses.replace(request, what=CALENDAR, extra=extra)
    _, outcome = carry_out(home, first, entry, lambda *_: None, listen=listen, began=began)
    if outcome.error is not None:
        return Backtest(outcome)
    calendar = home.formats.load(outcome.artifacts[CALENDAR, ""], home.objects)
    if all(one["skipped"] for one in calendar["origins"]):
        why = "; ".join(f"{one['at']}: {one['skipped']}" for one in calendar["origins"][:3])
        raise UsageError(f"no origin has enough rows: {why}", hint="begin later: --from; or declare another test=")
    extra["calendar"] = calendar

    def act(graph: Graph, _record: Run) -> Succession:
        return Succession(home, str(graph.about["backtest"]))

    asked_for = dataclasses.replace(request, what=WHAT, extra=extra)
    _, outcome = carry_out(home, asked_for, entry, act, listen=listen, began=began)
    if outcome.error is not None:
        return Backtest(outcome)
    return Backtest(outcome, _put_on_record(home, outcome, asked))


def _put_on_record(home: Home, outcome: Outcome, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep the figures with the run, so that it can be shown and compared."""
    artifact = outcome.artifacts[WHAT, ""]
    found: Mapping[str, Any] = home.formats.load(artifact, home.objects)
    gated = found["overall"]["gated"]
    metrics = {name: {"value": one["value"], "shown": one["shown"]} for name, one in gated.items()}
    row = outcome.run
    info = {
        **row.info,
        WHAT: {"asked": dict(asked), "summary": found["summary"], "result": artifact.to_json()},
        "figures": {"primary": found["primary"], "metrics": metrics},
        **costs(home, outcome),
    }
    outcome.run = dataclasses.replace(row, info=info)
    home.ledger.commit(Group(runs=[outcome.run]))
    return found


def found_of(home: Home, run: Run) -> Mapping[str, Any] | None:
    """The document of a back-test on record; None for another run, and where it is not kept any more."""
    kept = run.info.get(WHAT)
    if kept is None:
        return None
    artifact = Artifact.from_json(kept["result"])
    if artifact.text is None and home.objects.missing([artifact.digest]):
        return None
    found: Mapping[str, Any] = home.formats.load(artifact, home.objects)
    return found


def _check(asked: Mapping[str, Any]) -> None:
    """Refuse spans and moments that are none, before anything is imported.

    Raises
    ------
    UsageError
    """
    import datetime as dt

    for word in ("every", "window"):
        if asked.get(word):
            try:
                positive = duration_s(asked[word]) > 0
            except ValueError as error:
                raise UsageError(f"--{word}: {error}") from None
            if not positive:
                raise UsageError(f"--{word} {asked[word]}: a span above 0 is meant")
    for word in ("from", "until"):
        if asked.get(word):
            try:
                dt.datetime.fromisoformat(asked[word])
            except ValueError:
                raise UsageError(f"--{word} {asked[word]}: a date such as 2026-01-31 is meant") from None


def cuts_of(given: Iterable[str]) -> dict[str, str]:
    """`--cut` texts as a dict.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> cuts_of(["orders=ordered_at"])
    {'orders': 'ordered_at'}
    """
    found = {}
    for text in given:
        name, equals, column = text.partition("=")
        if not (name and equals and column):
            raise UsageError(f"--cut {text}: SOURCE=COLUMN is meant", hint="for instance --cut orders=ordered_at")
        found[name] = column
    return found
