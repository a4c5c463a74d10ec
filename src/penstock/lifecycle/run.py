"""Running a declaration: plan it, run what must run, and say how it ended."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from penstock.core.facts import Facts
from penstock.core.flow import Graph, Node
from penstock.core.plan import Plan
from penstock.core.ports import Home
from penstock.core.run import Group, Run, SourceStat
from penstock.engine import processes
from penstock.engine.events import Event, Listener, silent
from penstock.engine.fetch import Fetcher
from penstock.engine.gather import gather
from penstock.engine.handle import Server
from penstock.engine.local import Effects, Execution, Outcome
from penstock.engine.planner import plan
from penstock.engine.pool import Pool
from penstock.errors import PenstockError, StoreError, UsageError, bounded
from penstock.lifecycle.alive import mark
from penstock.lifecycle.code_state import code_state
from penstock.lifecycle.kept import costs, evidence, searched
from penstock.lifecycle.kept_code import kept
from penstock.lifecycle.machine import machine
from penstock.lifecycle.mirror import tell_begun, tell_run
from penstock.lifecycle.release import policy
from penstock.lifecycle.requests import check_fits
from penstock.lifecycle.versions import who_am_i

if TYPE_CHECKING:  # what acts for a workflow is loaded where there is one
    from penstock.lifecycle.attempt import Attempt, Rehearse

TURNS = 3
"""How often something is done at most where another run spends the level at which it decided."""
MIRRORED = ("run", "try", "decide")
"""Kinds of runs that another system may be told of."""
MOST_RECIPES = 200
"""A run that reuses everything keeps the recipes of a flow of up to this many steps."""


class Actor(Protocol):
    """What acts on the ledger for a run's effect steps: an attempt at a champion, or a look at the world."""

    def effects(self) -> Effects:
        """Entry → what does it."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for.

    Attributes
    ----------
    file : str
        The file that declares it, absolute.
    variable : str or None
        Which declaration of the file.
    what : str
        "run", "try", "audit" or "monitor".
    params : dict
        Parameters given as text.
    force : tuple of str
        Step ids to run whatever is known.
    until : str or None
        Last step to run.
    flags : dict
        Settings given on the command line.
    refresh : tuple of str
        Queries to read now whatever their policy says.
    extra : dict
        Passed on to the process that imports the file.
    note : str
        Kept with the run.
    allow_dirty : bool
        Code that no commit holds may become champion of a shared ledger, on record.
    exploratory : bool
        What runs is held by a process rather than by a file: nothing is registered, and the hold-out stays closed.
    """

    file: str
    variable: str | None = None
    what: str = "run"
    params: Mapping[str, str] = field(default_factory=dict)
    force: tuple[str, ...] = ()
    until: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    refresh: tuple[str, ...] = ()
    allow_dirty: bool = False
    exploratory: bool = False


Opener = Callable[[Home], Server]
"""Gives the process that holds what is to run, not started yet."""


@dataclass(slots=True)
class Report:
    """How a run ended.

    Attributes
    ----------
    graph : Graph
    outcome : Outcome
    attempt : Attempt or None
        For a workflow that was run to its end.
    wall_s : float
        Seconds, the import of the file included.
    page : str
        Path of the version's HTML report, written when there was something new to tell; else "".
    page_fault : str
        Why it could not be written, or "".
    """

    graph: Graph
    outcome: Outcome
    attempt: Attempt | None = None
    wall_s: float = 0.0
    page: str = ""
    page_fault: str = ""

    @property
    def error(self) -> PenstockError | None:
        """The first failure."""
        return self.outcome.error

    @property
    def exit_code(self) -> int:
        """0 done, 4 refused, 7 undecided, or the failure's own."""
        if self.outcome.error is not None:
            return self.outcome.error.exit_code
        a = self.attempt
        if a is None or a.passed or not self.decides:
            return 0
        if a.passed is None or (a.verdict is not None and a.verdict["outcome"] == "not enough evidence"):
            return 7
        return 4

    @property
    def decides(self) -> bool:
        """Whether the run was to go as far as the gate."""
        return any(node.id == "gate" for node in self.graph.nodes)

    @property
    def idle(self) -> bool:
        """Whether everything was reused and nothing was decided anew."""
        states = self.outcome.states.values()
        return bool(states) and not any(state in ("done", "failed") for state in states)

    def value(self, home: Home, step: str, output: str = "") -> Any:
        """The value of a step that is done, read from the store."""
        return home.formats.load(self.outcome.artifacts[step, output], home.objects)


def open_server(home: Home, request: Request, entry: str | Opener) -> Server:
    """Start the process that imports the file; it works while the ledger is being opened.

    Parameters
    ----------
    entry : str or callable
        Module of the worker's process entry, "penstock.worker"; told by the caller, which may know it. Or what gives
        another process than one that imports the file.
    """
    environment = processes.environment(jobs_of(home))
    server = Server(worker_command(entry), environment) if isinstance(entry, str) else entry(home)
    server.start()
    server.send_open(
        {
            "file": request.file,
            "variable": request.variable,
            "root": home.config.root,
            "what": request.what,
            "params": dict(request.params),
            "until": request.until,
            "flags": {k: v for k, v in request.flags.items() if v is not None},
            "extra": dict(request.extra),
        }
    )
    return server


