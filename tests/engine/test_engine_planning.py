"""Laws of planning and deciding, over random flows, with a ledger in memory and workers that only compute digests."""

import json
import random
import time
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.artifact import Artifact
from penstock.core.digest import canonical, digest_bytes, digest_code
from penstock.core.flow import Graph, Node
from penstock.core.ports import Config, Home
from penstock.core.run import Run
from penstock.engine.gather import gather
from penstock.engine.local import Execution
from penstock.engine.planner import plan
from penstock.engine.pool import Answer, Worker
from penstock.formats.registry import FormatRegistry
from penstock.testing import MemoryLedger, MemoryObjects


def home():
    config = Config(root="/nowhere", store="/nowhere/.penstock", ledger="/nowhere/.penstock/ledger.db")
    return Home(config, MemoryObjects(), MemoryLedger(), FormatRegistry())


def node(name, needs=(), code="x", arguments=None, kind="step"):
    tree = ["list", [["list", [["ref", need, ""] for need in needs]], ["dict", arguments or []]]]
    parts = {f"steps:{name}": code, "python": "3"}
    return Node(
        id=name,
        entry=f"steps:{name}",
        tree=tree,
        code=digest_code(parts),
        needs=tuple((n, "") for n in needs),
        kind=kind,
    ), parts


def graph(specs):
    """A flow from {name: (needs, code, arguments)}."""
    made = [node(name, *spec) for name, spec in specs.items()]
    return Graph("flow", tuple(n for n, _ in made), {n.code: parts for n, parts in made})


class Pool:
    """Workers that give, for a step, a digest of its code and inputs; steps in `constant` always give the same."""

    logs = "/nowhere"

    def __init__(self, constant=(), order=None):
        self.tasks = deque()
        self.ran = []
        self.constant = constant
        self.order = order or random.Random(0)

    @property
    def running(self):
        return len(self.tasks)

    def room(self):
        return 3

    def give(self, tasks):
        self.tasks.extend(tasks)

    def poll(self, _timeout):
        index = self.order.randrange(len(self.tasks))
        self.tasks.rotate(-index)
        step, message = self.tasks.popleft()
        self.ran.append(step.id)
        inputs = [data["digest"] for _, _, data in message["inputs"]]
        text = canonical(["always"] if step.id in self.constant else [step.code, step.tree[1][1], inputs])
        output = Artifact(digest_bytes(text.encode()), "json", len(text), text)
        data = {"outputs": [output.to_json()], "wall_s": 0.0, "cpu_s": 0.0, "peak_bytes": 0, "notes": {}, "began": 1.0}
        return [Answer(step, data, Worker(None, 0, ""))]

    def close(self):
        pass


def run(flow, at, pool=None, forced=()):
    pool = pool or Pool()
    facts, seen = gather(flow, at.ledger, at.objects, forced)
    record = Run(f"{random.getrandbits(64):016x}", flow.name, "run", "running", time.time())
    return Execution(flow, facts, at, record, lambda: pool, seen=seen).execute(), pool


def planned(flow, at, forced=()):
    return plan(flow, gather(flow, at.ledger, at.objects, forced)[0])


@st.composite
def flows(draw):
    """A random DAG of up to 9 steps; each has code of its own, so no two recipes are equal by chance."""
    specs = {}
    for i in range(draw(st.integers(1, 9))):
        needs = draw(st.lists(st.sampled_from(sorted(specs)), unique=True, max_size=3)) if specs else []
        specs[f"s{i}"] = (tuple(needs), f"code {i}", [])
    return specs


def below(specs, name):
    """A step and everything that needs it."""
    found = {name}
    for step, (needs, _, _) in specs.items():
        if found & set(needs):
            found.add(step)
    return found


@given(flows(), st.randoms(use_true_random=False))
def test_planning_after_a_run_is_all_reuse_whatever_the_order_of_answers(specs, order):
    at, flow = home(), graph(specs)
    assert {d.action for d in planned(flow, at).decisions} <= {"run", "wait"}
    outcome, pool = run(flow, at, Pool(order=order))
    assert sorted(pool.ran) == sorted(specs)
    assert set(outcome.states.values()) == {"done"}
    assert {d.action for d in planned(flow, at).decisions} == {"reuse"}
    assert {d.action for d in planned(flow, at).decisions} == {"reuse"}  # planning changes nothing
    again, idle = run(flow, at)
    assert idle.ran == []
    assert again.artifacts == outcome.artifacts


