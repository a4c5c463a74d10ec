"""Numbers: which values are some, and durations, moments and sizes as people read them."""

from __future__ import annotations

import math
from typing import Any


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; True and False are none.

    Examples
    --------
    >>> is_number(0.5), is_number(True), is_number(math.nan), is_number("1")
    (True, False, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def duration(seconds: float) -> str:
    """Seconds as people read them.

    Examples
    --------
    >>> duration(0.04), duration(62.0), duration(7322.0)
    ('0.0 s', '1 min 02 s', '2 h 02 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def moment(at: float | None) -> str:
    """A Unix time as local date and minute.

    Examples
    --------
    >>> moment(None)
    '–'
    """
    import time

    return "–" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def size_text(size: int) -> str:
    """A number of bytes as people read it.

    Examples
    --------
    >>> size_text(900), size_text(3_400_000)
    ('900 B', '3.4 MB')
    """
    number, unit = float(size), "B"
    for bigger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, bigger
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
