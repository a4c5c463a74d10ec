"""Mapped steps: what runs again, what a failure leaves, what is healed; over a fake pool and with real processes."""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.digest import digest_code
from penstock.core.fan import FORMAT, mapped_by, spread, unpack
from penstock.core.flow import Node
from penstock.core.run import Group
from penstock.core.tree import encode, refs_in
from penstock.engine import mapped as running
from penstock.errors import StepError

CODE = digest_code({"m:score": "1"})


def score(items, *, step="score", code=CODE, shared=0, **fields):
    """The node of a mapped step over plain items, or over ["ref", …]."""
    tree = [
        "list",
        [
            ["list", [["map", items if type(items) is list and items[:1] == ["ref"] else encode(items)]]],
            ["dict", [["shared", shared]]],
        ],
    ]
    return Node(step, "m:score", tree, code, needs=tuple(refs_in(tree)), mapped=True, **fields)


class Work(dict):
    """Functions of a flow's steps; that of a mapped step's child knows its item."""

    def __init__(self, node, each, **others):
        super().__init__(others)
        self.items = {}
        if node.tree[1][0][1][0][1][0] == "list":
            for child in spread(node, {}).children:
                self.items[child.id] = child.tree[1][0][1][0]
        self.each, self.ran = each, []

    def __missing__(self, step):
        def function(*inputs):
            item = self.items.get(step, inputs[0] if inputs else None)
            self.ran.append(item)
            return self.each(item)

        assert mapped_by(step)
        return function


def text_of(item):
    return f"<{item}>".encode()


def do(world, flows, items, each=text_of, *more, **fields):
    """A run of a mapped step and what takes its list; gives (outcome, items that ran, what was joined)."""
    node = score(items, **fields)
    work = Work(node, each, join=lambda text: text)
    outcome, _ = world.run(flows.graph(node, flows.node("join", "score"), *more), work, jobs=3)
    joined = outcome.artifacts.get(("join", ""))
    return outcome, work.ran, world.objects.read(joined.digest) if joined is not None else None


# ── what runs again ─────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_each_distinct_item_runs_once_ever_and_results_stand_in_the_order_of_the_items(flows, data):
    """Order, repetition, items added and dropped change which results are listed, never what an item gives."""
    world, seen = flows.World(), set()
    for _ in range(3):
        items = data.draw(st.lists(st.integers(0, 9), max_size=8))
        outcome, ran, joined = do(world, flows, items)
        assert sorted(ran) == sorted(set(items) - seen)
        seen |= set(items)
        assert joined == b",".join(map(text_of, items))
        assert outcome.error is None
        fresh, _, _ = do(flows.World(), flows, items)
        assert outcome.artifacts["score", ""] == fresh.artifacts["score", ""]


def test_control_without_the_item_in_its_recipe_the_law_turns_red(flows, monkeypatch):
    """Children that are told apart by their place give a moved item the result of another."""
    honest = running.fan_of

    def by_place(*given):
        fan = honest(*given)
        nameless = [running.replace(child, tree=["list", [at]]) for at, child in enumerate(fan.children)]
        return running.replace(fan, children=tuple(nameless))

    world = flows.World()
    assert do(world, flows, [1, 2])[2] == b"<1>,<2>"
    world = flows.World()
    monkeypatch.setattr(running, "fan_of", by_place)
    monkeypatch.setattr("penstock.engine.gather.fan_of", by_place)
    do(world, flows, [1, 2])
    _, ran, joined = do(world, flows, [2, 1])
    assert (ran, joined) == ([], b"<1>,<2>")


def test_other_code_and_other_shared_arguments_run_every_item(world, flows):
    do(world, flows, [1, 2])
    assert sorted(do(world, flows, [1, 2], shared=1)[1]) == [1, 2]
    assert sorted(do(world, flows, [1, 2], code=digest_code({"m:score": "2"}))[1]) == [1, 2]
    assert do(world, flows, [2], shared=1)[1] == []


