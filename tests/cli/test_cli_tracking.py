"""Tracking on the command line: sweeps, the table of runs, what a run shows of itself."""

import csv
import io
import json

import pytest

SWEPT = ("--set", "model.C=0.01,1", "--note", "=woe")


@pytest.fixture
def swept(empty):
    empty.write("churn.py", empty.declared)
    empty.write("customers.csv", empty.table())
    ended = empty.call("try", *SWEPT)
    assert ended.code == 0, ended.err
    empty.said["sweep"] = ended
    return empty


def test_a_sweep_is_ranked_kept_filtered_and_shown(swept):
    out = swept.said["sweep"].out
    assert "2 tries" in out
    assert "best of 2: model.C=" in out
    found = swept.call(
        "runs", "--where", "roc_auc > 0.5 and params.C >= 0.5", "--columns", "params.C,roc_auc", "--json"
    )
    [row] = json.loads(found.out)
    assert (row["params.model.C"], row["set"], row["state"]) == (1, "model.C=1", "done")
    assert row["cpu_s"] > 0
    assert row["log_loss"] > 0
    told = swept.call("runs", "--csv", "--columns", "note,log_loss", "--sort", "log_loss")
    table = list(csv.reader(io.StringIO(told.out)))
    assert (len(table), table[1][1]) == (3, "'=woe")
    assert float(table[1][2]) <= float(table[2][2])
    assert "params.model.C" in swept.call("runs", "--columns", "help").out
    shown = swept.call("show", f"run:{row['run']}").out
    assert "model.C = 1  (--set)" in shown
    assert "of CPU" in shown
    assert "out-of-fold predictions" in shown
    differ = swept.call("diff", "last~1", "last").out
    assert differ.splitlines()[1].startswith("  parameter model.C: ")
    wrong = swept.call("runs", "--where", "roc_auc > 'x")
    assert (wrong.code, "at character 11" in wrong.err) == (2, True)


def test_a_sweep_reuses_what_no_value_touches(swept):
    again = swept.call("try", *SWEPT, "--json")
    tries = json.loads(again.out)["tries"]
    rows = json.loads(swept.call("runs", "--json").out)
    assert len({row["run"] for row in rows}) == 4
    assert {one["set"]["model.C"] for one in tries} == {"0.01", "1"}
    assert [row["counts"]["run"] for row in rows] == [0, 0, 1, 4]


def test_a_champion_made_with_overrides_says_how_to_make_it_again(swept):
    refused = swept.call("run", "--set", "model.C=1,2")
    assert (refused.code, "one value is meant" in refused.err) == (2, True)
    made = swept.call("run", "--set", "model.C=0.5")
    assert made.code == 0, made.err
    assert "declared + overrides: penstock run churn.py --set model.C=0.5" in swept.call("show", "churn@1").out
    rows = json.loads(swept.call("runs", "--where", "version = 'churn@1'", "--columns", "roc_auc", "--json").out)
    assert rows[0]["roc_auc"] > 0.5


SEARCH = """model=GridSearchCV(LogisticRegression(), {"C": [0.001, 1, 10]}, cv=2),"""


def test_candidates_of_a_search_are_rows_below_their_run(empty):
    declared = empty.declared.replace("model=LogisticRegression(C=1.0),", SEARCH).replace(
        'metrics=["roc_auc", "neg_log_loss"]', 'metrics=["neg_log_loss"]'
    )
    empty.write("churn.py", "from sklearn.model_selection import GridSearchCV\n" + declared)
    ran = empty.call("run", "--until", "train")
    assert ran.code == 0, ran.err
    lines = empty.call("runs", "last", "--candidates").out.splitlines()
    assert [line[: line.index("run:")] for line in lines[1:]] == ["", "  ", "  ", "  "]
    assert lines[0].split()[:4] == ["run", "candidate", "score", "params.C"]
    assert [line.split()[1] for line in lines[2:]] == ["#1", "#2", "#3"]
    best = empty.call("runs", "churn", "--candidates", "--sort", "score", "--csv").out
    table = list(csv.DictReader(io.StringIO(best)))
    scores = [float(row["score"]) for row in table[:3]]
    assert scores == sorted(scores)  # a loss: less is better, and it is a positive number
    assert scores[0] > 0
    assert {row["scored_by"] for row in table[:3]} == {"log_loss"}
    assert (table[2]["params.model.estimator__C"], table[3]["candidate"]) == ("0.001", "")
    some = empty.call("runs", "--candidates", "--where", "params.C >= 1 and rank < 3", "--json").out
    assert {row["params.model.estimator__C"] for row in json.loads(some)} == {1, 10}
    assert empty.call("runs", "--candidates", "--limit", "2").out.splitlines()[-1].startswith("2 of 4 rows")
    shown = empty.call("show", "last").out
    assert "3 candidates by log_loss: penstock runs run:" in shown
    assert f"1. {scores[0]:.3f}" in shown
