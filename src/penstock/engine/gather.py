"""Finding the facts: all the I/O that deciding needs, level by level, before anything is decided."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from errno import EINVAL, EISDIR
from stat import S_ISDIR, S_ISREG
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.facts import Facts
from penstock.core.flow import Graph, Node
from penstock.core.ports import Ledger, Objects
from penstock.core.run import SourceStat
from penstock.core.source import Found
from penstock.engine import listing
from penstock.engine.planner import decide, recipe_of
from penstock.errors import SourceNotFoundError

RACY_S = 2.0
"""A file younger than this when hashed is not remembered: it could change again within the clock's grain."""


def gather(
    graph: Graph, ledger: Ledger, objects: Objects, forced: Iterable[str] = ()
) -> tuple[Facts, list[SourceStat]]:
    """What must be known to plan a flow.

    A recipe needs its inputs' digests, so the ledger is asked once a level; a branch ends at its first miss.

    Parameters
    ----------
    graph : Graph
    ledger, objects
    forced : iterable of str
        Step ids to run whatever is known.

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
    found, seen = probe([n for n in graph.nodes if n.kind == "source"], ledger)
    learn(facts, found)
    several = {d.source for d in facts.previous.values() if d.source and d.step in found and found[d.step].many}
    old = ({d.code for d in facts.previous.values()} | several) - set(facts.codes)
    if old:
        facts.codes.update(ledger.codes(old))
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
                continue
            known.update(zip(((node.id, name) for name in node.names), decision.outputs, strict=True))
            for user in users.get(node.id, ()):
                waiting[user.id] -= 1
                if not waiting[user.id]:
                    following.append(user)
        level = following
    return facts, seen


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


def learn(facts: Facts, found: Mapping[str, Found]) -> None:
    """Put what lies at the sources' places among the facts."""
    facts.found.update(found)
    facts.sources.update({step: one.digest for step, one in found.items()})
    facts.codes.update({one.digest: one.parts for one in found.values() if one.many})


def probe(nodes: Iterable[Node], ledger: Ledger) -> tuple[dict[str, Found], list[SourceStat]]:
    """The files of each source with their digests; a file that has not been touched since is not read again.

    Returns
    -------
    found : dict
        Step id → files.
    seen : list of SourceStat
        What was hashed now and may be remembered.

    Raises
    ------
    SourceNotFoundError
    """
    listed = {node.id: listing.files_at(node.places, f"source {node.id}") for node in nodes if node.places}
    if not listed:
        return {}, []
    remembered = ledger.sources(list({path for files, _ in listed.values() for _, path in files}))
    found: dict[str, Found] = {}
    seen: dict[str, SourceStat] = {}
    for step, (files, many) in listed.items():
        try:
            hashed = tuple((name, path, _digest(path, remembered, seen)) for name, path in files)
        except OSError as error:
            raise SourceNotFoundError(
                f"{error.strerror or error}: {error.filename or files[0][1]}",
                where=f"source {step}",
                hint="relative paths are relative to the file that declares them",
            ) from error
        found[step] = Found(hashed, many)
    return found, list(seen.values())


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
