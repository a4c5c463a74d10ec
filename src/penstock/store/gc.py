"""Remove what nothing needs: mark from the ledger, then sweep objects older than a grace.

Safe beside running work: a result that is forgotten is a miss, an object that is gone is a miss, and whoever
needs one of them meanwhile writes or touches it, which the grace protects.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from penstock.core.run import LET_GO, Group, Run
from penstock.errors import StoreError
from penstock.store.upkeep import ALL_RUNS, KeptLedger, KeptObjects, Reach, entries, named_by

GRACE_S = 24 * 3_600.0
"""Objects written or touched within this time, in seconds, are never swept."""

KEEP_S = 30 * 24 * 3_600.0
"""What runs and tries younger than this, in seconds, made or reused is kept whether or not a decision names it."""

_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, or would be: results forgotten, objects and bytes, and how much is kept.

    `objects` and `kept` count objects; `swept` counts temporary files and second names; `runs` those runs of which
    the code, environment and predictions stay only where something else names them.
    """

    results: int
    objects: int
    size: int
    swept: int
    kept: int
    runs: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {name: getattr(self, name) for name in ("results", "objects", "size", "swept", "kept", "runs")}


def collect(
    objects: KeptObjects,
    ledger: KeptLedger,
    *,
    grace_s: float = GRACE_S,
    keep_s: float = KEEP_S,
    dry_run: bool = False,
    clock: Callable[[], float] = time.time,
) -> Collected:
    """Forget old results that no decision names, and remove the objects that nothing reaches any more.

    Kept are: what the entries of all streams name under "artifacts", with all that it names in turn; the results
    that made any of it, those that runs younger than `keep_s` made, and those that the flows of such runs last
    decided on, with their outputs; and what the rows of such runs name: code, environment, predictions. The rows of
    older runs say from then on that theirs were let go, so that `fsck` does not miss them.

    Parameters
    ----------
    objects : KeptObjects
    ledger : KeptLedger
    grace_s : float
        Objects written or touched within this time, in seconds, stay.
    keep_s : float
        What runs that began within this time, in seconds, made or reused stays.
    dry_run : bool, default=False
        Only say what would go.
    clock : callable
        Gives the Unix time in seconds; compared with the file system's times.

    Raises
    ------
    StoreError
        A manifest that a decision names cannot be read: what it names is then unknown, and nothing is swept.
    """
    now = clock()
    reach = Reach(objects, ledger)
    for entry in entries(ledger):
        reach.follow(named_by(entry), decided=True)
    _refuse_unread(reach)
    young, old = _by_age(ledger.runs(limit=ALL_RUNS), now, keep_s, grace_s)
    forgotten = _follow_results(ledger, reach, young)
    if not dry_run:  # before the objects go: a row never names what is being removed
        ledger.forget(forgotten)
        for start in range(0, len(old), _CHUNK):
            rows = [replace(run, info={**run.info, LET_GO: True}) for run in old[start : start + _CHUNK]]
            ledger.commit(Group(runs=rows))
    before, gone, size, kept = now - grace_s, 0, 0, 0
    for item in list(objects.walk()):
        unwanted = item.digest not in reach.found and item.mtime < before
        if unwanted and (dry_run or objects.delete_unless_touched(item.digest, before)):
            gone += 1
            size += item.size
        else:
            kept += 1
    swept = 0 if dry_run else objects.sweep(grace_s)
    return Collected(len(forgotten), gone, size, swept, kept, len(old))


def _by_age(runs: list[Run], now: float, keep_s: float, grace_s: float) -> tuple[list[Run], list[Run]]:
    """Runs whose results and files stay, and those that name files which go; one at work is as young as its objects."""
    young, old = [], []
    for run in runs:
        if run.started >= now - (max(keep_s, grace_s) if run.state == "running" else keep_s):
            young.append(run)
        elif run.kept:
            old.append(run)
    return young, old


def _refuse_unread(reach: Reach) -> None:
    for digest, error in reach.unread.items():
        raise StoreError(
            f"nothing was removed: {error.what}",
            where=digest,
            hint="A decision names this object, and what it names in turn is not known without it. "
            "Put it back from a copy, or make it again, then repeat.",
            digest=digest,
        ) from error


def _follow_results(ledger: KeptLedger, reach: Reach, young: list[Run]) -> list[str]:
    """Reach the outputs of the results that stay; give the recipes of the others."""
    makers = {run.id for run in young}
    # A run that reused everything made nothing: what its flow last decided on is what it reused.
    last = {one.recipe for flow in {run.flow for run in young} for one in ledger.decided(flow).values()}
    for result in ledger.results(list(last)).values():  # a mapped step names those of its items
        last.update(result.made.get("items", ()))
    decided = frozenset(reach.found)
    reach.follow([digest for run in young for digest in run.kept.values()], decided=False)
    kept = set(makers)
    recipes, forgotten = ledger.recipes(), []
    for start in range(0, len(recipes), _CHUNK):
        for result in ledger.results(recipes[start : start + _CHUNK]).values():
            outputs = [artifact.digest for artifact in result.outputs]
            wanted = result.made.get("run") in makers or result.recipe in last
            if wanted or not decided.isdisjoint(outputs):
                reach.follow(outputs, decided=False)
                kept.add(str(result.made.get("run", "")))
            else:
                forgotten.append(result.recipe)
    for run in sorted(kept):  # what their steps logged is looked at with them
        reach.follow([digest for row in ledger.step_runs(run) for digest in row.figures], decided=False)
    return forgotten
