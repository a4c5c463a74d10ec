"""`penstock export`: the same file on Airflow, Kubeflow and their like."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Env, Full, Json, Params, Set
from penstock.cli.options import Target as File

if TYPE_CHECKING:
    from penstock.backends.backend import Finding, Options
    from penstock.backends.compiled import Compiled

_MARKS = {"error": "✗", "warning": "!", "note": "·"}
_COLOURS = {"error": "red", "warning": "yellow", "note": "dim"}
EPILOG = "Exit codes: 0 done, 2 it cannot run there (each fault with its remedy), 1 unexpected."


def command(
    backend: Annotated[str, typer.Argument(metavar="BACKEND", help="airflow, kubeflow, or another that is installed.")],
    file: File = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: say what it becomes and what is wrong.")
    ] = False,
    group: Annotated[
        str,
        typer.Option(
            "--group",
            metavar="step|part|workflow",
            show_default=False,
            help="What makes one task: a step, a part, or all. A part, or as the backend has it.",
        ),
    ] = "",
    parts: Annotated[
        int | None,
        typer.Option(
            "--parts",
            metavar="N",
            min=0,
            max=1000,
            show_default=False,
            help="Most tasks at once for the items of a mapped step; 0 leaves each in one. 8 by default.",
        ),
    ] = None,
    python: Annotated[
        str, typer.Option("--python", metavar="PATH", show_default=False, help="The Python that runs the steps there.")
    ] = "",
    image: Annotated[
        str, typer.Option("--image", metavar="NAME", show_default=False, help="The image that the steps run in.")
    ] = "",
    at: Annotated[
        str, typer.Option("--at", metavar="PATH", show_default=False, help="Where the steps' machine has the file.")
    ] = "",
    schedule: Annotated[
        str, typer.Option("--schedule", metavar="CRON", show_default=False, help='"@daily", "0 6 * * 1" or asset:NAME.')
    ] = "",
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="NAME", show_default=False, help="A variable the backend fills. Repeatable."),
    ] = None,
    variable: Annotated[
        list[str] | None,
        typer.Option("--variable", metavar="NAME=VALUE", show_default=False, help="For each step. Repeatable."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", show_default=False, help="For one backend alone. Repeatable."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="STEP", show_default=False, help="Stop after this step.")
    ] = None,
    param: Params = None,
    settings: Set = None,
    full: Full = False,
    env: Env = None,
    take_back: Annotated[
        bool, typer.Option("--withdraw", help="Write nothing: the backend has the schedule no more, on record.")
    ] = False,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Write here, not to the screen.")
    ] = "",
    as_json: Json = False,
) -> int:
    """Compile and write, or check and tell."""
    from penstock.backends.backend import Options
    from penstock.backends.backend import backend as named
    from penstock.backends.compiled import compiled
    from penstock.backends.preflight import described, preflight
    from penstock.backends.tasks import MOST_PARTS
    from penstock.cli.output import document
    from penstock.cli.projects import parameters, target
    from penstock.lifecycle.sweep import given_of, single

    chosen = named(backend)
    group = group or getattr(chosen, "group", "part")
    options = Options(
        schedule, image, python, group, parameters(variable), secrets=tuple(secret or ()), more=parameters(option)
    )
    found = target(file, env)
    place = f"{found.file}:{found.variable}" if found.variable else found.file
    extra: dict[str, Any] = {"set": single(given_of(settings))} if settings else {}
    flow = compiled(
        place,
        group=group,
        parts=MOST_PARTS if parts is None else parts,
        until=until,
        params=parameters(param),
        extra=extra | ({"full": True} if full else {}),
        env=env,
        python=os.path.abspath(python) if python else None,
        file=at,
    )
    if take_back:
        return _withdrawn(flow, backend)
    findings = [*preflight(flow, chosen, options), *_owned(flow, backend)]
    wrong = any(one.grade == "error" for one in findings)
    if check:
        lines = described(flow, chosen, options)
        if as_json:
            told = [{"grade": one.grade, "what": one.what, "remedy": one.remedy} for one in findings]
            document({"backend": backend, "flow": flow.name, "tasks": [_task(t) for t in flow.tasks], "findings": told})
        else:
            _tell(flow.name, backend, lines, findings)
        return 2 if wrong else 0
    if wrong:
        _tell("", backend, [], [one for one in findings if one.grade == "error"], to_stderr=True)
        return 2
    text = chosen.export(flow, options)
    _recorded(flow, backend, options, text, output)
    if output:
        from penstock.store.files import explain

        try:
            with open(output, "w", encoding="utf-8") as written:
                written.write(text)
        except OSError as error:
            raise explain(error, "write the export", output) from error
    else:
        sys.stdout.write(text)
    return 0


def _owned(flow: Compiled, backend: str) -> list[Finding]:
    """That another backend has the schedule already."""
    from penstock.backends.backend import Finding
    from penstock.cli.output import moment
    from penstock.lifecycle.schedules import owner_of

    owner = owner_of(flow.home.ledger, flow.name)
    if owner is None or owner.body["backend"] == backend:
        return []
    other = owner.body["backend"]
    what = f"{other} has the schedule of {flow.name}, by {owner.who} since {moment(owner.at)}: both would start runs"
    file = os.path.relpath(flow.request.file)
    return [Finding("warning", what, f"take it out there, then: penstock export {other} {file} --withdraw")]


def _recorded(flow: Compiled, backend: str, options: Options, text: str, output: str) -> None:
    """Put on record whose the schedule is now; an export without its ledger is one all the same, and says so."""
    import hashlib

    from penstock.errors import PenstockError
    from penstock.lifecycle.schedules import put_export
    from penstock.lifecycle.versions import who_am_i

    root = flow.home.config.root
    body = {
        "backend": backend,
        "schedule": options.schedule,
        "to": os.path.relpath(output, root) if output else "",
        "file": os.path.relpath(flow.request.file, root),
        "tasks": len(flow.tasks),
        "digest": hashlib.sha256(text.encode()).hexdigest(),
    }
    try:
        told = _owned(flow, backend)
        put_export(flow.home.ledger, flow.name, body, who_am_i())
    except PenstockError as error:
        print(f"! not on record: {error.what}; schedules here do not know of this export", file=sys.stderr)
        return
    if told:
        _tell("", backend, [], told, to_stderr=True)


def _withdrawn(flow: Compiled, backend: str) -> int:
    from penstock.cli.output import say
    from penstock.lifecycle.schedules import sentence, withdraw
    from penstock.lifecycle.versions import who_am_i

    say(f"{flow.name}: {sentence(withdraw(flow.home.ledger, flow.name, backend, who_am_i()))}")
    return 0


def _task(task: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(task)


def _tell(flow: str, backend: str, lines: list[str], findings: list[Finding], *, to_stderr: bool = False) -> None:
    """What it becomes, and what was found, each with its remedy."""
    from penstock.cli.output import clean, paint, say

    def put(text: str) -> None:
        print(text, file=sys.stderr) if to_stderr else say(text)

    if flow:
        put(f"{flow} on {backend}: {len(lines) - 1} tasks")
    for line in lines:
        put(f"  {clean(line)}")
    for one in findings:
        put(paint(f"{_MARKS[one.grade]} {one.grade}  {clean(one.what)}", _COLOURS[one.grade]))
        if one.remedy:
            put(f"    → {clean(one.remedy)}")
    if flow and not any(one.grade == "error" for one in findings):
        put(f"next  penstock export {backend} … > FILE")
