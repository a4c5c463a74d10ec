"""`penstock fsck`: whether store and ledger hold what they promise."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from penstock.cli.options import Json, Quiet

EPILOG = "Exit codes: 0 whole, or put right; 1 faults are left."


NEXT = {
    "corrupt": "penstock fsck --repair: moves corrupt objects aside, so that they are made again",
    "missing": "penstock run: steps whose results are missing run again",
}
"""Kind of fault → what to do about it, the first first."""


def command(
    repair: Annotated[
        bool, typer.Option("--repair", help="Move corrupt objects aside; their makers run again.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Append versions that the store tells of and the ledger has lost.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Check and tell."""
    from penstock.cli.output import document
    from penstock.cli.projects import here
    from penstock.lifecycle.versions import who_am_i
    from penstock.store.fsck import fsck
    from penstock.store.rebuild import rebuild as append_lost

    home = here(make=False)
    store: Any = home
    rebuilt = append_lost(home.objects, home.ledger, who=who_am_i()) if rebuild else None
    found = fsck(store.objects, store.ledger, repair=repair)
    left = [one for one in found if one.fault and not one.repaired]
    code = 1 if left else 0
    versions = [f"{entry.stream.partition('/')[0]}@{entry.number}" for entry in rebuilt.entries] if rebuilt else []
    doubtful = list(rebuilt.doubtful) if rebuilt else []
    if as_json:
        findings = [one.to_json() for one in found]
        document({"exit_code": code, "findings": findings, "rebuilt": versions, "doubtful": doubtful})
    else:
        _tell(found, versions, doubtful, quiet=quiet)
    return code


def _tell(found: list[Any], versions: list[str], doubtful: list[str], *, quiet: bool) -> None:
    from penstock.cli.output import clean, paint, say

    if versions:
        say(f"rebuilt {', '.join(versions)}; who was champion is a decision: `penstock promote` makes it again")
    for text in doubtful:
        say(paint(f"? {clean(text)}", "yellow"))
    for one in () if quiet else found:
        mark = paint("✓ put right", "green") if one.repaired else paint("✗" if one.fault else "·", "red")
        say(f" {mark} {one.kind} {clean(one.where)}: {clean(one.what)}")
    left = sum(one.fault and not one.repaired for one in found)
    if left:
        say(paint(f"{left} fault{'s' if left > 1 else ''}", "red"))
        kinds = {one.kind for one in found if one.fault and not one.repaired}
        for line in () if quiet else [text for kind, text in NEXT.items() if kind in kinds][:1]:
            say(f"next  {line}")
    else:
        say(paint("the store and the ledger are whole", "green"))
