"""Moving aliases: by evidence or on record without it, by compare-and-swap, back again, and never to damaged bytes."""

import threading
from dataclasses import replace

import pytest

from penstock.core.run import Entry
from penstock.errors import (
    ConflictError,
    CorruptObjectError,
    MissingObjectError,
    RefusedError,
    UnknownNameError,
    UsageError,
)
from penstock.lifecycle import promote as module
from penstock.lifecycle.promote import challenger, move, previous_champion, promote, rollback, taken_back
from penstock.lifecycle.register import json_artifact, register
from penstock.lifecycle.versions import CHALLENGER, CHAMPION, alias, manifest, version
from penstock.store.fsck import fsck
from penstock.store.ledger import SqliteLedger
from penstock.testing import MemoryLedger

ADA = {"why": "it is better", "who": "ada@lab"}
STREAMS = ("churn/alias/champion", "churn/deployment")


def made(home, number):
    files = {"estimator": b"model %d" % number, "golden": {"rows": [number]}}
    kept = {name: home.formats.dump(value, home.objects.stage).to_json() for name, value in files.items()}
    one = json_artifact(home.objects, {"penstock": "bundle/1", "workflow": "churn", "files": kept}, "bundle")
    return register(home, "churn", one, {"run": "aa"}, "ada@lab")[0]


def judge(home, found, *, passed=True):
    number = home.ledger.streams().get("churn/verdict", 0) + 1
    body = {"version": found.number, "passed": passed, "sentence": "better" if passed else "roc_auc is worse"}
    home.ledger.append([Entry("churn/verdict", number, body)])


@pytest.fixture
def home(raced_home):
    """Versions 1 to 4, of which 1 to 3 passed their gate; nobody is champion yet. What is left is legal."""
    home = raced_home
    for number in (1, 2, 3, 4):
        found = made(home, number)
        if number < 4:
            judge(home, found)
    yield home
    assert [one for one in fsck(home.objects, home.ledger) if one.kind in ("alias", "stream")] == []


def v(home, number):
    return version(home.ledger, "churn", number)


def reign(home, *numbers):
    for number in numbers:
        move(home, v(home, number), **ADA)


def champion(home):
    return alias(home.ledger, "churn", CHAMPION)[0].number


def recorded(home):
    return {name: home.ledger.stream(name) for name in STREAMS}


# ── one move ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_move_of_the_champion_is_a_deployment_in_the_same_transaction(home):
    reign(home, 1)
    entry = move(home, v(home, 2), **ADA, verdict=7)
    assert (entry.number, dict(entry.body)) == (2, {"version": 2, "previous": 1, "verdict": 7})
    assert (entry.who, entry.why) == ("ada@lab", "it is better")
    last = home.ledger.stream("churn/deployment")[-1]
    assert (last.body["version"], last.body["previous"], last.body["bundle"]) == (2, 1, v(home, 2).bundle.to_json())
    assert last.body["artifacts"] == {"bundle": v(home, 2).bundle.digest}


def test_alias_and_deployment_move_together_or_not_at_all(home):
    """Somebody deploys between the look at the streams and the transaction."""
    reign(home, 1)
    stray = Entry("churn/deployment", 2, {"version": 1, "previous": 1})
    home.ledger.rivals = [lambda: home.ledger.append([stray])]
    with pytest.raises(ConflictError):
        move(home, v(home, 2), **ADA)
    assert champion(home) == 1
    assert len(home.ledger.stream("churn/alias/champion")) == 1


def test_of_two_moves_after_the_same_head_exactly_one_wins(home):
    reign(home, 1)
    move(home, v(home, 2), **ADA, after=1)
    with pytest.raises(ConflictError, match="champion moved to churn@2 meanwhile"):
        move(home, v(home, 3), **ADA, after=1)
    assert champion(home) == 2


def test_whoever_looked_before_another_wrote_loses_too(home):
    reign(home, 1)
    home.ledger.rivals = [lambda: move(home, v(home, 2), **ADA)]
    with pytest.raises(ConflictError, match="somebody else was first"):
        move(home, v(home, 3), **ADA, after=1)
    assert champion(home) == 2
    assert home.ledger.stream("churn/deployment")[-1].body["version"] == 2


