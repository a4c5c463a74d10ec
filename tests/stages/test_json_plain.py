"""JSON lines parsed by pyarrow give the table that they give one by one, or are left to that slower way."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.core.artifact import Written
from penstock.core.source import Source
from penstock.errors import DataError
from penstock.stages import ingest, json_plain, json_source, one_pass, text_source


def outcome(path, spill, options):
    """The table as read, or the words of the refusal."""
    try:
        table, sniffed = ingest.read(Source(str(path), ".jsonl", **options), spill=spill)
    except DataError as error:
        return str(error)
    table = pq.read_table(table.path) if isinstance(table, Written) else table
    return table.schema, repr(table.to_pydict()), json.dumps(sniffed)


def check(path, data, **options):
    """The same, with the shortcut and without, in memory and streamed; whether the shortcut was taken."""
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    taken = []
    whole = json_source.JsonTable._by_json
    for spill in (1 << 26, 8):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_plain, "PIECE", 512)
            patch.setattr(json_plain, "FREE", 128)
            patch.setattr(one_pass, "AHEAD", 1)
            patch.setattr(json_source.JsonTable, "_by_json", lambda *args: taken.append(0) or whole(*args))
            found = outcome(path, spill, options)
            patch.setattr(json_plain.PlainCells, "fill", lambda *_: False)
            assert outcome(path, spill, options) == found
    return len(taken) == 2


PLAIN = [
    {"a": 1, "b": "x", "c": 1.5, "d": True},
    {"b": "2026-01-31", "a": -2, "c": -0.25, "d": False, "e": "2026-01-31T10:00:00"},
    {"a": 3, "c": None, "é": "ü\n", "f": None},
]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_plain_lines_take_the_shortcut(tmp_path):
    path = tmp_path / "t.jsonl"
    assert check(path, lines(PLAIN * 9))
    assert check(path, lines(PLAIN).replace("\n", "\r\n"))
    assert check(path, "\ufeff" + lines(PLAIN).rstrip("\n"))
    assert check(path, lines([*PLAIN, {"g": "[{" * 20}]))
    assert check(path, lines([{"a": "NA"}, {"a": ""}] * 9))
    assert check(path, lines([{"a": 1}, {"a": 2.5}] * 9), na=("unknown",))
    assert check(path, lines([{"a": 2**60}] * 3))


@pytest.mark.parametrize(
    "data",
    [
        '{"a":1}{"a":2}\n{"a":\n3}\n',
        '{"a":1}{"a":2}\n',
        '{"a":1} \n{"a":2}\n',
        '{"a":1}\n\n{"a":2}\n',
        '{"a":1}\r{"a":2}\n',
        '{"a":1,"a":2}\n',
        '{"a":1,"\\u0061":2}\n',
        '{"a":-0}\n{"a":null}\n',
        '{"a":9223372036854775808}\n',
        '{"a":9007199254740993}\n{"a":null}\n',
        '{"a":NaN}\n{"a":1.5}\n',
        '{"a":Infinity}\n{"a":1e999}\n',
        '{"a":1}\n{"a":"x"}\n',
        '{"a":1}\n{"a":true}\n',
        '{"a":{"b":1.50}}\n{"a":[1,2]}\n',
        '{"a":"\\ud800"}\n',
        '{"a":1}\nx\n',
        '{"a":01}\n',
        '{"a":1\n',
        "{}\n{}\n",
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}\n",
        lines([{"a": 1, "b": "x" * 90}] * 5 + [{"a": "late"}]),
        lines([{"a": 1, "b": "x" * 90}] * 5 + [{"a": False}]),
    ],
)
def test_all_else_goes_one_by_one(tmp_path, data):
    assert not check(tmp_path / "t.jsonl", data)


@pytest.mark.parametrize(
    "data",
    ['{"a":-0}\n{"a":2.5}\n', '{"a":9007199254740993}\n{"a":1.5}\n', '{"":1}\n', '{"a":1e2}\n{"a":7}\n'],
)
def test_what_needs_care_is_the_same_either_way(tmp_path, data):
    check(tmp_path / "t.jsonl", data)
    check(tmp_path / "t.jsonl", data * 200)


@pytest.mark.parametrize("kind", ["int", "float", "bool", "str", "category", "datetime"])
def test_a_column_of_a_declared_type_may_have_no_value_at_all(tmp_path, kind):
    assert check(tmp_path / "t.jsonl", lines([{"a": None, "b": "x"}] * 30), types={"a": kind})


def test_a_column_may_have_no_value_in_a_whole_piece(tmp_path):
    rows = [{"a": 1, "b": "x"}] * 9 + [{"a": None, "b": "x"}] * 90 + [{"a": 2.5, "b": None}] * 90
    assert check(tmp_path / "t.jsonl", lines(rows))


def test_half_a_character_is_refused_with_its_line(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a":"x"}\n{"a":"\\ud800"}\n')
    with pytest.raises(DataError, match=r"line 2: a text holds half a character \(\\ud800\)"):
        ingest.read(Source(str(tmp_path / "t.jsonl"), ".jsonl"))


@pytest.mark.parametrize(
    ("options", "shortcut"),
    [
        ({"types": {"a": "str"}}, False),
        ({"types": {"b": "category"}}, True),
        ({"dates": ("b",)}, True),
        ({"na": ("1",)}, False),
        ({"na": ("true",)}, False),
        ({"na": ("x", "")}, True),
        ({"columns": ("b", "a")}, True),
        ({"strip": False}, True),
    ],
)
def test_declarations(tmp_path, options, shortcut):
    rows = [{"a": 1, "b": "2026-01-31", "c": " x ", "d": True}, {"a": None, "b": "", "c": "x", "d": False}] * 5
    assert check(tmp_path / "t.jsonl", lines(rows), **options) == shortcut


def test_keys_that_never_end_are_met_in_few_rows(tmp_path, monkeypatch):
    """Each new key is a column of all rows of its piece: many of them would fill the memory."""
    widest = []
    whole = json_plain._parsed

    def measured(piece, types, others):
        table = whole(piece, types, others)
        widest.append(table.num_columns)
        return table

    monkeypatch.setattr(json_plain, "_parsed", measured)
    monkeypatch.setattr(text_source, "MOST_COLUMNS", 50)
    assert not check(tmp_path / "t.jsonl", "".join(f'{{"k{i}":{i}}}\n' for i in range(5000)))
    assert max(widest) < 20


def test_limits_refuse_alike(tmp_path):
    assert not check(tmp_path / "t.jsonl", lines(PLAIN * 9), max_rows=5)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64),
    st.integers(-9, 9),
    st.floats(),
    st.sampled_from([0, -0.0, "", "NA", "x", "?", " x ", "2026-01-31", "1", "true", "[", [1], {"x": 1.5}]),
)
ROWS = st.lists(st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4), min_size=1, max_size=8)
SAME = st.tuples(st.integers(-9, 9), st.floats(-9, 9), st.booleans(), st.sampled_from(["x", "", "NA", "2026-01-31"]))


@settings(max_examples=60, deadline=None)
@given(rows=ROWS | st.lists(SAME.map(lambda row: dict(zip("abcd", row, strict=True))), min_size=1, max_size=30))
@example(rows=[{"a": 1}] * 90 + [{"a": 1, "b": "2026-01-31"}] * 90 + [{"b": "x"}])
@example(rows=[{"a": 1, "b": None}] * 90 + [{"a": 1.5, "b": True}] * 90 + [{"a": None}])
@example(rows=[{"a": 1.5}] * 90 + [{"a": 2**53 + 1}] * 90 + [{"a": -0.0}])
def test_both_ways_give_the_same(tmp_path_factory, rows):
    check(tmp_path_factory.mktemp("rows") / "t.jsonl", lines(rows))


@pytest.mark.parametrize(
    ("safeguard", "without", "data"),
    [
        ("_one_object_a_line", lambda *_: True, '{"a":1}{"a":2}\n{"a":\n3}'),
        ("_MOST_FLOAT", 1e300, '{"a":9223372036854775808}\n{"a":1}\n'),
        ("_EXACT", 1 << 63, '{"a":9007199254740993}\n{"a":null}\n'),
    ],
)
def test_sabotage_without_its_doubt_the_shortcut_gives_other_cells(tmp_path, monkeypatch, safeguard, without, data):
    check(tmp_path / "t.jsonl", data)
    monkeypatch.setattr(json_plain, safeguard, without)
    with pytest.raises((AssertionError, TypeError)):
        check(tmp_path / "t.jsonl", data)


def test_what_was_put_away_in_vain_is_forgotten(tmp_path):
    from penstock.stages.spool import Spool

    for spill in (1 << 20, 4):
        text, into = Spool(spill), Spool(spill)
        text.write(b'{"a":1}\n' * 20 + b"x\n")
        into.write(b"kept")
        assert not json_plain.PlainCells(into, Source("t.jsonl"), 1 << 20).fill(text, 0)
        into.write(b"!")
        assert into.head(9) == b"kept!"
        text.close()
        into.close()


def test_texts_come_without_nulls(tmp_path):
    """The rules for texts know empty cells, not nulls."""
    (tmp_path / "t.jsonl").write_text('{"a":"x"}\n{"b":null}\n{"b":1}\n')
    table, _ = ingest.read(Source(str(tmp_path / "t.jsonl"), ".jsonl"))
    assert table.schema.types == [pa.string(), pa.float64()]
    assert table.to_pydict() == {"a": ["x", None, None], "b": [None, None, 1.0]}
