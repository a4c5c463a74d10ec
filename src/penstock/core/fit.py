"""What one would otherwise pass to `fit` by hand: early stopping and sampling of the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.core.units import is_number

STOPPERS = ("XGBModel", "LGBMModel", "CatBoost", "BaseHistGradientBoosting")
"""Base classes of the estimators that stop by rows that they are given."""
MOST_HELD = 0.5
"""A larger share for early stopping would leave less to learn from than to stop by."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How the training rows are used inside every fit, those of a search's folds too.

    Parameters
    ----------
    early_stopping : float, optional
        Share of the rows of each fit that boosting stops by (XGBoost, LightGBM, CatBoost, HistGradientBoosting).
        They are cut by the split's own rule (the newest; whole groups; a hash of the key), transformed by
        what was fitted on the other rows, and never learned from.
    rounds : int, default=50
        Rounds without improvement after which it stops, where the estimator does not say itself.
    sample : float or dict, optional
        Share of the training rows to learn from, or one share a class, as `{0: 0.05, 1: 1.0}`; classes that are
        not named are kept whole. Rows that stay stand for those that were left out: each weighs one by its
        share, so probabilities need no correction. Rows that judge are never sampled.

    Examples
    --------
    >>> Fit(early_stopping=0.1).rounds
    50
    """

    early_stopping: float | None = None
    rounds: int = 50
    sample: float | Mapping[Any, float] | None = None


def faults_of(fit: Any) -> list[str]:
    """What is wrong with a workflow's `fit=`, as sentences.

    Examples
    --------
    >>> faults_of(Fit(early_stopping=1.5))
    ['fit=: early_stopping=1.5: a share of the rows above 0 and up to 0.5']
    """
    if not isinstance(fit, Fit):
        return [f"fit={fit!r}: ps.Fit(early_stopping=0.1, sample=…)"]
    found = []
    share = fit.early_stopping
    if share is not None and not (is_number(share) and 0 < share <= MOST_HELD):
        found.append(f"fit=: early_stopping={share!r}: a share of the rows above 0 and up to {MOST_HELD}")
    if not isinstance(fit.rounds, int) or isinstance(fit.rounds, bool) or fit.rounds < 1:
        found.append(f"fit=: rounds={fit.rounds!r}: a whole number from 1")
    if fit.sample is not None:
        found += _sample_faults(fit.sample)
    if share is None and fit.sample is None:
        found.append("fit=: nothing is asked for; give early_stopping=, sample=, or leave it out")
    return found


def _sample_faults(sample: Any) -> list[str]:
    shares = sample if isinstance(sample, Mapping) else {"sample": sample}
    if not shares:
        return ["fit=: sample={}: name at least one class with its share"]
    return [
        f"fit=: sample: {share!r}{'' if sample is share else f' for class {label!r}'}: a share above 0 and up to 1"
        for label, share in shares.items()
        if not (is_number(share) and 0 < share <= 1)
    ]


def can_stop(estimator: Any) -> bool:
    """Whether an estimator stops by rows that it is given; known by the names of its bases, nothing is imported.

    Examples
    --------
    >>> can_stop(object())
    False
    """
    return any(
        base.__name__ in STOPPERS
        and base.__module__.partition(".")[0] in ("xgboost", "lightgbm", "catboost", "sklearn")
        for base in type(estimator).__mro__
    )
