"""`.ci/run` installs what the list names and is missing, and then runs `make test` and the engines strictly."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTED = ["make test, PENSTOCK_CI=1", "make test-backends, PENSTOCK_CI=1"]
PACKAGES = "# a comment\nhere   sh\nabsent no-such-command-1 no-such-command-2  # why\n"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A checkout with `.ci/` only, on a machine whose root, apt-get and make only say what they were asked."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / ".ci" / "packages").write_text(PACKAGES)
    (tmp_path / "bin").mkdir()
    for command in ("apt-get", "make"):
        stub = tmp_path / "bin" / command
        stub.write_text(f'#!/bin/sh\necho "{command} $*, PENSTOCK_CI=$PENSTOCK_CI"\n')
        stub.chmod(0o755)
    become(tmp_path, 0)
    return tmp_path


def become(machine: Path, user: int) -> None:
    """Let `id -u` say that the script runs as this user."""
    stub = machine / "bin" / "id"
    stub.write_text(f"#!/bin/sh\necho {user}\n")
    stub.chmod(0o755)


def ci_run(machine: Path) -> subprocess.CompletedProcess[str]:
    """Run the script, from another folder, as CI does."""
    env = {key: value for key, value in os.environ.items() if key != "PENSTOCK_CI"}
    env["PATH"] = f"{machine / 'bin'}{os.pathsep}{env['PATH']}"
    return subprocess.run([machine / ".ci" / "run"], cwd="/", env=env, capture_output=True, text=True, check=False)


def test_missing_packages_are_installed_once_and_then_all_is_tested(machine: Path) -> None:
    done = ci_run(machine)
    assert done.returncode == 0, done.stderr
    update, install, *tested = done.stdout.splitlines()
    assert update.startswith("apt-get update")
    assert install.split(",")[0].split()[-1] == "absent"
    assert install.count("absent") == 1
    assert "here" not in install
    assert tested == TESTED


def test_nothing_missing_asks_apt_for_nothing(machine: Path) -> None:
    (machine / ".ci" / "packages").write_text("here sh\n")
    assert ci_run(machine).stdout.splitlines() == TESTED


def test_a_person_who_is_not_root_is_told_the_packages(machine: Path) -> None:
    become(machine, 1000)
    done = ci_run(machine)
    assert "install absent first" in done.stderr
    assert done.stdout.splitlines() == TESTED


@pytest.mark.parametrize("failing", ["make", "apt-get"])
def test_a_failure_is_not_swallowed(machine: Path, failing: str) -> None:
    (machine / "bin" / failing).write_text("#!/bin/sh\nexit 3\n")
    assert ci_run(machine).returncode == 3
