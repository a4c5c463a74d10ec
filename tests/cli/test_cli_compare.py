"""`penstock compare`: what it says, what it spends, how it ends."""

import json

import pytest

from penstock.core.run import Entry
from penstock.lifecycle import looks as looks_of_ledger
from tests.cli.conftest import new_shop


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """churn@1, the champion, and churn@2, which was refused."""
    shop = new_shop(tmp_path_factory.mktemp("compare") / "shop")
    assert shop.call("run", "churn.py", "-q").code == 0
    shop.write("churn.py", shop.declared.replace("LogisticRegression(C=1.0)", "DummyClassifier()"))
    assert shop.call("run", "churn.py", "-q").code == 4
    return shop


def looks(shop):
    return [one for one in json.loads(shop.call("log", "--json").out) if one["kind"] == "look"]


@pytest.fixture
def by_log_loss(pair):
    """Another first metric: what the gate has not asked."""
    file = pair.folder / "churn.py"
    declared = file.read_text()
    file.write_text(declared.replace('["roc_auc", "neg_log_loss"]', '["neg_log_loss", "roc_auc"]'))
    yield
    file.write_text(declared)


def test_what_the_gate_has_judged_is_told_and_spends_no_look(pair):
    before = looks(pair)
    ended = pair.call("compare", "churn@2")
    assert (ended.code, ended.err, looks(pair)) == (4, "", before)
    lines = pair.scrubbed(ended.out).splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["roc_auc", "log_loss"]
    assert lines[4] == "✗ churn@2: worse than churn@1: roc_auc N [N, N]"
    assert lines[5] == "  no look spent: the gate has judged it (look 2, run ID)"
    turned = pair.call("compare", "churn@1", "churn@2", "--json")
    found = json.loads(turned.out)
    assert (turned.code, found["outcome"], found["look"], looks(pair)) == (0, "better", None, before)
    assert found["sentence"].startswith("better than churn@2: churn@2 is worse than churn@1: roc_auc −0.")
    assert found["judged_by"]["rule"] == "Improves(metric=None, confidence=0.95)"
    assert found["metrics"]["roc_auc"]["challenger"]["value"] > found["metrics"]["roc_auc"]["champion"]["value"]
    assert found["metrics"]["roc_auc"]["difference"]["low"] > 0


@pytest.mark.usefixtures("by_log_loss")
def test_the_worse_one_against_the_champion_ends_with_4_and_spends_one_look(pair):
    before = len(looks(pair))
    ended = pair.call("compare", "churn@2")
    assert (ended.code, ended.err) == (4, "")
    lines = pair.scrubbed(ended.out).splitlines()
    assert lines[0].startswith("churn@2 against churn@1 · ")
    assert lines[0].endswith(" held-out rows that neither has learned from")
    assert [line.split()[0] for line in lines[2:4]] == ["log_loss", "roc_auc"]
    assert lines[4].startswith("✗ churn@2: worse than churn@1: log_loss higher by N [N, N]")
    assert lines[5] == f"  look {before + 1}, on record"
    assert "of α N, half of it for each way, N is left" in lines[6]
    assert len(looks(pair)) == before + 1
    assert looks(pair)[0]["what"] == "the hold-out was opened to hold churn@2 against churn@1"
    again = pair.call("compare", "churn@2", "churn@champion")
    assert again.code == 4
    assert "no look spent: this fight is on record" in again.out
    assert len(looks(pair)) == before + 1


@pytest.mark.usefixtures("by_log_loss")
def test_from_the_other_side_it_is_the_same_look_and_ends_with_0(pair):
    pair.call("compare", "churn@2")
    before = len(looks(pair))
    ended = pair.call("compare", "churn@1", "churn@2", "--json")
    found = json.loads(ended.out)
    assert (found["look"], len(looks(pair))) == (None, before)
    assert (ended.code, found["exit_code"], found["outcome"], found["equal"]) == (0, 0, "better", False)
    assert (found["first"], found["second"]) == ("churn@1", "churn@2")
    assert found["sentence"].startswith("better than churn@2: log_loss lower by ")
    body = looks(pair)[0]["body"]
    assert (body["won"], body["search"]) == (False, True)  # by hand nothing is earned back
    assert body["share"] > 0


def test_equal_ones_spend_nothing(pair):
    before = len(looks(pair))
    ended = pair.call("compare", "churn@1", "churn@champion")
    assert (ended.code, ended.out) == (7, "churn@1 and churn@1 are equal: no look spent\n")
    assert json.loads(pair.call("compare", "churn@1", "churn@1", "--json").out)["equal"] is True
    assert len(looks(pair)) == before


def test_a_name_that_is_none_is_told(pair):
    ended = pair.call("compare", "churn@9")
    assert ended.code == 2
    assert "there is no version churn@9" in ended.err


@pytest.fixture(scope="module")
def third(pair):
    """How the run ended that registered churn@3 and was not to judge it, and the looks since the one before it."""
    before = len(looks(pair))
    pair.write("churn.py", pair.declared.replace("LogisticRegression(C=1.0)", "LogisticRegression(C=0.01)"))
    ended = pair.call("run", "churn.py", "-q", "--until", "register")
    return ended, len(looks(pair)) - before


def test_a_run_that_ends_before_its_gate_judges_nobody_and_says_so(pair, third):
    ended, looked = third
    assert (ended.code, ended.err, looked) == (0, "", 0)
    last = pair.scrubbed(ended.out).splitlines()[-1]
    assert last.startswith("→ registered: churn@3 · not judged: the run was to end before its gate · ")


@pytest.mark.usefixtures("third")
def test_no_run_ends_between_the_hold_out_and_the_record_of_the_look(pair):
    before = len(looks(pair))
    told = json.loads(pair.call("run", "churn.py", "--json", "--until", "compare").out)
    assert (told["version"], told["looked"], told["steps"][-1]["step"]) == ("churn@3", True, "gate")
    assert len(looks(pair)) == before + 1


@pytest.mark.usefixtures("third", "by_log_loss")
def test_a_level_that_another_run_spends_meanwhile_is_followed_by_the_next(pair, monkeypatch):
    asked = []

    def next_look(ledger, workflow, generation, fight):
        asked.append(fight)
        if len(asked) == 2:  # it has been compared, and is to be put on record
            told = looks_of_ledger.next_look(ledger, workflow, generation, "")
            body = {"version": 9, "verdict": 9, "run": "ab"}
            body |= looks_of_ledger.look_body(told, "other", search=True, won=False, again=False)
            ledger.append([Entry("churn/look", len(ledger.stream("churn/look")) + 1, body)])
        return looks_of_ledger.next_look(ledger, workflow, generation, fight)

    monkeypatch.setattr("penstock.lifecycle.fights.next_look", next_look)
    before = len(looks(pair))
    found = json.loads(pair.call("compare", "churn@3", "churn@1", "--json").out)
    assert (found["look"], found["looks"]["number"], len(looks(pair))) == (before + 2, before + 2, before + 2)
    assert len(asked) == 4
