"""`penstock report`: a version's report as one HTML file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import Env, Json, Quiet

if TYPE_CHECKING:
    from penstock.core.ports import Home
    from penstock.lifecycle.versions import Version

EPILOG = "Without --output the file is .penstock/reports/NAME-NUMBER.html. It loads nothing and holds no script."


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME[@VERSION]|FILE]",
            show_default=False,
            help="A version such as churn@7; its champion, or the newest version where it has none, by default.",
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Write it there.")
    ] = None,
    env: Env = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Write the report and say where it is."""
    from penstock.cli.output import clean, document, say
    from penstock.cli.projects import here
    from penstock.lifecycle.naming import is_file, split_file
    from penstock.lifecycle.report import write_report

    home = here(split_file(name)[0] if name is not None and is_file(name) else ".", env, make=False)
    found = _version(home, name)
    path = write_report(home, found, output)
    if as_json:
        document({"version": found.name, "path": path, "bytes": os.path.getsize(path)})
        return 0
    relative = os.path.relpath(path)
    shown = clean(path if relative.startswith("..") else relative)
    say(shown if quiet else f"{found.name}: {shown}")
    return 0


def _version(home: Home, name: str | None) -> Version:
    """The version that is meant: as named, else the champion, else the newest."""
    from penstock.lifecycle.naming import workflow_of
    from penstock.lifecycle.versions import CHAMPION, alias, resolve, versions

    if name is not None and "@" in name:
        return resolve(home.ledger, name)
    workflow = workflow_of(home, name)
    champion, _ = alias(home.ledger, workflow, CHAMPION)
    return champion if champion is not None else versions(home.ledger, workflow)[-1]
