"""Python's search for garbage, put off where there is none: while modules are imported and flows are made."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

FEW = 20_000
"""So many new objects are waited for, where Python waits for 700."""


@contextlib.contextmanager
def few_collections() -> Iterator[None]:
    """Search for garbage seldom.

    What is imported stays, and Python goes through all of it again and again while more comes: a tenth of the time that
    scikit-learn takes to import. Afterwards it is searched for as before, unless what ran within said otherwise.

    Examples
    --------
    >>> with few_collections():
    ...     print(gc.get_threshold()[0])
    20000
    """
    before = gc.get_threshold()
    ours = (FEW if 0 < before[0] < FEW else before[0], *before[1:])  # 0: somebody wants none at all
    gc.set_threshold(*ours)
    try:
        yield
    finally:
        if gc.get_threshold() == ours:
            gc.set_threshold(*before)
