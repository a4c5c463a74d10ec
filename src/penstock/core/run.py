"""What happened: the rows that the engine writes to the ledger, and the entries that decisions append."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.notes import FIGURES

LET_GO = "let_go"
"""In a run's row: what it names is kept no longer."""


@dataclass(frozen=True, slots=True)
class Result:
    """A recipe and what it gave: one row of the hit table.

    Attributes
    ----------
    recipe : str
        Digest of all that decided it.
    code : str
        Digest of the code part (`Ledger.codes` has its parts).
    tree : Any
        Argument tree with each reference replaced by ["artifact", format, digest]: recomputing the recipe from
        the row is how `fsck` checks it.
    source : str or None
        Digest of the source's bytes, for a step that reads one.
    outputs : tuple of Artifact
        In the order of the node's outputs.
    made : dict
        Recorded with the result, not part of the recipe: {"run", "step", "cpu", "blas", "threads", "wall_s",
        "cpu_s", "peak_bytes"}.
    """

    recipe: str
    code: str
    tree: Any
    source: str | None
    outputs: tuple[Artifact, ...]
    made: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decided:
    """The last decision on a step id: what reasons are told against.

    Attributes
    ----------
    step : str
        Step id.
    recipe, code : str
        As in `Result`.
    tree : Any
        Resolved argument tree.
    source : str or None
        Digest of the source read.
    """

    step: str
    recipe: str
    code: str
    tree: Any
    source: str | None = None


@dataclass(frozen=True, slots=True)
class StepRun:
    """One decision on one step in one run; `attempt` counts decisions, from 1.

    Attributes
    ----------
    action : str
        "run", "reuse" or "skip".
    state : str
        "done", "failed", "cancelled" or "skipped".
    reason : dict
        `plan.Reason.to_json()`.
    error : dict or None
        `PenstockError.to_json()` with "traceback" for a failed step.
    notes : dict
        Facts that steps noted (times, row counts); never part of an artifact.
    started, wall_s, cpu_s : float
        Unix time in seconds; durations in seconds.
    peak_bytes : int
        Peak resident memory of the worker.
    """

    run: str
    step: str
    attempt: int
    recipe: str | None
    action: str
    state: str
    reason: Mapping[str, Any]
    outputs: tuple[Artifact, ...] = ()
    error: Mapping[str, Any] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    started: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0

    @property
    def figures(self) -> tuple[str, ...]:
        """Digests of the figures that the step logged."""
        kept = self.notes.get(FIGURES)
        return tuple(one["digest"] for one in kept.values()) if isinstance(kept, Mapping) else ()


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a flow.

    Attributes
    ----------
    id : str
        16 hexadecimal digits; people name it by a prefix, `run:3f9c`.
    kind : str
        "run", "try", "monitor" or "step".
    state : str
        "running", "done", "failed", "refused", "undecided" or "cancelled".
    started, ended : float or None
        Unix time in seconds.
    counts : dict
        {"run": n, "reuse": n, "skip": n, "failed": n}. A run that reused everything has no `StepRun` rows.
    info : dict
        Anything to show: file, parameters, user, git commit, note, metrics of a try, exit code.
    """

    id: str
    flow: str
    kind: str
    state: str
    started: float
    ended: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """Its kind as people are told: a run of what only one process held is exploratory."""
        return "exploratory" if self.info.get("exploratory") else self.kind

    @property
    def kept(self) -> dict[str, str]:
        """What its row alone names, each with its digest; nothing once `gc` has let go of it (`LET_GO`).

        A difference of code that stands in the row itself is held by the row.

        Examples
        --------
        >>> Run("3f9c", "churn", "run", "done", 0.0, info={"predictions": "ab12"}).kept
        {'predictions': 'ab12'}
        """
        if self.info.get(LET_GO):
            return {}
        code, backtest = self.info.get("code") or {}, self.info.get("backtest") or {}
        named: dict[str, Any] = {
            "code": code.get("files"),
            "environment": code.get("machine"),
            "difference": code.get("diff"),
            "predictions": {"digest": self.info.get("predictions")},
            "result": backtest.get("result"),
        }
        held = {word: one for word, one in named.items() if isinstance(one, Mapping) and one.get("text") is None}
        return {word: one["digest"] for word, one in held.items() if isinstance(one.get("digest"), str)}


@dataclass(frozen=True, slots=True)
class SourceStat:
    """What a file looked like when it was hashed.

    Attributes
    ----------
    stat : tuple of int
        (size, mtime_ns, inode).
    digest : str
        SHA-256 of its bytes. Written down only when the file was older than 2 s at hashing time: a change
        within the clock's grain would otherwise go unseen (git's racy-index rule).
    """

    path: str
    stat: tuple[int, int, int]
    digest: str


@dataclass(slots=True)
class Group:
    """Recomputable facts that are committed in one transaction (`Ledger.commit`)."""

    runs: list[Run] = field(default_factory=list)
    codes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    step_runs: list[StepRun] = field(default_factory=list)
    decided: list[tuple[str, Decided]] = field(default_factory=list)
    """(flow, Decided)"""
    sources: list[SourceStat] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any((self.runs, self.codes, self.results, self.step_runs, self.decided, self.sources))


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision on record. Decisions live in numbered streams and are only ever appended.

    A stream is "WORKFLOW/KIND" or "WORKFLOW/KIND/NAME": `churn/version`, `churn/alias/champion`,
    `churn/verdict`, `churn/look`, `churn/deployment`, `churn/window`. Number n exists once (a constraint of
    the database), numbers have no gaps. So *compare-and-swap is appending number n + 1 to the stream one has
    read up to n*: of two that try, one wins and the other gets `ConflictError`.

    Attributes
    ----------
    stream : str
        Its name.
    number : int
        From 1, without gaps.
    body : dict
        Plain JSON. Digests of artifacts that must be kept stand under "artifacts": {name: digest}.
    at : float
        Unix time in seconds.
    who : str
        "user@host", as told by the caller.
    why : str
        The reason given, or the cause.
    """

    stream: str
    number: int
    body: Mapping[str, Any]
    at: float = 0.0
    who: str = ""
    why: str = ""
