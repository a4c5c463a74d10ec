"""Which step lets held-out rows reach training rows, what of them it takes, and how grave that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.stages import keys
from penstock.stages.betrayal import Finding
from penstock.stages.moved import Moved
from penstock.stages.probes import Scramble
from penstock.stages.walk import Blamed, Walked, Walker, is_frame

if TYPE_CHECKING:
    import pandas as pd

_SECRET = keys.secret("copies", 0, 0)
_HOW = {
    "labels": "with the labels of held-out rows",
    "features": "with the values of held-out rows",
    "position": "with the number of held-out rows, not with their values: the step treats rows by their place",
    "de-duplication": "because an equal row is held out",
    "columns": "with categories that only held-out rows have",
}


@dataclass
class Leak:
    """A step that moved training rows.

    Attributes
    ----------
    step : str
    moved : Moved
        What of the last table moved.
    cause : str
        "labels", "features", "position", "de-duplication" or "columns".
    excuse : str
        Why that is known at prediction time, as the user said.
    through : list of str
        Steps whose tables without named rows carried it.
    """

    step: str
    moved: Moved
    cause: str
    excuse: str = ""
    through: list[str] = field(default_factory=list)

    @property
    def column(self) -> str:
        """The columns that moved."""
        return " + ".join(self.moved.names)

    def told(self) -> str:
        """One sentence."""
        moved, where = self.moved, f"step {self.step}"
        if self.through:
            where += f" (through {', '.join(self.through[:3])})"
        return f"{where}: {what_moved(moved)} {_HOW[self.cause]}"

    def finding(self) -> Finding:
        """As the audit tells it."""
        grade = "error" if self.cause in ("labels", "features") else "note"
        what = self.told()
        if grade == "error" and self.excuse and self.cause == "features":
            grade, what = "note", f"{what} (known at prediction time: {self.excuse})"
        return Finding(grade, self.cause, what, self.column, self.moved.rows, self.moved.example, self.step)


def what_moved(moved: Moved) -> str:
    """What moved, in words.

    Examples
    --------
    >>> import numpy as np
    >>> what_moved(Moved({"age": 3}, (), np.array([1]), np.array([]), np.array([0, 2, 5])))
    'age of 3 training rows moves, and 1 vanishes,'
    """
    parts = []
    if moved.columns:
        names = list(moved.columns)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more columns" if len(names) > 3 else "")
        n = len(moved.changed)
        parts.append(f"{shown} of {n:,} training row{'s' * (n != 1)} move{'s' * (len(names) == 1)}")
    for places, word in ((moved.vanished, "vanish"), (moved.appeared, "appear")):
        if n := len(places):
            rows = "" if parts else f" training row{'s' * (n != 1)}"
            parts.append(f"{n:,}{rows} {word}{'es' * (n == 1) if word == 'vanish' else 's' * (n == 1)}")
    for other, word, one in ((moved.gone, "vanish", "es"), (moved.come, "appear", "s")):
        if other and not parts:
            more = f" and {len(other) - 3} more" * (len(other) > 3)
            several = len(other) > 1
            parts.append(f"column{'s' * several} {', '.join(other[:3])}{more} {word}{'' if several else one}")
    return ", and ".join(parts) + ("," if len(parts) > 1 else "")


def leaks_of(walker: Walker, probes: Sequence[Scramble], walks: Mapping[str, Walked]) -> list[Leak]:
    """Every step to blame for what moved in any variant, each once.

    Parameters
    ----------
    walks : dict
        Variant → its walk; where nothing moved there is nobody to blame.
    """
    found: dict[str, list[Leak]] = {}
    for probe in probes:
        if walks[probe.variant].moved is None:
            continue
        for one in walker.blame(probe, found):
            found[one.step] = causes(walker, probe, one)
    return [leak for leaks in found.values() for leak in leaks]


def causes(walker: Walker, probe: Scramble, blamed: Blamed) -> list[Leak]:
    """What of the held-out rows a step takes: labels in some columns, features in others.

    What shows only when labels and features move together counts as labels: a selection of features does.
    """
    step, moved = blamed.step, blamed.moved
    alone = {
        which: walker.moved_in(probe, walker.walk(probe.only(which), blamed.roots), step)
        for which in ("labels", "features")
    }
    info = {one.id: one for one in walker.steps.steps}
    through = walker.through(step, blamed.walked)
    excuse = info[step].across_rows
    if not excuse and through and all(info[maker].across_rows for maker in through):
        excuse = info[through[0]].across_rows
    single = ""
    if _de_duplicates(walker, blamed):
        single = "de-duplication"
    elif not moved.rows and _constant(walker, blamed):
        single = "columns"
    elif not through and _by_place(walker, probe, blamed):
        single = "position"
    if single:
        return [Leak(step, moved, single, excuse, through)]
    parts = _parted(moved, alone["labels"], alone["features"])
    return [Leak(step, part, cause, excuse, through) for cause, part in parts.items() if part.anything]


def _parted(moved: Moved, by_labels: Moved | None, by_features: Moved | None) -> dict[str, Moved]:
    """What labels alone moved, or nothing alone, and what features alone did.

    A column that a later step made of the moved ones goes with what moved them: with labels, where these did.
    """

    def mine(of: Moved | None, name: str) -> bool:
        return of is not None and name in of.names

    only = "labels" if by_labels is not None or by_features is None else "features"
    cause = {
        name: "labels" if mine(by_labels, name) else "features" if mine(by_features, name) else only
        for name in moved.names
    }
    whole = [by is not None and bool(len(by.vanished) or len(by.appeared)) for by in (by_labels, by_features)]
    rows = "features" if whole == [False, True] else "labels" if any(whole) else only
    nothing = moved.changed[:0]
    found = {}
    for which in ("labels", "features"):
        columns = {name: n for name, n in moved.columns.items() if cause[name] == which}
        gone, come = (tuple(name for name in some if cause[name] == which) for some in (moved.gone, moved.come))
        vanished, appeared = (moved.vanished, moved.appeared) if rows == which else (nothing, nothing)
        changed = moved.changed if columns else nothing
        found[which] = Moved(columns, gone, vanished, appeared, changed, moved.examples, come)
    return found


def _by_place(walker: Walker, probe: Scramble, blamed: Blamed) -> bool:
    """Whether the step is still when its own inputs have other values in the very same rows."""
    roots = blamed.roots | walker.makers(blamed.step)
    if roots <= walker.roots:
        return False
    return walker.moved_in(probe, walker.walk(probe, roots), blamed.step) is None


def _constant(walker: Walker, blamed: Blamed) -> bool:
    """Whether columns that vanished or are new say nothing about training rows: each has one value there."""
    tables = [(walker.table(walker.steps.data), blamed.moved.gone)]
    if blamed.moved.come:
        tables.append((walker.steps.frame(blamed.walked.made[walker.steps.data]), blamed.moved.come))
    for table, names in tables:
        rows = walker.sides.trained(table)
        if rows is None or any(len(table.loc[rows, name].unique()) > 1 for name in names):
            return False
    return True


def _de_duplicates(walker: Walker, blamed: Blamed) -> bool:
    """Whether training rows only vanished or came back, as an equal row was held out or was not, and none has an equal.

    Rows that vanish have their equal among the changed rows, those that come back among the rows as they were.
    """
    import numpy as np

    where = walker.moved_at(blamed.probe, blamed.walked, blamed.step)
    if where is None or where[1].names:
        return False
    key, moved = where
    info = next(one for one in walker.steps.steps if one.id == blamed.step)
    base, now = walker.table(key), walker.steps.frame(blamed.walked.made[key])
    mine = [str(name) for name in base.columns if str(name) not in walker.sides.all and name in now.columns]
    after = _held(walker, [walker.given(blamed.probe, blamed.walked, need) for need in info.needs] + [now], mine)
    before = _held(walker, [walker.table(need) for need in info.needs], mine)
    pairs = [(base.iloc[moved.vanished], after), (now.iloc[moved.appeared], before)]
    columns = mine
    for rows, others in pairs:
        if len(rows) and columns:
            columns = _agreeing(rows, others, columns) if len(others) else []
    if not set(columns) - walker.labels:  # rows of one label are no copies
        return False
    left = keys.rows(now, columns, _SECRET)
    equal = [np.isin(keys.rows(rows, columns, _SECRET), keys.rows(others, columns, _SECRET)) for rows, others in pairs]
    return bool(len(np.unique(left)) == len(left) and all(one.all() for one in equal))


def _held(walker: Walker, tables: list[Any], columns: list[str]) -> pd.DataFrame:
    """Held-out rows of the tables that have all of some columns, one below the other."""
    import pandas as pd

    whole = [table for table in tables if is_frame(table) and all(name in table.columns for name in columns)]
    found = [(table, held) for table in whole if (held := walker.sides.held(table)) is not None]
    parts = [table.loc[held[0], columns].astype(object) for table, held in found]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _agreeing(rows: pd.DataFrame, others: pd.DataFrame, names: list[str]) -> list[str]:
    """Columns in which each of some rows has an equal among others: by which a step may have told copies.

    Of the first rows; each time the equal is taken that leaves most columns.
    """
    import numpy as np

    number = {name: keys.rows(others, [name], _SECRET) for name in names}
    own = {name: keys.rows(rows, [name], _SECRET) for name in names}
    columns = names
    for row in range(min(len(rows), 20)):
        agree = np.column_stack([number[name] == own[name][row] for name in columns])
        best = agree[int(agree.sum(axis=1).argmax())]
        columns = [name for name, same in zip(columns, best, strict=True) if same]
        if not columns:
            break
    return columns
