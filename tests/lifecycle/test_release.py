"""Who may move the champion: the configuration, the process, the ledger's role, and where the code comes from."""

from dataclasses import replace

import pytest

from penstock.core.ports import Config, Home
from penstock.core.run import Entry
from penstock.errors import RefusedError
from penstock.formats.registry import FormatRegistry
from penstock.lifecycle.promote import promote
from penstock.lifecycle.records import history
from penstock.lifecycle.register import json_artifact, register
from penstock.lifecycle.release import code_of, held_back, is_releaser, note_commit, policy, unclean
from penstock.testing import MemoryLedger, MemoryObjects

SHARED = "postgresql://db/penstock"
CLEAN, DIRTY = {"commit": "3f9c0000aa", "dirty": False}, {"commit": "3f9c0000aa", "dirty": True}


class Roled(MemoryLedger):
    """A ledger whose database says who may release."""

    role = None

    def may_release(self):
        return self.role


def a_home(ledger=SHARED, **settings):
    return Home(Config("/p", "", ledger, **settings), MemoryObjects(), Roled(), FormatRegistry())


@pytest.mark.parametrize(
    ("ledger", "configured", "declared", "holds"),
    [
        ("/p/ledger.db", None, None, "auto"),
        (SHARED, None, None, "ci"),
        (SHARED, None, "auto", "auto"),
        (SHARED, None, "never", "never"),
        (SHARED, "never", "auto", "never"),
        ("/p/ledger.db", "ci", None, "ci"),
    ],
)
def test_the_configuration_outweighs_the_declaration_and_both_the_default(ledger, configured, declared, holds):
    assert policy(Config("/p", "", ledger, release=configured), declared) == holds


def test_a_process_is_ci_by_its_environment_or_by_its_role():
    home = a_home()
    assert not is_releaser(home)
    home.ledger.role = True
    assert is_releaser(home)
    forged = a_home(is_ci=True)
    forged.ledger.role = False
    assert not is_releaser(forged)  # the database knows better than a variable that anybody can set
    assert is_releaser(a_home(is_ci=True))
    without = Home(Config("/p", "", SHARED), MemoryObjects(), MemoryLedger(), FormatRegistry())
    assert not is_releaser(without)  # a ledger without roles makes nobody CI


@pytest.mark.parametrize(
    ("release", "is_ci", "git", "held"),
    [
        ("ci", False, CLEAN, "this process is not CI"),
        ("ci", True, CLEAN, None),
        ("ci", True, DIRTY, "differs from the commit"),
        ("ci", True, {}, "not in Git"),
        ("auto", False, DIRTY, "differs from the commit"),
        ("auto", False, CLEAN, None),
        ("never", True, CLEAN, "release is 'never'"),
    ],
)
def test_only_ci_and_only_a_commit_becomes_champion_of_a_shared_ledger(release, is_ci, git, held):
    said = held_back(a_home(is_ci=is_ci), release, git)
    assert said is None if held is None else held in said
    if held is not None and git != CLEAN:
        assert held_back(a_home(is_ci=is_ci), release, git, allow_dirty=True) is None


def test_a_ledger_of_one_s_own_takes_code_from_anywhere():
    assert held_back(a_home("/p/ledger.db"), "auto", {}) is None


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────────────────


def a_version(home, git):
    kept = {"estimator": home.formats.dump(b"model", home.objects.stage).to_json()}
    one = json_artifact(home.objects, {"penstock": "bundle/1", "workflow": "churn", "files": kept}, "bundle")
    found, _ = register(home, "churn", one, {"run": "aa", "git": git}, "ada@lab")
    home.ledger.append([Entry("churn/verdict", 1, {"version": 1, "passed": True, "sentence": "better"})])
    return found


@pytest.mark.parametrize("git", [{}, DIRTY])
def test_by_hand_too_a_commit_is_asked_for_and_its_lack_is_on_record(git):
    home = a_home()
    found = a_version(home, git)
    with pytest.raises(RefusedError, match="cannot be champion of a shared ledger") as caught:
        promote(home, found, why="the fair", who="ada@lab")
    assert "--allow-dirty" in caught.value.hint
    assert home.ledger.streams("churn/alias") == {}
    move = promote(home, found, why="the fair", who="ada@lab", allow_dirty=True)
    assert (move.body["dirty"], move.why) == (unclean(git), f"the fair ({unclean(git)}; allowed)")
    told = next(one for one in history(home, "churn") if one["kind"] == "alias")
    assert (told["who"], told["why"]) == ("ada@lab", move.why)


def test_a_version_that_is_made_again_from_a_commit_is_of_that_commit():
    home = a_home()
    found = a_version(home, DIRTY)
    note_commit(home, found, DIRTY, "ada@lab")
    assert code_of(home, found) == DIRTY
    for _ in range(2):
        note_commit(home, found, CLEAN, "bob@lab")
    assert (code_of(home, found), home.ledger.streams("churn/commit")) == (CLEAN, {"churn/commit": 1})
    assert "made again from commit 3f9c0000" in history(home, "churn")[0]["what"] + history(home, "churn")[1]["what"]
    move = promote(home, found, why="the fair", who="ada@lab")
    assert (move.why, "dirty" in move.body) == ("the fair", False)


def test_on_a_ledger_of_one_s_own_nobody_asks_for_a_commit():
    home = a_home()
    home = replace(home, config=replace(home.config, ledger="/p/ledger.db"))
    assert promote(home, a_version(home, {}), why="the fair", who="ada@lab").why == "the fair"
