"""Queries: typed exactly, read in one state of the database, in an order of their own, and never written to it."""

import datetime as dt
import decimal
import os
import sqlite3
import time

import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.core.artifact import Written
from penstock.core.query import Query
from penstock.errors import DataError, DeclarationError, PenstockError, SourceNotFoundError
from penstock.stages import sql, sql_types
from penstock.stages.sql_order import has_order, in_order

D = decimal.Decimal


@pytest.fixture
def lite(tmp_path):
    """Make a SQLite file of statements, read a query of it."""

    def make(*statements, query="t", params=None, **options):
        connection = sqlite3.connect(tmp_path / "t.db")
        for statement in statements:
            connection.execute(*statement) if isinstance(statement, tuple) else connection.execute(statement)
        connection.commit()
        connection.close()
        return sql.read(Query("sqlite:///t.db", query, folder=str(tmp_path), **options), params=params)

    return make


FOUR = (
    "create table t (id integer, city text, spent real, day text)",
    "insert into t values (3, 'Ulm', 1.5, '2026-01-03'), (1, 'Bern', null, null)",
    "insert into t values (2, null, 2.0, '2026-01-02 10:30:00')",
)


def test_a_table_by_its_name(lite):
    table, sniffed = lite(*FOUR, dates=("day",))
    assert table.to_pydict() == {
        "id": [1, 2, 3],
        "city": ["Bern", None, "Ulm"],
        "spent": [None, 2.0, 1.5],
        "day": [None, dt.datetime(2026, 1, 2, 10, 30), dt.datetime(2026, 1, 3)],
    }
    assert [str(kind) for kind in table.schema.types] == ["int64", "string", "double", "timestamp[us]"]
    assert sniffed["summary"] == "sqlite · 3 × 4"
    assert "20" not in str({k: v for k, v in sniffed.items() if k != "types"})  # nothing of the moment


def test_rows_without_an_order_are_put_in_one_and_an_order_is_kept(lite):
    assert lite(*FOUR, query="select id from t")[0]["id"].to_pylist() == [1, 2, 3]
    assert lite(query="select id from t order by id desc")[0]["id"].to_pylist() == [3, 2, 1]


@given(rows=st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3)), st.sampled_from(["a", "b", None])), min_size=1))
def test_law_equal_rows_give_one_table_whatever_order_they_come_in(rows):
    def table(some):
        return pa.table(
            {"a": pa.array([a for a, _ in some], pa.int64()), "b": pa.array([b for _, b in some], pa.string())}
        )

    assert in_order(table(rows)).equals(in_order(table(rows[::-1])))


@pytest.mark.parametrize(
    ("text", "ordered"),
    [
        ("select 1 ORDER  BY 1", True),
        ("select a from (select a from t order by a) x", False),
        ("with x as (select 1 order by 1) select * from x", False),
        ("select 'order by'", False),
        ('select "order by" from t', False),
        ("select 1 /* order by 1 */ -- order by 2", False),
        ("select $$ order by $$", False),
        ("select f(order_by) from t", False),
        ("select (select 1) order by 1 limit 5", True),
    ],
)
def test_an_order_counts_where_it_orders_the_rows(text, ordered):
    assert has_order(text) == ordered


def test_parameters_are_bound_and_lists_expanded(lite):
    hostile = "Bern' or '1'='1"
    with pytest.raises(DataError, match="gives no rows"):
        lite(*FOUR, query="select * from t where city = :city", params={"city": hostile})
    found = lite(
        query="select id from t where id in :ids and city like '%n:x' or id = :one", params={"ids": [1, 2], "one": 3}
    )
    assert found[0]["id"].to_pylist() == [3]


def test_without_parameters_a_colon_and_a_percent_sign_are_themselves(lite):
    assert lite(query="select ':x' a, '12:30' b, '100%' c")[0].to_pylist() == [{"a": ":x", "b": "12:30", "c": "100%"}]


def test_parameters_that_do_not_fit_are_told_at_once(lite):
    with pytest.raises(DeclarationError) as raised:
        lite(query="select :a + :b", params={"a": 1, "c": 2})
    assert len(raised.value.faults) == 2


