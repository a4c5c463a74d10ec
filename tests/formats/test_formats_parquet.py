"""Tables as Parquet: what comes back, what is refused, and that the bytes are the same from every process."""

from __future__ import annotations

import datetime as dt
import hashlib
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import FormatError
from penstock.formats import parquet

N = 5
DAYS = pd.date_range("2020-01-01", periods=N)


def column(values, dtype=None) -> pd.Series:
    return pd.Series(values, dtype=dtype)


COLUMNS = {
    **{f"{kind}{bits}": column(np.arange(N), f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "float16": column([1.5, np.nan, 3, 4, 5], "float16"),
    "float32": column([1.5, np.nan, 3, -0.0, np.inf], "float32"),
    "float64": column([1e-300, np.nan, 3, -0.0, -np.inf]),
    "bool": column([True, False, True, True, False]),
    "str": column(["a", None, "ü", "", "d"], "str"),
    "string": column(["a", None, "b", "c", "d"], "string"),
    "string_python": column(["a", None, "b", "c", "d"], "string[python]"),
    "Int64": column([1, None, 2**62, 4, 5], "Int64"),
    "UInt8": column([1, None, 255, 4, 5], "UInt8"),
    "Float64": column([1.5, None, 2, 3, 4], "Float64"),
    "boolean": column([True, None, False, True, None], "boolean"),
    "arrow_int": column([1, None, 2, 3, 4], "int64[pyarrow]"),
    "arrow_text": column(["1", None, "2", "3", "4"], pd.ArrowDtype(pa.string())),
    **{f"datetime_{unit}": column(DAYS.astype(f"datetime64[{unit}]")) for unit in ("s", "ms", "us", "ns")},
    **{f"timedelta_{unit}": column(DAYS - DAYS[0]).astype(f"timedelta64[{unit}]") for unit in ("s", "ms", "us", "ns")},
    "datetime_null": column([pd.Timestamp("2020-01-01"), pd.NaT] * 2 + [pd.NaT]),
    "utc": column(DAYS.tz_localize("UTC")),
    "paris": column(DAYS.tz_localize("Europe/Paris")),
    "offset": column(DAYS.tz_localize(dt.timezone(dt.timedelta(hours=-3)))),
    "utc_s": column(DAYS.tz_localize("UTC").astype("datetime64[s, UTC]")),
    "category": column(pd.Categorical(["b", "a", None, "b", "a"], categories=["z", "b", "a"])),
    "category_ordered": column(pd.Categorical([3, 1, None, 3, 1], categories=[9, 3, 1], ordered=True)),
    "category_float": column(pd.Categorical([1.5, 2, 2, 2, 2])),
    "category_days": column(pd.Categorical(DAYS)),
    "category_bool": column(pd.Categorical([True, False, None, True, True])),
    "category_unused": column(pd.Categorical([None] * N, categories=["x"])),
    "category_none": column(pd.Categorical([None] * N)),
    "object_text_none": column(["a", None, "b", "c", "d"], object),
    "object_text_nan": column(["a", np.nan, "b", "c", "d"], object),
    "object_text_na": column(["a", pd.NA, "b", "c", "d"], object),
    "object_bytes": column([b"a", None, b"\xff", b"c", b"d"], object),
    "object_decimal": column([Decimal("1.5"), None, Decimal(2), Decimal("-3.25"), Decimal(4)], object),
    "object_date": column([dt.date(2020, 1, 1), None, dt.date(1500, 1, 1)] + [dt.date(9999, 1, 1)] * 2, object),
    "object_time": column([dt.time(1, 2, 3, 4)] * 4 + [None], object),
    "object_int": column([1, 2, 3, None, 2**60 + 1], object),
    "object_bool": column([True, None, True, None, False], object),
    "object_float": column([1.5, None, 3.5, 4.5, 0.1], object),
    "object_none": column([None] * N, object),
    "object_nan": column([np.nan] * N, object),
}

INDEXES = {
    "default": pd.RangeIndex(N),
    "range": pd.RangeIndex(2, 12, 2),
    "range_named": pd.RangeIndex(N, name="row"),
    "gaps": pd.Index([9, 7, 5, 3, 1]),
    "named": pd.Index(list("vwxyz"), name="key"),
    "days": pd.date_range("2020", periods=N, name="day"),
    "hours": pd.date_range("2020", periods=N, freq="2h", tz="Europe/Paris"),
    "categories": pd.CategoricalIndex(list("abcab"), categories=["c", "b", "a", "x"]),
    "levels": pd.MultiIndex.from_product([["a"], range(N)], names=["letter", None]),
    "clash": pd.Index(range(10, 10 + N), name="x"),
}


def equal(left: pd.DataFrame, right: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(left, right, check_freq=True, check_column_type=True, check_exact=True)
    for name in left:
        if left[name].dtype == object:
            assert [type(value) for value in left[name]] == [type(value) for value in right[name]]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_pandas_column_comes_back_as_it_was(name):
    for series in (COLUMNS[name], COLUMNS[name].iloc[:0], COLUMNS[name].iloc[1:4].reset_index(drop=True)):
        frame = pd.DataFrame({name: series, "beside": range(len(series))})
        data = parquet.dumps(frame, "pandas")
        equal(frame, parquet.loads(data))
        assert parquet.dumps(parquet.loads(data), "pandas") == data
        assert parquet.loads(data, "polars").columns == [name, "beside"]


def test_all_columns_at_once():
    frame = pd.DataFrame(COLUMNS)
    equal(frame, parquet.loads(parquet.dumps(frame, "pandas")))


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_comes_back(name):
    frame = pd.DataFrame({"x": range(N), "t": list("abcde")}, index=INDEXES[name])
    equal(frame, parquet.loads(parquet.dumps(frame, "pandas")))


def test_an_index_without_a_name_is_no_column_of_other_libraries():
    frame = pd.DataFrame({"x": [1, 2]}, index=[5, 9])
    named = pd.DataFrame({"x": [1, 2]}, index=pd.Index([5, 9], name="key"))
    assert parquet.loads(parquet.dumps(frame, "pandas"), "arrow").column_names == ["x"]
    assert parquet.loads(parquet.dumps(named, "pandas"), "polars").columns == ["x", "key"]


def test_a_default_index_is_not_stored():
    data = parquet.dumps(pd.DataFrame({"x": [1, 2]}), "pandas")
    assert pq.read_table(pa.BufferReader(data)).column_names == ["x"]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame(index=range(3)),
        pd.DataFrame({"a": [1]})[[]],
        pd.DataFrame({"a": []}),
        pd.DataFrame([[1, "a"]], columns=pd.Index(["a", "b"], dtype=object, name="what")),
    ],
    ids=["nothing", "rows only", "no columns", "no rows", "labelled"],
)
def test_frames_with_little_in_them(frame):
    equal(frame, parquet.loads(parquet.dumps(frame, "pandas")))


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "same name"),
        (pd.DataFrame([[1, 2]]), "must be text"),
        (pd.DataFrame({("a", "b"): [1]}), "must be text"),
        (pd.DataFrame({"a": ["x", 1]}), "mixed-integer"),
        (pd.DataFrame({"a": [[1], [2]]}), "mixed"),
        (pd.DataFrame({"a": [{"b": 1}]}), "mixed"),
        (pd.DataFrame({"a": [1j]}), "complex128"),
        (pd.DataFrame({"a": pd.period_range("2020", periods=2, freq="D")}), "period"),
        (pd.DataFrame({"a": pd.interval_range(0, 2)}), "interval"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 0, 1])}), "Sparse"),
        (pd.DataFrame({"a": pd.Series(["x", None, np.nan], dtype=object)}), "several ways"),
        (pd.DataFrame({"a": pd.Series([2**70], dtype=object)}), "no form"),
        (pd.DataFrame({"a": [1]}, index=pd.Index([1], name=("t", 1))), "must be text or None"),
        (pd.DataFrame({"a": [1]}, columns=pd.CategoricalIndex(["a"])), "labels"),
        (pd.DataFrame({"a": [1]}, index=pd.period_range("2020", periods=1, freq="D")), "period"),
    ],
    ids=str,
)
def test_what_would_not_come_back_equal_is_refused(frame, word):
    with pytest.raises(FormatError, match=word) as caught:
        parquet.dumps(frame, "pandas")
    assert caught.value.hint


