"""The outbox of what another system shall learn of: written in a moment, sent by a process that nobody waits for."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from penstock.core.ports import Config, Home
from penstock.core.run import Run
from penstock.engine.processes import spawn

MLFLOW = "penstock.integrations.mlflow"
"""Module of the process that sends, started by its name: nothing here imports it, or MLflow."""
FAULT = "last-fault.txt"
LOCK = "lock"
"""Held by the process that sends."""
GOING_ON = "going-on"
"""Folder inside the outbox, with a file for each run that began and is not known to have ended."""


def tell_begun(home: Home, run: Run) -> None:
    """Have a run followed while it goes on, until it has ended, however that happens."""
    if not home.config.mlflow.get("tracking_uri"):
        return
    folder = outbox(home.config)
    with contextlib.suppress(OSError):
        os.makedirs(os.path.join(folder, GOING_ON), exist_ok=True)
        _write(os.path.join(folder, GOING_ON), run.id, dict(run.info.get("process", {})))
        if not _is_held(os.path.join(folder, LOCK)):  # whoever sends looks for runs that go on as well
            _start(home)


def tell_run(home: Home, run: str) -> None:
    """Have a run mirrored that has ended, with the version and the aliases that came of it."""
    _tell(home, {"run": run})


def tell_workflow(home: Home, workflow: str) -> None:
    """Have the versions of a workflow mirrored, and where its aliases point now."""
    _tell(home, {"workflow": workflow})


def outbox(config: Config) -> str:
    """The folder in which what is to be sent waits, one file each; an environment has its own."""
    return os.path.join(config.root, ".penstock", "mlflow-outbox", config.environment)


def waiting(home: Home) -> dict[str, Any]:
    """How many events wait, and why the last attempt ended early.

    Returns
    -------
    dict
        "events" : int; "fault" : str, "" where none wait or nothing went wrong yet.
    """
    names = events(outbox(home.config))
    fault = ""
    if names:
        with contextlib.suppress(OSError), open(os.path.join(outbox(home.config), FAULT), encoding="utf-8") as file:
            fault = file.read(500)
    return {"events": len(names), "fault": fault}


def events(folder: str) -> list[str]:
    """Names of the events in an outbox, the oldest first."""
    return _names(folder)


def going_on(folder: str) -> list[str]:
    """Ids of the runs that began and are not known to have ended."""
    return [name.removesuffix(".json") for name in _names(os.path.join(folder, GOING_ON))]


def _names(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    except FileNotFoundError:
        return []


def _tell(home: Home, event: Mapping[str, Any]) -> None:
    """Write an event and start who sends it; a mirror that cannot be written to is no reason for a run to fail."""
    if not home.config.mlflow.get("tracking_uri"):
        return
    folder = outbox(home.config)
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        _write(folder, f"{time.time_ns():020d}-{os.getpid()}", event)
        _start(home)


def _write(folder: str, name: str, value: Mapping[str, Any]) -> None:
    """Write a file of JSON, whole or not at all."""
    draft = os.path.join(folder, f"{name}.part")
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.rename(draft, os.path.join(folder, f"{name}.json"))


def _start(home: Home) -> None:
    command = [sys.executable, "-P", "-m", MLFLOW, home.config.root, home.config.environment]
    spawn(command, environment=dict(os.environ))


def _is_held(path: str) -> bool:
    """Whether a process holds a lock."""
    import fcntl

    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
