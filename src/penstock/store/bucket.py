"""Named bytes behind a URL, by fsspec: the few operations that a store needs, each tried again until a deadline.

Credentials are the provider's own affair: its environment, its files, its roles. Nothing here reads or keeps one.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import inspect
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from penstock.core.urls import install_hint, masked, scheme
from penstock.errors import MissingExtraError, StoreError, bounded
from penstock.store.files import explain
from penstock.store.mark import unique_name

T = TypeVar("T")
DEADLINE_S = 60.0
"""No operation is tried again after this time, in seconds."""

TIMEOUT_S = 20.0
"""A connection that is silent for this time, in seconds, is given up."""

AT_ONCE = 16
"""Requests under way at once."""

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0
_WHOLE = 8 << 20
_WHOLE_PUTS = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "memory")
"""Schemes where an upload is seen whole or not at all; elsewhere it goes under another name first."""

_TIMES = ("LastModified", "mtime", "last_modified", "modified", "updated", "created", "creation_time")
_AGAIN = (408, 409, 425, 429)
_FINAL = (PermissionError, ImportError, ValueError, TypeError)
_OF_THIS_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EMFILE)
"""What the system says of a disk that is full or may not be written: no wait helps, and no provider is to blame."""
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError")


class Stat(NamedTuple):
    """What is known of a name: size in bytes and Unix time of its last change."""

    size: int
    mtime: float


class Bucket:
    """A folder of a remote file system.

    Parameters
    ----------
    url : str
        "s3://bucket/prefix" or any other that fsspec knows.
    deadline_s, timeout_s : float
        Seconds after which nothing is tried again, and after which a silent connection is given up.
    wait : callable
        Sleeps for so many seconds.

    Examples
    --------
    >>> bucket = Bucket("memory://doctest-bucket")
    >>> bucket.put("greeting", b"hello", create=True), bucket.put("greeting", b"other", create=True)
    (True, False)
    >>> bucket.stat("greeting").size
    5
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_s: float = DEADLINE_S,
        timeout_s: float = TIMEOUT_S,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self.scheme = scheme(url)
        self._base = self.url.partition("://")[2]
        self._deadline_s, self._timeout_s, self._wait = deadline_s, timeout_s, wait
        self._made: tuple[int, Any] | None = None

    # ── operations ───────────────────────────────────────────────────────────────────────────────────────────

    def put(self, name: str, data: bytes | str, *, create: bool = False) -> bool:
        """Write bytes, or the file at a path, under a name; seen whole or not at all.

        Parameters
        ----------
        create : bool
            Only if nothing is there, where the provider can tell.

        Returns
        -------
        bool
            False when something was there.

        Raises
        ------
        StoreError
        """
        if self.scheme in _WHOLE_PUTS:
            return self._try(f"write {name}", lambda fs: self._put(fs, name, data, create=create))
        draft = f"tmp/{unique_name()}"

        def moved(fs: Any) -> bool:
            fs.makedirs(os.path.dirname(self._path(draft)), exist_ok=True)
            self._put(fs, draft, data, create=False)
            fs.makedirs(os.path.dirname(self._path(name)), exist_ok=True)
            self._move(fs, draft, name)
            return True

        if create and self.stat(name) is not None:
            return False
        return self._try(f"write {name}", moved)

    def _move(self, fs: Any, draft: str, name: str) -> None:
        """Give a whole draft its name; where a name in use is refused (SFTP), that one goes first: a miss meanwhile."""
        try:
            fs.mv(self._path(draft), self._path(name))
        except OSError:
            if not fs.exists(self._path(name)):
                raise
            fs.rm_file(self._path(name))
            fs.mv(self._path(draft), self._path(name))

    def _put(self, fs: Any, name: str, data: bytes | str, *, create: bool) -> bool:
        if create and _takes_mode(fs):
            try:
                self._send(fs, name, data, {"mode": "create"})
            except Exception as error:
                if isinstance(error, FileExistsError) or status_of(error) == 412:
                    return False
                if status_of(error) != 501:
                    raise
            else:
                return True
        if create and self._is_there(fs, name):  # as near as a provider without conditional writes comes
            return False
        self._send(fs, name, data, {})
        return True

    def _is_there(self, fs: Any, name: str) -> bool:
        """Whether something has a name; `fs.exists` would call a failed request "no"."""
        try:
            fs.info(self._path(name))
        except FileNotFoundError:
            return False
        return True

    def _send(self, fs: Any, name: str, data: bytes | str, options: dict[str, str]) -> None:
        if isinstance(data, str) and (self.scheme == "memory" or os.path.getsize(data) <= _WHOLE):
            with open(data, "rb") as file:
                data = file.read()
        if isinstance(data, str):
            fs.put_file(data, self._path(name), **options)
        else:
            fs.pipe_file(self._path(name), data, **options)

    def get(self, name: str, path: str) -> bool:
        """Read a name's bytes into a file; False when there are none.

        What arrives is not to be trusted: the caller holds it against its digest.

        Raises
        ------
        StoreError
        """

        def read(fs: Any) -> bool:
            try:
                if self.scheme == "memory":
                    data = fs.cat_file(self._path(name))
                    with open(path, "wb") as file:
                        file.write(data)
                else:
                    fs.get_file(self._path(name), path)
            except FileNotFoundError:
                return False
            except Exception as error:
                if not _is_checksum(error):
                    raise
                with open(path, "ab"):  # what arrived is wrong: the caller finds that by its digest
                    return True
            return True

        return self._try(f"read {name}", read)

    def stat(self, name: str) -> Stat | None:
        """Size and time of a name, None when nothing is there.

        Raises
        ------
        StoreError
        """

        def look(fs: Any) -> Stat | None:
            try:
                info = fs.info(self._path(name))
            except FileNotFoundError:
                return None
            return _stat(info) if info.get("type", "file") == "file" else None

        return self._try(f"look for {name}", look)

    def stats(self, names: Iterable[str]) -> dict[str, Stat]:
        """Those of the names under which something is, asked for together."""
        wanted = list(names)
        found: list[Stat | None] = self.together(self.stat, wanted)
        return {name: one for name, one in zip(wanted, found, strict=True) if one is not None}

    def listed(self, folder: str) -> Iterator[tuple[str, Stat]]:
        """Names below a folder, relative to it.

        Raises
        ------
        StoreError
        """

        def look(fs: Any) -> dict[str, dict[str, Any]]:
            try:
                found: dict[str, dict[str, Any]] = fs.find(self._path(folder), detail=True)
            except FileNotFoundError:
                return {}
            return found

        start = f"{self._path(folder)}/".lstrip("/")
        for path, info in self._try(f"list {folder}", look).items():
            if info.get("type", "file") == "file" and path.lstrip("/").startswith(start):
                yield path.lstrip("/")[len(start) :], _stat(info)

    def delete(self, name: str) -> None:
        """Remove a name. No error if it is gone.

        Raises
        ------
        StoreError
        """

        def remove(fs: Any) -> None:
            with contextlib.suppress(FileNotFoundError):
                fs.rm_file(self._path(name))

        self._try(f"delete {name}", remove)

    def together(self, do: Callable[[str], T], names: list[str]) -> list[T]:
        """Do one thing for many names, several at once; the first error is raised when all have ended."""
        if len(names) < 2:
            return [do(name) for name in names]
        with ThreadPoolExecutor(min(AT_ONCE, len(names)), thread_name_prefix="penstock-bucket") as pool:
            return list(pool.map(do, names))

    # ── the file system ──────────────────────────────────────────────────────────────────────────────────────

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _fs(self) -> Any:
        """The file system of this process: a connection does not outlive a fork."""
        if self._made is None or self._made[0] != os.getpid():
            self._made = (os.getpid(), self._open())
        return self._made[1]

    def _open(self) -> Any:
        import fsspec

        options: dict[str, Any] = {"use_listings_cache": False}
        if self.scheme in ("s3", "s3a"):
            times = {"connect_timeout": self._timeout_s, "read_timeout": self._timeout_s}
            options["config_kwargs"] = {**times, "retries": {"total_max_attempts": 1}, "max_pool_connections": AT_ONCE}
        try:
            fs = fsspec.filesystem(self.scheme, **options)
        except ImportError as error:
            what = f"a store at {self.scheme}:// needs another library: {error}"
            raise MissingExtraError(what, hint=install_hint(self.scheme)) from error
        except ValueError as error:
            raise StoreError(f"no library opens {self.scheme}:// URLs: {error}", where=self.url) from error
        if hasattr(fs, "retries"):
            fs.retries = 1  # one loop of retries, with one deadline: ours
        return fs

    def _try(self, doing: str, call: Callable[[Any], T]) -> T:
        """Call until it succeeds, with growing and random waits, until the deadline or an error that will stay."""
        fs, tries, end = self._fs(), 0, time.monotonic() + self._deadline_s
        while True:
            try:
                return call(fs)
            except Exception as error:
                tries += 1
                if (full := _of_this_disk(error)) is not None:
                    raise explain(full, doing, str(full.filename or self.url)) from error
                pause = random.uniform(0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**tries))
                if _stays(error) or time.monotonic() + pause >= end:
                    raise self._explained(error, doing, tries) from error
                self._wait(pause)

    def _explained(self, error: Exception, doing: str, tries: int) -> StoreError:
        status = status_of(error)
        again = f" ({tries} tries)" if tries > 1 else ""
        said = bounded(_without_secrets(masked(f"{type(error).__name__}: {error}")), 500)
        if isinstance(error, PermissionError) or status in (401, 403) or type(error).__name__ in _NO_CREDENTIALS:
            hint = "check the provider's own settings: AWS_PROFILE, ~/.aws, the machine's role, the bucket's policy"
        elif isinstance(error, FileNotFoundError):
            hint = "is the bucket there, and `store` spelled right?"
        else:
            hint = "nothing was acknowledged; check the network and the provider's state, then run again"
        return StoreError(f"cannot {doing}: {said}{again}", where=self.url, hint=hint, status=status)


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status that an error, or what caused it, tells of.

    Examples
    --------
    >>> class Refused(Exception):
    ...     response = {"ResponseMetadata": {"HTTPStatusCode": 412}}
    >>> status_of(Refused()), status_of(OSError())
    (412, None)
    """
    for _ in range(8):
        if error is None:
            return None
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if isinstance(status, int):
                return status
        # A broken answer is called 400 by the library that could not read it: no service said that.
        names = () if type(error).__module__ == "aiohttp.http_exceptions" else ("status", "code", "status_code")
        for name in names:
            status = getattr(error, name, None)
            if isinstance(status, int) and 100 <= status < 600:
                return status
        error = error.__cause__ or error.__context__
    return None


def _of_this_disk(error: BaseException | None) -> OSError | None:
    """What this machine's disk refused, where that is why a request failed."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_THIS_DISK:
            return error
        error = error.__cause__
    return None


