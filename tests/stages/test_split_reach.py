"""Laws of the splits that reach further: horizons, a final hold-out, an official test file, masks and splitters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, PredefinedSplit, ShuffleSplit, StratifiedKFold, TimeSeriesSplit

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError, DeclarationError, StepOutputError, ValidationFailedError
from penstock.formats import parquet_stored
from penstock.formats.registry import FormatRegistry
from penstock.stages import official, rules
from penstock.stages import split as stage
from penstock.stages.split import fold_indices
from penstock.stages.validate import validate
from penstock.stats.planned import OF_NUMBERS, OF_SEVERAL, OF_TWO
from penstock.testing.memory import MemoryObjects

Y = Target("y")
KEYED, TIMED = Roles(key=("id",)), Roles(time="when")


def people(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"c{i:04d}" for i in range(n)],
            "x": rng.normal(size=n),
            "city": rng.choice(["Bern", "Rom", "Oslo"], n),
            "home": rng.integers(0, n // 4, n),
            "when": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 200, n), unit="D"),
            "y": rng.choice([0, 1], n, p=[0.7, 0.3]),
        }
    )


def divide(table, *, target=Y, roles=KEYED, split=None, seed=0, task="regression", **more):
    return stage.split(table, target=target, roles=roles, split=split or Split(), seed=seed, task=task, **more)


def folds(table, *, roles=KEYED, split=None, task="regression"):
    return fold_indices(table, target=Y, roles=roles, split=split or Split(), seed=0, task=task)


# ── a horizon: labels that are made of what comes after ──────────────────────────────────────────────────────


@settings(max_examples=30)
@given(days=st.integers(1, 25), share=st.floats(0.1, 0.3), seed=st.integers(0, 5))
def test_no_label_that_is_learned_from_is_made_of_the_held_out_time(days, share, seed):
    table = people(seed=seed)
    train, test, report = divide(table, roles=TIMED, split=Split(test=share, horizon=f"{days}d"))
    assert (train["when"] + pd.Timedelta(days=days) <= test["when"].min()).all()
    assert len(train) + len(test) + report["dropped"].get("horizon", 0) == len(table)
    for fit, judge in folds(train, roles=TIMED, split=Split(horizon=f"{days}d", folds=3)):
        assert (train["when"].iloc[fit] + pd.Timedelta(days=days) <= train["when"].iloc[judge].min()).all()


def test_the_horizon_takes_no_row_from_the_hold_out_and_stands_beside_the_gap():
    table = people()
    plain, both = (divide(table, roles=TIMED, split=Split(gap="5d", horizon=h)) for h in (None, "20d"))
    pd.testing.assert_frame_equal(plain[1], both[1])
    assert both[2]["dropped"]["horizon"] > 0
    assert "gap" not in both[2]["dropped"]  # every row within the gap is within the horizon too
    assert plain[2]["dropped"]["gap"] > 0
    wide = divide(table, roles=TIMED, split=Split(gap="20d", horizon="5d"))[2]["dropped"]
    assert wide["gap"] + wide["horizon"] == both[2]["dropped"]["horizon"]


def test_a_horizon_beside_times_that_are_numbers_is_refused():
    with pytest.raises(DeclarationError, match="a horizon of '3d' needs dates"):
        divide(people().assign(when=range(400)), roles=TIMED, split=Split(horizon="3d"))


def test_sabotage_without_the_purge_labels_reach_into_the_hold_out(monkeypatch):
    monkeypatch.setattr(rules, "reaching", lambda moments, *_: np.zeros(len(moments), dtype=bool))
    train, test, _ = divide(people(), roles=TIMED, split=Split(horizon="30d"))
    assert (train["when"] + pd.Timedelta(days=30) > test["when"].min()).any()


# ── a final hold-out ─────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=30)
@given(
    n=st.integers(120, 300),
    more=st.integers(0, 150),
    seed=st.integers(0, 5),
    roles=st.sampled_from([KEYED, Roles(groups=("home",)), Roles()]),
)
def test_final_rows_come_from_training_alone_and_stay(n, more, seed, roles):
    table = people(n + more, seed)
    kept = dataclasses.replace(roles, drop=()) if roles.key else roles
    both = Split(final=0.15)
    before = divide(table, roles=kept, seed=seed)
    train, test, report, final = divide(table, roles=kept, split=both, seed=seed)
    assert set(test["id"]) == set(before[1]["id"])  # declared later, it moves no row that the gate judges by
    assert not (set(train["id"]) & set(final["id"])) | (set(test["id"]) & set(final["id"]))
    assert len(train) + len(test) + len(final) == len(table)
    assert report["n_final"] == len(final)
    few = table.sample(frac=1, random_state=seed)[lambda t: t["id"] < f"c{n:04d}"]
    assert set(divide(few, roles=kept, split=both, seed=seed)[3]["id"]) <= set(final["id"])
    if roles.groups:
        assert not set(final["home"]) & (set(train["home"]) | set(test["home"]))


@pytest.mark.parametrize("split", [Split(final=0.1, stable=False), Split(final=0.1, by="random")])
def test_quotas_of_a_final_hold_out_are_exact_and_stratified(split):
    table = people(1000)
    _, test, _, final = divide(table, split=split, task="binary")
    assert (len(test), len(final)) == (200, 100)
    assert final["y"].sum() == round(0.1 * table["y"].sum())


@pytest.mark.parametrize("final", [0.1, "20d", "2026-07-01"])
def test_by_time_the_newest_rows_are_final_and_the_gate_judges_those_before(final):
    table = people()
    train, test, report, last = divide(table, roles=TIMED, split=Split(test=0.2, final=final, gap="3d"))
    assert train["when"].max() + pd.Timedelta("3D") <= test["when"].min()
    assert test["when"].max() < last["when"].min()
    assert last["when"].max() == table["when"].max()
    assert 0.15 * len(table) < len(test) < 0.25 * len(table)
    assert len(train) + len(test) + len(last) + report["dropped"].get("gap", 0) == len(table)
    assert " · final " in report["summary"]


def test_copies_of_final_rows_leave_training():
    table = people()
    final = divide(table, split=Split(final=0.2))[3]
    copied = final.head(20).assign(id=[f"copy{i}" for i in range(20)])
    train, _, report, _ = divide(pd.concat([table, copied]), split=Split(final=0.2))
    assert train.merge(final, on=["x", "city", "when"]).empty
    assert report["dropped"]["copies"] > 0


def test_a_final_hold_out_without_rows_is_refused():
    with pytest.raises(DataError, match="no row is left for the final hold-out"):
        divide(people(60), split=Split(final=1e-9))
    with pytest.raises(DataError, match="takes every row"):
        divide(people(60), roles=TIMED, split=Split(final="400d"))


# ── an official test file ────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=25)
@given(n=st.integers(60, 200), shared=st.integers(0, 20), seed=st.integers(0, 5), groups=st.booleans())
def test_official_rows_are_held_out_as_they_are_and_their_like_leave_training(n, shared, seed, groups):
    table, other = people(n, seed), people(80, seed + 100).assign(id=[f"t{i}" for i in range(80)])
    other["home"] += n // 8
    test = pd.concat([other, table.head(shared)], ignore_index=True)
    roles = Roles(key=("id",), groups=("home",) if groups else ())
    train, held, report = divide(table, roles=roles, official=test)
    pd.testing.assert_frame_equal(held, test)
    assert not set(train["id"]) & set(test["id"])
    assert not groups or not set(train["home"]) & set(test["home"])
    assert report["dropped"].get("key", 0) == shared
    assert len(train) + sum(report["dropped"].values()) == n
    assert report["membership"] == "the official test file is held out as it is, and nothing else"


def test_official_keys_are_compared_as_text():
    table = people(100).assign(id=range(100))
    test = people(20, 9).assign(id=[float(i) for i in range(90, 110)])
    assert divide(table, official=test)[2]["dropped"] == {"key": 10}


def test_copies_of_official_rows_leave_training_without_a_key_too():
    table = people(200).drop(columns="id")
    test = pd.concat([people(50, 7).drop(columns="id"), table.head(9)])
    train, _, report = divide(table, roles=Roles(), official=test)
    assert report["dropped"] == {"copies": 9}
    assert train.merge(test, on=["x", "when"]).empty


def test_rows_that_only_look_like_official_ones_stay():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.integers(0, 9, 500), "y": rng.integers(0, 2, 500)})
    _, _, report = divide(table.head(400), roles=Roles(), official=table.tail(100))
    assert report["dropped"] == {}
    assert "look like a row of the official test file but stay" in report["notes"][0]


def test_by_time_training_ends_before_the_first_official_row():
    table = people()
    test = people(50, 3).assign(when=lambda t: t["when"] + pd.Timedelta("120D"))
    train, held, report = divide(table, roles=TIMED, split=Split(horizon="10d"), official=test)
    assert (train["when"] + pd.Timedelta("10D") <= held["when"].min()).all()
    assert report["dropped"]["time"] == len(table) - len(train) > 0
    assert report["from"] == str(held["when"].min().date())


def test_columns_of_the_official_file_come_in_the_order_of_the_table():
    table, test = people(100), people(40, 5).assign(id=lambda t: "t" + t["id"], more=1)
    _, held, _ = divide(table, official=test[["more", *reversed(table.columns)]])
    pd.testing.assert_frame_equal(held, test[list(table.columns)])


def test_sabotage_without_the_comparison_official_rows_are_learned_from(monkeypatch):
    monkeypatch.setattr(official, "_among", lambda table, *_: np.zeros(len(table), dtype=bool))
    table = people(100)
    train, held, _ = divide(table, official=table.tail(30))
    assert set(train["id"]) & set(held["id"])


# ── a mask, a splitter ───────────────────────────────────────────────────────────────────────────────────────


def in_rom(table):
    return table["city"] == "Rom"


def test_a_mask_says_which_rows_are_held_out():
    train, test, report = divide(people(), split=Split(test=in_rom))
    assert set(test["city"]) == {"Rom"}
    assert "Rom" not in set(train["city"])
    assert report["said"] == "by in_rom"
    assert report["membership"] == "the mask alone says which side a row is on"


def test_of_a_group_that_a_mask_divides_no_row_is_learned_from():
    train, test, report = divide(people(), roles=Roles(key=("id",), groups=("home",)), split=Split(test=in_rom))
    assert not set(train["home"]) & set(test["home"])
    assert report["dropped"]["groups"] == 400 - len(train) - len(test)


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (lambda table: table["x"], "returned a Series of float64, 400 rows long"),
        (lambda table: (table["x"] > 0).head(5), "returned a Series of bool, 5 rows long"),
        (lambda _: None, "returned a NoneType"),
        (lambda table: table["x"].where(table["x"] > 0).astype("Float64") > 1, "does not say of"),
    ],
)
def test_what_is_no_mask_is_refused_by_name(mask, why):
    with pytest.raises(StepOutputError, match=why):
        divide(people(), split=Split(test=mask))


def test_a_mask_that_raises_is_named():
    def broken(table):
        return table["nothing"] == 1

    with pytest.raises(KeyError) as caught:
        divide(people(), split=Split(test=broken))
    assert any("the mask 'broken'" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    "splitter",
    [KFold(5), StratifiedKFold(4, shuffle=True), ShuffleSplit(3), GroupKFold(4), TimeSeriesSplit(5)],
    ids=lambda one: type(one).__name__,
)
def test_the_last_pair_of_a_splitter_is_the_hold_out_and_its_pairs_are_the_folds(splitter):
    table = people()
    roles = Roles(key=("id",), groups=("home",) if isinstance(splitter, GroupKFold) else ())
    rule = Split(test=splitter, folds=splitter)
    train, test, report = divide(table, roles=roles, split=rule, task="binary")
    assert report["n_train"] + report["n_test"] + sum(report["dropped"].values()) == 400
    again = divide(table, roles=roles, split=rule, task="binary")
    pd.testing.assert_frame_equal(test, again[1])  # chance is the workflow's, not the splitter's own
    pairs = folds(train, roles=roles, split=rule, task="binary")
    assert len(pairs) == splitter.get_n_splits()
    if isinstance(splitter, TimeSeriesSplit):  # forward in place: the newest rows, the most to learn from
        assert set(test["id"]) == set(table["id"].tail(66))
        assert len(train) == 334
    if isinstance(splitter, GroupKFold):
        assert not set(train["home"]) & set(test["home"])


@dataclasses.dataclass
class Odd:
    """A splitter of one's own."""

    wrong: str = ""

    def get_n_splits(self, *_args):
        return 2

    def split(self, X, y, groups):
        assert "y" not in X.columns
        assert groups is None
        rows = np.arange(len(y))
        if self.wrong == "both":
            yield rows, rows[:5]
        elif self.wrong == "range":
            yield rows, rows + 1_000
        elif not self.wrong:
            yield rows[rows % 2 == 0], rows[rows % 2 == 1]
            yield rows[rows % 3 > 0], rows[rows % 3 == 0]


