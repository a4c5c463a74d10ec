"""A table that is read in batches gives the same bytes of every output as the same table held in memory."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.artifact import Batched
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.engine.calling import wants_of
from penstock.errors import PenstockError
from penstock.formats import parquet, parquet_stored
from penstock.formats.registry import FormatRegistry
from penstock.stages import large
from penstock.stages.order import all_different, order_of
from penstock.stages.partition import partition
from penstock.stages.validate import validate
from penstock.testing.memory import MemoryObjects

WORDS = ["Oslo", "", "Ålesund", "007", "a", "b" * 40]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Batches of 7 rows, row groups of 10, slices of 5."""
    monkeypatch.setattr(parquet, "ROW_GROUP", 10)
    monkeypatch.setattr(parquet_stored, "BATCH_ROWS", 7)
    monkeypatch.setattr(large, "SLICE", 5)
    monkeypatch.setattr(large, "PART", 8)


def through(table, size, **options):
    """Digests and reports of validate and split, or the error; `size` is where a table begins to be large."""
    objects, formats = MemoryObjects(), FormatRegistry()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_stored, "LARGE", size)
        try:
            found = formats.load(formats.dump(table, objects.stage), objects, "stored")
            assert isinstance(found, pd.DataFrame) == (size > 0)
            split = options.pop("split", Split())
            schema = options.pop("schema", None)
            checked, held, report = validate(found, schema=schema, **options)
            assert isinstance(checked, Batched) == (size == 0)
            kept = formats.dump(checked, objects.stage)
            again = formats.load(kept, objects, "stored")
            train, test, sides = partition(again, schema=held, split=split, seed=0, **options)
            return [kept.digest, held, report, *(formats.dump(t, objects.stage).digest for t in (train, test)), sides]
        except PenstockError as error:
            return [type(error).__name__, error.what, error.hint, error.facts]


def same(table, **options):
    batched, whole = (through(table, size, **options) for size in (0, 1 << 40))
    assert batched == whole
    return whole


@st.composite
def tables(draw):
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = rng.permutation(n) if draw(st.booleans()) else rng.integers(0, max(n - 2, 1), n)
    table = pd.DataFrame(
        {
            "id": ids if draw(st.booleans()) else pd.Series([f"k{i}" for i in ids], dtype="str"),
            "x": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n).round(1)),
            "count": rng.integers(0, draw(st.sampled_from([2, 100])), n),
            "city": pd.Series(rng.choice(WORDS, n), dtype="str").where(rng.random(n) > 0.2),
            "flag": rng.random(n) < 0.5,
            "size": pd.Categorical(rng.choice(["S", "M"], n), categories=["S", "M", "L"]),
            "at": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 30, n), unit="D"),
            "y": pd.Series(rng.choice(["yes", "no"], n), dtype="str"),
        }
    )
    if draw(st.booleans()):
        table.loc[rng.random(n) < 0.15, "y"] = None
    if draw(st.booleans()):
        table.loc[rng.random(n) < 0.03, "x"] = np.inf
    return table


ROLES = [
    Roles(key=("id",)),
    Roles(),
    Roles(key=("id",), time="at"),
    Roles(groups=("city",)),
    Roles(key=("city", "id")),
    Roles(weight="count", drop=("size",)),
]


@settings(max_examples=120, deadline=None)
@given(
    table=tables(),
    roles=st.sampled_from(ROLES),
    missing=st.sampled_from(["drop", "error"]),
    split=st.sampled_from([Split(), Split(stable=False), Split(by="random"), Split(test=0.5, salt=3)]),
)
def test_both_paths_give_the_same_bytes(table, roles, missing, split):
    same(table, target=Target("y", missing=missing), roles=roles, split=split)


@settings(max_examples=60, deadline=None)
@given(table=tables(), other=tables())
def test_both_paths_say_the_same_against_a_schema(table, other):
    options = {"target": Target("y", missing="drop"), "roles": Roles(key=("id",))}
    found = through(other, 1 << 40, **options)
    if isinstance(found[0], str) and len(found) == 6:
        same(table, schema=found[1], **options)


def test_a_table_that_passes_reaches_every_output():
    """So that the laws above are not of errors alone."""
    rng = np.random.default_rng(0)
    n = 57
    table = pd.DataFrame({"id": rng.permutation(n), "x": rng.normal(size=n), "y": rng.random(n) < 0.5})
    found = same(table, target=Target("y"), roles=Roles(key=("id",)))
    assert found[2]["n_rows"] == n
    assert found[5]["n_train"] + found[5]["n_test"] == n


