"""The process entry: imports the user's file, then runs its steps for one coordinator.

Not for people: `penstock` starts it. ``python -P -m penstock.worker serve FD``; for a server that is to run
classes of the project, ``python -P -m penstock.worker types``, which reads source files and imports none of them; and
``python -P -m penstock.worker step …``, one step of a run for Airflow and its like (`lifecycle.remote_call`).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard

from penstock.core.flow import Flow, calls_of, params_of
from penstock.core.ports import Config
from penstock.core.step import Ref
from penstock.core.tree import is_estimator
from penstock.engine.child import Runtime
from penstock.engine.closure import Closure
from penstock.engine.describe import Live, describe
from penstock.engine.environment import environment, records_of
from penstock.engine.garbage import few_collections
from penstock.engine.importing import import_file, pick
from penstock.engine.own_types import own_types
from penstock.engine.real_path import real_path
from penstock.engine.server import serve
from penstock.engine.source_files import source_files
from penstock.errors import DeclarationError
from penstock.lifecycle.machine import machine
from penstock.project import configure, open_home, open_store

if TYPE_CHECKING:
    from penstock.core.workflow import Workflow

WORKER = "penstock.worker"
"""This module, under the name by which another process of it is started."""

LIBRARIES = (
    "pandas",
    "pyarrow.parquet",
    "sklearn.model_selection",
    "sklearn.metrics",
    "scipy.stats",
    "penstock.formats.skops_library:library",
)
"""What every workflow's stages import."""

FRAMES = ("pyarrow.parquet", "penstock.formats.parquet_pandas")
"""What the steps of a file that imports pandas most likely exchange."""


def load(request: Mapping[str, Any]) -> tuple[Live, Runtime]:
    """Import the file that a request names; give its flow and what workers need.

    Parameters
    ----------
    request : dict
        "file", "variable", "root", "what" ("run", "monitor", "decide", …), "params", "until", "flags", "extra".

    Raises
    ------
    PenstockError
    """
    cache = os.path.join(request["root"], ".penstock", "pycache")
    with few_collections():
        module = import_file(request["file"], request["root"], cache)
        return prepare(pick(module, kinds(), request.get("variable")), request)


def kinds() -> tuple[type, ...]:
    """What a file may declare. Who has declared no workflow has not loaded what there is to one."""
    words = sys.modules.get("penstock.core.workflow")
    return (*([words.Workflow] if words else ()), Flow, Ref)


def is_workflow(declared: object) -> TypeGuard[Workflow]:
    """Whether the life of a model is declared."""
    words = sys.modules.get("penstock.core.workflow")
    return words is not None and isinstance(declared, words.Workflow)


def prepare(
    declared: Any,
    request: Mapping[str, Any],
    narrowed: Callable[[tuple[Ref, ...]], tuple[Ref, ...]] = lambda outputs: outputs,
) -> tuple[Live, Runtime]:
    """The flow of a declaration, and what workers need for it.

    Parameters
    ----------
    declared : Workflow, Flow, Ref or tuple of Ref
    request : dict
        As `load` takes it.
    narrowed : callable
        Takes the wanted outputs, and gives those that this process may make.

    Raises
    ------
    PenstockError
    """
    config = configure(request["root"], request.get("flags"))
    closure = Closure(request["root"], cache=os.path.join(request["root"], ".penstock", "closure.json"))
    declared, params = _set(declared, request)
    name, outputs, about = _outputs(declared, request, config)
    about |= _parameters(declared, request)
    outputs = narrowed(outputs)
    live = _asking(
        describe(name, outputs, closure, given=params, about=about, until=_until(declared, request)), declared
    )
    given = _given(live.graph.params, outputs)
    live = replace(live, graph=replace(live.graph, about=about | _made_with(closure, about, request, given)))
    closure.save()
    objects, formats = open_store(config, _project_types(live, request["root"]))
    warm = _warm(live, LIBRARIES if is_workflow(declared) else ())
    return live, Runtime(objects, formats, about.get("seed") or config.seed or 0, warm)


def _asking(live: Live, declared: Any) -> Live:
    """The flow with what a workflow asks for by stage or step."""
    if not is_workflow(declared) or not declared.resources:
        return live
    from penstock.lifecycle.requests import with_requests

    return replace(live, graph=with_requests(live.graph, declared))


def _until(declared: Any, request: Mapping[str, Any]) -> str | None:
    """The last step; of a workflow none that looks at held-out rows without putting that on record."""
    asked: str | None = request.get("until")
    if asked is None or not is_workflow(declared):
        return asked
    from penstock.lifecycle.stage_ids import ON_RECORD

    return ON_RECORD.get(asked, asked)


def _warm(live: Live, libraries: tuple[str, ...]) -> tuple[str, ...]:
    """Modules that workers import anyway: once in the server is cheaper than in each worker."""
    own = dict.fromkeys(node.entry.partition(":")[0] for node in live.graph.nodes if node.kind != "effect")
    frames = FRAMES if "pandas" in sys.modules else ()
    return (*libraries, *frames, *(name for name in own if name.startswith("penstock.")))


