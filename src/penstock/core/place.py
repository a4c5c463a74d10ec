"""Where a declaration stands: relative paths in it are relative to its file."""

from __future__ import annotations

import os
import sys
import types


def declaring_folder() -> str:
    """Folder of the file whose code declares something: the first frame outside this package."""
    frame: types.FrameType | None = sys._getframe(1)  # noqa: SLF001  the documented way to ask who called
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("penstock."):
            file = frame.f_globals.get("__file__")
            return os.path.dirname(os.path.abspath(file)) if file else os.getcwd()
        frame = frame.f_back
    return os.getcwd()
