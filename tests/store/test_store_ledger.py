"""What only the SQLite ledger promises: its journal, its migrations, its forks, its refusals, its speed."""

import errno
import os
import signal
import sqlite3
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.run import Entry, Group, Run
from penstock.errors import StoreError, StoreTooNewError
from penstock.store import sqlite
from penstock.store.ledger import SqliteLedger
from penstock.store.migrate import SCHEMA, Migration, check, migrate, migrations
from penstock.store.rows import from_key, from_text, prefix_of, to_key, to_text
from penstock.store.sqlite import connect, explain_sqlite, journal_mode
from penstock.store.sqlite_tables import SqliteTables
from penstock.testing.ledger_suite import make_decided, make_result, make_step_run
from penstock.testing.together import together


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "ledger.db")


@pytest.fixture
def ledger(path):
    yield (ledger := SqliteLedger(path))
    ledger.close()


# ── journal ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        ((3, 6, 23), "truncate"),
        ((3, 7, 0), "truncate"),
        ((3, 40, 1), "truncate"),
        ((3, 44, 5), "truncate"),
        ((3, 44, 6), "wal"),
        ((3, 45, 0), "truncate"),
        ((3, 49, 9), "truncate"),
        ((3, 50, 6), "truncate"),
        ((3, 50, 7), "wal"),
        ((3, 51, 0), "truncate"),
        ((3, 51, 2), "truncate"),
        ((3, 51, 3), "wal"),
        ((3, 52, 0), "truncate"),
        ((3, 52, 1), "wal"),
        ((3, 53, 0), "wal"),
        ((4, 0, 0), "wal"),
    ],
)
def test_journal_mode(version, mode):
    assert journal_mode(version) == mode


def pragma(path, name):
    connection = connect(path)
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    connection.close()
    return value


def test_settings(ledger, path):
    assert pragma(path, "synchronous") == 3
    assert pragma(path, "mmap_size") == 0
    assert pragma(path, "busy_timeout") >= 10_000
    assert pragma(path, "journal_mode") == journal_mode(sqlite3.sqlite_version_info)


def test_a_log_begun_elsewhere_is_turned_back_on_an_unsafe_version(path, monkeypatch):
    monkeypatch.setattr(sqlite, "journal_mode", lambda version: "wal")
    ledger = SqliteLedger(path)
    ledger.append([Entry("a/b", 1, {})])
    assert pragma(path, "journal_mode") == "wal"
    ledger.close()
    monkeypatch.setattr(sqlite, "journal_mode", lambda version: "truncate")
    ledger = SqliteLedger(path)
    assert len(ledger.stream("a/b")) == 1
    assert pragma(path, "journal_mode") == "truncate"
    monkeypatch.setattr(sqlite, "journal_mode", lambda version: "wal")
    assert pragma(path, "journal_mode") in ("truncate", "delete")  # never to and fro between two installations
    ledger.close()


# ── migrations ───────────────────────────────────────────────────────────────────────────────────────────────

NEXT = Migration(
    SCHEMA + 1, "-- one more; with a comment\nCREATE TABLE extra (x);\nINSERT INTO extra VALUES (';');\n", 1, 1
)
BREAKING = NEXT._replace(min_reader=SCHEMA + 1, min_writer=SCHEMA + 1)
READABLE = NEXT._replace(min_writer=SCHEMA + 1)


def upgrade(path, step):
    connection = connect(path)
    try:
        migrate(SqliteTables(connection, path), [*migrations(), step])
    finally:
        connection.close()


def tables(path):
    connection = connect(path)
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    return found


def test_a_migration_keeps_a_copy(ledger, path):
    [entry] = ledger.append([Entry("a/version", 1, {"x": 1})])
    ledger.close()
    upgrade(path, BREAKING)
    assert "extra" in tables(path)
    backup = SqliteLedger(f"{path}.backup-{SCHEMA}")
    assert backup.stream("a/version") == [entry]
    backup.close()
    names = {name for name in os.listdir(os.path.dirname(path)) if not name.endswith("-journal")}
    assert names == {"ledger.db", f"ledger.db.backup-{SCHEMA}"}


def test_the_way_back_is_the_copy(ledger, path):
    ledger.append([Entry("a/version", 1, {})])
    ledger.close()
    upgrade(path, BREAKING)
    with pytest.raises(StoreTooNewError):
        SqliteLedger(path)
    os.replace(f"{path}.backup-{SCHEMA}", path)
    ledger = SqliteLedger(path)
    assert len(ledger.stream("a/version")) == 1
    ledger.close()


