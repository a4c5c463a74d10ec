"""Where a declaration stands: relative paths in it are relative to its file."""

from __future__ import annotations

import os
import sys
import types
from dataclasses import dataclass


def declaring_folder() -> str:
    """Folder of the file whose code declares something: the first frame outside this package."""
    file = declaring_file()
    return os.path.dirname(file) if file else os.getcwd()


def declaring_file() -> str:
    """The file whose code declares something, absolute; "" where none does, as in a notebook."""
    frame: types.FrameType | None = sys._getframe(1)  # noqa: SLF001  the documented way to ask who called
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("penstock."):
            file = frame.f_globals.get("__file__")
            return os.path.abspath(file) if file else ""
        frame = frame.f_back
    return ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and when something was declared.

    Attributes
    ----------
    folder : str
        What its relative paths start from, absolute.
    file : str
        The declaring file, absolute; "" where there is none.
    mark : tuple of int
        Time of last change in nanoseconds and size of that file, as it was then.
    """

    folder: str
    file: str = ""
    mark: tuple[int, int] = (0, 0)

    @property
    def edited(self) -> bool:
        """Whether the file is another one now, or gone."""
        return bool(self.file) and mark_of(self.file) != self.mark


def here() -> Place:
    """Where the code that calls this package declares something."""
    file = declaring_file()
    return Place(os.path.dirname(file), file, mark_of(file)) if file else Place(os.getcwd())


def mark_of(file: str) -> tuple[int, int]:
    """What tells one state of a file from another; zeros where there is no such file."""
    try:
        stat = os.stat(file)
    except OSError:
        return (0, 0)
    return stat.st_mtime_ns, stat.st_size
