"""Columns that are probably known only after the event. Training rows only: this is the part that looks at the target.

What statistics tell apart (copies, re-codings, exact sums, a missing cell that tells the class) is taken out. What
they cannot (an honest strong predictor looks the same) is taken out where the name says so too, and told otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.stages.betrayal import betrayals
from penstock.stages.moments import sounds_late
from penstock.stages.problem import Problem
from penstock.stages.profiles import kind_of
from penstock.stages.roles import LIKELY, SURE, UNSURE, Reason, words_of

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS, MOST_CELLS = 20_000, 1_000_000
"""Rows and cells on which skills are measured."""
BINS = 32
FOLDS = 3
STRONG = 0.5
"""A column alone with this share of the model's skill is taken out if its name speaks of what comes after."""
ALMOST_ALL = 0.9
"""A column alone with this share is told of, whatever its name."""
WORTH_TELLING = 0.5
"""Least skill of the model, and of a column in question."""
STATE_ROWS = 20
MOST_BLOCKS = 10


def late_columns(X: pd.DataFrame, y: pd.Series[Any], problem: Problem) -> tuple[list[Reason], list[Reason]]:
    """Columns to keep from the model because they tell what has happened.

    Flagged columns are taken out and the search is repeated until it is quiet: a strong leak masks weaker ones.

    Parameters
    ----------
    X : DataFrame of shape (n_rows, n_features)
        Training rows, only what the model would see.
    y : Series of shape (n_rows,)
    problem : Problem

    Returns
    -------
    after : list of Reason
        Topic "after": to be hidden.
    doubts : list of Reason
        Topic "doubt": left in, to be looked at.
    """
    after: list[Reason] = []
    while X.shape[1]:
        found = _betrayed(X, y, problem) or _told_by_absence(X, y, problem)
        if not found:
            break
        after += found
        X = X.drop(columns=[one.choice for one in found])
    named, doubts = _too_good(X, y, problem)
    return after + named, doubts


def _betrayed(X: pd.DataFrame, y: pd.Series[Any], problem: Problem) -> list[Reason]:
    found: dict[str, Reason] = {}
    for one in betrayals(X, y, problem):
        names = [one.column] if one.column in X.columns else one.column.split(" + ")
        for name in names:
            if name in X.columns:
                found.setdefault(name, Reason("after", name, one.what, SURE))
    return list(found.values())


def _told_by_absence(X: pd.DataFrame, y: pd.Series[Any], problem: Problem) -> list[Reason]:
    """Columns whose missing cells (or whose present ones) all belong to one class."""
    import numpy as np

    if problem.task == "regression":
        return []
    truth = problem.encode(y)
    shares = np.bincount(truth, minlength=len(problem.classes)) / max(len(truth), 1)
    found = []
    for name in X.columns:
        missing = X[name].isna().to_numpy()
        for state, rows in (("missing", missing), ("present", ~missing)):
            n = int(rows.sum())
            if not STATE_ROWS <= n <= len(X) - STATE_ROWS:
                continue
            classes = np.unique(truth[rows])
            # By chance all n rows are of this class with probability share**n.
            if len(classes) == 1 and n * np.log(max(shares[classes[0]], 1e-300)) < np.log(1e-6):
                label = problem.classes[classes[0]]
                why = f"where it is {state}, {problem.column} is {label!r} in all {n:,} rows"
                found.append(Reason("after", str(name), why, LIKELY))
                break
    return found


def _too_good(X: pd.DataFrame, y: pd.Series[Any], problem: Problem) -> tuple[list[Reason], list[Reason]]:
    """Columns that alone have much of what the whole model knows."""
    if problem.task == "multiclass" or X.shape[1] < 2 or len(X) < 200:
        return [], []
    X, truth = _thinned(X, problem.encode(y))
    whole = _model_skill(X, truth, problem)
    if whole < WORTH_TELLING:
        return [], []
    after, doubts = [], []
    shared = {word for word in words_of(problem.column) if len(word) > 3}
    for name in X.columns:
        alone = _skill_alone(X[name], truth, problem)
        suspect = sounds_late(str(name)) or bool(shared & set(words_of(str(name))))
        told = f"alone it has {100 * min(alone / whole, 1):.0f} % of the skill of a model with all columns"
        if suspect and alone >= STRONG * whole:
            after.append(Reason("after", str(name), f"{told}, and its name speaks of what comes after", UNSURE))
        elif alone >= max(ALMOST_ALL * whole, WORTH_TELLING):
            whose = f"{100 * ALMOST_ALL:.0f} % or more of the skill of a model with all columns"
            why = f"alone it has {whose}: is it known when the model is asked?"
            doubts.append(Reason("doubt", str(name), why, UNSURE))
    return after, doubts


