"""What cells say in disguise: numbers that are written as texts, "none" that is written as a number or a code."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.stages.profiles import kind_of
from penstock.stages.roles import LIKELY, UNSURE, Reason

if TYPE_CHECKING:
    import pandas as pd

FEWEST_VALUES = 5
"""Columns of fewer different values are left as they are."""
_MONEY = r"(?:[€$£¥₹]|USD|EUR|GBP|CHF|JPY|kr|Fr\.?)"
_UNIT = (
    r"(?:%|kg|g|mg|lbs?|oz|km|m|cm|mm|mi|miles|ft|in|l|ml|cc|bhp|hp|kW|kWh|mpg|kmpl|h|hrs?|hours?|min|mins|minutes?"
    r"|s|sec|days?|weeks?|months?|mos|years?|yrs?|°C|°F|px|GB|MB|TB|k?cal|sqft)"
)
_POINTS = r"(?:\d{1,3}(?:,\d{3})+|0|[1-9]\d*)(?:\.\d+)?"
_COMMAS = r"(?:\d{1,3}(?:\.\d{3})+|0|[1-9]\d*)(?:,\d+)?"
_CODE = re.compile(r"[A-Z]{2}")
_SENTINELS = frozenset(
    {
        *(-1.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, -999999.0),
        *(99.0, 999.0, 9999.0, 99999.0, 999999.0, 9999999.0),
    }
)
"""Numbers that people write for "none"; which of them do is for the other values to tell."""
FEWEST_SENTINELS = 5
SHARE_OF_SENTINELS = 0.002


# ── numbers that are written as texts ────────────────────────────────────────────────────────────────────────


def number_form(column: Any) -> str | None:
    """How a column of texts writes its numbers: "." or "," before the decimals; None where it holds no numbers.

    Money, shares, measures of one unit each, and thousands that are set apart; codes with leading zeros are none.

    Parameters
    ----------
    column : Series of str

    Examples
    --------
    >>> import pandas as pd
    >>> number_form(pd.Series(["$1,200.50", "$3", "$7.25", "$9", "$11"]))
    '.'
    >>> number_form(pd.Series(["1,5", "2,0", "3,25", "4", "1.200,75"]))
    ','
    >>> number_form(pd.Series([f"K{i}" for i in range(9)])), number_form(pd.Series(["10115", "80331"] * 9))
    (None, None)
    """
    texts = column.dropna().astype(str).str.strip()
    texts = texts[texts != ""].drop_duplicates()
    if len(texts) < FEWEST_VALUES or not texts.iloc[:50].str.contains(r"\d", regex=True).all():
        return None
    units = {re.sub(r"[\d.,\s-]", "", text) for text in texts.iloc[:200]}
    if len(units) > 1 or (units == {""} and not texts.str.contains(r"[.,]", regex=True).any()):
        return None  # several units; or whole numbers that somebody has made texts, as one does with codes
    for form, digits in ((".", _POINTS), (",", _COMMAS)):
        whole = re.compile(rf"(?:{_MONEY}\s?)?-?(?:{_MONEY}\s?)?{digits}\s?(?:{_MONEY}|{_UNIT})?")
        if texts.iloc[:200].str.fullmatch(whole).all() and texts.str.fullmatch(whole).all():
            return form
    return None


def as_numbers(column: Any, form: str) -> Any:
    """The numbers of a column of texts, as the written declaration will make them.

    Parameters
    ----------
    column : Series of str
    form : {".", ","}
        As `number_form` gives it.

    Examples
    --------
    >>> import pandas as pd
    >>> as_numbers(pd.Series(["€ 1.200,50", "-3 €", None]), ",").tolist()
    [1200.5, -3.0, nan]
    """
    import pandas as pd

    plain = column.str.replace(rf"[^\d{form}-]", "", regex=True)
    return pd.to_numeric(plain.str.replace(",", ".") if form == "," else plain).astype("float64")


def numbers_in(table: pd.DataFrame, columns: Sequence[str], dates: Mapping[str, str]) -> dict[str, str]:
    """Columns of texts that are numbers: name → form.

    Parameters
    ----------
    table : DataFrame
    columns : sequence of str
        Candidates.
    dates : mapping
        Columns that are dates, which are no numbers.
    """
    found = {}
    for name in columns:
        if name not in dates and kind_of(table[name]) == "text" and (form := number_form(table[name])) is not None:
            found[name] = form
    return found


def why_numbers(column: Any, form: str) -> tuple[str, float]:
    """What is said of such a column, and how sure it is."""
    if form == ",":
        return "numbers written as texts, a comma before the decimals: a step reads them", LIKELY
    cells = column.dropna().astype(str)
    if cells.str.contains(r"^\D*\d{1,3},\d{3}\D*$", regex=True).all():
        return "numbers written as texts: a step reads them, with commas as thousands", UNSURE
    return "numbers written as texts: a step reads them", LIKELY


# ── missing values that are written as numbers ───────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Sentinel:
    """A number that stands for "none".

    Attributes
    ----------
    column : str
    value : float
    reason : Reason
    """

    column: str
    value: float
    reason: Reason


def sentinels_in(table: pd.DataFrame, columns: Sequence[str]) -> list[Sentinel]:
    """Numbers such as 999 or -1 that stand far from all others of their column, or alone below zero.

    Parameters
    ----------
    table : DataFrame
    columns : sequence of str
        Candidates.

    Examples
    --------
    >>> import pandas as pd
    >>> ages = pd.DataFrame({"age": [*range(20, 90), *[999] * 9], "cents": [*range(70), *[99] * 9]})
    >>> [(one.column, one.value) for one in sentinels_in(ages, ["age", "cents"])]
    [('age', 999.0)]
    """
    found = []
    for name in columns:
        if kind_of(table[name]) not in {"integer", "number"}:
            continue
        values = table[name].dropna().to_numpy(dtype="float64")
        for value, count in _outermost(values):
            if value in _SENTINELS and count >= max(FEWEST_SENTINELS, SHARE_OF_SENTINELS * len(values)):
                rest = values[values != value]
                if _stands_apart(value, rest):
                    others = f"all others from {rest.min():g} to {rest.max():g}"
                    share = f"{100 * count / len(values):.2g} % of the rows"
                    why = f"{value:g} in {share}, and {others}: does it mean none"
                    found.append(Sentinel(name, value, Reason("sentinel", name, why, UNSURE)))
    return found


def _outermost(values: Any) -> list[tuple[float, int]]:
    if not len(values):
        return []
    return [(float(edge), int((values == edge).sum())) for edge in dict.fromkeys((values.min(), values.max()))]


def _stands_apart(value: float, rest: Any) -> bool:
    """Whether a value is no neighbour of the others: alone below zero, or as far from them as they are spread."""
    import numpy as np

    if len(np.unique(rest)) < FEWEST_VALUES:
        return False
    if value < 0 <= rest.min():
        return True
    gap = value - rest.max() if value > 0 else rest.min() - value
    low, high = np.quantile(rest, [0.01, 0.99])
    return bool(abs(value) >= 99 and gap > max(high - low, rest.max() - rest.min()) and gap > 0)


# ── texts that mean missing, and codes that only look so ─────────────────────────────────────────────────────


def missing_texts(kept: Mapping[str, Sequence[str]], table: pd.DataFrame) -> tuple[list[str], list[Reason]]:
    """Which texts that were left in columns of texts mean missing.

    Words that people use as values ("none", "no", "na") stay. So does "NA" where a column holds codes of two capital
    letters: Namibia, North America, an airline.

    Parameters
    ----------
    kept : mapping
        Text → columns in which it stands beside other texts.
    table : DataFrame
        As it was read without these.

    Returns
    -------
    missing : list of str
        What `ps.read(na=…)` should be told.
    reasons : list of Reason
        Topic "na".

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"land": ["NA", "DE", "ZA", "BW"], "grade": ["NA", "A", "B", "-"]})
    >>> missing_texts({"NA": ["land", "grade"], "-": ["grade"]}, table)[0]
    ['-']
    """
    missing, reasons = [], []
    for marker, columns in sorted(kept.items()):
        if marker.lower() in {"none", "no", "na"} and marker != "NA":
            continue
        codes = [name for name in columns if marker == "NA" and _holds_codes(table[name])]
        if codes:
            why = (
                f'"NA" stays what it is, for {" and ".join(map(repr, codes[:3]))} holds codes of two letters (Namibia '
                'is NA): na=["NA"] would make it missing'
            )
            reasons += [Reason("na", name, why, UNSURE) for name in columns]
        else:
            missing.append(marker)
            reasons += [Reason("na", name, f"{marker!r} is taken as missing", LIKELY) for name in columns]
    return missing, reasons


def _holds_codes(column: Any) -> bool:
    """Whether the words beside "NA" are codes of two capital letters."""
    words = [str(word) for word in column.dropna().unique() if str(word) != "NA"]
    return len(words) >= 2 and sum(bool(_CODE.fullmatch(word)) for word in words) >= 0.8 * len(words)
