"""An object store in memory, as the formats see it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from penstock.errors import MissingObjectError


class MemoryObjects:
    """`stage`, `read` and `fetch` of `core.ports.Objects`; staging a path moves the file, as the real store does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: dict[str, bytes] = {}

    def stage(self, data: bytes | str) -> tuple[str, int]:
        if isinstance(data, str):
            path, data = data, Path(data).read_bytes()
            os.remove(path)
        digest = hashlib.sha256(data).hexdigest()
        self.kept[digest] = bytes(data)
        return digest, len(data)

    def read(self, digest: str) -> bytes:
        if digest not in self.kept:
            raise MissingObjectError("An object is not in the store.", digest=digest)
        return self.kept[digest]

    def fetch(self, digest: str) -> str:
        path = self.folder / digest
        path.write_bytes(self.read(digest))
        path.chmod(0o444)
        return str(path)


@pytest.fixture
def objects(tmp_path: Path) -> MemoryObjects:
    folder = tmp_path / "objects"
    folder.mkdir()
    return MemoryObjects(folder)
