"""Splits of odd tables: ties, moments out of reach, masks in another order, labels without a time, hardly a row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError, DeclarationError, StepOutputError
from penstock.stages import copies, custom, folds, keys, sides
from penstock.stages import split as stage
from penstock.stages.split import fold_indices

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


def divide(table, *, target=Y, roles=KEYED, split=None, task="regression", **more):
    return stage.split(table, target=target, roles=roles, split=split or Split(), seed=0, task=task, **more)


# ── a mask ───────────────────────────────────────────────────────────────────────────────────────────────────


def by_size(table):
    return table.sort_values("x")["x"] > 0.5


def test_a_mask_in_another_order_holds_out_the_rows_that_it_names():
    table = people()
    train, test, _ = divide(table, split=Split(test=by_size))
    assert test["x"].min() > 0.5 >= train["x"].max()
    assert test["id"].tolist() == table["id"][table["x"] > 0.5].tolist()


def test_a_mask_is_read_by_labels_whatever_labels_the_table_came_with():
    table = people().sort_values("x")
    assert divide(table, split=Split(test=by_size))[1]["x"].min() > 0.5


@pytest.mark.parametrize("axis", [(0, 0), (5_000, 1)])
def test_labels_that_are_none_of_the_rows_are_refused(axis):
    start, step = axis
    with pytest.raises(StepOutputError, match="the labels of what the mask 'other' returned are not those of the rows"):

        def other(table):
            return pd.Series(table["x"].to_numpy() > 0, index=start + step * np.arange(len(table)))

        divide(people(), split=Split(test=other))


def test_a_mask_of_two_dimensions_is_refused():
    def square(table):
        return (table[["x"]] > 0).to_numpy()

    with pytest.raises(StepOutputError, match="returned a ndarray of bool, 400 rows long"):
        divide(people(), split=Split(test=square))


def test_a_group_that_a_mask_divides_leaves_training_unless_the_rule_is_time():
    roles = Roles(key=("id",), groups=("home",), time="when")

    def in_rom(table):
        return table["city"] == "Rom"

    by_groups = divide(people(), roles=roles, split=Split(test=in_rom, by="groups"))
    assert not set(by_groups[0]["home"]) & set(by_groups[1]["home"])
    assert divide(people(), roles=roles, split=Split(test=in_rom))[2]["dropped"] == {}


def test_sabotage_a_mask_that_is_read_by_place_holds_other_rows_out(monkeypatch):
    monkeypatch.setattr(pd.Series, "reindex", lambda series, *_: series)
    train, test, _ = divide(people(), split=Split(test=by_size))
    assert test["x"].min() < train["x"].max()


def test_a_splitter_that_raises_is_named():
    with pytest.raises(ValueError, match="continuous") as caught:
        divide(people().assign(y=lambda t: t["x"]), split=Split(test=StratifiedKFold(3)))
    assert any("the splitter StratifiedKFold" in note for note in caught.value.__notes__)


def test_a_difference_that_a_splitter_makes_is_not_laid_to_the_salt():
    table = people(4000).assign(y=lambda t: np.where(t.index < 3200, t["y"], t.index % 2))
    notes = divide(table, split=Split(test=KFold(5)), task="binary")[2]["notes"]
    assert "the splitter does not draw at random" in notes[0]
    assert "salt" not in notes[0]


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("final", ["2030-01-01", "2026-07-30"])
def test_a_final_hold_out_after_the_last_row_is_refused(final):
    with pytest.raises(DataError, match="no row is left for the final hold-out") as caught:
        divide(people(), roles=TIMED, split=Split(final=final))
    assert "an earlier date" in caught.value.hint


def test_a_test_that_begins_within_the_final_rows_is_refused_with_both_dates():
    table = people()
    from_ = divide(table, roles=TIMED, split=Split(final=0.3))[2]["final_from"]
    with pytest.raises(DataError, match=f"begins at 2026-07-15, and the final hold-out takes the rows from {from_} on"):
        divide(table, roles=TIMED, split=Split(test="2026-07-15", final=0.3))


@settings(max_examples=25)
@given(final=st.sampled_from([None, 0.1, "20d"]), gap=st.sampled_from([None, "3d", "40d"]), seed=st.integers(0, 3))
def test_what_left_training_is_counted_once_for_one_reason(final, gap, seed):
    table = people(seed=seed).assign(known=lambda t: t["when"] + pd.to_timedelta(t["home"] % 50, unit="D"))
    split = Split(test=0.2, final=final, gap=gap, horizon="10d")
    _, _, report, *_ = divide(table, target=Target("y", time="known"), roles=TIMED, split=split)
    dropped = report["dropped"]
    assert set(dropped) <= {"gap", "label not known", "horizon"}
    assert min(dropped.values(), default=1) > 0
    assert report["n_train"] + report["n_test"] + report.get("n_final", 0) + sum(dropped.values()) == len(table)


@pytest.mark.parametrize("gap", [None, "1d"])
def test_a_label_that_was_not_known_leaves_training_whatever_the_gap(gap):
    table = people().assign(known=lambda t: t["when"] + pd.Timedelta("20D"))
    target = Target("y", time="known")
    train, test, report = divide(table, target=target, roles=TIMED, split=Split(gap=gap))
    assert (train["known"] <= test["when"].min()).all()
    assert report["dropped"].keys() == {"label not known"}
    for fit, judge in fold_indices(
        train, target=target, roles=TIMED, split=Split(gap=gap, folds=2), seed=0, task="regression"
    ):
        assert (train["known"].iloc[fit] <= train["when"].iloc[judge].min()).all()


def test_labels_known_at_dates_beside_events_at_numbers_are_refused():
    table = people().assign(known=lambda t: t["when"], when=range(400))
    with pytest.raises(DeclarationError, match="time='known' holds dates, and the time of the event holds plain num"):
        divide(table, target=Target("y", time="known"), roles=TIMED)


def test_moments_that_are_numbers_are_told_as_such_and_ties_that_hold_more_out_are_noted():
    table = pd.DataFrame({"when": [2011] * 50 + [2012] * 50, "x": range(100), "y": [0, 1] * 50})
    report = divide(table, roles=TIMED, split=Split(test=0.1), task="binary")[2]
    assert "from 2012 ·" in report["summary"]
    assert report["notes"][0] == (
        "50 % of the rows are held out, and test=0.1 was declared: rows of one moment are never divided"
    )
    assert "held out, and" not in "".join(divide(people(), roles=TIMED)[2]["notes"])


def test_a_date_in_short_form_is_a_date():
    assert "rows from one date on" in sides.membership("time", Split(test="20260601"))
    assert "newest rows" in sides.membership("time", Split(test="90d"))


@pytest.mark.parametrize("roles", [KEYED, TIMED, Roles(), Roles(groups=("home",))])
@pytest.mark.parametrize("n", [0, 1])
def test_tables_of_hardly_a_row_are_refused_in_a_sentence(roles, n):
    with pytest.raises(DataError, match="a side of the split is empty"):
        divide(people().head(n), roles=roles)


def test_an_official_file_without_a_row_is_refused():
    with pytest.raises(DataError, match="the official test file has no row"):
        divide(people(), roles=TIMED, official=people().head(0))


# ── copies ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_copies_with_a_key_leave_training_however_many_there_are():
    """Each row three times under keys of their own: a third of the rows is distinct, and no copy stays."""
    table = pd.concat([people(200)] * 3, ignore_index=True).assign(id=range(600))
    train, test, report = divide(table)
    assert train.merge(test, on=["x", "city", "when", "y"]).empty
    assert report["dropped"]["copies"] > 100


def test_copies_with_a_few_labels_amiss_are_copies_still():
    """In tens, one label in thirty wrong: of such a group hardly one is pure, and 93 % of pairs agree."""
    rng = np.random.default_rng(0)
    table = pd.concat([people(400), *[people(12, seed=9)] * 10], ignore_index=True).assign(id=lambda t: range(len(t)))
    wrong = (rng.random(len(table)) < 1 / 30) & (table.index >= 400)
    table.loc[wrong, "y"] = 1 - table.loc[wrong, "y"]
    assert divide(table)[2]["dropped"]["copies"] > 20


def test_who_is_alike_behaves_alike_and_is_another_still():
    """Rows that look alike agree more often than chance, since the columns tell something: they stay, as is said."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"id": range(3000), "a": rng.integers(0, 30, 3000), "b": rng.integers(0, 30, 3000)})
    table["y"] = (rng.random(3000) < np.where(table["a"] < 15, 0.3, 0.7)).astype(int)
    report = divide(table, task="binary")[2]
    assert report["dropped"] == {}
    assert "training rows look like a held-out row but stay" in report["notes"][0]
    assert "of the rows that look alike agree in y, and 50 % would by chance" in report["notes"][0]


