"""What Penstock remembers of its own code and of the environment that it stands in, beside its byte code.

It saves time in every project of an environment, as byte code does, and can be as wrong as that: whoever may write
there may change the code itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from importlib.util import cache_from_source
from typing import Any


def beside(source: str, kind: str) -> str:
    """Path of what is remembered of one of Penstock's sources: there also where `PYTHONPYCACHEPREFIX` moves byte code.

    Examples
    --------
    >>> os.path.basename(beside("/lib/penstock/core/flow.py", "code")).split(".")[::2]
    ['flow', 'code']
    """
    return f"{cache_from_source(source, optimization='').removesuffix('.pyc')}.{kind}.json"


def may_write(path: str) -> bool:
    """Whether files are made there: not where Python was asked for no byte code, nor in a folder that is not ours."""
    if sys.dont_write_bytecode:
        return False
    folder = os.path.dirname(path)
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK)


def write(path: str, data: Any) -> None:
    """Write plain data whole or not at all. What cannot be written costs time, never a run."""
    draft = f"{path}.{os.getpid()}"
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(draft, "w", encoding="utf-8") as file:
                json.dump(data, file, separators=(",", ":"))
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
