"""What `push` and `pull` share."""

from __future__ import annotations

from penstock.core.ports import Home
from penstock.lifecycle.exchange import Moved


def move(source: Home, target: Home, names: list[str], *, because: str = "", allow_dirty: bool = False) -> Moved:
    """Bring the versions that are named, or all there is, from one environment to another.

    Parameters
    ----------
    because : str
        Of all there is, champions are promoted there too, by hand and with this reason.
    allow_dirty : bool
        Those whose code no commit holds too.

    Raises
    ------
    PenstockError
    """
    from penstock.errors import UsageError
    from penstock.lifecycle.exchange import send, send_all
    from penstock.lifecycle.versions import resolve, who_am_i

    if names and (because or allow_dirty):
        raise UsageError(
            "--because and --allow-dirty are for a push of everything: a version that is named moves no champion",
            hint="push it, then penstock promote",
        )
    if names:
        return send(source, target, [resolve(source.ledger, name) for name in names], who=who_am_i())
    from penstock.store.copy import copy_ledger
    from penstock.store.upkeep import reached

    return send_all(
        source, target, reach=reached, copy=copy_ledger, who=who_am_i(), because=because, allow_dirty=allow_dirty
    )


def tell(moved: Moved, there: Home, *, as_json: bool, quiet: bool) -> None:
    """Say what was new."""
    from penstock.cli.output import document, say, size_text

    if as_json:
        document(moved.to_json() | {"environment": there.config.environment})
        return
    where = there.config.environment
    for name, arrived, new in moved.versions:
        say(f"{name} → {arrived} in {where}" if new else f"{name} is in {where} already, as {arrived}")
    rows = (
        f"; {moved.runs:,} runs, {moved.results:,} results, {moved.entries:,} decisions"
        if moved.apart or not moved.versions
        else ""
    )
    say(f"{moved.objects:,} objects, {size_text(moved.size)}{rows}")
    for name in moved.apart:
        say(f"{name} was decided on in both places: its versions went over by name, each place keeps its own decisions")
    for name in moved.promoted:
        say(f"→ champion: {name} in {where}")
    for name, why in moved.held:
        say(f"{name} arrived without being champion in {where}: {why}")
    for name, why in moved.stayed:
        say(f"{name} is not champion in {where}: {why}")
    if moved.held and not quiet:
        say(f'next  penstock promote {moved.held[0][0]} --env {where} --because "…"')
    fresh = [name for _, name, new in moved.versions if new]
    if fresh and not quiet and not moved.apart:
        told = f"{fresh[0]} --env {where}"
        say(f'next  penstock show {told} · penstock promote {told} --because "…"')


def export_version(home: Home, name: str, folder: str, *, as_json: bool, quiet: bool) -> None:
    """Write a version as files that need no Penstock.

    Raises
    ------
    PenstockError
    """
    from penstock.cli.output import document, say
    from penstock.formats.registry import FormatRegistry
    from penstock.lifecycle.export import export
    from penstock.lifecycle.report import write_report
    from penstock.lifecycle.versions import resolve
    from penstock.serve.main import library_types
    from penstock.stages.infer import MARKERS

    found = resolve(home.ledger, name)
    formats = FormatRegistry(trust=library_types(home.config.trust, home.config.root))
    names = export(home, found, folder, formats=formats, write_report=write_report, missing=MARKERS)
    if as_json:
        document({"version": found.name, "folder": folder, "files": names})
        return
    say(f"{found.name} → {folder} · {len(names)} files")
    if not quiet:
        say(f"next  pip install -r {folder}/requirements.txt · python {folder}/score.py rows.csv")
