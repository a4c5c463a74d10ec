"""Models as people write them go through `penstock run`, and `penstock predict` answers as their estimators do.

One process imports the file with all of them, and each run is served by a fork of it, as in a sweep: what would cost
most of the time is paid once. Nothing is promoted, so no server is rehearsed; other tests do that.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from command_line import Ended, call

ZOO = """
import penstock as ps
from catboost import CatBoostClassifier
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline as balanced
from lightgbm import LGBMClassifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler, TargetEncoder
from skrub import TableVectorizer
from xgboost import XGBClassifier
import numpy as np

DATA = ps.read("rows.csv")
STOP = ps.Fit(early_stopping=0.2, rounds=3)


def zoo(name, model, target=ps.Target("late", positive="yes"), see=("a", "b", "city"), **more):
    return ps.Workflow(
        name=name, data=DATA, target=target, key="id", features=see, model=model, split=ps.Split(folds=2),
        release="never", **more,
    )


def encoded(learner, encoder=OneHotEncoder(handle_unknown="ignore")):
    return make_pipeline(make_column_transformer((StandardScaler(), ["a", "b"]), (encoder, ["city"])), learner)


xgb = XGBClassifier(n_estimators=20, early_stopping_rounds=3)
lgb = LGBMClassifier(n_estimators=20, verbose=-1)
cat = CatBoostClassifier(iterations=20, cat_features=["city"], verbose=0)

lightgbm = zoo("lightgbm", encoded(lgb), weight="w", fit=STOP)
catboost = zoo("catboost", cat, weight="w", fit=STOP)
searched = zoo(
    "searched", GridSearchCV(encoded(xgb), {"xgbclassifier__max_depth": [1, 3]}, cv=StratifiedGroupKFold(2)),
    groups="who", weight="w", fit=STOP,
)
skrub = zoo("skrub", make_pipeline(TableVectorizer(n_jobs=1), LogisticRegression()), weight="w")
imbalanced = zoo("imbalanced", balanced(encoded("passthrough")[0], RandomOverSampler(), LogisticRegression()))
target_encoder = zoo("target_encoder", encoded(LogisticRegression(), TargetEncoder(cv=3)), weight="w", groups="who")
stacked = zoo(
    "stacked", StackingClassifier([("l", encoded(lgb)), ("n", encoded(LogisticRegression()))], cv=2), weight="w"
)
calibrated = zoo("calibrated", CalibratedClassifierCV(encoded(GaussianNB()), cv=2), weight="w")
classes = zoo("classes", encoded(xgb), ps.Target("kind"), weight="w", fit=STOP)
transformed = zoo(
    "transformed", TransformedTargetRegressor(encoded(Ridge()), func=np.log, inverse_func=np.exp),
    ps.Target("amount"), weight="w",
)
sparse_text = zoo(
    "sparse_text", make_pipeline(make_column_transformer((TfidfVectorizer(), "note")), LogisticRegression()),
    see=("note",), weight="w",
)
"""
WEIGHTED = "weighted by w"
SAID = {
    "lightgbm": (WEIGHTED, "best at round"),
    "catboost": (WEIGHTED, "best at round"),
    "searched": (WEIGHTED, "best at round", "groups who to the inner splitter", "search by roc_auc"),
    "skrub": (WEIGHTED,),
    "imbalanced": (),
    "target_encoder": (WEIGHTED, "inner folds by the split's rule"),
    "stacked": (WEIGHTED, "inner folds by the split's rule"),
    "calibrated": (WEIGHTED, "inner folds by the split's rule"),
    "classes": (WEIGHTED, "best at round"),
    "transformed": (WEIGHTED,),
    "sparse_text": (WEIGHTED,),
}
"""Variable of the file → what its run says of the fit."""
SEES = {"sparse_text": ["note"]}


def rows(n: int, seed: int) -> pd.DataFrame:
    """Rows with a number, a city and a text that each tell something of the three targets."""
    draw = np.random.default_rng(seed)
    a, b, city = draw.normal(size=n), draw.normal(size=n), draw.choice(["Rome", "Oslo", "Lima"], n)
    lean = 1.5 * a + (city == "Rome") + draw.normal(size=n)
    words = np.where(lean > 0.3, "late", "fine")
    return pd.DataFrame(
        {
            "id": np.arange(n) + 1000 * seed,
            "who": draw.integers(0, 60, n),
            "w": draw.integers(1, 5, n),
            "a": a,
            "b": b,
            "city": city,
            "note": [
                f"{word} {draw.choice(['train', 'bus', 'boat'])} to {place}"
                for word, place in zip(words, city, strict=True)
            ],
            "late": np.where(lean + draw.normal(size=n) > 0.3, "yes", "no"),
            "kind": np.select([lean < -0.3, lean < 0.8], ["low", "mid"], "high"),
            "amount": np.exp(lean),
        }
    )


@dataclass(frozen=True)
class Zoo:
    """The project in which all of them are run."""

    folder: Path

    def call(self, *words: str) -> Ended:
        """One call of the command line in this process: its exit code, and what it printed."""
        return call(self.folder, *words)

    def load(self, name: str) -> Any:
        """The estimator of a workflow's first version."""
        import penstock as ps

        with contextlib.chdir(self.folder):
            return ps.load(f"{name}@1")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    from penstock.cli import projects
    from penstock.lifecycle.run import Request
    from penstock.lifecycle.sweep import Importer
    from penstock.project import open_home

    folder = tmp_path_factory.mktemp("zoo")
    (folder / "penstock.toml").touch()
    (folder / "zoo.py").write_text(ZOO)
    rows(300, 1).to_csv(folder / "rows.csv", index=False)
    rows(25, 2).to_csv(folder / "new.csv", index=False)
    home = open_home(str(folder))
    importer = Importer(home, Request(str(folder / "zoo.py"), "lightgbm"), projects.WORKER)
    patch = pytest.MonkeyPatch()
    patch.setattr(projects, "WORKER", importer.open)
    try:
        yield Zoo(folder)
    finally:
        patch.undo()
        importer.close()
        home.ledger.close()


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", SAID)
def test_it_is_trained_and_answers(name, zoo):
    code, said, wrong = zoo.call("run", f"zoo.py:{name}")
    assert code in (0, 7), said + wrong
    for words in SAID[name]:
        assert words in said
    code, answered, wrong = zoo.call("predict", f"{name}@1", "new.csv")
    assert code == 0, wrong
    given = pd.read_csv(io.StringIO(answered))
    new, estimator = rows(25, 2), zoo.load(name)
    expected = estimator.predict(new[SEES.get(name, ["a", "b", "city"])]).ravel()
    assert given["id"].tolist() == new["id"].tolist()
    if name == "transformed":
        assert given["value"].to_numpy() == pytest.approx(expected)
        assert np.corrcoef(np.log(expected), np.log(new["amount"]))[0, 1] > 0.5
    else:
        assert given["label"].tolist() == expected.tolist()
        assert np.mean(expected == new["kind" if name == "classes" else "late"]) > 0.5


def test_all_of_the_file_are_here():
    declared = [line.partition(" = zoo(")[0] for line in ZOO.splitlines() if " = zoo(" in line]
    assert declared == list(SAID)
