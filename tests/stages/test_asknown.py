"""A table as it was known at a moment: what came later is not in it, and what was not known is blank."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError, DeclarationError
from penstock.stages import asknown
from penstock.stages.asknown import before, calendar, known, moment_of, text_of

DAYS = [text_of(moment_of("2026-01-01") + pd.Timedelta(days=i).to_timedelta64()) for i in range(200)]
ASKED = {"from": None, "until": None, "every": "30d", "window": None}


def table(n=200, **more):
    return pd.DataFrame({"day": DAYS[:n], "a": range(n), "left": [i % 2 for i in range(n)], **more})


class Stored:
    """As much of a stored table as the calendar reads."""

    def __init__(self, *columns, times=("2026-01-01",)):
        self.columns, self.times = list(columns), times

    def batches(self, columns):
        yield pd.DataFrame(dict.fromkeys(columns, self.times))

    @staticmethod
    def frame(rows):
        return rows


def planned(rows, *, target=Target("left"), asked=None, cuts=None, sources=None, split=None):
    given_ = {"schema": {"task": "binary"}, "roles": Roles(time="day"), "split": split or Split(), "seed": 0}
    sources = sources or {"rows": Stored("day", "a", "left")}
    return calendar(rows, sources=sources, target=target, asked=ASKED | (asked or {}), cuts=cuts or {}, **given_)


def test_an_event_at_the_moment_is_not_known_yet():
    assert before(table(), column="day", at=DAYS[7])["a"].tolist() == list(range(7))


def test_a_row_without_a_time_is_left_out():
    rows = table(4)
    rows.loc[1, "day"] = None
    assert before(rows, column="day", at="2027-01-01")["a"].tolist() == [0, 2, 3]


def test_labels_that_were_not_known_are_blank_with_what_comes_after_them():
    rows = table(40, why=["x"] * 40)
    target = Target("left", delay="10d", after=["why"])
    found = before(rows, column="day", at=DAYS[30], target=target)
    assert len(found) == 30
    assert found["left"].isna().sum() == found["why"].isna().sum() == 9  # 21 … 29: day 20 is ten days old
    assert found["left"][:21].tolist() == rows["left"][:21].tolist()


def test_a_label_is_known_at_its_own_time():
    rows = table(10, told=[DAYS[20]] * 4 + [DAYS[5]] * 6)
    target = Target("left", time="told")
    assert before(rows, column="day", at=DAYS[10], target=target)["left"].isna().tolist() == [True] * 4 + [False] * 6
    assert len(known(rows, at=DAYS[10], target=target, roles=Roles(time="day"))) == 6


def test_truths_beside_blank_cells_are_truths_again():
    rows = table(40).assign(left=[i % 2 == 0 for i in range(40)])
    target, roles = Target("left", delay="10d"), Roles(time="day")
    found = known(before(rows, column="day", at=DAYS[30], target=target), at=DAYS[30], target=target, roles=roles)
    assert len(found) == 21
    assert found["left"].dtype == bool


@given(st.integers(0, 210), st.integers(0, 210), st.sampled_from([None, "1d", "30d"]))
def test_what_is_known_earlier_is_the_same_whenever_it_is_asked(first, second, delay):
    """So a past origin is the same when the table has grown: its steps are reused."""
    early, late = sorted((first, second))
    days = [moment_of("2026-01-01") + pd.Timedelta(days=i).to_timedelta64() for i in (early, late)]
    at, then = map(text_of, days)
    target = Target("left", delay=delay)
    given_ = {"at": at, "target": target, "roles": Roles(time="day")}
    whole = known(before(table(), column="day", at=at, target=target), **given_)
    grown = before(table(), column="day", at=then)
    pd.testing.assert_frame_equal(known(before(grown, column="day", at=at, target=target), **given_), whole)


def test_origins_follow_each_other_to_the_last_row():
    found = planned(table(), asked={"from": DAYS[80], "until": None})
    assert [one["at"] for one in found["origins"]] == [DAYS[80], DAYS[110], DAYS[140], DAYS[170]]
    assert [one["stop"] for one in found["origins"]] == [DAYS[110], DAYS[140], DAYS[170], "2026-07-19 00:00:00.000001"]
    assert found["cuts"] == {"rows": "day"}


def test_an_origin_with_too_few_rows_is_skipped_and_says_how_few():
    first, *others = planned(table(), asked={"from": DAYS[40]})["origins"]
    assert first["skipped"] == "only 32 training rows of 40; 50 are needed"
    assert others[-1]["skipped"] in ("", "only 28 held-out rows of 140; 30 are needed")


def test_a_window_ends_where_labels_are_not_final():
    found = planned(table(), target=Target("left", delay="20d"), asked={"from": DAYS[150], "every": "60d"})
    assert [one["stop"] for one in found["origins"]] == ["2026-06-29 00:00:00.000001"]


def test_rows_of_the_final_hold_out_come_into_no_window():
    found = planned(table(), asked={"from": DAYS[100]}, split=Split(final="40d"))
    assert [one["at"] for one in found["origins"]] == [DAYS[100], DAYS[130]]
    assert found["origins"][-1]["stop"] == f"{DAYS[158]} 00:00:00.000001"  # the 40 days before the last, 199, are final
    with pytest.raises(DeclarationError, match=f"may be looked at go from {DAYS[0]} to {DAYS[158]}"):
        planned(table(), asked={"from": DAYS[170]}, split=Split(final="40d"))
    with pytest.raises(DataError, match="the final hold-out takes every row"):
        planned(table(), split=Split(final="900d"))


def test_before_the_date_that_test_names_nothing_is_held_out():
    found = planned(table(), asked={"from": DAYS[90]}, split=Split(test=DAYS[110]))["origins"]
    assert found[0]["skipped"] == f"rows from {DAYS[110]} on are held out, and none was there"
    assert found[-1]["skipped"] == ""


def test_the_first_origin_is_the_middle_row_also_where_all_came_in_a_day():
    hours = pd.DataFrame({"day": pd.date_range("2026-01-01", periods=400, freq="3min"), "left": [0, 1] * 200})
    found = planned(hours, asked={"every": "2h"})
    assert found["origins"][0]["at"] == "2026-01-01 10:00:00"


def test_a_source_whose_times_have_a_zone_where_the_others_have_none_is_told():
    zoned = {"rows": Stored("day"), "orders": Stored("ordered_at", times=["2026-01-01T10:00:00+02:00"])}
    assert planned(table(), sources=zoned)["zones"] == []  # not cut at all
    [told] = planned(table(), sources=zoned, cuts={"orders": "ordered_at"})["zones"]
    assert told.startswith("orders's ordered_at has a zone and day has none: they are compared as if both were in UTC")
    held = {"rows": table(), "orders": pd.DataFrame({"ordered_at": ["2026-01-01T10:00:00+02:00"]})}
    assert planned(table(), sources=held, cuts={"orders": "ordered_at"})["zones"] == [told]
    plain = {"rows": Stored("day"), "orders": Stored("ordered_at")}
    assert planned(table(), sources=plain, cuts={"orders": "ordered_at"})["zones"] == []


def test_a_source_without_the_time_is_not_cut_unless_somebody_says_how():
    sources = {"rows": Stored("day"), "orders": Stored("who", "ordered_at")}
    assert planned(table(), sources=sources)["cuts"] == {"rows": "day", "orders": ""}
    assert planned(table(), sources=sources, cuts={"orders": "ordered_at"})["cuts"]["orders"] == "ordered_at"
    with pytest.raises(DeclarationError, match="no such column"):
        planned(table(), sources=sources, cuts={"orders": "ordered"})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"from": "2030-01-01"}, "comes after --from"),
        ({"from": "2020-01-01"}, "nothing was known then"),
        ({"from": DAYS[40], "until": DAYS[20]}, "--until .* is not after --from"),
        ({"from": DAYS[80], "every": "1h"}, "origins, at most 200"),
    ],
)
def test_origins_outside_the_data_are_refused(asked, said):
    with pytest.raises(DeclarationError, match=said):
        planned(table(), asked=asked)


def test_an_until_that_nobody_gave_is_not_told_of():
    """Where labels are not final yet, the last origin is earlier than the last row."""
    with pytest.raises(DeclarationError, match="no row with a final label comes after --from"):
        planned(table(), asked={"from": DAYS[190]}, target=Target("left", delay="30d"))


def test_times_that_are_plain_numbers_are_refused():
    with pytest.raises(DeclarationError, match="plain numbers"):
        before(pd.DataFrame({"day": [1, 2]}), column="day", at="2026-01-01")


def test_sabotage_without_the_label_s_delay_unknown_labels_stay(monkeypatch):
    monkeypatch.setattr(asknown, "known_before", lambda _table, moments, cut, *_: moments < cut)
    found = before(table(40), column="day", at=DAYS[30], target=Target("left", delay="10d"))
    assert not found["left"].isna().any()
