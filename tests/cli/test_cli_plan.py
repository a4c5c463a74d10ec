"""`penstock plan` says each thing once, and what a step waits for."""

from __future__ import annotations

import subprocess
import sys

import pytest

FLOW = """
import penstock as ps

@ps.step
def double(x: int) -> int:
    return 2 * x

@ps.step
def more(x: int, by: int = 1) -> int:
    return x + by

flow = ps.Flow(more(double(x=ps.Param("x", 1))), name="twice")
"""


@pytest.fixture
def told(tmp_path):
    """Run `penstock` beside the flow; gives exit code, standard output and standard error."""
    (tmp_path / "flow.py").write_text(FLOW)

    def call(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "penstock", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout, done.stderr

    return call


def test_a_reason_is_said_once(told):
    assert told("run", "flow.py")[0] == 0
    code, plan, _ = told("plan", "flow.py", "--why", "--param", "x=2")
    assert code == 0
    assert plan.count("parameter changed: x 1 → 2") == 1
    assert "1 to run, 1 waiting for them" in plan


def test_a_step_that_is_not_there_is_answered_with_one_that_is(told):
    for flag in ("--force", "--until"):
        code, _, error = told("run", "flow.py", flag, "doubel")
        assert code == 2
        assert f'{flag} doubel: no such step; did you mean "double"?\n→ there are double, more' in error
