"""Which rows a declaration holds out, in a few plain words: what a new hold-out is told from an old one by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from penstock.core.split import Split
from penstock.core.step import Ref, call_of
from penstock.core.workflow import Workflow
from penstock.stages.rules import rule_of

FIRST = 1
"""Number of the hold-out before a person asked for a new one."""
STRIDE = 1_000_003
"""How far the salts of two such hold-outs are apart: further than people count."""
_LEFT_OUT = ("folds", "gap", "horizon")
"""What of a split has no say in which rows are held out."""


def with_holdout(workflow: Workflow, schema: Mapping[str, Any] | None) -> Workflow:
    """The workflow as its schema file says which hold-out it is: another number is another split.

    Parameters
    ----------
    workflow : Workflow
    schema : dict or None
        As frozen; its "holdout" counts from 1.
    """
    number = (schema or {}).get("holdout", FIRST)
    if number == FIRST or not (isinstance(workflow.split, Split) and workflow.split.shares):
        return workflow
    return workflow.replace(split=replace(workflow.split, salt=workflow.split.salt + (number - FIRST) * STRIDE))


def can_be_renewed(holdout: Mapping[str, Any]) -> bool:
    """Whether another number holds other rows out: not where the newest rows are, or those that a person names.

    Parameters
    ----------
    holdout : dict
        From `holdout_of`.
    """
    return holdout.get("rule") in ("key", "groups", "content", "random")


def holdout_of(
    workflow: Workflow, seed: int, schema: Mapping[str, Any] | None, frozen: Sequence[str]
) -> dict[str, Any]:
    """What decides which rows are held out, as plain JSON; rows that arrive later change nothing of it.

    Parameters
    ----------
    workflow : Workflow
    seed : int
    schema : dict or None
        As frozen.
    frozen : sequence of str
        Columns of which the content decides, where rows have no key.
    """
    split = workflow.split
    if not isinstance(split, Split):
        return {"rule": "own", "split": _plain(split)}
    if not split.shares:  # an official file, a splitter or a mask says itself which rows they are
        return {"rule": "own", "split": _plain(split.test), "final": _plain(split.final)}
    rule = rule_of(workflow.roles, split)
    fields = {name: _plain(getattr(split, name)) for name in Split.__dataclass_fields__ if name not in _LEFT_OUT}
    found: dict[str, Any] = {"rule": rule, "split": fields}
    columns = {"time": (str(workflow.time),), "key": workflow.key, "groups": workflow.groups, "content": tuple(frozen)}
    found["columns"] = list(columns.get(rule, ()))
    if rule == "time":  # neither seed nor salt moves a row
        fields.pop("salt")
        return found
    return found | {"seed": seed, "number": int((schema or {}).get("holdout", FIRST))}


def _plain(value: Any) -> Any:
    """A field of a split as JSON; of what a person wrote, its name and its plain attributes."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Ref):
        return ["reference", call_of(value).name]
    kind = value if isinstance(value, type) or callable(value) else type(value)
    name = f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', type(value).__name__)}"
    told = {k: v for k, v in getattr(value, "__dict__", {}).items() if isinstance(v, bool | int | float | str)}
    return [name, told]
