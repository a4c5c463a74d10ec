"""What the proof changes: cells of held-out rows, and whatever lies after a moment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from penstock.core.replay import Key
from penstock.core.split import Split, duration_s
from penstock.core.target import Roles, Target
from penstock.stages.disturb import opposite, scrambled
from penstock.stages.membership import Sides, moments_of
from penstock.stages.moved import Moved
from penstock.stages.walk import Change

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Mask = npt.NDArray[np.bool_]

_OFFSET = re.compile(r"\d:\d{2}\S*([+-]\d{2}:?\d{2}|Z)$")
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?$")


@dataclass(frozen=True)
class Declared:
    """What both probes know of the declaration.

    Attributes
    ----------
    target : Target
    roles : Roles
    sides : Sides
    labels : frozenset of str
        The target and the columns known only after the event.
    """

    target: Target
    roles: Roles
    sides: Sides

    @property
    def labels(self) -> frozenset[str]:
        """Columns that are labels."""
        return frozenset((self.target.column, *self.target.after))

    def never(self) -> set[str]:
        """Columns that are not changed: by them rows are told apart and divided."""
        times = [name for name in (self.roles.time, self.target.time) if name]
        return {*self.roles.key, *self.roles.groups, *times}

    def reaching(self, table: pd.DataFrame, *, label: bool) -> list[str]:
        """Columns of the last table that reach the model: features and weight, and the target where it is asked for."""
        names = [str(name) for name in table.columns]
        more = {self.roles.weight} | ({self.target.column} if label else set())
        visible = self.roles.visible(names, self.target)
        return [name for name in names if name in visible or name in more]


@dataclass(frozen=True)
class Scramble:
    """Held-out cells take values of another distribution; training rows are watched.

    Attributes
    ----------
    declared : Declared
    variant : {"low", "high", "rows"}
    which : {"all", "labels", "features"}
    masks : dict
        Table of the run → its held-out rows, shared by all variants.
    """

    declared: Declared
    variant: str
    which: str = "all"
    masks: dict[Key, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """What tells it from others."""
        return f"{self.variant} {self.which}"

    def only(self, which: str) -> Scramble:
        """The same for labels or features alone."""
        return replace(self, which=which)

    def change(self, key: Key, table: pd.DataFrame, *, labels: bool) -> Change | None:
        """Other values for the cells of held-out rows; of a table that was made of such, for labels alone."""
        mine = [str(name) for name in table.columns if str(name) not in self.declared.never()]
        if labels or self.which == "labels":
            mine = [name for name in mine if name in self.declared.labels]
        if self.which == "features":
            mine = [name for name in mine if name not in self.declared.labels]
        if not mine:
            return None
        if labels:
            held = self.declared.sides.held(table)
        else:
            if key not in self.masks:
                self.masks[key] = self.declared.sides.held(table)
            held = self.masks[key]
        return None if held is None else (scrambled(table, held[0], mine, self.variant), None)

    def watched(self, table: pd.DataFrame) -> Mask | None:
        """Training rows."""
        return self.declared.sides.trained(table)

    def fresh(self, table: pd.DataFrame) -> Mask:
        """Rows that would be training rows."""
        return self.declared.sides.would_train(table)

    def columns(self, table: pd.DataFrame, *, last: bool) -> list[str]:
        """All columns; of the last table those that reach the model."""
        if last:
            return self.declared.reaching(table, label=True)
        return [str(name) for name in table.columns if str(name) not in self.declared.sides.names]

    def settled(self, _table: pd.DataFrame, moved: Moved) -> Moved:
        """Every difference counts."""
        return moved


@dataclass(frozen=True)
class LookAhead:
    """Whatever lies after a moment is deleted, and labels not known by then take other values.

    Attributes
    ----------
    declared : Declared
    cut : datetime64 or float
    gap : timedelta64, float or None
        How long after its event a label becomes known.
    labels : bool
        Also change labels that are not known yet.
    clocks : dict
        Table of the run → its column of times, or None.
    late : numpy.ndarray of uint64
        Names of the rows whose label is not known at the cut.
    behind : Behind, optional
        Tells the moments of rows of tables without a time.
    """

    declared: Declared
    cut: Any
    gap: Any = None
    labels: bool = True
    clocks: dict[Key, str | None] = field(default_factory=dict, repr=False)
    late: Any = field(default=None, repr=False)
    behind: Behind | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What tells it from others."""
        return f"after {self.cut} {self.labels}"

    def change(self, key: Key, table: pd.DataFrame, *, labels: bool) -> Change | None:
        """Rows until the cut, and other values for labels that are not known by then.

        Of a table without a time no row is deleted, for which of them were there is not known. What belongs to later
        rows alone takes other values.
        """
        import numpy as np

        clock = self.declared.roles.time if labels else self.clocks.get(key)
        moments = moments_of(table, clock) if clock and clock in table.columns else None
        if moments is not None and moments.dtype.kind != np.asarray(self.cut).dtype.kind:
            moments = None
        later = np.zeros(len(table), dtype=bool) if moments is None else moments > self.cut
        mine = [name for name in map(str, table.columns) if name in self.declared.labels] if self.labels else []
        late = self._late(table, moments) if mine else None
        places = {name: opposite(table[name], late) for name in mine} if late is not None and late.any() else {}
        if moments is None and not labels and self.behind is not None:
            of = self.behind.moments(key, table)
            rows = later if of is None else of > self.cut
            cells = {*map(str, table.columns)} - self.declared.never() - self.declared.labels if rows.any() else set()
            places |= {name: opposite(table[name], rows) for name in map(str, table.columns) if name in cells}
        keep = np.flatnonzero(~later) if later.any() and not labels else None
        return None if keep is None and not places else (places, keep)

    def _late(self, table: pd.DataFrame, moments: Any) -> Mask | None:
        """Rows whose label is not known at the cut."""
        import numpy as np

        names = self.declared.sides.names
        if all(name in table.columns for name in names):
            found: Mask = np.isin(self.declared.sides.plain(table), self.late)
            return found
        if moments is None:
            return None
        return self.unknown(moments, table)

    def unknown(self, moments: Any, table: pd.DataFrame) -> Mask:
        """Rows of given moments whose label is not known at the cut; that of the cut's own row never is."""
        import numpy as np

        at = self.declared.target.time
        if at and at in table.columns:
            known = moments_of(table, at)
            if known is not None and known.dtype.kind == np.asarray(self.cut).dtype.kind:
                late: Mask = ~np.less_equal(known, self.cut) | (moments >= self.cut)
                return late
        first = self.cut if self.gap is None else self.cut - self.gap
        mask: Mask = moments >= self.cut if self.gap is None else (moments > first) | (moments >= self.cut)
        return mask

    def watched(self, table: pd.DataFrame) -> Mask | None:
        """Rows until the cut."""
        names, clock = self.declared.sides.names, self.declared.roles.time
        if clock not in table.columns or any(name not in table.columns for name in names):
            return None
        return self.fresh(table)

    def fresh(self, table: pd.DataFrame) -> Mask:
        """Rows until the cut."""
        import numpy as np

        moments = moments_of(table, self.declared.roles.time or "")
        if moments is None or moments.dtype.kind != np.asarray(self.cut).dtype.kind:
            return np.zeros(len(table), dtype=bool)
        until: Mask = moments <= self.cut
        return until

    def columns(self, table: pd.DataFrame, *, last: bool) -> list[str]:
        """Features: a label may hang on what comes later."""
        if last:
            return self.declared.reaching(table, label=False)
        hidden = {*self.declared.sides.names, *self.declared.labels}
        return [str(name) for name in table.columns if str(name) not in hidden]

    def settled(self, table: pd.DataFrame, moved: Moved) -> Moved:
        """Without rows that vanished because their label is not known yet."""
        import numpy as np

        if not len(moved.vanished):
            return moved
        late = np.isin(self.declared.sides.plain(table)[moved.vanished], self.late)
        return replace(moved, vanished=moved.vanished[~late])


