"""Which rows of any table are held out and which are learned from, told by key, group or time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.split import Split
from penstock.core.target import Roles
from penstock.errors import DataError
from penstock.stages import keys

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Mask = npt.NDArray[np.bool_]

_SECRET = keys.secret("proof", 0, 0)


class Sides:
    """The sides of a run's split, by the names of their rows.

    Parameters
    ----------
    train, test : DataFrame
        The sides as they were divided.
    roles : Roles
    split : Split, optional
        None where it is no rule that could be asked about one row.
    seed : int
        The workflow's.
    final : DataFrame, optional
        A second hold-out, whose rows are held out like those of `test`.

    Attributes
    ----------
    names : tuple of str
        Columns that name a row: the key, else groups and time; empty where nothing is declared.
    """

    def __init__(
        self,
        train: pd.DataFrame,
        test: pd.DataFrame,
        roles: Roles,
        split: Split | None,
        seed: int,
        final: pd.DataFrame | None = None,
    ) -> None:
        self.roles, self._split, self._seed = roles, split, seed
        time = (roles.time,) if roles.time else ()
        self.names: tuple[str, ...] = roles.key or (*roles.groups, *time)
        self.all = tuple(dict.fromkeys((*roles.key, *roles.groups, *time)))
        self._train, self._held = train, [test] if final is None else [test, final]
        self._numbers: dict[tuple[str, ...], tuple[Any, Any]] = {}
        self._trained: dict[int, tuple[Any, Mask]] = {}

    def _of(self, columns: tuple[str, ...]) -> tuple[Any, Any]:
        """Numbers of both sides' rows by some of the columns, sorted and each once."""
        import numpy as np

        if columns not in self._numbers:
            train = np.unique(keys.rows(self._train, columns, _SECRET))
            held = np.concatenate([keys.rows(side, columns, _SECRET) for side in self._held])
            self._numbers[columns] = (train, np.unique(held))
        return self._numbers[columns]

    def held(self, table: pd.DataFrame) -> tuple[Mask, tuple[str, ...]] | None:
        """Rows of a table that belong to held-out rows alone, and the columns that tell; None where nothing tells.

        A table may carry only part of the names: then a row is held out where its part stands on that side only.
        """
        import numpy as np

        there = [name for name in self.all if name in table.columns]
        time = (self.roles.time,) if self.roles.time else ()
        choices = [tuple(there)]
        choices += [tuple(c for c in part if c in there) for part in (self.roles.key, self.roles.groups, time)]
        best: tuple[Mask, tuple[str, ...]] | None = None
        most = 0
        for columns in dict.fromkeys(choice for choice in choices if choice):
            train, test = self._of(columns)
            numbers = keys.rows(table, columns, _SECRET)
            mask = np.isin(numbers, test) & ~np.isin(numbers, train)
            if (n := int(mask.sum())) > most:
                best, most = (mask, columns), n
        return best

    def trained(self, table: pd.DataFrame) -> Mask | None:
        """Rows of a table that are training rows; None where it does not name its rows."""
        import numpy as np

        if not self.names or any(name not in table.columns for name in self.names):
            return None
        known = self._trained.get(id(table))
        if known is None or known[0] is not table:  # the tables of the run are asked about again and again
            mask: Mask = np.isin(self.plain(table), self._of(self.names)[0])
            known = self._trained[id(table)] = (table, mask)
        return known[1]

    def plain(self, table: pd.DataFrame, columns: tuple[str, ...] = ()) -> Any:
        """A number for each row by its names, or by other columns."""
        return keys.rows(table, columns or self.names, _SECRET)

    def numbers(self, table: pd.DataFrame) -> Any:
        """A number for each row by its names, the n-th row of a name apart from the others."""
        import numpy as np

        numbers = self.plain(table)
        order = np.argsort(numbers, kind="stable")
        new = np.append(True, numbers[order][1:] != numbers[order][:-1])
        nth = np.empty(len(numbers), dtype=np.uint64)
        nth[order] = np.arange(len(numbers)) - np.flatnonzero(new)[np.cumsum(new) - 1]
        return numbers + nth * np.uint64(0x9E3779B97F4A7C15)

    def would_train(self, table: pd.DataFrame) -> Mask:
        """Rows that the split's rule would put on the training side; none where the rule cannot be asked row by row."""
        import numpy as np

        nobody: Mask = np.zeros(len(table), dtype=bool)
        rule = self._rule()
        columns = {"key": self.roles.key, "groups": self.roles.groups}.get(rule, ())
        if rule == "time" and self.roles.time in table.columns:
            moments, known = moments_of(table, self.roles.time or ""), keys.times(self._train[self.roles.time])
            if moments is None or moments.dtype.kind != known.dtype.kind:
                return nobody  # a source may write the time as a later step reads it
            early: Mask = moments <= known.max()
            return early
        if not columns or self._split is None or not self._split.stable:
            return nobody
        if any(name not in table.columns for name in columns):
            return nobody
        secret = keys.secret("side", self._seed, self._split.salt)
        numbers = keys.rows(table, columns, secret)
        held = keys.below(numbers, float(self._split.test))
        if self._split.final is not None:
            held |= keys.below(~numbers, float(self._split.final))
        return ~held

    def _rule(self) -> str:
        from penstock.stages.rules import rule_of

        if self._split is None:
            return ""
        rule = rule_of(self.roles, self._split)
        dated = isinstance(self._split.test, str) or isinstance(self._split.final, str)
        return "" if rule in ("key", "groups") and dated else rule


def moments_of(table: pd.DataFrame, name: str) -> Any:
    """A column as times, or None where it holds none."""
    try:
        return keys.times(table[name])
    except (DataError, KeyError):
        return None
