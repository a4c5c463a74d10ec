"""Several files are one table: same columns, typed together, in the order of their names."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.artifact import Written
from penstock.core.source import Found, Source
from penstock.errors import DataError, SourceChangedError
from penstock.stages import ingest, spool


@pytest.fixture
def read(tmp_path):
    def call(files, spill=spool.SPILL, limit=None, **options):
        listed = []
        for name, data in sorted(files.items()):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, pa.Table):
                pq.write_table(data, path)
            else:
                path.write_bytes(data.encode() if isinstance(data, str) else data)
            listed.append((name, str(path), hashlib.sha256(path.read_bytes()).hexdigest()))
        source = Source(str(tmp_path), **options)
        table, sniffed = ingest.read(source, found=Found(tuple(listed), many=True), spill=spill, limit=limit)
        return (pq.read_table(table.path) if isinstance(table, Written) else table), sniffed

    return call


def test_rows_follow_the_names_and_columns_the_first_file(read):
    table, sniffed = read({"b.csv": "y,x\n3,4\n", "a.csv": "x,y\n1,2\n"})
    assert table.column_names == ["x", "y"]
    assert table.to_pylist() == [{"x": 1, "y": 2}, {"x": 4, "y": 3}]
    assert sniffed["summary"] == '"," utf-8 · 2 files · 2 × 2'


def test_types_are_decided_on_all_files_together(read):
    """The first file alone would give whole numbers, and the last one text."""
    table, _ = read({"1.csv": "a,b\n1,1\n", "2.csv": "a,b\n2.5,\n", "3.csv": "a,b\nx,3\n"})
    assert table["a"].to_pylist() == ["1", "2.5", "x"]
    assert table["b"].to_pylist() == [1.0, None, 3.0]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["1", "2.5", "", "NA", "x", "true"]), st.text("ab,\n", max_size=3)), min_size=1
    ),
    cuts=st.lists(st.integers(0, 12), max_size=3),
)
@pytest.mark.parametrize("spill", [spool.SPILL, 3])
def test_files_cut_anywhere_read_as_the_whole(read, rows, cuts, spill):
    def csv(part):
        return "a,b\n" + "".join(f'{a},"{b}"\n' for a, b in part)

    places = sorted({min(cut, len(rows)) for cut in cuts} | {0, len(rows)})
    parts = [rows[start:end] for start, end in itertools.pairwise(places)]
    whole, _ = read({"whole/0.csv": csv(rows)}, spill=spill)
    cut, _ = read({f"cut/{i}.csv": csv(part) for i, part in enumerate(parts)}, spill=spill)
    assert cut.combine_chunks().equals(whole.combine_chunks())


def test_a_file_with_other_columns_is_named(read):
    with pytest.raises(DataError, match=r"b.csv lacks 'y'; b.csv also has 'z'") as caught:
        read({"a.csv": "x,y\n1,2\n", "b.csv": "x,z\n1,2\n"})
    assert "columns=" in caught.value.hint
    with pytest.raises(DataError, match=r"b.parquet lacks 'y'"):
        read({"p/a.parquet": pa.table({"x": [1], "y": [2]}), "p/b.parquet": pa.table({"x": [1]})})


def test_a_fault_names_its_file_and_line(read):
    with pytest.raises(DataError, match=r"line 3 has 3 cells") as caught:
        read({"a.csv": "x,y\n1,2\n", "sub/b.csv": "x,y\n1,2\n1,2,3\n"})
    assert caught.value.where == "sub/b.csv"


def test_different_formats_are_no_one_table(read):
    with pytest.raises(DataError, match=r"different formats .* CSV \(a.csv\), Parquet \(b.parquet\)"):
        read({"a.csv": "x\n1\n", "b.parquet": pa.table({"x": [1]})})


def test_files_written_otherwise_are_read_and_told(read):
    table, sniffed = read({"a.csv": "x,y\n1,2\n", "b.csv": "x;y\n3;4\n", "c.csv": "x,y\n5,6\n".encode("utf-16")})
    assert table["y"].to_pylist() == [2, 4, 6]
    assert sniffed["notes"] == ['not all files are written alike: "," utf-8, but ";" utf-8 in b.csv']


def test_each_file_must_be_the_one_that_was_planned_with(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    found = Found((("a.csv", str(tmp_path / "a.csv"), "0" * 64),), many=True)
    with pytest.raises(SourceChangedError) as caught:
        ingest.read(Source(str(tmp_path)), found=found)
    assert caught.value.where == "a.csv"


# ── folders that say something ──────────────────────────────────────────────────────────────────────────────


def test_folders_give_columns_with_types(read):
    files = {
        "year=2025/month=12/region=n%20east/x.csv": "a\n1\n2\n",
        "year=2026/month=03/region=__HIVE_DEFAULT_PARTITION__/x.csv": "a\n3\n",
    }
    table, sniffed = read(files)
    assert table.to_pylist() == [
        {"a": 1, "year": 2025, "month": 12, "region": "n east"},
        {"a": 2, "year": 2025, "month": 12, "region": "n east"},
        {"a": 3, "year": 2026, "month": 3, "region": None},
    ]
    assert sniffed["summary"] == '"," utf-8 · 2 files by year, month, region · 3 × 4'
    table, _ = read(files, types={"month": "str", "year": "category"}, columns=("month", "year", "a"))
    assert table.column_names == ["month", "year", "a"]
    assert table["month"].to_pylist() == ["12", "12", "03"]
    assert table["year"].to_pylist() == ["2025", "2025", "2026"]
    assert str(table.schema.field("year").type).startswith("dictionary")
    assert read(files, columns=("year",))[0]["year"].to_pylist() == [2025, 2025, 2026]


@pytest.mark.parametrize("spill", [spool.SPILL, 10])
def test_folders_of_parquet_files_too(read, spill):
    files = {f"day=2026-01-0{i}/x.parquet": pa.table({"a": [i], "c": ["x"]}) for i in (1, 2)}
    table, sniffed = read(files, spill=spill, dates=("day",))
    assert table["day"].to_pylist() == [dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 2)]
    assert sniffed["summary"] == "parquet · 2 files by day · 2 × 3"
    assert [name for name, _ in sniffed["types"]] == ["a", "c", "day"]
    only, _ = read(files, spill=spill, columns=("day",))
    assert only.column_names == ["day"]
    assert only.num_rows == 2


def test_folders_that_do_not_agree_are_refused(read):
    with pytest.raises(DataError, match=r"folders name 'month' for month=1/x.csv, but no column for a.csv"):
        read({"a.csv": "a\n1\n", "month=1/x.csv": "a\n1\n"})
    with pytest.raises(DataError, match="'a' stands in the files and in the names of their folders"):
        read({"only/a=1/x.csv": "a\n1\n"})


# ── typed files ─────────────────────────────────────────────────────────────────────────────────────────────


def test_types_of_parquet_files_are_widened(read):
    table, _ = read(
        {
            "1.parquet": pa.table({"n": pa.array([1], pa.int32()), "t": ["a"], "z": pa.nulls(1)}),
            "2.parquet": pa.table({"n": [2.5], "t": pa.array(["b"]).dictionary_encode(), "z": [7]}),
        }
    )
    assert [str(t) for t in table.schema.types] == ["double", "string", "double"]
    assert table["n"].to_pylist() == [1.0, 2.5]


def test_a_number_here_and_a_text_there_is_refused_with_both_files(read):
    with pytest.raises(DataError, match=r"column 'n' differs .* 1.parquet: int64, 2.parquet: string"):
        read({"1.parquet": pa.table({"n": [1]}), "2.parquet": pa.table({"n": ["x"]})})


def test_categories_of_several_files_are_one_dictionary(read):
    def part(*words):
        return pa.table({"c": pa.array(words).dictionary_encode()})

    table, _ = read({"1.parquet": part("b", "a"), "2.parquet": part("c", "a")})
    assert table["c"].to_pylist() == ["b", "a", "c", "a"]
    assert table["c"].num_chunks == 1
    written, _ = read({"1.parquet": part("b", "a"), "2.parquet": part("c", "a")}, spill=1)
    assert written["c"].to_pylist() == ["b", "a", "c", "a"]
