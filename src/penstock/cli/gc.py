"""`penstock gc`: remove what no decision and no recent run needs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from penstock.cli.options import Json, Quiet


def command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    grace: Annotated[str, typer.Option("--grace", metavar="TIME", help="Objects touched since then stay.")] = "14d",
    keep: Annotated[str, typer.Option("--keep", metavar="TIME", help="Results of runs since then stay.")] = "30d",
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Collect and tell."""
    from penstock.cli.output import document, say, size_text
    from penstock.cli.projects import here, seconds_of
    from penstock.store.gc import collect

    grace_s, keep_s = seconds_of(grace, "--grace"), seconds_of(keep, "--keep")
    store: Any = here(make=False)
    gone = collect(store.objects, store.ledger, grace_s=grace_s, keep_s=keep_s, dry_run=dry_run)
    if as_json:
        document(gone.to_json() | {"dry_run": dry_run})
        return 0
    verb = "would remove" if dry_run else "removed"
    what = f"{gone.objects:,} objects, {size_text(gone.size)}, and {gone.results:,} results"
    say(f"{verb} {what}; {gone.kept:,} objects stay")
    if not quiet and gone.swept:
        say(f"{gone.swept:,} temporary files swept")
    return 0
