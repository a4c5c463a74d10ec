"""Looking before anything runs: what a flow becomes on a backend, what it needs there, and what will not work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from penstock.backends.backend import Backend, Finding, Options
from penstock.backends.compiled import Compiled
from penstock.core.flow import Node
from penstock.core.query import READ_DUCKDB, READ_SQL
from penstock.core.urls import has_password, install_hint, is_credential, masked, scheme
from penstock.errors import bounded
from penstock.lifecycle.release import policy

ASK = """\
import importlib.util, json, sys
question = json.loads(sys.argv[1])
told = {"python": ".".join(map(str, sys.version_info[:2]))}
told["lacks"] = [name for name in question["modules"] if importlib.util.find_spec(name) is None]
try:
    import penstock
    told["version"] = penstock.__version__
    if told["version"] == question["version"]:
        from penstock.worker import load
        graph = load(question["open"])[0].graph
        told["codes"] = {node.id: graph.codes.get(node.code, {}) for node in graph.nodes}
except BaseException as error:
    told["fault"] = f"{type(error).__name__}: {error}"
print()
print(json.dumps(told))
"""
"""What is asked of another Python that is to run the steps: whether it imports the file, and with which libraries."""
MODULES = {
    "s3": ("s3fs",),
    "gcs": ("gcsfs",),
    "azure": ("adlfs",),
    "excel": ("python_calamine",),
    "postgres": ("psycopg",),
    "sql": ("sqlalchemy",),
    "duckdb": ("duckdb",),
    "serve": ("uvicorn", "msgspec", "httptools"),
}
"""Extra → the modules by which it is known."""
ENTRIES = {READ_SQL: "sql", READ_DUCKDB: "duckdb"}
"""Entry of a step → the extra that it needs."""
ASK_S = 120.0
MOST_NAMED = 5


def preflight(flow: Compiled, backend: Backend, options: Options) -> list[Finding]:
    """Everything that is known beforehand to go wrong there, errors first.

    Parameters
    ----------
    flow : Compiled
    backend : Backend
    options : Options
    """
    away = backend.away or bool(options.image)
    found = [*_code(flow), *_release(flow, options), *_written(flow, options)]
    found += [*_places(flow), *_image(flow, options)] if away else _python(flow, backend, options)
    found += backend.check(flow, options)
    found = list({(one.grade, one.what): one for one in found}.values())  # what two of them looked at is told once
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

    for node in flow.graph.nodes:
        if (url := _here_alone(_database(node))) is not None:
            what = f"source {node.id} queries {url}, which is this machine's alone"
            yield Finding("error", what, "name a database that every machine reaches")


def _database(node: Node) -> str:
    """The URL of the database that a step queries; "" where it queries none."""
    stack = [node.tree] if node.entry == READ_SQL else []
    while stack:
        match stack.pop():
            case ["url", str(url)]:
                return url
            case [*parts]:
                stack += parts
    return ""


def _here_alone(url: str) -> str | None:
    """A database that no other machine sees, as people are told it: a file, or what listens on this machine alone."""
    if scheme(url).partition("+")[0] == "sqlite":
        return url
    host = urlsplit(url).hostname or "" if url else ""
    return masked(url) if host in ("localhost", "::1") or host.startswith("127.") else None


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
    extras = sorted(_extras(flow, options))
    package = f"penstock[{','.join(extras)}]" if extras else "penstock"
    needs = f"{package} as here, the project's libraries and {shown or 'the project'}"
    yield Finding("note", f"{image} must hold {needs}, at {flow.file or flow.request.file}")
    if inside:
        what = f"{', '.join(inside[:5])}: read from the project's folder, as {image} has it"
        yield Finding("warning", what, "data inside an image is as old as the image: read it from s3://… or a database")


def _release(flow: Compiled, options: Options) -> Iterator[Finding]:
    """What becomes of a version that passes its gate there."""
    if "workflow" not in flow.graph.about:
        return
    if _policy(flow) == "ci" and not _is_ci(flow, options):
        what = "release is 'ci': what passes its gate there stays challenger"
        yield Finding("note", what, "set PENSTOCK_RELEASE=ci for the tasks, or promote by hand")
    own = _own_types(flow)
    if own and _deploys(flow, options) and not flow.home.config.trusts_own:
        what = f"the model reaches code of this project ({', '.join(own[:MOST_NAMED])}), which no server there runs"
        yield Finding("error", what, 'set trust = ["own"] in penstock.toml: what is here as it was in training is run')


def _policy(flow: Compiled) -> str:
    return policy(flow.home.config, flow.graph.about.get("release"))


def _is_ci(flow: Compiled, options: Options) -> bool:
    return flow.home.config.is_ci or options.environment.get("PENSTOCK_RELEASE") == "ci"


def _deploys(flow: Compiled, options: Options) -> bool:
    """Whether a version may become champion there, for which its golden rows pass through a server."""
    held = _policy(flow) == "never" or (_policy(flow) == "ci" and not _is_ci(flow, options))
    return not held and any(node.kind == "effect" and node.part == "deploy" for node in flow.graph.nodes)


def _own_types(flow: Compiled) -> list[str]:
    """Names of the project that the code of its estimators reaches."""
    fits = [node for node in flow.graph.nodes if node.part == "train" and node.entry.startswith("penstock.")]
    parts = {name for node in fits for name in flow.graph.codes.get(node.code, {})}
    files = flow.graph.about.get("code", {}).get("files", {})
    modules = {os.path.splitext(path)[0].replace("/", ".").removesuffix(".__init__") for path in files}
    return sorted(n for n in parts if any(f".{m}".endswith(f".{n.partition(':')[0]}") for m in modules) and ":" in n)


def _written(flow: Compiled, options: Options) -> Iterator[Finding]:
    """Secrets that would stand in what is written, or in a command line that every user of a machine may read."""
    for name, value in options.environment.items():
        if has_password(value) or is_credential(name, value):
            what = f"{name} holds a secret, and would stand in the file"
            yield Finding("error", what, f"--secret {name}")
    settings: Mapping[str, str] = flow.request.extra.get("set", {})
    params = {name: value for name, value in flow.graph.params.items() if isinstance(value, str)}
    for name, value in {**params, **flow.request.params, **settings}.items():
        if has_password(str(value)):
            what = f"the value of {name} holds a password, and would stand in the file"
            yield Finding("error", what, "name a variable of the environment instead, and give it by --secret")


def _python(flow: Compiled, backend: Backend, options: Options) -> Iterator[Finding]:
    """Whether the Python that runs the steps can."""
    from penstock import __version__

    extras = _extras(flow, options)
    if flow.python == sys.executable:  # it has just imported the file
        yield from _lacking(flow, extras, [m for extra in extras for m in MODULES[extra] if find_spec(m) is None])
        return
    if flow.file and not os.path.exists(flow.python):  # --at: the steps run on another machine
        what = f"{flow.python} is not on this machine: whether it can run the steps was not looked at"
        yield Finding("note", what, f"there: {flow.python} -m penstock export {backend.name} FILE --check")
        return
    try:
        told = _told(flow, options, [module for extra in extras for module in MODULES[extra]])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, TypeError) as error:
        why = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        what = f"{flow.python} does not run: {type(error).__name__}{': ' if why else ''}{bounded(''.join(why), 300)}"
        yield Finding("error", what, f"--python names the Python that runs the steps of {backend.name}")
        return
    if "version" not in told:
        what = f"{flow.python} cannot import penstock: {bounded(str(told.get('fault')), 500)}"
        yield Finding("error", what, f"{flow.python} -m pip install penstock")
        return
    yield from _lacking(flow, extras, told["lacks"])
    if told["version"] != __version__:
        what = f"{flow.python} has penstock {told['version']}, and this is {__version__}: recipes may differ"
        yield Finding("warning", what, "install the same version there")
    elif "fault" in told:
        what = f"{flow.python} cannot import {os.path.basename(flow.request.file)}: {bounded(str(told['fault']), 500)}"
        yield Finding("error", what, "install there what the project needs")
    else:
        yield from _unlike(flow, told["codes"])


def _told(flow: Compiled, options: Options, modules: list[str]) -> dict[str, Any]:
    """What the other Python says of itself."""
    from penstock import __version__

    asked = flow.request
    given: dict[str, Any] = {
        "file": asked.file,
        "variable": asked.variable,
        "root": flow.home.config.root,
        "what": asked.what,
    }
    given |= {"params": dict(asked.params), "until": asked.until, "flags": {}, "extra": dict(asked.extra)}
    env = flow.home.config.environment
    question = {"modules": modules, "version": __version__, "open": given}
    ended = subprocess.run(
        [flow.python, "-P", "-c", ASK, json.dumps(question)],
        capture_output=True,
        text=True,
        timeout=ASK_S,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **({"PENSTOCK_ENV": env} if env != "dev" else {}), **options.environment},
        check=True,
    )
    found: Any = json.loads(ended.stdout.splitlines()[-1])
    return dict(found)


def _lacking(flow: Compiled, extras: Iterable[str], lacks: Iterable[str]) -> Iterator[Finding]:
    lacks = set(lacks)
    for extra in extras:
        if lacks.intersection(MODULES[extra]):
            remedy = f"pip install 'penstock[{extra}]' there"
            if extra == "serve":
                remedy += ", or --until register where others deploy"
            yield Finding("error", f"{flow.python} lacks the extra {extra}", remedy)


def _unlike(flow: Compiled, codes: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    """Steps whose recipe is another there, since code or libraries are."""
    here = {node.id: flow.graph.codes.get(node.code, {}) for node in flow.graph.nodes}
    other = [step for step, parts in here.items() if codes.get(step) != parts]
    if not other:
        return
    told: dict[str, None] = {}
    for step in other:
        there = codes.get(step, {})
        for name in sorted(here[step].keys() | there.keys()):
            if here[step].get(name) != there.get(name):
                kind, _, word = name.rpartition(":") if name.startswith("library:") else ("", "", name)
                if kind or name == "python":
                    told[f"{word} {here[step].get(name, 'absent')} here, {there.get(name, 'absent')} there"] = None
    why = "; ".join(list(told)[:MOST_NAMED]) or "the code is another there"
    what = f"{len(other)} of {len(here)} steps have another recipe there, so what is made here is not reused: {why}"
    yield Finding("warning", what, "install there what is installed here, as a lock file does")


def _extras(flow: Compiled, options: Options) -> dict[str, None]:
    """Extras that store, ledger, sources and a deployment ask for."""
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
    for node in flow.graph.nodes:
        if node.entry in ENTRIES:
            found[ENTRIES[node.entry]] = None
        if scheme(_database(node)).startswith("postgres"):
            found["postgres"] = None
    if _deploys(flow, options):
        found["serve"] = None
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
        parts += [f"at most {task.parts} parts at once"] if task.parts else []
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
