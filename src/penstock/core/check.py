"""Checks of a declaration that need nothing but the declaration; all faults are collected and raised at once."""

from __future__ import annotations

import dataclasses
import re
from types import FunctionType
from typing import Any

from penstock.core.audit import Audit
from penstock.core.data_check import check_of
from penstock.core.faults import Faults, check_duration
from penstock.core.fit import can_stop, faults_of
from penstock.core.gate import (
    RATES,
    RULE_TYPES,
    AtLeast,
    AtMost,
    Beats,
    Calibrated,
    Faster,
    MaxGap,
    NotWorse,
    NoWorseOn,
    Smaller,
)
from penstock.core.metric import Metric, is_scorer, metric_of, own_metrics
from penstock.core.names import SCORERS, UNWEIGHTED, did_you_mean, listed
from penstock.core.target import Target
from penstock.core.tree import NotCanonical, encode, is_estimator, parts_of
from penstock.core.units import is_number
from penstock.errors import DeclarationError

ERRORS_SHOWN_POSITIVE = tuple(name.removeprefix("neg_") for name in SCORERS if name.startswith("neg_"))

_CANDIDATE = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,40}$")


def check_model(model: Any, faults: Faults) -> bool:
    """One estimator, or several by name: candidates."""
    if type(model) is not dict:
        return check_estimator(model, faults)
    if not model:
        faults.add("model=: no candidate; an estimator, or several as {'linear': …, 'trees': …}")
    sound = bool(model)
    for name, candidate in model.items():
        if not isinstance(name, str) or not _CANDIDATE.match(name):
            faults.add(f"model=: {name!r} names a candidate: letters, digits, - and _, a letter first")
            sound = False
        else:
            sound = check_estimator(candidate, faults, f"model[{name!r}]") and sound
    return sound


def check_estimator(model: Any, faults: Faults, field: str = "model") -> bool:
    """An unfitted object with `fit` and `get_params`, all of whose parts another process can find by name."""
    if isinstance(model, type):
        faults.add(f"{field}={model.__name__}: a class; make an object of it: {model.__name__}()")
        return False
    if model is None or not callable(getattr(model, "fit", None)):
        given = "nothing" if model is None else type(model).__name__
        faults.add(f"{field}=: {given} has no fit; an unfitted scikit-learn estimator is meant")
        return False
    if not is_estimator(model):
        faults.add(f"{field}=: {type(model).__name__} has no get_params; inherit sklearn.base.BaseEstimator")
        return False
    before = len(faults.found)
    for place, part in parts_of(model, field):
        if isinstance(part, type):
            continue
        if is_estimator(part) and (fitted := _fitted_attribute(part)):
            faults.add(f"{place}: already fitted (it has {fitted}); give an unfitted one, sklearn.base.clone({place})")
        if callable(part) and "<" in getattr(part, "__qualname__", ""):
            what = "a lambda" if "<lambda>" in part.__qualname__ else f"the local function {part.__name__}"
            faults.add(f"{place}: {what} cannot be found by name in another process; define it at module level")
    if len(faults.found) == before:
        try:
            encode(model, field)
        except NotCanonical as problem:
            faults.add(f"{problem.path}: a {problem.kind} has no canonical form; give its class, name or numbers")
    return len(faults.found) == before


def _fitted_attribute(estimator: Any) -> str:
    """An attribute that only fitting sets: it ends with "_", as scikit-learn's own check has it."""
    names = [n for n in getattr(estimator, "__dict__", {}) if n.endswith("_") and not n.startswith("_")]
    return names[0] if names else ""


def check_metrics(values: dict[str, Any], faults: Faults) -> None:
    """Metrics in their one form: scorer names, held against the list of them, and metrics of the user's own."""
    values["metrics"] = tuple(metric_of(one) if is_scorer(one) else one for one in listed(values["metrics"]))
    for one in values["metrics"]:
        if isinstance(one, Metric):
            continue
        if not isinstance(one, str):
            faults.add(
                f"metrics=: {one!r}: a scorer's name such as 'roc_auc', a scorer object, or a @ps.metric function"
            )
        elif one not in SCORERS:
            faults.add(f"metrics=: {one!r} is no scorer of scikit-learn's{did_you_mean(one, SCORERS)}")


def check_own(values: dict[str, Any], faults: Faults) -> None:
    """Metrics of the user's own, of `metrics=` and of the gate: found by name in a worker, each name once."""
    found = [*values["metrics"], *(getattr(rule, "metric", None) for rule in values["gate"])]
    found += [getattr(values["decide"], rule, None) for rule in ("maximise", "minimise")]
    distinct = list(dict.fromkeys(one for one in found if isinstance(one, Metric)))
    names = [one.name for one in distinct]
    for one in distinct:
        function = one.function._score_func if one.is_scorer else one.function  # noqa: SLF001  scikit-learn's own place
        if "<" in getattr(function, "__qualname__", ""):
            faults.add(f"metric {one.name}: cannot be found by name in another process; define it at module level")
        if one.name in (*SCORERS, *ERRORS_SHOWN_POSITIVE):
            faults.add(f"metric {one.name}: scikit-learn has a scorer of that name; give name=")
        if names.count(one.name) > 1:
            faults.add(f"metric {one.name}: two metrics have that name; give one of them name=")
        if values["weight"] is not None and not one.takes_weight:
            faults.add(f"metric {one.name}: weight= is declared, and it takes no sample_weight")
    if values["weight"] is not None:
        asked = [name if name in SCORERS else f"neg_{name}" for name in found if isinstance(name, str)]
        for name in dict.fromkeys(name for name in asked if name in UNWEIGHTED):
            faults.add(f"metrics=: {name!r} knows no weights of rows, and weight= is declared")


