"""`penstock lineage`: what a version was made of, or what was made of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Json, Quiet

if TYPE_CHECKING:
    from penstock.core.ports import Home


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[VERSION|FILE|DIGEST]",
            show_default=False,
            help="churn@7 to go back; a data or code file, or an artifact's digest, to go forward.",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Follow and tell."""
    import os

    from penstock.cli.output import document
    from penstock.cli.projects import here
    from penstock.lifecycle.lineage import back, forward, is_digest

    home = here(_project(name), make=False)
    if name is not None and (os.path.isfile(name) or is_digest(name)):
        found = forward(home, name)
        document(found) if as_json else _tell_forward(found)
        return 0
    found = back(home, _version(home, name))
    document(found) if as_json else _tell_back(found, quiet=quiet)
    return 0


def _project(name: str | None) -> str:
    """A path of the project that is asked: the one we stand in, else that of the file."""
    import os

    from penstock.project import FOLDER, find_root

    stands = os.path.isdir(os.path.join(find_root("."), FOLDER))
    return name if name is not None and os.path.exists(name) and not stands else "."


def _version(home: Home, name: str | None) -> Any:
    from penstock.lifecycle.naming import workflow_of
    from penstock.lifecycle.versions import resolve

    return resolve(home.ledger, workflow_of(home, None) if name is None else name)


def _tell_forward(found: dict[str, Any]) -> None:
    from penstock.cli.output import clean, paint, say

    say(paint(f"{clean(found['of'])} · {found['digest'][:12]}…", "bold"))
    if not found["versions"]:
        say("  in no version, as it is now")
    for one in found["versions"]:
        say(f"  → {one['version']} by {clean(', '.join(one['steps'][:8]))}")


def _tell_back(found: dict[str, Any], *, quiet: bool) -> None:
    from penstock.cli.output import clean, moment, paint, say

    run = f" · run:{found['run'][:4]}" if found["run"] else ""
    say(paint(f"{found['version']} · bundle {found['bundle'][:12]}…{run} · {moment(found['registered'])}", "bold"))
    for source in found["data"]:
        file = source["file"] or source["step"]
        say(f"  data   {clean(file)} · sha256 {source['digest'][:12]}… · now {source['now']}")
    if quiet:
        return
    git = found["git"]
    if git:
        say(f"  git    {git['commit'][:12]}{' with changes not committed' if git.get('dirty') else ''}")
    for name in found["code"]:
        say(f"  code   {clean(_definition(name))}")
    libraries = " · ".join(f"{name} {version}" for name, version in found["environment"].items())
    say(f"  with   {clean(libraries)}")
    if found["machine"]:
        say(f"  on     {clean(found['machine'])}")
    if found["files"]:
        say(f"  stored {clean(', '.join(found['files'][:20]))}")
    say(f"  steps  {clean(' → '.join(found['steps']))}")


def _definition(part: str) -> str:
    module, colon, name = part.partition(":")
    return f"{name} in {module.replace('.', '/')}.py" if colon else part
