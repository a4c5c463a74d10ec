"""Bring weights, groups and row numbers to the parts of an estimator that want them, through whatever stands around.

scikit-learn's metadata routing carries them, whatever the user's own setting; the requests are set on our clone and
forgotten after the fit, so that what is kept is what a plain fit gives.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.core.fit import Fit, can_stop
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.core.tree import parts_of
from penstock.errors import DeclarationError
from penstock.stages.guidance import Guidance, told
from penstock.stages.labels import are_numbers, takes_numbers_only
from penstock.stages.problem import Problem
from penstock.stages.rules import rule_of
from penstock.stages.weights import weights_of

if TYPE_CHECKING:
    import pandas as pd

AUTO_ROWS = 10_000
"""With `early_stopping="auto"` HistGradientBoosting stops early on more rows than this (scikit-learn 1.9)."""


@dataclass
class Guided:
    """An estimator ready to be fitted with more than X and y.

    Attributes
    ----------
    estimator : estimator
    params : dict
        What `fit` is given beside X and y.
    report : dict
        What was passed where, as plain JSON; empty where nothing was.
    requests : bool
        Whether metadata requests on the estimator are ours alone, to be forgotten after the fit.
    around : bool
        Whether something of ours may stand in the estimator, to be taken away after the fit.
    """

    estimator: Any
    params: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    requests: bool = False
    around: bool = False


def guide(
    estimator: Any,
    train: pd.DataFrame,
    problem: Problem,
    *,
    target: Target,
    roles: Roles,
    split: Split,
    seed: int,
    fit: Fit | None = None,
) -> Guided:
    """Make a seeded clone ready for weights, groups, sampling and early stopping.

    Parameters
    ----------
    estimator : estimator
        Changed in place.
    train : DataFrame
        The rows that it will be fitted on.
    problem, target, roles, split, seed
    fit : Fit, optional

    Raises
    ------
    DeclarationError
        A part cannot take weights, a splitter wants groups that are not declared, or rows to stop by are wanted
        and not declared: told before anything is fitted.
    DataError
        From `weights_of`.
    """
    weight = weights_of(train, roles)
    guidance = None
    if fit is not None:
        guidance = Guidance(train, fit, target=target, roles=roles, split=split, seed=seed, task=problem.task)
    groups = _groups(estimator, train, roles)
    _check_stopping(estimator, fit)
    notes = _inner_stopping(estimator, fit, rule_of(roles, split), len(train))
    _keep_the_folder_clean(estimator)
    weighted = weight is not None or (guidance is not None and guidance.weighs)
    report = _told(fit, roles, weight, groups, notes)
    numbered = problem.task != "regression" and not are_numbers(problem.classes)
    numbered = numbered and any(takes_numbers_only(part) for _, part in parts_of(estimator))
    if not weighted and guidance is None and groups is None and not numbered:
        return Guided(estimator, report=report)
    ours = not any("_metadata_request" in getattr(part, "__dict__", {}) for _, part in parts_of(estimator))
    router = _Router(weighted, weight is not None, guidance, groups is not None, numbered)
    estimator = router.run(estimator)
    params: dict[str, Any] = {}
    if weight is not None:
        params["sample_weight"] = weight
        report["weighted"] = router.weighted
    if router.row_numbers:
        params["rows"] = _positions(len(train))
    if groups is not None:
        params["groups"] = groups
    return Guided(estimator, params, report, ours, around=True)


def _positions(n: int) -> Any:
    import numpy as np

    return np.arange(n)


def _groups(estimator: Any, train: pd.DataFrame, roles: Roles) -> Any:
    """Groups for splitters that the user gave and that want them; None where there is no such splitter."""
    wanting = []
    for path, part in parts_of(estimator, "model"):
        if callable(getattr(part, "split", None)) and hasattr(part, "get_n_splits") and _wants_groups(part):
            wanting.append((path, type(part).__name__))
    if not wanting:
        return None
    if not roles.groups:
        path, name = wanting[0]
        raise DeclarationError(
            f"{path}: {name} divides rows by groups, and the workflow declares none",
            hint="declare groups=, the column that names the entity",
        )
    columns = list(roles.groups)
    if len(columns) == 1:
        return train[columns[0]].to_numpy()
    return train.groupby(columns, sort=True, dropna=False).ngroup().to_numpy()


def _wants_groups(splitter: Any) -> bool:
    return any(base.__name__ == "GroupsConsumerMixin" for base in type(splitter).__mro__)


def _check_stopping(estimator: Any, fit: Fit | None) -> None:
    """XGBoost with a patience and no rows to stop by raises in words that name none of our fields."""
    if fit is not None and fit.early_stopping:
        return
    for path, part in parts_of(estimator, "model"):
        kinds = {base.__name__ for base in getattr(type(part), "__mro__", ())}
        if "XGBModel" in kinds and not isinstance(part, type) and part.get_params().get("early_stopping_rounds"):
            raise DeclarationError(
                f"{path}: early_stopping_rounds needs rows to stop by, and none are declared",
                hint="add fit=ps.Fit(early_stopping=0.1): a tenth of each fit's rows, cut by the split's rule",
            )


def _inner_stopping(estimator: Any, fit: Fit | None, rule: str, n_rows: int) -> list[str]:
    """Early stopping of an estimator's own, by rows that it draws at random where the split does not."""
    if rule not in ("time", "groups"):
        return []
    found = []
    for path, part in parts_of(estimator, "model"):
        if isinstance(part, type) or not callable(getattr(part, "get_params", None)):
            continue
        if fit is not None and fit.early_stopping and can_stop(part):
            continue
        params = part.get_params(deep=False)
        asked = params.get("early_stopping", params.get("n_iter_no_change"))
        stops = n_rows > AUTO_ROWS if asked == "auto" else asked not in (None, False)
        if "validation_fraction" in params and stops:
            found.append(
                f"{path}: {type(part).__name__} stops by rows that it draws at random, while the split is by {rule}; "
                "fit=ps.Fit(early_stopping=0.1) cuts them by the split's rule where the estimator can take them"
            )
    return found


