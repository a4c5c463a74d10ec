"""Following the deployment: proved first, swapped as one, and whatever fails leaves the old one answering."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from dataclasses import dataclass, field

import pytest

from penstock.core.run import Entry
from penstock.errors import StoreError
from penstock.serve import model as model_module
from penstock.serve.follow import Follower, Holder, for_clients
from penstock.serve.log import NoLog
from penstock.serve.predict import Live, Predictor

AGE = {"age": 1.0}


@pytest.fixture
def holder():
    return Holder()


def test_nothing_deployed_is_nothing_live(house, holder):
    house.register(house.constant(1.0))
    follower = house.follower(holder)
    follower.step()
    assert holder.live is None
    assert follower.looked.is_set()
    assert follower.state() == {"deployment": 0, "newest": 0, "ledger_error": None}


def test_a_cold_start_serves_the_deployment_and_never_a_version_that_is_only_registered(house, holder):
    for value in (1.0, 2.0, 3.0):
        house.register(house.constant(value))
    house.deploy(2)
    house.follower(holder).step()
    assert holder.live.model.name == "churn@2"


def test_each_deployment_is_followed_and_a_roll_back_too(house, holder):
    house.register(house.constant(1.0))
    house.register(house.constant(2.0))
    follower = house.follower(holder)
    for version in (1, 2, 1, 2, 2):
        house.deploy(version)
        follower.step()
        assert holder.live.model.version == version
        assert holder.live.model.answer([AGE]) == [{"value": float(version)}]
    assert follower.state()["deployment"] == 5


def test_what_lies_between_two_looks_is_passed_over(house, holder):
    loads = []
    follower = house.follower(holder, prepare=lambda model: loads.append(model.version) or Live.of(model))
    for value in (1.0, 2.0, 3.0):
        house.deploy(house.register(house.constant(value)))
    follower.step()
    assert loads == [3]


def test_a_deployment_entry_without_a_bundle_finds_it_by_the_version(house, holder):
    house.register(house.constant(1.0))
    house.ledger.append([Entry("churn/deployment", 1, {"version": 1, "previous": None})])
    house.follower(holder).step()
    assert holder.live.model.version == 1


# ── what fails ───────────────────────────────────────────────────────────────────────────────────────────────


def break_bundle(house, version):
    """Turn a bit of a registered version's estimator or of its manifest."""
    bundle = house.ledger.stream("churn/version", after=version - 1)[0].body["bundle"]
    house.objects.published[bundle["digest"]] = b"x" + house.objects.staged.pop(bundle["digest"])[1:]


def test_a_damaged_bundle_leaves_the_old_one_and_the_reason_is_told(house, holder, capsys):
    house.deploy(house.register(house.constant(1.0)))
    follower = house.follower(holder, retry_s=(0.0, 0.0))
    follower.step()
    house.register(house.constant(2.0))
    break_bundle(house, 2)
    house.deploy(2)
    follower.step()
    assert holder.live.model.version == 1
    assert "deployment 2 of churn was not loaded" in holder.last_error
    assert "deployment 2" in capsys.readouterr().err
    house.deploy(house.register(house.constant(3.0)))
    follower.step()
    assert (holder.live.model.version, holder.last_error) == (3, None)


def test_another_golden_answer_leaves_the_old_one(house, holder):
    house.deploy(house.register(house.customers()))
    follower = house.follower(holder)
    follower.step()
    house.deploy(house.register(house.customers(golden={"rows": [{}], "expected": [{"value": 0.0}]})))
    follower.step()
    assert holder.live.model.version == 1
    assert holder.last_error is not None


def test_sabotage_swapping_without_the_golden_check_serves_the_wrong_one(house, holder, kit, monkeypatch):
    monkeypatch.setattr(model_module.Model, "replay", lambda self: None)
    _, _, frame = kit.customers_pipeline()
    wrong = {"rows": kit.plain_records(frame), "expected": [{"label": 1, "score": 0.5}] * len(frame)}
    house.deploy(house.register(house.customers(golden=wrong)))
    house.follower(holder).step()
    assert holder.live is not None


def test_a_contract_that_refuses_its_own_golden_rows_leaves_the_old_one(house, holder, kit):
    house.deploy(house.register(house.customers()))
    follower = house.follower(holder)
    follower.step()
    estimator, contract, frame = kit.customers_pipeline()
    contract["columns"][0]["missing"] = "refuse"
    frame.loc[frame.index[0], "age"] = float("nan")
    house.deploy(house.register(house.bundle(estimator, contract, frame)))
    follower.step()
    assert holder.live.model.version == 1
    assert 'field "age" is null' in holder.last_error


def test_a_failed_load_is_tried_again_with_patience(house, holder):
    house.register(house.constant(1.0))
    bundle = house.ledger.stream("churn/version")[0].body["bundle"]["digest"]
    data = house.objects.staged.pop(bundle)
    house.deploy(1)
    tries = []
    read = house.objects.read
    house.objects.read = lambda digest: tries.append(1) or read(digest)
    follower = house.follower(holder, retry_s=(0.2, 0.2))
    for _ in range(5):
        follower.step()
    assert len(tries) == 1
    house.objects.staged[bundle] = data
    time.sleep(0.25)
    follower.step()
    assert holder.live.model.version == 1


