"""Doing a version or a run again from what is on record, and saying how near it comes: bytes, answers, or neither."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.flow import Graph
from penstock.core.ports import Home
from penstock.core.run import Entry
from penstock.engine.events import Listener, silent
from penstock.engine.handle import Server
from penstock.engine.local import Outcome
from penstock.engine.reasons import LIBRARY
from penstock.errors import ConflictError, NotReproducibleError, PenstockError
from penstock.lifecycle.again import Opened, Site, clean_folder, make_site, only_steps
from penstock.lifecycle.agreement import AGREE, RECORDED
from penstock.lifecycle.attempt import keywords
from penstock.lifecycle.changes import changes
from penstock.lifecycle.environments import differences
from penstock.lifecycle.original import Original, check_trust, stored
from penstock.lifecycle.versions import Version, head, stream, who_am_i

BYTES, PREDICTIONS, NEAR, DIFFERENT = "identical bytes", "identical predictions", "equal within t", "different"
WITHIN = 1e-6
"""The t up to which answers are called equal where nobody names another."""
TRIES = 20


@dataclass(slots=True)
class Reproduction:
    """How near a version came when it was done again.

    Attributes
    ----------
    original : Original
    outcome : str
        "identical bytes", "identical predictions", "equal within t" or "different".
    within : float
        The t; see `stages.agree.apart`.
    asked : bool
        Whether a person named it, and so accepts it.
    compared : int
        Steps whose output was held against the one on record.
    unknown : list of str
        Steps of which nothing is on record any more.
    step : str
        The first that differs, in the order of the flow; "" where none does.
    causes : list of str
        The likeliest first.
    environment : list of str
        What differs between then and now.
    agreement : dict
        As `stages.agree.agree` gives it; empty where the estimator has the same bytes, or none was trained.
    reread : list of str
        Sources that were read from their files, since their tables are not kept.
    wall_s : float
    """

    original: Original
    outcome: str = BYTES
    within: float = WITHIN
    asked: bool = False
    compared: int = 0
    unknown: list[str] = field(default_factory=list)
    step: str = ""
    causes: list[str] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)
    agreement: dict[str, Any] = field(default_factory=dict)
    reread: list[str] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 for the same bytes or answers, and for answers within a t that was named; 6 else."""
        return 0 if self.outcome in (BYTES, PREDICTIONS) or (self.outcome == NEAR and self.asked) else 6

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        told = f"equal within {self.within:g}" if self.outcome == NEAR else self.outcome
        return f"{told}; first at {self.step}" if self.step and self.outcome == DIFFERENT else told

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        names = ("outcome", "within", "compared", "unknown", "step", "causes", "environment", "agreement", "reread")
        return (
            {"version": self.original.name if self.original.number is not None else None, "run": self.original.run}
            | {name: getattr(self, name) for name in names}
            | {
                "exit_code": self.exit_code,
                "wall_s": round(self.wall_s, 3),
            }
        )


def reproduce(
    home: Home,
    original: Original,
    opened: Opened,
    entry: str,
    *,
    trust: bool = False,
    within: float | None = None,
    python: Callable[[str, Mapping[str, Any], Mapping[str, str]], str] | None = None,
    listen: Listener = silent,
) -> Reproduction:
    """Do it again from stored code and recorded sources, in a clean folder and processes of its own.

    Parameters
    ----------
    home : Home
    original : Original
        Of a run that registered nothing, the steps that gave something are done again.
    opened : callable
        Opens the project in a folder.
    entry : str
        Module of the worker's process entry.
    trust : bool
        Run stored code although it was recorded elsewhere.
    within : float, optional
        The t up to which different answers are accepted; by default none are, and they are graded by `WITHIN`.
    python : callable, optional
        Of a folder, what is on record of the machine, and library → version: makes an environment there, and gives
        its interpreter.
    listen : callable
        Told of each step.

    Returns
    -------
    Reproduction
        Put on record, also where it differs.

    Raises
    ------
    UntrustedTypeError, NotReproducibleError, CancelledError
    CorruptObjectError, MissingObjectError
    """
    start = time.perf_counter()
    check_trust(home, original, trust=trust)
    code, then = stored(home, original)
    with clean_folder() as folder:
        made = ""
        if python is not None:
            made = python(os.path.join(folder, "env"), then, _libraries(home, original))
        site = make_site(home, code, folder, opened, entry=entry, python=made)
        try:
            found = _Attempt(home, original, site, then, within).go(listen)
        finally:
            site.far.ledger.close()
    found.wall_s = time.perf_counter() - start
    _put_on_record(home, found, new_environment=python is not None)
    return found


def _libraries(home: Home, original: Original) -> dict[str, str]:
    """Libraries that the code reaches, with their versions: what a bundle tells of it, else all of its steps' parts."""
    if "environment" in original.files:
        return dict(home.formats.load(original.files["environment"], home.objects))
    codes = home.ledger.codes({result.code for result in original.results.values() if result.code})
    names = {name: text for parts in codes.values() for name, text in parts.items() if name.startswith(LIBRARY)}
    return {name.removeprefix(LIBRARY): text for name, text in names.items()}


