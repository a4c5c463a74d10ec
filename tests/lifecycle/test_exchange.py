"""Two environments that go on side by side: what a push of everything brings, whom it promotes, whom never."""

import time
from dataclasses import replace

import pytest

from penstock.core.ports import Config, Home
from penstock.core.run import Entry, Group, Run
from penstock.errors import RefusedError
from penstock.formats.registry import FormatRegistry
from penstock.lifecycle import promote
from penstock.lifecycle.exchange import send, send_all
from penstock.lifecycle.register import json_artifact, register
from penstock.lifecycle.versions import CHALLENGER, CHAMPION, alias, versions
from penstock.store.copy import copy_ledger
from penstock.store.fsck import fsck
from penstock.store.upkeep import reached
from penstock.testing import MemoryLedger, MemoryObjects

ADA = {"why": "the fair", "who": "ada@lab"}


class Place:
    """A home, and what runs and people do in it."""

    def __init__(self, root, **settings):
        config = Config(str(root), "", "", **settings)
        self.home = Home(config, MemoryObjects(), MemoryLedger(), FormatRegistry())

    def run(self, model, *, passes=True):
        """Register a model, judge it against the champion, and promote it."""
        files = {"estimator": model.encode(), "golden": {"rows": [1]}}
        kept = {name: self.home.formats.dump(value, self.home.objects.stage).to_json() for name, value in files.items()}
        made = json_artifact(self.home.objects, {"penstock": "bundle/1", "workflow": "churn", "files": kept}, "bundle")
        found, _ = register(self.home, "churn", made, {"git": {}}, "run@here")
        reigning, _ = alias(self.home.ledger, "churn", CHAMPION)
        sentence = f"{model} is {'better' if passes else 'worse'}"
        comparison = json_artifact(self.home.objects, {"of": model, "against": reigning and reigning.name})
        body = {"version": found.number, "against": reigning and reigning.name, "passed": passes, "sentence": sentence,
                "comparison": comparison.to_json(), "run": self.home.config.environment}  # fmt: skip
        number = self.home.ledger.streams().get("churn/verdict", 0) + 1
        self.home.ledger.append([Entry("churn/verdict", number, body)])
        if passes:
            promote.challenger(self.home, found, number, "run@here")
            promote.move(self.home, found, why=sentence, who="run@here", verdict=number)

    def by_hand(self, model):
        promote.promote(self.home, self.find(model), **ADA)

    def find(self, model):
        return next(one for one in versions(self.home.ledger, "churn") if self.model(one) == model)

    def model(self, found):
        files = self.home.formats.load(found.bundle, self.home.objects)["files"]
        return self.home.objects.read(files["estimator"]["digest"]).decode()

    def reigns(self, name=CHAMPION):
        found, _ = alias(self.home.ledger, "churn", name)
        return found and self.model(found)

    def push(self, there, because="", *, ci=False):
        far = replace(there.home, config=replace(there.home.config, is_ci=ci))
        return send_all(self.home, far, reach=reached, copy=copy_ledger, who="ci@host" if ci else "ada@lab",
                        because=because)  # fmt: skip

    def moves(self):
        return [(one.who, one.why) for one in self.home.ledger.stream("churn/alias/champion")]


@pytest.fixture
def laptop(tmp_path):
    """Each model that passes reigns at once."""
    yield (place := Place(tmp_path))
    assert legal(place)


@pytest.fixture
def prod(tmp_path):
    """Only CI releases, or a person with a reason."""
    yield (place := Place(tmp_path, environment="prod", release="ci"))
    assert legal(place)


def legal(place):
    return [one for one in fsck(place.home.objects, place.home.ledger) if one.fault] == []


def test_the_days_of_a_team(laptop, prod):
    """Run here, push, CI runs, a person promotes by hand, push again: whoever pushes, it goes on."""
    laptop.run("a")
    assert [name for name, _ in laptop.push(prod).held] == ["churn@1"]
    prod.run("a")  # CI: an equal version has its number, and is judged there
    assert prod.reigns() == "a"
    laptop.run("b")
    assert [name for name, _ in laptop.push(prod).held] == ["churn@2"]
    prod.by_hand("b")
    assert (prod.reigns(), prod.moves()[-1]) == ("b", ("ada@lab", "the fair"))
    moved = laptop.push(prod, ci=True)
    assert (moved.held, moved.stayed, moved.promoted) == ([], [], [])
    laptop.run("c")
    moved = laptop.push(prod, ci=True)  # the moves went on apart; the verdict is on the champion there all the same
    assert (moved.promoted, prod.reigns()) == (["churn@3"], "c")
    assert prod.moves()[-1] == ("ci@host", "pushed from dev: c is better")
    assert laptop.push(prod, ci=True).to_json().keys().isdisjoint({"held", "stayed", "promoted"})