@pytest.mark.parametrize(
    ("values", "kind", "cells"),
    [
        ([1, None, 2], "int64", [1, None, 2]),
        ([True, None], "bool", [True, None]),
        ([1, 2.5], "double", [1.0, 2.5]),
        ([float("nan"), 1.0], "double", [None, 1.0]),
        ([D("1.10"), D("NaN")], "double", [1.1, None]),
        ([D("1"), None], "int64", [1, None]),
        ([D("123456789012345678.5")], "string", ["123456789012345678.5"]),
        ([2**63, 1], "string", ["9223372036854775808", "1"]),
        ([2**53 + 1, 0.5], "string", ["9007199254740993", "0.5"]),
        ([dt.date(2026, 1, 2), None], "timestamp[us]", [dt.datetime(2026, 1, 2), None]),
        ([dt.datetime(2026, 1, 2, 3)], "timestamp[us]", [dt.datetime(2026, 1, 2, 3)]),
        (
            [dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2)))],
            "timestamp[us, tz=UTC]",
            [dt.datetime(2026, 1, 1, 22, tzinfo=dt.UTC)],
        ),
        ([None, None], "double", [None, None]),
        (["a", 1, None], "string", ["a", "1", None]),
        (["", "0123"], "string", ["", "0123"]),
    ],
)
def test_values_keep_their_worth(values, kind, cells):
    array = sql_types.array_of(values, sql_types.kind_of(values, "query", "x").word)
    assert str(array.type) == kind
    assert array.to_pylist() == cells


@pytest.mark.parametrize("value", [b"x", memoryview(b"x"), dt.timedelta(1), dt.time(1), {"a": 1}, [1], (1,)])
def test_what_is_no_cell_is_refused_with_its_cure(value):
    with pytest.raises(DataError, match=r"column 'x' holds .*numbers, booleans, text and times") as raised:
        sql_types.kind_of([None, value], "query", "x")
    assert raised.value.hint


def test_a_column_is_typed_on_all_blocks_together(lite, monkeypatch):
    monkeypatch.setattr(sql, "BLOCK_ROWS", 1)
    table, sniffed = lite(
        "create table t (n, a, b, c)",
        "insert into t values (1, null, 1, 1), (2, 'x', 2.5, 'y'), (3, null, null, 9007199254740993)",
        query="select * from t order by n",
    )
    assert table["a"].to_pylist() == [None, "x", None]
    assert table["b"].to_pylist() == [1.0, 2.5, None]
    assert table["c"].to_pylist() == ["1", "y", "9007199254740993"]
    assert sniffed["notes"] == ["kept as text, since it holds values of several types: c"]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_large_result_is_written_block_by_block_with_the_same_rows(lite, monkeypatch, ordered):
    rows = ("with recursive n(i) as (select 0 union all select i + 1 from n where i < 49999) "
            "select (i * 7919) % 50000 a, 'text ' || i b from n" + (" order by a" if ordered else ""))  # fmt: skip
    small, _ = lite(query=rows)
    monkeypatch.setattr(sql, "SPILL", 200_000)
    large, sniffed = lite(query=rows)
    assert isinstance(large, Written)
    read = pa.parquet.read_table(large.path)
    assert read.to_pydict() == small.to_pydict()
    assert sniffed["types"] == [["a", "int64"], ["b", "string"]]
    os.unlink(large.path)


@pytest.mark.parametrize(("limit", "what"), [({"max_rows": 2}, "max_rows=2"), ({"max_bytes": 10}, "max_bytes=10")])
def test_limits_hold(lite, limit, what):
    with pytest.raises(DataError, match=what):
        lite(*FOUR, **limit)


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("select * from absent", "no such table: absent"),
        ("selec 1", "syntax error"),
        ("select 1 a, 2 a", "occur more than once: 'a'"),
        ("select 1 where 0", "gives no rows"),
        ("select x'00' a", "holds bytes"),
        ("delete from t", "readonly|not authorized|attempt to write|refused"),
    ],
)
def test_what_the_database_refuses_is_told_in_a_sentence(lite, query, what):
    with pytest.raises(DataError, match=what):
        lite(*FOUR, query=query)


def test_nothing_can_be_written(lite, tmp_path):
    before = None
    for statement in ("delete from t", "create table u (a)", "update t set id = 9"):
        with pytest.raises(PenstockError):
            lite(*([] if before else FOUR), query=statement)
        now = (tmp_path / "t.db").read_bytes()
        assert before in (None, now)
        before = now


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(SourceNotFoundError, match=r"no such file: .*absent\.db"):
        sql.read(Query("sqlite:///absent.db", "t", folder=str(tmp_path)))
    assert not (tmp_path / "absent.db").exists()


