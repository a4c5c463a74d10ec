"""What a declaration for a table should say: roles by name and value, late columns from training rows alone."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.split import Split
from penstock.errors import DataError, DeclarationError
from penstock.stages.disguised import number_form, sentinels_in
from penstock.stages.moments import as_times, dates_of, moment_of, sounds_late
from penstock.stages.propose import Proposal, propose
from penstock.stages.roles import groups_of, is_counter, key_of, names_things, useless
from penstock.stages.split import split as divide
from penstock.stages.task import Asked

N = 400


def table(**columns: Any) -> pd.DataFrame:
    """A table whose target follows `a`, with further columns."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=N)
    made = pd.DataFrame({"a": a, "b": rng.normal(size=N).round(2), "y": (a + rng.normal(size=N) > 0).astype(int)})
    return made.assign(**columns)


def reasons(found: Proposal, topic: str) -> dict[str, str]:
    return {one.choice: one.why for one in found.reasons if one.topic == topic}


@pytest.mark.parametrize("name", ["customer_id", "customerID", "CustomerId", "id", "uuid", "order_no", "patientid"])
def test_a_name_that_names_things(name: str) -> None:
    assert names_things(name) > 0


@pytest.mark.parametrize("name", ["humid", "paid", "grid", "age", "fixed_acid", "education_years", "thyroid"])
def test_a_name_that_only_sounds_so(name: str) -> None:
    assert names_things(name) == 0


def test_the_key_is_the_best_named_of_unique_columns() -> None:
    made = table(code=[f"X-{i:05d}" for i in range(N)], customer_id=random.Random(0).sample(range(10_000), N))
    found = key_of(made, ["code", "customer_id", "a"])
    assert found is not None
    assert found.choice == "customer_id"
    assert key_of(made, ["code"]).choice == "code"
    assert key_of(made, ["a", "b"]) is None


def test_a_counter_is_no_key_but_is_left_out() -> None:
    made = table(instant=range(1, N + 1))
    assert key_of(made, ["instant"]) is None
    assert is_counter(made["instant"], "instant")
    assert [one.choice for one in useless(made, ["a", "instant"])] == ["instant"]


