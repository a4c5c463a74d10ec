"""Facts that a running step notes: times, counts, figures. They go with the step's run, never into an artifact."""

from __future__ import annotations

from typing import Any

_noted: dict[str, Any] = {}


def note(**facts: Any) -> None:
    """Record facts of the step that runs now; outside a run this does nothing lasting.

    Parameters
    ----------
    facts : JSON values
        A later value for a name replaces the earlier one.

    Examples
    --------
    >>> note(rows_in=10, rows_out=9)
    >>> take()
    {'rows_in': 10, 'rows_out': 9}
    """
    _noted.update(facts)


def take() -> dict[str, Any]:
    """What was noted since the last call; the worker asks after each step."""
    taken = dict(_noted)
    _noted.clear()
    return taken
