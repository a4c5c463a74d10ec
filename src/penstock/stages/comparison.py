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
from penstock.stats.weighting import effective_rows

if TYPE_CHECKING:
    import pandas as pd

ENOUGH = SMALL
"""Rows (groups, where rows are grouped) on which two models differ, below which nothing is concluded."""
NEWEST = 100
"""Held-out rows newer than the champion's training data from which on these decide `NotWorse`; `ENOUGH` groups."""
POWER = 2.49
"""Standard normal quantiles of 0.95 and 0.80 together: so many standard errors are seen four times in five."""
CHALLENGER, CHAMPION, BASELINE = "challenger", "champion", "baseline"


@dataclass(frozen=True)
class Opponent:
    """Another version, as it answers for the held-out rows.

    Attributes
    ----------
    name : str
        Such as "churn@6".
    answers : Predicted or None
        For all held-out rows; None where it cannot answer: then `error` says why.
    fresh : ndarray of int or None
        Held-out rows that it has not learned from; None where that is all of them.
    newer : ndarray of int or None
        Those of them that are newer than what it has learned from; None where nothing tells.
    """

    name: str
    answers: Predicted | None
    error: str = ""
    fresh: Any = None
    newer: Any = None


@dataclass(frozen=True)
class Comparison:
    """Fitted models side by side on the hold-out; what a gate's rules are held against.

    A function in `gate=` is given one: see `figure`, `interval`, `difference`, `lead` and `slices`.

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
    newer : ndarray of int or None
        Those of them that are newer than what the champion was trained on; None where nothing tells.
    baseline_name : str
        What was declared as the baseline; "" for the default.
    rivals : dict
        Alias or number of a version → `Opponent`, for those that a rule names.
    beat : Opponent or None
        The last champion that had to beat somebody, where that is not the champion.
    sizes : dict
        Who → bytes of the stored estimator.
    models : dict
        Who → (estimator, the rows that it is given).
    looks : dict
        "number", "share", "left": which look at this hold-out it is, and the part of alpha at which it decides;
        "sides": 2 where either may be found better, each at half of that.

    Examples
    --------
    >>> def no_costly_misses(c: Comparison) -> tuple[bool, str]:
    ...     missed = (c.challenger.y == 1) & (c.challenger.column("label") == 0) & (c.test["amount"] > 1000)
    ...     return bool(missed.mean() < 0.01), f"{missed.mean():.1%} of the rows are large and missed"
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
    newer: Any = None
    baseline_name: str = ""
    rivals: Mapping[str, Opponent] = field(default_factory=dict)
    beat: Opponent | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    models: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    looks: Mapping[str, Any] = field(default_factory=dict)
    _seen: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether there is no champion to compare with."""
        return not self.name

    def level(self, confidence: float) -> float:
        """At which level "better" is decided: the look's part of alpha, all of it where none is told."""
        return (1 - confidence) * float(self.looks.get("share", 1.0)) / int(self.looks.get("sides", 1))

    @property
    def unit(self) -> str:
        """What evidence is counted in: "rows", or "groups" of rows that depend on one another."""
        return "rows" if self.challenger.cluster is None else "groups"

    def worth(self) -> float:
        """Held-out rows, as many as they are worth with weights; groups, where rows are grouped."""
        import numpy as np

        if self.challenger.cluster is not None:
            return float(len(np.unique(self.challenger.cluster)))
        return effective_rows(self.challenger.weight, len(self.challenger))

    def of(self, who: str) -> Predicted | None:
        """Answers of "challenger", "champion", "baseline", or an alias or version that a rule names."""
        if who == CHALLENGER:
            return self.challenger
        return self.baseline if who == BASELINE else self.opponent(who).answers

    def opponent(self, who: str) -> Opponent:
        """The champion, the baseline or another version, by the name that a rule gives it."""
        if who == CHAMPION:
            return Opponent(self.name, self.champion, self.champion_error, self.fresh, self.newer)
        if who == BASELINE:
            return Opponent("", self.baseline)
        return self.rivals.get(who, Opponent(who, None, "it was not found"))

    def who(self, against: str) -> str:
        """A name for people: "churn@6", "the baseline"."""
        if against == BASELINE:
            return f"the baseline {self.baseline_name}".rstrip()
        return self.opponent(against).name or (f"the {against}" if against == CHAMPION else against)

    def error(self, against: str) -> str:
        """Why another version cannot answer; "" where it can."""
        found = self.opponent(against)
        return "" if found.answers is not None else found.error or "it was not found"

    def figure(self, metric: str, who: str = "challenger") -> float:
        """A metric of one of them; NaN where it cannot be computed.

        Parameters
        ----------
        metric : str
            Scorer name; greater is better.
        who : str
            See `of`.
        """
        answers = self.of(who)
        if answers is None or not answerable(metric, answers):
            return math.nan
        return scoring.figure(metric, self._honest(answers, who))

    def interval(self, metric: str, confidence: float = 0.95, who: str = "challenger") -> Interval:
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
        self,
        metric: str,
        against: str = "champion",
        confidence: float = 0.95,
        rows: Any = None,
        *,
        reverse: bool = False,
    ) -> Difference:
        """Challenger minus another, or the reverse, with one-sided bounds; on some rows if given.

        Parameters
        ----------
        metric : str
            Scorer name; greater is better.
        against : str
            "champion", "baseline", or an alias or version that a rule names.
        confidence : float, default=0.95
            Of each bound.
        rows : ndarray of int, optional
            Positions among the held-out rows.
        reverse : bool, default=False
        """
        return self.difference_to(metric, self.opponent(against), confidence, rows, reverse=reverse)

    def difference_to(
        self, metric: str, other: Opponent, confidence: float, rows: Any = None, *, reverse: bool = False
    ) -> Difference:
        """The same to an opponent, on rows that it has not learned from."""
        import numpy as np

        a, b = self.challenger, other.answers
        if b is None or not (answerable(metric, a) and answerable(metric, b)):
            n = len(a) if rows is None else len(rows)
            return Difference(math.nan, -math.inf, math.inf, math.inf, n, 0, "no value on these rows", confidence)
        if other.fresh is not None:
            rows = other.fresh if rows is None else np.intersect1d(rows, other.fresh)
        if rows is not None:
            a, b = a.take(rows), b.take(rows)
        first, second = (b, a) if reverse else (a, b)
        return difference(metric, first, second, confidence=confidence, seed=self.seed)

    def lead(self, metric: str, against: str = "champion") -> float:
        """By how much the champion (or another) is ahead of the baseline, on rows that it has not learned from."""
        other = self.opponent(against)
        if other.fresh is None or other.answers is None or not answerable(metric, self.baseline):
            return self.figure(metric, against) - self.figure(metric, BASELINE)
        return self.figure(metric, against) - scoring.figure(metric, self.baseline.take(other.fresh))

    def newest(self, against: str) -> Any:
        """Rows newer than what another version has learned from, where they are enough to decide; else None."""
        import numpy as np

        rows = self.opponent(against).newer
        if rows is None:
            return None
        if self.challenger.cluster is not None:
            return rows if len(np.unique(self.challenger.cluster[rows])) >= ENOUGH else None
        weight = self.challenger.weight
        return rows if effective_rows(None if weight is None else weight[rows], len(rows)) >= NEWEST else None

    def _honest(self, answers: Predicted, who: str) -> Predicted:
        """Another version's answers for rows that it was not trained on; the challenger's and baseline's for all."""
        if who in (CHALLENGER, BASELINE):
            return answers
        fresh = self.opponent(who).fresh
        return answers if fresh is None else answers.take(fresh)

    def slices(self, column: str) -> list[tuple[str, Any]]:
        """Label and rows of each slice."""
        return [(one.label, one.rows) for one in slices_of(self.test, column, self.train)]