def _keep_the_folder_clean(estimator: Any) -> None:
    """CatBoost writes a folder of logs where it runs, unless it is told not to."""
    for _, part in parts_of(estimator):
        kinds = {base.__name__ for base in getattr(type(part), "__mro__", ())}
        if "_CatBoostBase" in kinds and part.get_params().get("allow_writing_files") is None:
            part.set_params(allow_writing_files=False)


def _told(fit: Fit | None, roles: Roles, weight: Any, groups: Any, notes: list[str]) -> dict[str, Any]:
    report: dict[str, Any] = {} if fit is None else told(fit)
    if weight is not None:
        report["weight"] = roles.weight
    if groups is not None:
        report["groups"] = list(roles.groups)
    if notes:
        report["notes"] = notes
    return report


class _Router:
    """Sets requests on every part and puts `Guided` around what needs it; must run before the fit.

    Parameters
    ----------
    weighted : bool
        Learners are given weights, from the table or from sampling.
    declared : bool
        The table has weights: they are carried from the outside, and scorers take them too.
    guidance : Guidance or None
    groups : bool
        A splitter inside wants groups.
    numbered : bool
        What takes classes as numbers only is given them so.
    """

    def __init__(self, weighted: bool, declared: bool, guidance: Guidance | None, groups: bool, numbered: bool) -> None:
        self.takes, self.declared, self.guidance, self.groups = weighted, declared, guidance, groups
        self.numbered = numbered
        self.weighted: list[str] = []
        self.row_numbers = False
        self.faults: list[str] = []

    def run(self, estimator: Any) -> Any:
        """The estimator with requests set.

        Raises
        ------
        DeclarationError
        """
        import sklearn

        with sklearn.config_context(enable_metadata_routing=True):
            estimator = self._learner(estimator, "model")
            if self.faults:
                raise DeclarationError(self.faults, hint="leave weight= (or sample= by class) out, or change that part")
            if self.declared:
                for _, part in list(parts_of(estimator)):
                    self._scorers(part)
        return estimator

    # ── what learns ─────────────────────────────────────────────────────────────────────────────────────────

    def _learner(self, estimator: Any, path: str) -> Any:
        """Treat one learner, pipeline or estimator around others; give what shall stand in its place."""
        from penstock.stages.guided import is_around, last_of, routes, steps_of

        last, chain = last_of(estimator), steps_of(estimator) is not None
        if is_around(last):
            return self._chain(estimator, path, None) if chain else self._meta(estimator, path)
        self._check(last, path if last is estimator else f"{path}.{_name_of_last(estimator)}")
        divides = self.guidance is not None and (self.guidance.fit.sample is not None or can_stop(last))
        self._note_weighted(path)
        if chain or divides or not routes(last) or (self.numbered and takes_numbers_only(last)):
            return self._chain(estimator, path, self.guidance if divides else None)
        self._request(estimator, weight=True)
        return estimator

    def _note_weighted(self, path: str) -> None:
        if self.takes:
            self.weighted.append(path)

    def _chain(self, estimator: Any, path: str, guidance: Guidance | None) -> Any:
        """Put `Guided` around a pipeline, or around a learner that routing cannot reach."""
        from penstock.stages.guided import Guided as Around
        from penstock.stages.guided import is_around, steps_of

        here, inner = estimator, None
        while (steps := steps_of(here)) is not None:
            inner = here
            for _, step in steps[:-1]:
                self._transform(step)
            if self.takes and any(hasattr(step, "fit_resample") for _, step in steps[:-1]):
                self.faults.append(f"{path}: a step takes rows away or makes new ones, and weights would not follow")
            here = steps[-1][1]
        names = {"sample_weight"} if self.declared else set()
        if guidance is not None:
            names.add("rows")
            self.row_numbers = True
        if inner is not None and is_around(here):
            before, self.row_numbers = self.row_numbers, False
            inner.steps[-1] = (inner.steps[-1][0], self._meta(here, f"{path}.{_name_of_last(estimator)}"))
            names |= {"rows"} if self.row_numbers else set()
            names |= {"groups"} if self.groups and _consumes(inner.steps[-1][1], "groups") else set()
            self.row_numbers = self.row_numbers or before
        around = Around(estimator, guidance)
        around.set_fit_request(**{name: name in names for name in ("sample_weight", "rows", "groups")})
        around.set_score_request(sample_weight=self.declared)
        return around

    def _meta(self, estimator: Any, path: str) -> Any:
        """An estimator around others: search, stack, vote, calibrator, one-vs-rest, transformed target."""
        from penstock.stages.guided import PARTS

        self._defaults(estimator)
        params = estimator.get_params(deep=False)
        changes: dict[str, Any] = {}
        for name in PARTS:
            part = params.get(name)
            if isinstance(part, list):
                changes[name] = [self._named(one, path) for one in part]
            elif callable(getattr(part, "fit", None)) and not isinstance(part, type):
                changes[name] = self._learner(part, f"{path}.{name}")
        if callable(getattr(params.get("transformer"), "fit", None)):
            self._transform(params["transformer"])
        if changes:
            estimator.set_params(**changes)
        else:
            self._note_weighted(path)
        self._request(estimator, weight=True)
        if self.declared and not self.faults and not _consumes(estimator, "sample_weight"):
            self.faults.append(f"{path}: {type(estimator).__name__} hands weights on to nothing inside it")
        return estimator

    def _named(self, one: Any, path: str) -> Any:
        if isinstance(one, tuple) and callable(getattr(one[1], "fit", None)):
            return (one[0], self._learner(one[1], f"{path}.{one[0]}"), *one[2:])
        return one

    def _defaults(self, estimator: Any) -> None:
        """A default that only the fit would make cannot be asked for weights: it is made now, the same."""
        kind = type(estimator).__name__
        params = estimator.get_params(deep=False)
        if not self.takes:
            return
        from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        if kind.startswith("Stacking") and params.get("final_estimator") is None:
            estimator.set_params(final_estimator=LogisticRegression() if kind.endswith("Classifier") else RidgeCV())
        elif kind == "TransformedTargetRegressor" and params.get("regressor") is None:
            estimator.set_params(regressor=LinearRegression())
        elif kind.startswith("Bagging") and params.get("estimator") is None:
            tree = DecisionTreeClassifier() if kind.endswith("Classifier") else DecisionTreeRegressor()
            estimator.set_params(estimator=tree)

    def _check(self, last: Any, path: str) -> None:
        """Refuse what cannot take weights."""
        if not self.takes or type(last).__name__ == "FrozenEstimator":
            return
        fit = getattr(last, "fit", None)
        if fit is None or "sample_weight" not in inspect.signature(fit).parameters:
            self.faults.append(f"{path}: {type(last).__name__} takes no weights of rows (its fit has no sample_weight)")

    # ── requests ────────────────────────────────────────────────────────────────────────────────────────────

    def _transform(self, step: Any) -> None:
        """What only prepares is not weighted, unless its owner asked for it."""
        for _, part in parts_of(step):
            if not isinstance(part, type) and callable(getattr(part, "fit", None)):
                self._request(part, weight=False)

    def _request(self, estimator: Any, *, weight: bool) -> None:
        """Set what the owner left open."""
        if not self.declared or not hasattr(estimator, "get_metadata_routing"):
            return
        own = getattr(estimator, "_get_metadata_request", None)
        for method in ("fit", "score"):
            setter = getattr(estimator, f"set_{method}_request", None)
            if setter is None or own is None:
                continue
            requests = getattr(own(), method).requests
            if "sample_weight" in requests and requests["sample_weight"] is None:
                setter(sample_weight=weight)

    def _scorers(self, part: Any) -> None:
        """A search optimises what will be judged: its scorers take the weights that they can take."""
        if isinstance(part, type) or not callable(getattr(part, "get_params", None)):
            return
        params = part.get_params(deep=False)
        scoring = params.get("scoring")
        if scoring is not None and "cv" in params:  # elsewhere the word means something else: "loss" of a boosting
            part.set_params(scoring=_weighing(scoring))


