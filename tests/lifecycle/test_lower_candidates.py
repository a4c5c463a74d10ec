"""Lowering several candidates: a step for each, then a choice, then one fit; wrong names are told."""

import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression

import penstock as ps
from penstock.core.flow import calls_of
from penstock.errors import DeclarationError
from penstock.lifecycle.lower import lower, models_of

BOTH = {"plain": LogisticRegression(), "dummy": DummyClassifier()}


def workflow(model, **fields):
    return ps.Workflow(name="churn", data=ps.read("customers.csv"), target="churned", model=model, **fields)


def steps(declared, only=()):
    outputs, _ = lower(declared, "churn.py", only=only)
    return {call.name: call for call in calls_of(outputs)}


def test_each_candidate_is_a_step_and_only_the_winner_is_fitted():
    found = steps(workflow(BOTH))
    assert {name for name in found if name.startswith("evaluate")} == {
        "evaluate", "evaluate.plain", "evaluate.dummy"
    }  # fmt: skip
    assert found["evaluate"].entry == "penstock.stages.candidates:choose"
    assert found["evaluate"].kwargs["names"] == ("plain", "dummy")  # a dict is encoded by name; the order counts
    assert found["train"].entry == "penstock.stages.candidates:train_winner"
    assert set(steps(workflow(BOTH), ["dummy"])) == set(found) - {"evaluate.plain"}


def test_one_model_is_lowered_without_any_of_it():
    found = steps(workflow(LogisticRegression()))
    assert not {"decide", "refit"} & set(found)
    assert found["evaluate"].entry == "penstock.stages.evaluate:evaluate"
    assert {"decide", "winner"}.isdisjoint({*found["evaluate"].kwargs, *found["train"].kwargs})


def test_a_refit_is_served_and_its_judged_twin_is_compared():
    found = steps(workflow(LogisticRegression(), refit="all", decide=ps.Threshold(at=0.3)))
    assert repr(found["register"].kwargs["estimator"]) == "<Ref refit.fitted>"
    assert repr(found["register"].kwargs["judged"]) == repr(found["compare"].kwargs["fitted"]) == "<Ref train.fitted>"
    assert repr(found["package"].kwargs["fitted"]) == "<Ref refit.fitted>"
    assert repr(found["compare"].kwargs["decision"]) == "<Ref decide.decision>"


@pytest.mark.parametrize(
    ("model", "only", "says"),
    [
        (LogisticRegression(), ["plain"], "this workflow has one model"),
        (BOTH, ["plan"], 'no such candidate; did you mean "plain"'),
        ({**BOTH, "dummy": DummyRegressor()}, [], "plain for classification, dummy for regression"),
    ],
)
def test_what_names_no_candidate_is_refused(model, only, says):
    with pytest.raises(DeclarationError, match=says):
        models_of(workflow(model), only)


def test_a_step_of_the_users_cannot_stand_among_the_candidates():
    @ps.step
    def clean(table):
        return table

    data = clean(ps.read("customers.csv"), name="evaluate.plain")
    with pytest.raises(DeclarationError, match=r"a step is called .evaluate\.plain."):
        lower(ps.Workflow(name="churn", data=data, target="churned", model=BOTH), "churn.py")