def few_values(n=900):
    """People by age and tens of income, of whom both say much: rows alike agree on the target, and are others."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"id": range(n), "age": rng.integers(18, 70, n), "income": rng.normal(30, 6, n).round()})
    y = table.age - 40 + 3 * (table.income - 30) + rng.normal(0, 6, n) > 0
    return table.assign(y=y.astype(int))


def test_rows_alike_for_want_of_values_stay_though_they_agree_on_the_target():
    report = divide(few_values(), task="binary")[2]
    assert report["dropped"] == {}
    assert " alike without a copy" in report["notes"][0]
    apart = few_values().assign(x=range(900))
    copied = pd.concat([apart, apart.head(60)], ignore_index=True)
    assert divide(copied.assign(id=range(960)), task="binary")[2]["dropped"]["copies"] > 5


def test_sabotage_without_the_count_by_chance_they_leave_training(monkeypatch):
    monkeypatch.setattr(stage, "_expected", lambda *_: "")
    assert divide(few_values(), task="binary")[2]["dropped"]["copies"] > 50


def test_training_keeps_half_of_its_rows_where_a_handful_of_contents_decides_the_target():
    table = pd.DataFrame({"id": range(1000), "a": np.arange(1000) % 10, "b": np.arange(1000) % 3})
    report = divide(table.assign(y=lambda t: t["a"] % 2))[2]
    assert report["dropped"] == {}
    assert report["notes"][0].endswith("taken for different rows: most of the training rows do")


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_agreement_is_that_of_all_ordered_pairs_of_a_group(sizes, seed):
    rng = np.random.default_rng(seed)
    alike = np.repeat(rng.permutation(len(sizes)), sizes).astype(np.uint64)
    labels = rng.integers(0, 3, len(alike))
    shares = []
    for i in range(len(alike)):
        others = [labels[j] == labels[i] for j in range(len(alike)) if j != i and alike[j] == alike[i]]
        shares += [np.mean(others)] if others else []
    assert copies.agreement(alike, labels) == pytest.approx(np.mean(shares) if shares else np.nan, nan_ok=True)


def test_without_a_key_copies_that_differ_in_a_column_that_no_model_sees_leave_training():
    table = pd.concat([people(200)] * 2, ignore_index=True).drop(columns="id").assign(line=range(400))
    train, test, report = divide(table, roles=Roles(drop=("line",)))
    assert train.merge(test, on=["x", "city", "when", "y"]).empty
    assert report["dropped"]["copies"] > 0


@pytest.mark.parametrize(
    "roles", [Roles(key=("id",), drop=("home",)), Roles(drop=("id", "home")), Roles(groups=("home",), drop=("id",))]
)
def test_no_fold_fits_on_a_copy_of_a_row_that_it_is_judged_by(roles, monkeypatch):
    table = pd.concat([people(150)] * 2, ignore_index=True).assign(id=range(300), home=lambda t: t.index % 100)
    given_ = {"target": Y, "roles": roles, "split": Split(), "seed": 0, "task": "binary"}
    columns = ["x", "city", "when", "y"]

    def copied():
        return [len(table[columns].iloc[fit].merge(table[columns].iloc[judge])) for fit, judge in
                fold_indices(table, **given_)]  # fmt: skip

    judged = np.concatenate([judge for _, judge in fold_indices(table, **given_)])
    assert sorted(judged.tolist()) == list(range(300))
    assert copied() == [0] * 5
    monkeypatch.setattr(folds, "_without_copies", lambda pairs, *_: pairs)  # the control
    assert min(copied()) > 0


def test_rows_that_only_look_alike_stay_in_the_folds():
    table = pd.DataFrame({"id": range(1000), "a": np.arange(1000) % 10, "b": np.arange(1000) % 3})
    for fit, judge in fold_indices(
        table.assign(y=table["a"] % 2), target=Y, roles=KEYED, split=Split(), seed=0, task="binary"
    ):
        assert len(fit) + len(judge) == 1000


def test_the_first_of_several_copies_stays_where_it_is_when_copies_come_to_be_told_apart():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.permutation(300), "y": rng.integers(0, 2, 300)})
    before = set(divide(table, roles=Roles())[1]["a"])
    grown = pd.concat([table, *[table.head(100)] * 4], ignore_index=True)
    _, test, report = divide(grown, roles=Roles())
    assert "told apart by their order" in report["membership"]
    assert before <= set(test["a"])


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_of_each_class_are_counted_on_either_side():
    table = people()
    train, test, report = divide(table, task="binary")
    assert report["counts"] == {side: {"0": int((rows["y"] == 0).sum()), "1": int(rows["y"].sum())}
                                for side, rows in (("train", train), ("test", test))}  # fmt: skip
    told = (
        f"y: {train['y'].sum()} ({100 * train['y'].mean():.1f} %) / {test['y'].sum()} ({100 * test['y'].mean():.1f} %)"
    )
    assert report["summary"].endswith(told)
    many = divide(table.assign(y=table["city"]), task="multiclass")[2]
    rarest = min(many["counts"]["train"], key=many["counts"]["train"].get)
    assert f"rarest {rarest}: {many['counts']['train'][rarest]} (" in many["summary"]
    assert "counts" not in divide(table)[2]


def test_the_positive_class_is_told_in_whatever_type_it_was_declared():
    table = people().assign(y=lambda t: t["y"] + 1)
    for positive in (2, 2.0, "2"):
        report = divide(table, target=Target("y", positive=positive), task="binary")[2]
        assert f"y = 2: {report['counts']['train']['2']} (" in report["summary"]


def test_rare_classes_are_told_the_rarest_first_and_counted_beyond_five():
    table = people().assign(y=[f"k{i % 9}" if i < 90 else "k9" for i in range(400)])
    notes = divide(table, task="multiclass")[2]["notes"]
    numbers = [int(n) if (n := note.split()[1]).isdigit() else 0 for note in notes[:5]]
    assert numbers == sorted(numbers)
    assert notes[5] == "4 more classes have fewer than 30 held-out rows"


def test_final_rows_too_few_to_judge_a_class_are_noted():
    table = people(600, seed=1)
    _, _, report, final = divide(table, split=Split(final=0.1), task="binary")
    assert f"only {final['y'].sum()} final rows have y = 1: about" in report["notes"][-1]


def test_folds_of_keys_are_not_told_to_shorten_a_gap():
    for roles, shorter in ((KEYED, False), (TIMED, True)):
        with pytest.raises(DataError) as caught:
            fold_indices(people(8), target=Y, roles=roles, split=Split(), seed=0, task="binary")
        assert ("a shorter gap=" in caught.value.hint) is shorter
        assert "folds=3" in caught.value.hint
    with pytest.raises(DataError) as caught:
        fold_indices(
            people(4).assign(y=[0, 0, 0, 1]), target=Y, roles=KEYED, split=Split(folds=2), seed=0, task="binary"
        )
    assert "folds" not in caught.value.hint


def test_cells_that_are_lists_have_a_text_too():
    table = pd.DataFrame({"a": [[1, 2], None, [1, 2], "b"]})
    number = keys.rows(table, ["a"], keys.secret("side", 0, 0))
    assert number[0] == number[2]
    assert len(set(number.tolist())) == 3


def test_weights_widen_the_interval_to_expect_to_what_the_rows_are_worth():
    rng = np.random.default_rng(0)
    table = people(4000).assign(w=rng.choice([1.0, 20.0], 4000, p=[0.9, 0.1]), z=rng.normal(size=4000))
    for task, target in (("binary", Y), ("multiclass", Target("city")), ("regression", Target("z"))):
        plain, weighted = (
            divide(table, roles=Roles(key=("id",), weight=weight), target=target, task=task)[2]["expected"]
            for weight in (None, "w")
        )
        assert plain.keys() == weighted.keys()
        for name, width in plain.items():  # 10 % of the rows have 69 % of the weight: 2,000 of them are worth 412
            assert 1.6 < weighted[name] / width < 3, (task, name)
    equal = divide(table.assign(w=7.0), roles=Roles(key=("id",), weight="w"), task="binary")[2]
    assert equal["expected"] == pytest.approx(divide(table, task="binary")[2]["expected"])


def test_of_several_classes_bounds_are_told_and_without_a_row_of_one_only_those_of_shares():
    table = people(900).assign(y=lambda t: t["city"])
    whole = divide(table, task="multiclass")[2]["expected"]
    assert {"accuracy", "balanced_accuracy", "recall_macro", "roc_auc_ovr", "roc_auc_ovo_weighted"} <= set(whole)
    assert "neg_log_loss" not in whole
    lacking = divide(table, split=Split(test=no_rom), task="multiclass")[2]["expected"]
    assert set(lacking) == set(sides.OF_SHARES)


def no_rom(table):
    return (table["city"] != "Rom") & (table["x"] > 0.5)


def test_rows_of_groups_are_said_to_make_it_wider():
    assert divide(people(), roles=Roles(groups=("home",)))[2]["grouped"]
    assert not divide(people())[2]["grouped"]


def test_masks_are_given_rows_numbered_from_none():
    seen = []

    def mask(table):
        seen.append(table.index.tolist())
        return table["x"] > 0

    custom.masked(people(5).sort_values("x"), mask)
    assert seen == [[0, 1, 2, 3, 4]]
