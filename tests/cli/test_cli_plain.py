"""The quick way into a verb takes what Typer would, leaves every fault to it, and loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.cli.verbs import command_of

HEAVY = {"pydantic", "pandas", "numpy", "rich", "asyncio", "logging"}
FLOW = """
import penstock as ps

@ps.step(outputs=("train", "test"))
def split(x: int):
    return x, x + 1

@ps.step
def train(x: int, y: int) -> int:
    return x + y

@ps.step
def gate(x: int) -> int:
    return x

flow = ps.Flow(gate(train(*split.ref(1))), name="stages")
"""


@pytest.fixture
def taken(monkeypatch):
    """Give the arguments that a command line of `penstock run` arrives as, plainly or by Typer's own conversion."""

    def arguments(words: list[str], *, plain: bool) -> dict:
        command = command_of("run")
        if not plain:
            del command.get_params
        return command.make_context("run", list(words)).params

    return arguments


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["churn.py"],
        ["churn.py", "-q", "--json"],
        ["churn.py", "--param", "a=1", "-p", "b=2", "--force", "train"],
        ["churn.py", "--jobs", "2", "--seed", "7", "--note", "a try"],
        ["--until", "train", "--env", "ci", "churn.py:other"],
    ],
)
def test_words_arrive_as_typer_would_convert_them(taken, words):
    ours, theirs = taken(words, plain=True), taken(words, plain=False)
    assert {k: v or None for k, v in ours.items()} == {k: v or None for k, v in theirs.items()}


@pytest.mark.parametrize("words", [["--jobs", "two"], ["--jobs", "0"], ["--seed", "-1"]])
def test_a_fault_is_found_by_either(taken, words):
    for plain in (True, False):
        with pytest.raises(Exception, match="Input should be"):
            taken(words, plain=plain)


def run(folder: Path, code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


RUN = "import sys; from penstock.cli import main; code = main(['run', 'stages.py']);"


def test_a_run_s_coordinator_loads_nothing_heavy(tmp_path):
    (tmp_path / "stages.py").write_text(FLOW)
    told = run(tmp_path, f"{RUN} import json; print(json.dumps([code, sorted(sys.modules)]))")
    code, modules = json.loads(told.splitlines()[-1])
    assert code == 0
    assert HEAVY & {name.partition(".")[0] for name in modules} == set()


def test_steps_of_a_flow_may_be_called_as_stages_are(tmp_path):
    (tmp_path / "stages.py").write_text(FLOW)
    told = run(tmp_path, f"{RUN} sys.exit(code)")
    assert [line.split()[1] for line in told.splitlines()[1:4]] == ["split", "train", "gate"]
