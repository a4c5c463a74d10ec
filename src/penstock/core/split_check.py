"""Checks of a split's declaration: every combination that cannot be is refused in a sentence."""

from __future__ import annotations

import dataclasses
import datetime as dt
from types import FunctionType
from typing import Any

from penstock.core.faults import Faults, check_duration
from penstock.core.flow import calls_of
from penstock.core.names import did_you_mean
from penstock.core.split import RULES, Split, duration_s, is_splitter
from penstock.core.step import Ref, Step, call_of
from penstock.core.tree import NotCanonical, encode

FORMS = (
    "a share such as 0.2, a duration such as '90d', a date, ps.read(…) of an official test file, a splitter, "
    "or a function to a mask"
)
OF_SHARES = {
    "stable": "which rows are held out is not drawn: leave stable= out",
    "final": "final= needs test= to be a share, a span or a date",
}
"""Fields that have no meaning where `test` says which rows are held out, and why."""


def check_split(values: dict[str, Any], faults: Faults) -> None:
    """A rule that the declared roles can carry, a size, and durations that can be read."""
    split = values["split"] = _declared(values["split"])
    if not isinstance(split, Split):
        kind = split.__name__ + "; make an object of it" if isinstance(split, type) else type(split).__name__
        faults.add(f"split=: {kind}: ps.Split(…), a splitter of scikit-learn's form, or a function to a mask is meant")
        values["split"] = Split()
        return
    if split.by is not None and split.by not in RULES:
        faults.add(f"split=: by={split.by!r}: one of {', '.join(RULES)}{did_you_mean(split.by, RULES)}")
    needs = {"key": values["key"], "time": values["time"], "groups": values["groups"]}
    if split.by in needs and not needs[split.by]:
        faults.add(f"split=: by={split.by!r} needs {split.by}= in the workflow")
    _check_test(split, values, faults)
    _check_folds(split, values, faults)
    if isinstance(split.salt, bool) or not isinstance(split.salt, int) or split.salt < 0:
        faults.add(f"split=: salt={split.salt!r}: a whole number from 0")
    if split.final is not None and split.shares:
        _check_final(split, values, faults)
    check_duration(split.gap, "split=: gap", faults)
    _check_horizon(split, values, faults)


def _declared(given: Any) -> Any:
    """What stands in `split=` as a `Split`: a splitter by itself makes the folds too, if it makes several."""
    if is_splitter(given):
        return Split(test=given, folds=given if makes_folds(given) else 5)
    if isinstance(given, FunctionType):
        return Split(test=given)
    if isinstance(given, Split) and isinstance(given.test, Step) and not given.test.options.outputs:
        return dataclasses.replace(given, test=given.test.ref())  # a step that needs no input stands for its output
    return given


def makes_folds(splitter: Any) -> bool:
    """Whether a splitter gives several pairs; one that must see rows to tell is taken for such."""
    try:
        return int(splitter.get_n_splits()) > 1
    except Exception:  # it asks for X, y or groups
        return True


def by_time(split: Split, values: dict[str, Any]) -> bool:
    """Whether rows are told apart by time."""
    return (split.by or ("time" if values["time"] else "")) == "time"


def _check_test(split: Split, values: dict[str, Any], faults: Faults) -> None:
    """The one of its forms that `test` has."""
    test = split.test
    if isinstance(test, Ref):
        _check_official(test, values["data"], faults)
    elif is_splitter(test):
        _check_splitter(test, "split=: test", values, faults)
    elif isinstance(test, FunctionType):
        if "<" in test.__qualname__:
            faults.add(f"split=: test: {test.__qualname__} cannot be found by name; define it at module level")
    elif isinstance(test, bool) or not isinstance(test, int | float | str):
        kind = f"{test.__name__}, a class; make an object of it" if isinstance(test, type) else repr(test)
        faults.add(f"split=: test={kind}: {FORMS}")
    elif isinstance(test, str):
        _check_cut(test, "test", split, values, faults)
    elif not 0 < test < 1:
        faults.add(f"split=: test={test!r}: a share between 0 and 1")
    if isinstance(test, Ref | FunctionType) or is_splitter(test):
        for name, why in OF_SHARES.items():
            if getattr(split, name) is not Split.__dataclass_fields__[name].default:
                faults.add(f"split=: {name}={getattr(split, name)!r} beside such a test=: {why}")


