"""Reading a table in one pass gives what the slow rules give: each cell by `csv`, all types before any value."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.core.artifact import Written
from penstock.core.source import Source
from penstock.stages import csv_stream, infer, ingest, look, one_pass

BLOCK = 1 << 10
"""Bytes: pyarrow takes no smaller blocks, so that a few hundred rows are several of them."""


def reference(text, options):
    """Types of whole columns first, then every cell by them; without pyarrow's reader, blocks or shortcuts."""
    header, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    na, strip = options.get("na", ()), options.get("strip", True)
    columns, kinds, blanks, markers = {}, {}, {}, {}
    for name, cells in zip(header, zip(*rows, strict=True), strict=True):
        cells = pa.array(cells, pa.string())
        cells = infer.stripped_column(cells) if strip else cells
        found = infer.guess(cells, na)
        declared = options.get("types", {}).get(name, "")
        if declared:
            found = infer.guess(cells, na, "str") if declared == "str" else found
            found.kind = "str" if declared == "str" else found.kind
        kinds[name] = infer.decide(found, declared)
        columns[name] = infer.convert(cells, found, kinds[name], na, "", name)
        blanks[name], markers[name] = found.blank, found.markers
    return pa.table(columns), kinds, blanks, markers


def told(sniffed):
    """Blank cells and markers of each column, as `sniffed` tells them."""
    found = {}
    for marker, columns in [*sniffed["missing"].items(), *sniffed["kept"].items()]:
        for name, count in columns.items():
            found[name, marker] = count
    return found


def check(path, text, **options):
    path.write_text(text, newline="")
    expected, kinds, blanks, markers = reference(text, options)
    counts = {(name, ""): count for name, count in blanks.items() if count}
    counts |= {(name, marker): count for name, found in markers.items() for marker, count in found.items()}
    for spill in (1 << 26, 8):
        table, sniffed = ingest.read(Source(str(path), ".csv", sep=",", **options), spill=spill)
        assert isinstance(table, Written) == (spill == 8)
        table = pq.read_table(table.path) if isinstance(table, Written) else table
        assert table.schema.equals(expected.schema)
        assert repr(table.to_pydict()) == repr(expected.to_pydict())
        assert dict(map(tuple, sniffed["types"])) == kinds
        assert told(sniffed) == counts


PLAIN = [
    st.integers(-20, 2000).map(str),
    st.integers(-(10**6), 10**6).map(lambda n: str(n / 100)),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["yes", "no", "Oslo N", "é", "x"]),
    st.sampled_from(["true", "False", "TRUE"]),
]
GAPS = ["", "", "NA", "?", "nan", "NaN", "-", ".", "--", "None", "\\N"]
CODED = [" 5", "5 ", "\t7", "\u00a0x", "007", "-07", "0x1F", "+3", "-0", "-0.0", "00.5", "1_0", "0e1", "-1"]
WRITTEN = ["0", "0.5", ".5", "5.", "1e5", "1E-3", "-.5", "inf", "-inf", "1e999", "1.0000000000000000001", "2", "-7"]
LONG = ["9007199254740993", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "9" * 19, "1" * 30]
WORDS = ["x", "true", 'q"q', "a,b", "l\nl", "  "]
ODD = st.sampled_from([*GAPS, *CODED, *WRITTEN, *LONG, *WORDS])


@st.composite
def tables(draw):
    """Columns of one kind, with odd cells here and there, or only from some row on."""
    n_rows = draw(st.sampled_from([1, 3, 40, 400]))
    columns = []
    for _ in range(draw(st.integers(1, 4))):
        some = draw(st.lists(draw(st.sampled_from(PLAIN)), min_size=1, max_size=6))
        cells = [some[i % len(some)] for i in range(n_rows)]
        for _ in range(draw(st.integers(0, 3))):
            odd, every = draw(ODD), draw(st.sampled_from([1, 7, 500]))
            for row in range(draw(st.integers(0, n_rows - 1)), n_rows, every):
                cells[row] = odd
        columns.append(cells)
    return [list(row) for row in zip(*columns, strict=True)]


def written(rows, quoting=csv.QUOTE_MINIMAL):
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", quoting=quoting).writerows(
        [[f"c{i}" for i in range(len(rows[0]) + 1)], *[["k", *row] for row in rows]]
    )
    return out.getvalue()


