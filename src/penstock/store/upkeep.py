"""What the keepers of a store (`fsck`, `gc`, `rebuild`) share: their view of it, and what names what."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from penstock.core.ports import Ledger, Objects
from penstock.errors import CorruptObjectError, MissingObjectError
from penstock.store.objects import is_digest

if TYPE_CHECKING:
    from penstock.core.artifact import Artifact
    from penstock.core.run import Entry
    from penstock.store.objects import Leftover

MANIFEST_LIMIT = 16 << 20
"""No manifest is larger than this, in bytes; larger objects are not looked into."""
ALL_RUNS = 1 << 60
"""More than a ledger has."""


class KeptObjects(Objects, Protocol):
    """Objects that a keeper can sweep."""

    def direct(self) -> KeptObjects:
        """The same store, read without copies."""
        ...

    def leftovers(self) -> Iterator[Leftover]:
        """Files that are no objects."""
        ...

    def sweep(self, grace_s: float) -> int:
        """Remove temporary files and second names older than a grace; give their number."""
        ...

    def delete_unless_touched(self, digest: str, before: float) -> bool:
        """Remove an object unless somebody wrote or touched it at or after a Unix time."""
        ...


class KeptLedger(Ledger, Protocol):
    """A ledger that a keeper can go through from end to end."""

    def recipes(self) -> list[str]:
        """Every recipe of the hit table."""
        ...

    def artifacts(self, digests: Collection[str] | None = None) -> Iterator[Artifact]:
        """Artifacts on record, all or those of some digests."""
        ...

    def forget(self, recipes: Collection[str]) -> int:
        """Remove results from the hit table; give their number."""
        ...

    def integrity(self) -> list[str]:
        """What is wrong with the file; empty when it is whole."""
        ...


def entries(ledger: Ledger) -> Iterator[Entry]:
    """Every decision on record, stream by stream."""
    for stream in ledger.streams():
        yield from ledger.stream(stream)


def named_by(entry: Entry) -> list[str]:
    """Digests that a decision names under "artifacts"."""
    artifacts = entry.body.get("artifacts")
    if not isinstance(artifacts, Mapping):
        return []
    return [digest for digest in artifacts.values() if isinstance(digest, str)]


def manifest_files(objects: Objects, digest: str, text: str | None = None) -> list[str]:
    """Digests that a manifest names: JSON with {"files": {name: {"digest": …}}}; none for any other bytes.

    A file whose "text" stands in the manifest itself is held by the manifest's own digest, and is no object.

    Parameters
    ----------
    text : str or None
        The bytes, when they are on record in the ledger.

    Raises
    ------
    MissingObjectError, CorruptObjectError
        The object cannot be read.
    """
    data = read_json(objects, digest) if text is None else _parse(text.encode())
    files = data.get("files") if isinstance(data, dict) else None
    if not isinstance(files, dict):
        return []
    kept = [file for file in files.values() if isinstance(file, dict) and file.get("text") is None]
    return [file["digest"] for file in kept if is_digest(str(file.get("digest")))]


def read_json(objects: Objects, digest: str) -> Any:
    """The value of an object that is JSON of at most `MANIFEST_LIMIT` bytes and begins with a brace, else None."""
    path = objects.fetch(digest)
    with open(path, "rb") as file:
        data = file.read(1)
        if data == b"{":
            data += file.read(MANIFEST_LIMIT)
    return _parse(data)


def _parse(data: bytes) -> Any:
    if not data.startswith(b"{") or len(data) > MANIFEST_LIMIT:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def reached(objects: KeptObjects, ledger: KeptLedger) -> set[str]:
    """Digests of every object that decisions, results and the rows of runs need.

    Raises
    ------
    MissingObjectError, CorruptObjectError
        A manifest that a decision names cannot be read.
    """
    reach = Reach(objects, ledger)
    for entry in entries(ledger):
        reach.follow(named_by(entry), decided=True)
    for error in reach.unread.values():
        raise error
    decided = reach.found - reach.inline
    recipes = ledger.recipes()
    for start in range(0, len(recipes), 1_000):
        for result in ledger.results(recipes[start : start + 1_000]).values():
            reach.follow([artifact.digest for artifact in result.outputs], decided=False)
    for run in ledger.runs(limit=ALL_RUNS):
        reach.follow(run.kept.values(), decided=False)
    # What only a result names may have been collected: a miss, no fault.
    found = reach.found - reach.inline
    return found - (objects.missing(found - decided))


class Reach:
    """Follows digests to all that they name, once each.

    Parameters
    ----------
    objects : Objects
        Where manifests are read.
    ledger : KeptLedger
        Where artifacts, with their inline text and their `refs`, are on record.

    Attributes
    ----------
    found : set of str
        Every digest that was reached.
    inline : set of str
        Those of them whose bytes are in the ledger.
    unread : dict of str to CorruptObjectError or MissingObjectError
        Those that could not be looked into.
    """

    def __init__(self, objects: Objects, ledger: KeptLedger) -> None:
        self._objects = objects
        self._known: dict[str, list[Artifact]] = {}
        for artifact in ledger.artifacts():
            self._known.setdefault(artifact.digest, []).append(artifact)
        self.found: set[str] = set()
        self.inline: set[str] = set()
        self.unread: dict[str, CorruptObjectError | MissingObjectError] = {}

    def follow(self, digests: Iterable[str], *, decided: bool) -> None:
        """Reach digests and what they name.

        `decided` says that a decision names them: one that the ledger has no row for may then be a manifest, and
        is read. All else is known by its format.
        """
        pending = [(digest, decided) for digest in digests]
        while pending:
            digest, may_be_manifest = pending.pop()
            if digest in self.found:
                continue
            self.found.add(digest)
            known = self._known.get(digest, [])
            text = next((artifact.text for artifact in known if artifact.text is not None), None)
            if text is not None:
                self.inline.add(digest)
            pending.extend((ref, False) for artifact in known for ref in artifact.refs)
            if any(artifact.format == "bundle" for artifact in known) or (may_be_manifest and not known):
                pending.extend((file, False) for file in self._files(digest, text))

    def _files(self, digest: str, text: str | None) -> list[str]:
        try:
            return manifest_files(self._objects, digest, text)
        except (CorruptObjectError, MissingObjectError) as error:
            self.unread[digest] = error
            return []
