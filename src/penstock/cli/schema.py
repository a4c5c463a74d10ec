"""`penstock schema show|accept`: what the data must look like, as a file to review and commit."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.options import Env, Json, Quiet, Target

ACTIONS = ("show", "accept")
EPILOG = "`accept` is the one verb that writes to your work tree: NAME.schema.toml beside the declaring file."


def command(
    action: Annotated[str, typer.Argument(metavar="show|accept", help="Print the schema, or write its file.")],
    file: Target = None,
    new_holdout: Annotated[
        bool, typer.Option("--new-holdout", help="Of accept: hold other rows out from now on, with an α of their own.")
    ] = False,
    env: Env = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Show or write."""
    import os

    from penstock.cli.output import document, harmless, say
    from penstock.cli.projects import WORKER, target
    from penstock.core.names import did_you_mean
    from penstock.errors import UsageError
    from penstock.lifecycle.run import Request
    from penstock.lifecycle.schemas import accept, present, text_of, validated

    if action not in ACTIONS:
        raise UsageError(
            f"schema {action}{did_you_mean(action, ACTIONS)}", hint="schema show FILE, or schema accept FILE"
        )
    if new_holdout and action != "accept":
        raise UsageError("--new-holdout goes with accept", hint="penstock schema accept FILE --new-holdout")
    found = target(file, env)
    path, schema = validated(found.home, Request(found.file, found.variable), WORKER, new_holdout=new_holdout)
    text, shown = text_of(schema), os.path.relpath(path)
    frozen = present(path)
    if action == "show":
        if as_json:
            document({"file": shown, "frozen": frozen is not None, "schema": schema})
        else:
            say(harmless(frozen if frozen is not None else text), end="")
            if not quiet and frozen is None:
                say(f"inferred, not frozen: `penstock schema accept` writes {shown}", err=True)
        return 0
    changed = accept(path, text)
    if as_json:
        document({"file": shown, "written": changed})
    else:
        say(f"wrote {shown}: review and commit it" if changed else f"{shown} says so already")
    return 0
