"""`penstock push`: bring versions, or all there is, to another environment."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.options import AllowDirty, Because, Env, Json, Quiet

Things = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="VERSION|NAME",
        show_default=False,
        help="churn@7, or churn for its champion; everything by default.",
    ),
]


def command(
    things: Things = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="ENV", show_default=False, help="The table [env.ENV]; the only other by default."),
    ] = None,
    env: Env = None,
    because: Because = "",
    allow_dirty: AllowDirty = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Bring bytes, then manifests, then rows; repeat it after an interruption."""
    from penstock.cli.moving import move, tell
    from penstock.cli.projects import here, other_home

    near = here(env=env)
    far = other_home(near, to, "--to")
    moved = move(near, far, things or [], because=because, allow_dirty=allow_dirty)
    tell(moved, far, as_json=as_json, quiet=quiet)
    return 0
