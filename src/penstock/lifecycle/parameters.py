"""A declaration's parameters, flat: every path with its value, those that somebody set apart from the defaults."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.core.secret import Secret
from penstock.core.step import Ref
from penstock.core.tree import NOT_PARAMETERS, is_estimator
from penstock.core.workflow import Workflow

FIELDS = (
    "target",
    "key",
    "time",
    "groups",
    "weight",
    "features",
    "drop",
    "split",
    "fit",
    "decide",
    "refit",
    "metrics",
    "slices",
    "baseline",
    "audit",
    "seed",
    "release",
)
"""Fields of a workflow, beside its model, that a run keeps."""
MOST_PATHS = 500
"""Paths that are kept of one declaration."""
MOST_TEXT = 200


def flat(workflow: Workflow) -> dict[str, dict[str, Any]]:
    """Every parameter of a declaration by its path, as plain values.

    Parameters
    ----------
    workflow : Workflow

    Returns
    -------
    dict
        "declared": {path: value} of what differs from the defaults; "default": {path: value} of the rest. Paths are
        `model.` and what `get_params` calls it (`model.NAME.` with candidates), or a field and its part
        (`split.test`). At most `MOST_PATHS` in all, those that were declared first.
    """
    declared: dict[str, Any] = {}
    default: dict[str, Any] = {}
    for path, value, usual in _paths(workflow):
        (default if usual else declared)[path] = plain(value)
    room = max(MOST_PATHS - len(declared), 0)
    return {"declared": dict(list(declared.items())[:MOST_PATHS]), "default": dict(list(default.items())[:room])}


def _paths(workflow: Workflow) -> Iterator[tuple[str, Any, bool]]:
    """Path, value, and whether it is the default."""
    models = workflow.model if type(workflow.model) is dict else {"": workflow.model}
    for name, model in models.items():
        prefix = f"model.{name}" if name else "model"
        yield prefix, model, False
        for path, value, usual in parameters_of(model):
            yield f"{prefix}.{path}", value, usual
    usual_values = {field.name: field.default for field in dataclasses.fields(Workflow)}
    for field in FIELDS:
        value = getattr(workflow, field)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for part in dataclasses.fields(value):
                inner = getattr(value, part.name)
                yield f"{field}.{part.name}", inner, _same(inner, part.default)
        else:
            yield field, value, value in ((), None) or _same(value, usual_values[field])


def parameters_of(model: Any) -> Iterator[tuple[str, Any, bool]]:
    """Path as `get_params` has it, value, and whether it is the default of its estimator."""
    every = model.get_params(deep=True)
    known: dict[type, Mapping[str, inspect.Parameter]] = {}
    for path, value in every.items():
        prefix, _, name = path.rpartition("__")
        if name in NOT_PARAMETERS or _holds_estimators(value):
            continue
        owner = every.get(prefix) if prefix else model
        kind = type(owner)
        if kind not in known:
            known[kind] = inspect.signature(kind.__init__).parameters
        told = known[kind].get(name)
        yield path, value, value is None if told is None else _same(value, told.default)


def _holds_estimators(value: Any) -> bool:
    """Whether a value is a list such as a pipeline's `steps`, whose members have paths of their own."""
    if type(value) not in (list, tuple):
        return False
    return any(is_estimator(part) for item in value if type(item) in (list, tuple) for part in item)


def _same(value: Any, usual: Any) -> bool:
    try:
        return value is usual or (type(value) is type(usual) and bool(value == usual))
    except Exception:  # arrays, and whatever else does not compare to a truth value
        return False


def plain(value: Any) -> Any:
    """A parameter's value as plain JSON: numbers, truth values and None as they are, all else as a short text.

    Examples
    --------
    >>> plain(0.5), plain(float("nan")), plain(("a", 1)), plain(dict)
    (0.5, 'nan', "('a', 1)", 'dict')
    """
    if value is None or type(value) in (bool, int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    text = value if isinstance(value, str) else _text(value)
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _text(value: Any) -> str:
    """A value in words; never the `repr` of an object that we do not know, which may hold anything."""
    if isinstance(value, str | int | float | bool | bytes | type(None) | Secret | Ref):
        return repr(value)
    if is_estimator(value):
        return type(value).__name__
    if type(value) in (list, tuple, set, frozenset):
        items = [_text(item) for item in list(value)[:MOST_TEXT]]
        items = sorted(items) if type(value) in (set, frozenset) else items
        left, right = "[]" if type(value) is list else "()" if type(value) is tuple else "{}"
        return f"{left}{', '.join(items)}{',' if type(value) is tuple and len(items) == 1 else ''}{right}"
    if type(value) is dict:
        return "{" + ", ".join(f"{_text(k)}: {_text(v)}" for k, v in list(value.items())[:MOST_TEXT]) + "}"
    if callable(getattr(value, "item", None)) and getattr(value, "shape", None) == ():  # a scalar of numpy's
        return repr(value.item())
    return str(getattr(value, "__qualname__", None) or getattr(value, "name", None) or type(value).__name__)