def _set(declared: Any, request: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """The declaration with what `--set` changes in it, and the values of its parameters."""
    given = (request.get("extra") or {}).get("set")
    params = dict(request.get("params") or {})
    if not given:
        return declared, params
    if not is_workflow(declared):
        raise DeclarationError("--set: a workflow is meant", hint="`--param NAME=VALUE` sets a parameter of a flow")
    from penstock.lifecycle.settings import apply

    declared, more = apply(declared, given)
    return declared, params | more


def _parameters(declared: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """What a run keeps of a declaration's parameters, and what was set by hand."""
    if not is_workflow(declared) or request.get("what") not in ("run", "try"):
        return {}
    from penstock.lifecycle.parameters import flat

    given = (request.get("extra") or {}).get("set")
    return {"parameters": flat(declared)} | ({"set": dict(given)} if given else {})


def _given(params: Mapping[str, Any], outputs: tuple[Ref, ...]) -> dict[str, str]:
    """What a run sets otherwise than the declaration does, in one spelling: 4000 and 4000.0 are one number."""
    declared = params_of(calls_of(outputs))
    return {name: str(value) for name, value in params.items() if value != declared.get(name)}


def _made_with(
    closure: Closure, about: Mapping[str, Any], request: Mapping[str, Any], params: Mapping[str, str]
) -> dict[str, Any]:
    """What it takes to do the same again: the files of the code, what was given by hand, and the environment."""
    if not os.path.isfile(request.get("file") or ""):
        return {}
    code = source_files(closure, request["file"], request["root"], filter(None, [about.get("schema_file")]))
    code |= {
        "variable": request.get("variable"),
        "params": dict(params),
        "seed": about.get("seed"),
    }
    extra = request.get("extra") or {}
    code |= {
        "set": dict(extra.get("set") or {}),
        "full": bool(extra.get("full")),
        "only": list(extra.get("only") or ()),
    }
    return {"code": code, "machine": environment(records_of(request["root"])) | {"cpu": machine()["cpu"]}}


def _outputs(declared: Any, request: Mapping[str, Any], config: Config) -> tuple[str, tuple[Ref, ...], dict[str, Any]]:
    """Name, wanted outputs and facts of whatever the file declares."""
    if is_workflow(declared):
        from penstock.lifecycle.fights import lower_fight
        from penstock.lifecycle.lower import lower
        from penstock.lifecycle.monitor import lower_window
        from penstock.lifecycle.past import CALENDAR, WHAT, lower_backtest
        from penstock.lifecycle.redecide import lower_decision

        if request.get("what") == "decide":
            outputs, about = lower_decision(declared, request["extra"])
            return declared.name, outputs, about
        if request.get("what") == "fight":
            outputs, about = lower_fight(declared)
            return declared.name, outputs, about
        if request.get("what") == "monitor":
            outputs, about = lower_window(declared, request["extra"])
            return f"{declared.name}.monitor", outputs, about
        if request.get("what") in (WHAT, CALENDAR):
            outputs, about = lower_backtest(declared, request["file"], request["extra"], seed=config.seed)
            return f"{declared.name}.{WHAT}", outputs, about
        extra = request.get("extra") or {}
        more: dict[str, Any] = {name: bool(extra.get(name)) for name in ("final", "full")}
        if request.get("what") == "reproduce":
            from penstock.lifecycle.agreement import lower_reproduction

            known = {"seed": config.seed, "full": more["full"], "only": extra.get("only") or ()}
            outputs, about = lower_reproduction(declared, request["file"], **known)
            return declared.name, outputs, about
        outputs, about = lower(declared, request["file"], seed=config.seed, only=extra.get("only") or (), **more)
        return declared.name, outputs, about
    if isinstance(declared, Flow):
        return declared.name, declared.outputs, {}
    name = os.path.splitext(os.path.basename(request["file"]))[0]
    return name, declared if isinstance(declared, tuple) else (declared,), {}


def _project_types(live: Live, root: str) -> tuple[str, ...]:
    """Exact names of the project's own that estimators may hold: what the user's file imported, in its work tree.

    Classes of its modules, since what is fitted may hold objects that no parameter names; of functions only those
    that the code of a declared estimator reaches.
    """
    own = _own_modules(root)
    names: dict[str, None] = {}
    for name in own:
        for value in list(vars(sys.modules[name]).values()):
            if isinstance(value, type) and value.__module__ == name:
                names[f"{name}.{value.__qualname__}"] = None
    for step, call in live.calls.items():
        found = [*call.args, *call.kwargs.values()]
        if any(is_estimator(value) or type(value) is dict for value in found):  # candidates stand in a dict
            for part in live.graph.codes.get(live.graph.node(step).code, ()):
                module, _, word = part.partition(":")
                if module in own:
                    names[f"{module}.{word}"] = None
    return tuple(names)


def _own_modules(root: str) -> frozenset[str]:
    """Modules that this process has imported from the project's work tree."""
    inside = os.path.join(os.path.realpath(root), "")
    found = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if file and (file := real_path(file)).startswith(inside) and not file.startswith(sys.prefix):
            found.add(name)
    return frozenset(found)


def types() -> int:
    """Answer one question about the project's own types, from JSON on standard input to JSON on standard output.

    The question has "root", "names" and "folders", the answer is what `engine.own_types.own_types` gives.
    """
    question = json.load(sys.stdin)
    json.dump(own_types(question["root"], question["names"], question["folders"]), sys.stdout)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Entry of the process.

    Parameters
    ----------
    arguments : list of str, optional
        ``serve FD``, ``types`` or ``step …``; those of the process by default.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if given == ["types"]:
        return types()
    if given[:1] == ["step"]:
        from penstock.lifecycle.remote_call import call

        return call(given[1:], WORKER, open_home)
    if len(given) != 2 or given[0] != "serve" or not given[1].isdecimal():
        print("penstock.worker is started by penstock itself", file=sys.stderr)
        return 2
    serve(int(given[1]), load)
    return 0


if __name__ == "__main__":
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # whoever read it is gone: that changes no answer
            stream.flush()
    os._exit(status)  # taking the user's libraries down one by one would only cost time: nothing here outlives it
