"""What a declaration for a table should say: roles, target, preparation, model; every choice with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from penstock.core.answer import plain
from penstock.core.names import did_you_mean
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError, DeclarationError, bounded
from penstock.stages import roles as found_roles
from penstock.stages.disguised import Sentinel, as_numbers, numbers_in, sentinels_in, why_numbers
from penstock.stages.late import drifts, late_columns
from penstock.stages.moments import Moment, as_times, dates_of, moment_of, sounds_late
from penstock.stages.problem import Problem, problem_of
from penstock.stages.profiles import kind_of
from penstock.stages.roles import LIKELY, MOST_LEVELS, SURE, UNSURE, Reason
from penstock.stages.split import split as divide
from penstock.stages.task import Asked, target_of
from penstock.stages.train import features_and_target
from penstock.stages.validate import positive_of

if TYPE_CHECKING:
    import pandas as pd

FEW_ROWS = 500
"""Training tables smaller than this get a linear model."""
TEST_SHARE = 0.2
FEW_HELD_OUT = 8
"""Fewer expected held-out rows of a class are not left to a hash."""
RARE = 0.05
"""A positive class rarer than this is ranked by average precision first."""
SENSITIVE = frozenset({"sex", "gender", "race", "ethnicity", "nationality", "religion", "disability", "agegroup"})
MOST_SLICES = 10
AS_WEIGHT = frozenset({"fnlwgt", "wgt", "pweight"})


@dataclass(slots=True)
class Proposal:
    """A declaration before it is written.

    Attributes
    ----------
    target : Target
    task : {"binary", "multiclass", "regression"}
    key, groups : tuple of str
    moment : Moment or None
    by : str or None
        Rule of the split where it is not the default.
    stable : bool
        Whether a row keeps its side; else quotas are exact, so that few rows of a class stand on both sides.
    drop : list of str
    slices : list of str
    metrics : list of str
    model : {"boosted", "linear"}
    numbers : bool
        Whether any number reaches the model.
    words, many, texts : list of str
        Texts of few levels; of many; of sentences.
    gaps : list of str
        Texts of sentences with missing cells, which a step must fill.
    disguised : dict of str to str
        Texts that are numbers, which a step must read: column → what stands before the decimals.
    sentinels : list of Sentinel
        Numbers that stand for "none", where the model must be told.
    reasons : list of Reason
    n_rows : int
    """

    target: Target
    task: str
    key: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    moment: Moment | None = None
    by: str | None = None
    stable: bool = True
    drop: list[str] = field(default_factory=list)
    slices: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    model: str = "boosted"
    numbers: bool = True
    words: list[str] = field(default_factory=list)
    many: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    disguised: dict[str, str] = field(default_factory=dict)
    sentinels: list[Sentinel] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    n_rows: int = 0

    @property
    def roles(self) -> Roles:
        """Columns with a role, as the split reads them."""
        time = self.moment.column if self.moment is not None else None
        return Roles(self.key, time, self.groups, None, None, tuple(self.drop))


def propose(table: pd.DataFrame, asked: Asked) -> Proposal:
    """Find out what a declaration for a table should say.

    The target's values are used for three things: its task and classes, rows without it, and (on training rows
    alone, by the split that is proposed) columns that tell what has happened.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_columns)
    asked : Asked

    Returns
    -------
    Proposal

    Raises
    ------
    DeclarationError
        A column that does not exist; two classes of which neither is plainly the positive one.
    DataError
        Nothing can be learned: no rows, a target with one value.

    Examples
    --------
    >>> import pandas as pd
    >>> ages, left = [*range(20, 70)] * 2, ["no"] * 50 + ["yes"] * 50
    >>> table = pd.DataFrame({"customer_id": range(100), "age": ages, "left": left})
    >>> found = propose(table, Asked("left"))
    >>> found.key, found.task, found.target.positive, found.words
    (('customer_id',), 'binary', None, [])
    """
    _check_named(table, asked)
    reasons: list[Reason] = []
    table, disguised = _undisguised(table, asked, reasons)
    known = table[table[asked.target].notna()]
    task, target = target_of(table, known, asked, reasons)
    found = Proposal(target, task, disguised=disguised, reasons=reasons, n_rows=len(known))
    columns = [name for name in table.columns if name != asked.target]
    dates = dates_of(known, columns)
    _find_roles(known, columns, dates, asked, found)
    taken = {*found.key, *found.groups, *([found.moment.column] if found.moment else [])}
    rest = [name for name in columns if name not in taken]
    late = [
        Reason("after", name, "a date, and its name speaks of what comes after", LIKELY)
        for name in rest
        if name in dates and sounds_late(name)
    ]
    found.target = replace(found.target, after=tuple(one.choice for one in late))
    for one in [*_dates_left(rest, dates), *_weights(rest), *_years(found.moment)]:
        found.drop.append(one.choice)
        reasons.append(one)
    reasons += late
    rest = [name for name in rest if name not in (*found.drop, *found.target.after)]
    useless = found_roles.useless(known, rest)
    found.drop += [one.choice for one in useless]
    reasons += useless
    _use_training_rows(known, found, asked)
    return found


def _undisguised(table: pd.DataFrame, asked: Asked, reasons: list[Reason]) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table with its numbers as numbers, and the columns where they were texts."""
    columns = [name for name in table.columns if name not in {*(asked.key or ()), *(asked.groups or ()), asked.time}]
    found = numbers_in(table, columns, dates_of(table, columns))
    reasons += [Reason("numbers", name, *why_numbers(table[name], form)) for name, form in found.items()]
    return table.assign(**{name: as_numbers(table[name], form) for name, form in found.items()}), found


