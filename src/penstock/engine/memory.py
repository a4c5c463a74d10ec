"""Remembers what was read off source files: of a project's in one JSON file, of Penstock's beside its byte code."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from penstock.engine.beside import beside, may_write, write
from penstock.engine.summary import ANALYSIS, Summary

MOST_MODULES = 500
"""The file never holds more; those used last stay."""
MAX_BYTES = 32 * 2**20
"""A larger file is not read."""
_HEAD = {"penstock": "analysis", "version": ANALYSIS, "python": list(sys.version_info[:3])}


class Memory:
    """Summaries by digest. A file that is missing, old, damaged or made by another Python counts as empty.

    Parameters
    ----------
    path : str, optional
        Nothing is read or written without one.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._rows: dict[str, Any] = _read(path) if path else {}
        self._used: dict[str, Any] = {}
        self._anew = False

    def get(self, digest: str) -> Summary | None:
        """What is remembered of a source."""
        row = self._rows.get(digest)
        if row is None:
            return None
        try:
            summary = Summary.from_json(row)
        except (TypeError, ValueError, IndexError, KeyError):
            return None
        self._used[digest] = row
        return summary

    def put(self, digest: str, summary: Summary) -> None:
        """Remember a source."""
        self._used[digest] = summary.to_json()
        self._anew = True

    def save(self) -> None:
        """Write the file if there is anything new. A file that cannot be written costs time, never a run."""
        if not self._anew or self._path is None:
            return
        rows = {**{k: v for k, v in self._rows.items() if k not in self._used}, **self._used}
        kept = dict(list(rows.items())[-MOST_MODULES:])
        write(os.path.abspath(self._path), _HEAD | {"modules": kept})
        self._anew = False


def own_summary(source: str, digest: str) -> Summary | None:
    """What is remembered of one of Penstock's own sources."""
    head = _HEAD | {"source": digest}
    try:
        with open(beside(source, "code"), encoding="utf-8") as file:
            data = json.load(file)
        return Summary.from_json(data["summary"]) if {k: data[k] for k in head} == head else None
    except (OSError, ValueError, TypeError, IndexError, KeyError, RecursionError):
        return None


def remember_own(source: str, digest: str, summary: Summary) -> bool:
    """Remember one of Penstock's own sources; whether that is allowed here."""
    path = beside(source, "code")
    if not may_write(path):
        return False
    write(path, _HEAD | {"source": digest, "summary": summary.to_json()})
    return True


def _read(path: str) -> dict[str, Any]:
    try:
        if os.path.getsize(path) > MAX_BYTES:
            return {}
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        rows = data["modules"] if {k: data[k] for k in _HEAD} == _HEAD else {}
        return rows if isinstance(rows, dict) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
