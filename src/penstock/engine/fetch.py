"""Files at URLs: fetched once to this machine, hashed on the way, and known again by what the other side tells."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from penstock.core.run import SourceStat
from penstock.core.urls import install_hint, masked, scheme
from penstock.engine.listing import MOST_FILES, is_hidden, is_table
from penstock.errors import MissingExtraError, PenstockError, SourceNotFoundError, bounded

CHUNK = 1 << 20
ROOM = 1 << 30
"""Bytes of the disk that a fetched file leaves free."""
SETTLED_S = 60.0
"""A file without an entity tag that changed within this time is not remembered: clocks differ, and count seconds."""
_TAGS = ("ETag", "etag", "e_tag", "md5Hash", "content_md5")
_SIGNS = "*?["


class Fetcher:
    """Fetches files at URLs into a folder, one file a URL.

    Parameters
    ----------
    folder : str
        Made when it is needed.
    hosts : collection of str
        Hosts inside a network that http:// and https:// may reach.
    """

    def __init__(self, folder: str, hosts: Collection[str] = ()) -> None:
        self._folder, self._hosts = folder, tuple(host.lower() for host in hosts)

    def expand(self, place: str) -> tuple[str, list[str]]:
        """The URLs that a place stands for: itself, or all tables below a folder or named by a pattern.

        Returns
        -------
        base : str
            What all of them begin with, up to a "/".
        urls : list of str

        Raises
        ------
        SourceNotFoundError, MissingExtraError
        """
        if not several(place):
            return place.rpartition("/")[0], [place]
        with _explained(place):
            system, path = _opened(place)
            signs = [i for i, sign in enumerate(path) if sign in _SIGNS]
            if signs:
                base = path[: signs[0]].rpartition("/")[0]
                found = [name for name, info in system.glob(path, detail=True).items() if info["type"] != "directory"]
            else:
                base = path.rstrip("/")
                found = [name for name in system.find(path) if _is_listed(name.lstrip("/")[len(base.lstrip("/")) :])]
        if not found or len(found) > MOST_FILES:
            what = "no table there" if not found else f"more than {MOST_FILES:,} files"
            raise SourceNotFoundError(f"{what}: {place}", hint="a folder ends with /, a pattern has * in it")
        lead = place.partition("://")[0] + "://"
        return lead + base.lstrip("/"), sorted(lead + name.lstrip("/") for name in found)

    def get(self, url: str, old: SourceStat | None) -> tuple[str, str, SourceStat | None]:
        """The bytes at a URL, on this machine.

        Parameters
        ----------
        old : SourceStat or None
            What is remembered of the URL.

        Returns
        -------
        path, digest : str
            Where the bytes are, and their SHA-256.
        seen : SourceStat or None
            What may be remembered of them, when they were fetched now.

        Raises
        ------
        SourceNotFoundError, MissingExtraError
        """
        path = os.path.join(self._folder, hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:32])
        with _explained(url):
            stat = self._stat(url)
            if old is not None and stat is not None and tuple(old.stat) == stat and _size(path) == stat[0]:
                _used(path)
                return path, old.digest, None
            digest = self._fetch(url, path)
            settled = stat is not None and stat == self._stat(url) and _size(path) == stat[0]
        return path, digest, SourceStat(url, stat, digest) if settled and stat is not None else None

    def _stat(self, url: str) -> tuple[int, int, int] | None:
        """(size, time of the last change in ns, digest of the entity tag): equal only where the bytes are."""
        if scheme(url) in ("http", "https"):
            from penstock.engine import download

            told = download.head(url, self._hosts)
        else:
            system, path = _opened(url)
            told = _told(system.info(path))
        if told is None:
            return None
        size, tag, changed = told
        if not tag and not 0 < changed < time.time() - SETTLED_S:
            return None
        return size, int(changed * 1e9), int(hashlib.sha256(tag.encode()).hexdigest()[:15], 16) if tag else 0

    def _fetch(self, url: str, path: str) -> str:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix="fetching-", dir=self._folder)
        digest, size = hashlib.sha256(), 0
        try:
            stream, announced = self._open(url)
            with open(handle, "wb") as file, contextlib.closing(stream):
                _check_room(announced or 0, self._folder)
                while chunk := stream.read(CHUNK):
                    if size // (256 * CHUNK) != (size + len(chunk)) // (256 * CHUNK):
                        _check_room(0, self._folder)
                    size += len(chunk)
                    digest.update(chunk)
                    file.write(chunk)
            if announced is not None and size != announced:
                raise OSError(f"cut off after {size:,} of {announced:,} bytes")
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
            raise
        return digest.hexdigest()

    def _open(self, url: str) -> tuple[Any, int | None]:
        if scheme(url) in ("http", "https"):
            from penstock.engine import download

            return download.open_url(url, self._hosts)
        system, path = _opened(url)
        return system.open(path, "rb"), system.info(path).get("size")


def clear(folder: str, before: float, *, dry_run: bool = False) -> tuple[int, int]:
    """Remove fetched files that no run has used lately; one that is asked for again is fetched again.

    Parameters
    ----------
    folder : str
    before : float
        Unix time in seconds: what was used since then stays.
    dry_run : bool, default=False

    Returns
    -------
    n_files, size : int
        How many, and their bytes.
    """
    count = size = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        for file in found:
            told = file.stat(follow_symlinks=False)
            if not file.is_file(follow_symlinks=False) or told.st_mtime >= before:
                continue
            if not dry_run:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.path)
            count, size = count + 1, size + told.st_size
    return count, size


def _is_listed(name: str) -> bool:
    """Whether a name below a folder is a table of it, as `listing` has it for folders of this machine."""
    *folders, last = name.lstrip("/").split("/")
    return is_table(last) and not any(map(is_hidden, (*folders, last)))


def _used(path: str) -> None:
    """Note on a fetched file that a run uses it: its time of change is of no other meaning."""
    with contextlib.suppress(OSError):
        os.utime(path)


def several(place: str) -> bool:
    """Whether a URL stands for several files: it ends with "/", or is a pattern. Over HTTP nothing can be listed."""
    if scheme(place) in ("http", "https"):
        return False
    return place.endswith("/") or any(sign in place for sign in _SIGNS)


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, nothing of it remembered, and the path there."""
    import fsspec

    kind = scheme(url)
    try:
        system = fsspec.filesystem(kind, use_listings_cache=False)
    except ImportError as error:
        what = f"reading {kind}:// needs another library: {error}"
        raise MissingExtraError(what, hint=install_hint(kind)) from None
    system.invalidate_cache()
    return system, url.partition("://")[2]


