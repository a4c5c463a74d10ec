"""What a run tells while it runs; listeners print it, draw it or drop it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock.core.artifact import Artifact
from penstock.core.plan import Decision

EventKind = Literal["planned", "started", "done", "reused", "skipped", "failed", "retry", "note", "progress"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one step.

    Attributes
    ----------
    kind : str
    step : str
        Step id, "" for the run as a whole.
    decision : Decision or None
    outputs : tuple of Artifact
    wall_s : float
        Seconds, for "done" and "failed".
    facts : dict
        What the step noted; for "failed" the error as plain data; for "note" {"text": …}; for "progress"
        {"done", "total", "best", "left_s"}.
    """

    kind: EventKind
    step: str = ""
    decision: Decision | None = None
    outputs: tuple[Artifact, ...] = ()
    wall_s: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


def silent(_event: Event) -> None:
    """A listener that drops everything."""
