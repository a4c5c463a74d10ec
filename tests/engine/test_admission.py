"""Admission: never above what there is, nobody waits for ever, nobody who passes makes the head start later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.flow import Graph, Node
from penstock.core.ports import Config
from penstock.engine import admission as part
from penstock.engine import gpus
from penstock.engine.admission import Admission, Totals, admission, amounts, totals_of, unfit
from penstock.engine.gpus import VISIBLE, gpu_ids, parsed, seeing
from penstock.engine.slots import Slots
from penstock.errors import DeclarationError
from penstock.lifecycle.run import Request, run

GPUS = ("0", "1")
TOTALS = Totals(jobs=3, cpu=4, memory=8, gpus=GPUS)


def step(name: str, **resources: object) -> Node:
    return Node(name, "m:f", None, "", resources=resources)


@st.composite
def requests(draw: st.DrawFn) -> list[Node]:
    """Steps that ask for anything that there is."""
    asked = st.fixed_dictionaries(
        {},
        optional={
            "cpu": st.sampled_from([0.1, 0.5, 1, 2, 3, 4]),
            "memory": st.integers(1, 8),
            "gpu": st.integers(1, 2),
        },
    )
    return [step(f"s{at}", **one) for at, one in enumerate(draw(st.lists(asked, min_size=1, max_size=9)))]


def total(nodes: list[Node]) -> list[int]:
    return [sum(amounts(node)[at] for node in nodes) for at in range(4)]


def fit(nodes: list[Node]) -> bool:
    return all(one <= other for one, other in zip(total(nodes), TOTALS.amounts, strict=True))


@settings(max_examples=150, deadline=None)
@given(requests(), st.data())
def test_any_queue_ends_and_never_takes_more_than_there_is(nodes: list[Node], data: st.DataObject) -> None:
    counted, queue, running = Admission(TOTALS), deque(nodes), []
    heads: list[str] = []
    while queue or running:
        before = queue[0] if queue else None
        running += counted.admit(queue, 99)
        assert fit(running)
        gpus = [gpu for node in running for gpu in (counted.visible(node.id) or "").split(",") if gpu]
        assert len(gpus) == len(set(gpus)) == total(running)[3]  # its own each
        assert set(gpus) <= set(GPUS)
        if before is not None and queue and queue[0] is before:  # who waits, waits for what is taken
            assert not fit([*running, before])
            heads.append(before.id)
        assert running, "a step waits, and nothing runs"
        ended = data.draw(st.sampled_from(running))
        running.remove(ended)
        counted.release(ended.id)
    assert counted.taken == (0, 0, 0, 0)


@settings(max_examples=200, deadline=None)
@given(requests())
def test_who_passes_never_makes_the_head_start_later(nodes: list[Node]) -> None:
    """By brute force: however those who run end, the head starts as early as if nobody had passed it."""
    counted, queue = Admission(TOTALS), deque(nodes)
    running: list[Node] = []
    head = None
    for node in counted.admit(queue, 99):
        head = queue[0] if queue else None
        if head is not None and nodes.index(node) > nodes.index(head):
            for size in range(len(running) + 1):
                for left in combinations(running, size):
                    assert not fit([*left, head]) or fit([*left, head, node])
        running.append(node)


def test_the_brute_force_would_see_one_that_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Admission, "_may_pass", lambda self, node, _head: self._fits(node))
    with pytest.raises(AssertionError):
        test_who_passes_never_makes_the_head_start_later()


def test_a_wide_step_is_not_starved_by_narrow_ones() -> None:
    counted = Admission(Totals(jobs=4, cpu=4, memory=8))
    queue = deque([step("a"), step("wide", cpu=4), *(step(f"n{at}") for at in range(9))])
    assert [node.id for node in counted.admit(queue, 4)] == ["a"]
    counted.release("a")
    assert [node.id for node in counted.admit(queue, 4)] == ["wide"]
    counted.release("wide")
    assert [node.id for node in counted.admit(queue, 4)] == ["n0", "n1", "n2", "n3"]


def test_others_pass_one_that_waits_for_a_gpu() -> None:
    counted = Admission(Totals(jobs=2, cpu=2, memory=8, gpus=("7",)))
    queue = deque([step("a", gpu=1), step("b", gpu=1), step("c"), step("d")])
    assert [node.id for node in counted.admit(queue, 2)] == ["a", "c"]
    assert (counted.visible("a"), counted.visible("c")) == ("7", "")
    assert [node.id for node in queue] == ["b", "d"]
    counted.release("c")
    assert [node.id for node in counted.admit(queue, 2)] == ["d"]
    counted.release("a")
    assert [node.id for node in counted.admit(queue, 2)] == ["b"]


def test_parts_of_processors_add_up_exactly() -> None:
    counted = Admission(Totals(jobs=20, cpu=1, memory=8))
    queue = deque(step(f"s{at}", cpu=0.1) for at in range(11))
    assert len(counted.admit(queue, 20)) == 10


def test_without_requests_room_alone_counts() -> None:
    graph = Graph("f", (step("a"), step("b", labels={"queue": "x"})))
    free = admission(graph, Config("/nonexistent", "", ""))
    queue = deque(graph.nodes)
    assert free.admit(queue, 1) == [graph.nodes[0]]
    assert free.visible("a") is None
    free.release("a")
    assert list(queue) == [graph.nodes[1]]


def test_gpus_are_looked_for_only_where_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    asked = []
    monkeypatch.setattr(gpus, "_list", lambda: asked.append(1) or "GPU 0: A (UUID: GPU-a)")
    config = Config("/nonexistent", "", "", jobs=64)
    none = totals_of(Graph("f", (step("a", cpu=1),)), config)
    assert (none.gpus, asked, none.jobs, none.cpu >= 64) == ((), [], 64, True)
    assert totals_of(Graph("f", (step("a", gpu=1),)), config).gpus == ("0",)


def test_a_configured_number_of_gpus_is_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_ids(1, {VISIBLE: "4,5"}) == ("4",)
    assert gpu_ids(0, {VISIBLE: "4,5"}) == ()
    assert gpu_ids(None, {VISIBLE: "4,-1,5"}) == ("4",)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv(VISIBLE, raising=False)
    assert gpu_ids() == ()


def test_a_divided_gpu_counts_by_its_parts() -> None:
    text = (
        "GPU 0: NVIDIA A100 (UUID: GPU-5a)\n  MIG 3g.20gb Device 0: (UUID: MIG-1)\n"
        "  MIG 3g.20gb Device 1: (UUID: MIG-2)\n"
        "GPU 1: NVIDIA A100 (UUID: GPU-6b)\n"
    )
    assert parsed(text) == ["MIG-1", "MIG-2", "1"]
    assert parsed("No devices were found\n") == []


def test_what_a_process_sees_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "0,1")
    with seeing("1"):
        assert os.environ[VISIBLE] == "1"
    with seeing(None):
        assert os.environ[VISIBLE] == "0,1"
    monkeypatch.delenv(VISIBLE)
    with pytest.raises(KeyError), seeing(""):
        assert os.environ[VISIBLE] == ""
        raise KeyError
    assert VISIBLE not in os.environ


def test_what_can_never_fit_is_told_in_sentences() -> None:
    wants = step("fit", cpu=8, memory=4 << 30, gpu=2)
    assert unfit([wants], Totals(2, 2, 2 << 30)) == [
        "fit asks for 8 processors, and there are 2",
        "fit asks for 4.3 GB of memory, and there are 2.1 GB",
        "fit asks for 2 GPUs, and there is none",
    ]
    assert unfit([step("fit", gpu=2)], Totals(2, 2, 9, ("0",))) == ["fit asks for 2 GPUs, and there is 1"]
    assert unfit([step("fit", gpu=1)], Totals(2, 2, 9, ("0",))) == []


# ── with real processes ─────────────────────────────────────────────────────────────────────────────────────

SPANS = """
    def span(name, seconds=0.15):
        with open(f"{os.path.dirname(__file__)}/spans.jsonl", "a") as file:
            began = time.monotonic()
            time.sleep(seconds)
            seen = os.environ.get("CUDA_VISIBLE_DEVICES")
            file.write(json.dumps([name, began, time.monotonic(), seen, os.getpid()]) + "\\n")
        return 1

    def spread(function, number):
        return [function(ps.Param(f"{function.name}{at}", at), name=f"{function.name}{at}") for at in range(number)]
