"""What `penstock doctor` looks at: configuration with origins, the ledger's state, libraries, extras, trust."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from penstock.core.ports import Home
from penstock.core.urls import masked, scheme
from penstock.errors import StoreError
from penstock.lifecycle.machine import machine
from penstock.lifecycle.mirror import waiting
from penstock.lifecycle.release import policy

EXTRAS = {"serve": ("uvicorn", "httptools", "msgspec")}
"""Extra → modules that it brings."""

LIBRARIES = ("scikit-learn", "scipy", "numpy", "pandas", "pyarrow", "polars", "skops")


def checkup(home: Home) -> dict[str, Any]:
    """Facts about this project and machine, as plain data.

    Returns
    -------
    dict
        "configuration": {name: {"value", "origin"}}; "store", "ledger": path, whether it can be written to, and the
        ledger's journal mode or its server; "python", "sqlite", "machine"; "libraries": {name: version or None};
        "extras": {name: missing modules}; "trust": exact names; "mirror": what waits for MLflow; "problems":
        sentences, empty when all is well.
    """
    config = home.config
    names = (
        "store",
        "ledger",
        "seed",
        "jobs",
        "trust",
        "release",
        "grace",
        "keep",
        "cache",
        "model_memory",
        "model_timeout",
    )
    values = {name: getattr(config, name) for name in names}
    configuration = {
        name: {
            "value": masked(value) if isinstance(value, str) else value,
            "origin": config.origin.get(name, "default"),
        }
        for name, value in values.items()
    }
    for name, value in config.mlflow.items():
        origin = config.origin.get(f"mlflow.{name}", "default")
        configuration[f"mlflow.{name}"] = {"value": masked(value), "origin": origin}
    configuration["release"]["value"] = policy(config, None) if config.release or config.shared else None
    configuration["is_ci"] = {"value": config.is_ci, "origin": "PENSTOCK_RELEASE" if config.is_ci else "default"}
    configuration["environment"] = {
        "value": config.environment,
        "origin": "PENSTOCK_ENV" if "PENSTOCK_ENV" in os.environ else "default",
    }
    found: dict[str, Any] = {
        "root": config.root,
        "configuration": configuration,
        "store": _store(home),
        "ledger": _ledger(home),
        "python": platform.python_version(),
        "executable": sys.executable,
        "sqlite": sqlite3.sqlite_version,
        "machine": machine() | {"system": platform.system()},
        "libraries": {name: version_of(name) for name in ("penstock", *LIBRARIES)},
        "extras": {extra: [n for n in names if find_spec(n) is None] for extra, names in EXTRAS.items()},
        "trust": list(config.trust),
        "mirror": waiting(home),
    }
    found["problems"] = _problems(found)
    return found


def _store(home: Home) -> dict[str, Any]:
    """Where the objects are, whether they can be written to, and why not."""
    place = home.config.store
    if not scheme(place):
        return {"path": place, "writable": _writable(place), "fault": ""}
    try:
        home.objects.missing(["0" * 64])
    except StoreError as error:
        return {"path": masked(place), "writable": False, "fault": error.what}
    return {"path": masked(place), "writable": True, "fault": ""}


def version_of(name: str) -> str | None:
    """Version of a distribution, None when it is not installed; our own where it runs from its sources."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        if name != "penstock":
            return None
        from penstock import __version__

        return __version__


def journal(path: str) -> str | None:
    """The journal mode of a ledger's file, None where there is no file yet."""
    if not os.path.exists(path):
        return None
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)
        try:
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.Error as error:
        return f"cannot be read: {error}"


def _ledger(home: Home) -> dict[str, Any]:
    """Path, whether it can be written to, and the journal of a file, or the server and the user's role of a URL."""
    path = home.config.ledger
    asked = getattr(home.ledger, "server", None)
    if asked is None:
        return {"path": path, "writable": _writable(path), "journal": journal(path)}
    return {"path": masked(path), "journal": None, **asked()}


def _writable(path: str) -> bool:
    """Whether a path can be written to, or made where it is not there yet."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return os.access(path, os.W_OK)


def _problems(found: dict[str, Any]) -> list[str]:
    problems = [f"the {name} cannot be written to: {found[name]['path']}" for name in ("store", "ledger")
                if not found[name]["writable"]]  # fmt: skip
    problems += [f"{name} is not installed" for name, version in found["libraries"].items() if version is None]
    if found["mirror"]["fault"]:
        problems.append(f"{found['mirror']['events']} events wait for MLflow: {found['mirror']['fault']}")
    if str(found["ledger"]["journal"]).startswith("cannot"):
        problems.append(f"the ledger {found['ledger']['journal']}")
    return problems