def worker_command(entry: str) -> list[str]:
    """Command line of a process entry; `-P` keeps the working directory off the import path."""
    import sys

    return [sys.executable, "-P", "-m", entry, "serve"]


def jobs_of(home: Home) -> int:
    """Steps that run at once: as configured, else one a core."""
    return home.config.jobs or processes.cores()


def fetcher_of(home: Home) -> Fetcher:
    """What fetches files at URLs, into a folder of the project."""
    return Fetcher(fetched(home), home.config.hosts)


def fetched(home: Home) -> str:
    """The folder of the project in which files at URLs are kept."""
    return os.path.join(home.config.root, ".penstock", "fetched")


def make_plan(home: Home, request: Request, entry: str | Opener) -> tuple[Graph, Plan, Facts]:
    """What a run would do and why; nothing runs but the import of the file.

    Raises
    ------
    PenstockError
    """
    server = open_server(home, request, entry)
    try:
        graph = server.opened()
    finally:
        server.close()
    _check_forced(graph, request.force)
    facts, seen = facts_of(home, graph, request)
    if seen:
        with contextlib.suppress(StoreError):  # what is remembered of files saves time only: a reader may plan too
            home.ledger.commit(Group(sources=seen))
    return graph, plan(graph, facts), facts


def run(
    home: Home,
    request: Request,
    entry: str | Opener,
    *,
    rehearse: Rehearse,
    listen: Listener = silent,
    began: Callable[[Graph, Run], None] = lambda *_: None,
) -> Report:
    """Run a declaration; again where another run has spent the level of its look meanwhile, at the next one.

    Parameters
    ----------
    rehearse : callable
        Replays a version's golden rows over HTTP.
    listen : callable
        Told of each step.
    began : callable
        Told of the flow and the run before its first step.

    Returns
    -------
    Report
        A failed step does not raise; the report has it.

    Raises
    ------
    PenstockError
        The file or its declaration has a fault, or a source is not there.
    CancelledError
    """
    start = time.perf_counter()
    attempts: list[Attempt] = []

    def act(graph: Graph, record: Run) -> Attempt | None:
        attempt = attempt_of(home, graph, record, request, rehearse)
        attempts.extend([attempt] if attempt is not None else [])
        return attempt

    for _ in range(TURNS):
        attempts.clear()
        graph, outcome = carry_out(home, request, entry, act, listen=listen, began=began)
        report = Report(graph, outcome, attempts[0] if attempts else None, time.perf_counter() - start)
        conclude(home, report)
        if report.attempt is None or not report.attempt.overtaken:
            break
        request = replace(request, force=(), refresh=())  # that was done
    return report


def conclude(home: Home, report: Report) -> None:
    """Put on record how a run ended, write the page of the version that came of it, and have it mirrored."""
    ours = report.outcome.run.kind != "try" or report.error is not None  # a try puts its own figures on record
    if ours:
        _put_end_on_record(home, report)
    _write_page(home, report)
    if ours and not report.idle:
        tell_run(home, report.outcome.run.id)


def _write_page(home: Home, report: Report) -> None:
    """Write the version's report; whatever is wrong with the page does not undo what the run achieved."""
    attempt = report.attempt
    if attempt is None or attempt.version is None or not (attempt.new or attempt.ruled or attempt.promoted):
        return
    from penstock.lifecycle.report import write_report

    try:
        report.page = write_report(home, attempt.version)
    except Exception as error:
        report.page_fault = bounded(f"{type(error).__name__}: {error}", 300)


def carry_out(
    home: Home,
    request: Request,
    entry: str | Opener,
    act: Callable[[Graph, Run], Actor | None],
    *,
    listen: Listener = silent,
    began: Callable[[Graph, Run], None] = lambda *_: None,
) -> tuple[Graph, Outcome]:
    """Import, gather, execute: what every kind of run has in common.

    Parameters
    ----------
    act : callable
        Gives what acts for the effect steps of a flow, or None where it has none.

    Raises
    ------
    PenstockError, CancelledError
        As `run`.
    """
    server = open_server(home, request, entry)
    try:
        graph = server.opened()
        _check_forced(graph, request.force)
        facts, seen = facts_of(home, graph, request)
        check_fits(graph, facts, home.config)
        info = info_of(home, graph, request)
        record = Run(os.urandom(8).hex(), graph.name, request.what, "running", time.time(), info=info)
        actor = act(graph, record)
        began(graph, record)

        def code() -> dict[str, Any]:
            return {} if request.exploratory else code_state(home, graph, request.file) | kept(home, graph)

        def first() -> None:
            if request.what in MIRRORED:
                tell_begun(home, record)

        listening = _recalling(info, listen, code, first)
        execution = _execution(home, graph, facts, seen, record, server, actor, listening)
        try:
            return graph, execution.execute()
        except BaseException:  # cancelled, or a fault of ours: nobody else tells of its end
            if request.what in MIRRORED:
                tell_run(home, record.id)
            raise
    finally:
        server.close()


