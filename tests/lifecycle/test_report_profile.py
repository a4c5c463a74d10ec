"""Columns in small, and how far they moved: true, bounded, and without false alarms."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from penstock.lifecycle.report_profile import column, moved
from penstock.stats.profile import categorical_profile, numeric_profile


def numbers(values):
    return numeric_profile(np.asarray(values, dtype=float)).to_json()


def texts(values):
    return categorical_profile(np.asarray(values, dtype=object)).to_json()


def test_a_number_is_told_by_its_range_median_and_shape():
    told = column(numbers([*range(101), np.nan]))
    assert told["said"] == "0 … 100, median 50"
    assert told["missing"] == "1.0\xa0%"
    assert told["drawn"].startswith("<svg")
    assert column(numbers([np.nan]))["drawn"] == ""
    assert column(numbers([0, np.inf, -np.inf]))["said"] == "0 … 0, median 0"


def test_a_text_is_named_only_where_ten_rows_share_it():
    told = column(texts(["Rome"] * 40 + ["Oslo"] * 10 + ["Ada Lovelace"] * 2))["said"]
    assert told == "Rome 76.9\xa0% · Oslo 19.2\xa0% · 1 more"
    assert column(texts([f"name {i}" for i in range(50)]))["said"] == "50 different texts, none on 10 rows or more"


def test_the_distance_is_that_of_kolmogorov_and_smirnov():
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.2, 3.0):
        a, b = rng.normal(size=180), rng.normal(shift, size=150)
        [row] = moved({"a": numbers(a)}, {"a": numbers(b)})["rows"]
        assert row["distance"] == pytest.approx(ks_2samp(a, b).statistic, abs=1e-9)


def test_what_did_not_move_is_marked_in_at_most_one_of_a_hundred_tables():
    rng = np.random.default_rng(1)

    def table():
        drawn = {f"n{i}": numbers(rng.normal(size=300)) for i in range(4)}
        return drawn | {f"t{i}": texts(rng.choice(list("abcd"), 300)) for i in range(4)}

    assert sum(moved(table(), table())["n_marked"] > 0 for _ in range(100)) <= 4


def test_what_moved_is_marked_and_comes_first():
    rng = np.random.default_rng(2)
    now = {"a": numbers(rng.normal(size=900)), "b": numbers(rng.normal(1, size=900)), "c": texts(["x", "y", "y"] * 300)}
    before = {"a": numbers(rng.normal(size=900)), "b": numbers(rng.normal(size=900)), "c": texts(["x", "x", "y"] * 300)}
    found = moved(now | {"new": now["a"]}, before | {"old": now["a"]})
    assert [(one["column"], one["marked"]) for one in found["rows"]] == [("b", True), ("c", True), ("a", False)]
    assert (found["new"], found["gone"], found["n"], found["n_marked"]) == (["new"], ["old"], 3, 2)
    assert found["rows"][1]["distance"] == pytest.approx(1 / 3)


def test_empty_and_huge_profiles_have_an_answer():
    assert moved({}, {})["n"] == 0
    assert moved({"a": numbers([np.nan])}, {"a": numbers([1.0])})["n_marked"] == 0
    assert moved({"a": texts([None])}, {"a": texts(["x"])})["n_marked"] == 0
    wide = {f"c{i}": numbers([i]) for i in range(500)}
    found = moved(wide, wide)
    assert (len(found["rows"]), found["more"]) == (20, 480)
