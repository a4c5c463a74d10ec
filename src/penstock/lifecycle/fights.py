"""Two versions held against each other because a person asked: on rows new to both, at the price of a look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.flow import Graph, Node
from penstock.core.metric import own_metrics, scorer_names
from penstock.core.ports import Home
from penstock.core.run import Entry, Run
from penstock.core.step import Ref
from penstock.core.workflow import Workflow
from penstock.engine.events import Listener, silent
from penstock.engine.local import Effect, Execution
from penstock.errors import ConflictError, UsageError
from penstock.lifecycle.attempt import NOTHING
from penstock.lifecycle.looks import COMPARED, OVERTAKEN, fight_of, look_body, next_look
from penstock.lifecycle.lower import effect, stage
from penstock.lifecycle.onrecord import on_record, question_of, told
from penstock.lifecycle.own import check_code, same_code
from penstock.lifecycle.register import json_artifact
from penstock.lifecycle.run import TURNS, Request, carry_out
from penstock.lifecycle.versions import Version, head, parts_of, stream, who_am_i

WHAT = "fight"
"""Kind of such a run."""
GIVEN = ("test", "first", "second", "seen", "schema", "about")
SIDES = ("first", "second")
"""Of a fight: the newer version, the older one."""
TRIES = 20


def lower_fight(workflow: Workflow) -> tuple[tuple[Ref, ...], dict[str, Any]]:
    """The steps of a fight: metrics as they are declared today, those of the gate among them as for a gate.

    Parameters
    ----------
    workflow : Workflow
    """
    given = effect("fighters", outputs=GIVEN)
    own: dict[str, Any] = (
        {"own": found} if (found := own_metrics(workflow.metrics, workflow.gate, workflow.decide)) else {}
    )
    compared = stage(
        "compare",
        Ref(given, "test"),
        first=Ref(given, "first"),
        second=Ref(given, "second"),
        seen=Ref(given, "seen"),
        schema=Ref(given, "schema"),
        about=Ref(given, "about"),
        metrics=scorer_names(workflow.metrics),
        target=workflow.hiding,
        roles=workflow.roles,
        seed=workflow.seed,
        **own,
        entry="penstock.stages.fight:fight",
    )
    return (Ref(effect("fought", Ref(compared), Ref(given, "about"))),), {"workflow": workflow.name}


@dataclass
class Fight:
    """What a fight reads from the ledger and puts on it.

    Parameters
    ----------
    home : Home
    graph : Graph
    run, who : str
    first, second : Version
        Is the first better than the second? Asked the other way round it is the same fight.

    Attributes
    ----------
    verdict : dict
        From `stages.fight`, as told from the side of the first; with "judged_by" where a gate has asked the same.
    look : int or None
        Number of the look that it put on record; None where an equal fight, or a gate that asked the same, is on
        record already.
    overtaken : bool
        Whether another run has spent the level at which it decided, so that nothing is on record.
    """

    home: Home
    graph: Graph
    run: str
    who: str
    first: Version
    second: Version
    fight: str = ""
    verdict: Mapping[str, Any] = field(default_factory=dict)
    look: int | None = None
    overtaken: bool = False

    def effects(self) -> dict[str, Callable[..., Effect]]:
        """Entry → method, for the engine."""
        return {f"penstock.lifecycle:{name}": getattr(self, name) for name in ("fighters", "fought")}

    def fighters(self, _node: Node, _inputs: Mapping[Any, Artifact], execution: Execution) -> Effect:
        """Both estimators, the held-out rows of the newer one, and what the older one has learned from."""
        newer, older = self._in_order()
        files = {one.number: parts_of(self.home, one.bundle) for one in (newer, older)}
        notes, about = list[str](), dict[str, Any]()
        models = {}
        for who, one in zip(SIDES, (newer, older), strict=True):
            check_code(self.home, one)
            mine = files[one.number]
            # The newer one's twin that was judged has not seen these rows, whatever was refitted since.
            twin = one.number == newer.number and "judged" in mine
            models[who] = mine["judged" if twin else "estimator"]
            notes += [f"{one.name} is judged by its twin that was fitted on training rows alone"] if twin else []
            about[who] = {
                "name": one.name,
                "columns": [column["name"] for column in self._load(mine["input"])["columns"]],
                "threshold": self._load(mine["decision"])["threshold"] if "decision" in mine else None,
            }
        seen = files[older.number].get("seen", NOTHING)
        about["learned"] = self._load(files[older.number]["learned"]) if seen is not NOTHING else None
        if seen is NOTHING:
            notes.append(f"{older.name} carries no digests of what it has learned from: it may have seen some rows")
        about["notes"] = notes
        test, generation = self._held_out(newer), str(newer.body.get("generation", ""))
        given = {"fitted": models["first"].digest, "seen": seen.digest, "about": {**about, "test": test.digest}}
        given["second"] = models["second"].digest
        self.fight = fight_of(self.graph, execution.known, given)
        thresholds = [about[who]["threshold"] for who in SIDES]
        question = question_of(self.graph, test, models["first"], models["second"], seen, thresholds)
        if (found := on_record(self.home.ledger, newer.workflow, question, self._load)) is not None:
            self.verdict = told(*found, newer, older, turned=self.first.number != newer.number)
            return Effect(skip="the gate has judged this", changed=False)
        about["looks"] = next_look(self.home.ledger, newer.workflow, generation, self.fight)
        schema, rest = files[newer.number]["schema"], json_artifact(self.home.objects, about)
        return Effect((test, models["first"], models["second"], seen, schema, rest), changed=False)

    def _in_order(self) -> list[Version]:
        """The newer one first, whoever was named first: told from either side it is one comparison, and one look."""
        return sorted((self.first, self.second), key=lambda one: one.number, reverse=True)

    def _load(self, artifact: Artifact) -> Any:
        return self.home.formats.load(artifact, self.home.objects)

    def _held_out(self, base: Version) -> Artifact:
        """The held-out rows on which a version was judged.

        Raises
        ------
        UsageError
            They are not kept any more.
        """
        recipe = base.body.get("recipes", {}).get("split", "")
        result = self.home.ledger.results([recipe]).get(recipe)
        found = result.outputs[1] if result is not None else None
        if found is None or (found.text is None and self.home.objects.missing([found.digest])):
            raise UsageError(
                f"the held-out rows of {base.name} are not kept any more",
                hint="`penstock run` makes them again where the file still holds out the same rows; else compare a "
                "version of the present hold-out",
            )
        return found

    def fought(self, _node: Node, inputs: Mapping[Any, Artifact], _execution: Execution) -> Effect:
        """Put the look on record, once for equal artifacts."""
        artifact, about = inputs["compare", ""], self._load(inputs["fighters", "about"])
        self.verdict = self._load(artifact)[SIDES[self._in_order().index(self.first)]]
        ledger, name, looks = self.home.ledger, stream(self.first.workflow, "look"), about["looks"]
        if artifact.text is None:
            self.home.objects.publish([artifact.digest])
        body = {
            "version": self.first.number,
            "against": self.second.name,
            "verdict": None,
            "run": self.run,
            **look_body(looks, self.fight, search=True, won=False, again=False),
            "comparison": artifact.to_json(),
            "artifacts": {"comparison": artifact.digest} if artifact.text is None else {},
        }
        for _ in range(TRIES):
            if any(one.body.get("fight") == self.fight for one in ledger.stream(name)):
                return Effect((artifact,), changed=False)
            last = head(ledger, name)
            if next_look(ledger, self.first.workflow, looks["generation"], self.fight)["share"] != looks["share"]:
                break
            try:
                [entry] = ledger.append([Entry(name, last.number + 1 if last else 1, body, who=self.who, why=COMPARED)])
            except ConflictError:
                continue
            self.look = entry.number
            return Effect((artifact,))
        self.overtaken = True
        return Effect(skip=OVERTAKEN, changed=False)


def equal(home: Home, first: Version, second: Version) -> bool:
    """Whether two versions answer alike, whatever they are asked: no look can tell them apart."""
    ours, theirs = (parts_of(home, one.bundle) for one in (first, second))
    alike = same_code(ours, theirs) and ours["estimator"].digest == theirs["estimator"].digest
    return alike and ours.get("decision") == theirs.get("decision")


def fight(
    home: Home,
    request: Request,
    entry: str,
    first: Version,
    second: Version,
    *,
    listen: Listener = silent,
    began: Callable[[Graph, Run], None] = lambda *_: None,
) -> Fight:
    """Hold two versions of a workflow against each other.

    Parameters
    ----------
    request : Request
        The file that declares the workflow.
    entry : str
        Module of the worker's process.
    first, second : Version

    Raises
    ------
    UsageError
        They are versions of two workflows, or what is needed is not kept any more.
    ConflictError
        Other runs have spent of the same α each time.
    PenstockError, CancelledError
        As `run.run`; a step that fails raises.
    """
    if first.workflow != second.workflow:
        raise UsageError(f"{first.name} and {second.name} answer different questions: they are of two workflows")
    fights = list[Fight]()

    def act(graph: Graph, record: Run) -> Fight:
        fights.append(Fight(home, graph, record.id, who_am_i(), first, second))
        return fights[-1]

    for _ in range(TURNS):
        _, outcome = carry_out(home, replace(request, what=WHAT), entry, act, listen=listen, began=began)
        if not fights[-1].overtaken:
            break
    if outcome.error is not None:
        raise outcome.error
    if fights[-1].overtaken:
        raise ConflictError(OVERTAKEN, hint="run it again")
    return fights[-1]
