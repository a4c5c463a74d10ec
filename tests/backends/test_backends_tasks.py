"""Compiling: every step in exactly one task, order kept, no two tasks wait for each other, limits and requests told."""

from __future__ import annotations

import keyword
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import penstock as ps
from penstock.backends.tasks import JUDGE, TAKEN, TRAIN, Task, compile_flow
from penstock.core.flow import Graph, Node
from penstock.engine.closure import Closure
from penstock.engine.describe import describe
from penstock.errors import UsageError
from penstock.lifecycle.lower import lower
from penstock.lifecycle.stage_ids import FINAL, STAGES

PARTS = ("mine", "validate", "split", *TRAIN, *JUDGE)
PREPARES = {"validate", "split"}


def node(step: str, *needs: str, part: str = "", **fields: object) -> Node:
    return Node(step, f"m:{step}", None, "", needs=tuple((need, "") for need in needs), part=part or step, **fields)


def flow(*nodes: Node, workflow: bool = False) -> Graph:
    return Graph("churn", nodes, about={"workflow": "churn"} if workflow else {})


def by_id(tasks: tuple[Task, ...]) -> dict[str, Task]:
    return {task.id: task for task in tasks}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any DAG, its steps of any stage, some of them queries of one database, some with labels."""
    count = draw(st.integers(1, 14))
    nodes = []
    for at in range(count):
        needs = draw(st.sets(st.integers(0, at - 1), max_size=3)) if at else set()
        label = draw(st.sampled_from([{}, {}, {"labels": {"queue": "a"}}, {"labels": {"queue": "b"}}]))
        query = {"database": "d", "refresh": "run"} if not needs and draw(st.booleans()) else {}
        part = draw(st.sampled_from(PARTS))
        kind = "effect" if part in ("gate", "champion", "deploy") else "step"
        needed = [f"s{need}" for need in sorted(needs)]
        nodes.append(node(f"s{at}", *needed, part=part, kind=kind, resources=label, **query))
    return flow(*nodes, workflow=draw(st.booleans()))


@settings(max_examples=150, deadline=None)
@given(graphs(), st.sampled_from(["step", "part", "workflow"]))
def test_any_flow_compiles_to_tasks_that_can_run_one_after_the_other(graph: Graph, group: str) -> None:
    tasks = compile_flow(graph, group)
    of = {step: task for task in tasks for step in task.steps}
    assert sorted(step for task in tasks for step in task.steps) == sorted(n.id for n in graph.nodes)
    assert len({task.id for task in tasks}) == len(tasks)
    started: list[str] = []
    for task in tasks:
        assert {step for call in task.calls for step in call} == set(task.steps)
        assert set(task.needs) <= {t.id for t in tasks[: tasks.index(task)]}  # after what it needs: no ring
        for call in task.calls:
            for step in call:
                assert {need for need, _ in graph.node(step).needs} <= set(started)
            started += call
    for one in graph.nodes:
        wanted = {of[need].id for need, _ in one.needs} - {of[one.id].id}
        assert wanted <= set(of[one.id].needs)
    for task in tasks:
        taken = {of[need].id for step in task.steps for need, _ in graph.node(step).needs}
        assert set(task.needs) == taken - {task.id}


@settings(max_examples=100, deadline=None)
@given(graphs(), st.sampled_from(["step", "part"]))
def test_queries_of_one_database_are_one_call_and_labels_do_not_mix(graph: Graph, group: str) -> None:
    queries = [one.id for one in graph.nodes if one.database]
    tasks = compile_flow(graph, group)
    if len(queries) > 1:
        assert [call for task in tasks for call in task.calls if set(call) & set(queries)] == [tuple(queries)]
    for task in tasks:
        kinds = {
            graph.node(step).resources.get("labels", {}).get("queue") for step in task.steps if step not in queries
        }
        assert len(kinds - {None}) <= 1


@settings(max_examples=100, deadline=None)
@given(graphs(), st.sampled_from(["step", "part"]))
def test_a_task_may_skip_where_something_before_it_ends_the_matter(graph: Graph, group: str) -> None:
    tasks = compile_flow(graph, group)
    named = by_id(tasks)

    def after(task: Task) -> bool:
        return any(
            after(named[need]) or any(graph.node(step).part in ("gate", "champion") for step in named[need].steps)
            for need in task.needs
        )

    for task in tasks:
        assert task.may_skip == after(task)
        assert task.refuses == any(graph.node(step).part == "gate" for step in task.steps)


def test_a_workflow_has_three_tasks() -> None:
    nodes = [node("read", part="ingest"), node("clean", "read")]
    nodes += [node(b, a) for a, b in zip(("clean", *STAGES), STAGES, strict=False)]
    tasks = compile_flow(flow(*nodes, workflow=True))
    assert [(task.id, task.needs) for task in tasks] == [
        ("prepare", ()),
        ("train", ("prepare",)),
        ("judge", ("train",)),
    ]
    assert tasks[0].steps == ("read", "clean", "validate", "split")
    assert tasks[1].steps == ("train", "evaluate", "decide", "refit", "scramble", "audit")
    assert tasks[2].calls == tuple((step,) for step in JUDGE[:6])


def test_every_stage_has_its_part() -> None:
    assert {*TRAIN, *JUDGE} == {*STAGES, *FINAL} - PREPARES


def test_a_part_that_another_interrupts_becomes_two() -> None:
    tasks = compile_flow(flow(node("split"), node("train", "split"), node("late", "train"), workflow=True))
    assert [(task.id, task.steps, task.needs) for task in tasks] == [
        ("prepare", ("split",), ()),
        ("train", ("train",), ("prepare",)),
        ("prepare_2", ("late",), ("train",)),
    ]


def test_without_a_workflow_a_part_is_a_step() -> None:
    graph = flow(node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c"))
    assert compile_flow(graph) == compile_flow(graph, "step")
    assert [task.needs for task in compile_flow(graph)] == [(), ("a",), ("a",), ("b", "c")]


def test_limits_are_summed_and_requests_the_largest() -> None:
    (task,) = compile_flow(
        flow(
            node("a", timeout_s=10.0, retries=2, backoff_s=5.0, resources={"cpu": 2, "memory": 100}),
            node("b", "a", timeout_s=20.0, memory=300, resources={"gpu": 1, "labels": {"queue": "big"}}),
        ),
        "workflow",
    )
    assert (task.id, task.timeout_s, task.retries, task.backoff_s, task.memory) == ("churn", 30.0, 2, 5.0, 300)
    assert task.resources == {"cpu": 2, "memory": 100, "gpu": 1, "labels": {"queue": "big"}}


def test_one_step_without_a_limit_leaves_the_task_without() -> None:
    (task,) = compile_flow(flow(node("a", timeout_s=10.0, memory=5), node("b")), "workflow")
    assert (task.timeout_s, task.memory) == (None, None)


def test_limits_of_an_item_are_not_those_of_the_task_that_does_all_items() -> None:
    (task,) = compile_flow(flow(node("a", timeout_s=10.0, memory=5, retries=2, mapped=True)))
    assert (task.timeout_s, task.memory, task.retries) == (None, None, 2)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=70), min_size=1, max_size=6, unique=True))
def test_ids_are_identifiers_everywhere(names: list[str]) -> None:
    ids = [task.id for task in compile_flow(flow(*map(node, names)), "step")]
    assert len(set(ids)) == len(names)
    for one in ids:
        assert re.fullmatch(r"[a-z][a-z0-9_]{0,62}", one)
        assert one not in TAKEN
        assert not keyword.iskeyword(one)


def test_names_that_differ_in_case_alone_stay_apart() -> None:
    ids = [task.id for task in compile_flow(flow(node("a.b"), node("A.b"), node("import"), node("9x")), "step")]
    assert ids == ["a_b", "a_b_2", "step_import", "step_9x"]


def test_another_grouping_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match='did you mean "part"'):
        compile_flow(flow(node("a")), "parts")


def test_ten_thousand_steps_compile_quickly() -> None:
    chain = [node("s0"), *(node(f"s{at}", f"s{at - 1}") for at in range(1, 10_000))]
    tasks = compile_flow(flow(*chain), "step")
    assert len(tasks) == 10_000
    assert tasks[-1].needs == ("s9998",)


@ps.step
def clean(table):
    return table


def test_the_tasks_of_a_declared_workflow(tmp_path) -> None:
    declared = ps.Workflow("churn", clean(ps.read("customers.csv")), "y", LogisticRegression(), key="id")
    outputs, about = lower(declared, str(tmp_path / "churn.py"))
    graph = describe("churn", outputs, Closure(str(tmp_path)), about=about).graph
    parts = compile_flow(graph)
    assert [(task.id, task.part, task.needs) for task in parts] == [
        ("prepare", "prepare", ()),
        ("train", "train", ("prepare",)),
        ("judge", "judge", ("prepare", "train")),
    ]
    assert [(task.refuses, task.may_skip) for task in parts] == [(False, False), (False, False), (True, False)]
    steps = {task.id: task for task in compile_flow(graph, "step")}
    assert [one for one, task in steps.items() if task.may_skip] == ["compare", "gate", "deploy"]


@ps.step
def doubled(n: int, more: object = None) -> int:
    return 2 * n


@ps.step
def numbers() -> list:
    return [1, 2]


def wide(items: object, more: object = None) -> Graph:
    return describe("wide", [doubled.map(items, more)], Closure(os.path.dirname(__file__))).graph


@pytest.mark.parametrize(
    ("count", "most", "parts"), [(0, 8, 0), (1, 8, 0), (2, 8, 2), (8, 8, 8), (900, 8, 8), (3, 1, 0)]
)
def test_a_mapped_step_is_divided_as_its_declared_items_allow(count: int, most: int, parts: int) -> None:
    for items in (list(range(count)), tuple(range(count))):
        assert [task.parts for task in compile_flow(wide(items), "step", most)] == [parts]


def test_what_is_known_only_at_run_time_or_keeps_nothing_or_shares_its_task_is_not_divided() -> None:
    assert [task.parts for task in compile_flow(wide(numbers.ref()), "step")] == [0, 0]
    assert [task.parts for task in compile_flow(wide([1, 2], object()))] == [0]
    chain = Graph("wide", (*wide([1, 2]).nodes, node("after", "doubled")))
    assert [task.parts for task in compile_flow(chain)] == [2, 0]
    assert [task.parts for task in compile_flow(chain, "workflow")] == [0]
