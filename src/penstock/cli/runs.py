"""`penstock runs`: runs and tries on record, as a table to filter, sort and take along."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Json, Quiet

if TYPE_CHECKING:
    from penstock.core.ports import Home
    from penstock.core.run import Run

EPILOG = "A condition: roc_auc > 0.8 and params.C >= 1 and not note ~ 'woe' (= != < <= > >= ~ !~ and or not)"
STEER = ("=", "+", "-", "@", "\t", "\r")
"""What a cell of text may not begin with in a CSV: a spreadsheet would take it for a formula."""


def command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", show_default=False, help="Only of this workflow or flow; or run:3f9c, last."),
    ] = None,
    workflow: Annotated[
        str | None, typer.Option("--workflow", "-w", metavar="NAME", show_default=False, help="The same, by name.")
    ] = None,
    where: Annotated[
        str, typer.Option("--where", metavar="CONDITION", show_default=False, help="Only those that fulfil it.")
    ] = "",
    sort: Annotated[
        str,
        typer.Option("--sort", metavar="COLUMN", show_default=False, help="The best first; -COLUMN turns it round."),
    ] = "",
    columns: Annotated[
        str,
        typer.Option("--columns", metavar="A,B", show_default=False, help="These columns; `help` lists all there are."),
    ] = "",
    candidates: Annotated[
        bool, typer.Option("--candidates", help="A row for each candidate of a try, and of a run's search.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 20,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, every run that is found.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """List, newest first."""
    from penstock.cli.output import document, harmless, is_terminal, say
    from penstock.cli.projects import here
    from penstock.lifecycle.naming import is_run
    from penstock.lifecycle.table import MOST_RUNS, chosen, select
    from penstock.lifecycle.versions import resolve_run

    asked = bool(where or sort or columns or candidates or as_csv)
    most = MOST_RUNS if asked else (1 if quiet else limit)
    home = here(make=False)
    ledger = home.ledger
    found = [resolve_run(ledger, name)] if name and is_run(name) else ledger.runs(flow=workflow or name, limit=most)
    if not asked:
        if as_json:
            document([_json(home, run) for run in found])
            return 0
        _tell(home, found)
        return 0
    rows, known = select(found, where=where, sort=sort, candidates=candidates)
    if columns == "help":
        _tell_columns(rows, known, as_json=as_json)
        return 0
    shown = chosen([one.strip() for one in columns.split(",") if one.strip()], known, rows, whole=as_csv)
    kept = rows if as_csv else rows[: 1 if quiet else limit]
    if as_csv:
        text = _csv(shown, kept)
        say(harmless(text) if is_terminal() else text, end="")
    elif as_json:
        document([row | {one: row.get(one) for one in shown} for row in kept])
    elif not kept:
        say("no run is like that" if found else "no runs yet: `penstock run` makes one")
    else:
        told = kept if columns else [_without_declared(row) for row in kept]
        _tell_rows(shown, told, shown if columns else _short(shown, known), below=not sort)
        if candidates and len(kept) < len(rows):
            say(f"{len(kept):,} of {len(rows):,} rows; more with --limit, all with --csv")
    return 0


def _tell(home: Home, found: Sequence[Run]) -> None:
    """The plain list."""
    from penstock.cli.output import columns, duration, moment, say
    from penstock.cli.progress import counts_text
    from penstock.cli.tracked import sign_text
    from penstock.lifecycle.alive import state_of

    if not found:
        say("no runs yet: `penstock run` makes one")
        return
    rows = [
        [
            f"run:{run.id[:4]}",
            run.flow,
            run.called,
            state_of(run),
            moment(run.started),
            duration(run.ended - run.started) if run.ended else "",
            f"{run.flow}@{run.info['version']}" if "version" in run.info else "",
            counts_text(run.counts),
            " · ".join(filter(None, (run.info.get("note", ""), sign_text(home, run)))),
        ]
        for run in found
    ]
    header = ["run", "flow", "kind", "state", "started", "took", "version", "steps", "note"]
    for line in columns(header, rows, right=[5]):
        say(line)


def _without_declared(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's row beside those of its candidates: what it declared is not what its search chose."""
    if "rank" in row:
        return row
    return {name: value for name, value in row.items() if not name.startswith("params.")}


def _short(chosen: Sequence[str], known: Sequence[str]) -> list[str]:
    """Headers that `--columns` takes too: `params.C` where it is one parameter alone."""
    from penstock.errors import UsageError
    from penstock.lifecycle.query import column

    found = []
    for name in chosen:
        brief = f"params.{re.split(r'__|[.]', name)[-1]}" if name.startswith("params.") else name
        try:
            found.append(brief if column(brief, known) == name else name)
        except UsageError:  # several end so
            found.append(name)
    return found


def _tell_rows(chosen: Sequence[str], rows: Sequence[Mapping[str, Any]], header: Sequence[str], *, below: bool) -> None:
    """One line each; with `below`, candidates of a search are indented below their run."""
    from penstock.cli.output import columns, say
    from penstock.lifecycle.table import cell

    cells = [[cell(name, row) for name in chosen] for row in rows]
    for row, shown in zip(rows, cells, strict=True):
        shown[0] = f"  {shown[0]}" if below and "rank" in row else shown[0]
    right = [at for at, name in enumerate(chosen) if any(isinstance(row.get(name), int | float) for row in rows)]
    for line in columns(list(header), cells, right=right):
        say(line)


def _tell_columns(rows: Sequence[Mapping[str, Any]], known: Sequence[str], *, as_json: bool) -> None:
    """Every column with the value of the newest run that has one."""
    from penstock.cli.output import columns, document, say

    examples = {name: next((row[name] for row in rows if row.get(name) is not None), None) for name in known}
    if as_json:
        document(examples)
        return
    shown = [[name, "" if value is None else str(value)] for name, value in examples.items()]
    for line in columns(["column", "for instance"], shown):
        say(line)


def _csv(chosen: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; no cell of text is a formula to a spreadsheet."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([harmless_cell(name) for name in chosen])
    writer.writerows([[harmless_cell(row.get(name)) for name in chosen] for row in rows])
    return out.getvalue()


def harmless_cell(value: Any) -> Any:
    """A cell of a CSV: numbers as they are, a text that a spreadsheet would run with an apostrophe in front.

    Examples
    --------
    >>> harmless_cell("=1+1"), harmless_cell(-0.5), harmless_cell("woe"), harmless_cell(None)
    ("'=1+1", -0.5, 'woe', '')
    """
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(STEER) else value


def _json(home: Home, run: Run) -> dict[str, Any]:
    from penstock.lifecycle.alive import state_of
    from penstock.lifecycle.remote_tasks import sign_of

    return {
        "run": run.id,
        "flow": run.flow,
        "kind": run.kind,
        "state": state_of(run),
        "started": run.started,
        "ended": run.ended,
        "counts": dict(run.counts),
        "info": dict(run.info),
        **({"last_sign": sign} if (sign := sign_of(home, run)) is not None else {}),
    }
