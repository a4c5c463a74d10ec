"""Immutable bytes named by their SHA-256, in a directory.

Layout below the root: `objects/ab/cdef…` durable, `staging/<digest>` readable but perhaps not durable,
`tmp/` being written, `quarantine/` moved aside as corrupt, `format` the mark that the store is whole.

This module and `files` are the only ones that write there. Bytes reach `staging` by a rename, and `objects` by a
rename after their fsync: nothing un-synced ever has its final name. The staged name stays behind as a second
link to the same bytes, for readers that were given its path; `gc` sweeps it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from penstock.core.ports import ObjectStat
from penstock.errors import CorruptObjectError, MissingObjectError, StoreError
from penstock.store.files import explain, fsync_path, remove, write_all
from penstock.store.mark import initialise, unique_name

_CHUNK = 1 << 18
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}

_TRIES = 100
"""Between two tries another process must have replaced the staged file: a hundred in a row do not happen."""

is_digest = re.compile(r"[0-9a-f]{64}").fullmatch
"""Whether a text can name an object; nothing else ever becomes a path."""


class Leftover(NamedTuple):
    """A file of the store that is no object: temporary, or under a name that no object has.

    `kind` is "tmp" for what a killed process left, "staged" for the second name of a published object, and
    "stray" for what Penstock never wrote.
    """

    path: str
    kind: str
    size: int
    mtime: float


class DirectoryObjects:
    """`penstock.core.ports.Objects` in a directory of this machine.

    Parameters
    ----------
    root : str
        The directory; made, with its parents, when it is not there.

    Raises
    ------
    StoreTooNewError
        A newer Penstock wrote it.
    StoreError
        It cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> objects = DirectoryObjects(tempfile.mkdtemp())
    >>> digest, size = objects.stage(b"hello")
    >>> objects.publish([digest])
    >>> objects.read(digest)
    b'hello'
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        initialise(self.root)
        self._objects = os.path.join(self.root, "objects")
        self._staging = os.path.join(self.root, "staging")
        self._tmp = os.path.join(self.root, "tmp")
        self._synced: set[str] = set()  # fan-out directories whose own names this instance knows to be durable

    def direct(self) -> DirectoryObjects:
        """The same store, read without copies: there are none."""
        return self

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────

    def _final(self, digest: str) -> str:
        return f"{self._objects}/{digest[:2]}/{digest[2:]}"

    def _staged(self, digest: str) -> str:
        return f"{self._staging}/{digest}"

    def _paths(self, digest: str) -> tuple[str, str, str]:
        """Where to look, in order: a publish between two looks moves from the second place to the first."""
        if not is_digest(digest):
            raise self._missing(digest)
        final = self._final(digest)
        return final, self._staged(digest), final

    def _missing(self, digest: str) -> MissingObjectError:
        return MissingObjectError(
            f"object {digest[:80]} is not in the store",
            where=self.root,
            hint="Run again: the step that makes it runs anew. `penstock fsck` lists what else is missing.",
            digest=digest,
        )

    def _corrupt(self, digest: str, path: str, found: str) -> CorruptObjectError:
        return CorruptObjectError(
            f"the bytes of object {digest[:12]}… have digest {found[:12]}…: they were changed after they were written",
            where=path,
            hint="`penstock fsck --repair` moves it aside; the next run makes it again.",
            digest=digest,
            found=found,
        )

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────

    def stage(self, data: bytes | str) -> tuple[str, int]:
        """Write bytes, or move the file at a path, into staging; give (digest, size)."""
        try:
            if isinstance(data, str):
                return self._stage_file(data)
            digest = hashlib.sha256(data).hexdigest()
            if not self._there(digest, len(data)):
                self._stage_bytes(digest, data)
            return digest, len(data)
        except StoreError:
            raise
        except OSError as error:
            raise explain(error, "write an object", self.root) from error

    def _there(self, digest: str, size: int) -> bool:
        """Whether the object is there already; then touch it, so that `gc` knows it is wanted.

        Published bytes were synced under their name: their size will do, and every read verifies them. Staged
        ones may have been torn by a power cut since, and must not be published unseen.
        """
        final, staged, _ = self._paths(digest)
        found = _touch(final)
        if found == size:
            return True
        if found is not None:
            self.quarantine(digest)
        return _touch(staged) == size and hash_file(staged)[0] == digest

    def _stage_bytes(self, digest: str, data: bytes) -> None:
        temporary = os.path.join(self._tmp, unique_name())
        try:
            self._write(temporary, data)
            os.rename(temporary, self._staged(digest))
        except BaseException:
            remove(temporary)
            raise

    def _write(self, path: str, data: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            write_all(fd, data)
        finally:
            os.close(fd)

    def _stage_file(self, path: str) -> tuple[str, int]:
        """Move first, hash afterwards: what is hashed can no longer be replaced under its old name."""
        temporary = os.path.join(self._tmp, unique_name())
        try:
            digest, size = self._take(path, temporary)
            if self._there(digest, size):
                remove(temporary)
            else:
                os.rename(temporary, self._staged(digest))
        except BaseException:
            if os.path.lexists(path):
                remove(temporary)
            elif os.path.exists(temporary):
                os.rename(temporary, path)
            raise
        return digest, size

    def _take(self, path: str, temporary: str) -> tuple[str, int]:
        try:
            known = os.lstat(path)
            # A second hard link or a symbolic link would leave the bytes open to change: copied, not moved.
            if stat.S_ISREG(known.st_mode) and known.st_nlink == 1:
                os.rename(path, temporary)
                os.chmod(temporary, 0o444)
                return hash_file(temporary)
        except FileNotFoundError as error:
            raise explain(error, "take a file into the store", path) from error
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        digest, size = self._copy(path, temporary)
        os.unlink(path)
        return digest, size

    def _copy(self, path: str, temporary: str) -> tuple[str, int]:
        hasher, size = hashlib.sha256(), 0
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            with open(path, "rb") as source:
                while chunk := source.read(_CHUNK):
                    hasher.update(chunk)
                    write_all(fd, chunk)
                    size += len(chunk)
        finally:
            os.close(fd)
        return hasher.hexdigest(), size

    def publish(self, digests: Iterable[str]) -> None:
        """Make staged objects durable: fsync every file, rename all, fsync each parent directory once."""
        wanted = list(dict.fromkeys(digests))
        claimed: dict[str, str] = {}
        try:
            for digest in wanted:
                if (temporary := self._claim(digest)) is not None:
                    claimed[digest] = temporary
            for digest, temporary in claimed.items():
                self._sync_claimed(digest, temporary)
            for digest, temporary in claimed.items():
                self._place(digest, temporary)
            self._sync_parents(wanted, claimed)
        except StoreError:
            raise
        except OSError as error:
            raise explain(error, "make objects durable", self.root) from error
        finally:
            for digest, temporary in claimed.items():
                self._release(digest, temporary)

    def _claim(self, digest: str) -> str | None:
        """Give the staged bytes a name that only this call knows; None when the object is published already.

        The file that will be synced is then the file that will be renamed, whoever stages the same bytes meanwhile.
        """
        final, staged, _ = self._paths(digest)
        temporary = os.path.join(self._tmp, unique_name())
        for _ in range(_TRIES):
            if _touch(final) is not None:  # `gc` must not sweep what a decision is about to name
                return None
            try:
                self._link(staged, temporary)
                return temporary
            except FileNotFoundError:
                # Also told when another process has just staged the same bytes over these: look again.
                if not os.path.exists(staged) and not os.path.exists(final):
                    break
        raise self._missing(digest)

    def _link(self, staged: str, temporary: str) -> None:
        try:
            os.link(staged, temporary)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.rename(staged, temporary)  # a file system without hard links: the staged name goes

    def _fsync(self, path: str) -> None:
        fsync_path(path)

    def _sync_claimed(self, digest: str, temporary: str) -> None:
        try:
            self._fsync(temporary)
        except OSError:
            # The kernel may have dropped the pages. Forget these bytes, so that they are written anew.
            remove(self._staged(digest))
            remove(temporary)
            raise

    def _release(self, digest: str, temporary: str) -> None:
        """Drop the private name; where it is the only one, for want of hard links, the bytes go back to staging."""
        with contextlib.suppress(OSError):  # what cannot be removed is swept later, as after a kill
            if os.path.exists(self._final(digest)) or os.path.exists(self._staged(digest)):
                remove(temporary)
            else:
                os.rename(temporary, self._staged(digest))

    def _place(self, digest: str, temporary: str) -> None:
        final = self._final(digest)
        try:
            os.rename(temporary, final)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(final), exist_ok=True)
            os.rename(temporary, final)
        # Between two links of one file, rename does nothing by definition: `publish` removes what is left.

    def _sync_parents(self, digests: Iterable[str], placed: Iterable[str]) -> None:
        """Sync also for objects that another process renamed: its own fsync may still be under way."""
        parents = {os.path.dirname(self._final(digest)) for digest in digests}
        try:
            for parent in parents:
                self._fsync(parent)
            if not parents <= self._synced:
                self._fsync(self._objects)
                self._synced |= parents
        except OSError:
            # Their bytes are safe, their new names may not be: the next publish shall write the names again.
            for digest in placed:
                os.rename(self._final(digest), self._staged(digest))
                remove(self._final(digest))  # still there when both names are links to one file
            raise

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, digest: str) -> bytes:
        """The bytes, verified against their name, whether staged or published."""
        for path in self._paths(digest):
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise explain(error, "read an object", path) from error
            self._verify(digest, path, hashlib.sha256(data).hexdigest())
            return data
        raise self._missing(digest)

    def fetch(self, digest: str) -> str:
        """Path of a local read-only file with verified bytes; valid until the object is deleted."""
        for path in self._paths(digest):
            try:
                found, _ = hash_file(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise explain(error, "read an object", path) from error
            self._verify(digest, path, found)
            return path
        raise self._missing(digest)

    def _verify(self, digest: str, path: str, found: str) -> None:
        if found != digest:
            raise self._corrupt(digest, path, found)

    def missing(self, digests: Collection[str]) -> set[str]:
        """Those of the digests that are neither staged nor published (existence only, bytes unread)."""
        return {digest for digest in digests if not self._exists(digest)}

    def _exists(self, digest: str) -> bool:
        return bool(is_digest(digest)) and any(os.path.exists(path) for path in self._paths(digest))

    def walk(self) -> Iterator[ObjectStat]:
        """Every object, staged and published, in no order."""
        for found in _files(self._staging):
            digest = found.name
            if is_digest(digest) and not os.path.exists(self._final(digest)):
                yield from _stat(found, digest, staged=True)
        for folder in _entries(self._objects):
            for found in _files(folder.path):
                digest = folder.name + found.name
                if is_digest(digest):
                    yield from _stat(found, digest, staged=False)

    # ── upkeep ───────────────────────────────────────────────────────────────────────────────────────────────

    def quarantine(self, digest: str) -> None:
        """Move the corrupt copies of an object aside. No error if it is gone.

        The bytes are hashed once more: another process may have written a good copy in the meantime, and a good
        copy stays.
        """
        for path in self._paths(digest)[:2]:
            try:
                found = hash_file(path)[0]
            except FileNotFoundError:
                continue
            except OSError:
                found = "unreadable"
            if found != digest:
                try:
                    os.rename(path, os.path.join(self.root, "quarantine", f"{digest}.{unique_name()}"))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise explain(error, "move a corrupt object aside", path) from error

    def delete(self, digest: str) -> None:
        """Remove an object, staged or published. No error if it is gone."""
        try:
            for path in self._paths(digest)[:2]:
                remove(path)
        except OSError as error:
            raise explain(error, "delete an object", self.root) from error

    def delete_unless_touched(self, digest: str, before: float) -> bool:
        """Remove an object unless somebody wrote or touched it at or after a Unix time; say whether it went.

        The file is first moved out of sight and looked at then: a writer that touched it before is seen, a writer
        that comes later finds nothing and writes the bytes again.
        """
        gone = True
        for path in self._paths(digest)[:2]:
            gone &= self._remove_unless_touched(path, before)
        return gone

    def _remove_unless_touched(self, path: str, before: float) -> bool:
        hidden = os.path.join(self._tmp, unique_name())
        try:
            os.rename(path, hidden)
            if os.stat(hidden).st_mtime < before:
                remove(hidden)
                return True
            os.rename(hidden, path)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise explain(error, "delete an object", path) from error
        return False

    def leftovers(self) -> Iterator[Leftover]:
        """Files that are no objects: what killed processes left, second names of published objects, strangers."""
        for found in _entries(self._tmp):
            yield from _leftover(found, "tmp")
        for found in _entries(self._staging):
            if not is_digest(found.name):
                yield from _leftover(found, "stray")
            elif os.path.exists(self._final(found.name)):
                yield from _leftover(found, "staged")
        for folder in _entries(self._objects):
            if not folder.is_dir(follow_symlinks=False):
                yield from _leftover(folder, "stray")
                continue
            for found in _entries(folder.path):
                if not is_digest(folder.name + found.name):
                    yield from _leftover(found, "stray")

    def sweep(self, grace_s: float) -> int:
        """Remove temporary files and second names older than a grace, in seconds; give their number."""
        before = time.time() - grace_s
        old = [item for item in self.leftovers() if item.kind != "stray" and item.mtime < before]
        for item in old:
            self._remove_unless_touched(item.path, before)
        return len(old)


def _touch(path: str) -> int | None:
    """Set a file's time to now and give its size in bytes; None when it is not there."""
    try:
        with contextlib.suppress(PermissionError):  # another user's file: its grace runs from when it was written
            os.utime(path)
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def hash_file(path: str) -> tuple[str, int]:
    """SHA-256 and size in bytes of a file.

    Raises
    ------
    OSError
    """
    hasher, size = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            size += len(chunk)
    return hasher.hexdigest(), size


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise explain(error, "list the store", path) from error


def _files(path: str) -> Iterator[os.DirEntry[str]]:
    return (entry for entry in _entries(path) if entry.is_file(follow_symlinks=False))


def _stat(entry: os.DirEntry[str], digest: str, *, staged: bool) -> Iterator[ObjectStat]:
    try:
        known = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    yield ObjectStat(digest, known.st_size, known.st_mtime, staged)


def _leftover(entry: os.DirEntry[str], kind: str) -> Iterator[Leftover]:
    try:
        known = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    yield Leftover(entry.path, kind, known.st_size, known.st_mtime)
