"""Short tests here write to a disk of memory."""

import os
from pathlib import Path

import pytest

from memory_disk import tmp_path

__all__ = ["tmp_path"]


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
