"""Doing a version again from what is on record, and saying how near it comes: bytes, answers, or neither."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.flow import Graph
from penstock.core.ports import Home
from penstock.core.run import Entry, Result
from penstock.engine.events import Listener, silent
from penstock.engine.local import Outcome
from penstock.engine.reasons import LIBRARY
from penstock.errors import ConflictError, NotReproducibleError, UnknownNameError, UntrustedTypeError, UsageError
from penstock.lifecycle.again import Opened, Site, make_site, only_steps
from penstock.lifecycle.agreement import AGREE, RECORDED
from penstock.lifecycle.attempt import keywords
from penstock.lifecycle.changes import changes
from penstock.lifecycle.environments import differences
from penstock.lifecycle.kept_code import CODE
from penstock.lifecycle.records import steps_of
from penstock.lifecycle.versions import Version, file_of, head, parts_of, resolve_run, stream, who_am_i

BYTES, PREDICTIONS, NEAR, DIFFERENT = "identical bytes", "identical predictions", "equal within t", "different"
WITHIN = 1e-6
"""The t up to which answers are called equal where nobody names another."""
TRIES = 20


@dataclass(slots=True)
class Reproduction:
    """How near a version came when it was done again.

    Attributes
    ----------
    version : Version
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

    version: Version
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
            {"version": self.version.name}
            | {name: getattr(self, name) for name in names}
            | {
                "exit_code": self.exit_code,
                "wall_s": round(self.wall_s, 3),
            }
        )


def check_trust(home: Home, version: Version, *, trust: bool) -> None:
    """Refuse to run code that others may have put on record, unless somebody vouches for it.

    Raises
    ------
    UntrustedTypeError
    """
    foreign = version.body.get("from") is not None
    if trust or (home.config.trusts_own and not foreign):
        return
    why = "comes from another environment" if foreign else "stands on a ledger or in a store that others write to"
    raise UntrustedTypeError(
        f"to reproduce {version.name} is to run the code that is stored with it, and it {why}",
        hint=f"`penstock pull {version.name} DIR` writes that code as code.json; if you trust it, add --trust",
    )


def stored(home: Home, version: Version) -> tuple[dict[str, Any], dict[str, Any]]:
    """The code and the environment that a version was made with.

    Raises
    ------
    UsageError
        It is another version with another threshold.
    NotReproducibleError
        Its code was not kept.
    CorruptObjectError, MissingObjectError
        The bytes are not those that were recorded.
    """
    decided = version.body.get("decided")
    if decided:
        base = f"{version.workflow}@{decided['from']}"
        raise UsageError(
            f"{version.name} is {base} with a threshold that a person gave", hint=f"penstock reproduce {base}"
        )
    files = parts_of(home, version.bundle)
    if "code" not in files:
        raise NotReproducibleError(
            f"the code of {version.name} is not stored: an older Penstock made it", hint="run it again, to have it kept"
        )
    code: dict[str, Any] = home.formats.load(files["code"], home.objects)
    if code.get("penstock") != CODE or "withheld" in code:
        why = code.get("withheld", "it has a form that this Penstock does not know")
        raise NotReproducibleError(
            f"the code of {version.name} is not stored: {why}", hint="a secret belongs into ps.Secret; then run again"
        )
    return code, home.formats.load(files["machine"], home.objects) if "machine" in files else {}


def reproduce(
    home: Home,
    version: Version,
    opened: Opened,
    entry: str,
    *,
    trust: bool = False,
    within: float | None = None,
    python: Callable[[str, Mapping[str, Any], Mapping[str, str]], str] | None = None,
    listen: Listener = silent,
) -> Reproduction:
    """Train a version again from stored code and recorded sources, in a clean folder and processes of its own.

    Parameters
    ----------
    home : Home
    version : Version
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
    UntrustedTypeError, UsageError, NotReproducibleError, CancelledError
    CorruptObjectError, MissingObjectError
    """
    start = time.perf_counter()
    check_trust(home, version, trust=trust)
    code, then = stored(home, version)
    folder = tempfile.mkdtemp(prefix="penstock-reproduce-")
    try:
        made = ""
        if python is not None:
            made = python(os.path.join(folder, "env"), then, file_of(home, version.bundle, "environment"))
        site = make_site(home, code, folder, opened, entry=entry, python=made)
        try:
            found = _Attempt(home, version, site, then, within).go(listen)
        finally:
            site.far.ledger.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found.wall_s = time.perf_counter() - start
    _put_on_record(home, found, new_environment=python is not None)
    return found


