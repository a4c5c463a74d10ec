"""Lowering: a Workflow becomes a flow of ordinary steps. Read this to see what `penstock run` does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.core.flow import calls_of
from penstock.core.gate import LAST, rivals
from penstock.core.metric import named_rules, own_metrics, scorer_names
from penstock.core.names import did_you_mean
from penstock.core.search import open_searches
from penstock.core.step import Call, Options, Ref
from penstock.core.workflow import Workflow
from penstock.errors import DeclarationError
from penstock.lifecycle.demands import demands
from penstock.lifecycle.holdout import holdout_of, with_holdout
from penstock.lifecycle.official import check_final, official_table, rule_of_folds
from penstock.lifecycle.proof import replay_of
from penstock.lifecycle.stage_ids import CANDIDATE, EVALUATED, FINAL, OFFICIAL, STAGES
from penstock.stages.schema import from_toml, frozen_columns

Rows = tuple[Ref, Ref]
"""Training and held-out rows."""


def stage(name: str, *args: Any, outputs: tuple[str, ...] = (), entry: str = "", **kwargs: Any) -> Call:
    """A call of one of Penstock's own stages, named by its entry and resolved in the worker."""
    entry = entry or f"penstock.stages.{name}:{name}"
    return Call(entry, name, args, kwargs, Options(outputs=outputs), part=name)


def effect(name: str, *args: Any, outputs: tuple[str, ...] = (), **kwargs: Any) -> Call:
    """A call that acts on the ledger or the world; the coordinator runs it, and it is never reused."""
    return Call(f"penstock.lifecycle:{name}", name, args, kwargs, Options(outputs=outputs), kind="effect", part=name)


