"""The baseline that the user declares: an estimator, a column, a function; always on the same rows as the model."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeRegressor

from penstock.core.gate import Beats
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError, StepOutputError
from penstock.stages import scoring
from penstock.stages.baseline import baseline_answers
from penstock.stages.compare import compare
from penstock.stages.evaluate import evaluate
from penstock.stages.problem import Problem

NUMBER, TWO = Problem("regression"), Problem("binary", ("no", "yes"))
ROLES = Roles(key=("id",), features=("shop", "x"))


def table(n=300, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    v = 3 * x + rng.normal(size=n)
    y = np.where(v > 0, "yes", "no")
    said = np.where(v + rng.normal(size=n) > 0, "yes", "no")
    frame = {"id": range(n), "shop": rng.integers(0, 5, n), "x": x, "v": v, "lag": v + rng.normal(size=n), "y": y}
    return pd.DataFrame(frame | {"said": said, "chance": 1 / (1 + np.exp(-v - rng.normal(size=n)))})


def yesterday(shown):
    assert "v" not in shown.columns, "the truth is not shown"
    return shown["lag"]


def last_of_shop(train, shown):
    """The last value that is known of each shop."""
    return shown["shop"].map(train.groupby("shop")["v"].last()).to_numpy()


def too_few(shown):
    return shown["lag"].head(3)


def failing(shown):
    return shown["v"]


def answers(baseline, problem=NUMBER, target="v", train=None, test=None):
    train, test = table() if train is None else train, table(seed=1) if test is None else test
    return baseline_answers(baseline, train, test, problem, target=Target(target), roles=ROLES, seed=0)


def test_a_column_is_taken_as_it_is_and_a_missing_value_is_the_training_mean():
    test = table(seed=1)
    test.loc[:4, "lag"] = np.nan
    found = answers("lag", test=test)
    np.testing.assert_array_equal(found.column("value")[5:], test["lag"].to_numpy()[5:])
    assert set(found.column("value")[:5]) == {table()["v"].mean()}


def test_a_function_is_given_the_table_without_the_truth_or_the_training_rows_too():
    test = table(seed=1)
    np.testing.assert_array_equal(answers(yesterday).column("value"), test["lag"])
    known = table().groupby("shop")["v"].last()
    np.testing.assert_array_equal(answers(last_of_shop).column("value"), test["shop"].map(known))


def test_an_estimator_is_fitted_on_the_training_rows_as_a_model_would_be_and_seeded():
    tree = DecisionTreeRegressor(max_features=1)
    first, again = answers(tree), answers(tree)
    np.testing.assert_array_equal(first.answers, again.answers)
    assert not hasattr(tree, "tree_")
    expected = LinearRegression().fit(table()[["shop", "x"]], table()["v"])
    bare = answers(LinearRegression())
    np.testing.assert_allclose(bare.column("value"), expected.predict(table(seed=1)[["shop", "x"]]))


def test_labels_rank_two_classes_and_a_chance_is_a_probability():
    labels, chance = answers("said", TWO, "y"), answers("chance", TWO, "y")
    assert 0.5 < scoring.figure("roc_auc", labels) < scoring.figure("roc_auc", chance)
    assert not labels.has_proba
    assert scoring.figure("neg_log_loss", chance) > -0.6
    decision = answers("lag", TWO, "y")
    assert decision.decision is not None
    assert scoring.figure("accuracy", decision) > 0.7


@pytest.mark.parametrize(
    ("baseline", "error", "said"),
    [
        ("lagg", DataError, "names a column that the table lacks"),
        (too_few, StepOutputError, "one prediction for each of 300 rows"),
        ("shop", None, ""),
    ],
)
def test_what_gives_no_prediction_a_row_is_refused(baseline, error, said):
    if error is None:
        assert len(answers(baseline)) == 300
        return
    with pytest.raises(error, match=said):
        answers(baseline)


def test_words_that_are_no_class_are_refused():
    with pytest.raises(StepOutputError, match="none of the classes"):
        answers("word", TWO, "y", test=table(seed=1).assign(word="perhaps"))


def test_an_error_names_the_baseline_and_the_line():
    with pytest.raises(KeyError) as caught:
        answers(failing)
    assert "the baseline 'failing', test_baseline.py line " in caught.value.__notes__[0]


def test_evaluate_and_compare_hold_the_model_against_it_by_name():
    frame = table(600)
    given = {"target": Target("v"), "roles": Roles(key=("id",), drop=("lag", "said", "chance", "y")), "seed": 0}
    given |= {"schema": {"task": "regression"}, "slices": (), "metrics": ("neg_root_mean_squared_error",)}
    report, _ = evaluate(frame, model=LinearRegression(), split=Split(folds=3), baseline="lag", **given)
    error = float(np.sqrt(((frame["v"] - frame["lag"]) ** 2).mean()))
    shown = report["metrics"]["neg_root_mean_squared_error"]
    assert shown["baseline_shown"] == pytest.approx(error, rel=0.02)
    assert "· baseline lag " in report["summary"]
    assert report["baseline"] == "lag"
    plain, _ = evaluate(frame, model=LinearRegression(), split=Split(folds=3), **given)
    assert "baseline" not in plain
    model = LinearRegression().fit(frame[["shop", "x"]], frame["v"])
    given |= {"fitted": model, "champion": None, "about": {}, "rules": (Beats("baseline", by=0.5),)}
    against_mean, against_lag = (compare(frame, frame, baseline=one, **given) for one in (None, "lag"))
    assert against_mean["outcome"] == "better"
    assert against_lag["outcome"] == "worse"
    assert "the baseline lag" in against_lag["sentence"]


def test_a_baseline_without_the_answer_that_a_metric_reads_has_no_figure():
    frame = table(400)
    given = {"target": Target("y"), "roles": Roles(key=("id",), drop=("lag", "said", "chance", "v")), "seed": 0}
    schema = {"task": "binary", "classes": ["no", "yes"], "positive": "yes"}
    report, _ = evaluate(
        frame,
        model=LogisticRegression(),
        split=Split(folds=3),
        baseline="said",
        schema=schema,
        slices=(),
        metrics=("neg_log_loss",),
        **given,
    )
    assert report["metrics"]["neg_log_loss"]["baseline"] is None


def test_weights_reach_the_fit_of_an_estimator():
    frame = table().assign(w=lambda t: np.where(t["shop"] == 0, 50.0, 1.0))
    roles = Roles(key=("id",), features=("x",), weight="w")
    given = {"target": Target("v"), "roles": roles, "seed": 0}
    found = baseline_answers(LinearRegression(), frame, frame, NUMBER, **given)
    expected = LinearRegression().fit(frame[["x"]], frame["v"], sample_weight=frame["w"])
    np.testing.assert_allclose(found.column("value"), expected.predict(frame[["x"]]))
    assert found.weight.tolist() == frame["w"].tolist()
