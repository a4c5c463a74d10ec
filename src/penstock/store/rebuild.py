"""Append the versions that the store's manifests tell of and the ledger does not: after a ledger was lost.

Versions only. Who was champion is a decision, and decisions are not guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.ports import Ledger, Objects
from penstock.core.run import Entry
from penstock.errors import CorruptObjectError, MissingObjectError
from penstock.store.upkeep import MANIFEST_LIMIT, read_json

MANIFEST = "version/1"
"""Value of "penstock" in the manifest of a version."""


@dataclass(slots=True)
class Rebuilt:
    """What was appended, and what could not be.

    Attributes
    ----------
    entries : list of Entry
        Versions appended.
    doubtful : list of str
        Sentences: numbers that no manifest has, or that two manifests claim. Rebuilding of that workflow ends
        before them.
    """

    entries: list[Entry] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)


def rebuild(objects: Objects, ledger: Ledger, *, who: str = "", dry_run: bool = False) -> Rebuilt:
    """Append missing versions from manifests: JSON objects {"penstock": "version/1", "workflow", "number", "body"}.

    Parameters
    ----------
    objects : Objects
        Every object that looks like JSON is read and verified.
    ledger : Ledger
        What it has already is left as it is.
    who : str
        "user@host" for the entries whose manifest does not say.
    dry_run : bool, default=False
        Only say what would be appended.
    """
    done = Rebuilt()
    for workflow, numbered in sorted(_manifests(objects).items()):
        stream = f"{workflow}/version"
        head = ledger.streams(stream).get(stream, 0)
        for number in range(head + 1, max(numbered, default=0) + 1):
            claims = numbered.get(number, [])
            if len(claims) != 1:
                what = "no manifest tells of it" if not claims else f"{len(claims)} manifests claim it"
                done.doubtful.append(f"{workflow}@{number}: {what}; rebuilding stops before it")
                break
            entry = _entry(stream, number, claims[0], who)
            done.entries.extend([entry] if dry_run else ledger.append([entry]))
    return done


def _manifests(objects: Objects) -> dict[str, dict[int, list[Mapping[str, Any]]]]:
    """Manifests by workflow and number; equal ones count once, for they are one object."""
    found: dict[str, dict[int, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for item in list(objects.walk()):
        if item.staged or item.size > MANIFEST_LIMIT:
            continue  # what was never published was never acknowledged
        try:
            data = read_json(objects, item.digest)
        except (CorruptObjectError, MissingObjectError):
            continue  # `fsck` tells of these
        if _is_manifest(data):
            found[data["workflow"]][data["number"]].append({**data, "record": item.digest})
    return found


def _is_manifest(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and data.get("penstock") == MANIFEST
        and isinstance(data.get("workflow"), str)
        and type(data.get("number")) is int
        and data["number"] > 0
        and isinstance(data.get("body"), dict)
    )


def _entry(stream: str, number: int, data: Mapping[str, Any], who: str) -> Entry:
    at = data.get("at")
    named = data["body"].get("artifacts")
    # The manifest cannot name itself; unless the entry does, a collection would take it for garbage.
    artifacts = {**(named if isinstance(named, dict) else {}), "record": data["record"]}
    return Entry(
        stream,
        number,
        {**data["body"], "artifacts": artifacts},
        float(at) if isinstance(at, (int, float)) else 0.0,
        str(data.get("who") or who),
        str(data.get("why") or "rebuilt from the manifest in the store"),
    )
