"""Looks on the ledger: which hold-out they were at, what the next one may spend, and two runs that look at once."""

from dataclasses import replace
from typing import NamedTuple

import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import KFold

import penstock as ps
from penstock.core.artifact import Artifact
from penstock.core.digest import digest_bytes
from penstock.core.flow import Graph, Node
from penstock.core.run import Entry
from penstock.core.tree import encode
from penstock.lifecycle.holdout import STRIDE, can_be_renewed, holdout_of, with_holdout
from penstock.lifecycle.looks import fight_of, generation_of, look_body, next_look, standing
from penstock.stats.looks import alpha_left, levels, next_level
from penstock.testing import MemoryLedger

WORKFLOW = ps.Workflow(name="churn", data=ps.read("a.csv"), target="y", key="id", model=DummyClassifier())


class At(NamedTuple):
    """The promised output of a step."""

    step: str
    output: str


def holdout(workflow=WORKFLOW, seed=0, schema=None, frozen=()):
    return holdout_of(workflow, seed, schema, frozen)


def generation(told):
    return generation_of(Graph("churn", (), about={"holdout": told}))


# ── which hold-out ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "other",
    [
        {"split": ps.Split(test=0.3)},
        {"split": ps.Split(salt=1)},
        {"split": ps.Split(stable=False)},
        {"split": ps.Split(by="random")},
        {"key": "customer"},
        {"key": None},
        {"groups": "household"},
        {"time": "day"},
    ],
)
def test_another_rule_is_another_hold_out(other):
    assert generation(holdout(WORKFLOW.replace(**other))) != generation(holdout())


@pytest.mark.parametrize(
    "other",
    [
        {"features": ["a"]},
        {"drop": ["a"]},
        {"metrics": ["roc_auc"]},
        {"gate": [ps.Beats()]},
        {"split": ps.Split(folds=3)},
        {"weight": "w"},
        {"data": ps.read("b.csv")},
    ],
)
def test_what_moves_no_row_begins_no_hold_out(other):
    assert generation(holdout(WORKFLOW.replace(**other))) == generation(holdout())


def test_the_seed_counts_where_it_moves_rows_and_not_where_the_newest_are_held_out():
    assert generation(holdout(seed=1)) != generation(holdout())
    by_time = WORKFLOW.replace(time="day", split=ps.Split(test="90d"))
    assert generation(holdout(by_time, seed=1)) == generation(holdout(by_time))
    assert generation(holdout(by_time.replace(split=ps.Split(test="90d", salt=1)))) == generation(holdout(by_time))


def test_columns_that_decide_count_only_where_rows_have_no_key():
    keyless = WORKFLOW.replace(key=None)
    assert generation(holdout(keyless, frozen=("a",))) != generation(holdout(keyless, frozen=("a", "b")))
    assert generation(holdout(frozen=("a",))) == generation(holdout(frozen=("a", "b")))


def test_the_number_in_the_schema_is_another_hold_out_with_other_rows():
    assert with_holdout(WORKFLOW, None) is WORKFLOW
    assert with_holdout(WORKFLOW, {"holdout": 1}) is WORKFLOW
    moved = with_holdout(WORKFLOW, {"holdout": 3})
    assert moved.split == replace(WORKFLOW.split, salt=2 * STRIDE)
    assert generation(holdout(schema={"holdout": 3})) != generation(holdout())
    assert generation(holdout(schema={"holdout": 1})) == generation(holdout())


def test_an_official_file_a_splitter_and_a_mask_are_hold_outs_of_their_own():
    own = [ps.Split(test=one) for one in (ps.read("official.csv"), KFold(3), KFold(4), newest)]
    told = [generation(holdout(WORKFLOW.replace(split=split))) for split in own]
    assert len({generation(holdout()), *told}) == 5
    assert told == [generation(holdout(WORKFLOW.replace(split=split), seed=7)) for split in own]
    assert not any(can_be_renewed(holdout(WORKFLOW.replace(split=split))) for split in own)


def newest(table):
    return table["day"] > 3


def test_only_a_rule_that_can_hold_other_rows_out_is_renewed():
    assert can_be_renewed(holdout())
    assert can_be_renewed(holdout(WORKFLOW.replace(key=None)))
    assert not can_be_renewed(holdout(WORKFLOW.replace(time="day")))


# ── what is spent ────────────────────────────────────────────────────────────────────────────────────────────


def looked(ledger, *, generation="g", fight="", search=True, won=False, **more):
    told = next_look(ledger, "churn", generation, "")
    number = len(ledger.stream("churn/look")) + 1
    body = {"version": number, "verdict": number, **look_body(told, fight, search=search, won=won, again=False), **more}
    ledger.append([Entry("churn/look", number, body)])
    return body


def test_each_search_has_the_next_level_and_a_refresh_costs_nothing():
    ledger, won = MemoryLedger(), [False, True, False]
    shares = []
    for one in won:
        looked(ledger, search=False, won=True)
        shares.append(looked(ledger, won=one)["share"])
    assert shares == pytest.approx(levels(won, 1.0))
    after = next_look(ledger, "churn", "g", "")
    assert (after["number"], after["tests"]) == (7, 3)
    assert (after["share"], after["left"]) == pytest.approx((next_level(won, 1.0), alpha_left(won, 1.0)))
    assert standing(ledger, "churn", "g") == {"looks": 6, "searches": 3, "left": after["left"]}


def test_another_hold_out_begins_anew_and_the_first_one_is_not_forgotten():
    ledger = MemoryLedger()
    for _ in range(3):
        looked(ledger)
    assert next_look(ledger, "churn", "other", "")["share"] == next_level([], 1.0)
    looked(ledger, generation="other")
    assert next_look(ledger, "churn", "g", "")["tests"] == 3


def test_looks_of_before_hold_outs_had_names_count_everywhere_and_earned_nothing():
    ledger = MemoryLedger()
    ledger.append([Entry("churn/look", 1, {"version": 1, "verdict": 1, "run": "ab"})])
    ledger.append([Entry("churn/look", 2, {"run": "cd"}, why="by a person")])  # opened, not fought
    for name in ("g", "other"):
        assert (next_look(ledger, "churn", name, "")["number"], next_look(ledger, "churn", name, "")["tests"]) == (3, 1)


def test_an_equal_fight_is_the_look_that_it_was():
    ledger = MemoryLedger()
    first = looked(ledger, fight="a")
    looked(ledger, fight="b", won=True)
    assert next_look(ledger, "churn", "g", "a") == first["looks"]
    repeated = look_body(first["looks"], "a", search=True, won=True, again=True)
    assert (repeated["search"], repeated["share"], repeated["won"]) == (False, 0.0, False)


def test_a_fight_is_told_by_its_inputs_and_not_by_the_level():
    tree = encode(
        [At("split", "test"), At("champion", "about")], "", lambda one: ["ref", *one] if isinstance(one, At) else None
    )
    graph = Graph("churn", (Node("compare", "e", tree, ""),), {})

    def fight(rows=b"rows", fitted="f", **about):
        artifact = Artifact(digest_bytes(rows), "json", 4)
        given = {"fitted": fitted, "seen": "s", "about": {"champion": "churn@1", "moves": 1, **about}}
        return fight_of(graph, {("split", "test"): artifact}, given)

    assert fight() == fight(moves=2, looks={"share": 0.1})
    assert len({fight(), fight(rows=b"more"), fight(fitted="g"), fight(champion="churn@2")}) == 4