NULLABLE = st.one_of(
    st.lists(st.one_of(st.none(), st.floats(width=32)), min_size=3, max_size=3).map(lambda v: column(v, "float32")),
    st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=3, max_size=3).map(lambda v: column(v, "str")),
    st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=3, max_size=3).map(lambda v: column(v, "category")),
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=3, max_size=3).map(
        lambda v: column(v, "Int64")
    ),
    st.lists(st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)), min_size=3, max_size=3).map(column),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=3, max_size=3).map(lambda v: column(v, object)),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=6).filter(lambda name: "\0" not in name), NULLABLE, max_size=4))
def test_any_frame_comes_back_equal(columns):
    frame = pd.DataFrame(columns)
    data = parquet.dumps(frame, "pandas")
    equal(frame, parquet.loads(data))
    assert parquet.dumps(frame.copy(), "pandas") == data


# ── polars and Arrow ─────────────────────────────────────────────────────────────────────────────────────────

POLARS = pl.DataFrame(
    {
        "int": [1, None],
        "text": ["x", None],
        "float": [1.5, float("nan")],
        "category": pl.Series(["p", "q"], dtype=pl.Categorical),
        "enum": pl.Series(["p", "q"], dtype=pl.Enum(["q", "p", "r"])),
        "day": [dt.date(2020, 1, 1), None],
        "time": pl.Series([1000, 2_000_000], dtype=pl.Time),
        "stamp": pl.Series([1, None], dtype=pl.Datetime("ms", "Europe/Paris")),
        "span": pl.Series([1, 2], dtype=pl.Duration("us")),
        "decimal": pl.Series(["1.50", "2"]).cast(pl.Decimal(10, 2)),
        "list": [[1], [2, None]],
        "struct": [{"a": 1, "b": "x"}, {"a": None, "b": "y"}],
        "null": [None, None],
        "bytes": [b"a", b"\xff"],
        "uint8": pl.Series([1, 2], dtype=pl.UInt8),
    }
)


