"""The steps before the split run again on other held-out values: no training row may move.

Where there is time, they also run on tables that end at a moment: no feature before it may change. What is found is
graded here; `stages.audit` joins it with what is found in the tables themselves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.core.notes import note
from penstock.core.replay import Raised, Replayed
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages.ahead import Ahead, look_ahead
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
    """

    findings: list[Finding] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    not_tried: list[dict[str, str]] = field(default_factory=list)
    cuts: int = 0

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

    Returns
    -------
    dict
        "summary", "findings" (as the audit's), "tried", "not_tried", and "codes": step → digest of the code that was
        run again.
    """
    began = time.perf_counter()
    report = Report()
    declared = Declared(target, roles, Sides(train, test, roles, split, seed))
    left = {step.id: why for step in steps.steps if (why := _left_out(step, full=full))}
    walker = Walker(steps, declared.sides, declared.labels, [*left, FIT])
    mine = [step for step in steps.steps if not step.source and step.id != FIT]
    for step, why in left.items():
        report.cannot(f"step {step}: whether held-out rows move a training row in it", why)
    reached: set[str] = set()
    if not declared.sides.names:
        report.cannot(_QUESTION, "not provable: declare key=")
    elif len(left) < len(mine):
        reached = _experiment(walker, declared, split, test, report, full=full, seed=seed)
    done = [step.id for step in mine if step.id in reached]
    seconds = time.perf_counter() - began
    note(runs_of_steps=walker.runs, replay_s=round(seconds, 3))
    carried = {step.id: step.code for step in mine if step.id in left and step.tried}
    return {
        "summary": _summary(report, done, len(test), report.cuts),
        "findings": [one.to_json() for one in report.findings],
        "tried": report.tried,
        "not_tried": report.not_tried,
        "codes": {step.id: step.code for step in mine if step.id in reached} | carried,
    }


_QUESTION = "whether held-out rows moved a training row in the steps before the split"


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
    test: pd.DataFrame,
    report: Report,
    *,
    full: bool,
    seed: int,
) -> set[str]:
    """Scramble, find who is to blame, look ahead, and grade; gives the steps that ran again."""
    masks: dict[Any, Any] = {}
    probes = [Scramble(declared, variant, masks=masks) for variant in VARIANTS]
    walks = {probe.variant: walker.walk(probe) for probe in probes}
    random: dict[str, str] = {}
    if any(walked.moved is not None for walked in walks.values()):
        random = walker.same()
        walker.roots |= set(random)
        walks = {probe.variant: walker.walk(probe) for probe in probes}
    for step, what in random.items():
        said = f"step {step} gives another table each time it runs ({what}): seed its generator"
        report.findings.append(Finding("warning", "random", said, "", step=step))
        report.cannot(f"step {step}: whether held-out rows move a training row in it", "it differs from itself")
    leaks = leaks_of(walker, probes, walks)
    reached = {key[0] for walked in walks.values() for key in walked.made}
    found = look_ahead(walker, declared, split, leaks, full=full, seed=seed) if declared.roles.time else Ahead()
    report.findings += grades(leaks, found)
    _tell_tried(walker, walks, reached, len(test), report)
    report.tried += found.tried
    report.not_tried += found.not_tried
    report.cuts = found.cuts if found.reached else 0
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


def _tell_tried(walker: Walker, walks: Mapping[str, Walked], reached: set[str], n_held: int, report: Report) -> None:
    """What was tried on how many rows, and what was out of reach."""
    names = ", ".join(walker.sides.names)
    for variant, walked in walks.items():
        ran = [step for step in walker.order if any(key[0] == step for key in walked.made)]
        if ran:
            what = f"training rows watched while held-out cells took {_SAID[variant]} (steps {_few(ran)})"
            report.tried.append({"what": what, "rows": n_held})
    touched = {key[0] for walked in walks.values() for key in walked.touched}
    for step in walker.steps.steps:
        if step.source and step.id not in touched:
            why = f"none of its rows can be told to be held out by {names}; a table of look-ups needs no proof"
            report.cannot(f"other values in the table {step.id}", why)
        elif step.id not in walker.roots and step.id not in reached:
            why = f"not provable: {names} does not stand in the tables that it takes; declare as key= what does"
            report.cannot(f"step {step.id}: whether held-out rows move a training row in it", why)
    for name in walker.order:
        raised = {variant: walked.raised[name] for variant, walked in walks.items() if name in walked.raised}
        if len(raised) == len(walks):
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
            report.cannot("the fit on rows that held-out ones did not move", "the fit differs from itself")
            return
        fits = 0
        for walked in walks.values():
            if walked.moved is not None or steps.data not in walked.made:
                continue
            now = steps.frame(walked.made[steps.data])
            if not is_frame(now):
                continue
            numbers = sides.numbers(now)
            order = np.argsort(numbers, kind="stable")
            rows = order[np.searchsorted(numbers[order], sides.numbers(train))]
            fits += 1
            if again(now.iloc[rows].reset_index(drop=True)[list(train.columns)]) != steps.recorded(fitted):
                what = "the fitted estimator differs, though no training row moved by more than rounding"
                report.findings.append(Finding("warning", "refit", what, "", len(train), step=FIT))
                return
    except Raised as error:
        report.cannot("the fit on rows that held-out ones did not move", error.what)
        return
    if fits:
        what = f"the estimator has the same bytes, fitted {fits} times again beside other held-out rows"
        report.tried.append({"what": what, "rows": len(train)})
    else:
        report.cannot("the fit on rows that held-out ones did not move", "they moved")


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _summary(report: Report, done: list[str], n_held: int, cuts: int) -> str:
    """One line for the screen."""
    bad = [one for one in report.findings if one.grade != "note"]
    if bad:
        return bad[0].what
    if not done:
        return "steps before the split: not provable"
    n, moved = len(done), {one.step for one in report.findings}
    told = f"{n} step{'s' if n > 1 else ''}: "
    if moved:
        told += f"rows moved in {len(moved)} of them, each time for a reason that holds"
    else:
        told += f"no training row moved with {n_held:,} held-out ones"
    return told + (f", no feature with what came after {cuts} moments" if cuts else "")


__all__ = ["grades", "scramble"]
