"""Opening the final hold-out: what was found and who looked, on record in a stream of its own.

It spends nothing of what the gate judges by: these rows are others. Each opening makes them less final, so they are
counted, and the count is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.core.ports import Home
from penstock.core.run import Entry
from penstock.errors import ConflictError
from penstock.lifecycle.versions import Version, head, stream

TRIES = 20


def put_opening(
    home: Home, version: Version, figures: Mapping[str, Any], *, run: str, who: str
) -> tuple[dict[str, Any], bool]:
    """Put on record that the final hold-out was opened for a version; once for a version and the same figures.

    Parameters
    ----------
    figures : dict
        From `stages.final`.
    run, who : str

    Returns
    -------
    about : dict
        "version", "opening" (its number), "summary", "notes".
    new : bool
        Whether it was put on record now.

    Raises
    ------
    ConflictError
    """
    name = stream(version.workflow, "final")
    body = {"version": version.number, "run": run, **figures}
    for _ in range(TRIES):
        before = home.ledger.stream(name)
        for one in before:
            if all(one.body.get(key) == body[key] for key in ("version", "metrics", "n_rows")):
                return _told(version, one.number), False
        last = head(home.ledger, name)
        number = last.number + 1 if last else 1
        try:
            home.ledger.append([Entry(name, number, body, who=who, why=f"run:{run}")])
        except ConflictError:
            continue
        return _told(version, number), True
    raise ConflictError(f"{version.workflow}: the final hold-out was opened by others all the time", hint="run again")


def openings(home: Home, workflow: str) -> list[Entry]:
    """Each time that the final hold-out of a workflow was opened, oldest first."""
    return home.ledger.stream(stream(workflow, "final"))


def opening_json(workflow: str, entry: Entry) -> dict[str, Any]:
    """An opening as plain data: its number, for which version, by which run, when and by whom, and what was found."""
    body = entry.body
    found = {name: body[name] for name in ("run", "summary", "n_rows", "metrics")}
    return {
        "number": entry.number,
        "version": f"{workflow}@{body['version']}",
        "at": entry.at,
        "who": entry.who,
        **found,
    }


def often(n: int) -> str:
    """How many times.

    Examples
    --------
    >>> often(1), often(2), often(3)
    ('once', 'twice', '3 times')
    """
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def _told(version: Version, number: int) -> dict[str, Any]:
    """What a person is told of an opening."""
    told = f"opening {number} of the final hold-out of {version.workflow}, on record"
    notes = [] if number == 1 else [f"{told}: after {number - 1} before it, its rows are no longer unseen"]
    return {"version": version.number, "opening": number, "summary": told, "notes": notes}
