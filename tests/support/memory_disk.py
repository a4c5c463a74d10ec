"""A disk of memory for the short tests: they make thousands of fsyncs, and the machine's disk is shared."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = "/dev/shm"


@pytest.fixture
def tmp_path(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """pytest's own folder for campaigns and where there is no disk of memory."""
    if request.node.get_closest_marker("campaign") or not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    folder = tempfile.mkdtemp(prefix="penstock-test-", dir=MEMORY)
    yield Path(folder)
    monkeypatch.undo()  # a test may have taken away what removes files
    shutil.rmtree(folder, ignore_errors=True)
