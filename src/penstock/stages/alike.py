"""Rows of two tables that are equal, or equal but for rounding and spelling: a number for each, to be compared."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from penstock.stages.profiles import kind_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Numbers = npt.NDArray[np.uint64]

DIGITS = 6
"""Significant digits to which numbers are rounded where near copies are looked for."""


def alike(
    train: pd.DataFrame, test: pd.DataFrame, features: list[str], target: str, *, near: bool = False
) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
    """64-bit numbers for rows, the same for rows whose cells are the same, whatever the types of the sides.

    Parameters
    ----------
    train, test : DataFrame
    features : list of str
    target : str
    near : bool, default=False
        Round numbers to `DIGITS` significant digits; of texts fold case, runs of white space and forms of Unicode.

    Returns
    -------
    like : (train, test), ndarrays of uint64
        By the features.
    same : (train, test), ndarrays of uint64
        By features and target.
    """
    import numpy as np
    import pandas as pd

    made = {}
    for name in [*features, target]:
        made[name] = plain(pd.concat([train[name], test[name]], ignore_index=True), near)
    whole = pd.DataFrame(made)
    like = np.asarray(pd.util.hash_pandas_object(whole[features], index=False), dtype=np.uint64)
    beside = whole[[target]].assign(**{f"{target} like": like})
    same = np.asarray(pd.util.hash_pandas_object(beside, index=False), dtype=np.uint64)
    cut = len(train)
    return (like[:cut], like[cut:]), (same[:cut], same[cut:])


def plain(column: pd.Series[Any], near: bool) -> Any:
    """A column in the one form that is compared.

    Parameters
    ----------
    column : Series
    near : bool
        As for `alike`.
    """
    import numpy as np
    import pandas as pd

    from penstock.stages.keys import times

    kind = kind_of(column)
    if kind == "datetime":
        return times(column)
    if kind in {"number", "boolean", "integer"}:
        if kind == "integer" and not near and not column.isna().any():
            return column.to_numpy()
        values = column.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0  # -0.0 is 0.0
        return rounded(values) if near else values
    codes, words = pd.factorize(column)
    texts = [folded(str(word)) if near else str(word) for word in words]
    again, distinct = pd.factorize(np.array([*texts, ""], dtype=object))
    return pd.Series(distinct, dtype=object).iloc[again[codes]].where(codes >= 0, None).reset_index(drop=True)


def folded(text: str) -> str:
    r"""A text without what spelling may change: case, white space, forms of the same Unicode character.

    Compatibility composition and full case folding of the Unicode standard (annex 15, NFKC; chapter 3.13).

    Examples
    --------
    >>> folded("  Strasse\u00a012 ") == folded("STRASSE 12") == folded("Straße 12")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Numbers by their first `DIGITS` significant digits and their power of ten, as one whole number each.

    Examples
    --------
    >>> import numpy as np
    >>> a, b, c = rounded(np.array([0.1 + 0.2, 0.3, 0.30001]))
    >>> bool(a == b), bool(b == c)
    (True, False)
    """
    import numpy as np

    out = np.zeros(len(values), dtype=np.int64)
    usable = np.isfinite(values) & (np.abs(values) > 1e-290)
    x = values[usable]
    power = np.floor(np.log10(np.abs(x))).astype(np.int64)
    digits = np.rint(x / 10.0 ** (power - DIGITS + 1)).astype(np.int64)
    full = np.abs(digits) >= 10**DIGITS
    digits[full] = np.sign(digits[full]) * 10 ** (DIGITS - 1)
    out[usable] = digits * 1000 + np.sign(digits) * (power + full + 400)
    for at, odd in enumerate((np.isnan(values), np.isposinf(values), np.isneginf(values))):
        out[odd] = 1 + at  # no number has so few digits
    return out
