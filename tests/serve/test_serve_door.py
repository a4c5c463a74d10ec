"""Strict JSON, and records held against the contract: every fault with its row and field."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import DataError, FormatError
from penstock.serve.contract import MAX_TEXT, Contract
from penstock.serve.door import Door, strict_json

RECORDS = b'{"records":[{"age":1,"visits":2,"member":true,"city":"Bern","gender":"f"}]}'


def refused(call, *arguments):
    with pytest.raises(DataError) as caught:
        call(*arguments)
    return caught.value.facts["status"], caught.value.what


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 17 + b"]" * 17,
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": ' + b"1" * 5_000 + b"}",
        b'{"a": 1, "a": 1}',
        b'{"b": {"a": 1, "a": 2}}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b"{} x",
        b"{}\0",
        b"{'a': 1}",
        b'{"a": 01}',
        b'{"a": "\n"}',
        b"{,}",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_not_strict_json_is_400(body):
    assert refused(strict_json, body)[0] == 400


def test_strict_json_reads_what_is_right():
    text = '{"a": [1, -2.5e3, null, true, "\\u00e9\\ud83d\\ude00", {}]}'
    assert strict_json(text.encode()) == json.loads(text)
    assert strict_json(b" {} \n") == {}


@pytest.fixture(scope="module")
def door(customers_model):
    return Door(customers_model.contract)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"[]", 422, "and nothing else"),
        (b'{"records": [], "x": 1}', 422, "and nothing else"),
        (b'{"records": {}}', 422, "must be a list"),
        (b'{"records": []}', 422, "is empty"),
        (b'{"records": [1]}', 422, "record 0 must be an object, got a number"),
        (b'{"records": [{}]}', 422, "is missing"),
        (b'{"records": [' + b",".join([b"{}"] * 1001) + b"]}", 413, "at most 1,000"),
    ],
)
def test_the_shape_of_a_request(door, body, status, words):
    given_status, what = refused(door.records, body)
    assert given_status == status
    assert words in what


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("age", True, "must be a number, got true"),
        ("age", "41", "must be a number, got text"),
        ("age", [], "must be a number, got a list"),
        ("age", {}, "must be a number, got an object"),
        ("age", 10**400, "outside the range"),
        ("visits", 1.5, "must be a whole number, got 1.5"),
        ("visits", None, "is null, and the model cannot answer without it"),
        ("visits", 2**63, "outside the range of int64"),
        ("visits", 1e300, "must be a whole number"),
        ("visits", False, "must be a whole number, got false"),
        ("member", 1, "must be true or false, got a number"),
        ("member", "true", "must be true or false, got text"),
        ("city", 3, "must be text, got a number"),
        ("city", "a\0b", "NUL"),
        ("city", "\ud800", "half a surrogate pair"),
        ("city", "x" * (MAX_TEXT + 1), "characters"),
        ("gender", "x", 'is "x", which training never saw (2 levels known)'),
        ("gender", "F", "training never saw"),
        ("gender", None, "is null"),
        ("other", "a\0b", "NUL"),
        ("other", {"a": 1}, "must be a single value"),
        ("other", [1], "must be a single value"),
    ],
)
def test_one_wrong_value_is_422_with_row_and_field(door, kit, field, value, words):
    right = kit.customer
    body = json.dumps({"records": [right, right | {field: value}]}).encode()
    with pytest.raises(DataError) as caught:
        door.records(body)
    assert caught.value.facts["status"] == 422
    (fault,) = caught.value.facts["faults"]
    assert (fault.row, fault.field) == (1, field)
    assert words in fault.fault


def test_missing_null_and_unseen_are_three_things(door, kit):
    right = kit.customer
    without = {name: value for name, value in right.items() if name != "age"}
    status, what = refused(door.records, json.dumps({"records": [without]}).encode())
    assert (status, "is missing; send null" in what) == (422, True)
    assert door.records(json.dumps({"records": [right | {"age": None}]}).encode())[0]["age"] is None
    unseen = door.records(json.dumps({"records": [right | {"city": "Paris"}]}).encode())
    assert door.contract.unseen(unseen) == [["city"]]


def test_at_most_twenty_faults_are_listed_in_order(door):
    with pytest.raises(DataError) as caught:
        door.records(json.dumps({"records": [{"age": "x"}] * 10}).encode())
    faults = caught.value.facts["faults"]
    assert len(faults) == 20
    assert [fault.row for fault in faults] == [row for row in range(4) for _ in range(5)]


def test_whole_numbers_may_be_written_as_floats_and_extra_fields_are_passed_over(door, kit):
    record = kit.customer | {"visits": 3.0, "customer_id": 17, "note": "é", "nothing": None}
    assert door.records(json.dumps({"records": [record]}).encode()) == [record]


def test_column_names_that_msgspec_cannot_take_go_the_slow_way(kit):
    columns = [kit.column('a"b\\', "float64", "number"), kit.column("__proto__", "str", "text")]
    door = Door(Contract.from_json({"task": "regression", "columns": columns}))
    body = json.dumps({"records": [{'a"b\\': 1, "__proto__": "x"}]}).encode()
    assert len(door.records(body)) == 1
    status, what = refused(door.records, body.replace(b": 1", b": true"))
    assert status == 422
    assert "got true" in what


@pytest.mark.parametrize(
    ("dtype", "value", "right"),
    [
        ("datetime64[us]", "2026-01-31", True),
        ("datetime64[us]", "2026-01-31T10:00:00", True),
        ("datetime64[us]", "2026-01-31T10:00:00+01:00", False),
        ("datetime64[ns, UTC]", "2026-01-31T10:00:00+01:00", True),
        ("datetime64[ns, UTC]", "2026-01-31T10:00:00Z", True),
        ("datetime64[ns, UTC]", "2026-01-31", False),
        ("datetime64[ns]", "3000-01-01", False),
        ("datetime64[ns]", "1000-01-01", False),
        ("datetime64[us]", "0001-01-01", False),
        ("datetime64[us]", "yesterday", False),
        ("datetime64[us]", 5, False),
    ],
)
def test_dates(kit, dtype, value, right):
    contract = Contract.from_json({"task": "regression", "columns": [kit.column("at", dtype, "datetime")]})
    records = [{"at": value}]
    assert (contract.faults(records) == []) is right
    if right:
        assert str(contract.frame(records)["at"].dtype) == dtype


def test_offsets_may_differ_in_one_request(kit):
    made = kit.column("at", "datetime64[us, UTC]", "datetime", missing="allow")
    contract = Contract.from_json({"task": "regression", "columns": [made]})
    records = [{"at": "2026-01-31T10:00:00+01:00"}, {"at": "2026-01-31T09:00:00Z"}, {"at": None}]
    assert contract.faults(records) == []
    values = contract.frame(records)["at"]
    assert values[0] == values[1]
    assert str(values.dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize(
    ("dtype", "kind", "values", "missing"),
    [
        ("float64", "number", [1.5, None], "nan"),
        ("float32", "number", [1.5, None], "nan"),
        ("int64", "integer", [1, None], "nan"),
        ("Int64", "integer", [1, None], "<NA>"),
        ("uint8", "integer", [255, 0], ""),
        ("bool", "boolean", [True, None], "nan"),
        ("boolean", "boolean", [True, None], "<NA>"),
        ("str", "text", ["a", None], "nan"),
        ("object", "text", ["a", None], "None"),
        ("string", "text", ["a", None], "<NA>"),
        ("category", "text", ["a", None], "nan"),
        ("category", "integer", [1, None], "nan"),
        ("datetime64[us]", "datetime", ["2026-01-01", None], "NaT"),
    ],
)
def test_every_dtype_comes_back_as_in_training(kit, dtype, kind, values, missing):
    levels = [values[0], values[0] * 2] if dtype == "category" else None
    made = kit.column("x", dtype, kind, categories=levels, missing="allow")
    contract = Contract.from_json({"task": "regression", "columns": [made]})
    records = [{"x": value} for value in values]
    assert contract.faults(records) == []
    series = contract.frame(records)["x"]
    widened = {"int64": "float64", "bool": "float64"} if missing else {}
    assert str(series.dtype) == widened.get(dtype, dtype)
    if missing:
        assert str(series.iloc[1]) == missing


@pytest.mark.parametrize("dtype", ["object", "category"])
def test_a_column_of_objects_takes_what_training_held(kit, dtype):
    """pandas keeps booleans with gaps as objects, and whole numbers may be categories: both count as text."""
    levels = {"object": [False, True], "category": [1, 2, 30]}[dtype]
    made = kit.column("x", dtype, "text", categories=levels, missing="allow")
    door = Door(Contract.from_json({"task": "regression", "columns": [made]}))
    records = [{"x": value} for value in [*levels, None]]
    assert door.records(json.dumps({"records": records}).encode()) == records
    series = door.contract.frame(records)["x"]
    assert str(series.dtype) == dtype
    assert series.tolist()[: len(levels)] == levels
    for wrong in ("yes", 4, 2.5, []):
        assert refused(door.records, json.dumps({"records": [{"x": wrong}]}).encode())[0] == 422


def test_objects_of_many_levels_take_any_scalar(kit):
    door = Door(Contract.from_json({"task": "regression", "columns": [kit.column("x", "object", "text")]}))
    records = [{"x": value} for value in ("a", 1, 2.5, True)]
    assert door.records(json.dumps({"records": records}).encode()) == records
    assert refused(door.records, b'{"records": [{"x": [1]}]}')[0] == 422


def test_the_range_of_small_types_is_kept(kit):
    columns = [
        kit.column("f", "float32", "number"),
        kit.column("u", "uint8", "integer"),
        kit.column("i", "Int16", "integer"),
    ]
    door = Door(Contract.from_json({"task": "regression", "columns": columns}))
    right = {"f": 1e38, "u": 255, "i": -32768}
    assert door.records(json.dumps({"records": [right]}).encode())
    for wrong in ({"f": 1e39}, {"u": 256}, {"u": -1}, {"i": 32768}):
        assert refused(door.records, json.dumps({"records": [right | wrong]}).encode())[0] == 422


def test_a_categorical_column_without_its_levels_cannot_be_served(kit):
    with pytest.raises(FormatError, match="does not keep its levels"):
        Contract.from_json({"task": "regression", "columns": [kit.column("x", "category", "text")]})


def test_columns_twice_or_none_are_refused(kit):
    one = kit.column("x", "float64", "number")
    for columns in ([], [one, one]):
        with pytest.raises(FormatError, match="at least one column, each once"):
            Contract.from_json({"task": "regression", "columns": columns})


# ── the two passes agree ─────────────────────────────────────────────────────────────────────────────────────

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["Bern", "f", "m", "x", "2026-01-01", "", "a\0", "\ud800", "é"]),
    st.text(max_size=5),
    st.sampled_from([3.0, 2.0**53, 2**63, -(2**63), 2**63 - 1, 255, 256, 1e39, -0.0]),
)


@settings(max_examples=400)
@given(st.data())
def test_law_what_the_fast_pass_accepts_the_slow_one_accepts_too(kit_columns, data):
    """`Door._fast` may only spare work: it never lets through what the contract calls a fault."""
    door = kit_columns
    record = {column.name: data.draw(scalars) for column in door.contract.columns}
    text = json.dumps({"records": [record]})
    if not any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for v in record.values() if isinstance(v, str) for c in v):
        faults = door.contract.faults([record])
        if door._fast([record]):
            assert faults == []
    try:
        records = door.records(text.encode())
    except DataError as error:
        if error.facts["status"] not in (400, 422):
            raise
        return
    assert door.contract.faults(records) == []
    frame = door.contract.frame(records)
    assert list(frame.columns) == [column.name for column in door.contract.columns]
    for column in door.contract.columns:
        value = records[0][column.name]
        if column.kind == "number" and value is not None:
            assert math.isfinite(frame[column.name].iloc[0])


@pytest.fixture(scope="module")
def kit_columns():
    def column(name, dtype, kind, **more):
        return {"name": name, "dtype": dtype, "kind": kind, "unseen": "refuse", "missing": "refuse"} | more

    columns = [
        column("a", "float64", "number", missing="allow"),
        column("b", "float32", "number"),
        column("c", "int64", "integer"),
        column("d", "uint64", "integer", missing="allow"),
        column("e", "uint8", "integer", categories=[1, 2, 3]),
        column("f", "bool", "boolean", missing="allow"),
        column("g", "str", "text", categories=["f", "m"]),
        column("h", "object", "text", categories=["Bern"], unseen="count", missing="allow"),
        column("i", "category", "text", categories=["f", "m"], missing="allow"),
        column("j", "datetime64[us]", "datetime", missing="allow"),
        column("k", "float64", "number", categories=[1.0, 2.5], missing="allow"),
    ]
    return Door(Contract.from_json({"task": "regression", "columns": columns}))
