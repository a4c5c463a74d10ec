"""Six real tables through the real command line, each beside a plain scikit-learn script on the same rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn import metrics
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from penstock.core.artifact import Artifact

pytestmark = pytest.mark.slow

WORKFLOWS = Path(__file__).resolve().parent / "workflows"
MOST_LINES = 25  # of a workflow file: blank lines, comments, docstring and imports not counted
MOST_PRINTED = 20

Frame = Any


def linear(numbers: list[str], labels: list[str], **options: Any) -> Any:
    """Scaled numbers and one-hot labels before a logistic regression."""
    scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    encoded = make_column_transformer((scaled, numbers), (OneHotEncoder(handle_unknown="ignore"), labels))
    return make_pipeline(encoded, LogisticRegression(max_iter=500, **options))


def area(model: Any, train: Frame, test: Frame, target: str, positive: Any) -> float:
    """Area under the ROC curve on held-out rows."""
    model.fit(train, train[target] == positive)
    return float(metrics.roc_auc_score(test[target] == positive, model.predict_proba(test)[:, 1]))


def plain_adult(train: Frame, test: Frame) -> float:
    numbers = ["age", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
    labels = ["workclass", "marital_status", "occupation", "relationship", "race", "sex", "native_country"]
    return area(linear(numbers, labels), train, test, "income", ">50K")


def plain_telco(train: Frame, test: Frame) -> float:
    numbers = ["tenure", "MonthlyCharges", "TotalCharges"]
    labels = [name for name in train if name not in (*numbers, "customerID", "Churn")]
    return area(linear(numbers, labels), train, test, "Churn", "Yes")


def plain_german(train: Frame, test: Frame) -> float:
    features = train.drop(columns="class")
    numbers = list(features.select_dtypes("number"))
    labels = [name for name in features if name not in numbers]
    return area(linear(numbers, labels, C=0.3), train, test, "class", 2)


def plain_covtype(train: Frame, test: Frame) -> float:
    model = HistGradientBoostingClassifier(max_iter=15, learning_rate=0.3, max_leaf_nodes=15, random_state=0)
    hidden = ["Soil_Type", "Cover_Type"]
    model.fit(train.drop(columns=hidden), train["Cover_Type"])
    return float(metrics.accuracy_score(test["Cover_Type"], model.predict(test.drop(columns=hidden))))


def plain_abalone(train: Frame, test: Frame) -> float:
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["sex"]), remainder=StandardScaler()), LinearRegression()
    )
    model.fit(train.drop(columns="rings"), train["rings"])
    return float(metrics.r2_score(test["rings"], model.predict(test.drop(columns="rings"))))


def plain_bike(train: Frame, test: Frame) -> float:
    hidden = ["instant", "dteday", "casual", "registered", "cnt"]
    model = HistGradientBoostingRegressor(max_iter=60, learning_rate=0.2, random_state=0)
    model.fit(train.drop(columns=hidden), train["cnt"])
    return float(metrics.r2_score(test["cnt"], model.predict(test.drop(columns=hidden))))


@dataclass(frozen=True)
class Case:
    """One table: its workflow's file and name, the table, its primary metric, and the plain script."""

    file: str
    name: str
    table: str
    target: str
    metric: str
    plain: Callable[[Frame, Frame], float]
    read: dict[str, Any] = field(default_factory=dict)


SPACED = {"skipinitialspace": True}  # adult has a space after each comma
CASES = [
    Case("adult", "adult", "adult_train.csv.gz", "income", "roc_auc", plain_adult, SPACED),
    Case("telco_churn", "telco", "telco_churn.csv", "Churn", "roc_auc", plain_telco),
    Case("german_credit", "german", "german_credit_uci.csv", "class", "roc_auc", plain_german),
    Case("covtype", "covtype", "covtype_sample.csv.gz", "Cover_Type", "accuracy", plain_covtype),
    Case("abalone", "abalone", "abalone.csv", "rings", "r2", plain_abalone),
    Case("bike_hour", "bike", "bike_hour.csv.gz", "cnt", "r2", plain_bike),
]


class Tables:
    """The project with the workflows; each is run once."""

    def __init__(self, project: Any) -> None:
        self.project = project
        self._ended: dict[str, Any] = {}
        for file in WORKFLOWS.glob("*.py"):
            shutil.copy(file, project.folder)

    def run(self, case: Case, data: Path) -> Any:
        """Run a workflow to its end, unless that was done."""
        link = self.project.folder / "data"
        if not link.exists():
            link.symlink_to(data)
        if case.name not in self._ended:
            self._ended[case.name] = self.project.call("run", f"{case.file}.py")
        return self._ended[case.name]

    def sides(self, case: Case) -> tuple[Frame, Frame]:
        """Training and held-out rows, as the run kept them."""
        home = self.project.home()
        run = home.ledger.runs(flow=case.name)[0]
        split = next(step for step in home.ledger.step_runs(run.id) if step.step == "split")
        train, test = (home.formats.load(artifact, home.objects) for artifact in split.outputs[:2])
        return train, test

    def figure(self, case: Case) -> dict[str, float]:
        """The primary metric on the hold-out, with its interval, as the verdict has it."""
        home = self.project.home()
        verdict = home.ledger.stream(f"{case.name}/verdict")[-1].body
        compared = home.formats.load(Artifact.from_json(verdict["comparison"]), home.objects)
        figure: dict[str, float] = compared["metrics"][case.metric]["challenger"]
        return figure


