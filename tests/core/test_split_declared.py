"""Every split that cannot be is refused in a sentence, when it is declared; what is left at its default is no news."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut, ShuffleSplit

import penstock as ps
from penstock.core.split import Split, is_splitter
from penstock.core.told import workflow_rows
from penstock.core.tree import encode
from penstock.errors import DeclarationError


def mask(table):
    return table["x"] > 0


@ps.step
def joined(table: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    return table.merge(other)


class Bare:
    def split(self, X, y, groups):
        return []

    def get_n_splits(self, *_args):
        return 2


def declare(split, **more):
    fields = {"data": ps.read("a.csv"), "target": "y", "model": LinearRegression()} | more
    return ps.Workflow("w", split=split, **fields)


@pytest.mark.parametrize(
    ("split", "more", "words"),
    [
        (Split(horizon="7d"), {}, "horizon='7d' is about time: it needs time="),
        (Split(horizon="7d", by="key"), {"time": "t", "key": "k"}, "horizon='7d' is about time"),
        (Split(gap="7d"), {"key": "k"}, "gap='7d' is about time"),
        (Split(horizon="soon"), {"time": "t"}, "split=: horizon: 'soon' is not a duration"),
        (Split(test=mask, horizon="7d"), {"time": "t"}, "a mask or a splitter says itself which rows are left out"),
        (Split(final=0.9), {}, "final=0.9: a share above 0 that leaves rows to train on beside test=0.2"),
        (Split(final=0), {}, "final=0: a share above 0"),
        (Split(final=True), {}, "final=True: a share such as 0.1"),
        (Split(final="30d"), {"key": "k"}, "final='30d' needs time= in the workflow"),
        (Split(final="30d", by="key"), {"time": "t", "key": "k"}, "final='30d' is a span of time: it needs by='time'"),
        (Split(test="2026-03-01", final="2026-01-01"), {"time": "t"}, "begins before test='2026-03-01'"),
        (Split(test=mask, final=0.1), {}, "final= needs test= to be a share"),
        (Split(test=KFold(3), stable=False), {}, "which rows are held out is not drawn"),
        (Split(test=lambda table: table["x"] > 0), {}, "cannot be found by name; define it at module level"),
        (Split(test=KFold), {}, "test=KFold, a class; make an object of it"),
        (Split(test=[0.2]), {}, "a share such as 0.2"),
        (Split(test=GroupKFold(3)), {}, "divides rows by groups, and the workflow declares none: add groups="),
        (Split(test=Bare()), {}, "a Bare has no canonical form; make its class a dataclass"),
        (Split(folds=ShuffleSplit(1)), {}, "this splitter makes one pair"),
        (Split(folds=0), {}, "a whole number from 2, or a splitter"),
        (KFold, {}, "split=: KFold; make an object of it"),
        (0.3, {}, "split=: float: ps.Split(…), a splitter of scikit-learn's form, or a function to a mask is meant"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(split, more, words):
    with pytest.raises(DeclarationError) as caught:
        declare(split, **more)
    assert words in str(caught.value)
    assert len(caught.value.faults) == 1


def test_which_source_an_official_test_file_stands_for_must_be_plain():
    table, other, test = ps.read("a.csv"), ps.read("b.csv"), ps.read("test.csv")
    with pytest.raises(DeclarationError, match=r"data= is made of 2 sources \(a, b\): which one it stands for"):
        declare(Split(test=test), data=joined(table, other))
    with pytest.raises(DeclarationError, match="is the very table of data="):
        declare(Split(test=table), data=table)
    made = declare(Split(test=joined(test, other)), data=joined(table, other))
    assert len(made.tables) == 2


def test_what_stands_in_split_is_brought_into_one_form():
    by_splitter, once, by_mask = declare(KFold(3)), declare(ShuffleSplit(1)), declare(mask)
    assert isinstance(by_splitter.split.folds, KFold)
    assert (once.split.folds, by_mask.split.folds) == (5, 5)
    assert by_mask.split.test is mask
    assert isinstance(declare(LeaveOneOut()).split.folds, LeaveOneOut)
    assert not is_splitter("text")


def test_fields_that_are_not_used_stand_in_no_recipe():
    first = ["test", "by", "gap", "folds", "stable", "salt"]
    assert list(encode(Split())[2]) == first
    assert list(encode(Split(horizon="3d"))[2]) == [*first, "horizon"]
    assert encode(dataclasses.replace(Split(horizon="3d"), horizon=None)) == encode(Split())
    assert json.dumps(encode(Split())) == (
        '["data", "penstock.core.split:Split", {"test": ["float", "0.2"], "by": null, "gap": null, "folds": 5, '
        '"stable": true, "salt": 0}]'
    )


@pytest.mark.parametrize(
    ("split", "more", "words"),
    [
        (Split(final=0.1), {"key": "k"}, "20% of rows held out · final hold-out: 10% of rows · by key · 5 folds"),
        (Split(test="9d", horizon="3d"), {"time": "t"}, "held out: 9d · by time · 5 folds · horizon 3d"),
        (mask, {}, "held out: mask · 5 folds"),
        (KFold(3), {}, "held out: KFold(n_splits=3, random_state=None, shuffle=False) · folds of KFold"),
        (Split(test=ps.read("official.csv")), {}, "held out: <Ref official> · 5 folds"),
    ],
)
def test_a_split_in_words(split, more, words):
    told = {field: text for _, field, text in workflow_rows(declare(split, **more))}
    assert told["split"].startswith(words)
