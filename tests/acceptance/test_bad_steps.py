"""A step that returns the wrong thing, raises, hangs, exits, is killed or eats memory ends only itself, and clearly."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

FLOW = """\
import os
import signal
import subprocess
import sys
import time

import penstock as ps


@ps.step
def first(n: int = 3) -> list:
    return list(range(n))


@ps.step{options}
def bad(numbers: list){returns}:
    {body}


@ps.step
def after(numbers: list) -> int:
    open("{name}.went-on", "w").close()
    return len(numbers)


flow = ps.Flow(after(bad(first.ref())), name="{name}")
"""


@dataclass(frozen=True)
class Case:
    """What the step does, how the call ends, and what it must say."""

    name: str
    body: str
    said: tuple[str, ...]
    options: str = ""
    returns: str = ""


CASES = [
    Case("wrong", "return 7", ("says that it returns list and returned a builtins.int", "→"), returns=" -> list"),
    Case("nothing", "pass", ("says that it returns list and returned nothing (None)", "→"), returns=" -> list"),
    Case(
        "outputs",
        "return 1, 2, 3",
        ("declared 2 outputs (left, right) and returned 3 values", "→ return a tuple"),
        options='(outputs=("left", "right"))',
    ),
    Case("formless", "return object()", ("No format keeps values of type builtins.object", "→ Return a table")),
    Case("raises", 'return {}["age"]', ("Traceback (most recent call last):", 'return {}["age"]', "KeyError: 'age'")),
    Case("leaves", "sys.exit(0)", ("called sys.exit(0) instead of returning",)),
    Case("exits", "os._exit(3)", ("its process ended with exit code 3", "→")),
    Case("killed", "os.kill(os.getpid(), signal.SIGKILL)", ("its process ended with signal SIGKILL", "→")),
    Case("hangs", "time.sleep(600)", ("ran longer than its limit of 0.5 s", "→ raise timeout_s"), "(timeout_s=0.5)"),
    Case(
        "hoards",
        "hoard = [os.urandom(2**20) for _ in range(3_000)]; time.sleep(60)",
        ("used more than its limit of 150 MiB", "→ raise memory="),
        '(memory="150MiB")',
    ),
]


def declare(project: Any, case: Case) -> str:
    """Write the flow of a case; gives the file's name."""
    text = FLOW.replace("{body}", case.body).replace("{options}", case.options)
    return project.write(
        f"{case.name}_flow.py", text.replace("{returns}", case.returns).replace("{name}", case.name)
    ).name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_step_ends_the_run_clearly(project: Any, case: Case) -> None:
    run = project.call("run", declare(project, case))
    project.check_refused(run, 5, case.name, "step bad", *case.said)
    assert not (project.folder / f"{case.name}.went-on").exists()
    frames = [line for line in run.err.splitlines() if line.startswith('  File "')]
    assert all(f"{case.name}_flow.py" in frame for frame in frames), "frames that are not the user's are shown"


def test_children_of_a_step_that_hangs_are_ended_too(project: Any) -> None:
    body = 'child = subprocess.Popen(["sleep", "600"]); open("child", "w").write(str(child.pid)); time.sleep(600)'
    case = Case("forks", body, ("ran longer than its limit",), "(timeout_s=1.0)")
    project.check_refused(project.call("run", declare(project, case)), 5, "forks", *case.said)
    pid = int((project.folder / "child").read_text())
    deadline = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def test_a_step_that_is_mended_goes_on_where_it_stopped(project: Any) -> None:
    broken = Case("mended", "raise ValueError('not yet')", ("not yet",))
    project.check_refused(project.call("run", declare(project, broken)), 5, "mended", *broken.said)
    run = project.call("run", declare(project, Case("mended", "return numbers * 2", ())), "--json")
    assert run.code == 0, run.text
    assert (project.folder / "mended.went-on").exists()
    assert '"reuse": 1' in run.out


def test_a_step_within_its_limits_is_left_alone(project: Any) -> None:
    """Control of the limits: the same time-out and memory do not end a step that keeps to them."""
    case = Case("modest", "return numbers", (), '(timeout_s=30, memory="600MiB")')
    run = project.call("run", declare(project, case))
    assert run.code == 0, run.text


def test_a_step_in_front_of_a_model_that_gives_no_table(project: Any, rows: Any, table: Any) -> None:
    project.write("tableless.csv", table(rows))
    file = project.write(
        "tableless_flow.py",
        "import penstock as ps\n"
        "from sklearn.linear_model import LogisticRegression\n\n\n"
        "@ps.step\ndef clean(rows):\n    rows.dropna()\n\n\n"
        "w = ps.Workflow(name='tableless', data=clean(ps.read('tableless.csv')), target='churned',\n"
        "                model=LogisticRegression())\n",
    )
    run = project.call("run", file.name)
    project.check_refused(run, 5, "tableless", "the step behind data= returned nothing (None)", "→ return a pandas")


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