def test_of_many_at_once_on_a_real_ledger_exactly_one_wins(home, tmp_path):
    path = str(tmp_path / "ledger.db")
    with_file = replace(home, ledger=SqliteLedger(path))
    for entry in home.ledger.stream("churn/version"):
        with_file.ledger.append([entry])
    targets = [v(with_file, number) for number in (1, 2, 3, 4)]
    gate, won, lost = threading.Barrier(4), [], []

    def try_it(to):
        mine = replace(home, ledger=SqliteLedger(path))
        gate.wait(10)
        try:
            won.append(move(mine, to, **ADA, after=0))
        except ConflictError as error:
            lost.append(error)
        finally:
            mine.ledger.close()

    threads = [threading.Thread(target=try_it, args=(to,)) for to in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(won), len(lost)) == (1, 3)
    assert with_file.ledger.streams("churn/alias") == {"churn/alias/champion": 1}
    assert champion(with_file) == with_file.ledger.stream("churn/deployment")[0].body["version"]
    with_file.ledger.close()


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("why", ["", "  \n"])
def test_by_hand_a_reason_is_asked_for(home, why):
    with pytest.raises(UsageError, match="--because"):
        promote(home, v(home, 1), why=why, who="ada@lab", force=True)
    assert recorded(home) == {name: [] for name in STREAMS}


def test_a_version_that_passed_is_promoted_with_its_verdict(home):
    entry = promote(home, v(home, 2), **ADA)
    assert (entry.body["version"], entry.body["verdict"], entry.why) == (2, 2, "it is better")
    assert champion(home) == 2
    assert promote(home, v(home, 2), **ADA) is None
    assert len(home.ledger.stream("churn/alias/champion")) == 1


@pytest.mark.parametrize(("judged", "said"), [(False, "it was never judged"), (True, "roc_auc is worse")])
def test_a_version_that_did_not_pass_needs_force_which_is_on_record(home, judged, said):
    if judged:
        judge(home, v(home, 4), passed=False)
    with pytest.raises(RefusedError, match=said) as caught:
        promote(home, v(home, 4), **ADA)
    assert caught.value.exit_code == 4
    assert recorded(home) == {name: [] for name in STREAMS}
    entry = promote(home, v(home, 4), **ADA, force=True)
    assert entry.why == "it is better (forced past the gate)"
    assert champion(home) == 4


def test_the_last_verdict_counts(home):
    judge(home, v(home, 1), passed=False)
    with pytest.raises(RefusedError):
        promote(home, v(home, 1), **ADA)
    judge(home, v(home, 1))
    assert promote(home, v(home, 1), **ADA, force=True).why == "it is better"  # there was nothing to force


def test_a_promotion_by_hand_loses_to_who_was_first(home):
    reign(home, 1)
    home.ledger.rivals = [lambda: move(home, v(home, 3), **ADA)]
    with pytest.raises(ConflictError):
        promote(home, v(home, 2), **ADA)
    assert champion(home) == 3


# ── back ─────────────────────────────────────────────────────────────────────────────────────────────────────


def back(home, **how):
    return rollback(home, "churn", why="", who="ada@lab", **how).body["version"]


def test_two_roll_backs_go_two_champions_back(home):
    reign(home, 1, 2, 3)
    assert [back(home), back(home)] == [2, 1]
    assert home.ledger.stream("churn/alias/champion")[-1].why == "roll-back from churn@2"
    assert [e.body["version"] for e in home.ledger.stream("churn/deployment")] == [1, 2, 3, 2, 1]
    with pytest.raises(UsageError, match="no champion before churn@1"):
        back(home)
    assert champion(home) == 1


def test_after_a_roll_back_life_goes_on(home):
    reign(home, 1, 2)
    assert back(home) == 1
    reign(home, 3)
    assert back(home) == 1


def test_a_roll_back_to_an_earlier_champion_takes_back_all_between(home):
    reign(home, 1, 2, 3)
    assert back(home, to=1) == 1
    assert previous_champion(home, "churn") is None  # not 3 again, from which it was rolled back
    reign(home, 4)
    assert back(home) == 1


def test_a_roll_back_may_return_to_what_was_rolled_back(home):
    reign(home, 1, 2)
    assert [back(home), back(home, to=2)] == [1, 2]


