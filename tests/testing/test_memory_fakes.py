"""The in-memory fakes hold what the real adapters hold."""

import pytest

from penstock.testing import LedgerSuite, MemoryLedger, MemoryObjects, ObjectsSuite


class TestMemoryObjects(ObjectsSuite):
    @pytest.fixture
    def objects(self):
        return MemoryObjects()

    @pytest.fixture
    def damage(self, objects):
        def change(digest, data):
            place = objects.published if digest in objects.published else objects.staged
            place[digest] = data

        return change


class TestMemoryLedger(LedgerSuite):
    @pytest.fixture
    def ledger(self):
        return MemoryLedger(clock=lambda: 1000.0)
