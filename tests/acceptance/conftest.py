"""A project in a folder of its own, and the command line run in it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from command_line import Ended, call

SOURCES = Path(__file__).resolve().parents[2] / "src"
PATIENCE_S = 110
MOST_SAID = 6_000
SCREEN = {"NO_COLOR": "1", "COLUMNS": "100"}


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

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Begin a call in a process of its own; `options` are those of `Popen`."""
        pipe, command = subprocess.PIPE, [sys.executable, "-m", "penstock", *words]
        env = clean_environment()
        return subprocess.Popen(command, cwd=self.folder, stdout=pipe, stderr=pipe, text=True, env=env, **options)

    def call(self, *words: str) -> Ended:
        """One call in this process, to its end."""
        return call(self.folder, *words, **SCREEN)

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

    def half_written(self) -> set[str]:
        """Objects that are on record although their bytes are only staged."""
        home = self.home()
        try:
            staged = {item.digest for item in home.objects.walk() if item.staged}
            return staged & {artifact.digest for artifact in home.ledger.artifacts()}
        finally:
            home.ledger.close()

    def check_refused(self, run: Ended, code: int, workflow: str, *said: str) -> None:
        """A call ended in a clear error: its exit code, what it says, and nothing half-written."""
        assert run.code == code, run.text
        for words in said:
            assert words in run.err, run.err
        assert len(run.err) <= MOST_SAID
        assert "src/penstock" not in run.err, "frames of ours are shown"
        assert "unexpected" not in run.err, run.err
        assert self.streams(workflow) == {}
        assert set(self.states(workflow)) <= {"failed"}
        assert self.half_written() == set()
        assert self.faults() == []

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
    return kept | {"PYTHONPATH": str(SOURCES), **SCREEN}


def make_customers(n: int = 160) -> list[list[Any]]:
    """Rows of age, city, income and churned, in which the first and the third decide most of the last."""
    draw = random.Random(3)
    rows: list[list[Any]] = []
    for _ in range(n):
        age, income = draw.randint(18, 80), draw.randint(10, 90)
        churned = "yes" if age / 60 + income / 60 + draw.gauss(0, 0.3) > 1.6 else "no"
        rows.append([age, draw.choice(["Ulm", "Bern", "Graz"]), income, churned])
    return rows


def as_csv(rows: list[list[Any]], header: str = "age,city,income,churned", sep: str = ",") -> bytes:
    """A table as a file's bytes."""
    lines = [header.split(","), *rows]
    return "".join(sep.join(map(str, line)) + "\n" for line in lines).encode()


@pytest.fixture(scope="module", autouse=True)
def _warm(warm_processes: None) -> None:
    """What a run says and leaves is the thing here; those that are begun by `start` start as they do for people."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One project for the cases of a module: they differ by the names of their workflows."""
    return Project(tmp_path_factory.mktemp("acceptance") / "project")


@pytest.fixture
def own_project(tmp_path: Path) -> Project:
    """A project of the test's own, for what damages or blocks a store."""
    return Project(tmp_path / "project")


@pytest.fixture(scope="session")
def rows() -> list[list[Any]]:
    """A small table that a logistic regression learns from."""
    return make_customers()


@pytest.fixture(scope="session")
def table() -> Callable[..., bytes]:
    """Turns rows into a file's bytes."""
    return as_csv


@pytest.fixture(scope="session")
def customers() -> Callable[[int], list[list[Any]]]:
    """Gives so many rows of that table."""
    return make_customers