def _weighing(scoring: Any) -> Any:
    """Scorers that ask for weights, in the form in which they were given."""
    from sklearn.metrics import get_scorer

    if isinstance(scoring, list | tuple | set):
        return {name: _weighing(name) for name in scoring}
    if isinstance(scoring, dict):
        return {name: _weighing(one) for name, one in scoring.items()}
    scorer = get_scorer(scoring) if isinstance(scoring, str) else scoring
    if not hasattr(scorer, "set_score_request") or not hasattr(scorer, "_accept_sample_weight"):
        return scorer
    if not scorer._accept_sample_weight():  # noqa: SLF001  the scorer's own way to tell
        return scorer
    if scorer._get_metadata_request().score.requests.get("sample_weight") is None:  # noqa: SLF001
        scorer.set_score_request(sample_weight=True)
    return scorer


def _name_of_last(pipeline: Any) -> str:
    """Names of the last steps, through pipelines of pipelines: "model" or "outer.inner"."""
    from penstock.stages.guided import steps_of

    names = []
    while (steps := steps_of(pipeline)) is not None:
        names.append(steps[-1][0])
        pipeline = steps[-1][1]
    return ".".join(names)


def _consumes(estimator: Any, name: str) -> bool:
    from sklearn.utils.metadata_routing import get_routing_for_object

    return name in get_routing_for_object(estimator).consumes("fit", [name])