def test_an_entity_with_several_rows_is_a_group() -> None:
    made = table(hospital_number=[5000 + i // 3 for i in range(N)], wards_no=[i % 4 for i in range(N)])
    found = groups_of(made, ["hospital_number", "wards_no", "a"])
    assert found is not None
    assert found.choice == "hospital_number"


def test_what_says_nothing_or_the_same_is_left_out() -> None:
    made = table(
        empty=[None] * N,
        constant=["x"] * N,
        level=[i % 7 for i in range(N)],
        words=[f"level {i % 7}" for i in range(N)],
        shuffled=[(3 * (i % 7)) % 7 for i in range(N)],
        double=[2 * (i % 7) for i in range(N)],
    )
    gone = {one.choice: one.why for one in useless(made, list(made.columns))}
    assert set(gone) == {"empty", "constant", "words", "double"}  # another order of numbers may tell something else
    assert gone["words"] == "says the same as 'level', value for value"


FORMS = {
    "iso": "%Y-%m-%d",
    "german": "%d.%m.%Y",
    "american": "%m/%d/%Y",
    "clock": "%Y/%m/%d %H:%M",
    "words": "%d %b %Y",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_text_that_is_a_date_gives_the_time(form: str) -> None:
    days = [dt.datetime(2024, 1, 1) + dt.timedelta(days=i) for i in range(N)]
    made = table(visit=[day.strftime(form) for day in days])
    dates = dates_of(made, ["a", "visit"])
    moment = moment_of(made, ["a", "visit"], dates)
    assert moment is not None
    assert moment.column == "visit"
    assert list(as_times(made, moment)) == [day.replace(hour=0) for day in days]


@pytest.mark.parametrize("months", ["number", "short", "long"])
def test_parts_of_a_date_give_the_time(months: str) -> None:
    days = pd.date_range("2024-01-01", periods=N)
    forms = {"number": days.month, "short": days.strftime("%b"), "long": days.strftime("%B")}
    made = table(
        arrival_year=days.year, arrival_month=forms[months], arrival_day_of_month=days.day, week=days.day_of_week
    )
    moment = moment_of(made, list(made.columns), {})
    assert moment is not None
    assert [name for _, name in moment.parts] == ["arrival_year", "arrival_month", "arrival_day_of_month"]
    assert list(as_times(made, moment)) == list(days)


def test_a_late_or_a_birth_date_is_not_the_time() -> None:
    days = [str(day.date()) for day in pd.date_range("2024-01-01", periods=N)]
    made = table(closed_date=days, birth_date=days)
    assert moment_of(made, list(made.columns), dates_of(made, list(made.columns))) is None
    assert sounds_late("closed_date")
    assert not sounds_late("marital_status")


def test_with_a_time_the_newest_rows_are_held_out() -> None:
    found = propose(table(day=pd.date_range("2024-01-01", periods=N)), Asked("y"))
    assert found.roles.time == "day"
    assert found.by is None
    assert "newest" in reasons(found, "split")["time"]


def test_what_betrays_the_target_is_declared_late() -> None:
    made = table()
    made["label_text"] = np.where(made["y"] == 1, "left", "stayed")
    made["left_on"] = np.where(made["y"] == 1, 5.0, np.nan)
    found = propose(made, Asked("y"))
    assert set(found.target.after) == {"label_text", "left_on"}
    assert "a" not in found.target.after


def test_a_strong_column_is_late_only_if_its_name_says_so() -> None:
    rng = np.random.default_rng(0)
    size = 2_000
    y = rng.integers(0, 2, size)
    strong = y + rng.normal(scale=0.45, size=size)
    made = pd.DataFrame({"weak": rng.normal(size=size) + 0.3 * y, "y": y})
    assert propose(made.assign(call_duration=strong), Asked("y")).target.after == ("call_duration",)
    honest = propose(made.assign(dose=strong), Asked("y"))
    assert honest.target.after == ()
    assert "is it known when the model is asked?" in reasons(honest, "doubt")["dose"]


@settings(max_examples=5)
@given(st.integers(0, 10_000))
def test_labels_of_held_out_rows_decide_nothing(seed: int) -> None:
    """Sabotage of the held-out labels: the proposal is the same, although one column would betray them."""
    made = table(customer_id=range(1000, 1000 + N))
    made["hint"] = made["y"].astype(str)
    first = propose(made, Asked("y"))
    task = {"target": first.target, "roles": first.roles, "split": Split(), "seed": 0, "task": "binary"}
    _, test, _ = divide(made, **task)
    held = made["customer_id"].isin(test["customer_id"])
    labels = made.loc[held, "y"].sample(frac=1, random_state=seed).to_numpy()
    other = made.assign(y=made["y"].where(~held, pd.Series(labels, index=made.index[held])).astype(int))
    second = propose(other, Asked("y"))
    assert (first.target, first.drop, first.words) == (second.target, second.drop, second.words)
    assert first.target.after == ("hint",)


def test_two_odd_labels_are_asked_for() -> None:
    made = table()
    made["y"] = made["y"].map({0: "good", 1: "bad"})
    with pytest.raises(DeclarationError, match="never guessed") as caught:
        propose(made, Asked("y"))
    assert "--positive" in str(caught.value)
    assert propose(made, Asked("y", positive="bad")).target.positive == "bad"
    with pytest.raises(DeclarationError, match="has no such class"):
        propose(made, Asked("y", positive="ugly"))


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([0, 1], "binary"),
        (["yes", "no"], "binary"),
        ([True, False], "binary"),
        ([0.0, 1.0], "binary"),
        ([1, 2, 3], "multiclass"),
        (["a", "b", "c"], "multiclass"),
        ([3, 4, 5, 6, 7], "regression"),
        ([*range(40)], "regression"),
        ([0.5, 1.5, 2.5], "regression"),
    ],
)
def test_the_task_follows_from_the_target(values: list[Any], task: str) -> None:
    made = table(y=[values[i % len(values)] for i in range(N)])
    assert propose(made, Asked("y")).task == task


def test_counts_of_something_are_numbers() -> None:
    made = table(y=np.random.default_rng(0).geometric(0.5, N).clip(max=7) - 1)
    assert propose(made, Asked("y")).task == "regression"


def test_rows_without_the_target_are_dropped_and_counted() -> None:
    made = table()
    made["y"] = made["y"].astype(float).where(made.index % 10 > 0)
    found = propose(made, Asked("y"))
    assert found.target.missing == "drop"
    assert reasons(found, "missing")["drop"] == "40 of 400 rows have no y"


def test_a_rare_class_is_ranked_by_average_precision() -> None:
    rng = np.random.default_rng(0)
    made = pd.DataFrame({"a": rng.normal(size=5_000), "y": (rng.uniform(size=5_000) < 0.01).astype(int)})
    assert propose(made, Asked("y")).metrics[0] == "average_precision"


def test_texts_are_sorted_by_what_they_hold() -> None:
    rng = random.Random(0)
    made = pd.DataFrame(
        {
            "city": [rng.choice(["Bonn", "Lille", None]) for _ in range(900)],
            "town": [f"town {rng.randrange(600)}" for _ in range(900)],
            "remark": [" ".join(rng.choices(["the", "cat", "sat", "on", "mats"], k=9)) for _ in range(900)],
            "y": [rng.random() for _ in range(900)],
        }
    )
    found = propose(made, Asked("y"))
    assert (found.words, found.many, found.texts) == (["city"], ["town"], ["remark"])
    assert found.model == "linear"


@pytest.mark.parametrize(
    ("made", "asked", "error", "what"),
    [
        (table(), Asked("z"), DeclarationError, "no such column"),
        (table(y=1), Asked("y"), DataError, "nothing to learn"),
        (table(y=[f"text {i}" for i in range(N)]), Asked("y"), DeclarationError, "too many for classes"),
        (table(y=pd.date_range("2024-01-01", periods=N)), Asked("y"), DataError, "is a time"),
        (table(y=[int(i < 5) for i in range(N)]), Asked("y"), DataError, "too few to learn"),
        (table()[["y"]], Asked("y"), DataError, "no column"),
        (table(), Asked("y", split="time"), DeclarationError, "no column for it"),
        (table(), Asked("y", time="a"), DeclarationError, "not all dates"),
        (table(), Asked("a", positive="x"), DeclarationError, "regression target"),
    ],
)
def test_what_cannot_be_proposed_is_said(made: pd.DataFrame, asked: Asked, error: type, what: str) -> None:
    with pytest.raises(error, match=what):
        propose(made, asked)


def test_texts_that_never_repeat_do_not_say_the_same() -> None:
    """Each is one to one with every other such column, and with every number that never repeats."""
    made = table(
        title=[f"a short title of {i * 7919 % N}" for i in range(N)],
        body=[f"a longer body with words of {i * 31 % N}" for i in range(N)],
        copy=[f"a short title of {i * 7919 % N}" for i in range(N)],
    )
    gone = {one.choice: one.why for one in useless(made, ["a", "title", "body", "copy"])}
    assert gone == {"copy": "says the same as 'title', value for value"}


@pytest.mark.parametrize("names", [("yr", "mnth", "dd"), ("Jahr", "Monat", "Tag"), ("YYYY", "MM", "DD")])
def test_parts_of_a_date_have_many_names(names: tuple[str, str, str]) -> None:
    days = pd.date_range("2024-01-01", periods=N)
    made = table(**dict(zip(names, (days.year, days.month, days.day), strict=True)))
    moment = moment_of(made, list(made.columns), {})
    assert moment is not None
    assert list(as_times(made, moment)) == list(days)


def test_months_are_dates() -> None:
    months = pd.date_range("2000-01-01", periods=N, freq="MS")
    made = table(month=months.strftime("%Y-%m"))
    assert dates_of(made, ["month"]) == {"month": "%Y-%m"}


def test_numbers_that_are_names_are_categories_or_left_out() -> None:
    rng = random.Random(0)
    shops, customers = [rng.randrange(9) for _ in range(N)], [rng.choice([None, *range(2_000)]) for _ in range(N)]
    found = propose(
        table(shop_id=shops, agent_id=pd.Series(customers, dtype="float64")), Asked("y", groups=("shop_id",))
    )
    assert reasons(found, "drop")["agent_id"] == "a number that names things: its size says nothing"
    found = propose(table(shop_id=shops), Asked("y"))
    assert found.words == ["shop_id"]


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        (["$1,200.50", "$3", "$7.25", "$9", "$11"], "."),
        (["12 %", "3 %", "4 %", "50 %", "7 %"], "."),
        (["1.200,50 €", "3,5 €", "4 €", "-5 €", "7 €"], ","),
        (["5 kg", "6 kg", "7.5 kg", "8 kg", "9 kg"], "."),
        (["5 kg", "6 g", "7.5 kg", "8 kg", "9 kg"], None),  # two units
        (["00123", "00124", "00125", "00126", "00127"], None),  # codes
        (["K1", "K2", "K3", "K4", "K5"], None),
        (["1.2.3", "1.2.4", "1.3.0", "2.0.0", "2.0.1"], None),  # versions
        (["+491701", "+491702", "+491703", "+491704", "+491705"], None),  # telephones
        (["1-2", "3-4", "5-6", "7-8", "9-10"], None),  # spans
        (["10115", "80331", "20095", "50667", "60311"], None),  # somebody made texts of them
    ],
)
def test_which_texts_are_numbers(cells: list[str], form: str | None) -> None:
    assert number_form(pd.Series(cells)) == form


