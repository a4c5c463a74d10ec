"""All that is on record of a version, read once: its bundle's files, verdict, looks, moves, steps and sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.ports import Home
from penstock.core.run import Entry, Result, Run
from penstock.errors import CorruptObjectError, MissingObjectError, UnknownNameError, UsageError
from penstock.lifecycle.final import openings
from penstock.lifecycle.pictures import Picture, pictures
from penstock.lifecycle.records import results_of, steps_of
from penstock.lifecycle.versions import CHALLENGER, CHAMPION, MOST_DIGITS, Version, alias, manifest, stream
from penstock.lifecycle.versions import version as find_version

BUNDLE = (
    "metrics",
    "audit",
    "input",
    "schema",
    "environment",
    "machine",
    "decision",
    "threshold",
    "refit",
    "learned",
    "profile",
    "types",
)
"""The files of a bundle that a report tells; a version without one of them is told without it."""

STAGES = ("validate", "split", "train")
OF_A_RUN = {"schema": ("validate", 1), "metrics": ("evaluate", 0), "audit": ("audit", 0), "threshold": ("decide", 1)}
"""Where a run without a version has what a bundle would hold: step and place among its outputs."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for and against a version, or for a run that registered none.

    Attributes
    ----------
    version : Version
    files : dict
        Name in `BUNDLE` → its JSON; {} for one that the bundle lacks.
    verdict : Entry or None
        The last one on this version.
    comparison : dict
        What the verdict rests on; {} where it is not kept.
    look : int or None
        The how-manieth look at this workflow's held-out rows it was.
    champion, challenger : Version or None
        Who holds these names now.
    moves : tuple of Entry
        Moves of an alias to this version or away from it, oldest first.
    reports : dict
        Step → its JSON report: of `STAGES`, and of each source how it was read. Without those that are not kept.
    results : dict
        Step → its result, without those that are not on record.
    code : dict
        Definition of the project's own → digest.
    run : Run or None
        The run that registered it.
    before : (str, dict)
        The champion that it was compared with, and the profile of that one's training rows by column.
    openings : tuple of Entry
        Each time that the workflow's final hold-out was opened, for whatever version, oldest first.
    title : str
        Of a run without a version: "run 3f9c of churn". Its `version` is then number 0 and stands on no ledger.
    logged : tuple of Picture
        Figures that its steps logged.
    redacted : tuple of str
        Columns whose values were left out.
    """

    version: Version
    files: Mapping[str, Mapping[str, Any]]
    verdict: Entry | None = None
    comparison: Mapping[str, Any] = field(default_factory=dict)
    look: int | None = None
    champion: Version | None = None
    challenger: Version | None = None
    moves: tuple[Entry, ...] = ()
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    results: Mapping[str, Result] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    run: Run | None = None
    before: tuple[str, Mapping[str, Any]] = ("", {})
    openings: tuple[Entry, ...] = ()
    title: str = ""
    logged: tuple[Picture, ...] = ()
    redacted: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As people call it."""
        return self.title or self.version.name

    @property
    def is_try(self) -> bool:
        """Whether no version came of it: there are cross-validated figures only."""
        return bool(self.title)

    @property
    def is_champion(self) -> bool:
        """Whether it reigns now."""
        return self.champion is not None and self.champion.number == self.version.number

    @property
    def is_challenger(self) -> bool:
        """Whether it passed its gate last and waits."""
        return self.challenger is not None and self.challenger.number == self.version.number

    @property
    def reigned(self) -> bool:
        """Whether it is or ever was the champion."""
        return any(self._to_me(move) and _alias(move) == CHAMPION for move in self.moves)

    def _to_me(self, move: Entry) -> bool:
        return bool(move.body["version"] == self.version.number)

    @property
    def file(self) -> str:
        """The declaring file, as the run knew it, "" where the run is not on record."""
        return str(self.run.info.get("file", "")) if self.run is not None else ""


def evidence(home: Home, version: Version) -> Evidence:
    """Read what is on record of a version.

    Raises
    ------
    MissingObjectError, CorruptObjectError
        A file of the bundle is not whole.
    """
    ledger, workflow, number = home.ledger, version.workflow, version.number
    files = manifest(home, version.bundle)["files"]
    verdicts = [e for e in ledger.stream(stream(workflow, "verdict")) if e.body["version"] == number]
    verdict = verdicts[-1] if verdicts else None
    recipes: dict[str, str] = dict(version.body.get("recipes", {}))
    known = ledger.results(list(recipes.values()))
    results = {step: known[recipe] for step, recipe in recipes.items() if recipe in known}
    return Evidence(
        version,
        {name: _load(home, Artifact.from_json(files[name])) if name in files else {} for name in BUNDLE},
        verdict=verdict,
        comparison=_kept(home, verdict.body["comparison"]) if verdict is not None else {},
        look=_look(home, workflow, verdict),
        champion=alias(ledger, workflow, CHAMPION)[0],
        challenger=alias(ledger, workflow, CHALLENGER)[0],
        moves=_moves(home, version),
        reports=_reports(home, version, results),
        results=results,
        code=_code(home, results),
        run=_run(home, version),
        before=_before(home, version, verdict),
        openings=tuple(openings(home, workflow)),
        logged=pictures(home, results),
    )


