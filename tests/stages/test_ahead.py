"""Look-ahead: what uses a later row or a label that is not known yet is found; what learns from the past is not."""

import numpy as np
import pandas as pd
import pytest

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages import ahead, probes
from penstock.stages.disturb import opposite, taken
from penstock.stages.leaks import Leak
from penstock.stages.membership import Sides
from penstock.stages.moved import Moved
from penstock.testing.planted import FUTURE, PAST, Planted
from penstock.testing.replay import Steps
from penstock.testing.replay import tried as proof

HOURS = 600


def hours(n=HOURS, seed=0):
    """An hourly table of three stations, with gaps in the temperature."""
    rng = np.random.default_rng(seed)
    temp = np.where(rng.random(n) < 0.14, np.nan, rng.normal(10, 3, n).round(2))
    return pd.DataFrame(
        {
            "id": range(n),
            "at": pd.date_range("2026-01-01", periods=n, freq="h"),
            "station": rng.choice(["a", "b", "c"], n),
            "temp": temp,
            "y": rng.normal(50, 9, n),
        }
    )


def tried(steps, by="time", target=None, full=False, time="at", **roles):
    roles = {**(roles or {"key": ("id",)}), "time": time}
    return proof(steps, "regression", split=Split(by=by), target=target, full=full, **roles)


def one(planted, table=None):
    step = planted.on("y", ["temp"], ["station"]) if isinstance(planted, Planted) else planted
    return Steps({"table": hours() if table is None else table}, [("made", step, ("table",))])


def found(report):
    return [(one["grade"], one["kind"]) for one in report["findings"]]


SOONER = ("lag 1", "mean of the last 24", "mean so far")
"""What uses labels of the last 24 hours."""
LAG, NEXT, FILLED = PAST["lag 1"], FUTURE["next row"], FUTURE["next for gaps"]


@pytest.mark.parametrize("by", ["time", "key"])
@pytest.mark.parametrize("name", PAST)
def test_what_a_row_learns_from_the_past_is_no_error(name, by):
    """By key held-out rows stand among the past: scramble sees them, and look-ahead settles it as a note."""
    report = tried(one(PAST[name]), by)
    assert {grade for grade, _ in found(report)} <= {"note"}
    if by == "key":
        assert found(report) == [("note", PAST[name].kind)]
        assert "nothing later than the row itself was used" in report["findings"][0]["what"]


@pytest.mark.parametrize("by", ["time", "key"])
@pytest.mark.parametrize("name", FUTURE)
def test_what_uses_a_later_row_is_an_error_however_rows_are_divided(name, by):
    report = tried(one(FUTURE[name]), by)
    assert ("error", "look-ahead") in found(report)
    [finding] = [one for one in report["findings"] if one["kind"] == "look-ahead"]
    assert finding["step"] == "made"
    assert "until 2026-" in finding["example"]


@pytest.mark.parametrize("name", PAST)
def test_labels_that_are_known_only_later_are_hidden(name):
    report = tried(one(PAST[name]), target=Target("y", delay="24h"))
    assert found(report) == ([("error", "look-ahead")] if name in SOONER else [])
    if name in SOONER:
        assert "labels that are not known yet" in report["findings"][0]["what"]


def test_a_label_is_known_when_its_own_column_says():
    table = hours().assign(told=lambda t: t["at"] + pd.Timedelta("36h"))
    target = Target("y", time="told")
    assert found(tried(one(PAST["lag 24"], table), target=target)) == [("error", "look-ahead")]
    assert found(tried(one(lambda t: t.assign(f=t.y.shift(40)), table), target=target)) == []


def test_text_and_plain_numbers_are_times_too():
    texts = hours().assign(at=lambda t: t["at"].dt.strftime("%Y-%m-%dT%H:%M:%S"))
    numbers = hours().assign(at=range(HOURS))
    for table in (texts, numbers):
        assert found(tried(one(NEXT, table))) == [("error", "look-ahead")]
        assert found(tried(one(LAG, table))) == []


def test_without_a_key_the_time_names_a_row():
    table = hours().drop(columns="id")
    steps = Steps({"table": table}, [("made", FILLED.on("y", ["temp"], ["station"]), ("table",))])
    assert found(tried(steps, key=())) == [("error", "look-ahead")]


def orders():
    """Events of customers; and a customer's label, made from the events of the month after the snapshot."""
    rng = np.random.default_rng(3)
    when = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 120, 4000), "D")
    return pd.DataFrame({"who": rng.integers(0, 300, 4000), "day": when, "price": rng.gamma(2, 20, 4000).round(2)})


def snapshots(events, until):
    """One row a customer and month: what was bought before, and whether anything is in the month after."""
    rows = []
    for month in pd.date_range("2026-02-01", periods=3, freq="MS"):
        before = events[events.day < month + pd.Timedelta(until)].groupby("who").price.agg(["sum", "count"])
        after = events[(events.day >= month) & (events.day < month + pd.Timedelta("28D"))].groupby("who").price.sum()
        rows.append(before.assign(y=after.reindex(before.index).fillna(0.0), at=month).reset_index())
    made = pd.concat(rows, ignore_index=True)
    return made.assign(id=[f"{who}-{at:%m}" for who, at in zip(made.who, made["at"], strict=True)])


