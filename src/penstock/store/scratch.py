"""The part of a remote store that lies on this machine: what is being made, and copies of what was published."""

from __future__ import annotations

import contextlib
import os
import time

from penstock.errors import CorruptObjectError, MissingObjectError
from penstock.store.files import explain, remove
from penstock.store.mark import unique_name
from penstock.store.objects import DirectoryObjects

IN_USE_S = 600.0
"""A copy used within this time, in seconds, is not removed for room: somebody may be about to open it."""


class Scratch(DirectoryObjects):
    """A directory store whose published half is a cache: every name there is durable elsewhere.

    Parameters
    ----------
    root : str
    limit : int
        Bytes of copies that are kept; the longest unused go first.
    """

    def __init__(self, root: str, limit: int) -> None:
        super().__init__(root)
        self._limit = limit
        self._grown = limit  # so that the first copy looks what is there

    def _fsync(self, path: str) -> None:
        """Copies need no durability: they are verified whenever they are read, and can be fetched again."""

    def _there(self, digest: str, size: int) -> bool:
        """As in a directory store, but a copy that was never synced is hashed before it is trusted."""
        with contextlib.suppress(CorruptObjectError, MissingObjectError):
            path = self.fetch(digest)
            return os.stat(path).st_size == size
        self.quarantine(digest)
        return False

    def fetch(self, digest: str) -> str:
        """Path of a verified copy, which counts as used now."""
        path = super().fetch(digest)
        with contextlib.suppress(OSError):
            os.utime(path)
        return path

    def is_staged(self, digest: str) -> bool:
        """Whether the bytes are here and not known to have been published."""
        return not os.path.exists(self._final(digest)) and os.path.exists(self._staged(digest))

    def draft(self) -> str:
        """A path of this store that nobody else uses, for bytes that arrive."""
        return os.path.join(self._tmp, unique_name())

    def adopt(self, digest: str, path: str) -> str:
        """Take in a verified file as a copy; give its path."""
        final = self._final(digest)
        try:
            os.chmod(path, 0o444)
            os.makedirs(os.path.dirname(final), exist_ok=True)
            size = os.stat(path).st_size
            os.rename(path, final)
        except OSError as error:
            raise explain(error, "keep a copy", final) from error
        self._grow(size)
        return final

    def settle(self, digest: str) -> None:
        """Note that staged bytes are published: they are a copy from now on."""
        try:
            size = os.stat(self._staged(digest)).st_size
            self.publish([digest])
        except (FileNotFoundError, MissingObjectError):
            return
        self._grow(size)

    def _grow(self, size: int) -> None:
        self._grown += size
        if self._grown >= max(self._limit // 20, 1):
            self._grown = 0
            self.evict()

    def evict(self) -> int:
        """Remove the copies that were not used for longest until what is kept is within the limit; give their number.

        Only copies go: what is staged is nowhere else.
        """
        kept = [(item.mtime, item.size, item.digest) for item in self.walk() if not item.staged]
        excess, gone = sum(size for _, size, _ in kept) - self._limit, 0
        for mtime, size, digest in sorted(kept):
            if excess <= 0 or mtime > time.time() - IN_USE_S:
                break
            for path in (self._final(digest), self._staged(digest)):
                remove(path)
            excess -= size
            gone += 1
        return gone
