"""Metrics from stored answers equal scikit-learn's on the model, whatever the labels are."""

import functools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.datasets import make_classification, make_regression
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.metrics import get_scorer, make_scorer
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC

from penstock.core.names import CLASSIFICATION_SCORERS, REGRESSION_SCORERS
from penstock.core.target import Target
from penstock.errors import DataError, DeclarationError
from penstock.stages import scoring
from penstock.stages.counts import OF_ALL_CLASSES, OF_CLASS_ONE
from penstock.stages.predicted import join, predict
from penstock.stages.problem import Problem, problem_of

# What a scorer needs to be right for labels that are not 0/1; the answer is held against these.
POSITIVE = {
    "f1": (sk.f1_score, "predict", 1),
    "precision": (sk.precision_score, "predict", 1),
    "recall": (sk.recall_score, "predict", 1),
    "jaccard": (sk.jaccard_score, "predict", 1),
    "average_precision": (sk.average_precision_score, ("decision_function", "predict_proba"), 1),
    "neg_brier_score": (sk.brier_score_loss, "predict_proba", -1),
    "d2_brier_score": (sk.d2_brier_score, "predict_proba", 1),
}
LABELS = {
    "0/1": ([0, 1], 1),
    "1/2, the first positive": ([1, 2], 1),
    "1/2, the second positive": ([1, 2], 2),
    "text": (["<=50K", ">50K"], ">50K"),
    "text, the first positive": (["bad", "good"], "bad"),
    "booleans": ([False, True], True),
}
BINARY = [name for name in CLASSIFICATION_SCORERS if name not in scoring.NEEDS_MULTICLASS]
MULTICLASS = [name for name in CLASSIFICATION_SCORERS if name not in scoring.NEEDS_BINARY]


def fitted(labels, positive, model, n_classes=2):
    return _fitted(tuple(labels), positive, type(model), n_classes)


@functools.cache
def _fitted(labels, positive, kind, n_classes):
    model = kind()
    X, codes = make_classification(
        300, 5, n_informative=4, n_redundant=0, n_classes=n_classes, flip_y=0.3, random_state=0
    )
    y = np.array(labels, dtype=object if isinstance(labels[0], str) else None)[codes]
    X = pd.DataFrame(X)
    estimator = model.fit(X[:150], y[:150])
    task = "binary" if n_classes == 2 else "multiclass"
    problem = problem_of({"task": task, "classes": list(labels), "positive": positive}, Target("y"))
    return estimator, X[150:], y[150:], problem


def scorer_for(name, positive):
    if name in POSITIVE:
        function, response, sign = POSITIVE[name]
        return make_scorer(function, response_method=response, greater_is_better=sign > 0, pos_label=positive)
    return get_scorer(name)


def test_labels_in_one_column_are_labels():
    """CatBoost answers several classes so."""

    class Column:
        classes_ = np.array([3, 5, 7])

        def predict(self, X):
            return self.classes_[np.arange(len(X)) % 3][:, None]

    problem = Problem("multiclass", (3, 5, 7))
    predicted = predict(Column(), pd.DataFrame({"a": range(4)}), [3, 5, 7, 5], problem)
    assert predicted.answers[:, 0].tolist() == [0.0, 1.0, 2.0, 0.0]
    assert scoring.figure("accuracy", predicted) == 0.75


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("model", [LogisticRegression(), GaussianNB()], ids=["decision", "proba"])
@pytest.mark.parametrize("name", BINARY)
@pytest.mark.filterwarnings("ignore")
def test_two_classes_score_as_scikit_learn_with_the_positive_class(name, model, labels):
    values, positive = LABELS[labels]
    estimator, X, y, problem = fitted(values, positive, model)
    predicted = predict(estimator, X, y, problem)
    if "likelihood_ratio" in name and positive != values[1]:
        # They take labels= in place of pos_label.
        other = values[1]
        function = lambda t, p: sk.class_likelihood_ratios(t, p, labels=[other, positive], replace_undefined_by=1)  # noqa: E731
        plus, minus = function(y, estimator.predict(X))
        expected = plus if name.startswith("positive") else -minus
    elif name == "roc_auc" and positive != values[1]:
        expected = sk.roc_auc_score(y == positive, estimator.predict_proba(X)[:, 0])
    else:
        expected = scorer_for(name, positive)(estimator, X, y)
    assert scoring.figure(name, predicted) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert scoring.figure(name, scoring.narrow(name, predicted)) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_labels_one_and_two_are_a_silent_trap_of_the_library_that_is_avoided():
    """The control: the plain scorer scores the other class without a word."""
    estimator, X, y, problem = fitted([1, 2], 2, LogisticRegression())
    ours = scoring.figure("f1", predict(estimator, X, y, problem))
    assert get_scorer("f1")(estimator, X, y) != pytest.approx(ours)
    assert sk.f1_score(y, estimator.predict(X), pos_label=2) == pytest.approx(ours)


