"""Running a flow: twins, cut-off, retries, healing, effects and what is on record, over a fake pool."""

import itertools

import pytest

from penstock.core.artifact import Artifact
from penstock.engine import local
from penstock.engine.local import Effect
from penstock.errors import ConflictError, CorruptObjectError, InternalError, StepError


def states(outcome):
    return dict(outcome.states)


def joined(*parts):
    return b"+".join(parts)


@pytest.fixture
def diamond(flows):
    """make → left, right → join"""
    n = flows.node
    nodes = (n("make"), n("left", "make"), n("right", "make"), n("join", "left", "right"))
    functions = {
        "make": lambda: b"0",
        "left": lambda x: b"l" + x,
        "right": lambda x: b"r" + x,
        "join": joined,
    }
    return flows.graph(*nodes), functions


def test_a_run_does_everything_once_and_the_next_nothing(world, diamond):
    first, pool = world.run(*diamond, jobs=2)
    assert set(states(first).values()) == {"done"}
    assert sorted(pool.calls) == ["join", "left", "make", "right"]
    assert world.objects.read(first.artifacts["join", ""].digest) == b"l0+r0"
    again, pool = world.run(*diamond)
    assert set(states(again).values()) == {"reused"}
    assert pool.calls == []
    assert again.artifacts == first.artifacts


def test_independent_steps_are_given_out_together(world, diamond):
    _, pool = world.run(*diamond, jobs=2)
    assert pool.most == 2


def test_an_equal_recipe_in_flight_is_waited_for(world, flows):
    n = flows.node
    graph = flows.graph(n("a", code="same"), n("b", code="same"), n("c", "a", "b"))
    functions = dict.fromkeys("ab", lambda: b"0") | {"c": joined}
    outcome, pool = world.run(graph, functions, jobs=3)
    assert pool.calls == ["a", "c"]
    assert states(outcome) == {"a": "done", "b": "reused", "c": "done"}
    assert world.objects.read(outcome.artifacts["c", ""].digest) == b"0+0"


def test_equal_output_cuts_off_what_comes_after(world, flows):
    n = flows.node

    def chain(value):
        return flows.graph(n("a", value=value), n("b", "a"), n("c", "b"))

    functions = {"a": lambda: b"same", "b": lambda x: x, "c": lambda x: x}
    world.run(chain(1), functions)
    outcome, pool = world.run(chain(2), functions)
    assert pool.calls == ["a"]
    assert states(outcome) == {"a": "done", "b": "reused", "c": "reused"}


def test_control_without_cut_off_the_law_turns_red(world, flows, monkeypatch):
    """Recipes that name the maker instead of what it made run everything after a changed step."""
    from penstock.engine import planner

    def by_maker(tree, inputs):
        return ["by maker", tree, sorted(known["recipe"].items())]

    known = {"recipe": {}}
    n = flows.node
    functions = {"a": lambda: b"same", "b": lambda x: x}
    monkeypatch.setattr(planner, "resolve", by_maker)
    known["recipe"] = {"a": "1"}
    world.run(flows.graph(n("a", value=1), n("b", "a")), functions)
    known["recipe"] = {"a": "2"}
    _, pool = world.run(flows.graph(n("a", value=2), n("b", "a")), functions)
    assert pool.calls == ["a", "b"]


def test_force_runs_a_step_whatever_is_known(world, diamond):
    world.run(*diamond)
    outcome, pool = world.run(*diamond, forced=["left"])
    assert pool.calls == ["left"]
    assert outcome.decisions["left"].reason.why == "forced"
    assert states(outcome)["join"] == "reused"


def test_results_are_shared_between_flows(world, flows, diamond):
    graph, functions = diamond
    world.run(graph, functions)
    other = flows.graph(*graph.nodes, name="other")
    outcome, pool = world.run(other, functions)
    assert pool.calls == []
    assert set(states(outcome).values()) == {"reused"}


def test_what_cannot_be_cached_runs_each_time_and_the_rest_is_cut_off(world, flows):
    graph = flows.graph(flows.node("a", uncacheable="it says so"), flows.node("b", "a"))
    functions = {"a": lambda: b"0", "b": lambda x: x}
    world.run(graph, functions)
    outcome, pool = world.run(graph, functions)
    assert pool.calls == ["a"]
    assert str(outcome.decisions["a"].reason) == "not cacheable: it says so"
    assert states(outcome)["b"] == "reused"


# ── failing ─────────────────────────────────────────────────────────────────────────────────────────────────


def fails(times):
    count = itertools.count(1)

    def function(*inputs):
        if next(count) <= times:
            raise ValueError("no luck")
        return joined(b"x", *inputs)

    return function


