"""Copy one ledger into another: a local one into the one that a team shares, whatever their databases."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from penstock.core.ports import Ledger
from penstock.core.run import Entry, Group
from penstock.errors import ConflictError
from penstock.store.upkeep import KeptLedger

T = TypeVar("T")

_CHUNK = 500
_ALL_RUNS = 1 << 60


@dataclass(slots=True)
class Copied:
    """What was new in the target: runs, results, and decisions (entries)."""

    runs: int = 0
    results: int = 0
    entries: int = 0

    def to_json(self) -> dict[str, int]:
        """As plain data."""
        return {"runs": self.runs, "results": self.results, "entries": self.entries}


def copy_ledger(
    source: KeptLedger,
    target: Ledger,
    *,
    wanted: Callable[[str], bool] = lambda _: True,
    entries_only: bool = False,
    leave: Collection[str] = (),
) -> Copied:
    """Bring every run, result and decision of one ledger to another that lacks them.

    Every entry arrives as it was recorded (number, time, author, reason), so its seal is the same. What is there
    already is left as it is: a copy that was interrupted is taken up by doing it again. What is remembered of
    this machine's files (`Ledger.sources`) stays behind, and so do the keys of requests that were answered.

    Objects are not copied: publish them in the target's store before.

    Parameters
    ----------
    source : KeptLedger
        Read from end to end.
    target : Ledger
        May be in use by others.
    wanted : callable, optional
        From the name of a workflow (or flow) to whether its facts are copied; all are by default.
    entries_only : bool, default=False
        Copy decisions alone.
    leave : collection of str, optional
        Streams that stay behind.

    Raises
    ------
    ConflictError
        A stream of the target goes on otherwise than the source's: nothing is written then.
    """
    streams = {name: source.stream(name) for name in source.streams() if wanted(name.partition("/")[0])}
    streams = {name: entries for name, entries in streams.items() if name not in leave}
    there = {name: _there(target, name, entries) for name, entries in streams.items()}
    done = Copied()
    if not entries_only:
        done.results = _copy_results(source, target, wanted)
        done.runs = _copy_runs(source, target, wanted)
    # Versions before verdicts before aliases: a reader of the target never sees a name before what it names.
    for name in sorted(streams, key=_order):
        for part in chunks(streams[name][there[name] :]):
            target.append(part)
            done.entries += len(part)
    return done


def _order(stream: str) -> tuple[bool, bool, str]:
    kind = stream.split("/")[1:2]
    return kind in (["alias"], ["deployment"]), kind != ["version"], stream


def _there(target: Ledger, name: str, entries: Sequence[Entry]) -> int:
    """How many of these entries the target has; every one of them must be equal."""
    present = target.stream(name)
    for ours, theirs in zip(entries, present, strict=False):
        if ours != theirs:
            raise ConflictError(
                f"entry {theirs.number} of the target is another decision than the source's",
                where=name,
                hint="Two ledgers that went on apart cannot become one. Push the versions by name instead.",
                head=present[-1],
            )
    return len(present)


def _copy_results(source: KeptLedger, target: Ledger, wanted: Callable[[str], bool]) -> int:
    """Results with the parts of their code; those that a run of an unwanted flow made stay behind."""
    flows = {run.id: run.flow for run in source.runs(limit=_ALL_RUNS)}
    copied = 0
    for recipes in chunks(source.recipes()):
        known = target.results(recipes)
        found = [
            result
            for recipe, result in source.results(recipes).items()
            if recipe not in known and wanted(flows.get(str(result.made.get("run")), ""))
        ]
        if found:
            target.commit(Group(results=found, codes=dict(source.codes({one.code for one in found}))))
            copied += len(found)
    return copied


def _copy_runs(source: KeptLedger, target: Ledger, wanted: Callable[[str], bool]) -> int:
    """Each run with its rows in one group, oldest first; then what flows last decided, where it is silent."""
    runs = [run for run in reversed(source.runs(limit=_ALL_RUNS)) if wanted(run.flow)]
    known = {run.id: run for run in target.runs(limit=_ALL_RUNS)}
    new = [run for run in runs if run.id not in known or (known[run.id] != run and known[run.id].ended is None)]
    for run in new:
        target.commit(Group(runs=[run], step_runs=source.step_runs(run.id)))
    for flow in sorted({run.flow for run in runs}):
        there = target.decided(flow)
        last = [(flow, one) for step, one in source.decided(flow).items() if step not in there]
        if last:
            target.commit(Group(decided=last, codes=dict(source.codes({one.code for _, one in last}))))
    return len(new)


def chunks(items: Collection[T] | Iterable[T], size: int = _CHUNK) -> Iterator[list[Any]]:
    """Lists of at most so many items, in order.

    Examples
    --------
    >>> list(chunks([1, 2, 3], 2))
    [[1, 2], [3]]
    """
    every = list(items)
    for start in range(0, len(every), size):
        yield every[start : start + size]