def test_a_splitter_of_ones_own():
    _, test, _ = divide(people(), split=Split(test=Odd()))
    assert test["id"].tolist() == people()["id"].iloc[::3].tolist()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [("both", "put 5 rows on both sides"), ("range", "none of 400 rows"), ("none", "gave no pair")],
)
def test_a_splitter_that_gives_no_pairs_of_rows_is_refused(wrong, why):
    with pytest.raises(StepOutputError, match=why):
        divide(people(), split=Split(test=Odd(wrong)))


def test_a_splitter_that_makes_one_fold_is_refused():
    one = PredefinedSplit(np.where(np.arange(400) < 100, 0, -1))
    with pytest.raises(DataError, match="makes one fold"):
        folds(people(), split=Split(folds=one))


# ── what is told before anything is trained ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("roles", "split", "words"),
    [
        (KEYED, Split(), "a row keeps its side when the table grows"),
        (Roles(), Split(), "a row keeps its side when the table grows"),
        (TIMED, Split(), "the newest rows are held out: as the table grows"),
        (TIMED, Split(test="60d"), "the newest rows are held out: as the table grows"),
        (TIMED, Split(test="2026-05-01"), "rows from one date on are held out"),
        (KEYED, Split(stable=False), "drawn anew when the table grows"),
        (KEYED, Split(test=KFold(5)), "goes by the rows' places"),
    ],
)
def test_it_is_said_whether_a_row_keeps_its_side(roles, split, words):
    _, _, report = divide(people(), roles=roles, split=split)
    assert words in report["membership"]
    assert (report["membership"] in report["notes"]) == (roles is TIMED and "grows" in words and "newest" in words)


