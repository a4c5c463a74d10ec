"""A search that was killed goes on: what it had fitted is not fitted again, and the bytes are the same."""

import json

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel
from scipy.stats import randint
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingRandomSearchCV, KFold, RandomizedSearchCV, _search
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from penstock.core import checkpoints
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.formats.skops import dumps_canonical
from penstock.stages.evaluate import evaluate
from penstock.stages.remembered import NAME, candidates_of
from penstock.stages.train import train

SCHEMA = {"task": "binary", "classes": [0, 1], "positive": 1}
TARGET = Target("y", positive=1)
ROLES = Roles(key=("id",))
KNOWN = {"target": TARGET, "roles": ROLES, "schema": SCHEMA, "split": Split(folds=3), "seed": 0}


def table(n=200):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=n), rng.normal(size=n)
    return pd.DataFrame({"id": np.arange(n), "a": a, "b": b, "y": (a + rng.normal(size=n) > 0).astype(int)})


class Counting(DecisionTreeClassifier):
    """A tree that counts its fits."""

    fits = 0

    def fit(self, X, y, sample_weight=None):
        type(self).fits += 1
        return super().fit(X, y, sample_weight)


SEARCHES = {
    "grid": lambda: GridSearchCV(Counting(), {"max_depth": [1, 2, 3]}, cv=3, return_train_score=True),
    "folds": lambda: GridSearchCV(Counting(), {"max_depth": [1, 2, 3]}, cv=KFold(2), scoring="neg_log_loss"),
    "random": lambda: RandomizedSearchCV(Counting(), {"max_depth": randint(1, 9)}, n_iter=4, cv=3),
    "two scores": lambda: GridSearchCV(
        Counting(), {"max_depth": [1, 2]}, cv=3, scoring=["roc_auc", "accuracy"], refit="roc_auc"
    ),
    "halving": lambda: HalvingRandomSearchCV(
        Counting(), {"max_depth": randint(1, 9)}, n_candidates=6, min_resources=40, cv=2
    ),
}


