"""What the experiment must not take for proven: a second hold-out, an official file, new columns, hidden leaks."""

import numpy as np
import pandas as pd
import pytest

from penstock.core.replay import Replayable
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages import walk
from penstock.stages.membership import Sides
from penstock.stages.moved import differs
from penstock.stages.partition import partition
from penstock.stages.scramble import scramble
from penstock.testing.planted import HONEST, LEAKING, people
from penstock.testing.replay import Steps, found, tried

NUMBERS, TEXTS = ["age", "income", "hours", "kids"], ["city"]
KEY = {"key": ("id",)}
SCALE = LEAKING["scale"].on("y", NUMBERS, TEXTS)
SUM = HONEST["row sum"].on("y", NUMBERS, TEXTS)


def one(make, table=None):
    return Steps({"table": people() if table is None else table}, [("made", make, ("table",))])


# ── a final hold-out ─────────────────────────────────────────────────────────────────────────────────────────


def by_the_end(table, split):
    """A step that takes something from rows of the final hold-out alone."""
    sides = partition(table, schema={"task": "binary"}, target=Target("y"), roles=Roles(**KEY), split=split, seed=0)
    last = set(sides[3]["id"])
    return one(lambda t: t.assign(age=t.age - t.age[t["id"].isin(last)].mean()), table)


def test_rows_of_the_final_hold_out_are_held_out_too(monkeypatch):
    split = Split(final=0.2)
    report = tried(by_the_end(people(), split), split=split)
    assert found(report) == [("error", "features", "age")]
    assert report["tried"][0]["rows"] > 0.3 * len(people())  # both hold-outs
    plain = Sides.__init__
    monkeypatch.setattr(Sides, "__init__", lambda self, *args: plain(self, *args[:5]))
    assert found(tried(by_the_end(people(), split), split=split)) == []


def test_which_rows_would_be_training_rows_beside_a_final_hold_out():
    table, split = people(), Split(final=0.2)
    train, test, _, final = partition(
        table, schema={"task": "binary"}, target=Target("y"), roles=Roles(**KEY), split=split, seed=0
    )
    sides = Sides(train, test, Roles(**KEY), split, 0, final)
    side = {"train": train, "test": test, "final": final}
    assert {name: bool(sides.would_train(rows).all()) for name, rows in side.items()} == {
        "train": True,
        "test": False,
        "final": False,
    }
    assert not any(sides.would_train(rows).any() for rows in (test, final))


# ── an official test file ────────────────────────────────────────────────────────────────────────────────────


def beside_a_file(steps, shared, **roles):
    test = people(seed=9).assign(id=lambda t: t["id"] + 10_000)
    return scramble(
        steps=steps,
        train=steps.table(steps.data),
        test=test,
        target=Target("y"),
        roles=Roles(**roles),
        split=None,
        seed=0,
        official=shared,
    )


@pytest.mark.parametrize("roles", [{}, KEY])
def test_rows_of_a_test_file_that_goes_through_the_steps_apart_reach_no_training_row(roles):
    steps = one(SCALE)
    report = beside_a_file(steps, (), **roles)
    assert (report["findings"], report["not_tried"], steps.calls) == ([], [], [])
    [told] = report["tried"]
    assert told == {
        "what": "by construction: no step that leads to training rows takes a row of the official test file",
        "rows": 420,
    }
    assert report["summary"] == "1 step: the 420 rows of the official test file go through them apart"


def test_what_leads_to_a_test_file_and_to_training_rows_alike_is_tried():
    table = people()
    both = pd.concat([table, people(seed=9).assign(id=lambda t: t["id"] + 10_000)], ignore_index=True)
    wages = both[["id"]].assign(wage=np.arange(len(both)) % 97.0)

    def with_wages(t, wages):
        return t.merge(wages.assign(wage=wages.wage - wages.wage.mean()), on="id")

    steps = Steps(
        {"table": table, "wages": wages}, [("sum", SUM, ("table",)), ("joined", with_wages, ("sum", "wages"))]
    )
    report = beside_a_file(steps, (1,), **KEY)
    assert found(report) == [("error", "features", "wage")]
    assert report["tried"][0]["what"] == (
        "by construction: official test rows can reach training rows through wages alone"
    )
    assert report["not_tried"] == []  # neither the table nor the step before the join can hold a held-out row
    nameless = beside_a_file(steps, (1,))
    assert nameless["not_tried"][0]["why"].startswith("not provable: declare key=")


