"""The composition root: finds the project, resolves its configuration, wires store, ledger and formats."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from penstock.core.ports import Config, Home
from penstock.errors import ConfigurationError

FOLDER = ".penstock"
MARKS = ("pyproject.toml", "penstock.toml", FOLDER, ".git")
KEYS: dict[str, type[Any]] = {"store": str, "ledger": str, "seed": int, "jobs": int, "trust": list, "release": str}
KINDS = {str: "text", int: "a whole number", list: "a list"}
RELEASES = ("auto", "ci", "never")


def find_root(path: str) -> str:
    """The nearest folder upward from a file or folder that has a mark of a project, else the folder itself.

    Parameters
    ----------
    path : str

    Returns
    -------
    str
        Absolute path.
    """
    start = os.path.abspath(path)
    if not os.path.isdir(start):
        start = os.path.dirname(start)
    folder = start
    while True:
        if any(os.path.exists(os.path.join(folder, mark)) for mark in MARKS):
            return folder
        above = os.path.dirname(folder)
        if above == folder:
            return start
        folder = above


def configure(root: str, flags: Mapping[str, Any] | None = None, environment: str | None = None) -> Config:
    """Configuration of a project: files, then `PENSTOCK_*`, then flags; each value's origin is kept.

    Raises
    ------
    ConfigurationError
        An unknown key, a value of the wrong type, an unknown environment.
    """
    values: dict[str, Any] = {"store": FOLDER, "ledger": os.path.join(FOLDER, "ledger.db"), "jobs": 0, "trust": []}
    origin = dict.fromkeys(values, "default")
    name = environment or os.environ.get("PENSTOCK_ENV", "dev")
    for table, where in _tables(root, name):
        for key, value in table.items():
            values[key] = _checked(key, value, where)
            origin[key] = where
    for key, kind in KEYS.items():
        variable = f"PENSTOCK_{key.upper()}"
        if variable in os.environ:
            values[key] = _checked(key, _from_text(os.environ[variable], kind, variable), variable)
            origin[key] = variable
    for key, value in (flags or {}).items():
        if value is not None:
            values[key] = _checked(key, value, f"--{key}")
            origin[key] = f"--{key}"
    for key in ("store", "ledger"):
        values[key] = os.path.normpath(os.path.join(root, os.path.expanduser(values[key])))
    return Config(
        root=root,
        store=values["store"],
        ledger=values["ledger"],
        seed=values.get("seed"),
        jobs=values["jobs"],
        trust=tuple(values["trust"]),
        release=values.get("release"),
        environment=name,
        origin=origin,
    )


def _tables(root: str, environment: str) -> list[tuple[dict[str, Any], str]]:
    """Configuration tables in rising order of precedence, each with the place where it stands."""
    found: list[tuple[dict[str, Any], str]] = []
    known = environment in ("dev", "ci")
    for file, inner in (("pyproject.toml", "tool.penstock"), ("penstock.toml", "")):
        path = os.path.join(root, file)
        if not os.path.exists(path):
            continue
        with open(path, "rb") as handle:
            text = handle.read()
        if inner and inner.encode() not in text:
            continue
        place = f"{file} [{inner}]" if inner else file
        table = _parse(text, path)
        for part in inner.split(".") if inner else ():
            table = _table(table.get(part, {}), place)
        table = dict(table)
        environments = _table(table.pop("env", {}), f"{place} env")
        found.append((table, place))
        if environment in environments:
            known = True
            inside = f"{place} env.{environment}"
            found.append((_table(environments[environment], inside), inside))
    if not known:
        raise ConfigurationError(
            f"there is no environment {environment!r}",
            where=root,
            hint=f"add a table [env.{environment}] to penstock.toml",
        )
    return found


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{value!r}: a table is meant", where=where)
    return value


def _parse(text: bytes, path: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {error}", where=path) from error


def _checked(key: str, value: Any, where: str) -> Any:
    if key not in KEYS:
        from penstock.core.names import did_you_mean

        raise ConfigurationError(f"no setting is called {key!r}{did_you_mean(key, KEYS)}", where=where)
    kind = KEYS[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigurationError(f"{key} = {value!r}: {KINDS[kind]} is meant", where=where)
    if kind is list and not all(isinstance(item, str) for item in value):
        raise ConfigurationError(f"{key} = {value!r}: every item is a name, as text", where=where)
    if kind is int and value < 0:
        raise ConfigurationError(f"{key} = {value}: a whole number from 0", where=where)
    if key == "release" and value not in RELEASES:
        raise ConfigurationError(f"release = {value!r}: one of {', '.join(RELEASES)}", where=where)
    if key in ("store", "ledger") and "://" in str(value):
        raise ConfigurationError(f"{key} = {value!r}: only a local directory works yet", where=where)
    return value


def _from_text(text: str, kind: type, where: str) -> Any:
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ConfigurationError(f"{text!r} is no whole number", where=where) from None
    return [part.strip() for part in text.split(",") if part.strip()] if kind is list else text


def open_home(path: str = ".", flags: Mapping[str, Any] | None = None) -> Home:
    """The project that a path belongs to, with its store, ledger and formats.

    Parameters
    ----------
    path : str
        A file or folder of the project.
    flags : dict, optional
        Settings given on the command line.

    Raises
    ------
    ConfigurationError, StoreError
    """
    from penstock.formats.registry import FormatRegistry
    from penstock.store.ledger import SqliteLedger
    from penstock.store.mark import initialise
    from penstock.store.objects import DirectoryObjects

    config = configure(find_root(path), flags)
    initialise(config.store)
    return Home(
        config=config,
        objects=DirectoryObjects(config.store),
        ledger=SqliteLedger(config.ledger),
        formats=FormatRegistry(trust=config.trust),
    )


def open_store(config: Config, project_types: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """Objects and formats alone, for a worker, which never touches the ledger."""
    from penstock.formats.registry import FormatRegistry
    from penstock.store.objects import DirectoryObjects

    return DirectoryObjects(config.store), FormatRegistry(trust=config.trust, project_types=project_types)