def _told(info: dict[str, Any]) -> tuple[int, str, float] | None:
    """(size, entity tag, Unix time of the last change) out of what a file system says of a file."""
    size = info.get("size")
    if info.get("type") == "directory":
        raise IsADirectoryError(21, "a folder; a folder of tables ends with /")
    if size is None:
        return None
    tag = next((str(info[name]) for name in _TAGS if info.get(name)), "")
    changed = info.get("LastModified") or info.get("last_modified") or info.get("mtime") or 0
    moment: Callable[[], float] | None = getattr(changed, "timestamp", None)
    seconds = moment() if moment is not None else changed if isinstance(changed, int | float) else 0.0
    return int(size), "" if tag.startswith("W/") else tag, float(seconds)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _check_room(wanted: int, folder: str) -> None:
    free = shutil.disk_usage(folder).free
    if wanted + ROOM > free:
        raise OSError(f"{wanted:,} bytes are announced, and {free:,} are free on this disk")


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Whatever goes wrong on the way to a URL, as one error that names it."""
    import http.client  # 15 ms, which a run of files has no use for
    import urllib.error

    from penstock.engine import download

    try:
        yield
    except PenstockError:
        raise
    except download.RefusedAddressError as error:
        raise _refused(url, error) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, download.RefusedAddressError):
            raise _refused(url, error.reason) from None
        raise SourceNotFoundError(f"cannot be reached: {bounded(str(error.reason), 200)}", where=url) from None
    except FileNotFoundError:
        raise SourceNotFoundError(f"there is no such file: {url}", hint="check data=ps.read(…)") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        told = bounded(masked(f"{type(error).__name__}: {error}"), 300)
        raise SourceNotFoundError(f"cannot be read: {told}", where=url, hint=_HINT) from None
    except Exception as error:  # each provider's library has errors of its own
        told = bounded(masked(f"{type(error).__name__}: {error}"), 300)
        raise SourceNotFoundError(f"cannot be read: {told}", where=url, hint=_HINT) from None


_HINT = "check the network, and the provider's own settings: AWS_PROFILE, ~/.aws, the machine's role, …"


def _refused(url: str, error: OSError) -> SourceNotFoundError:
    host = str(error).partition(" ")[0]
    return SourceNotFoundError(
        str(error), where=url, hint=f'if it is meant: hosts = ["{host}"] in penstock.toml lets it be reached'
    )
