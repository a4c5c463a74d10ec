"""Point-in-time joins: the cases of a feature store's reference, and a law against a join by brute force."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import DataError, DeclarationError, UsageError


def days(*texts, **kwargs):
    return pd.to_datetime(list(texts), **kwargs)


@pytest.fixture
def orders():
    """What is asked for: three times of one driver, one of another, one of nobody known."""
    return pd.DataFrame(
        {
            "driver": [1, 1, 1, 2, 9],
            "at": days("2026-01-10", "2026-01-05", "2026-01-01", "2026-01-10", "2026-01-10"),
            "order": [10, 11, 12, 13, 14],
        }
    )


@pytest.fixture
def rates():
    return pd.DataFrame(
        {
            "driver": [1, 1, 1, 2],
            "at": days("2026-01-02", "2026-01-08", "2026-01-11", "2026-01-10"),
            "rate": [0.2, 0.8, 0.11, 0.5],
        }
    )


def test_the_newest_row_that_was_known_is_joined_and_never_a_later_one(orders, rates):
    joined = ps.asof_join(orders, rates, by="driver", on="at")
    assert joined["order"].tolist() == [10, 11, 12, 13, 14]
    assert joined["rate"].fillna(-1).tolist() == [0.8, 0.2, -1, 0.5, -1]


def test_a_row_of_the_same_time_is_known(rates):
    left = pd.DataFrame({"driver": [2, 2], "at": [rates["at"][3], rates["at"][3] - pd.Timedelta("1ns")]})
    assert ps.asof_join(left, rates, by="driver", on="at")["rate"].fillna(-1).tolist() == [0.5, -1]


@pytest.mark.parametrize(("age", "joined"), [("2d", True), ("47h", False), ("172799s", False), ("172800s", True)])
def test_a_row_of_exactly_the_tolerated_age_counts(age, joined):
    left = pd.DataFrame({"k": ["a"], "at": days("2026-01-03")})
    right = pd.DataFrame({"k": ["a"], "at": days("2026-01-01"), "x": [1.0]})
    assert ps.asof_join(left, right, by="k", on="at", tolerance=age)["x"].notna().tolist() == [joined]


def test_an_old_row_does_not_come_back_behind_a_newer_one_that_is_too_old():
    left = pd.DataFrame({"k": ["a"], "at": days("2026-02-01")})
    right = pd.DataFrame({"k": ["a", "a"], "at": days("2026-01-01", "2026-01-20"), "x": [1.0, 2.0]})
    assert ps.asof_join(left, right, by="k", on="at", tolerance="5d")["x"].isna().all()


def test_the_row_created_last_wins_among_rows_of_one_time(orders):
    at = days("2026-01-02", "2026-01-02", "2026-01-02")
    right = pd.DataFrame(
        {"driver": [1, 1, 1], "at": at, "made": days("2026-01-03", "2026-01-05", None), "x": [1, 2, 3]}
    )
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        joined = ps.asof_join(orders[:1], right.iloc[order], by="driver", on="at", created="made")
        assert joined["x"].tolist() == [2]
        assert "made" not in joined


def test_rows_that_share_entity_and_time_and_differ_are_refused_with_their_number(orders, rates):
    twice = pd.concat([rates, rates.assign(rate=0.0)[:2]])
    with pytest.raises(DataError, match="2 pairs of entity and time, the first driver 1, at 2026-01-02") as raised:
        ps.asof_join(orders, twice, by="driver", on="at")
    assert "created=" in raised.value.hint
    with pytest.raises(DataError, match="also in made"):
        ps.asof_join(orders, twice.assign(made=1), by="driver", on="at", created="made")


def test_rows_that_are_equal_at_each_of_two_creations_are_no_tie(orders):
    right = pd.DataFrame({"driver": 1, "at": days("2026-01-02")[0], "made": days(*["2026-01-03", "2026-01-05"] * 2)})
    joined = ps.asof_join(orders[:1], right.assign(x=[1, 2, 1, 2]), by="driver", on="at", created="made")
    assert joined["x"].tolist() == [2]


def test_large_numbers_with_and_without_a_sign_are_compared_exactly():
    left = pa.table({"k": pa.array([2**53, 2**53 + 1], pa.int64()), "at": [2, 2]})
    right = pa.table({"k": pa.array([2**53], pa.uint64()), "at": [1], "x": ["only the first"]})
    assert ps.asof_join(left, right, by="k", on="at")["x"].to_pylist() == ["only the first", None]


def test_rows_that_are_equal_are_one(orders, rates):
    once = ps.asof_join(orders, rates, by="driver", on="at")
    pd.testing.assert_frame_equal(ps.asof_join(orders, pd.concat([rates, rates]), by="driver", on="at"), once)


def test_several_tables_are_chained_each_with_its_own_names_and_tolerance(orders, rates):
    plans = pd.DataFrame({"driver": [1, 2], "since": days("2026-01-01", "2026-01-09"), "rate": ["S", "L"]})
    joined = ps.asof_join(orders, rates, by="driver", on="at", tolerance="3d")
    joined = ps.asof_join(joined, plans, by="driver", on=("at", "since"), suffix="_plan", tolerance="30d")
    assert list(joined) == ["driver", "at", "order", "rate", "rate_plan"]
    assert joined["rate_plan"].fillna("-").tolist() == ["S", "S", "S", "L", "-"]


def test_several_columns_name_the_entity():
    left = pd.DataFrame({"a": ["x", "x", "y"], "b": [1, 2, 1], "at": [5, 5, 5]})
    right = pd.DataFrame({"a": ["x", "y", "y"], "b": [1, 1, 2], "at": [1, 2, 3], "v": [10.0, 20.0, 30.0]})
    joined = ps.asof_join(left, right, by=["a", "b"], on="at")
    assert joined["v"].fillna(-1).tolist() == [10.0, -1, 20.0]


def test_missing_times_and_missing_entities_match_nothing():
    left = pd.DataFrame({"k": ["a", None, "a"], "at": days("2026-01-05", "2026-01-05", None)})
    right = pd.DataFrame({"k": ["a", None, "a"], "at": days("2026-01-01", "2026-01-01", None), "x": [1.0, 2.0, 3.0]})
    assert ps.asof_join(left, right, by="k", on="at")["x"].fillna(-1).tolist() == [1.0, -1, -1]


def test_instants_are_compared_whatever_their_zones():
    left = pd.DataFrame({"k": [1], "at": days("2026-07-01 12:00").tz_localize("America/New_York")})
    right = pd.DataFrame(
        {"k": [1, 1], "at": days("2026-07-01 15:59", "2026-07-01 16:01").tz_localize("UTC"), "x": ["before", "after"]}
    )
    assert ps.asof_join(left, right, by="k", on="at")["x"].tolist() == ["before"]


def test_times_with_and_without_a_zone_are_refused(orders, rates):
    rates["at"] = rates["at"].dt.tz_localize("UTC")
    with pytest.raises(DataError, match="times in right have a zone and times in left have none") as raised:
        ps.asof_join(orders, rates, by="driver", on="at")
    assert "tz_localize" in raised.value.hint


def test_text_that_looks_like_times_is_refused(orders, rates):
    rates["at"] = rates["at"].astype(str)
    with pytest.raises(DataError, match="'at' of right holds text, not times"):
        ps.asof_join(orders, rates, by="driver", on="at")


def test_entities_of_two_types_are_refused(orders, rates):
    rates["driver"] = rates["driver"].astype(str)
    with pytest.raises(DataError, match="numbers in left and text in right, so nothing would match"):
        ps.asof_join(orders, rates, by="driver", on="at")


def test_names_that_collide_are_refused_until_a_suffix_tells_them_apart(orders, rates):
    rates["order"] = 1
    with pytest.raises(DataError, match="in left and among the added columns: order"):
        ps.asof_join(orders, rates, by="driver", on="at")
    joined = ps.asof_join(orders, rates, by="driver", on="at", suffix="_rate")
    assert list(joined) == ["driver", "at", "order", "rate_rate", "order_rate"]
    assert list(ps.asof_join(orders, rates, by="driver", on="at", columns=["rate"])) == [
        "driver",
        "at",
        "order",
        "rate",
    ]
    with pytest.raises(DataError, match="order_rate"):
        ps.asof_join(joined, rates, by="driver", on="at", suffix="_rate")


def test_a_column_that_is_not_there_is_told_with_the_nearest_name(orders, rates):
    with pytest.raises(DataError, match=r"left has no column 'drivr'; did you mean .driver."):
        ps.asof_join(orders, rates.rename(columns={"driver": "drivr"}), by="drivr", on="at")


def test_all_faults_of_the_arguments_come_at_once():
    with pytest.raises(DeclarationError) as raised:
        ps.asof_join(ps.read("a.csv"), ps.read("b.csv"), by=[], on=("a", "b", "c"), tolerance="7 days")
    assert len(raised.value.faults) == 3


def test_frames_of_two_libraries_are_refused(orders, rates):
    with pytest.raises(UsageError, match="left is of pandas and right of polars"):
        ps.asof_join(orders, pl.from_pandas(rates), by="driver", on="at")


def test_three_libraries_give_the_same_cells_and_keep_types(orders, rates):
    rates["new"], rates["n"] = [True, False, True, True], [1, 2, 3, 4]
    expected = [(10, False, 2), (11, True, 1), (12, None, None), (13, True, 4), (14, None, None)]
    arrow = ps.asof_join(
        pa.Table.from_pandas(orders), pa.Table.from_pandas(rates), by="driver", on="at", columns=["new", "n"]
    )
    assert (arrow.schema.field("new").type, arrow.schema.field("n").type) == (pa.bool_(), pa.int64())
    assert list(zip(*(arrow[c].to_pylist() for c in ("order", "new", "n")), strict=True)) == expected
    frame = ps.asof_join(pl.from_pandas(orders), pl.from_pandas(rates), by="driver", on="at", columns=["new", "n"])
    assert frame.select("order", "new", "n").rows() == expected
    pandas = ps.asof_join(orders, rates, by="driver", on="at")
    assert str(pandas["new"].dtype) == "boolean"


def test_the_index_of_left_is_kept(orders, rates):
    orders.index = ["a", "a", "b", "c", "d"]
    joined = ps.asof_join(orders, rates, by="driver", on="at")
    assert joined.index.tolist() == ["a", "a", "b", "c", "d"]
    assert joined["rate"].fillna(-1).tolist() == [0.8, 0.2, -1, 0.5, -1]


@pytest.mark.parametrize("empty", ["left", "right", "both"])
def test_empty_tables(orders, rates, empty):
    left = orders[:0] if empty != "right" else orders
    right = rates[:0] if empty != "left" else rates
    joined = ps.asof_join(left, right, by="driver", on="at")
    assert len(joined) == len(left)
    assert joined["rate"].isna().all()


def test_days_join_as_midnights():
    left = pa.table({"k": [1, 1], "at": [dt.date(2026, 1, 2), dt.date(2026, 1, 1)]})
    right = pa.table({"k": [1], "at": [dt.datetime(2026, 1, 1, 12)], "x": [7]})
    assert ps.asof_join(left, right, by="k", on="at")["x"].to_pylist() == [7, None]


def test_far_dates_are_compared_too():
    left = pd.DataFrame({"k": [1, 1], "at": np.array(["3026-01-02", "1026-01-01"], dtype="datetime64[s]")})
    right = pd.DataFrame({"k": [1], "at": days("2026-01-01"), "x": [1.0]})
    assert ps.asof_join(left, right, by="k", on="at", tolerance="999999d")["x"].notna().tolist() == [True, False]


ROWS = st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.one_of(st.none(), st.integers(-5, 5))), max_size=12)


@given(left=ROWS, right=ROWS, tolerance=st.one_of(st.none(), st.integers(0, 6)), seed=st.integers(0, 99))
def test_law_it_is_the_join_by_brute_force_whatever_the_order_of_right(left, right, tolerance, seed):
    right = list(dict.fromkeys(right))
    expected = []
    for entity, time in left:
        known = [
            (t, i)
            for i, (e, t) in enumerate(right)
            if e == entity and None not in (e, t, time) and t <= time and (tolerance is None or time - t <= tolerance)
        ]
        expected.append(max(known)[1] if known else None)
    table = pa.table(
        {"k": pa.array([e for e, _ in left], pa.string()), "t": pa.array([t for _, t in left], pa.int64())}
    )
    side = pa.table(
        {
            "k": pa.array([e for e, _ in right], pa.string()),
            "t": pa.array([t for _, t in right], pa.int64()),
            "row": pa.array(range(len(right)), pa.int64()),
        }
    )
    shuffled = side.take(np.random.default_rng(seed).permutation(len(right)))
    for one in (side, shuffled):
        assert ps.asof_join(table, one, by="k", on="t", tolerance=tolerance)["row"].to_pylist() == expected


# ── real tables: flights tell local time, the weather tells UTC ──────────────────────────────────────────────


@pytest.fixture(scope="module")
def airports():
    from pathlib import Path

    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no shared data: ../shared/data is absent")
    flights = pd.read_csv(folder / "nycflights_sample.csv.gz")
    flights["local"] = pd.to_datetime(flights[["year", "month", "day", "hour", "minute"]])
    weather = pd.read_csv(folder / "nycflights13_weather.csv.gz")
    weather["time"] = pd.to_datetime(weather["time_hour"], utc=True)
    return flights, weather


def test_the_trap_of_local_and_utc_times_is_refused_and_the_right_join_is_exact(airports):
    flights, weather = airports
    with pytest.raises(DataError, match="'local' and 'time': times in right have a zone"):
        ps.asof_join(flights, weather, by="origin", on=("local", "time"), columns=["temp"])
    flights = flights.assign(time=flights["local"].dt.tz_localize("America/New_York"))
    joined = ps.asof_join(
        flights,
        weather,
        by="origin",
        on="time",
        columns=["year", "month", "day", "hour"],
        suffix="_w",
        tolerance="59min",
    )
    found = joined[joined["hour_w"].notna()]
    assert len(found) > 0.97 * len(flights)
    # The weather's own local hour is the flight's, on both sides of the change of clocks.
    same = (found["hour_w"] == found["hour"]) & (found["day_w"] == found["day"]) & (found["month_w"] == found["month"])
    summer = found["month"].between(4, 10)
    assert (summer.any(), (~summer).any()) == (True, True)
    assert same[summer].mean() > 0.999
    assert same[~summer].mean() > 0.999


def test_control_clocks_without_zones_join_weather_of_four_and_five_hours_ago(airports):
    """What the refusal spares: taking UTC for local time joins, silently, a night's weather to a morning's flight."""
    flights, weather = airports
    naive = weather.assign(local=weather["time"].dt.tz_localize(None))
    joined = ps.asof_join(flights, naive, by="origin", on="local", columns=["hour"], suffix="_w", tolerance="59min")
    found = joined[joined["hour_w"].notna()]
    lag = (found["hour"] - found["hour_w"]) % 24
    assert set(lag.unique()) <= {4, 5}


def test_as_a_step_it_gives_equal_bytes_whatever_the_order_of_right(tmp_path, orders, rates):
    from penstock.lifecycle.run import Request, run
    from penstock.project import open_home

    orders.to_csv(tmp_path / "orders.csv", index=False)
    (tmp_path / "flow.py").write_text(
        "import penstock as ps\n"
        "joined = ps.asof_join(ps.read('orders.csv', dates=['at']), ps.read('rates.csv', dates=['at']),"
        " by='driver', on='at', tolerance='4d')\n"
    )
    digests = []
    for frame in (rates, rates[::-1]):
        frame.to_csv(tmp_path / "rates.csv", index=False)
        home = open_home(str(tmp_path))
        request = Request(str(tmp_path / "flow.py"), "joined")
        report = run(home, request, "penstock.worker", rehearse=lambda *_: 0)
        assert report.error is None, report.error
        digests.append(report.outcome.artifacts["asof_join", ""].digest)
        assert report.value(home, "asof_join")["rate"].to_pylist() == [0.8, 0.2, None, 0.5, None]
        assert report.outcome.notes["asof_join"] == {"rows": 5, "matched": 3}
        home.ledger.close()
    assert digests[0] == digests[1]
