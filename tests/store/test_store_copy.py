"""A ledger arrives whole in another one, whatever happens on the way."""

import pytest

from penstock.core.run import Decided, Entry, Group, Run
from penstock.errors import ConflictError
from penstock.store.copy import Copied, copy_ledger
from penstock.store.fsck import fsck
from penstock.store.ledger import SqliteLedger
from penstock.store.postgres_ledger import PostgresLedger
from penstock.testing import MemoryLedger, MemoryObjects
from penstock.testing.ledger_suite import CODE, make_decided, make_result, make_step_run


@pytest.fixture
def source(tmp_path):
    """Two workflows; a chain of results; names that a database finds hard."""
    ledger = SqliteLedger(str(tmp_path / "source.db"), clock=lambda: 77.0)
    last = ()
    for number in range(30):
        result = make_result(f"n{number}", last, run=f"{number // 3:016x}", inline=True)
        last = result.outputs
        group = Group(results=[result], codes={CODE: {"prep.clean": "x"}})
        group.runs = [Run(f"{number // 3:016x}", ("churn", "fraud")[number % 2], "run", "done", float(number), 99.5)]
        group.step_runs = [make_step_run(result, f"{number // 3:016x}", f"step {number}\x00\udcff")]
        group.decided = [(("churn", "fraud")[number % 2], make_decided(result, f"s{number}"))]
        ledger.commit(group)
    ledger.commit(Group(decided=[("churn", Decided("lonely", "ab" * 32, CODE, {"x": [1, None]}))]))
    for workflow in ("churn", "fraud"):
        for number in range(1, 8):
            ledger.append([Entry(f"{workflow}/version", number, {"x": "ü\x00\ud800"}, 0.1 * number, "ana@host", "why")])
        move = {"version": 3, "previous": None}
        ledger.append([Entry(f"{workflow}/alias/champion", 1, move), Entry(f"{workflow}/deployment", 1, move)])
    yield ledger
    ledger.close()


@pytest.fixture(params=["sqlite", "memory", "postgres"])
def target(request, tmp_path):
    if request.param == "memory":
        ledger = MemoryLedger()
    elif request.param == "sqlite":
        ledger = SqliteLedger(str(tmp_path / "target.db"))
    else:
        ledger = PostgresLedger(request.getfixturevalue("postgres"))
    yield ledger
    ledger.close()


def facts(ledger):
    recipes = ledger.recipes()
    return {
        "results": ledger.results(recipes),
        "codes": ledger.codes([CODE]),
        "runs": ledger.runs(limit=1000),
        "steps": {run.id: ledger.step_runs(run.id) for run in ledger.runs(limit=1000)},
        "decided": {flow: ledger.decided(flow) for flow in ("churn", "fraud")},
        "streams": {name: ledger.stream(name) for name in ledger.streams()},
    }


def test_everything_arrives_and_a_second_time_nothing_is_new(source, target):
    assert copy_ledger(source, target) == Copied(10, 30, 18)
    assert facts(target) == facts(source)
    assert copy_ledger(source, target) == Copied()
    assert facts(target) == facts(source)
    assert [one for one in fsck(MemoryObjects(), target) if one.fault] == []


def test_there_and_back_again(source, target, tmp_path):
    copy_ledger(source, target)
    home = SqliteLedger(str(tmp_path / "home.db"))
    copy_ledger(target, home)
    assert facts(home) == facts(source)
    home.close()


@pytest.mark.parametrize("interrupted_at", range(0, 24, 3))
def test_an_interrupted_copy_is_taken_up(source, target, interrupted_at, monkeypatch):
    left = [interrupted_at]

    def fail_in_time(name):
        true = getattr(target, name)

        def call(*args, **kwargs):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return true(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("commit", "append"):
            patch.setattr(target, name, fail_in_time(name))
        try:
            copy_ledger(source, target)
        except KeyboardInterrupt:
            assert left == [0]
    copy_ledger(source, target)
    assert facts(target) == facts(source)


def test_a_target_that_went_on_its_own_way_is_refused_before_anything_is_written(source, target):
    target.append([Entry("fraud/version", 1, {"theirs": True})])
    with pytest.raises(ConflictError, match="another decision"):
        copy_ledger(source, target)
    assert target.streams() == {"fraud/version": 1}
    assert target.recipes() == []
    assert copy_ledger(source, target, wanted=lambda name: name == "churn").entries == 9


def test_a_target_that_is_ahead_is_left_alone(source, target):
    copy_ledger(source, target)
    target.append([Entry("churn/version", 8, {"theirs": True})])
    assert copy_ledger(source, target) == Copied()
    assert target.streams()["churn/version"] == 8


def test_decisions_alone(source, target):
    assert copy_ledger(source, target, entries_only=True) == Copied(0, 0, 18)
    assert target.recipes() == []


def test_a_reader_never_sees_a_name_before_what_it_names(source, target, monkeypatch):
    seen = []
    true = target.append
    monkeypatch.setattr(target, "append", lambda entries, **k: (seen.extend(e.stream for e in entries), true(entries)))
    copy_ledger(source, target)
    for workflow in ("churn", "fraud"):
        ours = [name for name in seen if name.startswith(workflow)]
        assert ours.index(f"{workflow}/version") < ours.index(f"{workflow}/alias/champion")
