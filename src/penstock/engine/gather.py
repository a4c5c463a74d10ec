"""Finding the facts: all the I/O that deciding needs, level by level, before anything is decided."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Collection, Iterable, Mapping
from errno import EINVAL, EISDIR
from stat import S_ISDIR, S_ISREG
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.facts import Facts
from penstock.core.flow import Graph, Node
from penstock.core.plan import Decision
from penstock.core.ports import Ledger, Objects
from penstock.core.run import SourceStat
from penstock.core.source import Found
from penstock.engine import listing, snapshots
from penstock.engine.fan import fan_of
from penstock.engine.fetch import Fetcher, several
from penstock.engine.planner import decide, recipe_of
from penstock.errors import PenstockError, SourceNotFoundError

RACY_S = 2.0
"""A file younger than this when hashed is not remembered: it could change again within the clock's grain."""


def gather(
    graph: Graph,
    ledger: Ledger,
    objects: Objects,
    forced: Iterable[str] = (),
    fetcher: Fetcher | None = None,
    *,
    refresh: Collection[str] = (),
    keep: bool = False,
) -> tuple[Facts, list[SourceStat]]:
    """What must be known to plan a flow.

    A recipe needs its inputs' digests, so the ledger is asked once a level; a branch ends at its first miss.

    Parameters
    ----------
    graph : Graph
    ledger, objects
    forced : iterable of str
        Step ids to run whatever is known.
    fetcher : Fetcher, optional
        Fetches files at URLs.
    refresh : collection of str
        Queries to read now whatever their policy says.
    keep : bool
        Take any snapshot of a query that there is.

    Returns
    -------
    facts : Facts
    seen : list of SourceStat
        Files that were hashed now and may be remembered.

    Raises
    ------
    SourceNotFoundError
    """
    facts = Facts(forced=frozenset(forced), previous=ledger.decided(graph.name), codes=dict(graph.codes))
    found, seen = probe([n for n in graph.nodes if n.kind == "source" and n.refresh is None], ledger, fetcher)
    learn(facts, found)
    several = {d.source for d in facts.previous.values() if d.source and d.step in found and found[d.step].many}
    old = ({d.code for d in facts.previous.values()} | several) - set(facts.codes)
    if old:
        facts.codes.update(ledger.codes(old))
    look_at_queries([n for n in graph.nodes if n.refresh is not None], facts, ledger, objects, refresh, keep=keep)
    known: dict[tuple[str, str], Artifact] = {}
    waiting = {node.id: len({step for step, _ in node.needs}) for node in graph.nodes}
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for step in dict.fromkeys(step for step, _ in node.needs):
            users.setdefault(step, []).append(node)
    level = [node for node in graph.nodes if not waiting[node.id]]
    while level:
        recipes = ask(level, known, facts, ledger, objects)
        following: list[Node] = []
        for node in level:
            decision = decide(node, known, facts, recipes.get(node.id))
            if decision.action != "reuse":
                look_at_items(node, decision, known, facts, ledger, objects)
                continue
            known.update(zip(((node.id, name) for name in node.names), decision.outputs, strict=True))
            for user in users.get(node.id, ()):
                waiting[user.id] -= 1
                if not waiting[user.id]:
                    following.append(user)
        level = following
    return facts, seen


def look_at_queries(
    queries: list[Node], facts: Facts, ledger: Ledger, objects: Objects, named: Collection[str], *, keep: bool
) -> None:
    """Choose the moment of each query; one whose snapshot is gone, or was read by other code, is read now."""
    snapshots.choose(queries, facts, ledger, named=named, keep=keep)
    kept = [node for node in queries if node.id in facts.snapshots]
    for node_id, (recipe, _) in ask(kept, {}, facts, ledger, objects).items():
        node = next(node for node in kept if node.id == node_id)
        result = facts.results.get(recipe)
        if result is None:
            snapshots.renew(node, facts, "the query is read again: its snapshot was read by other code or libraries")
        elif any(artifact.digest in facts.missing for artifact in result.outputs):
            snapshots.renew(node, facts, "the query is read again: its snapshot is no longer in the store")


def ask(
    nodes: Iterable[Node],
    known: dict[tuple[str, str], Artifact],
    facts: Facts,
    ledger: Ledger,
    objects: Objects,
) -> dict[str, tuple[str, Any]]:
    """Ask ledger and store about steps whose inputs are known; the answers go into `facts`.

    Returns
    -------
    dict
        Step id → what `recipe_of` gave, for `decide`.
    """
    recipes = {node.id: found for node in nodes if (found := recipe_of(node, known, facts)) is not None}
    wanted = [recipe for recipe, _ in recipes.values() if recipe not in facts.results]
    if not wanted:
        return recipes
    results = ledger.results(wanted)
    facts.results.update(results)
    stored = {a.digest for result in results.values() for a in result.outputs if a.text is None}
    facts.missing |= objects.missing(stored) if stored else set()
    return recipes


