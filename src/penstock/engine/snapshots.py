"""When a query is read again: a policy over the snapshots on record. No database is asked here."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable

from penstock.core.digest import digest_value
from penstock.core.facts import Facts
from penstock.core.flow import Node
from penstock.core.ports import Ledger
from penstock.core.run import SourceStat
from penstock.core.split import duration_s


def key_of(node: Node) -> str:
    """Under which name the ledger remembers the newest snapshot of a query: query, parameters and database."""
    return f"query:{digest_value('query', node.tree)}"


def choose(
    nodes: Iterable[Node], facts: Facts, ledger: Ledger, *, named: Collection[str] = (), keep: bool = False
) -> None:
    """Decide for each query whether its newest snapshot stands for it or it is read again; the facts take it up.

    A query's place among the sources takes a number that names one moment: that of the snapshot, or a new one.

    Parameters
    ----------
    nodes : iterable of Node
        Those with a policy.
    facts : Facts
        `sources`, `reading` and `snapshots` are extended.
    named : collection of str
        Steps to read now whatever the policy says.
    keep : bool
        Take any snapshot there is: a try does not ask the database.
    """
    nodes = list(nodes)
    known = ledger.sources([key_of(node) for node in nodes]) if nodes else {}
    now = time.time()
    fresh: dict[str, str] = {}  # one moment for one query, also where it is declared twice
    for node in nodes:
        key = key_of(node)
        why = _why(node, known.get(key), now, named=node.id in named or node.id in facts.forced, keep=keep)
        if why:
            facts.sources[node.id] = fresh.setdefault(key, moment())
            facts.reading[node.id] = why
        else:
            facts.sources[node.id] = known[key].digest
            facts.snapshots[node.id] = f"snapshot of {age(now - known[key].stat[0] / 1e9)} ago"


def renew(node: Node, facts: Facts, why: str) -> None:
    """Read a query again after all: its snapshot cannot be used."""
    facts.sources[node.id] = moment()
    facts.snapshots.pop(node.id, None)
    facts.reading[node.id] = why


def moment() -> str:
    """A name for a moment at which a query is read, in the form of a digest."""
    return os.urandom(32).hex()


def taken(node: Node, began: float, facts: Facts) -> SourceStat:
    """What the ledger remembers of a query that has been read: when (nanoseconds), and the name of the moment."""
    return SourceStat(key_of(node), (int(began * 1e9), 0, 0), facts.sources[node.id])


def read_with(node: Node, nodes: Iterable[Node], facts: Facts) -> list[str]:
    """Queries of one database that this run reads, when there are several: they see one state of it."""
    if node.id not in facts.reading:  # nearly every step of a long flow
        return []
    others = [n.id for n in nodes if n.id in facts.reading and n.database == node.database]
    return others if len(others) > 1 else []


def _why(node: Node, old: SourceStat | None, now: float, *, named: bool, keep: bool) -> str:
    """Why a query is read now; "" when its newest snapshot stands for it."""
    policy = node.refresh or "run"
    if named:
        return "the query is read again: asked for"
    if policy == "run" and not (keep and old):
        return "the query is read once a run"
    if old is None:
        return "the query is read: there is no snapshot of it yet"
    if keep or policy == "manual":
        return ""
    seconds = now - old.stat[0] / 1e9
    # A snapshot from the future is one of another machine's clock: it says nothing about its age.
    stale = seconds > duration_s(policy) or seconds < -60
    return f"the query is read again: its snapshot is {age(seconds)} old (refresh={policy!r})" if stale else ""


def age(seconds: float) -> str:
    """A span of time as people say it.

    Examples
    --------
    >>> age(5), age(3 * 3600 + 5), age(200_000)
    ('5 s', '3 h', '2 d')
    """
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(int(seconds), 0)} s"
