"""Planted steps: what lets held-out rows reach training rows is found and named, what does not is left in peace."""

import numpy as np
import pandas as pd
import pytest

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages import disturb, leaks, probes, walk
from penstock.stages import scramble as scramble_module
from penstock.stages.partition import partition
from penstock.stages.scramble import Report, _summary, scramble
from penstock.testing.planted import HONEST, LEAKING, RANDOM, Planted, people
from penstock.testing.replay import Steps, found, tried

NUMBERS, TEXTS = ["age", "income", "hours", "kids"], ["city"]
KEY = {"key": ("id",)}


def one(planted, table=None):
    """A table and a single step."""
    make = planted.on("y", NUMBERS, TEXTS) if isinstance(planted, Planted) else planted
    return Steps({"table": people() if table is None else table}, [("made", make, ("table",))])


ALSO = {"feature selection": "features"}
"""What features alone show here, too."""


@pytest.mark.parametrize("name", LEAKING)
def test_a_step_that_takes_from_other_rows_is_found_and_named(name):
    planted = LEAKING[name]
    report = tried(one(planted))
    kind = {"rows": "de-duplication"}.get(planted.kind, planted.kind)
    [finding] = report["findings"]
    assert finding["kind"] in (kind, ALSO.get(name))
    assert finding["grade"] == ("note" if kind == "de-duplication" else "error")
    assert finding["step"] == "made"
    assert finding["rows"] > 0 or finding["what"].endswith("held-out rows")
    assert "step made" in finding["what"]


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_step_is_left_in_peace_in_three_runs(name):
    steps = one(HONEST[name])
    report = tried(steps)
    assert (found(report), len(steps.calls)) == ([], 3)
    assert [one["rows"] for one in report["tried"]] == [report["tried"][0]["rows"]] * 3
    assert report["codes"] == {"made": "made"}


def test_a_permutation_sees_no_global_scaling_and_the_variants_see_all():
    """Twelve tables: every statistic of one column is the same after a permutation."""
    by_permutation = by_variants = 0
    for seed in range(12):
        table = people(seed=seed)
        steps = one(LEAKING["scale"], table)
        train, test, _ = partition(
            steps.table(steps.data),
            schema={"task": "binary"},
            target=Target("y"),
            roles=Roles(**KEY),
            split=Split(),
            seed=0,
        )
        held = table["id"].isin(test["id"]).to_numpy()
        other = table.copy()
        rng = np.random.default_rng(seed)
        for name in [*NUMBERS, *TEXTS, "y"]:
            other.loc[held, name] = rng.permutation(table.loc[held, name].to_numpy())
        before, after = (LEAKING["scale"].on("y", NUMBERS, TEXTS)(t).set_index("id") for t in (table, other))
        by_permutation += not np.allclose(
            before.loc[train["id"], NUMBERS], after.loc[train["id"], NUMBERS], equal_nan=True
        )
        by_variants += tried(one(LEAKING["scale"], table))["findings"] != []
    assert (by_permutation, by_variants) == (0, 12)


# ── causes ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_labels_and_features_of_one_step_are_told_apart():
    def both(t):
        return t.assign(rate=t.groupby("city").y.transform("mean"), age=t.age - t.age.mean())

    assert sorted(found(tried(one(both)))) == [("error", "features", "age"), ("error", "labels", "rate")]


def test_what_shows_only_together_counts_as_labels():
    def both(t):  # moves only where a label and a feature of one row do
        return t.assign(age=t.age + (((t.y * t.age).sum() - t.y.sum() * t.age.sum()) % 1e9 != BASE))

    table = people()
    BASE = ((table.y * table.age).sum() - table.y.sum() * table.age.sum()) % 1e9
    report = tried(one(both, table))
    assert {kind for _, kind, _ in found(report)} == {"labels"}


def test_a_step_that_differs_from_itself_is_told_and_not_proven():
    report = tried(one(RANDOM))
    assert [(one["grade"], one["kind"], one["step"]) for one in report["findings"]] == [("warning", "random", "made")]
    assert {"what": "step made: whether held-out rows move a training row in it", "why": "it differs from itself"} in (
        report["not_tried"]
    )


