"""Where a declaration in hand comes from."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

DECLARES = """
import penstock as ps

@ps.step
def tell(n: int):
    return n

told = ps.Flow(tell(ps.Param("n", 1)), name="told")
"""
RUNS = """
from declares_here import told
from penstock.lifecycle.found import find

found = find(told)
"""


def test_a_file_that_imports_a_declaration_to_run_it_is_not_its_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "declares_here.py").write_text(DECLARES)
    (tmp_path / "runs_it.py").write_text(RUNS)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = importlib.util.spec_from_file_location("runs_it", tmp_path / "runs_it.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "runs_it", module)  # as Prefect and Dagster load a file: before the one it imports
    monkeypatch.setitem(sys.modules, "declares_here", None)
    del sys.modules["declares_here"]
    spec.loader.exec_module(module)
    assert (module.found.file, module.found.variable) == (str(tmp_path / "declares_here.py"), "told")
