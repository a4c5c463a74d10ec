"""The few system calls that make bytes durable, and the sentences for what can go wrong with them."""

from __future__ import annotations

import errno
import os

from penstock.errors import StoreError

_CHUNK = 1 << 20

_SENTENCES = {
    errno.ENOSPC: ("the disk is full", "Free some space (`penstock gc` removes what nothing needs), then run again."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space or raise the quota, then run again."),
    errno.EFBIG: (
        "the file is larger than this system allows",
        "Raise the limit on file sizes (`ulimit -f`), or write less at once.",
    ),
    errno.EROFS: ("the file system is read-only", "Mount it writable, or point `store` at another directory."),
    errno.EACCES: ("permission is missing", "Give this user the right to read and write the directory."),
    errno.EPERM: ("the system does not permit it", "Give this user the right to read and write the directory."),
    errno.EIO: (
        "the disk reported an input/output error",
        "Nothing was acknowledged. Check the disk (`dmesg`), then run again: the bytes are written anew.",
    ),
    errno.ENOTDIR: ("a part of the path is not a directory", "Point `store` at a directory."),
    errno.EEXIST: ("a file stands where a directory should be", "Move it away, or point `store` elsewhere."),
    errno.ENOENT: ("a file or directory is gone", "Was it moved or removed while in use? Run again to make it anew."),
    errno.EMFILE: ("too many files are open", "Raise the limit (`ulimit -n`)."),
}


def explain(error: OSError, doing: str, where: str) -> StoreError:
    """Turn the system's error into a sentence with what to do next.

    Parameters
    ----------
    error : OSError
        What the system said; its `errno` becomes an attribute.
    doing : str
        What was being done: "write an object".
    where : str
        The path concerned.

    Examples
    --------
    >>> import errno
    >>> print(explain(OSError(errno.ENOSPC, "no space"), "write an object", "store"))
    store: cannot write an object: the disk is full
    → Free some space (`penstock gc` removes what nothing needs), then run again.
    """
    why, hint = _SENTENCES.get(
        error.errno or 0, (error.strerror or str(error), "Check the disk and the directory's rights, then run again.")
    )
    return StoreError(f"cannot {doing}: {why}", where=where, hint=hint, errno=error.errno)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte; a system call may take fewer than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:_CHUNK]) :]


def fsync_path(path: str) -> None:
    """Make a file's bytes, or a directory's names, durable.

    An error is final: the kernel may have dropped the pages and called them clean, so that a second call on the
    same file would succeed falsely. The caller writes the bytes again from their source.
    """
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directories(path: str) -> None:
    """Make a directory and its parents, and make each new name durable in the directory that holds it.

    Safe beside other processes that make the same, and after a kill at any point.
    """
    missing: list[str] = []
    here = os.path.abspath(path)
    while not os.path.isdir(here):
        missing.append(here)
        parent = os.path.dirname(here)
        if parent == here:
            break
        here = parent
    for directory in reversed(missing):
        try:
            os.mkdir(directory)
        except FileExistsError:
            if not os.path.isdir(directory):
                raise
        fsync_path(os.path.dirname(directory))


def fsync_ancestors(path: str) -> None:
    """Make the names on the way to a directory durable, as far up as its file system and our rights reach."""
    here = os.path.abspath(path)
    device = os.stat(here).st_dev
    while os.stat(here).st_dev == device:
        try:
            fsync_path(here)
        except PermissionError:
            return
        parent = os.path.dirname(here)
        if parent == here:
            return
        here = parent


def remove(path: str) -> bool:
    """Unlink a file; False when it is gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def write_durably(path: str, data: bytes, temporary: str) -> None:
    """Put a whole file in place: temporary file, write, fsync, rename, fsync of the directory.

    Parameters
    ----------
    path : str
        Where the file shall stand; readers see the old file or the new one, never a part.
    data : bytes
        All of it.
    temporary : str
        A name that nobody else uses, in the same file system.
    """
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    fsync_path(os.path.dirname(path))
