"""Steps that run again inside a worker: what they receive, what is dropped, what decides whether a proof holds."""

import sys
import time

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import penstock as ps
from penstock.core import checkpoints
from penstock.core.artifact import Artifact
from penstock.core.facts import Facts
from penstock.core.fan import pack
from penstock.core.flow import calls_of
from penstock.core.notes import note, take
from penstock.core.plan import Decision, Reason
from penstock.core.ports import Config, Home
from penstock.core.replay import Raised, Replay
from penstock.core.run import Decided, Group, Result
from penstock.core.step import Call, Options, Ref, call_of
from penstock.engine.describe import describe
from penstock.engine.earlier import earlier, replays
from penstock.engine.replay import Replayer, Several
from penstock.formats.registry import FormatRegistry
from penstock.stages.disturb import taken
from penstock.testing import MemoryLedger, MemoryObjects

SEEN = []


@ps.step
def receives(t, word: str = ""):
    SEEN.append(t)
    print("loud", flush=True)
    ps.log(rows=len(t))
    t["drawn"] = np.random.random(len(t))
    return t


@ps.step
def wants_polars(t: pl.DataFrame):
    SEEN.append(t)
    return t.with_columns(pl.lit(1).alias("one"))


@ps.step
def wants_arrow(t: pa.Table):
    SEEN.append(t)
    return t


@ps.step(timeout_s=0.2)
def slow(t):
    time.sleep(5)
    return t


@ps.step
def fails(t):
    raise ValueError("a fault\nand more of it")


@ps.step
def ends(t):
    sys.exit(3)


@ps.step(outputs=("a", "b"))
def two(t):
    return t


class Part:
    parts = {"m:f": "1"}
    digest = "c" * 64
    uncacheable = ""


class Closure:
    """A closure that knows everything and remembers what it was asked."""

    def __init__(self):
        self.asked = {}

    def of(self, entry, also=(), tables=()):
        self.asked[entry] = [getattr(one, "entry", one) for one in also]
        return Part()


def replayed(*refs, closure=None):
    """A flow in which a stage runs again what leads to a reference, described."""
    wanted = [
        Ref(
            Call(
                "penstock.stages.scramble:scramble",
                f"scramble{i}",
                (),
                {"steps": Replay(tuple(calls_of((ref,))), ref)},
                Options(),
            )
        )
        for i, ref in enumerate(refs)
    ]
    return describe("flow", tuple(wanted), closure or Closure())


def ready(ref, table):
    """A replayer of one step on a stored table."""
    formats, objects = FormatRegistry(), MemoryObjects()
    live = replayed(ref)
    artifact = formats.dump(table, objects.stage)
    replay = next(call for call in live.calls.values() if call.name == "scramble0").kwargs["steps"]
    inputs = dict.fromkeys(live.graph.node("scramble0").needs, artifact)
    return Replayer(replay, inputs, live, formats, objects)


def same(_key, table):
    return table


TABLE = pd.DataFrame({"k": range(6), "v": [1.0, None, 3, 4, 5, 6], "w": list("abcabc")})


@pytest.mark.parametrize(
    ("step", "kind"), [(receives, pd.DataFrame), (wants_polars, pl.DataFrame), (wants_arrow, pa.Table)]
)
def test_a_step_receives_a_changed_copy_in_its_own_library(step, kind):
    steps = ready(step(ps.read("a.csv")), pa.table(TABLE))
    places = {"v": np.array([5, 1, 2, 3, 4, 0])}
    SEEN.clear()
    made = steps.call(steps.data[0], {}, lambda _key, table: taken(table, places))
    assert type(SEEN[0]) is kind
    frame = steps.frame(made[steps.data])
    assert frame["v"].fillna(-1).tolist() == [6, -1, 3, 4, 5, 1]
    assert steps.table(("a", "table"))["v"].fillna(-1).tolist() == [1, -1, 3, 4, 5, 6]