def test_polars_comes_back_as_it_was():
    for frame in (POLARS, POLARS.head(0), pl.concat([POLARS, POLARS], rechunk=False)):
        data = parquet.dumps(frame, "polars")
        back = parquet.loads(data)
        assert isinstance(back, pl.DataFrame)
        assert back.schema == frame.schema
        assert back.equals(frame)
        assert parquet.dumps(back, "polars") == data


def test_polars_refuses_what_arrow_has_not():
    for series in (pl.Series("a", [1, 2], dtype=pl.Int128), pl.Series("a", [object()], dtype=pl.Object)):
        with pytest.raises(FormatError):
            parquet.dumps(series.to_frame(), "polars")


ARROW = pa.table(
    {
        "seconds": pa.array([1, None], pa.timestamp("s", "UTC")),
        "nanoseconds": pa.array([1, 2], pa.timestamp("ns")),
        "span": pa.array([1, None], pa.duration("s")),
        "words": pa.array(["a", "b"]).dictionary_encode(),
        "large": pa.array(["a", None], pa.large_string()),
        "view": pa.array(["a", "b"], pa.string_view()),
        "decimal": pa.array([Decimal("1.5"), None], pa.decimal128(10, 2)),
        "null": pa.nulls(2),
        "list": pa.array([[1], None]),
    }
).replace_schema_metadata({"owner": "me"})


def test_arrow_comes_back_as_it_was():
    data = parquet.dumps(ARROW, "arrow")
    back = parquet.loads(data)
    assert back.schema.equals(ARROW.schema, check_metadata=True)
    assert back.equals(ARROW)
    assert parquet.dumps(back, "arrow") == data
    assert parquet.dumps(pa.concat_tables([ARROW.slice(0, 1), ARROW.slice(1, 1)]).unify_dictionaries(), "arrow") == data


def test_arrow_refuses_types_that_change():
    numbers = pa.table({"a": pa.array([10, 20]).dictionary_encode()})
    with pytest.raises(FormatError, match="would come back as int64"):
        parquet.dumps(numbers, "arrow")
    with pytest.raises(FormatError, match="extension"):
        parquet.dumps(pa.table({"a": pa.array([b"1" * 16], pa.uuid())}), "arrow")


