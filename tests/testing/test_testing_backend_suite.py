"""The local engine holds every promise of a backend, and the suite notices one that is broken."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from penstock.testing.backend_suite import BackendSuite, LocalRunner, Project, Runner, Went


class TestLocal(BackendSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls) -> Runner:
        return LocalRunner()


class Forgetful(LocalRunner):
    """Drops the parameters that it is given, but for the place of notes."""

    def run(
        self, file: Path, *, params: Mapping[str, str], group: str = "step", cancel_when: Path | None = None
    ) -> Went:
        kept = {name: value for name, value in params.items() if name == "folder"}
        return super().run(file, params=kept, group=group, cancel_when=cancel_when)


def test_a_runner_that_drops_parameters_is_noticed(tmp_path: Path) -> None:
    from penstock.testing import backend_flows as flows

    mine, theirs = Project(tmp_path / "a", flows.TEN), Project(tmp_path / "b", flows.TEN)
    went = Forgetful().run(mine.file, params={**mine.params, "n": "7"})
    LocalRunner().run(theirs.file, params={**mine.params, "n": "7"})
    with pytest.raises(AssertionError):
        BackendSuite().test_every_artifact_has_the_bytes_of_a_local_run(
            (mine, went), theirs.digests(theirs.runs()[0].id)
        )


def declared(text: str) -> dict[str, str]:
    """What a file says of its workflow by keyword: of a gate its rules without levels, of what is read nothing."""
    [call] = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ps.Workflow"
    ]
    found = {str(one.arg): one.value for one in call.keywords}
    rules = [ast.unparse(node.func) for node in ast.walk(found["gate"]) if isinstance(node, ast.Call)]
    said = {name: ast.unparse(value) for name, value in found.items() if name not in ("data", "gate", "monitor")}
    return said | {"gate": ", ".join(rules), "monitor": str("monitor" in found)}


def test_every_backend_runs_what_the_demo_declares() -> None:
    from penstock.testing import backend_flows as flows

    demo = Path(__file__).resolve().parents[2] / "examples" / "churn.py"
    assert declared(flows.CHURN) == declared(demo.read_text())