def _recalling(
    info: dict[str, Any], listen: Listener, code: Callable[[], dict[str, Any]], first: Callable[[], None]
) -> Listener:
    """Keep the recipes of a run that reuses everything: it has no rows of steps by which to tell of them.

    Of one in which a step runs, keep the state of its code as it is when the first one starts; `first` is called then.
    """
    recipes: dict[str, str] = {}
    info["recipes"] = recipes

    def told(event: Event) -> None:
        if event.kind == "reused" and event.decision is not None and event.decision.recipe is not None:
            recipes[event.step] = event.decision.recipe
        if event.kind in ("started", "done", "failed") or len(recipes) > MOST_RECIPES:
            info.pop("recipes", None)
        if event.kind == "started" and "code" not in info:
            info["code"] = code()
            first()
        listen(event)

    return told


def facts_of(home: Home, graph: Graph, request: Request) -> tuple[Facts, list[SourceStat]]:
    """The facts; a try or an audit takes the newest snapshot of a query rather than ask the database."""
    from penstock.core.names import did_you_mean

    queries = [node.id for node in graph.nodes if node.refresh is not None]
    for step in request.refresh:
        if step not in queries:
            there = f"there are {', '.join(queries)}" if queries else "no source of this file is a query"
            raise UsageError(f"--refresh {step}: no such query{did_you_mean(step, queries)}", hint=there)
    keep = request.what in ("try", "audit")
    facts, seen = gather(
        graph, home.ledger, home.objects, request.force, fetcher_of(home), refresh=request.refresh, keep=keep
    )
    facts.cpu = str(machine()["cpu"])
    return facts, seen


def _check_forced(graph: Graph, forced: tuple[str, ...]) -> None:
    from penstock.core.names import did_you_mean

    known = [node.id for node in graph.nodes]
    for step in forced:
        if step not in known:
            near = did_you_mean(step, known)
            raise UsageError(f"--force {step}: no such step{near}", hint=f"there are {', '.join(known)}")


def info_of(home: Home, graph: Graph, request: Request) -> dict[str, Any]:
    """What is kept with the run's row; files are told relative to the project's root."""
    root = home.config.root
    file = os.path.relpath(request.file, root)
    info: dict[str, Any] = {"file": file, "who": who_am_i(), "params": dict(graph.params), "process": mark()}
    if request.exploratory:  # there is no file from which the same could be run again
        info = {"exploratory": True} | {name: value for name, value in info.items() if name != "file"}
    told = graph.about.get("parameters", {})
    info |= {"parameters": told["declared"], "defaults": told["default"]} if told else {}
    info |= {"set": graph.about["set"]} if "set" in graph.about else {}
    sources = {node.id: node for node in graph.nodes if node.path is not None}
    if len(sources) <= MOST_RECIPES:
        info["sources"] = {step: _place(node, root) for step, node in sources.items()}
    if request.variable:
        info["variable"] = request.variable
    if request.note:
        info["note"] = request.note
    return info


def _place(node: Node, root: str) -> str:
    """Where a source lies, as people are told."""
    path = node.path or ""
    shown = path if "://" in path else os.path.relpath(path, root)
    return f"{shown} and {len(node.more):,} more" if node.more else shown


def attempt_of(home: Home, graph: Graph, record: Run, request: Request, rehearse: Rehearse) -> Attempt | None:
    """What acts for the effect steps of a workflow; None for a flow without any."""
    if not any(node.kind == "effect" for node in graph.nodes):
        return None
    from penstock.lifecycle.attempt import Attempt

    release = policy(home.config, graph.about.get("release"))
    allowed = request.allow_dirty
    return Attempt(home, graph, record.id, who_am_i(), request.file, rehearse, release, allow_dirty=allowed)


def _execution(
    home: Home,
    graph: Graph,
    facts: Facts,
    seen: list[SourceStat],
    record: Run,
    server: Server,
    actor: Actor | None,
    listen: Listener,
) -> Execution:
    logs = os.path.join(home.config.root, ".penstock", "logs", record.id)
    return Execution(
        graph,
        facts,
        home,
        record,
        lambda: Pool(server, jobs_of(home), logs),
        effects=actor.effects() if actor else {},
        seen=seen,
        listen=listen,
        made=machine(),
        fetcher=fetcher_of(home),
    )


def _put_end_on_record(home: Home, report: Report) -> None:
    """What a run cost and what came of it; a refusal is not a failure: the run's row says which it was."""
    code = report.exit_code
    state = {4: "refused", 7: "undecided"}.get(code)
    if report.idle and state is None:
        return
    row, attempt = report.outcome.run, report.attempt
    info = dict(row.info) | costs(home, report.outcome) | evidence(home, report.outcome)
    info |= searched(home, report.outcome)
    if attempt is not None and attempt.version is not None:
        info |= {"version": attempt.version.number, "champion": bool(attempt.promoted)}
    if state is not None or "version" in info:
        info |= {"exit": code}
    if info == row.info and state in (None, row.state):
        return
    report.outcome.run = replace(row, state=state or row.state, info=info)
    home.ledger.commit(Group(runs=[report.outcome.run]))