def test_a_reason_promotes_there_what_its_gate_passed_here(laptop, prod):
    laptop.run("a")
    assert laptop.push(prod, "the fair").promoted == ["churn@1"]
    assert prod.moves() == [("ada@lab", "the fair")]


@pytest.mark.parametrize("how", [{"because": "the fair"}, {"ci": True}, {"ci": True, "because": "the fair"}])
def test_nobody_from_whom_a_person_went_back_returns_by_a_push(laptop, prod, how):
    laptop.run("a")
    laptop.push(prod, "first")
    laptop.run("b")
    laptop.push(prod, "second")
    promote.rollback(prod.home, "churn", why="complaints", who="ada@lab")
    [(name, why)] = laptop.push(prod, **how).stayed
    assert (name, prod.reigns()) == ("churn@2", "a")
    assert "it was before, and churn@1 took its place" in why
    prod.by_hand("b")
    assert laptop.push(prod, **how).stayed == []


def test_control_without_that_memory_it_would_return(laptop, prod, monkeypatch):
    laptop.run("a")
    laptop.push(prod, "first")
    laptop.run("b")
    laptop.push(prod, "second")
    promote.rollback(prod.home, "churn", why="complaints", who="ada@lab")
    monkeypatch.setattr(promote, "champions", lambda *_: [])
    laptop.push(prod, ci=True)
    assert prod.reigns() == "b"


def apart(laptop, prod):
    """Both places go on from one champion with a model of their own."""
    laptop.run("a")
    laptop.push(prod, ci=True)
    prod.run("theirs")
    laptop.run("ours")


@pytest.mark.parametrize("how", [{"because": "the fair"}, {"ci": True}])
def test_places_that_went_on_apart_exchange_versions_and_each_keeps_its_champion(laptop, prod, how):
    """The gate has compared it with a champion that reigns there no more."""
    apart(laptop, prod)
    moved = laptop.push(prod, **how)
    assert (moved.apart, moved.versions) == (["churn"], [("churn@2", "churn@3", True)])
    assert moved.stayed[0][0] == "churn@3"
    assert "`penstock run --env prod` judges it" in moved.stayed[0][1]
    assert (prod.reigns(), prod.reigns(CHALLENGER)) == ("theirs", "theirs")
    prod.run("ours")  # judged against theirs, as version 3
    assert prod.reigns() == "ours"
    before = dict(prod.home.ledger.streams())
    again = laptop.push(prod, **how)
    assert (again.versions, again.stayed, dict(prod.home.ledger.streams())) == ([], [], before)
    back = prod.push(laptop, ci=True)
    assert [here for here, _, _ in back.versions] == ["churn@2"]
    assert (laptop.reigns(), back.stayed) == ("ours", [])


def test_a_version_that_its_gate_refused_arrives_and_stays_what_it_is(laptop, prod):
    apart(laptop, prod)
    laptop.run("worse", passes=False)
    laptop.push(prod, ci=True)
    promote.rollback(prod.home, "churn", why="back", who="ada@lab")
    with pytest.raises(RefusedError, match="it was never judged"):
        prod.by_hand("worse")


def test_a_champion_whose_gate_refused_it_is_told_before_anything_moves(laptop, prod):
    laptop.run("a", passes=False)
    promote.promote(laptop.home, laptop.find("a"), **ADA, force=True)
    with pytest.raises(RefusedError, match="did not pass its gate"):
        laptop.push(prod, "the fair")
    assert (prod.home.ledger.streams(), list(prod.home.objects.walk())) == ({}, [])


@pytest.mark.parametrize(("lost", "whole"), [(False, False), (True, False), (False, True)])
def test_what_the_row_of_a_run_names_comes_with_it(laptop, prod, lost, whole):
    objects, ledger = laptop.home.objects, laptop.home.ledger
    kept = {name: objects.stage(name.encode())[0] for name in ("diff", "predictions")}
    objects.publish(kept.values())
    info = {"code": {"diff": {"digest": kept["diff"]}}, "predictions": kept["predictions"]}
    ledger.commit(Group(runs=[Run("a" * 16, "churn", "run", "done", time.time(), info=info)]))
    made = json_artifact(objects, {"penstock": "bundle/1", "workflow": "churn", "files": {}}, "bundle")
    found, _ = register(laptop.home, "churn", made, {"git": {}, "run": "a" * 16}, "run@here")
    if lost:
        objects.delete(kept["diff"])
    if whole:
        laptop.push(prod)
    else:
        send(laptop.home, prod.home, [found], who="ada@lab")
    objects.publish([objects.stage(b"diff")[0]])  # what the fixture looks for in the end
    [row] = prod.home.ledger.runs()
    there = {item.digest for item in prod.home.objects.walk()}
    if lost:  # what was lost here is no loss of theirs
        assert (row.kept, kept["diff"] in there, kept["predictions"] in there) == ({}, False, True)
    else:
        assert set(row.kept.values()) == set(kept.values()) <= there
    assert fsck(prod.home.objects, prod.home.ledger) == []
