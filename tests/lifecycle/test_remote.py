"""One step of a run whose steps are processes of their own, as a backend starts them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.core.flow import Graph
from penstock.core.ports import Home
from penstock.core.run import Group, StepRun
from penstock.engine.pool import Pool
from penstock.errors import PenstockError, UsageError
from penstock.lifecycle.remote import Answer, run_part
from penstock.lifecycle.remote_call import parse
from penstock.lifecycle.remote_record import Part, report_of
from penstock.lifecycle.run import Request, open_server, run
from penstock.project import open_home

WORKER = "penstock.worker"
DIAMOND = """
import os
import penstock as ps

@ps.step
def first(n: int):
    return {"n": n}

@ps.step
def left(a):
    print("left is printing")
    return a["n"] + 1

@ps.step(retries=3)
def right(a):
    return a["n"] * 2

@ps.step
def last(x, y):
    return [x, y]

start = first(ps.Param("n", 3))
flow = ps.Flow(last(left(start), right(start)), name="diamond")
"""
ORDER = ("first", "left", "right", "last")


def unused(_home: Home, _version: Any) -> int:
    raise AssertionError("nothing is rehearsed here")


class Project:
    """A folder with a flow, and what a backend's tasks do in it."""

    def __init__(self, folder: Path, text: str = DIAMOND) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "penstock.toml").write_text("")
        self.file = folder / "flows.py"
        self.file.write_text(text)
        self.home = open_home(str(folder))

    def task(self, step: str, run: str = "manual__2026-11-22T20:44:56+00:00", **options: Any) -> Answer:
        request = Request(str(self.file), params=options.get("params", {}))
        part = Part(options.get("backend", "airflow"), run, (step,))
        return run_part(self.home, request, part, WORKER, rehearse=unused)

    def rows(self, answer: Answer) -> list[tuple[str, str, str]]:
        return [(row.step, row.action, row.state) for row in self.home.ledger.step_runs(answer.run)]

    def digests(self, run_id: str) -> dict[str, list[str]]:
        return {row.step: [a.digest for a in row.outputs] for row in self.home.ledger.step_runs(run_id)}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "p")


def test_tasks_of_one_run_give_what_a_local_run_gives(project: Project, tmp_path: Path) -> None:
    answers = [project.task(step) for step in ORDER]
    assert [answer.state for answer in answers] == ["done"] * 4
    assert len({answer.run for answer in answers}) == 1
    [found] = project.home.ledger.runs()
    assert (found.state, found.counts["run"], found.info["backend"]["name"]) == ("done", 4, "airflow")
    local = Project(tmp_path / "local")
    report = run(local.home, Request(str(local.file)), WORKER, rehearse=unused)
    assert local.digests(report.outcome.run.id) == project.digests(found.id)


def test_a_run_goes_on_until_its_last_step(project: Project) -> None:
    project.task("first")
    [found] = project.home.ledger.runs()
    assert (found.state, found.ended) == ("running", None)


def test_another_run_of_the_backend_is_another_run_and_reuses(project: Project) -> None:
    for step in ORDER:
        project.task(step, "one")
    answers = [project.task(step, "two") for step in ORDER]
    assert {answer.state for answer in answers} == {"reused"}
    assert sorted(one.info["backend"]["run"] for one in project.home.ledger.runs()) == ["one", "two"]
    assert project.home.ledger.runs()[0].counts == {"run": 0, "reuse": 4, "skip": 0, "failed": 0}


def test_a_step_alone_takes_what_is_known(project: Project) -> None:
    for step in ORDER:
        project.task(step, "one")
    answer = project.task("last", "alone")
    assert answer.state == "reused"
    assert [row[0] for row in project.rows(answer)] == list(ORDER)


