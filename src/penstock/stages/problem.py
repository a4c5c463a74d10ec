"""What is being predicted: the task, its classes in one order, and which class is the positive one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.answer import plain
from penstock.core.metric import Metric
from penstock.core.target import Target
from penstock.errors import DataError, DeclarationError


@dataclass(frozen=True, slots=True)
class Problem:
    """The task and its classes.

    Attributes
    ----------
    task : {"binary", "multiclass", "regression"}
    classes : tuple
        Labels as plain values. In a binary task the positive class is last, so that class codes are 0 and 1 with
        1 for positive, whatever the labels are; else sorted.
    column : str
        The target's name, for messages.
    own : dict
        Scorer name → metric of the user's own.
    """

    task: str
    classes: tuple[Any, ...] = ()
    column: str = "target"
    own: Mapping[str, Metric] = field(default_factory=dict, compare=False, repr=False)

    def judged_by(self, own: Iterable[Metric]) -> Problem:
        """The same, with metrics of the user's own."""
        return replace(self, own={metric.scorer: metric for metric in own})

    @property
    def positive(self) -> Any:
        """The class that is scored; None unless the task is binary."""
        return self.classes[1] if self.task == "binary" else None

    def encode(self, y: Any) -> Any:
        """Labels as class codes, or a regression target as float64.

        Parameters
        ----------
        y : array-like of shape (n_rows,) or (n_rows, 1)

        Returns
        -------
        ndarray of shape (n_rows,), int64 or float64

        Raises
        ------
        DataError
            If a label is none of the classes.
        """
        import numpy as np

        if self.task == "regression":
            return np.asarray(y, dtype=np.float64)
        values = np.asarray(y).reshape(len(y))  # CatBoost answers several classes in one column, not in a row
        codes = np.full(len(values), -1, dtype=np.int64)
        for code, label in enumerate(self.classes):
            codes[values == label] = code
        if (codes < 0).any():
            example = plain(values[codes < 0][0])
            raise DataError(
                f"label {example!r} is none of the classes {list(self.classes)!r}",
                where=f"column {self.column}",
                hint="the training rows have no such class; check the labels of this table",
            )
        return codes

    def order(self, labels: Any) -> list[int]:
        """For each of an estimator's classes its code here."""
        known = {label: code for code, label in enumerate(self.classes)}
        return [known[plain(label)] for label in labels]


def problem_of(schema: Mapping[str, Any], target: Target) -> Problem:
    """The problem as the validated schema states it.

    Parameters
    ----------
    schema : dict
        With "task" and, for classes, "classes" and "positive".
    target : Target

    Raises
    ------
    DeclarationError
        If a two-class problem has no positive class: it is never guessed.

    Examples
    --------
    >>> problem_of({"task": "binary", "classes": ["bad", "good"], "positive": "bad"}, Target("y")).classes
    ('good', 'bad')
    """
    task = str(schema["task"])
    if task == "regression":
        return Problem(task, (), target.column)
    classes = tuple(plain(label) for label in schema["classes"])
    if task == "multiclass":
        return Problem(task, classes, target.column)
    positive = plain(schema.get("positive"))
    positive = plain(target.positive) if positive is None else positive
    if positive not in classes:
        raise DeclarationError(
            f"the positive class {positive!r} is not one of the target's two classes {list(classes)!r}",
            where=f"column {target.column}",
            hint=f"declare it: ps.Target({target.column!r}, positive={classes[-1]!r})",
        )
    return Problem(task, tuple(sorted(classes, key=lambda label: label == positive)), target.column)
