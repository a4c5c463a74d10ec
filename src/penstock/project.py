"""The composition root: finds the project, resolves its configuration, wires store, ledger and formats."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.core.ports import Config, Home
from penstock.core.urls import has_password, masked, scheme
from penstock.errors import ConfigurationError, MissingExtraError, bounded

if TYPE_CHECKING:
    from penstock.store.upkeep import KeptObjects

FOLDER = ".penstock"
MARKS = ("pyproject.toml", "penstock.toml", FOLDER, ".git")
KEYS: dict[str, type[Any]] = {
    "store": str,
    "ledger": str,
    "seed": int,
    "jobs": int,
    "gpus": int,
    "trust": list,
    "hosts": list,
    "redact": list,
    "release": str,
    "grace": str,
    "keep": str,
    "cache": int,
    "mlflow.tracking_uri": str,
    "mlflow.experiment": str,
    "model_memory": int,
    "model_timeout": int,
}
GROUPS = ("mlflow",)
"""Tables of settings of one part: `[mlflow] experiment = …` is the setting mlflow.experiment."""

OWN_TYPE = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*@sha256:[0-9a-f]{64}")
"""How a class or function of a project is trusted: its name and the digest of its code."""

IS_CI = "PENSTOCK_RELEASE"
"""Set to "ci" by CI's templates: it says who this process is, where `release` says who may move the champion."""

LEDGERS = ("postgresql", "postgres")
"""Schemes of ledgers."""

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_TIME = re.compile(r"\d+(?:\.\d+)?[smhdw]")
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
        An unknown key, a value of the wrong type, an unknown environment, a `${NAME}` that is not set, a password.
    """
    values: dict[str, Any] = {
        "store": FOLDER,
        "ledger": os.path.join(FOLDER, "ledger.db"),
        "jobs": 0,
        "trust": [],
        "hosts": [],
        "redact": [],
    }
    origin = dict.fromkeys(values, "default")
    name = environment or os.environ.get("PENSTOCK_ENV") or "dev"
    for table, where in _tables(root, name):
        for key, value in table.items():
            _refuse_password(value, key, where)
            values[key] = value if _refers(value) else _checked(key, value, where)
            origin[key] = where
    for key, value in values.items():  # of a value that another place overrides, nothing need be set
        if _refers(value):
            values[key] = _checked(key, _filled(key, value, origin[key]), origin[key])
    for key, kind in KEYS.items():
        variable = f"PENSTOCK_{key.upper().replace('.', '_')}"
        if key != "release" and variable in os.environ:
            values[key] = _checked(key, _from_text(os.environ[variable], kind, variable), variable)
            origin[key] = variable
    for key, value in (flags or {}).items():
        if value is not None:
            values[key] = _checked(key, value, f"--{key}")
            origin[key] = f"--{key}"
    for key in ("store", "ledger"):
        values[key] = _place(root, values[key])
    values |= {key: tuple(values[key]) for key in ("trust", "hosts", "redact")}
    for group in GROUPS:
        names = [key for key in values if key.startswith(f"{group}.")]
        values[group] = {key.removeprefix(f"{group}."): values.pop(key) for key in names}
    return Config(root=root, environment=name, is_ci=_is_ci(), origin=origin, **values)


def _is_ci() -> bool:
    """Whether this process is CI.

    Raises
    ------
    ConfigurationError
        The variable holds anything else: it does not choose who may release.
    """
    text = os.environ.get(IS_CI, "")
    if text not in ("", "ci"):
        raise ConfigurationError(
            f"{IS_CI}={text!r}: the only value is ci, which says that this process is CI",
            where=IS_CI,
            hint='who may move the champion is `release = "…"` in penstock.toml, perhaps under [env.NAME]',
        )
    return text == "ci"


def _place(root: str, value: str) -> str:
    """A path below the root made absolute; a URL as it is, but for a file's, which is a path."""
    kind = scheme(value)
    if kind in ("file", "local"):
        kind, value = "", value[len(kind) + 3 :]
    return value if kind else os.path.normpath(os.path.join(root, os.path.expanduser(value)))


def _refers(value: Any) -> bool:
    """Whether a value of a file holds a `${NAME}`."""
    return any(isinstance(one, str) and _REFERENCE.search(one) for one in (value if type(value) is list else [value]))