def test_each_library_reads_what_another_wrote():
    frame = pd.DataFrame({"n": [1, 2], "s": ["a", None], "c": pd.Categorical(["x", "y"])})
    data = parquet.dumps(frame, "pandas")
    assert parquet.loads(data, "polars")["n"].to_list() == [1, 2]
    assert parquet.loads(data, "arrow")["s"].to_pylist() == ["a", None]
    assert parquet.loads(parquet.dumps(POLARS, "polars"), "pandas")["text"].isna().tolist() == [False, True]
    assert parquet.loads(parquet.dumps(ARROW, "arrow"), "pandas")["view"].tolist() == ["a", "b"]


# ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────

MAKE = """
import hashlib, numpy as np, pandas as pd
from penstock.formats import parquet
words = sorted({"b", "a", "d", "c"})
frame = pd.DataFrame({"n": np.arange(5000) / 7, "s": [words[i % 4] for i in range(5000)], "i": range(5000)})
frame["c"] = frame["s"].astype("category")
frame.loc[::3, "n"] = np.nan
print(hashlib.sha256(parquet.dumps(frame, "pandas")).hexdigest())
"""


def test_the_bytes_do_not_depend_on_process_or_hash_seed():
    seen = {
        subprocess.run(
            [sys.executable, "-c", MAKE],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_the_bytes_do_not_depend_on_how_the_frame_came_about():
    frame = pd.DataFrame({"a": np.arange(100.0), "s": [f"{i % 7}" for i in range(100)]})
    pieces = pd.concat([frame.iloc[:40], frame.iloc[40:]])
    sliced = pd.concat([frame, frame]).iloc[:100]
    assert parquet.dumps(pieces, "pandas") == parquet.dumps(frame.set_index(np.arange(100)), "pandas")
    assert parquet.dumps(sliced.reset_index(drop=True), "pandas") == parquet.dumps(frame, "pandas")


def test_settings_of_the_file():
    data = parquet.dumps(pd.DataFrame({"x": [1.0, 2.0], "s": ["a", "b"], "c": pd.Categorical(["a", "b"])}), "pandas")
    group = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    for place, dictionary in enumerate((False, False, True)):
        chunk = group.column(place)
        assert (chunk.compression, chunk.is_stats_set, chunk.has_dictionary_page) == ("LZ4", False, dictionary)


# ── hostile files ────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_parquet_is_refused():
    good = parquet.dumps(pd.DataFrame({"x": range(100)}), "pandas")
    for data in (b"", b"PAR1", b"\x80\x04." * 9, good[:-20], good[: len(good) // 2], b"PAR1" + bytes(50) + b"PAR1"):
        with pytest.raises(FormatError):
            parquet.loads(data)


def test_a_mark_that_does_not_fit_is_refused():
    table = pa.table({"x": [1]})
    for mark in (b"no", b"[]", b'{"made":"pandas"}', b'{"made":"pandas","columns":["int64","x"],"index":[]}'):
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata({b"penstock": mark}), sink)
        with pytest.raises(FormatError):
            parquet.loads(sink.getvalue().to_pybytes())


def test_a_pickle_in_an_extension_type_is_not_run(tmp_path):
    sentinel = tmp_path / "ran"
    payload = f"cposix\nsystem\n(S'touch {sentinel}'\ntR.".encode()
    field = pa.field(
        "x",
        pa.int64(),
        metadata={"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": payload},
    )
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table([pa.array([1])], schema=pa.schema([field])), sink)
    data = sink.getvalue().to_pybytes()
    for want in ("arrow", "pandas", "polars"):
        assert len(parquet.loads(data, want)) == 1
    assert not sentinel.exists()
    subprocess.run(["/bin/sh", "-c", f"touch {sentinel}"], check=True)
    assert sentinel.exists()  # the control: what the payload would have done


def test_a_large_file_is_mapped(objects, monkeypatch):
    monkeypatch.setattr(parquet, "_MAP_FROM", 1)
    frame = pd.DataFrame({"x": range(10), "s": list("abcdefghij")})
    artifact = parquet.dump(frame, objects.stage, "pandas")
    assert artifact.digest == hashlib.sha256(objects.kept[artifact.digest]).hexdigest()
    equal(frame, parquet.load(artifact, objects))
