"""Another threshold for a version: a new version with the same estimator and a verdict of its own, without training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from penstock.core.answer import decided, with_decision
from penstock.core.artifact import Artifact
from penstock.core.flow import Graph, Node
from penstock.core.metric import named_rules, own_metrics, scorer_names
from penstock.core.ports import Home
from penstock.core.run import Run
from penstock.core.step import Ref
from penstock.core.workflow import Workflow
from penstock.engine.events import Listener, silent
from penstock.engine.local import Effect, Execution
from penstock.errors import MissingExtraError, UntrustedTypeError, UsageError
from penstock.lifecycle import promote
from penstock.lifecycle.attempt import Attempt, Rehearse, keywords
from penstock.lifecycle.lower import champion, effect, opponents, stage
from penstock.lifecycle.own import check_code
from penstock.lifecycle.register import json_artifact, manifest_of, register
from penstock.lifecycle.release import code_of
from penstock.lifecycle.run import TURNS, Report, Request, carry_out, conclude
from penstock.lifecycle.versions import Version, parts_of, who_am_i

WHAT = "decide"
"""Kind of such a run."""
KEPT = ("recipes", "sources", "declaration", "rows", "set", "generation")
"""What of a version's body holds for the one that is made of it."""
BASE = ("schema", "metrics", "judged", "predictions", "train", "test")


def lower_decision(workflow: Workflow, extra: Mapping[str, Any]) -> tuple[tuple[Ref, ...], dict[str, Any]]:
    """The steps that judge a version under another threshold.

    Parameters
    ----------
    workflow : Workflow
        As declared today: its gate, metrics and slices judge.
    extra : dict
        "threshold"; "columns": those that the version's model reads.
    """
    base = effect("original", outputs=BASE)
    audited = effect("audit", Ref(base, "schema"))
    own = own_metrics(workflow.metrics, workflow.gate)
    judged: dict[str, Any] = {"metrics": scorer_names(workflow.metrics), "slices": workflow.slices}
    judged |= {"baseline": workflow.baseline} if workflow.baseline is not None else {}
    known: dict[str, Any] = {"schema": Ref(base, "schema"), "target": workflow.hiding, "seed": workflow.seed}
    known |= {"own": own} if own else {}
    again = stage(
        "redecide",
        Ref(base, "metrics"),
        Ref(base, "predictions"),
        threshold=extra["threshold"],
        **known,
        outputs=("metrics", "threshold", "decision"),
        entry="penstock.stages.decide:rejudged",
    )
    made: dict[str, Any] = {name: Ref(again, name) for name in again.options.outputs}
    registered = effect("register", **made)
    reigning = champion(workflow, registered, audited)
    compared = stage(
        "compare",
        Ref(base, "test"),
        Ref(base, "train"),
        fitted=Ref(base, "judged"),
        **opponents(workflow, reigning),
        rules=named_rules(workflow.gate, own),
        decision=Ref(again, "decision"),
        roles=replace(workflow.roles, features=tuple(extra["columns"])),
        **judged,
        **known,
    )
    ruled = effect("gate", Ref(compared), Ref(registered), Ref(reigning, "about"))
    about = {"workflow": workflow.name, "release": workflow.release, "seed": workflow.seed, "refit": "no"}
    return (Ref(ruled),), about


