"""`penstock serve`: answer over HTTP with a workflow's champion, and follow it."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.options import Quiet


def command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FILE]", show_default=False, help="The workflow; the only one by default."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port; 0 takes a free one.")] = 8000,
    no_log: Annotated[bool, typer.Option("--no-log", help="Do not keep the prediction log.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", show_default=False, help="A further host name to answer to.")
    ] = None,
    token_env: Annotated[
        str, typer.Option("--token-env", metavar="VARIABLE", help="Environment variable that holds the secret.")
    ] = "PENSTOCK_TOKEN",  # noqa: S107  the name of a variable, not a secret
    quiet: Quiet = False,
) -> int:
    """Serve until stopped."""
    from penstock.cli.projects import here_of
    from penstock.lifecycle.naming import workflow_of
    from penstock.lifecycle.versions import resolve
    from penstock.serve.main import check, parse, serve

    home = here_of(name)
    workflow = workflow_of(home, name)
    words = ["--workflow", workflow, "--project", home.config.root, "--host", host, "--port", str(port)]
    words += ["--token-env", token_env]
    if name is not None and (number := name.partition("@")[2]) and number != "champion":
        words += ["--version", str(resolve(home.ledger, name).number)]
    words += (["--no-log"] if no_log else []) + (["--quiet"] if quiet else [])
    for one in allow_host or ():
        words += ["--allow-host", one]
    options = parse(words)
    check(options)
    home.ledger.close()
    return serve(options)
