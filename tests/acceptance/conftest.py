"""A project in a folder of its own, and the real command line run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src"
PATIENCE_S = 110


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Project:
    """A folder with declarations and tables, in which `penstock` is called as a person would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "penstock.toml").touch()

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "penstock", *words]

    def start(self, *words: str, uid: int | None = None, **env: str) -> subprocess.Popen[str]:
        """Begin a call; with a user id, as that user, who has no groups."""
        who: dict[str, Any] = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        pipe = subprocess.PIPE
        environment = clean_environment() | env
        command = self.command(*words)
        return subprocess.Popen(command, cwd=self.folder, stdout=pipe, stderr=pipe, text=True, env=environment, **who)

    def call(self, *words: str, uid: int | None = None, **env: str) -> Ended:
        """One call, to its end."""
        return self.end(self.start(*words, uid=uid, **env))

    def end(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for a call to end; one that hangs is killed and fails the test."""
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return Ended(process.returncode, out, err)

    def home(self) -> Any:
        from penstock.project import open_home

        return open_home(str(self.folder))

    def faults(self) -> list[str]:
        """What `fsck` finds wrong with store and ledger."""
        from penstock.store.fsck import fsck

        home = self.home()
        try:
            return [f"{found.kind} {found.where}: {found.what}" for found in fsck(home.objects, home.ledger)]
        finally:
            home.ledger.close()

    def streams(self, workflow: str) -> Mapping[str, int]:
        """Decisions on record for a workflow: stream → number of its head."""
        home = self.home()
        try:
            heads: Mapping[str, int] = home.ledger.streams(f"{workflow}/")
            return heads
        finally:
            home.ledger.close()

    def states(self, workflow: str) -> list[str]:
        """How the runs of a workflow ended, newest first."""
        home = self.home()
        try:
            return [run.state for run in home.ledger.runs(flow=workflow)]
        finally:
            home.ledger.close()


def clean_environment() -> dict[str, str]:
    """The environment without settings of whoever runs the tests, and with this checkout's package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return kept | {"PYTHONPATH": str(SOURCES), "NO_COLOR": "1", "COLUMNS": "100"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One project for the cases of a module: they differ by the names of their workflows."""
    return Project(tmp_path_factory.mktemp("acceptance") / "project")


@pytest.fixture
def own_project(tmp_path: Path) -> Project:
    """A project of the test's own, for what damages or blocks a store."""
    return Project(tmp_path / "project")
