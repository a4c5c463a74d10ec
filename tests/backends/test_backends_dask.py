"""Dask: what goes to its workers, what they make of it, and the promises of every backend on a real cluster."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.backends import dask_task
from penstock.backends.backend import Options, backend
from penstock.backends.compiled import Compiled, compiled
from penstock.backends.dask import Dask as Backend
from penstock.backends.dask import address_of, job_of, resources_of
from penstock.backends.dask_task import TaskFailedError, carry_out, is_unwanted, look, running
from penstock.errors import MissingExtraError, UsageError
from penstock.testing.backend_suite import BackendSuite, Project, Went

SMALL = """
import penstock as ps

@ps.step(retries=2, backoff_s=0.0, timeout_s=60)
def first(n: int):
    return n

@ps.step(resources=ps.Resources(gpu=1, cpu=2, memory="1GiB", labels={"zone": "eu"}))
def second(n):
    return n + 1

flow = ps.Flow(second(first(ps.Param("n", 1))), name="small")
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("small")
    (folder / "penstock.toml").write_text("")
    (folder / "flows.py").write_text(SMALL)
    return compiled(str(folder / "flows.py"), group="step", params={"n": 4})


# ── what goes to Dask ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_for_dask_is_text_and_numbers(small: Compiled) -> None:
    job = job_of(small, small.tasks[0], "r1", Options(environment={"A": "b"}))
    assert json.loads(json.dumps(job)) == job
    [call] = job.pop("calls")
    assert job == {"task": "first", "python": "", "environment": {"A": "b"}, "retries": 2, "backoff_s": 0.0}
    assert (call["steps"], call["limit_s"]) == (["first"], 60)
    words = "-P -m penstock.worker step --file {} --backend dask --step first --run r1 --param n=4"
    assert " ".join(call["arguments"]) == words.format(small.request.file)


def test_dask_is_asked_for_what_a_step_needs(small: Compiled) -> None:
    first, second = small.tasks
    assert resources_of(first, {}) == {}
    assert resources_of(second, {}) == {"gpu": 1.0, "zone:eu": 1.0}
    offered = {"gpu": "GPU", "memory": "MEMORY", "cpu": "cpu", "zone:eu": "zone:EU"}
    assert resources_of(second, offered) == {"GPU": 1.0, "zone:EU": 1.0, "MEMORY": 2.0**30, "cpu": 2.0}


def test_dask_says_before_a_run_what_it_has_not(small: Compiled) -> None:
    found = Backend().check(small, Options(schedule="@daily", image="x", secrets=("A",)))
    assert {f.what for f in found if f.what.startswith("--")} == {
        f"--{w}: Dask has none" for w in ("schedule", "image", "secret")
    }
    notes = [f.what for f in found if f.grade == "note"]
    assert [re.findall(r"started with (\S+),", text) for text in notes] == [["gpu"], ["zone:eu"]]


def test_dask_writes_no_file(small: Compiled) -> None:
    assert isinstance(backend("dask"), Backend)
    with pytest.raises(UsageError, match="no file to write"):
        Backend().export(small, Options())


def test_without_the_library_dask_says_what_to_install(small: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError) as told:
        Backend().run(small, "", Options(), lambda *_: None)
    assert told.value.hint == "pip install 'penstock[dask]'"


@pytest.mark.parametrize(
    ("given", "address"),
    [("h", "tcp://h:8786"), ("h:1/", "tcp://h:1"), ("tls://h", "tls://h:8786"), ("[::1]", "tcp://[::1]:8786")],
)
def test_an_address_of_dask_may_lack_what_is_usual(given: str, address: str) -> None:
    assert address_of(given) == address


# ── what a Dask worker makes of it, without Dask ─────────────────────────────────────────────────────────────────────

ANSWERS = """
import json, os, sys
open({tries!r}, "a").write("x")
json.dump({answer}, open(os.environ["PENSTOCK_RESULT"], "w"))
sys.exit({code})
"""


