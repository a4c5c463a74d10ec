"""Versions and aliases, as they stand on the ledger; and the names by which people call them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.names import did_you_mean
from penstock.core.ports import Home, Ledger
from penstock.core.run import Entry, Run
from penstock.errors import UnknownNameError

CHAMPION, CHALLENGER = "champion", "challenger"
LOOKED = "by a person"
"""Why a look was taken that no gate took."""
MOST_DIGITS = 9
"""Numbers that people type are shorter: no ledger has as many versions or runs."""
_VERSION = re.compile(r"^(?P<workflow>[a-z][a-z0-9_-]*)(?:@(?P<which>[A-Za-z0-9_-]+))?$")


@dataclass(frozen=True, slots=True)
class Version:
    """One bundle with its lineage.

    Attributes
    ----------
    workflow : str
    number : int
    entry : Entry
        Its row on the ledger.
    """

    workflow: str
    number: int
    entry: Entry

    @property
    def name(self) -> str:
        """As people write it: "churn@7"."""
        return f"{self.workflow}@{self.number}"

    @property
    def bundle(self) -> Artifact:
        """The manifest's artifact."""
        return Artifact.from_json(self.entry.body["bundle"])

    @property
    def body(self) -> Mapping[str, Any]:
        """What was recorded with it."""
        return self.entry.body


def stream(workflow: str, kind: str, name: str = "") -> str:
    """Name of a stream of decisions.

    Examples
    --------
    >>> stream("churn", "alias", "champion")
    'churn/alias/champion'
    """
    return f"{workflow}/{kind}/{name}" if name else f"{workflow}/{kind}"


def head(ledger: Ledger, name: str) -> Entry | None:
    """The newest entry of a stream."""
    number = ledger.streams(name).get(name, 0)
    entries = ledger.stream(name, after=number - 1) if number else []
    return entries[-1] if entries else None


def versions(ledger: Ledger, workflow: str) -> list[Version]:
    """Every version of a workflow, oldest first."""
    return [Version(workflow, e.number, e) for e in ledger.stream(stream(workflow, "version"))]


def version(ledger: Ledger, workflow: str, number: int) -> Version:
    """One version.

    Raises
    ------
    UnknownNameError
    """
    asked = 0 < number < 10**MOST_DIGITS
    found = ledger.stream(stream(workflow, "version"), after=number - 1) if asked else []
    if not found or found[0].number != number:
        raise UnknownNameError(
            f"there is no version {workflow}@{number}", hint=f"`penstock models {workflow}` lists what there is"
        )
    return Version(workflow, number, found[0])


def alias(ledger: Ledger, workflow: str, name: str) -> tuple[Version | None, int]:
    """The version that an alias points to, and the number of the move that made it so (0 for none)."""
    move = head(ledger, stream(workflow, "alias", name))
    if move is None:
        return None, 0
    number = move.body["version"]
    return (version(ledger, workflow, number) if number is not None else None), move.number


NAMES = "`penstock models` lists what there is"
NOTHING_HERE = "nothing has been registered here: versions are found from within their project's folder"


def workflows(ledger: Ledger) -> list[str]:
    """Names of the workflows that have versions, in order."""
    return sorted(name.partition("/")[0] for name in ledger.streams() if name.endswith("/version"))


def resolve(ledger: Ledger, text: str) -> Version:
    """The version that "churn@7", "churn@champion" or "churn" (its champion) names.

    Raises
    ------
    UnknownNameError
    """
    match = _VERSION.match(text)
    known = workflows(ledger)
    if match is None or match["workflow"] not in known:
        workflow = match["workflow"] if match else text
        raise UnknownNameError(
            f"no workflow called {workflow!r} has versions here{did_you_mean(workflow, known)}",
            hint=NAMES if known else NOTHING_HERE,
        )
    workflow, which = match["workflow"], match["which"] or CHAMPION
    if which.isdigit():
        return version(ledger, workflow, int(which))
    found, _ = alias(ledger, workflow, which)
    if found is None:
        aliases = [name.rpartition("/")[2] for name in ledger.streams(stream(workflow, "alias/"))]
        near = did_you_mean(which, [name for name in aliases if name != which])
        raise UnknownNameError(
            f"{workflow} has no {which!r}{near}", hint=f"`penstock models {workflow}` lists versions and aliases"
        )
    return found


def resolve_run(ledger: Ledger, text: str) -> Run:
    """The run that "run:3f9c", "last" or "last~1" names.

    Raises
    ------
    UnknownNameError
    """
    if text == "last" or text.startswith("last~"):
        back = text[5:] or "0"
        if back.isdecimal() and len(back) <= MOST_DIGITS:
            found = ledger.runs(limit=int(back) + 1)
            if len(found) > int(back):
                return found[int(back)]
        raise UnknownNameError(f"there is no run {text}", hint="`penstock runs` lists them")
    prefix = text.removeprefix("run:")
    found = ledger.runs(prefix=prefix, limit=2) if prefix else []
    if len(found) != 1:
        why = "several runs begin with it" if found else "no run begins with it"
        raise UnknownNameError(f"run {prefix!r}: {why}", hint="`penstock runs` lists them")
    return found[0]


def manifest(home: Home, bundle: Artifact) -> dict[str, Any]:
    """A bundle's manifest: file name → artifact, beside workflow and task.

    Raises
    ------
    MissingObjectError, CorruptObjectError
    """
    import json

    text = bundle.text if bundle.text is not None else home.objects.read(bundle.digest).decode("utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def file_of(home: Home, bundle: Artifact, name: str) -> Any:
    """One file of a bundle, read back."""
    return home.formats.load(Artifact.from_json(manifest(home, bundle)["files"][name]), home.objects)


def parts_of(home: Home, bundle: Artifact) -> dict[str, Artifact]:
    """The files of a bundle, by name."""
    return {name: Artifact.from_json(data) for name, data in manifest(home, bundle)["files"].items()}


def who_am_i() -> str:
    """The person and machine on record for a decision, as "user@host"."""
    host = os.uname().nodename if hasattr(os, "uname") else "?"
    return f"{_user()}@{host}"


def _user() -> str:
    name = os.environ.get("USER") or os.environ.get("LOGNAME")
    if name or not hasattr(os, "getuid"):
        return name or "?"
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
