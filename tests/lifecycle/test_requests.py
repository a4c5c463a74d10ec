"""Requests of a workflow: by step or stage on its flow, unknown names refused, its results left as they are."""

from __future__ import annotations

import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

import penstock as ps
from penstock.core.facts import Facts
from penstock.core.flow import Graph, Node
from penstock.core.ports import Config
from penstock.engine.closure import Closure
from penstock.engine.describe import describe
from penstock.errors import DeclarationError
from penstock.lifecycle.lower import lower
from penstock.lifecycle.requests import check_fits, told, with_requests

CONFIG = Config("/nonexistent", "", "", jobs=2)


@ps.step(resources=ps.Resources(cpu=2))
def clean(table):
    return table


def workflow(model=None, **fields):
    data = clean(ps.read("customers.csv"))
    return ps.Workflow("churn", data=data, target="y", key="id", model=model or LogisticRegression(), **fields)


def graph_of(tmp_path, declared) -> Graph:
    outputs, about = lower(declared, str(tmp_path / "churn.py"))
    return with_requests(describe("churn", outputs, Closure(str(tmp_path)), about=about).graph, declared)


def test_a_step_is_asked_for_by_name_before_its_stage_and_before_itself(tmp_path) -> None:
    models = {"a": LogisticRegression(), "b": DummyClassifier()}
    big, small, wide = ps.Resources(gpu=1), ps.Resources(memory="2GiB"), ps.Resources(cpu=4)
    asked = {"evaluate": small, "evaluate.b": big, "train": big, "ingest": small, "clean": wide}
    graph = graph_of(tmp_path, workflow(models, resources=asked))
    found = {node.id: dict(node.resources) for node in graph.nodes if node.resources}
    assert found == {
        "customers": {"memory": 2 << 30},
        "clean": {"cpu": 4},
        "evaluate": {"memory": 2 << 30},
        "evaluate.a": {"memory": 2 << 30},
        "evaluate.b": {"gpu": 1},
        "train": {"gpu": 1},
    }


def test_requests_change_no_recipe(tmp_path) -> None:
    plain, asking = (
        graph_of(tmp_path, workflow(resources=asked)) for asked in (None, {"train": ps.Resources(cpu=2, memory=9)})
    )
    assert asking.node("train").resources == {"cpu": 2, "memory": 9}
    assert plain.node("clean").resources == {"cpu": 2}
    for one, other in zip(plain.nodes, asking.nodes, strict=True):
        assert (one.tree, one.code) == (other.tree, other.code)


def test_unknown_names_are_refused_all_at_once_with_the_nearest(tmp_path) -> None:
    asked = dict.fromkeys(("trian", "cleam", "audit", "final"), ps.Resources(cpu=1))
    with pytest.raises(DeclarationError) as error:
        graph_of(tmp_path, workflow(resources=asked))
    first, second = error.value.faults
    assert first == "resources=: 'trian' is no stage or step of this workflow; did you mean \"train\"?"
    assert 'did you mean "clean"' in second


def test_a_plan_tells_of_labels_once_and_of_what_cannot_fit(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    nodes = [
        Node(f"s{at}", "m:s", ["list", []], "", uncacheable="x", resources={"labels": {"queue": "big"}})
        for at in range(5)
    ]
    graph = Graph("f", (*nodes, Node("fit", "m:f", ["list", []], "", uncacheable="x", resources={"gpu": 1})))
    assert told(graph, Facts(), CONFIG) == [
        "a run would be refused: fit asks for 1 GPU, and there is none",
        "labels are for backends, this machine has none: s0, s1, s2 and 2 more",
    ]
    with pytest.raises(DeclarationError, match="flow f: fit asks for 1 GPU, and there is none"):
        check_fits(graph, Facts(), CONFIG)


def test_an_effect_runs_in_the_coordinator_and_needs_not_fit(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    graph = Graph("f", (Node("gate", "m:g", ["list", []], "", kind="effect", resources={"gpu": 1}),))
    check_fits(graph, Facts(), CONFIG)
    assert told(graph, Facts(), CONFIG) == []