def _check_official(test: Ref, data: Any, faults: Faults) -> None:
    """An official test file: which source it stands for must be plain."""
    if not isinstance(data, Ref):
        return
    if call_of(test) is call_of(data):
        faults.add("split=: test= is the very table of data=: an official test file has rows of its own")
        return
    sources = [call for call in calls_of((data,)) if call.kind == "source"]
    is_file, is_table = call_of(test).kind == "source", call_of(data).kind == "source"
    if is_file and not is_table and len(sources) != 1:
        name = call_of(data).name
        names = ", ".join(call.name for call in sources) or "none"
        faults.add(
            f"split=: test= is a file, and data= is made of {len(sources)} sources ({names}): which one it stands for "
            f"is not plain; give the result of the steps instead, test={name}(ps.read('test.csv'), …)"
        )


def _check_splitter(splitter: Any, what: str, values: dict[str, Any], faults: Faults) -> None:
    """A splitter that can stand in a recipe, and is given what it asks for."""
    name = type(splitter).__name__
    try:
        encode(splitter, what)
    except NotCanonical:
        faults.add(f"{what}: a {name} has no canonical form; make its class a dataclass, or give a function to a mask")
    if any(base.__name__ == "GroupsConsumerMixin" for base in type(splitter).__mro__) and not values["groups"]:
        faults.add(f"{what}: {name} divides rows by groups, and the workflow declares none: add groups=")


def _check_folds(split: Split, values: dict[str, Any], faults: Faults) -> None:
    if is_splitter(split.folds):
        if split.folds is not split.test:  # else its faults are told already
            _check_splitter(split.folds, "split=: folds", values, faults)
        if not makes_folds(split.folds):
            faults.add("split=: folds: this splitter makes one pair; cross-validation needs at least 2")
    elif not isinstance(split.folds, int) or split.folds < 2:
        faults.add(f"split=: folds={split.folds!r}: a whole number from 2, or a splitter")


def _check_final(split: Split, values: dict[str, Any], faults: Faults) -> None:
    """The final hold-out: rows beside those of the gate."""
    final, test = split.final, split.test
    if isinstance(final, bool) or not isinstance(final, int | float | str):
        faults.add(f"split=: final={final!r}: a share such as 0.1, a duration such as '30d', or a date")
    elif isinstance(final, str):
        _check_cut(final, "final", split, values, faults)
        dates = [_date(text) for text in (test, final) if isinstance(text, str)]
        if len(dates) == 2 and None not in dates and dates[1] <= dates[0]:  # type: ignore[operator]  # both are there
            faults.add(f"split=: final={final!r} begins before test={test!r}: the newest rows are the final ones")
    elif not 0 < final < 1 or (isinstance(test, int | float) and test + final >= 1):
        faults.add(f"split=: final={final!r}: a share above 0 that leaves rows to train on beside test={test!r}")


def _check_horizon(split: Split, values: dict[str, Any], faults: Faults) -> None:
    """A horizon is about time, and so is a gap that is declared by hand."""
    check_duration(split.horizon, "split=: horizon", faults)
    for name, text in (("horizon", split.horizon), ("gap", split.gap)):
        if text is None:
            continue
        if not by_time(split, values):
            faults.add(f"split=: {name}={text!r} is about time: it needs time= in the workflow, and by='time'")
        elif not split.shares and not isinstance(split.test, Ref):
            faults.add(f"split=: {name}={text!r}: a mask or a splitter says itself which rows are left out")


def _check_cut(text: str, what: str, split: Split, values: dict[str, Any], faults: Faults) -> None:
    """A duration or a date needs a time column to be cut in."""
    try:
        duration_s(text)
    except ValueError:
        if _date(text) is None:
            faults.add(f"split=: {what}={text!r}: a share, a duration such as '90d', or a date such as '2026-01-01'")
    if not values["time"]:
        faults.add(f"split=: {what}={text!r} needs time= in the workflow")
    elif split.by not in (None, "time"):
        faults.add(f"split=: {what}={text!r} is a span of time: it needs by='time'")


def _date(text: str) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found