def test_a_regression_target_too():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"id": rng.permutation(40), "x": rng.integers(0, 5, 40), "y": rng.normal(size=40)})
    assert same(table, target=Target("y"), roles=Roles(key=("id",)))[1]["task"] == "regression"


def test_labels_that_are_floats_only_for_gaps_are_whole_in_both():
    table = pd.DataFrame({"id": range(40), "x": np.arange(40.0) % 7, "y": [1.0, 0.0, np.nan, 1.0] * 10})
    found = same(table, target=Target("y", missing="drop"), roles=Roles(key=("id",)))
    assert found[1]["classes"] == [0, 1]


@pytest.mark.parametrize(
    ("name", "values"),
    [("objects", pd.Series([1, "a"] * 20, dtype=object)), ("gaps", pd.Series([True, None] * 20, dtype=object))],
)
def test_what_hangs_on_all_of_a_column_is_not_read_in_batches(name, values, monkeypatch):
    monkeypatch.setattr(parquet_stored, "LARGE", 0)
    objects, formats = MemoryObjects(), FormatRegistry()
    table = pd.DataFrame({name: values.map(str) if name == "objects" else values}, dtype=object)
    assert isinstance(formats.load(formats.dump(table, objects.stage), objects, "stored"), pd.DataFrame)


def test_whole_numbers_with_a_gap_far_down_are_floats_from_the_first_batch(monkeypatch):
    import pyarrow as pa

    monkeypatch.setattr(parquet_stored, "LARGE", 0)
    objects, formats = MemoryObjects(), FormatRegistry()
    table = pa.table({"a": pa.array([*range(30), None]), "b": pa.array(range(31))})
    stored = formats.load(formats.dump(table, objects.stage), objects, "stored")
    dtypes = [stored.frame(batch).dtypes.map(str).tolist() for batch in stored.batches()]
    assert len(dtypes) > 3
    assert all(found == ["float64", "int64"] for found in dtypes)


def test_a_table_of_another_length_than_promised_is_refused():
    frames = [pd.DataFrame({"a": range(10)}), pd.DataFrame({"a": range(3)})]
    with pytest.raises(PenstockError, match="14 rows was promised, and 13"):
        FormatRegistry().dump(Batched(14, lambda: frames), MemoryObjects().stage)


def test_parts_of_other_types_are_refused():
    frames = [pd.DataFrame({"a": range(10)}), pd.DataFrame({"a": [0.5]})]
    with pytest.raises(PenstockError, match="same types"):
        FormatRegistry().dump(Batched(11, lambda: frames), MemoryObjects().stage)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "B", "ä", "😀", "￿", ""])), min_size=1, max_size=30))
def test_order_is_that_of_sorted_and_stable(rows):
    table = pd.DataFrame(rows, columns=["n", "t"])
    wanted = sorted(range(len(rows)), key=lambda i: rows[i])
    found = order_of(table, Roles(key=("n", "t")))
    assert (list(range(len(rows))) if found is None else found.tolist()) == wanted


def test_all_different_is_proved_by_sorting_or_not_at_all(monkeypatch):
    monkeypatch.setattr("penstock.stages.order.MANY", 2)
    assert all_different(pd.DataFrame({"a": [3, 1, 2]}))
    assert not all_different(pd.DataFrame({"a": [3, 1, 3]}))
    assert all_different(pd.DataFrame({"a": [2**63 - 1, -(2**63), 0]}))
    assert not all_different(pd.DataFrame({"a": [2**63 - 1, -(2**63), 2**63 - 1]}))
    assert all_different(pd.DataFrame({"a": np.array([250, 0, 7], dtype=np.uint8)}))
    assert all_different(pd.DataFrame({"a": ["x", "y"]}, dtype="str"))
    assert not all_different(pd.DataFrame({"a": ["x", "x"]}, dtype="str"))
    assert not all_different(pd.DataFrame({"a": [1.0, 2.0]}))


def test_the_stages_ask_for_a_table_in_batches_and_a_step_of_the_users_does_not():
    """Without this they would be handed frames, and nothing but the memory would tell."""

    def step(table: StoredTable) -> None: ...  # noqa: F821  a class of the user's own

    assert wants_of(validate)["table"] == wants_of(partition)["table"] == "stored"
    assert wants_of(step) == {}