# ── what is another table ────────────────────────────────────────────────────────────────────────────────────


def test_a_column_that_is_kept_because_of_held_out_rows_is_a_difference():
    spread = people().kids.std()
    report = tried(one(lambda t: t if t.kids.std() > 1.02 * spread else t.drop(columns="kids")))
    assert found(report) == [("error", "features", "kids")]
    assert "column kids appears" in report["findings"][0]["what"]


def test_a_new_column_that_says_nothing_of_training_rows_is_a_note():
    most = people().income.max()
    report = tried(one(lambda t: t.assign(flag=0) if (t.income == most).sum() != 1 else t))
    assert found(report) == [("note", "columns", "flag")]


@pytest.mark.parametrize("other", [lambda t: t.drop(columns="id"), lambda _t: None])
def test_a_table_that_loses_the_names_of_its_rows_is_a_difference(other):
    mean = people().age.mean()
    report = tried(one(lambda t: t if abs(t.age.mean() - mean) < 1e-9 else other(t)))
    [finding] = report["findings"]
    assert (finding["grade"], finding["step"]) == ("error", "made")
    assert "training rows vanish" in finding["what"]


def test_cells_that_hold_arrays_are_compared_whole():
    """Their text would leave out the middle of a long one."""
    rng = np.random.default_rng(0)
    long = rng.normal(size=(3, 2000))
    other = long.copy()
    other[1, 1000] += 1.0
    other[2] *= 1 + 1e-12
    cells = [pd.Series(list(rows), dtype=object) for rows in (long, other)]
    assert differs(*cells).tolist() == [False, True, False]
    gaps = [pd.Series([{"a": float("nan")}, ["x", None], np.array([np.nan])], dtype=object) for _ in range(2)]
    assert not differs(*gaps).any()
    mixed = pd.Series([{"a": 1.0}, np.array(["x"], dtype=object), 3], dtype=object)
    assert differs(gaps[0], mixed).all()


# ── who is to blame ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_leak_beneath_another_in_the_same_cells_is_named_too(monkeypatch):
    """Else an excuse for the later one would hide it: both move all rows of the column."""
    table = people().assign(hours=lambda t: t.hours.fillna(40.0))
    chain = [
        ("centred", lambda t: t.assign(hours=t.hours - t.hours.mean()), ("table",)),
        ("scaled", lambda t: t.assign(hours=t.hours / t.hours.std()), ("centred",)),
    ]
    for excuse, grades in (({}, ["error", "error"]), ({"scaled": "of the makers"}, ["error", "note"])):
        report = tried(Steps({"table": table}, chain, across_rows=excuse))
        assert [(one["step"], one["grade"]) for one in report["findings"]] == [
            ("centred", grades[0]),
            ("scaled", grades[1]),
        ]
    monkeypatch.setattr(walk.Walker, "_through", lambda *_: None)
    hidden = tried(Steps({"table": table}, chain, across_rows={"scaled": "of the makers"}))
    assert [(one["step"], one["grade"]) for one in hidden["findings"]] == [("scaled", "note")]


def test_rows_in_another_order_are_the_same_rows_and_other_rows_are_told_as_such():
    """A database and `polars.DataFrame.group_by` give rows in no order."""
    for share, random in ((1.0, []), (0.9, ["sampled"])):
        chain = [
            ("sampled", lambda t, share=share: t.sample(frac=share, random_state=np.random.default_rng()), ("table",)),
            ("scaled", SCALE, ("sampled",)),
        ]
        report = tried(Steps({"table": people()}, chain))
        assert [one["step"] for one in report["findings"] if one["kind"] == "random"] == random
        assert all("(its rows)" in one["what"] for one in report["findings"] if one["kind"] == "random")
        assert ("error", "scaled") in [(one["grade"], one["step"]) for one in report["findings"]]