def _thinned(X: pd.DataFrame, truth: Any) -> tuple[pd.DataFrame, Any]:
    import numpy as np

    most = min(MOST_ROWS, max(MOST_CELLS // X.shape[1], 200))
    if len(X) <= most:
        return X, truth
    keep = np.linspace(0, len(X) - 1, most).round().astype(int)
    return X.iloc[keep], truth[keep]


def _folds(n: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).permutation(n) % FOLDS


def _model_skill(X: pd.DataFrame, truth: Any, problem: Problem) -> float:
    """Out-of-fold skill of a boosted model: 2·AUC - 1 (Gini), or R²."""
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    number_wanted = problem.task == "regression"
    Model = HistGradientBoostingRegressor if number_wanted else HistGradientBoostingClassifier
    matrix, fold = np.column_stack([_numbers(X[name]) for name in X.columns]), _folds(len(X))
    answers = np.empty(len(X))
    with threadpool_limits(1):  # sums over several threads differ in their last digits
        for number in range(FOLDS):
            inside = fold != number
            model = Model(max_iter=60, random_state=0).fit(matrix[inside], truth[inside])
            answer = model.predict if number_wanted else model.decision_function
            answers[~inside] = answer(matrix[~inside])
    return _skill(truth, answers, problem)


def _numbers(column: Any) -> Any:
    """A column as float64: numbers and times as they are, the rest by the rank of their text."""
    import numpy as np
    import pandas as pd

    kind = kind_of(column)
    if kind in {"number", "integer", "boolean"}:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    codes = pd.factorize(column if kind == "datetime" else column.astype(str).where(column.notna()), sort=True)[0]
    return np.where(codes < 0, np.nan, codes.astype(np.float64))


def _skill_alone(column: Any, truth: Any, problem: Problem) -> float:
    """Out-of-fold skill of the mean target in bins of one column (of as many rows each), or by its words."""
    import numpy as np
    import pandas as pd

    values = _numbers(column)
    if kind_of(column) not in {"text", "boolean"} and len(np.unique(values)) > BINS:
        values = np.searchsorted(np.nanquantile(values, np.linspace(0, 1, BINS + 1)[1:-1]), values)
    codes = pd.factorize(values)[0] + 1
    fold, answers = _folds(len(truth)), np.empty(len(truth))
    for number in range(FOLDS):
        inside = fold != number
        total = np.bincount(codes[inside], weights=truth[inside], minlength=codes.max() + 1)
        size = np.bincount(codes[inside], minlength=codes.max() + 1)
        mean = truth[inside].mean()
        answers[~inside] = ((total + mean) / (size + 1))[codes[~inside]]
    return _skill(truth, answers, problem)


def _skill(truth: Any, answers: Any, problem: Problem) -> float:
    from penstock.stats.auc import roc_auc

    if problem.task != "regression":
        return max(2 * roc_auc(truth, answers) - 1, 0.0) if 0 < truth.sum() < len(truth) else 0.0
    spread = float(((truth - truth.mean()) ** 2).sum())
    return max(1 - float(((truth - answers) ** 2).sum()) / spread, 0.0) if spread > 0 else 0.0


def drifts(y: pd.Series[Any], problem: Problem) -> Reason | None:
    """Whether the target moves along the file: its rows may stand in the order of time.

    A chi-square test (classes) or an analysis of variance (numbers) over ten blocks of rows, told where p < 1e-6 and
    the blocks' levels go one way (rank correlation with their place of 0.8 or more).

    Parameters
    ----------
    y : Series of shape (n_rows,)
        Of training rows, in the order of the file.
    problem : Problem
    """
    import numpy as np
    from scipy import stats

    truth = problem.encode(y)
    if len(truth) < MOST_BLOCKS * 50:
        return None
    blocks = np.array_split(truth, MOST_BLOCKS)
    if problem.task == "regression":
        p, levels = stats.f_oneway(*blocks).pvalue, [float(block.mean()) for block in blocks]
        ends = [f"mean {level:.4g}" for level in (levels[0], levels[-1])]
    else:
        p = stats.chi2_contingency(
            [np.bincount(block, minlength=len(problem.classes)) + 0.5 for block in blocks]
        ).pvalue
        code = 1 if problem.task == "binary" else int(np.bincount(truth).argmax())
        levels = [float((block == code).mean()) for block in blocks]
        ends = [f"{100 * level:.1f} %" for level in (levels[0], levels[-1])]
    one_way = abs(float(stats.spearmanr(levels, range(MOST_BLOCKS)).statistic)) >= 0.8
    if not (p < 1e-6 and one_way):
        return None
    what = problem.column if problem.task == "regression" else f"{problem.column} = {_label(problem)}"
    why = f"{what} goes from {ends[0]} in the first tenth of the file to {ends[1]} in the last: if its rows stand in "
    return Reason("order", "file", why + "order of time, give them a time column and hold out the newest", UNSURE)


def _label(problem: Problem) -> str:
    return repr(problem.positive) if problem.task == "binary" else "its commonest class"