def test_steps_after_a_random_one_are_still_tried():
    steps = Steps(
        {"table": people()},
        [
            ("noise", RANDOM.on("y", NUMBERS, TEXTS), ("table",)),
            ("scale", LEAKING["scale"].on("y", NUMBERS, TEXTS), ("noise",)),
        ],
    )
    report = tried(steps)
    assert {(one["kind"], one["step"]) for one in report["findings"]} == {("random", "noise"), ("features", "scale")}


def test_rows_treated_by_their_place_after_an_honest_filter_are_a_note():
    steps = Steps(
        {"table": people()},
        [
            ("adults", lambda t: t[t.age < 60], ("table",)),
            ("sample", HONEST["seeded noise"].on("y", NUMBERS, TEXTS), ("adults",)),
        ],
    )
    assert [(one["grade"], one["kind"], one["step"]) for one in tried(steps)["findings"]] == [
        ("note", "position", "sample")
    ]


def test_columns_of_categories_that_only_held_out_rows_have_are_a_note():
    table = people().drop(columns="hours")
    _, test, _ = partition(
        table, schema={"task": "binary"}, target=Target("y"), roles=Roles(**KEY), split=Split(), seed=0
    )
    table.loc[table["id"] == test["id"].iloc[0], "city"] = "Vaduz"
    report = tried(one(lambda t: pd.get_dummies(t, columns=["city"]), table))
    assert found(report) == [("note", "columns", "city_Vaduz")]


def test_copies_that_a_step_keeps_one_of_are_a_note_by_whichever_columns():
    for columns in (["age", "income", "kids", "city", "y"], ["income", "age"]):
        report = tried(one(lambda t, columns=columns: t.drop_duplicates(columns)))
        assert [(grade, kind) for grade, kind, _ in found(report)] == [("note", "de-duplication")], columns


# ── several steps ────────────────────────────────────────────────────────────────────────────────────────────


def rates(t):
    return t.groupby("city", as_index=False)["y"].mean().rename(columns={"y": "rate"})


def joined(t, r):
    return t.merge(r, on="city")


def test_a_leak_through_a_table_without_keys_names_the_step_and_what_it_went_through():
    steps = Steps({"table": people()}, [("rates", rates, ("table",)), ("joined", joined, ("table", "rates"))])
    [finding] = tried(steps)["findings"]
    assert (finding["step"], finding["column"], finding["kind"]) == ("joined", "rate", "labels")
    assert "(through rates)" in finding["what"]
    assert finding["example"].startswith("id=")


def test_every_leaking_step_is_named_and_what_is_dropped_later_is_not():
    chain = [
        ("scale", lambda t: t.assign(age=t.age - t.age.mean()), ("table",)),
        ("lost", lambda t: t.assign(share=t.kids / t.kids.sum()), ("scale",)),
        ("rate", lambda t: t.assign(rate=t.groupby("city").y.transform("mean")), ("lost",)),
        ("last", lambda t: t.drop(columns="share"), ("rate",)),
    ]
    report = tried(Steps({"table": people()}, chain))
    assert [(one["step"], one["kind"]) for one in report["findings"]] == [("scale", "features"), ("rate", "labels")]


def test_a_target_that_a_step_makes_is_scrambled_where_it_first_is():
    table = people().rename(columns={"y": "left"})
    chain = [
        ("label", lambda t: t.assign(y=(t.left > 0).astype(int)).drop(columns="left"), ("table",)),
        ("rate", lambda t: t.assign(rate=t.groupby("city").y.transform("mean")), ("label",)),
    ]
    report = tried(Steps({"table": table}, chain))
    assert [(one["step"], one["kind"]) for one in report["findings"]] == [("rate", "labels")]


def test_columns_known_late_are_labels():
    table = people().assign(paid=lambda t: t.y * t.income)
    step = one(lambda t: t.assign(typical=t.groupby("city").paid.transform("mean")), table)
    report = tried(step, target=Target("y", after=["paid"]))
    assert found(report) == [("error", "labels", "typical")]


def test_hidden_columns_do_not_count():
    steps = one(lambda t: t.assign(place=t.age.rank()))
    assert found(tried(steps, key=("id",), drop=("place",))) == []