def test_a_plain_call_with_the_same_arguments_shares_the_result(world, flows):
    do(world, flows, [1, 2])
    tree = ["list", [["list", [2]], ["dict", [["shared", 0]]]]]
    outcome, pool = world.run(flows.graph(Node("one", "m:score", tree, CODE)), {})
    assert (outcome.states, pool.calls) == ({"one": "reused"}, [])


def test_a_step_that_waits_for_an_item_s_result_takes_it(world, flows):
    tree = ["list", [["list", [2]], ["dict", [["shared", 0]]]]]
    outcome, ran, joined = do(world, flows, [1, 2], text_of, Node("one", "m:score", tree, CODE))
    assert sorted(ran) == [1, 2]
    assert outcome.states == {"score": "done", "one": "reused", "join": "done"}
    assert joined == b"<1>,<2>"


def test_a_list_of_the_list_s_items_is_another_recipe_than_the_list(world, flows):
    """`score.map([1])` and `score([1])` must never share a result."""
    do(world, flows, [1])
    tree = ["list", [["list", [encode([1])]], ["dict", [["shared", 0]]]]]
    _, pool = world.run(flows.graph(Node("one", "m:score", tree, CODE)), {"one": lambda: b"whole"})
    assert pool.calls == ["one"]


def test_no_items_give_an_empty_list_without_a_worker(world, flows):
    outcome, ran, joined = do(world, flows, [])
    assert (ran, joined, outcome.states["score"]) == ([], b"", "done")


def test_force_runs_every_item(world, flows):
    do(world, flows, [1, 2])
    node = score([1, 2])
    work = Work(node, text_of)
    outcome, _ = world.run(flows.graph(node), work, forced=["score"])
    assert sorted(work.ran) == [1, 2]
    assert outcome.decisions["score"].items == (2, 2)


def test_what_cannot_be_cached_runs_each_time_but_equal_items_once(world, flows):
    for _ in range(2):
        outcome, ran, joined = do(world, flows, [1, 2, 1], uncacheable="it says so")
        assert (sorted(ran), joined) == ([1, 2], b"<1>,<2>,<1>")
    assert outcome.artifacts["score", ""].format == FORMAT


def test_items_may_be_what_other_steps_gave(world, flows):
    made = [flows.node(name, value=name) for name in "abc"]
    node = score(["ref", "x", ""])
    refs = ["list", [["ref", name, ""] for name in "abc"]]
    tree = ["list", [["list", [["map", refs]]], ["dict", [["shared", 0]]]]]
    node = Node("score", "m:score", tree, CODE, needs=tuple(refs_in(tree)), mapped=True)
    functions = {"a": lambda: b"1", "b": lambda: b"2", "c": lambda: b"1"}
    work = Work(score([]), lambda item: item + b"!", **functions, join=lambda text: text)
    work.items = {}
    outcome, _ = world.run(flows.graph(*made, node, flows.node("join", "score")), work)
    assert world.objects.read(outcome.artifacts["join", ""].digest) == b"1!,2!,1!"
    assert sorted(work.ran) == [b"1", b"2"]


def test_a_mapped_step_goes_through_what_another_gave(world, flows):
    second = score(["ref", "score", ""], step="again")
    node = score([1, 2])
    work = Work(node, lambda item: b"<%s>" % str(item).encode())
    outcome, _ = world.run(flows.graph(node, second), work)
    last = outcome.artifacts["again", ""]
    assert [world.objects.read(one.digest) for one in unpack(last.text)] == [b"<b'<1>'>", b"<b'<2>'>"]


# ── what is told ────────────────────────────────────────────────────────────────────────────────────────────


