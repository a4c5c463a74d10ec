"""`penstock gc`: remove what no decision and no recent run needs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from penstock.cli.options import Json, Quiet


def command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", show_default=False, help="Objects touched since then stay.")
    ] = "",
    keep: Annotated[
        str, typer.Option("--keep", metavar="TIME", show_default=False, help="Results of runs since then stay.")
    ] = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Collect and tell."""
    import time

    from penstock.cli.output import document, say, size_text
    from penstock.cli.projects import here, seconds_of
    from penstock.engine.fetch import clear
    from penstock.lifecycle.run import fetched
    from penstock.store.gc import collect

    store: Any = here(make=False)
    grace_s = seconds_of(grace or store.config.grace, "--grace")
    keep_s = seconds_of(keep or store.config.keep, "--keep")
    gone = collect(store.objects, store.ledger, grace_s=grace_s, keep_s=keep_s, dry_run=dry_run)
    files, size = clear(fetched(store), time.time() - max(grace_s, keep_s), dry_run=dry_run)
    if as_json:
        document(gone.to_json() | {"fetched": files, "fetched_size": size, "dry_run": dry_run})
        return 0
    verb = "would remove" if dry_run else "removed"
    what = f"{gone.objects:,} objects, {size_text(gone.size)}, and {gone.results:,} results"
    say(f"{verb} {what}; {gone.kept:,} objects stay, and the rows of all runs and tries")
    if gone.runs and not quiet:
        runs = f"{gone.runs:,} run{'s' if gone.runs > 1 else ''}"
        say(f"{'would let go' if dry_run else 'let go'} of the code and predictions of {runs}; versions keep theirs")
    if files:
        say(f"{verb} {files:,} files from URLs that no recent run used, {size_text(size)}")
    if not quiet and gone.swept:
        say(f"{gone.swept:,} temporary files swept")
    return 0
