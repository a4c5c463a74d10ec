"""The state machine agrees with both stores, and does not agree with a broken one."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from penstock.store.ledger import SqliteLedger
from penstock.store.objects import DirectoryObjects
from penstock.store.postgres_ledger import PostgresLedger
from penstock.testing import MemoryLedger, MemoryObjects
from penstock.testing.machine import StoreMachine
from penstock.testing.sabotage import DropsRename, WritesInPlace

SHORT = settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


class RealMachine(StoreMachine):
    objects_class = DirectoryObjects
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

    def open(self, root):
        return self.objects_class(os.path.join(root, "store")), SqliteLedger(os.path.join(root, "ledger.db"))


class PostgresMachine(StoreMachine):
    """A database for each example; a crash leaves the old session to the server."""

    folder = RealMachine.folder
    server = None

    def open(self, root):
        if not hasattr(self, "database"):
            self.database, self.opened = self.server.create_database(), []
        ledger = PostgresLedger(self.server.url(self.database))
        self.opened.append(ledger)
        return DirectoryObjects(os.path.join(root, "store")), ledger

    def teardown(self):
        super().teardown()
        for ledger in getattr(self, "opened", ()):
            ledger.close()
        if hasattr(self, "database"):
            self.server.drop_database(self.database)


class MemoryMachine(StoreMachine):
    def open(self, root):
        if not hasattr(self, "objects"):
            return MemoryObjects(), MemoryLedger()
        return self.objects, self.ledger


class ForgetfulLedger(SqliteLedger):
    """Takes any number that is free: the compare-and-swap dropped."""

    def append(self, entries, *, key=None):
        entries = [type(e)(e.stream, self.streams().get(e.stream, 0) + 1, e.body) for e in entries]
        return super().append(entries, key=key)


class NoRename(RealMachine):
    objects_class = DropsRename


class InPlace(RealMachine):
    objects_class = WritesInPlace


class NoSwap(RealMachine):
    def open(self, root):
        return DirectoryObjects(os.path.join(root, "store")), ForgetfulLedger(os.path.join(root, "ledger.db"))


@pytest.mark.parametrize("machine", [RealMachine, MemoryMachine])
def test_product_and_model_agree(machine):
    run_state_machine_as_test(machine, settings=SHORT)


def test_postgresql_and_model_agree(postgres_server, monkeypatch):
    monkeypatch.setattr(PostgresMachine, "server", postgres_server)
    run_state_machine_as_test(PostgresMachine, settings=settings(SHORT, max_examples=8))


@pytest.mark.parametrize("machine", [NoRename, InPlace, NoSwap])
def test_control_a_broken_store_does_not(machine):
    quick = settings(SHORT, max_examples=40, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=quick)


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("machine", [RealMachine, PostgresMachine])
def test_five_thousand_steps(machine, postgres_server, monkeypatch):
    monkeypatch.setattr(PostgresMachine, "server", postgres_server)
    run_state_machine_as_test(machine, settings=settings(SHORT, max_examples=100, stateful_step_count=50))
