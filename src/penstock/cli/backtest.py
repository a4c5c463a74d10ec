"""`penstock backtest`: at each moment of the past, what would have been promoted, and what it brought."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Env, Jobs, Json, Note, Params, Quiet, Seed, Set, Target, Verbose

if TYPE_CHECKING:
    from penstock.core.ports import Home
    from penstock.core.run import Run

EPILOG = "It spends no look, and makes no version. Exit codes: 0 done, 2 declaration, 3 data, 5 a step failed."
MOST_VERDICT = 70
"""Characters of a verdict in the table."""


def command(
    file: Target = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="DATE", show_default=False, help="First origin; the middle row by default."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DATE", show_default=False, help="No origin from then on.")
    ] = None,
    every: Annotated[str, typer.Option("--every", metavar="SPAN", help="From one origin to the next.")] = "30d",
    window: Annotated[
        str | None,
        typer.Option(
            "--window", metavar="SPAN", show_default=False, help="Measured so long after; --every by default."
        ),
    ] = None,
    cut: Annotated[
        list[str] | None,
        typer.Option(
            "--cut", metavar="SOURCE=COLUMN", show_default=False, help="The time of a side table's rows. Repeatable."
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE", show_default=False, help="Write a page with plots.")
    ] = None,
    param: Params = None,
    settings: Set = None,
    jobs: Jobs = None,
    seed: Seed = None,
    note: Note = "",
    env: Env = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Go through the past and tell."""
    from penstock.cli.output import document
    from penstock.cli.progress import Progress
    from penstock.cli.projects import WORKER, parameters, target
    from penstock.cli.run import title
    from penstock.lifecycle.backtest import backtest, cuts_of
    from penstock.lifecycle.run import Request
    from penstock.lifecycle.sweep import given_of, single

    cuts = cuts_of(cut or ())
    _check_folder(out)
    flags = {"jobs": jobs, "seed": seed}
    found = target(file, env, flags)
    request = Request(
        found.file,
        found.variable,
        params=parameters(param),
        flags=flags,
        note=note,
        extra={"set": single(given_of(settings))} if settings else {},
    )
    asked = {"from": start, "until": until, "every": every, "window": window}
    with Progress(
        found.home, title(found.file, found.variable), quiet=not verbose or as_json, verbose=verbose
    ) as progress:
        done = backtest(found.home, request, WORKER, asked, cuts, listen=progress, began=progress.began)
        progress.flush()
    if done.outcome.error is not None:
        raise done.outcome.error
    page = _page(done.found, out)
    if as_json:
        document({"run": done.outcome.run.id, "page": page, **done.found})
    else:
        tell(done.found, done.outcome.run, quiet=quiet, page=page)
    return 0


def _check_folder(out: str | None) -> None:
    """Refuse a page in a folder that is not there, before anything is computed.

    Raises
    ------
    UsageError
    """
    from penstock.errors import UsageError

    folder = os.path.dirname(os.path.abspath(out)) if out is not None else os.curdir
    if not os.path.isdir(folder):
        raise UsageError(f"--out {out}: there is no folder {os.path.relpath(folder)}", hint="make it first")


def _page(found: Mapping[str, Any], out: str | None) -> str | None:
    from penstock.lifecycle.backtest_page import write_page

    return write_page(found, out) if out is not None else None


def tell(found: Mapping[str, Any], run: Run, *, quiet: bool = False, page: str | None = None) -> None:
    """The table by origin, the figures by age, and what it comes to."""
    from penstock.cli.output import clean, columns, paint, say, width, wrapped

    if quiet:
        say(clean(found["summary"]))
        return
    say(paint(f"{found['workflow']} · back-test {run.id[:4]} · every {found['every']}", "bold"))
    head = ["", "origin", "rows", "champion", "age", found_name(found), "verdict"]
    for line in columns(head, [_row(one, found) for one in found["origins"]], right=[2, 4]):
        say(line)
    say()
    ages = [_age_row(one) for one in found["by_age"]]
    for line in columns(["age", "as gated", "never retrained", "than a fresh model"], ages, right=[0]) if ages else ():
        say(line)
    say(paint(wrapped(clean(found["summary"]), width(), "  "), "green"))
    for text in found.get("warnings", ()):
        say(paint(wrapped(f"warning  {clean(text)}", width(), " " * 9), "yellow"))
    for text in found["notes"]:
        say(wrapped(f"note  {clean(text)}", width(), " " * 6))
    if page is not None:
        say(f"page  {os.path.relpath(page)}")


def tell_again(home: Home, run: Run) -> None:
    """A back-test on record; of one whose figures `gc` has removed, what it came to."""
    from penstock.cli.output import clean, say
    from penstock.lifecycle.backtest import found_of

    found = found_of(home, run)
    if found is None:
        say(f"  {clean(run.info['backtest']['summary'])}")
        say("note  its figures are not kept any more: run it again")
    else:
        tell(found, run)


def found_name(found: Mapping[str, Any]) -> str:
    """The primary metric as people say it."""
    name: str = found["overall"]["gated"][found["primary"]]["shown"]["name"]
    return name


def _row(one: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """An origin's line."""
    from penstock.cli.output import clip
    from penstock.lifecycle.backtest_page import days, interval
    from penstock.lifecycle.records import NOT_COMPARED

    if one["skipped"]:
        return ["→", one["at"], f"{one['n_known']:,}", "", "", "", f"skipped: {one['skipped']}"]
    figure = one["figures"].get("gated", {}).get(found["primary"])
    mark = "✓" if one["promoted"] else "✗" if one["outcome"] in ("worse", NOT_COMPARED) else "="
    shown = interval(figure) if figure is not None else one["errors"].get("gated", "no rows came")
    champion = one["champion_at"] or "none"
    return [mark, one["at"], f"{one['n_train']:,}", champion, days(one["age_days"]), shown,
            clip(one["verdict"], MOST_VERDICT)]  # fmt: skip


def _age_row(one: Mapping[str, Any]) -> list[str]:
    from penstock.lifecycle.backtest_page import days, gain, interval

    shown = [interval(one["figures"].get(way)) for way in ("gated", "never")]
    return [days(one["age_days"]), *shown, gain(one["than_fresh"])]
