"""Lowering: a Workflow becomes a flow of ordinary steps. Read this to see what `penstock run` does."""

from __future__ import annotations

import os
from typing import Any

from penstock.core.flow import calls_of
from penstock.core.step import Call, Options, Ref
from penstock.core.workflow import Workflow
from penstock.errors import DeclarationError
from penstock.stages.schema import from_toml, frozen_columns

STAGES = (
    "validate",
    "split",
    "train",
    "evaluate",
    "audit",
    "package",
    "register",
    "champion",
    "compare",
    "gate",
    "deploy",
)
"""Step ids of Penstock's own, in the order in which they are shown; a user's step may not be called so."""


def stage(name: str, *args: Any, outputs: tuple[str, ...] = (), entry: str = "", **kwargs: Any) -> Call:
    """A call of one of Penstock's own stages, named by its entry and resolved in the worker."""
    entry = entry or f"penstock.stages.{name}:{name}"
    return Call(entry, name, args, kwargs, Options(outputs=outputs), part=name)


def effect(name: str, *args: Any, outputs: tuple[str, ...] = (), **kwargs: Any) -> Call:
    """A call that acts on the ledger or the world; the coordinator runs it, and it is never reused."""
    return Call(f"penstock.lifecycle:{name}", name, args, kwargs, Options(outputs=outputs), kind="effect", part=name)


def lower(workflow: Workflow, file: str, *, seed: int | None = None) -> tuple[tuple[Ref, ...], dict[str, Any]]:
    """The steps of a workflow's life.

    Parameters
    ----------
    workflow : Workflow
    file : str
        The file that declares it; the schema file is relative to it.
    seed : int, optional
        Overrides the workflow's.

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
    w, seed = workflow, workflow.seed if seed is None else seed
    roles: dict[str, Any] = {"target": w.target, "roles": w.roles}
    schema = read_schema(w, file)

    checked = stage(
        "validate",
        w.data,
        **roles,
        schema=schema,
        slices=w.slices,
        task=task_of(w.model),
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
    trained = stage("train", train, model=w.model, **learn, outputs=("fitted", "report"))
    fitted = Ref(trained, "fitted")
    judged = {"metrics": w.metrics, "slices": w.slices}
    evaluated = stage("evaluate", train, model=w.model, **learn, **judged, outputs=("report", "predictions"))
    audited = stage("audit", train, test, **known)
    packed = stage("package", train, fitted=fitted, **known, seed=seed, outputs=("input", "golden", "profile"))

    registered = effect(
        "register",
        estimator=fitted,
        input=Ref(packed, "input"),
        golden=Ref(packed, "golden"),
        profile=Ref(packed, "profile"),
        schema=Ref(checked, "schema"),
        metrics=Ref(evaluated, "report"),
        audit=Ref(audited),
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
        rules=w.gate,
        **judged,
        **known,
        seed=seed,
    )
    ruled = effect("gate", Ref(compared), Ref(registered), Ref(audited), Ref(reigning, "about"))
    deployed = effect("deploy", Ref(ruled), Ref(registered), Ref(compared))
    about = {
        "workflow": w.name,
        "release": w.release,
        "seed": seed,
        "metrics": list(w.metrics),
        "log": w.monitor.log,
        "schema_file": schema_path(w, file),
        "schema": schema is not None,
        "key": list(w.key),
    }
    return (Ref(deployed), Ref(evaluated, "report"), Ref(parted, "report")), about


def _check_names(workflow: Workflow) -> None:
    """No step of the user's has the id of a stage."""
    taken = sorted({call.name for call in calls_of((workflow.data,))} & set(STAGES))
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
    """What an estimator is for, by its tags: "classification", "regression", or None when it does not say."""
    tags = getattr(model, "__sklearn_tags__", None)
    kind = tags().estimator_type if callable(tags) else getattr(model, "_estimator_type", None)
    return {"classifier": "classification", "regressor": "regression"}.get(kind or "")
