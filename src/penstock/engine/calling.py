"""Calling the function behind a step: its arguments as its annotations want them, its outputs one by one."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.fan import FORMAT, ITEM, Results
from penstock.core.flow import Node, substitute
from penstock.core.ports import Formats, Objects
from penstock.core.secret import Secret, reveal
from penstock.core.step import Call, Ref, call_of, output_of
from penstock.engine.describe import Live
from penstock.errors import StepOutputError

FRAMES = ("pandas", "polars", "pyarrow")
LISTED = "list of "
"""Before what a parameter asks for, where its annotation is a plain list."""
TABLES = ("parquet", FORMAT)
"""Formats of a table and of several: read as pandas where nothing else is asked for."""
Load = Callable[[tuple[str, str], str], Any]
"""Takes (step, output) and "pandas", "polars", "arrow", "path", "stored" or ""; gives a copy of the value."""


class _Item:
    """Stands for the item of a list that an earlier step made."""


def one_of(call: Call, place: int) -> Call:
    """The call of a mapped step for one of its items.

    Parameters
    ----------
    call : Call
    place : int
        Of the item in the declared list; of a list that an earlier step made `bind` asks for `core.fan.ITEM`.
    """
    items = call.args[0]
    item = _Item() if isinstance(items, Ref) else items[place]
    return replace(call, args=(item, *call.args[1:]), mapped=False)


def bind(
    call: Call,
    function: Callable[..., Any],
    live: Live,
    load: Load,
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments with each reference replaced by what `load` gives for it."""

    def value_of(argument: Any, want: str) -> Any:
        if isinstance(argument, Ref):
            value = load((live.ids[id(call_of(argument))], output_of(argument)), want.removeprefix(LISTED))
            return list(value) if want.startswith(LISTED) and isinstance(value, Results) else value
        if isinstance(argument, _Item):
            return load(ITEM, want.removeprefix(LISTED))
        if type(argument) in (list, tuple):
            return type(argument)(value_of(item, want) for item in argument)
        if type(argument) is dict:
            return {key: value_of(item, want) for key, item in argument.items()}
        if isinstance(argument, Secret):
            return reveal(argument)
        return substitute(argument, {}, live.params)

    wants = wants_of(function)
    code = getattr(function, "__code__", None)
    names = code.co_varnames[: code.co_argcount] if code is not None else ()
    args = [
        value_of(argument, wants.get(names[i], "") if i < len(names) else "") for i, argument in enumerate(call.args)
    ]
    return args, {name: value_of(argument, wants.get(name, "")) for name, argument in call.kwargs.items()}


def reader(inputs: Mapping[tuple[str, str], Artifact], formats: Formats, objects: Objects) -> Load:
    """Gives what an artifact's format reads back: a copy of its own each time."""

    def load(key: tuple[str, str], want: str) -> Any:
        artifact = inputs[key]
        return formats.load(artifact, objects, want or ("pandas" if artifact.format in TABLES else ""))

    return load


def wants_of(function: Callable[..., Any]) -> dict[str, str]:
    """What each parameter's annotation asks for: "pandas", "polars", "arrow", "path", or "stored" by our own stages.

    Before it stands `LISTED` where the annotation is a plain list.
    Annotations may be texts (`from __future__ import annotations`), so they are read as texts.
    """
    wants = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        text = annotation if isinstance(annotation, str) else f"{annotation.__module__}.{annotation!r}"
        if "StoredTable" in text and function.__module__.startswith("penstock.stages."):
            wants[name] = "stored"
        elif "polars" in text or text.startswith("pl."):
            wants[name] = "polars"
        elif "pyarrow" in text or text.startswith("pa."):
            wants[name] = "arrow"
        elif text.endswith("Path'>") or text in ("Path", "pathlib.Path", "os.PathLike"):
            wants[name] = "path"
        if (
            text.startswith(("list[", "list'", "typing.List", "List[", "builtins.list", "builtins.<class 'list'>"))
            or text == "list"
        ):
            wants[name] = LISTED + wants.get(name, "")
    return wants


def find(entry: str) -> Callable[..., Any]:
    """The function behind "module:qualname"."""
    module, _, qualname = entry.partition(":")
    thing: Any = importlib.import_module(module)
    for part in qualname.split("."):
        thing = getattr(thing, part)
    found: Callable[..., Any] = getattr(thing, "function", thing)
    return found


def split_outputs(value: Any, node: Node, function: Callable[..., Any]) -> list[Any]:
    """One value for each declared output.

    Raises
    ------
    StepOutputError
        Another number of outputs, or not of the type that the function says it returns.
    """
    where = f"step {node.id}"
    if not node.outputs:
        _check_type(value, function, where)
        return [value]
    names = ", ".join(node.outputs)
    if isinstance(value, dict) and set(value) == set(node.outputs):
        return [value[name] for name in node.outputs]
    if isinstance(value, tuple | list) and len(value) == len(node.outputs):
        return list(value)
    given = f"{len(value)} values" if isinstance(value, tuple | list) else f"a {type(value).__name__}"
    raise StepOutputError(
        f"declared {len(node.outputs)} outputs ({names}) and returned {given}",
        where=where,
        hint="return a tuple in that order, or a dict with those names",
    )


def _check_type(value: Any, function: Callable[..., Any], where: str) -> None:
    """Hold a frame or a plain value against the return annotation, where that is plain enough to tell."""
    annotation = getattr(function, "__annotations__", {}).get("return")
    if annotation is None:
        return
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    wanted = text.rpartition(".")[2]
    plain = {"int": int, "str": str, "dict": dict, "list": list, "bytes": bytes, "bool": bool}
    if wanted in ("DataFrame", "LazyFrame", "Table", "Series"):
        right = type(value).__name__ in (wanted, "DataFrame", "Table") and type(value).__module__.startswith(FRAMES)
        right = right or type(value).__name__ == "Written"
    elif wanted in plain:
        right = isinstance(value, plain[wanted]) or (wanted == "list" and isinstance(value, Results))
    else:
        return
    if not right:
        raise StepOutputError(
            f"says that it returns {text} and returned {_kind(value)}", where=where, hint="return what is annotated"
        )


def _kind(value: Any) -> str:
    return "nothing (None)" if value is None else f"a {type(value).__module__}.{type(value).__qualname__}"


def seed_everything(seed: int) -> None:
    """Seed the global generators, so that a step that draws from them gives the same each time."""
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "random"):
        numpy.random.seed(seed % 2**32)