# ── declaring ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@host/db",
        "postgresql+psycopg://me:hunter2@host:5432/db",
        "mysql://host/db?password=hunter2",
        "postgresql://me@host/db?sslpassword=hunter2&x=1",
        "snowflake://host/?Token=hunter2",
        "postgresql://me:hunter2/slash@host/db",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3D{x}%3BUID%3Dme%3BPWD%3Dhunter2",
    ],
)
def test_a_password_in_a_url_is_refused_with_the_cure_and_not_repeated(url):
    with pytest.raises(DeclarationError, match=r'holds a password.*secret=ps\.Secret\("env:DB_PASSWORD"\)') as raised:
        ps.read(url, query="select 1")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["sqlite:///crm.db", "sqlite+pysqlite:///crm.db"])
def test_a_file_of_sqlite_takes_no_password(url):
    with pytest.raises(DeclarationError, match="an SQLite file has no password; leave it out"):
        ps.read(url, query="select 1", secret=ps.Secret("env:CRM_PASSWORD"))


def test_faults_of_a_query_come_together():
    with pytest.raises(DeclarationError) as raised:
        ps.read("postgresql://host/db", params={"a": ps.read("a.csv")}, refresh="often", secret="hunter2")
    assert len(raised.value.faults) == 4
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(("word", "value"), [("params", {"a": 1}), ("refresh", "1d"), ("secret", ps.Secret("env:X"))])
def test_what_means_nothing_for_a_file_is_refused(word, value):
    with pytest.raises(DeclarationError, match=f"read: {word}=: "):
        ps.read("a.csv", **{word: value})


def test_a_file_of_sql_is_read_when_declared_and_its_text_counts(tmp_path):
    (tmp_path / "churn.sql").write_text("-- all\nselect * from t;\n")
    declared = {"__name__": "flows", "__file__": str(tmp_path / "flows.py"), "ps": ps}
    exec("import pathlib\na = ps.read('sqlite:///t.db', query='churn.sql')\n"
         "b = ps.read('sqlite:///t.db', query=pathlib.Path('churn.sql'))", declared)  # fmt: skip
    from penstock.core.step import call_of

    for ref in (declared["a"], declared["b"]):
        assert repr(ref) == "<Ref churn>"
        assert call_of(ref).args[0].options() == {"url": "sqlite:///t.db", "query": "-- all\nselect * from t"}


# ── a real server ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def server(postgres):
    """Run statements on a real PostgreSQL server; read a query of it."""
    engine = sa.create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")

    def execute(*statements):
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    execute.read = lambda query, params=None, **more: sql.read(Query(postgres, query, **more), params=params)
    execute.url = postgres
    yield execute
    engine.dispose()


def test_types_of_a_real_server(server):
    server(
        "create table t (id bigint, ok boolean, price numeric(10, 2), big numeric, day date, at timestamp, "
        "seen timestamptz, name text, code uuid, n smallint, f float8, empty int)",
        "insert into t values (2, true, 1.10, 12345678901234567890.5, '2026-01-02', '2026-01-02 03:04:05', "
        "'2026-01-02 03:04:05+02', 'ü', '00000000-0000-0000-0000-000000000001', 3, 'NaN', null), "
        "(1, null, null, null, null, null, null, null, null, null, null, null)",
    )
    table, sniffed = server.read("t")
    assert sniffed["summary"] == "postgresql · 2 × 12"
    assert [str(kind) for kind in table.schema.types] == [
        "int64", "bool", "double", "string", "timestamp[us]", "timestamp[us]", "timestamp[us, tz=UTC]", "string",
        "string", "int64", "double", "double",
    ]  # fmt: skip
    assert table.slice(1).to_pylist() == [
        {
            "id": 2, "ok": True, "price": 1.1, "big": "12345678901234567890.5", "day": dt.datetime(2026, 1, 2),
            "at": dt.datetime(2026, 1, 2, 3, 4, 5), "seen": dt.datetime(2026, 1, 2, 1, 4, 5, tzinfo=dt.UTC),
            "name": "ü", "code": "00000000-0000-0000-0000-000000000001", "n": 3, "f": None, "empty": None,
        }
    ]  # fmt: skip


def test_a_real_server_binds_casts_and_percent_signs(server):
    table, _ = server.read(
        "select x::int as x, '50%%' as p from unnest(array[1, 2, 3]) x where x in :some and 'a' like :like",
        {"some": [2, 3], "like": "a%"},
    )
    assert table["x"].to_pylist() == [2, 3]
    assert server.read("select '50%' as p, 1::int as n")[0].to_pylist() == [{"p": "50%", "n": 1}]