def _check_named(table: pd.DataFrame, asked: Asked) -> None:
    columns = [str(name) for name in table.columns]
    named = {"--target": (asked.target,), "--key": asked.key or (), "--groups": asked.groups or ()}
    named["--time"] = (asked.time,) if asked.time else ()
    faults = [
        f"{flag} {name}: there is no such column{did_you_mean(name, columns)}"
        for flag, names in named.items()
        for name in names
        if name not in columns
    ]
    if faults:
        raise DeclarationError(faults, hint=f"columns: {bounded(', '.join(columns), 500)}")


# ── roles ────────────────────────────────────────────────────────────────────────────────────────────────────


def _find_roles(table: pd.DataFrame, columns: list[str], dates: dict[str, str], asked: Asked, found: Proposal) -> None:
    free = [name for name in columns if name not in dates]
    if asked.key is not None:
        found.key = asked.key
        found.reasons.append(Reason("key", ", ".join(asked.key), "as asked for"))
    elif (key := found_roles.key_of(table, free)) is not None:
        found.key = (key.choice,)
        found.reasons.append(key)
    free = [name for name in free if name not in found.key]
    if asked.groups is not None:
        found.groups = asked.groups
        found.reasons.append(Reason("groups", ", ".join(asked.groups), "as asked for"))
    elif (groups := found_roles.groups_of(table, free)) is not None:
        found.groups = (groups.choice,)
        found.reasons.append(groups)
    free = [name for name in columns if name not in (*found.key, *found.groups)]
    found.moment = _moment(table, free, dates, asked)
    if found.moment is not None:
        _say_of_groups(found)
        found.reasons.append(Reason("time", found.moment.column, found.moment.why, found.moment.confidence))
    _choose_split(found, asked)


def _say_of_groups(found: Proposal) -> None:
    """Where time parts the rows an entity may stand on both sides: what remains is that the model does not see it."""
    kept = "rows of one stay together"
    found.reasons[:] = [
        replace(one, why=one.why.replace(kept, "the model does not see it")) if one.topic == "groups" else one
        for one in found.reasons
    ]


def _moment(table: pd.DataFrame, columns: list[str], dates: dict[str, str], asked: Asked) -> Moment | None:
    if asked.time is None:
        return moment_of(table, columns, dates)
    if asked.time not in dates:
        raise DeclarationError(
            f"--time {asked.time}: its cells are not all dates of one form",
            hint="dates such as 2026-01-31 or 31.01.2026 are read; make another form a time in a step",
        )
    return Moment(asked.time, "as asked for", SURE, dates[asked.time])


def _choose_split(found: Proposal, asked: Asked) -> None:
    default = "time" if found.moment else "groups" if found.groups else "key"
    rule = asked.split or default
    if (rule == "time" and not found.moment) or (rule == "groups" and not found.groups):
        raise DeclarationError(
            f"--split {rule}: no column for it was found", hint=f"name it: --{rule} COLUMN, or take another split"
        )
    if rule == "key" and not found.key and asked.split == "key":
        raise DeclarationError("--split key: no key was found", hint="name it: --key COLUMN, or take another split")
    found.by = rule if rule != default else None
    why = {
        "time": "the newest rows are held out: that is how the model will be used",
        "groups": "an entity's rows are all held out or none",
        "key": "a row keeps its side when the table grows"
        if found.key
        else "no key, no time: equal rows share a side, by their content",
        "random": "at random",
    }[rule]
    confidence = SURE if rule in {"time", "groups"} or found.key or asked.split else LIKELY
    found.reasons.append(Reason("split", rule if rule != "key" or found.key else "content", why, confidence))


def _dates_left(columns: list[str], dates: dict[str, str]) -> list[Reason]:
    why = "a date; what matters of it (its month, the days since) is for a step to make"
    return [Reason("drop", name, why, UNSURE) for name in columns if name in dates and not sounds_late(name)]


def _years(moment: Moment | None) -> list[Reason]:
    """The year among the parts of a time: rows to come are of years that no training row has seen."""
    why = "rows to come are of years that training has not seen"
    return [Reason("drop", name, why) for unit, name in (moment.parts if moment else ()) if unit == "year"]


def _weights(columns: list[str]) -> list[Reason]:
    return [
        Reason("drop", name, f"a sampling weight by its name: weight={name!r} makes it count", UNSURE)
        for name in columns
        if name.lower() in AS_WEIGHT
    ]


# ── what needs the target ────────────────────────────────────────────────────────────────────────────────────


