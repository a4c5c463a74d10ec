"""A ledger that many processes share, while sessions are ended, the server crashes and writers are killed."""

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import psycopg
import pytest

from penstock.core.run import Entry
from penstock.errors import ConflictError, StoreError
from penstock.store.fsck import fsck
from penstock.store.objects import DirectoryObjects
from penstock.store.postgres_ledger import PostgresLedger
from penstock.testing.crash import URL, Acknowledged, Spawned, breaches, kill_round, open_ledger, places
from penstock.testing.postgres import PostgresServer
from penstock.testing.together import together

CHAMPION = "m/alias/champion"


def act(place, index, until):
    """Promote, roll back and read until a time; give every operation with when it was asked and answered."""
    ledger, rng, history = open_ledger(place), random.Random(index), []
    while time.monotonic() < until:
        begun = time.monotonic()
        moves = ledger.stream(CHAMPION)
        history.append(["read", begun, time.monotonic(), len(moves), moves[-1].body["by"] if moves else None])
        if rng.random() < 0.3:
            continue
        present = moves[-1].body["version"] if moves else None
        version = rng.randint(1, 9) if rng.random() < 0.7 or not moves else moves[-1].body["previous"]
        by = f"{index}-{len(history)}"
        body = {"version": version, "previous": present, "by": by}
        begun = time.monotonic()
        try:
            entries = [Entry(CHAMPION, len(moves) + 1, body), Entry("m/deployment", len(moves) + 1, body)]
            [entry, _] = ledger.append(entries)
            history.append(["won", begun, time.monotonic(), entry.number, by])
        except ConflictError as error:
            history.append(["lost", begun, time.monotonic(), error.facts["head"].number, None])
    ledger.close()
    return history


def check_history(histories, moves):
    """One register that only goes forwards explains all that was seen: real time, numbers and values agree."""
    done = sorted((one for history in histories for one in history), key=lambda one: one[2])
    by = {move.number: move.body["by"] for move in moves}
    assert list(by) == list(range(1, len(moves) + 1))
    won = [one for one in done if one[0] == "won"]
    assert {one[3]: one[4] for one in won} == by  # each promotion that was answered, once; and no other
    assert len(won) == len(by)
    assert all(one[4] == by.get(one[3]) for one in done if one[0] == "read")
    for before, after in itertools.pairwise(moves):
        assert after.body["previous"] == before.body["version"]
    answered = [(one[2], one[3]) for one in done]
    newest, place = 0, 0
    for kind, begun, _, number, _ in sorted(done, key=lambda one: one[1]):
        while place < len(answered) and answered[place][0] < begun:
            newest = max(newest, answered[place][1])
            place += 1
        assert number > newest if kind == "won" else number >= newest, (kind, number, newest)
    return len(done)


def disturb(url, until, seed):
    """End a session at random, now and then; give how many."""
    rng, ended = random.Random(seed), 0
    while time.monotonic() < until:
        time.sleep(rng.uniform(0.01, 0.1))
        with psycopg.connect(url, autocommit=True) as other:
            query = (
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'penstock' AND datname = current_database()"
            )
            if pids := [pid for (pid,) in other.execute(query)]:
                other.execute("SELECT pg_terminate_backend(%s)", (rng.choice(pids),))
                ended += 1
    return ended


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "postgres with sessions ended"])
@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=[pytest.mark.campaign, pytest.mark.timeout(180)])])
def test_a_history_of_promotions_is_linearisable(request, tmp_path, kind, seconds, report):
    place = str(tmp_path / "ledger.db") if kind == "sqlite" else request.getfixturevalue("postgres")
    open_ledger(place).close()
    until, ended = time.monotonic() + seconds, []
    if kind.endswith("ended"):
        thread = threading.Thread(target=lambda: ended.append(disturb(place, until - 0.2, 1)))
        threading.Timer(0.2, thread.start).start()
    histories = together(6, lambda index: act(place, index, until))
    if kind.endswith("ended"):
        thread.join(10)
        assert ended[0] > 0
    ledger = open_ledger(place)
    moves = ledger.stream(CHAMPION)
    operations = check_history(histories, moves)
    assert len(ledger.stream("m/deployment")) == len(moves) > 3
    ledger.close()
    if seconds > 10:
        report(f"{kind}: {operations} operations in {seconds} s, {len(moves)} promotions, {sum(ended)} sessions ended")


