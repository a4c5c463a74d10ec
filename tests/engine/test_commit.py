"""Group commit: bytes before rows, together, and nothing lost when a write fails."""

import pytest

from penstock.core.artifact import Artifact
from penstock.core.run import Result, StepRun
from penstock.engine import commit
from penstock.engine.commit import Committer
from penstock.errors import StoreError
from penstock.testing import MemoryLedger, MemoryObjects


class Order(MemoryObjects):
    """Tells a list when it publishes."""

    def __init__(self, told):
        super().__init__()
        self.told = told

    def publish(self, digests):
        self.told.append("bytes")
        super().publish(digests)


class Failing(MemoryLedger):
    """A ledger whose first commits fail."""

    def __init__(self, told, failures=0):
        super().__init__()
        self.told, self.failures = told, failures

    def commit(self, group):
        self.told.append("rows")
        if self.failures:
            self.failures -= 1
            raise StoreError("disk full")
        super().commit(group)


def made(objects, text=b"value"):
    digest, size = objects.stage(text)
    output = Artifact(digest, "bytes", size)
    result = Result("r" * 64, "c" * 64, ["list", []], None, (output,))
    return result, StepRun("f" * 16, "a", 1, "r" * 64, "run", "done", {}, (output,))


@pytest.fixture
def told():
    return []


def test_bytes_come_before_rows(told):
    objects, ledger = Order(told), Failing(told)
    result, row = made(objects)
    committer = Committer(objects, ledger)
    committer.add(result=result, step_run=row)
    assert objects.published == {}
    committer.flush()
    assert told == ["bytes", "rows"]
    assert ledger.recipes() == [result.recipe]
    assert objects.missing([row.outputs[0].digest]) == set()


def test_a_failed_commit_keeps_the_group(told):
    objects, ledger = Order(told), Failing(told, failures=1)
    result, row = made(objects)
    committer = Committer(objects, ledger)
    committer.add(result=result, step_run=row)
    with pytest.raises(StoreError):
        committer.flush()
    assert ledger.recipes() == []
    committer.flush()
    assert ledger.recipes() == [result.recipe]


def test_a_group_waits_no_longer_than_it_should(told, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(commit.time, "monotonic", lambda: now[0])
    objects, ledger = Order(told), Failing(told)
    committer = Committer(objects, ledger)
    assert committer.due() is None
    result, row = made(objects)
    committer.add(result=result, step_run=row)
    assert committer.due() == pytest.approx(commit.DELAY_S)
    now[0] = 0.04
    committer.add(step_run=row)
    assert committer.due() == pytest.approx(0.06)
    now[0] = 0.2
    assert committer.due() == 0.0
    committer.flush()
    assert committer.due() is None


def test_a_large_group_does_not_wait(told, monkeypatch):
    monkeypatch.setattr(commit, "LIMIT", 3)
    objects = Order(told)
    committer = Committer(objects, Failing(told))
    for _ in range(3):
        committer.add(step_run=made(objects)[1])
    assert committer.due() == 0.0


def test_nothing_to_write_writes_nothing(told):
    Committer(Order(told), Failing(told)).flush()
    assert told == []


def test_what_is_reused_is_not_published_again(told):
    objects = Order(told)
    _, row = made(objects)
    committer = Committer(objects, Failing(told))
    from dataclasses import replace

    committer.add(step_run=replace(row, action="reuse"))
    committer.flush()
    assert told == ["rows"]
