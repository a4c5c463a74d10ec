"""From what stands on the command line to an open project and the file concerned."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.core.ports import Home
from penstock.errors import UsageError

WORKER = "penstock.worker"
"""Module that runs steps."""

SERVER = "penstock.serve"
"""Module that serves."""


@dataclass(frozen=True, slots=True)
class Target:
    """An open project and the declaration in it that is meant."""

    home: Home
    file: str
    variable: str | None


def here(path: str = ".", env: str | None = None, flags: Mapping[str, Any] | None = None, *, make: bool = True) -> Home:
    """Open the project that a path belongs to.

    Parameters
    ----------
    path : str
    env : str, optional
        Environment whose settings hold; workers find it under `PENSTOCK_ENV` as well.
    flags : dict, optional
        Settings given on the command line.
    make : bool, default=True
        False for a verb that only reads: it leaves a folder in which nothing was run as it is.
    """
    from penstock.project import open_home

    if env is not None:
        os.environ["PENSTOCK_ENV"] = env
    return open_home(path, flags, make=make)


def here_of(name: str | None) -> Home:
    """The project of a file, where a file is named; of the working directory otherwise. For verbs that read."""
    from penstock.lifecycle.naming import is_file, split_file

    return here(split_file(name)[0] if name is not None and is_file(name) else ".", make=False)


def other_home(near: Home, name: str | None, flag: str) -> Home:
    """The home of another environment of the same project, the only other one by default.

    Raises
    ------
    UsageError
        None is named and there is not exactly one; or it is the same place.
    """
    from penstock.project import environments, open_home

    here_now = near.config.environment
    others = [one for one in environments(near.config.root) if one != here_now]
    if name is None and len(others) != 1:
        what = f"there are {len(others)}: {', '.join(others)}" if others else "there is no other"
        raise UsageError(f"{flag}: which environment is meant? {what}", hint="add a table [env.prod] to penstock.toml")
    far = open_home(near.config.root, environment=name or others[0])
    if (far.config.store, far.config.ledger) == (near.config.store, near.config.ledger):
        raise UsageError(
            f"{far.config.environment} and {here_now} have the same store and ledger",
            hint="`penstock doctor --env NAME` tells where each value comes from",
        )
    return far


def target(text: str | None, env: str | None = None, flags: Mapping[str, Any] | None = None) -> Target:
    """The declaration that "FILE[:VARIABLE]", a workflow's name or nothing names.

    Raises
    ------
    UsageError, UnknownNameError
    """
    from penstock.lifecycle.naming import is_file, only_file, recent_file, split_file

    if text is None:
        home = here(env=env, flags=flags)
        return Target(home, only_file(home.config.root), None)
    if is_file(text):
        file, variable = split_file(text)
        path = os.path.abspath(file)
        if not os.path.isfile(path):
            raise UsageError(f"there is no file {file}{_near(path)}", hint="name the file that declares the workflow")
        return Target(here(path, env, flags), path, variable)
    home = here(env=env, flags=flags)
    return Target(home, *recent_file(home, text.partition("@")[0]))


def _near(path: str) -> str:
    """A Python file beside it with a like name."""
    from penstock.core.names import did_you_mean

    folder, base = os.path.split(path)
    names = [name for name in os.listdir(folder) if name.endswith(".py")] if os.path.isdir(folder) else []
    return did_you_mean(base, names)


def parameters(given: list[str] | None) -> dict[str, str]:
    """`--param` texts as a dict.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> parameters(["since=2026-01-01"])
    {'since': '2026-01-01'}
    """
    found = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--param {text}: NAME=VALUE is meant", hint="for instance --param since=2026-01-01")
        found[name] = value
    return found


def seconds_of(text: str, flag: str) -> float:
    """Seconds of "90s", "15m", "6h", "14d" or "2w".

    Raises
    ------
    UsageError

    Examples
    --------
    >>> seconds_of("14d", "--grace")
    1209600.0
    """
    units = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
    number, unit = text[:-1], text[-1:]
    try:
        value = float(number) * units[unit]
    except (KeyError, ValueError):
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"{flag} {text}: a number with s, m, h, d or w is meant", hint=f"for instance {flag} 14d")
    return value


def instant(text: str) -> float:
    """Unix time in seconds of "7d" (so long ago) or of a date or time in ISO form, local where it says no zone.

    Raises
    ------
    UsageError
    """
    import datetime as dt
    import time

    if "-" not in text:
        return time.time() - seconds_of(text, "--since")
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise UsageError(f"--since {text}: 7d or 2026-11-01 is meant", hint="for instance --since 7d") from None
