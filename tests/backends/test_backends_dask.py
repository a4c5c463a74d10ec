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
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.backends import dask_task
from penstock.backends.backend import Options, backend
from penstock.backends.compiled import Compiled, compiled
from penstock.backends.dask import Dask as Backend
from penstock.backends.dask import _looked_at, _Run, job_of, key_of, parts_of, resources_of
from penstock.backends.dask_cluster import LOST as CONNECTION_LOST
from penstock.backends.dask_cluster import address_of
from penstock.backends.dask_task import TaskFailedError, carry_out, is_unwanted, look, place_of, running
from penstock.core.run import Group, Run
from penstock.errors import MissingExtraError, PenstockError, UsageError
from penstock.lifecycle.rehearse import rehearse_with
from penstock.lifecycle.remote_record import Part
from penstock.lifecycle.run import Request
from penstock.lifecycle.run import run as run_here
from penstock.project import open_home
from penstock.testing import backend_flows as flows
from penstock.testing.backend_suite import BackendSuite, LocalRunner, Project, Went

SMALL = """
import penstock as ps

@ps.step(retries=2, backoff_s=0.0, timeout_s=60)
def first(n: int):
    return n

@ps.step(resources=ps.Resources(gpu=2, cpu=2, memory="1GiB", labels={"zone": "eu"}))
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
    assert resources_of(second, {}) == {"gpu": 2.0, "zone:eu": 1.0}
    offered = {"gpu": "GPU", "memory": "MEMORY", "cpu": "cpu", "zone:eu": "zone:EU"}
    assert resources_of(second, offered) == {"GPU": 2.0, "zone:EU": 1.0, "MEMORY": 2.0**30, "cpu": 2.0}


def test_dask_says_before_a_run_what_it_has_not(small: Compiled) -> None:
    found = Backend().check(small, Options(schedule="@daily", image="x", secrets=("A",)))
    assert {f.what for f in found if f.what.startswith("--")} == {
        f"--{w}: Dask has none" for w in ("schedule", "image", "secret")
    }
    notes = [f.remedy for f in found if f.grade == "note"]
    assert [re.findall(r'"(\S+)"', text) for text in notes] == [["gpu=2"], ["zone:eu=1"]]
    assert [f.what for f in Backend().check(small, Options(more={"on": "h", "imgae": "x"})) if "imgae" in f.what]


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


@pytest.mark.parametrize("given", ["/", "ws://h", "h:abc", "h:", "a b", "me:s3cret@h", "h/../x", "h?x=y"])
def test_what_is_no_address_of_dask_is_refused_before_its_client_hangs(given: str) -> None:
    with pytest.raises(UsageError, match="no address of a scheduler") as told:
        address_of(given)
    assert "s3cret" not in str(told.value)


MAPPED = """
import penstock as ps

@ps.step(timeout_s=10)
def each(n: int):
    return n

flow = ps.Flow(each.map([1, 2, 3]), name="mapped")
"""


def test_the_time_limit_of_an_item_is_not_that_of_its_task_on_dask(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(MAPPED)
    flow = compiled(str(tmp_path / "flows.py"), group="step")
    assert [call["limit_s"] for call in job_of(flow, flow.tasks[0], "r1", Options())["calls"]] == [None]


SEARCH = """
import penstock as ps
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

@ps.step
def each(n: int):
    return n

churn = ps.Workflow(
    name="churn",
    data=ps.read("customers.csv"),
    target="churned",
    key="customer_id",
    features=["age", "income"],
    model=GridSearchCV(LogisticRegression(), {"C": [0.01, 0.1, 1.0, 10.0]}, cv=3),
    metrics=["roc_auc"],
)
wide = ps.Flow(each.map([1, 2, 3]), name="wide")
"""


def test_a_search_and_a_mapped_step_are_divided_among_the_threads_of_dask(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(SEARCH)
    flow = compiled(f"{tmp_path / 'flows.py'}:churn", group="step")
    assert {task.id: n for task in flow.tasks if (n := parts_of(flow, task, 2))} == {"train": 2, "evaluate": 2}
    assert not any(parts_of(flow, task, 1) for task in flow.tasks)
    flow = compiled(f"{tmp_path / 'flows.py'}:wide", group="step")
    assert [parts_of(flow, flow.tasks[0], n) for n in (1, 2, 9)] == [0, 3, 3]
    [call] = job_of(flow, flow.tasks[0], "r1", Options(), "2/3")["calls"]
    assert " ".join(call["arguments"]).endswith("--step each --part 2/3 --run r1")


CANDIDATES = """
import penstock as ps
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

