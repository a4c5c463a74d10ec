"""Answers of challenger, champion and baseline for the same held-out rows, and what they say about a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.stages import scoring
from penstock.stages.predicted import Predicted
from penstock.stages.scoring import answerable
from penstock.stages.slicing import SMALL, slices_of
from penstock.stages.uncertainty import difference, interval
from penstock.stats.intervals import Interval
from penstock.stats.paired import Difference

if TYPE_CHECKING:
    import pandas as pd

ENOUGH = SMALL
"""Rows on which two models differ, below which nothing is concluded."""
POWER = 2.49
"""Standard normal quantiles of 0.95 and 0.80 together: so many standard errors are seen four times in five."""


@dataclass(frozen=True)
class Comparison:
    """Fitted models side by side on the hold-out.

    Attributes
    ----------
    challenger, baseline : Predicted
    champion : Predicted or None
        None where there is none, or where it cannot answer: then `champion_error` says why.
    name : str
        The champion's, such as "churn@6"; "" if there is none.
    primary : str
        Scorer name.
    test, train : DataFrame
        Held-out rows; training rows, which fix the slices.
    same_declaration, newer_data, same_estimator : bool
        How the challenger's making relates to the champion's; of two with the same estimator only thresholds differ.
    fresh : ndarray of int or None
        Held-out rows that the champion was not trained on; None where that is all of them. Only on these is it
        asked: another split may have put its training rows among the held-out ones.
    baseline_name : str
        What was declared as the baseline; "" for the default.
    looks : dict
        "number", "share", "left": which look at this hold-out it is, and the part of alpha at which it decides.
    """

    challenger: Predicted
    baseline: Predicted
    champion: Predicted | None
    name: str
    primary: str
    test: pd.DataFrame
    train: pd.DataFrame
    seed: int = 0
    same_declaration: bool = False
    newer_data: bool = False
    same_estimator: bool = False
    champion_error: str = ""
    fresh: Any = None
    baseline_name: str = ""
    looks: Mapping[str, Any] = field(default_factory=dict)
    _seen: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether there is no champion to compare with."""
        return not self.name

    def level(self, confidence: float) -> float:
        """At which level "better" is decided: the look's part of alpha, all of it where none is told."""
        return (1 - confidence) * float(self.looks.get("share", 1.0))

    def of(self, who: str) -> Predicted | None:
        """Answers of "challenger", "champion" or "baseline"."""
        return {"challenger": self.challenger, "champion": self.champion, "baseline": self.baseline}[who]

    def figure(self, metric: str, who: str = "challenger") -> float:
        """A metric of one of them; NaN where it cannot be computed."""
        answers = self.of(who)
        if answers is None or not answerable(metric, answers):
            return math.nan
        return scoring.figure(metric, self._honest(answers, who))

    def interval(self, metric: str, confidence: float, who: str = "challenger") -> Interval:
        """Two-sided interval of a metric."""
        answers = self.of(who)
        if answers is None or not answerable(metric, answers):
            return Interval(-math.inf, math.nan, math.inf, len(self.challenger), "no value on these rows")
        key = (metric, confidence, who)
        if key not in self._seen:
            honest = self._honest(answers, who)
            self._seen[key] = interval(metric, honest, confidence=confidence, seed=self.seed)
        found: Interval = self._seen[key]
        return found

    def difference(
        self, metric: str, against: str, confidence: float, rows: Any = None, *, reverse: bool = False
    ) -> Difference:
        """Challenger minus another, or the reverse; on some rows if given."""
        import numpy as np

        a, b = self.challenger, self.of(against)
        if b is None or not (answerable(metric, a) and answerable(metric, b)):
            n = len(a) if rows is None else len(rows)
            return Difference(math.nan, -math.inf, math.inf, math.inf, n, 0, "no value on these rows", confidence)
        if against == "champion" and self.fresh is not None:
            rows = self.fresh if rows is None else np.intersect1d(rows, self.fresh)
        if rows is not None:
            a, b = a.take(rows), b.take(rows)
        first, second = (b, a) if reverse else (a, b)
        return difference(metric, first, second, confidence=confidence, seed=self.seed)

    def lead(self, metric: str) -> float:
        """By how much the champion is ahead of the baseline."""
        if self.fresh is None or self.champion is None or not answerable(metric, self.baseline):
            return self.figure(metric, "champion") - self.figure(metric, "baseline")
        return self.figure(metric, "champion") - scoring.figure(metric, self.baseline.take(self.fresh))

    def _honest(self, answers: Predicted, who: str) -> Predicted:
        """The champion's answers for rows that it was not trained on; another's for all."""
        return answers.take(self.fresh) if who == "champion" and self.fresh is not None else answers

    def slices(self, column: str) -> list[tuple[str, Any]]:
        """Label and rows of each slice."""
        return [(one.label, one.rows) for one in slices_of(self.test, column, self.train)]
