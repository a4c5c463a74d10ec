"""What is known before deciding: small, pure, JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.core.run import Decided, Result


@dataclass(slots=True)
class Facts:
    """Gathered by `engine.gather`; `engine.planner.decide` reads nothing else.

    Attributes
    ----------
    sources : dict
        Source step id → digest of its file's bytes.
    results : dict
        Recipe → result, of those asked for.
    missing : set of str
        Digests of objects that candidate results name and the store does not have.
    previous : dict
        Step id → the last decision on it.
    codes : dict
        Code digest → its parts, for reasons.
    forced : frozenset of str
        Steps to run whatever is known.
    """

    sources: dict[str, str] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    previous: Mapping[str, Decided] = field(default_factory=dict)
    codes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    forced: frozenset[str] = frozenset()
