"""What is known before deciding: small, pure, JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.core.fan import Fan
from penstock.core.run import Decided, Result
from penstock.core.source import Found


@dataclass(slots=True)
class Facts:
    """Gathered by `engine.gather`; `engine.planner.decide` reads nothing else.

    Attributes
    ----------
    sources : dict
        Source step id → digest of its file's bytes, or of the names and digests of several.
    found : dict
        Source step id → the files whose bytes these are.
    results : dict
        Recipe → result, of those asked for.
    missing : set of str
        Digests of objects that candidate results name and the store does not have.
    previous : dict
        Step id → the last decision on it.
    codes : dict
        Code digest → its parts, and digest of several files → name and digest of each, for reasons.
    forced : frozenset of str
        Steps to run whatever is known.
    reading : dict
        Step id of a query that is read in this run → why.
    snapshots : dict
        Step id of a query whose newest snapshot stands for it → its age, in words.
    cpu : str
        Level of this machine's processor; "" where it does not matter.
    fans : dict
        Recipe of a mapped step that is to run → the step, spread out over its items, where these are known.
    """

    sources: dict[str, str] = field(default_factory=dict)
    found: dict[str, Found] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    previous: Mapping[str, Decided] = field(default_factory=dict)
    codes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    forced: frozenset[str] = frozenset()
    reading: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)
    cpu: str = ""
    fans: dict[str, Fan] = field(default_factory=dict)
