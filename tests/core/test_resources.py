"""What a step asks for: checked at once, plain data, and the same in every form."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import penstock as ps
from penstock.core.flow import Node
from penstock.core.step import call_of
from penstock.errors import DeclarationError


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(DeclarationError) as error:
        ps.Resources(cpu=0, memory="4 gigs", gpu=-1, labels={"queue": 3})
    assert error.value.faults == [
        "Resources: cpu=0: a number of processors above 0, or None",
        "Resources: gpu=-1: a whole number from 0",
        "Resources: labels={'queue': 3}: a dict of texts to texts, as {'queue': 'gpu'}",
        "Resources: memory='4 gigs': a size above 0 such as '4GiB', or bytes",
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"cpu": True},
        {"cpu": float("nan")},
        {"cpu": "2"},
        {"gpu": 0.5},
        {"gpu": True},
        {"memory": 0},
        {"memory": "-1GiB"},
        {"memory": 1.5},
        {"memory": True},
        {"memory": "infGiB"},
        {"memory": "nan"},
        {"labels": ["queue"]},
        {"labels": {"": "a"}},
    ],
)
def test_a_value_that_is_none_is_refused(given) -> None:
    with pytest.raises(DeclarationError):
        ps.Resources(**given)


def test_nothing_asked_for_is_a_fault() -> None:
    with pytest.raises(DeclarationError, match="nothing is asked for"):
        ps.Resources()


@given(
    st.none() | st.floats(0.01, 64),
    st.none() | st.integers(1, 2**40),
    st.integers(0, 8),
    st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=2),
)
def test_what_is_asked_for_survives_as_plain_data(cpu, memory, gpu, labels) -> None:
    if (cpu, memory, gpu, labels) == (None, None, 0, {}):
        return
    asked = ps.Resources(cpu, memory, gpu, labels)
    data = asked.to_json()
    assert ps.Resources(**data) == asked
    assert all(data.values())
    node = Node("a", "m:a", None, "", resources=data)
    assert Node.from_json(node.to_json()) == node
    assert node.limit == memory


def test_it_cannot_be_changed_from_outside() -> None:
    labels = {"queue": "gpu"}
    asked = ps.Resources(labels=labels)
    labels["queue"] = "other"
    assert asked.labels == {"queue": "gpu"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        asked.cpu = 2  # type: ignore[misc]  # that it cannot be set is what is tested


def test_a_limit_of_its_own_goes_before_the_request() -> None:
    assert Node("a", "m:a", None, "", memory=7, resources={"memory": 9}).limit == 7


def test_a_step_takes_resources_and_nothing_else() -> None:
    @ps.step(resources=ps.Resources(cpu=2))
    def wide(x):
        return x

    assert call_of(wide(ps.Param("x", 1))).options.resources.cpu == 2
    with pytest.raises(DeclarationError, match=r"step: resources=\{'cpu': 2\}: ps.Resources"):
        ps.step(resources={"cpu": 2})


@pytest.mark.parametrize("given", [ps.Resources(cpu=1), {"train": 2}, {1: ps.Resources(cpu=1)}])
def test_a_workflow_takes_a_dict_of_them(given) -> None:
    with pytest.raises(DeclarationError, match=r"resources="):
        ps.Workflow("churn", data=ps.read("a.csv"), target="y", model=LogisticRegression(), resources=given)