def evidence_of_run(home: Home, run: Run) -> Evidence:
    """Read what is on record of a run that registered no version: what its steps gave.

    Raises
    ------
    UsageError
        It evaluated nothing, or its figures are not kept any more.
    """
    steps = steps_of(home, run)
    results = results_of(home, steps)
    files = {name: _of_run(home, results, *OF_A_RUN[name]) if name in OF_A_RUN else {} for name in BUNDLE}
    if not files["metrics"]:
        why = "is not kept any more" if "evaluate" in results else "was never made"
        raise UsageError(
            f"run {run.id[:4]} has no report: its evaluation {why}",
            hint=f"penstock show run:{run.id[:4]} tells what there is",
        )
    parted = _of_run(home, results, "split", 2)
    sources = {step: results[step].outputs[0].digest for step in run.info.get("sources", {}) if step in results}
    body = {
        "run": run.id,
        "recipes": {step: result.recipe for step, result in results.items()},
        "sources": {step: results[step].source or digest for step, digest in sources.items()},
        "rows": {side: parted[side] for side in ("n_train", "n_test") if side in parted},
    }
    about = Version(run.flow, 0, Entry(stream(run.flow, "version"), 0, body, at=run.started))
    return Evidence(
        about,
        files,
        champion=alias(home.ledger, run.flow, CHAMPION)[0],
        reports=_reports(home, about, results),
        results=results,
        code=_code(home, results),
        run=run,
        title=f"run {run.id[:4]} of {run.flow}",
        logged=pictures(home, results),
    )


def _of_run(home: Home, results: Mapping[str, Result], step: str, at: int) -> Mapping[str, Any]:
    """A JSON output of a step, {} where it is not there any more."""
    outputs = results[step].outputs if step in results else ()
    return _kept(home, outputs[at].to_json()) if len(outputs) > at and outputs[at].format == "json" else {}


def _before(home: Home, version: Version, verdict: Entry | None) -> tuple[str, Mapping[str, Any]]:
    """The champion that a version was compared with, and what that one had learned from."""
    against = str((verdict.body.get("against") if verdict is not None else None) or "")
    number = against.rpartition("@")[2]
    if not (number.isdecimal() and len(number) <= MOST_DIGITS):
        return "", {}
    try:
        older = find_version(home.ledger, version.workflow, int(number))
        profile = Artifact.from_json(manifest(home, older.bundle)["files"]["profile"])
        return older.name, _load(home, profile).get("columns", {})
    except (UnknownNameError, MissingObjectError, CorruptObjectError, KeyError):
        return "", {}


def _load(home: Home, artifact: Artifact) -> Mapping[str, Any]:
    value = home.formats.load(artifact, home.objects)
    return value if isinstance(value, dict) else {}


def _kept(home: Home, artifact: Mapping[str, Any]) -> Mapping[str, Any]:
    """A JSON artifact outside the bundle: it may have been collected since."""
    try:
        return _load(home, Artifact.from_json(artifact))
    except (MissingObjectError, CorruptObjectError):
        return {}


def _look(home: Home, workflow: str, verdict: Entry | None) -> int | None:
    if verdict is None:
        return None
    looks = home.ledger.stream(stream(workflow, "look"))
    return next((look.number for look in looks if look.body.get("verdict") == verdict.number), None)


def _alias(move: Entry) -> str:
    return move.stream.rpartition("/")[2]


def _moves(home: Home, version: Version) -> tuple[Entry, ...]:
    prefix = f"{stream(version.workflow, 'alias')}/"
    found = [move for name in sorted(home.ledger.streams(prefix)) for move in home.ledger.stream(name)]
    mine = [move for move in found if version.number in (move.body["version"], move.body.get("previous"))]
    return tuple(sorted(mine, key=lambda move: (move.at, move.stream, move.number)))


def _reports(home: Home, version: Version, results: Mapping[str, Result]) -> dict[str, Mapping[str, Any]]:
    found = {}
    for step in (*version.body.get("sources", {}), *STAGES):
        told = [a for a in results[step].outputs if a.format == "json"] if step in results else []
        if told and (report := _kept(home, told[-1].to_json())):
            found[step] = report
    return found


def _code(home: Home, results: Mapping[str, Result]) -> dict[str, str]:
    """The definitions of the project's own that decided the steps."""
    codes = home.ledger.codes({result.code for result in results.values()})
    merged: dict[str, str] = {}
    for parts in codes.values():
        merged |= {n: d for n, d in parts.items() if not n.startswith(("library:", "penstock")) and n != "python"}
    return dict(sorted(merged.items()))


def _run(home: Home, version: Version) -> Run | None:
    name = version.body.get("run")
    found = home.ledger.runs(prefix=name, limit=1) if name else []
    return found[0] if found else None