@settings(max_examples=100, deadline=None)
@given(rows=tables(), na=st.sampled_from([(), ("-1",), ("x", "yes")]), strip=st.booleans(), ahead=st.integers(1, 4000))
@example(rows=[["1"]] * 300 + [[""]], na=(), strip=True, ahead=1)
@example(rows=[["1"]] * 300 + [["2.5"]], na=(), strip=True, ahead=1)
@example(rows=[["-0"]] * 300 + [["2.5"]], na=(), strip=True, ahead=1)
@example(rows=[["1"]] * 300 + [["x"]], na=(), strip=True, ahead=1)
@example(rows=[[""]] * 300 + [["x"]], na=(), strip=True, ahead=1)
@example(rows=[["NA"]] * 400 + [["x"]], na=(), strip=True, ahead=1)
@example(rows=[["-1"]] * 400 + [["2"]], na=("-1",), strip=True, ahead=1)
@example(rows=[["true"]] * 300 + [[""]], na=(), strip=True, ahead=1)
@example(rows=[[" 1"]] * 300, na=(), strip=False, ahead=1)
def test_one_pass_gives_what_the_slow_rules_give(tmp_path_factory, rows, na, strip, ahead):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_stream, "BLOCK", BLOCK)
        patch.setattr(one_pass, "AHEAD", ahead)
        check(tmp_path_factory.mktemp("rows") / "t.csv", written(rows), na=na, strip=strip)


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("str", ["1"] * 400 + ["007", ""]),
        ("float", ["1"] * 400 + ["2.5", ""]),
        ("int", ["01"] * 400 + ["2"]),
        ("int", ["1"] * 400 + ["", "NA"]),
        ("bool", ["1"] * 400 + ["True"]),
        ("bool", ["1"] * 400 + [""]),
    ],
)
def test_declared_types_hold_for_late_cells(tmp_path, monkeypatch, kind, cells):
    monkeypatch.setattr(csv_stream, "BLOCK", BLOCK)
    monkeypatch.setattr(one_pass, "AHEAD", 1)
    check(tmp_path / "t.csv", written([[cell] for cell in cells]), types={"c1": kind})


def test_late_categories_and_late_offsets(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_stream, "BLOCK", BLOCK)
    monkeypatch.setattr(one_pass, "AHEAD", 1)
    path = tmp_path / "t.csv"
    path.write_text("c,d\n" + "b,\n" * 500 + "a,2026-01-31T10:00:00+02:00\n")
    table, _ = ingest.read(Source(str(path), ".csv", types={"c": "category"}, dates=("d",)), spill=8)
    table = pq.read_table(table.path)
    assert table["c"].to_pandas().cat.categories.tolist() == ["a", "b"]
    assert str(table["d"].type) == "timestamp[us, tz=UTC]"
    assert table["d"].null_count == 500


def test_a_plain_table_is_parsed_once_and_a_late_gap_costs_one_more(tmp_path, monkeypatch):
    """The cost itself: how often the bytes are parsed, streamed and in memory."""
    monkeypatch.setattr(csv_stream, "BLOCK", BLOCK)
    monkeypatch.setattr(one_pass, "AHEAD", 1)
    passes = []
    whole = csv_stream._by_arrow

    def counted(spool, dialect, columns):
        passes.append(list(columns))
        return whole(spool, dialect, columns)

    monkeypatch.setattr(csv_stream, "_by_arrow", counted)
    path = tmp_path / "t.csv"
    for late, spill, expected in [
        ("5,y,2", 1 << 26, 1),
        ("5,y,2", 8, 1),
        (",y,2", 1 << 26, 1),
        (",y,2", 8, 2),
        ("x,y,2", 1 << 26, 2),
        ("x,y,2", 8, 2),
    ]:
        passes.clear()
        path.write_text("a,b,c\n" + "1,x,0.5\n" * 900 + late + "\n")
        ingest.read(Source(str(path), ".csv"), spill=spill)
        assert len(passes) == expected, (late, spill)
    assert passes[1] == ["a", "b", "c"]


def test_quoted_names_alone_do_not_make_a_table_quoted(tmp_path, monkeypatch):
    """Quotes in the header line say nothing of the rows, which are read faster without."""
    seen = []
    whole = csv_stream._by_arrow
    monkeypatch.setattr(
        csv_stream, "_by_arrow", lambda spool, dialect, columns: seen.append(dialect) or whole(spool, dialect, columns)
    )
    path = tmp_path / "t.csv"
    path.write_text('"a","b"\n1,2\n')
    table, sniffed = ingest.read(Source(str(path), ".csv"))
    assert table.to_pydict() == {"a": [1], "b": [2]}
    assert sniffed["quote"] == '"'
    assert not seen[0].quoted


CODES = ["1"] * 40 + ["007"] + ["2"] * 40
DECIMALS = ["1.5"] * 40 + ["00.5"] + ["2.5"] * 40
PADDED = ["x"] * 400 + [" x "]


@pytest.mark.parametrize(
    ("safeguard", "without", "cells"),
    [
        ("_plain_ints", lambda *_: True, CODES),
        ("_plain_floats", lambda *_: True, DECIMALS),
        ("_bare", lambda *_: True, PADDED),
    ],
)
def test_sabotage_without_its_doubt_a_shortcut_gives_other_cells(tmp_path, monkeypatch, safeguard, without, cells):
    monkeypatch.setattr(csv_stream, "BLOCK", BLOCK)
    text = written([[cell] for cell in cells])
    check(tmp_path / "t.csv", text)
    monkeypatch.setattr(look, safeguard, without)
    with pytest.raises(AssertionError):
        check(tmp_path / "t.csv", text)


@pytest.mark.parametrize("blank", ["", "x"])
def test_a_slice_of_a_column_is_looked_at_as_a_whole_one(blank):
    whole = pa.array(["skipped", "1", "", "30", "-4", blank])
    seen = look.look(whole.slice(1, 4), (), "", strip=True)
    assert seen.plain
    assert seen.values.to_pylist() == [1, None, 30, -4]
    seen = look.look(whole.slice(2, 3), (), "str", strip=True)
    assert seen.values.to_pylist() == [None, "30", "-4"]