def test_shares_that_differ_are_noted_below_one_in_a_thousand():
    table = people(2000)
    drifting = table.assign(y=(np.arange(2000) > 1500).astype(int), when=pd.Timestamp("2026-01-01"))
    drifting["when"] += pd.to_timedelta(np.arange(2000), unit="h")
    drifting.loc[::3, "y"] = 1 - drifting.loc[::3, "y"]
    _, _, report = divide(drifting, roles=TIMED, task="binary")
    assert report["p_value"] < 1e-10
    assert "shares of y differ between the sides" in report["notes"][0]
    assert "it changes with time" in report["notes"][0]
    notes = [note for salt in range(30) for note in divide(table, split=Split(salt=salt), task="binary")[2]["notes"]]
    assert notes == []


@pytest.mark.parametrize("roles", [Roles(), Roles(groups=("home",))])
def test_rows_that_are_drawn_together_raise_no_alarm_about_the_shares(roles, monkeypatch):
    """Each unit has a label of its own in all of its rows: a test that takes rows for independent finds differences."""
    rng = np.random.default_rng(0)
    units = pd.DataFrame({"home": range(300), "x": rng.normal(size=300), "y": rng.integers(0, 2, 300)})
    table = units.loc[np.repeat(np.arange(300), np.where(np.arange(300) < 20, 12, 1))].reset_index(drop=True)

    def alarms():
        found = [divide(table, roles=roles, split=Split(salt=salt), task="binary")[2] for salt in range(40)]
        return sum(report["p_value"] < 0.05 for report in found)

    assert alarms() <= 3
    monkeypatch.setattr(stage, "_design_effect", lambda _: 1.0)
    assert alarms() > 8