def test_a_failed_step_keeps_what_had_finished(world, diamond):
    graph, functions = diamond
    outcome, _ = world.run(graph, functions | {"right": fails(9)})
    assert isinstance(outcome.error, StepError)
    assert (outcome.error.step, outcome.error.exit_code) == ("right", 5)
    assert states(outcome) == {"make": "done", "left": "done", "right": "failed"}
    assert outcome.run.state == "failed"
    again, pool = world.run(graph, functions)
    assert sorted(pool.calls) == ["join", "right"]
    assert again.error is None


def test_retries_with_back_off(world, flows):
    told = []
    graph = flows.graph(flows.node("a", retries=3, backoff_s=0.01))
    outcome, pool = world.run(graph, {"a": fails(2)}, listen=told.append)
    assert outcome.error is None
    assert pool.calls == ["a"] * 3
    assert [e.facts["wait_s"] for e in told if e.kind == "retry"] == [0.01, 0.02]
    rows = world.ledger.step_runs(outcome.run.id)
    assert [(row.attempt, row.state) for row in rows] == [(1, "failed"), (2, "failed"), (3, "done")]


def test_retries_end(world, flows):
    graph = flows.graph(flows.node("a", retries=2, backoff_s=0.0))
    outcome, pool = world.run(graph, {"a": fails(99)})
    assert pool.calls == ["a"] * 3
    assert outcome.error is not None


def test_twins_of_a_step_that_is_tried_again_wait_with_it(world, flows):
    graph = flows.graph(flows.node("a", code="s", retries=1, backoff_s=0.0), flows.node("b", code="s"))
    outcome, pool = world.run(graph, {"a": fails(1)}, jobs=2)
    assert pool.calls == ["a", "a"]
    assert states(outcome) == {"a": "done", "b": "reused"}


# ── healing ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize("last_first", [False, True])
def test_a_corrupt_object_is_made_again_for_all_its_readers(flows, diamond, jobs, last_first):
    """Several readers meet it at once, or one finds it while others wait: each runs once, all end well."""
    world = flows.World()
    graph, functions = diamond
    first, _ = world.run(graph, functions)
    world.damage(first.artifacts["make", ""].digest)
    changed = flows.graph(
        graph.nodes[0],
        *(flows.node(s, "make", value="new") for s in ("left", "right")),
        flows.node("twin", "make", value="new", code="left"),
        flows.node("join", "left", "right", "twin", value="new"),
    )
    pick = (lambda tasks: len(tasks) - 1) if last_first else (lambda tasks: 0)
    outcome, pool = world.run(changed, functions | {"twin": functions["left"]}, jobs=jobs, pick=pick)
    assert outcome.error is None
    assert set(states(outcome)) == {"make", "left", "right", "twin", "join"}
    assert sorted(pool.calls) == ["join", "left", "make", "right"]
    assert world.objects.read(outcome.artifacts["join", ""].digest) == b"l0+r0+l0"
    assert outcome.artifacts["make", ""] == first.artifacts["make", ""]
    assert outcome.decisions["make"].reason.why == "corrupt"
    assert len(world.objects.quarantined) == 1


def test_healing_goes_up_to_the_source_of_it(world, flows):
    """The maker's own input may be corrupt too."""
    n = flows.node
    functions = {"a": lambda: b"a", "b": lambda x: b"b" + x, "c": lambda x: b"c" + x, "d": lambda x: x}
    first, _ = world.run(flows.graph(n("a"), n("b", "a"), n("c", "b")), functions)
    for step in "ab":
        world.damage(first.artifacts[step, ""].digest)
    outcome, pool = world.run(flows.graph(n("a"), n("b", "a"), n("c", "b", value=2)), functions)
    assert outcome.error is None
    assert pool.calls == ["a", "b", "c"]
    assert outcome.artifacts["c", ""] == first.artifacts["c", ""]


def test_a_missing_object_is_made_again(world, diamond):
    graph, functions = diamond
    first, _ = world.run(graph, functions)
    world.objects.delete(first.artifacts["make", ""].digest)
    outcome, pool = world.run(graph, functions)
    assert pool.calls == ["make"]
    assert str(outcome.decisions["make"].reason) == f"artifact missing: {first.artifacts['make', ''].digest[:12]}"
    assert states(outcome)["join"] == "reused"


def test_an_object_that_is_corrupt_each_time_ends_the_run(world, flows):
    n = flows.node

    def bad():
        world.objects.published.pop(digest, None)
        return b"0"

    graph = flows.graph(n("a"), n("b", "a"))
    digest, _ = world.objects.stage(b"0")

    def damage_after(event):
        if event.kind == "done" and event.step == "a":
            for place in (world.objects.staged, world.objects.published):
                if digest in place:
                    place[digest] = b"1"

    outcome, pool = world.run(graph, {"a": bad, "b": lambda x: x}, listen=damage_after)
    assert isinstance(outcome.error, CorruptObjectError)
    assert pool.calls.count("a") == local.MOST_HEALS + 1


