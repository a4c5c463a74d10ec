"""Sweeps: which combinations there are, and what `--set` may change in a declaration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import penstock as ps
from penstock.errors import DeclarationError, UsageError
from penstock.lifecycle.parameters import MOST_PATHS, flat, plain
from penstock.lifecycle.settings import apply, literal
from penstock.lifecycle.sweep import combinations, given_of, single, values_in


@ps.step
def recent(rows, since):
    return rows


def declared(model=None, **fields):
    data = recent(ps.read("customers.csv"), since=ps.Param("since", "2026-01-01"))
    model = model or Pipeline([("scale", StandardScaler()), ("model", LogisticRegression(C=2.0))])
    return ps.Workflow(name="churn", data=data, target="churned", key="id", model=model, **fields)


def test_every_combination_once_and_not_more_than_asked_for():
    given_ = given_of(["model.C=0.1,1", "split.test=0.2,0.3"])
    assert [one["model.C"] for one in combinations(given_)] == ["0.1", "0.1", "1", "1"]
    with pytest.raises(UsageError, match=r"2 × 2 = 4 combinations, more than 3") as caught:
        combinations(given_, most=3)
    assert caught.value.hint == "--max 4 allows"
    with pytest.raises(UsageError, match="one value is meant"):
        single(given_)
    for wrong in (["x"], ["=1"], ["a="], ["a=1", "a=2"]):
        with pytest.raises(UsageError):
            given_of(wrong)


@given(st.lists(st.one_of(st.integers(), st.lists(st.integers()), st.text("ab,(", max_size=4)), min_size=1))
def test_values_are_parted_where_python_would_part_them(values):
    assert [literal(text) for text in values_in(",".join(repr(value) for value in values))] == values


def test_any_path_of_the_declaration_can_be_set():
    given_ = {
        "model.model__C": "0.1",
        "model.scale": "passthrough",
        "split.test": "0.3",
        "fit.sample": "0.5",
        "seed": "3",
        "metrics": "['accuracy']",
        "since": "2025-01-01",
    }
    found, params = apply(declared(), given_)
    assert found.model.get_params()["model__C"] == 0.1
    assert (found.model.get_params()["scale"], found.split.test, found.fit.sample) == ("passthrough", 0.3, 0.5)
    assert (found.seed, found.metrics, params) == (3, ("accuracy",), {"since": "2025-01-01"})
    assert declared().model.get_params()["model__C"] == 2.0


def test_candidates_are_set_by_name():
    two = {"plain": LogisticRegression(), "forest": RandomForestClassifier()}
    found, _ = apply(declared(two), {"model.forest.max_depth": "3"})
    assert found.model["forest"].max_depth == 3
    with pytest.raises(DeclarationError, match='did you mean "forest"'):
        apply(declared(two), {"model.forst.max_depth": "3"})


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("model.model__CC", "1", "did you mean"),
        ("model.C", "1", "did you mean model.model__C"),
        ("splitt.test", "0.3", 'did you mean "split.test"'),
        ("zzz", "1", "there are model"),
        ("name", "'other'", "no such parameter"),
        ("model.model__C", "-1", "float in the range"),
        ("model.model__C", "abc", "float in the range"),
        ("model.scale", "7", "a part of the model is meant"),
        ("split.test", "7", "test=7"),
        ("split.folds", "x", "folds='x'"),
        ("refit", "some", "refit='some'"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(path, text, said):
    with pytest.raises(DeclarationError) as caught:
        apply(declared(), {path: text})
    assert said in " ".join(caught.value.faults)


def test_all_faults_are_told_at_once():
    with pytest.raises(DeclarationError) as caught:
        apply(declared(), {"model.model__C": "-1", "splitt.test": "1"})
    assert len(caught.value.faults) == 2


def test_parameters_are_flat_and_what_was_declared_stands_apart():
    found = flat(declared(split=ps.Split(test=0.3)))
    assert found["declared"]["model.model__C"] == 2.0
    assert (found["declared"]["model"], found["declared"]["split.test"]) == ("Pipeline", 0.3)
    assert (found["default"]["model.scale__with_mean"], found["default"]["split.folds"]) == (True, 5)
    assert not {"model.steps", "model.n_jobs", "model.model__n_jobs"} & {*found["declared"], *found["default"]}


def test_what_is_kept_is_bounded_and_tells_no_object():
    class Odd:
        def __repr__(self):
            return "hunter2"

    assert plain([Odd(), ps.Secret("env:TOKEN")]) == "[Odd, <Secret env:TOKEN>]"
    assert len(plain("x" * 10_000)) == 200
    many = {f"m{i}": LogisticRegression() for i in range(60)}
    found = flat(declared(many))
    assert len(found["declared"]) + len(found["default"]) == MOST_PATHS