def test_intervals_to_expect_narrow_as_the_hold_out_grows():
    few, many = (divide(people(n), task="binary")[2]["expected"] for n in (400, 6400))
    assert set(few) == set(OF_TWO)
    for name, width in few.items():
        assert width / many[name] == pytest.approx(4, rel=0.25)
    assert set(divide(people())[2]["expected"]) == set(OF_NUMBERS)
    assert set(divide(people().assign(y=lambda t: t.index % 3), task="multiclass")[2]["expected"]) == set(OF_SEVERAL)


# ── folds of rows that look alike ────────────────────────────────────────────────────────────────────────────


def test_where_most_rows_are_copies_folds_tell_copies_apart_as_the_split_does():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.integers(0, 6, 600), "y": rng.integers(0, 2, 600)})
    sizes = [len(judge) for _, judge in folds(table, roles=Roles(), task="binary")]
    assert max(sizes) - min(sizes) <= 2


@settings(max_examples=20)
@given(seed=st.integers(0, 20))
def test_without_a_key_the_contents_held_out_do_not_hang_on_the_order(seed):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"a": rng.integers(0, 6, 200), "b": rng.integers(0, 3, 200), "y": rng.integers(0, 2, 200)})
    held = [
        divide(one, roles=Roles())[1][["a", "b"]].value_counts().sort_index()
        for one in (table, table.sample(frac=1, random_state=seed))
    ]
    pd.testing.assert_series_equal(*held)


