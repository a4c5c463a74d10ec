"""Where a declaration in hand comes from: a file that can be run again, or this process alone."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from penstock.core.flow import Flow
from penstock.core.place import Place
from penstock.core.step import Ref, Step, call_of
from penstock.core.tree import parts_of
from penstock.core.workflow import Workflow, place_of
from penstock.errors import UsageError

KINDS = (Workflow, Flow, Ref)
OF_A_VERSION = ("package", "refit")
"""Stages that only a version needs: a run that registers none learns nothing from held-out rows either."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is to run, and by which process.

    Attributes
    ----------
    file : str
        The declaring file; of something in memory a path in the folder that its relative paths start from.
    variable : str or None
    declared : Workflow, Flow, Ref or None
        The object in hand; None where a file was named.
    exploratory : bool
        Whether only this process holds it.
    note : str
        What the caller should know, or "".
    types : tuple of str
        Exact names of classes of the caller's own inside its estimators.
    """

    file: str
    variable: str | None = None
    declared: Any = None
    exploratory: bool = False
    note: str = ""
    types: tuple[str, ...] = ()


def find(what: Any) -> Found:
    """What a caller means: a file's path, or a declaration.

    Parameters
    ----------
    what : str, path, Workflow, Flow, Ref or Step

    Raises
    ------
    UsageError
        It is none of them, there is no such file, or a file is just being imported.
    """
    refuse_inside_a_run()
    if isinstance(what, str | os.PathLike):
        return _file(os.fspath(what))
    if isinstance(what, Step):
        what = what.ref()
    if not isinstance(what, KINDS):
        raise UsageError(
            f"{type(what).__name__}: a workflow, a flow, a promised output or a file is meant",
            hint="ps.run(churn), or ps.run('churn.py')",
        )
    place = place_of(what) if isinstance(what, Workflow) else Place(os.getcwd())
    begun = set(_being_imported())  # who imports it to run it is not its home, as long as there is another
    homes = sorted(_homes(what), key=lambda one: (one[0] in begun, os.path.dirname(one[0]) != place.folder))
    home = homes[0] if homes else None
    types = tuple(own_types(what))
    if home is not None:
        file, variable = home
        edited = place.edited and place.file == file
        note = (
            f"{os.path.basename(file)} was edited after it was imported here: it is run as it is now" if edited else ""
        )
        return Found(file, variable, what, note=note, types=types)
    name = what.name if isinstance(what, Workflow | Flow) else "flow"
    return Found(os.path.join(place.folder, name), None, what, exploratory=True, note=_why(what), types=types)


def _why(what: Any) -> str:
    """What an exploratory run is, in one line."""
    kept = "nothing is registered and the hold-out stays closed; " if isinstance(what, Workflow) else ""
    return f"exploratory: only this process holds it, so {kept}write it to a file and import that to make a version"


def _file(text: str) -> Found:
    file, colon, variable = text.rpartition(":")
    named = bool(colon and file and variable.isidentifier())
    path = os.path.abspath(file if named else text)
    if not os.path.isfile(path):
        raise UsageError(f"there is no file {text}", hint="name the Python file that declares the workflow")
    return Found(path, variable if named else None)


def refuse_inside_a_run() -> None:
    """A file that runs itself while it is imported would start run after run.

    Raises
    ------
    UsageError
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if getattr(spec, "name", "") == "penstock.worker" or inside:
        raise UsageError(
            "a run was asked for inside a run",
            hint="what declares is imported: put ps.run(…) under `if __name__ == '__main__':`",
        )


inside = False
"""Whether this process is a fork that serves a run."""


def _homes(what: Any) -> Iterator[tuple[str, str]]:
    """Modules with a file whose global variable is this very object."""
    outside = tuple(os.path.join(os.path.realpath(prefix), "") for prefix in {sys.prefix, sys.base_prefix})
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in ("__main__", "__mp_main__") or not isinstance(file, str) or not file.endswith(".py"):
            continue
        for variable, value in list(vars(module).items()):
            if value is what and not variable.startswith("_") and not os.path.realpath(file).startswith(outside):
                yield os.path.abspath(file), variable


def _being_imported() -> Iterator[str]:
    """Files whose own lines have led to this call."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            yield os.path.abspath(frame.f_globals.get("__file__") or "")
        frame = frame.f_back


def own_types(what: Any) -> Iterator[str]:
    """Exact names of the classes and functions inside a workflow's estimators that no installed library has."""
    if not isinstance(what, Workflow):
        return
    libraries = tuple(os.path.join(os.path.realpath(prefix), "") for prefix in {sys.prefix, sys.base_prefix})
    for _, part in parts_of(what.model):
        thing = part if hasattr(part, "__qualname__") else type(part)
        file = getattr(sys.modules.get(thing.__module__ or ""), "__file__", None)
        if thing.__module__ == "__main__" or (file and not os.path.realpath(file).startswith(libraries)):
            yield f"{thing.__module__}.{thing.__qualname__}"


def calls_that_act(outputs: tuple[Ref, ...]) -> set[int]:
    """`id(call)` of every step that acts on the ledger, and of all that need one."""
    from penstock.core.flow import calls_of, needs_of

    found: set[int] = set()
    for call in calls_of(outputs):
        if call.kind == "effect" or any(id(need) in found for need in needs_of(call)):
            found.add(id(call))
    return found


def without_acting(outputs: tuple[Ref, ...]) -> tuple[Ref, ...]:
    """Outputs of the steps that a run without a version has; as they are where no step acts on the ledger."""
    from penstock.core.flow import calls_of

    acting = calls_that_act(outputs)
    if not acting:
        return outputs
    calls = [call for call in calls_of(outputs) if id(call) not in acting and call.name not in OF_A_VERSION]
    refs = [Ref(call, call.options.outputs[0] if call.options.outputs else "") for call in calls]
    assert all(call_of(ref).kind != "effect" for ref in refs)
    return tuple(refs)
