"""`penstock run --on BACKEND`: what the command says where the backend and the ledger do not agree."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import call
from penstock.backends import backend as port
from penstock.backends.backend import Ended, Finding, Options
from penstock.backends.call import call as start
from penstock.backends.compiled import Compiled
from penstock.cli.elsewhere import _fault
from penstock.project import open_home

FLOW = """
import penstock as ps

@ps.step
def first(n: int):
    return n

@ps.step
def second(n):
    if n < 0:
        raise ValueError("below zero")
    return n + 1

flow = ps.Flow(second(first(ps.Param("n", 1))), name="two")
"""


class Fake:
    """Starts the worker for as many tasks as it is told to, and then says how it ended."""

    name = "fake"
    away = False
    does: tuple[str, ...] = ()
    ended: dict[str, Any] = {}

    def check(self, flow: Compiled, options: Options) -> list[Finding]:
        return []

    def export(self, flow: Compiled, options: Options) -> str:
        return f"{flow.name}\n"

    def run(self, flow: Compiled, where: str, options: Options, done: Callable[..., None]) -> Ended:
        for task in flow.tasks:
            if task.id in self.does:
                start(flow.command(task.steps, self.name, "fake-1"))
            done("fake-1", task.steps)
        return Ended("fake-1", **self.ended)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(FLOW)
    monkeypatch.setitem(port.OURS, "fake", f"{__name__}:Fake")
    monkeypatch.setattr(Fake, "does", ("first", "second"))
    monkeypatch.setattr(Fake, "ended", {"state": "GREEN", "outcome": "success"})
    return tmp_path


def run(project: Path, *words: str) -> tuple[int, str]:
    ended = call(project, "run", "flows.py", "--on", "fake", *words)
    return ended.code, ended.text


def test_a_run_that_went_well_says_so(project: Path) -> None:
    code, text = run(project)
    assert code == 0, text
    assert "✓ 2 run" in text


def test_a_run_that_is_terminated_was_cancelled(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "run", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(60))
    code, text = run(project)
    assert code == 143
    assert "cancelled" in text


def test_a_failure_that_never_reached_the_ledger_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "does", ())
    monkeypatch.setattr(Fake, "ended", {"state": "RED", "outcome": "failed", "reason": "no machine was free"})
    code, text = run(project)
    assert code == 1
    assert "fake ended the run as RED: no machine was free" in text
    assert "✓" not in text


def test_a_backend_that_calls_half_a_run_a_success_is_not_believed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fake, "does", ("first",))
    code, text = run(project, "--json")
    told = json.loads(text)
    assert (code, told["exit_code"], told["error"]["error"]) == (1, 1, "BackendError")
    assert told["state"] == open_home(str(project)).ledger.runs()[0].state == "failed"
    assert "second did not end" in told["error"]["what"]


def test_a_backend_that_ran_nothing_and_says_nothing_is_told_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fake, "does", ())
    monkeypatch.setattr(Fake, "ended", {"state": "GREEN"})
    code, text = run(project)
    assert code == 1
    assert "fake ran no task of two" in text


@pytest.mark.parametrize(
    ("ended", "left", "code", "says"),
    [
        ({"outcome": "failed"}, ["b"], 1, "fake ended the run as RED; b did not end"),
        ({"outcome": "failed", "reason": "not delivered"}, [], 1, "fake ended the run as RED: not delivered"),
        ({"outcome": "failed", "reason": "x" * 9_000}, list("abcdefg"), 1, "; a, b, c, d, e and 2 more did not end"),
        ({"outcome": "cancelled"}, [], 130, "fake ended the run as RED"),
        ({"outcome": ""}, ["b"], 1, "b did not end"),
        ({"outcome": "success"}, ["b"], 1, "b did not end"),
        ({"outcome": "success"}, [], 0, ""),
        ({"outcome": ""}, [], 0, ""),
    ],
)
def test_what_the_ledger_does_not_know_is_the_backend_s_to_tell(
    ended: dict[str, Any], left: list[str], code: int, says: str
) -> None:
    found = _fault("fake", Ended("run-1", "RED", "http://fake/1", **ended), left)
    assert (0 if found is None else found.exit_code) == code
    if found is not None:
        assert says in found.what
        assert len(found.what) < 1_500
        assert "run-1" in found.where


def test_the_step_s_own_failure_goes_before_the_backend_s(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "ended", {"state": "RED", "outcome": "failed", "reason": "exit code 5"})
    code, text = run(project, "--param", "n=-1")
    assert code == 5
    assert "below zero" in text
    assert "RED" not in text


MAPPED = """
import penstock as ps

@ps.step
def square(n: int):
    return n * n

@ps.step
def total(squares: list):
    return sum(squares)

flow = ps.Flow(total(square.map([1, 2, 3])), name="wide")
"""


class Divided(Fake):
    """Starts a worker for each part of a task too, and notes how many."""

    parts: dict[str, int] = {}

    def run(self, flow: Compiled, where: str, options: Options, done: Callable[..., None]) -> Ended:
        assert "parts" not in options.more
        for task in flow.tasks:
            self.parts[task.id] = task.parts
            for k in range(1, task.parts + 1):
                told = start(flow.command(task.steps, self.name, "fake-1", part=f"{k}/{task.parts}"))
                assert told.state == "done"
                done("fake-1", task.steps)
            start(flow.command(task.steps, self.name, "fake-1"))
            done("fake-1", task.steps)
        return Ended("fake-1", **self.ended)


@pytest.mark.parametrize(("on", "parts"), [("fake", 3), ("fake://?parts=2", 2), ("fake://?parts=0", 0)])
def test_a_mapped_step_is_done_in_as_many_parts_as_asked_for(
    project: Path, monkeypatch: pytest.MonkeyPatch, on: str, parts: int
) -> None:
    (project / "flows.py").write_text(MAPPED)
    monkeypatch.setitem(port.OURS, "fake", f"{__name__}:Divided")
    ended = call(project, "run", "flows.py", "--on", on)
    assert ended.code == 0, ended.text
    assert Divided.parts == {"square": parts, "total": 0}
    assert [line for line in ended.text.splitlines() if "✓ square" in line and "3 items: 3 run" in line], ended.text
    assert "✓ 2 run" in ended.text


def test_the_parts_of_an_export_are_told_and_a_wrong_number_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "flows.py").write_text(MAPPED)
    for words, told in (((), "square: at most 3 parts at once"), (("--parts", "0"), "square: needs nothing")):
        assert told in call(project, "export", "fake", "flows.py", "--check", *words).text
    for place in ("fake://?parts=-1", "fake?parts=-1"):
        ended = call(project, "run", "flows.py", "--on", place)
        assert ended.code == 2
        assert "a number is meant" in ended.text


def test_an_export_that_cannot_be_written_says_where(project: Path) -> None:
    ended = call(project, "export", "fake", "flows.py", "--output", "absent/two.txt")
    assert ended.code == 1
    assert "absent/two.txt" in ended.text
    assert "unexpected" not in ended.text
