"""The engine's laws over random flows: all reuse the second time, exactly the descendants of a change, purity."""

import copy
import json
import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.digest import digest_bytes
from penstock.core.facts import Facts
from penstock.core.flow import Graph
from penstock.core.run import Decided
from penstock.engine import planner
from penstock.engine.gather import gather
from penstock.engine.planner import decide, plan, recipe_of
from penstock.engine.reasons import why_changed
from penstock.testing import MemoryLedger

# The fixture only hands out makers; nothing of it is kept between examples.
law = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@st.composite
def dags(draw):
    """For each step the numbers of the steps before it that it needs."""
    size = draw(st.integers(1, 8))
    return [draw(st.lists(st.integers(0, i - 1), unique=True, max_size=3)) if i else [] for i in range(size)]


def flow_of(flows, dag, values=(), edited=()):
    """A flow whose steps hash what they are given; `values`: step → another argument; `edited`: other code."""
    values = dict(values)
    codes = [f"s{i}{' edited' * (i in edited)}" for i in range(len(dag))]
    nodes = [
        flows.node(f"s{i}", *(f"s{j}" for j in needs), value=values.get(i, 0), code=codes[i])
        for i, needs in enumerate(dag)
    ]
    functions = {
        f"s{i}": (lambda *parts, v=(codes[i], values.get(i, 0)): digest_bytes(repr((v, parts)).encode()).encode())
        for i in range(len(dag))
    }
    return flows.graph(*nodes), functions


def descendants(dag, start):
    found = {start}
    for i, needs in enumerate(dag):
        if found & set(needs):
            found.add(i)
    return found


