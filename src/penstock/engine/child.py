"""A worker: takes a step's id and input artifacts, answers with output artifacts or a failure."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.core import checkpoints
from penstock.core.artifact import Artifact
from penstock.core.flow import Node, substitute
from penstock.core.notes import FIGURES, MOST_NOTED, begin, take, take_pictures
from penstock.core.ports import Formats, Objects
from penstock.core.secret import Secret, found_in, reveal
from penstock.core.source import Found
from penstock.core.step import Call, Ref, call_of, output_of
from penstock.engine.describe import Live
from penstock.engine.discretion import Discretion, guarded, refuse, told
from penstock.engine.wire import Lines
from penstock.errors import (
    CorruptObjectError,
    FormatError,
    MissingObjectError,
    PenstockError,
    StepOutputError,
    bounded,
)

FRAMES = ("pandas", "polars", "pyarrow")


@dataclass(frozen=True)
class Runtime:
    """What a worker needs beside the flow: where bytes are, how they become values, the seed.

    `warm` names modules that every worker would import ("module", or "module:function" for one that imports when it is
    called): the server imports them before its first fork.
    """

    objects: Objects
    formats: Formats
    seed: int = 0
    warm: tuple[str, ...] = ()


def work(lines: Lines, live: Live, runtime: Runtime, log: int | None = None) -> None:
    """Run steps until the coordinator hangs up.

    Parameters
    ----------
    log : int, optional
        File descriptor of this worker's log; what a step prints is told by its place in it.
    """
    nodes = {node.id: node for node in live.graph.nodes}
    lines.send({"hello": os.getpid()})
    while not lines.closed:
        for task in lines.receive():
            checkpoints.begin(task.get("checkpoints"), lines.send if "checkpoints" in task else None)
            lines.send(run_task(task, nodes[task["step"]], live, runtime, log))


def run_task(
    task: Mapping[str, Any], node: Node, live: Live, runtime: Runtime, log: int | None = None
) -> dict[str, Any]:
    """Run one step and tell what came of it; no exception leaves this function but the process's own end."""
    began, cpu, start = time.time(), time.process_time(), time.perf_counter()
    offset = os.lseek(log, 0, os.SEEK_END) if log is not None else 0
    begin()
    with Discretion(log):
        answer = attempt(task, node, live, runtime)
        _flush_output()
    notes: dict[str, Any] = {}
    try:
        notes |= _noted()
        notes |= _figures(node, runtime)
    except PenstockError as error:
        answer = answer if "error" in answer else {"step": node.id, "error": _explained(error, node)}
    answer |= {"notes": notes, "began": began, "wall_s": time.perf_counter() - start}
    answer |= {"cpu_s": time.process_time() - cpu}
    answer["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if log is not None and (end := os.lseek(log, 0, os.SEEK_END)) > offset:
        answer["log"] = [offset, end]
    return told(answer)


def attempt(task: Mapping[str, Any], node: Node, live: Live, runtime: Runtime) -> dict[str, Any]:
    """A step's outputs, or its error, as plain data."""
    answer: dict[str, Any] = {"step": node.id}
    try:
        answer["outputs"] = [a.to_json() for a in run_step(task, node, live, runtime)]
    except (CorruptObjectError, MissingObjectError) as error:
        answer["error"] = error.to_json()
        answer["corrupt"] = getattr(error, "digest", "")
    except PenstockError as error:
        answer["error"] = _explained(error, node)
    except BaseException as error:  # the user's code may raise anything, SystemExit too
        answer["error"] = framed(error, node)
    return answer


def run_step(task: Mapping[str, Any], node: Node, live: Live, runtime: Runtime) -> list[Artifact]:
    """Load the inputs, call the function, keep what it gives."""
    call = live.calls[node.id]
    function = call.function or find(call.entry)
    inputs = {(step, output): Artifact.from_json(data) for step, output, data in task["inputs"]}
    args, kwargs = bind(call, function, inputs, live, runtime)
    if node.kind == "source":
        kwargs["expect"] = task.get("source")
        if task.get("found"):
            kwargs["found"] = Found.from_json(task["found"])
        if task.get("together"):
            kwargs["together"] = _together(task["together"], node, live, runtime)
    seed_everything(runtime.seed)
    value = function(*args, **kwargs)
    parts = split_outputs(value, node, function)
    try:
        return [keep(part, node, runtime) for part in parts]
    except FormatError as error:  # what a step returns is the step's fault, not a wrong word on the command line
        raise StepOutputError(error.what, where=f"step {node.id}", hint=error.hint) from error


def _together(task: list[Any], node: Node, live: Live, runtime: Runtime) -> tuple[str, str, dict[str, Any]]:
    """Folder, this step, and each query that is read with it: what it asks, its parameters, the password."""
    folder, steps = task
    members = {}
    for step in steps:
        call = live.calls[step]
        (query,), kwargs = bind(call, find(call.entry), {}, live, runtime)
        members[step] = (query, kwargs.get("params"), kwargs.get("secret"))
    return folder, node.id, members


def keep(value: Any, node: Node, runtime: Runtime) -> Artifact:
    """Stage one output; none with the value of a secret in it, but what a source holds is what it holds."""
    if node.kind == "source":
        return runtime.formats.dump(value, runtime.objects.stage)
    where = f"step {node.id}"
    artifact = runtime.formats.dump(value, guarded(runtime.objects.stage, where))
    refuse(found_in([(artifact.text or "").encode("utf-8", "surrogatepass")]), where)
    return artifact


def bind(
    call: Call,
    function: Callable[..., Any],
    inputs: Mapping[tuple[str, str], Artifact],
    live: Live,
    runtime: Runtime,
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments with each reference replaced by what its format reads back: a copy of its own each time."""

    def value_of(argument: Any, want: str) -> Any:
        if isinstance(argument, Ref):
            artifact = inputs[live.ids[id(call_of(argument))], output_of(argument)]
            table = artifact.format == "parquet"
            return runtime.formats.load(artifact, runtime.objects, want or ("pandas" if table else ""))
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


def wants_of(function: Callable[..., Any]) -> dict[str, str]:
    """What each parameter's annotation asks for: "pandas", "polars", "arrow", "path", or "stored" by our own stages.

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
        right = isinstance(value, plain[wanted])
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


def framed(error: BaseException, node: Node) -> dict[str, Any]:
    """An error of the user's code as plain data: its own traceback, cut at our boundary."""
    if isinstance(error, SystemExit):
        what = f"called sys.exit({error.code!r}) instead of returning"
    else:
        said, more, _ = str(error).strip().partition("\n")
        what = f"{type(error).__name__}: {said}{' …' if more else ''}"  # the traceback has the other lines
    notes = getattr(error, "__notes__", [])
    if notes:
        what += f" ({'; '.join(map(str, notes))})"
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    frames = list(itertools.dropwhile(_imports, found))
    shown = frames if len(frames) <= 12 else [*frames[:4], *frames[-8:]]
    lines = [*traceback.format_list(shown), *traceback.format_exception_only(error)]
    return {
        "error": "StepError",
        "what": bounded(what, 1000),
        "where": f"step {node.id}",
        "hint": "",
        "traceback": bounded("".join(lines), 6000),
    }


def _imports(frame: traceback.FrameSummary) -> bool:
    """Whether a frame is Python's machinery of imports, which stands above the user's file."""
    return frame.filename.startswith("<frozen importlib") or frame.filename == importlib.__file__


def _explained(error: PenstockError, node: Node) -> dict[str, Any]:
    """An error of ours as plain data, with those of its facts that are some (a validation report, faults)."""
    found = error.to_json()
    found["where"] = found["where"] or f"step {node.id}"
    facts = {k: v for k, v in error.facts.items() if isinstance(v, str | int | float | bool | list | dict | None)}
    return found | ({"facts": facts} if facts else {})


def _noted() -> dict[str, Any]:
    """What the step noted: plain JSON that is not too much for a row.

    Raises
    ------
    StepOutputError
    """
    notes, size = take(), 0
    for name, value in list(notes.items()):
        try:
            size += len(json.dumps(value))
        except (TypeError, ValueError, RecursionError) as error:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise StepOutputError(f"noted {name!r} of type {kind}, which is no plain JSON ({error})") from None
    if size > MOST_NOTED:
        what = f"noted {size / 2**20:.1f} MiB of facts; at most {MOST_NOTED >> 20} are kept"
        raise StepOutputError(what, hint="return what is large: it is kept as an output")
    return notes


def _figures(node: Node, runtime: Runtime) -> dict[str, Any]:
    """Stage the figures that the step logged; give what its notes tell of them."""
    stage, kept = guarded(runtime.objects.stage, f"step {node.id}"), {}
    for name, picture in take_pictures().items():
        digest, size = stage(picture.data)
        kept[name] = {"kind": picture.kind, "digest": digest, "size": size}
    return {FIGURES: kept} if kept else {}


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
