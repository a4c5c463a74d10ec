"""What a running step has finished so far, kept outside it, so that a step that was killed goes on where it was.

The worker opens this before each step; outside a run it keeps nothing and knows nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

Send = Callable[[Mapping[str, Any]], None]

EVERY_S = 0.5
"""Seconds between two messages: at most this much work is lost with the process."""
MOST_BYTES = 3_000
"""Of one message's values as JSON: they are kept in one row of the ledger."""

_known: dict[str, Any] = {}
_fresh: dict[str, Any] = {}
_state: dict[str, Any] = {"send": None, "sent": 0.0, "size": 0, "begun": 0, "part": None}


class PartDoneError(BaseException):
    """A part of a step's work is done and kept; no `Exception`, so that nothing of a user's takes it for a failure."""


def begin(
    known: Mapping[str, Any] | None = None, send: Send | None = None, part: tuple[int, int] | None = None
) -> None:
    """Open for one step.

    Parameters
    ----------
    known : dict
        Key → value, as kept by earlier tries with the same recipe.
    send : callable, optional
        Takes {"kept": {key: value}, "progress": {…}}; nothing is kept without it.
    part : (int, int), optional
        K and N: only the K-th of N parts of what can be divided is to be done.
    """
    _known.clear()
    _known.update(known or {})
    _fresh.clear()
    _state.update(send=send, sent=time.monotonic(), size=0, begun=_state["begun"] + 1, part=part)


def begun() -> int:
    """How many steps this process has begun: another number is another step."""
    number: int = _state["begun"]
    return number


def part() -> tuple[int, int] | None:
    """Which of how many parts of the step's work is to be done here; None for the whole of it.

    Examples
    --------
    >>> begin(part=(2, 3))
    >>> part()
    (2, 3)
    >>> begin()
    """
    found: tuple[int, int] | None = _state["part"]
    return found


def end_part(**progress: Any) -> NoReturn:
    """Send what is not kept yet, and end the step, of which the rest is for others.

    Raises
    ------
    PartDoneError
    """
    send: Send | None = _state["send"]
    if send is not None and _fresh:
        _flush(send, progress)
    raise PartDoneError


def recall(key: str) -> Any:
    """What was kept under a key; None if nothing was.

    Examples
    --------
    >>> begin({"a": 1})
    >>> recall("a"), recall("b")
    (1, None)
    >>> begin()
    """
    return _known.get(key)


def keep(key: str, value: Any, **progress: Any) -> None:
    """Keep a value, and tell how far the step is.

    Parameters
    ----------
    key : str
        The same in every run of this step.
    value : JSON value, or None to keep nothing
    **progress
        "done", "total", "best", "left_s".
    """
    send: Send | None = _state["send"]
    if send is None:
        return
    if value is not None:
        import json

        size = len(json.dumps({key: value}))
        if _fresh and _state["size"] + size > MOST_BYTES:
            _flush(send, progress)
        if size <= MOST_BYTES:
            _fresh[key] = value
            _state["size"] += size
    if time.monotonic() - _state["sent"] >= EVERY_S:
        _flush(send, progress)


def _flush(send: Send, progress: Mapping[str, Any]) -> None:
    send({"kept": dict(_fresh), "progress": dict(progress)})
    _fresh.clear()
    _state.update(sent=time.monotonic(), size=0)
