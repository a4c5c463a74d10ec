"""Planted leaks are found and named; clean tables are quiet; each check's removal lets its leak through."""

import numpy as np
import pandas as pd
import pytest

from penstock.core.target import Roles, Target
from penstock.stages import audit as audit_module
from penstock.stages import betrayal
from penstock.stages.audit import audit

BINARY = {"task": "binary", "classes": ["no", "yes"], "positive": "yes"}
NUMBER = {"task": "regression"}
SEVERAL = {"task": "multiclass", "classes": ["ant", "bee", "cat"]}


def people(n=600, seed=0, schema=BINARY):
    rng = np.random.default_rng(seed)
    age, income = rng.integers(18, 80, n), rng.lognormal(10, 0.5, n)
    city = rng.choice(["Rome", "Oslo", "Lima"], n, p=[0.6, 0.3, 0.1])
    lift = (age - 45) / 20 + (city == "Rome") + rng.normal(size=n)
    if schema is BINARY:
        y = np.where(lift > 0.8, "yes", "no")
    elif schema is SEVERAL:
        y = np.array(["ant", "bee", "cat"])[np.digitize(lift, [-0.3, 0.8])]
    else:
        y = 10 * lift + 100
    frame = pd.DataFrame({"age": age, "income": income, "city": city, "y": y})
    return frame.iloc[: n * 4 // 5].reset_index(drop=True), frame.iloc[n * 4 // 5 :].reset_index(drop=True)


def look(train, test, schema=BINARY, **roles):
    return audit(train, test, target=Target("y"), roles=Roles(**roles), schema=schema)


def grades(proof):
    return [(finding["grade"], finding["kind"], finding["column"]) for finding in proof["findings"]]


def plant(name, make, schema=BINARY):
    train, test = people(schema=schema)
    return train.assign(**{name: make(train)}), test.assign(**{name: make(test)})


LEAKS = {
    "text copy": ("leak", lambda t: t.y.str.upper(), BINARY, "re-coding"),
    "number copy": ("leak", lambda t: (t.y == "yes") * 1.0, BINARY, "re-coding"),
    "boolean, turned": ("leak", lambda t: t.y == "no", BINARY, "re-coding"),
    "several values a class": ("leak", lambda t: t.y + (t.age % 7).astype(str), BINARY, "re-coding"),
    "score": ("leak", lambda t: t.income * 1e-6 + (t.y == "yes") * 10, BINARY, "re-coding"),
    "score, turned": ("leak", lambda t: -t.income * 1e-6 - (t.y == "yes") * 10, BINARY, "re-coding"),
    "class number": ("leak", lambda t: t.y.map({"ant": 7, "bee": 3, "cat": 5}), SEVERAL, "re-coding"),
    "copy": ("leak", lambda t: t.y, NUMBER, "copy"),
    "other unit": ("leak", lambda t: t.y * 1.8 + 32, NUMBER, "re-coding"),
    "logarithm": ("leak", lambda t: np.log(t.y), NUMBER, "re-coding"),
    "mostly there": ("leak", lambda t: t.y.where(t.age % 5 > 0), NUMBER, "copy"),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_copy_or_recoding_of_the_target_is_an_error(leak):
    name, make, schema, kind = LEAKS[leak]
    proof = look(*plant(name, make, schema), schema)
    assert grades(proof) == [("error", kind, "leak")]
    assert proof["grade"] == "error"
    assert "leak" in proof["summary"]


@pytest.mark.parametrize("schema", [BINARY, NUMBER, SEVERAL], ids=["binary", "number", "several"])
def test_sabotage_without_the_check_of_columns_the_leak_passes(schema, monkeypatch):
    leak = next(leak for leak in LEAKS.values() if leak[2] is schema)
    monkeypatch.setattr(betrayal, "_column", lambda *_: None)
    monkeypatch.setattr(betrayal, "_sums", lambda *_: [])
    assert look(*plant(leak[0], leak[1], schema), schema)["grade"] in {None, "note"}


def sums(train):
    rng = np.random.default_rng(5)
    part = rng.integers(0, 90, len(train))
    whole = np.round(train.y).astype(int)
    return train.assign(part=part, rest=whole - part, y=whole)


def test_an_exact_sum_is_found_with_the_fewest_columns_and_its_weights():
    train, test = (sums(side) for side in people(schema=NUMBER))
    proof = look(train, test, NUMBER)
    assert grades(proof) == [("error", "sum", "part + rest")]
    assert proof["findings"][0]["what"] == "y = part + rest, exactly"
    halves = [side.assign(part=2 * side.part, flag=side.age > 40) for side in (train, test)]
    assert look(*halves, NUMBER)["findings"][0]["what"] == "y = 0.5 × part + rest, exactly"


def test_a_second_sum_is_found_behind_the_first():
    sides = [sums(side) for side in people(schema=NUMBER)]
    sides = [side.assign(more=side.y * 0.25 + side.age, less=side.age * 4.0 + side.income) for side in sides]
    found = {column for _, kind, column in grades(look(*sides, NUMBER)) if kind == "sum"}
    assert len(found) == 2


def test_sabotage_without_the_check_of_sums_the_sum_passes(monkeypatch):
    monkeypatch.setattr(betrayal, "_sums", lambda *_: [])
    assert look(*(sums(side) for side in people(schema=NUMBER)), NUMBER)["grade"] in {None, "note"}


def test_few_rows_for_many_columns_are_no_sum():
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.normal(size=(40, 39))).rename(columns=str).assign(y=rng.normal(size=40))
    assert look(wide, wide.iloc[:0], NUMBER)["findings"] == []


def test_copies_on_both_sides_are_a_warning_and_counted():
    train, test = people()
    mixed = pd.concat([test, train.iloc[:40]], ignore_index=True)
    proof = look(train, mixed)
    assert grades(proof) == [("warning", "overlap", "")]
    assert proof["findings"][0]["rows"] == 40
    assert "40 of 160 held-out rows also in train" in proof["summary"]


def test_likeness_by_chance_is_a_note():
    rng = np.random.default_rng(0)
    coarse = pd.DataFrame({"a": rng.integers(0, 3, 500), "y": rng.choice(["no", "yes"], 500)})
    assert grades(look(coarse.iloc[:400], coarse.iloc[400:])) == [("note", "overlap", "")]


def test_keys_and_groups_on_both_sides_are_errors_but_with_time_notes():
    train, test = people()
    train, test = train.assign(id=range(480), who=1), test.assign(id=range(470, 590), who=np.r_[1, 2:121])
    proof = look(train, test, key=("id",), groups=("who",))
    assert grades(proof) == [("error", "key", "id"), ("error", "group", "who")]
    assert proof["findings"][0]["rows"] == 10
    days = pd.date_range("2026-01-01", periods=600, freq="h")
    train, test = train.assign(when=days[:480]), test.assign(when=days[480:])
    assert look(train, test, key=("id",), groups=("who",), time="when")["grade"] == "note"


def test_training_rows_later_than_held_out_ones_are_a_warning():
    train, test = people()
    days = pd.date_range("2026-01-01", periods=600, freq="h")
    train, test = train.assign(when=days[:480]), test.assign(when=days[480:])
    assert look(train, test, time="when")["findings"] == []
    test.loc[5, "when"] = days[400]
    assert grades(look(train, test, time="when")) == [("warning", "time", "when")]
    assert look(train, test, time="when")["findings"][0]["rows"] == 79


def test_sabotage_without_the_check_of_sides_a_shared_key_passes(monkeypatch):
    train, test = people()
    monkeypatch.setattr(audit_module, "shared_names", lambda *_: [])
    assert look(train.assign(id=range(480)), test.assign(id=range(120)), key=("id",))["grade"] is None


def test_identifiers_are_noted_and_a_counter_that_goes_with_the_target_is_a_warning():
    train, test = people()
    number = np.random.default_rng(0).permutation(10_000)
    noted = look(train.assign(n=number[:480]), test.assign(n=number[480:600]))
    assert grades(noted) == [("note", "identifier", "n")]
    drifting = (train.y == "yes") + 0.6 * np.random.default_rng(1).normal(size=480)
    by_target = train.iloc[drifting.argsort()].assign(row=range(480))
    assert grades(look(by_target, test.assign(row=range(480, 600)))) == [("warning", "identifier", "row")]
    texts = [f"c{i}" for i in range(480)]
    assert grades(look(train.assign(name=texts), test.assign(name="x"))) == [("note", "identifier", "name")]


def test_the_proof_says_what_was_tried_on_how_many_rows_and_what_was_not():
    proof = look(*people())
    assert (
        proof["summary"] == "no copy or re-coding of the target among 3 columns · 0 of 120 held-out rows also in train"
    )
    assert {"what": "held-out rows that equal a training row, or nearly", "rows": 120} in proof["tried"]
    assert {one["what"]: one["why"] for one in proof["not_tried"]} == {
        "dates later than the row's time": "not provable: declare time=",
        "the same key on both sides": "not provable: declare key=",
        "the same group on both sides": "not provable: declare groups=",
        "training rows later than held-out ones": "not provable: declare time=",
        "leaks that look like honest predictors": "no statistic tells them apart; name them in after=",
    }
    assert "clean" not in str(proof)


def test_held_out_labels_are_not_looked_at():
    train, test = people()
    swapped = test.assign(y=np.where(test.y == "yes", "no", "yes"))
    assert look(train, test) == look(train, swapped)


@pytest.mark.parametrize("table", ["telco", "adult", "german", "bike", "covtype"])
def test_real_tables(table, shared_data):
    target, schema, drop, frame = real(table, shared_data)
    cut = len(frame) * 4 // 5
    proof = audit(frame.iloc[:cut], frame.iloc[cut:], target=Target(target), roles=Roles(drop=drop), schema=schema)
    assert proof["grade"] in {None, "note"}, proof["findings"]


def real(table, shared_data):
    if table == "telco":
        frame = pd.read_csv(shared_data("telco_churn.csv"), na_values=[" "])
        return "Churn", {"task": "binary", "classes": ["No", "Yes"], "positive": "Yes"}, ("customerID",), frame
    if table == "adult":
        frame = pd.read_csv(shared_data("adult_train.csv.gz"), skipinitialspace=True, na_values="?")
        return "income", {"task": "binary", "classes": ["<=50K", ">50K"], "positive": ">50K"}, (), frame
    if table == "german":
        frame = pd.read_csv(shared_data("german_credit_uci.csv"))
        return "class", {"task": "binary", "classes": [1, 2], "positive": 2}, (), frame
    if table == "bike":
        frame = pd.read_csv(shared_data("bike_hour.csv.gz"))
        return "cnt", NUMBER, ("casual", "registered", "dteday"), frame
    frame = pd.read_csv(shared_data("covtype_sample.csv.gz"))
    return "Cover_Type", {"task": "multiclass", "classes": [1, 2, 3, 4, 5, 6, 7]}, (), frame


def test_the_trap_in_bike_is_found(shared_data):
    frame = pd.read_csv(shared_data("bike_hour.csv.gz"))
    proof = audit(frame.iloc[:14000], frame.iloc[14000:], target=Target("cnt"), roles=Roles(), schema=NUMBER)
    errors = [finding["what"] for finding in proof["findings"] if finding["grade"] == "error"]
    assert errors == ["cnt = casual + registered, exactly"]
    assert proof["summary"].startswith("cnt = casual + registered, exactly")


def test_the_trap_in_hotel_is_found(shared_data):
    frame = pd.read_csv(shared_data("hotel_bookings.csv.gz"), nrows=20_000)
    schema = {"task": "binary", "classes": [0, 1], "positive": 1}
    proof = audit(frame.iloc[:16000], frame.iloc[16000:], target=Target("is_canceled"), roles=Roles(), schema=schema)
    assert [f["column"] for f in proof["findings"] if f["grade"] == "error"] == ["reservation_status"]
