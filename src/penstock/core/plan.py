"""For each step what will happen and why: pure data, the same for `run`, `plan --why` and every backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from penstock.core.artifact import Artifact

Action = Literal["run", "reuse", "skip", "wait"]
Why = Literal[
    "new", "code", "input", "parameter", "library", "missing", "forced", "uncacheable", "effect", "waits",
    "unchanged", "elsewhere", "refused", "retry", "corrupt", "query", "snapshot",
]  # fmt: skip

_SENTENCES: dict[str, str] = {
    "new": "first time",
    "code": "code changed: {what}",
    "input": "input changed: {what}",
    "parameter": "parameter changed: {what}",
    "library": "library changed: {what}",
    "missing": "artifact missing: {what}",
    "forced": "forced",
    "uncacheable": "not cacheable: {what}",
    "effect": "acts on the ledger",
    "waits": "waits for {what}",
    "unchanged": "unchanged",
    "elsewhere": "unchanged, {what}",
    "refused": "{what}",
    "retry": "retry {what}",
    "corrupt": "artifact corrupt: {what}",
    "query": "{what}",
    "snapshot": "{what}",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a decision was taken.

    Attributes
    ----------
    why : str
        Its kind.
    what : str
        What it is about: "clean() in prep.py", "customers.csv", "scikit-learn 1.8 → 1.9".
    """

    why: Why
    what: str = ""

    def __str__(self) -> str:
        return _SENTENCES[self.why].format(what=self.what)

    def to_json(self) -> dict[str, str]:
        """As plain data."""
        return {"why": self.why, "what": self.what}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reason:
        """The inverse of `to_json`."""
        return cls(data["why"], data.get("what", ""))


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to one step.

    Attributes
    ----------
    step : str
    action : {"run", "reuse", "skip", "wait"}
    reason : Reason
    recipe : str or None
        `None` while an input is not known, and for effects.
    outputs : tuple of Artifact
        Of a step that is reused.
    tree : Any
        The resolved argument tree of the recipe.
    items : (int, int) or None
        Of a mapped step that runs, where its items are known: how many there are, and how many of them are to run.
    """

    step: str
    action: Action
    reason: Reason
    recipe: str | None = None
    outputs: tuple[Artifact, ...] = ()
    tree: Any = None
    items: tuple[int, int] | None = None

    @property
    def because(self) -> str:
        """The reason in words, with the count of items.

        Examples
        --------
        >>> Decision("score", "run", Reason("parameter", "argument [0][2] 7 → 8"), items=(100, 1)).because
        '100 items, 1 to run · parameter changed: argument [0][2] 7 → 8'
        """
        if self.items is None:
            return str(self.reason)
        total, run = self.items
        return f"{total:,} item{'' if total == 1 else 's'}, {run:,} to run · {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """As plain data, without the tree."""
        data = {"step": self.step, "action": self.action, "reason": self.reason.to_json(), "recipe": self.recipe}
        return data if self.items is None else data | {"items": {"total": self.items[0], "run": self.items[1]}}


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions on a whole flow, in its order."""

    flow: str
    decisions: tuple[Decision, ...]

    def count(self, action: Action) -> int:
        """How many steps have an action."""
        return sum(decision.action == action for decision in self.decisions)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"flow": self.flow, "steps": [decision.to_json() for decision in self.decisions]}