churn = ps.Workflow(
    name="churn",
    data=ps.read("customers.csv"),
    target="churned",
    key="customer_id",
    model={"linear": LogisticRegression(), "guess": DummyClassifier()},
    metrics=["roc_auc"],
)
"""


def test_candidates_are_tasks_of_dask_that_do_not_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(CANDIDATES)
    tasks = {task.id: task for task in compiled(str(tmp_path / "flows.py"), group="step").tasks}
    assert tasks["evaluate_linear"].needs == tasks["evaluate_guess"].needs == ("split", "validate")
    assert {"evaluate_linear", "evaluate_guess"} <= set(tasks["evaluate"].needs)


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


def test_of_a_machine_is_asked_what_it_sees_in_the_environment_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text('[env.prod]\nstore = "elsewhere"')
    (tmp_path / "flows.py").write_text("")
    file = str(tmp_path / "flows.py")
    assert look(file, "prod")["store"] == place_of(str(tmp_path / "elsewhere"))
    assert look(file)["store"] == place_of(str(tmp_path / ".penstock"))


def test_what_a_step_prints_and_why_it_failed_is_bounded_on_dask(
    worker: FakeWorker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "import sys; sys.stderr.write('x' * 100_000 + chr(10)); "
    endless = job(tmp_path, (3, {"state": "failed", "retriable": False, "reason": "y" * 100_000}))
    endless["calls"][0]["arguments"][1] = text + endless["calls"][0]["arguments"][1]
    with caplog.at_level("INFO", dask_task.LOGGER), pytest.raises(TaskFailedError) as failed:
        carry_out(endless)
    assert len(str(failed.value)) < 2_000  # Dask makes another error of one of 10,000 characters
    assert max(map(len, caplog.messages)) < 3_000


def test_tasks_of_dask_are_counted_while_others_begin_and_end() -> None:
    end = threading.Event()

    def churn() -> None:
        while not end.is_set():
            dask_task._running.update(f"x{n}" for n in range(50))
            dask_task._running.difference_update(f"x{n}" for n in range(50))

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(2_000):
            assert running("mine") == []
    finally:
        end.set()
        thread.join()


# ── a client and what became of its tasks, without Dask ──────────────────────────────────────────────────────────────


class FakeFuture:
    """As much of Dask's as a client sees."""

    def __init__(self, key: str, status: str, error: BaseException | None) -> None:
        self.key, self.status, self._error = key, status, error

    def result(self) -> None:
        if self._error is not None:
            raise self._error


class FakeClient:
    """Gives each task the same end, or one of its own."""

    loop = None

    def __init__(self, status: str, error: BaseException | None) -> None:
        self.ends = (status, error)
        self.submitted: list[FakeFuture] = []
        self.cancelled = 0

    def submit(self, _function: Any, _job: Any, *_needs: Any, key: str, **_more: Any) -> FakeFuture:
        self.submitted.append(FakeFuture(key, *self.ends))
        return self.submitted[-1]

    def cancel(self, futures: list[FakeFuture], *, force: bool) -> None:
        self.cancelled = len(futures) if force else 0

    def run(self, _function: Any, _run: str) -> dict[str, list[str]]:
        return {}


class KilledWorker(Exception):
    """As Dask's, of which a task that waits for another has the other's."""

    task = ""