@dataclass
class Away:
    """A ledger that can be taken away."""

    inner: object
    away: bool = False
    opened: int = 0
    closed: int = 0
    threads: set = field(default_factory=set)

    def open(self):
        self.opened += 1
        if self.away:
            raise StoreError("the ledger /srv/models/.penstock/ledger.db cannot be opened")
        return self

    def stream(self, name, *, after=0):
        self.threads.add(threading.current_thread().name)
        if self.away:
            raise StoreError("disk I/O error")
        return self.inner.stream(name, after=after)

    def close(self):
        self.closed += 1


def test_a_ledger_that_goes_away_stops_nothing_and_is_opened_anew(house, holder):
    house.deploy(house.register(house.constant(1.0)))
    away = Away(house.ledger)
    follower = Follower("churn", away.open, house.objects, house.formats, holder)
    follower.step()
    away.away = True
    for _ in range(3):
        assert follower.step() >= 1.0
    assert follower.state()["ledger_error"] == "the ledger …/ledger.db cannot be opened"
    assert holder.live.model.answer([AGE]) == [{"value": 1.0}]
    away.away = False
    house.deploy(house.register(house.constant(2.0)))
    follower.step()
    assert holder.live.model.version == 2
    assert follower.state()["ledger_error"] is None
    assert away.closed == 1


def test_the_store_may_vanish_once_a_model_is_loaded(house, holder):
    house.deploy(house.register(house.constant(1.0)))
    house.follower(holder).step()
    house.objects.published.clear()
    house.objects.staged.clear()
    assert holder.live.model.answer([AGE]) == [{"value": 1.0}]


def test_the_thread_follows_by_itself_on_its_own_connection_and_ends(house, holder, kit):
    away = Away(house.ledger)
    follower = Follower("churn", away.open, house.objects, house.formats, holder, poll_s=0.01)
    follower.start()
    house.deploy(house.register(house.constant(1.0)))
    kit.until(lambda: holder.live is not None)
    follower.stop()
    assert away.threads == {"follow"}
    assert away.closed == 1
    assert not any(thread.name == "follow" for thread in threading.enumerate())


def test_clients_read_no_folders_and_no_foreign_words():
    assert for_clients(StoreError("cannot read /a/b/c.txt")) == "cannot read …/c.txt"
    assert for_clients(StoreError(r"cannot read C:\a\b\c.txt")) == "cannot read …/c.txt"
    assert for_clients(KeyError("/etc/passwd")) == "KeyError"
    assert for_clients(StoreError("roc_auc 0.8 < 0.9 and/or worse")) == "roc_auc 0.8 < 0.9 and/or worse"


# ── many swaps ───────────────────────────────────────────────────────────────────────────────────────────────


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(("rounds", "growth"), [(16, 0.10), pytest.param(500, 0.10, marks=pytest.mark.campaign)])
def test_swaps_leave_no_threads_files_or_memory_behind(house, holder, rounds, growth):
    house.register(house.customers())
    house.register(house.customers(note="another manifest"))
    follower = house.follower(holder)

    def swap(version):
        house.deploy(version)
        follower.step()
        assert holder.live.model.version == version

    for turn in range(10):
        swap(turn % 2 + 1)
    gc.collect()
    before = (threading.active_count(), len(os.listdir("/proc/self/fd")), resident())
    for turn in range(rounds):
        swap(turn % 2 + 1)
    gc.collect()
    assert threading.active_count() == before[0]
    assert len(os.listdir("/proc/self/fd")) == before[1]
    assert resident() < before[2] * (1 + growth)


def test_the_old_model_is_freed_once_nothing_holds_it(house, holder):
    import weakref

    house.register(house.constant(1.0))
    house.register(house.constant(2.0))
    follower = house.follower(holder)
    house.deploy(1)
    follower.step()
    gone = weakref.ref(holder.live.model.estimator)
    house.deploy(2)
    follower.step()
    gc.collect()
    assert gone() is None


def test_a_request_that_began_on_the_old_model_ends_on_it(house, holder):
    """The reference is taken once: swapping between taking and answering changes nothing of the answer."""
    house.register(house.constant(1.0))
    house.register(house.constant(2.0))
    follower = house.follower(holder)
    house.deploy(1)
    follower.step()
    taken = holder.live
    predictor = Predictor(NoLog())
    house.deploy(2)
    follower.step()
    body = bytearray(json.dumps({"records": [AGE]}).encode())
    answered = predictor.submit(taken, body, time.monotonic() + 5).result(5)
    predictor.close()
    assert answered.model == "churn@1"
    assert json.loads(answered.body)["predictions"][0]["value"] == 1.0
