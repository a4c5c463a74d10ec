"""The package is found by its entry point, and keeps every promise of a backend."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.backends.backend import Options, backend, names
from penstock.backends.compiled import compiled
from penstock.errors import UsageError
from penstock.testing import BackendSuite
from penstock.testing.backend_suite import TaskEnded, Went

PACKAGE = Path(__file__).parent.parent
pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """As `pip install` leaves it: a module, and a distribution that names its entry point."""
    if "threads" in names():
        yield
        return
    folder = tmp_path_factory.mktemp("site")
    about = folder / "penstock_threads-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: penstock-threads\nVersion: 0.1.0\n")
    (about / "entry_points.txt").write_text("[penstock.backends]\nthreads = penstock_threads:Threads\n")
    before = list(sys.path)
    sys.path[:0] = [str(folder), str(PACKAGE / "src")]
    importlib.invalidate_caches()
    yield
    sys.path[:] = before
    sys.modules.pop("penstock_threads", None)


class OnThreads:
    """Runs a file as `penstock run --on threads` does."""

    name = "threads"
    lacks: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.backend: Any = backend("threads")

    def run(
        self, file: Path, *, params: Mapping[str, str], group: str = "step", cancel_when: Path | None = None
    ) -> Went:
        flow = compiled(str(file), group=group, params=params)
        watcher = threading.Thread(target=self._cancel, args=(cancel_when,), daemon=True)
        if cancel_when is not None:
            watcher.start()
        ended = self.backend.run(flow, "", Options(group=group), lambda *_: None)
        tasks: dict[str, TaskEnded] = {
            step: self.backend.states.get(task.id, "not run") for task in flow.tasks for step in task.steps
        }
        by_step = {step: task.id for task in flow.tasks for step in task.steps}
        parts = {task.steps[0]: self.backend.parts[task.id] for task in flow.tasks if task.id in self.backend.parts}
        return Went(ended.state, tasks, lambda step: "\n".join(self.backend.logs[by_step[step]]), parts)

    def _cancel(self, when: Path) -> None:
        while not (when.exists() and when.read_text()):
            time.sleep(0.05)
        self.backend.stop.set()


class TestThreads(BackendSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls) -> OnThreads:
        return OnThreads()


def test_it_is_found_by_its_entry_point() -> None:
    assert "threads" in names()
    assert type(backend("threads")).__name__ == "Threads"


def test_it_writes_no_file_and_keeps_no_schedule(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text("import penstock as ps\n\n@ps.step\ndef a():\n    return 1\n\nf = ps.Flow(a)\n")
    flow = compiled(str(tmp_path / "flows.py"))
    with pytest.raises(UsageError, match="there is no file to write"):
        backend("threads").export(flow, Options())
    assert [one.grade for one in backend("threads").check(flow, Options(schedule="@daily"))] == ["error"]
