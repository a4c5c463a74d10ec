"""`--set PATH=VALUE`: another value for any parameter of a declaration, checked against what stands there."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any

from penstock.core.fit import Fit
from penstock.core.flow import calls_of, params_of
from penstock.core.names import did_you_mean
from penstock.core.threshold import Threshold
from penstock.core.tree import copy_value, is_estimator
from penstock.core.workflow import Workflow
from penstock.errors import DeclarationError
from penstock.lifecycle.parameters import FIELDS, plain

SETTABLE = (*FIELDS, "schema")
PARTS = {"fit": Fit, "decide": Threshold}
"""Fields that may be absent, and what is made of their first part that is set."""
MOST_NAMED = 12
MOST_LITERAL = 10_000


def apply(workflow: Workflow, given: Mapping[str, str]) -> tuple[Workflow, dict[str, str]]:
    """A declaration with other values, checked as if it had been written so.

    Parameters
    ----------
    workflow : Workflow
    given : dict
        Path → value as text: a Python literal, else the text itself.

    Returns
    -------
    workflow : Workflow
    params : dict
        What is to be given to `ps.Param`s, by their names.

    Raises
    ------
    DeclarationError
        With every fault: a path that is not there, with the nearest one; a value that does not fit.
    """
    names = list(params_of(calls_of(workflow.tables)))
    faults: list[str] = []
    params: dict[str, str] = {}
    model = copy_value(workflow.model)
    parts: dict[str, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for path, text in given.items():
        head, _, rest = path.partition(".")
        if (head == "params" and rest in names) or (path in names and path not in SETTABLE):
            params[rest if head == "params" else path] = text
        elif head == "model" and rest:
            faults += _set_in_model(model, path, rest, literal(text))
        elif head in SETTABLE and rest and rest in _parts_of(workflow, head):
            parts.setdefault(head, {})[rest] = literal(text)
        elif head in SETTABLE and not rest:
            whole[head] = literal(text)
        else:
            faults.append(_unknown(path, workflow, names))
    if faults:
        raise DeclarationError(faults, where=f"workflow {workflow.name}")
    changes = whole | {head: _rebuilt(getattr(workflow, head), head, values) for head, values in parts.items()}
    return workflow.replace(model=model, **changes), params


def literal(text: str) -> Any:
    """A text as the Python literal that it is, else as text.

    Examples
    --------
    >>> literal("0.1"), literal("None"), literal("sqrt"), literal("[1, 2]"), literal("2026-01-01")
    (0.1, None, 'sqrt', [1, 2], '2026-01-01')
    """
    try:
        return ast.literal_eval(text.strip()) if len(text) <= MOST_LITERAL else text
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def paths_of(workflow: Workflow) -> list[str]:
    """Every path that can be set."""
    models = workflow.model if type(workflow.model) is dict else {"": workflow.model}
    found = []
    for name, model in models.items():
        prefix = f"model.{name}" if name else "model"
        found += [f"{prefix}.{path}" for path in model.get_params(deep=True)]
    for field in SETTABLE:
        inner = _parts_of(workflow, field)
        found += [f"{field}.{part}" for part in inner] if inner else [field]
    return found


def _parts_of(workflow: Workflow, field: str) -> list[str]:
    value = getattr(workflow, field)
    kind = PARTS.get(field) if value is None else type(value)
    return [part.name for part in dataclasses.fields(kind)] if kind and dataclasses.is_dataclass(kind) else []


def _rebuilt(value: Any, field: str, values: Mapping[str, Any]) -> Any:
    if value is None:
        return PARTS[field](**values)
    return dataclasses.replace(value, **values)


def _unknown(path: str, workflow: Workflow, names: list[str]) -> str:
    """A path that is not there: the nearest one, else what begins as it does, else all first words."""
    known = [*paths_of(workflow), *names]
    near = did_you_mean(path, known)
    if near:
        return f"--set {path}: no such parameter{near}"
    head = path.partition(".")[0]
    like = [one for one in known if one.startswith(f"{head}.")] or list(
        dict.fromkeys(one.partition(".")[0] for one in known)
    )
    more = f" and {len(like) - MOST_NAMED} more" if len(like) > MOST_NAMED else ""
    return f"--set {path}: no such parameter; there are {', '.join(like[:MOST_NAMED])}{more}"


def _set_in_model(model: Any, path: str, rest: str, value: Any) -> list[str]:
    """Set one parameter of the model, of candidates of the named one; give what is wrong with it."""
    one, name, prefix = model, rest, "model"
    if type(model) is dict:
        candidate, _, name = rest.partition(".")
        if candidate not in model:
            near = did_you_mean(candidate, model)
            return [f"--set {path}: no candidate is called {candidate!r}{near}; there are {', '.join(model)}"]
        one, prefix = model[candidate], f"model.{candidate}"
    every = one.get_params(deep=True)
    if name not in every:
        near = did_you_mean(f"{prefix}.{name}", [f"{prefix}.{known}" for known in every])
        ends = [f"{prefix}.{known}" for known in every if known.rpartition("__")[2] == name.rpartition("__")[2]]
        like = f"; did you mean {' or '.join(ends[:3])}?" if ends else near
        told = like or f"; there are {', '.join(list(every)[:MOST_NAMED])}"
        return [f"--set {path}: no such parameter of {type(one).__name__}{told}"]
    fault = _misfit(one, every, name, value)
    if fault:
        return [f"--set {path}={plain(value)}: {fault}"]
    one.set_params(**{name: value})
    return []


def _misfit(model: Any, every: Mapping[str, Any], name: str, value: Any) -> str:
    """Why a value cannot stand for a parameter, or "": by the estimator's own rules, else by what stands there now."""
    prefix, _, last = name.rpartition("__")
    owner = every[prefix] if prefix else model
    present = every[name]
    if is_estimator(present):
        return "" if value in (None, "passthrough", "drop") else f"a part of the model is meant ({plain(present)})"
    rules = getattr(owner, "_parameter_constraints", None)
    if isinstance(rules, dict) and last in rules:
        try:
            from sklearn.utils._param_validation import validate_parameter_constraints
        except ImportError:
            return _unlike(present, value)
        try:
            validate_parameter_constraints({last: rules[last]}, {last: value}, type(owner).__name__)
        except ValueError as error:
            return " ".join(str(error).split())[:300]
        return ""
    return _unlike(present, value)


def _unlike(present: Any, value: Any) -> str:
    """Whether a value is of another kind than the one that it replaces; anything may replace None, and None anything.

    Examples
    --------
    >>> _unlike(3, 0.5), _unlike(True, 1), _unlike("sqrt", 2)
    ('', 'True or False is meant, as it is True', "a text is meant, as it is 'sqrt'")
    """
    if present is None or value is None:
        return ""
    if isinstance(present, bool):
        return "" if isinstance(value, bool) else f"True or False is meant, as it is {present}"
    if isinstance(present, int | float):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if fits else f"a number is meant, as it is {present}"
    if isinstance(present, str):
        return "" if isinstance(value, str) else f"a text is meant, as it is {present!r}"
    return ""
