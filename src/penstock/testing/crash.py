"""A writer to be killed, and the checker that tells whether anything it acknowledged was lost or torn.

The writer runs in a process of its own (`python -m penstock.testing.crash` or `spawn`), does what a run does
(puts, group commits, registrations, promotions) and writes a line to standard output *after* each call returned:
its acknowledgements. Whoever started it kills it, cuts its power or breaks its disk, and calls `breaches`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_code, digest_recipe
from penstock.core.ports import Ledger, Objects
from penstock.core.run import Decided, Entry, Group, Result, StepRun
from penstock.errors import ConflictError, PenstockError
from penstock.store.fsck import fsck
from penstock.store.objects import DirectoryObjects
from penstock.store.sql_ledger import SqlLedger
from penstock.testing.sabotage import LEDGERS, OBJECTS

CODE = digest_code({"crash": "1"})
VERBS = ("put", "commit", "register", "promote")


URL = "ledger.url"
"""A file of a crash test's directory that holds the URL of its ledger, where that is no file."""


def places(root: str) -> tuple[str, str]:
    """Where store and ledger of a crash test stand: below its directory, or at the URL that it names."""
    store, url = os.path.join(root, ".penstock", "store"), os.path.join(root, URL)
    if not os.path.exists(url):
        return store, os.path.join(root, ".penstock", "ledger.db")
    with open(url, encoding="utf-8") as file:
        return store, file.read()


def open_ledger(place: str, fault: str = "") -> SqlLedger:
    """The ledger at a path, with a fault of `penstock.testing.sabotage.LEDGERS`, or at a URL."""
    if "://" not in place:
        return LEDGERS[fault](place)
    from penstock.store.postgres_ledger import PostgresLedger

    return PostgresLedger(place)


class Writer:
    """Does what a run does, and says so afterwards.

    Parameters
    ----------
    objects : Objects
    ledger : Ledger
    seed : int
        Decides all bytes and the order of the verbs.
    largest : int
        Largest object, in bytes.
    """

    def __init__(self, objects: Objects, ledger: Ledger, seed: int, largest: int = 60_000) -> None:
        self.objects, self.ledger = objects, ledger
        self._random = random.Random(seed)
        self._largest = largest
        self._name = f"{seed}-{os.getpid()}"

    def do(self, verb: str) -> str:
        """Do one thing and give its acknowledgement, a line of JSON."""
        return json.dumps(getattr(self, f"_{verb}")())

    def _bytes(self) -> bytes:
        return self._random.randbytes(self._random.randint(1, self._largest))

    def _put(self) -> dict[str, list[str]]:
        digests = [self.objects.stage(self._bytes())[0] for _ in range(self._random.randint(1, 4))]
        self.objects.publish(digests)
        return {"objects": digests}

    def _commit(self) -> dict[str, list[str]]:
        group, digests = Group(), []
        for number in range(self._random.randint(1, 5)):
            digest, size = self.objects.stage(self._bytes())
            digests.append(digest)
            tree = [self._name, self._random.random().hex(), number]
            made = {"run": self._name, "step": f"s{number}"}
            result = Result(digest_recipe(CODE, tree, None), CODE, tree, None, (Artifact(digest, "bytes", size),), made)
            group.results.append(result)
            group.decided.append(("crash", Decided(f"s{number}", result.recipe, CODE, tree)))
            group.step_runs.append(
                StepRun(self._name, result.recipe, 1, result.recipe, "run", "done", {}, result.outputs)
            )
        self.objects.publish(digests)
        self.ledger.commit(group)
        return {"objects": digests, "recipes": [result.recipe for result in group.results]}

    def _register(self) -> dict[str, list[str]]:
        """Five files, their manifest, one entry."""
        digests = [self.objects.stage(self._bytes())[0] for _ in range(5)]
        bundle, _ = self.objects.stage(json.dumps({"files": {d[:8]: {"digest": d} for d in digests}}).encode())
        self.objects.publish([*digests, bundle])
        number = self.ledger.streams().get("crash/version", 0) + 1
        self.ledger.append([Entry("crash/version", number, {"artifacts": {"bundle": bundle}})], key=bundle)
        return {"objects": [*digests, bundle], "entries": [f"crash/version {number} {bundle}"]}

    def _promote(self) -> dict[str, list[str]]:
        stream = "crash/alias/champion"
        moves = self.ledger.stream(stream)
        versions = self.ledger.streams().get("crash/version", 0)
        version = self._random.randint(1, versions) if versions else None
        body = {"version": version, "previous": moves[-1].body["version"] if moves else None, "by": self._name}
        self.ledger.append([Entry(stream, len(moves) + 1, body)])
        return {"entries": [f"{stream} {len(moves) + 1} {self._name}"]}

    def run(self, verbs: Iterable[str]) -> None:
        """Do one thing after the other and write an acknowledgement for each; a lost race is no fault."""
        _say('"begin"')
        for verb in verbs:
            try:
                _say(self.do(verb))
            except ConflictError:
                continue

    def forever(self, verbs: Sequence[str] = VERBS) -> Iterable[str]:
        """Some of these verbs, without end."""
        while True:
            yield self._random.choice(verbs)


