"""Real runs of models as people write them: killed searches go on, and bundles answer as the plain script does."""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest

SLOW = """
import os, time
import penstock as ps
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from slow import SlowTree

churn = ps.Workflow(
    name="churn", data=ps.read("rows.csv"), target="y", key="id", metrics=["roc_auc"],
    model=GridSearchCV(make_pipeline(StandardScaler(), SlowTree()), {"slowtree__max_depth": [1, 2, 3, 4]}, cv=3),
)
"""
TREE = """
import os, time
from sklearn.tree import DecisionTreeClassifier

class SlowTree(DecisionTreeClassifier):
    def fit(self, X, y, sample_weight=None):
        with open(os.path.join(os.path.dirname(__file__), "fits.log"), "a") as log:
            log.write(f"{len(X)} {self.max_depth}\\n")
        time.sleep(0.15)
        return super().fit(X, y, sample_weight)
"""


def rows(n=400, people=60):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=n), rng.normal(size=n)
    city = rng.choice(["Rome", "Oslo", "Lima"], n)
    y = (a + (city == "Rome") + rng.normal(size=n) > 0.3).astype(int)
    weight, who = rng.integers(1, 6, n), rng.integers(0, people, n)
    return pd.DataFrame({"id": np.arange(n), "who": who, "a": a, "city": city, "b": b, "w": weight, "y": y})


def lines(project) -> int:
    log = project.folder / "fits.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def artifacts(project) -> dict[str, object]:
    """Digest of what `train` gave, as the last run tells it."""
    shown = json.loads(project.call("show", "last", "--json").out)
    (train,) = [step for step in shown["steps"] if step["step"] == "train"]
    return train["outputs"]


@pytest.mark.timeout(120)
def test_a_search_that_was_killed_goes_on_and_gives_the_same_bytes(own_project):
    killed, whole = own_project, type(own_project)(own_project.folder.parent / "whole")
    for project in (killed, whole):
        project.write("rows.csv", rows()[["id", "a", "b", "y"]].to_csv(index=False))
        project.write("churn.py", SLOW)
        project.write("slow.py", TREE)
    process = killed.start("run", "churn.py", "--until", "train", start_new_session=True)
    began = time.monotonic()
    while lines(killed) < 6 and time.monotonic() - began < 60:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    before = lines(killed)
    assert 6 <= before < 13
    assert killed.call("run", "churn.py", "--until", "train").code == 0
    assert whole.call("run", "churn.py", "--until", "train").code == 0
    assert lines(whole) == 13
    again = lines(killed) - before
    assert again <= 13 - before + 6  # what half a second had not told yet, and the fit that was cut off
    assert artifacts(killed) == artifacts(whole)
    assert killed.faults() == []


BIG = """
import penstock as ps
from scipy.stats import loguniform, randint
from sklearn.compose import make_column_transformer
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingRandomSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

encode = make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(handle_unknown="ignore"), ["city"]))
xgb = XGBClassifier(n_estimators=40, early_stopping_rounds=5, eval_metric="auc")
search = HalvingRandomSearchCV(
    Pipeline([("enc", encode), ("xgb", xgb)]),
    {"xgb__max_depth": randint(2, 6), "xgb__learning_rate": loguniform(0.05, 0.5)},
    n_candidates=4, factor=3, min_resources=120, cv=StratifiedGroupKFold(2), scoring="roc_auc", n_jobs=-1,
)
big = ps.Workflow(
    name="big", data=ps.read("rows.csv"), target="y", key="id", groups="who", weight="w", model=search,
    metrics=["roc_auc", "neg_log_loss"], fit=ps.Fit(early_stopping=0.2), split=ps.Split(folds=2),
)
"""


@pytest.mark.timeout(150)
def test_the_workflow_that_could_not_be_written_is_a_champion_and_answers_as_its_estimator_does(own_project):
    data = rows(600, people=180)  # a gate needs thirty of them among the held-out rows
    own_project.write("rows.csv", data.to_csv(index=False))
    own_project.write("big.py", BIG)
    ran = own_project.call("run", "big.py")
    assert ran.code == 0, ran.text
    assert "weighted by w" in ran.out
    assert "groups who to the inner splitter" in ran.out
    assert "golden rows answered over HTTP as in training" in ran.out
    own_project.write("new.csv", rows(40).drop(columns=["y", "w", "who"]).to_csv(index=False))
    said = own_project.call("predict", "big", "new.csv")
    assert said.code == 0, said.text
    assert len(said.out.strip().splitlines()) == 41
    assert own_project.faults() == []
