"""Which columns of a table that nobody has described have a role: key, groups, time, or none at all.

Read from names and from values, never from the target. Each answer comes with its reason and a confidence between
0 and 1, so that a person can agree or overrule.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.stages.profiles import kind_of

if TYPE_CHECKING:
    import pandas as pd

SURE, LIKELY, UNSURE = 0.95, 0.8, 0.6
"""Confidences: name and values agree; one of them speaks clearly; a guess that should be looked at."""

_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_STRONG = frozenset({"id", "ids", "uuid", "guid", "identifier", "pk"})
_WEAK = frozenset({"no", "nr", "num", "number", "key", "ref", "account", "ssn", "iban", "vin", "isbn", "email"})
_NOT_ID = re.compile(r"(paid|grid|humid|acid|solid|void|bid|covid|valid|liquid|hybrid|fluid|plasmid|roid|rapid|said)$")
_CODE = re.compile(r"^[\w.:/+-]{3,64}$")
_COUNTER_NAMES = frozenset(
    {"index", "row", "rownum", "rownames", "rowid", "unnamed", "instant", "no", "nr", "seq", "line"}
)
ENOUGH_ROWS = 50
"""Below, values that never repeat say nothing."""
MOST_LEVELS = 250
"""Names of more levels are no categories: boosted trees take at most 255."""
SHARE_OF_NAMES = 0.02
"""Entities are at least so many of the rows; fewer are categories."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One decision of a proposal.

    Attributes
    ----------
    topic : str
        The field that it fills: "key", "time", "drop", "model", …
    choice : str
        What was chosen.
    why : str
    confidence : float
        From 0 to 1.
    """

    topic: str
    choice: str
    why: str
    confidence: float = SURE

    @property
    def to_check(self) -> bool:
        """Whether a person should look at it."""
        return self.confidence < LIKELY

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"topic": self.topic, "choice": self.choice, "why": self.why, "confidence": self.confidence}


def words_of(name: str) -> list[str]:
    """The words of a column's name, in lower case.

    Examples
    --------
    >>> words_of("customerID"), words_of("arrival_date_year"), words_of("hospital-number")
    (['customer', 'id'], ['arrival', 'date', 'year'], ['hospital', 'number'])
    """
    return [word.lower() for word in _TOKEN.findall(name)]


_OF_TIME = frozenset({"year", "month", "week", "day", "date", "hour", "minute", "quarter", "time"})


def names_things(name: str) -> float:
    """How much a column's name says that it names things, from 0 to 1.

    Examples
    --------
    >>> names_things("customer_id") > names_things("tailnum") > names_things("humid") == 0
    True
    """
    words = words_of(name)
    last = words[-1] if words else ""
    if _OF_TIME & set(words):
        return 0.0
    if last in _STRONG or (last.endswith("id") and len(last) > 3 and not _NOT_ID.search(last)):
        return 1.0
    if last in _WEAK or (len(last) > 4 and last.endswith(("number", "num", "uuid"))):
        return 0.6
    return 0.0


def key_of(table: pd.DataFrame, columns: list[str]) -> Reason | None:
    """The column whose values name the rows: never missing, never twice, and named or formed like a name.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_columns)
    columns : list of str
        Candidates.
    """
    found = []
    for name in columns:
        column = table[name]
        kind = kind_of(column)
        if kind not in {"integer", "text"} or column.isna().any() or column.nunique() < len(column):
            continue
        named = names_things(name)
        if is_counter(column, name) and named < 1:
            continue
        if named:
            found.append(Reason("key", name, "different in every row, and named as an identifier", 0.8 + 0.18 * named))
        elif kind == "text" and len(table) >= ENOUGH_ROWS and column.head(1_000).astype(str).str.fullmatch(_CODE).all():
            found.append(Reason("key", name, "a code that is different in every row", LIKELY))
    return max(found, key=lambda one: one.confidence, default=None)


def is_counter(column: Any, name: str) -> bool:
    """Whether a column counts the rows: whole numbers in the order of the file, hardly a gap, named so or not at all.

    Examples
    --------
    >>> import pandas as pd
    >>> is_counter(pd.Series(range(1, 101)), "instant"), is_counter(pd.Series(range(1, 101)), "age")
    (True, False)
    """
    import numpy as np

    if kind_of(column) != "integer" or column.isna().any() or len(column) < 2:
        return False
    values = column.to_numpy(dtype=np.int64)
    words = words_of(name)
    named = not words or words[0] in _COUNTER_NAMES or words[-1] in _COUNTER_NAMES or name.isdigit()
    dense = int(values[-1]) - int(values[0]) < 1.2 * len(values)
    return named and dense and bool((np.diff(values) > 0).all())


def groups_of(table: pd.DataFrame, columns: list[str]) -> Reason | None:
    """The column that names an entity of which there are several rows; the coarsest of the best named.

    Parameters
    ----------
    table : DataFrame
    columns : list of str
        Candidates.
    """
    found = []
    for name in columns:
        column = table[name]
        named = names_things(name)
        if not named or kind_of(column) not in {"integer", "text"} or column.isna().any():
            continue
        distinct = column.nunique()
        if not SHARE_OF_NAMES * len(column) < distinct < len(column) or distinct < 10:
            continue
        why = f"named as an identifier, {distinct:,} of them in {len(column):,} rows: rows of one stay together"
        found.append((named, -distinct, Reason("groups", name, why, 0.7 + 0.2 * named)))
    return max(found, key=lambda one: one[:2], default=(0, 0, None))[2]


def useless(table: pd.DataFrame, columns: list[str]) -> list[Reason]:
    """Columns that a model cannot learn from: one value only, counters, names of single rows, the same told twice.

    Parameters
    ----------
    table : DataFrame
    columns : list of str
        Candidates, without those that have a role.

    Returns
    -------
    list of Reason
        Topic "drop".
    """
    found = []
    for name in columns:
        column = table[name]
        distinct = column.nunique(dropna=True)
        if distinct == 0:
            found.append(Reason("drop", name, "no value at all"))
        elif distinct == 1 and not column.isna().any():
            found.append(Reason("drop", name, "the same value in every row"))
        elif is_counter(column, name):
            found.append(Reason("drop", name, "counts the rows of the file"))
        elif _names_rows(column, name, distinct):
            found.append(Reason("drop", name, "different in (nearly) every row: it names rows", LIKELY))
        elif distinct > MOST_LEVELS and is_name(column, name):
            found.append(Reason("drop", name, "a number that names things: its size says nothing", LIKELY))
    gone = {one.choice for one in found}
    return found + _told_twice(table, [name for name in columns if name not in gone])


def _names_rows(column: Any, name: str, distinct: int) -> bool:
    """Short texts, or whole numbers named as identifiers, that hardly repeat."""
    n = int(column.notna().sum())
    if n < ENOUGH_ROWS or distinct < 0.95 * n:
        return False
    kind = kind_of(column)
    return (kind == "text" and not is_prose(column)) or (kind == "integer" and names_things(name) == 1)


def is_name(column: Any, name: str) -> bool:
    """Whether whole numbers are names by the column's own: a customer's, a shop's. Missing cells make floats of them.

    Examples
    --------
    >>> import pandas as pd
    >>> is_name(pd.Series([17.0, None, 4.0]), "shop_id"), is_name(pd.Series([0.5]), "shop_id")
    (True, False)
    """
    if names_things(name) < 1 or kind_of(column) not in {"integer", "number"}:
        return False
    return bool((column.dropna() % 1 == 0).all())


def is_prose(column: Any) -> bool:
    """Whether a text column holds sentences rather than names or codes: four words a cell, seldom the same."""
    cells = column.dropna()
    if not len(cells) or cells.nunique() < 0.3 * len(cells):
        return False
    return float(cells.iloc[:: max(len(cells) // 500, 1)].astype(str).str.count(r"\s+").mean()) >= 3


def _told_twice(table: pd.DataFrame, columns: list[str]) -> list[Reason]:
    """Columns that say the same as one before them, value for value; of a number and a text the text goes.

    Two numbers must also have the same order (or the opposite one): a model may use it. Texts whose values hardly
    repeat pair with every other such column; they say the same only where they are the same.
    """
    import numpy as np
    import pandas as pd

    seen: dict[bytes, list[tuple[str, Any]]] = {}
    found = []
    kinds = {name: kind_of(table[name]) for name in columns}
    # Numbers first, so that of a pair the number stays.
    for name in sorted(columns, key=lambda one: kinds[one] == "text"):
        if kinds[name] == "datetime":
            continue
        codes, values = pd.factorize(table[name])
        order = np.argsort(np.argsort(values)) if kinds[name] != "text" else None
        pattern = hashlib.sha256(codes.tobytes())
        if kinds[name] == "text" and len(values) > len(codes) / 2:
            pattern.update("\0".join(map(repr, values)).encode())
        like = seen.setdefault(pattern.digest(), [])
        same = next((other for other, ranks in like if _same_order(order, ranks)), None)
        if same is not None:
            found.append(Reason("drop", name, f"says the same as {same!r}, value for value"))
        else:
            like.append((name, order))
    return found


def _same_order(ranks: Any, others: Any) -> bool:
    """Whether two columns that are equal but for their values' names also put them in one order; texts have none."""
    if ranks is None or others is None:
        return True
    return bool((ranks == others).all() or (ranks == len(others) - 1 - others).all())