class Behind:
    """When rows of tables without a time belong: the first moment of the rows that have their key or group.

    Parameters
    ----------
    sides : Sides
    data : DataFrame
        The table that was divided.
    moments : numpy.ndarray of shape (n_rows,)
        The time of each of its rows.
    """

    def __init__(self, sides: Sides, data: pd.DataFrame, moments: npt.NDArray[Any]) -> None:
        self._sides, self._data, self._moments = sides, data, moments
        self._known: dict[Key, Any] = {}

    def moments(self, key: Key, table: pd.DataFrame) -> Any:
        """A moment for each row, missing where the data has no such row; None where no held-out row can be told."""
        if key not in self._known:
            self._known[key] = self._of(table)
        return self._known[key]

    def _of(self, table: pd.DataFrame) -> Any:
        import numpy as np

        held = self._sides.held(table)
        if held is None:
            return None
        numbers = self._sides.plain(self._data, held[1])
        order = np.lexsort((self._moments, numbers))
        names, first = np.unique(numbers[order], return_index=True)
        mine = self._sides.plain(table, held[1])
        place = np.searchsorted(names, mine).clip(max=max(len(names) - 1, 0))
        found = self._moments[order[first]][place]
        found[names[place] != mine] = np.array("NaT" if found.dtype.kind == "M" else np.nan, dtype=found.dtype)
        return found


