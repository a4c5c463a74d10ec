"""A disk of memory for the short tests: they make thousands of fsyncs, and the machine's disk is shared."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

MEMORY = "/dev/shm"


@pytest.fixture
def tmp_path(tmp_path, request, monkeypatch):
    """pytest's own folder for campaigns and where there is no disk of memory."""
    if request.node.get_closest_marker("campaign") or not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    folder = tempfile.mkdtemp(prefix="penstock-test-", dir=MEMORY)
    yield Path(folder)
    monkeypatch.undo()  # a test may have taken away what removes files
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def damage_remote():
    """Replaces the bytes of an object of a remote store wherever they are: copies, staged bytes, behind the URL."""

    def change(objects, digest, data):
        for path in (objects.local._final(digest), objects.local._staged(digest)):
            if os.path.exists(path):
                os.chmod(path, 0o644)
                Path(path).write_bytes(data)
                os.chmod(path, 0o444)
        name = f"objects/{digest[:2]}/{digest[2:]}"
        if objects._plain.stat(name) is not None:
            objects._plain.put(name, data)

    return change