@dataclass
class Redecision(Attempt):
    """An attempt at the champion by an estimator that is there already.

    Parameters
    ----------
    base : Version
        Whose estimator it is.
    why : str
        The reason that a person gave.
    """

    base: Version | None = None
    why: str = ""

    def effects(self) -> dict[str, Callable[..., Effect]]:
        """Entry → method, for the engine."""
        names = ("original", "audit", "register", "champion", "gate")
        return {f"penstock.lifecycle:{name}": getattr(self, name) for name in names}

    def original(self, _node: Node, _inputs: Mapping[Any, Artifact], _execution: Execution) -> Effect:
        """What the version was made and judged from."""
        assert self.base is not None
        files = parts_of(self.home, self.base.bundle)
        check_code(self.home, self.base)
        predictions = self._output("evaluate", 1)
        train, test = self._output("split", 0), self._output("split", 1)
        judged = files.get("judged", files["estimator"])
        return Effect((files["schema"], files["metrics"], judged, predictions, train, test), changed=False)

    def generation(self) -> str:
        """The hold-out of the version that it is made of."""
        assert self.base is not None
        return str(self.base.body.get("generation", ""))

    def _taken_back(self, _ours: Mapping[str, Artifact], _execution: Execution) -> None:
        """Nothing stands against it: a person asks for this version, with a reason."""

    def _output(self, step: str, at: int) -> Artifact:
        """An output of a step that the version came from.

        Raises
        ------
        UsageError
            It is not kept any more.
        """
        assert self.base is not None
        recipe = self.base.body.get("recipes", {}).get(step, "")
        result = self.home.ledger.results([recipe]).get(recipe)
        found = result.outputs[at] if result is not None and len(result.outputs) > at else None
        if found is None or (found.text is None and self.home.objects.missing([found.digest])):
            raise UsageError(
                f"what {self.base.name} was judged on is not kept any more ({step})",
                hint="declare decide=ps.Threshold(at=…) and run: it is made again",
            )
        return found

    def audit(self, _node: Node, _inputs: Mapping[Any, Artifact], _execution: Execution) -> Effect:
        """The audit of the version: its data are the same."""
        assert self.base is not None
        return Effect((parts_of(self.home, self.base.bundle)["audit"],), changed=False)

    def register(self, node: Node, inputs: Mapping[Any, Artifact], _execution: Execution) -> Effect:
        """The same bundle but for decision, figures and the labels of its golden rows, as a version of its own."""
        assert self.base is not None
        files = parts_of(self.home, self.base.bundle)
        files |= {name: inputs[tree[1], tree[2]] for name, tree in keywords(node)}
        contract = with_decision(self.load(files["input"]), self.load(files["decision"]))
        golden = self.load(files["golden"])
        expected = [decided(answer["score"], contract) for answer in golden["expected"]]
        files["golden"] = json_artifact(self.home.objects, {**golden, "expected": expected})
        made = manifest_of(self.home, self.graph.name, files)
        kept = {name: self.base.body[name] for name in KEPT if name in self.base.body}
        told = {"from": self.base.number, "threshold": contract["threshold"], "because": self.why}
        self.git = dict(code_of(self.home, self.base))
        body = {**kept, "run": self.run, "git": self.git, "decided": told}
        self.version, self.new = register(self.home, self.graph.name, made, body, self.who)
        about = json_artifact(self.home.objects, {"version": self.version.number, "bundle": made.digest})
        return Effect((about,), changed=self.new)


def redecide(
    home: Home,
    request: Request,
    entry: str,
    base: Version,
    threshold: float,
    *,
    why: str,
    rehearse: Rehearse,
    force: bool = False,
    allow_dirty: bool = False,
    listen: Listener = silent,
    began: Callable[[Graph, Run], None] = lambda *_: None,
) -> Report:
    """Judge a version under another threshold, and promote it if its gate passed it, or by force.

    Parameters
    ----------
    request : Request
        The file that declares the workflow.
    base : Version
    threshold : float
    why : str
        The reason, on record.
    rehearse : callable
        Replays the new version's golden rows over HTTP.

    Returns
    -------
    Report
        Of which `attempt.version` is the new version, and `attempt.promoted` whether it is champion now.

    Raises
    ------
    UsageError
        No reason; no task of two classes; what the version was judged on is not kept any more.
    RefusedError, ConflictError
        As `promote.promote`; the rehearsal gave other answers.
    """
    if not why.strip():
        raise UsageError("a promotion by hand needs a reason", hint='add --because "why"')
    contract = home.formats.load(parts_of(home, base.bundle)["input"], home.objects)
    if contract["task"] != "binary":
        raise UsageError(f"{base.name} answers no question of two classes ({contract['task']}): it has no threshold")
    extra: dict[str, Any] = {"threshold": threshold, "columns": [column["name"] for column in contract["columns"]]}
    if "set" in base.body:
        extra["set"] = base.body["set"]["set"]
    start, attempts = time.perf_counter(), list[Redecision]()

    def act(graph: Graph, record: Run) -> Redecision:
        made = Redecision(home, graph, record.id, who_am_i(), request.file, rehearse, base=base, why=why)
        attempts.append(made)
        return made

    asked = replace(request, what=WHAT, extra=extra)
    for _ in range(TURNS):
        graph, outcome = carry_out(home, asked, entry, act, listen=listen, began=began)
        if not attempts[-1].overtaken:
            break
    report = Report(graph, outcome, attempts[-1])
    judged = attempts[-1].verdict is not None  # else it is the champion already
    if outcome.error is None and judged and (report.exit_code == 0 or force):
        _promote(attempts[-1], force=force, allow_dirty=allow_dirty)
    report.wall_s = time.perf_counter() - start
    conclude(home, report)
    return report


def _promote(attempt: Redecision, *, force: bool, allow_dirty: bool) -> None:
    """Rehearse and move, as a promotion by hand."""
    assert attempt.version is not None
    try:
        attempt.golden = attempt.rehearse(attempt.home, attempt.version)
    except (MissingExtraError, UntrustedTypeError) as error:
        attempt.reason = f"{attempt.version.name} stays challenger: {error.what} ({error.hint})"
        return
    entry = promote.promote(
        attempt.home, attempt.version, why=attempt.why, who=attempt.who, force=force, allow_dirty=allow_dirty
    )
    attempt.promoted = entry is not None
    attempt.passed = True
