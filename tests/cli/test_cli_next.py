"""What to do next is said so that it works from where it is said."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from penstock.cli.audit import advice, lines_of
from penstock.cli.run import _commands


@pytest.fixture
def report():
    version = SimpleNamespace(name="churn@1", workflow="churn")
    attempt = SimpleNamespace(version=version, promoted=True, reigns=True, passed=True, verdict=None)
    return SimpleNamespace(attempt=attempt, exit_code=0, graph=SimpleNamespace(about={}))


@pytest.mark.parametrize(
    ("here", "file", "said"),
    [
        (".", "flows/churn.py", ["penstock serve churn", "penstock schema accept flows/churn.py"]),
        ("flows", "churn.py", ["penstock serve churn", "penstock schema accept churn.py"]),
        ("flows", "churn.py:weekly", ["penstock serve churn", "penstock schema accept churn.py:weekly"]),
        (".", "my flows/churn.py", ["penstock serve churn", "penstock schema accept 'my flows/churn.py'"]),
        ("..", "the project/flows/churn.py", ["cd 'the project'", "penstock schema accept flows/churn.py"]),
    ],
)
def test_next_commands_find_the_project(report, tmp_path, monkeypatch, here, file, said):
    root = tmp_path / "the project"
    (root / "flows").mkdir(parents=True)
    monkeypatch.chdir(root / here)
    found = _commands(report, file, str(root))
    assert [found[0], found[-1]] == said


def test_after_the_audit_refused_a_version_its_proof_comes_first(report, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report.attempt.verdict, report.exit_code = {"outcome": "not compared"}, 4
    assert _commands(report, "churn.py:weekly", str(tmp_path)) == [
        "penstock audit churn@1",
        "penstock show churn@1",
        "penstock try churn.py:weekly",
    ]


@pytest.mark.parametrize(
    ("finding", "said"),
    [
        ({"kind": "labels", "step": "rates", "column": "rate"}, 'inside model=; else ps.Audit(waive={"rates": "why"})'),
        ({"kind": "features", "step": "scaled", "column": "age"}, 'known: @ps.step(across_rows="why"); else'),
        ({"kind": "look-ahead", "step": "next", "column": "x"}, "take only what was known at each row's time, or"),
        ({"kind": "sum", "column": "a + größe"}, 'known_late=["a", "größe"]) hides it from the model; else waive={"a"'),
    ],
)
def test_each_error_of_the_audit_says_what_to_do_and_nothing_else_does(finding, said):
    one = {"grade": "error", "what": "x moves", "example": "", **finding}
    lines = lines_of({"findings": [one], "tried": [], "not_tried": []})
    assert said in next(line for line in lines if line.startswith("    → "))
    assert not advice({**one, "grade": "warning"})
