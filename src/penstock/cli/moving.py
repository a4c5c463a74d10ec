"""What `push` and `pull` share."""

from __future__ import annotations

from penstock.core.ports import Home
from penstock.lifecycle.exchange import Moved


def move(source: Home, target: Home, names: list[str]) -> Moved:
    """Bring the versions that are named, or all there is, from one environment to another.

    Raises
    ------
    PenstockError
    """
    from penstock.lifecycle.exchange import send, send_all
    from penstock.lifecycle.versions import resolve, who_am_i

    if names:
        return send(source, target, [resolve(source.ledger, name) for name in names], who=who_am_i())
    from penstock.store.copy import copy_ledger
    from penstock.store.upkeep import reached

    return send_all(source, target, reach=reached, copy=copy_ledger)


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
        f"; {moved.runs:,} runs, {moved.results:,} results, {moved.entries:,} decisions" if not moved.versions else ""
    )
    say(f"{moved.objects:,} objects, {size_text(moved.size)}{rows}")
    fresh = [name for _, name, new in moved.versions if new]
    if fresh and not quiet:
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