def check_fit(fit: Any, model: Any, faults: Faults) -> None:
    """`ps.Fit` with shares that are shares, and something that can stop where early stopping is asked for."""
    if fit is None:
        return
    for fault in faults_of(fit):
        faults.add(fault)
    if getattr(fit, "early_stopping", None) is not None and not any(can_stop(part) for _, part in parts_of(model)):
        faults.add(
            "fit=: early_stopping: nothing in this model stops by rows that it is given; "
            "XGBoost, LightGBM, CatBoost and HistGradientBoosting do"
        )


def check_roles(values: dict[str, Any], faults: Faults) -> None:
    """Names of columns are texts, and no column has two roles that exclude one another."""
    target: Target = values["target"]
    for field_ in ("key", "groups", "features", "drop", "slices"):
        for name in values[field_] or ():
            if not isinstance(name, str):
                faults.add(f"{field_}=: {name!r}: names of columns are meant")
    for field_ in ("time", "weight"):
        if values[field_] is not None and not isinstance(values[field_], str):
            faults.add(f"{field_}={values[field_]!r}: the name of a column")
    if values["weight"] is not None and values["weight"] == target.column:
        faults.add(f"weight=: {target.column!r} is the target")
    for field_ in ("key", "features", "groups"):
        if target.column in (values[field_] or ()):
            faults.add(f"{field_}=: {target.column!r} is the target")
    both = set(values["features"] or ()) & set(values["drop"])
    if both:
        faults.add(f"drop=: {sorted(both)} stand in features= too")
    if target.missing not in ("error", "drop"):
        faults.add(f"target=: missing={target.missing!r}: 'error' or 'drop'")
    check_duration(target.delay, "target=: delay", faults)


def check_gate(values: dict[str, Any], faults: Faults) -> None:
    """Rules of known kinds, over known metrics, at a confidence that is one."""
    rules = values["gate"] = tuple(_scorer_named(rule) for rule in values["gate"])
    if not rules:
        faults.add("gate=: empty; leave it out for ps.Improves()")
    rule: Any
    for rule in rules:
        if isinstance(rule, FunctionType):
            if "<" in rule.__qualname__:
                faults.add(f"gate=: {rule.__qualname__} cannot be found by name; define it at module level")
            continue
        if not isinstance(rule, RULE_TYPES):
            names = ", ".join(kind.__name__ for kind in RULE_TYPES)
            faults.add(f"gate=: {rule!r}: one of {names}, or a function of a ps.Comparison")
            continue
        _check_rule(rule, own_metrics(values["metrics"], rules), faults)


def _scorer_named(rule: Any) -> Any:
    """A rule whose metric, where it is a scorer object, is the metric made of it."""
    if isinstance(rule, RULE_TYPES) and is_scorer(getattr(rule, "metric", None)):
        given: Any = rule
        return dataclasses.replace(given, metric=metric_of(given.metric))
    return rule


def _check_rule(rule: Any, own: tuple[Metric, ...], faults: Faults) -> None:
    """One rule's fields."""
    what = f"gate=: {type(rule).__name__}"
    metric = getattr(rule, "metric", None)
    known = {one.name: one for one in own}
    metric = metric.name if isinstance(metric, Metric) else metric
    if metric is not None and not isinstance(metric, str):
        faults.add(f"{what}: {metric!r}: a scorer's name such as 'roc_auc', a scorer object, or a @ps.metric function")
        return
    allowed = (*ERRORS_SHOWN_POSITIVE, *SCORERS) if isinstance(rule, AtMost | MaxGap) else SCORERS
    allowed = (*RATES, *allowed) if isinstance(rule, MaxGap) else allowed
    if metric in known:
        one = known[metric]
        if isinstance(rule, AtLeast) and not one.greater_is_better:
            faults.add(f"{what}: {metric!r} is an error, lower is better: AtMost({metric!r}, …)")
    elif metric is not None and metric not in allowed:
        faults.add(f"{what}: {metric!r} is no metric{did_you_mean(metric, allowed)}")
    confidence = getattr(rule, "confidence", 0.95)
    if not is_number(confidence) or not 0.5 < confidence < 1:
        faults.add(f"{what}: confidence={confidence!r}: between 0.5 and 1")
    if isinstance(rule, AtLeast | AtMost) and rule.by not in ("bound", "point"):
        faults.add(f"{what}: by={rule.by!r}: 'bound' or 'point'")
    _check_numbers(rule, what, faults)
    column: object = getattr(rule, "column", "")
    if isinstance(rule, NoWorseOn) and not isinstance(column, str):
        faults.add(f"gate=: NoWorseOn({column!r}): the name of a column")
    sliced: object = getattr(rule, "by", "")
    if isinstance(rule, MaxGap) and not isinstance(sliced, str):
        faults.add(f"{what}: by={sliced!r}: the name of a column")
    named: Any = getattr(rule, "alias", None) if isinstance(rule, Beats | NotWorse) else getattr(rule, "than", None)
    if isinstance(rule, Beats | NotWorse) or isinstance(named, str):
        _check_version(rule, named, what, faults)


