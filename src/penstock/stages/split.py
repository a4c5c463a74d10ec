"""Rows to learn from and rows to judge by: a row keeps its side when the table grows.

* by key (the default with `key=`): the keyed hash of the key's canonical text falls under the test share or not;
* by groups: the same with the group, which overrides the key: a group never stands on both sides;
* without a key: the same with the row's content (the columns frozen in the schema, target left out), so that
  equal rows share a side; where more than half of the rows are copies, the copy's number joins the hash of all but the
  first;
* by time: the newest rows; rows whose label was not yet known at the first held-out moment leave training;
* at random, or `stable=False`: exact quotas, stratified for classes; a row may then change sides;
* an official test file, a splitter or a mask of the user's own: as they say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.core.artifact import StoredTable
from penstock.core.split import Split, is_splitter
from penstock.core.target import Roles, Target
from penstock.errors import DataError
from penstock.stages import keys
from penstock.stages.coincidence import MORE_THAN_CHANCE, by_chance
from penstock.stages.copies import copies, stay, told_apart, why_different
from penstock.stages.custom import last_pair, masked
from penstock.stages.folds import fold_indices
from penstock.stages.large import LargeTable
from penstock.stages.official import kept_beside
from penstock.stages.rules import (
    classes_of,
    first_held_out,
    first_of,
    known_before,
    reaching,
    rule_of,
    unit_columns,
    unlabelled,
    when,
)
from penstock.stages.sides import check_sides, far_off, report_of, summary, thin

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Mask = npt.NDArray[np.bool_]

__all__ = ["fold_indices", "split"]


@dataclass(slots=True)
class Sides:
    """Which rows are learned from, which are held out, and what there is to say of it.

    Attributes
    ----------
    held : numpy.ndarray of bool, shape (n_rows,)
        Held out for the gate.
    kept : numpy.ndarray of bool, shape (n_rows,)
        Learned from.
    final : numpy.ndarray of bool, shape (n_rows,), or None
        Held out from the gate too.
    dropped : dict
        Why rows left training → how many.
    facts : dict
        Further facts for the report.
    notes : list of str
    """

    held: Mask
    kept: Mask
    final: Mask | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def split(
    table: pd.DataFrame | StoredTable,
    *,
    target: Target,
    roles: Roles,
    split: Split,
    seed: int,
    task: str,
    frozen_columns: tuple[str, ...] = (),
    official: pd.DataFrame | StoredTable | None = None,
) -> tuple[Any, ...]:
    """Divide a validated table.

    Parameters
    ----------
    table : pandas.DataFrame or StoredTable of shape (n_rows, n_columns)
        One that is stored is read in batches; what is held is a few numbers a row.
    target, roles, split
        As declared.
    seed : int
        The workflow's seed; with `split.salt` it keys the hash.
    task : {"binary", "multiclass", "regression"}
        From the schema.
    frozen_columns : tuple of str
        Without a key: columns whose content decides, those of the first run. By default all but the target.
    official : pandas.DataFrame or StoredTable, optional
        An official test file, validated: it is held out as it is, and `split.test` says nothing.

    Returns
    -------
    train, test : pandas.DataFrame or Batched
        As the table came. In the table's order, with a fresh index.
    report : dict
        Counts, class shares of both sides, the rule, what left training; `summary` is one line.
    final : pandas.DataFrame or Batched
        Only where `split.final` is declared.

    Raises
    ------
    DeclarationError
        See `rule_of`.
    DataError
        A missing key or time, a side without rows or with one class only.
    """
    rows = _known(table)
    if official is not None:
        test = _like(rows, _known(official))
        found, rule = _beside(rows, test, target, roles, split), "official"
    else:
        found, rule = _divided(rows, target, roles, split, seed, task, frozen_columns)
        test = _rows(rows, found.held)
    train = _rows(rows, found.kept)
    effect, apart = found.facts.get("design_effect", 1.0), found.facts.get("copies_apart", False)
    report = report_of(train, test, rule, target, roles, split, task, effect, apart=apart)
    dropped = {name: n for name, n in found.dropped.items() if n}
    far = far_off(split, rule, len(test), len(rows))
    report |= found.facts | {"dropped": dropped, "notes": found.notes + far + report["notes"]}
    tables = [train, test]
    if found.final is not None:
        tables.append(_rows(rows, found.final))
        report["n_final"] = len(tables[2])
        if not len(tables[2]):
            hint = "declare a larger final=, or an earlier date"
            raise DataError("no row is left for the final hold-out", hint=hint, report=report)
        if task != "regression":
            report["notes"] += thin(tables[2], target, report["counts"]["train"], "final")
    check_sides(train, test, target, report, task, rule)
    report["summary"] = summary(report, target, task)
    train, test, *final = (one.batched() if isinstance(one, LargeTable) else one for one in tables)
    return train, test, report, *final


def final_rows(
    table: pd.DataFrame,
    *,
    target: Target,
    roles: Roles,
    split: Split,
    seed: int,
    task: str,
    frozen_columns: tuple[str, ...] = (),
) -> Mask:
    """Which rows of a table the final hold-out takes.

    Parameters
    ----------
    table : pandas.DataFrame
        By time all of it; where a hash says so, any rows of it.
    target, roles, split, seed, task, frozen_columns
        As for `split`; `split.final` is declared.
    """
    found, _ = _divided(table, target, roles, split, seed, task, frozen_columns)
    assert found.final is not None
    return found.final


def _known(table: Any) -> Any:
    """A frame, or what stands for one: the functions below take either."""
    import pandas as pd

    return table if isinstance(table, pd.DataFrame) else LargeTable(table)


def _like(table: Any, test: Any) -> Any:
    """The official rows with the columns of the table, in its order; what it has beside them no stage reads."""
    there = [str(name) for name in test.columns]
    wanted = [str(name) for name in table.columns if str(name) in there]
    return test if wanted == there else test[wanted]


def _rows(table: Any, mask: Mask) -> Any:
    return table[mask].reset_index(drop=True)


def _divided(
    table: Any, target: Target, roles: Roles, split: Split, seed: int, task: str, frozen: tuple[str, ...]
) -> tuple[Sides, str]:
    """Both sides of one table, and the name of the rule."""
    if is_splitter(split.test) or callable(split.test):
        return _by_hand(table, target, roles, split, seed)
    rule = rule_of(roles, split)
    if rule == "time":
        return _by_time(table, target, roles, split), rule
    found = _by_hash(table, rule, target, roles, split, seed, task, frozen)
    if rule != "content" or _may_straddle(table, found, target, roles, frozen):
        _without_copies(table, found, target, roles)
    return found, rule


def _may_straddle(table: Any, found: Sides, target: Target, roles: Roles, frozen: tuple[str, ...]) -> bool:
    """Without a key: whether rows that are equal for the model may differ in a column that decides their side."""
    seen = roles.visible([str(name) for name in table.columns], target)
    return not found.facts.get("copies_apart") and not set(unit_columns(table, "content", target, roles, frozen)) <= {
        *seen
    }


def _without_copies(table: Any, found: Sides, target: Target, roles: Roles) -> None:
    """Training rows that equal a row of a hold-out leave training."""
    held = found.held if found.final is None else found.held | found.final
    straddling = _straddling(table, held, target, roles, found.notes)
    found.dropped["copies"] = int((straddling & found.kept).sum())
    found.kept &= ~straddling


def _by_hand(table: Any, target: Target, roles: Roles, split: Split, seed: int) -> tuple[Sides, str]:
    """By a mask or a splitter; of a group that is held out no row stays in training, unless time tells them apart."""
    import numpy as np

    if is_splitter(split.test):
        held, kept = last_pair(table, split.test, target, roles, seed)
        found, rule = (
            Sides(held, kept, dropped={"in neither side of the splitter": int((~held & ~kept).sum())}),
            "splitter",
        )
    else:
        held = masked(table, split.test)
        found, rule = Sides(held, ~held), "mask"
    if roles.groups and split.rule(time=roles.time, groups=roles.groups, key=roles.key) != "time":
        number = keys.rows(table, list(roles.groups), keys.secret("group", 0, 0))
        shared = found.kept & np.isin(number, number[held])
        found.dropped["groups"] = int(shared.sum())
        found.kept &= ~shared
        found.facts["design_effect"] = _design_effect(number)
    _without_copies(table, found, target, roles)
    return found, rule


def _beside(table: Any, test: Any, target: Target, roles: Roles, split: Split) -> Sides:
    """All rows of an official test file against what of the table may be learned from."""
    import numpy as np

    notes: list[str] = []
    kept, dropped, facts = kept_beside(table, test, target, roles, split, notes)
    return Sides(np.zeros(len(table), dtype=bool), kept, None, dropped, facts, notes)


# ── by hash ──────────────────────────────────────────────────────────────────────────────────────────────────


def _by_hash(
    table: pd.DataFrame,
    rule: str,
    target: Target,
    roles: Roles,
    split: Split,
    seed: int,
    task: str,
    frozen: tuple[str, ...],
) -> Sides:
    """Units with the lowest numbers are held out for the gate, those with the highest for the end.

    So a final hold-out takes rows from training alone: declared later, it moves no row that the gate judges by.
    """
    import numpy as np

    notes: list[str] = []
    apart = False
    if rule == "random":
        number = np.random.default_rng([seed, split.salt]).permutation(len(table)).astype(np.uint64)
    else:
        secret = keys.secret("side", seed, split.salt)
        number = keys.rows(table, unit_columns(table, rule, target, roles, frozen), secret)
        if rule == "content":
            number, note = told_apart(number, secret)
            apart = bool(note)
            notes += [note] if note else []
    quotas = rule == "random" or not split.stable
    classes = classes_of(table, target, task) if quotas and rule != "groups" else None

    def lowest(number: keys.Hashes, share: float) -> Mask:
        return _quota(number, share, classes) if quotas else keys.below(number, share)

    facts: dict[str, Any] = {} if rule in ("key", "random") else {"design_effect": _design_effect(number)}
    facts |= {"copies_apart": True} if apart else {}
    held = lowest(number, float(split.test))
    final = None if split.final is None else lowest(~number, float(split.final)) & ~held
    return Sides(held, ~held if final is None else ~held & ~final, final, facts=facts, notes=notes)


def _design_effect(number: keys.Hashes) -> float:
    """By how much rows that are drawn together tell less than as many drawn one by one.

    Kish (1965), Survey Sampling, 8.2, for units that are alike within: the mean size of the unit of a row.
    """
    import numpy as np

    ordered = np.sort(number)
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    sizes = np.diff(ends, prepend=-1)
    return float((sizes**2).sum() / max(len(number), 1))


def _quota(number: keys.Hashes, share: float, classes: npt.NDArray[np.intp] | None) -> Mask:
    """The lowest numbers up to an exact share (of each class); rows with equal numbers are not divided."""
    import numpy as np

    held = np.zeros(len(number), dtype=bool)
    for rows in (
        [np.arange(len(number))] if classes is None else [np.flatnonzero(classes == c) for c in np.unique(classes)]
    ):
        order = rows[np.argsort(number[rows], kind="stable")]
        want = round(share * len(order))
        ends = np.flatnonzero(np.append(np.diff(number[order].view(np.int64)) != 0, True)) + 1
        ends = np.concatenate([[0], ends])
        held[order[: ends[np.argmin(np.abs(ends - want))]]] = True
    return held


def _straddling(table: pd.DataFrame, held: Mask, target: Target, roles: Roles, notes: list[str]) -> Mask:
    """Training rows that equal a held-out row in features and target, where such copies are no coincidence."""
    import numpy as np

    alike, straddling = copies(table, held, target, roles)
    if not straddling.any():
        return straddling
    why = why_different(alike, straddling, int((~held).sum()), table, target)
    if why := why or _expected(table, held, straddling, target, roles):
        notes.append(stay(int(straddling.sum()), "a held-out row", why))
        return np.zeros(len(table), dtype=bool)
    return straddling


def _expected(table: Any, held: Mask, straddling: Mask, target: Target, roles: Roles) -> str:
    """Why rows that agree on the target are no copies all the same: few distinct values make as many alike; or ""."""
    import pandas as pd

    if not isinstance(table, pd.DataFrame):  # larger than memory: agreement alone decides
        return ""
    columns = [*roles.visible([str(name) for name in table.columns], target), target.column]
    chance = float(by_chance(table[held], table[~held], columns).sum())
    if int(straddling.sum()) > MORE_THAN_CHANCE * chance:
        return ""
    return f"few distinct values would make about {chance:,.0f} alike without a copy"


# ── by time ──────────────────────────────────────────────────────────────────────────────────────────────────


def _by_time(table: pd.DataFrame, target: Target, roles: Roles, split: Split) -> Sides:
    """The newest rows; before them the rows whose label was known by then."""
    import numpy as np

    assert roles.time is not None
    moments = when(table, roles.time)
    if not len(moments):
        none = np.zeros(0, dtype=bool)
        return Sides(none, none, None if split.final is None else none)
    final = None if split.final is None else moments >= first_of(moments, split.final, name="final")
    cut = _first_for_the_gate(moments, final, split)
    held = moments >= cut if final is None else (moments >= cut) & ~final
    kept = known_before(table, moments, cut, target, split)
    purged = reaching(moments, cut, split)
    late = unlabelled(table, moments, cut, target) & ~purged
    gap = (moments < cut) & ~kept & ~purged & ~late
    dropped = {"gap": int(gap.sum()), "label not known": int(late.sum()), "horizon": int(purged.sum())}
    facts = {"from": keys.moment(cut), "gap": split.gap or target.delay}
    if final is not None and final.any():
        facts["final_from"] = keys.moment(moments[final].min())
    both = held if final is None else held | final
    facts["copies_kept"] = int((kept & copies(table, both, target, roles)[1]).sum())
    return Sides(held, kept, final, dropped, facts)


def _first_for_the_gate(moments: npt.NDArray[Any], final: Mask | None, split: Split) -> Any:
    """The first moment that the gate judges by: of all rows, or of those before the final ones.

    Raises
    ------
    DataError
        The final hold-out takes every row, or every one that the gate was to judge by.
    """
    if final is None:
        return first_held_out(moments, split)
    before = moments[~final]
    if not len(before):
        raise DataError("the final hold-out takes every row", hint="declare a smaller final=")
    test = split.test
    if not isinstance(test, str):
        test = min(test * len(moments) / len(before), 1.0)  # a share of all rows
    cut = first_of(before, test)
    if final.any() and cut > before.max():
        raise DataError(
            f"test={split.test!r} begins at {keys.moment(cut)}, and the final hold-out takes the rows from "
            f"{keys.moment(moments[final].min())} on",
            hint="declare a smaller final=, or a longer test=",
        )
    return cut
