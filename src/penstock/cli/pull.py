"""`penstock pull`: bring versions from another environment; or write one as files that need no Penstock."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.options import Env, Json, Quiet


def command(
    things: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VERSION|NAME|DIR",
            show_default=False,
            help="Versions to bring, everything by default; or, without --from, one version and a folder.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="ENV", show_default=False, help="The table [env.ENV]; the only other by default."
        ),
    ] = None,
    env: Env = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Bring bytes, then manifests, then rows; or export."""
    from penstock.cli.moving import export_version, move, tell
    from penstock.cli.projects import here, other_home

    near, named = here(env=env), things or []
    if source is None and len(named) == 2 and "@" not in named[1]:
        export_version(near, named[0], named[1], as_json=as_json, quiet=quiet)
        return 0
    far = other_home(near, source, "--from")
    tell(move(far, near, named), near, as_json=as_json, quiet=quiet)
    return 0
