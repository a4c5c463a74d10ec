"""What is on record of a run and of a version, put together for reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.fan import items_text, mapped_by
from penstock.core.notes import FIGURES
from penstock.core.plan import Reason
from penstock.core.ports import Home
from penstock.core.run import Entry, Result, Run, StepRun
from penstock.lifecycle.looks import COMPARED
from penstock.lifecycle.schedules import KIND as EXPORT
from penstock.lifecycle.schedules import sentence as exported
from penstock.lifecycle.versions import LOOKED, Version, file_of, stream, versions, workflows
from penstock.lifecycle.versions import parts_of as files_of


@dataclass(frozen=True, slots=True)
class StepSeen:
    """What happened to one step in one run, its last attempt.

    Attributes
    ----------
    step, action, state, reason : str
    recipe : str or None
    wall_s : float
        Seconds.
    peak_bytes : int
    outputs : tuple of Artifact
    error : dict or None
    notes : dict
        What it noted and logged.
    """

    step: str
    action: str
    state: str
    reason: str
    recipe: str | None = None
    wall_s: float = 0.0
    peak_bytes: int = 0
    outputs: tuple[Artifact, ...] = ()
    error: Mapping[str, Any] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        data = {name: getattr(self, name) for name in self.__slots__}
        return data | {"outputs": [artifact.to_json() for artifact in self.outputs]}


def steps_of(home: Home, run: Run) -> dict[str, StepSeen]:
    """Steps of a run by id, in the order in which they ended; of a run that reused everything by its recipes.

    Of a mapped step the count of its items stands before the reason; they are no steps of their own here.
    """
    found: dict[str, StepSeen] = {}
    rows = home.ledger.step_runs(run.id)
    logged = logged_by_items(rows)
    for step, failed in failed_items(rows).items():  # a part of it did them; its own row, if any, says more
        row, n = failed[0], len(failed)
        error = dict(row.error or {})
        error["what"] = f"{n:,} item{'' if n == 1 else 's'} failed; the first: {error.get('what', '')}"
        found[step] = StepSeen(step, row.action, row.state, str(Reason.from_json(row.reason)), None, error=error)
    for row in rows:
        if mapped_by(row.step):
            continue
        found.pop(row.step, None)
        items = row.notes.get("items") if row.action == "run" else None
        told = items_text(items) + " · " if isinstance(items, Mapping) and "distinct" in items else ""
        found[row.step] = StepSeen(
            row.step,
            row.action,
            row.state,
            told + str(Reason.from_json(row.reason)),
            row.recipe,
            row.wall_s,
            row.peak_bytes,
            row.outputs,
            row.error,
            {**logged.get(row.step, {}), **row.notes},
        )
    if found:
        return found
    recipes: Mapping[str, str] = run.info.get("recipes", {})
    results = home.ledger.results(list(recipes.values()))
    return {
        step: StepSeen(step, "reuse", "done", "unchanged", recipe, outputs=results[recipe].outputs)
        for step, recipe in recipes.items()
        if recipe in results
    }


def logged_by_items(rows: Iterable[StepRun]) -> dict[str, dict[str, Any]]:
    """Mapped step → what those of its items logged that ran: of numbers their range, and each figure.

    Examples
    --------
    >>> row = StepRun("r", "score[3f9c1d20b7a4e856]", 1, None, "run", "done", {}, notes={"rows": 3})
    >>> logged_by_items([row])
    {'score': {'rows': '3 (1 item)'}}
    """
    last = {row.step: row.notes for row in rows if mapped_by(row.step) and row.state == "done"}
    numbers: dict[tuple[str, str], list[float]] = {}
    found: dict[str, dict[str, Any]] = {}
    for item, notes in last.items():
        step = mapped_by(item)
        for name, value in notes.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers.setdefault((step, name), []).append(value)
        for name, figure in notes.get(FIGURES, {}).items():
            key = item.removeprefix(step)[1:9]
            found.setdefault(step, {}).setdefault(FIGURES, {})[f"{name}-{key}"] = figure
    for (step, name), values in numbers.items():
        low, high = min(values), max(values)
        told = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        found.setdefault(step, {})[name] = f"{told} ({len(values):,} item{'' if len(values) == 1 else 's'})"
    return found


def failed_items(rows: Iterable[StepRun]) -> dict[str, list[StepRun]]:
    """Mapped step → the last row of each of its items that failed: where parts did them, the step itself has no row."""
    last = {row.step: row for row in rows if mapped_by(row.step)}
    found: dict[str, list[StepRun]] = {}
    for row in last.values():
        if row.state == "failed":
            found.setdefault(mapped_by(row.step), []).append(row)
    return found


def results_of(home: Home, steps: Mapping[str, StepSeen]) -> dict[str, Result]:
    """Results of the steps that have one, by step."""
    recipes = {step: seen.recipe for step, seen in steps.items() if seen.recipe is not None}
    known = home.ledger.results(list(recipes.values()))
    return {step: known[recipe] for step, recipe in recipes.items() if recipe in known}


def notes_of(home: Home, steps: Mapping[str, StepSeen]) -> dict[str, Mapping[str, Any]]:
    """What each step noted and logged, of a reused one what it did when it ran; steps without a word are left out."""
    reused = {step: seen for step, seen in steps.items() if seen.action == "reuse" and not seen.notes}
    makers = {step: str(result.made.get("run", "")) for step, result in results_of(home, reused).items()}
    rows = {run: {row.step: row.notes for row in home.ledger.step_runs(run)} for run in set(makers.values()) if run}
    found = {step: seen.notes or rows.get(makers.get(step, ""), {}).get(step, {}) for step, seen in steps.items()}
    return {step: notes for step, notes in found.items() if notes}


def pictures_of(home: Home, run: Run) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Figures that the steps of a run logged: (step, name) → {"kind", "digest", "size"}."""
    notes = notes_of(home, steps_of(home, run))
    return {(step, name): one for step, told in notes.items() for name, one in told.get(FIGURES, {}).items()}


