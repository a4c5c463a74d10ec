"""Rows and bytes are judged before they are read: bombs end within two seconds, with figures and a cure."""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import time
import zipfile
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.artifact import Written
from penstock.core.source import Source
from penstock.errors import DataError
from penstock.stages import ingest, limits, parquet_source, spool
from penstock.stages.limits import Limits


@pytest.fixture
def read(tmp_path):
    def call(data, name, limit=None, **options):
        path = tmp_path / name
        path.write_bytes(data)
        return ingest.read(Source(str(path), path.suffix, **options), limit=limit)

    return call


@pytest.fixture
def small(monkeypatch):
    """The same rules on an eighth of the bytes."""
    monkeypatch.setattr(limits, "SUSPICIOUS", limits.SUSPICIOUS // 8)
    monkeypatch.setattr(spool, "SAMPLE", spool.SAMPLE // 8)


def refused(read, data, name, message, **options):
    began = time.process_time()
    with pytest.raises(DataError, match=message) as caught:
        read(data, name, **options)
    assert time.process_time() - began < 2.0
    return caught.value


# ── compressed text ─────────────────────────────────────────────────────────────────────────────────────────

BLOCK = b"1,2\n" * (1 << 20)


def gzip_bomb(blocks):
    machine = zlib.compressobj(9, wbits=31)
    return machine.compress(b"a,b\n") + b"".join(machine.compress(BLOCK) for _ in range(blocks)) + machine.flush()


BOMBS = {
    "gzip": lambda: gzip_bomb(12),
    "gzip twice": lambda: b"".join(gzip_bomb(3) for _ in range(4)),
    "xz": lambda: lzma.compress(b"a,b\n" + BLOCK * 12, preset=0),
    "zstd": lambda: pa.compress(b"a,b\n" + BLOCK * 12, "zstd", asbytes=True),
    "bz2": lambda: b"".join([bz2.compress(b"a,b\n" + BLOCK)] + [bz2.compress(BLOCK)] * 12),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_compressed_bomb_is_refused_by_what_has_been_seen_of_it(read, small, kind):
    data = BOMBS[kind]()
    assert len(data) < 2_000_000
    error = refused(read, data, "t.csv.gz", "bytes once unpacked, from a file of")
    assert "max_bytes=" in error.hint


def test_who_states_the_bytes_means_them(read, monkeypatch):
    monkeypatch.setattr(limits, "SUSPICIOUS", 1 << 20)
    table, _ = read(gzip_bomb(1), "t.csv.gz", max_bytes=8 << 20)
    assert table.num_rows == 1 << 20
    refused(read, gzip_bomb(3), "t.csv.gz", "past the limit of 8,388,608", max_bytes=8 << 20)


def test_sabotage_without_the_judgement_a_bomb_is_unpacked(read, monkeypatch):
    monkeypatch.setattr(limits, "SUSPICIOUS", 1 << 60)
    with pytest.raises(DataError, match="past the limit of"):
        read(gzip_bomb(12), "t.csv.gz", limit=32 << 20)


# ── Parquet and Arrow ───────────────────────────────────────────────────────────────────────────────────────


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def lying(rows):
    """A small Parquet file whose footer speaks of other numbers of rows."""
    data = bytearray(parquet(pa.table({"a": list(range(70))}), compression="none"))
    (size,) = struct.unpack("<I", data[-8:-4])
    at = len(data) - 8 - size
    footer = bytes(data[at:-8]).replace(b"\x16\x8c\x01", b"\x16" + varint(rows * 2))
    return bytes(data[:at]) + footer + struct.pack("<I", len(footer)) + b"PAR1"


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def test_a_parquet_file_of_forty_kilobytes_that_says_terabytes_is_refused_unread(read):
    word = "x" * 1_000_000
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000_000, pa.int32()), pa.array([word]))
    data = parquet(pa.table({"a": texts}), compression="zstd", row_group_size=3_000_000)
    assert len(data) < 40_000
    error = refused(read, data, "t.parquet", "bytes of texts once spelled out|bytes once unpacked")
    assert "max_bytes=" in error.hint


@pytest.mark.parametrize("rows", [10**12, 10**15, 2**62])
def test_a_footer_that_speaks_of_more_rows_than_can_be_is_refused(read, rows):
    refused(read, lying(rows), "t.parquet", "past the limit|not a whole Parquet")


@pytest.mark.parametrize("rows", [71, 10_000])
def test_a_footer_that_lies_by_a_little_is_found_out(read, rows):
    refused(read, lying(rows), "t.parquet", "rows, .* were found|damaged|not a whole Parquet")


def forged(rows, claimed):
    """A Parquet file of ten row groups whose footer claims fewer rows than they hold."""
    data = parquet(pa.table({"a": list(range(rows))}), compression="none", row_group_size=rows // 10)
    (size,) = struct.unpack("<I", data[-8:-4])
    at = len(data) - 8 - size
    footer = data[at:-8].replace(b"\x16" + varint(rows * 2), b"\x16" + varint(claimed * 2))
    assert footer != data[at:-8]
    return data[:at] + footer + struct.pack("<I", len(footer)) + b"PAR1"


def test_a_footer_that_claims_fewer_rows_than_there_are_does_not_pass_the_limit(read, monkeypatch):
    """The limit was held against the claim: reading ends as soon as more has come, not after all of it."""
    monkeypatch.setattr(parquet_source, "BATCH_ROWS", 100)
    seen = []
    monkeypatch.setattr(parquet_source, "forced", lambda batch, *_: seen.append(batch.num_rows) or batch)
    error = refused(read, forged(1_000, 150), "t.parquet", "speaks of 150 rows, 200 or more were found", max_rows=150)
    assert "t.parquet" in str(error)
    assert sum(seen) <= 150


def test_texts_that_grow_once_spelled_out_go_to_a_file(read, tmp_path):
    """Their footer speaks of a few kilobytes: what is in memory is counted as it comes."""
    words = pa.array([f"{n}" * 5_000 for n in range(4)])
    texts = pa.DictionaryArray.from_arrays(pa.array([n % 4 for n in range(2_000)], pa.int32()), words).cast(pa.string())
    path = tmp_path / "t.parquet"
    path.write_bytes(parquet(pa.table({"a": texts})))
    small, _ = ingest.read(Source(str(path), ".parquet"))
    large, _ = ingest.read(Source(str(path), ".parquet"), spill=1 << 20)
    assert isinstance(large, Written)
    assert pq.read_table(large.path).column("a").to_pylist() == small.column("a").to_pylist()


def test_run_lengths_that_grow_beyond_measure_are_refused(read, small):
    data = parquet(pa.table({"a": pa.array([0] * 6_000_000, pa.int8())}), row_group_size=6_000_000)
    refused(read, data, "t.parquet", "times as many, as no table grows")


def test_an_arrow_bomb_is_measured_before_it_is_unpacked(read, small):
    table = pa.table({"a": pa.array([0] * 6_000_000, pa.int64())})
    for make in (pa.ipc.new_file, pa.ipc.new_stream):
        sink = pa.BufferOutputStream()
        with make(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
        data = sink.getvalue().to_pybytes()
        assert len(data) < 100_000
        refused(read, data, "t.arrow", "times as many, as no table grows")


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_a_column_nested_a_thousand_levels_deep_is_refused(read, name):
    kind = pa.int64()
    for _ in range(1000):
        kind = pa.list_(kind)
    if name == "t.arrow":
        sink = pa.BufferOutputStream()
        try:
            with pa.ipc.new_stream(sink, pa.schema([("a", kind)])):
                pass
            data = sink.getvalue().to_pybytes()
        except pa.ArrowInvalid:  # the writer gives up first; the header alone says the depth
            data = b"\xff\xff\xff\xff" + struct.pack("<I", 64) + b"\x10\0\0\0" * 16
    else:
        data = parquet(pa.schema([("a", kind)]).empty_table())
    refused(read, data, name, "nested|not a whole|has the type|no rows")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 3000), byte=st.integers(0, 255))
def test_any_flipped_byte_of_a_parquet_file_ends_in_a_table_or_a_data_error(read, at, byte):
    good = bytearray(parquet(pa.table({"a": [1, 2], "b": ["x", None]}), compression="none"))
    good[at % len(good)] = byte
    try:
        table, _ = read(bytes(good), "t.parquet", limit=1 << 30)
    except DataError:
        return
    assert table.num_rows > 0


# ── Excel ───────────────────────────────────────────────────────────────────────────────────────────────────

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Override PartName="/xl/workbook.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/></Types>'
)
LINKS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{0}" Target="{1}"/></Relationships>'
)


