"""`penstock predict`: score a file with a version."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.options import Json, Quiet


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[VERSION]", show_default=False, help="churn@7, or churn for its champion; the only one."
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", show_default=False, help="A table, as --input."),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            show_default=False,
            help="CSV, JSON lines, Parquet, Arrow or Excel, read as declared.",
        ),
    ] = "",
    output: Annotated[
        str | None,
        typer.Option(
            "--out",
            "--output",
            "-o",
            metavar="FILE",
            show_default=False,
            help="CSV or Parquet; CSV on the screen by default.",
        ),
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            "--on",
            metavar="BACKEND",
            show_default=False,
            help="Answer slices of the file there: dask, or dask://HOST:8786. Needs --out.",
        ),
    ] = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Score and write: the key columns where the input has them, then the answers, in the input's order."""
    from penstock.cli.output import document, harmless, is_terminal, say
    from penstock.cli.projects import here_of
    from penstock.cli.scoring import check_output, score, write
    from penstock.errors import UsageError
    from penstock.lifecycle.naming import is_file, workflow_of
    from penstock.lifecycle.versions import resolve

    name, data = _meant(name, file, data)
    if output is not None:
        check_output(output)
    elif on:
        raise UsageError("--on: the answers go to a file", hint=f"add --out answers.csv, or .parquet, to --on {on}")
    home = here_of(name)
    version = resolve(home.ledger, workflow_of(home, name) if name is None or is_file(name) else name)
    if output is not None and on:
        from penstock.cli.divided import score_on

        scored = None
        n_rows, unseen = score_on(home, version, data, output, on)
    else:
        scored, unseen = score(home, version, data)
        n_rows = len(scored)
        if output is not None:
            write(scored, output)
    if as_json:
        rows = None if output is not None or scored is None else scored.to_dict("records")
        about = {"version": version.name, "rows": n_rows, "unseen": unseen, "output": output}
        document(about | {"predictions": rows})
        return 0
    if output is None and scored is not None:
        text = scored.to_csv(index=False)
        say(harmless(text) if is_terminal() else text, end="")
    if not quiet:
        where = f" → {output}" if output is not None else ""
        levels = "".join(f" · {count:,} rows with an unseen {column}" for column, count in unseen.items())
        say(f"{version.name} · {n_rows:,} rows{where}{levels}", err=True)
    return 0


def _meant(name: str | None, file: str | None, data: str) -> tuple[str | None, str]:
    """The version and the file to score: a table may stand in either's place."""
    from penstock.engine.listing import is_table
    from penstock.errors import UsageError

    if file is not None and data:
        raise UsageError(f"two files to score: {file} and --input {data}", hint="name one of them")
    if file is None and not data and name is not None and is_table(name):
        return None, name
    if not (data or file):
        raise UsageError("--input: the file to score is missing", hint="penstock predict churn --input tomorrow.csv")
    return name, data or file or ""