@pytest.mark.parametrize("name", MULTICLASS)
@pytest.mark.parametrize("model", [LogisticRegression(), GaussianNB()], ids=["decision", "proba"])
@pytest.mark.filterwarnings("ignore")
def test_several_classes_score_as_scikit_learn(name, model):
    estimator, X, y, problem = fitted(["ant", "bee", "cat"], None, model, n_classes=3)
    expected = get_scorer(name)(estimator, X, y)
    predicted = predict(estimator, X, y, problem)
    assert scoring.figure(name, predicted) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert scoring.figure(name, scoring.narrow(name, predicted)) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", REGRESSION_SCORERS)
def test_numbers_score_as_scikit_learn(name):
    X, y = make_regression(200, 4, noise=20, random_state=0)
    y = np.exp(y / 100)
    estimator = PositiveRegression().fit(X, y)
    predicted = predict(estimator, X, y, Problem("regression"))
    assert scoring.figure(name, predicted) == pytest.approx(get_scorer(name)(estimator, X, y), rel=1e-12)


def test_all_names_are_covered():
    assert set(BINARY) | set(MULTICLASS) == set(CLASSIFICATION_SCORERS)


@pytest.mark.parametrize("name", scoring.MEANS)
@pytest.mark.filterwarnings("ignore")
def test_the_parts_of_a_mean_give_the_metric(name):
    if scoring.MEANS[name][0] == "value":
        y = np.random.default_rng(0).exponential(size=50) + 0.1
        predicted = predict(Constant(), y[:, None], y, Problem("regression"))
    else:
        predicted = predict(*fitted(["ant", "bee", "cat"], None, GaussianNB(), n_classes=3))
    mean = float(scoring.row_scores(name, predicted).mean())
    assert scoring.from_mean(name)(mean) == pytest.approx(scoring.figure(name, predicted), rel=1e-12)
    step = 1e-6
    slope = (scoring.from_mean(name)(mean + step) - scoring.from_mean(name)(mean - step)) / (2 * step)
    assert scoring.slope(name, mean) == pytest.approx(slope, rel=1e-4)


class PositiveRegression(LinearRegression):
    """Answers above zero, which logarithmic errors need."""

    def predict(self, X):
        return np.maximum(super().predict(X), 0.01)


class Constant:
    """Answers two thirds of what it is asked."""

    def predict(self, X):
        return np.asarray(X)[:, 0] / 1.5


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=3, max_size=40))
def test_average_precision_with_ties_is_scikit_learns(rows):
    y = np.array([int(hit) for hit, _ in rows])
    score = np.array([float(level) for _, level in rows])
    if y.sum() == 0:
        with pytest.raises(ValueError, match="positive"):
            scoring.FAST["average_precision"][2](y, score)
    else:
        ours = scoring.FAST["average_precision"][2](y, score)
        assert ours == pytest.approx(sk.average_precision_score(y, score), abs=1e-12)


def test_a_metric_without_a_value_is_nan():
    estimator, X, y, problem = fitted([0, 1], 1, LogisticRegression())
    one_class = predict(estimator, X, y, problem).take(y == 1)
    assert math.isnan(scoring.figure("roc_auc", one_class))
    assert math.isnan(scoring.figure("roc_auc", one_class.take(slice(0, 0))))
    negative = predict(Constant(), -np.ones((5, 1)) * 3, np.ones(5), Problem("regression"))
    assert math.isnan(scoring.figure("neg_mean_squared_log_error", negative))
    assert math.isnan(scoring.figure("r2", negative))