"""


def spans(project) -> dict[str, tuple[float, float, str | None, int]]:
    lines = (project.root / "spans.jsonl").read_text().splitlines()
    return {name: tuple(rest) for name, *rest in map(json.loads, lines)}


def most_at_once(found: list[tuple[float, float, str | None, int]]) -> int:
    return max(sum(a <= began < b for a, b, _, _ in found) for began, _, _, _ in found)


def test_steps_that_share_the_gpus_never_overlap_on_one(project, monkeypatch) -> None:
    monkeypatch.setenv(VISIBLE, "4,5")
    project.write(
        SPANS
        + """
    import json

    @ps.step(resources=ps.Resources(gpu=1))
    def fit(x: int) -> int:
        return span("fit" + str(time.monotonic_ns()))

    @ps.step
    def plain(x: int) -> int:
        return span("plain" + str(time.monotonic_ns()))

    flow = ps.Flow(*spread(fit, 5), *spread(plain, 3))
    """
    )
    report = project.run(jobs=4)
    assert report.error is None
    found = spans(project)
    fits = [one for name, one in found.items() if name.startswith("fit")]
    assert len(fits) == 5
    assert {one[2] for one in fits} == {"4", "5"}
    for gpu in ("4", "5"):
        assert most_at_once([one for one in fits if one[2] == gpu]) == 1
    assert len({one[3] for one in fits}) == 5, "a process that used a GPU is not used again"
    assert {one[2] for name, one in found.items() if name.startswith("plain")} == {""}


def test_a_step_for_the_whole_machine_runs_alone(project, monkeypatch) -> None:
    monkeypatch.setattr(part.processes, "cores", lambda: 2)
    project.write(
        SPANS
        + """
    import json

    @ps.step(resources=ps.Resources(cpu=2))
    def wide(x: int) -> int:
        return span("wide" + str(time.monotonic_ns()))

    @ps.step
    def plain(x: int) -> int:
        return span("plain" + str(time.monotonic_ns()))

    flow = ps.Flow(*spread(plain, 3), *spread(wide, 2))
    """
    )
    assert project.run(jobs=2).error is None
    found = spans(project)
    assert len(found) == 5
    for name, (a, b, seen, _) in found.items():
        if name.startswith("wide"):
            assert not any(a < d and c < b for other, (c, d, _, _) in found.items() if other != name)
        assert seen == os.environ.get(VISIBLE), "nobody asked for a GPU: what is seen stays as it is"


def test_a_request_that_can_never_fit_is_refused_before_anything_runs(project, monkeypatch) -> None:
    monkeypatch.setenv(VISIBLE, "")
    text = """
    @ps.step
    def before(x: int) -> int:
        open(f"{os.path.dirname(__file__)}/ran", "w").close()
        return x

    @ps.step(resources=ps.Resources(gpu=1))
    def fit(x: int) -> int:
        return x + 1

    flow = ps.Flow(fit(before(ps.Param("x", 1))))
    """
    project.write(text)
    with pytest.raises(DeclarationError, match="fit asks for 1 GPU, and there is none") as refused:
        project.run()
    assert refused.value.exit_code == 2
    assert not (project.root / "ran").exists()
    monkeypatch.setenv(VISIBLE, "0")
    assert project.run().error is None
    monkeypatch.setenv(VISIBLE, "")
    again = project.run()  # all of it is reused, so that nothing is asked for
    assert set(again.outcome.states.values()) == {"reused"}


def test_a_request_for_memory_is_the_limit_of_a_step_without_one(project) -> None:
    project.write(
        """
        @ps.step(resources=ps.Resources(memory="1MiB"))
        def large(x: int) -> int:
            time.sleep(20)
            return x

        flow = ps.Flow(large(ps.Param("x", 1)))
        """
    )
    error = project.run().error
    assert "used more than its limit of 1 MiB" in error.what


def test_requests_are_part_of_no_recipe(project) -> None:
    text = """
    {big}

    @ps.step{options}
    def double(x: int) -> int:
        return 2 * x

    flow = ps.Flow(double(ps.Param("x", 1)))
    """
    project.write(text.format(big="", options=""))
    assert project.run().outcome.states == {"double": "done"}
    project.write(text.format(big="BIG = ps.Resources(cpu=1)", options="(resources=BIG)"))
    assert project.run().outcome.states == {"double": "reused"}


def test_a_gpu_is_free_again_when_the_step_on_it_dies(project, monkeypatch) -> None:
    monkeypatch.setenv(VISIBLE, "6")
    project.write(
        """
        @ps.step(retries=1, backoff_s=0.01, resources=ps.Resources(gpu=1))
        def fit(x: int) -> int:
            flag = f"{os.path.dirname(__file__)}/died{x}"
            if not os.path.exists(flag):
                open(flag, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return int(os.environ["CUDA_VISIBLE_DEVICES"])

        flow = ps.Flow(fit(ps.Param("a", 1), name="a"), fit(ps.Param("b", 2), name="b"))
        """
    )
    report = project.run(jobs=2)
    assert report.error is None
    assert (project.value(report, "a"), project.value(report, "b")) == (6, 6)


# ── GPUs of one machine that several runs want ──────────────────────────────────────────────────────────────────


@pytest.fixture
def locks(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENSTOCK_GPU_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def two_runs() -> tuple[Admission, Admission, list[str]]:
    told: list[str] = []
    one = Admission(TOTALS)
    return one, Admission(TOTALS, lambda event: told.append(event.facts["text"])), told


def test_no_gpu_is_given_to_two_runs(locks: Path) -> None:
    one, other, told = two_runs()
    assert [node.id for node in one.admit(deque([step("a", gpu=1)]), 9)] == ["a"]
    waiting = deque([step("both", gpu=2), step("b", gpu=1), step("c")])
    assert [node.id for node in other.admit(waiting, 9)] == ["c"]  # it takes nothing of what the head waits for
    assert (other.due(), told) == (part.AGAIN_S, ["both waits for 2 GPUs that another run here holds"])
    assert other.admit(waiting, 9) == []
    assert len(told) == 1
    one.release("a")
    assert [node.id for node in other.admit(waiting, 9)] == ["both"]
    assert (other.visible("both"), other.due()) == ("0,1", None)
    other.close()
    assert [node.id for node in one.admit(deque([step("a", gpu=2)]), 9)] == ["a"]


def test_the_other_gpu_is_taken_where_one_is_held(locks: Path) -> None:
    one, other, _ = two_runs()
    one.admit(deque([step("a", gpu=1)]), 9)
    assert [node.id for node in other.admit(deque([step("b", gpu=1)]), 9)] == ["b"]
    assert (one.visible("a"), other.visible("b")) == ("0", "1")


def test_without_its_locks_both_would_have_it(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slots, "_usable", lambda _self: False)
    with pytest.raises(AssertionError):
        test_the_other_gpu_is_taken_where_one_is_held(locks)


def test_a_run_that_is_forgotten_or_killed_holds_nothing(locks: Path) -> None:
    forgotten = Admission(TOTALS)
    forgotten.admit(deque([step("a", gpu=2)]), 9)
    del forgotten
    holds = "from penstock.engine.slots import Slots; held = Slots(); print(held.take(['0', '1'], 2), flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"import time; {holds}; time.sleep(600)"], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "('0', '1')\n"
            assert Slots().take(["0"], 1) is None
        finally:
            holder.kill()
    assert Slots().take(["0", "GPU-a/b"], 2) == ("0", "GPU-a/b")


def test_locks_in_a_folder_of_somebody_else_s_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_GPU_LOCKS")
    target = tmp_path / "theirs"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    assert Slots(str(tmp_path / "link")).take(["0"], 1) == ("0",)
    assert list(target.iterdir()) == []
    held = Slots(str(tmp_path / "ours"))
    assert held.take(["0"], 1) == ("0",)
    assert (tmp_path / "ours").stat().st_mode & 0o777 == 0o700
    assert Slots(str(tmp_path / "ours")).take(["0"], 1) is None


def test_a_run_waits_for_the_gpu_of_another_and_then_goes_on(project, locks: Path, monkeypatch) -> None:
    monkeypatch.setenv(VISIBLE, "0")
    project.write(
        """
    @ps.step(resources=ps.Resources(gpu=1))
    def fit(x: int) -> int:
        return x + 1

    flow = ps.Flow(fit(ps.Param("x", 1)))
    """
    )
    other, told = Slots(), []
    assert other.take(["0"], 1) == ("0",)

    def heard(event) -> None:
        told.append(event)
        if event.kind == "note":
            other.close()

    asked = Request(str(project.root / "flows.py"))
    report = run(project.home(jobs=2), asked, "penstock.worker", rehearse=lambda *_: 0, listen=heard)
    assert report.error is None
    kinds = [event.kind for event in told]
    assert kinds.index("note") < kinds.index("started") < kinds.index("done")
