"""`penstock monitor`: traffic or a table against what the champion was trained and judged on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Env, Jobs, Json, Quiet, Target, Verbose

if TYPE_CHECKING:
    from penstock.lifecycle.watch import Looked

MOST_STILL = 3
"""Columns shown below those that moved: the likeliest to be next."""

EPILOG = "Exit codes: 0 no alarm, or not enough rows to tell (it says which); 8 alarm."


def command(
    file: Target = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="FILE", show_default=False, help="A table; the prediction log by default."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", show_default=False, help="Only the log since 7d ago, or 2026-11-01."),
    ] = None,
    jobs: Jobs = None,
    env: Env = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Look and tell."""
    import os

    from penstock.cli.output import document
    from penstock.cli.progress import Progress
    from penstock.cli.projects import WORKER, instant, target
    from penstock.errors import SourceNotFoundError
    from penstock.lifecycle.naming import workflow_of
    from penstock.lifecycle.run import Request
    from penstock.lifecycle.watch import look

    if data is not None and not os.path.exists(data):
        raise SourceNotFoundError(f"there is no file {data}", hint="--data names a CSV or Parquet file")
    found = target(file, env, {"jobs": jobs})
    named = f"{found.file}:{found.variable}" if found.variable else found.file
    request = Request(found.file, found.variable, flags={"jobs": jobs})
    with Progress(found.home, file or found.file, quiet=not verbose or as_json, verbose=verbose) as progress:
        looked = look(
            found.home,
            request,
            WORKER,
            workflow_of(found.home, named),
            data=data,
            since=instant(since) if since is not None else None,
            listen=progress,
            began=progress.began,
        )
        progress.flush()
    if looked.outcome.error is not None:
        raise looked.outcome.error
    code = 8 if looked.watch.found["alarm"] else 0
    document(_document(looked, code)) if as_json else _tell(looked, quiet=quiet)
    return code


def _document(looked: Looked, code: int) -> dict[str, Any]:
    version = looked.watch.version
    about = {"version": version.name if version is not None else None, "run": looked.outcome.run.id}
    return about | {"exit_code": code} | dict(looked.watch.found)


def _tell(looked: Looked, *, quiet: bool) -> None:
    from penstock.cli.output import clean, columns, paint, say

    found, version = looked.watch.found, looked.watch.version
    name = version.name if version is not None else looked.watch.workflow
    say(paint(f"{name} · {clean(found['summary'])}", "red" if found["alarm"] else "green"))
    if quiet:
        return
    for alarm in found["alarms"]:
        say(f"  ✗ {clean(alarm['text'])}")
    moved = sum(one["drifted"] for one in found["drift"])
    tested = [[one["column"], *_tested(one)] for one in found["drift"][: moved + MOST_STILL]]
    if tested:
        for line in columns(["column", "", "p, corrected"], tested, right=[2]):
            say(f"  {line}")
    for text in found["notes"]:
        say(f"note  {clean(text)}")
    if found["alarm"]:
        say(f"next  penstock run · penstock rollback {looked.watch.workflow} · penstock log {looked.watch.workflow}")


def _tested(one: dict[str, Any]) -> list[str]:
    p = one["adjusted"]
    return ["✗ moved" if one["drifted"] else "✓", "–" if p is None else f"{p:.2g}"]