@pytest.fixture(autouse=True)
def _every_message(monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    with threadpool_limits(1):
        yield
    checkpoints.begin()


def run(model, known=None, what=train, **more):
    """One step: what it gave, what it told, and how many fits that took."""
    told = []
    checkpoints.begin(known, lambda message: told.append(json.loads(json.dumps(message))))
    Counting.fits = 0
    given = what(table(), model=model, **KNOWN, **more)
    return given, told, Counting.fits


def kept(told):
    return {key: value for message in told for key, value in message["kept"].items()}


@pytest.mark.parametrize("name", SEARCHES)
def test_what_was_fitted_is_not_fitted_again_and_the_bytes_are_the_same(name):
    (fitted, report), told, fits = run(SEARCHES[name]())
    assert fits > 4
    assert len(kept(told)) == fits - 1  # all but the last fit on all rows
    (again, same), _, few = run(SEARCHES[name](), kept(told))
    assert few == 1
    assert dumps_canonical(again) == dumps_canonical(fitted)
    assert same == report


@pytest.mark.parametrize("known", [1, 4, 7])
def test_a_search_that_was_killed_on_the_way_goes_on_from_there(known):
    (fitted, report), told, fits = run(SEARCHES["grid"]())
    some = dict(list(kept(told).items())[:known])
    (again, same), _, rest = run(SEARCHES["grid"](), some)
    assert rest == fits - known
    assert dumps_canonical(again) == dumps_canonical(fitted)
    assert same == report


def test_each_fold_of_the_evaluation_has_its_own():
    more = {"what": evaluate, "metrics": ("roc_auc",), "slices": ()}
    (report, frame), told, fits = run(SEARCHES["grid"](), **more)
    (again, same), _, few = run(SEARCHES["grid"](), kept(told), **more)
    assert fits == 3 * (3 * 3 + 1)
    assert few == 3
    assert again == report
    assert same.equals(frame)


def test_sabotaged_values_are_believed_so_they_do_matter():
    """The control: if what was kept were not used, a wrong score could not choose another candidate."""
    (fitted, _), told, _ = run(SEARCHES["folds"]())
    wrong = {
        key: value | {"test_scores": -float(place // 2 != 2)} for place, (key, value) in enumerate(kept(told).items())
    }
    (other, _), _, _ = run(SEARCHES["folds"](), wrong)
    assert other.max_depth == 3
    assert fitted.max_depth != 3


def test_progress_is_told():
    _, told, _ = run(SEARCHES["grid"]())
    progress = [message["progress"] for message in told]
    assert [one["done"] for one in progress] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert {one["total"] for one in progress} == {3}
    assert "best" not in progress[0]
    assert 0.4 < progress[-1]["best"] <= 1
    assert progress[0]["left_s"] >= 0


@pytest.mark.filterwarnings("ignore")
def test_a_fit_that_failed_is_tried_again():
    class Failing(Counting):
        def fit(self, X, y, sample_weight=None):
            if self.max_depth == 2:
                raise ValueError("not this one")
            return super().fit(X, y, sample_weight)

    model = GridSearchCV(Failing(), {"max_depth": [1, 2]}, cv=2)
    (_, report), told, _ = run(model)
    assert len(kept(told)) == 2
    assert report["search"]["candidates"][-1]["score"] is None


def test_outside_a_step_nothing_is_kept_and_scikit_learn_is_as_it_was():
    real = getattr(_search, NAME)
    checkpoints.begin()
    train(table(), model=SEARCHES["grid"](), **KNOWN)
    assert getattr(_search, NAME) is real


def test_a_result_too_large_for_a_row_is_not_kept():
    told = []
    checkpoints.begin({}, told.append)
    checkpoints.keep("big", "x" * checkpoints.MOST_BYTES)
    checkpoints.keep("small", 1)
    assert kept(told) == {"small": 1}


@pytest.mark.parametrize("name", SEARCHES)
def test_candidates_are_rows_of_the_report(name):
    (_, report), _, _ = run(SEARCHES[name]())
    rows = report["search"]["candidates"]
    assert rows[0]["rank"] == 1
    assert [row["rank"] for row in rows] == sorted(row["rank"] for row in rows)
    assert rows[0]["params"].keys() == {"max_depth"}
    if name != "halving":  # the best there is the best of the last iteration
        assert rows[0]["score"] == report["search"]["best_score"]
    assert json.loads(json.dumps(rows)) == rows


def test_what_kept_no_results_has_no_candidates():
    assert candidates_of(LogisticRegression(), 5) == []


def test_two_jobs_give_the_bytes_of_one_and_keep_the_same():
    pipe = make_pipeline(StandardScaler(), DecisionTreeClassifier())
    grid = {"decisiontreeclassifier__max_depth": [1, 2, 3]}

    def of(jobs, known=None):
        return run(GridSearchCV(pipe, grid, cv=2, n_jobs=jobs), known)[:2]

    (one, told), (two, beside) = of(1), of(2)
    assert dumps_canonical(one[0]) == dumps_canonical(two[0])
    assert one[1] == two[1]
    scores = {key: value["test_scores"] for key, value in kept(told).items()}
    assert {key: value["test_scores"] for key, value in kept(beside).items()} == scores
    assert len(scores) == 6
    half = dict(list(kept(told).items())[::2])
    again, rest = of(2, half)
    assert kept(rest).keys() == scores.keys() - half.keys()
    assert dumps_canonical(again[0]) == dumps_canonical(one[0])
    assert kept(of(2, kept(told))[1]) == {}


def test_a_search_in_a_candidate_is_known_by_the_candidates_own_result():
    def nested():
        return GridSearchCV(
            GridSearchCV(Counting(random_state=0), {"max_depth": [1, 2, 3]}, cv=2),
            {"estimator__criterion": ["gini", "entropy"]}, cv=2,
        )  # fmt: skip

    (fitted, report), told, fits = run(nested())
    assert (len(kept(told)), fits) == (4 + 6, 5 * 7)  # of the last fit on all rows, the fits of its search
    (again, same), _, rest = run(nested(), dict(list(kept(told).items())[:3]))
    assert rest == 2 * 7
    assert dumps_canonical(again) == dumps_canonical(fitted)
    assert same == report


def test_what_gives_all_fits_at_once_is_remembered_too(monkeypatch):
    monkeypatch.setattr("joblib.parallel.Parallel.__init__", at_once(Parallel.__init__))
    (_, report), told, fits = run(SEARCHES["grid"]())
    assert len(kept(told)) == fits - 1
    assert len(report["search"]["candidates"]) == 3


def at_once(real):
    """A backend of joblib that cannot give results as they come refuses to be asked for them."""

    def init(self, *given, return_as="list", **named):
        if return_as != "list":
            raise ValueError("does not support return_as")
        real(self, *given, **named)

    return init


def test_a_search_at_a_pipelines_end_is_told_with_the_path_of_its_parameters():
    search = GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2]}, cv=2)
    (_, report), _, _ = run(make_pipeline(StandardScaler(), search), metrics=("neg_log_loss",))
    told = report["search"]
    assert (told["path"], told["scorer"], told["n_candidates"]) == ("gridsearchcv__estimator__", "neg_log_loss", 2)
    assert len(told["candidates"]) == 2


