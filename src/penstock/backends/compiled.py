"""A declaration made ready for a backend: its flow as data, its tasks, and the command lines that carry them out."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.backends.tasks import MOST_PARTS, Task, compile_flow
from penstock.core.flow import Graph
from penstock.core.ports import Home
from penstock.errors import UsageError
from penstock.lifecycle.found import Found, find
from penstock.lifecycle.run import Request, open_server
from penstock.project import open_home

WORKER = "penstock.worker"
"""Module that runs one step."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A flow, its tasks, and how each of them is started.

    Attributes
    ----------
    home : Home
    graph : Graph
        The flow, with `params` and their defaults.
    tasks : tuple of Task
        Each after those that it needs.
    request : Request
        The file, absolute, and what else a run of it was asked for.
    python : str
        The Python that has Penstock and the project's libraries, where the steps run.
    """

    home: Home
    graph: Graph
    tasks: tuple[Task, ...]
    request: Request
    python: str = sys.executable
    file: str = field(default="", kw_only=True)

    @property
    def name(self) -> str:
        """The flow's name."""
        return self.graph.name

    @property
    def target(self) -> str:
        """The file as the steps' machine has it, with its variable where one was named."""
        place = self.file or self.request.file
        return f"{place}:{self.request.variable}" if self.request.variable else place

    def arguments(self, steps: Sequence[str], backend: str, part: str = "") -> list[str]:
        """Arguments of `penstock.worker` for one start of it, without the run's id and its parameters.

        Parameters
        ----------
        steps : sequence of str
            One of a task's `calls`.
        backend : str
            Its name.
        part : str
            "3/8" for the third of a task's eight `parts`; "" for the task itself.
        """
        given = ["step", "--file", self.target, "--backend", backend]
        given += [word for step in steps for word in ("--step", step)]
        if self.request.until:
            given += ["--until", self.request.until]
        if self.home.config.environment != "dev" or os.environ.get("PENSTOCK_ENV", "dev") != "dev":
            given += ["--env", self.home.config.environment]
        settings: Mapping[str, str] = self.request.extra.get("set", {})
        given += [word for path, text in settings.items() for word in ("--set", f"{path}={text}")]
        given += ["--part", part] if part else []
        return given + (["--full"] if self.request.extra.get("full") else [])

    def command(
        self, steps: Sequence[str], backend: str, run: str, params: Mapping[str, Any] | None = None, part: str = ""
    ) -> list[str]:
        """The whole command line of one start of the worker, for no shell.

        Parameters
        ----------
        run : str
            The backend's own id of the run.
        params : dict, optional
            Parameters that this run sets; those that the declaration was compiled with by default.
        part : str
            As in `arguments`.
        """
        set_here = {**self.request.params, **(params or {})}
        words = [word for name, value in set_here.items() for word in ("--param", f"{name}={text_of(value)}")]
        return [self.python, "-P", "-m", WORKER, *self.arguments(steps, backend, part), "--run", run, *words]


def text_of(value: Any) -> str:
    """A parameter's value as the command line takes it.

    Examples
    --------
    >>> text_of(True), text_of(3)
    ('true', '3')
    """
    return str(value).lower() if isinstance(value, bool) else str(value)


def beside(declared: Any, caller: str) -> Any:
    """A path as seen from the calling file, where the file is there; anything else as it is.

    Parameters
    ----------
    declared : Workflow, Flow, Ref, str or path
    caller : str
        Path of the file that names it; "" for none.
    """
    if not isinstance(declared, str | os.PathLike):
        return declared
    text = os.fspath(declared)
    file, colon, variable = text.rpartition(":")
    path = file if colon and variable.isidentifier() else text
    found = os.path.join(os.path.dirname(os.path.abspath(caller)), path) if caller else path
    if os.path.isfile(found):
        return f"{found}:{variable}" if path == file and colon else found
    return text


def compiled(
    declared: Any,
    *,
    group: str = "part",
    parts: int = MOST_PARTS,
    until: str | None = None,
    params: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    env: str | None = None,
    python: str | None = None,
    file: str = "",
) -> Compiled:
    """Make a declaration ready for a backend; nothing of it runs but the import of its file, in a process of its own.

    Parameters
    ----------
    declared : Workflow, Flow, Ref, or str
        In hand, as an imported file declares it, or the path "churn.py" or "churn.py:variable".
    group : {"part", "step", "workflow"}, default="part"
        Steps that make one task.
    parts : int
        At most so many parts of a mapped step; less than 2 divides none.
    until : str, optional
        Last step.
    params : dict, optional
        Parameters that every run sets.
    extra : dict, optional
        "set": path → value of the declaration's own parameters; "full".
    env : str, optional
        Environment whose settings hold.
    python : str, optional
        Path of the Python that runs the steps; this one by default.
    file : str
        Where the steps' machine has the declaring file, when that is another place.

    Raises
    ------
    UsageError
        No file declares it; the steps run in processes that must be able to import it.
    PenstockError
    """
    target = find(declared)
    if target.exploratory:
        what = "only this process holds it, and the steps run in others"
        raise UsageError(what, hint="write it to a file, and name that file or import it")
    with _in(env):
        return _compiled(
            target, group=group, parts=parts, until=until, params=params, extra=extra, python=python, file=file
        )


@contextlib.contextmanager
def _in(env: str | None) -> Iterator[None]:
    """Let an environment of the project hold while a flow is compiled, and no longer: another may stand beside it."""
    before = os.environ.get("PENSTOCK_ENV")
    if env is not None:
        os.environ["PENSTOCK_ENV"] = env
    try:
        yield
    finally:
        if env is not None and before is not None:
            os.environ["PENSTOCK_ENV"] = before
        elif env is not None:
            os.environ.pop("PENSTOCK_ENV", None)


def _compiled(
    target: Found,
    *,
    group: str,
    parts: int,
    until: str | None,
    params: Mapping[str, Any] | None,
    extra: Mapping[str, Any] | None,
    python: str | None,
    file: str,
) -> Compiled:
    home = open_home(target.file)
    request = Request(
        target.file,
        target.variable,
        params={name: text_of(value) for name, value in (params or {}).items()},
        until=until,
        extra=dict(extra or {}),
    )
    server = open_server(home, request, WORKER)
    try:
        graph = server.opened()
    finally:
        server.close()
    return Compiled(home, graph, compile_flow(graph, group, parts), request, python or sys.executable, file=file)
