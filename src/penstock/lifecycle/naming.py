"""From what people call things to files, workflows, runs and versions."""

from __future__ import annotations

import os
import re

from penstock.core.names import did_you_mean
from penstock.core.ports import Home
from penstock.core.run import Run
from penstock.errors import UnknownNameError, UsageError
from penstock.lifecycle.versions import NAMES, NOTHING_HERE, Version, resolve, resolve_run, workflows

_DECLARES = re.compile(r"^[^#\n]*\bWorkflow\(", re.MULTILINE)
_RUN = re.compile(r"^(run:.*|last|last~.*)$")
_KINDS = ("run", "try")
MOST_RUNS = 1_000
"""How many of the newest runs are searched for a file or a name."""


def split_file(text: str) -> tuple[str, str | None]:
    """File and variable of "FILE[:VARIABLE]".

    Examples
    --------
    >>> split_file("churn.py:second"), split_file("churn.py")
    (('churn.py', 'second'), ('churn.py', None))
    """
    file, colon, variable = text.rpartition(":")
    return (file, variable) if colon and variable.isidentifier() and file else (text, None)


def is_file(text: str) -> bool:
    """Whether a text names a file rather than a workflow.

    Examples
    --------
    >>> is_file("churn.py:a"), is_file("models/churn"), is_file("churn@7")
    (True, True, False)
    """
    file, _ = split_file(text)
    return file.endswith(".py") or "/" in file or os.sep in file


def is_run(text: str) -> bool:
    """Whether a text names a run rather than a version or a file.

    Examples
    --------
    >>> is_run("run:3f9c"), is_run("last~1"), is_run("churn@7")
    (True, True, False)
    """
    return _RUN.match(text) is not None


def only_file(root: str) -> str:
    """The one Python file in a folder that declares a workflow, found by its text.

    Raises
    ------
    UsageError
        There is none, or there are several.
    """
    found = []
    for name in sorted(os.listdir(root)):
        if name.endswith(".py"):
            with open(os.path.join(root, name), encoding="utf-8", errors="replace") as text:
                if _DECLARES.search(text.read()):
                    found.append(name)
    if len(found) == 1:
        return os.path.join(root, found[0])
    if not found:
        raise UsageError("no file here declares a workflow", where=root, hint="name one: penstock run churn.py")
    raise UsageError(
        f"{len(found)} files here declare a workflow: {', '.join(found[:10])}", where=root, hint="name one of them"
    )


def recent_file(home: Home, workflow: str) -> tuple[str, str | None]:
    """The file and variable of a workflow's newest run.

    Raises
    ------
    UnknownNameError
        Nothing was run under that name.
    UsageError
        The file is not there any more.
    """
    for run in home.ledger.runs(flow=workflow):
        if run.kind in _KINDS and "file" in run.info:
            file = os.path.join(home.config.root, run.info["file"])
            if not os.path.exists(file):
                raise UsageError(
                    f"{workflow} was last run from {run.info['file']}, which is gone", hint="name its file"
                )
            return file, run.info.get("variable")
    known = {run.flow for run in home.ledger.runs(limit=MOST_RUNS) if run.kind in _KINDS}
    raise UnknownNameError(
        f"nothing called {workflow!r} was run here{did_you_mean(workflow, known)}",
        where=home.config.root,
        hint="name the file that declares it: penstock run churn.py",
    )


def workflow_of(home: Home, text: str | None) -> str:
    """The workflow that a name, a version's name, a file or nothing at all stands for.

    Raises
    ------
    UnknownNameError
        It has no versions here, or nothing was given and there is not exactly one workflow.
    """
    known = workflows(home.ledger)
    if text is None:
        if len(known) == 1:
            return known[0]
        what = (
            f"there are {len(known)} workflows: {', '.join(known[:10])}" if known else "no workflow has versions here"
        )
        raise UnknownNameError(what, where=home.config.root, hint="name one" if known else "`penstock run` makes one")
    name = _flow_of_file(home, text) if is_file(text) else text.partition("@")[0]
    if name not in known:
        raise UnknownNameError(
            f"no workflow called {name!r} has versions here{did_you_mean(name, known)}",
            where=home.config.root,
            hint=NAMES if known else NOTHING_HERE,
        )
    return name


def _flow_of_file(home: Home, text: str) -> str:
    """The name under which a file was last run."""
    file, variable = split_file(text)
    relative = os.path.relpath(os.path.abspath(file), home.config.root)
    for run in home.ledger.runs(limit=MOST_RUNS):
        same = run.info.get("file") == relative and (variable is None or run.info.get("variable") == variable)
        if run.kind in _KINDS and same:
            return run.flow
    raise UnknownNameError(f"{relative} was never run here", where=home.config.root, hint=f"penstock run {relative}")


def run_or_version(home: Home, text: str | None) -> Run | Version:
    """The run ("run:3f9c", "last~1") or version ("churn@7", "churn") that a text names; the newest run by default.

    Raises
    ------
    UnknownNameError
    """
    if text is None or is_run(text):
        return resolve_run(home.ledger, text or "last")
    if is_file(text):
        return resolve(home.ledger, workflow_of(home, text))
    return resolve(home.ledger, text)


def run_of(home: Home, text: str) -> Run:
    """The run that a text names, or the one that made the version that it names.

    Raises
    ------
    UnknownNameError
    """
    found = run_or_version(home, text)
    return found if isinstance(found, Run) else resolve_run(home.ledger, f"run:{found.body['run']}")