def lower(
    workflow: Workflow,
    file: str,
    *,
    seed: int | None = None,
    only: Sequence[str] = (),
    final: bool = False,
    full: bool = False,
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
    final : bool
        Open the final hold-out too.
    full : bool
        Prove all that can be proved, however long it takes.

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
    check_final(workflow, asked=final)
    model, schema = models_of(workflow, only), read_schema(workflow, file)
    declared, frozen = workflow, schema
    workflow, schema = with_holdout(workflow, schema), _of_the_data(schema)
    seed = workflow.seed if seed is None else seed

    checked = _validated(workflow, model, schema)
    told = _told(workflow, seed, checked)
    parted = _parted(workflow, model, seed, schema, checked)
    rows = Ref(parted, "train"), Ref(parted, "test")
    trained, evaluated = _learned(workflow, model, rows[0], told)
    fitted = Ref(trained, "fitted")
    decided = _decided(workflow, evaluated, told)
    refitted = _refitted(workflow, rows, fitted, told)
    audited = _audited(workflow, rows, told, trained if full else None)
    registered = _registered(rows, fitted, checked, evaluated, audited, told, decided, refitted)
    reigning = champion(workflow, registered, audited)
    compared = _compared(workflow, rows, fitted, reigning, told, decided)
    ruled = effect("gate", Ref(compared), Ref(registered), Ref(reigning, "about"))
    deployed = effect("deploy", Ref(ruled), Ref(registered), Ref(compared))
    about = _about(workflow, file, seed, has_schema=schema is not None)
    about["holdout"] = holdout_of(declared, seed, frozen, frozen_columns(schema) if schema else ())
    opened = (_opened(parted, fitted, registered, told, decided),) if final else ()
    return (Ref(deployed), Ref(evaluated, "report"), Ref(parted, "report"), *opened), about


@dataclass(frozen=True)
class _Told:
    """What stages are told beside rows and models. What is not declared is not among it: it stands in no recipe.

    Attributes
    ----------
    seed : int
    known : dict
        Target, roles and schema.
    learn : dict
        The same, and how every fit goes.
    judged : dict
        Metrics, slices and baseline.
    own : dict
        "own": metrics of the user's own; empty without any.
    """

    seed: int
    known: Mapping[str, Any]
    learn: Mapping[str, Any]
    judged: Mapping[str, Any]
    own: Mapping[str, Any]


def _told(w: Workflow, seed: int, checked: Call) -> _Told:
    known = {**_roles(w), "schema": Ref(checked, "schema")}
    learn = {**known, "split": rule_of_folds(w.split), "seed": seed, **({"fit": w.fit} if w.fit is not None else {})}
    metrics = own_metrics(w.metrics, w.gate, w.decide)
    own: dict[str, Any] = {"own": metrics} if metrics else {}
    judged: dict[str, Any] = {"metrics": scorer_names(w.metrics), "slices": w.slices, **own}
    judged |= {"baseline": w.baseline} if w.baseline is not None else {}
    return _Told(seed, known, learn, judged, own)


def _roles(w: Workflow) -> dict[str, Any]:
    return {"target": w.hiding, "roles": w.roles}


def _validated(w: Workflow, model: Any, schema: dict[str, Any] | Ref | None, official: Ref | None = None) -> Call:
    kind = task_of(model)
    checked = stage(
        "validate",
        w.data if official is None else official,
        **_roles(w),
        schema=schema,
        slices=w.slices,
        task=kind,
        **demands(w, own_metrics(w.metrics, w.gate, w.decide), kind),
        outputs=("table", "schema", "report"),
    )
    checked.name = checked.name if official is None else OFFICIAL
    return checked


def _parted(w: Workflow, model: Any, seed: int, schema: dict[str, Any] | None, checked: Call) -> Call:
    official: dict[str, Any] = {}
    if (table := official_table(w)) is not None:
        held = _validated(w, model, Ref(checked, "schema"), table)
        official["official"] = Ref(held, "table")
    final = () if w.split.final is None else ("final",)
    return stage(
        "split",
        Ref(checked, "table"),
        **_roles(w),
        split=w.split if w.split.shares or not official else rule_of_folds(w.split),
        seed=seed,
        schema=Ref(checked, "schema"),
        frozen_columns=frozen_columns(schema) if schema else (),
        **official,
        outputs=("train", "test", "report", *final),
        entry="penstock.stages.partition:partition",
    )


def _opened(parted: Call, fitted: Ref, registered: Call, told: _Told, decided: Call | None) -> Ref:
    """The final hold-out, opened for the judged estimator, and that on record."""
    known = {**told.judged, **told.known, **_decision(decided), "seed": told.seed}
    figures = stage("final", Ref(parted, "final"), Ref(parted, "train"), fitted=fitted, **known)
    return Ref(
        Call("penstock.lifecycle:final", "opened", (Ref(figures), Ref(registered)), {}, Options(), kind="effect")
    )


def _learned(w: Workflow, model: Any, train: Ref, told: _Told) -> tuple[Call, Call]:
    """The steps that fit and evaluate: of several candidates each is evaluated by itself, and the winner is fitted."""
    judged = {**told.judged, **({"decide": w.decide} if w.decide is not None else {})}
    chosen_by: dict[str, Any] = {}
    if any(not one.why_not for one in open_searches(model)):  # it chooses by the first metric, and by no other
        first = judged["metrics"][:1]
        own = tuple(one for one in judged.get("own", ()) if one.scorer in first)
        chosen_by = {"metrics": first, **({"own": own} if own else {})}
    if type(model) is not dict:
        trained = stage("train", train, model=model, **told.learn, **chosen_by, outputs=("fitted", "report"))
        return trained, stage("evaluate", train, model=model, **told.learn, **judged, outputs=EVALUATED)
    entry = "penstock.stages.candidates"
    tried = {
        name: Call(
            f"{entry}:candidate",
            f"{CANDIDATE}{name}",
            (train,),
            {"name": name, "model": one, **told.learn, **judged},
            Options(outputs=EVALUATED),
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
        schema=told.known["schema"],
        target=w.target,
        seed=told.seed,
        **told.own,
        outputs=(*EVALUATED, "winner"),
        entry=f"{entry}:choose",
    )
    trained = stage(
        "train",
        train,
        winner=Ref(chosen, "winner"),
        model=model,
        **told.learn,
        **chosen_by,
        outputs=("fitted", "report"),
        entry=f"{entry}:train_winner",
    )
    return trained, chosen


def _decided(w: Workflow, evaluated: Call, told: _Told) -> Call | None:
    """The threshold, where a rule for one is declared."""
    if w.decide is None:
        return None
    known = {"schema": told.known["schema"], "target": told.known["target"]}
    answers = Ref(evaluated, "predictions")
    return stage("decide", answers, decide=w.decide, **known, **told.own, outputs=("decision", "report"))


def _refitted(w: Workflow, rows: Rows, fitted: Ref, told: _Told) -> Call | None:
    """The twin that is served, where all rows are to be learned from in the end."""
    if w.refit != "all":
        return None
    return stage("refit", *rows, fitted=fitted, **told.learn, outputs=("fitted", "report"))


def _audited(w: Workflow, rows: Rows, told: _Told, fitting: Call | None) -> Call:
    """The proof; the steps before the split are run again for it, and the one that fits if it is given."""
    waived = {"waive": w.audit.waive} if w.audit is not None and w.audit.waive else {}
    return stage("audit", *rows, **told.known, **waived, **replay_of(w, rows, _roles(w), told.seed, fitting))


def _registered(
    rows: Rows,
    fitted: Ref,
    checked: Call,
    evaluated: Call,
    audited: Call,
    told: _Told,
    decided: Call | None,
    refitted: Call | None,
) -> Call:
    """What is served, what it needs and what judged it, as one bundle."""
    train, test = rows
    served = fitted
    learned_from: dict[str, Any] = {}
    beside: dict[str, Any] = _decision(decided)
    if decided is not None:
        beside["threshold"] = Ref(decided, "report")
    if refitted is not None:
        served, learned_from = Ref(refitted, "fitted"), {"refitted": True}
        beside |= {"judged": fitted, "refit": Ref(refitted, "report")}
    packed = stage(
        "package",
        train,
        test=test,
        fitted=served,
        **told.known,
        **_decision(decided),
        **learned_from,
        seed=told.seed,
        outputs=("input", "golden", "profile", "seen", "learned", "held"),
        entry="penstock.stages.package:contents",
    )
    return effect(
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
        held=Ref(packed, "held"),
        **beside,
    )


def _decision(decided: Call | None) -> dict[str, Any]:
    return {} if decided is None else {"decision": Ref(decided, "decision")}


def _compared(w: Workflow, rows: Rows, fitted: Ref, reigning: Call, told: _Told, decided: Call | None) -> Call:
    """The judged estimator beside the champion, on rows that neither has learned from."""
    train, test = rows
    return stage(
        "compare",
        test,
        train,
        fitted=fitted,
        **opponents(w, reigning),
        rules=named_rules(w.gate, told.own.get("own", ())),
        **told.judged,
        **told.known,
        **_decision(decided),
        seed=told.seed,
    )


def _of_the_data(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """A schema without the number of the hold-out, which says nothing of the data."""
    return None if schema is None else {name: value for name, value in schema.items() if name != "holdout"}


PARTS = ("fitted", "seen", "held")
"""What the comparison needs of another version."""


def others(rules: Sequence[Any]) -> tuple[str, ...]:
    """Versions that a challenger is held against beside the champion: those that rules name, and the last that beat."""
    return (*rivals(rules), LAST)


def champion(w: Workflow, registered: Call, audited: Call) -> Call:
    """Who reigns, and which other versions rules name: their parts, one output each.

    It waits for the proof: a version that the audit refuses opens no hold-out.
    """
    named = tuple(f"{name}:{part}" for name in others(w.gate) for part in PARTS)
    return effect("champion", Ref(registered), Ref(audited), outputs=(*PARTS, "about", *named))


def opponents(w: Workflow, reigning: Call) -> dict[str, Any]:
    """The same as arguments of `compare`."""
    return {
        "champion": Ref(reigning, "fitted"),
        "seen": Ref(reigning, "seen"),
        "held": Ref(reigning, "held"),
        "about": Ref(reigning, "about"),
        "rivals": {name: {part: Ref(reigning, f"{name}:{part}") for part in PARTS} for name in others(w.gate)},
    }


def _about(w: Workflow, file: str, seed: int, *, has_schema: bool) -> dict[str, Any]:
    return {
        "workflow": w.name,
        "release": w.release,
        "seed": seed,
        "metrics": list(scorer_names(w.metrics)),
        "log": w.monitor.log,
        "schema_file": schema_path(w, file),
        "schema": has_schema,
        "key": list(w.key),
        "refit": w.refit,
    }


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
    """No step of the user's has the id of a stage; a file that is called so, as train.csv is, gets another."""
    calls = calls_of(workflow.tables)
    reserved = (*STAGES, OFFICIAL, *(FINAL if workflow.split.final is not None else ()))
    for call in calls:
        if call.kind == "source" and call.name in reserved:
            call.name = f"{call.name}_file"
    taken = sorted(call.name for call in calls if call.name in reserved or call.name.startswith(CANDIDATE))
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