@pytest.fixture
def begun(small: Compiled, monkeypatch: pytest.MonkeyPatch) -> Compiled:
    """A flow of which a run is on record as running, under the id that the next client gives it."""
    monkeypatch.setitem(
        sys.modules, "distributed", types.SimpleNamespace(as_completed=lambda futures, loop: reversed(futures))
    )
    run = Run(Part("dask", RUN, ()).id_of("small"), "small", "all", "running", time.time())
    small.home.ledger.commit(Group(runs=[run]))
    return small


RUN = "b0" * 16


def ended(flow: Compiled, client: FakeClient) -> tuple[str, Any]:
    """The error that the client raises, and what is on record of the run after it."""
    with pytest.raises(PenstockError) as told:
        _Run(flow, client, Options(), {}, 1, RUN).carry_out(lambda *_: None)
    [run] = flow.home.ledger.runs(prefix=Part("dask", RUN, ()).id_of("small"))
    return f"{type(told.value).__name__}: {told.value}", run


def test_a_task_that_dask_gives_up_ends_its_run_on_record(begun: Compiled) -> None:
    lost = KilledWorker("4 workers died")
    lost.task = key_of("small", RUN, "first")
    told, run = ended(begun, FakeClient("error", lost))
    assert told.startswith("StepError: task first: Dask gave it up: KilledWorker: 4 workers died")
    assert (run.state, run.info["error"], run.ended is not None) == (
        "failed",
        "Dask gave it up: KilledWorker: 4 workers died",
        True,
    )


def test_a_run_whose_scheduler_is_gone_has_failed_and_was_not_cancelled(begun: Compiled) -> None:
    lost = Exception()
    lost.reason = CONNECTION_LOST
    client = FakeClient("cancelled", lost)
    told, run = ended(begun, client)
    assert told.startswith("BackendError: task second: the connection to Dask's scheduler was lost")
    assert (run.state, client.cancelled) == ("failed", 2)


def test_a_run_that_is_cancelled_on_the_cluster_is_cancelled_on_record(begun: Compiled) -> None:
    told, run = ended(begun, FakeClient("cancelled", Exception()))
    assert told.startswith("CancelledError: second was cancelled on the cluster")
    assert (run.state, "error" in run.info) == ("cancelled", False)


def test_a_scheduler_without_penstock_is_told_from_a_worker_without_it(small: Compiled) -> None:
    def no_penstock(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'penstock'")

    client = types.SimpleNamespace(
        scheduler=types.SimpleNamespace(address="tcp://h:1"),
        wait_for_workers=lambda *_, **__: None,
        run_on_scheduler=no_penstock,
    )
    with pytest.raises(UsageError, match="Dask's scheduler cannot run Penstock: ModuleNotFoundError"):
        _looked_at(client, small, Options())


# ── on a cluster ─────────────────────────────────────────────────────────────────────────────────────────────────────

_PART = """
import sys
from penstock.backends.backend import Options
from penstock.backends.compiled import compiled
from penstock.backends.dask import Dask
group, file, where, python, *params = sys.argv[1:]
if __name__ == "__main__":
    flow = compiled(file, group=group, params=dict(word.split("=", 1) for word in params))
    print(Dask().run(flow, where, Options(group=group, python=python), lambda run, steps: None))
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
            # Steps run by this Python, which can start a model process; the cluster's environment lacks that extra.
            return [*python, str(script), group, str(file), self.where, sys.executable, *pairs]
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
        divided = re.compile(r"(\w+)-\d+of\d+")
        parts = Counter(found[1] for name in dict.fromkeys(first) if (found := divided.fullmatch(name)))
        tasks: dict[str, Any] = dict.fromkeys((name for name in first if not divided.fullmatch(name)), "not run")
        words = {"done": "success", "reused": "success", "skipped": "skipped"}
        for event in told["events"]:
            if event["state"] in words and re.search(r"\dof\d+$", event["key"]):  # the task behind its parts tells
                continue
            tasks |= dict.fromkeys(event["steps"], words.get(event["state"], "failed"))
        ends = {key: to for key, _, to in told["log"] if to in ("memory", "erred")}
        keys = {key for key, _, _ in told["log"]}
        failed, whole = "erred" in ends.values(), ends.keys() == keys
        state = "failed" if failed else "success" if whole else "cancelled"

        def log(step: str) -> str:
            return "\n".join(line for line in told["lines"] if f"{run}-{step} " in line)

        return Went(state, tasks, log, parts)


@pytest.mark.dask
class TestDask(BackendSuite):
    """Every backend's promises, on a scheduler and two workers."""

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls, engines: Any) -> Runner:
        return Runner(engines.get("dask"))


