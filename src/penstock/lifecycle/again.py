"""A clean place in which a version's steps run once more: stored code, recorded sources, processes of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.facts import Facts
from penstock.core.flow import Graph, Node
from penstock.core.ports import Home
from penstock.core.run import Result, Run
from penstock.core.source import Found
from penstock.engine import processes
from penstock.engine.events import Listener, silent
from penstock.engine.gather import probe
from penstock.engine.handle import Server
from penstock.engine.local import Effect, Execution, Outcome
from penstock.engine.planner import recipe_of
from penstock.engine.pool import Pool
from penstock.errors import CorruptObjectError, MissingObjectError, NotReproducibleError, SourceNotFoundError
from penstock.lifecycle.agreement import GIVEN
from penstock.lifecycle.kept_code import files_of
from penstock.lifecycle.machine import machine
from penstock.lifecycle.run import Request, fetcher_of, jobs_of, open_server, worker_command

PREFIX, LOCK = "penstock-reproduce-", ".lock"
Key = tuple[str, str]
Opened = Callable[[str, Mapping[str, Any]], Home]
"""Opens the project in a folder with some settings."""


@dataclass
class Site:
    """A clean copy of a project's code, with a store and a ledger of its own.

    Parameters
    ----------
    near : Home
        The project that the version is of.
    far : Home
        The copy.
    code : dict
        As `kept_code.made_with` stores it.
    entry : str
        Module of the worker's process entry.
    python : str
        The interpreter; "" for the one that runs this.
    """

    near: Home
    far: Home
    code: Mapping[str, Any]
    entry: str
    python: str = ""
    reread: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def serve(self) -> Server:
        """Start a process that imports the stored code."""
        root = self.far.config.root
        file = os.path.join(root, *self.code["file"].split("/"))
        flags = {"store": self.far.config.store, "ledger": self.far.config.ledger, "seed": self.code["seed"]}
        flags |= {"trust": list(self.near.config.trust)}
        extra: dict[str, Any] = {"set": dict(self.code["set"])} if self.code["set"] else {}
        extra |= {word: self.code[word] for word in ("full", "only") if self.code.get(word)}
        params = dict(self.code["params"])
        request = Request(file, self.code["variable"], what="reproduce", params=params, flags=flags, extra=extra)
        command = worker_command(self.entry)
        command[0] = self.python or command[0]
        folders = [os.path.join(root, *folder.split("/")) for folder in self.code["folders"]]
        environment = surroundings(self.near.config.root, folders, jobs_of(self.near), keep=not self.python)
        return open_server(self.far, request, lambda _home: Server(command, environment))

    def facts(self, graph: Graph, sources: Mapping[str, str], recorded: Mapping[str, Result]) -> Facts:
        """The sources as they were: their recorded tables, else the files where these still hold the same bytes.

        Parameters
        ----------
        sources : dict
            Source step → digest on record.
        recorded : dict
            Step → its result on record.
        """
        facts = Facts(codes=dict(graph.codes))
        for node in graph.nodes:
            if node.kind != "source":
                continue
            if node.id not in sources:
                self.gone.append(node.id)
                continue
            facts.sources[node.id] = sources[node.id]
            found = recipe_of(node, {}, facts)
            result = recorded.get(node.id)
            if found is not None and result is not None and all(map(self.bring, result.outputs)):
                facts.results[found[0]] = replace(result, recipe=found[0], code=node.code, tree=found[1])
            elif (again := self._on_disk(node, sources[node.id])) is not None:
                facts.found[node.id] = again
                self.reread.append(node.id)
            else:
                self.gone.append(node.id)
        return facts

    def bring(self, artifact: Artifact) -> bool:
        """Copy an artifact from the project's store, its bytes verified; whether it was there and whole."""
        if artifact.text is not None:
            return True
        draft = os.path.join(self.far.config.root, ".penstock", f"{artifact.digest}.part")
        try:
            shutil.copyfile(self.near.objects.fetch(artifact.digest), draft)
        except (MissingObjectError, CorruptObjectError):
            return False
        digest, _ = self.far.objects.stage(draft)
        for other in artifact.refs:
            if not self.bring(Artifact(other, "", 0)):
                return False
        return digest == artifact.digest

    def _on_disk(self, node: Node, digest: str) -> Found | None:
        """The source's files in the project, where they hold what they held."""
        here, there = (os.path.join(home.config.root, "") for home in (self.near, self.far))

        def placed(path: str) -> str:
            return here + path[len(there) :] if path.startswith(there) else path

        if node.path is None or node.refresh is not None:
            return None
        asked = replace(node, path=placed(node.path), more=tuple(map(placed, node.more)))
        try:
            found, _ = probe([asked], self.near.ledger, fetcher_of(self.near), fresh=True)
        except (SourceNotFoundError, OSError):
            return None
        return found[node.id] if found[node.id].digest == digest else None

    def execute(
        self, server: Server, graph: Graph, facts: Facts, given: Mapping[str, Artifact], listen: Listener = silent
    ) -> Outcome:
        """Run a flow; `given` stand for effect steps."""
        run = Run(os.urandom(8).hex(), graph.name, "reproduce", "running", time.time())
        logs = os.path.join(self.far.config.root, ".penstock", "logs", run.id)

        def stand(node: Node, _inputs: Mapping[Key, Artifact], _execution: Execution) -> Effect:
            outputs = tuple(given[f"{node.id}\0{name}"] for name in node.names)
            return Effect(outputs, changed=False)

        execution = Execution(
            graph,
            facts,
            self.far,
            run,
            lambda: Pool(server, jobs_of(self.near), logs),
            effects={GIVEN: stand},
            listen=listen,
            made=machine(),
        )
        return execution.execute()

    def alone(self, server: Server, graph: Graph, facts: Facts, step: str, known: Mapping[Key, Artifact]) -> Outcome:
        """Run one step by itself on the artifacts that its inputs were."""
        node = graph.node(step)
        names: dict[str, list[str]] = {}
        for need, output in node.needs:
            names.setdefault(need, []).append(output)
        stands = tuple(
            Node(need, GIVEN, None, "", kind="effect", outputs=() if outputs == [""] else tuple(outputs))
            for need, outputs in names.items()
        )
        given = {f"{need}\0{output}": known[need, output] for need, output in node.needs}
        told = replace(facts, forced=frozenset({step}), results={})
        return self.execute(server, replace(graph, nodes=(*stands, node)), told, given)