def test_what_the_items_take_is_told_one_after_another(world, flows):
    """So the audit knows how long it would run the step again, whatever ran at once and whenever it ran."""
    first, _, _ = do(world, flows, [1, 2])
    recipe = first.decisions["score"].recipe
    items = world.ledger.results([recipe])[recipe].made["items"]
    slow = [replace(one, made={**one.made, "wall_s": 40.0}) for one in world.ledger.results(items).values()]
    assert len(slow) == 2
    world.ledger.forget(items)
    world.ledger.commit(Group(results=slow))
    again, _, _ = do(world, flows, [1, 2, 3])
    recipe = again.decisions["score"].recipe
    assert world.ledger.results([recipe])[recipe].made["wall_s"] == 80.0


def test_a_plan_counts_the_items_to_run(world, flows):
    do(world, flows, list(range(100)))
    node = score([*range(97), 200, 201, 202, 5])
    first, second = world.plan(flows.graph(node, flows.node("join", "score"))).decisions
    assert first.because.startswith("101 items, 3 to run · parameter changed: ")
    assert first.to_json()["items"] == {"total": 101, "run": 3}
    assert second.action == "wait"
    reordered = score(list(range(99, -1, -1)))
    assert world.plan(flows.graph(reordered)).decisions[0].items == (100, 0)
    assert world.plan(flows.graph(score(list(range(100))))).decisions[0].action == "reuse"


def test_a_run_tells_of_the_step_alone_and_how_far_it_is(world, flows):
    told = []
    node = score([1, 2, 2, 3])
    world.run(flows.graph(node), Work(node, text_of), listen=told.append)
    assert {event.step for event in told} == {"score"}
    far = [(event.facts["done"], event.facts["total"]) for event in told if event.kind == "progress"]
    assert far == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [event.kind for event in told if event.kind != "progress"] == ["started", "done"]
    assert told[-1].facts["items"] == {"items": 4, "distinct": 3, "run": 3, "reused": 0, "failed": 0}


def test_what_ran_is_a_row_each_and_what_was_known_a_count(world, flows):
    do(world, flows, [1, 2])
    outcome, _, _ = do(world, flows, [1, 2, 3])
    rows = world.ledger.step_runs(outcome.run.id)
    assert sorted(mapped_by(row.step) or row.step for row in rows) == ["join", "score", "score"]
    whole = next(row for row in rows if row.step == "score")
    assert whole.notes["items"] == {"items": 3, "distinct": 3, "run": 1, "reused": 2, "failed": 0}
    assert outcome.run.counts == {"run": 2, "reuse": 0, "skip": 0, "failed": 0}
    assert set(outcome.decisions) == {"score", "join"}
    assert set(world.ledger.decided("flow")) == {"score", "join"}


# ── failing ─────────────────────────────────────────────────────────────────────────────────────────────────


def refuses(*items):
    def each(item):
        if item in items:
            raise ValueError(f"no {item}")
        return text_of(item)

    return each


def test_the_others_go_on_and_the_next_run_does_those_that_failed(world, flows):
    outcome, ran, joined = do(world, flows, [1, 2, 3, 4], refuses(2, 3))
    assert (sorted(ran), joined) == ([1, 2, 3, 4], None)
    assert isinstance(outcome.error, StepError)
    assert outcome.error.step == "score"
    assert outcome.error.what == "2 of 4 items failed; the first, item 1: no 2"
    assert "the next run does only those that failed" in outcome.error.hint
    assert outcome.states == {"score": "failed"}
    again, ran, joined = do(world, flows, [1, 2, 3, 4])
    assert (sorted(ran), joined) == ([2, 3], b"<1>,<2>,<3>,<4>")
    assert again.error is None


def test_each_item_has_its_own_tries(world, flows):
    left = {2: 2, 3: 9}

    def each(item):
        left[item] = left.get(item, 0) - 1
        if left[item] >= 0:
            raise ValueError("no luck")
        return text_of(item)

    outcome, ran, _ = do(world, flows, [1, 2, 3], each, retries=2, backoff_s=0.0)
    assert sorted(ran) == [1, 2, 2, 2, 3, 3, 3]
    assert outcome.error.what == "1 of 3 items failed; the first, item 2: no luck"


