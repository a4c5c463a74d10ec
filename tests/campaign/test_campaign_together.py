"""Many processes on one store and one ledger: one object, gapless streams, exactly one winner."""

import os

import pytest

from penstock.core.run import Entry, Group
from penstock.errors import ConflictError
from penstock.store.fsck import fsck
from penstock.store.objects import DirectoryObjects
from penstock.testing.crash import open_ledger
from penstock.testing.ledger_suite import make_result
from penstock.testing.together import together


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Where a new ledger is: a path, or a URL."""
    return str(tmp_path / "ledger.db") if request.param == "sqlite" else request.getfixturevalue("postgres")


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


def test_exactly_one_of_two_appends_a_number(place):

    def promote(index):
        ledger = open_ledger(place)
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


def test_eight_processes_append_to_streams(place):
    """Compare-and-swap with retries: all get through, numbers are gapless, each one's own entries in its order."""

    def register(index):
        ledger = open_ledger(place)
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
    ledger = open_ledger(place)
    entries = ledger.stream("a/version")
    assert [entry.number for entry in entries] == list(range(1, 97))
    for index in range(8):
        assert [entry.body["turn"] for entry in entries if entry.body["by"] == index] == list(range(12))
    ledger.close()


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_fifty_processes_open_one_ledger(tmp_path, place, known):
    store = str(tmp_path / "store")
    if known:
        open_ledger(place).close()

    def open_and_write(index):
        objects, ledger = DirectoryObjects(store), open_ledger(place)
        result = make_result(f"n{index}", inline=True)
        ledger.commit(Group(results=[result]))
        objects.publish([objects.stage(b"%d" % index)[0]])
        return len(ledger.results([result.recipe]))

    assert together(50, open_and_write) == [1] * 50
    ledger = open_ledger(place)
    assert len(ledger.recipes()) == 50
    assert fsck(DirectoryObjects(store), ledger) == []
    ledger.close()


def test_one_request_sent_by_many_counts_once(place):

    def ask(index):
        ledger = open_ledger(place)
        [entry] = ledger.append([Entry("a/version", 1, {"same": True})], key="one request")
        return [entry.number, entry.at]

    answers = together(8, ask)
    assert all(answer == answers[0] for answer in answers)
