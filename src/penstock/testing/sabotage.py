"""Stores that break one rule each: the controls of the crash tests. A checker that does not turn red is no checker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from penstock.core.digest import digest_bytes
from penstock.store.ledger import SqliteLedger
from penstock.store.objects import DirectoryObjects


class WritesInPlace(DirectoryObjects):
    """Writes under the final name, piece by piece: a kill leaves half an object."""

    def stage(self, data: bytes | str) -> tuple[str, int]:
        """Write straight to where readers look."""
        if isinstance(data, str):
            return super().stage(data)
        digest = digest_bytes(data)
        final = self._final(digest)
        os.makedirs(os.path.dirname(final), exist_ok=True)
        with open(final, "wb", buffering=0) as file:
            file.writelines(data[start : start + 16] for start in range(0, len(data), 16))
        return digest, len(data)


class DropsFsync(DirectoryObjects):
    """Never calls fsync on files nor directories: a power cut loses what was acknowledged."""

    def _fsync(self, path: str) -> None:
        """Trust to luck."""


class DropsFileFsync(DirectoryObjects):
    """Syncs directories, not the bytes: after a power cut a name may stand for an empty file."""

    def _sync_claimed(self, digest: str, temporary: str) -> None:
        """Claim that the bytes are durable."""


class DropsRename(DirectoryObjects):
    """Acknowledges what is only staged."""

    def _place(self, digest: str, temporary: str) -> None:
        """Leave it where it is."""

    def _sync_parents(self, digests: Iterable[str], placed: Iterable[str]) -> None:
        """There is nothing to sync."""


class DropsVerification(DirectoryObjects):
    """Believes the name."""

    def _verify(self, digest: str, path: str, found: str) -> None:
        """Look away."""


class SyncsNothing(SqliteLedger):
    """A ledger with `synchronous=OFF`: a power cut loses decisions that were acknowledged."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        with self._database.reading() as db:
            db.execute("ROLLBACK")
            db.execute("PRAGMA synchronous=OFF")


OBJECTS: dict[str, Callable[[str], DirectoryObjects]] = {
    "": DirectoryObjects,
    "in-place": WritesInPlace,
    "no-fsync": DropsFsync,
    "no-file-fsync": DropsFileFsync,
    "no-rename": DropsRename,
    "no-verification": DropsVerification,
}
"""Stores by the name of their fault; "" is the sound one."""

LEDGERS: dict[str, Callable[[str], SqliteLedger]] = {"": SqliteLedger, "no-fsync": SyncsNothing}
"""Ledgers by the name of their fault."""