def test_a_step_that_waited_for_an_item_that_failed_runs_by_itself(world, flows):
    tree = ["list", [["list", [2]], ["dict", [["shared", 0]]]]]
    node = score([1, 2])
    work = Work(node, refuses(2), one=lambda: b"own")
    told = []
    graph = flows.graph(node, Node("one", "m:score", tree, CODE))
    outcome, pool = world.run(graph, work, listen=told.append, pick=lambda tasks: len(tasks) - 1, jobs=2)
    assert outcome.error.step == "score"
    assert "one" in pool.calls or outcome.states.get("one") is None


def test_a_list_that_is_none_fails_with_what_to_do(world, flows):
    node = score(["ref", "a", ""])
    outcome, _ = world.run(flows.graph(flows.node("a"), node), {"a": lambda: b"bytes"})
    assert outcome.states == {"a": "done", "score": "failed"}
    assert "goes through what a gives, which is a value of the format bytes" in outcome.error.what
    assert "let a return a list: of plain values" in outcome.error.hint
    assert world.plan(flows.graph(flows.node("a"), node)).decisions[1].items is None


# ── healing ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_damaged_result_is_made_again_and_no_other(world, flows):
    outcome, _, _ = do(world, flows, [1, 2, 3])
    second = unpack(outcome.artifacts["score", ""].text)[1]
    world.damage(second.digest)
    node = score([1, 2, 3])
    work = Work(node, text_of, other=lambda text: text + b"?")
    graph = flows.graph(node, flows.node("other", "score"))
    healed, _ = world.run(graph, work)
    assert healed.error is None
    assert work.ran == [2]
    assert world.objects.read(healed.artifacts["other", ""].digest) == b"<1>,<2>,<3>?"


def test_a_damaged_shared_input_is_made_again_while_items_wait(world, flows):
    base = flows.node("base", value=1)
    tree = ["list", [["list", [["map", encode([1, 2, 3, 4])], ["ref", "base", ""]]], ["dict", []]]]
    node = Node("score", "m:score", tree, CODE, needs=(("base", ""),), mapped=True)
    first, _ = world.run(flows.graph(base), {"base": lambda: b"7"})
    world.damage(first.artifacts["base", ""].digest)
    work = Work(score([]), lambda text: text, base=lambda: b"7")
    outcome, pool = world.run(flows.graph(base, node), work, jobs=2)
    assert outcome.error is None
    assert pool.calls.count("base") == 1
    assert len(work.ran) == 4
    assert outcome.states == {"base": "done", "score": "done"}


# ── with real processes ─────────────────────────────────────────────────────────────────────────────────────

FLOW = """
    import pandas as pd

    @ps.step
    def names() -> list:
        return ["b", "a", "b", {"x": (1, 2)}, "c" * 5000]

    @ps.step
    def length(item, plus: int) -> int:
        return len(item) + plus

    @ps.step(retries=1, backoff_s=0.01, outputs=("table", "size"))
    def make(n: int):
        if n == 3 and not os.path.exists("luck"):
            open("luck", "w").close()
            raise ValueError("no luck")
        return pd.DataFrame({"n": range(n)}), n

    @ps.step
    def rows(table: pd.DataFrame) -> int:
        table["m"] = 1
        return len(table)

    @ps.step
    def last(lengths: list, tables, sizes, counts: list) -> dict:
        kinds = [type(lengths).__name__, type(tables).__name__, type(tables[0]).__name__]
        found = {"lengths": lengths, "sizes": list(sizes), "counts": counts, "kinds": kinds}
        return found | {"rows": len(pd.concat(tables))}

    tables, sizes = make.map([3, 1, 3])
    flow = ps.Flow(last(length.map(names.ref(), plus=ps.Param("plus", 1)), tables, sizes, rows.map(tables)))
"""


