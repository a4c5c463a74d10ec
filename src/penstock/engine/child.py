"""A worker: takes a step's id and input artifacts, answers with output artifacts or a failure."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from penstock.core import checkpoints
from penstock.core.artifact import Artifact
from penstock.core.flow import Node
from penstock.core.notes import FIGURES, MOST_NOTED, begin, take, take_pictures
from penstock.core.ports import Formats, Objects
from penstock.core.replay import Replay
from penstock.core.secret import found_in
from penstock.core.source import Found
from penstock.engine.calling import bind, find, one_of, reader, seed_everything, split_outputs
from penstock.engine.describe import Live
from penstock.engine.discretion import Discretion, guarded, refuse, told
from penstock.engine.gpus import seeing
from penstock.engine.replay import Replayer
from penstock.engine.wire import Lines
from penstock.errors import (
    CorruptObjectError,
    FormatError,
    MissingObjectError,
    PenstockError,
    StepOutputError,
    bounded,
)


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
            send = lines.send if "checkpoints" in task else None
            checkpoints.begin(task.get("checkpoints"), send, task.get("part"))
            node = nodes[task["step"]]
            if "item" in task:
                node = replace(node, id=f"{node.id}, item {task['item']}", mapped=False)
            lines.send(run_task(task, node, live, runtime, log))


def run_task(
    task: Mapping[str, Any], node: Node, live: Live, runtime: Runtime, log: int | None = None
) -> dict[str, Any]:
    """Run one step and tell what came of it; no exception leaves this function but the process's own end."""
    began, cpu, start = time.time(), time.process_time(), time.perf_counter()
    offset = os.lseek(log, 0, os.SEEK_END) if log is not None else 0
    begin()
    with Discretion(log), seeing(task.get("gpus")):
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
    except checkpoints.PartDoneError:
        answer["part"] = True
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
    call = live.calls[task["step"]]
    if "item" in task:
        call = one_of(call, task["item"])
    function = call.function or find(call.entry)
    inputs = {(step, output): Artifact.from_json(data) for step, output, data in task["inputs"]}
    args, kwargs = bind(call, function, live, reader(inputs, runtime.formats, runtime.objects))
    for name, value in call.kwargs.items():
        if isinstance(value, Replay):
            kwargs[name] = Replayer(
                value,
                inputs,
                live,
                runtime.formats,
                runtime.objects,
                seed=runtime.seed,
                beside=task.get("replay"),
            )
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
        (query,), kwargs = bind(call, find(call.entry), live, reader({}, runtime.formats, runtime.objects))
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
