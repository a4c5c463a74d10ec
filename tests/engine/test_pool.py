"""Workers as they are: steps that raise, exit, hang, die, eat memory, print; ends of all their children."""

import os
import re
import signal
import socket
import subprocess
import time
from types import SimpleNamespace

import pytest

from penstock.core import notes
from penstock.core.artifact import Artifact
from penstock.core.flow import Node
from penstock.core.step import Call, Options
from penstock.engine import child, pool, processes
from penstock.engine.handle import Server
from penstock.engine.wire import Lines
from penstock.errors import (
    DeclarationError,
    StepError,
    StepKilledError,
    StepMemoryError,
    StepOutputError,
    StepTimeoutError,
    StoreError,
)

BAD = {
    "raises": ("raise ValueError('no age in row 7')", StepError, "ValueError: no age in row 7"),
    "exits": ("sys.exit(3)", StepError, "called sys.exit(3)"),
    "ends": ("os._exit(9)", StepKilledError, "exit code 9"),
    "is_killed": ("os.kill(os.getpid(), signal.SIGKILL)", StepKilledError, "SIGKILL"),
    "crashes": ("os.kill(os.getpid(), signal.SIGSEGV)", StepKilledError, "SIGSEGV"),
    "says_int": ("return 'x'", StepOutputError, "returned a builtins.str"),
    "gives_nothing": ("return None", StepOutputError, "nothing (None)"),
    "gives_an_object": ("return object()", StepOutputError, "object"),
    "notes_an_object": ("ps.log(seen=object()); return 1", StepOutputError, "noted"),
    "notes_too_much": ("ps.log(text='x' * 2_000_000); return 1", StepOutputError, "noted 1.9 MiB"),
    "interrupts": ("raise KeyboardInterrupt", StepError, "KeyboardInterrupt"),
    "runs_out": ("raise MemoryError", StepError, "MemoryError"),
}


@pytest.fixture(scope="module")
def bad_steps(tmp_path_factory):
    """One file with every bad step; each test runs one of them by name."""
    text = ""
    for name, (body, _, _) in BAD.items():
        annotation = "" if name == "gives_an_object" else " -> int"
        text += f"@ps.step\ndef {name}(x: int){annotation}:\n    {body}\n\n"
        text += f"flow_{name} = ps.Flow({name}(ps.Param('x', 1)), name='{name.replace('_', '-')}')\n\n"
    return text


@pytest.mark.parametrize("name", BAD)
def test_a_bad_step_fails_with_a_sentence(project, bad_steps, name):
    project.write(bad_steps)
    report = project.run(variable=f"flow_{name}")
    _, kind, words = BAD[name]
    assert type(report.error) is kind
    assert words in report.error.what
    assert (report.error.where, report.error.step, report.exit_code) == (f"step {name}", name, 5)
    assert report.outcome.run.state == "failed"


def test_a_figure_that_cannot_be_kept_is_the_stores_fault_and_not_the_steps(monkeypatch):
    monkeypatch.setattr(notes, "_running", [False])  # what a step's begin sets would last beyond this test

    def refuse(_data):
        raise StoreError("the disk is full", where="/store")

    def draws():
        notes.log(rows=3, curve="<svg xmlns='http://www.w3.org/2000/svg'/>")
        return 1

    node = Node("draws", "", None, "")
    live = SimpleNamespace(calls={"draws": Call("", "draws", (), {}, Options(), function=draws)}, ids={}, params={})
    stage = SimpleNamespace(stage=refuse)
    formats = SimpleNamespace(dump=lambda value, stage: Artifact("0" * 64, "json", 1, str(value)))
    answer = child.run_task({"step": "draws", "inputs": []}, node, live, child.Runtime(stage, formats))
    assert (answer["error"]["error"], answer["error"]["where"]) == ("StoreError", "/store")
    assert answer["notes"] == {"rows": 3}


def test_the_users_traceback_is_cut_at_our_boundary(project):
    project.write(
        """
        def helper(row):
            return row["age"]

        @ps.step
        def clean(x: int) -> int:
            return helper({})

        out = clean(ps.Param("x", 1))
        """
    )
    text = project.run().error.traceback
    assert "helper" in text
    assert "KeyError: 'age'" in text
    assert "penstock/engine" not in text


def test_a_time_limit_ends_the_step_and_all_its_children(project):
    project.write(
        f"""
        @ps.step(timeout_s=0.5)
        def hangs(x: int) -> int:
            a = subprocess.Popen(["sleep", "60"])
            b = subprocess.Popen(["sleep", "60"], start_new_session=True)
            open({str(project.root / "a")!r}, "w").write(str(a.pid))
            open({str(project.root / "b")!r}, "w").write(str(b.pid))
            time.sleep(60)

        out = hangs(ps.Param("x", 1))
        """
    )
    began = time.monotonic()
    report = project.run()
    assert isinstance(report.error, StepTimeoutError)
    assert "limit of 0.5 s" in report.error.what
    assert time.monotonic() - began < 30
    assert project.survivors(*project.pids("a", "b")) == []


