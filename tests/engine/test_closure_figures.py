"""The source of a metric, a baseline and a check is in the recipe of the steps that call it, and of no other."""

import importlib
import sys

import pytest

from penstock.core.flow import calls_of
from penstock.engine.closure import Closure
from penstock.engine.describe import describe
from penstock.lifecycle.lower import lower

DECLARED = """
import pandera.pandas as pa
import penstock as ps
from sklearn.linear_model import LogisticRegression

PRICE = 5.0


@ps.metric(greater_is_better=False)
def cost(y_true, y_pred):
    return PRICE * float((y_true != y_pred).mean())


def rule(table):
    return table["x"] > 0


@ps.check(severity="warning")
def enough(table):
    return len(table) > 10


SCHEMA = pa.DataFrameSchema({"x": pa.Column(float, pa.Check.ge(0))})

shop = ps.Workflow(
    name="shop",
    data=ps.read("a.csv"),
    target="y",
    key="id",
    model=LogisticRegression(),
    metrics=[cost],
    baseline=rule,
    checks=[enough, SCHEMA],
)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """What was read off our own sources once, for all the tests here."""
    return str(tmp_path_factory.mktemp("closure") / "closure.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One place for every form of the declaration: a recipe may know where its file is."""
    return tmp_path_factory.mktemp("declared")


def codes(folder, source, cache, monkeypatch):
    """Step id → (digest of its code, its arguments, why it cannot be cached) of a declaration."""
    (folder / "declared_shop.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sys.modules.pop("declared_shop", None)
    importlib.invalidate_caches()
    module = importlib.import_module("declared_shop")
    refs, about = lower(module.shop, str(folder / "declared_shop.py"))
    closure = Closure(str(folder), cache=cache)
    live = describe("shop", refs, closure, about=about)
    closure.save()
    assert len(live.graph.nodes) == len(calls_of(refs))
    sys.modules.pop("declared_shop")
    return {node.id: (node.code, repr(node.tree), node.uncacheable) for node in live.graph.nodes}


@pytest.fixture(scope="module")
def before(folder, cache):
    """What the declaration has as it stands; read once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return codes(folder, DECLARED, cache, monkeypatch)


@pytest.mark.parametrize(
    ("old", "new", "moved"),
    [
        ("(y_true != y_pred)", "(y_true == y_pred)", {"evaluate", "compare"}),
        ("PRICE = 5.0", "PRICE = 6.0", {"evaluate", "compare"}),
        ("greater_is_better=False", "greater_is_better=True", {"evaluate", "compare"}),
        ('table["x"] > 0', 'table["x"] > 1', {"evaluate", "compare"}),
        ("len(table) > 10", "len(table) > 11", {"validate"}),
        ('"warning"', '"error"', {"validate"}),
        ("pa.Check.ge(0)", "pa.Check.ge(1)", {"validate"}),
        ("PRICE = 5.0\n", "PRICE = 5.0\nUNUSED = 1\n", set()),
    ],
)
def test_a_change_moves_the_steps_that_it_concerns_and_no_other(old, new, moved, before, folder, cache, monkeypatch):
    assert old in DECLARED
    after = codes(folder, DECLARED.replace(old, new), cache, monkeypatch)
    assert {step for step in before if before[step] != after[step]} == moved
    assert not any(uncacheable for _, _, uncacheable in before.values())