class FakeWorker:
    """As much of a Dask worker as a task sees."""

    def __init__(self) -> None:
        self.tasks: dict[str, Any] = {"k": types.SimpleNamespace(state="executing")}
        self.state = types.SimpleNamespace(tasks=self.tasks)
        self.status = types.SimpleNamespace(name="running")
        self.events: list[Mapping[str, Any]] = []

    def get_current_task(self) -> str:
        return "k"

    def log_event(self, topic: str, told: Mapping[str, Any]) -> None:
        assert topic == "penstock"
        self.events.append(told)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> FakeWorker:
    found = FakeWorker()
    monkeypatch.setitem(sys.modules, "distributed", types.SimpleNamespace(get_worker=lambda: found))
    monkeypatch.setattr(dask_task, "_final", {})
    return found


def job(tmp_path: Path, *calls: tuple[int, dict], retries: int = 0) -> dict[str, Any]:
    texts = [ANSWERS.format(tries=str(tmp_path / "tries"), answer=answer, code=code) for code, answer in calls]
    made = [{"steps": [f"s{n}"], "arguments": ["-c", text], "limit_s": 60.0} for n, text in enumerate(texts)]
    return {"task": "t", "calls": made, "python": "", "environment": {}, "retries": retries, "backoff_s": 0.0}


def test_a_task_of_dask_ends_with_its_first_call_that_ends_otherwise(worker: FakeWorker, tmp_path: Path) -> None:
    output = {"s0": {"outputs": {"": {"digest": "d0", "format": "json", "size": 1}}}}
    done, skipped = (
        (0, {"state": "done", "run": "r", "passed": False, "steps": output}),
        (99, {"state": "skipped", "run": "r"}),
    )
    told = carry_out(job(tmp_path, done, skipped, done))
    assert told == {"task": "t", "run": "r", "code": 99, "outputs": {"s0": {"": "d0"}}, "state": "done", "passed": None}
    assert worker.events == [
        {"key": "k", "steps": ["s0", "s1", "s2"], "task": "t", "state": "done", "run": "r", "code": 99}
    ]
    assert (tmp_path / "tries").read_text() == "xx"
    assert carry_out(job(tmp_path, skipped))["state"] == "skipped"


def test_a_failure_that_no_try_mends_is_told_again_without_a_worker(worker: FakeWorker, tmp_path: Path) -> None:
    final = job(tmp_path, (3, {"state": "failed", "retriable": False, "reason": "bad"}), retries=2)
    for _ in range(3):
        with pytest.raises(TaskFailedError, match="t: bad") as failed:
            carry_out(final)
    assert (tmp_path / "tries").read_text() == "x"
    assert failed.value.told["code"] == 3


def test_a_failure_that_may_get_better_is_tried(worker: FakeWorker, tmp_path: Path) -> None:
    flaky = job(tmp_path, (5, {"state": "failed", "retriable": True, "reason": "flaky"}), retries=2)
    for _ in range(2):
        with pytest.raises(TaskFailedError):
            carry_out(flaky)
    assert (tmp_path / "tries").read_text() == "xx"


def test_a_task_that_dask_forgot_is_not_wanted(worker: FakeWorker) -> None:
    assert not is_unwanted(worker, "k")
    worker.tasks["k"].state = "cancelled"
    assert is_unwanted(worker, "k")
    assert is_unwanted(worker, "other")
    worker.tasks["k"].state, worker.status.name = "executing", "closing"
    assert is_unwanted(worker, "k")


