"""Lowering: a Workflow becomes a flow of ordinary steps. Read this to see what `penstock run` does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.core.flow import calls_of
from penstock.core.metric import named_rules, own_metrics, scorer_names
from penstock.core.names import did_you_mean
from penstock.core.search import open_searches
from penstock.core.step import Call, Options, Ref
from penstock.core.workflow import Workflow
from penstock.errors import DeclarationError
from penstock.lifecycle.demands import demands
from penstock.stages.schema import from_toml, frozen_columns

STAGES = (
    "validate",
    "split",
    "train",
    "evaluate",
    "decide",
    "refit",
    "audit",
    "package",
    "register",
    "champion",
    "compare",
    "gate",
    "deploy",
)
"""Step ids of Penstock's own, in the order in which they are shown; a user's step may not be called so."""


CANDIDATE = "evaluate."
"""What the id of a candidate's evaluation begins with."""


def stage(name: str, *args: Any, outputs: tuple[str, ...] = (), entry: str = "", **kwargs: Any) -> Call:
    """A call of one of Penstock's own stages, named by its entry and resolved in the worker."""
    entry = entry or f"penstock.stages.{name}:{name}"
    return Call(entry, name, args, kwargs, Options(outputs=outputs), part=name)


def effect(name: str, *args: Any, outputs: tuple[str, ...] = (), **kwargs: Any) -> Call:
    """A call that acts on the ledger or the world; the coordinator runs it, and it is never reused."""
    return Call(f"penstock.lifecycle:{name}", name, args, kwargs, Options(outputs=outputs), kind="effect", part=name)


def lower(
    workflow: Workflow, file: str, *, seed: int | None = None, only: Sequence[str] = ()
) -> tuple[tuple[Ref, ...], dict[str, Any]]:
    """The steps of a workflow's life.

    Parameters
    ----------
    workflow : Workflow
    file : str
        The file that declares it; the schema file is relative to it.
    seed : int, optional
        Overrides the workflow's.
    only : sequence of str
        Of several candidates these alone.

    Returns
    -------
    outputs : tuple of Ref
        What is wanted; everything else is needed for it.
    about : dict
        What the coordinator must know of the declaration.

    Raises
    ------
    DeclarationError
    """
    _check_names(workflow)
    model = models_of(workflow, only)
    w, seed = workflow, workflow.seed if seed is None else seed
    roles: dict[str, Any] = {"target": w.hiding, "roles": w.roles}
    schema = read_schema(w, file)
    own = own_metrics(w.metrics, w.gate, w.decide)
    rules, names = named_rules(w.gate, own), scorer_names(w.metrics)

    checked = stage(
        "validate",
        w.data,
        **roles,
        schema=schema,
        slices=w.slices,
        task=task_of(model),
        **demands(w, own, task_of(model)),
        outputs=("table", "schema", "report"),
    )
    known = {**roles, "schema": Ref(checked, "schema")}
    frozen = frozen_columns(schema) if schema else ()
    parted = stage(
        "split",
        Ref(checked, "table"),
        **roles,
        split=w.split,
        seed=seed,
        schema=Ref(checked, "schema"),
        frozen_columns=frozen,
        outputs=("train", "test", "report"),
        entry="penstock.stages.partition:partition",
    )
    train, test = Ref(parted, "train"), Ref(parted, "test")
    learn = {**known, "split": w.split, "seed": seed}
    if w.fit is not None:  # what is not declared stands in no recipe
        learn["fit"] = w.fit
    mine: dict[str, Any] = {"own": own} if own else {}
    judged: dict[str, Any] = {"metrics": names, "slices": w.slices, **mine}
    judged |= {"baseline": w.baseline} if w.baseline is not None else {}
    trained, evaluated = _learned(model, train, w, learn, judged)
    fitted = served = Ref(trained, "fitted")
    beside: dict[str, Any] = {}
    decided: dict[str, Any] = {}
    refitted: dict[str, Any] = {}
    if w.decide is not None:
        chosen = stage(
            "decide",
            Ref(evaluated, "predictions"),
            train,
            decide=w.decide,
            **known,
            **mine,
            outputs=("decision", "report"),
        )
        decided = {"decision": Ref(chosen, "decision")}
        beside |= {**decided, "threshold": Ref(chosen, "report")}
    if w.refit == "all":
        again = stage("refit", train, test, fitted=fitted, **learn, outputs=("fitted", "report"))
        served = Ref(again, "fitted")
        beside |= {"judged": fitted, "refit": Ref(again, "report")}
        refitted = {"test": test}
    waived = {"waive": w.audit.waive} if w.audit is not None and w.audit.waive else {}
    audited = stage("audit", train, test, **known, **waived)
    packed = stage(
        "package",
        train,
        fitted=served,
        **known,
        **decided,
        **refitted,
        seed=seed,
        outputs=("input", "golden", "profile", "seen", "learned"),
        entry="penstock.stages.package:contents",
    )

    registered = effect(
        "register",
        estimator=served,
        input=Ref(packed, "input"),
        golden=Ref(packed, "golden"),
        profile=Ref(packed, "profile"),
        schema=Ref(checked, "schema"),
        metrics=Ref(evaluated, "report"),
        audit=Ref(audited),
        seen=Ref(packed, "seen"),
        learned=Ref(packed, "learned"),
        **beside,
    )
    reigning = effect("champion", Ref(registered), outputs=("fitted", "about", "seen"))
    compared = stage(
        "compare",
        test,
        train,
        fitted=fitted,
        champion=Ref(reigning, "fitted"),
        seen=Ref(reigning, "seen"),
        about=Ref(reigning, "about"),
        rules=rules,
        **judged,
        **known,
        **decided,
        seed=seed,
    )
    ruled = effect("gate", Ref(compared), Ref(registered), Ref(audited), Ref(reigning, "about"))
    deployed = effect("deploy", Ref(ruled), Ref(registered), Ref(compared))
    about = {
        "workflow": w.name,
        "release": w.release,
        "seed": seed,
        "metrics": list(names),
        "log": w.monitor.log,
        "schema_file": schema_path(w, file),
        "schema": schema is not None,
        "key": list(w.key),
        "refit": w.refit,
    }
    return (Ref(deployed), Ref(evaluated, "report"), Ref(parted, "report")), about


