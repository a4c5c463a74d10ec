"""A workflow in words: every field, with what holds where nothing was declared."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from penstock.core import markup
from penstock.core.flow import calls_of, step_ids
from penstock.core.step import Ref


def workflow_rows(w: Any) -> list[tuple[str, str, str]]:
    """(stage, field, words) of every field that works, in the order of the stages.

    Parameters
    ----------
    w : Workflow
    """
    return [
        ("ingest", "data", _data(w)),
        ("", "target", _target(w)),
        ("", "key", _columns(w.key, "none: rows are known by their content")),
        ("", "time", w.time or "none"),
        ("", "groups", _columns(w.groups)),
        ("", "weight", str(w.weight or "none: every row counts once")),
        ("", "features", _columns(w.features, "every column but target, roles and what is dropped")),
        ("", "drop", _columns(w.drop, "nothing")),
        ("validate", "schema", w.schema or f"{w.name}.schema.toml if it is there, else inferred"),
        ("", "checks", _several(w.checks)),
        ("split", "split", _split(w)),
        ("train", "model", _model(w.model)),
        ("", "fit", _one(w.fit, "as `fit(X, y)`: no early stopping, every training row")),
        ("", "seed", str(w.seed)),
        ("", "refit", "all: fitted again on training and held-out rows" if w.refit == "all" else "no"),
        ("evaluate", "metrics", _several(w.metrics, "by task; the first is primary")),
        ("", "slices", _columns(w.slices)),
        ("", "baseline", _one(w.baseline, "class shares, or the mean")),
        ("", "decide", _one(w.decide, "as the model's own predict")),
        ("audit", "audit", _one(w.audit, "on, nothing answered")),
        ("gate", "gate", _several(w.gate)),
        ("", "release", w.release or "auto on a ledger of one's own, ci on a shared one"),
        ("monitor", "monitor", _monitor(w)),
        ("engine", "resources", _asked(w.resources)),
    ]


def workflow_html(w: Any) -> str:
    """The same as HTML for a notebook."""
    rows = [
        (markup.safe(stage), markup.tag("code", markup.safe(field)), markup.safe(words))
        for stage, field, words in workflow_rows(w)
    ]
    head = markup.tag("p", f"{markup.safe(w.name)} · workflow", "head")
    return markup.block(head, markup.table(rows, ("th", "w", "")))


def short(value: Any) -> str:
    """A declared value as it would be written, on one line and without addresses."""
    if isinstance(value, Ref):
        return repr(value)
    name = value if isinstance(value, str) else getattr(value, "name", None) if callable(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and name is None:
        text: Any = _declared(value)
        return str(text)
    text = name if isinstance(name, str) else getattr(value, "__name__", None) or repr(value)
    return re.sub(r" at 0x[0-9a-f]+", "", re.sub(r"\s+", " ", str(text)))


def _declared(value: Any) -> str:
    """A declared value without the fields that were left at their defaults."""
    given = [
        f"{field.name}={getattr(value, field.name)!r}"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != _default(field)
    ]
    return f"{type(value).__name__}({', '.join(given)})"


def _default(field: dataclasses.Field[Any]) -> Any:
    """A field's value where none is given; a mark that equals nothing where one must be."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _columns(names: Any, otherwise: str = "none") -> str:
    return ", ".join(map(str, names)) if names else otherwise


def _several(values: Any, otherwise: str = "none") -> str:
    if values is None or (isinstance(values, list | tuple) and not values):
        return otherwise
    return ", ".join(map(short, values)) if isinstance(values, list | tuple) else short(values)


def _asked(resources: Any) -> str:
    """What steps ask for, by name."""
    return ", ".join(f"{name}: {short(one)}" for name, one in (resources or {}).items()) or "one processor a step"


def _one(value: Any, otherwise: str) -> str:
    return otherwise if value is None else short(value)


def _data(w: Any) -> str:
    """The steps in front of the stages, in their order."""
    ids, _ = step_ids(calls := calls_of((w.data,)))
    return " → ".join(ids[id(call)] for call in calls)


def _target(w: Any) -> str:
    target = w.target
    words = [str(target.column)]
    if target.positive is not None:
        words.append(f"positive is {target.positive!r}")
    if target.time:
        words.append(f"known at {target.time}")
    if target.delay:
        words.append(f"known {target.delay} later")
    if target.after:
        words.append(f"after it, and hidden: {_columns(target.after)}")
    words.append("rows without it are left out" if target.missing == "drop" else "a row without it is an error")
    return " · ".join(words)


def _split(w: Any) -> str:
    split = w.split
    by = split.by or ("time" if w.time else "groups" if w.groups else "key" if w.key else "content")
    held = (
        f"{100 * split.test:g}% of rows held out" if isinstance(split.test, float) else f"held out: {short(split.test)}"
    )
    folds = f"{split.folds} folds" if isinstance(split.folds, int) else f"folds of {short(split.folds)}"
    words = [held, f"by {by}", folds] if split.shares else [held, folds]
    if split.final is not None:
        kept = f"{100 * split.final:g}% of rows" if isinstance(split.final, float) else str(split.final)
        words.insert(1, f"final hold-out: {kept}")
    words += [f"gap {split.gap}"] if split.gap else []
    words += [f"horizon {split.horizon}"] if split.horizon else []
    if split.shares and split.stable and by != "time":
        words.append("a row keeps its side")
    return " · ".join(words)


def _model(model: Any) -> str:
    if type(model) is dict:
        return "chosen by cross-validation: " + ", ".join(f"{name} = {short(one)}" for name, one in model.items())
    return short(model)


def _monitor(w: Any) -> str:
    words = ["drift of inputs and predictions"] if w.monitor.drift else []
    words += ["predictions are logged"] if w.monitor.log else []
    words += ["against outcomes that come later"] if w.monitor.labels is not None else []
    return " · ".join(words) or "nothing"
