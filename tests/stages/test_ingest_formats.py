"""One table written in every format reads back as the same frame; what a format cannot say is told."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import json
import zipfile

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.artifact import Written
from penstock.core.source import Source
from penstock.errors import DataError, MissingExtraError, SourceChangedError
from penstock.stages import ingest, spool, text_source


def _jsonl(table):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist()).encode()


def _arrow(table, stream=False, compression=None):
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _parquet(table):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _excel(table):
    sink = io.BytesIO()
    table.to_pandas().to_excel(sink, index=False)
    return sink.getvalue()


WRITERS = {
    "t.parquet": _parquet,
    "t.arrow": _arrow,
    "lz4.feather": lambda table: _arrow(table, compression="lz4"),
    "t.arrows": lambda table: _arrow(table, stream=True),
    "t.jsonl": _jsonl,
    "t.ndjson.gz": lambda table: gzip.compress(_jsonl(table)),
    "t.jsonl.zst": lambda table: pa.compress(_jsonl(table), "zstd", asbytes=True),
    "t.xlsx": _excel,
}


@pytest.fixture
def read(tmp_path):
    def call(data, name, spill=spool.SPILL, limit=None, **options):
        path = tmp_path / name
        path.write_bytes(data)
        table, sniffed = ingest.read(Source(str(path), path.suffix, **options), spill=spill, limit=limit)
        return (pq.read_table(table.path) if isinstance(table, Written) else table), sniffed

    return call


# ── the same frame ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("file", ["telco_churn.csv", "abalone.csv", "winequality_white.csv"])
def test_real_tables_read_alike_in_every_format(shared_data, read, name, file):
    table, _ = ingest.read(Source(str(shared_data(file)), ".csv"))
    table = table.slice(0, 1500).combine_chunks()
    found, sniffed = read(WRITERS[name](table), name)
    assert found.schema.equals(table.schema)
    assert found.equals(table)
    assert sniffed["summary"].endswith(f"1,500 × {table.num_columns}")


COLUMNS = st.sampled_from(
    [
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.text("aß漢,\"'\n {}[]:", min_size=1, max_size=5).map(lambda text: f"x{text}x"),
    ]
)


@st.composite
def tables(draw):
    """Tables as reading a CSV gives them: typed on whole columns, no whole-number floats without a point."""
    rows = draw(st.integers(1, 8))
    cells = {
        f"c{i}": draw(st.lists(draw(COLUMNS), min_size=rows, max_size=rows)) for i in range(draw(st.integers(1, 4)))
    }
    return pa.table(cells)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables())
@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.arrows", "t.jsonl"])
@pytest.mark.parametrize("spill", [spool.SPILL, 3])
def test_any_table_reads_alike_in_every_format(read, table, name, spill):
    found, _ = read(WRITERS[name](table), name, spill=spill)
    assert found.equals(table)


# ── what is hashed is what is read, and what is in it ───────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["t.csv", *WRITERS])
@pytest.mark.parametrize("spill", [spool.SPILL, 3])
def test_a_file_replaced_while_it_is_read_does_not_reach_the_table(tmp_path, monkeypatch, name, spill):
    write = WRITERS.get(name, lambda table: table.to_pandas().to_csv(index=False).encode())
    path, data = tmp_path / name, write(pa.table({"a": [1, 2]}))
    path.write_bytes(data)
    whole = spool.take

    def take_then_replace(*args, **kwargs):
        taken = whole(*args, **kwargs)
        path.write_bytes(write(pa.table({"a": [9, 9]})))
        return taken

    monkeypatch.setattr(spool, "take", take_then_replace)
    digest = hashlib.sha256(data).hexdigest()
    table, _ = ingest.read(Source(str(path), path.suffix), expect=digest, spill=spill)
    table = pq.read_table(table.path) if isinstance(table, Written) else table
    assert table["a"].to_pylist() == [1, 2]
    with pytest.raises(SourceChangedError):
        ingest.read(Source(str(path), path.suffix), expect=digest, spill=spill)


NAMES = ["__proto__", "<script>", "=cmd()", "../x", "x" * 10_000, "\u202ertl", "a\u200bb", "a\tb", "ü", "select"]


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "t.xlsx"])
def test_strange_names_and_numbers_are_only_names_and_numbers(read, name):
    hard = [2**63 - 1, -(2**63), 0]
    table = pa.table({one: ["x", "=1+1", "<b>"] for one in NAMES} | {"n": hard, "f": [1e308, 5e-324, -0.0]})
    found, _ = read(WRITERS[name](table), name)
    assert found.column_names == [*NAMES, "n", "f"]
    assert found.equals(table)
    assert str(found["f"][2].as_py()) == "-0.0"


@pytest.mark.parametrize("name", WRITERS)
def test_one_row_and_a_thousand_columns(read, name):
    table = pa.table({f"c{i}": [i] for i in range(1000)})
    assert read(WRITERS[name](table), name)[0].equals(table)


# ── JSON lines ──────────────────────────────────────────────────────────────────────────────────────────────


def test_json_lines_are_typed_on_whole_columns(read):
    lines = [
        {"i": 1, "f": 1, "b": True, "code": "007", "n": None, "mixed": 1, "big": 2**70},
        {"i": 2, "f": 2.5, "b": None, "code": "12", "mixed": "one", "late": "x"},
    ]
    table, sniffed = read("\n".join(map(json.dumps, lines)).encode() + b"\n\n", "t.jsonl")
    assert {f.name: str(f.type) for f in table.schema} == {
        "i": "int64",
        "f": "double",
        "b": "double",
        "code": "string",
        "n": "double",
        "mixed": "string",
        "big": "string",
        "late": "string",
    }
    assert table["mixed"].to_pylist() == ["1", "one"]
    assert table["late"].to_pylist() == [None, "x"]
    assert sniffed["format"] == "jsonl"


def test_texts_in_json_stay_texts_unless_declared_otherwise(read):
    data = b'{"zip": "12", "day": "2026-01-31"}\n{"zip": "13", "day": "2026-02-01"}\n'
    assert [str(t) for t in read(data, "t.jsonl")[0].schema.types] == ["string", "string"]
    table, _ = read(data, "t.jsonl", types={"zip": "int"}, dates=("day",))
    assert [str(t) for t in table.schema.types] == ["int64", "timestamp[us]"]


def test_a_marker_among_numbers_is_missing_in_json_too(read):
    table, sniffed = read(b'{"a": 1}\n{"a": "NA"}\n{"a": ""}\n', "t.jsonl")
    assert table["a"].to_pylist() == [1.0, None, None]
    assert 'missing: "" (1 cell in 1 column), "NA"' in sniffed["summary"]


def test_nested_values_are_kept_as_text_with_a_note(read):
    table, sniffed = read(b'{"a": {"b": [1, 2.50]}, "c": 1}\n', "t.jsonl")
    assert table["a"].to_pylist() == ['{"b":[1,2.50]}']
    assert sniffed["notes"] == ["nested values are kept as JSON text: a"]


BROKEN_JSON = {
    "array": (b'[{"a": 1}]\n', "line 1 .*a JSON array, not an object"),
    "second": (b'{"a": 1}\n{"a": \n', "line 2 cannot be read"),
    "number": (b"1\n", "line 1 .*is no object"),
    "twice": (b'{"a": 1, "a": 2}\n', "line 1 .*'a' stands twice"),
    "deep": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "line 1.* nested too deeply"),
    "deep object": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", "line 1.* nested too deeply"),
    "blank": (b"\n \n", "no text but blanks"),
    "empty key": (b'{"": 1}\n', "a key is empty"),
    "NUL": (b'{"a": "\x00"}\n', "NUL"),
    "empty objects": (b"{}\n{}\n", "no column"),
}


@pytest.mark.parametrize("case", BROKEN_JSON)
def test_broken_json_ends_in_one_clear_error_with_its_line(read, case):
    data, message = BROKEN_JSON[case]
    with pytest.raises(DataError, match=message) as caught:
        read(data, "t.jsonl")
    assert len(str(caught.value)) < 1000


def test_json_with_a_new_key_on_each_line_does_not_fill_the_memory(read, monkeypatch):
    monkeypatch.setattr(text_source, "MOST_COLUMNS", 50)
    with pytest.raises(DataError, match="more than 50 columns"):
        read(b"".join(b'{"k%d": 1}\n' % i for i in range(100)), "t.jsonl")


def test_blocks_of_json_agree_however_they_are_cut(read, monkeypatch):
    data = b"".join(json.dumps({f"c{i % 3}": i, "all": i / 2}).encode() + b"\n" for i in range(100))
    whole, _ = read(data, "t.jsonl")
    monkeypatch.setattr(text_source, "BLOCK_CELLS", 7)
    assert read(data, "t.jsonl")[0].equals(whole)


# ── Arrow ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True])
def test_damaged_arrow_is_refused(read, stream):
    good = _arrow(pa.table({"a": list(range(1000)), "b": ["x"] * 1000}), stream=stream)
    for data in (good[: len(good) // 2], good[:40] + b"\xff" * 60 + good[100:]):
        with pytest.raises(DataError, match="not a whole Arrow file"):
            read(data, "t.arrow")
    with pytest.raises(DataError, match="no rows"):
        read(_arrow(pa.table({"a": pa.array([], pa.int64())}), stream=stream), "t.arrow")


def test_a_text_file_named_as_another_format_is_refused(read):
    for name in ("t.arrow", "t.parquet", "t.xlsx", "t.ods"):
        with pytest.raises(DataError, match=f"named {name[1:]} but does not begin as"):
            read(b"a,b\n1,2\n", name)


def test_extension_types_are_refused(read):
    class Money(pa.ExtensionType):
        def __init__(self):
            super().__init__(pa.int64(), "test.money")

        def __arrow_ext_serialize__(self):
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage, serialized):
            return cls()

    array = pa.ExtensionArray.from_storage(Money(), pa.array([1, 2]))
    with pytest.raises(DataError, match="'m' has an extension type"):
        read(_arrow(pa.table({"m": array})), "t.arrow")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 500), byte=st.integers(0, 255), stream=st.booleans())
def test_any_flipped_byte_of_an_arrow_file_ends_in_a_table_or_a_data_error(read, at, byte, stream):
    good = bytearray(_arrow(pa.table({"a": [1, 2], "b": ["x", None]}), stream=stream))
    good[min(at, len(good) - 1)] = byte
    try:
        table, _ = read(bytes(good), "t.arrow" if not stream else "t.bin", limit=1 << 30)
    except DataError:
        return
    assert table.num_rows > 0


# ── Excel ───────────────────────────────────────────────────────────────────────────────────────────────────


def workbook(*sheets):
    """A workbook of (name, rows)."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    return book


