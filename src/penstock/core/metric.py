"""Metrics of the user's own: functions of stored predictions, and scikit-learn's scorer objects."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from penstock.core.gate import AtMost, Rule
from penstock.core.names import TASKS, listed
from penstock.errors import DeclarationError

NEEDS = ("label", "score", "proba", "value")
"""What a metric may read of the predictions."""
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
WEIGHT = "sample_weight"


@dataclass(frozen=True, eq=False, repr=False)
class Metric:
    """A metric that the user declared; made by `metric`, or of a scorer object in `metrics=`.

    Attributes
    ----------
    function : callable
        The function, or scikit-learn's scorer object.
    name : str
        As people say it.
    greater_is_better : bool
    needs : str
        What it reads of the predictions, one of `NEEDS`; "" for labels of a classifier and values of a regressor.
    columns : tuple of str
        Columns of the table that it is given beside them.
    """

    function: Any
    name: str
    greater_is_better: bool = True
    needs: str = ""
    columns: tuple[str, ...] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself, so that it can be tested as it is."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Metric {self.name}>"

    @property
    def scorer(self) -> str:
        """Its name among scorers, where greater is always better: an error has `neg_` before it."""
        return self.name if self.greater_is_better else f"neg_{self.name}"

    @property
    def is_scorer(self) -> bool:
        """Whether it is a scorer object of scikit-learn's, which is asked through the predictions."""
        return is_scorer(self.function)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks whose answers it can read."""
        if self.needs == "value":
            return ("regression",)
        if self.needs == "":
            return TASKS
        return ("binary",) if self.needs == "score" and not self.is_scorer else ("binary", "multiclass")

    @property
    def takes_weight(self) -> bool:
        """Whether weights of rows can be given to it, as `sample_weight`."""
        function = self.function._score_func if self.is_scorer else self.function  # noqa: SLF001  scikit-learn's own place
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return False
        return any(one.name == WEIGHT or one.kind is one.VAR_KEYWORD for one in parameters)


def metric(
    function: Callable[..., float] | None = None,
    /,
    *,
    greater_is_better: bool = True,
    needs: str | None = None,
    columns: str | Iterable[str] = (),
    name: str | None = None,
) -> Any:
    """Mark a function as a metric of stored predictions.

    It is called with NumPy arrays, never with the model, so that intervals cost no further prediction:
    `function(y_true, y_pred, *, amount, sample_weight=None) -> float`. `y_true` has the target's own labels (or
    values). Rows are resampled for its interval, columns and weights with them. A `ValueError` or an arithmetic error
    on a resample or a slice counts as "no value there"; on all rows it is an error.

    Parameters
    ----------
    function : callable
        Or a scorer object, to give it another name.
    greater_is_better : bool, default=True
        False for errors and costs; people see them as positive numbers, and gates say `AtMost`.
    needs : {"label", "score", "proba", "value"}, optional
        What `y_pred` is. "label": the predicted labels. "score" (two classes): what ranks the rows, the model's
        decision values or else the positive class's probability. "proba": the positive class's probability, of shape
        (n,); for several classes of shape (n, n_classes), classes sorted. "value": the number that a regressor
        predicts. By default labels, or values for a regressor.
    columns : str or list of str, optional
        Columns of the table that it is given by keyword, columns with a role and dropped ones too.
    name : str, optional
        The function's by default.

    Returns
    -------
    Metric

    Raises
    ------
    DeclarationError
        If the function cannot be called so.

    Examples
    --------
    >>> @metric(greater_is_better=False, columns=["amount"])
    ... def cost(y_true, y_pred, *, amount):
    ...     return float((amount * (y_true != y_pred)).mean())
    >>> cost
    <Metric cost>
    >>> import numpy as np
    >>> cost(np.array([1, 0]), np.array([1, 1]), amount=np.array([5.0, 3.0]))
    1.5
    """
    beside = listed(columns)
    if function is None:
        return lambda marked: metric(
            marked, greater_is_better=greater_is_better, needs=needs, columns=beside, name=name
        )
    if is_scorer(function):
        scorer = metric_of(function)
        made = dataclasses.replace(scorer, name=name or scorer.name)
        given = {"greater_is_better": not greater_is_better, "needs": needs, "columns": beside}
        faults = [f"metric {made.name}: {word}= says what a scorer object says itself" for word in given if given[word]]
    else:
        called = str(name or getattr(function, "__name__", "?"))
        made = Metric(function, called, greater_is_better, needs or "", beside)
        faults = _faults(made)
    if faults:
        raise DeclarationError(faults)
    return made


def _faults(made: Metric) -> list[str]:
    """What is wrong with a metric, before any prediction is there to try it on."""
    where = f"metric {made.name}"
    if not callable(made.function) or not hasattr(made.function, "__qualname__"):
        return [f"{where}: {repr(made.function)[:60]} is no function; mark one with @ps.metric"]
    faults = []
    if not made.name.isidentifier() or made.name.startswith("neg_"):
        faults.append(f"{where}: the name must be a word, and not begin with neg_; give name=")
    if made.needs and made.needs not in NEEDS:
        faults.append(f"{where}: needs={made.needs!r}: one of {', '.join(NEEDS)}")
    try:
        parameters = inspect.signature(made.function).parameters.values()
    except (TypeError, ValueError):  # some of what is written in C does not tell
        return [f"{where}: it does not tell its parameters; call it in a function of your own"]
    if sum(one.kind in POSITIONAL for one in parameters) < 2 and not any(
        one.kind is one.VAR_POSITIONAL for one in parameters
    ):
        faults.append(f"{where}: it must take y_true and y_pred")
    rest = list(parameters)[2:]
    takes = {one.name for one in rest if one.kind is not one.POSITIONAL_ONLY}
    if not any(one.kind is one.VAR_KEYWORD for one in parameters):
        faults += [
            f"{where}: columns= names {name!r}, which is no parameter" for name in made.columns if name not in takes
        ]
    needed = [
        one.name for one in rest if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]
    faults += [
        f"{where}: nothing is given for its parameter {name!r}; name the column in columns="
        for name in needed
        if name not in (*made.columns, WEIGHT)
    ]
    return faults


def is_scorer(value: Any) -> bool:
    """Whether a value is a scorer object, as `sklearn.metrics.make_scorer` makes it."""
    return all(hasattr(value, name) for name in ("_score_func", "_sign", "_kwargs", "_response_method"))


def metric_of(scorer: Any) -> Metric:
    """A scorer object as a metric: named by its function and what that is given.

    Examples
    --------
    >>> from sklearn.metrics import fbeta_score, make_scorer
    >>> metric_of(make_scorer(fbeta_score, beta=2)).name
    'fbeta_score(beta=2)'
    """
    given = ", ".join(f"{name}={value!r}" for name, value in sorted(scorer._kwargs.items()))  # noqa: SLF001
    function = getattr(scorer._score_func, "func", scorer._score_func)  # noqa: SLF001  a partial has no name
    name = getattr(function, "__name__", type(function).__name__) + (f"({given})" if given else "")
    asked = scorer._response_method  # noqa: SLF001
    asked = (asked,) if isinstance(asked, str) else tuple(asked)
    needs = "" if asked == ("predict",) else "proba" if asked == ("predict_proba",) else "score"
    return Metric(scorer, name, scorer._sign > 0, needs)  # noqa: SLF001


def scorer_names(metrics: Iterable[Any]) -> tuple[str, ...]:
    """Scorer names of declared metrics: a name stands for itself.

    Examples
    --------
    >>> scorer_names(["roc_auc", Metric(abs, "cost", greater_is_better=False)])
    ('roc_auc', 'neg_cost')
    """
    return tuple(one.scorer if isinstance(one, Metric) else one for one in metrics)


def own_metrics(metrics: Iterable[Any], rules: Iterable[Any], decide: Any = None) -> tuple[Metric, ...]:
    """Metrics of the user's own, of the declaration, its rules and its threshold, each once."""
    found = [*metrics, *(getattr(rule, "metric", None) for rule in rules)]
    found += [getattr(decide, "maximise", None), getattr(decide, "minimise", None)]
    named = {one.scorer: one for one in found if isinstance(one, Metric)}
    return tuple(named.values())


def named_rules(rules: Iterable[Rule], own: Iterable[Metric]) -> tuple[Rule, ...]:
    """Rules whose metrics are scorer names; that of `AtMost` keeps the name by which people call an error."""
    people = {one.name: one for one in own}
    found: list[Rule] = []
    for rule in rules:
        given: Any = getattr(rule, "metric", None)
        if given is None:
            found.append(rule)
            continue
        one = given if isinstance(given, Metric) else people.get(given)
        name = given if one is None else one.name if isinstance(rule, AtMost) else one.scorer
        changed: Any = rule
        found.append(rule if name == given else dataclasses.replace(changed, metric=name))
    return tuple(found)
