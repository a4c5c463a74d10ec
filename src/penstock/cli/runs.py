"""`penstock runs`: runs on record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Json, Quiet

if TYPE_CHECKING:
    from penstock.core.run import Run


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", show_default=False, help="Only of this workflow or flow.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 20,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """List, newest first."""
    from penstock.cli.output import columns, document, duration, moment, say
    from penstock.cli.progress import counts_text
    from penstock.cli.projects import here

    home = here(make=False)
    found = home.ledger.runs(flow=name, limit=1 if quiet else limit)
    if as_json:
        document([_json(run) for run in found])
        return 0
    if not found:
        say("no runs yet: `penstock run` makes one")
        return 0
    rows = [
        [
            f"run:{run.id[:4]}",
            run.flow,
            run.called,
            run.state,
            moment(run.started),
            duration(run.ended - run.started) if run.ended else "",
            f"{run.flow}@{run.info['version']}" if "version" in run.info else "",
            counts_text(run.counts),
            run.info.get("note", ""),
        ]
        for run in found
    ]
    header = ["run", "flow", "kind", "state", "started", "took", "version", "steps", "note"]
    for line in columns(header, rows, right=[5]):
        say(line)
    return 0


def _json(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "flow": run.flow,
        "kind": run.kind,
        "state": run.state,
        "started": run.started,
        "ended": run.ended,
        "counts": dict(run.counts),
        "info": dict(run.info),
    }
