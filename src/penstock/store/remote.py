"""Immutable bytes named by their SHA-256, behind any URL that fsspec knows.

Names below the URL: `objects/ab/cdef…` published, `quarantine/` moved aside as corrupt, `collecting/` objects that a
collection is looking at, `format` the mark of the layout. What is staged lies on this machine only; `publish` uploads
it under its final name, which is seen whole or not at all. Every download is verified, and kept as a copy.

`gc` and a writer that needs an old object again meet like this. The collector writes `collecting/<digest>`, looks at
the object's time and only then deletes; the writer writes the object anew and then looks for `collecting/<digest>` and
for the object. Whichever came first, either the collector sees the new time or the writer sees the collector.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeVar

from penstock.core.ports import ObjectStat
from penstock.errors import CorruptObjectError, MissingObjectError, StoreError, StoreTooNewError
from penstock.store.bucket import DEADLINE_S, TIMEOUT_S, Bucket, Stat
from penstock.store.files import explain, remove
from penstock.store.mark import check_mark, mark_text, unique_name
from penstock.store.objects import Leftover, hash_file, is_digest
from penstock.store.scratch import Scratch

T = TypeVar("T")
REFRESH_S = 24 * 3_600.0
"""An object that is published again after this time, in seconds, is written anew, so that `gc` sees it is wanted."""

DOWNLOADS = 3
"""Times that wrong bytes are fetched again before the object is called corrupt: networks lie more often than stores."""

MANY = 500
"""More names than these are looked up by listing all."""

_BIG = 8 << 20
_TRIES = 50
_CORRUPT_HINT = "`penstock fsck --repair` moves it aside; the next run makes it again."


class RemoteObjects:
    """`penstock.core.ports.Objects` behind a URL, with verified copies on this machine.

    Parameters
    ----------
    url : str
        For instance "s3://bucket/prefix".
    folder : str
        Of this machine: staged bytes and copies.
    limit : int
        Bytes of copies that are kept.
    refresh_s, deadline_s, timeout_s : float
        Seconds: age from which an object is written anew when it is published again; after which nothing is tried
        again; after which a silent connection is given up.
    use_copies : bool
        False reads everything from the URL, as `fsck` must.

    Examples
    --------
    >>> import tempfile
    >>> objects = RemoteObjects("memory://doctest-store", tempfile.mkdtemp())
    >>> digest, size = objects.stage(b"hello")
    >>> objects.publish([digest])
    >>> objects.read(digest)
    b'hello'
    """

    def __init__(
        self,
        url: str,
        folder: str,
        *,
        limit: int = 20 << 30,
        refresh_s: float = REFRESH_S,
        deadline_s: float = DEADLINE_S,
        timeout_s: float = TIMEOUT_S,
        use_copies: bool = True,
    ) -> None:
        self.root = url
        self.local = Scratch(folder, limit)
        self._options = {"limit": limit, "refresh_s": refresh_s, "deadline_s": deadline_s, "timeout_s": timeout_s}
        self._refresh_s, self._deadline_s, self._use_copies = refresh_s, deadline_s, use_copies
        self._plain = Bucket(url, deadline_s=deadline_s, timeout_s=timeout_s)
        self._marked = False
        self._seen: dict[str, float] = {}  # digest → monotonic time at which it was there, and young

    def direct(self) -> RemoteObjects:
        """The same store, read without copies."""
        return RemoteObjects(self.root, self.local.root, use_copies=False, **self._options)  # type: ignore[arg-type]  # a dict of numbers

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _bucket(self) -> Bucket:
        """The bucket, once its mark has been read: a newer layout is left alone."""
        if not self._marked:
            self._check_mark()
            self._marked = True
        return self._plain

    def _check_mark(self) -> None:
        """Refuse what is no store of this layout; a mark that arrived wrong is read again first."""
        for tries in range(1, DOWNLOADS + 1):
            text = self._read_mark()
            if text is None:
                self._plain.put("format", mark_text(), create=True)
                break
            try:
                check_mark(text, f"{self.root}/format")
                break
            except StoreTooNewError:
                raise
            except StoreError:
                if tries == DOWNLOADS:
                    raise

    def _read_mark(self) -> bytes | None:
        path = self.local.draft()
        try:
            if not self._plain.get("format", path):
                return None
            with open(path, "rb") as file:
                return file.read(1_000)
        finally:
            remove(path)

    def _missing(self, digest: str) -> MissingObjectError:
        return MissingObjectError(
            f"object {digest[:80]} is not in the store",
            where=self.root,
            hint="Run again: the step that makes it runs anew. `penstock fsck` lists what else is missing.",
            digest=digest,
        )

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────

    def stage(self, data: bytes | str) -> tuple[str, int]:
        """Write bytes, or move the file at a path, into this machine's part; give (digest, size)."""
        return self.local.stage(data)

    def publish(self, digests: Iterable[str]) -> None:
        """Upload what is staged; make what is there already young again if it is old."""
        wanted = list(dict.fromkeys(digests))
        for digest in wanted:
            if not is_digest(digest):
                raise self._missing(digest)
        since = time.monotonic() - self._refresh_s
        todo = [
            digest for digest in wanted if self._seen.get(digest, -math.inf) <= since or self.local.is_staged(digest)
        ]
        self._bucket.together(self._publish_one, todo)

    def _publish_one(self, digest: str) -> None:
        try:
            path = self.local.fetch(digest)
        except (MissingObjectError, CorruptObjectError):
            path = ""
        if path and self.local.is_staged(digest) and os.path.getsize(path) <= _BIG:
            if not self._bucket.put(_object(digest), path, create=True):
                self._confirm(digest, path)
        else:
            found = self._bucket.stat(_object(digest))
            if found is None and not path:
                raise self._missing(digest)
            if found is None:
                if not self._bucket.put(_object(digest), path, create=True):
                    self._confirm(digest, path)
            elif path and found.size != os.path.getsize(path):
                self._replace(digest, path)
            elif self._is_old(found):
                self._refresh(digest, path or self._download(digest))
        self._seen[digest] = time.monotonic()
        self.local.settle(digest)

    def _is_old(self, found: Stat) -> bool:
        return found.mtime <= time.time() - self._refresh_s

    def _confirm(self, digest: str, path: str) -> None:
        """Somebody else wrote the name: its bytes are held against the digest before they are built upon."""
        draft = self.local.draft()
        try:
            there = self._bucket.get(_object(digest), draft)
            good = there and hash_file(draft)[0] == digest
        finally:
            remove(draft)
        if not there:  # collected in between
            self._refresh(digest, path)
        elif not good:
            self._replace(digest, path)
        else:
            found = self._bucket.stat(_object(digest))
            if found is None or self._is_old(found):
                self._refresh(digest, path)

    def _replace(self, digest: str, path: str) -> None:
        """Move wrong bytes aside and write the right ones."""
        self._quarantine_remote(digest)
        self._bucket.put(_object(digest), path)

    def _refresh(self, digest: str, path: str) -> None:
        """Write an object anew, so that it is young; and see that no collection deletes it meanwhile."""
        for _ in range(_TRIES):
            self._bucket.put(_object(digest), path)
            collecting = self._bucket.stat(_collecting(digest))
            unseen = collecting is None or self._is_abandoned(collecting)
            if unseen and self._bucket.stat(_object(digest)) is not None:
                return
            time.sleep(random.uniform(0.01, 0.2))
        raise StoreError(
            f"object {digest[:12]}… is being collected all the time", where=self.root, hint="Run again in a minute."
        )

    def _is_abandoned(self, marker: Stat) -> bool:
        """Whether a collector was ended before it took its mark away: a delete is not tried for longer than this."""
        return marker.mtime < time.time() - 2 * self._deadline_s - 60.0

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, digest: str) -> bytes:
        """The bytes, verified against their name, whether staged or published."""
        data = self._here(digest, self.local.read)
        if data is not None:
            return data
        path = self._download(digest)
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise explain(error, "read a copy", path) from error

    def fetch(self, digest: str) -> str:
        """Path of a local read-only file with verified bytes."""
        return self._here(digest, self.local.fetch) or self._download(digest)

    def _here(self, digest: str, ask: Callable[[str], T]) -> T | None:
        """What this machine's part answers; None where the URL is to be asked."""
        if not is_digest(digest):
            raise self._missing(digest)
        try:
            if self._use_copies or self.local.is_staged(digest):
                return ask(digest)
        except MissingObjectError:
            pass
        except CorruptObjectError:
            if self._bucket.stat(_object(digest)) is None:
                raise
        return None

    def _download(self, digest: str) -> str:
        found = ""
        for _ in range(DOWNLOADS):
            draft = self.local.draft()
            try:
                if not self._bucket.get(_object(digest), draft):
                    raise self._missing(digest)
                found, _size = hash_file(draft)
                if found == digest:
                    self.local.quarantine(digest)  # a copy that was changed, if there is one
                    return self.local.adopt(digest, draft)
            finally:
                remove(draft)
        raise CorruptObjectError(
            f"the bytes of object {digest[:12]}… have digest {found[:12]}…: they were changed after they were written",
            where=f"{self.root}/{_object(digest)}",
            hint=_CORRUPT_HINT,
            digest=digest,
            found=found,
        )

    def missing(self, digests: Collection[str]) -> set[str]:
        """Those of the digests that are neither staged nor published (existence only, bytes unread)."""
        asked = {digest for digest in digests if is_digest(digest)}
        absent = set(digests) - asked
        if self._use_copies:
            asked = self.local.missing(asked) - self._seen.keys()
        else:
            asked = {digest for digest in asked if not self.local.is_staged(digest)}
        if len(asked) > MANY:
            there = {digest for digest, _ in self._listed()}
        elif asked:
            there = {_digest(name) for name in self._bucket.stats(_object(digest) for digest in asked)}
        else:
            there = set()
        return absent | (asked - there)

    def _listed(self) -> Iterator[tuple[str, Stat]]:
        for name, found in self._bucket.listed("objects"):
            digest = name.replace("/", "")
            if is_digest(digest):
                yield digest, found

    def walk(self) -> Iterator[ObjectStat]:
        """Every object, staged on this machine and published, in no order."""
        published = set()
        for digest, found in self._listed():
            published.add(digest)
            yield ObjectStat(digest, found.size, found.mtime, staged=False)
        for item in self.local.walk():
            if item.staged and item.digest not in published:
                yield item

    # ── upkeep ───────────────────────────────────────────────────────────────────────────────────────────────

    def quarantine(self, digest: str) -> None:
        """Move the corrupt copies of an object aside, here and behind the URL; a good copy stays."""
        if is_digest(digest):
            self.local.quarantine(digest)
            self._quarantine_remote(digest)

    def _quarantine_remote(self, digest: str) -> None:
        draft = self.local.draft()
        try:
            before = self._bucket.stat(_object(digest))
            if before is None or not self._bucket.get(_object(digest), draft) or hash_file(draft)[0] == digest:
                return
            self._seen.pop(digest, None)
            self._bucket.put(f"quarantine/{digest}.{unique_name()}", draft)
            if self._bucket.stat(_object(digest)) == before:  # else somebody has just written it anew
                self._bucket.delete(_object(digest))
        finally:
            remove(draft)

    def delete(self, digest: str) -> None:
        """Remove an object, staged or published. No error if it is gone."""
        if is_digest(digest):
            self._seen.pop(digest, None)
            self._bucket.delete(_object(digest))
            self.local.delete(digest)

    def delete_unless_touched(self, digest: str, before: float) -> bool:
        """Remove an object unless somebody wrote it at or after a Unix time; say whether it went.

        Writers leave objects younger than `refresh_s` as they are: nothing younger than twice that time goes.
        """
        before = min(before, time.time() - 2 * self._refresh_s)
        if self.local.is_staged(digest):
            self.local.delete_unless_touched(digest, before)
        found = self._bucket.stat(_object(digest))
        if found is None:
            return self.local.missing([digest]) == {digest} or self.local.delete_unless_touched(digest, before)
        if found.mtime >= before or not self._claim(digest):
            return False
        try:
            found = self._bucket.stat(_object(digest))
            if found is not None and found.mtime >= before:
                return False
            self._seen.pop(digest, None)
            self._bucket.delete(_object(digest))
            self.local.delete(digest)
        finally:
            self._bucket.delete(_collecting(digest))
        return True

    def _claim(self, digest: str) -> bool:
        """Say that this collector looks at an object; False when another one does."""
        if self._bucket.put(_collecting(digest), b"", create=True):
            return True
        marker = self._bucket.stat(_collecting(digest))
        if marker is not None and not self._is_abandoned(marker):
            return False
        return self._bucket.put(_collecting(digest), b"")

    def leftovers(self) -> Iterator[Leftover]:
        """What is no object: left by killed processes here and behind the URL, and names that Penstock never wrote."""
        yield from self.local.leftovers()
        for folder in ("tmp", "collecting"):
            for name, found in self._bucket.listed(folder):
                yield Leftover(f"{self.root}/{folder}/{name}", "tmp", found.size, found.mtime)
        for name, found in self._bucket.listed("objects"):
            if not is_digest(name.replace("/", "")):
                yield Leftover(f"{self.root}/objects/{name}", "stray", found.size, found.mtime)

    def sweep(self, grace_s: float) -> int:
        """Remove what killed processes left and second names, older than a grace, in seconds; give their number."""
        count, before = self.local.sweep(grace_s), time.time() - grace_s
        for folder in ("tmp", "collecting"):
            for name, found in self._bucket.listed(folder):
                if found.mtime < before:
                    self._bucket.delete(f"{folder}/{name}")
                    count += 1
        return count


def _object(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest[2:]}"


def _digest(name: str) -> str:
    return name.removeprefix("objects/").replace("/", "")


def _collecting(digest: str) -> str:
    return f"collecting/{digest}"