def workbook(sheet, prolog=""):
    """A workbook by hand, with whatever stands in its sheet."""
    book = (
        f'{prolog}<workbook xmlns="{MAIN}" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
        '<sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>'
    )
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", TYPES)
        archive.writestr("_rels/.rels", LINKS.format("officeDocument", "xl/workbook.xml"))
        archive.writestr("xl/_rels/workbook.xml.rels", LINKS.format("worksheet", "worksheets/sheet1.xml"))
        archive.writestr("xl/workbook.xml", book)
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
    return sink.getvalue()


def cells(*places):
    rows = "".join(f'<row r="{row}"><c r="{column}{row}"><v>1</v></c></row>' for column, row in places)
    return f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData></worksheet>'


def test_two_cells_far_apart_do_not_span_a_rectangle_in_memory(read):
    refused(read, workbook(cells(("A", 1), ("XFD", 1_048_576))), "t.xlsx", "rectangle around all cells")
    assert read(workbook(cells(("A", 1), ("A", 2))), "t.xlsx")[0].num_rows == 1


ONE_ROW = "<table:table-row>{one}</table:table-row>"
EMPTY_ROWS = '<table:table-row table:number-rows-repeated="1048000">{blank}</table:table-row>'


@pytest.mark.parametrize(
    ("rows", "wide"),
    [
        ('<table:table-row table:number-rows-repeated="1048576">{full}</table:table-row>', True),
        (
            ONE_ROW + EMPTY_ROWS + "<table:table-row>{blank}{one}</table:table-row>",
            True,
        ),
        (
            ONE_ROW + ONE_ROW + EMPTY_ROWS,
            False,
        ),
    ],
)
def test_repeated_cells_of_an_open_document_are_counted_not_made(read, rows, wide):
    one = '<table:table-cell office:value-type="float" office:value="1"><text:p>1</text:p></table:table-cell>'
    blank = '<table:table-cell table:number-columns-repeated="16383"/>'
    full = one.replace("<table:table-cell", '<table:table-cell table:number-columns-repeated="16384"')
    spaces = " ".join(f'xmlns:{p}="urn:oasis:names:tc:opendocument:xmlns:{p}:1.0"' for p in ("office", "table", "text"))
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        manifest = '<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
        archive.writestr("META-INF/manifest.xml", manifest)
        archive.writestr(
            "content.xml",
            f'<office:document-content {spaces}><office:body><office:spreadsheet><table:table table:name="S">'
            f"{rows.format(one=one, blank=blank, full=full)}</table:table></office:spreadsheet></office:body>"
            "</office:document-content>",
        )
    if wide:
        refused(read, sink.getvalue(), "t.ods", "rectangle around all cells", limit=1 << 30)
    else:
        assert read(sink.getvalue(), "t.ods", limit=1 << 30)[0].num_rows == 1


