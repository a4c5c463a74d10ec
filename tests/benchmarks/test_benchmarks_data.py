"""The contenders of the benchmark do the same work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROVE = "from benchmarks.data import prove; prove({peers!r})"
BLIND = "from benchmarks import data; data.by_arrow = lambda table: True; data.prove(['floor'])"


def run(code: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.parametrize("peers", [["ours", "polars", "floor", "duckdb", "pandera"]])
def test_each_passes_a_good_table_and_refuses_bad_ones(peers):
    done = run(PROVE.format(peers=peers))
    assert done.returncode == 0, done.stderr


def test_a_contender_that_checks_nothing_is_found_out():
    done = run(BLIND)
    assert done.returncode == 1
    assert "AssertionError: ('floor'" in done.stderr
