"""What is known of the tasks of a backend's run while they last, and of those that were killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from command_line import call
from penstock.core.ports import Home
from penstock.core.run import Run, StepRun
from penstock.lifecycle import remote_tasks
from penstock.lifecycle.alive import TASKS, mark, state_of
from penstock.lifecycle.remote_call import _write
from penstock.lifecycle.remote_record import Part
from penstock.lifecycle.remote_tasks import last_sign, noted, told
from penstock.project import open_home

WORKER = "penstock.worker"
FLOW = """
import os, time
import penstock as ps

WAIT = os.environ.get("SLOW_IMPORT")
if WAIT:
    open(WAIT, "w").close()
    time.sleep(600)

def until(name: str):
    path = os.path.join(os.path.dirname(__file__), name)
    with open(path + ".begun.part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(file.name, path + ".begun")
    while not os.path.exists(path):
        time.sleep(0.02)
    return name

@ps.step
def left():
    return until("left")

@ps.step
def right():
    return until("right")

@ps.step
def last(x, y):
    return [x, y]

flow = ps.Flow(last(left.ref(), right.ref()), name="pair")
"""
PROCESS = mark()
GONE = PROCESS | {"pid": 2**22 + 1}
AWAY = PROCESS | {"host": "worker-3"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(FLOW)
    return tmp_path


def start(folder: Path, step: str, **variables: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-P", "-m", WORKER, "step", "--file", str(folder / "flows.py"), "--step", step]
    return subprocess.Popen(
        [*words, "--backend", "airflow", "--run", "r1"],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path) -> str:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"no {path.name}"
        time.sleep(0.02)
    return path.read_text()


def the_run(folder: Path) -> Run:
    [found] = open_home(str(folder)).ledger.runs()
    return found


def test_tasks_that_run_at_once_are_both_on_record_and_gone_with_their_end(folder: Path) -> None:
    with start(folder, "left") as left, start(folder, "right") as right:
        for name in ("left", "right"):
            wait_for(folder / f"{name}.begun")
        run = the_run(folder)
        assert set(run.info[TASKS]) == {"left", "right"}
        assert (run.state, state_of(run)) == ("running", "running")
        listed = call(folder, "runs")
        assert " since " in listed.out
        (folder / "left").touch()
        left.communicate(timeout=60)
        assert set(the_run(folder).info[TASKS]) == {"right"}
        (folder / "right").touch()
        right.communicate(timeout=60)
    run = the_run(folder)
    assert (TASKS in run.info, run.state, state_of(run)) == (False, "running", "running")
    assert "last sign of life" in call(folder, "runs").out
    assert json.loads(call(folder, "runs", "--json").out)[0]["last_sign"]["state"] == "ended"
    with start(folder, "last") as last:
        assert json.loads(last.communicate(timeout=60)[0])["state"] == "done"
    assert "last sign of life" not in call(folder, "runs").out
    assert (the_run(folder).state, TASKS in the_run(folder).info) == ("done", False)


def test_a_task_that_was_killed_is_told_and_its_next_try_says_so(folder: Path) -> None:
    with start(folder, "left") as worker:
        wait_for(folder / "left.begun")
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(60)
    run = the_run(folder)
    assert (run.state, state_of(run)) == ("running", "interrupted")
    listed, shown = call(folder, "runs").out, call(folder, "show").out
    assert "interrupted" in listed
    for text in (listed, shown):
        assert "left, begun " in text
        assert "was killed: its backend may try again" in text
    assert "on airflow as r1" in shown
    (folder / "left").touch()
    with start(folder, "left") as worker:
        out, log = worker.communicate(timeout=60)
    assert json.loads(out)["state"] == "done"
    assert "penstock: an earlier try of left on " in log
    rows = open_home(str(folder)).ledger.step_runs(run.id)
    assert [(row.attempt, row.state, (row.error or {}).get("error")) for row in rows] == [
        (1, "failed", "StepKilledError"),
        (2, "done", None),
    ]
    assert state_of(the_run(folder)) == "running"


def test_a_worker_that_is_asked_to_end_before_it_knows_its_run_says_so_too(folder: Path) -> None:
    with start(folder, "left", SLOW_IMPORT=str(folder / "importing")) as worker:
        wait_for(folder / "importing")
        worker.terminate()
        out, _ = worker.communicate(timeout=60)
    answer = json.loads(out)
    assert (worker.returncode, answer["state"], answer["exit"]) == (143, "cancelled", 143)
    assert open_home(str(folder)).ledger.runs() == []


def test_a_worker_whose_caller_was_killed_before_it_was_tied_begins_nothing(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as caller:
        caller.wait(60)
    with start(folder, "left", PENSTOCK_TIED=str(caller.pid)) as worker:
        out, _ = worker.communicate(timeout=60)
    assert (worker.returncode, json.loads(out)["state"]) == (143, "cancelled")
    assert not (folder / "left.begun").exists()


def test_a_figure_that_is_no_number_costs_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write({"state": "done", "metrics": {"r2": float("nan"), "mae": 1.5}}, str(tmp_path / "answer.json"))
    told = json.loads((tmp_path / "answer.json").read_text())
    assert told == json.loads(capsys.readouterr().out) == {"state": "done", "metrics": {"r2": None, "mae": 1.5}}


def a_run(home: Home, tasks: dict[str, Any]) -> Run:
    run = Run("ab" * 8, "pair", "run", "running", 10.0, info={"backend": {"name": "x", "run": "r"}, TASKS: tasks})
    home.ledger.commit(remote_tasks.Group(runs=[run]))
    return run


def clobbering(home: Home, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose row another task overwrites once, with what it had read before."""
    run, commit, times = a_run(home, {"right": AWAY}), home.ledger.commit, [1]

    def commits(group: Any) -> None:
        commit(group)
        if times.pop() if times else 0:
            commit(remote_tasks.Group(runs=[run]))

    monkeypatch.setattr(home.ledger, "commit", commits)
    return run


def test_a_note_that_another_task_overwrote_is_written_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = open_home(str(folder))
    run = clobbering(home, monkeypatch)
    with noted(home, run, Part("x", "r", ("left",))) as before:
        assert before is None
        assert set(home.ledger.runs()[0].info[TASKS]) == {"left", "right"}
    assert set(home.ledger.runs()[0].info[TASKS]) == {"right"}


def test_written_once_it_would_be_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_tasks, "MOST_TURNS", 1)
    with pytest.raises(AssertionError):
        test_a_note_that_another_task_overwrote_is_written_again(folder, monkeypatch)


