"""How well all columns together, and one alone, foretell the target on rows that they were not fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.stages.betrayal import MAX_ROWS
from penstock.stages.problem import Problem
from penstock.stages.profiles import kind_of

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS, MOST_CELLS = 20_000, 1_000_000
"""Rows and cells on which skills are measured."""
FOLDS = 3
ITERATIONS = 60
LEAVES, LEAF_ROWS = 32, 5


def thinned(n_rows: int, n_columns: int) -> Any:
    """Positions of at most `MOST_ROWS` rows and about `MOST_CELLS` cells, evenly spaced: the same ones each time.

    Examples
    --------
    >>> len(thinned(1_000_000, 10)), len(thinned(300, 10))
    (20000, 300)
    """
    import numpy as np

    most = min(MOST_ROWS, max(MOST_CELLS // max(n_columns, 1), 200), MAX_ROWS)
    return np.linspace(0, n_rows - 1, min(n_rows, most)).round().astype(int)


def folds(n_rows: int, groups: Any = None) -> Any:
    """The fold of each row; rows of one group share it, where there are as many groups as folds."""
    import numpy as np

    rng = np.random.default_rng(0)
    names, codes = np.unique(np.zeros(n_rows) if groups is None else groups, return_inverse=True)
    if len(names) < FOLDS:
        return rng.permutation(n_rows) % FOLDS
    return (rng.permutation(len(names)) % FOLDS)[codes]


def of_all(X: pd.DataFrame, truth: Any, problem: Problem, fold: Any) -> Any:
    """Out-of-fold answers of gradient-boosted trees that see all columns.

    Parameters
    ----------
    X : DataFrame of shape (n_rows, n_features)
    truth : ndarray of shape (n_rows,)
        Class codes or numbers.
    problem : Problem
    fold : ndarray of int, shape (n_rows,)

    Returns
    -------
    ndarray of shape (n_rows,) or (n_rows, n_classes)
        Numbers, or probabilities of the classes.
    """
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    matrix = np.column_stack([as_numbers(X[name]) for name in X.columns])
    matrix[np.isinf(matrix)] = np.nan
    answers = _blank(truth, problem)
    options = {"max_iter": ITERATIONS, "early_stopping": False, "random_state": 0}
    with threadpool_limits(1):  # sums over several threads differ in their last digits
        for number in np.unique(fold):
            inside, outside = fold != number, fold == number
            columns = np.isfinite(matrix[inside]).any(axis=0)  # a column without a value is refused by its binning
            told = _told(truth[inside], problem)
            if len(np.unique(truth[inside])) < 2 or not columns.any():
                answers[outside] = told
            elif problem.task == "regression":
                model = HistGradientBoostingRegressor(**options).fit(matrix[inside][:, columns], truth[inside])
                answers[outside] = model.predict(matrix[outside][:, columns])
            else:
                model = HistGradientBoostingClassifier(**options).fit(matrix[inside][:, columns], truth[inside])
                answers[np.ix_(outside, model.classes_)] = model.predict_proba(matrix[outside][:, columns])
    return answers


def of_one(column: pd.Series[Any], truth: Any, problem: Problem, fold: Any) -> Any:
    """Out-of-fold answers from one column: the mean of each value, or of each leaf of a small tree for many numbers.

    A value that fewer than `LEAF_ROWS` rows have answers as all rows do; the others are drawn towards that by one row.

    Parameters
    ----------
    column : Series of shape (n_rows,)
    truth, problem, fold
        As for `of_all`.

    Returns
    -------
    ndarray of shape (n_rows,) or (n_rows, n_classes)
    """
    import numpy as np

    values = as_numbers(column)
    # Dense ranks: a tree reads 32-bit numbers, in which long numbers and times run together.
    ranks = np.unique(values, return_inverse=True)[1].astype(np.float64)
    by_value = kind_of(column) in {"text", "boolean"} or ranks.max() < LEAVES
    ranks[np.isnan(values)] = -1 if by_value else np.nan
    hot = truth[:, None].astype(float) if problem.task == "regression" else np.eye(len(problem.classes))[truth]
    answers = _blank(truth, problem)
    for number in np.unique(fold):
        inside, outside = fold != number, fold == number
        codes = ranks.astype(int) + 1 if by_value else _leaves(ranks, truth, inside, problem)
        width = codes.max() + 1
        size = np.bincount(codes[inside], minlength=width)
        total = np.column_stack([np.bincount(codes[inside], weights=one, minlength=width) for one in hot[inside].T])
        level = _told(truth[inside], problem)
        mean = np.where((size >= LEAF_ROWS)[:, None], (total + level) / (size + 1)[:, None], level)
        answers[outside] = mean[codes[outside]].reshape(answers[outside].shape)
    return answers


def explained(truth: Any, answers: Any, problem: Problem) -> float:
    """Share of the deviance that answers explain: R², or 1 - log loss / log loss of the class shares; at least 0.

    For classes this is McFadden's (1974) pseudo R², here of answers about other rows.

    Examples
    --------
    >>> import numpy as np
    >>> y, p = np.array([0, 1]), np.array([[0.9, 0.1], [0.1, 0.9]])
    >>> round(explained(y, p, Problem("binary", ("no", "yes"))), 3)
    0.848
    """
    import numpy as np

    if problem.task == "regression":
        spread = float(((truth - truth.mean()) ** 2).sum())
        return max(1 - float(((truth - answers) ** 2).sum()) / spread, 0.0) if spread > 0 else 0.0
    shares = np.bincount(truth) / len(truth)
    blind = -float(np.log(shares[truth]).mean())
    chosen = answers[np.arange(len(truth)), truth].clip(min=1e-15)
    return max(1 + float(np.log(chosen).mean()) / blind, 0.0) if blind > 0 else 0.0


def gini(truth: Any, answers: Any, problem: Problem) -> float:
    """2·AUC - 1 for two classes, R² for numbers; at least 0."""
    from penstock.stats.auc import roc_auc

    if problem.task == "regression":
        return explained(truth, answers, problem)
    return max(2 * roc_auc(truth, answers[:, 1]) - 1, 0.0) if 0 < truth.sum() < len(truth) else 0.0


def as_numbers(column: Any) -> Any:
    """A column as float64: numbers as they are, times and texts by their rank."""
    import numpy as np
    import pandas as pd

    kind = kind_of(column)
    if kind in {"number", "integer", "boolean"}:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    codes = pd.factorize(column if kind == "datetime" else column.astype(str).where(column.notna()), sort=True)[0]
    return np.where(codes < 0, np.nan, codes.astype(np.float64))


def _blank(truth: Any, problem: Problem) -> Any:
    import numpy as np

    return np.zeros(len(truth) if problem.task == "regression" else (len(truth), len(problem.classes)))


def _told(truth: Any, problem: Problem) -> Any:
    """What is answered about rows of which nothing is known."""
    import numpy as np

    if problem.task == "regression":
        return truth.mean()
    return np.bincount(truth, minlength=len(problem.classes)) / len(truth)


def _leaves(ranks: Any, truth: Any, inside: Any, problem: Problem) -> Any:
    """The leaf of each row in a tree that was grown on some of them."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    Tree = DecisionTreeClassifier if problem.task == "multiclass" else DecisionTreeRegressor
    tree = Tree(max_leaf_nodes=LEAVES, min_samples_leaf=LEAF_ROWS, random_state=0)
    return tree.fit(ranks[inside, None], truth[inside]).apply(ranks[:, None])
