"""A search that was declared without `scoring=` chooses by what will be judged: the workflow's first metric."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.core.metric import Metric
from penstock.core.search import searches_in
from penstock.core.target import Roles
from penstock.errors import StepOutputError
from penstock.stages import scoring
from penstock.stages.predicted import predict
from penstock.stages.problem import Problem

if TYPE_CHECKING:
    import pandas as pd


@dataclass(eq=False, repr=False)
class FirstMetric:
    """A scorer: the metric of a fitted candidate's answers, with the weights and columns of the rows that judge it.

    Parameters
    ----------
    name : str
        Scorer name.
    problem : Problem
        Which knows the user's own metrics.
    weight : str or None
        Column of the weights.
    table : DataFrame
        The training rows, with the weight and the columns that the metric reads; rows are found by their index.
    truth : Series
        Their target, to be sure that they are the rows.
    """

    name: str
    problem: Problem
    weight: str | None
    table: Any
    truth: Any
    error: Exception | None = field(default=None, init=False)

    def __deepcopy__(self, _memo: Any) -> FirstMetric:
        return self  # a clone of the search judges by the same rows

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        """Greater is better; NaN where the metric has no value on these rows.

        Parameters
        ----------
        estimator : fitted estimator
        X : frame or matrix of shape (n_rows, n_features)
        y : Series of shape (n_rows,)

        Raises
        ------
        Exception
            Whatever a metric of the user's own raises; scikit-learn makes a score of NaN of it.
        """
        try:
            answers = predict(estimator, X, y, self.problem, only=scoring.response(self.name, self.problem))
            if self.weight is not None or len(self.table.columns):
                answers = answers.beside(self._rows(y), self.weight)
            return scoring.figure(self.name, answers)
        except Exception as error:
            self.error = error
            raise

    def _rows(self, y: Any) -> Any:
        index = getattr(y, "index", None)
        if index is None or not index.isin(self.table.index).all() or not self.truth.loc[index].equals(y):
            raise StepOutputError(f"a search by {self.name!r} is asked to judge rows that are no rows of the table")
        return self.table.loc[index]


def judge_by_first(
    estimator: Any,
    rows: pd.DataFrame,
    problem: Problem,
    *,
    roles: Roles,
    metrics: tuple[str, ...],
    own: tuple[Metric, ...],
) -> FirstMetric | None:
    """Give searches that were declared without `scoring=` the first metric; changed in place, so give a clone.

    Parameters
    ----------
    estimator : unfitted estimator
    rows : DataFrame of shape (n_rows, n_columns)
        What it will be fitted on; its index must be unique.
    problem : Problem
    roles : Roles
    metrics : tuple of str
        Scorer names, the first decides; empty for the task's default.
    own : tuple of Metric
        Metrics of the user's own that `metrics` names.

    Returns
    -------
    FirstMetric or None
        None where there is no such search.
    """
    places = [search for search, place in searches_in(estimator) if not place.why_not]
    if not places:
        return None
    asked = problem.judged_by(one for one in own if one.scorer in metrics[:1])
    has_proba = all(hasattr(search, "predict_proba") for search in places)
    name = metrics[0] if metrics else scoring.chosen((), asked, has_proba=has_proba)[0]
    beside = [name for metric in asked.own.values() for name in metric.columns]
    beside += [roles.weight] if roles.weight is not None else []
    by = FirstMetric(name, asked, roles.weight, rows[list(dict.fromkeys(beside))], rows[problem.column])
    for search in places:
        search.set_params(scoring=by)
    return by


def forget(fitted: Any, by: FirstMetric) -> None:
    """Leave the searches as scikit-learn's own fit would: with no scorer of ours in them.

    Parameters
    ----------
    fitted : estimator
        Changed in place.
    by : FirstMetric

    Raises
    ------
    Exception
        What the metric raised, where it gave no candidate of a search a score.
    """
    from sklearn.metrics import check_scoring

    from penstock.stages.guided import objects_in

    for value in objects_in(fitted):
        if isinstance(getattr(value, "scoring", None), FirstMetric):
            value.scoring = None
            if hasattr(value, "scorer_"):
                value.scorer_ = check_scoring(value.estimator)
    if by.error is not None:
        by.error.add_note(f"while a search chose by {scoring.shown_name(by.name)}, the workflow's first metric")
        raise by.error