class _Attempt:
    def __init__(
        self, home: Home, original: Original, site: Site, then: Mapping[str, Any], within: float | None
    ) -> None:
        self.home, self.original, self.site, self.then = home, original, site, then
        self.found = Reproduction(original, within=WITHIN if within is None else within, asked=within is not None)
        self.recorded = original.results
        self.rows: dict[tuple[str, str], Artifact] = {}

    def go(self, listen: Listener) -> Reproduction:
        server = self.site.serve()
        try:
            graph = self._opened(server)
            self._check(graph)
            self.found.environment = differences(self.then, graph.about["machine"])
            plain = self._to_do(graph)
            facts = self.site.facts(plain, self.original.sources, self.recorded)
            self.found.reread = self.site.reread
            if self.site.gone:
                raise NotReproducibleError(
                    f"{self.original.name}: {', '.join(self.site.gone)} is gone: its table is not kept any more, and "
                    "its file is not there or holds something else",
                    hint="bring the file back as it was; `penstock lineage` tells its digest",
                )
            self.rows = self._then(graph)
            outcome = self.site.execute(server, plain, facts, {}, listen)
            self._hold(plain, outcome)
            if self.found.step:
                self._grade(server, graph, facts, outcome)
        finally:
            server.close()
        return self.found

    def _opened(self, server: Server) -> Graph:
        """The flow that the stored code declares.

        Raises
        ------
        NotReproducibleError
        """
        try:
            return server.opened()
        except PenstockError as error:
            raise NotReproducibleError(
                f"the stored code of {self.original.name} cannot be imported here: {error.what}",
                hint="files that it opens by itself are not kept: use ps.read; for the libraries of then: --new-env",
            ) from error

    def _to_do(self, graph: Graph) -> Graph:
        """All steps that give something; of a run those that gave something then, with all that they need.

        Raises
        ------
        NotReproducibleError
            Of a run nothing can be done again.
        """
        plain = only_steps(graph, (AGREE,))
        if self.original.number is not None:
            return plain
        left = {node.id for node in plain.nodes} - set(self.original.done)
        plain = only_steps(plain, tuple(left))
        if not plain.nodes:
            raise NotReproducibleError(
                f"{self.original.name} has no step to do again: nothing that it gave is on record any more",
                hint="a run with other steps, or a version, can be reproduced",
            )
        return plain

    def _check(self, graph: Graph) -> None:
        """What was imported is what was stored, and nothing of the work tree.

        Raises
        ------
        NotReproducibleError
        """
        told = graph.about["code"]
        absent = [name for name in told["files"] if name not in self.site.code["files"]]
        if told["outside"] or absent:
            raise NotReproducibleError(
                f"{self.original.name}: {[*told['outside'], *absent][0]} was imported, which is not of its stored code",
                hint="is the project installed in this environment? reproduce from one in which it is not",
            )
        if graph.name != self.original.workflow:
            raise NotReproducibleError(f"the stored code of {self.original.name} declares {graph.name}")

    # ── holding one against the other ───────────────────────────────────────────────────────────────────────

    def _hold(self, plain: Graph, outcome: Outcome) -> None:
        """Find the first step whose output is another."""
        then = self.rows
        for node in plain.nodes:
            keys = [(node.id, name) for name in node.names]
            known = [key for key in keys if key in then]
            failed = outcome.states.get(node.id) == "failed"
            if not known and not failed:
                self.found.unknown.append(node.id)
                continue
            now = {key: outcome.artifacts[key].digest for key in known if key in outcome.artifacts}
            if failed or any(now.get(key) != then[key].digest for key in known):
                self.found.step = self.found.step or (node.id if failed or now else "")
            self.found.compared += bool(now)
        if not self.found.compared and outcome.error is None:
            raise NotReproducibleError(f"of {self.original.name} nothing is on record to compare with")

    def _then(self, graph: Graph) -> dict[tuple[str, str], Artifact]:
        """(step, output) → artifact on record: the bundle's file that it became, else what the step gave."""
        found: dict[tuple[str, str], Artifact] = {}
        for node in graph.nodes:
            result = self.recorded.get(node.id)
            if result is not None and len(result.outputs) == len(node.names):
                pairs = zip(node.names, result.outputs, strict=True)
                found |= {(node.id, name): artifact for name, artifact in pairs}
        places = self._places(graph) if self.original.number is not None else {}
        return found | {key: self.original.files[name] for name, key in places.items() if name in self.original.files}

    def _places(self, graph: Graph) -> dict[str, tuple[str, str]]:
        """File of a bundle → the (step, output) that it is; empty for a flow that registers nothing."""
        nodes = [node for node in graph.nodes if node.id == "register" and node.kind == "effect"]
        return {name: (tree[1], tree[2]) for node in nodes for name, tree in keywords(node)}

    # ── grading what differs ────────────────────────────────────────────────────────────────────────────────

    def _grade(self, server: Any, graph: Graph, facts: Any, outcome: Outcome) -> None:
        found = self.found
        found.outcome = DIFFERENT
        if outcome.error is not None:
            found.causes.append(f"{found.step} failed: {outcome.error.what}")
        else:
            self._ask_both(server, graph, facts, outcome)
        if found.outcome != PREDICTIONS and outcome.error is None:
            self._differs_from_itself(graph, facts, outcome)
        found.causes += [text for text in self._explained(graph) if text not in found.causes]

    def _ask_both(self, server: Any, graph: Graph, facts: Any, outcome: Outcome) -> None:
        """Grade by the answers of both estimators, each with the threshold beside it."""
        found, places = self.found, self._places(graph)
        asked_of = {name: places[name] for name in ("estimator", "decision") if name in places}
        pairs = {name: (outcome.artifacts.get(key), self.rows.get(key)) for name, key in asked_of.items()}
        known = dict(outcome.artifacts)
        for name, (ours, theirs) in pairs.items():
            if ours is None or theirs is None:
                return  # a flow that trains nothing, or a run that did not get there
            known[RECORDED, name if len(pairs) > 1 else ""] = theirs
        if not pairs:
            return
        if all(ours.digest == theirs.digest for ours, theirs in pairs.values() if ours and theirs):
            found.outcome = PREDICTIONS
            return
        if not all(self.site.bring(theirs) for _, theirs in pairs.values() if theirs):
            found.causes.append("the recorded estimator is not kept whole: its answers could not be compared")
            return
        asked = self.site.alone(server, graph, facts, AGREE, known)
        if asked.error is not None:
            found.causes.append(f"the recorded estimator could not be asked: {asked.error.what}")
            return
        far = self.site.far
        found.agreement = dict(far.formats.load(asked.artifacts[AGREE, ""], far.objects))
        gap = found.agreement["max_difference"]
        if found.agreement["identical"]:
            found.outcome = PREDICTIONS
        elif gap is not None and gap <= found.within and not found.agreement["labels"]:
            found.outcome = NEAR

    def _differs_from_itself(self, graph: Graph, facts: Any, outcome: Outcome) -> None:
        """Run the first step that differs once more, in another process, so with other hashes of texts."""
        step = self.found.step
        server = self.site.serve()
        try:
            other = self.site.alone(server, server.opened(), facts, step, outcome.artifacts)
        finally:
            server.close()
        names = [name for name in graph.node(step).names if (step, name) in outcome.artifacts]
        if other.error is not None:
            self.found.causes.append(f"{step} failed when it ran once more: {other.error.what}")
        elif any(other.artifacts[step, name].digest != outcome.artifacts[step, name].digest for name in names):
            self.found.causes.append(
                f"{step} is not reproducible: run twice here on the same inputs it differs from itself "
                "(an unseeded generator, the order of a set, the clock)"
            )

    def _explained(self, graph: Graph) -> list[str]:
        """What differs in the step's code and libraries, then in the environment."""
        step = self.found.step
        node, result = graph.node(step), self.recorded.get(step)
        told: list[str] = []
        parts = graph.codes.get(node.code, {})
        if result is not None:
            before = self.home.ledger.codes([result.code]).get(result.code, {})
            told += [str(reason) for reason in changes((before, None, None), (parts, None, None))] if before else []
        reached = [name.removeprefix(LIBRARY) for name in parts if name.startswith(LIBRARY)]
        told += differences(self.then, graph.about["machine"], reached)
        if not told and not self.found.causes:
            told.append(
                f"{step}: code, libraries and machine are those on record, and it does not differ from itself: it "
                "reads something else (a file, the network, the environment's variables, the day)"
            )
        return told


def _put_on_record(home: Home, found: Reproduction, *, new_environment: bool) -> None:
    """One entry for the reproduction: nothing else of it is kept."""
    name = stream(found.original.workflow, "reproduction")
    body = found.to_json() | {"version": found.original.number, "summary": found.sentence}
    body |= {"new_environment": new_environment}
    for _ in range(TRIES):
        last = head(home.ledger, name)
        entry = Entry(name, last.number + 1 if last else 1, body, who=who_am_i(), why="reproduce")
        try:
            home.ledger.append([entry])
        except ConflictError:
            continue
        return
    raise ConflictError(f"{name}: others recorded reproductions all the time", hint="run again")


def reproductions(home: Home, version: Version) -> list[Entry]:
    """What was recorded of reproductions of a version, oldest first."""
    entries = home.ledger.stream(stream(version.workflow, "reproduction"))
    return [entry for entry in entries if entry.body["version"] == version.number]
