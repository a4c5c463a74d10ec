"""Bit flips, cuts and swaps in many objects: all found, none used; random bytes in the ledger: told, not trusted."""

import os
import random

import pytest

from penstock.core.run import Entry
from penstock.errors import CorruptObjectError, StoreError
from penstock.store.fsck import fsck
from penstock.store.ledger import SqliteLedger
from penstock.store.objects import DirectoryObjects
from penstock.testing import MemoryLedger
from penstock.testing.sabotage import DropsVerification


def fill(root, number, seed=0):
    """A store with so many objects, of all sizes, and what they hold."""
    chance = random.Random(seed)
    objects = DirectoryObjects(root)
    held = {}
    for _ in range(number):
        data = chance.randbytes(chance.randint(1, 5_000))
        held[objects.stage(data)[0]] = data
    objects.publish(held)
    objects.sweep(-1.0)
    return objects, held


def overwrite(path, data):
    os.chmod(path, 0o644)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o444)


def flip(data, chance):
    place = chance.randrange(len(data) * 8)
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


HARM = {
    "flip": flip,
    "empty": lambda data, chance: b"",
    "cut": lambda data, chance: data[:-1],
    "grown": lambda data, chance: data + b"\0",
}


def used(objects, digests):
    """How many of them a reader was given."""
    number = 0
    for digest in digests:
        for ask in (objects.read, objects.fetch):
            try:
                ask(digest)
            except CorruptObjectError:
                continue
            number += 1
    return number


@pytest.mark.parametrize("harm", HARM)
def test_two_hundred_damaged_objects(tmp_path, harm):
    objects, held = fill(str(tmp_path), 400)
    chance = random.Random(5)
    damaged = chance.sample(sorted(held), 200)
    for digest in damaged:
        overwrite(objects._final(digest), HARM[harm](held[digest], chance))
    assert used(objects, damaged) == 0
    found = fsck(objects, MemoryLedger(), repair=True)
    assert {finding.where for finding in found if finding.kind == "corrupt"} == set(damaged)
    assert objects.missing(held) == set(damaged)
    objects.publish([objects.stage(held[digest])[0] for digest in damaged])
    assert all(objects.read(digest) == data for digest, data in held.items())
    assert fsck(objects, MemoryLedger()) == []


def test_control_without_verification_damage_is_used(tmp_path):
    objects, held = fill(str(tmp_path), 20)
    chance = random.Random(5)
    for digest, data in held.items():
        overwrite(objects._final(digest), flip(data, chance))
    blind = DropsVerification(str(tmp_path))
    assert used(blind, held) == 40
    assert fsck(blind, MemoryLedger()) == []


def test_repair_that_is_killed_and_repeated(tmp_path):
    """Repair in halves, by readers at work: what is good stays, what is bad goes once."""
    objects, held = fill(str(tmp_path), 40)
    damaged = sorted(held)[:20]
    for digest in damaged:
        overwrite(objects._final(digest), b"bad")
    for digest in damaged[:7]:
        objects.quarantine(digest)
    for _ in range(2):
        fsck(objects, MemoryLedger(), repair=True)
        assert objects.missing(held) == set(damaged)
    assert len(os.listdir(tmp_path / "quarantine")) == 20


def corrupted_ledgers(folder, number):
    """A ledger with random bytes written over it, again and again; gives how each look ended."""
    path = str(folder / "ledger.db")
    ledger = SqliteLedger(path)
    entries = [Entry("a/version", n, {"artifacts": {}, "note": "x" * 300}) for n in range(1, 200)]
    recorded = ledger.append(entries)
    ledger.close()
    with open(path, "rb") as file:
        sound = file.read()
    for seed in range(number):
        chance = random.Random(seed)
        data = bytearray(sound)
        for _ in range(100):
            data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
        with open(path, "wb") as file:
            file.write(data)
        yield _look(path, recorded)


def _look(path, recorded):
    try:
        ledger = SqliteLedger(path)
    except StoreError:
        return "refused"
    try:
        return "same" if ledger.stream("a/version") == recorded else "changed unseen"
    except StoreError:
        return "refused"
    finally:
        ledger.close()


def test_random_bytes_in_the_ledger_are_never_believed(tmp_path):
    outcomes = list(corrupted_ledgers(tmp_path, 30))
    assert outcomes == ["refused"] * 30


def test_one_flipped_bit_in_a_decision_is_seen(tmp_path):
    """Inside a text, where SQLite itself sees nothing wrong."""
    path = str(tmp_path / "ledger.db")
    ledger = SqliteLedger(path)
    ledger.append([Entry("a/alias/champion", 1, {"version": 1, "previous": None})])
    ledger.close()
    with open(path, "r+b") as file:
        place = file.read().index(b'"version":1')
        file.seek(place + len('"version":'))
        file.write(b"3")
    ledger = SqliteLedger(path)
    assert ledger.integrity() == []
    with pytest.raises(StoreError, match="entry 1 was changed"):
        ledger.stream("a/alias/champion")
    ledger.close()