def test_a_side_table_with_the_key_is_disturbed_and_a_table_of_look_ups_is_told():
    table = people()
    orders = pd.DataFrame({"id": np.repeat(table["id"].to_numpy(), 2), "price": np.arange(2.0 * len(table))})
    cities = pd.DataFrame({"city": ["Rome", "Oslo", "Lima", "Bonn"], "size": [3, 1, 10, 0]})

    def whole(t, orders, cities):
        spent = orders.groupby("id", as_index=False)["price"].sum()
        return t.merge(spent.assign(price=spent.price / spent.price.sum()), on="id").merge(cities, on="city")

    steps = Steps(
        {"table": table, "orders": orders, "cities": cities}, [("whole", whole, ("table", "orders", "cities"))]
    )
    report = tried(steps)
    assert found(report) == [("error", "features", "price")]
    [told] = [one for one in report["not_tried"] if "cities" in one["what"]]
    assert "look-ups" in told["why"]


def test_groups_tell_held_out_rows_where_there_is_no_key():
    table = people().assign(who=lambda t: t["id"] // 4).drop(columns="id")
    table = table[~table.who.duplicated()]
    report = tried(one(lambda t: t.assign(age=t.age - t.age.mean()), table), groups=("who",))
    assert found(report) == [("error", "features", "age")]


# ── what cannot be tried ─────────────────────────────────────────────────────────────────────────────────────


def test_without_a_name_of_rows_nothing_is_provable():
    steps = one(LEAKING["scale"])
    report = scramble(
        steps=steps, train=people(), test=people(), target=Target("y"), roles=Roles(), split=Split(), seed=0
    )
    assert (report["findings"], steps.calls) == ([], [])
    [told] = [one["why"] for one in report["not_tried"]]
    assert told.startswith("not provable: declare key= ")
    assert "stands in the sources too" in told
    assert "not provable" in report["summary"]


def test_a_key_that_the_last_step_makes_proves_nothing_and_says_so():
    report = tried(one(lambda t: t.assign(id=range(len(t)), age=t.age - t.age.mean()), people().drop(columns="id")))
    assert found(report) == []
    assert any("declare as key= what stands there" in one["why"] for one in report["not_tried"])
    assert not any("look-ups" in one["why"] for one in report["not_tried"])
    assert "not provable" in report["summary"]


@pytest.mark.parametrize(
    ("done", "unsure", "said"),
    [
        (["a", "b", "c"], (), "3 steps: no training row moved with 90 held-out ones"),
        (["a", "b"], (), "2 of 3 steps tried: no training row moved with 90 held-out ones"),
        (["a", "b"], ("b",), "2 of 3 steps tried, 1 in part: no training row moved with 90 held-out ones"),
        ([], (), "steps before the split: not provable"),
    ],
)
def test_the_line_counts_the_steps_that_were_tried(done, unsure, said):
    report = Report()
    for step in (*unsure, *({"a", "b", "c"} - set(done))):
        report.cannot(f"step {step}: other values in held-out rows", "not provable: it raised")
    assert _summary(report, done, ["a", "b", "c"], 90, apart=False) == said


def test_the_line_says_that_a_table_was_not_cut():
    told = _summary(Report(cuts=5, uncut=True), ["a"], ["a"], 90, apart=False)
    assert told.endswith(", no feature with what came after 5 moments in tables that could be cut")


def strict(t):
    if (t.age > 200).any():
        raise ValueError("no such age")
    return t.assign(income=t.income - t.income.mean())


def test_a_step_that_raises_on_other_values_is_tried_with_the_others(monkeypatch):
    def impossible(column, *, high):
        return _tail(column, high=high) if high else np.flatnonzero(column.to_numpy() == column.max())

    _tail = disturb.tail
    table = people()
    table.loc[0, "age"] = 199.0
    steps = one(
        lambda t: strict(t.assign(age=t.age + 2 * (t.age == 199) * (t.age == 199).sum().clip(max=2) - 2)), table
    )
    monkeypatch.setattr(disturb, "tail", impossible)
    report = tried(steps)
    assert found(report) == [("error", "features", "income")]
    assert any("it raised ValueError: no such age" in one["why"] for one in report["not_tried"])


def test_a_step_that_always_raises_is_not_provable():
    calls = []

    def once(t):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("the service is closed")
        return t

    report = tried(one(once))
    assert any(one["why"] == "not provable: RuntimeError: the service is closed" for one in report["not_tried"])


def test_what_the_user_says_of_a_step_is_told_and_heeded():
    steps = Steps(
        {"table": people()},
        [("pay", LEAKING["scale"].on("y", NUMBERS, TEXTS), ("table",))],
        because={"pay": "a paid API"},
    )
    report = tried(steps)
    assert (report["findings"], steps.calls) == ([], [])
    assert report["not_tried"][0]["why"] == "a paid API"
    known = Steps(
        {"table": people()},
        [("fx", LEAKING["scale"].on("y", NUMBERS, TEXTS), ("table",))],
        across_rows={"fx": "rates of the day"},
    )
    [finding] = tried(known)["findings"]
    assert finding["grade"] == "note"
    assert finding["what"].endswith("(known at prediction time: rates of the day)")
    labels = Steps(
        {"table": people()},
        [("fx", LEAKING["target mean"].on("y", NUMBERS, TEXTS), ("table",))],
        across_rows={"fx": "no"},
    )
    assert [one["grade"] for one in tried(labels)["findings"]] == ["error"]


def test_a_slow_step_is_tried_once_for_its_code_and_again_in_full():
    def slow(tried_before, planted=LEAKING["scale"]):
        return Steps(
            {"table": people()},
            [("made", planted.on("y", NUMBERS, TEXTS), ("table",))],
            seconds={"made": 75.0},
            tried={"made": "made"} if tried_before else {},
        )

    assert tried(slow(False, HONEST["row sum"]))["codes"] == {"made": "made"}
    assert found(tried(slow(False))) != []
    again = tried(slow(True))
    assert (again["findings"], again["codes"]) == ([], {"made": "made"})
    assert "75 s" in again["not_tried"][0]["why"]
    assert found(tried(slow(True), full=True)) != []


def test_a_slow_step_of_which_something_was_found_is_tried_again_until_nothing_is():
    """Else the next proof would leave it out, and the version that the last one refused would pass."""
    steps = Steps(
        {"table": people()},
        [
            ("rates", rates, ("table",)),
            ("joined", joined, ("table", "rates")),
            ("sums", HONEST["row sum"].on("y", NUMBERS, TEXTS), ("joined",)),
        ],
        seconds={"rates": 75.0},
    )
    report = tried(steps)
    assert [(one["grade"], one["step"]) for one in report["findings"]] == [("error", "joined")]
    assert report["codes"] == {"sums": "sums"}  # neither what is to blame nor what leads to it


# ── controls ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_sabotage_without_the_comparison_every_leak_passes(monkeypatch):
    monkeypatch.setattr(walk.Walker, "_moved", lambda *_, **__: None)
    assert all(found(tried(one(LEAKING[name]))) == [] for name in ("scale", "target mean", "quantile filter"))


def test_sabotage_with_a_permutation_instead_scalings_pass(monkeypatch):
    def permuted(table, rows, columns, variant, seed=0):
        rng, same = np.random.default_rng([seed, len(variant)]), np.arange(len(table))
        return {
            name: np.where(rows, np.concatenate([rng.permutation(same[rows]), same])[np.cumsum(rows) - 1], same)
            for name in columns
        }

    monkeypatch.setattr(probes, "scrambled", permuted)
    assert found(tried(one(LEAKING["scale"]))) == []


SEEN_BY_ONE = {
    "rows": lambda t: t.assign(made=int(t.duplicated(["age", "income", "kids"]).sum() > 50)),
    "high": lambda t: t.assign(made=int(t.hours.isna().mean() > 0.1)),
    "low": LEAKING["commonest three"],
}


@pytest.mark.parametrize("variant", SEEN_BY_ONE)
def test_sabotage_each_variant_sees_what_the_others_do_not(variant, monkeypatch):
    assert found(tried(one(SEEN_BY_ONE[variant]))) != []
    monkeypatch.setattr(scramble_module, "VARIANTS", tuple(v for v in disturb.VARIANTS if v != variant))
    assert found(tried(one(SEEN_BY_ONE[variant]))) == []


def test_sabotage_without_the_run_on_the_same_tables_a_random_step_is_an_error(monkeypatch):
    monkeypatch.setattr(walk.Walker, "same", lambda _self: ({}, {}))
    assert [grade for grade, *_ in found(tried(one(RANDOM)))] == ["error"]


def test_sabotage_without_the_search_for_copies_dropping_them_is_an_error(monkeypatch):
    monkeypatch.setattr(leaks, "_de_duplicates", lambda *_: False)
    assert "error" in [grade for grade, *_ in found(tried(one(LEAKING["copies dropped"])))]
