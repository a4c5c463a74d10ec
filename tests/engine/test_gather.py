"""Finding the facts: one question a level, files hashed once and again when they may have changed."""

import os

import pytest

from penstock.core.run import SourceStat
from penstock.engine import gather as gathering
from penstock.engine.gather import gather, hash_file, probe, stat_of
from penstock.errors import SourceNotFoundError
from penstock.testing import MemoryLedger

OLD = 1_000_000_000


class Counting(MemoryLedger):
    """A ledger that remembers how often it was asked for results."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def results(self, recipes):
        self.asked.append(len(recipes))
        return super().results(recipes)


def test_the_ledger_is_asked_once_a_level_and_no_further_than_the_first_miss(flows):
    world = flows.World(ledger=Counting())
    n = flows.node
    wide = [n(f"w{i}", "a") for i in range(20)]
    graph = flows.graph(n("a"), *wide, n("end", *(w.id for w in wide)))
    functions = {node.id: (lambda *parts, i=node.id: i.encode()) for node in graph.nodes}
    world.ledger.asked.clear()
    world.plan(graph)
    assert world.ledger.asked == [1]
    world.run(graph, functions)
    world.ledger.asked.clear()
    world.plan(graph)
    assert world.ledger.asked == [1, 20, 1]


def source(path, flows):
    return flows.node("table", kind="source", path=str(path))


def test_an_old_file_is_hashed_once(tmp_path, flows, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    os.utime(path, (OLD, OLD))
    ledger = MemoryLedger()
    digests, seen = probe([source(path, flows)], ledger)
    assert seen == [SourceStat(str(path), stat_of(str(path)), digests["table"].digest)]
    ledger._sources[str(path)] = seen[0]
    monkeypatch.setattr(gathering, "hash_file", lambda _: pytest.fail("it was read again"))
    assert probe([source(path, flows)], ledger) == (digests, [])


def test_a_young_file_is_not_remembered(tmp_path, flows):
    """It could change again within the clock's grain, and nobody would see it."""
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    assert probe([source(path, flows)], MemoryLedger())[1] == []


def test_control_a_young_file_that_is_remembered_gives_a_wrong_digest(tmp_path, flows, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    monkeypatch.setattr(gathering, "RACY_S", -1.0)
    ledger = MemoryLedger()
    digests, seen = probe([source(path, flows)], ledger)
    ledger._sources[str(path)] = seen[0]
    before = os.stat(path)
    path.write_text("a\n2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert probe([source(path, flows)], ledger)[0] == digests
    assert hash_file(str(path)) != digests["table"].digest


@pytest.mark.parametrize("change", ["text", "time", "file"])
def test_a_touched_file_is_read_again(tmp_path, flows, change):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    os.utime(path, (OLD, OLD))
    ledger = MemoryLedger()
    digests, [seen] = probe([source(path, flows)], ledger)
    ledger._sources[str(path)] = seen
    if change == "file":
        path.rename(tmp_path / "old.csv")
    if change != "time":
        path.write_text("a\n2\n")
    os.utime(path, (OLD + (change == "time"), OLD + (change == "time")))
    if change == "text":
        path.write_text("a\n22\n")
        os.utime(path, (OLD, OLD))
    again, _ = probe([source(path, flows)], ledger)
    assert (again == digests) == (change == "time")


def test_a_missing_source_is_named_with_its_step(flows):
    with pytest.raises(SourceNotFoundError) as caught:
        gather(flows.graph(source("/nowhere/a.csv", flows)), MemoryLedger(), None)
    assert "/nowhere/a.csv" in caught.value.what
    assert caught.value.where == "source table"


def test_an_empty_folder_is_no_source(tmp_path, flows):
    with pytest.raises(SourceNotFoundError, match="no table in this folder"):
        probe([source(tmp_path, flows)], MemoryLedger())


def test_a_pipe_is_no_source(tmp_path, flows):
    """Whoever opened it would wait for a writer for ever."""
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(SourceNotFoundError, match="not a regular file"):
        probe([source(tmp_path / "a.csv", flows)], MemoryLedger())
