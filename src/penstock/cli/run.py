"""`penstock run`: take a declaration through every stage."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import (
    AllowDirty,
    Env,
    Force,
    Full,
    Jobs,
    Json,
    Note,
    Params,
    Quiet,
    Refresh,
    Seed,
    Set,
    Target,
    Verbose,
)

if TYPE_CHECKING:
    from penstock.cli.progress import Progress
    from penstock.lifecycle.run import Report

MOST_LINES = 20
"""Lines of a first run's output, in all."""

IDLE = "nothing to do: all steps reused; no look spent"
EPILOG = "Exit codes: 0 done, 2 declaration, 3 data, 4 refused, 5 a step failed, 7 not enough evidence, 130 cancelled."


def command(
    file: Target = None,
    param: Params = None,
    settings: Set = None,
    force: Force = None,
    refresh: Refresh = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="STEP", show_default=False, help="Stop after this step.")
    ] = None,
    jobs: Jobs = None,
    seed: Seed = None,
    note: Note = "",
    final: Annotated[
        bool, typer.Option("--final", help="Open the final hold-out (Split(final=)) too; that goes on record.")
    ] = False,
    on: Annotated[
        str | None,
        typer.Option(
            "--on", metavar="BACKEND", show_default=False, help="dask, dask://HOST:8786, prefect, kfp://HOST."
        ),
    ] = None,
    env: Env = None,
    allow_dirty: AllowDirty = False,
    full: Full = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Run and tell; the exit code says how it ended."""
    from penstock.cli.progress import Progress
    from penstock.cli.projects import SERVER, WORKER, parameters, target
    from penstock.lifecycle.rehearse import rehearse_with
    from penstock.lifecycle.run import Request, run
    from penstock.lifecycle.sweep import given_of, single

    flags = {"jobs": jobs, "seed": seed}
    found = target(file, env, flags)
    named = title(found.file, found.variable)
    request = Request(
        found.file,
        found.variable,
        params=parameters(param),
        force=tuple(force or ()),
        refresh=tuple(refresh or ()),
        until=until,
        flags=flags,
        note=note,
        allow_dirty=allow_dirty,
        extra=({"set": single(given_of(settings))} if settings else {})
        | {name: True for name, asked in (("final", final), ("full", full)) if asked},
    )
    with Progress(found.home, named, quiet=quiet or as_json, verbose=verbose) as progress:
        if on is not None:
            from penstock.cli.elsewhere import run_on

            report = run_on(found, request, on, progress)
        else:
            report = run(
                found.home, request, WORKER, rehearse=rehearse_with(SERVER), listen=progress, began=progress.began
            )
        progress.flush()
    return tell(report, progress, named, as_json=as_json)


def tell(report: Report, progress: Progress, file: str, *, as_json: bool) -> int:
    """Say how a run ended, as a document or for a person; its exit code. A failure is raised for a person."""
    from penstock.cli.output import document

    if as_json:
        document(to_json(report))
        return report.exit_code
    if report.error is not None:
        raise report.error
    conclude(report, progress, file)
    return report.exit_code


def title(file: str, variable: str | None = None) -> str:
    """A file, and the variable that was named with it, as a person would name it from here.

    Examples
    --------
    >>> title("churn.py"), title("churn.py", "weekly")
    ('churn.py', 'churn.py:weekly')
    """
    relative = os.path.relpath(file)
    shown = file if relative.startswith("..") else relative
    return f"{shown}:{variable}" if variable else shown


def conclude(report: Report, progress: Progress, file: str) -> None:
    """Say how it ended, what to know and what to do next, within the lines that are left."""
    from penstock.cli.output import clean, clip, duration, paint, say, width
    from penstock.lifecycle import story

    end = story.ending(report)
    colour = {"✗": "red", "?": "yellow"}.get(end.mark, "green")
    took = duration(report.wall_s)
    told = [] if progress.quiet else [f"note  {clip(clean(text), width() - 6)}" for text in story.of_the_run(report)]
    if report.idle:
        for line in (_idle_line(report, took), *told):
            say(line)
        if report.exit_code or end.state == "challenger":  # what holds it back is no news, but still in force
            say(paint(f"{end.mark} {clean(end.sentence)}", colour))
        return
    if end.state == "done":
        from penstock.cli.progress import counts_text

        for line in (paint(f"{end.mark} {counts_text(report.outcome.run.counts)} · {took}", colour), *told):
            say(line)
        return
    last = [paint(f"{end.mark} {clean(end.sentence)} · {took}", colour)]
    attempt = report.attempt
    verdict = attempt.verdict if attempt is not None and end.state in ("champion", "challenger") else None
    if verdict is not None and not progress.quiet:
        last.insert(0, f"  {clean(verdict['sentence'])}")
    for line in last:
        say(line)
    if not progress.quiet:
        _advise(report, progress, file, MOST_LINES - progress.printed - len(last))


def _advise(report: Report, progress: Progress, file: str, room: int) -> None:
    """What to know, where the page is, and what to do next."""
    from penstock.cli.output import clean, clip, say, width
    from penstock.lifecycle import story

    show = story.next_commands(report, file)[1]
    commands = _commands(report, file, progress.home.config.root)
    remarks = [*story.of_the_run(report), *story.remarks(report.graph, progress.known, progress.load)]
    for text in _fitting(remarks, room - 1 - bool(report.page), show):
        say(f"note  {clip(clean(text), width() - 6)}")
    if report.page:
        say(f"page  {os.path.relpath(report.page)}")
    elif report.page_fault:
        say(f"note  the page was not written: {clip(clean(report.page_fault), width() - 33)}")
    say(f"next  {' · '.join(commands)}")


def _commands(report: Report, file: str, root: str) -> list[str]:
    """What to do next; from outside the project, where a name alone finds nothing, its folder comes first."""
    from penstock.lifecycle import story

    here = os.path.relpath(os.getcwd(), root)
    if here.split(os.sep)[0] != os.pardir:
        return story.next_commands(report, shlex.quote(file))
    return [
        f"cd {shlex.quote(os.path.relpath(root))}",
        *story.next_commands(report, shlex.quote(os.path.relpath(file, root))),
    ]


def _fitting(remarks: list[str], room: int, more: str) -> list[str]:
    """As many remarks as lines are left, the last one telling where the others stand."""
    if len(remarks) <= room:
        return remarks
    shown = remarks[: max(room - 1, 0)]
    return [*shown, f"{len(remarks) - len(shown)} more: {more}"] if room > 0 else []


def _idle_line(report: Report, took: str) -> str:
    """The one line of a run that had nothing to do."""
    attempt = report.attempt
    version = f" · {attempt.version.name}" if attempt is not None and attempt.version is not None else ""
    reigns = attempt.reigning if attempt is not None else ""
    other = f" · the champion is {reigns}" if version and reigns and not version.endswith(f" {reigns}") else ""
    if other and attempt is not None and attempt.verdict is None and attempt.reason:
        other = f" · {attempt.reason}"  # why it was not even compared
    return f"{IDLE}{version}{other} · {took}"


def to_json(report: Report) -> dict[str, Any]:
    """A run as one JSON document."""
    from penstock.lifecycle import story

    attempt, outcome = report.attempt, report.outcome
    steps = [
        {"step": node.id, "state": outcome.states.get(node.id), "reason": _reason(report, node.id)}
        for node in report.graph.nodes
    ]
    return {
        "flow": report.graph.name,
        "run": outcome.run.id,
        "state": outcome.run.state,
        "exit_code": report.exit_code,
        "idle": report.idle,
        "ending": None if report.error is not None else story.ending(report).sentence,
        "version": attempt.version.name if attempt is not None and attempt.version is not None else None,
        "champion": bool(attempt is not None and attempt.promoted),
        "verdict": dict(attempt.verdict) if attempt is not None and attempt.verdict is not None else None,
        "looked": bool(attempt is not None and attempt.looked),
        "counts": dict(outcome.run.counts),
        "steps": steps,
        "wall_s": round(report.wall_s, 3),
        "error": report.error.to_json() if report.error is not None else None,
    }


def _reason(report: Report, step: str) -> str:
    decision = report.outcome.decisions.get(step)
    return decision.because if decision is not None else ""
