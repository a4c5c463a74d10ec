"""Which files lie at the places that a source declares: one file, a list, a pattern or a folder."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator

from penstock.core.source import COMPRESSED
from penstock.errors import SourceNotFoundError

TABLES = (
    *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson"),
    *(".parquet", ".pq", ".arrow", ".feather", ".ipc", ".xlsx", ".xlsm", ".xls", ".ods"),
)
"""Suffixes by which a table is known in a folder; anything else there is passed over."""
MOST_FILES = 100_000
_SIGNS = "*?["


def files_at(places: tuple[str, ...], where: str) -> tuple[list[tuple[str, str]], bool]:
    """The files at some places.

    Parameters
    ----------
    places : tuple of str
        Absolute paths: of files, of folders, patterns.
    where : str
        Who asks, for errors.

    Returns
    -------
    files : list of (name, path)
        Name relative to the folder that all share, with "/" between its parts; sorted by name, each file once.
    many : bool
        Whether several were declared: a list, a pattern, a folder.

    Raises
    ------
    SourceNotFoundError
        A pattern or folder without a table, or with more files than are taken.
    """
    if len(places) == 1 and not _several(places[0]):
        return [(os.path.basename(places[0]), places[0])], False
    found: dict[str, None] = {}
    bases = []
    for place in places:
        base, paths = _expanded(place)
        bases.append(base)
        before = len(found)
        for path in paths:
            found[path] = None
            if len(found) > MOST_FILES:
                raise SourceNotFoundError(f"more than {MOST_FILES:,} files: {place}", where=where)
        if _several(place) and len(found) == before and not any(True for _ in _expanded(place)[1]):
            raise SourceNotFoundError(
                f"no table {'in this folder' if os.path.isdir(place) else 'is named so'}: {place}",
                where=where,
                hint=f"files that end in {', '.join(TABLES[:4])} … are looked for; names that begin with . or _ are not"
                if os.path.isdir(place)
                else "relative paths are relative to the file that declares them",
            )
    base = os.path.commonpath(bases)
    while "=" in os.path.basename(base):  # a part such as year=2026 says something of the rows below it
        base = os.path.dirname(base)
    named = sorted((os.path.relpath(path, base).replace(os.sep, "/"), path) for path in found)
    return named, True


def _several(place: str) -> bool:
    return os.path.isdir(place) or (any(sign in place for sign in _SIGNS) and not os.path.exists(place))


def _expanded(place: str) -> tuple[str, Iterator[str]]:
    """The folder that a place does not leave, and the files there."""
    if os.path.isdir(place):
        return place, _walked(place)
    if not _several(place):
        return os.path.dirname(place), iter((place,))
    parts = place.split(os.sep)
    fixed = next(i for i, part in enumerate(parts) if any(sign in part for sign in _SIGNS))
    return os.sep.join(parts[:fixed]) or os.sep, filter(os.path.isfile, glob.iglob(place, recursive=True))


def _walked(folder: str) -> Iterator[str]:
    """Tables in a folder and below it; links to folders are not followed."""
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in files:
            if not is_hidden(name) and is_table(name):
                yield os.path.join(here, name)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is passed over below a folder: jobs that write tables name their own files so."""
    return name.startswith((".", "_"))


def is_table(name: str) -> bool:
    """Whether a file's name ends as that of a table."""
    stem, suffix = os.path.splitext(name.lower())
    return suffix in TABLES or (suffix in COMPRESSED and os.path.splitext(stem)[1] in TABLES)
