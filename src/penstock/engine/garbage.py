"""Python's search for garbage, put off where there is none: while modules are imported and flows are made."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

FEW = 20_000
"""So many new objects are waited for, where Python waits for 700: of 2 MB or so at most it is not known in time."""


@contextlib.contextmanager
def few_collections() -> Iterator[None]:
    """Search for garbage seldom.

    What is imported stays, and Python goes through all of it again and again while more comes: a tenth of the time that
    scikit-learn takes to import.

    Examples
    --------
    >>> with few_collections():
    ...     print(gc.get_threshold()[0])
    20000
    """
    before = gc.get_threshold()
    if 0 < before[0] < FEW:  # 0: somebody wants none at all
        gc.set_threshold(FEW, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
