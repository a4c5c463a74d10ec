"""The steps before the split run again on other held-out values: no training row may move.

Where there is time, they also run on tables that end at a moment: no feature before it may change. What is found is
graded here; `stages.audit` joins it with what is found in the tables themselves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.core.notes import note
from penstock.core.replay import Raised, Replayed
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages.ahead import UNCUT, Ahead, look_ahead
from penstock.stages.betrayal import Finding
from penstock.stages.disturb import VARIANTS
from penstock.stages.leaks import Leak, leaks_of
from penstock.stages.membership import Sides
from penstock.stages.probes import Declared, Scramble
from penstock.stages.walk import Walked, Walker, is_frame

if TYPE_CHECKING:
    import pandas as pd

SLOW_S = 60.0
"""A step that takes longer is run again only by `--full`, or while its code has never been."""
FIT = "train"
"""The step that fits, which `--full` runs again too."""
_SAID = {
    "low": "values of the lowest tenth, or the rarest categories",
    "high": "values of the highest tenth, or the commonest categories",
    "rows": "whole rows copied from the most extreme twentieth",
}


@dataclass
class Report:
    """What the experiment tells.

    Attributes
    ----------
    findings : list of Finding
    tried, not_tried : list
        {"what", "rows"} and {"what", "why"}.
    cuts : int
        Moments at which tables were cut, where steps ran on them.
    uncut : bool
        Whether a table with times could not be cut.
    """

    findings: list[Finding] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    not_tried: list[dict[str, str]] = field(default_factory=list)
    cuts: int = 0
    uncut: bool = False

    def cannot(self, what: str, why: str) -> None:
        """Say what could not be tried, once."""
        one = {"what": what, "why": why}
        if one not in self.not_tried:
            self.not_tried.append(one)


def scramble(
    *,
    steps: Replayed,
    train: pd.DataFrame,
    test: pd.DataFrame,
    target: Target,
    roles: Roles,
    split: Split | None,
    seed: int,
    full: bool = False,
    final: pd.DataFrame | None = None,
    official: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """Try whether held-out rows, or later ones, reach what the model learns from.

    Parameters
    ----------
    steps : Replayed
        The steps before the split; with `full` also the one that fits.
    train, test : DataFrame
        As they were divided in the run.
    target, roles, split, seed
        As declared.
    full : bool
        Also steps that take long, more moments, and the fit.
    final : DataFrame, optional
        The final hold-out: its rows are held out too.
    official : tuple of int, optional
        Where an official test file is held out: places, among the steps, of those and of sources that lead to its rows
        and to training rows alike.

    Returns
    -------
    dict
        "summary", "findings" (as the audit's), "tried", "not_tried", and "codes": step → digest of the code that was
        run again, where nothing was found of it or of what it leads to.
    """
    began = time.perf_counter()
    report = Report()
    declared = Declared(target, roles, Sides(train, test, roles, split, seed, final))
    n_held = len(test) + (0 if final is None else len(final))
    left = {step.id: why for step in steps.steps if (why := _left_out(step, full=full))}
    walker = Walker(steps, declared.sides, declared.labels, [*left, FIT])
    mine = [step for step in steps.steps if not step.source and step.id != FIT]
    shared = None if official is None else [walker.order[at] for at in official]
    concerned = walker.after(shared)
    if shared is not None:
        report.tried.append({"what": _by_construction(shared), "rows": n_held})
    for step, why in left.items():
        what = _MOVES if step in concerned else "look-ahead in it"
        if step in concerned or roles.time:
            report.cannot(f"step {step}: {what}", why)
    reached: set[str] = set()
    if not declared.sides.names:
        if concerned:
            report.cannot(_QUESTION, NAMELESS)
    elif len(left) < len(mine):
        reached = _experiment(walker, declared, split, concerned, n_held, report, full=full, seed=seed)
    done = [step.id for step in mine if step.id in reached]
    seconds = time.perf_counter() - began
    note(runs_of_steps=walker.runs, replay_s=round(seconds, 3))
    again = walker.before({one.step for one in report.findings})
    tried = [step for step in mine if (step.tried if step.id in left else step.id in reached and step.id not in again)]
    return {
        "summary": _summary(report, done, mine, n_held, apart=not concerned),
        "findings": [one.to_json() for one in report.findings],
        "tried": report.tried,
        "not_tried": report.not_tried,
        "codes": {step.id: step.code for step in tried},
    }


_QUESTION = "whether held-out rows moved a training row in the steps before the split"
_FIT = "the fit on rows that held-out ones did not move"
_MOVES = "whether held-out rows move a training row in it"
NAMELESS = (
    "not provable: declare key= (or groups=, time=): what a step returns may have other rows in another order, so "
    "rows can be followed only by a column that names them and stands in the sources too; a running number will do"
)


def _by_construction(shared: list[str]) -> str:
    """What is so because of how the official test rows are made, whatever the steps do."""
    if not shared:
        return "by construction: no step that leads to training rows takes a row of the official test file"
    return f"by construction: official test rows can reach training rows through {_few(shared)} alone"


def _left_out(step: Any, *, full: bool) -> str:
    """Why a step is not run again, or ""."""
    if step.source or step.id == FIT:
        return ""
    if step.because:
        return step.because  # type: ignore[no-any-return]  # steps are a Protocol's, typed where they are made
    if step.seconds > SLOW_S and step.tried and not full:
        return f"it takes {step.seconds:.0f} s, and this code was tried before: `penstock audit --full` tries it again"
    return ""


def _experiment(
    walker: Walker,
    declared: Declared,
    split: Split | None,
    concerned: AbstractSet[str],
    n_held: int,
    report: Report,
    *,
    full: bool,
    seed: int,
) -> set[str]:
    """Scramble, find who is to blame, look ahead, and grade; gives the steps that ran again.

    Only what is made of steps or sources that are `concerned` may hold held-out rows.
    """
    masks: dict[Any, Any] = {}
    probes = [Scramble(declared, variant, masks=masks) for variant in VARIANTS] if concerned else []
    walks = {probe.variant: walker.walk(probe) for probe in probes}
    random: dict[str, str] = {}
    once: dict[str, str] = {}
    if any(walked.moved is not None for walked in walks.values()):
        random, once = walker.same()
        walker.roots |= {*random, *once}
        walks = {probe.variant: walker.walk(probe) for probe in probes}
    for step, what in random.items():
        said = (
            f"step {step} gives another table each time it runs ({what}): seed its generator, or sort what has no order"
        )
        report.findings.append(Finding("warning", "random", said, "", step=step))
        report.cannot(f"step {step}: {_MOVES}", "it differs from itself")
    for step, what in once.items():
        report.cannot(f"step {step}: {_MOVES}", f"not provable: on the very same tables it raised {what}")
    leaks = leaks_of(walker, probes, walks)
    reached = {key[0] for walked in walks.values() for key in walked.made}
    found = look_ahead(walker, declared, split, leaks, full=full, seed=seed) if declared.roles.time else Ahead()
    report.findings += grades(leaks, found)
    _tell_tried(walker, walks, reached, concerned, n_held, report)
    report.tried += found.tried
    report.not_tried += found.not_tried
    report.cuts, report.uncut = (found.cuts if found.reached else 0), found.uncut
    report.uncut |= any(one["what"].startswith(UNCUT) for one in found.not_tried)
    if full and reached:
        _refit(walker, walks, declared, report)
    return reached | found.reached


def grades(leaks: list[Leak], found: Ahead) -> list[Finding]:
    """Findings of scramble and look-ahead together.

    What scramble shows is no error where a look at the tables as they were at each moment shows that nothing later
    was used: a row may learn from earlier ones, on whatever side of the split they stand.
    """
    findings = list(found.findings)
    for leak in leaks:
        one = leak.finding()
        if one.grade == "error" and found.tells(leak):
            continue
        if one.grade == "error" and found.settles(leak):
            what = f"{leak.told()}; nothing later than the row itself was used at {found.cuts} moments"
            one = Finding("note", one.kind, what, one.column, one.rows, one.example, leak.step)
        findings.append(one)
    return findings


def _tell_tried(
    walker: Walker,
    walks: Mapping[str, Walked],
    reached: set[str],
    concerned: AbstractSet[str],
    n_held: int,
    report: Report,
) -> None:
    """What was tried on how many rows, and what was out of reach."""
    names = ", ".join(walker.sides.names)
    for variant, walked in walks.items():
        ran = [step for step in walker.order if any(key[0] == step for key in walked.made)]
        if ran:
            by = f"step{'s' * (len(ran) > 1)} {_few(ran)}"
            what = f"training rows watched while held-out cells took {_SAID[variant]} ({by})"
            report.tried.append({"what": what, "rows": n_held})
    touched = {key[0] for walked in walks.values() for key in walked.touched}
    for step in [one for one in walker.steps.steps if one.id in concerned]:
        if step.source and step.id not in touched:
            why = f"none of its rows can be told to be held out by {names}"
            why += "; a table of look-ups needs no proof" if reached else ""
            report.cannot(f"other values in the table {step.id}", why)
        elif step.id in touched and not (step.needs or step.source or step.id in walker.roots):
            why = "it takes no table: what it made in the run was taken as it was, and other values put there"
            report.cannot(f"step {step.id}: {_MOVES}", why)
        elif step.id not in walker.roots and step.id not in reached:
            why = f"not provable: {names} does not stand in the tables that it takes: keep it under one name from the "
            why += "sources on, or declare as key= what stands there"
            report.cannot(f"step {step.id}: {_MOVES}", why)
    for name in walker.order:
        raised = {variant: walked.raised[name] for variant, walked in walks.items() if name in walked.raised}
        if raised and len(raised) == len(walks):
            report.cannot(f"step {name}: other values in held-out rows", f"not provable: {raised[next(iter(raised))]}")
        elif raised:
            other = " and ".join(_SAID[variant] for variant in raised)
            report.cannot(f"step {name}: {other}", f"it raised {next(iter(raised.values()))}")


def _refit(walker: Walker, walks: Mapping[str, Walked], declared: Declared, report: Report) -> None:
    """Fit on the training rows as they are when held-out ones are other rows: the bytes must be the same."""
    import numpy as np

    steps, sides = walker.steps, declared.sides
    fit = next((step for step in steps.steps if step.id == FIT), None)
    if fit is None:
        return
    table, fitted = ("split", "train"), (FIT, "fitted")
    train = steps.table(table)

    def again(rows: Any) -> str:
        return steps.digest(steps.call(FIT, {table: rows}, lambda _key, other: other)[fitted])

    try:
        if again(train) != steps.recorded(fitted):
            report.cannot(_FIT, "the fit differs from itself")
            return
        fits = 0
        for walked in walks.values():
            if walked.moved is not None or steps.data not in walked.made:
                continue
            now = steps.frame(walked.made[steps.data])
            if not is_frame(now) or not set(train.columns) <= set(now.columns):
                continue
            numbers = sides.plain(now)
            if len(np.unique(numbers)) < len(numbers):
                why = f"not provable: several rows have the same {', '.join(sides.names)}: declare key="
                report.cannot(_FIT, why)
                return
            order = np.argsort(numbers, kind="stable")
            rows = order[np.searchsorted(numbers[order], sides.plain(train))]
            fits += 1
            if again(now.iloc[rows].reset_index(drop=True)[list(train.columns)]) != steps.recorded(fitted):
                what = "the fitted estimator differs, though no training row moved by more than rounding"
                report.findings.append(Finding("warning", "refit", what, "", len(train), step=FIT))
                return
    except Raised as error:
        report.cannot(_FIT, error.what)
        return
    if fits:
        what = f"the estimator has the same bytes, fitted {fits} times again beside other held-out rows"
        report.tried.append({"what": what, "rows": len(train)})
    else:
        report.cannot(_FIT, "they moved")


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _summary(report: Report, done: list[str], mine: list[Any], n_held: int, *, apart: bool) -> str:
    """One line for the screen.

    Parameters
    ----------
    done : list of str
        Steps that ran again.
    mine : list
        All steps.
    apart : bool
        Whether held-out rows do not even go through them.
    """
    bad = [one for one in report.findings if one.grade != "note"]
    if bad:
        return bad[0].what
    if not done and not apart:
        return "steps before the split: not provable"
    n, moved = len(mine), {one.step for one in report.findings}
    told = f"{n} step{'s' if n > 1 else ''}"
    if not apart:
        unsure = [step for step in done if any(one["what"].startswith(f"step {step}: ") for one in report.not_tried)]
        told = f"{len(done)} of {n} steps tried" if len(done) < n else told
        told += f", {len(unsure)} in part" if unsure else ""
    told += ": "
    if apart:
        told += f"the {n_held:,} rows of the official test file go through them apart"
    elif moved:
        told += f"rows moved in {len(moved)} of them, each time for a reason that holds"
    else:
        told += f"no training row moved with {n_held:,} held-out ones"
    if report.cuts and "look-ahead" not in {one.kind for one in report.findings}:
        told += f", no feature with what came after {report.cuts} moments"
        told += " in tables that could be cut" if report.uncut else ""
    return told


__all__ = ["grades", "scramble"]
