"""What is told of runs on record: the table, the state of a run whose process is gone, code and its difference."""

import os
import subprocess
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli.runs import STEER, harmless_cell
from penstock.core.flow import Graph, Node
from penstock.core.ports import Config, Home
from penstock.core.run import Run
from penstock.errors import UsageError
from penstock.formats.registry import FormatRegistry
from penstock.lifecycle.alive import mark, state_of
from penstock.lifecycle.code_state import code_state
from penstock.lifecycle.kept import MOST_CANDIDATES
from penstock.lifecycle.kept import searched as kept_of_search
from penstock.lifecycle.register import json_artifact
from penstock.lifecycle.table import in_order, select
from penstock.testing.memory import MemoryLedger, MemoryObjects


def figure(name, value, *, lower=False):
    return {"value": -value if lower else value, "shown": {"name": name, "value": value, "lower_is_better": lower}}


def run(number, auc, loss, **info):
    metrics = {"roc_auc": figure("roc_auc", auc), "neg_log_loss": figure("log_loss", loss, lower=True)}
    kept = {"model": "Forest", "primary": "roc_auc", "metrics": metrics, "rows": "r", "result": str(number)}
    return Run(f"{number:016x}", "churn", "try", "done", 100.0 + number, 101.0 + number, info={"try": kept, **info})


RUNS = [run(1, 0.8, 0.3, parameters={"model.C": 1}), run(2, 0.9, 0.5, note="woe"), run(3, 0.7, 0.1)]


def test_the_best_first_whether_more_or_less_is_better():
    def order(sort):
        return [int(row["run"], 16) for row in select(RUNS, sort=sort)[0]]

    assert order("roc_auc") == [2, 1, 3]
    assert order("log_loss") == order("neg_log_loss") == [3, 1, 2]
    assert order("-roc_auc") == [3, 1, 2]
    assert order("params.C")[0] == 1
    with pytest.raises(UsageError, match='"roc_auc"'):
        select(RUNS, sort="roc_auk")


def test_losses_are_positive_in_filters_too():
    rows, known = select(RUNS, where="log_loss < 0.4 and neg_log_loss > 0.2")
    assert [row["run"][-1] for row in rows] == ["1"]
    assert "params.model.C" in known


def test_each_candidate_is_a_row_of_its_run():
    both = run(4, 0.9, 0.1, candidates=[RUNS[0].info["try"] | {"candidate": "plain"}])
    rows, _ = select([both], candidates=True)
    assert [(row["run"][-1], row["candidate"]) for row in rows] == [("4", None), ("4", "plain")]


def searched(number, scorer, scores, **info):
    listed = [{"params": {"C": repr(one)}, "score": one, "std": None, "rank": 1} for one in scores]
    kept = {"n_candidates": len(listed), "scorer": scorer, "path": "model.estimator__", "candidates": listed}
    return Run(f"{number:016x}", "churn", "run", "done", 1.0, 2.0, info={"search": kept, **info})


def test_each_candidate_of_a_search_is_a_row_below_its_run():
    rows, known = select([searched(1, "roc_auc", [0.9, 0.8], note="wide")], candidates=True)
    assert [(row["candidate"], row.get("score")) for row in rows] == [(None, None), ("#1", 0.9), ("#2", 0.8)]
    assert {row["note"] for row in rows} == {"wide"}
    assert "params.model.estimator__C" in known
    assert len(select([searched(1, "roc_auc", [0.9])])[0]) == 1


def test_scores_are_ordered_the_best_first_losses_and_others_apart():
    runs = [searched(1, "neg_log_loss", [-0.2, -0.4]), searched(2, "neg_log_loss", [-0.3])]
    rows, _ = select(runs, candidates=True, sort="score")
    assert [row.get("score") for row in rows] == [0.2, 0.3, 0.4, None, None]
    rows, _ = select([searched(1, "", [0.7, 0.9])], candidates=True, sort="score")
    assert [row.get("score") for row in rows] == [0.9, 0.7, None]
    with pytest.raises(UsageError, match="--candidates"):
        select(runs, sort="score")