_WIRE = """
import io, json, pickle, sys
import distributed.protocol.pickle as wire
from penstock.backends.backend import Options
from penstock.backends.compiled import compiled
from penstock.backends.dask import Dask
sent = []
class Recorder(pickle.Unpickler):
    def find_class(self, module, name):
        sent[-1].append(f"{module}.{name}")
        return super().find_class(module, name)
plain = wire.dumps
def dumps(value, *rest, **options):
    out = plain(value, *rest, **options)
    if b"carry_out" in out:
        sent.append([len(out)])
        Recorder(io.BytesIO(out)).load()
    return out
if __name__ == "__main__":
    wire.dumps = dumps
    flow = compiled(sys.argv[1], group="step")
    ended = Dask().run(flow, sys.argv[2], Options(group="step"), lambda run, steps: None)
    print(json.dumps([ended.state, sent]))
"""
PLAIN = """
import penstock as ps

@ps.step
def first(n: int):
    return list(range(n))

@ps.step
def second(rows):
    return len(rows)

flow = ps.Flow(second(first(ps.Param("n", 100_000))), name="plain")
"""


def test_what_goes_over_the_wire_to_dask_is_text_and_numbers(dask: Any, tmp_path: Path) -> None:
    project = Project(tmp_path / "plain", PLAIN)
    (tmp_path / "wire.py").write_text(_WIRE)
    out = dask.processes.run(tmp_path / "wire.py", project.file, dask.address)
    state, sent = json.loads(out.splitlines()[-1])
    assert state == "finished"
    assert 0 < sum(size for size, *_ in sent) < 4_000
    classes = {one for _, *named in sent for one in named if not one.startswith(("dask.", "builtins."))}
    assert classes == {"penstock.backends.dask_task.carry_out"}