def test_values_pass_from_step_to_step_as_their_format_would_read_them():
    chain = wants_arrow(receives(wants_polars(ps.read("a.csv"))))
    steps = ready(chain, TABLE)
    SEEN.clear()
    made = steps.call("wants_polars", {}, same)
    made = steps.call("receives", made, same)
    steps.call("wants_arrow", made, same)
    assert [type(one) for one in SEEN] == [pl.DataFrame, pd.DataFrame, pa.Table]
    assert SEEN[2].column_names == ["k", "v", "w", "one", "drawn"]


def test_generators_are_seeded_and_nothing_is_heard_noted_or_remembered(capfd):
    steps = ready(receives(ps.read("a.csv")), TABLE)
    take()
    note(mine=1)
    sent = []
    checkpoints.begin({"known": 1}, sent.append)
    first, second = (steps.call("receives", {}, same)["receives", ""]["drawn"].tolist() for _ in range(2))
    assert first == second
    assert checkpoints.recall("known") is None
    assert take() == {"mine": 1}
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (fails, "ValueError: a fault"),
        (ends, "SystemExit: 3"),
        (slow, "TimeoutError"),
        (two, "StepOutputError: step two: declared 2"),
    ],
)
def test_whatever_goes_wrong_in_a_step_is_told_in_one_line(step, told):
    ref = step(ps.read("a.csv"))
    steps = ready(ref[0] if isinstance(ref, tuple) else ref, TABLE)
    began = time.monotonic()
    with pytest.raises(Raised) as raised:
        steps.call(step.name, {}, same)
    assert raised.value.what.startswith(told)
    assert "\n" not in raised.value.what
    assert time.monotonic() - began < 4


@ps.step(outputs=("part", "n"))
def part(word: str, t):
    found = t[t["w"] == word]
    found["drawn"] = np.random.random(len(found))
    return found.reset_index(drop=True), len(found)


@ps.step
def sized(t: pl.DataFrame):
    return t.height


@ps.step
def together(parts: list, sizes):
    return pd.concat(parts).assign(n=sum(sizes))


def test_a_mapped_step_runs_again_for_each_item_and_its_list_passes_on():
    parts, _ = part.map(["a", "b", "a"], ps.read("a.csv"))
    steps = ready(together(parts, sized.map(parts)), TABLE)
    made = steps.call("part", {}, lambda _key, table: table.assign(w=list("aaaabb")))
    assert [len(one) for one in made["part", "part"]] == [4, 2, 4]
    assert made["part", "n"] == [4, 2, 4]
    first, _, third = made["part", "part"]
    assert first["drawn"].tolist() == third["drawn"].tolist()  # each item is seeded as a step is
    sizes = steps.call("sized", made, same)
    assert sizes["sized", ""] == [4, 2, 4]
    last = steps.call("together", made | sizes, same)["together", ""]
    assert (len(last), set(last["n"])) == (10, {10})


def test_a_list_that_ran_again_has_the_digest_under_which_it_is_kept():
    formats, objects = FormatRegistry(), MemoryObjects()
    parts, _ = part.map(["a", "b", "a"], ps.read("a.csv"))
    steps = ready(together(parts, sized.map(parts)), TABLE)
    made = steps.call("part", {}, same)["part", "part"]
    kept = pack([formats.dump(one, objects.stage) for one in made], objects.stage)
    assert steps.digest(made) == kept.digest
    assert steps.digest(Several()) == pack([], objects.stage).digest


@ps.step
def halves(t) -> list[pd.DataFrame]:
    return [one.reset_index(drop=True) for _, one in t.groupby("w")]


def test_a_list_of_tables_that_a_step_returns_runs_again_and_is_gone_through():
    formats, objects = FormatRegistry(), MemoryObjects()
    both = halves(ps.read("a.csv"))
    steps = ready(together(both, sized.map(both)), TABLE)
    made = steps.call("halves", {}, lambda _key, table: table.assign(w=list("aaaabb")))
    assert [len(one) for one in made["halves", ""]] == [4, 2]
    assert steps.digest(made["halves", ""]) == formats.dump(list(made["halves", ""]), objects.stage).digest
    sizes = steps.call("sized", made, same)  # as polars, which its annotation asks for
    assert sizes["sized", ""] == [4, 2]
    last = steps.call("together", made | sizes, same)["together", ""]
    assert (len(last), set(last["n"])) == (6, {6})