def saved(book):
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


ROWS = [["id", "city"], [1, "Oslo"], [2, "Rome"]]


def test_the_one_sheet_with_data_is_taken(read):
    table, sniffed = read(saved(workbook(("Notes", []), ("Data", ROWS))), "t.xlsx")
    assert table.to_pylist() == [{"id": 1, "city": "Oslo"}, {"id": 2, "city": "Rome"}]
    assert sniffed["summary"] == "sheet 'Data' · 2 × 2"


def test_of_several_sheets_one_is_asked_for_and_can_be_named_or_numbered(read):
    data = saved(workbook(("Sales", ROWS), ("Q2", [["x"], [5]])))
    with pytest.raises(DataError, match=r"2 sheets hold data: 'Sales' \(3 × 2\), 'Q2' \(2 × 1\)") as caught:
        read(data, "t.xlsx")
    assert "sheet='Sales'" in caught.value.hint
    assert read(data, "t.xlsx", sheet="Q2")[0].to_pylist() == [{"x": 5}]
    assert read(data, "t.xlsx", sheet=1)[0].to_pylist() == [{"x": 5}]
    with pytest.raises(DataError, match='no such sheet; did you mean "Sales"'):
        read(data, "t.xlsx", sheet="Sale")
    with pytest.raises(DataError, match="sheet=7: there are 2"):
        read(data, "t.xlsx", sheet=7)
    with pytest.raises(DataError, match="this is no workbook"):
        read(b"a,b\n1,2\n", "t.csv", sheet="Q1")


