"""Who would have reigned: what an origin of a back-test leaves behind for the next."""

import json

import pytest

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_bytes
from penstock.core.flow import Node
from penstock.core.ports import Config, Home
from penstock.core.tree import encode
from penstock.formats.registry import FormatRegistry
from penstock.lifecycle.backtest import Succession
from penstock.lifecycle.past import STATE
from penstock.lifecycle.register import json_artifact
from penstock.testing import MemoryLedger, MemoryObjects


@pytest.fixture
def home(tmp_path):
    return Home(Config(str(tmp_path), "", ""), MemoryObjects(), MemoryLedger(), FormatRegistry())


def succeed(home, findings):
    """The state after the first origin, by name, and its decision."""
    told = {
        "comparison": {"outcome": "better", "sentence": "it is better", "rules": [], "looks": {"search": True}},
        "audit": {"findings": findings},
        "input": {"columns": []},
        "learned": {},
    }
    inputs = {(name, ""): json_artifact(home.objects, value) for name, value in told.items()}
    plain = Artifact(digest_bytes(b"model"), "json", 4, "null")
    inputs |= {(name, ""): plain for name in ("judged", "served", "seen", "held")}
    tree = encode(
        [[], {name: (name, "") for name, _ in inputs}], "", lambda v: ["ref", *v] if type(v) is tuple else None
    )
    node = Node("succession@2026-01-01", "penstock.lifecycle:succession", tree, "", "effect", (*STATE, "decision"))
    effect = Succession(home, "churn").succession(node, inputs, None)
    *state, decision = effect.outputs
    return {name: json.loads(one.text) for name, one in zip(STATE, state, strict=True)}, json.loads(decision.text)


def test_whoever_passes_reigns_and_has_looked(home):
    state, decision = succeed(home, [])
    assert (decision["promoted"], decision["verdict"]) == (True, "it is better")
    assert state["looks"] == {"n": 1, "won": [True]}


def test_whoever_the_audit_refuses_neither_reigns_nor_has_looked(home):
    state, decision = succeed(home, [{"grade": "error", "what": "a leak"}])
    assert (decision["promoted"], decision["outcome"], decision["rules"]) == (False, "not compared", [])
    assert decision["verdict"] == "the audit found an error, so it was not compared: a leak"
    assert state["looks"] is None
