"""Other versions that a challenger is held against: what they answer, and on which held-out rows they may be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.core.target import Roles, Target
from penstock.stages.comparison import ENOUGH, Opponent
from penstock.stages.predicted import Predicted, predict
from penstock.stages.problem import Problem
from penstock.stages.seen import later, unseen, unseen_of_table
from penstock.stages.thresholds import relabelled

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Given:
    """What of another version comes from its bundle.

    Attributes
    ----------
    fitted : estimator or None
    about : dict
        "champion": its name; "champion_input", "champion_threshold", "learned", "champion_refit", "unseen_from",
        "unanswered"; see `compare`.
    seen : ndarray of uint64, DataFrame or None
        Digests of the rows that it has learned from, or the rows.
    held : ndarray of uint64 or None
        Digests of the rows that were held out when it was made.
    """

    fitted: Any
    about: Mapping[str, Any]
    seen: Any = None
    held: Any = None


def ask(
    given: Given, test: pd.DataFrame, X: Any, y: Any, problem: Problem, target: Target, roles: Roles, notes: list[str]
) -> Opponent:
    """Another version's answers for the held-out rows, and which of them it has not learned from.

    Parameters
    ----------
    given : Given
    test : DataFrame of shape (n_rows, n_columns)
    X, y
        The columns that the challenger reads, and the truth, of the same rows.
    problem, target, roles
        As for `compare`.
    notes : list of str
        What is to be said of it is put at its end.

    Returns
    -------
    Opponent
    """
    name = str(given.about.get("champion") or "")
    answers, why = _answers(given, test, X, y, problem)
    if answers is None:
        return Opponent(name, None, why)
    answers = answers.beside(test, roles.weight, roles.groups)
    if (bound := given.about.get("champion_threshold")) is not None:
        answers = relabelled(answers, bound)
    return _only_fresh(Opponent(name, answers), given, test, target, roles, notes)


def rows_for(given: Given, test: pd.DataFrame, X: Any) -> Any:
    """The columns that another version reads."""
    columns = given.about.get("champion_input")
    return X if columns is None else test[list(columns)]


def _answers(given: Given, test: pd.DataFrame, X: Any, y: Any, problem: Problem) -> tuple[Predicted | None, str]:
    """Its answers, or why there are none: an old model need not fit today's table."""
    if given.fitted is None:
        return None, given.about.get("unanswered") or ("it was not found" if given.about.get("champion") else "")
    try:
        return predict(given.fitted, rows_for(given, test, X), y, problem), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {str(error)[:200]}"


def _only_fresh(
    other: Opponent, given: Given, test: pd.DataFrame, target: Target, roles: Roles, notes: list[str]
) -> Opponent:
    """The same with the held-out rows that it has not seen, or why it cannot answer: it has seen nearly all."""
    about, seen, name = given.about, given.seen, other.name
    learned, refit = about.get("learned"), about.get("champion_refit")
    if seen is None:
        if about.get("unseen_from"):
            notes.append(str(about["unseen_from"]))
        return other
    fresh = unseen(test, seen, learned) if learned is not None else unseen_of_table(test, seen, target, roles)
    if fresh is None:
        why = "the columns are gone that name the rows that it has learned from"
        if refit:  # every row that was there has been learned from
            return Opponent(name, None, f"{why}; declare key=")
        notes.append(f"{why}: rows that {name} has seen may be among these; declare key=")
        return other
    if refit:
        notes.append(
            f"{name} was refitted on all rows that there were; {len(fresh):,} of these {len(test):,} are newer"
        )
    newer = later(test, fresh, given.held, learned, roles) if learned is not None else None
    if len(fresh) == len(test):
        return Opponent(name, other.answers, newer=newer)
    if len(fresh) >= ENOUGH:
        return Opponent(name, other.answers, fresh=fresh, newer=newer)
    why = f"it was trained on {len(test) - len(fresh):,} of these {len(test):,} rows"
    if refit:
        why = f"it was refitted on all rows; {len(fresh):,} of these {len(test):,} are newer, {ENOUGH} are needed"
    return Opponent(name, None, why)