@contextlib.contextmanager
def clean_folder() -> Iterator[str]:
    """An empty folder that goes in the end; those of processes that were killed go first.

    Its owner holds a lock on a file in it for as long as it lives: whoever can take the lock may remove the folder.
    """
    base = tempfile.gettempdir()
    for entry in os.scandir(base):
        if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
            _sweep(entry.path)
    folder = tempfile.mkdtemp(prefix=PREFIX, dir=base)
    place = os.path.join(folder, LOCK)
    lock = os.open(f"{place}.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(f"{place}.new", place)  # nobody sees it before it is held
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _sweep(folder: str) -> None:
    """Remove a folder whose owner is gone; one of another user, or without a lock as yet, is left alone."""
    with contextlib.suppress(OSError):
        lock = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def make_site(near: Home, code: Mapping[str, Any], folder: str, opened: Opened, *, entry: str, python: str) -> Site:
    """Write the stored code into an empty folder, as a project of its own.

    Raises
    ------
    NotReproducibleError
        What is stored is no code of a project.
    """
    root = os.path.join(os.path.realpath(folder), "project")
    os.makedirs(os.path.join(root, ".penstock"))
    try:
        files = files_of(code)
        for name in (code["file"], *(f"{one}/x" for one in code["folders"] if one != ".")):
            files_of({"files": {name: ""}})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotReproducibleError(
            f"the stored code is not the code of a project: {error}", hint="nothing of it was run"
        ) from error
    for name, content in files.items():
        path = os.path.join(root, *name.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(content)
    store = os.path.join(root, ".penstock")
    far = opened(root, {"store": store, "ledger": os.path.join(store, "ledger.db")})
    return Site(near, far, code, entry, python)


def surroundings(root: str, folders: list[str], jobs: int, *, keep: bool) -> dict[str, str]:
    """Environment of the processes: nothing of the work tree is importable, hashes and settings are as they come.

    Parameters
    ----------
    root : str
        The project's, of which nothing may be imported.
    folders : list of str
        From where the stored code is imported.
    jobs : int
    keep : bool
        Keep what else is on PYTHONPATH; False for another interpreter, whose libraries are its own.
    """
    own = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    base = os.path.join(os.path.realpath(root), "")
    values = {
        name: value
        for name, value in processes.environment(jobs).items()
        if not name.startswith("PENSTOCK_") and name not in ("PYTHONHASHSEED", "PYTHONPATH", "PYTHONHOME")
    }
    before = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and keep]
    outside = [
        path
        for path in before
        if os.path.realpath(path) == own or not os.path.join(os.path.realpath(path), "").startswith(base)
    ]
    values["PYTHONPATH"] = os.pathsep.join([*folders, *outside])
    return values


def only_steps(graph: Graph, without: tuple[str, ...] = ()) -> Graph:
    """A flow without what acts on the ledger, and without all that needs such a step."""
    left: set[str] = set(without)
    nodes = []
    for node in graph.nodes:
        if node.kind == "effect" or node.id in left or any(step in left for step, _ in node.needs):
            left.add(node.id)
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))