def test_what_a_mapped_step_raises_is_the_step_s():
    steps = ready(fails.map([1, ps.read("a.csv")]), TABLE)
    with pytest.raises(Raised) as raised:
        steps.call("fails", {}, same)
    assert (raised.value.step, raised.value.what) == ("fails", "ValueError: a fault")


def test_a_mapped_step_and_a_plain_one_that_run_again_are_other_recipes():
    table = ps.read("a.csv")
    plain, mapped = part(["a"], table)[0], part.map(["a"], table)[0]
    assert node_of(plain).tree != node_of(mapped).tree


def test_the_same_value_has_the_digest_under_which_it_is_kept():
    steps = ready(receives(ps.read("a.csv")), TABLE)
    assert steps.digest(TABLE) == steps.recorded(("a", "table"))


# ── what decides ─────────────────────────────────────────────────────────────────────────────────────────────


def node_of(ref):
    return replayed(ref).graph.node("scramble0")


def test_arguments_answers_and_who_takes_what_stand_in_the_recipe():
    table = ps.read("a.csv")

    def told(**options):
        ref = receives(table)
        call_of(ref).options = Options(**options)
        return node_of(ref)

    plain = node_of(receives(table))
    assert plain.tree == told().tree == told(retries=3, timeout_s=9.0).tree
    others = [told(across_rows="why").tree, told(because="why").tree, node_of(receives(table, word="x")).tree]
    assert all(tree != plain.tree for tree in others)
    closure = Closure()
    replayed(wants_polars(receives(table)), closure=closure)
    [stage] = [asked for entry, asked in closure.asked.items() if entry.endswith(":scramble")]
    assert {entry.rpartition(":")[2] for entry in stage if isinstance(entry, str)} == {"receives", "wants_polars"}


def test_a_step_that_is_not_cacheable_makes_its_proof_so():
    live = replayed(receives(ps.read("a.csv"), word=lambda: 0))
    node = live.graph.node("scramble0")
    assert node.uncacheable.startswith("it runs receives again, which is not (parameter word")
    assert node.needs == (("a", "table"), ("receives", ""))


def test_only_a_step_that_runs_others_is_told_of_earlier_runs():
    live = replayed(receives(ps.read("a.csv")))
    node, step = live.graph.node("scramble0"), live.graph.node("receives")
    assert (replays(node), replays(step)) == (True, False)
    ledger, formats = MemoryLedger(), FormatRegistry()
    home = Home(
        Config(root="/nowhere", store="/nowhere/.penstock", ledger="/nowhere/.penstock/ledger.db"),
        MemoryObjects(),
        ledger,
        formats,
    )
    report = formats.dump({"codes": {"receives": step.code}}, home.objects.stage)
    ledger.commit(Group(results=[Result("r" * 64, node.code, None, None, (report,), {})]))
    made = Result("s" * 64, step.code, None, None, (Artifact("d" * 64, "parquet", 1),), {"wall_s": 75.0})
    facts = Facts(results={"s" * 64: made}, previous={node.id: Decided(node.id, "r" * 64, node.code, None)})
    decisions = {"receives": Decision("receives", "reuse", Reason("unchanged"), "s" * 64)}
    told = earlier(node, decisions, facts, home)
    assert told == {"replay": {"seconds": {"receives": 75.0}, "tried": {"receives": step.code}}}
    assert earlier(step, decisions, facts, home) == {}
    replay = live.calls["scramble0"].kwargs["steps"]
    ours = Replayer(replay, {}, live, formats, home.objects, beside=told["replay"]).steps[-1]
    assert (ours.id, ours.seconds, ours.tried) == ("receives", 75.0, True)
    nothing = Facts(previous={node.id: Decided(node.id, "x" * 64, node.code, None)})
    assert earlier(node, {}, nothing, home) == {"replay": {"seconds": {}, "tried": {}}}