def _refuse_password(value: Any, key: str, where: str) -> None:
    if (
        key in ("store", "ledger", "mlflow.tracking_uri")
        and isinstance(value, str)
        and has_password(_REFERENCE.sub("", value))
    ):
        raise ConfigurationError(
            f"{key} = {masked(value)!r}: a password does not belong into a file",
            where=where,
            hint="leave it to the provider's own settings (~/.pgpass, AWS_PROFILE), or write ${NAME} and set NAME",
        )


def _filled(key: str, value: Any, where: str) -> Any:
    """A value with each `${NAME}` replaced from the environment."""
    if isinstance(value, list):
        return [_filled(key, item, where) for item in value]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigurationError(
                f"{key} names ${{{match[1]}}}, which is not set", where=where, hint=f"set {match[1]} in the environment"
            )
        return os.environ[match[1]]

    return _REFERENCE.sub(replaced, value)


FILES = (("pyproject.toml", "tool.penstock"), ("penstock.toml", ""))
"""Files of settings in rising order of precedence, each with the table that is ours; "" for the whole."""


def _read_table(root: str, file: str, inner: str) -> dict[str, Any] | None:
    """Our table of a file; None where there is no such file, or none of ours in it."""
    path = os.path.join(root, file)
    if not os.path.exists(path):
        return None
    with open(path, "rb") as handle:
        text = handle.read()
    if inner and inner.encode() not in text:
        return None
    table = _parse(text, path)
    for part in inner.split(".") if inner else ():
        table = _table(table.get(part, {}), f"{file} [{inner}]")
    return dict(table)


def _tables(root: str, environment: str) -> list[tuple[dict[str, Any], str]]:
    """Configuration tables in rising order of precedence, each with the place where it stands."""
    found: list[tuple[dict[str, Any], str]] = []
    known = environment in ("dev", "ci")
    for file, inner in FILES:
        table = _read_table(root, file, inner)
        if table is None:
            continue
        place = f"{file} [{inner}]" if inner else file
        tables = _table(table.pop("env", {}), f"{place} env")
        found.append((_flat(table, place), place))
        if environment in tables:
            known = True
            inside = f"{place} env.{environment}"
            found.append((_flat(_table(tables[environment], inside), inside), inside))
    if not known:
        raise ConfigurationError(
            f"there is no environment {environment!r}",
            where=root,
            hint=f"add a table [env.{environment}] to penstock.toml",
        )
    return found


def _flat(table: dict[str, Any], where: str) -> dict[str, Any]:
    """A table with the settings of its groups beside the others, as "mlflow.experiment"."""
    inner = {group: _table(table[group], f"{where} {group}") for group in GROUPS if group in table}
    rest = {key: value for key, value in table.items() if key not in inner}
    return rest | {f"{group}.{key}": value for group, values in inner.items() for key, value in values.items()}


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{_shown(value)}: a table is meant", where=where)
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
        raise ConfigurationError(f"{key} = {_shown(value)}: {KINDS[kind]} is meant", where=where)
    if kind is list and not all(isinstance(item, str) for item in value):
        raise ConfigurationError(f"{key} = {_shown(value)}: every item is a name, as text", where=where)
    if key == "trust":
        _check_trust(value, where)
    if kind is int and value < 0:
        raise ConfigurationError(f"{key} = {value}: a whole number from 0", where=where)
    if key == "release" and value not in RELEASES:
        raise ConfigurationError(f"release = {_shown(value)}: one of {', '.join(RELEASES)}", where=where)
    if key in ("grace", "keep") and not _TIME.fullmatch(value):
        raise ConfigurationError(
            f"{key} = {_shown(value)}: a time is meant", where=where, hint=f'for instance {key} = "14d"'
        )
    if key == "store":
        _check_store(value, where)
    if key == "ledger" and scheme(value) not in ("", *LEDGERS):
        raise ConfigurationError(
            f"ledger = {masked(value)!r}: a path or a postgresql:// URL is meant",
            where=where,
            hint="objects may lie anywhere; the ledger is a file of this machine or a database",
        )
    return value


def _shown(value: Any) -> str:
    """A value of any type as an error may show it."""
    return bounded(masked(repr(value)), 200)


def _check_trust(value: list[str], where: str) -> None:
    bad = [item for item in value if ":" in item and not OWN_TYPE.fullmatch(item)]
    if bad:
        raise ConfigurationError(
            f"trust = […, {bad[0][:200]!r}]: an exact name of a library's, own, or MODULE:NAME@sha256:DIGEST is meant",
            where=where,
            hint="`penstock serve` says the exact line when it refuses a type",
        )