def test_a_memory_limit_ends_the_step(project):
    project.write(
        """
        @ps.step(memory="120MiB")
        def eats(x: int) -> int:
            held = []
            while True:
                held.append(bytearray(8 << 20))
                time.sleep(0.01)

        out = eats(ps.Param("x", 1))
        """
    )
    report = project.run()
    assert isinstance(report.error, StepMemoryError)
    assert "limit of 120 MiB" in report.error.what


def test_children_that_a_step_left_behind_end_with_the_run(project):
    project.write(
        f"""
        @ps.step
        def leaves(x: int) -> int:
            same = subprocess.Popen(["sleep", "60"])
            own = subprocess.Popen(["sleep", "60"], start_new_session=True)
            away = int(subprocess.check_output(
                ["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"], start_new_session=True))
            for name, pid in (("a", same.pid), ("b", own.pid), ("c", away)):
                open({str(project.root)!r} + "/" + name, "w").write(str(pid))
            return 1

        out = leaves(ps.Param("x", 1))
        """
    )
    assert project.run().error is None
    assert project.survivors(*project.pids("a", "b", "c")) == []


def test_retries_with_back_off_until_it_works(project):
    project.write(
        f"""
        @ps.step(retries=3, backoff_s=0.05)
        def unsteady(x: int) -> int:
            with open({str(project.root / "tries")!r}, "a") as file:
                file.write("x")
            if os.path.getsize({str(project.root / "tries")!r}) < 3:
                os._exit(1)
            return 7

        out = unsteady(ps.Param("x", 1))
        """
    )
    report = project.run()
    assert report.error is None
    assert project.value(report, "unsteady") == 7
    assert [event.kind for event in project.events].count("retry") == 2


def test_what_cannot_get_better_is_not_tried_again(project):
    project.write("@ps.step(retries=3)\ndef bad(x: int) -> int:\n    return 'x'\n\nout = bad(ps.Param('x', 1))\n")
    report = project.run()
    assert isinstance(report.error, StepOutputError)
    assert [row.attempt for row in project.home().ledger.step_runs(report.outcome.run.id)] == [1]


def test_two_independent_steps_overlap_and_join(project):
    project.write(
        f"""
        def meet(mine, other):
            open({str(project.root)!r} + "/" + mine, "w").write("here")
            end = time.time() + 20
            while not os.path.exists({str(project.root)!r} + "/" + other):
                assert time.time() < end, "the other never ran at the same time"
                time.sleep(0.01)

        @ps.step
        def left(x: int) -> int:
            meet("l", "r")
            return x

        @ps.step
        def right(x: int) -> int:
            meet("r", "l")
            return 10 * x

        @ps.step
        def both(a: int, b: int, more: list) -> int:
            return a + b + sum(more)

        l, r = left(ps.Param("x", 1)), right(ps.Param("x", 1))
        flow = ps.Flow(both(l, r, [l, r]), name="joined")
        """
    )
    report = project.run()
    assert report.error is None, report.error
    assert project.value(report, "both") == 22


def test_several_outputs_force_until_and_parameters(project):
    project.write(
        """
        @ps.step(outputs=("small", "large"))
        def parts(n: int, word: str, on: bool):
            return {"large": [n * 10, word], "small": [n, on]}

        @ps.step
        def use(x: list) -> list:
            return x + ["used"]

        small, large = parts(ps.Param("n", 1), word=ps.Param("word", "a"), on=ps.Param("on", False))
        flow = ps.Flow(use(large), small, name="two")
        """
    )
    report = project.run(params={"n": "4", "on": "yes", "word": "z"})
    assert project.value(report, "use") == [40, "z", "used"]
    assert project.value(report, "parts", "small") == [4, True]
    again = project.run(params={"n": "4", "on": "yes", "word": "z"}, force=("use",))
    assert again.outcome.states == {"parts": "reused", "use": "done"}
    assert project.run(params={"n": "4", "on": "yes", "word": "z"}, until="parts").outcome.states == {"parts": "reused"}
    with pytest.raises(DeclarationError, match="did you mean"):
        project.run(params={"wrod": "x"})
    with pytest.raises(DeclarationError, match="--until"):
        project.run(until="nothing")


def test_each_step_has_a_log_of_its_own(project):
    project.write(
        """
        @ps.step
        def loud(x: int) -> int:
            print("from python")
            os.system("echo from a child")
            print("to stderr", file=sys.stderr)
            return x

        @ps.step
        def dies(x: int) -> int:
            os.write(1, b"last words")
            os._exit(1)

        out = dies(loud(ps.Param("x", 1)))
        """
    )
    report = project.run(jobs=1)
    folder = project.root / ".penstock" / "logs" / report.outcome.run.id
    assert {"from python", "from a child", "to stderr"} <= set((folder / "loud.log").read_text().splitlines())
    assert (folder / "dies.log").read_text() == "last words"


