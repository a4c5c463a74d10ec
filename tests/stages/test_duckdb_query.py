"""SQL over files: DuckDB sees what the source reads and nothing else of the machine."""

import pytest

import penstock as ps
from penstock.core.source import Source
from penstock.core.step import call_of
from penstock.errors import DataError, DeclarationError
from penstock.stages import duckdb_query


@pytest.fixture
def orders(tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text("who,price,day\nb,3,2026-01-05\na,4,2026-02-01\na,5,2026-02-03\n")
    return Source(str(path), ".csv", dates=("day",))


def ask(source, query, **params):
    return duckdb_query.read(source, query=query, params=params or None)


def test_rows_come_in_an_order_of_their_own_and_sums_stay_whole(orders):
    table, sniffed = ask(
        orders, "select who, sum(price) as spent, count(*) as n, max(day) as last from data group by who"
    )
    assert table.to_pydict()["who"] == ["a", "b"]
    assert table.to_pydict()["spent"] == [9, 3]
    assert [str(kind) for kind in table.schema.types] == ["string", "int64", "int64", "timestamp[us]"]
    assert sniffed["summary"].endswith("3 × 3 → duckdb · 2 × 4")


def test_an_order_is_kept_and_parameters_are_bound(orders):
    table, _ = ask(
        orders, "select price from data where price > $least and who <> $who order by price desc", least=3, who="'; --"
    )
    assert table["price"].to_pylist() == [5, 4]


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('{path}')",
        "select * from '{path}'",
        "select * from read_text('/etc/passwd')",
        "select * from read_parquet('https://example.org/a.parquet')",
        "select * from orders_in_python",
        "select * from absent",
        "select getenv('HOME')",
        "selec 1",
        "select * from data where price > 99",
        "select [1] as a",
    ],
)
def test_nothing_else_can_be_read(orders, query):
    orders_in_python = __import__("pandas").DataFrame({"a": [1]})
    with pytest.raises(DataError):
        ask(orders, query.format(path=orders.path))
    assert len(orders_in_python) == 1


@pytest.mark.parametrize(
    "query",
    [
        "copy data to '{path}.copy'",
        "attach '{path}.db' as other",
        "install httpfs",
        "set enable_external_access = true",
        "create table t as select 1",
        "select 1; select 2",
        "pragma version",
    ],
)
def test_only_one_select_is_run(orders, query, tmp_path):
    with pytest.raises((DataError, DeclarationError)):
        ask(orders, query.format(path=orders.path))
    assert [file.name for file in tmp_path.iterdir()] == ["orders.csv"]


def test_a_table_larger_than_memory_is_scanned_from_its_file(orders, monkeypatch):
    from penstock.stages import ingest
    from penstock.stages.columns import write

    table, sniffed = ingest.read(orders)
    monkeypatch.setattr(duckdb_query.ingest, "read", lambda *_, **__: (write(table.to_batches()), sniffed))
    assert ask(orders, "select sum(price) as s from data")[0].to_pylist() == [{"s": 12}]


def test_the_query_counts_and_the_files_are_the_source():
    plain, asked = ps.read("orders.csv"), ps.read("orders.csv", query="select * from data")
    assert call_of(plain).args == call_of(asked).args
    assert call_of(asked).entry == "penstock.stages.duckdb_query:read"
    assert call_of(asked).kwargs == {"query": "select * from data"}
    assert repr(asked) == "<Ref orders>"


@pytest.mark.parametrize("query", ["select count(*) as n from data", "select nothing from data"])
def test_the_file_of_a_large_table_is_gone_when_the_query_has_ended(tmp_path, monkeypatch, query):
    folder = tmp_path / "spooled"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    path = tmp_path / "t.csv"
    path.write_text("n\n" + "".join(f"{i}\n" for i in range(500)))
    try:
        table, _ = duckdb_query.read(Source(str(path), ".csv"), query=query, spill=16)
        assert table.to_pydict() == {"n": [500]}
    except DataError:
        assert "nothing" in query
    assert list(folder.iterdir()) == []