def test_candidates_of_searches_are_bounded(monkeypatch):
    monkeypatch.setattr("penstock.lifecycle.table.MOST_SEARCHED", 3)
    runs = [searched(number, "", [0.1, 0.2]) for number in range(5)]
    assert len(select(runs, candidates=True)[0]) == 5 + 4


def test_what_is_kept_of_a_search_with_a_run_is_bounded(memory_home):
    listed = [{"params": {"C": "x" * 200}, "score": 0.5, "std": None, "rank": 1}] * 200
    search = {"candidates": listed, "n_candidates": 900, "scorer": "roc_auc", "path": "estimator__"}
    artifact = json_artifact(memory_home.objects, {"search": search, "candidate": "forest"})
    kept = kept_of_search(memory_home, SimpleNamespace(artifacts={("train", "report"): artifact}))["search"]
    assert (kept["path"], kept["n_candidates"]) == ("model.forest.estimator__", 900)
    assert 50 < len(kept["candidates"]) <= MOST_CANDIDATES
    assert kept_of_search(memory_home, SimpleNamespace(artifacts={})) == {}


@given(st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3)), max_size=8), st.booleans())
def test_ordering_loses_no_row_and_puts_missing_ones_last(values, down):
    rows = in_order([{"a": value} for value in values], "a", down=down)
    found = [row["a"] for row in rows]
    assert sorted(map(str, found)) == sorted(map(str, values))
    assert None not in found[: len(values) - values.count(None)]


@given(st.text(max_size=6))
def test_no_cell_of_text_is_a_formula(text):
    assert not str(harmless_cell(text)).startswith(STEER)


def test_a_run_whose_process_is_gone_is_interrupted():
    def running(**process):
        return state_of(Run("a" * 16, "churn", "run", "running", 1.0, info={"process": {**mark(), **process}}))

    gone = subprocess.Popen(["true"])
    gone.wait()
    assert running() == "running"
    assert running(pid=gone.pid) == "interrupted"
    assert running(start="1") == "interrupted"  # the number was given to another process since
    assert running(boot="another boot") == "interrupted"
    assert running(host="elsewhere", pid=gone.pid) == "running"
    assert state_of(Run("a" * 16, "churn", "run", "done", 1.0, info={"process": {**mark(), "pid": gone.pid}})) == "done"
    assert state_of(Run("a" * 16, "churn", "run", "running", 1.0)) == "running"


def git(folder, *words):
    identity = ["-c", "user.email=a@b", "-c", "user.name=a"]
    subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True)


@pytest.fixture
def memory_home(tmp_path):
    return Home(Config(str(tmp_path), "", ""), MemoryObjects(), MemoryLedger(), FormatRegistry())


def test_the_difference_holds_the_files_that_are_reached_and_no_secret(tmp_path, memory_home, monkeypatch):
    monkeypatch.setenv("TOKEN", "hunter2-hunter2")
    graph = Graph("f", (Node("s", "prep:clean", ["secret", "env:TOKEN"], "c"),), {"c": {"prep:clean": "x"}})
    for name in ("churn.py", "prep.py", "other.py"):
        (tmp_path / name).write_text("a = 1\n")
    file = str(tmp_path / "churn.py")
    assert code_state(memory_home, graph, file) == {}
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "churn.py", "other.py")
    git(tmp_path, "commit", "-qm", "x")
    (tmp_path / "other.py").write_text("b = 2\n")
    (tmp_path / "churn.py").write_text("a = 'hunter2-hunter2'\nu = 'postgresql://ana:pw@h/x'\n")
    state = code_state(memory_home, graph, file)
    text = state["diff"]["text"]
    assert (state["dirty"], "+++ b/prep.py" in text or "prep.py" in text, "other.py" in text) == (True, True, False)
    assert "hunter2" not in text
    assert ":pw@" not in text
    assert "<env:TOKEN>" in text
    assert os.path.basename(file) in text
