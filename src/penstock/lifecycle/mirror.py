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
from penstock.engine.processes import spawn

MLFLOW = "penstock.integrations.mlflow"
"""Module of the process that sends, started by its name: nothing here imports it, or MLflow."""
FAULT = "last-fault.txt"


def tell_run(home: Home, run: str) -> None:
    """Have a run mirrored, with the version and the aliases that came of it."""
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
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    except FileNotFoundError:
        return []


def _tell(home: Home, event: Mapping[str, Any]) -> None:
    """Write an event and start who sends it; a mirror that cannot be written to is no reason for a run to fail."""
    if not home.config.mlflow.get("tracking_uri"):
        return
    folder = outbox(home.config)
    name = f"{time.time_ns():020d}-{os.getpid()}"
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        draft = os.path.join(folder, f"{name}.part")
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(event, file)
        os.rename(draft, os.path.join(folder, f"{name}.json"))
        command = [sys.executable, "-P", "-m", MLFLOW, home.config.root, home.config.environment]
        spawn(command, environment=dict(os.environ))