def figures_of(home: Home, run: Run, steps: Mapping[str, StepSeen]) -> dict[str, Any]:
    """Cross-validated figures of a run by scorer; empty where it evaluated nothing, or they are not kept any more."""
    kept = run.info.get("try")
    if kept is not None:
        return dict(kept["metrics"])
    seen = steps.get("evaluate")
    if seen is None or not seen.outputs:
        return {}
    report = home.formats.load(seen.outputs[0], home.objects)
    return dict(report.get("metrics", {})) if isinstance(report, dict) else {}


@dataclass(frozen=True, slots=True)
class Standing:
    """A version and where it stands.

    Attributes
    ----------
    version : Version
    aliases : tuple of str
        Names that point to it.
    verdict : Entry or None
        The last one on it.
    figures : dict
        Scorer → cross-validated figure.
    primary : str
        The first scorer.
    """

    version: Version
    aliases: tuple[str, ...] = ()
    verdict: Entry | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    primary: str = ""

    @property
    def outcome(self) -> str:
        """How it was judged, in a word or three."""
        if self.verdict is None:
            return "not judged"
        return outcome_of(self.verdict.body)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "version": self.version.name,
            "aliases": list(self.aliases),
            "registered": self.version.entry.at,
            "who": self.version.entry.who,
            "run": self.version.body.get("run"),
            "bundle": self.version.bundle.digest,
            "outcome": self.outcome,
            "primary": self.primary,
            "figures": {name: one["shown"] for name, one in self.figures.items()},
            "rows": self.version.body.get("rows", {}),
            "verdict": dict(self.verdict.body) if self.verdict is not None else None,
        }


NOT_COMPARED = "not compared"
"""Outcome of a version that the audit refused: it was held against nobody."""


def outcome_of(verdict: Mapping[str, Any]) -> str:
    """A verdict in a word or three: an audit that refuses outweighs the rules that passed.

    Examples
    --------
    >>> outcome_of({"passed": False, "outcome": "better", "audit_errors": 1})
    'refused by the audit'
    """
    if verdict["passed"]:
        return "passed"
    return "refused by the audit" if verdict.get("audit_errors") else str(verdict["outcome"])


def aliases(home: Home, workflow: str) -> dict[str, int]:
    """Alias → number of the version that it points to; an alias that points nowhere is left out."""
    prefix = stream(workflow, "alias", "")
    found = {}
    for name, number in home.ledger.streams(f"{prefix}/").items():
        at = home.ledger.stream(name, after=number - 1)[-1].body["version"]
        if at is not None:
            found[name.rpartition("/")[2]] = int(at)
    return found


def standing(home: Home, version: Version) -> Standing:
    """One version with its aliases, last verdict and figures."""
    return _standing(home, version, aliases(home, version.workflow), _verdicts(home, version.workflow))