def test_a_title_above_the_table_is_passed_over(read):
    rows = [["Customers 2026"], [], [None, "id", "city"], [None, 1, "Oslo"], [None, 2, None]]
    table, sniffed = read(saved(workbook(("Data", rows))), "t.xlsx")
    assert table.to_pylist() == [{"id": 1, "city": "Oslo"}, {"id": 2, "city": None}]
    assert sniffed["summary"].startswith("sheet 'Data' from row 3")
    assert sniffed["header_row"] == 3


def test_cells_of_a_sheet_get_their_types(read):
    rows = [
        ["n", "share", "flag", "day", "code", "mixed", "blank"],
        [1, 0.5, True, dt.date(2026, 1, 31), "007", 1, None],
        [2, 1, False, dt.datetime(2026, 2, 1, 10, 30), "12", "one", None],
    ]
    table, _ = read(saved(workbook(("Data", rows))), "t.xlsx")
    assert {f.name: str(f.type) for f in table.schema} == {
        "n": "int64",
        "share": "double",
        "flag": "bool",
        "day": "timestamp[us]",
        "code": "string",
        "mixed": "string",
        "blank": "double",
    }
    assert table["day"].to_pylist() == [dt.datetime(2026, 1, 31), dt.datetime(2026, 2, 1, 10, 30)]
    assert table["code"].to_pylist() == ["007", "12"]


