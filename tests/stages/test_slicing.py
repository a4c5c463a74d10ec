"""Slices hold every row once, and do not depend on the rows that are judged."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import DataError
from penstock.stages.slicing import MAX_SLICES, slices_of

CELLS = st.one_of(
    st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=3, max_size=60),
    st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "c"])), min_size=3, max_size=60),
    st.lists(st.integers(0, 40), min_size=3, max_size=60),
    st.lists(st.booleans(), min_size=3, max_size=60),
)


@settings(max_examples=60)
@given(CELLS)
def test_every_row_is_in_one_slice(cells):
    table = pd.DataFrame({"c": cells})
    if table.c.notna().sum() == 0:
        return
    rows = np.concatenate([one.rows for one in slices_of(table, "c", table)])
    assert sorted(rows.tolist()) == list(range(len(table)))


def test_cuts_and_frequent_values_come_from_the_reference():
    known = pd.DataFrame({"x": np.arange(100.0), "c": ["Rome"] * 60 + ["Oslo"] * 40})
    new = pd.DataFrame({"x": [1e9, -1.0, np.nan], "c": ["Lima", "Rome", None]})
    assert [(one.label, one.rows.tolist()) for one in slices_of(new, "x", known)] == [
        ("x ≤ 24", [1]),
        ("x > 74", [0]),
        ("x missing", [2]),
    ]
    assert [(one.label, one.rows.tolist()) for one in slices_of(new, "c", known)] == [
        ("c=Rome", [1]),
        ("c: other values", [0]),
        ("c missing", [2]),
    ]


def test_many_values_are_taken_together():
    table = pd.DataFrame({"c": [f"v{i}" for i in range(200)]})
    assert len(slices_of(table, "c", table)) == MAX_SLICES + 1


def test_an_absent_column_is_named():
    with pytest.raises(DataError, match="'zzz'"):
        slices_of(pd.DataFrame({"a": [1]}), "zzz", pd.DataFrame({"a": [1]}))
