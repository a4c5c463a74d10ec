"""A run whose level at the hold-out another one spends while it compares: it decides again, at the next level."""

import json

import pytest

from penstock.stats.looks import levels
from tests.cli.conftest import DECLARED, new_shop

RACE = '''
from pathlib import Path


def overtaken(c: ps.Comparison):
    """Spends the level of this look as another run would, the first time it is called."""
    from penstock.core.run import Entry
    from penstock.lifecycle.looks import look_body, next_look
    from penstock.project import open_home

    here = Path(__file__).parent
    if not (here / "raced").exists():
        (here / "raced").touch()
        ledger = open_home(str(here)).ledger
        told = next_look(ledger, "churn", c.looks["generation"], "")
        body = {"version": 9, "verdict": 9, "run": "ab"} | look_body(told, "other", search=True, won=False, again=False)
        ledger.append([Entry("churn/look", 1, body, who="eve@lab")])
    return True
'''


@pytest.fixture
def raced(tmp_path):
    """A project of which a rival looks at the hold-out during the first run."""
    shop = new_shop(tmp_path / "shop")
    head, rest = DECLARED.split("\n\nchurn = ", 1)
    declared = rest.replace('gate=[ps.AtLeast("roc_auc", 0.6), ps.Improves()]', "gate=[ps.Beats(), overtaken]")
    shop.write("churn.py", f"{head}\n{RACE}\n\nchurn = {declared}")
    return shop


def looks(shop):
    found = [one for one in json.loads(shop.call("log", "--json").out) if one["kind"] == "look"]
    return [one["body"] for one in reversed(found)]


def test_it_is_done_again_at_the_next_level(raced):
    ended = raced.call("run", "churn.py", "--json")
    told = json.loads(ended.out)
    assert (ended.code, told["champion"], told["verdict"]["looks"]["number"]) == (0, True, 2)
    assert [one["share"] for one in looks(raced)] == pytest.approx(levels([False, True], 1.0))
    runs = json.loads(raced.call("runs", "--json").out)
    assert sorted(one["state"] for one in runs) == ["done", "undecided"]


def test_sabotage_without_a_second_turn_it_ends_undecided(raced, monkeypatch):
    monkeypatch.setattr("penstock.lifecycle.run.TURNS", 1)
    ended = raced.call("run", "churn.py", "-q")
    assert ended.code == 7
    assert "other runs looked at the same hold-out meanwhile" in ended.out
    assert len(looks(raced)) == 1