@pytest.mark.parametrize(("until", "leaks"), [("0D", False), ("28D", True)])
def test_a_summary_that_includes_the_time_of_the_label_is_found(until, leaks):
    """No held-out row is concerned: the leak is inside the row, and only looking ahead shows it."""
    steps = Steps({"orders": orders()}, [("made", lambda e: snapshots(e, until), ("orders",))])
    report = tried(steps, key=("id",), groups=("who",))
    assert [kind for grade, kind in found(report) if grade == "error"] == (["look-ahead"] if leaks else [])


def parted(make):
    """Events with times, and a table of their customers that has none."""
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"id": range(HOURS), "age": rng.normal(40, 9, HOURS), "city": rng.choice(list("abc"), HOURS)})
    events = hours()[["id", "at", "y"]]
    return Steps({"people": people, "events": events}, [("made", make, ("people", "events"))])


def by_city(people, events):
    return events.merge(people.assign(gap=people.age - people.groupby("city").age.transform("mean")), on="id")


@pytest.mark.parametrize("by", ["time", "key"])
def test_a_table_without_a_time_is_no_past_by_itself(by, monkeypatch):
    """Its rows are not deleted: those that belong to later rows alone take other values."""
    report = tried(parted(by_city), by)
    assert ("error", "look-ahead") in found(report)
    assert any("in people took other values" in line["what"] for line in report["tried"])
    lag = tried(parted(lambda people, events: events.merge(people, on="id").assign(f=lambda t: t.age.shift(1))), by)
    assert {grade for grade, _ in found(lag)} <= {"note"}
    monkeypatch.setattr(probes.Behind, "moments", lambda *_: None)
    assert found(tried(parted(by_city), by)) == [("note", "features")]


def test_rows_of_a_table_without_a_time_belong_to_the_first_of_their_name():
    data = pd.DataFrame({"id": range(6), "who": list("aabbcc"), "at": [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]})
    sides = Sides(data[:4], data[4:], Roles(key=("id",), groups=("who",), time="at"), None, 0)
    behind = probes.Behind(sides, data, data["at"].to_numpy())
    assert behind.moments(("a", ""), pd.DataFrame({"who": ["c", "b", "x"], "v": 1}))[:2].tolist() == [3.0, 2.0]
    assert np.isnan(behind.moments(("a", ""), pd.DataFrame())[2])  # asked once a table
    assert behind.moments(("b", ""), pd.DataFrame({"v": [1]})) is None


def test_without_a_later_row_there_is_nothing_to_look_at():
    report = tried(one(LAG, hours().assign(at=pd.Timestamp("2026-01-01"))), "key")
    assert {"what": "look-ahead", "why": "no row is later than another"} in report["not_tried"]
    assert found(report) == [("error", "labels")]


def test_which_column_is_the_time_of_a_table():
    roles = Roles(key=("who",), time="at")
    events = pd.DataFrame({"who": [1, 1], "day": pd.to_datetime(["2026-01-01", "2026-01-02"])})
    once = events.assign(who=[1, 2])
    several = events.assign(sent=events.day)
    assert probes.clock_of(events, roles) == ("day", "")
    assert probes.clock_of(events.assign(at=events.day), roles) == ("at", "")
    assert probes.clock_of(events.assign(day=["2026-01-01", "2026-01-02"]), roles) == ("day", "")
    assert probes.clock_of(events[["who"]], roles) == (None, "")
    for table, why in ((once, "may have been known before"), (several, "several times")):
        clock, told = probes.clock_of(table, roles)
        assert (clock, why in told) == (None, True)


def test_more_moments_in_full_and_the_chance_is_told():
    short, long = tried(one(LAG)), tried(one(LAG), full=True)
    told = [next(line["what"] for line in report["tried"] if "moments" in line["what"]) for report in (short, long)]
    assert "until 5 moments, 2 of them at missing cells" in told[0]
    assert "missed with probability 0.73" in told[0]  # 0.9 ** 3
    assert "until 50 moments, 25 of them" in told[1]
    assert "missed with probability 0.072" in told[1]  # 0.9 ** 25


def test_what_the_user_says_of_a_step_holds_for_later_rows_but_not_for_labels():
    def known(step, **given):
        return Steps(
            {"table": hours()},
            [("made", step.on("y", ["temp"], ["station"]), ("table",))],
            across_rows={"made": "a forecast"},
        )

    assert found(tried(known(NEXT))) == [("note", "look-ahead"), ("note", "features")]
    late = tried(known(LAG), target=Target("y", delay="24h"))
    assert found(late) == [("error", "look-ahead")]


def test_a_step_that_raises_on_shorter_tables_settles_nothing():
    def needs_all(t):
        if len(t) < HOURS:
            raise ValueError("too short")
        return t.assign(f=t.y.shift(1))

    report = tried(one(needs_all), "key")
    assert found(report) == [("error", "labels")]
    assert any("it raised where tables ended earlier" in line["why"] for line in report["not_tried"])


