"""What only the PostgreSQL ledger promises: lost connections and answers, its types, migrations, forks and roles."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.run import Entry, Group, Run, SourceStat
from penstock.errors import ConfigurationError, ConflictError, MissingExtraError, StoreError, StoreTooNewError
from penstock.project import open_ledger
from penstock.store import postgres as pg
from penstock.store.migrate import SCHEMA, Migration, migrate, migrations
from penstock.store.postgres_ledger import PostgresLedger
from penstock.store.postgres_tables import PostgresTables
from penstock.store.postgres_text import escape, key_bytes, key_of, unescape
from penstock.store.rows import to_key
from penstock.testing.ledger_suite import CODE, make_decided, make_result, make_step_run
from penstock.testing.postgres import SCRAM_GROUP, PostgresServer
from penstock.testing.postgres_proxy import PostgresProxy
from penstock.testing.together import together


@pytest.fixture
def ledger(postgres):
    yield (ledger := PostgresLedger(postgres))
    ledger.close()


@pytest.fixture
def proxy(postgres_server):
    yield (proxy := PostgresProxy(postgres_server.port))
    proxy.close()


@pytest.fixture
def distant(postgres, proxy):
    """A ledger behind the proxy."""
    yield (ledger := PostgresLedger(proxy.url(postgres.rpartition("/")[2])))
    ledger.close()


def group_of(number, run="r", first=0):
    results = [make_result(f"n{n}", inline=True) for n in range(first, first + number)]
    return Group(
        runs=[Run(run, "flow", "run", "running", 1.0)],
        codes={CODE: {"a": "x"}},
        results=results,
        step_runs=[make_step_run(result, run, f"s{n}") for n, result in enumerate(results)],
        decided=[("flow", make_decided(result, f"s{n}")) for n, result in enumerate(results)],
        sources=[SourceStat("f", (1, 2, 3), CODE)],
    )


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────

TEXTS = st.one_of(st.text(st.characters(codec=None), max_size=20), st.text("\x00\x10\ud800a", max_size=8))


@given(TEXTS, TEXTS)
def test_an_escaped_text_comes_back_and_keeps_its_beginning(text, more):
    assert unescape(escape(text)) == text
    assert escape(text + more).startswith(escape(text))
    escape(text).encode()
    assert "\x00" not in escape(text)


@given(st.one_of(TEXTS, st.binary(min_size=32, max_size=32).map(bytes.hex), st.text("ab", min_size=28, max_size=34)))
def test_a_key_comes_back_as_bytes(text):
    key = to_key(text)
    assert key_of(key_bytes(key)) == key
    assert (len(key_bytes(key)) == 32) == isinstance(key, bytes)


def test_hard_texts_come_back_from_every_column(ledger):
    numbers = itertools.count()

    @settings(max_examples=25)
    @given(st.lists(TEXTS, min_size=5, max_size=5))
    def law(texts):
        stream, who, why, flow, key = texts
        stream = f"s{next(numbers)}/{stream}"
        entry = Entry(stream, 1, {"x": [texts, 2**70, 1.5e308]}, 12.345678901234567, who, why)
        assert ledger.append([entry], key=f"{stream}{key}") == [entry]
        assert ledger.append([entry], key=f"{stream}{key}") == [entry]
        assert ledger.stream(stream) == [entry]
        assert ledger.streams(stream) == {stream: 1}
        result = make_result(repr(texts))
        ledger.commit(
            Group(
                runs=[Run(f"id{stream}", flow, "run", "done", 0.1, None, {}, {"x": texts})],
                step_runs=[make_step_run(result, f"id{stream}", why)],
                decided=[(flow, make_decided(result, who))],
                sources=[SourceStat(stream, (2**64, 2**63, -1), key)],
                codes={key: {who: why}},
            )
        )
        assert ledger.runs(prefix=f"id{stream}")[0].flow == flow
        assert [row.step for row in ledger.step_runs(f"id{stream}")] == [why]
        assert ledger.decided(flow)[who] == make_decided(result, who)
        assert ledger.sources([stream])[stream].digest == key
        assert key in ledger.codes([key])

    law()


def test_numbers_of_64_bits(ledger):
    row = make_step_run(make_result("x"), "r", "s")
    row = type(row)(*[getattr(row, name) for name in row.__slots__[:-1]], 2**63 - 1)
    ledger.commit(Group(step_runs=[row]))
    assert ledger.step_runs("r") == [row]


def test_a_changed_entry_is_told(ledger, postgres):
    ledger.append([Entry("a/version", 1, {"x": 1})])
    with psycopg.connect(postgres) as other:
        other.execute("UPDATE penstock.entry SET body = '{\"x\":2}'")
    with pytest.raises(StoreError, match="changed after it was written"):
        ledger.stream("a/version")


# ── round trips ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [1, 200])
def test_a_group_costs_two_round_trips_whatever_its_size(distant, proxy, number):
    distant.commit(group_of(1, "warm"))
    before = proxy.seen.turns
    distant.commit(group_of(number, first=10))
    assert proxy.seen.turns - before <= 3  # the second may come in two pieces
    assert len(distant.recipes()) == number + 1


def test_a_read_costs_two(distant, proxy):
    distant.commit(group_of(50))
    before = proxy.seen.turns
    assert len(distant.decided("flow")) == 50
    assert proxy.seen.turns - before == 2


# ── a commit whose answer was lost ───────────────────────────────────────────────────────────────────────────

WRITES = {
    "group": lambda ledger: ledger.commit(group_of(3)),
    "append": lambda ledger: ledger.append([Entry("a/version", 1, {"x": 1})]),
    "append two": lambda ledger: ledger.append([Entry("a/alias/champion", 1, {}), Entry("a/deployment", 1, {})]),
    "append with a key": lambda ledger: ledger.append([Entry("a/version", 1, {"x": 1})], key="k"),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("lost", [1, 3])
def test_a_commit_whose_answer_was_lost_counts_once(distant, proxy, postgres, write, lost):
    proxy.lose = lost
    told = WRITES[write](distant)
    assert proxy.seen.lost >= 1
    proxy.lose = 0
    assert len({(e.stream, e.number) for e in told or ()}) == len(told or ())
    for entry in told or ():
        assert distant.stream(entry.stream) == [entry]
    if write == "group":
        assert (len(distant.recipes()), len(distant.step_runs("r")), len(distant.runs())) == (3, 3, 1)
        assert distant.integrity() == []
    with psycopg.connect(postgres) as other:
        assert other.execute("SELECT count(*) FROM penstock.entry").fetchone() == (len(told or ()),)


def test_results_are_forgotten_once(distant, proxy):
    distant.commit(group_of(3))
    proxy.lose = 1
    distant.forget(distant.recipes())
    assert distant.recipes() == []
    assert len(distant.decided("flow")) == 3


def test_a_lost_answer_does_not_hide_that_another_was_first(distant, proxy, ledger):
    ledger.append([Entry("a/version", 1, {"theirs": 1})])
    proxy.lose = 1
    with pytest.raises(ConflictError) as caught:
        distant.append([Entry("a/version", 1, {"ours": 1})])
    assert caught.value.facts["head"].body == {"theirs": 1}


@pytest.mark.parametrize("seed", range(6))
def test_cut_anywhere_counts_once_or_not_at_all(distant, proxy, ledger, seed, monkeypatch):
    """At any byte that the client sends; the line then stays well, so that all gets through."""
    rng = random.Random(seed)
    for number in range(1, 6):
        distant.close()
        proxy.cut_after = rng.randint(2, 6_000)
        threading.Timer(0.2, lambda: setattr(proxy, "cut_after", None)).start()
        try:
            distant = PostgresLedger(proxy.url(ledger.path.rpartition("/")[2]))
        except StoreError:
            proxy.cut_after = None
            distant = PostgresLedger(proxy.url(ledger.path.rpartition("/")[2]))
        [entry] = distant.append([Entry("a/version", number, {"n": number})])
        distant.commit(group_of(2, f"r{number}", first=10 * number))
        assert ledger.stream("a/version", after=number - 1) == [entry]
        assert len(ledger.recipes()) == 2 * number
    distant.close()


class Doubles(PostgresLedger):
    """Sends what may have been written again, as if it were new: the rule that the tests above hold."""

    def append(self, entries, *, key=None):
        while True:
            try:
                return super().append(entries, key=key)
            except ConflictError as error:
                entries = [type(e)(e.stream, error.facts["head"].number + 1, e.body) for e in entries]

    def _request_key(self):
        return None


def test_control_a_ledger_that_retries_blindly_writes_twice(postgres, proxy):
    ledger = Doubles(proxy.url(postgres.rpartition("/")[2]))
    proxy.lose = 1
    ledger.append([Entry("a/version", 1, {"x": 1})])
    assert len(ledger.stream("a/version")) == 2
    ledger.close()


# ── a lost server ────────────────────────────────────────────────────────────────────────────────────────────


def terminate(url):
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'penstock' "
            "AND datname = current_database()"
        )


def test_an_ended_session_is_begun_again(ledger, postgres):
    ledger.append([Entry("a/version", 1, {})])
    for number in range(2, 6):
        terminate(postgres)
        assert ledger.streams() == {"a/version": number - 1}
        terminate(postgres)
        ledger.append([Entry("a/version", number, {})])


def test_a_restart_of_the_server_is_waited_for():
    """The server is started by this thread: it ends with the thread that started it."""
    server = PostgresServer()
    try:
        ledger = PostgresLedger(server.url(server.create_database()))
        ledger.append([Entry("a/version", 1, {"x": 1})])
        found = []
        for how, ask in (
            (signal.SIGQUIT, lambda: found.append(len(ledger.stream("a/version")))),
            (signal.SIGINT, lambda: ledger.append([Entry("a/version", 2, {"x": 1})])),
        ):
            server.stop(how)
            thread = threading.Thread(target=ask)
            thread.start()
            time.sleep(0.3)
            server.start()
            thread.join(10)
        assert found == [1]
        assert [entry.number for entry in ledger.stream("a/version")] == [1, 2]
        ledger.close()
    finally:
        server.close()


def test_a_server_that_is_away_is_told_in_time(distant, proxy, monkeypatch):
    monkeypatch.setattr(pg, "RECONNECT_S", 0.4)
    distant.append([Entry("a/version", 1, {})])
    proxy.down()
    for ask in (distant.streams, lambda: distant.append([Entry("a/version", 2, {})])):
        begun = time.monotonic()
        with pytest.raises(StoreError, match="cannot be reached") as caught:
            ask()
        assert time.monotonic() - begun < 10  # `RECONNECT_S` is 15
        assert "Is the server up" in caught.value.hint
    begun = time.monotonic()
    with pytest.raises(StoreError, match="cannot be reached"):
        PostgresLedger(f"postgresql://ana:s3cret@127.0.0.1:{proxy.port}/x")
    assert time.monotonic() - begun < 10  # `RECONNECT_S` is 15
    proxy.up()
    assert distant.streams() == {"a/version": 1}


def test_a_race_after_a_long_absence_is_run_again(ledger, monkeypatch):
    """Attempts to connect are not counted as lost races."""
    monkeypatch.setattr(pg.time, "sleep", lambda seconds: None)
    left = [psycopg.OperationalError("away")] * 3 * pg.TRIES + [psycopg.errors.UniqueViolation("raced")]

    def work(connection, committing):
        if left:
            raise left.pop(0)
        return "done"

    assert ledger._database._again(work) == "done"


def test_what_is_not_known_is_said(distant, proxy, monkeypatch):
    monkeypatch.setattr(pg, "RECONNECT_S", 0.3)
    proxy.lose = 10**6
    with pytest.raises(StoreError, match="not known"):
        distant.append([Entry("a/version", 1, {})], key="k")
    proxy.lose = 0
    assert len(distant.append([Entry("a/version", 1, {})], key="k")) == 1
    assert distant.streams() == {"a/version": 1}


def test_a_server_that_says_nothing_is_given_up(distant, proxy, monkeypatch):
    monkeypatch.setattr(pg, "RECONNECT_S", 0.3)
    monkeypatch.setattr(pg, "ANSWER_S", 0.4)
    monkeypatch.setattr(pg, "CONNECT_S", 2)
    proxy.frozen = True
    begun = time.monotonic()
    with pytest.raises(StoreError, match="cannot be reached"):
        distant.streams()
    assert time.monotonic() - begun < 30  # `ANSWER_S` is 75
    proxy.frozen = False
    assert distant.streams() == {}


def test_a_lock_is_not_waited_for_for_ever(postgres, monkeypatch):
    monkeypatch.setattr(pg, "LOCK_S", 1)
    ledger = PostgresLedger(postgres)
    with psycopg.connect(postgres) as other:
        other.execute("INSERT INTO penstock.entry VALUES ('a/version', 1, '{}', 0, '', '', '')")
        with pytest.raises(StoreError, match="held a lock"):
            ledger.append([Entry("a/version", 1, {})])
        other.rollback()
    assert len(ledger.append([Entry("a/version", 1, {})])) == 1
    ledger.close()


def test_a_client_that_hangs_in_a_transaction_stops_nobody(postgres, monkeypatch):
    monkeypatch.setattr(pg, "IDLE_S", 1)
    left, right = PostgresLedger(postgres), PostgresLedger(postgres)
    left._database._connection.execute("BEGIN")
    left._database._connection.execute("INSERT INTO entry VALUES ('a/version', 1, '{}', 0, '', '', '')")
    assert len(right.append([Entry("a/version", 1, {})])) == 1
    assert left.streams() == {"a/version": 1}
    left.close()
    right.close()


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_password_is_told(postgres, postgres_server, monkeypatch, capfd, tmp_path):
    user = f"ana{os.getpid()}"
    postgres_server.execute(f"CREATE ROLE {user} LOGIN PASSWORD 's3cret' IN ROLE {SCRAM_GROUP}")
    postgres_server.execute(f"GRANT CREATE ON DATABASE {postgres.rpartition('/')[2]} TO {user}")
    try:
        url = postgres.replace("penstock@", f"{user}@")
        secret = postgres.replace("penstock@", f"{user}:s3cret@")
        told = []
        for bad in (url, postgres.replace("penstock@", f"{user}:wr0ng@"), f"{secret}-none", f"{secret}?x%y=1"):
            with pytest.raises((StoreError, ConfigurationError)) as caught:
                open_ledger(bad)
            told.append(f"{caught.value!r} {caught.value} {caught.value.to_json()} {caught.value.facts}")
        assert "PGPASSWORD" in told[0]
        assert not any(word in "".join(told) for word in ("s3cret", "wr0ng"))
        monkeypatch.setenv("PGPASSWORD", "s3cret")
        ledger = open_ledger(url)
        assert "s3cret" not in ledger.path
        ledger.append([Entry("a/version", 1, {})])
        ledger.close()
        monkeypatch.delenv("PGPASSWORD")
        passfile = tmp_path / "pgpass"
        passfile.write_text(f"*:*:*:{user}:s3cret\n")
        passfile.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(passfile))
        ledger = open_ledger(url)
        assert ledger.streams() == {"a/version": 1}
        ledger.close()
    finally:
        postgres_server.execute(f"REASSIGN OWNED BY {user} TO penstock", database=postgres.rpartition("/")[2])
        postgres_server.execute(f"DROP OWNED BY {user}", database=postgres.rpartition("/")[2])
        postgres_server.execute(f"DROP ROLE {user}")


def test_encryption_that_is_asked_for_is_not_done_without(postgres):
    with pytest.raises(StoreError, match="SSL"):
        PostgresLedger(f"{postgres}?sslmode=require")


# ── migrations ───────────────────────────────────────────────────────────────────────────────────────────────

NEXT = Migration(SCHEMA + 1, "-- one more\nCREATE TABLE extra (x text);\nINSERT INTO extra VALUES (';');\n", 1, 1)
BREAKING = NEXT._replace(min_reader=SCHEMA + 1, min_writer=SCHEMA + 1)
READABLE = NEXT._replace(min_writer=SCHEMA + 1)


def upgrade(url, step):
    connection = pg.connect(url)
    try:
        migrate(PostgresTables(connection), [*migrations("postgresql"), step])
    finally:
        connection.close()


def tables(url, schema="penstock"):
    with psycopg.connect(url) as other:
        return {n for (n,) in other.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,))}


def test_both_dialects_have_the_same_tables(ledger, postgres, tmp_path):
    import sqlite3

    from penstock.store.ledger import SqliteLedger

    local = SqliteLedger(str(tmp_path / "ledger.db"))
    local.close()
    db = sqlite3.connect(local.path)
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    columns = {n: {row[1] for row in db.execute(f"PRAGMA table_info({n})")} for n in names}
    db.close()
    assert tables(postgres) == names
    with psycopg.connect(postgres) as other:
        query = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'penstock' AND table_name = %s"
        assert {name: {c for (c,) in other.execute(query, (name,))} for name in names} == columns
    assert [m.number for m in migrations("postgresql")] == [m.number for m in migrations("sqlite")]


def test_a_migration_keeps_a_copy(ledger, postgres):
    [entry] = ledger.append([Entry("a/version", 1, {"x": 1})])
    ledger.close()
    upgrade(postgres, BREAKING)
    assert "extra" in tables(postgres)
    assert tables(postgres, f"penstock_backup_{SCHEMA}") == tables(postgres) - {"extra"}
    with pytest.raises(StoreTooNewError, match=f"schema {SCHEMA + 1}; this Penstock knows schema {SCHEMA}"):
        PostgresLedger(postgres)
    with psycopg.connect(postgres) as other:  # the way back
        other.execute("TRUNCATE penstock.entry, penstock.meta")
        for name in ("entry", "meta"):
            other.execute(f"INSERT INTO penstock.{name} SELECT * FROM penstock_backup_{SCHEMA}.{name}")
    again = PostgresLedger(postgres)
    assert again.stream("a/version") == [entry]
    again.close()


def test_a_program_that_was_open_during_the_migration_writes_no_more(ledger, postgres):
    ledger.append([Entry("a/version", 1, {})])
    upgrade(postgres, READABLE)
    for write in (lambda: ledger.append([Entry("a/version", 2, {})]), lambda: ledger.commit(Group(codes={"x": {}}))):
        with pytest.raises(StoreTooNewError, match="may not write"):
            write()
    assert len(ledger.stream("a/version")) == 1


def test_an_added_table_stops_nobody(ledger, postgres):
    upgrade(postgres, NEXT)
    assert len(ledger.append([Entry("a/version", 1, {})])) == 1


def test_a_migration_waits_for_writers(ledger, postgres):
    """A transaction that has looked at the schema ends before it changes."""
    connection = ledger._database._connection
    connection.execute("BEGIN")
    PostgresLedger._check(connection)
    thread = threading.Thread(target=upgrade, args=(postgres, READABLE))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    connection.execute("INSERT INTO code VALUES ('x', 'y')")
    connection.execute("COMMIT")
    thread.join(10)
    assert not thread.is_alive()


def test_a_migration_that_fails_changes_nothing(ledger, postgres):
    with pytest.raises(psycopg.errors.DuplicateTable):
        upgrade(postgres, NEXT._replace(sql=NEXT.sql + "CREATE TABLE entry (already text);"))
    assert "extra" not in tables(postgres)
    assert tables(postgres, f"penstock_backup_{SCHEMA}") == set()
    assert len(ledger.append([Entry("a/version", 1, {})])) == 1


def test_a_migration_that_is_killed_anywhere_changes_all_or_nothing(ledger, postgres):
    ledger.append([Entry("a/version", 1, {})])
    step = NEXT._replace(sql="".join(f"CREATE TABLE extra{n} (x text);\n" for n in range(4)))
    kill_at, ended = 0, -1
    while ended != 0:
        kill_at += 1
        pid = os.fork()
        if pid == 0:
            connection = pg.connect(postgres)
            true, left = connection.execute, [kill_at]

            def execute(*args, true=true, left=left):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return true(*args)

            connection.execute = execute
            migrate(PostgresTables(connection), [*migrations("postgresql"), step])
            os._exit(0)
        ended = os.waitpid(pid, 0)[1]
        extra = {name for name in tables(postgres) if name.startswith("extra")}
        assert len(extra) == (4 if ended == 0 else 0)
    assert kill_at > 15  # every statement was one
    assert len(ledger.stream("a/version")) == 1


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_five_processes_start_at_once(postgres, old):
    if old:
        PostgresLedger(postgres).close()
    assert together(5, lambda _: upgrade(postgres, NEXT)) == [None] * 5
    assert "extra" in tables(postgres)


def test_another_programs_schema_is_left_alone(postgres):
    with psycopg.connect(postgres) as other:
        other.execute("CREATE SCHEMA penstock; CREATE TABLE penstock.theirs (x int)")
    with pytest.raises(StoreError, match="another program"):
        PostgresLedger(postgres)
    assert tables(postgres) == {"theirs"}


# ── processes and threads ────────────────────────────────────────────────────────────────────────────────────


def test_a_child_of_a_fork_has_its_own_connection(ledger):
    ledger.append([Entry("a/version", 1, {})])
    connection = ledger._database._connection
    for end in ("append", "close"):
        pid = os.fork()
        if pid == 0:
            try:
                if end == "append":
                    ledger.append([Entry("a/version", 2, {})])
                own = ledger._database._connection is not connection
                ledger.close()
                os._exit(0 if own or end == "close" else 2)
            except BaseException:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
    ledger.append([Entry("a/version", 3, {})])
    assert ledger._database._connection is connection


def test_groups_at_once_wait_for_each_other_and_never_in_a_circle(postgres):
    """Five writers of the same keys in different orders."""
    faults = []

    def work(number):
        ledger = PostgresLedger(postgres)
        rng = random.Random(number)
        try:
            for turn in range(4):
                group = group_of(30, run=f"{number}-{turn}")
                for rows in (group.results, group.decided):
                    rng.shuffle(rows)
                ledger.commit(group)
                if turn % 4 == 3:
                    ledger.forget([result.recipe for result in group.results[:10]])
        except BaseException as error:
            faults.append(error)
        finally:
            ledger.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    ledger = PostgresLedger(postgres)
    assert ledger.integrity() == []
    assert len(ledger.runs()) == 20
    assert len(ledger.decided("flow")) == 30
    ledger.close()


def test_use_after_close_is_said(ledger):
    ledger.close()
    with pytest.raises(StoreError, match="closed"):
        ledger.streams()


# ── who may what ─────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_release_role_the_ledger_says_nothing(ledger):
    assert ledger.may_release() is None
    assert ledger.server()["writable"] is True


def test_a_project_names_its_ledger_by_url(postgres, tmp_path, monkeypatch):
    from penstock.lifecycle.checkup import checkup
    from penstock.project import open_home

    monkeypatch.setenv("DB", postgres.rpartition("/")[2])
    (tmp_path / "penstock.toml").write_text(f'ledger = "{postgres.rpartition("/")[0]}/${{DB}}"\n')
    home = open_home(str(tmp_path))
    found = checkup(home)
    assert found["problems"] == []
    assert found["ledger"]["server"].startswith("PostgreSQL ")
    assert found["ledger"]["may_release"] is None
    assert not (tmp_path / ".penstock" / "ledger.db").exists()
    home.ledger.close()


def test_the_extra_that_is_missing_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("penstock.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError) as caught:
        open_ledger("postgresql://db/x")
    assert caught.value.hint == "pip install 'penstock[postgres]'"


def test_a_local_ledger_loads_no_driver():
    program = (
        "import sys, tempfile; from penstock.project import open_home; open_home(tempfile.mkdtemp()).ledger.close(); "
        "assert not [name for name in sys.modules if name.startswith('psycopg')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_error_has_a_sentence():
    for state, words in (("53100", "disk is full"), ("57014", "gave up"), ("42501", "may not"), ("99999", "refused")):
        error = psycopg.errors.lookup(state)("as it says") if state != "99999" else psycopg.ProgrammingError("odd")
        told = pg.explain_postgres(error, "here")
        assert words in told.what
        assert told.hint
        assert told.where == "here"
