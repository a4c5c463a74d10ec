"""What is told of the two sides of a split: rows, shares, whether they differ, how wide an interval will be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.core.split import Split, duration_s
from penstock.core.target import Roles, Target
from penstock.errors import DataError
from penstock.stages import keys
from penstock.stats.intervals import normal_quantile
from penstock.stats.planned import OF_NUMBERS, OF_SEVERAL, OF_TWO, binary_se, number_se, several_se
from penstock.stats.two_sample import chi2_two_sample
from penstock.stats.weighting import effective_rows

if TYPE_CHECKING:
    import pandas as pd

FEW = 30
"""Fewer held-out rows of a class than this are advised against."""
DIFFER = 0.001
"""Below this p-value the shares of the sides are said to differ."""
MOST_THIN = 5
"""So many classes with few held-out rows are told one by one."""
OF_SHARES = ("accuracy", "top_k_accuracy", "f1_micro", "precision_micro", "recall_micro", "recall_weighted")
"""What several classes can be judged by where one has no held-out row."""
FAR = 0.5
"""A share held out that is further from the declared one than this part of it is told."""
KEPT = "a row keeps its side when the table grows, gains columns or comes in another order"
MOVES = {
    "time": "the newest rows are held out: as the table grows, rows that are held out now will be learned from",
    "quota": "exact quotas are drawn anew when the table grows: a row may change sides",
    "splitter": "the splitter goes by the rows' places: a row may change sides when the table grows",
    "mask": "the mask alone says which side a row is on",
    "official": "the official test file is held out as it is, and nothing else",
    "apart": "copies are told apart by their order: a copy may change sides as the table grows or comes in another one",
}
INDIVISIBLE = {"time": "rows of one moment", "groups": "rows of one group"}


def membership(rule: str, split: Split, *, apart: bool = False) -> str:
    """Whether a row keeps its side, in a sentence.

    Parameters
    ----------
    rule : str
    split : Split
    apart : bool
        Whether copies are told apart, see `copies.told_apart`.

    Examples
    --------
    >>> membership("time", Split(test="2026-01-01"))
    'rows from one date on are held out: a row keeps its side when the table grows'
    """
    if rule == "time" and any(is_date(one) for one in (split.test, split.final)):
        return "rows from one date on are held out: a row keeps its side when the table grows"
    if rule == "random" or (rule in ("key", "groups", "content") and not split.stable):
        return MOVES["quota"]
    return MOVES["apart"] if apart else MOVES.get(rule, KEPT)


def is_date(text: Any) -> bool:
    """Of what was checked to be a share, a duration or a date: whether it is the last.

    Examples
    --------
    >>> is_date("2026-01-01"), is_date("90d"), is_date(0.2)
    (True, False, False)
    """
    if not isinstance(text, str):
        return False
    try:
        duration_s(text)
    except ValueError:
        return True
    return False


def counts_of(side: pd.DataFrame, target: Target) -> dict[str, int]:
    """Rows of each class, by its text, in that order."""
    counts = side[target.column].value_counts(sort=False)
    return {str(label): int(n) for label, n in sorted(counts.items(), key=lambda item: str(item[0])) if n}


def shares_of(side: pd.DataFrame, target: Target, task: str) -> dict[str, float]:
    """Share of each class, or the mean."""
    if task == "regression":
        return {"mean": float(side[target.column].mean())} if len(side) else {}
    return {label: n / len(side) for label, n in counts_of(side, target).items()}


def report_of(
    train: pd.DataFrame,
    test: pd.DataFrame,
    rule: str,
    target: Target,
    roles: Roles,
    split: Split,
    task: str,
    design_effect: float = 1.0,
    *,
    apart: bool = False,
) -> dict[str, Any]:
    """Counts and shares of both sides, what they lack, and what an interval will be.

    Parameters
    ----------
    train, test, rule, target, roles, split, task
        As they are.
    design_effect : float
        How many rows drawn together tell as much as one drawn by itself: copies, rows of a group.
    apart : bool
        Whether copies are told apart.

    Returns
    -------
    dict
        "rule", "columns", "said", "membership", "n_train", "n_test", "shares" (side → class → share; or its mean),
        "counts" (side → class → rows), "expected" (scorer → half the width of its 95 % interval), "grouped" (whether
        rows depend on one another, so that it will be wider), "notes".
    """
    roled: dict[str, list[str]] = {"time": [roles.time or ""], "groups": [*roles.groups], "key": [*roles.key]}
    names = roled.get(rule, [])
    told = {"content": "by row content", "random": "at random", "official": "the official test file"}
    told |= {"mask": f"by {getattr(split.test, '__name__', 'a mask')}", "splitter": f"by {type(split.test).__name__}"}
    sides = {"train": train, "test": test}
    shares = {side: shares_of(rows, target, task) for side, rows in sides.items()}
    counts = {} if task == "regression" else {side: counts_of(rows, target) for side, rows in sides.items()}
    notes = thin(test, target, counts["train"]) if counts else []
    quotas = not split.stable and rule in ("key", "groups", "content", "random")
    said = told.get(rule, f"by {', '.join(names)}") + (" (exact quotas)" if quotas else "")
    found = {
        "rule": rule,
        "columns": names,
        "said": said,
        "membership": membership(rule, split, apart=apart),
        "n_train": len(train),
        "n_test": len(test),
        "shares": shares,
        **({"counts": counts} if counts else {}),
        "expected": expected(train, test, target, roles, task, counts),
        "grouped": bool(roles.groups),
        "notes": notes,
    }
    if counts and (p_value := _differ(counts, design_effect)) is not None:
        found["p_value"] = p_value
        if p_value < DIFFER:
            notes.insert(0, _told_apart(rule, target, p_value))
    if rule == "time" and found["membership"] == MOVES["time"]:
        notes.append(MOVES["time"])
    return found


def thin(side: pd.DataFrame, target: Target, train: dict[str, int], word: str = "held-out") -> list[str]:
    """Advice on classes with too few held-out rows to be judged by, the rarest first.

    Parameters
    ----------
    side : DataFrame
        Held out.
    target : Target
    train : dict
        Class → training rows.
    word : str
        What the side is called.
    """
    held = counts_of(side, target)
    whole, notes = len(side) + sum(train.values()), []
    few = {label: held.get(label, 0) for label in train | held if held.get(label, 0) < FEW}
    for label, n in sorted(few.items(), key=lambda item: item[1])[:MOST_THIN]:
        there = f"only {n} {word} rows have" if n > 1 else f"only 1 {word} row has" if n else f"no {word} row has"
        need = FEW * whole / (n + train.get(label, 0))
        notes.append(f"{there} {target.column} = {label}: about {round(need):,} {word} rows would hold {FEW}")
    if (more := len(few) - MOST_THIN) > 0:
        notes.append(f"{more} more class{'es have' if more > 1 else ' has'} fewer than {FEW} {word} rows")
    return notes


def far_off(split: Split, rule: str, n_held: int, n_rows: int) -> list[str]:
    """Where what cannot be divided makes the share that is held out another than was declared."""
    if rule not in INDIVISIBLE or not isinstance(split.test, int | float) or not n_rows:
        return []
    if abs(n_held / n_rows - split.test) <= FAR * split.test:
        return []
    declared = f"test={split.test:g} was declared: {INDIVISIBLE[rule]} are never divided"
    return [f"{100 * n_held / n_rows:.0f} % of the rows are held out, and {declared}"]


def _differ(counts: dict[str, dict[str, int]], design_effect: float) -> float | None:
    """The p-value of equal shares of the classes; None for too few units.

    Rows that are drawn together count for fewer: their counts are divided by the design effect, which takes rows of a
    unit for alike, so that the test rather says nothing than too much (Rao and Scott, 1981, JASA 76:221).
    """
    labels = sorted(counts["train"] | counts["test"])
    fewer = [[round(counts[side].get(label, 0) / design_effect) for label in labels] for side in ("train", "test")]
    return float(chi2_two_sample(fewer[0], fewer[1]).p_value) if all(map(sum, fewer)) else None


def _told_apart(rule: str, target: Target, p_value: float) -> str:
    why = {
        "time": "it changes with time, and figures of the hold-out are about the newest rows",
        "official": "the official test file was not drawn as the training rows were",
        "mask": "the mask does not draw at random",
        "splitter": "the splitter does not draw at random, or chance did what it does once in a thousand splits",
    }.get(rule, "chance alone does so once in a thousand splits: another salt= draws anew")
    return f"shares of {target.column} differ between the sides (p = {p_value:.1g}): {why}"


def expected(
    train: pd.DataFrame, test: pd.DataFrame, target: Target, roles: Roles, task: str, counts: dict[str, dict[str, int]]
) -> dict[str, float]:
    """Half the width of the 95 % interval that a metric will have on these held-out rows, under a stated law.

    See `stats.planned`: two classes at an AUC of 0.8, a number at an R² of 0.5, bounds for several classes; weighted
    rows as what they are worth. Rows are taken for independent: where there are groups, the interval will be at least
    as wide. Metrics that are not known there are absent.
    """
    if not len(train) or not len(test):
        return {}
    if task == "regression":
        deviation, n = _deviation(train, target, roles), _worth(test, roles)
        found = {name: number_se(name, deviation, n) for name in OF_NUMBERS}
    else:
        label = _shown_class(counts["train"], target) if task == "binary" else ""
        labels = sorted(counts["train"] | counts["test"], key=lambda one: one != label)
        rows, shares = _worth_of_classes(test, target, roles, labels)
        there = [(n, share) for n, share in zip(rows, shares, strict=True) if n >= 1]
        if task == "binary":
            found = {name: binary_se(name, rows[0], rows[1], shares[0]) for name in OF_TWO} if len(there) == 2 else {}
        elif there:
            names = OF_SEVERAL if len(there) == len(rows) else OF_SHARES
            found = {name: several_se(name, *zip(*there, strict=True)) for name in names}
        else:
            found = {}
    half = normal_quantile(0.95)
    return {name: half * se for name, se in found.items() if se is not None and 0 < se < math.inf}


def _worth(rows: pd.DataFrame, roles: Roles) -> float:
    """How many equally weighted rows these tell as much as."""
    return effective_rows(rows[roles.weight].to_numpy(dtype="float64") if roles.weight else None, len(rows))


def _worth_of_classes(
    test: pd.DataFrame, target: Target, roles: Roles, labels: list[str]
) -> tuple[list[float], list[float]]:
    """What the rows of each class are worth, and its share of the weight."""
    import numpy as np
    import pandas as pd

    code, classes = pd.factorize(test[target.column])
    weight = test[roles.weight].to_numpy(dtype="float64") if roles.weight else np.ones(len(code))
    weight = weight / (weight.max() or 1.0)  # as in `effective_rows`
    sums, squares = (np.bincount(code, weights=one, minlength=len(classes)) for one in (weight, weight**2))
    place = {str(label): at for at, label in enumerate(classes)}
    of_class = [(float(sums[place[label]]), float(squares[place[label]])) if label in place else (0.0, 0.0)
                for label in labels]  # fmt: skip
    worth = [one**2 / square if square else 0.0 for one, square in of_class]
    return worth, [one / (float(sums.sum()) or 1.0) for one, _ in of_class]


def _deviation(train: pd.DataFrame, target: Target, roles: Roles) -> float:
    """Standard deviation of the target, weighted."""
    import numpy as np

    y = train[target.column].to_numpy(dtype="float64")
    weight = train[roles.weight].to_numpy(dtype="float64") if roles.weight else np.ones(len(y))
    if not weight.any():
        return math.nan
    return math.sqrt(float(np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)))


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

    def told(label: str) -> str:
        """Rows of a class and their share, on either side."""
        each = [
            f"{report['counts'][side].get(label, 0):,} ({100 * shares.get(label, 0):.1f} %)"
            for side, shares in (("train", train), ("test", test))
        ]
        return " / ".join(each)

    if task == "regression":
        parts.append(f"mean {target.column} {train['mean']:.4g} / {test['mean']:.4g}")
    elif task == "binary":
        label = _shown_class(train, target)
        name = target.column if target.positive is None else f"{target.column} = {label}"
        parts.append(f"{name}: {told(label)}")
    else:
        rarest = min(train, key=lambda label: (train[label], label))
        parts.append(f"rarest {rarest}: {told(rarest)}")
    if report.get("from") is not None:
        parts[1] += f" from {report['from']}"
    parts += [f"{n:,} left out ({why})" for why, n in report["dropped"].items()]
    return " · ".join(parts)


def _shown_class(train: Mapping[str, float], target: Target) -> str:
    """The positive class; where it is plain, the one that says so.

    Examples
    --------
    >>> _shown_class({"1": 300, "2": 100}, Target("y", positive=2.0))
    '2'
    """
    if target.positive is not None:
        declared = keys.text(target.positive)
        for label in train:
            if keys.text(label) == declared:
                return label
    plain = [label for label in train if label.lower() in ("1", "1.0", "true", "yes")]
    return plain[0] if plain else max(train)