def test_an_old_program_refuses_a_new_ledger_and_names_both(ledger, path):
    upgrade(path, BREAKING)
    with pytest.raises(StoreTooNewError, match=f"schema {SCHEMA + 1}; this Penstock knows schema {SCHEMA}") as caught:
        SqliteLedger(path)
    assert (caught.value.facts["found"], caught.value.facts["known"]) == (SCHEMA + 1, SCHEMA)


def test_a_program_that_was_open_during_the_migration_writes_no_more(ledger, path):
    """It asks at each transaction; what it may still read, it reads."""
    ledger.append([Entry("a/version", 1, {})])
    upgrade(path, READABLE)
    for write in (lambda: ledger.append([Entry("a/version", 2, {})]), lambda: ledger.commit(Group(codes={"x": {}}))):
        with pytest.raises(StoreTooNewError, match="may not write"):
            write()
    assert len(ledger.stream("a/version")) == 1
    late = SqliteLedger(path)
    assert len(late.stream("a/version")) == 1
    late.close()


def test_an_added_table_stops_nobody(ledger, path):
    upgrade(path, NEXT)
    assert len(ledger.append([Entry("a/version", 1, {})])) == 1


def test_a_migration_that_fails_changes_nothing(ledger, path):
    broken = NEXT._replace(sql=NEXT.sql + "CREATE TABLE entry (already, there);")
    with pytest.raises(sqlite3.OperationalError):
        upgrade(path, broken)
    assert "extra" not in tables(path)
    assert len(ledger.append([Entry("a/version", 1, {})])) == 1


def test_a_migration_that_is_killed_anywhere_changes_all_or_nothing(path):
    """At each statement of it, by the progress handler of SQLite; then the next start."""
    step = NEXT._replace(sql="".join(f"CREATE TABLE extra{n} (x);\n" for n in range(12)))
    for kill_at in range(0, 12, 2):
        place = f"{path}-{kill_at}"
        SqliteLedger(place).close()
        pid = os.fork()
        if pid == 0:
            connection = connect(place)
            seen = []

            def trace(statement, seen=seen, kill_at=kill_at):
                seen.append("extra" in statement)
                if sum(seen) > kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

            connection.set_trace_callback(trace)
            migrate(SqliteTables(connection, place), [*migrations(), step])
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        assert not any(name.startswith("extra") for name in tables(place))
        upgrade(place, step)
        assert sum(name.startswith("extra") for name in tables(place)) == 12


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_five_processes_start_at_once(path, old):
    """One migrates, the others wait; nobody sees "table already exists"."""
    if old:
        SqliteLedger(path).close()
    assert together(5, lambda _: upgrade(path, NEXT)) == [None] * 5
    assert "extra" in tables(path)
    assert os.path.exists(f"{path}.backup-{SCHEMA}") == old


def test_another_programs_database_is_left_alone(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(StoreError, match="another program"):
        SqliteLedger(path)
    assert tables(path) == {"theirs"}


def test_schema_files_are_whole():
    assert [step.number for step in migrations()] == list(range(1, SCHEMA + 1))
    assert all(step.min_reader <= step.min_writer <= step.number for step in migrations())


def test_check_passes_what_is_known(ledger, path):
    connection = connect(path)
    assert check(SqliteTables(connection, path), writing=True) is None
    connection.close()


# ── processes and threads ────────────────────────────────────────────────────────────────────────────────────


def test_a_child_of_a_fork_opens_its_own_connection(ledger):
    ledger.append([Entry("a/version", 1, {})])
    connection = ledger._database._connection
    pid = os.fork()
    if pid == 0:
        try:
            ledger.append([Entry("a/version", 2, {})])
            own = ledger._database._connection is not connection
            ledger.close()
            os._exit(0 if own else 2)
        except BaseException:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    ledger.append([Entry("a/version", 3, {})])
    assert ledger._database._connection is connection
    assert ledger.integrity() == []


def test_a_child_that_only_closes_leaves_the_parent_alone(ledger):
    connection = ledger._database._connection
    connection.execute("BEGIN IMMEDIATE")
    pid = os.fork()
    if pid == 0:
        ledger.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    connection.execute("INSERT INTO meta VALUES ('x', 'y')")
    connection.execute("COMMIT")


def test_use_after_close_is_said(ledger):
    ledger.close()
    with pytest.raises(StoreError, match="closed"):
        ledger.streams()


def test_threads_share_one(ledger):
    faults = []

    def work(number):
        try:
            for turn in range(10):
                ledger.commit(Group(results=[make_result(f"{number}-{turn}")]))
                ledger.streams()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(ledger.recipes()) == 40


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lock_is_waited_for(ledger, path):
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    release.start()
    ledger.append([Entry("a/version", 1, {})])
    release.join()
    other.close()


def test_a_lock_that_stays_is_told(path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_S", 0.02)
    ledger = SqliteLedger(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"locked for .*\n→ Look for"):
        ledger.append([Entry("a/version", 1, {})])
    other.close()
    assert len(ledger.append([Entry("a/version", 1, {})])) == 1
    ledger.close()


def test_a_group_that_fails_is_rolled_back(ledger):
    bad = Run("r", "f", "run", "done", 1.0, None, {}, {"what": object()})
    with pytest.raises(TypeError):
        ledger.commit(Group(results=[make_result("x")], runs=[bad]))
    assert ledger.recipes() == []
    ledger.commit(Group(results=[make_result("x")]))
    assert len(ledger.recipes()) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SQLITE_FULL", "disk is full"),
        ("SQLITE_READONLY_DBMOVED", "read-only"),
        ("SQLITE_BUSY_RECOVERY", "locked for"),
        ("SQLITE_LOCKED_SHAREDCACHE", "locked"),
        ("SQLITE_CORRUPT_VTAB", "damaged"),
        ("SQLITE_NOTADB", "not a ledger"),
        ("SQLITE_CANTOPEN_ISDIR", "cannot be opened"),
        ("SQLITE_IOERR_FSYNC", "disk reported an error"),
        ("SQLITE_MISUSE", "refused"),
    ],
)
def test_every_error_has_a_sentence(name, words):
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorname = name
    told = explain_sqlite(error, "here.db")
    assert words in told.what
    assert "as SQLite says" in told.what
    assert told.hint
    assert told.where == "here.db"


