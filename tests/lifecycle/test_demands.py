"""What is asked of a table because the declaration names it."""

import pytest
from sklearn.linear_model import LogisticRegression

import penstock as ps
from penstock.lifecycle.demands import demands


def asked(gate, **more):
    workflow = ps.Workflow("w", ps.read("w.csv"), "y", LogisticRegression(), gate=gate, **more)
    return demands(workflow, (), "classification").get("columns", {})


@pytest.mark.parametrize("rule", [ps.NoWorseOn("sex"), ps.MaxGap("tpr", by="sex", at_most=0.1)])
def test_a_column_that_a_rule_of_the_gate_names_is_to_be_there(rule):
    assert asked([ps.Improves(), rule, rule]) == {"gate": ("sex",)}
    assert asked([rule], slices=["sex"]) == {}  # asked for already: recipes stay as they were


def test_rules_without_a_column_ask_for_none():
    """How a value is to be reached is no column: `AtLeast(by="bound")`."""
    assert asked([ps.AtLeast("roc_auc", 0.7), ps.AtMost("neg_log_loss", 0.7, by="point")]) == {}
    assert asked([ps.Improves(), ps.Beats("baseline", by=0.1), ps.NotWorse(), ps.Faster(by=0.2)]) == {}
