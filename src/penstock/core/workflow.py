"""The declaration: the life of one model as one inert, validated value."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from penstock.core.check import (
    check_audit,
    check_baseline,
    check_checks,
    check_fit,
    check_gate,
    check_metrics,
    check_model,
    check_own,
    check_roles,
)
from penstock.core.faults import Faults
from penstock.core.gate import Improves
from penstock.core.names import did_you_mean, listed
from penstock.core.place import Place, here
from penstock.core.resources import resources_faults
from penstock.core.split import Split
from penstock.core.split_check import check_split
from penstock.core.step import Ref, Step
from penstock.core.target import Roles, Target
from penstock.core.threshold import check_threshold
from penstock.core.tree import copy_value
from penstock.errors import DeclarationError

_NAME = re.compile(r"^[a-z][a-z0-9_-]{0,62}$")
REQUIRED = ("name", "data", "target", "model")
RELEASES = ("auto", "ci", "never")
REFITS = ("no", "all")
LATER = {
    "serve": "roll-outs are not done yet; a server swaps at once",
    "score": "batch deployments do not exist yet; `penstock predict` scores a file",
    "retrain": "nothing retrains by itself yet; run `penstock run` again on newer data",
}
"""Fields of the full design that are refused, each with the sentence why, rather than ignored."""


@dataclass(frozen=True)
class Monitor:
    """What is watched once the model answers.

    Parameters
    ----------
    labels : Ref, optional
        `read(…)` of a table with the outcomes, which may come late: the prediction `id` or the key, the target.
    drift : bool, default=True
        Test inputs and predictions against training and held-out rows.
    log : bool, default=True
        Keep each prediction in the append-only prediction log.
    """

    labels: Ref | None = None
    drift: bool = True
    log: bool = True

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


@dataclass(frozen=True, eq=False, repr=False)
class Workflow:
    """The declared life of one model, from raw data to production.

    Nothing runs when it is made; it is checked, and every fault is reported at once. The estimator is copied.

    Parameters
    ----------
    name : str
        Lower-case letters, digits, `-` and `_`; unique in a ledger.
    data : Ref
        `read(…)` or the result of steps; a step that needs no input may stand here by itself.
    target : str or Target
        The column to predict.
    model : estimator, or dict of str to estimator
        Any unfitted scikit-learn object; or several by name, of which cross-validation on the training rows chooses.
    key, groups : str or list of str, optional
        Columns that name a row; columns that name the entity it belongs to.
    time : str, optional
        Column with the time of the event. With it the newest rows are held out.
    features, drop : list of str, optional
        What the model sees: `features` if given, else all columns but target, roles, `Target.after` and `drop`.
    schema : str, optional
        The schema file, relative to the declaring file; `NAME.schema.toml` by default, if there.
    split : Split, splitter or callable, optional
        Which rows are held out: `Split(…)`, a splitter of scikit-learn's form, or a function from the table to a mask.
    metrics : list of str, scorer or metric, optional
        scikit-learn's scorer names and objects, and `@ps.metric` functions; the first is primary. By default by task.
    slices : list of str, optional
        Columns by whose values the figures are also given.
    gate : list of rules, default=[Improves()]
        What a version must pass to become champion.
    release : {"auto", "ci", "never"}, optional
        Who may move the champion: whoever runs; only CI; nobody (`penstock promote` by hand). By default "auto" on a
        ledger of one's own, "ci" on a shared one.
    monitor : Monitor, optional
    seed : int, default=0
        From which every random part's seed is derived.
    refit : {"no", "all"}, default="no"
        "all": what is served is fitted once more on training and held-out rows together; its judged twin is kept.
    decide : Threshold, optional
        From which score on a row counts as positive.
    checks : list of callable, pandera schema or Check, optional
        What the table must satisfy besides the schema file; see `check`.
    baseline : estimator, str or callable, optional
        What the model must beat: an estimator, a column that holds a prediction, or a function of the table. By
        default the class shares, or the mean.
    audit : Audit, optional
        Answers to what the audit found.
    weight : str, optional
        Column with the weight of a row: it reaches the fit, searches and their scorers, metrics and intervals.
    fit : Fit, optional
        Early stopping and sampling inside every fit.
    resources : dict of str to Resources, optional
        What a stage (`"train"`) or a step by its name needs while it runs; goes before what the step itself says.

    Raises
    ------
    DeclarationError
        With every fault found: the field, what was given, what is allowed, the nearest right word.
    """

    name: str
    data: Any
    target: Any
    model: Any
    key: Any = None
    time: str | None = None
    groups: Any = None
    features: Any = None
    drop: Any = ()
    schema: str | None = None
    split: Any = None
    metrics: Any = ()
    slices: Any = ()
    gate: Any = None
    release: str | None = None
    monitor: Monitor = field(default_factory=Monitor)
    seed: int = 0
    refit: str = "no"
    weight: Any = None
    checks: Any = None
    fit: Any = None
    decide: Any = None
    baseline: Any = None
    audit: Any = None
    resources: Any = None
    serve: Any = None
    score: Any = None
    retrain: Any = None

    def __post_init__(self) -> None:
        values = {f: getattr(self, f) for f in self.__dataclass_fields__}
        faults = Faults("Workflow")
        self._check(values, faults)
        faults.raise_all()
        for word, value in values.items():
            object.__setattr__(self, word, value)
        object.__setattr__(self, "_place", here())

    @staticmethod
    def _check(values: dict[str, Any], faults: Faults) -> None:
        """Check every field and bring it into its one form; faults are collected, not raised."""
        for word, why in LATER.items():
            if values[word] is not None:
                faults.add(f"{word}=: {why}; leave the field out")
        if values["refit"] not in REFITS:
            faults.add(f"refit={values['refit']!r}: one of {', '.join(REFITS)}")
        if values["decide"] is not None:
            check_threshold(values["decide"], faults)
        if not isinstance(values["name"], str) or not _NAME.match(values["name"]):
            faults.add(f"name={values['name']!r}: lower-case letters, digits, - and _, a letter first")
        values["data"] = _check_data(values["data"], faults)
        target = values["target"]
        if isinstance(target, str) and target:
            values["target"] = Target(target)
        elif not isinstance(target, Target):
            faults.add(f"target={target!r}: the column to predict, or ps.Target(column, positive=…)")
            values["target"] = Target("?")
        values["key"], values["groups"] = listed(values["key"]), listed(values["groups"])
        values["features"] = None if values["features"] is None else listed(values["features"])
        values["drop"], values["slices"] = listed(values["drop"]), listed(values["slices"])
        check_roles(values, faults)
        check_metrics(values, faults)
        values["split"] = Split() if values["split"] is None else values["split"]
        check_split(values, faults)
        values["gate"] = (Improves(),) if values["gate"] is None else values["gate"]
        values["gate"] = tuple(values["gate"]) if isinstance(values["gate"], list | tuple) else (values["gate"],)
        check_gate(values, faults)
        check_own(values, faults)
        check_baseline(values["baseline"], faults)
        check_checks(values, faults)
        check_audit(values, faults)
        for fault in resources_faults(values["resources"]):
            faults.add(fault)
        if values["release"] not in (None, *RELEASES):
            faults.add(f"release={values['release']!r}: one of {', '.join(RELEASES)}")
        if not isinstance(values["monitor"], Monitor):
            faults.add(f"monitor={values['monitor']!r}: ps.Monitor(labels=…, drift=…, log=…)")
        if not isinstance(values["seed"], int) or isinstance(values["seed"], bool) or values["seed"] < 0:
            faults.add(f"seed={values['seed']!r}: a whole number from 0")
        if check_model(values["model"], faults):
            values["model"] = copy_value(values["model"])
            check_fit(values["fit"], values["model"], faults)

    @property
    def roles(self) -> Roles:
        """Columns with a role, as the stages read them."""
        return Roles(self.key, self.time, self.groups, self.weight, self.features, self.drop)

    @property
    def hiding(self) -> Target:
        """The target as the stages read it: what `audit` calls known late is hidden as `Target.after` is."""
        target: Target = self.target
        if self.audit is None or not self.audit.known_late:
            return target
        return dataclasses.replace(target, after=tuple(dict.fromkeys((*target.after, *self.audit.known_late))))

    @property
    def tables(self) -> tuple[Ref, ...]:
        """What is read or made before the stages: `data`, and an official test file."""
        return (self.data, self.split.test) if isinstance(self.split.test, Ref) else (self.data,)

    def replace(self, **changes: Any) -> Workflow:
        """A copy with other values for some fields, checked again.

        Raises
        ------
        DeclarationError
        """
        values = {f: getattr(self, f) for f in self.__dataclass_fields__} | changes
        made = Workflow(values.pop("name"), **values)
        object.__setattr__(made, "_place", place_of(self))  # its relative paths stay what they were
        return made

    def _repr_html_(self) -> str:
        from penstock.core.told import workflow_html

        return workflow_html(self)

    def __repr__(self) -> str:
        shown = [f for f in self.__dataclass_fields__ if f not in LATER]
        lines = [f"    {f}={getattr(self, f)!r},".replace("\n", "\n    ") for f in shown]
        return "Workflow(\n" + "\n".join(lines) + "\n)"


def place_of(workflow: Workflow) -> Place:
    """Where a workflow was declared."""
    place: Place = object.__getattribute__(workflow, "_place")
    return place


def _explained(init: Callable[..., None]) -> Callable[..., None]:
    """The generated constructor, but a wrong or missing field is a fault like any other."""

    @functools.wraps(init)
    def construct(self: Workflow, *args: Any, **fields: Any) -> None:
        known = self.__dataclass_fields__
        given = [*list(known)[: len(args)], *fields]
        wrong = [f"{word}=: no such field{did_you_mean(word, known)}" for word in fields if word not in known]
        absent = [word for word in REQUIRED if word not in given]
        filled = dict.fromkeys(absent, None) | {word: value for word, value in fields.items() if word in known}
        try:
            init(self, *args, **filled)
        except DeclarationError as error:
            raise DeclarationError([*wrong, *error.faults], where="Workflow") from None
        if wrong:
            raise DeclarationError(wrong, where="Workflow")

    return construct


# Wrapped after the class is made, so that editors and type checkers still see the fields.
Workflow.__init__ = _explained(Workflow.__init__)  # type: ignore[method-assign]


def _check_data(data: Any, faults: Faults) -> Any:
    """`data` as one reference."""
    if isinstance(data, Step):
        data = data.ref()
    if isinstance(data, tuple):
        faults.add(f"data=: the step gives {len(data)} outputs; name one of them")
    elif not isinstance(data, Ref):
        given = "nothing" if data is None else f"{type(data).__name__}"
        faults.add(f"data=: {given}; ps.read('customers.csv') or the result of a step is meant")
    return data
