"""Steps that a stage runs again by itself, on other tables than those of the run: how the proof is made.

A `Replay` stands among a stage's arguments as a `Ref` does. The worker puts a `Replayed` in its place, with which the
stage runs the steps, in its own process, without knowing how a step is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from penstock.core.step import Call, Ref, call_of, output_of

Key = tuple[str, str]
"""Step id and output; "" where a step has one output."""
Change = Callable[[Key, Any], Any]
"""Takes a table as the step wants it (pandas, polars, pyarrow), and gives the one that it is to receive."""


@dataclass(frozen=True, eq=False)
class Replay:
    """What a stage may run again.

    Parameters
    ----------
    calls : tuple of Call
        Each after what it needs. Sources are not read again: their tables are there.
    data : Ref
        The output that the calls lead to.
    also : tuple of Ref
        Further outputs of the run whose digests the stage asks for.
    """

    calls: tuple[Call, ...]
    data: Ref
    also: tuple[Ref, ...] = ()

    def refs(self) -> list[Ref]:
        """Every output that one of the calls takes, and the last: what the stage needs of the run."""
        found: dict[tuple[int, str], Ref] = {}
        for call in self.calls:
            if call.kind == "source":
                continue
            for ref in refs_among([call.args, call.kwargs]):
                found[id(call_of(ref)), output_of(ref)] = ref
        for ref in (self.data, *self.also):
            found[id(call_of(ref)), output_of(ref)] = ref
        return list(found.values())


def refs_among(value: Any) -> list[Ref]:
    """The references in nested lists, tuples and dicts, in order, each once.

    Examples
    --------
    >>> from penstock import read
    >>> refs_among({"a": [read("a.csv"), 1], "b": read("b.csv")})
    [<Ref a>, <Ref b>]
    """
    found: dict[int, Ref] = {}
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Ref):
            found[id(item)] = item
        elif type(item) in (list, tuple):
            stack.extend(reversed(item))
        elif type(item) is dict:
            stack.extend(reversed(list(item.values())))
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Replayable:
    """One of the steps, as the stage sees it.

    Attributes
    ----------
    id : str
    source : bool
        A source: its table is there, and nothing runs.
    outputs : tuple of str
        ("",) for one without a name.
    needs : tuple of (str, str)
        Outputs of other steps that it takes.
    across_rows : str
        Why what it takes from other rows is known at prediction time, as the user said; else "".
    because : str
        Why it must not be run again, as the user said; else "".
    code : str
        Digest of its code.
    seconds : float
        Its last run on record took so long; 0.0 where that is not known.
    tried : bool
        Whether an earlier proof has run this code again.
    """

    id: str
    source: bool
    outputs: tuple[str, ...]
    needs: tuple[Key, ...]
    across_rows: str = ""
    because: str = ""
    code: str = ""
    seconds: float = 0.0
    tried: bool = False


class Raised(Exception):  # noqa: N818  a signal between a step and who runs it again; never shown raw
    """A step raised where it was run again.

    Attributes
    ----------
    step : str
    what : str
        The error in one line.
    """

    def __init__(self, step: str, what: str) -> None:
        self.step, self.what = step, what
        super().__init__(f"{step}: {what}")


class Replayed(Protocol):
    """What stands in a `Replay`'s place while the stage runs."""

    steps: tuple[Replayable, ...]
    data: Key

    def table(self, key: Key) -> Any:
        """An output as the run had it: a table as a pandas frame, anything else as it is. A copy."""
        ...

    def frame(self, value: Any) -> Any:
        """What a step returned, as a pandas frame; what is no table as it is."""
        ...

    def call(self, step: str, given: Mapping[Key, Any], change: Change) -> dict[Key, Any]:
        """Run a step.

        Parameters
        ----------
        step : str
        given : dict
            Values that take the place of the run's own outputs.
        change : callable
            Asked of each other table that the step takes.

        Raises
        ------
        Raised
        """
        ...

    def digest(self, value: Any) -> str:
        """Digest of the bytes that a value would be kept as."""
        ...

    def recorded(self, key: Key) -> str:
        """Digest of an output of the run."""
        ...
