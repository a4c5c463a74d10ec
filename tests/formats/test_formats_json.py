"""Canonical JSON: everything comes back equal or is refused; equal values have equal bytes."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import hashlib
import json
import math
import subprocess
import sys
import time
import zoneinfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.artifact import INLINE_LIMIT, Artifact
from penstock.errors import CorruptObjectError, FormatError
from penstock.formats import canonical_json
from penstock.formats.canonical_json import dumps, loads
from penstock.formats.json_tags import same

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
KEYS = st.one_of(
    st.text(), st.sampled_from(["$tuple", "$", "$dict", "$x"]), st.integers(), st.booleans(), st.none(), st.binary()
)
HASHABLE = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.dates())
ATOMS = st.one_of(
    HASHABLE,
    FLOATS,
    st.complex_numbers(),
    st.decimals(allow_nan=False),
    st.datetimes(timezones=st.sampled_from([None, dt.UTC, zoneinfo.ZoneInfo("Europe/Paris")])),
    st.times(),
    st.timedeltas(),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.frozensets(HASHABLE, max_size=4),
    ),
    max_leaves=12,
)


@given(VALUES)
def test_whatever_is_written_comes_back_equal_with_its_types(value):
    data = dumps(value)
    assert same(value, loads(data))
    assert dumps(loads(data)) == data
    json.loads(data, parse_constant=pytest.fail)  # it is JSON that any reader takes


@given(st.dictionaries(KEYS, st.integers(), min_size=2, max_size=6))
def test_the_order_of_insertion_leaves_no_trace(value):
    assert dumps(dict(reversed(list(value.items())))) == dumps(value)


@given(st.dictionaries(st.text(), st.recursive(st.integers(), lambda inner: st.lists(inner) | st.tuples(inner))))
def test_a_users_dict_is_never_taken_for_a_tag(value):
    for key in ("$tuple", "$dict", "$set", "$float", "$bytes", "$unheard"):
        assert loads(dumps({key: value})) == {key: value}
        assert loads(dumps({key: [1, 2]})) == {key: [1, 2]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1.5, "x", None, True]}, '{"a":[1.5,"x",null,true],"b":1}'),
        ((1, "ü"), '{"$tuple":[1,"ü"]}'),
        ({1: "x"}, '{"$dict":[[1,"x"]]}'),
        ({3, 1}, '{"$set":[1,3]}'),
        (-math.inf, '{"$float":"-inf"}'),
        (b"\x00", '{"$bytes":"AA=="}'),
        (dt.date(2026, 1, 2), '{"$date":"2026-01-02"}'),
        (decimal.Decimal("1.50"), '{"$decimal":"1.50"}'),
        ('price: "$5', '"price: \\"$5"'),
    ],
)
def test_the_text_is_fixed(value, text):
    """Golden bytes: a change here makes every stored digest a miss."""
    assert dumps(value).decode() == text


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(0.1), 0.1),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.float64("nan"), math.nan),
        ({"m": np.float64(1.5)}, {"m": 1.5}),
        ({np.int64(1): [np.uint8(2)]}, {1: [2]}),
    ],
)
def test_numpys_scalars_come_back_as_pythons_own(value, plain):
    back = loads(dumps(value))
    assert same(plain, back)
    assert dumps(plain) == dumps(value)


class Colour(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int = 1


Pair = collections.namedtuple("Pair", "a b")  # noqa: PYI024


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Point(),
        Colour.RED,
        Pair(1, 2),
        collections.OrderedDict(a=1),
        np.zeros(2),
        np.datetime64("2026-01-01T00:00:00.000000001"),
        np.longdouble(1),
        {math.nan: 1},
        range(3),
        bytearray(b"x"),
        dt.time(1, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), "HOME")),
        10**5000,
        {"a": [1, {"b": {1: object()}}]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_not_come_back_equal_is_refused(value):
    with pytest.raises(FormatError):
        dumps(value)


def test_the_refusal_names_type_and_place():
    with pytest.raises(FormatError) as caught:
        dumps({"a": [1, {"b": Point()}]})
    assert "Point" in caught.value.what
    assert caught.value.where == "value['a'][1]['b']"
    assert "asdict" in caught.value.hint


def test_a_value_that_holds_itself_or_is_too_deep_is_refused():
    loop: list = []
    loop.append(loop)
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (loop, deep, (loop,)):
        with pytest.raises(FormatError, match="deeply"):
            dumps(value)
    with pytest.raises(FormatError, match="deeply"):
        loads("[" * 100_000)


@pytest.mark.parametrize("text", ["", "{", '{"$new":1}', '{"$date":"x"}', '{"$bytes":"?"}', '{"$dict":[1]}', b"\xff"])
def test_what_is_not_ours_is_refused(text):
    with pytest.raises(FormatError):
        loads(text)


def test_small_values_are_carried_in_the_artifact_and_larger_ones_staged(objects):
    small = canonical_json.dump("x" * (INLINE_LIMIT - 2), objects.stage)
    large = canonical_json.dump("x" * (INLINE_LIMIT - 1), objects.stage)
    assert small.text is not None
    assert small.size == INLINE_LIMIT
    assert small.digest == hashlib.sha256(small.text.encode()).hexdigest()
    assert large.text is None
    assert list(objects.kept) == [large.digest]
    assert canonical_json.load(small, objects) == "x" * (INLINE_LIMIT - 2)
    assert canonical_json.load(large, objects) == "x" * (INLINE_LIMIT - 1)


def test_a_changed_text_is_found(objects):
    made = canonical_json.dump({"auc": 0.5}, objects.stage)
    assert made.text is not None
    forged = Artifact(made.digest, "json", made.size, made.text.replace("5", "9"))
    with pytest.raises(CorruptObjectError):
        canonical_json.load(forged, objects)


def test_bytes_do_not_depend_on_the_hash_seed():
    script = (
        "from penstock.formats.canonical_json import dumps;"
        "print(dumps({'s': {'a', 'b', 'c', 'd'}, 'f': frozenset('wxyz'), 't': ({'q', 'r'},)}))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


def test_a_tiny_step_costs_microseconds(objects):
    value = {"a": 1, "b": [1.5, "x"]}
    best = math.inf
    for _ in range(5):
        start = time.process_time()
        for _ in range(2_000):
            canonical_json.load(canonical_json.dump(value, objects.stage), objects)
        best = min(best, (time.process_time() - start) / 2_000)
    assert best < 30e-6  # measured 6 µs for both; the goal is 15 each
