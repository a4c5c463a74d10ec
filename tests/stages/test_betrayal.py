"""Planted traps are found under their mechanism and grade; without its rule each passes; clean tables are quiet."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import d2_log_loss_score, r2_score

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages import absence, betrayal, identifiers, questions, suspects
from penstock.stages.absence import absences
from penstock.stages.alike import folded, rounded
from penstock.stages.audit import audit
from penstock.stages.betrayal import betrayals, judged
from penstock.stages.overlap import copies, out_of_order, shared_names
from penstock.stages.problem import Problem
from penstock.stages.questions import speaks_late
from penstock.stages.skill import explained, folds, of_all, of_one
from penstock.stages.split import split as divide
from penstock.testing.traps import BINARY, NUMBER, SEVERAL, TRAPS, clean_table, people

YES_NO = Problem("binary", ("no", "yes"), "y")


def proof(table, schema, roles=Roles(), waive=None):
    target = Target("y")
    train, test, _ = divide(table, target=target, roles=roles, split=Split(), seed=0, task=schema["task"])
    return audit(train, test, target=target, roles=roles, schema=schema, waive=waive)


def sprung(name, seed=0, n=800):
    trap = TRAPS[name]
    return trap, trap.make(people(n, seed, trap.schema), np.random.default_rng(seed))


def found(name):
    trap, table = sprung(name)
    return trap, proof(table, trap.schema, trap.roles)["findings"]


def named(trap, findings):
    right = [one for one in findings if (one["kind"], one["grade"]) == (trap.mechanism, trap.grade)]
    return {column for one in right for column in one["column"].split(" + ")}


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_is_found_and_nothing_else(name):
    trap, findings = found(name)
    assert named(trap, findings) == set(trap.columns), findings
    assert {one["grade"] for one in findings} == {trap.grade}


RULES = {
    "several values a class": (betrayal, "_purity", lambda *_: None),
    "bands of a number": (betrayal, "_parted", lambda *_: None),
    "other unit": (betrayal, "_r2_of_neighbours", lambda *_: 0.0),
    "sum": (betrayal, "_smallest_sum", lambda *_: []),
    "there for one class": (absence, "_state", lambda *_: ("", 0, 0, 0)),
    "nearly for one class": (absence, "MOSTLY", 1.0),
    "counter": (identifiers, "_goes_with", lambda *_: 0.0),
    "row number": (identifiers, "_looks_given", lambda *_: False),
    "too good": (questions, "too_good", lambda *_: []),
    "masked": (questions, "ROUNDS", 1),
    "named late": (questions, "sounds_late", lambda *_: False),
    "dated late": (questions, "_later", lambda *_: []),
}
"""Trap → the rule that finds it, and what stands in its place once it is gone."""


@pytest.mark.parametrize("name", RULES)
def test_sabotage_without_its_rule_a_trap_passes(name, monkeypatch):
    module, rule, instead = RULES[name]
    monkeypatch.setattr(module, rule, instead)
    trap, findings = found(name)
    assert named(trap, findings) != set(trap.columns)


def test_every_mechanism_has_its_sabotage():
    assert {TRAPS[name].mechanism for name in RULES} | {"copy"} == {trap.mechanism for trap in TRAPS.values()}


def test_clean_tables_are_quiet():
    """The first tables of those that the documentation counts 200 of."""
    proofs = [proof(*clean_table(seed)) for seed in range(9_000, 9_018)]
    grades = [one["grade"] for one in proofs]
    assert grades.count("error") + grades.count("warning") == 0
    assert grades.count("note") <= 2


def test_sabotage_a_lower_bar_is_heard_on_clean_tables(monkeypatch):
    monkeypatch.setattr(betrayal, "ALONE", 0.7)
    monkeypatch.setattr(questions, "WORTH_ASKING", 0.05)
    monkeypatch.setattr(questions, "ALMOST_ALL", 0.5)
    assert sum(proof(*clean_table(seed))["grade"] is not None for seed in range(9_000, 9_006)) >= 2


def test_a_waiver_answers_each_question_once_and_is_on_record():
    for name in ("too good", "named late", "dated late", "there for one class", "nearly for one class"):
        trap, table = sprung(name)
        answered = proof(table, trap.schema, trap.roles, waive=dict.fromkeys(trap.columns, "it is known"))
        assert [(one["grade"], one["kind"]) for one in answered["findings"]] == [("note", "waived")]
        assert answered["findings"][0]["what"].endswith("(waived: it is known)")
        late = Target("y", after=trap.columns)
        train, test = table.iloc[:600], table.iloc[600:]
        gone = audit(train, test, target=late, roles=trap.roles, schema=trap.schema)
        assert gone["findings"] == []


def test_what_was_tried_is_told_with_its_rows():
    trap, table = sprung("dated late")
    told = proof(table, trap.schema, trap.roles)
    assert {"dates later than when", "cells missing for one class"} <= {one["what"] for one in told["tried"]}
    few = proof(people(150, 0, BINARY), BINARY)
    assert "fewer than 200 distinct training rows" in {one["why"] for one in few["not_tried"]}


# ── rows that are no evidence for one another ────────────────────────────────────────────────────────────────


def patients(visits=8, n=150):
    rng = np.random.default_rng(3)
    who = np.repeat(np.arange(n), visits)
    weight, ill = rng.normal(75, 9, n)[who], rng.choice(["no", "yes"], n)[who]
    return pd.DataFrame({"weight": weight, "pulse": rng.normal(70, 9, len(who)), "y": ill, "who": who})


def test_what_tells_the_entity_does_not_tell_the_target():
    table = patients()
    assert proof(table, BINARY, Roles(groups=("who",)))["findings"] == []
    alone = betrayals(table[["weight"]], YES_NO.encode(table["y"]), YES_NO)
    assert [one.grade for one in alone] == ["error"]  # without groups rows of one patient bear each other out


def test_entities_whose_target_changes_give_each_value_and_class_once():
    table = patients().assign(y=lambda t: np.where(t.index % 8 < 4, "yes", "no"))
    table["empty"] = table["pulse"].where(table["who"] != 0)  # one patient, eight rows of two classes
    held = table.assign(y=np.where(table["who"] < 4, "yes", table["y"]))
    held["empty"] = held["pulse"].where(held["who"] >= 4)  # 32 rows, and only four patients
    X, truth = held[["empty"]], YES_NO.encode(held["y"])
    assert [one.grade for one in absences(X, truth, YES_NO)] == ["error"]
    assert absences(X, truth, YES_NO, held["who"].to_numpy()) == []


def test_copies_count_once_but_few_values_are_no_copies():
    X = pd.DataFrame({"a": np.random.default_rng(0).normal(size=300)})
    y = np.random.default_rng(1).integers(0, 2, 300)
    twice, truth = pd.concat([X, X], ignore_index=True), np.r_[y, y]
    once, kept, _ = judged(twice, truth, None)
    assert len(once) == len(kept) == 300
    assert betrayals(once, kept, YES_NO) == []
    assert betrayals(twice, truth, YES_NO) != []
    coarse = pd.DataFrame({"a": y * 1})
    assert len(judged(coarse, y, None)[0]) == 300


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_chance_of_a_state_is_that_of_the_hypergeometric_law():
    truth = np.r_[np.ones(30, int), np.zeros(70, int)]
    pure = pd.DataFrame({"a": np.where(np.arange(100) < 20, np.nan, 1.0)})
    assert hypergeom.sf(19, 100, 30, 20) < 0.3**20 * 1.01 < 1e-6
    assert [one.grade for one in absences(pure, truth, YES_NO)] == ["error"]
    # Of a class with 95 % of the rows 40 rows of it alone are no wonder.
    common = np.r_[np.ones(40, int), np.ones(530, int), np.zeros(30, int)]
    usual = pd.DataFrame({"a": np.where(np.arange(600) < 40, np.nan, 1.0)})
    assert absences(usual, common, YES_NO) == []
    fewer = pd.DataFrame({"a": np.where(np.arange(100) < 19, np.nan, 1.0)})
    assert absences(fewer, truth, YES_NO) == []


def test_a_state_that_is_rare_in_a_rare_class_is_no_warning():
    """Of 2,000 rows 4 % are ill; of those with the cell missing 1.5 %: more than 97 % healthy, and honest."""
    rng = np.random.default_rng(0)
    truth = (rng.random(20_000) < 0.04).astype(int)
    missing = rng.random(20_000) < np.where(truth == 1, 0.15, 0.4)
    assert absences(pd.DataFrame({"a": np.where(missing, np.nan, 1.0)}), truth, YES_NO) == []


def test_explained_is_scikit_learns_d2():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = (X[:, 0] + rng.normal(size=400) > 0).astype(int) + (X[:, 1] > 1)
    chances = LogisticRegression().fit(X, y).predict_proba(X)
    several = Problem("multiclass", ("a", "b", "c"))
    assert explained(y, chances, several) == pytest.approx(d2_log_loss_score(y, chances))
    numbers = X[:, 0] + 0.1 * rng.normal(size=400)
    assert explained(numbers, X[:, 0], Problem("regression")) == pytest.approx(r2_score(numbers, X[:, 0]))


def test_one_column_that_says_all_has_the_skill_of_the_model_and_noise_has_none():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=900), "level": rng.choice(list("xyz"), 900), "void": np.nan})
    y = np.where(rng.random(900) < 0.1, 1 - (frame.a > 0.3), frame.a > 0.3).astype(int)
    fold = folds(900)
    whole = explained(y, of_all(frame, y, YES_NO, fold), YES_NO)
    assert 0.3 < whole < 0.53  # the deviance that is there to explain: 0.53
    assert explained(y, of_one(frame["a"], y, YES_NO, fold), YES_NO) > 0.9 * whole
    for name in ("level", "void"):
        assert explained(y, of_one(frame[name], y, YES_NO, fold), YES_NO) < 0.01


def test_rows_of_a_group_share_a_fold():
    fold = folds(100, np.arange(100) // 5)
    assert (fold.reshape(20, 5) == fold.reshape(20, 5)[:, :1]).all()
    assert set(fold) == {0, 1, 2}
    assert set(folds(10, np.arange(10) % 2)) == {0, 1, 2}


def test_columns_that_a_table_may_have_are_all_read():
    n = 400
    rng = np.random.default_rng(0)
    days = pd.date_range("2026-01-01", periods=n)
    table = pd.DataFrame(
        {
            "inf": np.where(rng.random(n) < 0.1, np.inf, rng.normal(size=n)),
            "none": pd.Series([None] * n, dtype=object),
            "day": days,
            "zoned": days.tz_localize("UTC"),
            "kind": pd.Categorical(rng.choice(["a", "b"], n)),
            "flag": pd.Series(rng.choice([True, None], n), dtype=object),
            "small": pd.array(rng.choice([1, 2, None], n), dtype="Int64"),
            "mixed": pd.Series(rng.choice(np.array([1, "b", 2.5], dtype=object), n), dtype=object),
            "constant": 1,
            "y": rng.choice(["no", "yes"], n),
        }
    )
    assert proof(table, BINARY)["grade"] is None
    assert proof(table.assign(y=rng.normal(size=n)), NUMBER)["grade"] is None
    assert proof(table.assign(y=rng.choice(["ant", "bee", "cat"], n)), SEVERAL)["grade"] is None


@pytest.mark.parametrize(
    ("name", "target", "late"),
    [("Soil_Type", "Cover_Type", False), ("cancelled_on", "kept", True), ("fraud_score", "fraud", True)],
)
def test_words_that_many_columns_share_say_nothing(name, target, late):
    assert speaks_late(name, target) is late


def test_an_amount_that_never_repeats_is_no_identifier():
    rng = np.random.default_rng(0)
    table = people(300, 0, BINARY).assign(cents=np.round(rng.lognormal(12, 1, 300)).astype(int))
    assert table["cents"].is_unique
    assert proof(table, BINARY)["findings"] == []
    codes = table.assign(cents=rng.choice(np.arange(1_000_000, 2_000_000), 300, replace=False))
    assert [one["kind"] for one in proof(codes, BINARY)["findings"]] == ["identifier"]


# ── overlap ──────────────────────────────────────────────────────────────────────────────────────────────────


def sides(n=400, copied=30):
    table = people(n, 1, BINARY).assign(street=[f"Main Street {i}" for i in range(n)])
    return table, table.iloc[:copied].reset_index(drop=True)


def found_copies(train, test):
    findings, n = copies(train, test, Target("y"), Roles())
    return n, [(one.grade, one.rows, "but for" in one.what) for one in findings]


def test_near_copies_are_found_and_told_apart_from_exact_ones():
    train, test = sides()
    assert found_copies(train, test) == (30, [("warning", 30, False)])
    near = test.assign(
        income=test.income * (1 + 1e-9), street="  " + test.street.str.upper().str.replace(" ", "\u00a0")
    )
    assert found_copies(train, near) == (0, [("warning", 30, True)])
    both = pd.concat([near.iloc[:10], test.iloc[10:]], ignore_index=True)
    assert found_copies(train, both) == (20, [("warning", 20, False), ("warning", 10, True)])
    assert found_copies(train, test.assign(income=test.income * 1.001)) == (0, [])
    assert found_copies(train, test.assign(street=test.street + "a")) == (0, [])


def test_rows_that_are_alike_for_want_of_values_are_no_copies():
    grades = []
    for seed in range(12):  # people by age and tens of income; both say much of the target
        rng = np.random.default_rng(seed)
        table = pd.DataFrame({"age": rng.integers(18, 70, 900), "income": rng.normal(30, 6, 900).round()})
        table["y"] = table.age - 40 + 3 * (table.income - 30) + rng.normal(0, 6, 900) > 0
        _, told = found_copies(table[:720], table[720:])
        grades.append(told[0])
    assert {grade for grade, _, _ in grades} == {"note"}
    assert min(rows for _, rows, _ in grades) > 60
    whole = pd.concat([table[720:], table[:20]])
    assert found_copies(table[:720].assign(at=range(720)), whole.assign(at=[*range(720, 900), *range(20)]))[1] == [
        ("warning", 20, False)
    ]


def test_the_example_is_told_by_its_key_else_by_its_cells():
    train, test = sides()
    [one] = copies(train.assign(id=range(400)), test.assign(id=range(400, 430)), Target("y"), Roles(key=("id",)))[0]
    assert one.example == "the held-out row with id=400"
    [one] = copies(train, test, Target("y"), Roles())[0]
    assert one.example.startswith(f"the held-out row with {test.columns[0]}={test.iloc[0, 0]}, ")


def test_sabotage_without_the_count_by_chance_they_are_called_copies(monkeypatch):
    monkeypatch.setattr("penstock.stages.overlap.by_chance", lambda *_, **__: np.zeros(180))
    with pytest.raises(AssertionError):
        test_rows_that_are_alike_for_want_of_values_are_no_copies()


def test_sides_of_other_types_are_compared_by_value():
    train, test = sides()
    other = test.assign(age=test.age.astype(float), city=test.city.astype("category"))
    assert found_copies(train, other)[0] == 30


def test_sabotage_without_rounding_and_folding_near_copies_pass(monkeypatch):
    train, test = sides()
    near = test.assign(income=test.income * (1 + 1e-9), street=test.street.str.upper())
    monkeypatch.setattr("penstock.stages.alike.folded", str)
    assert found_copies(train, near) == (0, [])
    monkeypatch.undo()
    monkeypatch.setattr("penstock.stages.alike.rounded", lambda values: values)
    assert found_copies(train, near) == (0, [])


@pytest.mark.parametrize(
    ("a", "b"), [(1.0, 1.0000001), (999999.96, 1e6), (-2.5, -2.50000001), (0.0, -0.0), (1e300, 1e300 * (1 + 1e-9))]
)
def test_numbers_that_agree_to_six_digits_are_one(a, b):
    one, other = rounded(np.array([a, b]))
    assert one == other


def test_numbers_that_differ_stay_apart():
    values = np.array([1.0, 1.00001, -1.0, 10.0, 0.1, 1e-300, 1e300, np.nan, np.inf, -np.inf, 123456.0, 123457.0])
    assert len(set(rounded(values))) == len(values)


def test_folding_keeps_what_is_another_word():
    assert folded("Ａbc\t d") == folded("abc D") == "abc d"
    assert folded("a b") != folded("ab")


def test_keys_and_groups_are_compared_in_one_text_form():
    train, test = pd.DataFrame({"id": [1, 2, 3]}), pd.DataFrame({"id": ["1.0", "x", "4"]})
    assert [one.rows for one in shared_names(train, test, ("id",), "key", "error")] == [1]
    assert shared_names(train, pd.DataFrame({"id": [4.0, 5.0]}), ("id",), "key", "error") == []
    nobody = pd.DataFrame({"id": [None, 7]}, dtype="Int64")
    assert shared_names(nobody, nobody[:1], ("id",), "group", "error") == []


def test_a_missing_time_does_not_hide_rows_out_of_order():
    train = pd.DataFrame({"t": pd.to_datetime(["2026-01-01", "2026-03-01", None])})
    test = pd.DataFrame({"t": pd.to_datetime(["2026-02-01", None])})
    assert [one.rows for one in out_of_order(train, test, "t")] == [1]
    assert out_of_order(train, test.iloc[1:], "t") == []


def test_a_flagged_column_is_gone_before_the_next_question():
    """The question about `behind` is asked because the copy is not there to hide it."""
    trap, table = sprung("masked")
    table = table.drop(columns="leak").assign(copy=table["y"])
    findings = proof(table, trap.schema)["findings"]
    assert [(one["grade"], one["column"]) for one in findings] == [("error", "copy"), ("note", "behind")]
    assert suspects.suspects(table, Target("y"), Roles(), Problem("regression")).n_columns == 5


def test_labels_of_rows_may_repeat():
    trap, table = sprung("dated late")
    twice = pd.concat([table.iloc[:400], table.iloc[400:].reset_index(drop=True)])
    told = suspects.suspects(twice, Target("y"), trap.roles, YES_NO).findings
    assert [(one.kind, one.column) for one in told] == [("timing", "leak")]