def test_an_effect_that_meets_a_corrupt_object_waits_for_its_maker(world, flows):
    graph = flows.graph(flows.node("a"), flows.node("tell", "a", kind="effect"))
    told = []

    def tell(_node, inputs, execution):
        told.append(execution.home.objects.read(inputs["a", ""].digest))
        return Effect((Artifact("e" * 64, "json", 4, "null"),))

    functions = {"a": lambda: b"0"}
    first, _ = world.run(graph, functions, effects={"m:tell": tell})
    world.damage(first.artifacts["a", ""].digest)
    outcome, pool = world.run(graph, functions, effects={"m:tell": tell})
    assert outcome.error is None
    assert pool.calls == ["a"]
    assert told == [b"0", b"0"]


def test_control_without_healing_the_run_fails(world, diamond, flows, monkeypatch):
    graph, functions = diamond
    first, _ = world.run(graph, functions)
    world.damage(first.artifacts["make", ""].digest)
    monkeypatch.setattr(local.Execution, "_heal", lambda *_: False)
    changed = flows.graph(graph.nodes[0], flows.node("left", "make", value=2))
    outcome, _ = world.run(changed, functions)
    assert isinstance(outcome.error, CorruptObjectError)


# ── effects ─────────────────────────────────────────────────────────────────────────────────────────────────


def null(*_):
    return Effect((Artifact("e" * 64, "json", 4, "null"),))


def test_an_effect_comes_after_what_it_needs_is_durable(world, flows):
    graph = flows.graph(flows.node("a"), flows.node("tell", "a", kind="effect"), flows.node("after", "tell"))
    seen = []

    def tell(_node, inputs, _execution):
        seen.append(inputs["a", ""].digest in world.objects.published)
        seen.append(len(world.ledger.recipes()))
        return null()

    world.objects.stage(b"null")
    functions = {"a": lambda: b"0", "after": lambda: b"1"}
    graph = flows.graph(flows.node("a"), flows.node("tell", "a", kind="effect"))
    world.run(graph, functions, effects={"m:tell": tell})
    assert seen == [True, 1]


def test_an_effect_may_skip_the_rest(world, flows):
    n = flows.node
    graph = flows.graph(n("a"), n("gate", "a", kind="effect"), n("b", "gate"), n("c", "b"), n("side", "a"))
    effects = {"m:gate": lambda *_: Effect(null().outputs, skip="it did not pass")}
    outcome, pool = world.run(graph, {"a": lambda: b"0", "side": lambda x: x}, effects=effects)
    assert states(outcome) == {"a": "done", "gate": "done", "b": "skipped", "c": "skipped", "side": "done"}
    assert str(outcome.decisions["c"].reason) == "it did not pass"
    assert outcome.run.counts == {"run": 3, "reuse": 0, "skip": 2, "failed": 0}
    assert "b" not in pool.calls


def test_an_error_of_an_effect_ends_the_run_on_record(world, flows):
    graph = flows.graph(flows.node("a"), flows.node("gate", "a", kind="effect"))

    def gate(*_):
        raise ConflictError("somebody was first")

    with pytest.raises(ConflictError):
        world.run(graph, {"a": lambda: b"0"}, effects={"m:gate": gate})
    [run] = world.ledger.runs()
    assert run.state == "failed"
    assert world.plan(graph).decisions[0].action == "reuse"


# ── on record ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_end_is_on_record(world, diamond):
    outcome, pool = world.run(*diamond)
    [run] = world.ledger.runs()
    assert (run.state, run.counts["run"], run.id) == ("done", 4, outcome.run.id)
    assert run.ended >= run.started
    assert pool.closed
    assert {row.step for row in world.ledger.step_runs(run.id)} == {"make", "left", "right", "join"}


def test_a_run_that_reuses_everything_has_no_rows_of_steps(world, diamond):
    world.run(*diamond)
    outcome, _ = world.run(*diamond)
    assert world.ledger.step_runs(outcome.run.id) == []
    assert dict(world.ledger.runs(limit=1)[0].counts) == {"run": 0, "reuse": 4, "skip": 0, "failed": 0}


def test_control_c_leaves_the_run_cancelled_and_what_finished_kept(world, diamond):
    from penstock.errors import CancelledError

    graph, functions = diamond

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(CancelledError) as caught:
        world.run(graph, functions, listen=lambda e: interrupted(e) if e.step == "right" else None)
    assert caught.value.exit_code == 130
    assert world.ledger.runs()[0].state == "cancelled"
    _, pool = world.run(graph, functions)
    assert "make" not in pool.calls


def test_a_fault_of_our_own_is_not_hidden(world, diamond):
    def broken(_):
        raise InternalError("a bug")

    with pytest.raises(InternalError):
        world.run(*diamond, listen=broken)
    assert world.ledger.runs()[0].state == "failed"