def test_lists_made_and_declared_tables_and_tries_with_real_workers(project, monkeypatch):
    project.write(FLOW)
    monkeypatch.chdir(project.root)
    report = project.run()
    assert report.outcome.error is None
    assert project.value(report, "last") == {
        "lengths": [2, 2, 2, 2, 5001],
        "rows": 7,
        "sizes": [3, 1, 3],
        "counts": [3, 1, 3],
        "kinds": ["list", "Results", "DataFrame"],
    }
    assert [event.step for event in project.events if event.kind == "retry"] == ["make"]
    again = project.run(params={"plus": "2"})
    assert again.outcome.states == dict.fromkeys(["names", "make", "rows"], "reused") | {
        "length": "done",
        "last": "done",
    }
    assert project.value(again, "last")["lengths"] == [3, 3, 3, 3, 5002]


def test_a_child_s_death_its_time_and_what_it_prints(project):
    project.write(
        """
        @ps.step(timeout_s=0.5)
        def hard(n: int) -> int:
            print("item", n)
            if n == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if n == 2:
                time.sleep(60)
            if n == 3:
                return "text"
            return n

        flow = ps.Flow(hard.map([0, 1, 2, 3]))
        """
    )
    report = project.run()
    what = report.outcome.error.what
    assert what.startswith("3 of 4 items failed; the first, item 1: its process ended with")
    rows = {
        row.recipe: row.error for row in project.home().ledger.step_runs(report.outcome.run.id) if mapped_by(row.step)
    }
    kinds = sorted(error["error"] for error in rows.values() if error)
    assert kinds == ["StepKilledError", "StepOutputError", "StepTimeoutError"]
    said = next(error["where"] for error in rows.values() if error and error["error"] == "StepOutputError")
    assert said == "step hard, item 3"
    log = (project.root / ".penstock" / "logs" / report.outcome.run.id / "hard.log").read_text()
    assert sorted(log.splitlines()) == ["item 0", "item 1", "item 2", "item 3"]


TABLES = """
    import pandas as pd

    @ps.step
    def parts(cut: int) -> list[pd.DataFrame]:
        table = pd.DataFrame({"key": [1, 1, 2, 3], "amount": [3.0, 4.0, 5.0, float(cut)]})
        return [one.reset_index(drop=True) for _, one in table.groupby("key")]

    @ps.step
    def total(part: pd.DataFrame, folder: str) -> float:
        with open(os.path.join(folder, f"ran-{part['key'][0]}"), "a") as file:
            file.write("x")
        part["more"] = 1
        return float(part["amount"].sum())

    @ps.step
    def sizes(given: list, found) -> dict:
        kinds = {type(one).__name__ for one in given}
        return {"sizes": [len(one) for one in given], "kinds": sorted(kinds), "totals": list(found)}

    @ps.step
    def same(found) -> list:
        return found

    made = parts(ps.Param("cut", 6))
    flow = ps.Flow(sizes(made, same(total.map(made, ps.Param("folder", "")))))
"""


def test_a_step_that_gives_a_list_of_tables_is_mapped_over_and_only_a_changed_table_runs_again(project):
    project.write(TABLES)
    folder = str(project.root)
    report = project.run(params={"folder": folder})
    assert report.outcome.error is None
    assert report.outcome.artifacts["parts", ""].format == FORMAT
    found = project.value(report, "sizes")
    assert found == {"sizes": [2, 1, 1], "kinds": ["DataFrame"], "totals": [7.0, 5.0, 6.0]}
    again = project.run(params={"folder": folder, "cut": "9"})
    assert project.value(again, "sizes")["totals"] == [7.0, 5.0, 9.0]
    tries = {path.name: path.stat().st_size for path in project.root.glob("ran-*")}
    assert tries == {"ran-1": 1, "ran-2": 1, "ran-3": 2}
    assert project.home().ledger.runs()[0].counts["run"] == 4