@given(flows(), st.data())
def test_one_changed_step_runs_exactly_what_is_below_it(specs, data):
    at = home()
    run(graph(specs), at)
    name = data.draw(st.sampled_from(sorted(specs)))
    needs, code, _ = specs[name]
    changed = graph(specs | {name: (needs, code + " edited", [])})
    told = {d.step: d for d in planned(changed, at).decisions}
    assert {step for step, d in told.items() if d.action != "reuse"} == below(specs, name)
    assert str(told[name].reason) == f"code changed: {name} in steps.py"
    assert set(run(changed, at)[1].ran) == below(specs, name)


@given(flows(), st.data())
def test_an_output_that_stays_equal_cuts_everything_after_it_off(specs, data):
    at = home()
    name = data.draw(st.sampled_from(sorted(specs)))
    run(graph(specs), at, Pool(constant={name}))
    needs, code, _ = specs[name]
    edited = graph(specs | {name: (needs, code + " edited", [])})
    assert run(edited, at, Pool(constant={name}))[1].ran == [name]


@given(flows(), st.data())
def test_forcing_a_step_runs_it_and_nothing_else(specs, data):
    at, flow = home(), graph(specs)
    run(flow, at)
    name = data.draw(st.sampled_from(sorted(specs)))
    assert run(flow, at, forced=(name,))[1].ran == [name]


@given(flows())
def test_a_recipe_does_not_depend_on_ids_order_or_the_flows_name(specs):
    at = home()
    run(graph(specs), at)
    renamed = {
        f"other_{name}": (tuple(f"other_{n}" for n in needs), code, a) for name, (needs, code, a) in specs.items()
    }
    made = [node(name, *spec) for name, spec in renamed.items()]
    same_code = [
        Node(
            id=n.id, entry=n.entry, tree=n.tree, code=graph(specs).node(n.id.removeprefix("other_")).code, needs=n.needs
        )
        for n, _ in made
    ]
    flow = Graph("another", tuple(same_code), {})
    assert {d.action for d in planned(flow, at).decisions} == {"reuse"}


def test_equal_recipes_in_flight_run_once():
    at = home()
    first, parts = node("a")
    twin = Node(id="b", entry=first.entry, tree=first.tree, code=first.code)
    outcome, pool = run(Graph("flow", (first, twin), {first.code: parts}), at)
    assert len(pool.ran) == 1
    assert sorted(outcome.states.values()) == ["done", "reused"]


def test_what_cannot_be_cached_runs_each_time_and_says_why():
    at = home()
    plain, parts = node("a")
    flow = Graph(
        "flow", (Node(id="a", entry=plain.entry, tree=plain.tree, code=plain.code, uncacheable="an odd thing"),), {}
    )
    assert run(flow, at)[1].ran == ["a"]
    assert run(flow, at)[1].ran == ["a"]
    assert str(planned(flow, at).decisions[0].reason) == "not cacheable: an odd thing"
    assert parts


def test_a_changed_parameter_is_told_by_name_and_values():
    at = home()
    run(graph({"a": ((), "c", [["since", "2026-01-01"]])}), at)
    [decision] = planned(graph({"a": ((), "c", [["since", "2026-02-01"]])}), at).decisions
    assert "2026-01-01" in str(decision.reason)
    assert "2026-02-01" in str(decision.reason)


def test_an_effect_waits_in_a_plan_and_never_is_reused():
    at = home()
    made = [node("a"), node("act", ("a",), kind="effect")]
    flow = Graph("flow", tuple(n for n, _ in made), {n.code: p for n, p in made})
    assert [d.action for d in planned(flow, at).decisions] == ["run", "wait"]


def test_a_run_that_reuses_all_writes_one_row_with_counts():
    at, flow = home(), graph({"a": ((), "c", []), "b": (("a",), "d", [])})
    run(flow, at)
    outcome, _ = run(flow, at)
    assert at.ledger.step_runs(outcome.run.id) == []
    assert dict(outcome.run.counts) == {"run": 0, "reuse": 2, "skip": 0, "failed": 0}


@given(flows())
def test_a_plan_is_plain_data(specs):
    at = home()
    assert json.loads(json.dumps(planned(graph(specs), at).to_json()))["flow"] == "flow"


def test_sabotage_a_ledger_that_forgets_breaks_the_law_of_reuse():
    class Forgetful(MemoryLedger):
        def results(self, recipes):
            return {}

    at = home()
    at = Home(at.config, at.objects, Forgetful(), at.formats)
    flow = graph({"a": ((), "c", [])})
    run(flow, at)
    assert {d.action for d in planned(flow, at).decisions} == {"run"}
