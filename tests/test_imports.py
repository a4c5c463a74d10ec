"""Importing Penstock is cheap, its lazy names agree with their types, and the import contracts bite."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
INIT = SRC / "penstock" / "__init__.py"
HEAVY = {
    *("numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn", "skops", "joblib", "matplotlib", "fsspec"),
    *("starlette", "uvicorn", "uvloop", "httptools", "msgspec", "typer", "click", "rich", "jinja2"),
    *("sqlite3", "asyncio"),
}


def loaded_by(*modules: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter holds after importing some."""
    code = f"import json, sys\nimport {', '.join(modules)}\nprint(json.dumps(sorted(sys.modules)))"
    env = os.environ | {"PYTHONPATH": str(SRC)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def modules_in(package: str) -> list[str]:
    """Every module of a package, by its dotted name."""
    folder = SRC.joinpath(*package.split("."))
    return [f"{package}.{found.name}" for found in pkgutil.iter_modules([str(folder)])]


OF_WORKFLOWS = {"penstock.core.gate", "penstock.core.workflow", "penstock.lifecycle.lower", "http.client", "ssl"}
STEPS = """
import penstock as ps

@ps.step
def one():
    import sys
    return sorted({names!r} & set(sys.modules))

flow = ps.Flow(one.ref(), name="flow")
"""


# ── what an import costs ─────────────────────────────────────────────────────────────────────────────────────


def test_import_penstock_loads_nothing_heavy() -> None:
    assert not loaded_by("penstock") & HEAVY


def test_core_and_errors_load_nothing_heavy() -> None:
    assert not loaded_by("penstock.errors", "penstock.core", *modules_in("penstock.core")) & HEAVY


def test_a_flow_of_steps_loads_nothing_of_workflows(tmp_path: Path) -> None:
    """Neither the process of the command, nor the one that imports the file and runs the step."""
    (tmp_path / "flow.py").write_text(STEPS.format(names=OF_WORKFLOWS))
    code = (
        "import sys; from penstock.cli import main; main(['run', 'flow.py']); "
        "from penstock.project import open_home; home = open_home('.');"
        f"print(sorted({OF_WORKFLOWS!r} & set(sys.modules)));"
        "made = home.ledger.step_runs(home.ledger.runs()[0].id)[0].outputs[0];"
        "print(home.formats.load(made, home.objects))"
    )
    env = os.environ | {"PYTHONPATH": str(SRC)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path, check=False
    )
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"], done.stdout + done.stderr


def test_a_heavy_import_would_be_seen() -> None:
    assert "sqlite3" in loaded_by("penstock.errors", "sqlite3") & HEAVY


# ── the lazy names ───────────────────────────────────────────────────────────────────────────────────────────


def lazy_and_typed(source: str) -> tuple[dict[str, str], dict[str, str]]:
    """Name → module, as `_LAZY` binds it and as the `TYPE_CHECKING` imports say."""
    lazy: dict[str, str] = {}
    typed: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name) and target.id == "_LAZY":
                lazy = ast.literal_eval(node.value)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for found in ast.walk(node):
                if isinstance(found, ast.ImportFrom) and found.module and not found.level:
                    typed.update({name.asname or name.name: found.module for name in found.names})
    return lazy, typed


def needs_init() -> str:
    """The text of `penstock/__init__.py`."""
    if not INIT.exists():
        pytest.skip("not built yet: penstock/__init__.py")
    return INIT.read_text()


def test_lazy_names_and_typed_imports_agree() -> None:
    lazy, typed = lazy_and_typed(needs_init())
    assert lazy, "penstock/__init__.py has no _LAZY"
    assert lazy == typed


def test_a_disagreement_would_be_seen() -> None:
    lazy, typed = lazy_and_typed(
        "if TYPE_CHECKING:\n    from penstock.core.step import step as step\n"
        "_LAZY: dict[str, str] = {'step': 'penstock.core.steps'}\n"
    )
    assert lazy == {"step": "penstock.core.steps"} != typed == {"step": "penstock.core.step"}


def test_every_exported_name_resolves() -> None:
    needs_init()
    penstock = importlib.import_module("penstock")
    assert sorted(set(penstock.__all__)) == sorted(penstock.__all__)
    assert set(lazy_and_typed(INIT.read_text())[0]) <= set(penstock.__all__)
    for name in penstock.__all__:
        assert getattr(penstock, name) is not None
    assert set(penstock.__all__) <= set(dir(penstock))


def test_an_unknown_name_is_an_attribute_error() -> None:
    needs_init()
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = importlib.import_module("penstock").no_such_name


# ── the contracts ────────────────────────────────────────────────────────────────────────────────────────────

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
PLANTS = {
    "Imports point down": ("stats/planted.py", "from penstock.store import planted_target"),
    "Serving never pulls in training": ("serve/planted.py", "from penstock.lifecycle import planted_target"),
    "The composition root wires no engine": ("project/planted.py", "from penstock.engine import planted_target"),
    "Core is plain Python": ("core/planted.py", "import numpy"),
    "Backends are blind to one another": ("backends/dask.py", "from penstock.backends import airflow"),
    "No cycles anywhere": ("formats/planted.py", "from penstock.formats import planted_target"),
}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package, with its contracts; a layer that holds nothing yet is an empty package."""
    shutil.copytree(SRC, tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for layer in re.findall(r"(?<!\()\b\w+\b(?!\))", " ".join(CONTRACTS[0]["layers"])):
        package = tmp_path / "src" / "penstock" / layer
        if not package.with_suffix(".py").exists():
            package.mkdir(exist_ok=True)
            (package / "__init__.py").touch()
    return tmp_path


def broken_contracts(folder: Path) -> tuple[set[str], str]:
    """Names of the contracts that import-linter finds broken in a copy, and all that it says."""
    tool = Path(sys.executable).with_name("lint-imports")
    env = os.environ | {"PYTHONPATH": str(folder / "src"), "NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run([tool, "--no-cache"], cwd=folder, env=env, capture_output=True, text=True, check=False)
    broken = set(re.findall(r"^(.+?) BROKEN", done.stdout, re.MULTILINE))
    assert (done.returncode == 0) == (not broken), done.stdout + done.stderr
    return broken, done.stdout


def plant(package: Path, path: str, line: str) -> None:
    """Add a module with one import, and a module that it may point at, which points back for a ring."""
    file = package / path
    if not file.parent.is_dir():  # the layer is one module: make it a package of the same name
        file.parent.mkdir()
        file.parent.with_suffix(".py").rename(file.parent / "__init__.py")
    file.write_text(f"{line}\n")
    if line.startswith("from penstock.backends import"):  # an equal, there yet or not
        file.with_name(f"{line.rpartition(' ')[2]}.py").touch()
    target = re.match(r"from penstock\.(\w+) import planted_target", line)
    if target:
        back = "from penstock.formats import planted\n" if target[1] == "formats" else ""
        (package / target[1] / "planted_target.py").write_text(back)


def test_every_contract_has_a_plant() -> None:
    assert {contract["name"] for contract in CONTRACTS} == set(PLANTS)


def test_the_package_keeps_every_contract(copied: Path) -> None:
    broken, said = broken_contracts(copied)
    assert not broken, said


@pytest.mark.parametrize("contract", PLANTS)
def test_a_planted_import_breaks_exactly_its_contract(copied: Path, contract: str) -> None:
    plant(copied / "src" / "penstock", *PLANTS[contract])
    broken, said = broken_contracts(copied)
    assert broken == {contract}, said
    assert any(word in said for word in ("planted", "numpy", "backends.airflow"))