@pytest.mark.parametrize(("name", "scorer"), [("grid", ""), ("folds", "neg_log_loss"), ("two scores", "roc_auc")])
def test_a_search_tells_what_it_chose_by(name, scorer):
    (_, report), _, _ = run(SEARCHES[name]())
    assert (report["search"]["path"], report["search"]["scorer"]) == ("estimator__", scorer)


def parts_of(model, n, known=None, what=train, **more):
    """What each of n parts kept, each of which knows nothing of the others, and how many fits they took."""
    found, counts = {}, []
    for k in range(1, n + 1):
        told = []
        checkpoints.begin(known, lambda message: told.append(json.loads(json.dumps(message))), (k, n))
        Counting.fits = 0
        with pytest.raises(checkpoints.PartDoneError):
            what(table(), model=model(), **KNOWN, **more)
        assert not found.keys() & kept(told).keys()
        found |= kept(told)
        counts.append(Counting.fits)
    return found, counts


@pytest.mark.parametrize("name", SEARCHES)
def test_parts_of_a_search_fit_each_its_own_and_the_whole_is_the_same(name, monkeypatch):
    (fitted, report), _, fits = run(SEARCHES[name]())
    monkeypatch.setattr(checkpoints, "EVERY_S", 60.0)  # what is not sent yet is when the part ends
    found, counts = parts_of(SEARCHES[name], 2)
    assert sum(counts) == len(found) == (12 if name == "halving" else fits - 1)  # of halving the first round
    assert max(counts) - min(counts) <= 1
    (again, same), _, rest = run(SEARCHES[name](), found)
    assert rest == fits - len(found)
    assert dumps_canonical(again) == dumps_canonical(fitted)
    assert same == report
    assert parts_of(SEARCHES[name], 2, found)[1] == [0, 0]


def test_parts_of_an_evaluation_fit_each_a_part_of_every_fold():
    more = {"what": evaluate, "metrics": ("roc_auc",), "slices": ()}
    (report, frame), _, _ = run(SEARCHES["grid"](), **more)
    found, counts = parts_of(SEARCHES["grid"], 4, **more)
    assert counts == [3 * 3, 3 * 2, 3 * 2, 3 * 2]
    (again, same), _, few = run(SEARCHES["grid"](), found, **more)
    assert few == 3
    assert again == report
    assert same.equals(frame)


def test_a_part_of_a_search_that_cannot_be_divided_here_fits_nothing(monkeypatch):
    monkeypatch.delattr(_search, NAME)
    assert parts_of(SEARCHES["grid"], 2) == ({}, [0, 0])