# ── a real one ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_official_test_file_of_adult(shared_data):
    """Its labels end with a point, and it repeats rows of the training file."""
    table, test = (
        pd.read_csv(shared_data(f"adult_{side}.csv.gz"), skipinitialspace=True) for side in ("train", "test")
    )
    target, none = Target("income", positive=">50K"), Roles()
    _, schema, _ = validate(table, target=target, roles=none, schema=None)
    with pytest.raises(ValidationFailedError, match=r"the labels of 'income' are '<=50K.', '>50K.'; the schema has"):
        validate(test, target=target, roles=none, schema=schema)
    test["income"] = test["income"].str.rstrip(".")
    held, _, report = validate(test, target=target, roles=none, schema=schema)
    assert report["summary"].endswith("holds against the schema")
    train, again, sides = divide(table, target=target, roles=none, official=held, task="binary")
    pd.testing.assert_frame_equal(again, test)
    among = table.merge(test.drop_duplicates(), how="left", indicator=True)["_merge"] == "both"
    assert sides["dropped"] == {"copies": int(among.sum())} == {"copies": 25}
    pd.testing.assert_frame_equal(train, table[~among.to_numpy()].reset_index(drop=True))


@pytest.mark.parametrize("large", [False, True])
def test_an_official_file_that_is_too_large_to_hold(large, monkeypatch):
    """What is stored is read in batches; the same rows leave, the same are held out."""
    monkeypatch.setattr(parquet_stored, "LARGE", 0 if large else 1 << 40)
    objects, formats = MemoryObjects(), FormatRegistry()
    table = people(300)
    test = pd.concat([people(80, 9).assign(id=lambda t: "t" + t["id"]), table.head(7)], ignore_index=True)
    given = [formats.load(formats.dump(one, objects.stage), objects, "stored") for one in (table, test)]
    assert isinstance(given[1], pd.DataFrame) != large
    train, held, report = divide(given[0], official=given[1])
    back = [formats.load(formats.dump(one, objects.stage), objects, "pandas") for one in (train, held)]
    pd.testing.assert_frame_equal(back[0], table.iloc[7:].reset_index(drop=True), check_dtype=False)
    pd.testing.assert_frame_equal(back[1], test, check_dtype=False)
    assert report["dropped"] == {"key": 7}