def test_a_sentinel_stands_apart() -> None:
    made = pd.DataFrame(
        {
            "age": [*range(20, 90), *[999] * 10],
            "score": [*range(70), *[-1] * 10],
            "cents": [*range(70), *[99] * 10],  # as near to the others as they are to each other
            "change": [*range(-35, 35), *[-999] * 10],
            "gain": [*[0, 1_000, 2_000, 50_000, 90_000] * 14, *[99_999] * 10],  # a cap, not far
        }
    )
    found = {one.column: one.value for one in sentinels_in(made, list(made))}
    assert found == {"age": 999.0, "score": -1.0, "change": -999.0}


def test_classes_of_few_rows_are_told_of() -> None:
    found = propose(table(y=["a", "b"] * (N // 2 - 1) + ["c", "d"]), Asked("y"))
    assert any("'c' (1), 'd' (1)" in one.why for one in found.reasons if one.topic == "target")


def test_values_of_any_kind_are_told_apart() -> None:
    """A Parquet file may hold days, decimals or categories of pandas; none of them is an array of texts."""
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=i) for i in range(N)]
    made = table(day=days, other=days[::-1], kind=pd.Categorical([f"k{i}" for i in range(N)]))
    made["void"] = pd.Series([None] * N, dtype=object)
    assert {one.choice for one in useless(made, ["day", "other", "kind", "void"])} >= {"void"}
    assert propose(made, Asked("y")).task == "binary"
