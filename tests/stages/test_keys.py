"""The keyed hash of rows: the published vectors, canonical text, and laws."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import DataError
from penstock.stages import keys

KEY = bytes(range(16))
MASK = 2**64 - 1


def plain_siphash(data: bytes, key: bytes) -> int:
    """SipHash-2-4 as the paper writes it, one byte string at a time."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v0, v1 = 0x736F6D6570736575 ^ k0, 0x646F72616E646F6D ^ k1
    v2, v3 = 0x6C7967656E657261 ^ k0, 0x7465646279746573 ^ k1

    def turn(x, bits):
        return ((x << bits) | (x >> (64 - bits))) & MASK

    def rounds(n):
        nonlocal v0, v1, v2, v3
        for _ in range(n):
            v0, v2 = (v0 + v1) & MASK, (v2 + v3) & MASK
            v1, v3 = turn(v1, 13) ^ v0, turn(v3, 16) ^ v2
            v0 = turn(v0, 32)
            v2, v0 = (v2 + v1) & MASK, (v0 + v3) & MASK
            v1, v3 = turn(v1, 17) ^ v2, turn(v3, 21) ^ v0
            v2 = turn(v2, 32)

    padded = data + b"\0" * (7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v3 ^= word
        rounds(2)
        v0 ^= word
    v2 ^= 0xFF
    rounds(4)
    return v0 ^ v1 ^ v2 ^ v3


@pytest.mark.parametrize(
    ("length", "digest"),
    [(0, "310e0edd47db6f72"), (1, "fd67dc93c539f874"), (2, "5a4fa9d909806c0d"), (3, "2d7efbd796666785")],
)
def test_published_vectors(length, digest):
    text = "".join(map(chr, range(length)))
    assert int(keys.siphash([text], KEY)[0]).to_bytes(8, "little").hex() == digest


@given(st.lists(st.text(max_size=40), max_size=8), st.binary(min_size=16, max_size=16))
def test_equals_the_plain_form(texts, key):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    assert keys.siphash(texts, key).tolist() == [plain_siphash(text.encode(), key) for text in texts]


def test_golden_values_never_change():
    """A changed number here moves rows of every existing workflow to another side."""
    table = pd.DataFrame({"id": ["a", "b", None], "n": [1, 2, 3]})
    secret = keys.secret("side", 0, 0)
    assert secret.hex() == "d85e1b18541f730d2181d38c98bdf533"
    assert keys.rows(table, ["id"], secret).tolist() == [
        17444560658957238967,
        4621506852436614433,
        3524467664733336629,
    ]
    assert keys.rows(table, ["id", "n"], secret).tolist() == [
        10758160848157582461,
        7221335158181621017,
        2060087345085646111,
    ]


def same(*columns):
    hashes = [keys.rows(pd.DataFrame({"k": column}), ["k"], KEY).tolist() for column in columns]
    return all(found == hashes[0] for found in hashes)


def test_types_that_mean_the_same_are_alike():
    assert same(
        [1, 20], [1.0, 20.0], ["1", "20"], ["1.0", "20.00"], pd.array([1, 20], "Int64"), pd.Categorical(["1", "20"])
    )
    assert same(pd.Series([1, 20], dtype="int8"), pd.Series([1, "20"], dtype=object))
    assert same(["1.0\n", "x"], pd.Series(["1.0\n", "x"], dtype=object), pd.Categorical(["1.0\n", "x"]))
    assert same([0.0], [-0.0], ["0"], ["-0"], ["0.0"])
    assert same([1.5, 2.0], ["1.5", "2"], ["1.50", "2.0"])
    assert same([True, False], ["true", "false"], ["True", "False"])
    day, moment = dt.datetime(2026, 1, 31), dt.datetime(2026, 1, 31, 10, 5)
    assert same(
        [day, moment],
        pd.Series([day, moment], dtype="datetime64[ns]"),
        ["2026-01-31", "2026-01-31 10:05:00"],
        ["2026-01-31T00:00:00", "2026-01-31T10:05"],
        pd.Series([day, moment], dtype=object),
    )
    assert same([dt.date(2026, 1, 31)], ["2026-01-31"])
    zoned = pd.Series(pd.to_datetime(["2026-01-31T10:00:00Z"]))
    assert same(zoned, zoned.dt.tz_convert("Europe/Berlin"))


def test_types_that_differ_differ():
    texts = ["1", "01", "1 ", "-1", "10", "1.5", "1e0", "true", "", "A", "a", "\0missing", "2026-01-31", "nan"]
    table = pd.DataFrame({"k": [*texts, None]})
    hashes = keys.rows(table, ["k"], KEY)
    assert len(set(hashes.tolist()[:-1])) == len(texts)
    assert hashes[-1] not in np.delete(hashes, [texts.index("\0missing"), -1])


def test_missing_cells_are_one_value_whatever_they_are():
    assert same([None], [float("nan")], [pd.NA], [pd.NaT])


def test_several_columns_are_unambiguous_and_ordered():
    table = pd.DataFrame({"a": ["a", "ab", "b"], "b": ["bc", "c", "a"]})
    first, second, _ = keys.rows(table, ["a", "b"], KEY).tolist()
    assert first != second
    assert keys.rows(table, ["a", "b"], KEY).tolist() != keys.rows(table, ["b", "a"], KEY).tolist()


VALUES = st.one_of(st.integers(-(2**60), 2**60), st.text(max_size=12), st.none(), st.booleans())


@given(st.lists(VALUES, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_a_row_has_its_number_whatever_stands_around_it(values, random):
    values = [v.encode("utf-8", "ignore").decode() if isinstance(v, str) else v for v in values]
    table = pd.DataFrame({"k": pd.Series(values, dtype=object)})
    alone = [int(keys.rows(table.iloc[[i]], ["k"], KEY)[0]) for i in range(len(table))]
    order = list(range(len(table)))
    random.shuffle(order)
    assert keys.rows(table.iloc[order], ["k"], KEY).tolist() == [alone[i] for i in order]


def test_seed_salt_and_purpose_all_count():
    secrets = {keys.secret(p, seed, salt) for p in ("side", "fold") for seed in range(3) for salt in range(3)}
    assert len(secrets) == 18
    ids = pd.DataFrame({"k": range(1000)})  # numbers: here pandas' own hash ignores its key
    sides = {keys.below(keys.rows(ids, ["k"], secret), 0.2).tobytes() for secret in secrets}
    assert len(sides) == 18


def test_times():
    expected = np.array(["2026-01-31T10:00", "NaT"], dtype="datetime64[us]")
    for column in (
        pd.Series(pd.to_datetime(["2026-01-31T10:00", None])),
        pd.Series(["2026-01-31 10:00:00", None]),
        pd.Series(["2026-01-31T11:00:00+01:00", None]),
        pd.Series(pd.to_datetime(["2026-01-31T10:00Z", None])),
    ):
        assert np.array_equal(keys.times(column), expected, equal_nan=True)
    assert keys.times(pd.Series([2011, 2012])).tolist() == [2011.0, 2012.0]
    with pytest.raises(DataError, match="column 'when' is not a time"):
        keys.times(pd.Series(["July"], name="when"))