def test_a_workbook_that_unpacks_to_too_much_is_refused(read, small):
    sheet = f'<worksheet xmlns="{MAIN}"><sheetData>{" " * 60_000_000}</sheetData></worksheet>'
    refused(read, workbook(sheet), "t.xlsx", "bytes once unpacked, from a file of")


def test_entities_of_a_workbook_are_not_expanded(read):
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">' for i in range(12))
    cell = '<row r="1"><c r="A1" t="str"><v>&l11;</v></c></row>'
    sheet = f'<worksheet xmlns="{MAIN}"><sheetData>{cell}</sheetData></worksheet>'
    refused(read, workbook(f"<!DOCTYPE x [{laughs}]>{sheet}"), "t.xlsx", "not a whole workbook|no rows below")


# ── what is stated ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_more_rows_than_stated_are_refused_with_the_cure(read, name):
    table = pa.table({"a": list(range(100))})
    data = {
        "t.csv": b"a\n" + b"1\n" * 100,
        "t.jsonl": b'{"a": 1}\n' * 100,
        "t.parquet": parquet(table),
    }[name]
    assert read(data, name, max_rows=100)[0].num_rows == 100
    error = refused(read, data, name, "rows or more: past the limit of 99", max_rows=99)
    assert "max_rows=" in error.hint


def test_a_file_larger_than_its_limit_is_not_even_copied(read):
    refused(
        read, b"a\n" + b"1\n" * 1000, "t.csv", "2,002 bytes of data or more: past the limit of 1,000", max_bytes=1000
    )


def test_the_default_follows_the_machine(monkeypatch):
    monkeypatch.setattr(limits, "memory_bytes", lambda: 100 << 30)
    assert Limits.of().bytes == 400 << 30
    monkeypatch.setattr(limits, "memory_bytes", lambda: 1 << 20)
    assert Limits.of().bytes == limits.LEAST
    assert Limits.of(Source("", max_bytes=5)).bytes == 5
