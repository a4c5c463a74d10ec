"""Signs of life of a backend's run: which of its tasks have begun and not ended, and what is known of their processes.

No process of ours outlives a task, and no backend tells us of its own end. So each task notes itself in the run's row
while it lasts. A note whose process is gone is that of a task which was killed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from penstock.core.ports import Home
from penstock.core.run import Group, Run, StepRun
from penstock.errors import StoreError
from penstock.lifecycle.alive import TASKS, is_gone, mark
from penstock.lifecycle.remote_record import Part, run_of

MOST_TURNS = 10
"""Tasks that begin or end at one moment write one row, and the last wins: so often a note that was lost is repeated."""


def key_of(part: Part) -> str:
    """Under which name a task notes itself: its steps, and which part of them."""
    return f"{', '.join(part.steps)} {part.name}".rstrip()


@contextlib.contextmanager
def noted(home: Home, run: Run, part: Part) -> Iterator[dict[str, Any] | None]:
    """Note in a run's row that this process does a part of it, for as long as it does.

    Yields
    ------
    dict or None
        What an earlier try of the same left there, which ended without a word; None where there was none.
    """
    key, mine = key_of(part), mark() | {"began": time.time()}
    before = run.info.get(TASKS, {}).get(key)
    _write(home, run, key, mine)
    try:
        yield before
    finally:
        with contextlib.suppress(StoreError):  # what ended us may have been just that
            _write(home, run, key, None)


def _write(home: Home, run: Run, key: str, mine: Mapping[str, Any] | None) -> None:
    for _ in range(MOST_TURNS):
        now = run_of(home, run.id) or run
        tasks = {name: one for name, one in now.info.get(TASKS, {}).items() if name != key}
        tasks |= {key: dict(mine)} if mine is not None else {}
        if tasks == now.info.get(TASKS, {}):
            return
        info = {name: value for name, value in now.info.items() if name != TASKS} | ({TASKS: tasks} if tasks else {})
        home.ledger.commit(Group(runs=[replace(now, info=info)]))


def last_sign(run: Run, rows: list[StepRun]) -> dict[str, Any] | None:
    """What was heard last of a backend's run that is on record as running; None of any other.

    Returns
    -------
    dict
        "at" (Unix time), "task", and "state": "runs", "elsewhere" of a process on another machine, of which no more is
        known, "gone" of one that was killed, or "ended".
    """
    if run.state != "running" or "backend" not in run.info:
        return None
    found = [
        {"at": row.started + row.wall_s, "task": row.step, "state": "ended"}
        for row in rows
        if row.state in ("done", "failed", "skipped")
    ]
    for task, process in run.info.get(TASKS, {}).items():
        state = "gone" if is_gone(process) else "runs" if process.get("host") == mark()["host"] else "elsewhere"
        found.append({"at": process["began"], "task": task, "state": state, "host": process.get("host", "")})
    order = ("ended", "gone", "elsewhere", "runs")
    begun = {"at": run.started, "task": "", "state": "ended"}
    return max([begun, *found], key=lambda one: (order.index(str(one["state"])), one["at"]))


def sign_of(home: Home, run: Run) -> dict[str, Any] | None:
    """The same; the ledger is asked only of a run that it may have something to say of."""
    if run.state != "running" or "backend" not in run.info:
        return None
    return last_sign(run, home.ledger.step_runs(run.id))


def told(sign: Mapping[str, Any], when: str) -> str:
    """The same in words, with the moment as people are told it.

    Examples
    --------
    >>> told({"state": "ended", "task": "train", "at": 0.0}, "11:02")
    'last sign of life 11:02: train ended'
    """
    task, host = sign["task"], sign.get("host", "")
    if sign["state"] == "runs":
        return f"{task} since {when}"
    if sign["state"] == "elsewhere":
        return f"{task} since {when} on {host}, of which no more is known here"
    if sign["state"] == "gone":
        return f"{task}, begun {when}, was killed: its backend may try again"
    return f"last sign of life {when}: {f'{task} ended' if task else 'it began'}"
