"""One attempt at a champion: the steps of a run that act on the ledger, in their order."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_bytes
from penstock.core.flow import Graph, Node
from penstock.core.ports import Home
from penstock.core.run import Entry
from penstock.engine.local import Effect, Execution
from penstock.errors import ConflictError, MissingExtraError, UntrustedTypeError
from penstock.lifecycle import promote, rivals
from penstock.lifecycle.final import put_opening
from penstock.lifecycle.looks import OVERTAKEN, fight_of, generation_of, look_body, next_look
from penstock.lifecycle.onrecord import question_of
from penstock.lifecycle.own import both, bundle_types, same_code, unlike
from penstock.lifecycle.records import NOT_COMPARED
from penstock.lifecycle.register import bundle, declaration_of, git_state, json_artifact, register
from penstock.lifecycle.release import held_back, note_commit, unclean
from penstock.lifecycle.versions import CHALLENGER, CHAMPION, Version, alias, head, parts_of, stream, version

Key = tuple[str, str]
Rehearse = Callable[[Home, Version], int]
"""Answers a version's golden rows over real HTTP and gives their number; raises when an answer differs."""


@dataclass
class Attempt:
    """What a run of a workflow does to the ledger, and what came of it.

    Parameters
    ----------
    home : Home
    graph : Graph
    run : str
        Id of the run.
    who : str
    file : str
        The declaring file, for its Git commit.
    rehearse : callable

    release : {"auto", "ci", "never"}
    allow_dirty : bool
        Code that no commit holds may become champion of a shared ledger.

    Attributes
    ----------
    git : dict
        Commit and whether the tree differs from it; empty outside Git.
    overtaken : bool
        Whether another run has spent the level at which this one decided, so that nothing is on record.
    ruled, looked : bool
        Whether this run put a verdict on record, and a look at the hold-out with it.
    promoted, reigns : bool
        Whether this run moved the champion to its version, or another run of the same did so first.
    reigning : str
        Name of the champion that it found; "" where there was none.
    fight : str
        Digest of what the comparison is made from.
    question : str
        Digest of what the champion is asked for; "" where there is none.
    audited : Artifact or None
        The version's proof.
    """

    home: Home
    graph: Graph
    run: str
    who: str
    file: str
    rehearse: Rehearse
    release: str = "auto"
    allow_dirty: bool = False
    git: Mapping[str, Any] = field(default_factory=dict)
    version: Version | None = None
    new: bool = False
    verdict: Mapping[str, Any] | None = None
    overtaken: bool = False
    ruled: bool = False
    looked: bool = False
    passed: bool | None = None
    promoted: bool = False
    reigns: bool = False
    reigning: str = ""
    reason: str = ""
    golden: int = 0
    fight: str = ""
    question: str = ""
    audited: Artifact | None = None
    notes: list[str] = field(default_factory=list)

    def effects(self) -> dict[str, Callable[[Node, Mapping[Key, Artifact], Execution], Effect]]:
        """Entry → method, for the engine."""
        names = ("register", "champion", "gate", "deploy", "final")
        return {f"penstock.lifecycle:{name}": getattr(self, name) for name in names}

    def load(self, artifact: Artifact) -> Any:
        """A JSON artifact's value."""
        return self.home.formats.load(artifact, self.home.objects)

    def register(self, node: Node, inputs: Mapping[Key, Artifact], execution: Execution) -> Effect:
        """Bundle and number what was trained."""
        arguments = {name: inputs[tree[1], tree[2]] for name, tree in keywords(node)}
        self.audited = arguments.get("audit")
        recipes = {step: d.recipe for step, d in execution.outcome.decisions.items() if d.recipe is not None}
        sources = dict(execution.facts.sources)
        facts = {"recipes": recipes, "sources": sources}
        if (types := bundle_types(self.home, self.graph, arguments, self.file)) is not None:
            arguments["types"] = types
        made = bundle(self.home, self.graph, arguments, facts)
        self.git = git_state(_folder(self.file))
        body: dict[str, Any] = {
            **facts,
            "run": self.run,
            "declaration": declaration_of(self.graph),
            "git": dict(self.git),
            "rows": _rows(execution, self.load),
            "generation": self.generation(),
        }
        if "set" in self.graph.about:  # the file alone does not say how to make it again
            body["set"] = {"file": os.path.relpath(self.file, self.home.config.root), "set": self.graph.about["set"]}
        self.version, self.new = register(self.home, self.graph.name, made, body, self.who)
        if not self.new:
            note_commit(self.home, self.version, self.git, self.who)
        about = json_artifact(self.home.objects, {"version": self.version.number, "bundle": made.digest})
        return Effect((about,), changed=self.new)

    def champion(self, node: Node, inputs: Mapping[Key, Artifact], execution: Execution) -> Effect:
        """Who reigns, and how it is to be fought: not by a version that the audit refuses."""
        assert self.version is not None
        present, number = alias(self.home.ledger, self.graph.name, CHAMPION)
        self.reigning = present.name if present is not None else ""
        if present is not None and present.number == self.version.number:
            self.passed = True
            self.reason = f"{self.version.name} is the champion"
            return Effect(skip=self.reason, changed=False)
        if present is not None and present.body.get("decided", {}).get("from") == self.version.number:
            self.passed, at = True, present.body["decided"]["threshold"]
            by_hand = f"it is {self.version.name} from {at:g} on, as a person decided"
            self.reason = f"{present.name} is the champion: {by_hand} (decide=ps.Threshold(at={at:g}) declares it)"
            return Effect(skip=self.reason, changed=False)
        if (refusal := self._refusal(inputs["audit", ""])) is not None:
            return Effect(skip=refusal, changed=self.ruled)
        about: dict[str, Any] = {"champion": None, "same_declaration": False, "newer_data": False, "moves": number}
        about |= {"champion_input": None, "unseen_from": None, "same_estimator": False, "champion_threshold": None}
        about |= {"learned": None, "champion_refit": False, "unanswered": ""}
        fitted = seen = held = NOTHING
        found = rivals.named(self.home, self.graph.name, rivals.outputs_of(node.outputs))
        about["sizes"] = rivals.sizes(self.home, {CHALLENGER: self.version, CHAMPION: present, **found})
        if present is not None:
            ours, theirs = (parts_of(self.home, one.bundle) for one in (self.version, present))
            like = same_code(ours, theirs)
            served = like and theirs["estimator"].digest == ours["estimator"].digest
            if served and theirs.get("decision") == ours.get("decision"):
                self.passed = True
                self.reason = f"{present.name} is the champion, and its estimator is the same"
                return Effect(skip=self.reason, changed=False)
            if (back := self._taken_back(ours, execution)) is not None:
                self.passed, self.reason = True, f"{present.name} is the champion: {back}"
                return Effect(skip=self.reason, changed=False)
            # Twins that were judged have not seen the hold-out, whatever was refitted since: equal ones are compared.
            mine, other = ours.get("judged", ours["estimator"]), theirs.get("judged", theirs["estimator"])
            same = like and mine.digest == other.digest
            fitted = other if same else theirs["estimator"]
            about |= self._about(present, theirs, execution) | {"same_estimator": same}
            if not same:
                about["unanswered"] = unlike(self.home, theirs)
                about |= {"advice": both(present, self.version)} if about["unanswered"] else {}
                fitted = NOTHING if about["unanswered"] else fitted
                seen, told = self._seen_by(present, theirs, execution)
                held = theirs.get("held", NOTHING)
                about |= told
            bounds = [self.load(one["decision"])["threshold"] if "decision" in one else None for one in (ours, theirs)]
            test = execution.known.get(("split", "test"))
            self.question = question_of(self.graph, test, mine, theirs["estimator"], seen, bounds)
        return self._opponents((fitted, seen, held), about, found, execution)

    def _opponents(
        self, champion: rivals.Parts, about: dict[str, Any], found: Mapping[str, Version | None], execution: Execution
    ) -> Effect:
        """The champion beside the other versions that rules name, and which look at the hold-out this is."""
        asked = {name: self._rival(name, one, execution) for name, one in found.items()}
        about["rivals"] = {name: told for name, (_, told) in asked.items()}
        parts = champion, *(three for three, _ in asked.values())
        given = {"parts": [[one.digest for one in three] for three in parts], "about": about}
        self.fight = fight_of(self.graph, execution.known, given)
        about["looks"] = next_look(self.home.ledger, self.graph.name, self.generation(), self.fight)
        more = [artifact for three in parts[1:] for artifact in three]
        return Effect((*champion, json_artifact(self.home.objects, about), *more), changed=False)

    def _rival(self, name: str, other: Version | None, execution: Execution) -> tuple[rivals.Parts, dict[str, Any]]:
        """A version that a rule names, and how it is to be asked."""
        assert self.version is not None
        nothing = (NOTHING, NOTHING, NOTHING)
        if other is None:
            return nothing, rivals.absent(name)
        if other.number == self.version.number:
            return nothing, {"champion": other.name, "unanswered": "it is the version itself"}
        files = parts_of(self.home, other.bundle)
        told = {**self._about(other, files, execution), "unanswered": unlike(self.home, files)}
        seen, known = self._seen_by(other, files, execution)
        fitted = NOTHING if told["unanswered"] else files["estimator"]
        return (fitted, seen, files.get("held", NOTHING)), {**told, **known}

    def generation(self) -> str:
        """Which hold-out the version is judged on."""
        return generation_of(self.graph)

    def _taken_back(self, ours: Mapping[str, Artifact], execution: Execution) -> str | None:
        """How a person went back from a version that answers as this one and knew the same data; None where nobody did.

        Nothing is known now that was not known then: the same gate would pass it again.
        """
        assert self.version is not None
        for number, moved in promote.taken_back(self.home, self.graph.name).items():
            other = version(self.home.ledger, self.graph.name, number)
            theirs = parts_of(self.home, other.bundle)
            answers = (theirs["estimator"].digest, theirs.get("decision"))
            same = same_code(ours, theirs) and answers == (ours["estimator"].digest, ours.get("decision"))
            if same and other.body["sources"] == dict(execution.facts.sources):
                went = f"{moved.who} went back from {other.name} ({moved.why})"
                return f"{went}; newer data, or `penstock promote {self.version.name} --because …`, brings it back"
        return None

    def _about(self, present: Version, files: Mapping[str, Artifact], execution: Execution) -> dict[str, Any]:
        """How the champion came to be, and how it answers."""
        assert self.version is not None
        return {
            "champion": present.name,
            "champion_input": [column["name"] for column in self.load(files["input"])["columns"]],
            "same_declaration": present.body["declaration"] == self.version.body["declaration"],
            "newer_data": present.body["sources"] != dict(execution.facts.sources),
            "champion_threshold": self.load(files["decision"])["threshold"] if "decision" in files else None,
        }

    def _seen_by(
        self, present: Version, files: Mapping[str, Artifact], execution: Execution
    ) -> tuple[Artifact, dict[str, Any]]:
        """The rows that the champion has learned from: its digests, else its table where that is kept.

        Versions made before there were digests have none; then it is said where nothing protects the comparison.
        """
        if "seen" in files:
            return files["seen"], {"learned": self.load(files["learned"]), "champion_refit": "judged" in files}
        recipe = present.body.get("recipes", {}).get("split", "")
        result = self.home.ledger.results([recipe]).get(recipe)
        train = result.outputs[0] if result is not None else None
        ours = execution.known.get(("split", "train"))
        if train is not None and ours is not None and train.digest == ours.digest:
            return NOTHING, {}
        if train is None or (train.text is None and self.home.objects.missing([train.digest])):
            why = f"{present.name} carries no digests of the rows that it has learned from, and they are not kept"
            return NOTHING, {"unseen_from": f"{why}: some of the held-out rows may be among them"}
        return train, {}

    def gate(self, _node: Node, inputs: Mapping[Key, Artifact], _execution: Execution) -> Effect:
        """Put the verdict and the look at the hold-out on record, once for equal artifacts."""
        assert self.version is not None
        comparison, about = inputs["compare", ""], self.load(inputs["champion", "about"])
        self.verdict = self.load(comparison)
        self.passed = self.verdict["outcome"] == "better"
        number = self._record(comparison, about)
        if number is None:
            self.passed, self.overtaken = None, True
            self.reason = f"{OVERTAKEN}; run again"
            return Effect((), skip=self.reason, changed=False)
        answer = json_artifact(self.home.objects, {"passed": self.passed, "verdict": number, "moves": about["moves"]})
        if not self.passed:
            self.reason = self.verdict["sentence"]
            return Effect((answer,), skip=f"the gate: {self.reason}", changed=self.looked)
        promote.challenger(self.home, self.version, number, self.who)
        if (held := self._held_back()) is not None:
            self.reason = held
            return Effect((answer,), skip=held, changed=self.looked)
        return Effect((answer,), changed=self.looked)

    def _refusal(self, audit: Artifact) -> str | None:
        """Why the audit refuses the version, put on record as its verdict; None where it does not.

        Whoever cannot be promoted is not compared: that would open the hold-out, and spend of its α, for nothing.
        """
        reason, errors = refusal(self.load(audit))
        if not errors:
            return None
        self.passed, self.reason = False, reason
        self.verdict = {
            "outcome": NOT_COMPARED,
            "summary": self.reason,
            "sentence": self.reason,
            "rules": [],
            "notes": ["no look at the hold-out was spent on it"],
        }
        told = json_artifact(self.home.objects, self.verdict)
        self._append(told, {"champion": None}, lambda _: {}, audit_errors=errors)
        return self.reason

    def _record(self, comparison: Artifact, about: Mapping[str, Any]) -> int | None:
        """Append verdict and look in one transaction; equal artifacts spend no second look.

        None where the level at which it was decided is not the next one any more: two runs may not spend the same α.
        """

        def look(verdict: int) -> dict[str, Any] | None:
            if self.verdict is not None and self.verdict.get("looks") == {}:  # no rule could be fought
                return {}
            told = self._spent(about["looks"])
            if told is None:
                return None
            assert self.version is not None
            looked = {"version": self.version.number, "against": about["champion"], "verdict": verdict, "run": self.run}
            return looked | told | ({"question": self.question} if self.question else {})

        return self._append(comparison, about, look)

    def _append(
        self,
        comparison: Artifact,
        about: Mapping[str, Any],
        look: Callable[[int], dict[str, Any] | None],
        audit_errors: int = 0,
    ) -> int | None:
        """Append a verdict, and the look that goes with it where there is one; None where no look may be spent now."""
        assert self.version is not None
        assert self.verdict is not None
        ledger, name = self.home.ledger, self.graph.name
        verdicts, looks = stream(name, "verdict"), stream(name, "look")
        body = {
            "version": self.version.number,
            "against": about["champion"],
            "outcome": self.verdict["outcome"],
            "passed": self.passed,
            "sentence": self.verdict["sentence"],
            "rules": self.verdict["rules"],
            "refit": self.graph.about.get("refit") == "all",
            "audit_errors": audit_errors,
            **{name: self.verdict[name] for name in ("notes", "looks") if self.verdict.get(name)},
            "artifacts": {"comparison": comparison.digest} if comparison.text is None else {},
            "comparison": comparison.to_json(),
            "run": self.run,
        }
        if comparison.text is None:
            self.home.objects.publish([comparison.digest])
        for _ in range(20):
            for old in ledger.stream(verdicts):  # again at each try: another run of the same may have been first
                if old.body["comparison"]["digest"] == comparison.digest and old.body["version"] == self.version.number:
                    return old.number
            last, seen = head(ledger, verdicts), head(ledger, looks)
            number = last.number + 1 if last else 1
            looked = look(number)
            if looked is None:
                return None
            entries = [Entry(verdicts, number, body, who=self.who, why=f"run:{self.run}")]
            if looked:
                entries.append(Entry(looks, seen.number + 1 if seen else 1, looked, who=self.who, why="gate"))
            try:
                ledger.append(entries)
            except ConflictError:
                continue
            self.ruled, self.looked = True, bool(looked)
            return number
        raise ConflictError(f"{name}: verdicts were recorded by others all the time", hint="run again")

    def _spent(self, told: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the look spends of alpha; None where another run has spent that since the level was told."""
        assert self.verdict is not None
        name, search = self.graph.name, bool(self.verdict.get("looks", {}).get("search"))
        looks = self.home.ledger.stream(stream(name, "look"))
        again = any(one.body.get("fight") == self.fight for one in looks)
        now = next_look(self.home.ledger, name, told["generation"], self.fight)
        if search and not again and now["share"] != told["share"]:
            return None
        return look_body(told, self.fight, search=search, won=bool(self.passed), again=again)

    def _held_back(self) -> str | None:
        """Why a version that passed is not promoted by this run, or None."""
        assert self.version is not None
        why = held_back(self.home, self.release, self.git, allow_dirty=self.allow_dirty)
        return None if why is None else f"{why}: `penstock promote {self.version.name} --because …` promotes it"

    def deploy(self, _node: Node, inputs: Mapping[Key, Artifact], _execution: Execution) -> Effect:
        """Golden rows over real HTTP on a scratch server; then alias and deployment move in one transaction."""
        assert self.version is not None
        ruling = self.load(inputs["gate", ""])
        try:
            self.golden = self.rehearse(self.home, self.version)
        except (MissingExtraError, UntrustedTypeError) as error:
            untrusted = isinstance(error, UntrustedTypeError)  # which begins with the version's name
            told = error.what.rstrip(".") if untrusted else f"{self.version.name} stays challenger: {error.what}"
            self.reason = f"{told} ({error.hint})"
            return Effect(skip=self.reason)
        try:
            promote.move(
                self.home,
                self.version,
                why=self.verdict["sentence"] if self.verdict else "passed its gate",
                who=self.who,
                after=ruling["moves"],
                verdict=ruling["verdict"],
                dirty=unclean(self.git) if self.home.config.shared else "",
            )
        except ConflictError as error:
            present, _ = alias(self.home.ledger, self.graph.name, CHAMPION)
            if present is not None and present.number == self.version.number:
                self.reigns = True
                self.reason = f"{self.version.name} is the champion: another run of the same was first"
                return Effect(skip=self.reason)
            self.passed, self.reason = None, f"{error.what}; run again to compare with it"
            return Effect(skip=self.reason)
        self.promoted = True
        about = {"version": self.version.number, "golden": self.golden}
        return Effect((json_artifact(self.home.objects, about),))

    def final(self, _node: Node, inputs: Mapping[Key, Artifact], _execution: Execution) -> Effect:
        """Put on record that the final hold-out was opened."""
        assert self.version is not None
        figures = self.load(inputs["final", ""])
        about, new = put_opening(self.home, self.version, figures, run=self.run, who=self.who)
        if self.audited is not None and refusal(self.load(self.audited))[1]:
            about["notes"].append(
                f"{self.version.name} was refused: these figures are of a version that nothing serves"
            )
        return Effect((json_artifact(self.home.objects, about),), changed=new)


def refusal(proof: Mapping[str, Any]) -> tuple[str, int]:
    """Why an audit refuses a version, and for how many errors; "" and 0 where it does not.

    Examples
    --------
    >>> refusal({"findings": [{"grade": "note", "what": "few rows"}, {"grade": "error", "what": "`paid` is a copy"}]})
    ('the audit found an error, so it was not compared: `paid` is a copy', 1)
    """
    errors = [one for one in proof.get("findings", ()) if one["grade"] == "error"]
    return (
        (f"the audit found an error, so it was not compared: {errors[0]['what']}", len(errors)) if errors else ("", 0)
    )


NOTHING = Artifact(digest_bytes(b"null"), "json", 4, "null")
"""What stands for a champion, or its rows, where there is none."""


def keywords(node: Node) -> list[tuple[str, Any]]:
    """Keyword arguments of a node that are references, as (name, ["ref", step, output])."""
    _, (_, keywords) = node.tree
    return [(key, value) for key, value in keywords[1]]


def _rows(execution: Execution, load: Callable[[Artifact], Any]) -> dict[str, int]:
    """Rows on each side of the split."""
    artifact = execution.known.get(("split", "report"))
    report = load(artifact) if artifact is not None else {}
    return {side: report[side] for side in ("n_train", "n_test") if side in report}


def _folder(file: str) -> str:
    return file.rpartition("/")[0] or "."
