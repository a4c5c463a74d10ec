"""`penstock promote`: make a version the champion by hand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import AllowDirty, Because, Json, Quiet

if TYPE_CHECKING:
    from penstock.lifecycle.versions import Version


def command(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="churn@7, or churn@challenger.")],
    because: Because = "",
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", metavar="SCORE", show_default=False, help="As a new version that decides here."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Although its gate did not pass it; on record.")] = False,
    allow_dirty: AllowDirty = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Move the alias and the deployment, in one transaction."""
    from penstock.cli.output import document, paint, say
    from penstock.cli.projects import here
    from penstock.errors import UsageError
    from penstock.lifecycle.promote import promote
    from penstock.lifecycle.versions import resolve, who_am_i

    if "@" not in version:
        raise UsageError(f"{version!r} names no version", hint=f"name one, as {version}@7 or {version}@challenger")
    home = here(make=False)
    found = resolve(home.ledger, version)
    because = because or _asked(found.name, quiet=quiet or as_json)
    if threshold is not None:
        return _redecide(found, threshold, because, force=force, allow_dirty=allow_dirty, as_json=as_json, quiet=quiet)
    entry = promote(home, found, why=because, who=who_am_i(), force=force, allow_dirty=allow_dirty)
    if as_json:
        body = dict(entry.body) if entry is not None else None
        document({"champion": found.name, "moved": entry is not None, "move": body})
    elif entry is None:
        say(f"{found.name} is the champion already")
    else:
        was = f" (was {found.workflow}@{entry.body['previous']})" if entry.body["previous"] else ""
        say(paint(f"→ champion: {found.name}{was}", "green"))
        if not quiet:
            say(f"next  penstock log {found.workflow} · penstock rollback {found.workflow}")
    return 0


def _redecide(
    found: Version, threshold: float, because: str, *, force: bool, allow_dirty: bool, as_json: bool, quiet: bool
) -> int:
    """A new version of the same estimator, judged, rehearsed and promoted."""
    from penstock.cli.progress import Progress
    from penstock.cli.projects import SERVER, WORKER, target
    from penstock.cli.run import tell, title
    from penstock.lifecycle.redecide import redecide
    from penstock.lifecycle.rehearse import rehearse_with
    from penstock.lifecycle.run import Request

    at = target(found.workflow, None, {})
    with Progress(at.home, title(at.file, at.variable), quiet=quiet or as_json) as progress:
        report = redecide(
            at.home,
            Request(at.file, at.variable),
            WORKER,
            found,
            threshold,
            why=because,
            rehearse=rehearse_with(SERVER),
            force=force,
            allow_dirty=allow_dirty,
            listen=progress,
            began=progress.began,
        )
        progress.flush()
    return tell(report, progress, title(at.file, at.variable), as_json=as_json)


def _asked(name: str, *, quiet: bool) -> str:
    """The reason, asked for where a person sits at a terminal; "" elsewhere."""
    if quiet or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return ""
    try:
        return str(typer.prompt(f"why is {name} to be champion", err=True)).strip()
    except typer.Abort:
        return ""
