"""Look-ahead: the steps run on tables that end at a moment, and no feature before it may change."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from penstock.core.split import Split
from penstock.stages import keys
from penstock.stages.asknown import text_of
from penstock.stages.betrayal import Finding
from penstock.stages.leaks import Leak, what_moved
from penstock.stages.probes import Behind, Declared, LookAhead, clock_of, gap_of, zoned
from penstock.stages.walk import Blamed, Walker

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CUTS = 5
CUTS_FULL = 50
DIRECTED = 2
"""Moments of rows that scramble moved, for each step that did."""
SHARE = 0.1
"""Of the rows: the leak whose chance of being missed is told."""
UNCUT = "look-ahead: the table"
"""What is said of a table that cannot be cut begins so."""
FIRST, LAST = 0.1, 0.95
"""Moments are drawn between these shares of the rows: steps need a past, and a leak a future."""


@dataclass
class Ahead:
    """What looking ahead gave.

    Attributes
    ----------
    findings : list of Finding
    tried, not_tried : list of dict
    cuts : int
        Moments that were tried.
    columns : set of str
        Columns that used what came later.
    steps : set of str
        Steps to blame.
    unproven : set of str
        Steps that raised where tables ended earlier.
    reached : set of str
        Steps that ran again.
    uncut : bool
        Whether a table has the declared time in a form that only a later step reads, and no name of rows: it stayed as
        it was.
    by_name : list of str
        Tables without a time of which the cells of later rows took other values.
    """

    findings: list[Finding] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    not_tried: list[dict[str, str]] = field(default_factory=list)
    cuts: int = 0
    columns: set[str] = field(default_factory=set)
    steps: set[str] = field(default_factory=set)
    unproven: set[str] = field(default_factory=set)
    reached: set[str] = field(default_factory=set)
    uncut: bool = False
    by_name: list[str] = field(default_factory=list)

    def tells(self, leak: Leak) -> bool:
        """Whether a look-ahead's own error says the same: the step, and all the columns."""
        mine = [one for one in self.findings if one.step == leak.step and one.grade == "error"]
        columns = {name for one in mine for name in one.column.split(" + ")}
        return bool(mine) and set(leak.column.split(" + ")) <= columns

    def settles(self, leak: Leak) -> bool:
        """Whether what scramble found in a step is the past, on the evidence of every moment that was tried."""
        if not self.cuts or self.uncut or leak.step in self.unproven or leak.step not in self.reached:
            return False
        if leak.moved.vanished.size or leak.moved.appeared.size or not leak.moved.columns:
            return leak.step not in self.steps
        return not (leak.step in self.steps and self.columns & set(leak.moved.columns))


def look_ahead(
    walker: Walker, declared: Declared, split: Split | None, leaks: list[Leak], *, full: bool = False, seed: int = 0
) -> Ahead:
    """Cut all tables at moments, and see whether a feature before one of them hangs on what came later.

    Parameters
    ----------
    leaks : list of Leak
        What scramble found: the moments of rows that it moved are tried too.
    full : bool
        Fifty moments rather than five.
    seed : int
    """
    import numpy as np

    found = Ahead()
    data = walker.table(walker.steps.data)
    moments = keys.times(data[declared.roles.time])
    gap = gap_of(declared.target, split, moments)
    clocks, doubts = _clocks(walker, declared)
    found.not_tried += [{"what": f"{UNCUT} {step} until a moment", "why": why} for step, why in doubts]
    behind = Behind(declared.sides, data, moments)
    for key in [key for key, clock in clocks.items() if clock is None and key[0] in walker.roots]:
        table = walker.table(key)
        if behind.moments(key, table) is not None:
            found.by_name.append(key[0])
        elif declared.roles.time in table.columns:
            found.uncut = True
    drawn, aimed = cuts_of(walker, declared, moments, clocks, CUTS_FULL if full else CUTS, seed)
    directed = _directed(leaks, moments, seed)
    names = declared.sides.plain(data)
    for cut in dict.fromkeys([*drawn, *aimed, *directed]):
        probe = LookAhead(declared, cut, gap, clocks=clocks, behind=behind)
        probe = replace(probe, late=np.unique(names[probe.unknown(moments, data)]))
        walked = walker.walk(probe)
        found.cuts += 1
        found.unproven |= set(walked.raised)
        found.reached |= {key[0] for key in walked.made}
        if walked.moved is not None:
            for one in walker.blame(probe, found.steps):
                _blame(walker, probe, one, found)
    _tell(found, len(drawn), len(aimed), len(data))
    return found


def _blame(walker: Walker, probe: LookAhead, one: Blamed, found: Ahead) -> None:
    """A finding for a step that used what was not known yet."""
    info = next(step for step in walker.steps.steps if step.id == one.step)
    later = walker.moved_in(probe, walker.walk(replace(probe, labels=False), one.roots), one.step) is not None
    how = "with rows that come later" if later else "with labels that are not known yet"
    what = f"step {one.step}: {what_moved(one.moved).replace('training row', 'earlier row')} {how}"
    grade = "error"
    if later and info.across_rows:
        grade, what = "note", f"{what} (known at prediction time: {info.across_rows})"
    column = " + ".join(one.moved.names)
    found.findings.append(
        Finding(
            grade,
            "look-ahead",
            what,
            column,
            one.moved.rows,
            f"{one.moved.example}, until {_said(probe.cut)}",
            one.step,
        )
    )
    found.steps.add(one.step)
    found.columns |= set(one.moved.columns)