@pytest.mark.parametrize(
    ("tasks", "state", "says"),
    [
        ({}, "running", "last sign of life 13: left ended"),
        ({"right": PROCESS | {"began": 12.0}}, "running", "right since 12"),
        ({"right": AWAY | {"began": 14.0}}, "running", "right since 14 on worker-3, of which no more is known here"),
        ({"right": GONE | {"began": 14.0}}, "interrupted", "right, begun 14, was killed: its backend may try again"),
        ({"a": GONE | {"began": 14.0}, "b 1/3": PROCESS | {"began": 11.0}}, "running", "b 1/3 since 11"),
    ],
)
def test_what_was_heard_last(tasks: dict[str, Any], state: str, says: str) -> None:
    run = Run("ab" * 8, "pair", "run", "running", 10.0, info={"backend": {"name": "x", "run": "r"}, TASKS: tasks})
    rows = [StepRun(run.id, "left", 1, None, "run", "done", {"why": "new"}, started=11.0, wall_s=2.0)]
    sign = last_sign(run, rows)
    assert sign is not None
    assert told(sign, f"{sign['at']:g}") == says
    assert state_of(run) == state
    assert last_sign(replace(run, state="done"), rows) is None
    assert last_sign(replace(run, info={}), rows) is None


def test_of_a_run_whose_tasks_never_ended_its_beginning_is_the_last_sign() -> None:
    run = Run("ab" * 8, "pair", "run", "running", 10.0, info={"backend": {"name": "x", "run": "r"}})
    sign = last_sign(run, [])
    assert sign is not None
    assert told(sign, "10") == "last sign of life 10: it began"
