"""What is to be predicted: the task, the classes and the positive one, as far as a table says it plainly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.core.answer import plain
from penstock.core.target import Target
from penstock.errors import DataError, DeclarationError
from penstock.stages.profiles import kind_of
from penstock.stages.roles import SURE, UNSURE, Reason
from penstock.stages.validate import positive_of

if TYPE_CHECKING:
    import pandas as pd

MOST_CLASSES = 50
FEWEST_OF_A_CLASS = 15
"""Five folds and a hold-out need two rows of each class apiece."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person has said; the rest is found.

    Attributes
    ----------
    target : str
    positive : str or None
        As text; compared with the classes' texts.
    task : {"classification", "regression"} or None
    key, groups : tuple of str or None
    time : str or None
    split : {"key", "time", "groups", "random"} or None
    """

    target: str
    positive: str | None = None
    task: str | None = None
    key: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    time: str | None = None
    split: str | None = None


def target_of(table: pd.DataFrame, known: pd.DataFrame, asked: Asked, reasons: list[Reason]) -> tuple[str, Target]:
    """Task and target, as far as the data say them plainly.

    Parameters
    ----------
    table, known : DataFrame
        All rows; those whose target is not missing.
    asked : Asked
    reasons : list of Reason
        What is decided is added to it.

    Raises
    ------
    DataError
        One value only, too few rows of a class, a time.
    DeclarationError
        Two classes of which neither is plainly the positive one; too many texts for classes.
    """
    column = known[asked.target]
    missing = len(table) - len(known)
    counts = column.value_counts()
    if len(counts) < 2:
        what = f"every row has the same {asked.target!r}" if len(counts) else f"{asked.target!r} has no value at all"
        raise DataError(f"{what}: there is nothing to learn", hint="--target names the column to predict")
    task, why, confidence = _task(column, counts, asked)
    positive = None
    if task == "binary":
        _check_enough(asked, counts)
        positive = _positive(asked, counts)
        share = counts[positive if positive is not None else _plainly(asked, counts)] / len(column)
        shown = positive if positive is not None else _plainly(asked, counts)
        why += f"; {asked.target} = {plain(shown)!r} in {100 * share:.1f} % of the rows"
    elif asked.positive is not None:
        raise DeclarationError(
            f"--positive {asked.positive}: {asked.target!r} is a {task} target",
            hint=f"the positive class belongs to two classes; {asked.target!r} has {len(counts):,} values",
        )
    reasons.append(Reason("target", asked.target, f"{task}: {why}", confidence))
    if task == "multiclass" and (rare := _rare(counts)):
        reasons.append(Reason("target", asked.target, rare, UNSURE))
    if missing:
        reasons.append(Reason("missing", "drop", f"{missing:,} of {len(table):,} rows have no {asked.target}"))
    return task, Target(asked.target, positive=positive, missing="drop" if missing else "error")


def _check_enough(asked: Asked, counts: Any) -> None:
    """With fewer rows of a class than sides and folds nothing can be judged."""
    if (fewest := int(counts.min())) < FEWEST_OF_A_CLASS:
        raise DataError(
            f"{asked.target} = {plain(counts.idxmin())!r} in {fewest} of {int(counts.sum()):,} rows: too few to learn "
            "from and to judge by",
            hint=f"gather at least {FEWEST_OF_A_CLASS} rows of each class; {FEWEST_OF_A_CLASS * 10} would tell more",
        )


def _rare(counts: Any) -> str:
    """What is said of classes of too few rows; "" where there are none."""
    few = counts[counts < FEWEST_OF_A_CLASS]
    if not len(few):
        return ""
    shown = ", ".join(f"{plain(label)!r} ({count})" for label, count in few.tail(5).items())
    more = f" and {len(few) - 5} more" if len(few) > 5 else ""
    return f"classes of fewer than {FEWEST_OF_A_CLASS} rows are neither learned nor judged: {shown}{more}"


def _task(column: Any, counts: Any, asked: Asked) -> tuple[str, str, float]:
    """Task, why, and how sure that is."""
    kind, n = kind_of(column), len(counts)
    classes = "binary" if n == 2 else "multiclass"
    if kind == "datetime":
        raise DataError(f"{asked.target!r} is a time: a number or classes can be predicted", hint="make it a duration")
    if asked.task == "regression":
        if kind == "text":
            raise DeclarationError(f"--task regression: {asked.target!r} holds texts, not numbers")
        return "regression", "as asked for", SURE
    if n == 2:
        return classes, "two values", SURE
    if asked.task == "classification":
        return classes, f"{n} classes, as asked for", SURE
    if kind in {"text", "boolean"}:
        if n > MOST_CLASSES:
            hint = "name a column with classes or numbers; --task classification takes the texts as classes"
            raise DeclarationError(f"{asked.target!r} has {n:,} different texts: too many for classes", hint=hint)
        return classes, f"{n} texts", SURE
    whole = kind == "integer" or bool((column % 1 == 0).all())
    low, high = float(column.min()), float(column.max())
    if whole and low in {0, 1} and high - low == n - 1 and n <= 10 and not _falls_off(counts):
        return classes, f"{n} codes from {low:g} to {high:g}; --task regression if they are amounts", UNSURE
    levels = n <= 20
    return (
        "regression",
        f"{n:,} different numbers" + ("; --task classification if they are codes" * levels),
        (UNSURE if levels else SURE),
    )


def _falls_off(counts: Any) -> bool:
    """Whether small numbers are the commonest, each rarer than the one before: a count of something."""
    values = counts.sort_index().to_numpy()
    return len(values) > 4 and bool((values[1:] < 0.8 * values[:-1]).all())


def _positive(asked: Asked, counts: Any) -> Any:
    """The class that `--positive` names, None where the data say it plainly.

    Raises
    ------
    DeclarationError
        Naming both classes with their counts.
    """
    labels = [plain(label) for label in counts.index]
    shown = " or ".join(f"{label!r} ({count:,} rows)" for label, count in zip(labels, counts, strict=True))
    if asked.positive is None:
        try:
            positive_of(Target(asked.target), labels, "binary")
        except DeclarationError:
            raise DeclarationError(
                f"which class of {asked.target!r} is the positive one: {shown}? It is never guessed",
                hint=f"add --positive {_shell(str(labels[-1]))}, or the other: the class whose finding matters",
            ) from None
        return None
    named = [label for label in labels if str(label) == asked.positive] or [
        label for label in labels if str(label).strip().lower() == asked.positive.strip().lower()
    ]
    if len(named) != 1:
        raise DeclarationError(
            f"--positive {asked.positive}: {asked.target!r} has no such class",
            hint=f"it is {shown}: the class whose finding matters",
        )
    return named[0]


def _plainly(asked: Asked, counts: Any) -> Any:
    return positive_of(Target(asked.target), [plain(label) for label in counts.index], "binary")


def _shell(text: str) -> str:
    import shlex

    return shlex.quote(text)
