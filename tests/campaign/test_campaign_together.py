"""Many processes on one store and one ledger: one object, gapless streams, exactly one winner."""

import json
import os

import pytest

from penstock.core.run import Entry, Group
from penstock.errors import ConflictError
from penstock.store.fsck import fsck
from penstock.store.ledger import SqliteLedger
from penstock.store.objects import DirectoryObjects
from penstock.testing.ledger_suite import make_result


def together(number, do):
    """Fork so many children that start at one moment; give what each returned, as JSON."""
    start_read, start_write = os.pipe()
    children = []
    for index in range(number):
        out_read, out_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(start_write)
                os.read(start_read, 1)
                os.write(out_write, json.dumps(do(index)).encode())
                os._exit(0)
            except BaseException as error:
                os.write(2, f"child {index}: {error!r}\n".encode())
                os._exit(1)
        os.close(out_write)
        children.append((pid, out_read))
    os.close(start_read)
    os.close(start_write)
    results = []
    for pid, out in children:
        with os.fdopen(out, "rb") as file:
            text = file.read()
        assert os.waitpid(pid, 0)[1] == 0
        results.append(json.loads(text))
    return results


def test_sixteen_putters_of_one_object(tmp_path):
    data = os.urandom(1_000_000)

    def put(index):
        objects = DirectoryObjects(str(tmp_path / "store"))
        for _ in range(3):
            objects.publish([objects.stage(data)[0]])
        return len(objects.read(objects.stage(data)[0]))

    assert together(16, put) == [len(data)] * 16
    objects = DirectoryObjects(str(tmp_path / "store"))
    assert [(item.size, item.staged) for item in objects.walk()] == [(len(data), False)]
    assert {item.kind for item in objects.leftovers()} <= {"staged"}


def test_exactly_one_of_two_appends_a_number(tmp_path):
    path = str(tmp_path / "ledger.db")

    def promote(index):
        ledger = SqliteLedger(path)
        won, heads = [], []
        for number in range(1, 31):
            try:
                ledger.append([Entry("a/alias/champion", number, {"version": index, "previous": None})])
                won.append(number)
            except ConflictError as error:
                heads.append(error.facts["head"].number >= number)
        assert all(heads)
        return won

    left, right = together(2, promote)
    assert sorted(left + right) == list(range(1, 31))


def test_eight_processes_append_to_streams(tmp_path):
    """Compare-and-swap with retries: all get through, numbers are gapless, each one's own entries in its order."""
    path = str(tmp_path / "ledger.db")

    def register(index):
        ledger = SqliteLedger(path)
        tries = 0
        for turn in range(12):
            while True:
                tries += 1
                number = ledger.streams().get("a/version", 0) + 1
                try:
                    ledger.append([Entry("a/version", number, {"by": index, "turn": turn})], key=f"{index}-{turn}")
                    break
                except ConflictError:
                    continue
        return tries

    together(8, register)
    ledger = SqliteLedger(path)
    entries = ledger.stream("a/version")
    assert [entry.number for entry in entries] == list(range(1, 97))
    for index in range(8):
        assert [entry.body["turn"] for entry in entries if entry.body["by"] == index] == list(range(12))
    ledger.close()


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_fifty_processes_open_one_ledger(tmp_path, known):
    store, path = str(tmp_path / "store"), str(tmp_path / "ledger.db")
    if known:
        SqliteLedger(path).close()

    def open_and_write(index):
        objects, ledger = DirectoryObjects(store), SqliteLedger(path)
        result = make_result(f"n{index}", inline=True)
        ledger.commit(Group(results=[result]))
        objects.publish([objects.stage(b"%d" % index)[0]])
        return len(ledger.results([result.recipe]))

    assert together(50, open_and_write) == [1] * 50
    ledger = SqliteLedger(path)
    assert len(ledger.recipes()) == 50
    assert fsck(DirectoryObjects(store), ledger) == []
    ledger.close()


def test_one_request_sent_by_many_counts_once(tmp_path):
    path = str(tmp_path / "ledger.db")

    def ask(index):
        ledger = SqliteLedger(path)
        [entry] = ledger.append([Entry("a/version", 1, {"same": True})], key="one request")
        return [entry.number, entry.at]

    answers = together(8, ask)
    assert all(answer == answers[0] for answer in answers)