@pytest.fixture(scope="module")
def tables(project: Any) -> Tables:
    return Tables(project)


FEW = {"german", "covtype", "abalone", "bike"}
"""What each run of the tests goes through: two classes, seven, a number, time. `make campaign` adds the others."""
PARAMS = [pytest.param(case, id=case.name, marks=[pytest.mark.campaign] * (case.name not in FEW)) for case in CASES]


@pytest.fixture(params=PARAMS)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def test_a_real_table_gives_a_champion(tables: Tables, case: Case, shared_data: Callable[[str], Path]) -> None:
    run = tables.run(case, shared_data(case.table).parent)
    assert run.code == 0, run.text
    assert f"→ champion: {case.name}@1 (local store)" in run.out
    assert run.err == ""
    assert len(run.out.splitlines()) <= MOST_PRINTED
    assert tables.project.streams(case.name)[f"{case.name}/look"] == 1


def test_the_figure_is_that_of_a_plain_script(tables: Tables, case: Case, shared_data: Callable[[str], Path]) -> None:
    tables.run(case, shared_data(case.table).parent)
    train, test = tables.sides(case)
    figure = tables.figure(case)
    with threadpool_limits(1):  # as workers have it
        plain = case.plain(train, test)
    assert figure["low"] < figure["value"] < figure["high"]
    assert figure["low"] <= plain <= figure["high"]


def test_the_two_sides_are_the_file(tables: Tables, case: Case, shared_data: Callable[[str], Path]) -> None:
    """No row is lost, made or changed between the file and the fit."""
    path = shared_data(case.table)
    tables.run(case, path.parent)
    both = pd.concat(tables.sides(case), ignore_index=True)
    file = pd.read_csv(path, **case.read)
    assert sorted(both[case.target]) == sorted(file[case.target])
    assert list(both.columns) == list(file.columns)
    for name in file.select_dtypes("number"):
        assert both[name].sum() == pytest.approx(file[name].sum())


@pytest.mark.parametrize("file", sorted(WORKFLOWS.glob("*.py")), ids=lambda file: file.stem)
def test_a_workflow_is_short(file: Path) -> None:
    code = file.read_text().split('"""')[2].splitlines()
    counted = [line for line in map(str.strip, code) if line and not line.startswith(("#", "import ", "from "))]
    assert len(counted) <= MOST_LINES


def test_the_plain_script_catches_a_wrong_figure(tables: Tables, shared_data: Callable[[str], Path]) -> None:
    """Sabotage: a script that learns from rows whose target is shuffled is outside the interval."""
    case = CASES[-2]
    tables.run(case, shared_data(case.table).parent)
    train, test = tables.sides(case)
    wrong = train.assign(rings=train["rings"].sample(frac=1, random_state=0).to_numpy())
    figure = tables.figure(case)
    assert not figure["low"] <= case.plain(wrong, test) <= figure["high"]


def test_the_positive_class_is_asked_for(tables: Tables, shared_data: Callable[[str], Path]) -> None:
    case = CASES[2]
    tables.run(case, shared_data(case.table).parent)
    text = (WORKFLOWS / "german_credit.py").read_text()
    unsaid = text.replace('ps.Target("class", positive=2)', '"class"').replace('"german"', '"unsaid"')
    tables.project.write("unsaid.py", unsaid)
    run = tables.project.call("run", "unsaid.py")
    assert run.code == 2
    assert "which class of 'class' is the positive one, 1 and 2?" in run.err
    assert "positive=2" in run.err
    assert tables.project.streams("unsaid") == {}


def test_a_sum_of_the_target_is_found(tables: Tables, shared_data: Callable[[str], Path]) -> None:
    """casual + registered = cnt: with both among the features the audit refuses."""
    case = CASES[-1]
    tables.run(case, shared_data(case.table).parent)
    text = (WORKFLOWS / "bike_hour.py").read_text()
    leaky = text.replace('ps.Target("cnt", after=["casual", "registered"])', '"cnt"').replace('"bike"', '"leaky"')
    tables.project.write("leaky.py", leaky)
    run = tables.project.call("run", "leaky.py")
    assert run.code == 4, run.text
    refusal = run.out.splitlines()[-1] + run.err
    assert "casual" in run.out, refusal
    assert "registered" in run.out
    assert "leaky/alias/champion" not in tables.project.streams("leaky")


def test_all_that_stays_is_whole(tables: Tables) -> None:
    assert tables.project.faults() == []