def _stays(error: Exception) -> bool:
    """Whether trying again cannot help."""
    if isinstance(error, TimeoutError) or "BadDigest" in str(error):
        return False
    if isinstance(error, (*_FINAL, FileNotFoundError)) or type(error).__name__ in _NO_CREDENTIALS:
        return True
    status = status_of(error)
    return status is not None and 400 <= status < 500 and status not in _AGAIN


def _is_checksum(error: BaseException | None) -> bool:
    """Whether the provider's own checksum told that bytes are wrong."""
    while error is not None and "Checksum" not in type(error).__name__:
        error = error.__cause__
    return error is not None


def _without_secrets(text: str) -> str:
    """A text without the values of variables that hold credentials."""
    for name, value in os.environ.items():
        if len(value) > 5 and any(word in name for word in ("SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY")):
            text = text.replace(value, "***")
    return text


def _takes_mode(fs: Any) -> bool:
    """Whether a file system can create without overwriting."""
    function = getattr(fs, "_pipe_file", fs.pipe_file)
    return "mode" in inspect.signature(function).parameters


def _stat(info: dict[str, Any]) -> Stat:
    return Stat(int(info.get("size") or 0), next((_time(info[name]) for name in _TIMES if info.get(name)), time.time()))


def _time(value: Any) -> float:
    if isinstance(value, dt.datetime):
        return value.timestamp()
    if isinstance(value, str):
        return dt.datetime.fromisoformat(value).timestamp()
    return float(value)
