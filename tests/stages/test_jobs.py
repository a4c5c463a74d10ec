"""The number of jobs changes how long a fit takes, never what is fitted or answered."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import KernelPCA, LatentDirichletAllocation
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages.jobs import answer_alone, hold
from penstock.stages.train import train

TIMES = 15


def table(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    X = rng.gamma(2.0, 1.0, size=(n, 5))
    y = (X[:, 0] - X[:, 1] + rng.normal(size=n) > 0).astype(int)
    return pd.DataFrame(X, columns=list("abcde")).assign(y=y)


def fitted(model: Any) -> tuple[Any, dict[str, Any]]:
    schema = {"task": "binary", "classes": [0, 1], "positive": 1}
    known: dict[str, Any] = {"target": Target("y"), "roles": Roles(), "schema": schema, "split": Split(), "seed": 0}
    return train(table(), model=model, **known)


def forest(**more: Any) -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=40, min_samples_leaf=7, random_state=0, **more)


def topics(n_jobs: int | None) -> Any:
    return make_pipeline(LatentDirichletAllocation(3, max_iter=2, n_jobs=n_jobs, random_state=0), LogisticRegression())


X = table().drop(columns="y")


def answers(model: Any) -> bytes:
    found: np.ndarray[Any, Any] = model.predict_proba(X)
    return found.tobytes()


def test_fit_that_draws_in_each_job_is_the_same_for_every_number_of_jobs_and_says_so() -> None:
    (one, alone), (two, told) = fitted(topics(None)), fitted(topics(2))
    assert answers(one) == answers(two)
    assert told["notes"] == [
        "LatentDirichletAllocation is fitted by one job, although n_jobs=2: each job draws random numbers of its own"
    ]
    assert "notes" not in alone
    raw = [clone(topics(n)).fit(X, table()["y"]) for n in (1, 2)]  # the control: scikit-learn's own differ
    assert answers(raw[0]) != answers(raw[1])


@pytest.mark.parametrize(
    "model",
    [
        forest(n_jobs=2),
        make_pipeline(forest(n_jobs=2)),
        VotingClassifier([("a", forest(n_jobs=2)), ("b", LogisticRegression())], voting="soft"),
        GridSearchCV(forest(n_jobs=2), {"max_depth": [2]}, cv=2),
    ],
    ids=["forest", "pipeline", "vote", "search"],
)
def test_fitted_forest_answers_the_same_each_time(model: Any) -> None:
    found, report = fitted(model)
    assert len({answers(found) for _ in range(TIMES)}) == 1
    assert "notes" not in report  # it was fitted by all its jobs


def test_without_that_threads_add_up_in_any_order() -> None:
    """Control: it is the number of jobs that makes a forest's sums differ."""
    raw = forest(n_jobs=2).fit(X, table()["y"])
    assert len({answers(raw) for _ in range(4 * TIMES)}) > 1
    answer_alone(forest(n_jobs=2), raw)
    assert len({answers(raw) for _ in range(TIMES)}) == 1


def test_forest_whose_answers_are_learned_from_is_fitted_by_one_job() -> None:
    model = CalibratedClassifierCV(forest(n_jobs=2), cv=2, n_jobs=2)
    found, report = fitted(model)
    assert len(report["notes"]) == 2
    assert answers(found) == answers(fitted(CalibratedClassifierCV(forest(), cv=2))[0])


def test_jobs_that_change_nothing_are_left_alone() -> None:
    kept = [
        make_pipeline(KernelPCA(n_jobs=1), LogisticRegression()),
        KernelPCA(),
        GridSearchCV(LogisticRegression(), {"C": [1.0]}, n_jobs=2),
        BaggingClassifier(n_jobs=2),
        forest(n_jobs=-1),
    ]
    before = [one.get_params() for one in kept]
    assert [hold(one) for one in kept] == [[], [], [], [], []]
    assert [str(one.get_params()) for one in kept] == [str(one) for one in before]
