"""Where files really are, asked often: each folder is resolved once in the life of a process."""

from __future__ import annotations

import functools
import os


def real_path(path: str) -> str:
    """As `os.path.realpath`, which asks the system about each folder on the way every time.

    Examples
    --------
    >>> real_path(os.__file__) == os.path.realpath(os.__file__)
    True
    """
    folder, base = os.path.split(path)
    if not os.path.isabs(folder):  # seen from a folder that may change
        return os.path.realpath(path)
    found = os.path.join(_real_folder(folder), base)
    return os.path.realpath(found) if os.path.islink(found) else found


@functools.lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
