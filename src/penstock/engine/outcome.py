"""How a run ended, and what an effect step did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.plan import Decision
from penstock.core.run import Run
from penstock.errors import PenstockError

Key = tuple[str, str]
"""(step id, output)."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What an effect step did.

    Attributes
    ----------
    outputs : tuple of Artifact
    skip : str
        Why everything after it is skipped, or "".
    changed : bool
        False when the world was already as it should be.
    notes : dict
        Kept with its row.
    """

    outputs: tuple[Artifact, ...] = ()
    skip: str = ""
    changed: bool = True
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    run : Run
    artifacts : dict
        (step id, output) → artifact, of every step that is done.
    decisions : dict
        Step id → the last decision on it.
    states : dict
        Step id → "done", "reused", "skipped" or "failed".
    error : PenstockError or None
        The first failure.
    notes : dict
        Step id → what it noted.
    """

    run: Run
    artifacts: dict[Key, Artifact] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    error: PenstockError | None = None
    notes: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def counts_of(states: Mapping[str, str]) -> dict[str, int]:
    """How many steps ended in which way, as a run's row keeps it.

    Examples
    --------
    >>> counts_of({"a": "done", "b": "reused"})
    {'run': 1, 'reuse': 1, 'skip': 0, 'failed': 0}
    """
    found = list(states.values())
    names = {"run": "done", "reuse": "reused", "skip": "skipped", "failed": "failed"}
    return {name: found.count(state) for name, state in names.items()}
