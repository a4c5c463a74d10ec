"""Two versions on held-out rows that are new to both: by each one's columns and threshold, at the level of a look."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from penstock.core.target import Roles, Target
from penstock.errors import DataError
from penstock.stages.fight import fight
from penstock.stages.seen import digests

SCHEMA = {"task": "binary", "classes": [0, 1], "positive": 1}
ROLES = Roles(key=("id",))
LOOKS = {"generation": "g", "number": 3, "tests": 2, "share": 0.01, "left": 0.4}


class Scores(ClassifierMixin, BaseEstimator):
    """Answers with the probability that stands in its one column."""

    def __init__(self):
        self.classes_ = np.array([0, 1])

    def predict_proba(self, X):
        [p] = X.to_numpy().T
        return np.column_stack([1 - p, p])

    def predict(self, X):
        return (X.to_numpy()[:, 0] > 0.5).astype(int)


def table(n=800, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-2 * truth))).astype(int)
    read = [1 / (1 + np.exp(-truth - noise * rng.normal(size=n))) for noise in (0.3, 2.0)]
    return pd.DataFrame({"id": np.arange(n), "good": read[0], "poor": read[1], "y": y})


def both_sides(
    data, first="good", second="poor", seen=None, learned=None, thresholds=(None, None), roles=ROLES, **about
):
    told = {
        who: {"name": name, "columns": [column], "threshold": at}
        for who, name, column, at in zip(("first", "second"), ("c@2", "c@1"), (first, second), thresholds, strict=True)
    }
    return fight(
        data, first=Scores(), second=Scores(), about={**told, "learned": learned, "looks": LOOKS, **about}, seen=seen,
        metrics=("roc_auc", "neg_log_loss", "recall"), target=Target("y"), roles=roles, schema=SCHEMA, seed=0,
    )  # fmt: skip


def fought(*given, **told):
    return both_sides(*given, **told)["first"]


def test_each_metric_has_both_figures_and_their_difference():
    found = fought(table())
    assert (found["outcome"], found["n_rows"], found["primary"]) == ("better", 800, "roc_auc")
    assert found["sentence"].startswith("better than c@1: roc_auc +")
    for one in found["metrics"].values():
        d = one["difference"]
        assert d["value"] == pytest.approx(one["challenger"]["value"] - one["champion"]["value"])
        assert d["low"] <= d["value"] <= d["high"]
    assert json.loads(json.dumps(found)) == found


def test_turned_round_it_is_worse_by_as_much():
    one, other = fought(table()), fought(table(), "poor", "good")
    assert other["outcome"] == "worse"
    values = [f["metrics"]["roc_auc"]["difference"]["value"] for f in (one, other)]
    assert values[0] == pytest.approx(-values[1])


def test_told_from_either_side_it_is_one_comparison():
    for n in (120, 200, 800):
        found = both_sides(table(n))
        one, other = found["first"], found["second"]
        turned = {"better": "worse", "worse": "better", "not enough evidence": "not enough evidence"}
        assert other["outcome"] == turned[one["outcome"]]
        assert (one["looks"]["level"], one["looks"]["left"]) == (other["looks"]["level"], other["looks"]["left"])
        swapped = both_sides(table(n), "poor", "good")
        assert (swapped["second"]["outcome"], swapped["first"]["outcome"]) == (one["outcome"], other["outcome"])


def test_that_it_is_worse_is_decided_at_the_level_of_the_look_as_that_it_is_better():
    data = table(130, seed=3)
    free = both_sides(data, "poor", "good", looks={})
    assert free["first"]["outcome"] == "worse"
    found = both_sides(data, "poor", "good", looks={**LOOKS, "share": 1e-9})
    assert found["first"]["outcome"] == found["second"]["outcome"] == "not enough evidence"
    assert found["first"]["sentence"].startswith("not enough evidence that it is worse than c@1: roc_auc −")
    assert "and look 3 at this hold-out decides at 2.5e-11" in found["first"]["sentence"]


def test_rows_of_a_group_count_once():
    data = pd.concat([table(60)] * 20, ignore_index=True)
    data["household"] = data["id"]
    rows, groups = (both_sides(data, roles=Roles(groups=which))["first"] for which in ((), ("household",)))
    ends = [one["metrics"]["neg_log_loss"]["difference"] for one in (rows, groups)]
    widths = [one["high"] - one["low"] for one in ends]
    assert widths[1] == pytest.approx(widths[0] * 20**0.5, rel=0.05)


def test_it_is_decided_at_the_level_of_the_look_and_says_what_was_spent():
    found = fought(table())
    assert found["looks"]["search"]
    assert found["looks"]["level"] == pytest.approx(0.0005)
    assert found["rules"][0]["figures"]["level"] == pytest.approx(0.00025)
    assert found["notes"][-1].startswith("look 3 at this hold-out: it spent 0.0005 of α 0.05")


def test_rows_that_the_older_one_has_learned_from_are_left_out():
    data = table()
    seen, learned = digests([data[:700]], ROLES)
    assert fought(data, seen=seen, learned=learned)["n_rows"] == 100
    # The control: rows that it knows by heart are not what it is judged on.
    data.loc[:699, "poor"] = data.loc[:699, "y"] * 0.98 + 0.01
    assert fought(data)["outcome"] == "worse"
    assert fought(data, seen=seen, learned=learned)["outcome"] != "worse"


def test_too_few_new_rows_decide_nothing():
    data = table()
    seen, learned = digests([data[:780]], ROLES)
    with pytest.raises(DataError, match=r"only 20 of the 800 held-out rows are new to both; 30 are needed"):
        fought(data, seen=seen, learned=learned)


def test_labels_are_by_each_ones_own_threshold():
    found = fought(table(), thresholds=(0.0, 1.1))
    recall = found["metrics"]["recall"]
    assert (recall["challenger"]["value"], recall["champion"]["value"]) == (1.0, 0.0)


def test_a_column_that_is_gone_is_named():
    with pytest.raises(DataError, match=r"c@2 reads columns that the held-out rows do not have: age"):
        fought(table(), "age")
