"""`penstock promote`: make a version the champion by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.options import Because, Json, Quiet


def command(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="churn@7, or churn@challenger.")],
    because: Because = "",
    force: Annotated[bool, typer.Option("--force", help="Although its gate did not pass it; on record.")] = False,
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
    home = here()
    found = resolve(home.ledger, version)
    entry = promote(home, found, why=because, who=who_am_i(), force=force)
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
