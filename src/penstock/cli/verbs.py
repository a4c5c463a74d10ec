"""The table of verbs, and the group that loads the module of one when it is called."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from penstock.cli.options import Env
from penstock.cli.plain import plainly
from penstock.core.names import did_you_mean
from penstock.errors import UsageError


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: its panel, the sentence that help shows, and the module whose `command` does it."""

    panel: str
    help: str
    module: str


VERBS: dict[str, Verb] = {
    "init": Verb("build", "Write a declaration for a table, each choice with its reason.", "init"),
    "try": Verb("build", "Cross-validate and rank among the tries; no look is spent.", "tries"),
    "run": Verb("build", "Go through every stage: a champion, or the reason why not.", "run"),
    "plan": Verb("build", "Say what a run would do, step by step, and why. Runs nothing.", "plan"),
    "backtest": Verb("build", "Replay the past: what would have been promoted, and what it brought.", "backtest"),
    "show": Verb("judge", "Show a run or a version: steps, figures, verdict.", "show"),
    "compare": Verb("judge", "Hold two versions against each other; it spends a look.", "compare"),
    "report": Verb("judge", "Write the report of a version or a try: a page, or a card.", "report"),
    "audit": Verb("judge", "Prove that no held-out row reaches the model, or show a proof.", "audit"),
    "reproduce": Verb("judge", "Train a version again from what is on record; say how near it comes.", "reproduce"),
    "models": Verb("release", "List workflows, or the versions and aliases of one.", "models"),
    "promote": Verb("release", "Make a version that passed its gate the champion.", "promote"),
    "rollback": Verb("release", "Move the champion back to the version before it.", "rollback"),
    "log": Verb("release", "List every verdict and every move of an alias: who, when, why.", "log"),
    "runs": Verb("look", "List runs, newest first.", "runs"),
    "diff": Verb("look", "Say what two runs differ in: parameters, code, inputs, figures.", "diff"),
    "lineage": Verb("look", "Follow a version back to data and code, or a file forward.", "lineage"),
    "monitor": Verb("look", "Hold traffic or a file against what the champion learned from.", "monitor"),
    "serve": Verb("operate", "Answer over HTTP with the champion, and follow it.", "serve"),
    "predict": Verb("operate", "Score a CSV or Parquet file.", "predict"),
    "export": Verb("operate", "Write the flow for Airflow, Kubeflow or another backend.", "export"),
    "schema": Verb("store", "Show the schema of the data, or freeze it as a file to review.", "schema"),
    "push": Verb("store", "Bring versions, or all there is, to another environment.", "push"),
    "pull": Verb("store", "Bring versions from another environment, or write one as files.", "pull"),
    "fsck": Verb("store", "Check every object, reference and recipe on record.", "fsck"),
    "gc": Verb("store", "Remove what no decision and no recent run needs.", "gc"),
    "doctor": Verb("store", "Show settings with origins, libraries, extras, the ledger.", "doctor"),
}
"""Verb → what it is, in the order of the help."""


class Verbs(TyperGroup):
    """The group of all verbs; a verb's module is imported when the verb is called, never for the help."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  Typer's signature
        """Names of the verbs, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  Typer's signature
        """The command of a verb.

        Raises
        ------
        UsageError
            There is no such verb; the nearest one is told.
        """
        if cmd_name not in VERBS:
            near = did_you_mean(cmd_name, VERBS)
            raise UsageError(f"there is no verb {cmd_name!r}{near}", hint="`penstock --help` lists the verbs")
        return command_of(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  Typer's signature
        """Write the verbs in their panels."""
        for panel in dict.fromkeys(verb.panel for verb in VERBS.values()):
            with formatter.section(panel.capitalize()):
                rows = [(f"{name:<8}", verb.help) for name, verb in VERBS.items() if verb.panel == panel]
                formatter.write_dl(rows)


def command_of(name: str) -> Any:
    """The Typer command of one verb; each takes `--env`."""
    verb = VERBS[name]
    module = importlib.import_module(f"penstock.cli.{verb.module}")
    one = typer.Typer(add_completion=False, rich_markup_mode=None)
    epilog = getattr(module, "EPILOG", None)
    one.command(name, help=getattr(module, "HELP", verb.help), short_help=verb.help, epilog=epilog)(module.command)
    command = typer.main.get_command(one)
    if all(param.name != "env" for param in command.params):
        command.params.append(_env())
    return plainly(command, module.command)


def _env() -> Any:
    """The option `--env` of a verb that does not name it among its own: it only chooses the settings."""
    one = typer.Typer(add_completion=False, rich_markup_mode=None)

    @one.command()
    def choose(env: Env = None) -> None:
        """Have Typer make the option as it makes all others."""

    [option] = [param for param in typer.main.get_command(one).params if param.name == "env"]
    option.expose_value = False
    option.callback = _choose
    return option


def _choose(context: Any, param: Any, value: str | None) -> str | None:  # noqa: ARG001  click's signature
    if value is not None:
        os.environ["PENSTOCK_ENV"] = value
    return value


def app() -> Any:
    """The command `penstock`."""
    root = typer.Typer(
        cls=Verbs,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Take a tabular model from raw data to production, and keep it there.",
        epilog="A verb's own help: penstock VERB --help",
    )

    @root.callback()
    def penstock(
        version: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
    ) -> None:
        if version:
            from penstock import __version__

            print(f"penstock {__version__}")
            raise typer.Exit

    return plainly(typer.main.get_command(root), penstock)