def standings(home: Home, workflow: str) -> list[Standing]:
    """Every version of a workflow, newest first."""
    names, verdicts = aliases(home, workflow), _verdicts(home, workflow)
    return [_standing(home, one, names, verdicts) for one in reversed(versions(home.ledger, workflow))]


def _verdicts(home: Home, workflow: str) -> dict[int, Entry]:
    return {entry.body["version"]: entry for entry in home.ledger.stream(stream(workflow, "verdict"))}


def _standing(home: Home, version: Version, names: Mapping[str, int], verdicts: Mapping[int, Entry]) -> Standing:
    mine = tuple(sorted(name for name, number in names.items() if number == version.number))
    report = file_of(home, version.bundle, "metrics")
    return Standing(version, mine, verdicts.get(version.number), report["metrics"], report["primary"])


def overview(home: Home) -> list[dict[str, Any]]:
    """Every workflow with the number of its versions, its champion and since when."""
    found = []
    for workflow in workflows(home.ledger):
        every = versions(home.ledger, workflow)
        moves = home.ledger.stream(stream(workflow, "alias", "champion"))
        present = moves[-1] if moves and moves[-1].body["version"] is not None else None
        found.append(
            {
                "workflow": workflow,
                "versions": len(every),
                "champion": f"{workflow}@{present.body['version']}" if present else None,
                "since": present.at if present else None,
                "who": present.who if present else "",
                "why": present.why if present else "",
            }
        )
    return found


def history(home: Home, workflow: str) -> list[dict[str, Any]]:
    """Every decision on a workflow, newest first: versions, verdicts, looks, moves of aliases, exports and others.

    Returns
    -------
    list of dict
        "kind", "number", "at", "who", "why", "what" (a sentence) and the entry's "body".
    """
    found = []
    for name in home.ledger.streams(f"{workflow}/"):
        kind = name.split("/")[1]
        found += [_decision(kind, name, entry, workflow) for entry in home.ledger.stream(name)]
    order = ("version", "look", "verdict", "final", "alias", "deployment", "window")
    rank = {kind: i for i, kind in enumerate(order)}
    return sorted(found, key=lambda one: (one["at"], rank.get(one["kind"], 9), one["number"]), reverse=True)


def _decision(kind: str, name: str, entry: Entry, workflow: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "number": entry.number,
        "at": entry.at,
        "who": entry.who,
        "why": entry.why,
        "what": _sentence(kind, name, entry, workflow),
        "body": dict(entry.body),
    }


def _sentence(kind: str, name: str, entry: Entry, workflow: str) -> str:
    """An entry in words."""
    body = entry.body
    version = f"{workflow}@{body['version']}" if body.get("version") is not None else f"{workflow}@{entry.number}"
    if kind == "version":
        return f"{version} registered"
    if kind == "verdict":
        return f"{version}: {body['sentence']}"
    if kind == "look" and entry.why == LOOKED:
        return f"the hold-out was opened by a person, in run {str(body['run'])[:4]}"
    if kind == "look" and entry.why == COMPARED:
        return f"the hold-out was opened to hold {version} against {body['against']}"
    if kind == "look":
        return f"the hold-out was opened for {version}"
    if kind == "final":
        return f"the final hold-out was opened for {version}: {body['summary']}"
    if kind == "alias":
        now = version if body["version"] is not None else "nobody"
        before = f" (was {workflow}@{body['previous']})" if body.get("previous") is not None else ""
        return f"{name.rpartition('/')[2]} → {now}{before}"
    if kind == "deployment":
        return f"{version} deployed"
    if kind == EXPORT:
        return exported(entry)
    if kind == "commit":
        return f"{version} was made again from commit {body['git']['commit'][:8]}"
    return f"{version}: {body.get('summary', kind)}"


def parts_of(home: Home, version: Version) -> dict[str, Artifact]:
    """The files of a version's bundle."""
    return files_of(home, version.bundle)


def source_options(home: Home, version: Version) -> dict[str, Any]:
    """How the one source of a version was declared to be read; empty where it has several, or none is on record."""
    steps = list(version.body.get("sources", {}))
    recipe = version.body.get("recipes", {}).get(steps[0]) if len(steps) == 1 else None
    result = home.ledger.results([recipe]).get(recipe) if recipe is not None else None
    if result is None:
        return {}
    _, (arguments, _) = result.tree
    _, (_, pairs) = arguments[1][0]
    return {name: tuple(tree[1]) if isinstance(tree, list) and tree[0] == "tuple" else tree for name, tree in pairs}