def test_answers_survive_a_table():
    for model in (LogisticRegression(), GaussianNB(), RidgeClassifier()):
        frame = predict(*fitted(["bad", "good"], "bad", model)).to_frame()
        assert set(frame.y_true) == {"bad", "good"}
        if "proba" in frame:
            assert ((frame.proba > 0.5) == (frame.label == "bad")).all()
        if "decision" in frame:
            assert ((frame.decision > 0) == (frame.label == "bad")).all()


def test_defaults_by_task_and_what_the_model_can_answer():
    binary, several, number = Problem("binary", (0, 1)), Problem("multiclass", (0, 1, 2)), Problem("regression")
    assert scoring.chosen((), binary, has_proba=True) == ("roc_auc", "neg_log_loss")
    assert scoring.chosen((), binary, has_proba=False) == ("roc_auc",)
    assert scoring.chosen((), several, has_proba=True) == ("neg_log_loss", "accuracy")
    assert scoring.chosen((), number, has_proba=False) == ("neg_root_mean_squared_error", "r2")


def test_metrics_that_do_not_fit_are_all_refused_at_once():
    with pytest.raises(DeclarationError, match="3 faults") as caught:
        scoring.chosen(("r2", "f1", "neg_log_loss", "accuracy"), Problem("multiclass", (0, 1, 2)), has_proba=False)
    assert "accuracy" in caught.value.hint
    assert "f1_macro" in str(caught.value.faults)


def test_a_model_without_probabilities_still_ranks():
    estimator, X, y, problem = fitted(["bad", "good"], "bad", SVC())
    predicted = predict(estimator, X, y, problem)
    assert not predicted.has_proba
    expected = sk.roc_auc_score(y == "bad", -estimator.decision_function(X))
    assert scoring.figure("roc_auc", predicted) == pytest.approx(expected)


def test_a_fold_that_lacks_a_class_gives_it_no_probability():
    problem = Problem("multiclass", ("ant", "bee", "cat"))
    X = np.arange(30.0)[:, None]
    y = np.array(["ant", "bee", "cat"])[np.arange(30) % 3]
    two = LogisticRegression().fit(X[y != "bee"], y[y != "bee"])
    part = predict(two, X, y, problem)
    assert (part.column("proba")[:, 1] == 0).all()
    whole = join([part, predict(LogisticRegression().fit(X, y), X, y, problem)])
    assert len(whole) == 60
    assert whole.decision is None


def test_a_label_of_no_class_is_an_error_that_names_it():
    with pytest.raises(DataError, match="'dog'"):
        Problem("binary", ("ant", "bee")).encode(["ant", "dog"])


def test_a_positive_class_that_does_not_exist_is_refused():
    with pytest.raises(DeclarationError, match="'maybe'"):
        problem_of({"task": "binary", "classes": ["no", "yes"]}, Target("y", positive="maybe"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.8434, "0.843"), (41.23, "41.2"), (12345.6, "12,346"), (None, "n/a"), (math.inf, "n/a"), (0.0, "0.000")],
)
def test_figures_read_well(value, text):
    assert scoring.number(value) == text


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
@pytest.mark.filterwarnings("ignore")
def test_metrics_of_labels_are_scikit_learns_on_any_table(rows):
    """Whatever classes are absent on either side."""
    y, label = np.array([a for a, _ in rows]), np.array([b for _, b in rows])
    assert OF_ALL_CLASSES["matthews_corrcoef"](y, label) == pytest.approx(sk.matthews_corrcoef(y, label), abs=1e-12)
    assert OF_ALL_CLASSES["balanced_accuracy"](y, label) == pytest.approx(sk.balanced_accuracy_score(y, label))
    functions = {
        "precision": sk.precision_score,
        "recall": sk.recall_score,
        "f1": sk.f1_score,
        "jaccard": sk.jaccard_score,
    }
    for name, function in functions.items():
        for average in ("macro", "micro", "weighted"):
            expected = function(y, label, average=average, zero_division=0)
            assert OF_ALL_CLASSES[f"{name}_{average}"](y, label) == pytest.approx(expected, abs=1e-12)
        assert OF_CLASS_ONE[name](y % 2, label % 2) == pytest.approx(function(y % 2, label % 2, zero_division=0))
