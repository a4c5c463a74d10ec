"""Every dialect and encoding gives the same table; every broken file gives one clear error."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.core.artifact import Written
from penstock.core.source import Source
from penstock.errors import DataError, DeclarationError, SourceChangedError, SourceNotFoundError
from penstock.stages import ingest, spool


def source(path, data, **options):
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return Source(str(path), path.suffix, **options)


@pytest.fixture
def read(tmp_path):
    def call(data, *, name="t.csv", expect=None, spill=spool.SPILL, limit=None, **options):
        return ingest.read(source(tmp_path / name, data, **options), expect=expect, spill=spill, limit=limit)

    return call


PLAIN = {"id": [1, 2], "näme": ["a, b", 'say "hi"\nthere'], "x": [1.5, None]}
ROWS = 'id,näme,x\n1,"a, b",1.5\n2,"say ""hi""\nthere",\n'


@pytest.mark.parametrize(
    "data",
    [
        ROWS.encode(),
        ROWS.encode("utf-8-sig"),
        ROWS.encode("utf-16"),
        ROWS.encode("utf-16-le"),
        ROWS.encode("utf-16-be"),
        ROWS.encode("utf-32"),
        b"\xff\xfe" + ROWS.encode("utf-16-le"),
        ROWS.encode("cp1252"),
        gzip.compress(ROWS.encode()),
        gzip.compress(ROWS[:20].encode()) + gzip.compress(ROWS[20:].encode()) + b"\0" * 40,
        bz2.compress(ROWS.encode("latin-1")),
        lzma.compress(ROWS.encode()),
        ROWS.replace("\n1", "\n\n1").encode(),
        ("\n\n" + ROWS).encode(),
        ROWS.replace(",", ", ").replace("a,  b", "a, b").encode(),
    ],
    ids=[
        "utf8",
        "bom",
        "utf16",
        "utf16le",
        "utf16be",
        "utf32",
        "utf16mark",
        "cp1252",
        "gzip",
        "members",
        "bz2",
        "xz",
        "blank",
        "lead",
        "spaces",
    ],
)
def test_every_way_to_write_a_table_reads_alike(read, data):
    table, sniffed = read(data)
    assert table.to_pydict() == PLAIN
    assert sniffed["summary"].endswith("2 × 3")
    again, _ = read(data, spill=10)
    assert pq.read_table(again.path).to_pydict() == PLAIN


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends(read, sep, end):
    text = end.join([f"a{sep}b", f'1{sep}"x{sep}y"', f"2{sep}z"]) + end
    table, sniffed = read(text)
    assert table.to_pydict() == {"a": [1, 2], "b": [f"x{sep}y", "z"]}
    assert sniffed["sep"] == sep


def test_single_quotes_and_declared_separators(read):
    assert read("'a','b'\n'x, y','2'\n")[0].to_pydict() == {"a": ["x, y"], "b": [2]}
    assert read("a:b\n1:2\n", sep=":")[0].to_pydict() == {"a": [1], "b": [2]}
    assert read("full name\nJohn Smith\n")[0].to_pydict() == {"full name": ["John Smith"]}
    assert read("a;b\n1,5;2\n")[0].to_pydict() == {"a": ["1,5"], "b": [2]}


def test_the_summary_says_what_was_found(read):
    _, sniffed = read("a, b, c\n1, ?, x\n2, y, NULL\nNA, ?, z\n")
    assert sniffed["summary"] == (
        '"," utf-8 · missing: "?" (2 cells in 1 column), "NA" (1 cell in 1 column) '
        '· left as text: "NULL" (1 cell in 1 column) · 3 × 3'
    )
    assert sniffed["missing"] == {"?": {"b": 2}, "NA": {"a": 1}}
    assert sniffed["notes"] == ['"NULL" stays text in c: na=["NULL"] makes it missing']


def test_what_may_be_wrong_is_noted(read):
    assert "read as cp1252, which is a guess" in read("a,b\n1,é\n".encode("cp1252"))[1]["notes"][0]
    assert read("a,b\n1,é\n".encode("cp1252"), encoding="cp1252")[1]["notes"] == []
    assert "lacks its header line" in read("1,2.5\n3,4\n")[1]["notes"][0]


# ── types ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "2"], "int64", [1, 2]),
        (["-1", "0"], "int64", [-1, 0]),
        (["1", ""], "double", [1.0, None]),
        (["1", "NA"], "double", [1.0, None]),
        (["1", "2.5"], "double", [1.0, 2.5]),
        (["1e3", ".5"], "double", [1000.0, 0.5]),
        (["inf", "1"], "double", [math.inf, 1.0]),
        (["00123", "1"], "string", ["00123", "1"]),
        (["0", "10"], "int64", [0, 10]),
        (["0.5", "00.5"], "string", ["0.5", "00.5"]),
        (["-07", "1"], "string", ["-07", "1"]),
        (["0x1F", "1"], "string", ["0x1F", "1"]),
        (["+49123", "+1"], "string", ["+49123", "+1"]),
        (["1_000", "2"], "string", ["1_000", "2"]),
        (["9223372036854775807", "1"], "int64", [2**63 - 1, 1]),
        (["9223372036854775808", "1"], "string", ["9223372036854775808", "1"]),
        (["9007199254740993", ""], "string", ["9007199254740993", None]),
        (["true", "FALSE"], "bool", [True, False]),
        (["true", ""], "double", [1.0, None]),
        (["true", "1"], "string", ["true", "1"]),
        (["yes", "no"], "string", ["yes", "no"]),
        (["NA", "DE"], "string", ["NA", "DE"]),
        (["None", "a"], "string", ["None", "a"]),
        (["?", "a"], "string", [None, "a"]),
        (["", "  "], "double", [None, None]),
        (["NA", "NA"], "double", [None, None]),
        (["2026-01-31", "2026-02-01"], "string", ["2026-01-31", "2026-02-01"]),
        (["1e999", "1"], "double", [math.inf, 1.0]),
        (["-0.0", "1"], "double", [-0.0, 1.0]),
    ],
)
def test_types_are_decided_on_the_whole_column(read, cells, kind, values):
    text = "k,v\n" + "".join(f"x,{cell}\n" for cell in cells)
    table, _ = read(text)
    assert str(table.schema.field("v").type) == kind
    assert table["v"].to_pylist() == values


def test_a_late_text_makes_the_whole_column_text(read):
    rows = "".join(f"{i}\n" for i in range(100_000)) + "x\n"
    for spill in (spool.SPILL, 1000):
        table, _ = read("a,b\n" + rows.replace("\n", ",1\n"), spill=spill)
        table = pq.read_table(table.path) if isinstance(table, Written) else table
        assert str(table.schema.field("a").type) == "string"
        assert table["a"][-2].as_py() == "99999"


@pytest.mark.parametrize(
    ("types", "cells", "values"),
    [
        ("str", ["1", "02"], ["1", "02"]),
        ("str", ["NA", "1"], ["NA", "1"]),
        ("int", ["01", "02"], [1, 2]),
        ("int", ["01", "?"], [1.0, None]),
        ("float", ["1", "2"], [1.0, 2.0]),
        ("bool", ["1", "0"], [True, False]),
        ("bool", ["True", ""], [1.0, None]),
        ("category", ["b", "a"], ["b", "a"]),
    ],
)
def test_declared_types(read, types, cells, values):
    table, _ = read("k,v\n" + "".join(f"x,{cell}\n" for cell in cells), types={"v": types})
    assert table["v"].to_pylist() == values


def test_a_category_has_sorted_categories_in_memory_and_streamed(read):
    for spill in (spool.SPILL, 5):
        table, _ = read("k,v\n1,b\n2,a\n3,b\n", types={"v": "category"}, spill=spill)
        table = pq.read_table(table.path) if isinstance(table, Written) else table
        assert table.to_pandas()["v"].cat.categories.tolist() == ["a", "b"]


def test_dates_are_read_where_declared(read):
    table, _ = read("d,t\n2026-01-31,2026-01-31T10:00:00Z\n,2026-01-31 12:00:00+02:00\n", dates=("d", "t"))
    assert str(table["d"].type) == "timestamp[us]"
    assert table["t"][0] == table["t"][1]
    with pytest.raises(DataError, match=r"column 'd' .*row 2: '31\.1\.2026'"):
        read("d\n2026-01-31\n31.1.2026\n", dates=("d",))
    with pytest.raises(DataError, match="some cells carry an offset"):
        read("d\n2026-01-31T10:00:00\n2026-01-31T10:00:00Z\n", dates=("d",))


def test_a_cell_that_is_not_of_the_declared_type_is_named(read):
    with pytest.raises(DataError, match=r"column 'v' was declared 'int'.*row 2: '1\.5'"):
        read("k,v\nx,1\nx,1.5\n", types={"v": "int"})
    with pytest.raises(DeclarationError, match="'integer' is not one of"):
        read("a\n1\n", types={"a": "integer"})


def test_na_and_strip(read):
    assert read("a,b\n-1,x\n2,unknown\n", na=("-1", "unknown"))[0].to_pydict() == {"a": [None, 2.0], "b": ["x", None]}
    assert read("a,b\n1, x \n", strip=False)[0]["b"].to_pylist() == [" x "]


def test_columns_are_chosen_and_named_when_wrong(read):
    table, sniffed = read("a,b,c\n1,2,3\n", columns=("c", "a"))
    assert table.to_pydict() == {"c": [3], "a": [1]}
    assert sniffed["summary"].endswith("1 × 2")
    with pytest.raises(DataError, match="columns= names 'incme'; did you mean \"income\""):
        read("income\n1\n", columns=("incme",))


@pytest.mark.parametrize("spill", [spool.SPILL, 10])
def test_saved_row_labels_are_left_out_unless_asked_for(read, spill):
    """A first column without a name, as pandas and R write it; the same in Parquet is left out as well."""
    text = ",a,b\n0,x,1\n1,y,2\n"
    table, sniffed = read(text, spill=spill)
    found = table if spill > 10 else pq.read_table(table.path)
    assert found.to_pydict() == {"a": ["x", "y"], "b": [1, 2]}
    assert sniffed["notes"] == [
        "left out: the first column, which has no name (row labels); columns=['__index_level_0__', …] reads it"
    ]
    assert sniffed["n_columns"] == 2
    table, sniffed = read(text, columns=("__index_level_0__", "b"))
    assert table.to_pydict() == {"__index_level_0__": [0, 1], "b": [1, 2]}
    assert sniffed["notes"] == []


# ── broken files ─────────────────────────────────────────────────────────────────────────────────────────────

BROKEN = {
    "empty": (b"", {}, "the file is empty"),
    "blanks": (b" \n\n", {}, "no text but blanks"),
    "commas": (b",,\n", {}, "3 of 3 columns have no name"),
    "header only": (b"a,b\n", {}, "header line with 2 columns and no rows"),
    "header and blanks": (b"a,b\n\n\n", {}, "header line with 2 columns and no rows"),
    "ragged": (b"a,b\n1,2\n3,4,5\n6\n", {}, "line 3 has 3 cells: '3,4,5'; line 4 has 1 cell:"),
    "ragged, quoted lines": (b'a,b\n"x\ny",2\n3,4,5\n', {}, "line 4 has 3 cells"),
    "unclosed quote": (b'a,b\n1,2\n3,"4\n5,6\n', {}, "opened on line 3 and never closed"),
    "unclosed quote, only row": (b'a,b\n3,"4', {}, "opened on line 2 and never closed"),
    "unclosed among quotes": (b'a,b\n"1","2"\n3,"4\n5,6\n7,8\n', {}, "opened on line 3 and never closed"),
    "twice": (b"a,b,a\n1,2,3\n", {}, "'a' \\(2 times\\)"),
    "no name": (b"a,,c\n1,2,3\n", {}, "1 of 3 columns have no name: number 2"),
    "NUL": (b"a,b\n1,2\n\x00\x00,4\n", {}, "line 3 holds a NUL byte"),
    "wrong separator": (b"a,b\n1,2\n", {"sep": ";"}, "sep=';' does not occur in the header line, but ',' splits"),
    "wrong utf-8": ("a,é\n1,2\n".encode("latin-1"), {"encoding": "utf-8"}, "line 1: the bytes e9 .* are not utf-8"),
    "wrong latin-1": ("a,é\n1,2\n".encode(), {"encoding": "latin-1"}, "but the bytes are UTF-8"),
    "wrong utf-16": (b"a,b\n1,2\n", {"encoding": "utf-16"}, "not UTF-16"),
    "utf-16 cut": ("a,b\n1,2\n".encode("utf-16")[:-1], {}, "truncated data"),
    "gzip cut": (gzip.compress(b"a,b\n" + b"1,2\n" * 999)[:-9], {}, "corrupt or cut short"),
    "gzip garbage": (gzip.compress(b"a\n1\n") + b"garbage", {}, "corrupt or cut short"),
    "gzip of nothing": (gzip.compress(b""), {}, "the file is empty"),
    "zip": (b"PK\x03\x04rest", {}, "not a whole workbook"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("spill", [spool.SPILL, 3], ids=["memory", "stream"])
def test_broken_files_end_in_one_clear_error(read, case, spill):
    data, options, message = BROKEN[case]
    with pytest.raises(DataError, match=message) as caught:
        read(data, spill=spill, **options)
    assert caught.value.exit_code == 3
    assert caught.value.where == "t.csv"
    assert len(str(caught.value)) < 3000


def test_declarations_that_cannot_be(read, tmp_path):
    with pytest.raises(DeclarationError, match="encoding='utf8x' is not known"):
        read("a\n1\n", encoding="utf8x")
    with pytest.raises(DeclarationError, match="one character"):
        read("a\n1\n", sep="::")
    with pytest.raises(SourceNotFoundError, match="no such file"):
        ingest.read(Source(str(tmp_path / "gone.csv")))
    with pytest.raises(SourceNotFoundError, match="folder"):
        ingest.read(Source(str(tmp_path)))


def test_strange_names_and_cells_are_only_text(read):
    names = ["__proto__", "<script>", "=cmd()", "../x", "\u202egnp.exe", "\u200bzero", "x" * 10_000]
    table, _ = read(",".join(names) + "\n" + ",".join("=1+1" for _ in names) + "\n")
    assert table.column_names == names
    assert table.to_pylist()[0]["=cmd()"] == "=1+1"


def test_ten_thousand_columns(read):
    names = [f"c{i}" for i in range(10_000)]
    table, _ = read(",".join(names) + "\n" + ",".join(map(str, range(10_000))) + "\n")
    assert table.num_columns == 10_000


def test_one_huge_cell_is_refused_with_its_line(read, monkeypatch):
    monkeypatch.setattr("penstock.stages.csv_stream.BLOCK", 1 << 16)
    data = b'a,b\n1,2\n3,"' + b"x" * (1 << 17) + b'"\n4,5\n'
    with pytest.raises(DataError, match="record that begins on line 3 cannot be read"):
        read(data)


def test_a_line_without_end_is_not_read_whole(read, monkeypatch):
    monkeypatch.setattr("penstock.stages.csv_stream.BLOCK", 1 << 16)
    with pytest.raises(DataError, match="line 3 cannot be read: a line has more than 65,536 characters"):
        read(b"a,b\n1,2\n" + b"3" * (1 << 18))


def test_a_declared_utf16_keeps_no_mark(read):
    assert read("\ufeffa,b\n1,2\n".encode("utf-16-le"), encoding="utf-16-le")[0].column_names == ["a", "b"]


def test_a_decompression_bomb_stops_at_the_limit(read):
    bomb = gzip.compress(b"a,b\n" + b"1,2\n" * 5_000_000)
    assert len(bomb) < 100_000
    with pytest.raises(DataError, match="past the limit of 1,048,576"):
        read(bomb, limit=1 << 20)


# ── the bytes hashed are the bytes used ──────────────────────────────────────────────────────────────────────


def test_a_file_that_changed_is_refused(read):
    data = b"a,b\n1,2\n"
    digest = hashlib.sha256(data).hexdigest()
    read(data, expect=digest)
    with pytest.raises(SourceChangedError) as caught:
        read(data + b"3,4\n", expect=digest)
    assert caught.value.expected == digest
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("spill", [spool.SPILL, 1000])
def test_a_file_replaced_after_hashing_does_not_reach_the_table(tmp_path, monkeypatch, spill):
    """Sabotage: whoever opens the path a second time reads the attacker's rows."""
    path = tmp_path / "t.csv"
    data = b"a,b\n" + b"1,2\n" * 1000
    whole = spool.take

    def take_then_replace(*args, **kwargs):
        taken = whole(*args, **kwargs)
        path.write_bytes(b"a,b\n9,9\n")
        return taken

    monkeypatch.setattr(spool, "take", take_then_replace)
    table, _ = ingest.read(source(path, data), expect=hashlib.sha256(data).hexdigest(), spill=spill)
    table = pq.read_table(table.path) if isinstance(table, Written) else table
    assert table["a"].to_pylist() == [1] * 1000