def look_at_items(
    node: Node,
    decision: Decision,
    known: dict[tuple[str, str], Artifact],
    facts: Facts,
    ledger: Ledger,
    objects: Objects,
) -> None:
    """Of a mapped step that is to run, learn which of its items are known."""
    if not node.mapped or decision.recipe is None:
        return
    with contextlib.suppress(PenstockError):  # what is wrong with the list is told by the step when it runs
        facts.fans[decision.recipe] = fan = fan_of(node, known, objects)
        ask(fan.children, known, facts, ledger, objects)


def learn(facts: Facts, found: Mapping[str, Found]) -> None:
    """Put what lies at the sources' places among the facts."""
    facts.found.update(found)
    facts.sources.update({step: one.digest for step, one in found.items()})
    facts.codes.update({one.digest: one.parts for one in found.values() if one.many})


def probe(
    nodes: Iterable[Node], ledger: Ledger, fetcher: Fetcher | None = None, *, fresh: bool = False
) -> tuple[dict[str, Found], list[SourceStat]]:
    """The files of each source with their digests; a file that has not been touched since is not read again.

    Parameters
    ----------
    fetcher : Fetcher, optional
        Fetches files at URLs.
    fresh : bool
        Trust nothing that is remembered: what was read was not what was planned with.

    Returns
    -------
    found : dict
        Step id → files.
    seen : list of SourceStat
        What was hashed now and may be remembered.

    Raises
    ------
    SourceNotFoundError, MissingExtraError
    """
    listed = {node.id: _listed(node, fetcher) for node in nodes if node.places}
    if not listed:
        return {}, []
    remembered = {} if fresh else ledger.sources(list({path for files, _ in listed.values() for _, path in files}))
    found: dict[str, Found] = {}
    seen: dict[str, SourceStat] = {}
    for step, (files, many) in listed.items():
        hashed = []
        for name, place in files:
            if "://" in place and fetcher is not None:
                path, digest, now = fetcher.get(place, remembered.get(place))
                seen |= {place: now} if now is not None else {}
            else:
                path, digest = place, _hashed(place, remembered, seen, step)
            hashed.append((name, path, digest))
        found[step] = Found(tuple(hashed), many)
    return found, list(seen.values())


def _listed(node: Node, fetcher: Fetcher | None) -> tuple[list[tuple[str, str]], bool]:
    """(name, path or URL) of each file of a source, and whether several were declared."""
    urls = [place for place in node.places if "://" in place]
    paths = tuple(place for place in node.places if "://" not in place)
    if not urls or fetcher is None:
        return listing.files_at(node.places, f"source {node.id}")
    if len(node.places) == 1 and not several(urls[0]):
        return [(os.path.basename(urls[0].partition("?")[0]), urls[0])], False
    expanded = [fetcher.expand(url) for url in urls]
    base = os.path.commonpath([base.partition("://")[2] for base, _ in expanded])
    while "=" in os.path.basename(base):
        base = os.path.dirname(base)
    bare = {url: url.partition("://")[2].partition("?")[0] for _, found in expanded for url in found}
    names = {url: name[len(base) :].lstrip("/") for url, name in bare.items()}
    files = [(name, url) for url, name in names.items()]
    if paths:
        local, _ = listing.files_at((*paths, paths[0]), f"source {node.id}")
        files += local
    return _distinct(files), True


def _distinct(files: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Files in the order of their names, a number before a name that another has: each counts by its name."""
    named: dict[str, str] = {}
    for name, place in sorted(files):
        own, n = name, 1
        while own in named:
            n += 1
            own = f"{n}/{name}"
        named[own] = place
    return sorted(named.items())


def _hashed(path: str, remembered: Mapping[str, SourceStat], seen: dict[str, SourceStat], step: str) -> str:
    try:
        return _digest(path, remembered, seen)
    except OSError as error:
        raise SourceNotFoundError(
            f"{error.strerror or error}: {path}",
            where=f"source {step}",
            hint="relative paths are relative to the file that declares them",
        ) from error


def _digest(path: str, remembered: Mapping[str, SourceStat], seen: dict[str, SourceStat]) -> str:
    """Digest of a file's bytes, as remembered or by reading it; what may be remembered goes into `seen`."""
    stat = stat_of(path)
    old = seen.get(path) or remembered.get(path)
    if old is not None and tuple(old.stat) == stat:
        return old.digest
    digest = hash_file(path)
    if stat == stat_of(path) and time.time() - stat[1] / 1e9 > RACY_S:
        seen[path] = SourceStat(path, stat, digest)
    return digest


def stat_of(path: str) -> tuple[int, int, int]:
    """(size in bytes, mtime in ns, inode) of a file.

    Raises
    ------
    OSError
        There is none, or it is no regular file: a pipe or a device may have no end.
    """
    stat = os.stat(path)
    if S_ISDIR(stat.st_mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), path)
    if not S_ISREG(stat.st_mode):
        raise OSError(EINVAL, "not a regular file", path)
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def hash_file(path: str) -> str:
    """SHA-256 of a file's bytes, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
