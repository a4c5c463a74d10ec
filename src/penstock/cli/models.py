"""`penstock models`: workflows, or the versions of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import Json, Quiet

if TYPE_CHECKING:
    from penstock.core.ports import Home

Name = Annotated[
    str | None,
    typer.Argument(metavar="[NAME|FILE]", show_default=False, help="A workflow; an overview of all by default."),
]


def command(name: Name = None, as_json: Json = False, quiet: Quiet = False) -> int:
    """List."""
    from penstock.cli.projects import here_of

    home = here_of(name)
    if name is None:
        _all(home, as_json=as_json)
    else:
        _one(home, name, as_json=as_json, quiet=quiet)
    return 0


def _all(home: Home, *, as_json: bool) -> None:
    from penstock.cli.output import columns, document, moment, say
    from penstock.lifecycle.records import overview

    found = overview(home)
    if as_json:
        document(found)
        return
    if not found:
        say("no versions yet: `penstock run` makes one")
        return
    rows = [
        [one["workflow"], one["champion"] or "none", str(one["versions"]), moment(one["since"]), one["why"]]
        for one in found
    ]
    for line in columns(["workflow", "champion", "versions", "since", "why"], rows, right=[2]):
        say(line)


def _one(home: Home, name: str, *, as_json: bool, quiet: bool) -> None:
    from penstock.cli.output import columns, document, moment, say
    from penstock.lifecycle.figures import figure_text
    from penstock.lifecycle.naming import workflow_of
    from penstock.lifecycle.records import standings

    workflow = workflow_of(home, name)
    found = standings(home, workflow)
    if as_json:
        document([one.to_json() for one in found])
        return
    rows = [
        [
            one.version.name,
            ", ".join(one.aliases),
            one.outcome,
            figure_text(one.figures[one.primary]),
            moment(one.version.entry.at),
            f"run:{one.version.body['run'][:4]}" if one.version.body.get("run") else "",
        ]
        for one in found[: 1 if quiet else None]
    ]
    for line in columns(["version", "alias", "gate", "cross-validated", "registered", "run"], rows):
        say(line)