def _use_training_rows(table: pd.DataFrame, found: Proposal, asked: Asked) -> None:
    """Late columns, metrics, model and preparation, from rows that the declaration will train on."""
    train, problem = _training_rows(table, found, asked)
    X, y = features_and_target(train, found.target, found.roles)
    after, doubts = late_columns(X, y, problem)
    found.reasons += [*after, *doubts]
    names = [one.choice for one in after]
    found.target = replace(found.target, after=(*found.target.after, *names))
    if found.moment is None and (order := drifts(y, problem)) is not None:
        found.reasons.append(order)
    X = X.drop(columns=names)
    if X.shape[1] == 0:
        raise DataError(
            "no column is left to learn from", hint="each has a role, says nothing, or tells what has happened: --why"
        )
    if problem.task == "binary":
        rare = float((problem.encode(y) == 1).mean()) < RARE
        found.metrics = ["average_precision", "roc_auc"] if rare else ["roc_auc", "neg_log_loss"]
        if rare:
            found.reasons.append(Reason("metrics", "average_precision", f"the positive class is rare (< {RARE:.0%})"))
    elif problem.task == "regression":
        found.metrics = ["neg_root_mean_squared_error", "r2"]
    else:
        found.metrics = ["neg_log_loss", "accuracy"]
    _prepare(X, found)


def _training_rows(table: pd.DataFrame, found: Proposal, asked: Asked) -> tuple[pd.DataFrame, Problem]:
    import pandas as pd

    labels = [plain(label) for label in sorted(table[asked.target].unique(), key=str)]
    positive = found.target.positive
    if found.task == "binary" and positive is None:
        positive = positive_of(found.target, labels, "binary")
    schema = {"task": found.task, "classes": labels, "positive": positive}
    timed = table
    if found.moment is not None:
        timed = table.assign(**{found.moment.column: as_times(table, found.moment)})
    _keep_few_apart(table[asked.target], found)
    rule = Split(by=found.by, stable=found.stable)
    train, _, _ = divide(
        timed.reset_index(drop=True), target=found.target, roles=found.roles, split=rule, seed=0, task=found.task
    )
    assert isinstance(train, pd.DataFrame)  # as the table was
    return train, problem_of(schema, found.target)


def _keep_few_apart(target: Any, found: Proposal) -> None:
    """With few rows of a class a hash may leave one side without any: exact quotas then."""
    if found.task == "regression" or (found.by or "key") in {"time", "random"} or found.moment is not None:
        return
    fewest = int(target.value_counts().min())
    if fewest * TEST_SHARE < FEW_HELD_OUT:
        found.stable = False
        why = f"the rarest class has {fewest} rows: exact quotas, so that both sides have some; rows may change sides"
        found.reasons.append(Reason("split", "quotas", why, UNSURE))


def _prepare(X: pd.DataFrame, found: Proposal) -> None:
    """Sort the features by what must be done with them, and choose a model that takes the result."""
    for name in X.columns:
        column = X[name]
        if found_roles.is_name(column, name):
            found.words.append(name)
            continue
        if kind_of(column) != "text":
            continue
        if found_roles.is_prose(column):
            found.texts.append(name)
            if column.isna().any():
                found.gaps.append(name)
        else:
            (found.words if column.nunique() <= MOST_LEVELS else found.many).append(name)
    found.slices = [
        name for name in X.columns if set(found_roles.words_of(name)) & SENSITIVE and X[name].nunique() <= MOST_SLICES
    ]
    if found.slices:
        found.reasons.append(
            Reason(
                "slices",
                ", ".join(found.slices),
                "people may be treated unequally by it: figures are also given by it",
                LIKELY,
            )
        )
    found.numbers = len(found.words) + len(found.many) + len(found.texts) < X.shape[1]
    wide = X.shape[1] > len(X) / 2
    few = len(X) < FEW_ROWS
    found.model = "linear" if few or wide or found.texts else "boosted"
    why = (
        f"{len(X):,} training rows are few"
        if few
        else "more columns than rows can carry"
        if wide
        else "sentences become many sparse columns"
        if found.texts
        else f"{len(X):,} training rows, mixed columns, missing cells taken as they are"
    )
    if found.model == "boosted" and found.task == "multiclass":
        why += "; regularised, since trees of rare classes diverge otherwise"
    found.reasons.append(Reason("model", _model_name(found), why, LIKELY))
    _say_of_sentinels(X, found)


def _say_of_sentinels(X: pd.DataFrame, found: Proposal) -> None:
    """Trees tell 999 from an age; a linear model must be told that it is none."""
    linear = found.model == "linear"
    told = "? It is taken as missing" if linear else "? The trees tell it apart; whoever reads a mean does not"
    sentinels = sentinels_in(X, [name for name in X.columns if name not in found.words])
    found.reasons += [replace(one.reason, why=one.reason.why + told) for one in sentinels]
    found.sentinels = sentinels if linear else []


def _model_name(found: Proposal) -> str:
    if found.model == "boosted":
        return "HistGradientBoosting" + ("Regressor" if found.task == "regression" else "Classifier")
    return "Ridge" if found.task == "regression" else "LogisticRegression"
