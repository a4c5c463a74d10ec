"""Words that a declaration may use, and the nearest right one to a wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

CLASSIFICATION_SCORERS = (
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "d2_brier_score",
    "d2_log_loss_score",
    "f1",
    "f1_macro",
    "f1_micro",
    "f1_weighted",
    "jaccard",
    "jaccard_macro",
    "jaccard_micro",
    "jaccard_weighted",
    "matthews_corrcoef",
    "neg_brier_score",
    "neg_log_loss",
    "neg_negative_likelihood_ratio",
    "positive_likelihood_ratio",
    "precision",
    "precision_macro",
    "precision_micro",
    "precision_weighted",
    "recall",
    "recall_macro",
    "recall_micro",
    "recall_weighted",
    "roc_auc",
    "roc_auc_ovo",
    "roc_auc_ovo_weighted",
    "roc_auc_ovr",
    "roc_auc_ovr_weighted",
    "top_k_accuracy",
)
REGRESSION_SCORERS = (
    "d2_absolute_error_score",
    "explained_variance",
    "neg_max_error",
    "neg_mean_absolute_error",
    "neg_mean_absolute_percentage_error",
    "neg_mean_gamma_deviance",
    "neg_mean_poisson_deviance",
    "neg_mean_squared_error",
    "neg_mean_squared_log_error",
    "neg_median_absolute_error",
    "neg_root_mean_squared_error",
    "neg_root_mean_squared_log_error",
    "r2",
)
SCORERS = CLASSIFICATION_SCORERS + REGRESSION_SCORERS
"""scikit-learn's scorer names for classification and regression. A test holds this list against the library."""


OF_TWO_CLASSES = (
    "average_precision",
    "f1",
    "jaccard",
    "neg_negative_likelihood_ratio",
    "positive_likelihood_ratio",
    "precision",
    "recall",
    "roc_auc",
)
"""Scorers of a positive class."""
OF_SEVERAL_CLASSES = ("roc_auc_ovo", "roc_auc_ovo_weighted", "roc_auc_ovr", "roc_auc_ovr_weighted", "top_k_accuracy")
"""Scorers that need more than two classes."""
TASKS = ("binary", "multiclass", "regression")
DECIDE = "decide="
"""Stands for a threshold where what fits which task is told."""
UNWEIGHTED = (
    "neg_max_error",
    "neg_negative_likelihood_ratio",
    "positive_likelihood_ratio",
    "roc_auc_ovo",
    "roc_auc_ovo_weighted",
)
"""Scorers that know no weights of rows. A test holds this list against the library."""


def tasks_of(name: str) -> tuple[str, ...]:
    """Tasks that a scorer fits.

    Examples
    --------
    >>> tasks_of("f1"), tasks_of("accuracy"), tasks_of("r2")
    (('binary',), ('binary', 'multiclass'), ('regression',))
    """
    if name in REGRESSION_SCORERS:
        return ("regression",)
    if name in OF_TWO_CLASSES:
        return ("binary",)
    return ("multiclass",) if name in OF_SEVERAL_CLASSES else ("binary", "multiclass")


def listed(value: Any) -> tuple[Any, ...]:
    """One name or several, as a tuple.

    Examples
    --------
    >>> listed("day"), listed(["day", "hour"]), listed(None)
    (('day',), ('day', 'hour'), ())
    """
    if value is None:
        return ()
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like a wrong one, or "" when none is like it.

    Examples
    --------
    >>> nearest("roc_auk", SCORERS)
    'roc_auc'
    """
    import difflib

    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return close[0] if close else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A half-sentence for an error, or "".

    Examples
    --------
    >>> did_you_mean("roc_auk", SCORERS)
    '; did you mean "roc_auc"?'
    """
    word = nearest(word, known)
    return f'; did you mean "{word}"?' if word else ""
