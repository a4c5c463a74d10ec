"""What the process of a Kubeflow task does: starts the worker, and writes what the launcher reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from penstock.backends import kubeflow_task
from penstock.backends.call import Told
from penstock.backends.kubeflow_task import Did, main, perform


def told(state: str, code: int = 0, **more: Any) -> Told:
    return Told(code, {"state": state, **more})


@pytest.mark.parametrize(
    ("calls", "outcome", "code"),
    [
        ([told("done")], "passed", 0),
        ([told("reused"), told("done", passed=True)], "passed", 0),
        ([told("done", passed=False), told("skipped", 99)], "refused", 0),
        ([told("skipped", 99)], "skipped", 0),
        ([told("done"), told("failed", 5)], "failed", 5),
        ([told("done", 99)], "failed", 1),
        ([Told(0)], "failed", 1),
        ([Told(-9)], "failed", 1),
        ([told("cancelled", 143)], "failed", 143),
    ],
)
def test_a_task_of_kubeflow_fails_only_when_the_worker_did(calls: list[Told], outcome: str, code: int) -> None:
    did = Did(calls)
    assert (did.outcome, did.code) == (outcome, code)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the worker was started with; its answers: a gate that refuses, then a step that is skipped."""
    seen: list[list[str]] = []
    steps = {"evaluate": {"state": "done", "metrics": {"roc_auc": 0.75}, "outputs": {"": {"digest": "d" * 64}}}}
    answers = [
        told("done", passed=False, run="r1", flow="churn", steps=steps, verdict={"sentence": "worse <b> than before"}),
        told("skipped", 99, run="r1", reason="refused", steps={"deploy": {"state": "skipped"}}),
    ]

    def call(command: list[str], **_: Any) -> Told:
        seen.append(command)
        return answers[len(seen) - 1]

    monkeypatch.setattr(kubeflow_task, "call", call)
    return seen


def test_a_task_in_a_container_of_kubeflow_writes_what_its_launcher_reads(
    asked: list[list[str]], tmp_path: Path
) -> None:
    artifact = {"name": "metrics", "uri": "s3://b/metrics", "metadata": {}}
    executor = {
        "inputs": {"parameterValues": {"penstock_run": "r 1", "n": 7.0, "param_metrics": 0.5, "as_of": "", "who": ""}},
        "outputs": {
            "artifacts": {"metrics": {"artifacts": [artifact]}, "other": {"artifacts": [artifact]}},
            "outputFile": str(tmp_path / "deep" / "out.json"),
        },
    }
    paths = [word for name in ("outcome", "metrics", "answer") for word in (f"--{name}", str(tmp_path / name))]
    words = [
        "--executor-input",
        json.dumps(executor),
        *paths,
        "--optional",
        "as_of",
        "--call",
        "gate",
        "--call",
        "deploy",
        "x",
    ]
    assert main([*words, "--", "--file", "churn.py"]) == 0
    first, second = asked
    assert first[:5] == [sys.executable, "-P", "-m", "penstock.worker", "step"]
    rest = ["--run", "r 1", "--param", "n=7", "--param", "metrics=0.5", "--param", "who="]
    assert first[5:] == ["--file", "churn.py", "--step", "gate", *rest]
    assert second[5:] == ["--file", "churn.py", "--step", "deploy", "--step", "x", *rest]
    assert (tmp_path / "outcome").read_text() == "refused"
    page = (tmp_path / "answer").read_text()
    assert "worse &lt;b&gt; than before" in page
    assert "<th>evaluate</th>" in page
    assert "roc_auc 0.75" in page
    found = json.loads((tmp_path / "deep" / "out.json").read_text())
    assert found == {"artifacts": {"metrics": {"artifacts": [{**artifact, "metadata": {"roc_auc": 0.75}}]}}}


def test_nothing_is_started_after_a_call_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float | None] = []

    def call(*_: Any, timeout_s: float | None, **__: Any) -> Told:
        seen.append(timeout_s)
        return told("failed", 3)

    monkeypatch.setattr(kubeflow_task, "call", call)
    did = perform([["a"], ["b"]], [], {"penstock_run": "r"}, limit_s=5)
    assert (did.code, len(seen)) == (3, 1)
    assert 30 < (seen[0] or 0) <= 35  # the worker holds the 5 seconds itself


def test_an_id_that_kubeflow_did_not_put_for_its_placeholder_is_that_of_the_pod_s_label(
    asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Older servers hand the placeholder on as it is: all runs of a flow would be one."""
    inputs = {"penstock_run": "{{$.pipeline_job_uuid}}"}
    monkeypatch.delenv("KFP_RUN_ID", raising=False)
    assert perform([["gate"]], [], inputs).code == 2
    assert "told no id of the run" in capsys.readouterr().err
    monkeypatch.setenv("KFP_RUN_ID", "r-7")
    assert perform([["gate"]], [], inputs).code == 0
    assert [command[command.index("--run") + 1] for command in asked] == ["r-7"]


def test_a_worker_that_does_not_start_is_told_of_in_the_log_of_its_kubeflow_task(
    capsys: pytest.CaptureFixture[str],
) -> None:
    did = perform([["a"]], [], {"penstock_run": "r"}, python="/no/such/python")
    assert (did.outcome, did.code) == ("failed", 2)
    assert "/no/such/python does not start" in capsys.readouterr().err


def test_a_pod_of_kubeflow_that_is_deleted_ends_the_worker(tmp_path: Path) -> None:
    mark, fake = tmp_path / "pid", tmp_path / "python"
    fake.write_text(f"#!/bin/sh\necho $$ > {mark}.new; mv {mark}.new {mark}; exec sleep 600\n")
    fake.chmod(0o755)
    given = json.dumps({"inputs": {"parameterValues": {"penstock_run": "r"}}})
    words = ["--executor-input", given, "--python", fake, "--call", "a", "--", "--file", "x.py"]
    process = subprocess.Popen([sys.executable, "-P", "-m", "penstock.backends.kubeflow_task", *map(str, words)])
    try:
        while not mark.exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait(30) == 143
    finally:
        process.kill()
        process.wait()
    assert not os.path.exists(f"/proc/{mark.read_text().strip()}")
