"""A table given to a monitor is answered by the champion, so that its answers can be watched too."""

import pandas as pd
from sklearn.linear_model import LogisticRegression

from penstock.stages.answered import answered

INPUT = {
    "task": "binary",
    "classes": [0, 1],
    "positive": 1,
    "key": ["id"],
    "columns": [{"name": "a", "dtype": "float64"}, {"name": "b", "dtype": "int64"}],
}


def model():
    X = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1, 0, 1, 0]})
    return LogisticRegression().fit(X, [0, 0, 1, 1])


def test_answers_come_with_the_key_whatever_the_order_and_types_of_the_columns():
    given = pd.DataFrame({"extra": ["x", "y"], "b": [1, 0], "a": [0, 3], "id": ["p", "q"]})
    found = answered(given, fitted=model(), input=INPUT)
    assert list(found.columns) == ["id", "label", "score"]
    assert found.id.tolist() == ["p", "q"]
    assert found.label.tolist() == [0, 1]
    by_hand = model().predict_proba(pd.DataFrame({"a": [0.0, 3.0], "b": [1, 0]}))[:, 1]
    assert found.score.tolist() == by_hand.tolist()


def test_without_a_column_that_is_read_there_are_no_answers():
    assert answered(pd.DataFrame({"a": [1.0]}), fitted=model(), input=INPUT) is None
    assert answered(pd.DataFrame({"a": [], "b": []}), fitted=model(), input=INPUT) is None