def _check_numbers(rule: Any, what: str, faults: Faults) -> None:
    """Limits, margins and shares that are some."""
    if isinstance(rule, AtLeast | AtMost) and not is_number(rule.value):
        faults.add(f"{what}: value={rule.value!r}: a number")
    if isinstance(rule, Beats) and not (is_number(rule.by) and rule.by >= 0):
        faults.add(f"{what}: by={rule.by!r}: a number from 0, in units of the metric")
    if isinstance(rule, NotWorse | NoWorseOn) and rule.margin is not None:
        least = is_number(rule.margin) and (rule.margin >= 0 if isinstance(rule, NoWorseOn) else rule.margin > 0)
        if not least:
            why = "; ps.Beats() asks to be better" if isinstance(rule, NotWorse) else ""
            start = "above 0" if isinstance(rule, NotWorse) else "from 0"
            faults.add(f"{what}: margin={rule.margin!r}: a number {start}, in units of the metric{why}")
    if isinstance(rule, MaxGap | Calibrated) and not (is_number(rule.at_most) and rule.at_most > 0):
        faults.add(f"{what}: at_most={rule.at_most!r}: a number above 0")
    if isinstance(rule, Calibrated) and not (isinstance(rule.bins, int) and rule.bins >= 1):
        faults.add(f"{what}: bins={rule.bins!r}: a whole number from 1")
    if isinstance(rule, Faster | Smaller):
        if not is_number(rule.by) or not 0 <= rule.by < 1:
            faults.add(f"{what}: by={rule.by!r}: a share from 0 to below 1")
        if not isinstance(rule.than, str) and not (is_number(rule.than) and rule.than > 0):
            faults.add(f"{what}: than={rule.than!r}: an alias, a version such as '7', or a number above 0")
        elif not isinstance(rule.than, str) and rule.by:
            faults.add(f"{what}: by= is a share of another version's; with a number say the number")
        elif rule.than == "baseline":
            faults.add(f"{what}: the baseline is stored nowhere: an alias or a version")
    if isinstance(rule, Faster) and not (isinstance(rule.rows, int) and rule.rows >= 1):
        faults.add(f"{what}: rows={rule.rows!r}: a whole number from 1")


def _check_version(rule: Any, named: Any, what: str, faults: Faults) -> None:
    """An alias or a number of a version of this workflow."""
    if not isinstance(named, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", named):
        faults.add(
            f"{what}: {named!r}: an alias such as 'champion', the number of a version such as '7', or 'baseline'"
        )
    if named == "challenger" and rule is not None:
        faults.add(f"{what}: 'challenger' is what the gate judges")


def check_baseline(baseline: Any, faults: Faults) -> None:
    """Nothing, an unfitted estimator, the name of a column, or a function that another process can find."""
    if baseline is None or isinstance(baseline, str):
        if baseline == "":
            faults.add("baseline='': the name of a column")
        return
    if isinstance(baseline, FunctionType):
        if "<" in baseline.__qualname__:
            faults.add(f"baseline=: {baseline.__qualname__} cannot be found by name; define it at module level")
        return
    theirs = Faults("")
    check_estimator(baseline, theirs)
    for fault in theirs.found:
        faults.add(fault.replace("model", "baseline", 1))


def check_checks(values: dict[str, Any], faults: Faults) -> None:
    """Checks of the user's own in their one form, each name once."""
    given = values["checks"]
    found = []
    for one in () if given is None else given if isinstance(given, list | tuple) else (given,):
        try:
            found.append(check_of(one))
        except DeclarationError as error:
            faults.found.extend(error.faults)
    names = [one.name for one in found]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        faults.add(f"checks=: two are called {name!r}; give one of them name= in ps.check")
    values["checks"] = tuple(found)


def check_audit(values: dict[str, Any], faults: Faults) -> None:
    """Answers to the audit, which contradict nothing else that is declared."""
    audit = values["audit"]
    if audit is None:
        return
    if not isinstance(audit, Audit):
        faults.add(f"audit={audit!r}: ps.Audit(waive={{…}}, known_late=[…])")
        return
    target: Target = values["target"]
    for name in audit.known_late:
        if name in (values["features"] or ()):
            faults.add(f"audit=: {name!r} is known late, and stands in features=")
        if name == target.column:
            faults.add(f"audit=: {name!r} is the target")
