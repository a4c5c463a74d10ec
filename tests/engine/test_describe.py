"""From live calls to pure data: what a node holds, what stays out, what is not cacheable and why."""

import json

import pytest

import penstock as ps
from penstock.core.flow import Graph
from penstock.engine.describe import describe
from penstock.errors import DeclarationError


class Part:
    parts = {"m:f": "1"}
    digest = "c" * 64
    uncacheable = ""


class Closure:
    """A closure that knows everything and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def of(self, entry, also=(), tables=()):
        self.asked.append((entry, tuple(also)))
        return Part()


@ps.step
def clean(table, floor=0, how=None):
    return table


@ps.step(outputs=("train", "test"), retries=2, timeout_s=5, memory="1MiB")
def halves(table):
    return table, table


def described(*refs, **fields):
    return describe("flow", refs, Closure(), **fields)


def test_nodes_stand_after_what_they_need_and_are_plain_json():
    train, _ = halves(clean(ps.read("a.csv"), floor=ps.Param("floor", 3)))
    live = described(train)
    graph = live.graph
    assert [node.id for node in graph.nodes] == ["a", "clean", "halves"]
    assert [node.kind for node in graph.nodes] == ["source", "step", "step"]
    assert graph.nodes[1].needs == (("a", "table"),)
    assert graph.params == {"floor": 3}
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
    options = graph.nodes[2]
    assert (options.outputs, options.retries, options.timeout_s, options.memory) == (("train", "test"), 2, 5, 1 << 20)


def test_a_parameters_value_is_in_the_tree_and_its_name_is_not():
    def tree(name, **given):
        return described(clean(ps.read("a.csv"), floor=ps.Param(name, 3)), **given).graph.nodes[1].tree

    assert tree("floor") == tree("level") == described(clean(ps.read("a.csv"), floor=3)).graph.nodes[1].tree
    assert tree("floor", given={"floor": "4"}) != tree("floor")


def test_the_path_of_a_source_stays_out_of_the_tree():
    trees = [described(ps.read(path)).graph.nodes[0].tree for path in ("a.csv", "/elsewhere/b.csv", "c.csv.gz")]
    assert trees[0] == trees[1] != trees[2]
    assert described(ps.read("a.csv")).graph.nodes[0].path.endswith("a.csv")


def test_until_leaves_out_what_is_not_needed():
    first = clean(ps.read("a.csv"), name="first")
    second = clean(first, name="second")
    assert [node.id for node in described(second, until="first").graph.nodes] == ["a", "first"]
    with pytest.raises(DeclarationError, match="there are a, first, second"):
        described(second, until="third")


def test_what_has_no_form_makes_the_step_not_cacheable_by_name():
    live = described(clean(ps.read("a.csv"), how={"with": object()}))
    node = live.graph.nodes[1]
    assert node.uncacheable == "parameter how.with of type builtins.object"
    assert node.needs == (("a", "table"),)
    assert live.graph.notes == ("clean is not cacheable: parameter how.with of type builtins.object",)


def test_live_objects_among_the_arguments_are_told_to_the_closure():
    from sklearn.linear_model import LogisticRegression

    closure = Closure()
    model = LogisticRegression()
    describe("flow", (clean(ps.read("a.csv"), how={"model": model, "by": sorted}, floor=1),), closure)
    [also] = [also for entry, also in closure.asked if entry.endswith(":clean")]
    assert any(part is model for part in also)
    assert sorted in also
    assert all(not isinstance(part, int | str) for part in also)


def test_a_workflow_lowers_to_the_stages_in_order():
    from sklearn.linear_model import LogisticRegression

    from penstock.lifecycle.lower import lower
    from penstock.lifecycle.stage_ids import STAGES

    workflow = ps.Workflow("churn", ps.read("a.csv"), "churned", LogisticRegression())
    outputs, about = lower(workflow, __file__)
    graph = describe("churn", outputs, Closure(), about=about).graph
    ids = [node.id for node in graph.nodes]
    assert set(STAGES) - {"decide", "refit", "scramble"} <= set(ids)  # two are asked for, and no step is before
    assert [step for step in ids if step in STAGES and graph.node(step).kind == "effect"] == [
        "register",
        "champion",
        "gate",
        "deploy",
    ]
    assert ids.index("split") < ids.index("train") < ids.index("register") < ids.index("compare") < ids.index("gate")
    assert not {need for need, _ in graph.node("train").needs} & {"compare", "audit"}
    test_side = {node.id for node in graph.nodes if ("split", "test") in node.needs}
    assert test_side == {"audit", "compare", "package"}  # the last keeps digests of the rows' names


def test_a_step_may_not_be_called_like_a_stage():
    from sklearn.linear_model import LogisticRegression

    from penstock.lifecycle.lower import lower

    workflow = ps.Workflow("churn", clean(ps.read("a.csv"), name="train"), "churned", LogisticRegression())
    with pytest.raises(DeclarationError, match="name='my_train'"):
        lower(workflow, __file__)