def test_fits_of_a_search_and_items_are_tasks_of_dask_with_the_bytes_of_a_local_run(dask: Any, tmp_path: Path) -> None:
    runner = Runner(dask)
    for variable, divided, until in (("churn", "train", "train"), ("wide", "each", "each")):
        local, project = (
            Project(tmp_path / f"{variable}-{name}", SEARCH, {"customers.csv": flows.customers()})
            for name in ("local", "dask")
        )
        command = [*runner.command(project.file, {}), "--until", until]
        command[command.index(str(project.file))] += f":{variable}"
        told = subprocess.run(command, env=dask.processes.env, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr
        [ended] = project.runs()
        run_here(
            open_home(str(local.folder)),
            Request(str(local.file), variable, until=until),
            "penstock.worker",
            rehearse=rehearse_with("penstock.serve"),
        )
        assert project.digests(ended.id) == local.digests(local.runs()[0].id)
        tasks = dask.client(_ASK, ended.info["backend"]["run"])["log"]
        parts = {key.rpartition(f"{divided}-")[2] for key, _, to in tasks if f"-{divided}-" in key and to == "memory"}
        n = 2 if variable == "churn" else 3
        assert parts == {f"{k}of{n}" for k in range(1, n + 1)}


LOST = """
import os, time
import penstock as ps

def tries(folder, name):
    with open(os.path.join(folder, f"{name}.tries"), "a") as file:
        file.write("x")
    return os.path.getsize(file.name)

@ps.step
def start(folder: str):
    tries(folder, "start")
    return folder

@ps.step
def fragile(folder):
    if tries(folder, "fragile") < 2:
        with open(os.path.join(folder, "slow.part"), "w") as file:
            file.write(str(os.getpid()))
        os.rename(file.name, os.path.join(folder, "slow.pid"))
        time.sleep(600)
    return "survived"

lost = ps.Flow(fragile(start(ps.Param("folder", ""))), name="lost")
"""


def ancestors(pid: int) -> list[int]:
    found = [pid]
    while found[-1] > 1:
        found.append(int(Path(f"/proc/{found[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
    return found


def test_a_dask_worker_that_dies_is_replaced_by_another(dask: Any, tmp_path: Path) -> None:
    project, runner = Project(tmp_path / "lost", LOST), Runner(dask)
    killed: list[str] = []

    def kill() -> None:
        mark = project.notes / "slow.pid"
        dask.processes.wait("step that runs", mark.exists)
        above = ancestors(int(mark.read_text()))
        killed.extend(name for name, pid in dask.pids.items() if pid in above)
        dask.kill_worker(killed[0])

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        went = runner.run(project.file, params=project.params)
    finally:
        thread.join()
        dask.start_worker(killed[0])  # by its own name: other tests ask for it
    assert went.state == "success", runner.said
    assert went.tasks == {"start": "success", "fragile": "success"}
    assert (project.tries("fragile"), project.tries("start")) == (2, 1)  # what only the dead one held is reused
    assert project.runs()[0].state == "done"
    TestDask().is_gone(project)


SIDE_BY_SIDE = """
import os, time
import penstock as ps

def meets(folder, mine, other):
    open(os.path.join(folder, mine), "w").close()
    end = time.monotonic() + 240
    while not os.path.exists(os.path.join(folder, other)):
        assert time.monotonic() < end, f"{other} did not come"
        time.sleep(0.05)
    return mine

@ps.step
def start(folder: str):
    return folder

@ps.step
def left(folder):
    return meets(folder, "left", "right")

@ps.step
def right(folder):
    return meets(folder, "right", "left")

@ps.step(resources=ps.Resources(gpu=1))
def both(a, b):
    return [a, b]

folder = start(ps.Param("folder", ""))
side = ps.Flow(both(left(folder), right(folder)), name="side")
"""


def test_two_steps_run_on_two_workers_of_dask_at_once_and_a_gpu_step_where_one_is(dask: Any, tmp_path: Path) -> None:
    project, runner = Project(tmp_path / "side", SIDE_BY_SIDE), Runner(dask)
    refused = subprocess.run(
        runner.command(project.file, project.params),
        env=dask.processes.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert 'both needs a worker started with --resources "gpu=1", and there is none' in refused.stderr
    assert project.runs() == []
    before = set(dask.workers())
    dask.start_worker("with-gpu", "--resources", "gpu=1")
    dask.processes.wait("one worker more", lambda: "with-gpu" in dask.workers())
    try:
        went = runner.run(project.file, params=project.params)
        assert went.state == "success", runner.said
        events = dask.client("answer = [told for _, told in client.get_events('penstock')]")
        at = {told["task"]: told["worker"] for told in events if told["run"] == project.runs()[0].id}
        assert at["left"] != at["right"]
        assert at["both"] == dask.workers()["with-gpu"]
    finally:
        dask.kill_worker("with-gpu")
        dask.processes.wait("one worker less", lambda: set(dask.workers()) == before)


def test_a_word_that_dask_cannot_use_is_refused_at_once(dask: Any, tmp_path: Path) -> None:
    project, runner = Project(tmp_path / "plain", PLAIN), Runner(dask)
    command = runner.command(project.file, {})
    command[command.index("--on") + 1] = "dask://tls://127.0.0.1:1"
    told = subprocess.run(command, env=dask.processes.env, capture_output=True, text=True, check=False)
    assert (told.returncode, "names no certificates" in told.stderr) == (2, True)
    assert "Traceback" not in told.stderr


def test_a_worker_of_dask_with_another_store_is_refused(dask: Any, tmp_path: Path) -> None:
    project, runner = Project(tmp_path / "plain", PLAIN), Runner(dask)
    env = dask.processes.env | {"PENSTOCK_STORE": str(tmp_path / "elsewhere")}
    told = subprocess.run(runner.command(project.file, {}), env=env, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "has another store (PENSTOCK_STORE, PENSTOCK_ENV)" in told.stderr


def test_a_cluster_of_dask_made_for_a_run_is_on_loopback_and_ends_with_it(dask: Any, tmp_path: Path) -> None:
    project = Project(tmp_path / "slow", flows.SLOW.replace("LIMIT", "None"))
    before = set(dask.processes.pids())
    command = Runner(dask).command(project.file, project.params)
    command[command.index("--on") + 1] = "dask"
    said = tmp_path / "said"
    with said.open("w") as out:
        process = subprocess.Popen(
            command, cwd=project.folder, env=dask.processes.env, stdout=out, stderr=out, start_new_session=True
        )
    mark = project.notes / "slow.pid"
    try:
        dask.processes.wait("step that runs", mark.exists)
        assert set(dask.processes.pids()) - before
        assert {host for host, _ in dask.processes.listening()} <= {"127.0.0.1", "::1"}
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: its workers get it too
        assert process.wait(120) == 130
    finally:
        process.kill()
    TestDask().is_gone(project)
    dask.processes.wait("end of its processes", lambda: set(dask.processes.pids()) <= before)
    assert project.runs()[0].state == "cancelled"
    assert "Traceback" not in said.read_text()


_PREDICT = """
import json, os, sys
import distributed.protocol.pickle as wire
from penstock.cli import main
sent = []
plain = wire.dumps
def dumps(value, *rest, **options):
    out = plain(value, *rest, **options)
    if b"answer_slice" in out:
        sent.append(len(out))
    return out
if __name__ == "__main__":
    wire.dumps = dumps
    os.chdir(sys.argv[1])
    sys.argv = ["penstock", *sys.argv[2:]]
    code = main()
    print(json.dumps(sent))
    sys.exit(code)
"""


def test_a_large_file_is_answered_by_slices_on_dask_with_the_bytes_of_one_process(dask: Any, tmp_path: Path) -> None:
    project = Project(
        tmp_path / "churn", flows.CHURN.replace("LEVEL", flows.PASSES), {"customers.csv": flows.customers()}
    )
    LocalRunner().run(project.file, params={"cap": "4000"})
    header, *rows = flows.customers().splitlines()
    lines = [f"n{place}-{row}" for place in range(120_000 // len(rows) + 1) for row in rows]
    (project.folder / "many.csv").write_text("\n".join([header, *lines]) + "\n")
    (tmp_path / "predict.py").write_text(_PREDICT)
    objects = open_home(str(project.folder)).objects
    before = {one.digest for one in objects.walk()}

    def predict(name: str, *more: str) -> str:
        words = ["predict", "churn@1", "many.csv", "--out", name, *more]
        return str(dask.processes.run(tmp_path / "predict.py", project.folder, *words))

    predict("once.csv")
    sent = json.loads(predict("slices.csv", "--on", f"dask://{Runner(dask).where}").splitlines()[-1])
    assert (project.folder / "slices.csv").read_bytes() == (project.folder / "once.csv").read_bytes()
    assert 0 < sum(sent) < 10_000
    assert {one.digest for one in objects.walk()} == before


def test_a_step_on_dask_ends_when_its_client_is_gone(dask: Any, tmp_path: Path) -> None:
    project = Project(tmp_path / "slow", flows.SLOW.replace("LIMIT", "None"))
    command = Runner(dask).command(project.file, project.params)
    process = subprocess.Popen(command, cwd=project.folder, env=dask.processes.env, start_new_session=True)
    try:
        dask.processes.wait("step that runs", (project.notes / "slow.pid").exists)
    finally:
        process.kill()
        process.wait()
    TestDask().is_gone(project)
