"""What is told of the two sides of a split: rows, shares, whether they differ, how wide an interval will be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError
from penstock.stats.intervals import normal_quantile
from penstock.stats.planned import binary_se, number_se
from penstock.stats.two_sample import chi2_two_sample

if TYPE_CHECKING:
    import pandas as pd

FEW = 30
"""Fewer held-out rows of a class than this are advised against."""
DIFFER = 0.001
"""Below this p-value the shares of the sides are said to differ."""
PLANNED = (
    "roc_auc",
    "neg_log_loss",
    "neg_brier_score",
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "neg_root_mean_squared_error",
    "neg_mean_squared_error",
    "neg_mean_absolute_error",
    "r2",
)
"""Metrics whose interval can be told before there is a model."""
KEPT = "a row keeps its side when the table grows, gains columns or comes in another order"
MOVES = {
    "time": "the newest rows are held out: as the table grows, rows that are held out now will be learned from",
    "quota": "exact quotas are drawn anew when the table grows: a row may change sides",
    "splitter": "the splitter goes by the rows' places: a row may change sides when the table grows",
    "mask": "the mask alone says which side a row is on",
    "official": "the official test file is held out as it is, and nothing else",
}


def membership(rule: str, split: Split) -> str:
    """Whether a row keeps its side, in a sentence.

    Examples
    --------
    >>> membership("time", Split(test="2026-01-01"))
    'rows from one date on are held out: a row keeps its side when the table grows'
    """
    if rule == "time" and any(_is_date(one) for one in (split.test, split.final)):
        return "rows from one date on are held out: a row keeps its side when the table grows"
    if rule == "random" or (rule in ("key", "groups", "content") and not split.stable):
        return MOVES["quota"]
    return MOVES.get(rule, KEPT)


def _is_date(text: Any) -> bool:
    """Of a duration or a date: whether it is the latter, which begins with the four digits of a year."""
    return isinstance(text, str) and text[:4].isdigit() and text[4:5] in ("", "-")


def shares_of(side: pd.DataFrame, target: Target, task: str) -> dict[str, float]:
    """Share of each class, or the mean."""
    column = side[target.column]
    if task == "regression":
        return {"mean": float(column.mean())} if len(side) else {}
    counts = column.value_counts(sort=False)
    return {str(label): int(n) / len(side) for label, n in sorted(counts.items(), key=lambda item: str(item[0])) if n}


def report_of(
    train: pd.DataFrame,
    test: pd.DataFrame,
    rule: str,
    target: Target,
    roles: Roles,
    split: Split,
    task: str,
    design_effect: float = 1.0,
) -> dict[str, Any]:
    """Counts and shares of both sides, what they lack, and what an interval will be.

    Parameters
    ----------
    train, test, rule, target, roles, split, task
        As they are.
    design_effect : float
        How many rows drawn together tell as much as one drawn by itself: copies, rows of a group.

    Returns
    -------
    dict
        "rule", "columns", "said", "membership", "n_train", "n_test", "shares", "expected" (scorer → half the width of
        its 95 % interval), "notes".
    """
    roled: dict[str, list[str]] = {"time": [roles.time or ""], "groups": [*roles.groups], "key": [*roles.key]}
    names = roled.get(rule, [])
    told = {"content": "by row content", "random": "at random", "official": "the official test file"}
    told |= {"mask": f"by {getattr(split.test, '__name__', 'a mask')}", "splitter": f"by {type(split.test).__name__}"}
    shares = {"train": shares_of(train, target, task), "test": shares_of(test, target, task)}
    notes = [] if task == "regression" else _thin(test, target, shares)
    quotas = not split.stable and rule in ("key", "groups", "content", "random")
    said = told.get(rule, f"by {', '.join(names)}") + (" (exact quotas)" if quotas else "")
    found = {
        "rule": rule,
        "columns": names,
        "said": said,
        "membership": membership(rule, split),
        "n_train": len(train),
        "n_test": len(test),
        "shares": shares,
        "expected": expected(train, test, target, task, shares),
        "notes": notes,
    }
    if (p_value := _differ(len(train), len(test), shares, task, design_effect)) is not None:
        found["p_value"] = p_value
        if p_value < DIFFER:
            notes.insert(0, _told_apart(rule, target, p_value))
    if rule == "time" and found["membership"] == MOVES["time"]:
        notes.append(MOVES["time"])
    return found


def _thin(test: pd.DataFrame, target: Target, shares: dict[str, dict[str, float]]) -> list[str]:
    """Advice on classes with too few held-out rows to be judged by."""
    notes = []
    for label, share in (shares["train"] | shares["test"]).items():
        n = round(shares["test"].get(label, 0.0) * len(test))
        if n < FEW and share:
            need = f"about {round(FEW / share):,} held-out rows would hold {FEW}"
            notes.append(f"only {n} held-out rows have {target.column} = {label}: {need}")
    return notes[:5]


def _differ(
    n_train: int, n_test: int, shares: dict[str, dict[str, float]], task: str, design_effect: float
) -> float | None:
    """The p-value of equal shares of the classes; None for a number, or too few units.

    Rows that are drawn together count for fewer: their counts are divided by the design effect, which takes rows of a
    unit for alike, so that the test rather says nothing than too much (Rao and Scott, 1981, JASA 76:221).
    """
    if task == "regression" or not n_train or not n_test:
        return None
    labels = sorted(shares["train"] | shares["test"])
    counts = [
        [round(shares[side].get(label, 0.0) * n / design_effect) for label in labels]
        for side, n in (("train", n_train), ("test", n_test))
    ]
    if not all(map(sum, counts)):
        return None
    return float(chi2_two_sample(counts[0], counts[1]).p_value)


def _told_apart(rule: str, target: Target, p_value: float) -> str:
    why = {
        "time": "it changes with time, and figures of the hold-out are about the newest rows",
        "official": "the official test file was not drawn as the training rows were",
        "mask": "the mask does not draw at random",
    }.get(rule, "chance alone does so once in a thousand splits: another salt= draws anew")
    return f"shares of {target.column} differ between the sides (p = {p_value:.1g}): {why}"


def expected(
    train: pd.DataFrame, test: pd.DataFrame, target: Target, task: str, shares: dict[str, dict[str, float]]
) -> dict[str, float]:
    """Half the width of the 95 % interval that a metric will have on these held-out rows, under a stated law.

    See `stats.planned`: two classes at an AUC of 0.8, a number at an R² of 0.5; accuracy of several classes at its
    widest. Metrics without a closed form are absent.
    """
    half, n = normal_quantile(0.95), len(test)
    if not n or not len(train):
        return {}
    if task == "regression":
        deviation = float(train[target.column].std())
        found = {name: number_se(name, deviation, n) for name in PLANNED}
    elif task == "binary":
        n_positive = round(shares["test"].get(_shown_class(shares["train"], target), 0.0) * n)
        if not 0 < n_positive < n:
            return {}
        found = {name: binary_se(name, n_positive, n - n_positive) for name in PLANNED}
    else:
        found = {"accuracy": math.sqrt(0.25 / n)}
    return {name: half * se for name, se in found.items() if se is not None and math.isfinite(se)}


def check_sides(
    train: pd.DataFrame, test: pd.DataFrame, target: Target, report: dict[str, Any], task: str, rule: str
) -> None:
    """Refuse a split that cannot be learned from or judged by.

    Raises
    ------
    DataError
    """
    numbers = f"{len(train):,} rows to train on and {len(test):,} held out, {report['said']}"
    if report["dropped"]:
        numbers += ", after leaving out " + ", ".join(f"{n:,} ({why})" for why, n in report["dropped"].items())
    remedy = {
        "time": "declare another test= (a share, a span or a date) or a shorter gap=",
        "groups": "there may be too few groups: declare a larger test=, or another salt=",
        "official": "look at what the test file holds, and at what its rows take from training",
        "mask": "correct the function of test=",
        "splitter": "declare another splitter",
    }.get(rule, "declare a larger test=, stable=False (exact quotas), or gather more rows")
    if not len(train) or not len(test):
        raise DataError(f"a side of the split is empty: {numbers}", hint=remedy, report=report)
    if task == "regression":
        return
    for side, rows in (("training", train), ("held-out", test)):
        if rows[target.column].nunique() < 2:
            only = rows[target.column].iloc[0]
            raise DataError(
                f"all {len(rows):,} {side} rows have {target.column} = {only}: {numbers}", hint=remedy, report=report
            )


def summary(report: dict[str, Any], target: Target, task: str) -> str:
    """A report in one line."""
    parts = [f"train {report['n_train']:,} · test {report['n_test']:,}", report["said"]]
    if report.get("n_final"):
        parts[0] += f" · final {report['n_final']:,}"
    train, test = report["shares"]["train"], report["shares"]["test"]
    if task == "regression":
        parts.append(f"mean {target.column} {train['mean']:.4g} / {test['mean']:.4g}")
    elif task == "binary":
        label = _shown_class(train, target)
        name = target.column if target.positive is None else f"{target.column} = {label}"
        parts.append(f"{name} {100 * train.get(label, 0):.1f} % / {100 * test.get(label, 0):.1f} %")
    else:
        rarest = min(train, key=lambda label: (train[label], label))
        parts.append(f"rarest {rarest} {100 * train[rarest]:.1f} % / {100 * test.get(rarest, 0):.1f} %")
    if report.get("from") is not None:
        parts[1] += f" from {report['from']}"
    parts += [f"{n:,} left out ({why})" for why, n in report["dropped"].items()]
    return " · ".join(parts)


def _shown_class(train: dict[str, float], target: Target) -> str:
    """The positive class; where it is plain, the one that says so."""
    if target.positive is not None and str(target.positive) in train:
        return str(target.positive)
    plain = [label for label in train if label.lower() in ("1", "1.0", "true", "yes")]
    return plain[0] if plain else max(train)
