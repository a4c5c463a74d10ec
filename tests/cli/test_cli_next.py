"""What to do next is said so that it works from where it is said."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from penstock.cli.run import _commands


@pytest.fixture
def report():
    version = SimpleNamespace(name="churn@1", workflow="churn")
    attempt = SimpleNamespace(version=version, promoted=True, reigns=True, verdict=None)
    return SimpleNamespace(attempt=attempt, exit_code=0, graph=SimpleNamespace(about={}))


@pytest.mark.parametrize(
    ("here", "file", "said"),
    [
        (".", "flows/churn.py", ["penstock serve churn", "penstock schema accept flows/churn.py"]),
        ("flows", "churn.py", ["penstock serve churn", "penstock schema accept churn.py"]),
        ("..", "the project/flows/churn.py", ["cd 'the project'", "penstock schema accept flows/churn.py"]),
    ],
)
def test_next_commands_find_the_project(report, tmp_path, monkeypatch, here, file, said):
    root = tmp_path / "the project"
    (root / "flows").mkdir(parents=True)
    monkeypatch.chdir(root / here)
    found = _commands(report, file, str(root))
    assert [found[0], found[-1]] == said
