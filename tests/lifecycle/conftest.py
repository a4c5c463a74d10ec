"""What several tests of the lifecycle share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from penstock.core.ports import Config, Home
from penstock.core.run import Entry
from penstock.formats.registry import FormatRegistry
from penstock.testing import MemoryLedger, MemoryObjects


class Raced(MemoryLedger):
    """Before each append that it is told of, somebody else does something first."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 1.0)
        self.rivals: list[Callable[[], object]] = []

    def append(self, entries: Sequence[Entry], *, key: str | None = None) -> list[Entry]:
        if self.rivals:
            waiting, self.rivals = self.rivals, []  # a rival has no rivals of its own
            waiting.pop(0)()
            self.rivals = waiting
        return super().append(entries, key=key)


@pytest.fixture
def raced_home(tmp_path: Path) -> Home:
    """A project in memory; what `ledger.rivals` holds is done by others, one before each append."""
    return Home(Config(str(tmp_path), "", ""), MemoryObjects(), Raced(), FormatRegistry())