def test_nothing_can_be_written_to_a_real_server(server):
    server("create table t (a int)", "insert into t values (1)", "create sequence s")
    for query in (
        "delete from t returning a",
        "select nextval('s')",
        "with x as (insert into t values (2) returning a) select * from x",
    ):
        with pytest.raises(DataError, match=r"read-only transaction|must not contain data-modifying|refused"):
            server.read(query)
    assert server.read("t")[0].num_rows == 1


class Heard:
    """A connection that keeps what it is told."""

    def __init__(self):
        self.said = []

    def exec_driver_sql(self, text):
        self.said.append(text)

    def commit(self):
        self.said.append("COMMIT")


@pytest.mark.parametrize("backend", ["mysql", "mariadb"])
def test_mysql_is_told_that_no_later_transaction_may_write_either(backend):
    """A statement such as CREATE TABLE ends the transaction; tried with a real server by hand."""
    heard = Heard()
    sql._begin(heard, backend)
    assert heard.said.index("SET SESSION TRANSACTION READ ONLY") < heard.said.index("COMMIT")
    assert heard.said[-1] == "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"


def test_queries_of_a_run_see_one_state_even_while_it_is_written_to(server, tmp_path):
    """Between the two reads another session moves a row from one table to the other: it is in one of them, once."""
    server(
        "create table a (x int)", "create table b (x int)", "insert into a values (0), (1)", "insert into b values (2)"
    )
    queries = {name: (Query(server.url, name), None, None) for name in ("a", "b")}
    first, _ = sql.read(queries["a"][0], together=(str(tmp_path / "g"), "a", queries))
    server("delete from a where x = 1", "insert into b values (1)")
    second, _ = sql.read(queries["b"][0], together=(str(tmp_path / "g"), "b", queries))
    assert sorted(first["x"].to_pylist() + second["x"].to_pylist()) == [0, 1, 2]
    alone, _ = sql.read(queries["b"][0])
    assert alone["x"].to_pylist() == [1, 2]  # control: read apart, the row stands in both


def test_a_fault_of_one_query_is_met_by_it_alone(lite, tmp_path):
    lite(*FOUR)
    url = "sqlite:///t.db"
    queries = {
        n: (Query(url, text, folder=str(tmp_path)), None, None) for n, text in {"good": "t", "bad": "absent"}.items()
    }
    table, _ = sql.read(queries["good"][0], together=(str(tmp_path / "g"), "good", queries))
    assert table.num_rows == 3
    with pytest.raises(DataError, match="absent"):
        sql.read(queries["bad"][0], together=(str(tmp_path / "g"), "bad", queries))


def test_a_wrong_password_is_told_without_it(server, postgres_server):
    server(f"create role reader login password 'Tr0ub4dor&3' in role {postgres_scram()}", "create table t (a int)",
           "insert into t values (1)", "grant select on t to reader")  # fmt: skip
    try:
        url = sa.make_url(server.url).set(username="reader").render_as_string()
        assert sql.read(Query(url, "t"), secret="Tr0ub4dor&3")[0].num_rows == 1
        with pytest.raises(
            SourceNotFoundError, match=r"the database does not answer: .*password authentication failed"
        ) as raised:
            sql.read(Query(url, "t"), secret="wrong-canary")
        assert "wrong-canary" not in repr(raised.value) + str(raised.value)
    finally:
        server("drop owned by reader", "drop role reader")


def postgres_scram():
    from penstock.testing.postgres import SCRAM_GROUP

    return SCRAM_GROUP


def test_a_server_that_is_not_there_is_told_in_a_sentence():
    from penstock.testing.postgres import free_port

    with pytest.raises(SourceNotFoundError, match="the database does not answer"):
        sql.read(Query(f"postgresql://me@127.0.0.1:{free_port()}/db", "t"))


def test_a_query_whose_reader_is_killed_ends_on_the_server(server):
    import multiprocessing

    def ask():
        server.read("select pg_sleep(60)")

    process = multiprocessing.get_context("fork").Process(target=ask)
    process.start()
    others = "datname = current_database() and pid <> pg_backend_pid() and state = 'active'"
    running = f"select count(*) as n from pg_stat_activity where {others}"

    def wait(expected, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if server.read(running)[0]["n"].to_pylist() == [expected]:
                return True
            time.sleep(0.1)
        return False

    assert wait(1, 20)
    process.kill()
    process.join()
    assert wait(0, 20)
