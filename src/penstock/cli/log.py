"""`penstock log`: every decision on a workflow: who, when, why, on what evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Json, Quiet

if TYPE_CHECKING:
    from penstock.core.ports import Home

_SHOWN = ("version", "verdict", "final", "alias", "window", "export")


def command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FILE]", show_default=False, help="The workflow; the only one by default."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Looks at the hold-out and deployments too.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 50,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """List, newest first."""
    from penstock.cli.output import clean, columns, document, moment, say
    from penstock.cli.projects import here_of
    from penstock.lifecycle.naming import workflow_of
    from penstock.lifecycle.records import history
    from penstock.lifecycle.schedules import KIND
    from penstock.lifecycle.versions import stream, workflows

    home = here_of(name)
    alone = name is not None and home.ledger.streams(stream(name, KIND))  # of a flow without versions
    workflow = name if name is not None and alone else workflow_of(home, name)
    found = history(home, workflow)
    if as_json:
        document(found)
        return 0
    shown = [one for one in found if every or one["kind"] in _SHOWN]
    rows = []
    for one in shown[: 1 if quiet else limit]:
        why = (
            ""
            if one["kind"] in ("version", "verdict", "window", "export")
            else f" · because {one['why']}"
            if one["why"]
            else ""
        )
        rows.append([moment(one["at"]), clean(one["who"].partition("@")[0]), one["kind"], one["what"] + why])
    for line in columns(["when", "who", "what", ""], rows):
        say(line)
    if not quiet and workflow in workflows(home.ledger):  # another flow has no hold-out
        say(_looks(home, workflow, [one["body"] for one in found if one["kind"] == "look"]))
    return 0


def _looks(home: Home, workflow: str, looks: list[dict[str, Any]]) -> str:
    """How often the hold-out was looked at, and what is left of α for the one that was looked at last."""
    from penstock.lifecycle.looks import standing

    text = f"{len(looks)} look{'s' if len(looks) != 1 else ''} at the hold-out of {workflow}"
    generation = next((one["generation"] for one in looks if "generation" in one), None)
    if generation is None:
        return text
    now = standing(home.ledger, workflow, generation)
    whole = "" if now["looks"] == len(looks) else f", {now['looks']} at the present one"
    return f"{text}{whole}: {now['searches']} of them searched, {now['left']:.2f} of α is left"