def _check_store(value: str, where: str) -> None:
    """Credentials come from the provider's own settings, never from ours."""
    kind = scheme(value)
    if kind and ("@" in value.partition("://")[2].partition("/")[0] or has_password(value) or "?" in value):
        raise ConfigurationError(
            f"store = {masked(value)!r}: a URL without user, password or query is meant",
            where=where,
            hint="credentials come from the provider's own settings: AWS_PROFILE, ~/.aws, a role of the machine",
        )


def _from_text(text: str, kind: type, where: str) -> Any:
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ConfigurationError(f"{text!r} is no whole number", where=where) from None
    return [part.strip() for part in text.split(",") if part.strip()] if kind is list else text


def environments(root: str) -> list[str]:
    """Names of the `env.*` tables, and "dev", in order.

    Raises
    ------
    ConfigurationError
    """
    found = {"dev": None}
    for file, inner in FILES:
        table = _read_table(root, file, inner)
        found |= dict.fromkeys(_table((table or {}).get("env", {}), f"{file} env"))
    return list(found)


def open_home(
    path: str = ".", flags: Mapping[str, Any] | None = None, environment: str | None = None, *, make: bool = True
) -> Home:
    """The project that a path belongs to, with its store, ledger and formats.

    Parameters
    ----------
    path : str
        A file or folder of the project.
    flags : dict, optional
        Settings given on the command line.
    environment : str, optional
        Whose settings hold; `PENSTOCK_ENV` or "dev" by default.
    make : bool, default=True
        False for who only reads: where there is no store yet, an empty one that goes with this process.

    Raises
    ------
    ConfigurationError, StoreError
    """
    from penstock.formats.registry import FormatRegistry
    from penstock.store.mark import keep_out_of_git

    config = configure(find_root(path), flags, environment)
    if not make and not _is_begun(config):
        return _empty(config)
    objects = open_objects(config)
    keep_out_of_git(os.path.join(config.root, FOLDER))
    return Home(
        config=config,
        objects=objects,
        ledger=open_ledger(config.ledger),
        formats=FormatRegistry(trust=config.trust),
    )


def _is_begun(config: Config) -> bool:
    """Whether anything was kept here: a shared store or ledger always is."""
    if scheme(config.store) or scheme(config.ledger):
        return True
    return os.path.exists(config.ledger) or os.path.exists(os.path.join(config.store, "format"))


def _empty(config: Config) -> Home:
    """A home with nothing in it, for who reads where nothing was made: looking at a folder leaves it as it is."""
    import tempfile
    import weakref

    from penstock.formats.registry import FormatRegistry
    from penstock.store.objects import DirectoryObjects

    folder = tempfile.TemporaryDirectory(prefix="penstock-empty-")
    objects = DirectoryObjects(os.path.join(folder.name, "store"))
    weakref.finalize(objects, folder.cleanup)
    ledger = open_ledger(os.path.join(folder.name, "ledger.db"))
    return Home(config=config, objects=objects, ledger=ledger, formats=FormatRegistry(trust=config.trust))


def open_ledger(place: str) -> Any:
    """The ledger at a path or a `postgresql://` URL.

    Raises
    ------
    MissingExtraError
        The URL needs an extra that is not installed.
    StoreError, ConfigurationError
    """
    if not scheme(place):
        from penstock.store.ledger import SqliteLedger

        return SqliteLedger(place)
    try:
        from penstock.store.postgres_ledger import PostgresLedger
    except ImportError as error:
        raise MissingExtraError(
            f"a ledger in PostgreSQL needs psycopg: {error}", hint="pip install 'penstock[postgres]'"
        ) from error
    return PostgresLedger(place)


def open_store(config: Config, project_types: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """Objects and formats alone, for a worker, which never touches the ledger."""
    from penstock.formats.registry import FormatRegistry

    return open_objects(config), FormatRegistry(trust=config.trust, project_types=project_types)


def open_objects(config: Config) -> KeptObjects:
    """The store: a directory, or what lies behind a URL with a part of it on this machine.

    Raises
    ------
    MissingExtraError, StoreError
    """
    kind = scheme(config.store)
    if not kind:
        from penstock.store.objects import DirectoryObjects

        return DirectoryObjects(config.store)
    import hashlib

    from penstock.store.remote import RemoteObjects

    name = f"{kind}-{hashlib.sha256(config.store.encode()).hexdigest()[:16]}"
    return RemoteObjects(config.store, os.path.join(config.root, FOLDER, "remote", name), limit=config.cache << 30)