def _say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


@dataclass(slots=True)
class Acknowledged:
    """All that a writer acknowledged."""

    objects: set[str] = field(default_factory=set)
    recipes: set[str] = field(default_factory=set)
    entries: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    begun: bool = False

    def read(self, output: bytes) -> Acknowledged:
        """Add the whole lines of a writer's output; a torn last line acknowledges nothing."""
        for line in output.split(b"\n")[:-1]:
            said = json.loads(line)
            if said == "begin":
                self.begun = True
            elif isinstance(said, str):
                self.failed.append(said)
            else:
                self.objects.update(said.get("objects", ()))
                self.recipes.update(said.get("recipes", ()))
                self.entries.update(said.get("entries", ()))
        return self

    def __len__(self) -> int:
        return len(self.objects) + len(self.recipes) + len(self.entries)


def breaches(root: str, acknowledged: Acknowledged) -> list[str]:
    """Start anew on what a crash left, and tell every promise that it broke; empty when none.

    Acknowledged objects must be published with the right bytes, acknowledged rows and entries on record, and
    `fsck` must find no fault.
    """
    store, path = places(root)
    found: list[str] = []
    try:
        objects, ledger = DirectoryObjects(store), open_ledger(path)
    except PenstockError as error:
        return [f"does not start again: {error}"]
    try:
        published = {item.digest for item in objects.walk() if not item.staged}
        found += [f"lost object {digest}" for digest in acknowledged.objects - published]
        for digest in acknowledged.objects & published:
            try:
                objects.read(digest)
            except PenstockError as error:
                found.append(f"torn object: {error.what}")
        lost = acknowledged.recipes - ledger.results(acknowledged.recipes).keys()
        found += [f"lost result {recipe}" for recipe in lost]
        found += _lost_entries(ledger, acknowledged)
        found += [f"{item.kind}: {item.where}: {item.what}" for item in fsck(objects, ledger) if item.fault]
    finally:
        ledger.close()
    return found


def _lost_entries(ledger: Ledger, acknowledged: Acknowledged) -> list[str]:
    known = {
        f"{entry.stream} {entry.number} {mark}"
        for stream in ledger.streams("crash/")
        for entry in ledger.stream(stream)
        for mark in (entry.body.get("by"), entry.body.get("artifacts", {}).get("bundle"))
    }
    return [f"lost entry {line}" for line in acknowledged.entries - known]


class Spawned:
    """A writer in a forked child that works until it is killed.

    Parameters
    ----------
    root : str
        Directory of the test.
    seed : int
    fault : str, default=""
        Name of a fault in `penstock.testing.sabotage.OBJECTS`.
    ledger_fault : str, default=""
        Name of a fault in `penstock.testing.sabotage.LEDGERS`.
    verbs : sequence of str
        What it does.
    """

    def __init__(
        self, root: str, seed: int, fault: str = "", ledger_fault: str = "", verbs: Sequence[str] = VERBS
    ) -> None:
        self._output, child = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._output)
                os.dup2(child, 1)
                work(root, seed, verbs, fault, ledger_fault, forever=True)
            finally:
                os._exit(1)
        os.close(child)

    def kill(self, acknowledged: Acknowledged) -> None:
        """Kill it with SIGKILL and add what it had acknowledged."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        chunks = []
        while chunk := os.read(self._output, 1 << 16):
            chunks.append(chunk)
        os.close(self._output)
        acknowledged.read(b"".join(chunks))


def work(
    root: str, seed: int, verbs: Sequence[str], fault: str = "", ledger_fault: str = "", *, forever: bool = False
) -> None:
    """Open store and ledger and do these things, once or without end; errors are told, not raised."""
    store, path = places(root)
    try:
        writer = Writer(OBJECTS[fault](store), open_ledger(path, ledger_fault), seed)
        writer.run(writer.forever(verbs) if forever else verbs)
    except PenstockError as error:
        _say(json.dumps(f"{type(error).__name__}: {error}"))


def kill_round(root: str, seed: int, acknowledged: Acknowledged, *, longest_s: float = 0.15, **given: Any) -> None:
    """Let a writer work for a random time and kill it; `given` goes to `Spawned`."""
    child = Spawned(root, seed, **given)
    time.sleep(random.Random(seed).uniform(0.001, longest_s))
    child.kill(acknowledged)


def main(arguments: list[str]) -> None:
    """`python -m penstock.testing.crash ROOT VERB… [--seed N] [--fault NAME]`; the verb "start" only opens."""
    parser = argparse.ArgumentParser(prog="penstock.testing.crash")
    parser.add_argument("root")
    parser.add_argument("verbs", nargs="+", choices=[*VERBS, "start"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", default="")
    parser.add_argument("--ledger-fault", default="")
    given = parser.parse_args(arguments)
    verbs = [verb for verb in given.verbs if verb != "start"]
    if len(verbs) < len(given.verbs):
        _say('"begin"')
    work(given.root, given.seed, verbs, given.fault, given.ledger_fault)


if __name__ == "__main__":
    main(sys.argv[1:])
