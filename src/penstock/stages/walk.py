"""Running the steps before the split on changed tables: which watched rows move, and in which step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from penstock.core.replay import Key, Raised, Replayed
from penstock.stages.disturb import taken
from penstock.stages.membership import Sides
from penstock.stages.moved import Moved, compared, lost

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Mask = npt.NDArray[np.bool_]
    Places = npt.NDArray[np.intp]

Change = tuple[Mapping[str, "Places"], "Places | None"]
"""For each changed column where its cells are taken from, and which rows stay (None: all)."""
MOST_BLAMED = 20


class Probe(Protocol):
    """One way to change what must not matter."""

    @property
    def name(self) -> str:
        """What tells it from others."""
        ...

    def change(self, key: Key, table: pd.DataFrame, *, labels: bool) -> Change | None:
        """What to change in a table; None for nothing.

        Parameters
        ----------
        labels : bool
            Only its labels: the other cells are what the steps made of changed ones.
        """
        ...

    def watched(self, table: pd.DataFrame) -> Mask | None:
        """Rows that must stay what they are; None where the table does not name its rows."""
        ...

    def fresh(self, table: pd.DataFrame) -> Mask:
        """Rows that would be watched, had they been there."""
        ...

    def columns(self, table: pd.DataFrame, *, last: bool) -> list[str]:
        """Columns that are compared; of the last table those that reach the model."""
        ...

    def settled(self, table: pd.DataFrame, moved: Moved) -> Moved:
        """What of a difference counts."""
        ...


@dataclass
class Walked:
    """What came of one walk through the steps.

    Attributes
    ----------
    made : dict
        Outputs that were made anew.
    touched : set of (str, str)
        Outputs of the run that were changed themselves.
    raised : dict
        Step → its error; its output was taken as it was, and changed itself.
    moved : Moved or None
        Of the last table; None where nothing moved.
    """

    made: dict[Key, Any]
    touched: set[Key]
    raised: dict[str, str]
    moved: Moved | None = None


@dataclass
class Blamed:
    """A step that moved watched rows.

    Attributes
    ----------
    step : str
    probe : Probe
    moved : Moved
        What of the last table would not have moved without it.
    roots : frozenset of str
        Steps that were taken as they were when it was found.
    walked : Walked
        The walk in which it was found.
    """

    step: str
    probe: Probe
    moved: Moved
    roots: frozenset[str]
    walked: Walked = field(repr=False)


class Walker:
    """Walks through the steps that lead to the table that was split.

    Parameters
    ----------
    steps : Replayed
    sides : Sides
    labels : set of str
        Columns that are labels.
    roots : iterable of str
        Steps that are not run again: their tables are changed as a source's are.
    """

    def __init__(self, steps: Replayed, sides: Sides, labels: frozenset[str], roots: Iterable[str]) -> None:
        self.steps, self.sides, self.labels = steps, sides, labels
        self.roots = frozenset(roots) | {step.id for step in steps.steps if step.source}
        self.order = [step.id for step in steps.steps]
        self.taken = {steps.data, *(need for step in steps.steps for need in step.needs)}
        self.runs = 0
        self._tables: dict[Key, Any] = {}
        self._numbers: dict[Key, Any] = {}
        self._known: dict[tuple[Any, ...], Walked] = {}

    # ── the tables of the run ───────────────────────────────────────────────────────────────────────────────

    def table(self, key: Key) -> Any:
        """An output of the run; the same object each time, which is not to be changed."""
        if key not in self._tables:
            self._tables[key] = self.steps.table(key)
        return self._tables[key]

    def is_table(self, key: Key) -> bool:
        """Whether an output is a table."""
        return is_frame(self.table(key))

    def before(self, steps: AbstractSet[str]) -> set[str]:
        """Steps and sources that lead to some, and these."""
        found = set(steps)
        for step in reversed(self.steps.steps):
            if step.id in found:
                found |= {maker for maker, _ in step.needs}
        return found

    def after(self, steps: Iterable[str] | None) -> set[str]:
        """Steps and sources that some lead to, and these; all for None."""
        found = set(self.order if steps is None else steps)
        for step in self.steps.steps:
            if any(maker in found for maker, _ in step.needs):
                found.add(step.id)
        return found

    def first_labels(self, key: Key) -> bool:
        """Whether a label first exists in this output: the step makes it, or there is nothing before."""
        step = self.steps.steps[self.order.index(key[0])]
        if not self.is_table(key):
            return False
        here = self.labels & set(map(str, self.table(key).columns))
        before = [self.table(need).columns for need in step.needs if need in self.taken and self.is_table(need)]
        return bool(here - {str(name) for names in before for name in names})

    # ── walking ─────────────────────────────────────────────────────────────────────────────────────────────

    def walk(self, probe: Probe, roots: Iterable[str] = (), mended: str = "") -> Walked:
        """Run what a probe changes; a step that raises is taken as it was from there on.

        Parameters
        ----------
        mended : str
            A step of which what comes after it takes the watched rows as they were, beside changed others.
        """
        held = self.roots | set(roots)
        known = (probe.name, held, mended)
        if known in self._known:
            return self._known[known]
        raised: dict[str, str] = {}
        while True:
            try:
                walked = self._walk(probe, held | set(raised), mended)
                break
            except Raised as error:
                raised[error.step] = error.what
        walked.raised = raised
        walked.moved = self._moved(probe, walked, self.steps.data, last=True)
        self._known[known] = walked
        return walked

    def _walk(self, probe: Probe, roots: frozenset[str] | set[str], mended: str) -> Walked:
        values: dict[Key, Any] = {}
        changes: dict[Key, Change] = {}

        def change(key: Key, table: Any) -> Any:
            return taken(table, *changes[key]) if key in changes else table

        for step in self.steps.steps:
            keys = [(step.id, name) for name in step.outputs if (step.id, name) in self.taken]
            if step.id in roots or not any(need in values or need in changes for need in step.needs):
                for key in keys:
                    found = probe.change(key, self.table(key), labels=False) if self.is_table(key) else None
                    if found is not None:
                        changes[key] = found
                continue
            given = {need: values[need] for need in step.needs if need in values}
            made = self.steps.call(step.id, given, change)
            self.runs += 1
            for key in keys:
                value = self._labelled(probe, key, made[key])
                values[key] = self._mended(probe, key, value) if step.id == mended else value
        return Walked(values, set(changes), {})

    def _labelled(self, probe: Probe, key: Key, value: Any) -> Any:
        """A step's output, its labels changed where it is the first that has them."""
        if not self.first_labels(key):
            return value
        frame = self.steps.frame(value)
        found = probe.change(key, frame, labels=True) if is_frame(frame) else None
        return value if found is None else taken(value, *found)

    def _mended(self, probe: Probe, key: Key, value: Any) -> Any:
        """A step's output with its watched rows as they were in the run."""
        import numpy as np
        import pandas as pd

        base, now = self.table(key), self.steps.frame(value)
        watched = probe.watched(base) if is_frame(base) else None
        if watched is None or not is_frame(now) or any(name not in now.columns for name in self.sides.names):
            return value
        numbers, theirs = self.sides.numbers(base), self.sides.numbers(now)
        mine = numbers[watched]
        order = np.argsort(theirs, kind="stable")
        place = order[np.searchsorted(theirs[order], mine).clip(max=max(len(order) - 1, 0))] if len(order) else order
        there = theirs[place] == mine if len(order) else np.zeros(len(mine), dtype=bool)
        new = ~np.isin(theirs, numbers) & probe.fresh(now)
        other = ~np.isin(theirs, mine) & ~new
        where = np.where(there, place, len(now) + np.arange(len(mine))) if len(order) else np.arange(len(mine))
        both = pd.concat([base[watched], now[other].reindex(columns=base.columns)], ignore_index=True)
        return both.iloc[np.argsort(np.append(where, np.flatnonzero(other)), kind="stable")].reset_index(drop=True)

    # ── comparing ───────────────────────────────────────────────────────────────────────────────────────────

    def _moved(self, probe: Probe, walked: Walked, key: Key, *, last: bool) -> Moved | None:
        """What moved of one output; None for nothing, and where that cannot be told."""
        if key not in walked.made or not self.is_table(key):
            return None
        base = self.table(key)
        watched = probe.watched(base)
        now = self.steps.frame(walked.made[key])
        if watched is None:
            return None
        if not is_frame(now) or any(name not in now.columns for name in self.sides.names):
            found = lost(base, watched, self.sides.names)
            return found if found.anything else None
        if key not in self._numbers:
            self._numbers[key] = self.sides.numbers(base)
        before, after = (base, self._numbers[key], watched), (now, self.sides.numbers(now), probe.fresh)
        columns = (probe.columns(base, last=last), self.sides.names, probe.columns(now, last=last))
        found = probe.settled(base, compared(before, after, *columns))
        return found if found.anything else None

    def moved_in(self, probe: Probe, walked: Walked, step: str) -> Moved | None:
        """What moved in any output of a step."""
        found = self.moved_at(probe, walked, step)
        return None if found is None else found[1]

    def moved_at(self, probe: Probe, walked: Walked, step: str) -> tuple[Key, Moved] | None:
        """The first output of a step in which anything moved, and what."""
        outputs = next(one.outputs for one in self.steps.steps if one.id == step)
        for key in [(step, name) for name in outputs]:
            if key in self.taken and (found := self._moved(probe, walked, key, last=key == self.steps.data)):
                return key, found
        return None

    def same(self) -> tuple[dict[str, str], dict[str, str]]:
        """Steps that differ from themselves when they run again on the very same tables, and those that raise then.

        Returns
        -------
        random, raised : dict
            Step → in what it differs, and its error.
        """
        found, raised = {}, {}
        for step in self.steps.steps:
            if step.id in self.roots:
                continue
            self.runs += 1
            try:
                made = self.steps.call(step.id, {}, lambda _key, table: table)
            except Raised as error:
                raised[step.id] = error.what
                continue
            for name in step.outputs:
                if (step.id, name) in self.taken and (why := self._itself((step.id, name), made[step.id, name])):
                    found[step.id] = why
        return found, raised

    def _itself(self, key: Key, value: Any) -> str:
        """In what an output differs from that of the run; "" for nothing."""
        base, now = self.table(key), self.steps.frame(value)
        if not is_frame(base) or not is_frame(now):
            return "" if self.steps.digest(value) == self.steps.recorded(key) else "its output"
        if list(base.columns) != list(now.columns):
            return "its columns"
        import numpy as np

        named = bool(self.sides.names) and set(self.sides.names) <= set(base.columns)  # else by their place
        rows, again = (self.sides.numbers(one) if named else np.arange(len(one)) for one in (base, now))
        if not np.array_equal(np.sort(rows), np.sort(again)):
            return "its rows"
        before, after = (base, rows, np.ones(len(rows), dtype=bool)), (now, again, lambda new: np.zeros(len(new), bool))
        moved = compared(before, after, [str(name) for name in base.columns], ())
        return ", ".join(moved.columns)

    def given(self, probe: Probe, walked: Walked, key: Key) -> Any:
        """What a step took in a walk, as a pandas frame."""
        if key in walked.made:
            return self.steps.frame(walked.made[key])
        base = self.table(key)
        found = probe.change(key, base, labels=False) if key in walked.touched else None
        return base if found is None else taken(base, *found)

    # ── blaming ─────────────────────────────────────────────────────────────────────────────────────────────

    def blame(self, probe: Probe, excused: Iterable[str] = ()) -> list[Blamed]:
        """Each step without which less of the last table would have moved, in their order.

        A step that is found is taken as it was from then on, so that what comes after it is seen too.

        Parameters
        ----------
        excused : iterable of str
            Steps that are known, and taken as they were from the start.
        """
        found: list[Blamed] = []
        held, passed = frozenset(excused), set[str]()
        last = self.steps.data[0]
        while len(found) < MOST_BLAMED:
            walked = self.walk(probe, held)
            if walked.moved is None:
                break
            step = self._first(probe, walked, held | passed) or last
            without = self.walk(probe, held | {step}).moved
            moved = _less(walked.moved, without)
            if step != last and without is not None and without.same_as(walked.moved):
                columns = self._through(probe, walked, held, step)
                if columns is None:
                    passed.add(step)  # what it moved does not reach the last table
                    continue
                kept = {name: n for name, n in walked.moved.columns.items() if name in columns}
                moved = replace(walked.moved, columns=kept) if kept else walked.moved
            found.append(Blamed(step, probe, moved, held, walked))
            held |= {step}
            if step == last:
                break
        return found

    def _through(self, probe: Probe, walked: Walked, held: frozenset[str], step: str) -> list[str] | None:
        """Columns of the last table in which what a step moved shows beneath what a later one moves; None for nothing.

        A later leak may move the very same cells. So the step's watched rows are put back, and nothing else: where the
        last table is another one then, what the step moved has reached it.
        """
        last = self.steps.data
        other = self.walk(probe, held, step)
        made, again = (self.steps.frame(one.made.get(last)) for one in (walked, other))
        if not all(is_frame(one) and set(self.sides.names) <= set(one.columns) for one in (made, again)):
            return None
        watched = probe.watched(made)
        if watched is None:
            return None
        columns = (probe.columns(made, last=True), self.sides.names, probe.columns(again, last=True))
        before, after = (made, self.sides.numbers(made), watched), (again, self.sides.numbers(again), probe.fresh)
        found = compared(before, after, *columns)
        return list(found.names) if found.anything else None

    def _first(self, probe: Probe, walked: Walked, but: Iterable[str]) -> str | None:
        left = [step for step in self.order if step not in but]
        return next((step for step in left if self.moved_in(probe, walked, step) is not None), None)

    def through(self, step: str, walked: Walked) -> list[str]:
        """Steps whose tables, in which no row has a name, the step takes and which were made anew."""
        needs = next(one.needs for one in self.steps.steps if one.id == step)
        nameless = [key for key in needs if key in walked.made and not self._names_rows(key)]
        return list(dict.fromkeys(maker for maker, _ in nameless))

    def _names_rows(self, key: Key) -> bool:
        return self.is_table(key) and all(name in self.table(key).columns for name in self.sides.names)

    def makers(self, step: str) -> frozenset[str]:
        """Steps whose outputs a step takes."""
        return frozenset(maker for maker, _ in next(one.needs for one in self.steps.steps if one.id == step))


def _less(moved: Moved, without: Moved | None) -> Moved:
    """What of a difference is not in another; all of it where that leaves nothing."""
    if without is None:
        return moved
    columns = {name: n for name, n in moved.columns.items() if n != without.columns.get(name)}
    rows = (len(moved.vanished), len(moved.appeared)) != (len(without.vanished), len(without.appeared))
    if not columns and not rows:
        return moved
    nothing = moved.vanished[:0]
    kept = (moved.vanished, moved.appeared) if rows else (nothing, nothing)
    return Moved(columns, moved.gone, *kept, moved.changed, moved.examples, moved.come)


def is_frame(value: Any) -> bool:
    """Whether a value is a pandas frame."""
    import pandas as pd

    return isinstance(value, pd.DataFrame)
