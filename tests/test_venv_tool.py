"""`make venv` on machines that lack something: an old Python, uv, ensurepip, an index."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "venv.py"


class Machine:
    """A machine in name only: it notes each command, and those that hold a given text fail."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.commands: list[str] = []

    def run(self, command: list[str], **_: object) -> SimpleNamespace:
        text = " ".join(command)
        self.commands.append(text)
        return SimpleNamespace(returncode=int(any(failing in text for failing in self.failing)))


@pytest.fixture
def tool(tmp_path: Path) -> ModuleType:
    """The script as a module, with an environment that is not there."""
    spec = importlib.util.spec_from_file_location("penstock_venv_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.VENV = str(tmp_path / ".venv")
    module.PYTHON = str(tmp_path / ".venv" / "bin" / "python")
    return module


def given(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *failing: str, uv: bool) -> Machine:
    """Put the script on a machine."""
    machine = Machine(*failing)
    monkeypatch.setattr(tool, "subprocess", SimpleNamespace(run=machine.run))
    monkeypatch.setattr(tool.shutil, "which", lambda _: "/opt/uv" if uv else None)
    return machine


def test_an_old_python_is_told_so(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = given(tool, monkeypatch, uv=True)
    monkeypatch.setattr(tool, "OLDEST", (99, 0))
    assert tool.main() == 2
    assert "needs Python 3.11 or newer" in capsys.readouterr().out
    assert machine.commands == []


def test_the_oldest_python_agrees_with_the_project(tool: ModuleType) -> None:
    text = (TOOL.parent.parent / "pyproject.toml").read_text()
    assert 'requires-python = ">={}.{}"'.format(*tool.OLDEST) in text


@pytest.mark.parametrize(("name", "lock", "installs"), [("dask", "backends/dask", 2), ("mlflow", "mlflow", 1)])
def test_an_engine_and_a_peer_have_a_lock_and_an_environment_of_their_own(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, lock: str, installs: int
) -> None:
    machine = given(tool, monkeypatch, uv=True)
    tool.choose(name)
    assert tool.main() == 0
    commands = [command for command in machine.commands if " install " in command]
    assert len(commands) == installs  # Penstock itself only beside an engine
    assert all(f".venv-{name}/bin/python" in command for command in commands)
    assert f"requirements/{lock}.txt" in commands[0]


@pytest.mark.parametrize("uv", [True, False])
def test_every_install_from_the_index_is_checked_by_hash(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, uv: bool
) -> None:
    machine = given(tool, monkeypatch, uv=uv)
    assert tool.main() == 0
    installs = [command for command in machine.commands if " install " in command]
    assert len(installs) == 2
    assert all("--require-hashes" in c or "--no-deps --editable ." in c for c in installs)
    assert all(("/opt/uv" in command) == uv for command in installs)


def test_pip_takes_over_when_uv_fails(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = given(tool, monkeypatch, "/opt/uv pip", uv=True)
    assert tool.main() == 0
    assert any("-m pip install" in command for command in machine.commands)


def test_a_host_pip_takes_over_without_ensurepip(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = given(tool, monkeypatch, "-m pip --version", uv=False)
    ordinary = machine.run

    def run(command: list[str], **rest: object) -> SimpleNamespace:
        done = ordinary(command, **rest)
        no_ensurepip = "venv" in command and "--without-pip" not in command
        return SimpleNamespace(returncode=1) if no_ensurepip else done

    monkeypatch.setattr(tool.subprocess, "run", run)
    assert tool.main() == 0
    assert any("--without-pip" in command for command in machine.commands)
    assert any(f"-m pip --python {tool.PYTHON} install" in command for command in machine.commands)


def test_no_index_ends_with_what_to_do(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(tool, monkeypatch, "install", uv=True)
    assert tool.main() == 1
    assert "needed are a package index" in capsys.readouterr().out


def test_pips_variables_hold_for_uv_too(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "file:///simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    monkeypatch.setenv("UV_FIND_LINKS", "/mine")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    env = tool.uv_environment()
    assert env["UV_DEFAULT_INDEX"] == "file:///simple"
    assert env["UV_FIND_LINKS"] == "/mine"


def test_make_help_lists_every_target() -> None:
    makefile = (TOOL.parent.parent / "Makefile").read_text()
    done = subprocess.run(["make", "-s", "help"], cwd=TOOL.parent.parent, capture_output=True, text=True, check=True)
    targets = makefile.replace("\\\n", " ").partition(".PHONY:")[2].partition("\n")[0].split()
    assert [line.split()[1] for line in done.stdout.splitlines()] == targets