def test_a_worker_ends_when_dask_wants_it_no_more(worker: FakeWorker, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    slow = job(tmp_path)
    text = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    slow["calls"] = [{"steps": ["s"], "arguments": ["-c", text], "limit_s": None}]

    def cancel() -> None:
        while not (mark.exists() and mark.read_text()):
            time.sleep(0.02)
        assert running("k") == ["k"]
        worker.tasks.clear()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(TaskFailedError):
        carry_out(slow)
    thread.join()
    assert not os.path.exists(f"/proc/{mark.read_text()}")
    assert running("k") == []


def test_a_machine_tells_what_it_sees_of_a_project(small: Compiled, tmp_path: Path) -> None:
    here = look(small.request.file)
    assert (len(here["file"]), here["error"]) == (64, "")
    assert look(str(tmp_path / "none.py"))["file"] == ""
    (tmp_path / "penstock.toml").write_text("jobs = 'many'")
    assert "jobs" in look(str(tmp_path / "flows.py"))["error"]
    assert not any(small.home.config.store in text for text in here.values())


# ── on a cluster ─────────────────────────────────────────────────────────────────────────────────────────────────────

_PART = """
import sys
from penstock.backends.backend import Options
from penstock.backends.compiled import compiled
from penstock.backends.dask import Dask
group, file, where, *params = sys.argv[1:]
if __name__ == "__main__":
    flow = compiled(file, group=group, params=dict(word.split("=", 1) for word in params))
    print(Dask().run(flow, where, Options(group=group), lambda run, steps: None))
"""
_ASK = """
run = words[0]
def transitions(dask_scheduler, run):
    return [[str(word) for word in one[:3]] for one in dask_scheduler.transition_log if run in str(one[0])]
log = client.run_on_scheduler(transitions, run=run)
events = [told for _, told in client.get_events("penstock") if run in told["key"]]
lines = [m for of_worker in client.get_worker_logs().values() for _, m in of_worker if run in m]
answer = {"log": log, "events": events, "lines": lines}
"""


class Runner:
    """Runs a file by `penstock run --on dask://…` in the environment of a cluster, and asks the cluster how it went."""

    name = "dask"
    lacks: frozenset[str] = frozenset()

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.where = cluster.address.removeprefix("tcp://")
        self.said = ""

    def command(self, file: Path, params: Mapping[str, str], group: str = "step") -> list[str]:
        pairs = [f"{name}={value}" for name, value in params.items()]
        python = [str(self.cluster.processes.python), "-P"]
        if group != "step":
            script = file.parent / "part.py"
            script.write_text(_PART)
            return [*python, str(script), group, str(file), self.where, *pairs]
        words = ["-m", "penstock", "run", str(file), "--on", f"dask://{self.where}"]
        return [*python, *words, *(word for pair in pairs for word in ("--param", pair))]

    def run(
        self, file: Path, *, params: Mapping[str, str], group: str = "step", cancel_when: Path | None = None
    ) -> Went:
        with (file.parent / "said.txt").open("w+") as out:
            command = self.command(file, params, group)
            process = subprocess.Popen(
                command, cwd=file.parent, env=self.cluster.processes.env, stdout=out, stderr=out, start_new_session=True
            )
            try:
                if cancel_when is not None:
                    self.cluster.processes.wait("step that runs", cancel_when.exists)
                    process.send_signal(signal.SIGINT)
                process.wait(560)
            finally:
                process.kill()
            out.seek(0)
            self.said = out.read()
        project = Project(file.parent, file.read_text())
        return self.went(project.runs()[0].info["backend"]["run"])

    def went(self, run: str) -> Went:
        """As the scheduler tells of a run, by its transitions and events."""
        told = self.cluster.client(_ASK, run)
        first = [key.rpartition(f"{run}-")[2] for key, _, to in told["log"] if to in ("waiting", "no-worker", "queued")]
        tasks: dict[str, Any] = dict.fromkeys(first, "not run")
        words = {"done": "success", "reused": "success", "skipped": "skipped"}
        for event in told["events"]:
            tasks |= dict.fromkeys(event["steps"], words.get(event["state"], "failed"))
        ends = {key: to for key, _, to in told["log"] if to in ("memory", "erred")}
        keys = {key for key, _, _ in told["log"]}
        failed, whole = "erred" in ends.values(), ends.keys() == keys
        state = "failed" if failed else "success" if whole else "cancelled"

        def log(step: str) -> str:
            return "\n".join(line for line in told["lines"] if f"{run}-{step} " in line)

        return Went(state, tasks, log)


@pytest.mark.dask
class TestDask(BackendSuite):
    """Every backend's promises, on a scheduler and two workers."""

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls, engines: Any) -> Runner:
        return Runner(engines.get("dask"))