def test_a_step_that_does_not_run_twice_is_not_called_random():
    runs = []

    def once(t):
        runs.append(1)
        if len(runs) > 1:
            raise RuntimeError("the service is closed")
        return t

    report = tried(Steps({"table": people()}, [("once", once, ("table",)), ("scaled", SCALE, ("once",))]))
    assert [(one["kind"], one["step"]) for one in report["findings"]] == [("features", "scaled")]
    assert {
        "what": "step once: whether held-out rows move a training row in it",
        "why": "not provable: on the very same tables it raised RuntimeError: the service is closed",
    } in report["not_tried"]


def test_what_moves_in_the_second_of_several_tables_is_told_of_that_one():
    """The first is shorter: places of rows in one say nothing of the other."""

    def two(t):
        return t.iloc[:3], t.drop_duplicates(["age", "income", "kids", "city", "y"])

    chain = [("two", two, ("table",)), ("last", lambda few, t: t.assign(n=len(few)), ("two.few", "two.all"))]
    report = tried(Steps({"table": people()}, chain, outputs={"two": ("few", "all")}))
    assert [(grade, kind) for grade, kind, _ in found(report)] == [("note", "de-duplication")]


def test_cells_of_several_values_stand_beside_a_filter():
    table = people().assign(many=lambda t: [np.arange(3.0) + age for age in t.age])
    step = one(lambda t: t[t.age <= t.age.quantile(0.9)], table)
    report = tried(step, key=("id",), drop=("many",))
    assert [(grade, kind) for grade, kind, _ in found(report)] == [("error", "features")]


def test_a_step_that_takes_no_table_is_told_to_be_what_it_is():
    report = tried(Steps({}, [("load", people, ()), ("sum", SUM, ("load",))]))
    assert found(report) == []
    [told] = report["not_tried"]
    assert told["what"].startswith("step load:")
    assert told["why"].startswith("it takes no table")
    assert report["codes"] == {"sum": "sum"}


# ── the fit ──────────────────────────────────────────────────────────────────────────────────────────────────


class Fitting(Steps):
    """Steps, and one that fits; what it gives is the table that it was given."""

    def __init__(self, table, make, train):
        super().__init__({"table": table}, [("made", make, ("table",))])
        self.steps = (*self.steps, Replayable("train", False, ("fitted",), (("split", "train"),)))
        self.train = train

    def table(self, key):
        return self.train if key == ("split", "train") else super().table(key)

    def call(self, step, given, change):
        if step == "train":
            return {("train", "fitted"): given["split", "train"]}
        return super().call(step, given, change)

    def recorded(self, key):
        return self.digest(self.train) if key[0] == "train" else super().recorded(key)


def fitted_again(table, make, split=None, **roles):
    known = {"target": Target("y"), "roles": Roles(**roles), "split": split or Split(), "seed": 0}
    train, test, _ = partition(make(table.copy()), schema={"task": "binary"}, **known)
    return scramble(steps=Fitting(table, make, train), train=train, test=test, full=True, **known)


def test_the_fit_is_the_same_beside_other_held_out_rows():
    report = fitted_again(people(), SUM, **KEY)
    assert any("fitted 3 times again" in one["what"] for one in report["tried"])


def test_the_fit_is_not_tried_on_rows_that_cannot_be_told_apart():
    """Of rows that share their moment some may have left training: which ones, their time does not say."""
    table = people().assign(at=lambda t: pd.Timestamp("2026-01-01") + pd.to_timedelta(t["id"] // 4, "D"))
    report = fitted_again(table.sort_values("id").drop(columns="id"), SUM, Split(by="time"), time="at")
    assert found(report) == []
    [told] = [one for one in report["not_tried"] if "the fit" in one["what"]]
    assert told["why"] == "not provable: several rows have the same at: declare key="


def test_a_hidden_column_that_a_changed_table_lacks_ends_no_fit():
    mean = people().age.mean()

    def make(t):
        return t.assign(aside=1) if abs(t.age.mean() - mean) < 1e-9 else t

    report = fitted_again(people(), make, key=("id",), drop=("aside",))
    assert found(report) == []
    assert any("they moved" in one["why"] for one in report["not_tried"])
