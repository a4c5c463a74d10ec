"""Who starts runs of a flow when they are due: a backend to which it was exported, or nobody but this machine.

An export is a decision, and a numbered stream holds them: `churn/export`. Its head says who has the schedule now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.core.ports import Ledger
from penstock.core.run import Entry
from penstock.errors import ConflictError, UsageError
from penstock.lifecycle.versions import head, stream

KIND = "export"
TRIES = 20
"""How often an export is put on record when others export at the same time."""


def owner_of(ledger: Ledger, flow: str) -> Entry | None:
    """The export by which a backend has the schedule of a flow; None where none has it.

    Whatever starts runs of a flow here when they are due asks this first, and leaves it to the backend that is named
    in the entry's body under "backend".
    """
    last = head(ledger, stream(flow, KIND))
    return last if last is not None and last.body["backend"] is not None else None


def put_export(ledger: Ledger, flow: str, body: Mapping[str, Any], who: str) -> Entry:
    """Put on record that a flow was exported; the same as the last time is on record already.

    Parameters
    ----------
    body : dict
        "backend", "schedule" ("" where the backend starts it otherwise), "to" (a path below the project's root, or ""
        for standard output), "file", "tasks" (their number) and "digest" (SHA-256 of what was written).
    who : str
        "user@host".

    Returns
    -------
    Entry
        By which the backend has the schedule.
    """
    return _append(ledger, flow, body, who, "exported")


def withdraw(ledger: Ledger, flow: str, backend: str, who: str) -> Entry:
    """Put on record that a backend has the schedule of a flow no more.

    Raises
    ------
    UsageError
        It has not.
    """
    owner = owner_of(ledger, flow)
    if owner is None or owner.body["backend"] != backend:
        has = f"{owner.body['backend']} has it" if owner is not None else "no backend has it"
        raise UsageError(f"{backend} does not have the schedule of {flow}: {has}", hint=f"penstock log {flow}")
    return _append(ledger, flow, {"backend": None, "previous": backend}, who, f"taken out of {backend}")


def _append(ledger: Ledger, flow: str, body: Mapping[str, Any], who: str, why: str) -> Entry:
    name = stream(flow, KIND)
    for _ in range(TRIES):
        last = head(ledger, name)
        if last is not None and dict(last.body) == dict(body):
            return last
        try:
            return ledger.append([Entry(name, last.number + 1 if last else 1, body, who=who, why=why)])[0]
        except ConflictError:
            continue
    raise ConflictError(f"{flow}: exports were recorded by others all the time", hint="do it again")


def sentence(entry: Entry) -> str:
    """An export, or that it was withdrawn, in words.

    Examples
    --------
    >>> sentence(Entry("churn/export", 1, {"backend": "airflow", "schedule": "@daily", "to": "dags/churn.py"}))
    'airflow has the schedule (@daily): exported to dags/churn.py'
    """
    body = entry.body
    if body["backend"] is None:
        return f"{body['previous']} has the schedule no more"
    when = f" ({body['schedule']})" if body.get("schedule") else ""
    return f"{body['backend']} has the schedule{when}: exported to {body.get('to') or 'standard output'}"