def _learned(
    model: Any, train: Ref, w: Workflow, learn: Mapping[str, Any], judged: Mapping[str, Any]
) -> tuple[Call, Call]:
    """The steps that fit and evaluate: of several candidates each is evaluated by itself, and the winner is fitted."""
    if w.decide is not None:
        judged = {**judged, "decide": w.decide}
    made = ("report", "predictions")
    chosen_by: dict[str, Any] = {}
    if any(not one.why_not for one in open_searches(model)):  # it chooses by the first metric, and by no other
        first = judged["metrics"][:1]
        own = tuple(one for one in judged.get("own", ()) if one.scorer in first)
        chosen_by = {"metrics": first, **({"own": own} if own else {})}
    if type(model) is not dict:
        trained = stage("train", train, model=model, **learn, **chosen_by, outputs=("fitted", "report"))
        return trained, stage("evaluate", train, model=model, **learn, **judged, outputs=made)
    entry = "penstock.stages.candidates"
    tried = {
        name: Call(
            f"{entry}:candidate",
            f"{CANDIDATE}{name}",
            (train,),
            {"name": name, "model": one, **learn, **judged},
            Options(outputs=made),
            part="evaluate",
        )
        for name, one in model.items()
    }
    chosen = stage(
        "evaluate",
        reports={name: Ref(call, "report") for name, call in tried.items()},
        predictions={name: Ref(call, "predictions") for name, call in tried.items()},
        names=tuple(model),
        metrics=judged["metrics"],
        schema=learn["schema"],
        target=w.target,
        seed=learn["seed"],
        **({"own": judged["own"]} if "own" in judged else {}),
        outputs=(*made, "winner"),
        entry=f"{entry}:choose",
    )
    winner = Ref(chosen, "winner")
    fit = stage(
        "train",
        train,
        winner=winner,
        model=model,
        **learn,
        **chosen_by,
        outputs=("fitted", "report"),
        entry=f"{entry}:train_winner",
    )
    return fit, chosen


def models_of(workflow: Workflow, only: Sequence[str] = ()) -> Any:
    """The workflow's estimator, or its candidates by name; of these only some, if asked for.

    Raises
    ------
    DeclarationError
        A name that is no candidate's, or candidates for different tasks.
    """
    model, where = workflow.model, f"workflow {workflow.name}"
    if type(model) is not dict:
        if only:
            raise DeclarationError("--only: this workflow has one model", where=where, hint="leave --only out")
        return model
    unknown = [name for name in only if name not in model]
    if unknown:
        near = did_you_mean(unknown[0], model)
        raise DeclarationError(
            f"--only {unknown[0]}: no such candidate{near}", where=where, hint=f"there are {', '.join(model)}"
        )
    tasks = {name: task_of(one) for name, one in model.items()}
    if len({task for task in tasks.values() if task is not None}) > 1:
        told = ", ".join(f"{name} for {task}" for name, task in tasks.items())
        raise DeclarationError(f"model=: candidates are for different tasks: {told}", where=where)
    return {name: one for name, one in model.items() if not only or name in only}


def _check_names(workflow: Workflow) -> None:
    """No step of the user's has the id of a stage."""
    used = {call.name for call in calls_of((workflow.data,))}
    taken = sorted(name for name in used if name in STAGES or name.startswith(CANDIDATE))
    if taken:
        raise DeclarationError(
            f"a step is called {taken[0]!r}, as one of Penstock's stages is",
            where=f"workflow {workflow.name}",
            hint=f"rename it, or give name= where it is called: {taken[0]}(…, name='my_{taken[0]}')",
        )


def schema_path(workflow: Workflow, file: str) -> str:
    """Where the workflow's schema is, or would be."""
    name = workflow.schema or f"{workflow.name}.schema.toml"
    return os.path.join(os.path.dirname(os.path.abspath(file)), name)


def read_schema(workflow: Workflow, file: str) -> dict[str, Any] | None:
    """The frozen schema; None when there is none and none was named.

    Raises
    ------
    DeclarationError
        A schema was named and is not there, or its text has a fault.
    """
    path = schema_path(workflow, file)
    if not os.path.exists(path):
        if workflow.schema is None:
            return None
        raise DeclarationError(
            f"schema={workflow.schema!r}: there is no file {path}", where=f"workflow {workflow.name}"
        )
    with open(path, encoding="utf-8") as text:
        return from_toml(text.read(), where=os.path.basename(path))


def task_of(model: Any) -> str | None:
    """What an estimator is for, by its tags: "classification", "regression", or None when it does not say.

    Of candidates, what the first is for that says it.
    """
    if type(model) is dict:
        return next((task for one in model.values() if (task := task_of(one)) is not None), None)
    tags = getattr(model, "__sklearn_tags__", None)
    kind = tags().estimator_type if callable(tags) else getattr(model, "_estimator_type", None)
    return {"classifier": "classification", "regressor": "regression"}.get(kind or "")
