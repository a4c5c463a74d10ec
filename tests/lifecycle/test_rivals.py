"""Versions beside the champion: by alias, by number, and the last that had to beat somebody."""

import pytest

from penstock.core.gate import LAST, Beats, Faster, Improves
from penstock.core.run import Entry
from penstock.lifecycle.lower import others
from penstock.lifecycle.promote import move
from penstock.lifecycle.register import json_artifact, register
from penstock.lifecycle.rivals import absent, last_that_beat, named, outputs_of, sizes


def made(home, number):
    files = {"estimator": b"model %d" % number}
    kept = {name: home.formats.dump(value, home.objects.stage).to_json() for name, value in files.items()}
    one = json_artifact(home.objects, {"penstock": "bundle/1", "workflow": "churn", "files": kept}, "bundle")
    return register(home, "churn", one, {"run": "aa"}, "ada@lab")[0]


def judged(home, found, required):
    """A verdict that a version passed by a difference above what was required."""
    rule = {"kind": "difference", "outcome": "pass", "figures": {"required": required}}
    number = home.ledger.streams().get("churn/verdict", 0) + 1
    body = {"version": found.number, "passed": True, "sentence": "passed", "rules": [rule]}
    home.ledger.append([Entry("churn/verdict", number, body)])


@pytest.fixture
def home(raced_home):
    """Five versions: 1 and 2 beat, 3 and 4 were not worse, 5 beat."""
    for number, required in enumerate((0.0, 0.01, -0.01, -0.02, 0.0), 1):
        judged(raced_home, made(raced_home, number), required)
    return raced_home


def reign(home, *numbers):
    for number in numbers:
        move(home, named(home, "churn", [str(number)])[str(number)], why="it passed", who="ada@lab")


def number_of(found):
    return None if found is None else found.number


@pytest.mark.parametrize(
    ("reigned", "last"),
    [((), None), ((1,), None), ((1, 2), None), ((1, 2, 3), 2), ((1, 3, 4), 1), ((1, 2, 3, 5), None)],
)
def test_the_last_that_beat_is_a_former_champion_that_was_asked_to(home, reigned, last):
    reign(home, *reigned)
    assert number_of(last_that_beat(home, "churn")) == last


def test_a_version_that_was_gone_back_from_stands_for_nothing(home):
    reign(home, 1, 3, 5, 3)
    assert number_of(last_that_beat(home, "churn")) == 1


def test_versions_are_found_by_alias_and_number_and_what_is_absent_is_told(home):
    reign(home, 2, 3)
    found = named(home, "churn", ["champion", "1", "production", "99", LAST])
    assert [number_of(one) for one in found.values()] == [3, 1, None, None, 2]
    assert sizes(home, {"1": found["1"], "99": None}) == {"1": len("model 1")}
    assert "'production'" in absent("production")["unanswered"]


def test_what_rules_name_is_among_the_outputs():
    assert others((Beats("7"), Improves(), Faster("production"))) == ("7", "production", LAST)
    assert outputs_of(["fitted", "about", "7:fitted", f"{LAST}:held"]) == ["7", LAST]
