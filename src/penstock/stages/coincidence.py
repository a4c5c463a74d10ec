"""How many rows would be alike by chance: tables of few distinct values hold the same row again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.stages.alike import plain
from penstock.stages.profiles import kind_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Numbers = npt.NDArray[np.uint64]
    Floats = npt.NDArray[np.float64]

MORE_THAN_CHANCE = 3
"""How many times as many rows as chance would make alike are more than chance."""
PLACES = 6
"""Most decimal places of a number that is taken for rounded."""
WINDOW = 0.05
"""Share of a rounded number's range, either way, that counts as near."""
MOST_STEPS = 10**9
"""Of a number with more of them nothing is known of what comes next to it."""
SAMPLED, EXACT = 2_000, 1e-9
"""Rows from which it is told that a number follows from others, and the share of its spread that may be left then."""
REPEATED = 5
"""Rows that a text has on average where another one in its place is no surprise."""


def by_chance(train: pd.DataFrame, test: pd.DataFrame, columns: list[str], *, near: bool = False) -> Floats:
    """For each held-out row the chance that a training row equals it in all columns without being a copy of it.

    Different rows that are alike have neighbours: rows that are the same in all columns but one, and in that one hold
    another text, or a rounded number that is near. A copy has one only by accident. So with m training rows that are
    the same but for column j, and a value that is f times as frequent as the other ones together, f · m rows alike
    are expected, whatever the other columns have to do with each other; by the Poisson law one or more of them with
    the chance 1 - exp(-f · m). The column that explains most is taken. Numbers that are not rounded, and texts that
    hardly come twice, explain nothing; columns that follow from the others (sums, another unit) are left out, since
    with one of them nobody has a neighbour.

    Parameters
    ----------
    train, test : DataFrame
    columns : list of str
        Features and target.
    near : bool, default=False
        Of values as `alike` makes them for near copies.

    Returns
    -------
    ndarray of float of shape (n_test,)

    Examples
    --------
    >>> import pandas as pd
    >>> rolls = [(a, b) for a in range(6) for b in range(6)]
    >>> dice = pd.DataFrame(rolls * 3, columns=["red", "blue"])
    >>> by_chance(dice[:72], dice[72:], ["red", "blue"]).mean().round(2)
    np.float64(0.86)
    >>> by_chance(dice[:72] + 0.1234567, dice[72:] + 0.1234567, ["red", "blue"]).sum()
    np.float64(0.0)
    """
    import numpy as np
    import pandas as pd

    cut, whole, levels = len(train), np.zeros(len(train) + len(test), dtype=np.uint64), []
    hashes: list[Numbers] = []
    follow = _following(train, columns)
    for at, name in enumerate(columns):
        if name in follow:
            continue
        both = pd.concat([train[name], test[name]], ignore_index=True)
        made = pd.Series(plain(both, near))
        hashed = np.asarray(pd.util.hash_pandas_object(made, index=False), dtype=np.uint64)
        hashes.append(hashed * np.uint64(2 * at + 0x9E3779B97F4A7C15))
        whole += hashes[-1]
        levels.append(_levels(both, made))
    best = np.zeros(len(test))
    for hashed, (code, reach) in zip(hashes, levels, strict=True):
        if reach:
            found = _expected(whole - hashed, code, reach, cut)
            best = found if found.sum() > best.sum() else best
    return best


def _following(train: pd.DataFrame, columns: list[str]) -> set[str]:
    """Numbers that are a sum of others before them, with weights: by what projection on those leaves of them."""
    import numpy as np

    numbers = [name for name in columns if kind_of(train[name]) in ("number", "integer")]
    if not numbers:
        return set()
    step = max(len(train) // SAMPLED, 1)
    values = np.column_stack([train[name].iloc[::step].to_numpy(dtype=np.float64, na_value=np.nan) for name in numbers])
    values = values[np.isfinite(values).all(axis=1)]
    if len(values) < 2 * len(numbers) + 2:
        return set()
    found, basis = set[str](), np.ones((len(values), 1)) / np.sqrt(len(values))
    for name, column in zip(numbers, values.T, strict=True):
        rest = column / (np.abs(column).max() or 1.0)
        size = float(np.linalg.norm(rest - rest.mean()))
        for _ in range(2):  # once more for what rounding left
            rest = rest - basis @ (basis.T @ rest)
        left = float(np.linalg.norm(rest))
        if left <= EXACT * max(size, EXACT):
            found.add(name)
        else:
            basis = np.column_stack([basis, rest / left])
    return found


def _levels(column: pd.Series[Any], made: pd.Series[Any]) -> tuple[Any, int]:
    """A whole number for each cell, and how far apart two of them may be to be near; 0 where that cannot be said."""
    import numpy as np
    import pandas as pd

    if kind_of(column) in ("number", "integer"):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        there = np.isfinite(values)
        steps = _steps(values[there])
        if steps is not None and steps.max(initial=0) > 0:
            code = np.full(len(values), -1, dtype=np.int64)
            code[there] = steps
            top = int(steps.max())
            return code, max(1, round(WINDOW * top)) if top > 10 else top
        return None, 0
    code = pd.factorize(made)[0].astype(np.int64)
    n = int(code.max(initial=-1)) + 1
    return code, n if n * REPEATED <= len(code) else 0


def _steps(values: Floats) -> Any:
    """Rounded numbers as whole steps from the lowest; None of numbers that are not rounded."""
    import numpy as np

    if not len(values):
        return None
    for places in range(PLACES + 1):
        scaled = values * 10.0**places
        whole = np.rint(scaled)
        if whole.max() - whole.min() > MOST_STEPS:
            return None
        if (np.abs(scaled - whole) < 1e-6).all():
            steps = (whole - whole.min()).astype(np.int64)
            return steps // max(int(np.gcd.reduce(steps)), 1)
    return None


def _expected(rest: Numbers, code: Any, reach: int, cut: int) -> Floats:
    """Chance of a row alike, by training rows that are the same but for one column."""
    import numpy as np

    group = np.unique(rest, return_inverse=True)[1].astype(np.int64)
    # Within its group a row has its place in the column; a missing cell is at 0, far from all others.
    first = reach + 1
    place = np.where(code < 0, 0, code + first)
    last = int(place.max())
    key = group * (last + reach + 1) + place
    here, alone = np.sort(key[:cut]), np.sort(place[:cut])
    asked, start = place[cut:], key[cut:] - place[cut:]
    low, high = np.maximum(asked - reach, first), np.minimum(asked + reach, last)
    others = _between(here, start + low, start + high) - _between(here, key[cut:], key[cut:])
    same = _between(alone, asked, asked)
    around = np.maximum(_between(alone, low, high) - same, 1)
    frequent = np.where(same >= REPEATED, same / around, 1 / np.maximum(high - low, 1))
    return np.where(asked == 0, 0.0, 1 - np.exp(-np.maximum(others, 0) * frequent))


def _between(ordered: Any, low: Any, high: Any) -> Any:
    import numpy as np

    return np.searchsorted(ordered, high, side="right") - np.searchsorted(ordered, low, side="left")
