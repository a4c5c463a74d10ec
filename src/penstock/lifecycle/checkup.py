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
from penstock.core.urls import masked
from penstock.lifecycle.machine import machine

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
        "extras": {name: missing modules}; "trust": exact names; "problems": sentences, empty when all is well.
    """
    config = home.config
    values = {name: getattr(config, name) for name in ("store", "ledger", "seed", "jobs", "trust", "release")}
    configuration = {n: {"value": v, "origin": config.origin.get(n, "default")} for n, v in values.items()}
    configuration["environment"] = {
        "value": config.environment,
        "origin": "PENSTOCK_ENV" if "PENSTOCK_ENV" in os.environ else "default",
    }
    found: dict[str, Any] = {
        "root": config.root,
        "configuration": configuration,
        "store": {"path": config.store, "writable": os.access(config.store, os.W_OK)},
        "ledger": _ledger(home),
        "python": platform.python_version(),
        "executable": sys.executable,
        "sqlite": sqlite3.sqlite_version,
        "machine": machine() | {"system": platform.system()},
        "libraries": {name: version_of(name) for name in ("penstock", *LIBRARIES)},
        "extras": {extra: [n for n in names if find_spec(n) is None] for extra, names in EXTRAS.items()},
        "trust": list(config.trust),
    }
    found["problems"] = _problems(found)
    return found


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
    return os.access(path if os.path.exists(path) else os.path.dirname(path), os.W_OK)


def _problems(found: dict[str, Any]) -> list[str]:
    problems = [f"the {name} cannot be written to: {found[name]['path']}" for name in ("store", "ledger")
                if not found[name]["writable"]]  # fmt: skip
    problems += [f"{name} is not installed" for name, version in found["libraries"].items() if version is None]
    if str(found["ledger"]["journal"]).startswith("cannot"):
        problems.append(f"the ledger {found['ledger']['journal']}")
    return problems