def test_a_step_whose_needs_have_not_run_is_refused(project: Project) -> None:
    answer = project.task("left")
    assert (answer.state, answer.exit_code, answer.retriable) == ("failed", 2, False)
    assert answer.error is not None
    assert answer.error.what.startswith("first has not run")
    assert (answer.to_json()["run"], project.home.ledger.runs()[0].state) == (answer.run, "failed")
    assert project.task("first").state == "done"
    assert project.task("left").state == "done"
    rows = [row for row in project.home.ledger.step_runs(answer.run) if row.step == "left"]
    assert [(row.attempt, row.state) for row in rows] == [(1, "failed"), (2, "done")]
    assert project.home.ledger.runs()[0].state == "running"


GONE = """
import penstock as ps

@ps.step
def first(table):
    return 1

flow = ps.Flow(first(ps.read("gone.csv")), name="gone")
"""


def test_a_task_that_cannot_begin_fails_its_run_on_record(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", GONE)
    answer = project.task("gone")
    assert (answer.state, answer.exit_code) == ("failed", 2)
    [row] = project.home.ledger.step_runs(answer.run)
    assert (row.state, (row.error or {})["error"]) == ("failed", "SourceNotFoundError")
    [found] = project.home.ledger.runs()
    assert (found.state, found.counts["failed"]) == ("failed", 1)
    assert "gone.csv" in found.info["error"]
    report = report_of(project.home, _graph(project), Request(str(project.file)), _part("gone"), unused)
    assert report.exit_code == 2


def _part(step: str) -> Part:
    return Part("airflow", "manual__2026-11-22T20:44:56+00:00", (step,))


def _graph(project: Project) -> Graph:
    server = open_server(project.home, Request(str(project.file)), WORKER)
    try:
        return server.opened()
    finally:
        server.close()


def test_a_try_that_ran_beside_another_is_not_lost(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both count the same rows, and the one that fails is first."""
    run_id = project.task("first").run
    seen, rows = project.home.ledger.step_runs, [[]]
    failed = StepRun(
        run_id, "left", 1, None, "run", "failed", {"why": "new"}, error={"error": "StepError", "what": "x"}
    )
    project.home.ledger.commit(Group(step_runs=[failed]))

    def stale(run: str) -> list[StepRun]:
        found = seen(run)
        return [row for row in found if row.step != "left"] if rows and rows.pop() == [] else found

    monkeypatch.setattr(project.home.ledger, "step_runs", stale)
    assert project.task("left").state == "done"
    assert [(row.attempt, row.state) for row in seen(run_id) if row.step == "left"] == [(1, "failed"), (2, "done")]
    for step in ("right", "last"):
        project.task(step)
    assert project.home.ledger.runs()[0].state == "done"


def test_a_step_that_is_not_there_tells_to_export_again(project: Project) -> None:
    with pytest.raises(UsageError, match="no step lft; did you mean") as caught:
        project.task("lft")
    assert "export it again" in caught.value.hint


def test_parameters_are_the_run_s(project: Project) -> None:
    answers = [project.task(step, params={"n": "10"}) for step in ORDER]
    value = project.home.formats.load(answers[-1].outcome.artifacts["last", ""], project.home.objects)
    assert value == [11, 20]


FAILING = DIAMOND.replace('return a["n"] + 1', "raise ValueError('no good')")
WRONG = DIAMOND.replace("@ps.step\ndef left(a):", "@ps.step(outputs=('a', 'b'))\ndef left(a):").replace(
    "last(left(start), right", "last(left(start)[0], right"
)


def test_a_failure_is_told_and_another_try_may_end_better(tmp_path: Path) -> None:
    project = Project(tmp_path, FAILING)
    project.task("first")
    answer = project.task("left")
    assert (answer.state, answer.exit_code, answer.retriable) == ("failed", 5, True)
    assert project.home.ledger.runs()[0].state == "failed"
    project.file.write_text(DIAMOND)
    assert project.task("left").state == "done"
    assert project.home.ledger.runs()[0].state == "running"
    assert [row.attempt for row in project.home.ledger.step_runs(answer.run) if row.step == "left"] == [1, 2]
    for step in ("right", "last"):
        project.task(step)
    assert project.home.ledger.runs()[0].state == "done"
    assert "error" not in project.home.ledger.runs()[0].info


def test_a_failure_that_cannot_get_better_is_answered_from_the_record(tmp_path: Path) -> None:
    project = Project(tmp_path, WRONG)
    project.task("first")
    answers = [project.task("left") for _ in range(3)]
    assert [(answer.exit_code, answer.retriable) for answer in answers] == [(5, False)] * 3
    assert len([row for row in project.rows(answers[0]) if row[0] == "left"]) == 1
    project.file.write_text(WRONG.replace('return a["n"] + 1', "return 1, 2"))
    assert project.task("left").state == "done"  # other code is another try


def test_a_backend_s_retries_are_its_own(trained: Path, tmp_path: Path) -> None:
    project = Project(tmp_path, DIAMOND.replace('return a["n"] * 2', "raise ValueError('always')"))
    project.task("first")
    began = time.monotonic()
    answer = project.task("right")
    assert len([row for row in project.rows(answer) if row[0] == "right"]) == 1
    assert time.monotonic() - began < 60


MAPPED = """
import os
import penstock as ps

@ps.step(resources=ps.Resources(cpu=CPU))
def score(n: int):
    with open(f"ran-{n}-{os.getppid()}", "x"):
        if n == 2 and not os.path.exists("luck"):
            raise ValueError("no luck")
    return n

@ps.step
def best(scores):
    return max(scores)

flow = ps.Flow(best(score.map([1, 2, 3])), name="wide")
"""


def test_a_task_does_the_items_of_a_mapped_step_and_its_retry_those_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "p", MAPPED.replace("CPU", "1"))
    monkeypatch.chdir(project.folder)
    answer = project.task("score")
    assert (answer.state, answer.retriable, answer.exit_code) == ("failed", True, 5)
    assert answer.to_json()["error"]["what"].startswith("1 of 3 items failed; the first, item 1: ValueError")
    [found] = project.home.ledger.runs()
    assert (found.state, found.counts) == ("failed", {"run": 0, "reuse": 0, "skip": 0, "failed": 1})
    (project.folder / "luck").touch()
    assert project.task("score").state == "done"
    ran = sorted(file.name.split("-")[1] for file in project.folder.glob("ran-*"))
    assert ran == ["1", "2", "2", "3"]
    assert project.task("best").state == "done"
    [found] = project.home.ledger.runs()
    assert (found.state, found.counts) == ("done", {"run": 2, "reuse": 0, "skip": 0, "failed": 0})


@pytest.mark.parametrize(("cpu", "jobs", "most"), [(1, 3, 3), (2, 6, 3), (4, 2, 1), (0.5, 2, 2)])
def test_items_share_what_the_task_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: float, jobs: int, most: int
) -> None:
    project = Project(tmp_path / "p", MAPPED.replace("CPU", str(cpu)))
    monkeypatch.chdir(project.folder)
    (project.folder / "luck").touch()
    project.home = open_home(str(project.folder), {"jobs": jobs})
    asked = []

    def pool(server: Any, jobs: int, logs: str) -> Pool:
        asked.append(jobs)
        return Pool(server, jobs, logs)

    monkeypatch.setattr("penstock.lifecycle.remote.Pool", pool)
    project.task("score")
    project.task("best")
    assert asked == [most, 1]


def test_a_damaged_input_is_made_again_by_whoever_finds_it(tmp_path: Path) -> None:
    big = DIAMOND.replace('return {"n": n}', 'return {"n": n, "more": "x" * 100_000}')
    project = Project(tmp_path, big)
    answer = project.task("first")
    digest = answer.outcome.artifacts["first", ""].digest
    path = project.home.objects.fetch(digest)
    os.chmod(path, 0o600)
    Path(path).write_bytes(b"{}")
    assert project.task("left").state == "done"
    assert project.home.objects.read(digest)


def test_two_first_tasks_at_once_make_one_run(tmp_path: Path) -> None:
    project = Project(tmp_path, DIAMOND.replace("left(start), right(start)", "first(1), first(2, name='second')"))
    found: list[Any] = []

    def start(step: str) -> None:
        command = _command(project, step)
        found.append(subprocess.run(command, capture_output=True, text=True, timeout=120))

    threads = [threading.Thread(target=start, args=(step,)) for step in ("start", "second")]
    project.file.write_text(
        DIAMOND.replace(
            "last(left(start), right(start))", "last(first.ref(1, name='start'), first.ref(2, name='second'))"
        )
    )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [json.loads(one.stdout.splitlines()[-1]) for one in found]
    assert [one.returncode for one in found] == [0, 0], [one.stderr for one in found]
    assert len({one["run"] for one in told}) == 1
    assert len(project.home.ledger.runs()) == 1
    assert project.task("last", "both").state == "done"


def _command(project: Project, step: str, run: str = "both") -> list[str]:
    return [
        sys.executable, "-P", "-m", WORKER, "step", "--file", str(project.file),
        "--step", step, "--backend", "airflow", "--run", run,
    ]  # fmt: skip


def test_the_process_answers_by_file_and_line_and_logs_what_is_printed(project: Project, tmp_path: Path) -> None:
    project.task("first", "both")
    result = tmp_path / "answer.json"
    ended = subprocess.run(
        _command(project, "left"),
        env=os.environ | {"PENSTOCK_RESULT": str(result)},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(result.read_text())
    assert told == json.loads(ended.stdout.splitlines()[-1])
    assert (told["state"], told["steps"]["left"]["state"]) == ("done", "done")
    assert told["steps"]["left"]["outputs"][""]["format"] == "json"
    assert "left is printing" in ended.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--step", "left"], 2, "first has not run"),
        (["--step", "left", "--param", "n"], 2, "NAME=VALUE"),
        (["--step", "left", "--more", "n"], 2, "unrecognized arguments"),
    ],
)
def test_the_process_tells_what_it_cannot_do(project: Project, words: list[str], code: int, says: str) -> None:
    base = [sys.executable, "-P", "-m", WORKER, "step", "--file", str(project.file), "--backend", "b", "--run", "r"]
    ended = subprocess.run([*base, *words], capture_output=True, text=True, timeout=120)
    told = json.loads(ended.stdout.splitlines()[-1])
    assert (ended.returncode, told["state"], told["exit"], told["retriable"]) == (code, "failed", code, False)
    assert says in told["error"]["what"]
    assert says in ended.stderr


def test_a_step_cannot_end_as_the_worker_does(tmp_path: Path) -> None:
    project = Project(tmp_path, DIAMOND.replace('return {"n": n}', "os._exit(99)"))
    answer = project.task("first")
    assert (answer.state, answer.exit_code) == ("failed", 5)


def test_what_a_step_starts_cannot_answer_for_it(tmp_path: Path) -> None:
    text = DIAMOND.replace('return {"n": n}', "return {'n': n, 'seen': os.environ.get('PENSTOCK_RESULT', 'nothing')}")
    project, result = Project(tmp_path / "p", text), tmp_path / "answer.json"
    env = os.environ | {"PENSTOCK_RESULT": str(result)}
    subprocess.run(_command(project, "first"), env=env, capture_output=True, timeout=120, check=True)
    digest = json.loads(result.read_text())["steps"]["first"]["outputs"][""]["digest"]
    [made] = project.home.ledger.makers(digest)
    assert json.loads(made.outputs[0].text or "") == {"n": 3, "seen": "nothing"}


def test_a_task_that_is_terminated_ends_with_143_and_leaves_nothing_behind(tmp_path: Path) -> None:
    mark = tmp_path / "running"
    text = DIAMOND.replace(
        'return {"n": n}', f"open({str(mark)!r}, 'w').write(str(os.getpid())); import time; time.sleep(600)"
    )
    project = Project(tmp_path / "p", text)
    process = subprocess.Popen(_command(project, "first"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (mark.exists() and mark.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert json.loads(out.splitlines()[-1])["state"] == "cancelled"
    assert project.home.ledger.runs()[0].state == "cancelled"
    step = int(mark.read_text())
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{step}") and time.monotonic() < end:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{step}")


WORKFLOW = """
import penstock as ps
from sklearn.linear_model import LogisticRegression

LEVEL = 0.6

churn = ps.Workflow(
    name="churn", data=ps.read("a.csv"), target="y", key="id", model=LogisticRegression(),
    metrics=["roc_auc"], gate=[ps.AtLeast("roc_auc", LEVEL)],
)
"""


ACTING = ("register", "champion", "compare", "gate", "deploy")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workflow whose steps have run, but for those that act on the ledger."""
    folder = tmp_path_factory.mktemp("trained")
    project = Project(folder, WORKFLOW)
    rows = [f"{i},{i % 7},{int(i % 7 + i % 5 > 5)}" for i in range(200)]
    (folder / "a.csv").write_text("id,x,y\n" + "\n".join(rows) + "\n")
    for step in ("evaluate", "audit", "package"):
        run(project.home, Request(str(project.file), until=step), WORKER, rehearse=unused)
    return folder


def effects(
    trained: Path, folder: Path, level: str, rehearse: Callable[..., int], steps: tuple[str, ...] = ACTING
) -> tuple[Project, dict[str, Answer]]:
    """Steps that act on the ledger, each in a task of its own."""
    shutil.copytree(trained, folder)
    project = Project(folder, WORKFLOW.replace("LEVEL = 0.6", f"LEVEL = {level}"))
    found = {}
    for step in steps:
        part = Part("kubeflow", "r", (step,))
        found[step] = run_part(project.home, Request(str(project.file)), part, WORKER, rehearse=rehearse)
    return project, found


def test_a_champion_comes_of_effects_in_processes_of_their_own(trained: Path, tmp_path: Path) -> None:
    project, found = effects(trained, tmp_path / "p", "0.6", rehearse=lambda *_: 3)
    assert [one.state for one in found.values()] == ["done", "reused", "done", "done", "done"]
    told = found["deploy"].to_json()
    assert (told["passed"], told["version"], told["champion"]) == (True, "churn@1", True)
    ended = project.home.ledger.runs()[0]
    assert (ended.state, ended.info["version"], ended.info["champion"]) == ("done", 1, True)
    assert (project.folder / ".penstock" / "reports" / "churn-1.html").exists()


def test_after_a_refusal_the_rest_is_skipped_and_the_run_has_not_failed(trained: Path, tmp_path: Path) -> None:
    project, found = effects(
        trained, tmp_path / "p", "1.0", unused, ("compare", "gate", "deploy")
    )  # comparing registers too
    gate, deploy = found["gate"], found["deploy"]
    assert (gate.exit_code, gate.to_json()["passed"]) == (0, False)
    assert (deploy.state, deploy.exit_code) == ("skipped", 99)
    assert deploy.reason == gate.to_json()["reason"] != ""
    ended = project.home.ledger.runs()[0]
    assert ended.state in ("refused", "undecided")
    assert ended.counts["skip"] == 1


def test_a_step_that_evaluates_tells_its_figures(trained: Path, tmp_path: Path) -> None:
    project, found = effects(trained, tmp_path / "p", "0.6", unused, ("a", "validate", "split", "evaluate"))
    told = found["evaluate"].to_json()["steps"]["evaluate"]
    report = project.home.formats.load(found["evaluate"].outcome.artifacts["evaluate", "report"], project.home.objects)
    assert told["metrics"] == {"roc_auc": report["metrics"]["roc_auc"]["shown"]["value"]}
    assert 0.5 < told["metrics"]["roc_auc"] <= 1
    assert "metrics" not in found["split"].to_json()["steps"]["split"]


def test_arguments_are_read_whole() -> None:
    with pytest.raises(PenstockError):
        parse(["--fil", "a.py", "--step", "a", "--backend", "b", "--run", "r"])
