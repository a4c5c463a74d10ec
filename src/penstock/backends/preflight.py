"""Looking before anything runs: what a flow becomes on a backend, what it needs there, and what will not work."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator

from penstock.backends.backend import Backend, Finding, Options
from penstock.backends.compiled import Compiled
from penstock.core.flow import Node
from penstock.core.urls import install_hint, masked, scheme
from penstock.lifecycle.release import policy

ASK = """\
import importlib.util, json, sys
try:
    import penstock
    found = penstock.__version__
except Exception as error:
    found = f"!{type(error).__name__}: {error}"
lacks = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
print(json.dumps({"version": found, "lacks": lacks, "python": ".".join(map(str, sys.version_info[:2]))}))
"""
"""What is asked of the Python that runs the steps."""
MODULES = {"s3": "s3fs", "gcs": "gcsfs", "azure": "adlfs", "excel": "python_calamine", "postgres": "psycopg"}
"""Extra → a module by which it is known."""
ASK_S = 60.0


def preflight(flow: Compiled, backend: Backend, options: Options) -> list[Finding]:
    """Everything that is known beforehand to go wrong there, errors first.

    Parameters
    ----------
    flow : Compiled
    backend : Backend
    options : Options
    """
    away = backend.away or bool(options.image)
    found = [*_code(flow), *_release(flow)]
    found += [*_places(flow), *_image(flow, options)] if away else _python(flow, backend)
    found += backend.check(flow, options)
    grades = ("error", "warning", "note")
    return sorted(found, key=lambda one: grades.index(one.grade))


def _places(flow: Compiled) -> Iterator[Finding]:
    """What other machines cannot see."""
    config = flow.home.config
    for name, place in (("store", config.store), ("ledger", config.ledger)):
        if not scheme(place):
            what = f"the {name} is {os.path.relpath(place, config.root)} on this machine, which no other one sees"
            example = "s3://bucket/penstock" if name == "store" else "postgresql://host/penstock"
            yield Finding("error", what, f'set {name} = "{example}" in penstock.toml, or PENSTOCK_{name.upper()} there')
    for node, place in _files(flow.graph.nodes):
        if _is_outside(place, config.root):
            what = f"source {node.id} reads {place}, outside the project, on this machine"
            yield Finding("error", what, "put it where every machine reads it, such as s3://bucket/…")


def _files(nodes: Iterable[Node]) -> Iterator[tuple[Node, str]]:
    for node in nodes:
        for place in node.places:
            if not scheme(place):
                yield node, place


def _is_outside(place: str, root: str) -> bool:
    return os.path.relpath(os.path.abspath(place), root).split(os.sep)[0] == os.pardir


def _code(flow: Compiled) -> Iterator[Finding]:
    """Code that a machine which has the project alone would lack, and steps that no task can take up from a store."""
    outside = flow.graph.about.get("code", {}).get("outside", ())
    for path in outside:
        what = f"{path} belongs to the declaration and lies outside the project {flow.home.config.root}"
        yield Finding("error", what, "move it into the project, or install it as a package where the steps run")
    for node in flow.graph.nodes:
        if node.uncacheable:
            yield Finding("note", f"step {node.id} runs anew in every run: {node.uncacheable}")


def _image(flow: Compiled, options: Options) -> Iterator[Finding]:
    """What the image must hold, which cannot be looked into from here."""
    files = sorted(flow.graph.about.get("code", {}).get("files", {}))
    local = [os.path.relpath(place, flow.home.config.root) for _, place in _files(flow.graph.nodes)]
    inside = [place for place in local if not place.startswith(os.pardir)]
    image = f"the image {options.image}" if options.image else "each machine"
    shown = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
    extras = sorted(_extras(flow))
    package = f"penstock[{','.join(extras)}]" if extras else "penstock"
    needs = f"{package} as here, the project's libraries and {shown or 'the project'}"
    yield Finding("note", f"{image} must hold {needs}, at {flow.file or flow.request.file}")
    if inside:
        what = f"{', '.join(inside[:5])}: read from the project's folder, as {image} has it"
        yield Finding("warning", what, "data inside an image is as old as the image: read it from s3://… or a database")


def _release(flow: Compiled) -> Iterator[Finding]:
    config = flow.home.config
    if "workflow" in flow.graph.about and policy(config, flow.graph.about.get("release")) == "ci" and not config.is_ci:
        what = "release is 'ci': what passes its gate there stays challenger"
        yield Finding("note", what, "set PENSTOCK_RELEASE=ci for the tasks, or promote by hand")


def _python(flow: Compiled, backend: Backend) -> Iterator[Finding]:
    """Whether the Python that runs the steps can."""
    from penstock import __version__

    extras = _extras(flow)
    modules = [MODULES[extra] for extra in extras if extra in MODULES]
    try:
        ended = subprocess.run(
            [flow.python, "-P", "-c", ASK, *modules],
            capture_output=True,
            text=True,
            timeout=ASK_S,
            stdin=subprocess.DEVNULL,
            check=True,
        )
        told = json.loads(ended.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        what = f"{flow.python} does not run: {type(error).__name__}"
        yield Finding("error", what, f"--python names the Python that runs the steps of {backend.name}")
        return
    version = str(told["version"])
    if version.startswith("!"):
        what = f"{flow.python} cannot import penstock: {version[1:]}"
        yield Finding("error", what, f"{flow.python} -m pip install penstock")
        return
    if version != __version__:
        what = f"{flow.python} has penstock {version}, and this is {__version__}: recipes may differ"
        yield Finding("warning", what, "install the same version there")
    for extra in extras:
        if MODULES.get(extra) in told["lacks"]:
            yield Finding("error", f"{flow.python} lacks the extra {extra}", f"pip install 'penstock[{extra}]' there")


def _extras(flow: Compiled) -> dict[str, None]:
    """Extras that store, ledger and sources ask for."""
    config = flow.home.config
    found: dict[str, None] = {}
    for place in (config.store, config.ledger, *(p for node in flow.graph.nodes for p in node.places)):
        kind = scheme(place)
        hint = install_hint(kind) if kind else ""
        if "penstock[" in hint:
            found[hint.partition("[")[2].partition("]")[0]] = None
        if kind.startswith("postgres") and place == config.ledger:
            found["postgres"] = None
        if place.endswith((".xlsx", ".xls")):
            found["excel"] = None
    return found


def described(flow: Compiled, backend: Backend, options: Options) -> list[str]:
    """What the flow becomes there, a line a task.

    Examples
    --------
    A line reads ``train: train, evaluate · after prepare · 2 retries · 1 cpu``.
    """
    lines = []
    for task in flow.tasks:
        parts = [", ".join(task.steps)] if task.steps != (task.id,) else []
        parts += [f"after {', '.join(task.needs)}"] if task.needs else []
        parts += [f"{task.retries} {'retry' if task.retries == 1 else 'retries'}"] if task.retries else []
        parts += [f"at most {task.timeout_s:g} s"] if task.timeout_s is not None else []
        for name, value in task.resources.items():
            shown = f"{value / 2**30:g} GiB" if name == "memory" else value
            if name == "labels":
                parts += [f"{key}={text}" for key, text in value.items()]
            else:
                parts.append(f"{shown} {name}")
        lines.append(f"{task.id}: {' · '.join(parts) or 'needs nothing'}")
    where = options.image or flow.python
    lines.append(f"each starts {where} · store {masked(flow.home.config.store)} · {backend.name}")
    return lines