def _said(cut: Any) -> str:
    """A moment as people write it; a time that is a plain number as it is."""
    return f"{cut:g}" if isinstance(cut, float) else text_of(cut)


def _clocks(walker: Walker, declared: Declared) -> tuple[dict[Any, str | None], list[tuple[str, str]]]:
    """The column of times of each table that is cut, and why one is not."""
    clocks: dict[Any, str | None] = {}
    doubts = []
    time = declared.roles.time
    aware = zoned(walker.table(walker.steps.data)[time])
    for key in sorted(walker.taken):
        if walker.is_table(key):
            clocks[key], why = clock_of(walker.table(key), declared.roles)
            clock = clocks[key]
            if clock not in (None, time) and zoned(walker.table(key)[clock]) != aware:
                clocks[key] = None  # local time beside instants: every row would be hours off
                why = f"{time} has a zone and {clock} has none" if aware else f"{clock} has a zone: give {time} its own"
            if why and key[0] in walker.roots:
                doubts.append((key[0], why))
    return clocks, doubts


def cuts_of(
    walker: Walker, declared: Declared, moments: npt.NDArray[Any], clocks: dict[Any, str | None], n: int, seed: int
) -> tuple[list[Any], list[Any]]:
    """Moments at random, and moments of rows with a missing cell: what is filled from later rows shows only there.

    Returns
    -------
    drawn, aimed : list
        Together `n`, where there are so many.
    """
    import numpy as np

    ordered = np.sort(moments)
    low, high = ordered[int(FIRST * (len(ordered) - 1))], ordered[int(LAST * (len(ordered) - 1))]
    within = np.unique(ordered[(ordered >= low) & (ordered <= high) & (ordered < ordered[-1])])
    rng = np.random.default_rng([seed, 5])
    gaps = _missing(walker, declared, clocks, low, high)
    gaps = np.intersect1d(gaps, within) if len(gaps) else within[:0]
    aimed = _some(gaps, n // 2, rng)
    drawn = _some(np.setdiff1d(within, aimed) if aimed else within, n - len(aimed), rng)
    return drawn, aimed


def _missing(walker: Walker, declared: Declared, clocks: dict[Any, str | None], low: Any, high: Any) -> Any:
    """Moments of rows with a missing cell in any table that is cut."""
    import numpy as np

    found = []
    for key, clock in clocks.items():
        if clock is None or key[0] not in walker.roots:
            continue
        table = walker.table(key)
        cells = [name for name in map(str, table.columns) if name not in declared.labels and name != clock]
        rows = table[cells].isna().any(axis=1).to_numpy()
        moments = keys.times(table[clock])
        if rows.any() and moments.dtype.kind == np.asarray(low).dtype.kind:
            some = moments[rows]
            found.append(some[(some >= low) & (some <= high)])
    return np.unique(np.concatenate(found)) if found else np.array([])


def _some(moments: Any, n: int, rng: np.random.Generator) -> list[Any]:
    import numpy as np

    if len(moments) <= n:
        return list(moments)
    return list(np.sort(rng.choice(moments, n, replace=False)))


def _directed(leaks: list[Leak], moments: Any, seed: int) -> list[Any]:
    """Moments of a few rows that scramble moved: whatever moved them came later, or before."""
    import numpy as np

    found = []
    rng = np.random.default_rng([seed, 7])
    for leak in leaks:
        if leak.cause not in ("labels", "features"):
            continue
        rows = np.concatenate([leak.moved.changed, leak.moved.vanished])
        rows = rows[rows < len(moments)]
        if len(rows):
            found += list(moments[rng.choice(rows, min(DIRECTED, len(rows)), replace=False)])
    last = moments.max() if len(moments) else None
    return [moment for moment in found if moment < last]


def _tell(found: Ahead, n_random: int, n_aimed: int, n_rows: int) -> None:
    """What was tried, and the chance to have missed a leak."""
    for step in sorted(found.unproven):
        found.not_tried.append({"what": f"look-ahead in step {step}", "why": "it raised where tables ended earlier"})
    if not found.reached:
        if not found.unproven:
            why = "no table of times leads through a step" if found.cuts else "no row is later than another"
            found.not_tried.append({"what": "look-ahead", "why": why})
        return
    missed = (1 - SHARE) ** n_random
    named = f", in {', '.join(found.by_name[:4])} took other values" if found.by_name else ""
    aimed = f", {n_aimed} of them at missing cells" if n_aimed else ""
    what = (
        f"features until {found.cuts} moments{aimed} watched while later rows were deleted{named}; a leak that shows "
        f"in {100 * SHARE:.0f} % of the rows is missed with probability {missed:.2g}"
    )
    found.tried.append({"what": what, "rows": n_rows})