@pytest.mark.parametrize("data", [b"not a database at all " * 200, b"\0" * 5000])
def test_a_file_that_is_no_database(path, data):
    with open(path, "wb") as file:
        file.write(data)
    with pytest.raises(StoreError, match="→"):
        SqliteLedger(path)
    with open(path, "rb") as file:
        assert file.read() == data


def test_a_directory_in_its_place(path):
    os.mkdir(path)
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteLedger(path)


def test_its_directory_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="directory") as caught:
        SqliteLedger(str(tmp_path / "file" / "ledger.db"))
    assert caught.value.facts["errno"] in (errno.ENOTDIR, errno.EEXIST)


def test_a_read_only_ledger_is_read(ledger, path):
    ledger.append([Entry("a/version", 1, {})])
    ledger._database._connection.execute("PRAGMA query_only=1")
    assert len(ledger.stream("a/version")) == 1
    with pytest.raises(StoreError, match="read-only"):
        ledger.append([Entry("a/version", 2, {})])


def test_a_zero_length_file_is_a_new_ledger(path):
    """What a kill before the first transaction leaves."""
    with open(path, "wb"):
        pass
    ledger = SqliteLedger(path)
    assert ledger.streams() == {}
    ledger.close()


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    st.one_of(
        st.text(),
        st.binary(min_size=32, max_size=32).map(bytes.hex),
        st.text("0123456789abcdefABCDEF", min_size=64, max_size=64),
    )
)
def test_keys_come_back(text):
    assert from_key(to_key(text)) == text
    assert -(2**63) <= prefix_of(text.encode("utf-8", "replace").decode()) < 2**63


@given(st.one_of(st.text(st.characters(codec=None), max_size=20), st.binary(max_size=20).map(os.fsdecode)))
def test_texts_come_back(text):
    assert from_text(to_text(text)) == text


def test_two_digests_with_one_prefix_are_told_apart(ledger):
    """Lineage looks by eight bytes; the tree has the last word."""
    from penstock.core.artifact import Artifact

    left, right = (Artifact("ab" * 8 + end * 24, "json", 1) for end in ("00", "ff"))
    users = [make_result("l", (left,)), make_result("r", (right,))]
    ledger.commit(Group(results=users))
    assert ledger.users(left.digest) == users[:1]
    assert ledger.users(right.digest) == users[1:]


# ── speed ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ten_thousand_steps_are_linear_and_quick(ledger):
    """A gross fault only (a scan a row, a transaction a row): figures are in the benchmarks."""
    results, last = [], ()
    for number in range(10_000):
        results.append(make_result(f"n{number}", last, inline=True))
        last = results[-1].outputs
    spent = time.process_time()
    for start in range(0, 10_000, 200):
        part = list(enumerate(results[start : start + 200], start))
        ledger.commit(
            Group(
                results=[result for _, result in part],
                step_runs=[make_step_run(result, "r", f"s{number}") for number, result in part],
                decided=[("flow", make_decided(result, f"s{number}")) for number, result in part],
            )
        )
    committed = time.process_time() - spent
    spent = time.process_time()
    assert len(ledger.results([result.recipe for result in results])) == 10_000
    assert len(ledger.decided("flow")) == 10_000
    assert time.process_time() - spent < 3.0
    assert committed < 4.0