def test_what_was_taken_back_is_known_until_it_is_promoted_again(home):
    reign(home, 1, 2, 3)
    assert taken_back(home, "churn") == {}
    back(home, to=1)
    moved = home.ledger.stream("churn/alias/champion")[-1]
    assert taken_back(home, "churn") == {2: moved, 3: moved}  # all that came between
    promote(home, v(home, 2), **ADA)
    assert taken_back(home, "churn") == {3: moved}
    promote(home, v(home, 1), **ADA)  # by hand, on a verdict about somebody else: that is going back too
    assert sorted(taken_back(home, "churn")) == [2, 3]
    reign(home, 3)
    body = {"version": 1, "passed": True, "against": "churn@3"}
    home.ledger.append([Entry("churn/verdict", 4, body)])
    move(home, v(home, 1), **ADA, verdict=4)  # a gate judged the two: nobody took 3 back
    assert sorted(taken_back(home, "churn")) == [2]


def test_without_a_champion_before_there_is_nothing_to_go_back_to(home):
    with pytest.raises(UsageError, match="churn has no champion"):
        back(home)
    reign(home, 2)
    with pytest.raises(UsageError, match="no champion before churn@2"):
        back(home)
    assert champion(home) == 2


@pytest.mark.parametrize(
    ("to", "error", "said"),
    [
        (4, UsageError, "never was the champion"),  # nor did it pass its gate
        (3, UsageError, "never was the champion"),
        (2, UsageError, "is the champion already"),
        (9, UnknownNameError, "there is no version churn@9"),
    ],
)
def test_a_roll_back_is_no_way_around_the_gate(home, to, error, said):
    reign(home, 1, 2)
    before = recorded(home)
    with pytest.raises(error, match=said):
        back(home, to=to)
    assert recorded(home) == before


# ── damaged bytes ────────────────────────────────────────────────────────────────────────────────────────────


def lose(objects, digest):
    objects.delete(digest)


def spoil(objects, digest):
    objects.published[digest] = b"rot"


@pytest.mark.parametrize("part", ["bundle", "estimator"])
@pytest.mark.parametrize(("harm", "error"), [(lose, MissingObjectError), (spoil, CorruptObjectError)])
def test_a_damaged_version_is_refused_before_anything_is_switched(home, part, harm, error):
    reign(home, 1, 2)
    before = recorded(home)
    digest = v(home, 1).bundle.digest if part == "bundle" else ""
    harm(home.objects, digest or manifest(home, v(home, 1).bundle)["files"]["estimator"]["digest"])
    for attempt in (back, lambda h: back(h, to=1), lambda h: promote(h, v(h, 1), **ADA)):
        with pytest.raises(error):
            attempt(home)
    assert recorded(home) == before


def test_without_the_check_a_damaged_version_would_go_live(home, monkeypatch):
    """Sabotage: the check is what refuses it."""
    reign(home, 1, 2)
    spoil(home.objects, v(home, 1).bundle.digest)
    monkeypatch.setattr(module, "check_whole", lambda *_: None)
    assert back(home) == 1


# ── the challenger ───────────────────────────────────────────────────────────────────────────────────────────


def challengers(home):
    return [e.body["version"] for e in home.ledger.stream("churn/alias/challenger")]


def test_the_challenger_moves_once_and_deploys_nothing(home):
    challenger(home, v(home, 2), 2, "ada@lab")
    challenger(home, v(home, 2), 2, "ada@lab")
    challenger(home, v(home, 3), 3, "ada@lab")
    assert challengers(home) == [2, 3]
    assert alias(home.ledger, "churn", CHALLENGER)[0].number == 3
    assert recorded(home) == {name: [] for name in STREAMS}


def test_two_challengers_at_once_are_no_error(home):
    home.ledger.rivals = [lambda: challenger(home, v(home, 3), 3, "eve@lab")]
    challenger(home, v(home, 2), 2, "ada@lab")
    assert challengers(home) == [3, 2]
    home.ledger.rivals = [lambda: challenger(home, v(home, 1), 1, "eve@lab")]
    challenger(home, v(home, 1), 1, "ada@lab")
    assert challengers(home) == [3, 2, 1]


def test_an_illegal_move_is_found(home):
    """Sabotage: the streams are checked after every test here, and the check can turn red."""
    reign(home, 1)
    lawless = MemoryLedger()
    for entry in [*home.ledger.stream("churn/version"), *home.ledger.stream("churn/alias/champion")]:
        lawless.append([entry])
    lawless.append([Entry("churn/alias/champion", 2, {"version": 9, "previous": 3})])
    assert [one.kind for one in fsck(home.objects, lawless)] == ["alias", "alias"]