def test_the_values_of_formulas_are_read_and_merged_cells_are_told(read):
    book = workbook(("Data", [["group", "x"], ["a", 1], [None, 2]]))
    book["Data"].merge_cells("A2:A3")
    table, sniffed = read(saved(book), "t.xlsx")
    assert table.to_pylist() == [{"group": "a", "x": 1}, {"group": None, "x": 2}]
    assert any("1 merged range" in note for note in sniffed["notes"])
    data = saved(workbook(("Data", [["x", "y"], [1, "=A2*2"]])))
    with zipfile.ZipFile(io.BytesIO(data)) as before:
        parts = {name: before.read(name) for name in before.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    parts[sheet] = (
        parts[sheet].replace(b"<v></v>", b"<v>2</v>").replace(b"<v />", b"<v>2</v>").replace(b"<v/>", b"<v>2</v>")
    )
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as after:
        for name, content in parts.items():
            after.writestr(name, content)
    assert read(sink.getvalue(), "t.xlsx")[0].to_pylist() == [{"x": 1, "y": 2}]


BROKEN_SHEETS = {
    "names twice": ([["a", "a"], [1, 2]], "more than once: 'a'"),
    "no rows": ([["a", "b"]], "no rows below it"),
    "no name": ([["a", None, "c"], [1, 2, 3]], "no name for the column B"),
    "nothing": ([], "no sheet of the workbook holds data"),
}


@pytest.mark.parametrize("case", BROKEN_SHEETS)
def test_sheets_that_are_no_tables(read, case):
    rows, message = BROKEN_SHEETS[case]
    with pytest.raises(DataError, match=message):
        read(saved(workbook(("Data", rows))), "t.xlsx")


def test_damaged_workbooks_and_other_archives(read):
    good = saved(workbook(("Data", ROWS)))
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.csv", "a\n1\n")
    for data, message in [
        (good[: len(good) // 2], "not a whole workbook"),
        (sink.getvalue(), "a zip archive that is no workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "not a whole workbook"),
    ]:
        with pytest.raises(DataError, match=message):
            read(data, "t.xlsx")


def test_without_the_extra_the_command_that_installs_it_is_told(read, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "python_calamine", None)
    with pytest.raises(MissingExtraError) as caught:
        read(saved(workbook(("Data", ROWS))), "t.xlsx")
    assert caught.value.hint == "pip install 'penstock[excel]'"


def test_an_open_document_sheet_reads_too(read):
    cells = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="{"string" if isinstance(v, str) else "float"}"'
            + (f"><text:p>{v}</text:p>" if isinstance(v, str) else f' office:value="{v}"><text:p>{v}</text:p>')
            + "</table:table-cell>"
            for v in row
        )
        + "</table:table-row>"
        for row in ROWS
    )
    spaces = " ".join(f'xmlns:{p}="urn:oasis:names:tc:opendocument:xmlns:{p}:1.0"' for p in ("office", "table", "text"))
    content = (
        f'<?xml version="1.0"?><office:document-content {spaces}><office:body><office:spreadsheet>'
        f'<table:table table:name="S">{cells}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "META-INF/manifest.xml",
            '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>',
        )
        archive.writestr("content.xml", content)
    assert read(sink.getvalue(), "t.ods")[0].to_pylist() == [{"id": 1, "city": "Oslo"}, {"id": 2, "city": "Rome"}]


def test_a_frame_written_by_pandas_reads_back_from_excel(read):
    frame = pd.DataFrame({"id": [1, 2], "when": pd.to_datetime(["2026-01-01", "2026-01-02"]), "x": [0.25, None]})
    sink = io.BytesIO()
    frame.to_excel(sink, index=False)
    table, _ = read(sink.getvalue(), "t.xlsx")
    assert table.to_pandas()["x"].tolist()[0] == 0.25
    assert str(table.schema.field("when").type) == "timestamp[us]"