def test_an_opposite_cell_is_another_and_untouched_rows_stay():
    for column in (pd.Series([1.0, 2, 3, 4, 5, 6]), pd.Series(list("aabbbc")), pd.Series([0, 1, 0, 1, 1, 1])):
        rows = np.array([True, True, True, True, False, False])
        new = taken(column.to_frame("c"), {"c": opposite(column, rows)})["c"]
        assert (new[:4] != column[:4]).all()
        assert (new[4:] == column[4:]).all()
    same = pd.Series([2, 2, 2])
    assert opposite(same, np.ones(3, dtype=bool)).tolist() == [0, 1, 2]


# ── controls ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_sabotage_without_moments_at_missing_cells_a_filling_is_missed(monkeypatch):
    table = hours()
    table["temp"] = table["temp"].fillna(9.0).mask(table.index.isin([300, 301, 400]))
    assert found(tried(one(FILLED, table))) == [("error", "look-ahead")]
    monkeypatch.setattr(ahead, "_missing", lambda *_: np.array([]))
    assert found(tried(one(FILLED, table))) == []


def test_sabotage_without_other_labels_a_short_lag_passes(monkeypatch):
    monkeypatch.setattr(probes, "opposite", lambda column, *_: np.arange(len(column)))
    assert found(tried(one(LAG), target=Target("y", delay="24h"))) == []


def test_sabotage_without_deleting_rows_the_next_row_passes(monkeypatch):
    monkeypatch.setattr(probes, "moments_of", lambda *_: None)
    assert ("error", "look-ahead") not in found(tried(one(NEXT)))


def rare(t):
    """Of one row in fifty the next label."""
    return t.assign(f=t.y.shift(-1).where(t.index % 50 == 0, 0.0))


def test_sabotage_without_moments_of_moved_rows_a_rare_leak_is_settled_as_past(monkeypatch):
    """Where scramble saw a row move, its own moment is tried too."""
    table = hours().assign(temp=9.0)
    assert ("error", "look-ahead") in found(tried(one(rare, table), "key"))
    monkeypatch.setattr(ahead, "DIRECTED", 0)
    assert found(tried(one(rare, table), "key")) == [("note", "labels")]


def test_a_time_that_a_later_step_reads_is_no_clock_and_no_error():
    """A source may write its days as 31.01.2026, which only a step can read."""
    raw = pd.DataFrame({"at": ["31.01.2026", "01.02.2026"], "x": [1.0, 2.0]})
    clock, why = probes.clock_of(raw, Roles(time="at"))
    assert clock is None
    assert "a later step reads the times in 'at'" in why
    read = raw.assign(at=pd.to_datetime(raw["at"], dayfirst=True))
    sides = Sides(read[:1], read[1:], Roles(time="at"), Split(by="time"), 0)
    assert sides.would_train(read).tolist() == [True, False]
    assert sides.would_train(raw).tolist() == [False, False]


def test_what_scramble_found_is_no_past_while_a_table_could_not_be_cut():
    none = np.empty(0, dtype=np.intp)
    leak = Leak("lag", Moved({"x": 3}, (), none, none, np.arange(3)), "labels")
    seen = ahead.Ahead(cuts=5, reached={"lag"})
    assert seen.settles(leak)
    seen.uncut = True
    assert not seen.settles(leak)


def joined(lag, zone):
    """A step that joins the weather of the same hour, or of hours later, to rows in local time five hours behind."""

    def step(table, weather):
        seen = weather["seen"].dt.tz_convert(zone) if zone else weather["seen"].dt.tz_convert(None) - pd.Timedelta("5h")
        wind = weather.assign(at=seen - pd.Timedelta(hours=lag))
        at = table["at"].dt.tz_localize("Etc/GMT+5").dt.tz_convert(zone) if zone else table["at"]
        return table.assign(at=at).merge(wind[["at", "wind"]], on="at")

    seen = hours()["at"].dt.tz_localize("UTC") + pd.Timedelta("5h")
    weather = pd.DataFrame({"seen": seen, "wind": np.random.default_rng(3).normal(size=HOURS)})
    return Steps({"table": hours(), "weather": weather}, [("made", step, ("table", "weather"))])


def test_local_time_is_not_held_against_instants():
    """Without a zone nobody knows how many hours lie between: so a join is no leak, and none is proven honest."""
    report = tried(joined(0, None))
    assert found(report) == []
    [why] = [one["why"] for one in report["not_tried"] if "the table weather" in one["what"] and "zone" in one["why"]]
    assert why == "seen has a zone: give at its own"


@pytest.mark.parametrize(("lag", "said"), [(0, []), (3, [("error", "look-ahead")])])
def test_instants_are_held_against_instants(lag, said):
    assert found(tried(joined(lag, "UTC"))) == said


def test_sabotage_zones_that_are_not_looked_at_make_an_honest_join_a_leak(monkeypatch):
    monkeypatch.setattr(ahead, "zoned", lambda _: False)
    assert found(tried(joined(0, None))) == [("error", "look-ahead")]
