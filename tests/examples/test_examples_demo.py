"""The demo tells the whole story in under a minute, and says so when a stage does not do what it should."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run_demo(folder: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(folder / "demo.py")]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=220, check=False)


def spent() -> float:
    """CPU seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture
def demo():
    spec = importlib.util.spec_from_file_location("demo_of_penstock", EXAMPLES / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_shows_every_stage(tmp_path):
    """All of it in less than a minute of CPU; how long it waits for a crowded machine is not the demo's."""
    before = spent()
    done = run_demo(EXAMPLES)
    took = spent() - before
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert "→ champion: churn@1 (local store)" in said
    assert len(re.findall(r'"predictions"', said)) == 5
    assert "is refused (422)" in said
    assert "no alarm: 5 columns" in said
    assert "(exit code 8)" in said
    assert said.index('"model": "churn@2"') < said.rindex('"model": "churn@1"')
    assert "champion → churn@1 (was churn@2) · because second thoughts" in said
    assert "What to do next" in said
    assert 1 < took < 60, f"{took:.0f} s of CPU"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_stage_that_misbehaves_is_told(tmp_path):
    """Customers that have not moved raise no alarm, so the demo must not end well. It goes straight there."""
    skipped = {
        "first=9_001, moved=True": "first=9_001",
        "customers(4_000)": "customers(400)",
        "with server(folder) as port": "with contextlib.nullcontext(0) as port",
        "            served(folder, port)\n": "",
        '    penstock("monitor churn.py --data usual.csv --quiet", folder)\n': "",
    }
    for name in ("demo.py", "churn.py", "customers.py"):
        text = (EXAMPLES / name).read_text()
        for old, new in skipped.items():
            assert name != "demo.py" or old in text
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
    done = run_demo(tmp_path)
    assert done.returncode == 1
    assert "✗ penstock monitor churn.py --data drifted.csv ended with 0, not with 8" in done.stderr


def test_a_command_with_another_code_than_expected_ends_the_demo(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "show", lambda: demo.penstock("run nothing.py", tmp_path))
    assert demo.main() == 1
    assert "penstock run nothing.py ended with 2, not with 0" in capsys.readouterr().err


def test_the_example_is_the_file_that_the_readme_shows():
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"```python\n# churn.py\n(.*?)```", readme, re.DOTALL)[1]
    assert shown == (EXAMPLES / "churn.py").read_text()


def test_customers_are_the_same_for_the_same_seed(demo):
    assert demo.customers(50, seed=3) == demo.customers(50, seed=3)
    assert demo.customers(50, seed=3) != demo.customers(50, seed=4)
    assert {row["churned"] for row in demo.customers(200)} == {0, 1}
