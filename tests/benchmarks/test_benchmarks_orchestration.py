"""The benchmark counts what it says that it counts, and runs from a clone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORPHAN = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
os._exit(0)
"""
COUNT = """
import sys, tempfile
from pathlib import Path
from benchmarks.measure import adopt_orphans, cpu_s
if sys.argv[1] == "adopt":
    adopt_orphans()
with tempfile.TemporaryDirectory() as folder:
    print(cpu_s([sys.executable, "-c", sys.argv[2]], Path(folder)))
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=110, check=False)


def counted(mode: str, code: str) -> float:
    done = run("-c", COUNT, mode, code)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has subreapers")
def test_the_cpu_time_of_an_orphan_is_counted():
    assert counted("adopt", ORPHAN) >= 0.3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has subreapers")
def test_without_adoption_it_would_be_lost():
    assert counted("not", ORPHAN) < 0.2


def test_a_command_that_fails_ends_the_measurement():
    done = run("-c", COUNT, "adopt", "print('words'); raise SystemExit(3)")
    assert done.returncode == 1
    assert "ended with 3: words" in done.stderr


def test_it_prints_a_line_with_figure_goal_and_outcome():
    done = run("-m", "benchmarks.orchestration", "--only", "start", "ten", "--repeat", "1", "--rows", "50")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(lines) == 4
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    assert "10 steps in a row, 50 × 10" in lines[3]
    assert all(line.endswith(("| reached |", "| **short** |")) for line in lines[1:])


def test_a_figure_above_its_goal_is_called_short(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.orchestration import Line

    assert str(Line("w", "1 s", "2 s", 2.0, 1.9, 2.1, 1.8)).endswith("| ≤ 1.8× | **short** |")
    assert str(Line("w", "1 s", "1 s", 1.0, 0.9, 1.1, 1.8)).endswith("| ≤ 1.8× | reached |")
