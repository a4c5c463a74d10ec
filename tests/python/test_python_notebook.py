"""The example notebook runs in a real kernel, from its first cell to its last, and shows what it should."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"

# In a process of its own: what the kernel's client warns of is not ours.
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient
book = nbformat.read("notebook.ipynb", 4)
NotebookClient(book, timeout=90, kernel_name="python3").execute()
nbformat.write(book, "executed.ipynb")
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Cells of the executed notebook that hold code."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / ".penstock").mkdir()
    for name in ("notebook.ipynb", "churn.py", "customers.py"):
        shutil.copy(EXAMPLES / name, folder / name)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PATH": path}
    command = [sys.executable, "-c", EXECUTE]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    cells = json.loads((folder / "executed.ipynb").read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def of(cells: list[dict[str, Any]], source: str) -> list[dict[str, Any]]:
    """Outputs of the one cell whose source holds a text."""
    [cell] = [cell for cell in cells if source in "".join(cell["source"])]
    outputs: list[dict[str, Any]] = cell["outputs"]
    return outputs


def html(output: dict[str, Any]) -> str:
    return "".join(output["data"].get("text/html", ""))


def test_declaration_and_plan_are_shown_as_tables(executed: list[dict[str, Any]]) -> None:
    [shown] = of(executed, "from churn import churn\n\nchurn")
    assert "20% of rows held out" in html(shown)
    [plan] = of(executed, "ps.plan(churn)")
    assert "1 to run" in html(plan)


def test_a_run_is_one_block_shown_once(executed: list[dict[str, Any]]) -> None:
    block, value = of(executed, "from the notebook")
    assert block["output_type"] == "display_data"
    assert html(block).count("<tr>") >= 9
    assert "champion: churn@1" in html(block)
    assert "running" not in html(block)
    assert html(value) == ""
    [again] = [cell for cell in executed if "".join(cell["source"]) == "ps.run(churn)"]
    assert "all steps reused; no look spent" in html(again["outputs"][0])


def test_what_the_kernel_holds_is_exploratory(executed: list[dict[str, Any]]) -> None:
    block = html(of(executed, "RandomForestClassifier")[0])
    assert "exploratory" in block
    assert "reused" in block
    assert "champion" not in block


def test_a_cells_step_logs_a_figure(executed: list[dict[str, Any]]) -> None:
    assert "data:image/png;base64," in html(of(executed, "by_city")[-1])


def test_a_failed_step_shows_the_cells_own_lines_and_none_of_ours(executed: list[dict[str, Any]]) -> None:
    error = of(executed, "def fails")[-1]
    assert error["output_type"] == "error"
    text = "\n".join(error["traceback"])
    assert 'return table["no such column"]' in text
    assert "penstock/python" not in text
    assert text.endswith("KeyError: 'no such column'")


def test_the_champion_is_an_estimator(executed: list[dict[str, Any]]) -> None:
    assert "array([" in "".join(of(executed, "champion")[0]["data"]["text/plain"])
