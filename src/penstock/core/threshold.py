"""From which score on a row counts as positive: declared as a number, or as what the number is to achieve."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from penstock.core.faults import Faults
from penstock.core.metric import Metric, is_scorer, metric_of
from penstock.core.units import is_number

SHARES = ("recall", "precision", "rate")
"""Rules that ask for a share between 0 and 1."""


@dataclass(frozen=True, slots=True, repr=False)
class Threshold:
    """The score from which on a row is called positive; exactly one rule is given.

    What is not a number is chosen on out-of-fold predictions of the training rows, never on the hold-out.

    Parameters
    ----------
    at : float, optional
        This score.
    maximise, minimise : str, scorer or metric, optional
        A metric of predicted labels: the score at which it is greatest, or least. An error may be named with or
        without its `neg_`. Of equally good scores the highest is taken, which calls fewest rows positive.
    recall : float, optional
        The highest score at which at least this share of the positive rows is found.
    precision : float, optional
        The lowest score at which at least this share of the rows called positive is positive.
    rate : float, optional
        The lowest score at which at most this share of all rows is called positive.

    Examples
    --------
    >>> Threshold(maximise="f1")
    Threshold(maximise='f1')
    >>> Threshold(recall=0.9).rule
    'recall'
    """

    at: float | None = None
    maximise: Any = None
    minimise: Any = None
    recall: float | None = None
    precision: float | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        for rule in ("maximise", "minimise"):
            if is_scorer(getattr(self, rule)):
                object.__setattr__(self, rule, metric_of(getattr(self, rule)))

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the rules that were given; one, in a declaration that was checked."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is not None)

    @property
    def rule(self) -> str:
        """The rule's name."""
        return self.given[0]

    @property
    def value(self) -> Any:
        """What the rule asks for."""
        return getattr(self, self.rule)

    @property
    def text(self) -> str:
        """The rule in words: "maximise f1", "recall 0.9"."""
        return f"{self.rule} {getattr(self.value, 'name', self.value)}"

    def __repr__(self) -> str:
        return f"Threshold({', '.join(f'{name}={getattr(self, name)!r}' for name in self.given)})"


def check_threshold(decide: Any, faults: Faults) -> None:
    """One rule, with a number that it can have; whether a metric reads labels is checked where metrics are known."""
    if not isinstance(decide, Threshold):
        faults.add(
            f"decide=: {type(decide).__name__}; ps.Threshold(at=0.3), or maximise=, minimise=, recall=, … is meant"
        )
        return
    if len(decide.given) != 1:
        many = ", ".join(decide.given) or "nothing"
        faults.add(f"decide=: Threshold was given {many}; exactly one of {', '.join(f.name for f in fields(decide))}")
        return
    if decide.rule in ("maximise", "minimise"):
        if not isinstance(decide.value, str | Metric):
            faults.add(f"decide=: {decide!r}: the name of a metric of labels, such as 'f1', or a metric of your own")
        return
    if not is_number(decide.value):
        faults.add(f"decide=: {decide!r}: a number is meant")
    elif decide.rule in SHARES and not 0 < decide.value < 1:
        faults.add(f"decide=: {decide!r}: a share between 0 and 1")
