"""`penstock init`: a declaration for a table that nobody has described."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Json, Quiet

if TYPE_CHECKING:
    from penstock.lifecycle.init import Draft

EPILOG = "It writes one file and never over another unless forced. Whatever it found can be overruled by an option."
SPLITS = ("time", "groups", "key", "random")
TASKS = ("classification", "regression")

Columns = list[str] | None


def command(
    table: Annotated[
        str,
        typer.Option(
            "--from", "-f", metavar="TABLE", show_default=False, help="A table: one file of any format of ps.read."
        ),
    ],
    target: Annotated[
        str, typer.Option("--target", "-t", metavar="COLUMN", show_default=False, help="The column to predict.")
    ],
    positive: Annotated[
        str | None,
        typer.Option("--positive", metavar="CLASS", show_default=False, help="The class that is looked for, of two."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="|".join(TASKS), show_default=False, help="What the target is, if not plain."),
    ] = None,
    key: Annotated[
        Columns, typer.Option("--key", metavar="COLUMN", show_default=False, help="Names a row. Repeatable.")
    ] = None,
    time: Annotated[
        str | None, typer.Option("--time", metavar="COLUMN", show_default=False, help="The time of a row's event.")
    ] = None,
    groups: Annotated[
        Columns,
        typer.Option("--groups", metavar="COLUMN", show_default=False, help="The entity of a row. Repeatable."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="|".join(SPLITS), show_default=False, help="Which rows are held out."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", show_default=False, help="Of the workflow.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE", show_default=False, help="NAME.py by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    why: Annotated[bool, typer.Option("--why", help="Say every reason, and write nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Read, decide, write, tell."""
    from penstock.lifecycle.init import draft, write
    from penstock.stages.task import Asked

    _check("--split", split, SPLITS)
    _check("--task", task, TASKS)
    asked = Asked(target, positive, task, _several(key), _several(groups), time, split)
    made = draft(table, asked, out=out, name=name)
    if not why:
        write(made, force=force)
    _conclude(made, table, wrote=not why, as_json=as_json, quiet=quiet)
    return 0


def _conclude(made: Draft, table: str, *, wrote: bool, as_json: bool, quiet: bool) -> None:
    import os

    from penstock.cli.output import document, say

    shown = os.path.relpath(made.path)
    if as_json:
        reasons = [reason.to_json() for reason in made.proposal.reasons]
        document({"file": shown if wrote else None, "workflow": made.name, "reasons": reasons, "text": made.text})
        return
    if not quiet:
        _tell(made, os.path.basename(table), every=not wrote)
    if wrote:
        say(f"wrote {shown}" if quiet else f"wrote {shown}: read it, then run it")
        if not quiet:
            say(f"next  penstock try {shown} · penstock run {shown}")


def _check(flag: str, given: str | None, known: tuple[str, ...]) -> None:
    from penstock.core.names import did_you_mean
    from penstock.errors import UsageError

    if given is not None and given not in known:
        raise UsageError(f"{flag} {given}{did_you_mean(given, known)}", hint=f"one of {', '.join(known)}")


def _several(names: Columns) -> tuple[str, ...] | None:
    return tuple(names) if names else None


def _tell(made: Draft, table: str, *, every: bool) -> None:
    """One line a decision: field, choice, how sure, why."""
    from penstock.cli.output import clean, paint, say, width, wrapped

    say(f"{clean(made.name)} · {made.rows:,} rows × {made.columns:,} columns of {clean(table)}")
    rows = _rows(made.proposal.reasons, every=every)
    for topic, choice, why, confidence in rows:
        mark = paint("?", "yellow") if confidence < 0.8 else paint("✓", "green")
        line, room = f"{topic:<8} {clean(choice)} · {clean(why)}", width() - 10
        shown = wrapped(line, room, " " * 12) if every else line if len(line) <= room else f"{line[: room - 1]}…"
        say(f" {mark} {shown}  {confidence:.2f}")


def _rows(reasons: Any, *, every: bool) -> list[tuple[str, str, str, float]]:
    """Reasons as (topic, choice, why, confidence); columns with the same reason share a line unless all are wanted."""
    if every:
        return [(_topic(one.topic), one.choice, one.why, one.confidence) for one in reasons]
    grouped: dict[tuple[str, str, float], list[str]] = {}
    for one in reasons:
        grouped.setdefault((_topic(one.topic), one.why, one.confidence), []).append(one.choice)
    rows = []
    for (topic, why, confidence), names in grouped.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        rows.append((topic, ", ".join(names[:3]) + more, why, confidence))
    return rows


def _topic(topic: str) -> str:
    shown = {"doubt": "late?", "after": "late", "order": "time?", "na": "missing", "sentinel": "missing?"}
    return shown.get(topic, topic)
