"""A run on Kubeflow's local runner from the command line: told as it goes, ended when it is to end, nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.backends import kubeflow_local
from penstock.backends.compiled import compiled
from penstock.backends.kubeflow import _Watch
from penstock.errors import InternalError, StoreError
from penstock.project import open_home
from penstock.testing import backend_flows

TOLD = """
import os, time
import penstock as ps

@ps.step
def first(n: int, text: str, big: int, folder: str):
    return [n, text, big]

@ps.step
def second(given, folder: str):
    over = time.monotonic() + 60
    while not os.path.exists(os.path.join(folder, "told")):
        assert time.monotonic() < over, "nobody was told of the first while the second ran"
        time.sleep(0.05)
    return [*given, os.environ.get("TMPDIR", ""), os.environ["PATH"]]

folder = ps.Param("folder", "")
made = first(ps.Param("n", 1), ps.Param("text", "python3 -m x"), ps.Param("big", 2**60 + 1), folder)
flow = ps.Flow(second(made, folder), name="told")
"""
RUN = """
import json, pathlib, sys
from penstock.backends.backend import Options
from penstock.backends.compiled import compiled
from penstock.backends.kubeflow import Kubeflow
file, python, folder = sys.argv[1:]
told = []
def done(run, steps):
    told.append([run, steps])
    pathlib.Path(folder, "told").touch()
flow = compiled(file, group="step", python=python, params={"folder": folder})
ended = Kubeflow().run(flow, "", Options(group="step"), done)
print(json.dumps([ended.run, ended.outcome, told]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project in a folder with a space in its name, and a folder for what is temporary."""
    made = tmp_path / "my project"
    made.mkdir()
    (made / "penstock.toml").write_text("")
    (tmp_path / "tmp").mkdir()
    return made


def environment(kubeflow: Any, folder: Path) -> dict[str, str]:
    return {**kubeflow.processes.env, "TMPDIR": str(folder.parent / "tmp")}


def begun(kubeflow: Any, folder: Path, text: str) -> subprocess.Popen[str]:
    """`penstock run --on kubeflow`, once its first step runs."""
    (folder / "flows.py").write_text(text)
    words = ["run", folder / "flows.py", "--on", "kubeflow", "--param", f"folder={folder}"]
    process = subprocess.Popen(
        [kubeflow.processes.python, "-P", "-m", "penstock", *words],
        env=environment(kubeflow, folder), cwd=folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not (folder / "slow.pid").exists() or not (folder / "slow.pid").read_text():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)
    return process


def gone(folder: Path) -> bool:
    """Whether the process of the step ends, soon."""
    pid, end = int((folder / "slow.pid").read_text()), time.monotonic() + 60
    while kubeflow_local.lives(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not kubeflow_local.lives(pid)


def test_steps_on_kubeflow_are_told_of_as_they_end_and_get_what_was_given(kubeflow: Any, folder: Path) -> None:
    """By a Python whose path has a space; what is given reaches the step whole; no temporary file is left."""
    (folder / "flows.py").write_text(TOLD)
    (folder / "types.py").write_text("raise ImportError('the folder one stands in is no place for imports')\n")
    python = folder / "bin" / "python"
    (folder / "bin").symlink_to(kubeflow.processes.python.parent)
    (folder / "pyvenv.cfg").symlink_to(kubeflow.processes.python.parent.parent / "pyvenv.cfg")
    (folder / "lib").symlink_to(kubeflow.processes.python.parent.parent / "lib")
    given = environment(kubeflow, folder)
    done = subprocess.run(
        [python, "-P", "-c", RUN, folder / "flows.py", python, folder],
        env=given, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run, outcome, told = json.loads(done.stdout.splitlines()[-1])
    assert (outcome, told) == ("success", [[run, ["first"]], [run, ["second"]]])
    home = open_home(str(folder))
    rows = {row.step: row for row in home.ledger.step_runs(home.ledger.runs()[0].id)}
    value = home.formats.load(rows["second"].outputs[0], home.objects)
    assert value == [1, "python3 -m x", 2**60 + 1, given["TMPDIR"], given["PATH"]]
    assert os.listdir(given["TMPDIR"]) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=["term", "int", "kill"])
def test_a_run_on_kubeflow_that_is_ended_takes_its_steps_with_it(
    kubeflow: Any, folder: Path, number: signal.Signals
) -> None:
    process = begun(kubeflow, folder, backend_flows.SLOW.replace("@ps.step(timeout_s=LIMIT)", "@ps.step(retries=3)"))
    try:
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert gone(folder)
    [run] = open_home(str(folder)).ledger.runs()
    if number != signal.SIGKILL:  # whoever is killed cannot clear up
        assert process.returncode == (143 if number == signal.SIGTERM else 130), said
        assert run.state == "cancelled"
        assert os.listdir(folder.parent / "tmp") == []


def test_a_run_on_kubeflow_that_fails_before_its_first_step_says_why(kubeflow: Any, folder: Path) -> None:
    """The worker's own words, which stand in the runner's log alone."""
    (folder / "flows.py").write_text(backend_flows.SLOW.replace("LIMIT", "None"))
    script = RUN.replace("ended = K", "import os; os.unlink(file); ended = K").replace("ended.outcome", "ended.reason")
    said = kubeflow.processes.run("-c", script, folder / "flows.py", kubeflow.processes.python, folder)
    assert "there is no file" in json.loads(said.splitlines()[-1])[1]


def test_a_fault_of_kubeflow_s_runner_is_no_failure_of_a_task(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n" * 5_000 + "ValueError: got unknown task status\n")
    with pytest.raises(InternalError, match="unknown task status") as told:
        kubeflow_local._why(2, str(log))
    assert len(str(told.value)) < 5_000
    log.write_text("    penstock: rows failed\n    penstock: it went wrong\nTask 'rows' finished with status FAILURE\n")
    assert kubeflow_local._why(1, str(log)) == "it went wrong"
    assert kubeflow_local._why(0, str(log)) == ""
    log.write_text("")
    assert kubeflow_local._why(1, str(log)) == "a task failed"


@pytest.mark.parametrize("told", ["/proc", "/no/such/proc"])
def test_whether_who_waits_for_a_kubeflow_task_lives_is_known_on_every_system(
    told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong "no" would end every task at once."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setattr(kubeflow_local, "PROC", told)
    assert kubeflow_local.lives(os.getpid())
    assert not kubeflow_local.lives(ended.pid)


def test_a_ledger_that_is_away_for_a_moment_ends_no_run_on_kubeflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(backend_flows.KILLED)
    flow = compiled(str(tmp_path / "flows.py"), group="step")
    rows = [SimpleNamespace(step="fragile[ab]", state="done"), SimpleNamespace(step="fragile", state="done")]
    answers: list[Any] = [StoreError("away"), [], [SimpleNamespace(step="fragile", state="failed")], rows, rows]

    def step_runs(_self: Any, _run: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(type(flow.home.ledger), "step_runs", step_runs)
    told: list[Any] = []
    watch = _Watch(flow, lambda run, steps: told.append((run, steps)))
    while answers:
        watch.look("r")
    assert told == [("r", ("fragile",))]
