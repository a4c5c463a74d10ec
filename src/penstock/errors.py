"""Every error that Penstock raises, in one tree.

Each says *what* went wrong, *where*, *why* and *what to do next*, keeps its facts as attributes, is bounded in
length, and also inherits the builtin that a caller would expect. `exit_code` is what the command line returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

MAX_TEXT = 4_000
"""No message is longer than this many characters, whatever the data looked like."""


def bounded(text: str, limit: int = MAX_TEXT) -> str:
    """Cut a text in the middle when it is longer than `limit` characters; what must not be told is taken out first.

    Examples
    --------
    >>> bounded("abcdefghij", 7)
    'abc … j'
    """
    for hide in _hiding:
        text = hide(text)
    if len(text) <= limit:
        return text
    head = max(limit - limit // 4 - 3, 1)
    return f"{text[:head]} … {text[-(limit // 4) :]}"


_hiding: list[Callable[[str], str]] = []


def hide_by(hide: Callable[[str], str]) -> None:
    """Make every error of this process without what a function takes out of its texts: the values of secrets.

    A text is searched before it is cut, so that no half of a value is left.
    """
    _hiding[:] = [hide]


class PenstockError(Exception):
    """The root of the tree.

    Parameters
    ----------
    what : str
        One sentence: what went wrong, and why if that is known.
    where : str, default=""
        File, step, column or row concerned.
    hint : str, default=""
        What to do next.
    facts
        Anything a program may want to read; each can be read as an attribute.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "", **facts: Any) -> None:
        self.what = bounded(what)
        self.where = bounded(where, 500)
        self.hint = bounded(hint, 1_000)
        self.facts = facts
        super().__init__(self.what)

    def __getattr__(self, name: str) -> Any:
        facts = object.__getattribute__(self, "facts") if name != "facts" else {}
        if name not in facts:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return facts[name]

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n→ {self.hint}" if self.hint else text

    def to_json(self) -> dict[str, Any]:
        """Type, sentence, place and hint as plain data, for `--json` and for the ledger."""
        return {"error": type(self).__name__, "what": self.what, "where": self.where, "hint": self.hint}


# ── the user's words: exit 2 ─────────────────────────────────────────────────────────────────────────────────


class UsageError(PenstockError, ValueError):
    """A command, option or name that Penstock does not understand."""

    exit_code = 2


class DeclarationError(UsageError):
    """A declaration with faults; `faults` lists all of them at once."""

    def __init__(self, faults: list[str] | str, *, where: str = "", hint: str = "") -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        many = f"{len(self.faults)} faults:\n  - " + "\n  - ".join(self.faults)
        super().__init__(self.faults[0] if len(self.faults) == 1 else many, where=where, hint=hint)


class RefUseError(UsageError, TypeError):
    """A promised output (`Ref`) was used as if it were the value."""


class ConfigurationError(UsageError):
    """A value in `penstock.toml`, `[tool.penstock]`, the environment or a flag that cannot be used."""


class UnknownNameError(UsageError, LookupError):
    """A workflow, version, alias, run or step that the ledger does not know."""


class MissingExtraError(UsageError, ImportError):
    """An optional dependency is not installed; the hint has the exact command."""


class SourceNotFoundError(UsageError, FileNotFoundError):
    """A declared source is not there, or cannot be opened."""


class UntrustedTypeError(UsageError, TypeError):
    """An artifact names types that this machine's configuration does not trust."""


class FormatError(UsageError, TypeError):
    """A value that no format can keep, or that does not come back equal."""


# ── the user's data: exit 3 ──────────────────────────────────────────────────────────────────────────────────


class DataError(PenstockError, ValueError):
    """The data cannot be used: unreadable, empty, or not what the schema says."""

    exit_code = 3


class SourceChangedError(DataError):
    """A source changed while it was being read."""


class ValidationFailedError(DataError):
    """Data that does not hold against its schema; `report` has every failure with counts and sample rows."""


# ── the evidence: exit 4 and 6 ────────────────────────────────────────────────────────────────────────────────


class RefusedError(PenstockError):
    """The gate or the audit refused a version."""

    exit_code = 4


class NotReproducibleError(PenstockError):
    """A second run did not give the same bytes."""

    exit_code = 6


# ── the user's code: exit 5 ──────────────────────────────────────────────────────────────────────────────────


class StepError(PenstockError, RuntimeError):
    """A step failed.

    `step` is its id; `traceback` is the user's own, cut at our boundary; `retriable` says whether another try
    may help.
    """

    exit_code = 5
    retriable: ClassVar[bool] = True

    def __init__(self, what: str, *, where: str = "", hint: str = "", step: str = "", traceback: str = "") -> None:
        self.step = step
        self.traceback = traceback
        super().__init__(what, where=where, hint=hint)


class StepOutputError(StepError, TypeError):
    """A step returned something other than it declared."""

    retriable: ClassVar[bool] = False


class StepTimeoutError(StepError, TimeoutError):
    """A step ran longer than its `timeout_s`; it and all its children were ended."""


class StepMemoryError(StepError, MemoryError):
    """A step used more memory than its limit; it and all its children were ended."""


class StepKilledError(StepError):
    """A step's process ended by itself: a signal, `os._exit`, or the machine ran out of memory."""


class ModelError(PenstockError, RuntimeError):
    """A class of the project's raised something in a model process, or the process did not start."""

    exit_code = 5


class ModelAwayError(ModelError):
    """The model process ended, hung or used too much memory; it is started again."""


class CancelledError(PenstockError):
    """The run was cancelled by Ctrl-C (130) or SIGTERM (143)."""

    exit_code = 130


# ── the store and the ledger: exit 1 ─────────────────────────────────────────────────────────────────────────


class StoreError(PenstockError, OSError):
    """The store or the ledger could not do what it was asked: disk full, read-only, I/O error."""


class CorruptObjectError(StoreError):
    """An object's bytes do not have the digest that names it. `digest` says which."""


class MissingObjectError(StoreError, KeyError):
    """An object is not in the store. `digest` says which."""

    __str__ = PenstockError.__str__


class StoreTooNewError(StoreError):
    """The store or ledger was written by a newer Penstock; both versions are named."""


class ConflictError(PenstockError):
    """Somebody else moved it first: the state is not the one that was compared with."""


class BackendError(PenstockError, RuntimeError):
    """A backend ended a run otherwise than its steps did, or before they began."""


class InternalError(PenstockError):
    """A fault of Penstock's own; please report it."""
