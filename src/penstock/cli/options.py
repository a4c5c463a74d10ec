"""Options and arguments that several verbs share, in the words of one table."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="One line at most.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also what steps print, and why each step runs.")]
Target = Annotated[
    str | None,
    typer.Argument(
        metavar="[FILE[:VARIABLE]|NAME]",
        show_default=False,
        help="The file that declares the workflow, or a workflow's name; the project's only one by default.",
    ),
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", show_default=False, help="Set a parameter. Repeatable."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", show_default=False, help="Another value for a parameter. Repeatable."),
]
Force = Annotated[
    list[str] | None,
    typer.Option("--force", metavar="STEP", show_default=False, help="Run a step whatever is known. Repeatable."),
]
Refresh = Annotated[
    list[str] | None,
    typer.Option("--refresh", metavar="NAME", show_default=False, help="Read a query again. Repeatable."),
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, show_default=False, help="Steps at once; one a core by default.")
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, show_default=False, help="Use this seed, not the workflow's.")
]
Note = Annotated[str, typer.Option("--note", "-n", show_default=False, help="A few words, kept with the run.")]
Env = Annotated[
    str | None,
    typer.Option("--env", metavar="NAME", show_default=False, help="Use the settings of the table [env.NAME]."),
]
AllowDirty = Annotated[
    bool, typer.Option("--allow-dirty", help="Although no commit holds the code, on a shared ledger; on record.")
]
Full = Annotated[
    bool, typer.Option("--full", help="Prove more: steps over a minute, fifty moments rather than five, the fit again.")
]
Because = Annotated[str, typer.Option("--because", metavar="WHY", show_default=False, help="The reason, on record.")]