@law
@given(dags(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_planning_after_a_run_is_all_reuse_whatever_the_order_of_answers(flows, dag, jobs, order):
    world = flows.World()
    graph, functions = flow_of(flows, dag)
    assert {d.action for d in world.plan(graph).decisions} <= {"run", "wait"}
    first, pool = world.run(graph, functions, jobs=jobs, pick=lambda tasks: order.randrange(len(tasks)))
    assert sorted(pool.calls) == sorted(functions)
    assert set(first.states.values()) == {"done"}
    for _ in range(2):  # planning changes nothing
        assert {d.action for d in world.plan(graph).decisions} == {"reuse"}
        assert {str(d.reason) for d in world.plan(graph).decisions} == {"unchanged"}
    again, idle = world.run(graph, functions)
    assert (idle.calls, again.artifacts) == ([], first.artifacts)


def test_control_a_ledger_that_forgets_breaks_the_law_of_reuse(flows):
    class Forgetful(MemoryLedger):
        def results(self, recipes):
            return {}

    world = flows.World(ledger=Forgetful())
    graph, functions = flow_of(flows, [[]])
    world.run(graph, functions)
    assert {d.action for d in world.plan(graph).decisions} == {"run"}


@law
@given(dags(), st.data())
def test_forcing_a_step_runs_it_and_nothing_else(flows, dag, data):
    world = flows.World()
    graph, functions = flow_of(flows, dag)
    world.run(graph, functions)
    name = data.draw(st.sampled_from(sorted(functions)))
    assert world.run(graph, functions, forced=(name,))[1].calls == [name]


@law
@given(dags(), st.data())
def test_one_changed_input_or_code_runs_exactly_its_descendants(flows, dag, data):
    world = flows.World()
    changed = data.draw(st.integers(0, len(dag) - 1))
    world.run(*flow_of(flows, dag))
    what = data.draw(st.sampled_from(["parameter", "code"]))
    graph, functions = flow_of(flows, dag, {changed: 1}) if what == "parameter" else flow_of(flows, dag, (), [changed])
    [reason] = [d.reason for d in world.plan(graph).decisions if d.step == f"s{changed}"]
    assert reason.why == what
    foreseen = {d.step for d in world.plan(graph).decisions if d.action != "reuse"}
    outcome, pool = world.run(graph, functions, jobs=2)
    assert set(pool.calls) == foreseen == {f"s{i}" for i in descendants(dag, changed)}
    assert len(pool.calls) == len(foreseen)
    assert outcome.error is None


@law
@given(dags(), st.data())
def test_an_equal_output_runs_nothing_after_it(flows, dag, data):
    world = flows.World()
    changed = data.draw(st.integers(0, len(dag) - 1))
    graph, functions = flow_of(flows, dag)
    world.run(graph, functions)
    other, _ = flow_of(flows, dag, {changed: 1})
    _, pool = world.run(other, functions)
    assert pool.calls == [f"s{changed}"]


@law
@given(dags(), st.data())
def test_a_failed_run_goes_on_where_it_stopped(flows, dag, data):
    world = flows.World()
    bad = data.draw(st.integers(0, len(dag) - 1))
    graph, functions = flow_of(flows, dag)

    def fail(*_):
        raise ValueError("no")

    first, pool = world.run(graph, functions | {f"s{bad}": fail}, jobs=2)
    assert first.error is not None
    second, rest = world.run(graph, functions, jobs=2)
    assert second.error is None
    assert set(rest.calls) == {f"s{i}" for i in range(len(dag))} - (set(pool.calls) - {f"s{bad}"})


@law
@given(dags(), st.data())
def test_a_corrupt_object_is_never_used_and_costs_one_maker(flows, dag, data):
    world = flows.World()
    graph, functions = flow_of(flows, dag)
    first, _ = world.run(graph, functions)
    hurt = f"s{data.draw(st.integers(0, len(dag) - 1))}"
    world.damage(first.artifacts[hurt, ""].digest)
    changed, more = flow_of(flows, dag, {i: 1 for i, needs in enumerate(dag) if int(hurt[1:]) in needs})
    outcome, pool = world.run(changed, more, jobs=data.draw(st.integers(1, 3)))
    assert outcome.error is None
    assert set(outcome.states) == {node.id for node in graph.nodes}
    assert len(pool.calls) == len(set(pool.calls))
    fresh, _ = flows.World().run(changed, more)
    assert outcome.artifacts == fresh.artifacts


@law
@given(dags(), st.data())
def test_recipes_do_not_depend_on_order_names_or_place(flows, dag, data):
    """Dict order in the tree, ids of steps, the flow's name, the working directory: none is in a recipe."""
    graph, functions = flow_of(flows, dag)
    world = flows.World()
    world.run(graph, functions)
    names = {node.id: f"other_{node.id}" for node in graph.nodes}

    def renamed(tree):
        if type(tree) is list and tree and tree[0] == "ref":
            return ["ref", names[tree[1]], tree[2]]
        if type(tree) is list:
            return [renamed(part) for part in tree]
        return dict(reversed(tree.items())) if type(tree) is dict else tree

    nodes = tuple(
        replace(
            node,
            id=names[node.id],
            tree=renamed(node.tree),
            needs=tuple((names[step], output) for step, output in node.needs),
            retries=5,
            timeout_s=9.0,
        )
        for node in graph.nodes
    )
    twin = Graph("another", nodes, graph.codes)
    before = os.getcwd()
    try:
        os.chdir("/")
        assert {d.action for d in world.plan(twin).decisions} == {"reuse"}
    finally:
        os.chdir(before)


@law
@given(dags())
def test_plan_is_pure_total_and_json(flows, dag):
    world = flows.World()
    graph, functions = flow_of(flows, dag)
    world.run(graph, functions)
    facts, _ = gather(graph, world.ledger, world.objects)
    before = copy.deepcopy(facts)
    first = plan(graph, facts)
    assert facts == before
    assert plan(graph, facts) == first
    assert [d.step for d in first.decisions] == [n.id for n in graph.nodes]
    assert json.loads(json.dumps(first.to_json()))["flow"] == "flow"
    assert plan(Graph.from_json(json.loads(json.dumps(graph.to_json()))), facts) == first


@law
@given(dags())
def test_control_a_recipe_without_its_inputs_breaks_the_law(flows, dag):
    """Sabotage: leave the inputs' digests out, and a changed step no longer runs its descendants."""
    dag = [*dag, [len(dag) - 1]]
    sound = planner.resolve
    try:
        planner.resolve = lambda tree, inputs: tree
        world = flows.World()
        world.run(*flow_of(flows, dag))
        _, pool = world.run(*flow_of(flows, dag, {len(dag) - 2: 1}))
    finally:
        planner.resolve = sound
    assert set(pool.calls) != {f"s{i}" for i in descendants(dag, len(dag) - 2)}


def test_a_step_behind_one_that_runs_waits_and_says_for_whom(flows):
    graph, _ = flow_of(flows, [[], [0], [1]])
    decisions = flows.World().plan(graph).decisions
    assert [d.action for d in decisions] == ["run", "wait", "wait"]
    assert str(decisions[2].reason) == "waits for s0"


def test_an_effect_is_never_reused_and_has_no_recipe(flows):
    node = flows.node("tell", kind="effect")
    assert recipe_of(node, {}, Facts()) is None
    assert decide(node, {}, Facts()).action == "run"


def test_a_source_that_could_not_be_read_is_not_cacheable(flows):
    node = flows.node("table", kind="source", path="a.csv")
    assert decide(node, {}, Facts()).reason.why == "uncacheable"
    assert decide(node, {}, Facts(sources={"table": "d" * 64})).reason.why == "new"


# ── reasons ─────────────────────────────────────────────────────────────────────────────────────────────────


def decided(node, tree=None, source=None, code=None):
    return Decided(node.id, "r", code or node.code, tree if tree is not None else node.tree, source)


CODES = {
    "old": {"prep:clean": "1", "library:pandas": "2.3.0", "python": "3.11.9"},
    "edited": {"prep:clean": "2", "library:pandas": "2.3.0", "python": "3.11.9"},
    "upgraded": {"prep:clean": "1", "library:pandas": "3.0.0", "python": "3.11.9"},
}


@pytest.mark.parametrize(
    ("now", "before", "sentence"),
    [
        ({"code": "edited"}, {"code": "old"}, "code changed: clean"),
        ({"code": "upgraded"}, {"code": "old"}, "library changed: pandas 2.3.0 → 3.0.0"),
        ({"code": "edited"}, {"code": "unknown"}, "code changed: "),
        ({"source": "b"}, {"source": "a"}, "input changed: customers.csv"),
        ({}, None, "first time"),
    ],
)
def test_reasons_are_sentences(flows, now, before, sentence):
    node = flows.node("clean", path="data/customers.csv")
    reason = why_changed(node, decided(node, **now), None if before is None else decided(node, **before), CODES)
    assert str(reason).startswith(sentence)


def test_a_changed_parameter_is_named_with_both_values(flows):
    old, new = flows.node("a", value=["float", "1.0"]), flows.node("a", value=["float", "0.5"])
    reason = why_changed(new, decided(new), decided(old), CODES)
    assert (reason.why, "0.5" in reason.what, "1.0" in reason.what) == ("parameter", True, True)


def test_hit_from_another_kind_of_processor_says_so(flows):
    world = flows.World()
    graph, functions = flow_of(flows, [[], [0]])
    world.run(graph, functions)
    facts, _ = gather(graph, world.ledger, world.objects)
    plain = plan(graph, facts)
    facts.cpu = "x86-64-v4"
    assert plan(graph, facts) == plain  # on record is nothing of the other
    facts.results = {key: replace(one, made={**one.made, "cpu": "x86-64-v3"}) for key, one in facts.results.items()}
    told = {d.step: str(d.reason) for d in plan(graph, facts).decisions}
    assert set(told.values()) == {"unchanged, made on x86-64-v3, this is x86-64-v4"}
    assert {d.action for d in plan(graph, facts).decisions} == {"reuse"}
    facts.cpu = "x86-64-v3"
    assert {str(d.reason) for d in plan(graph, facts).decisions} == {"unchanged"}