class _Attempt:
    def __init__(self, home: Home, version: Version, site: Site, then: Mapping[str, Any], within: float | None) -> None:
        self.home, self.version, self.site, self.then = home, version, site, then
        self.found = Reproduction(version, within=WITHIN if within is None else within, asked=within is not None)
        self.recorded = _results(home, version)

    def go(self, listen: Listener) -> Reproduction:
        server = self.site.serve()
        try:
            graph = server.opened()
            self._check(graph)
            self.found.environment = differences(self.then, graph.about["machine"])
            plain = only_steps(graph, (AGREE,))
            facts = self.site.facts(plain, self.version.body.get("sources", {}), self.recorded)
            self.found.reread = self.site.reread
            if self.site.gone:
                raise NotReproducibleError(
                    f"{self.version.name}: {', '.join(self.site.gone)} is gone: its table is not kept any more, and "
                    "its file is not there or holds something else",
                    hint="bring the file back as it was; `penstock lineage` tells its digest",
                )
            outcome = self.site.execute(server, plain, facts, {}, listen)
            self._hold(graph, plain, outcome)
            if self.found.step:
                self._grade(server, graph, facts, outcome)
        finally:
            server.close()
        return self.found

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
                f"{self.version.name}: {[*told['outside'], *absent][0]} was imported, which is not of its stored code",
                hint="is the project installed in this environment? reproduce from one in which it is not",
            )
        if graph.name != self.version.workflow:
            raise NotReproducibleError(f"the stored code of {self.version.name} declares {graph.name}")

    # ── holding one against the other ───────────────────────────────────────────────────────────────────────

    def _hold(self, graph: Graph, plain: Graph, outcome: Outcome) -> None:
        """Find the first step whose output is another."""
        then = self._then(graph)
        for node in plain.nodes:
            keys = [(node.id, name) for name in node.names]
            known = [key for key in keys if key in then]
            failed = outcome.states.get(node.id) == "failed"
            if not known and not failed:
                self.found.unknown.append(node.id)
                continue
            now = {key: outcome.artifacts[key].digest for key in known if key in outcome.artifacts}
            if failed or any(now.get(key) != then[key] for key in known):
                self.found.step = self.found.step or (node.id if failed or now else "")
            self.found.compared += bool(now)
        if not self.found.compared and outcome.error is None:
            raise NotReproducibleError(f"of {self.version.name} nothing is on record to compare with")

    def _then(self, graph: Graph) -> dict[tuple[str, str], str]:
        """(step, output) → digest on record: of each step's result, else of the bundle's file that it became."""
        found: dict[tuple[str, str], str] = {}
        files = parts_of(self.home, self.version.bundle)
        for name, tree in keywords(graph.node("register")):
            if name in files:
                found[tree[1], tree[2]] = files[name].digest
        for node in graph.nodes:
            result = self.recorded.get(node.id)
            if result is not None and len(result.outputs) == len(node.names):
                pairs = zip(node.names, result.outputs, strict=True)
                found |= {(node.id, name): artifact.digest for name, artifact in pairs}
        return found

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
        """Grade by the answers of both estimators."""
        found, theirs = self.found, parts_of(self.home, self.version.bundle)["estimator"]
        place = next(tree for name, tree in keywords(graph.node("register")) if name == "estimator")
        ours = outcome.artifacts[place[1], place[2]]
        if ours.digest == theirs.digest:
            found.outcome = PREDICTIONS
            return
        known = dict(outcome.artifacts) | {(RECORDED, ""): theirs}
        if not self.site.bring(theirs):
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


def _results(home: Home, version: Version) -> dict[str, Result]:
    """Step → result on record: by recipe, and of what could not be cached from the run's rows."""
    recipes: Mapping[str, str] = version.body.get("recipes", {})
    known = home.ledger.results(list(recipes.values()))
    found = {step: known[recipe] for step, recipe in recipes.items() if recipe in known}
    try:
        seen = steps_of(home, resolve_run(home.ledger, f"run:{version.body.get('run', '')}"))
    except UnknownNameError:
        return found
    for step, one in seen.items():
        if step not in found and one.outputs and one.state == "done":
            found[step] = Result("", "", None, None, one.outputs)
    return found


def _put_on_record(home: Home, found: Reproduction, *, new_environment: bool) -> None:
    """One entry for the reproduction: nothing else of it is kept."""
    name = stream(found.version.workflow, "reproduction")
    body = found.to_json() | {"version": found.version.number, "summary": found.sentence}
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
