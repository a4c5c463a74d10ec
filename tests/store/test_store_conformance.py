"""The directory and the SQLite file hold every promise of their Protocols."""

import os

import pytest

from penstock.store import sqlite
from penstock.store.ledger import SqliteLedger
from penstock.store.objects import DirectoryObjects
from penstock.store.postgres_ledger import PostgresLedger
from penstock.testing import LedgerSuite, ObjectsSuite


class TestDirectoryObjects(ObjectsSuite):
    @pytest.fixture
    def objects(self, tmp_path):
        yield (objects := DirectoryObjects(str(tmp_path / "store")))
        assert [item for item in objects.leftovers() if item.kind != "staged"] == []

    @pytest.fixture
    def damage(self, objects):
        def change(digest, data):
            path = objects.fetch(digest)
            os.chmod(path, 0o644)
            with open(path, "wb") as file:
                file.write(data)
            os.chmod(path, 0o444)  # a mode that says "untouched" proves nothing

        return change


class TestDirectoryObjectsWithoutHardLinks(TestDirectoryObjects):
    """Some file systems have none: the staged file is then moved, and a path given before may go."""

    @pytest.fixture(autouse=True)
    def no_links(self, monkeypatch):
        def refuse(*args, **kwargs):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)

    test_a_fetched_staged_path_outlives_its_publication = None
    test_a_reader_follows_a_move = None
    test_many_putters_of_one_object = None


class TestSqliteLedger(LedgerSuite):
    @pytest.fixture
    def ledger(self, tmp_path):
        yield (ledger := SqliteLedger(str(tmp_path / "ledger.db"), clock=lambda: 1000.0))
        ledger.close()


class TestSqliteLedgerWithWriteAheadLog(TestSqliteLedger):
    """As on a SQLite without the fault, whichever one runs the tests."""

    @pytest.fixture(autouse=True)
    def wal(self, monkeypatch, tmp_path):
        monkeypatch.setattr(sqlite, "journal_mode", lambda version: "wal")
        yield
        assert (tmp_path / "ledger.db").read_bytes()[18:20] == b"\x02\x02"


class TestPostgresLedger(LedgerSuite):
    @pytest.fixture
    def ledger(self, postgres):
        yield (ledger := PostgresLedger(postgres, clock=lambda: 1000.0))
        ledger.close()
