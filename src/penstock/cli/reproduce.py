"""`penstock reproduce`: do a version or a run again from what is on record, and say how near it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Json, Quiet

if TYPE_CHECKING:
    from penstock.lifecycle.reproduce import Reproduction

EPILOG = "Exit codes: 0 the same bytes or answers, 2 not trusted, 6 not reproducible, 130 cancelled."


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[VERSION|RUN]",
            show_default=False,
            help="churn@7, churn for its champion, run:3f9c or last; of a run without a version, as far as it got.",
        ),
    ] = None,
    new_env: Annotated[
        bool, typer.Option("--new-env", help="In a new environment with the recorded versions; needs the network.")
    ] = False,
    within: Annotated[
        float | None,
        typer.Option("--within", metavar="T", min=0.0, show_default=False, help="Accept answers that differ by T."),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run stored code although others recorded it.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Do it again and tell."""
    from penstock.cli.output import clean, document, moment, paint, say
    from penstock.cli.projects import WORKER, here
    from penstock.lifecycle.naming import run_or_version, workflow_of
    from penstock.lifecycle.new_env import maker
    from penstock.lifecycle.original import check_trust, original_of, stored
    from penstock.lifecycle.reproduce import reproduce
    from penstock.project import open_home

    home = here()
    original = original_of(home, run_or_version(home, name or workflow_of(home, None)))
    check_trust(home, original, trust=trust)
    loud = not (quiet or as_json)
    if loud:
        n = len(stored(home, original)[0]["files"])
        files = f"{n} file{'s' if n != 1 else ''}"
        told = f"{original.name} · runs its stored code, {files} recorded {moment(original.at)} by"
        say(paint(f"{told} {clean(original.who)}", "bold"))
    found = reproduce(
        home,
        original,
        lambda root, flags: open_home(root, flags, environment="dev"),
        WORKER,
        trust=trust,
        within=within,
        python=maker(home.config.root, (lambda text: say(f"  {clean(text)}")) if loud else None) if new_env else None,
    )
    document(found.to_json()) if as_json else _tell(found, quiet=quiet)
    return found.exit_code


def _tell(found: Reproduction, *, quiet: bool) -> None:
    from penstock.cli.output import clean, duration, paint, say

    mark, colour = ("→", "green") if not found.exit_code else ("✗", "red")
    n = found.compared
    steps = f"{n} step{'s' if n != 1 else ''} compared"
    say(paint(f"{mark} {found.original.name}: {clean(found.sentence)} · {steps} · {duration(found.wall_s)}", colour))
    if quiet:
        return
    if found.step:
        say(f"  first    {clean(found.step)} gave other bytes")
    if found.agreement:
        say(f"  answers  {_answers(found.agreement)}")
    for text in found.causes:
        say(f"  cause    {clean(text)}")
    for text in found.environment:
        if text not in found.causes:
            say(f"  now      {clean(text)}")
    if found.unknown:
        say(f"  note     nothing is on record any more of {clean(', '.join(found.unknown))}")
    if found.original.rest:
        say(f"  note     not done again, since it gave nothing in that run: {clean(', '.join(found.original.rest))}")
    if found.reread:
        say(f"  note     read from its file, which holds the same bytes: {clean(', '.join(found.reread))}")


def _answers(agreement: dict[str, Any]) -> str:
    rows = f"{agreement['n_rows']:,} held-out rows"
    if agreement["identical"]:
        return f"the same on all {rows}"
    gap = agreement["max_difference"]
    told = "not comparable" if gap is None else f"at most {gap:.2g} apart"
    labels = f", {agreement['labels']:,} with another label" if agreement["labels"] else ""
    return f"{told} on {rows}{labels}"
