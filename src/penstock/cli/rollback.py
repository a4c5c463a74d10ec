"""`penstock rollback`: the champion's last move backwards."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.options import Because, Json, Quiet


def command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FILE]", show_default=False, help="The workflow; the only one by default."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="VERSION", show_default=False, help="An earlier version: 7 or churn@7."),
    ] = None,
    because: Because = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Move the alias and the deployment back, in one transaction."""
    from penstock.cli.output import document, paint, say
    from penstock.cli.projects import here_of
    from penstock.errors import UsageError
    from penstock.lifecycle.naming import workflow_of
    from penstock.lifecycle.promote import rollback
    from penstock.lifecycle.versions import who_am_i

    home = here_of(name)
    workflow = workflow_of(home, name)
    number = None
    if to is not None:
        text = to.removeprefix(f"{workflow}@")
        if not text.isdigit():
            raise UsageError(f"--to {to}: the number of a version of {workflow} is meant", hint="for instance --to 7")
        number = int(text)
    entry = rollback(home, workflow, why=because, who=who_am_i(), to=number)
    now, was = f"{workflow}@{entry.body['version']}", f"{workflow}@{entry.body['previous']}"
    if as_json:
        document({"champion": now, "previous": was, "move": dict(entry.body)})
    else:
        say(paint(f"→ champion: {now} (was {was})", "green"))
        if not quiet:
            say(f"next  penstock log {workflow} · penstock show {now}")
    return 0
