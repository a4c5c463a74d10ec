"""The time of a row, in a table that nobody has described: a date, a text that is one, or its parts in columns."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from penstock.stages.profiles import kind_of
from penstock.stages.roles import LIKELY, SURE, UNSURE, words_of

if TYPE_CHECKING:
    import pandas as pd

_ISO = re.compile(r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([+-]\d{2}:?\d{2}|Z)?)?$")
FORMATS = (
    *("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%Y%m%d", "%d-%b-%Y", "%d %b %Y"),
    *("%b %d, %Y", "%B %d, %Y", "%d %B %Y", "%m/%d/%y", "%d.%m.%y", "%Y-%m", "%Y/%m", "%m/%Y", "%b %Y", "%B %Y"),
)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p")
_DAYS_FIRST = ("%d/%m/%Y", "%d-%m-%Y")
LATE_WORDS = frozenset(
    {
        *("status", "outcome", "result", "resolution", "resolved", "closed", "close", "ended", "end", "finished"),
        *("actual", "final", "canceled", "cancelled", "cancellation", "refund", "refunded", "returned", "delivered"),
        *("paid", "settled", "discharge", "discharged", "death", "exit", "churn", "churned", "default", "defaulted"),
        *("duration", "after", "post", "label", "prediction"),
    }
)
"""Words in names of columns that are often written after the event."""
_PEOPLE = frozenset({"marital", "civil", "family", "employment", "social", "smoking", "insurance"})
"""With one of these a status is a person's, not the event's."""
_NOT_EVENT = frozenset({"birth", "dob", "birthday", "born", "expiry", "expires", "built", "updated", "modified"})
_EVENT = ("event", "created", "order", "ordered", "booked", "arrival", "start", "visit", "transaction", "invoice")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK_PARTS = (("hour", 0, 23), ("minute", 0, 59))
_UNITS = {
    "year": {"year", "yr", "yyyy", "jahr", "annee", "année", "anno", "ano", "año"},
    "month": {"month", "mnth", "mon", "mth", "mm", "monat", "mois", "mes", "mese"},
    "day": {"day", "dd", "mday", "dom", "tag", "jour", "dia", "día", "giorno"},
    "hour": {"hour", "hr", "hh", "stunde", "heure", "hora", "ora"},
    "minute": {"minute", "min"},
}
"""Words in names of columns with a part of a date; what their values must be keeps others out."""
_EPOCHS = {"s": (300_000_000, 4_000_000_000), "ms": (300_000_000_000, 4_000_000_000_000)}
"""Seconds and milliseconds since 1970 that are times: from 1979 to 2096."""
_EPOCH_NAMES = frozenset({"time", "timestamp", "ts", "epoch", "date", "datetime", "at", "created", "unix", "unixtime"})
FEWEST_TIMES = 10


def sounds_late(name: str) -> bool:
    """Whether a column's name speaks of what comes after the event.

    Examples
    --------
    >>> sounds_late("reservation_status_date"), sounds_late("marital_status"), sounds_late("age")
    (True, False, False)
    """
    words = set(words_of(name))
    return bool(words & LATE_WORDS) and not words & _PEOPLE


@dataclass(frozen=True, slots=True)
class Moment:
    """Where the time of a row stands.

    Attributes
    ----------
    column : str
        The column with it, or the one that a step will make.
    why : str
    confidence : float
    form : str
        "" for a column that is a time already, "iso" for a text that `ps.read(dates=…)` reads, "s" or "ms" for whole
        numbers that count them since 1970, else the format.
    parts : tuple of (str, str)
        (unit, column) where the time stands in several columns: "year", "month", "day", "hour", "minute".
    """

    column: str
    why: str
    confidence: float = SURE
    form: str = ""
    parts: tuple[tuple[str, str], ...] = ()


def dates_of(table: pd.DataFrame, columns: list[str]) -> dict[str, str]:
    """Columns that hold dates or times: name → "" (typed so), "iso", "s" or "ms" since 1970, or their texts' format.

    Parameters
    ----------
    table : DataFrame
    columns : list of str
        Candidates.
    """
    found = {}
    for name in columns:
        kind = kind_of(table[name])
        if kind == "datetime":
            found[name] = ""
        elif kind == "text" or (kind == "integer" and {"date", "day", "dt"} & set(words_of(name))):
            form = _form_of(table[name])
            if form is not None and (kind == "text" or form == "%Y%m%d"):
                found[name] = form
        elif kind == "integer" and _EPOCH_NAMES & set(words_of(name)):
            unit = next((unit for unit, limits in _EPOCHS.items() if _within(table[name], *limits)), None)
            if unit is not None:
                found[name] = unit
    return found


def _form_of(column: Any) -> str | None:
    """The one form that every text of a column has; None where there is none."""
    texts = column.dropna().astype(str).str.strip()
    texts = texts[texts != ""].drop_duplicates()
    if len(texts) < 3 or not texts.str.contains(r"\d", regex=True).iloc[0]:
        return None
    if texts.head(50).str.fullmatch(_ISO).all() and texts.str.fullmatch(_ISO).all():
        return "iso"
    head = texts.head(200)
    fits = [f + clock for f in FORMATS for clock in CLOCKS if _parses(head, f + clock)]
    fits = [form for form in fits if _parses(texts, form)]
    return fits[0] if fits else None


def _parses(texts: Any, form: str) -> bool:
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return not bool(pd.to_datetime(texts, format=form, errors="coerce").isna().any())


def moment_of(table: pd.DataFrame, columns: list[str], dates: dict[str, str]) -> Moment | None:
    """The time of the event that a row speaks of.

    Parameters
    ----------
    table : DataFrame
    columns : list of str
        Candidates.
    dates : dict
        As `dates_of` gives it.

    Returns
    -------
    Moment or None
        A date that is never missing, by its name the event's; else year, month and day in columns of their own.
    """
    usable = [
        name
        for name in dates
        if not table[name].isna().any()
        and table[name].nunique() >= FEWEST_TIMES
        and not sounds_late(name)
        and not _NOT_EVENT & set(words_of(name))
    ]
    usable.sort(key=lambda name: next((at for at, word in enumerate(_EVENT) if word in words_of(name)), len(_EVENT)))
    parts = _parts(table, columns)
    if usable:
        form = dates[usable[0]]
        others = f" (also dates: {', '.join(map(repr, usable[1:4]))})" if len(usable) > 1 else ""
        day_first = form.partition(" ")[0] in (*_DAYS_FIRST, "%m/%d/%Y", "%m-%d-%Y")
        confidence = UNSURE if others or day_first else SURE
        return Moment(usable[0], "a time that is never missing" + others, confidence, form)
    if parts:
        names = ", ".join(name for _, name in parts)
        free = next(name for name in ("time", "moment", "event_time", "row_time") if name not in table.columns)
        return Moment(free, f"year, month and day stand in {names}", LIKELY, "", parts)
    return None


def _parts(table: pd.DataFrame, columns: list[str]) -> tuple[tuple[str, str], ...]:
    """Columns with the year, the month and the day, and the hour and minute if there are any."""
    found: dict[str, str] = {}
    for name in columns:
        words, column = set(words_of(name)), table[name]
        if words & _UNITS["year"] and _within(column, 1900, 2100):
            found.setdefault("year", name)
        elif words & _UNITS["day"] and "week" not in words and _within(column, 1, 31) and column.nunique() > 7:
            found.setdefault("day", name)
        elif words & _UNITS["month"] and (_within(column, 1, 12) or _are_months(column)):
            found.setdefault("month", name)
        for unit, low, high in _CLOCK_PARTS:
            if len(words) == 1 and words <= _UNITS[unit] and _within(column, low, high):
                found.setdefault(unit, name)
    if not {"year", "month", "day"} <= set(found):
        return ()
    units = ("year", "month", "day", "hour") + (("minute",) if "hour" in found else ())
    return tuple((unit, found[unit]) for unit in units if unit in found)


def _within(column: Any, low: int, high: int) -> bool:
    if kind_of(column) != "integer" or column.isna().any() or not len(column):
        return False
    return bool(column.min() >= low and column.max() <= high)


def _are_months(column: Any) -> bool:
    if kind_of(column) != "text" or column.isna().any():
        return False
    return all(str(word).strip().lower()[:3] in _MONTHS for word in column.unique())


def as_times(table: pd.DataFrame, moment: Moment) -> Any:
    """The time of each row, as the written declaration will make it.

    Returns
    -------
    Series of datetime64
    """
    import pandas as pd

    if moment.parts:
        parts = {unit: table[name] for unit, name in moment.parts}
        if kind_of(parts["month"]) == "text":
            parts["month"] = parts["month"].str.strip().str[:3].str.lower().map(month_number)
        return pd.to_datetime(pd.DataFrame(parts))
    if moment.form in {"", "iso"}:
        return pd.to_datetime(table[moment.column], utc=moment.form == "iso" and _zoned(table[moment.column]))
    if moment.form in _EPOCHS:
        unit: Literal["s", "ms"] = "s" if moment.form == "s" else "ms"
        return pd.to_datetime(table[moment.column], unit=unit)
    return pd.to_datetime(table[moment.column].astype(str), format=moment.form)


def _zoned(column: Any) -> bool:
    return bool(re.search(r"([+-]\d{2}:?\d{2}|Z)$", str(column.iloc[0])[10:]))


def month_number(word: str) -> int:
    """A month's number by the first three letters of its English name.

    Examples
    --------
    >>> month_number("feb")
    2
    """
    return _MONTHS.index(word) + 1
