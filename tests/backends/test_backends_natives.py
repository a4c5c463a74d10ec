"""What the comparison gives to other systems runs there, and comes to the bare script's answer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import orchestration_natives as natives
from benchmarks import orchestration_work as work
from tests.backends.engines.processes import Processes

KINDS = ("ten", "fan", "sklearn")


def _answers(folder):
    (folder / "customers.csv").write_text(work.customers(200))
    scripts = {"fan": work.frames_bare(work.FAN, 20, 5) + "print(last)\n", "sklearn": work.sklearn_bare()}
    return {
        kind: subprocess.check_output([sys.executable, "-c", text], cwd=folder, text=True).split()[-1]
        for kind, text in scripts.items()
    }


@pytest.mark.dagster
def test_dagster_native_files_come_to_the_same():
    dagster = Processes("dagster", {"DAGSTER_DISABLE_TELEMETRY": "1"})
    try:
        answers = _answers(dagster.folder)
        for kind in KINDS:
            (dagster.folder / f"native_{kind}.py").write_text(natives.dagster(kind, 20, 5))
            told = dagster.run(f"native_{kind}.py").split()
            assert told[-1:] == ([answers[kind]] if kind in answers else [])
    finally:
        dagster.close()


def test_prefect_native_files_come_to_the_same(prefect):
    folder = prefect.processes.folder
    answers = _answers(folder)
    for kind in KINDS:
        (folder / f"native_{kind}.py").write_text(natives.prefect(kind, 20, 5))
        told = prefect.processes.run(f"native_{kind}.py").split()
        assert told[-1:] == ([answers[kind]] if kind in answers else [])