def clock_of(table: pd.DataFrame, roles: Roles) -> tuple[str | None, str]:
    """The column that says when each row of a table happened, and why there is none where that is in doubt.

    The declared time where the table has it; else its only column of times, where it holds several rows of an entity,
    or none of any: a date in a table with one row an entity, such as the end of a contract, may be known long before.
    """
    if roles.time in table.columns:
        if moments_of(table, str(roles.time)) is None:
            return (
                None,
                f"a later step reads the times in {roles.time!r}: parse them by ps.read(…, dates=[{roles.time!r}])",
            )
        return roles.time, ""
    found = [str(name) for name in table.columns if is_time(table[name])]
    if not found:
        return None, ""
    if len(found) > 1:
        return None, f"it has several times ({', '.join(found[:4])}): call the one of the event {roles.time!r}"
    entity = [name for name in (*roles.key, *roles.groups) if name in table.columns]
    if entity and not table.duplicated(entity).any():
        return None, f"{found[0]} may have been known before: call it {roles.time!r} if it is the time of the event"
    return found[0], ""


def is_time(column: pd.Series[Any]) -> bool:
    """Whether a column holds times, or ISO 8601 text."""
    import pandas as pd
    from pandas.api import types

    if types.is_datetime64_any_dtype(column.dtype):
        return True
    if not (isinstance(column.dtype, pd.StringDtype) or column.dtype == object):
        return False
    some = column.dropna().head(50)
    return bool(len(some)) and all(isinstance(cell, str) and _ISO.match(cell) for cell in some)


def zoned(column: pd.Series[Any]) -> bool:
    """Whether times are instants: those of a column with a zone, or ISO 8601 text that ends with an offset."""
    from pandas.api import types

    if types.is_datetime64_any_dtype(column.dtype):
        return getattr(column.dtype, "tz", None) is not None
    return any(_OFFSET.search(str(cell)) is not None for cell in column.dropna().head(1))


def gap_of(target: Target, split: Split | None, moments: Any) -> Any:
    """How long after its event a label is known: the target's delay or the split's horizon, the longer one."""
    import numpy as np

    spans: Sequence[Any] = (target.delay, split.horizon if split is not None else None)
    texts = [text for text in spans if isinstance(text, str)]
    if not texts or moments.dtype.kind == "f":
        return None
    return np.timedelta64(round(max(map(duration_s, texts)) * 1e6), "us")