@pytest.mark.parametrize(
    ("safeguard", "without", "case"),
    [
        ("penstock.stages.csv_stream._may_be_unclosed", lambda *_: False, "unclosed quote"),
        ("penstock.stages.opened.refuse_nul", lambda *_: None, "NUL"),
        ("penstock.stages.sniff._hold", lambda *_: None, "wrong latin-1"),
        ("penstock.stages.sniff._check_names", lambda *_: None, "no name"),
    ],
)
def test_sabotage_without_its_safeguard_a_broken_file_passes(read, monkeypatch, safeguard, without, case):
    data, options, _ = BROKEN[case]
    monkeypatch.setattr(safeguard, without)
    table, _ = read(data, **options)
    assert table.num_rows > 0


# ── larger than memory ───────────────────────────────────────────────────────────────────────────────────────

CELLS = st.one_of(
    st.integers(-10, 10).map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(["", "?", "NA", "true", "false", "007", " x ", "é", 'q"q', "a,b", "l\nl"]),
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=12))
@example(rows=[("1", "", "?")])
def test_streamed_and_in_memory_give_the_same_table(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    text = "a,b,c\n" + "".join(",".join('"' + c.replace('"', '""') + '"' for c in row) + "\n" for row in rows)
    src = source(folder / "t.csv", text)
    table, sniffed = ingest.read(src)
    streamed, again = ingest.read(src, spill=4)
    assert sniffed == again
    other = pq.read_table(streamed.path)
    assert other.schema.equals(table.schema)
    assert repr(other.to_pydict()) == repr(table.to_pydict())


def test_streamed_bytes_are_the_same_each_time(read, monkeypatch):
    monkeypatch.setattr("penstock.stages.csv_stream.BLOCK", 1 << 12)
    data = "a,b\n" + "".join(f"{i},t{i}\n" for i in range(5000))
    first, second = (read(data, spill=100)[0] for _ in range(2))
    one, two = (Path(written.path).read_bytes() for written in (first, second))
    assert one == two
    assert pq.ParquetFile(first.path).metadata.num_row_groups > 5


def test_a_failed_stream_leaves_no_file(read, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(DataError, match="declared 'int'"):
        read("a,b\n" + "1,2\n" * 100 + "x,2\n", spill=10, types={"a": "int"})
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


# ── Parquet ──────────────────────────────────────────────────────────────────────────────────────────────────


def parquet(tmp_path, table, **options):
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, **options)
    return path.read_bytes()


@pytest.mark.parametrize("spill", [spool.SPILL, 10])
def test_parquet_types_become_plain(read, tmp_path, spill):
    import datetime as dt
    import decimal

    data = parquet(
        tmp_path,
        pa.table(
            {
                "i": pa.array([1, None], pa.int32()),
                "d": pa.array([dt.date(2026, 1, 1), None]),
                "m": pa.array([decimal.Decimal("1.5"), None]),
                "c": pa.array(["a", "b"]).dictionary_encode(),
                "L": pa.array(["x", "NA"], pa.large_string()),
                "n": pa.nulls(2),
                "__index_level_0__": [0, 1],
            }
        ),
    )
    table, sniffed = read(data, name="t.parquet", spill=spill, na=("NA",))
    table = pq.read_table(table.path) if isinstance(table, Written) else table
    assert [str(t) for t in table.schema.types] == [
        "int32",
        "timestamp[us]",
        "double",
        "dictionary<values=string, indices=int32, ordered=0>",
        "string",
        "double",
    ]
    assert table["L"].to_pylist() == ["x", None]
    assert sniffed["summary"] == "parquet · 2 × 6"
    assert sniffed["notes"] == ["left out: __index_level_0__ (an unnamed row index)"]


def test_parquet_types_can_be_declared(read, tmp_path):
    data = parquet(tmp_path, pa.table({"a": [1, 2], "d": ["2026-01-01", "2026-01-02"], "c": ["x", "y"]}))
    table, _ = read(data, name="t.parquet", types={"a": "float", "c": "category"}, dates=("d",))
    assert str(table["a"].type) == "double"
    assert str(table["d"].type) == "timestamp[us]"
    with pytest.raises(DataError, match="column 'c' cannot be read as int64"):
        read(data, name="t.parquet", types={"c": "int"})


def test_parquet_that_cannot_be_used(read, tmp_path):
    good = parquet(tmp_path, pa.table({"a": list(range(1000))}))
    for data, message in [
        (good[:-20], "not a whole Parquet file"),
        (good[:4] + b"\0" * 40 + good[44:], "damaged|not a whole"),
        (b"PAR1" + b"\xff" * 100, "not a whole Parquet file"),
        (parquet(tmp_path, pa.table({"a": pa.array([], pa.int64())})), "no rows"),
        (parquet(tmp_path, pa.table({"a": [[1], [2]]})), "has the type list"),
        (parquet(tmp_path, pa.table([[1], [2]], names=["a", "a"])), "more than once: 'a'"),
        (b"a,b\n1,2\n", "named .parquet but"),
    ]:
        with pytest.raises(DataError, match=message):
            read(data, name="t.parquet")


def test_a_parquet_bomb_is_refused_by_its_metadata(read, tmp_path):
    data = parquet(tmp_path, pa.table({"a": pa.array([0] * 3_000_000, pa.int64())}))
    assert len(data) < 100_000
    with pytest.raises(DataError, match="metadata speaks of 3,000,000 rows"):
        read(data, name="t.parquet", limit=1 << 20)


def test_a_dictionary_bomb_is_measured_before_it_is_spelled_out(read, tmp_path):
    data = parquet(tmp_path, pa.table({"a": ["x" * 100_000] * 1_000}))
    assert len(data) < 200_000
    with pytest.raises(DataError, match="once spelled out"):
        read(data, name="t.parquet", limit=20 << 20)


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
@example(b"PAR1PAR1")
@example(b"\x1f\x8b\x08")
@example(b'a,"b\n')
@example(b"\xff\xfea\x00")
def test_any_bytes_end_in_a_table_or_a_data_error(tmp_path_factory, data):
    src = source(tmp_path_factory.mktemp("fuzz") / "t.csv", data)
    try:
        table, sniffed = ingest.read(src)
    except DataError:
        return
    assert table.num_rows == sniffed["n_rows"] > 0
