"""All that is on record of a version, read once: its bundle's files, verdict, looks, moves, steps and sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.ports import Home
from penstock.core.run import Entry, Result, Run
from penstock.errors import CorruptObjectError, MissingObjectError
from penstock.lifecycle.versions import CHALLENGER, CHAMPION, Version, alias, manifest, stream

BUNDLE = ("metrics", "audit", "input", "schema", "environment", "decision", "threshold", "refit", "learned")
"""The files of a bundle that a report tells; a version without one of them is told without it."""

STAGES = ("validate", "split", "train")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for and against a version.

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
    )


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
