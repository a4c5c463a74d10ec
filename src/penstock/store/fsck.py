"""Check that the store and the ledger hold what they promise, and put right what can be put right safely."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from penstock.core.digest import digest_bytes, digest_recipe
from penstock.errors import CorruptObjectError, MissingObjectError, StoreError
from penstock.store.upkeep import ALL_RUNS, KeptLedger, KeptObjects, Reach, entries, named_by

if TYPE_CHECKING:
    from penstock.core.run import Entry, Result, Run

GRACE_S = 3_600.0
"""A temporary file younger than this, in seconds, may belong to a writer at work."""

_CHUNK = 1_000
MEANS = {
    "code": "it cannot be reproduced",
    "environment": "what differs between it and another run cannot be told",
    "difference": "what differed from its commit is not known",
    "predictions": "its out-of-fold predictions cannot be looked at",
    "result": "what it found cannot be shown again",
}
"""What a run's row names → what its loss means for the run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach.

    Attributes
    ----------
    kind : str
        "corrupt", "torn", "missing", "unreadable", "recipe", "inline", "stream", "alias", "leftover", "stray" or
        "ledger".
    where : str
        Digest, recipe, stream or path.
    what : str
        A sentence.
    fault : bool
        False for what is merely untidy (left-over, torn staged and stray files): the exit code counts faults only.
    repaired : bool
        Whether this call put it right.
    """

    kind: str
    where: str
    what: str
    fault: bool = True
    repaired: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {name: getattr(self, name) for name in ("kind", "where", "what", "fault", "repaired")}


def fsck(
    objects: KeptObjects,
    ledger: KeptLedger,
    *,
    repair: bool = False,
    grace_s: float = GRACE_S,
    clock: Callable[[], float] = time.time,
) -> list[Finding]:
    """Every breach of a store and its ledger.

    No object whose bytes are not those that its name says; every digest that a result, a decision or a run's own row
    reaches is there, unless `gc` let it go; every recipe is what its row says; streams have no gap and every move of
    an alias is legal; no temporary file is older than the grace; the database file is whole.

    Parameters
    ----------
    objects : KeptObjects
        Every byte is read.
    ledger : KeptLedger
        Every result and decision is read.
    repair : bool, default=False
        Move corrupt objects aside, so that their makers run again, and remove old temporary files. Safe beside
        running work, and when it is killed and repeated; aliases and streams are never touched.
    grace_s : float
        Age in seconds from which a temporary file counts as left over.
    clock : callable
        Gives the Unix time in seconds.

    Returns
    -------
    list of Finding
        Empty when all is well.
    """
    objects = objects.direct()  # copies on this machine tell nothing of what is kept for all
    damage = list(_ledger_file(ledger))
    if damage:
        return damage  # what a damaged file says about the rest is worth nothing
    found = [*_objects(objects, repair=repair), *_results(ledger)]
    decisions = list(_decisions(ledger))
    found += decisions
    if not any(finding.kind == "stream" for finding in decisions):
        found += _reachable(objects, ledger)  # what a changed entry names is worth nothing
        losses = _losses(ledger.runs(limit=ALL_RUNS))
        found = [replace(one, what=f"{one.what}; {losses[one.where]}") if _lost(one, losses) else one for one in found]
    return found + list(_leftovers(objects, clock() - grace_s, grace_s, repair=repair))


def _ledger_file(ledger: KeptLedger) -> Iterator[Finding]:
    try:
        for text in ledger.integrity():
            yield Finding("ledger", "ledger", f"the database file is damaged: {text}")
    except StoreError as error:
        yield Finding("ledger", error.where, str(error))


def _objects(objects: KeptObjects, *, repair: bool) -> Iterator[Finding]:
    for item in list(objects.walk()):
        digest = item.digest
        try:
            objects.fetch(digest)
        except MissingObjectError:
            continue  # swept since the walk
        except CorruptObjectError as error:
            if repair:
                objects.quarantine(digest)
            # Staged bytes were promised to nobody: a power cut may tear them, and whoever stages them writes anew.
            yield Finding("torn" if item.staged else "corrupt", digest, error.what, not item.staged, repair)
        except StoreError as error:
            yield Finding("unreadable", digest, error.what)


def _all_results(ledger: KeptLedger) -> Iterator[Result]:
    recipes = ledger.recipes()
    for start in range(0, len(recipes), _CHUNK):
        yield from ledger.results(recipes[start : start + _CHUNK]).values()


def _results(ledger: KeptLedger) -> Iterator[Finding]:
    for result in _all_results(ledger):
        found = digest_recipe(result.code, result.tree, result.source)
        if found != result.recipe:
            step = result.made.get("step", "a step")
            yield Finding("recipe", result.recipe, f"the row of {step} has the recipe {found[:12]}…: it was changed")
    for artifact in ledger.artifacts():
        if artifact.text is not None and digest_bytes(artifact.text.encode()) != artifact.digest:
            yield Finding("inline", artifact.digest, "the value in the ledger does not have the digest that names it")


def _decisions(ledger: KeptLedger) -> Iterator[Finding]:
    streams: dict[str, list[Entry]] = {}
    for stream in ledger.streams():
        try:
            streams[stream] = ledger.stream(stream)
        except StoreError as error:
            yield Finding("stream", stream, error.what)
    for stream, recorded in streams.items():
        for expected, entry in enumerate(recorded, 1):
            if entry.number != expected:
                yield Finding("stream", stream, f"entry {expected} is missing: the next one is {entry.number}")
                break
        if "/alias/" in stream:
            versions = len(streams.get(f"{stream.partition('/')[0]}/version", ()))
            yield from _alias(stream, recorded, versions)


def _alias(stream: str, moves: list[Entry], versions: int) -> Iterator[Finding]:
    """Each move starts where the last one ended, and ends at a version that exists (or at none)."""
    at: Any = None
    for move in moves:
        if "version" not in move.body or "previous" not in move.body:
            yield Finding("alias", stream, f"move {move.number} does not say from which version to which")
            return
        version, previous = move.body["version"], move.body["previous"]
        if previous != at:
            yield Finding("alias", stream, f"move {move.number} starts at version {previous}, the alias was at {at}")
        if version is not None and not (type(version) is int and 1 <= version <= versions):
            yield Finding("alias", stream, f"move {move.number} goes to version {version}, which does not exist")
        at = version


def _reachable(objects: KeptObjects, ledger: KeptLedger) -> Iterator[Finding]:
    reach = Reach(objects, ledger)
    named: dict[str, str] = {}
    for entry in entries(ledger):
        reach.follow(named_by(entry), decided=True)
        named.update(dict.fromkeys(named_by(entry), f"entry {entry.number} of {entry.stream}"))
    for result in _all_results(ledger):
        outputs = [artifact.digest for artifact in result.outputs]
        reach.follow(outputs, decided=False)
        for digest in outputs:
            named.setdefault(digest, f"step {result.made.get('step', result.recipe[:12])}")
    for run in ledger.runs(limit=ALL_RUNS):
        reach.follow(run.kept.values(), decided=False)
        for digest in run.kept.values():
            named.setdefault(digest, f"run {run.id[:8]}")
    for digest in sorted(objects.missing(reach.found - reach.inline)):
        yield Finding("missing", digest, f"named by {named.get(digest, 'a manifest')}, but not in the store")


def _losses(runs: list[Run]) -> dict[str, str]:
    """Digest of what runs' rows name → whose it is, and what its loss means."""
    whose: dict[str, tuple[str, list[str]]] = {}
    for run in runs:
        for word, digest in run.kept.items():
            whose.setdefault(digest, (word, []))[1].append(run.id[:8])
    return {digest: _loss(word, runs) for digest, (word, runs) in whose.items()}


def _loss(word: str, runs: list[str]) -> str:
    more = f" and {len(runs) - 1:,} others" if len(runs) > 2 else f" and run {runs[1]}" if len(runs) == 2 else ""
    return f"it is the {word} of run {runs[0]}{more}: {MEANS[word]}"


def _lost(finding: Finding, losses: dict[str, str]) -> bool:
    return finding.kind in ("corrupt", "missing", "unreadable") and finding.where in losses


def _leftovers(objects: KeptObjects, before: float, grace_s: float, *, repair: bool) -> Iterator[Finding]:
    old = [item for item in objects.leftovers() if item.kind != "staged" and item.mtime < before]
    if repair:
        objects.sweep(grace_s)
    for item in old:
        if item.kind == "tmp":
            yield Finding("leftover", item.path, "left by a process that was ended", fault=False, repaired=repair)
        else:
            yield Finding("stray", item.path, "no file of the store: remove it if it is not yours", fault=False)