def test_control_a_doubled_promotion_is_seen(postgres):
    ledger = PostgresLedger(postgres)
    body = {"version": 1, "previous": None, "by": "0-1"}
    ledger.append([Entry(CHAMPION, 1, body)])
    ledger.append([Entry(CHAMPION, 2, {**body, "previous": 1})])
    with pytest.raises(AssertionError):
        check_history([[["won", 1.0, 2.0, 1, "0-1"]]], ledger.stream(CHAMPION))
    with pytest.raises(AssertionError):  # a read that saw an older state than one that ended before it began
        check_history([[["won", 1.0, 2.0, 1, "0-1"], ["read", 3.0, 4.0, 0, None]]], ledger.stream(CHAMPION)[:1])
    ledger.close()


@pytest.fixture
def server(postgres_server):
    """One of its own on the disk, that may crash; not below pytest's folder, which other accounts may not enter."""
    folder = tempfile.mkdtemp(prefix="penstock-pg-")
    server = PostgresServer(folder)
    yield server
    server.close()
    shutil.rmtree(folder)


@pytest.fixture
def root(tmp_path, server):
    """A crash test's directory whose ledger is in that server."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / URL).write_text(server.url(server.create_database()))
    return str(folder)


@pytest.mark.parametrize(
    "rounds", [8, pytest.param(250, marks=[pytest.mark.campaign, pytest.mark.timeout(900)])], ids=["short", "long"]
)
def test_writers_killed_at_random_lose_nothing(root, rounds, report):
    acknowledged = Acknowledged()
    for seed in range(rounds):
        kill_round(root, seed, acknowledged, longest_s=0.3)
    assert acknowledged.failed == []
    assert len(acknowledged) > rounds
    assert breaches(root, acknowledged) == []
    if rounds > 10:
        report(f"{rounds} writers killed: {len(acknowledged)} acknowledged, 0 lost")


@pytest.mark.parametrize(
    "rounds", [2, pytest.param(40, marks=[pytest.mark.campaign, pytest.mark.timeout(900)])], ids=["short", "long"]
)
def test_a_server_that_crashes_loses_nothing(root, server, rounds, report):
    """The writers work on: they wait for it, and what was acknowledged before, during and after is there."""
    acknowledged, rng, began = Acknowledged(), random.Random(rounds), time.monotonic()
    for seed in range(rounds):
        children = [Spawned(root, 100 * seed + number) for number in range(2)]
        time.sleep(rng.uniform(0.1, 0.6))
        server.stop(signal.SIGQUIT)
        time.sleep(rng.uniform(0.0, 0.3))
        server.start()
        time.sleep(rng.uniform(0.3, 0.8))
        for child in children:
            child.kill(acknowledged)
    assert acknowledged.failed == []
    assert len(acknowledged.entries) > rounds
    assert breaches(root, acknowledged) == []
    if rounds > 10:
        took = time.monotonic() - began
        report(
            f"{rounds} crashes of the server under 2 writers: {len(acknowledged)} acknowledged, 0 lost, {took:.0f} s"
        )


def test_control_a_lost_row_is_seen(root):
    acknowledged = Acknowledged()
    child = Spawned(root, 6, verbs=("register",))
    ledger = PostgresLedger(places(root)[1])
    while ledger.streams().get("crash/version", 0) < 3:  # what is second on record, the writer has acknowledged
        time.sleep(0.02)
    ledger.close()
    child.kill(acknowledged)
    with psycopg.connect(places(root)[1]) as other:
        other.execute("DELETE FROM penstock.entry WHERE number = 1")
    assert any("entry" in text for text in breaches(root, acknowledged))


def test_a_full_disk_refuses_writes_and_goes_on_reading(server, tmp_path, system_command):
    """The tables' own disk is full; the server lives, reads go on, and with space again so do writes."""
    system_command("mkfs.ext4")
    if os.getuid() != 0:
        pytest.skip("only root mounts a small disk")
    disk = Path(server.folder) / "small"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk here: {mounted.stderr.decode()}")
    try:
        place = disk / "space"
        place.mkdir()
        os.chown(place, os.stat(server.folder).st_uid, os.stat(server.folder).st_gid)
        server.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
        server.execute("CREATE DATABASE small TABLESPACE small")
        ledger = PostgresLedger(server.url("small"))
        [entry] = ledger.append([Entry("a/version", 1, {})])
        filler = disk / "filler"
        with contextlib.suppress(OSError), open(filler, "wb") as file:
            while True:
                file.write(b"x" * 4096)
                file.flush()
        with pytest.raises(StoreError, match="disk is full"):
            for number in range(2, 60):
                ledger.append([Entry("a/version", number, {"x": "y" * 6_000})])
        refused = number
        assert ledger.stream("a/version")[0] == entry
        assert ledger.streams() == {"a/version": refused - 1}
        filler.unlink()
        ledger.append([Entry("a/version", refused, {})])
        assert fsck(DirectoryObjects(str(tmp_path / "store")), ledger) == []
        ledger.close()
    finally:
        server.close()
        subprocess.run(["umount", str(disk)], check=True)