def test_what_a_step_is_given_is_its_own_copy(project):
    project.write(
        """
        @ps.step
        def make(x: int) -> list:
            return [x]

        @ps.step
        def spoil(held: list) -> int:
            held.append(99)
            return len(held)

        @ps.step
        def count(held: list, after: int) -> int:
            return len(held)

        held = make(ps.Param("x", 1))
        out = count(held, spoil(held))
        """
    )
    report = project.run(jobs=1)
    assert project.value(report, "count") == 1


def test_quick_steps_are_queued_at_a_worker_and_survive_its_end(project):
    """A worker that dies gives back what was queued behind the step that killed it."""
    project.write(
        f"""
        @ps.step(retries=1, backoff_s=0.0)
        def quick(x: int, i: int) -> int:
            mark = {str(project.root / "died")!r}
            if i == 12 and not os.path.exists(mark):
                open(mark, "w").close()
                os._exit(5)
            return i

        flow = ps.Flow(*[quick(ps.Param("x", 1), i, name=f"q{{i}}") for i in range(30)], name="many")
        """
    )
    report = project.run()
    assert report.error is None
    assert [project.value(report, f"q{i}") for i in range(30)] == list(range(30))


def test_random_numbers_are_the_same_each_time(project):
    project.write(
        """
        import random

        @ps.step
        def draw(x: int, i: int) -> float:
            return random.random()

        flow = ps.Flow(draw(ps.Param("x", 1), 1, name="a"), draw(ps.Param("x", 1), 2, name="b"), name="draws")
        """
    )
    report = project.run()
    assert project.value(report, "a") == project.value(report, "b")


# ── processes ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def family():
    """A process in a group of its own, with a child in the group and one in another session."""
    made = subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; setsid sleep 60 & echo $!; wait"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = [made.pid, int(made.stdout.readline()), int(made.stdout.readline())]
    yield pids
    for pid in pids:
        try:
            processes.os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    made.stdout.close()
    made.wait()


def test_a_whole_tree_is_ended(family, project):
    project.wait_for(lambda: len(processes.descendants(family[0])) == 2)
    assert set(processes.descendants(family[0])) == set(family[1:])
    processes.kill_tree(family[0])
    assert project.survivors(*family) == []


def test_control_killing_the_group_alone_leaves_the_other_session(family, project):
    assert project.wait_for(lambda: processes.os.getsid(family[2]) == family[2])
    processes.os.killpg(family[0], signal.SIGKILL)
    assert project.wait_for(lambda: not project.alive(family[1]))
    assert project.alive(family[2])


def test_ending_what_is_gone_is_no_error():
    done = subprocess.Popen(["true"])
    done.wait()
    processes.kill_tree(done.pid)
    assert processes.descendants(done.pid) == []
    assert processes.resident_bytes(done.pid) == 0


def test_native_threads_are_pinned_and_the_users_word_stands(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    values = processes.environment(2)
    assert (values["OMP_NUM_THREADS"], values["MKL_NUM_THREADS"]) == ("1", "3")
    assert int(values["LOKY_MAX_CPU_COUNT"]) == max(1, processes.cores() // 2)


def test_memory_of_this_process_and_machine():
    import os

    assert 1 << 20 < processes.resident_bytes(os.getpid()) < processes.machine_memory()


def test_exit_codes_in_words():
    from penstock.engine.handle import describe_exit

    assert re.search("SIGTERM", describe_exit(-15))
    assert describe_exit(None).startswith("no exit code")
    assert describe_exit(-200) == "exit code -200"


def test_a_server_that_was_forked_and_ends_before_it_tells_its_id_ends_alone(monkeypatch):
    """Process id 0 means this process's own group to the system: neither is it waited for nor killed."""
    ended = []
    monkeypatch.setattr(processes, "kill_tree", ended.append)
    ours, theirs = socket.socketpair()
    theirs.close()
    forked = Server([], {})
    forked._lines = Lines(ours)
    other = subprocess.Popen(["sh", "-c", "exit 7"])  # of this process's own group
    try:
        with pytest.raises(DeclarationError, match="no exit code that could be learnt"):
            forked.opened()
        assert other.wait() == 7
    finally:
        other.wait()
        forked.close()
    assert ended == []


def test_a_log_opens_while_another_task_sweeps_the_folder(tmp_path, monkeypatch):
    real, swept = os.makedirs, []

    def makedirs(path, **more):
        real(path, **more)
        if len(swept) < 3:
            swept.append(path)
            os.rmdir(path)

    monkeypatch.setattr("penstock.engine.pool.os.makedirs", makedirs)
    log = pool._open_log(str(tmp_path / "logs" / "worker-1.log"))
    os.close(log)
    assert (len(swept), (tmp_path / "logs" / "worker-1.log").exists()) == (3, True)
