"""`penstock report`: the report of a version or a try, as one HTML file or as a card in Markdown."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import Env, Json, Quiet
from penstock.core.run import Run

if TYPE_CHECKING:
    from penstock.core.ports import Home
    from penstock.lifecycle.versions import Version

EPILOG = (
    "Without --out the file is .penstock/reports/NAME-NUMBER.html (of a run: run-ID.html). It loads nothing and "
    "holds no script. Values of the columns that the setting `redact` names are left out too."
)


class Form(StrEnum):
    """What is written."""

    html = "html"
    md = "md"


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME[@VERSION]|RUN|FILE]",
            show_default=False,
            help="A version such as churn@7, or a run: run:3f9c, last. By default the champion, else the newest.",
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--out", "--output", "-o", metavar="FILE", show_default=False, help="Write it there.")
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option(
            "--format", show_default=False, help="A page, or a card in Markdown; by FILE's ending, else html."
        ),
    ] = None,
    redact: Annotated[
        list[str] | None,
        typer.Option(
            "--redact", metavar="COLUMN", show_default=False, help="Show no value of this column. Repeatable."
        ),
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
    found = _found(home, name)
    chosen = form or (Form.md if str(output).endswith(".md") else Form.html)
    path = write_report(home, found, output, form=chosen.value, redact=redact or ())
    about = {"run": found.id} if isinstance(found, Run) else {"version": found.name}
    if as_json:
        document({**about, "path": path, "bytes": os.path.getsize(path)})
        return 0
    relative = os.path.relpath(path)
    shown = clean(path if relative.startswith("..") else relative)
    told = f"run {found.id[:4]}" if isinstance(found, Run) else found.name
    say(shown if quiet else f"{told}: {shown}")
    return 0


def _found(home: Home, name: str | None) -> Version | Run:
    """A version; of a run, the version that it registered, else the run itself."""
    from penstock.lifecycle.naming import is_run
    from penstock.lifecycle.versions import resolve_run, version

    if name is None or not is_run(name):
        return _version(home, name)
    found = resolve_run(home.ledger, name)
    number = found.info.get("version")
    return found if number is None else version(home.ledger, found.flow, number)


def _version(home: Home, name: str | None) -> Version:
    """The version that is meant: as named, else the champion, else the newest."""
    from penstock.lifecycle.naming import workflow_of
    from penstock.lifecycle.versions import CHAMPION, alias, resolve, versions

    if name is not None and "@" in name:
        return resolve(home.ledger, name)
    workflow = workflow_of(home, name)
    champion, _ = alias(home.ledger, workflow, CHAMPION)
    return champion if champion is not None else versions(home.ledger, workflow)[-1]
