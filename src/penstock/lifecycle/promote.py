"""Moving an alias: forwards, backwards, by compare-and-swap, with who, when and why on record."""

from __future__ import annotations

from penstock.core.ports import Home
from penstock.core.run import Entry
from penstock.errors import ConflictError, RefusedError, UsageError
from penstock.lifecycle.mirror import tell_workflow
from penstock.lifecycle.release import check_code
from penstock.lifecycle.versions import (
    CHALLENGER,
    CHAMPION,
    Version,
    alias,
    head,
    manifest,
    stream,
    version,
)

TRIES = 20
"""How often the challenger is named when others name theirs at the same time."""


def move(
    home: Home,
    to: Version,
    name: str = CHAMPION,
    *,
    why: str,
    who: str,
    after: int | None = None,
    verdict: int | None = None,
    dirty: str = "",
) -> Entry:
    """Point an alias at a version; a move of the champion is a deployment too, in the same transaction.

    Parameters
    ----------
    after : int, optional
        Number of the alias's last move that the decision was based on; the present one by default.
    verdict : int, optional
        Number of the verdict that allows it.
    dirty : str
        What is wrong with where its code comes from, and was allowed; on record.

    Raises
    ------
    ConflictError
        Somebody moved it first.
    """
    ledger = home.ledger
    present, number = alias(ledger, to.workflow, name)
    if after is not None and number != after:
        now = present.name if present else "nobody"
        raise ConflictError(f"{name} moved to {now} meanwhile", where=to.workflow, hint="run again to compare with it")
    previous = present.number if present else None
    body = {"version": to.number, "previous": previous, "verdict": verdict} | ({"dirty": dirty} if dirty else {})
    why = f"{why} ({dirty}; allowed)" if dirty else why
    entries = [Entry(stream(to.workflow, "alias", name), number + 1, body, who=who, why=why)]
    if name == CHAMPION:
        last = head(ledger, stream(to.workflow, "deployment"))
        deployed = {
            "version": to.number,
            "bundle": to.bundle.to_json(),
            "previous": last.body["version"] if last else None,
            "artifacts": {"bundle": to.bundle.digest},
        }
        count = (last.number if last else 0) + 1
        entries.append(Entry(stream(to.workflow, "deployment"), count, deployed, who=who, why=why))
    return ledger.append(entries)[0]


def check_whole(home: Home, found: Version) -> None:
    """Refuse a version whose bytes are missing or damaged, before anything is switched.

    Raises
    ------
    MissingObjectError, CorruptObjectError
        Naming the digest.
    """
    for file in manifest(home, found.bundle)["files"].values():
        if "text" not in file:
            home.objects.read(file["digest"])


def promote(
    home: Home, found: Version, *, why: str, who: str, force: bool = False, allow_dirty: bool = False
) -> Entry | None:
    """Make a version the champion by hand.

    Only a version that passed its gate is promoted, unless `force` is given with a reason; on a shared ledger, only one
    whose code a commit holds, unless `allow_dirty` is given.

    Returns
    -------
    Entry or None
        None when it is the champion already.

    Raises
    ------
    UsageError
        No reason was given.
    RefusedError
        Its gate did not pass it, or no commit holds its code.
    ConflictError
        Somebody moved the champion first.
    """
    if not why.strip():
        raise UsageError("a promotion by hand needs a reason", hint='add --because "why"')
    present, number = alias(home.ledger, found.workflow, CHAMPION)
    if present is not None and present.number == found.number:
        return None
    last = check_promotion(home, found, force=force)
    dirty = check_code(home, found, allow_dirty=allow_dirty)
    check_whole(home, found)
    reason = f"{why} (forced past the gate)" if force and (last is None or not last.body["passed"]) else why
    moved = move(home, found, why=reason, who=who, after=number, verdict=last.number if last else None, dirty=dirty)
    tell_workflow(home, found.workflow)
    return moved


def check_promotion(home: Home, found: Version, *, force: bool = False) -> Entry | None:
    """The last verdict on a version, which must have passed it, unless `force` is given.

    Raises
    ------
    RefusedError
    """
    verdicts = [e for e in home.ledger.stream(stream(found.workflow, "verdict")) if e.body["version"] == found.number]
    last = verdicts[-1] if verdicts else None
    if (last is None or not last.body["passed"]) and not force:
        outcome = last.body["sentence"] if last else "it was never judged"
        raise RefusedError(
            f"{found.name} did not pass its gate: {outcome}", hint="--force promotes it all the same, on record"
        )
    return last


def rollback(home: Home, workflow: str, *, why: str, who: str, to: int | None = None) -> Entry:
    """Move the champion back to the version before it, or to any that was champion once.

    Raises
    ------
    UsageError
        There is nothing before it; or the version asked for is the champion, or never was it.
    MissingObjectError, CorruptObjectError
        The earlier version is not whole; the champion is untouched.
    """
    present, number = alias(home.ledger, workflow, CHAMPION)
    if present is None:
        raise UsageError(f"{workflow} has no champion", hint=f"`penstock models {workflow}` lists what there is")
    target = previous_champion(home, workflow) if to is None else to
    if target is None:
        raise UsageError(f"there was no champion before {present.name}", hint="`penstock log` shows every move")
    found = version(home.ledger, workflow, target)
    if found.number == present.number:
        raise UsageError(f"{found.name} is the champion already", hint="`penstock log` shows every move")
    if found.number not in champions(home, workflow):  # else this would be a way around the gate
        by_hand = f"penstock promote {found.name} --because …"
        raise UsageError(f"{found.name} never was the champion", hint=f"`{by_hand}` makes it so if its gate passed it")
    check_whole(home, found)
    moved = move(home, found, why=why or f"roll-back from {present.name}", who=who, after=number)
    tell_workflow(home, workflow)
    return moved


def previous_champion(home: Home, workflow: str) -> int | None:
    """The version to which a roll-back goes: walking the moves back past earlier roll-backs.

    A, B, C, then two roll-backs, gives B and then A, not C again. A move to a version that was champion before takes
    back all that came between.
    """
    history: list[int] = []
    for number in champions(home, workflow):
        if number in history:
            del history[history.index(number) + 1 :]
        else:
            history.append(number)
    return history[-2] if len(history) >= 2 else None


def taken_back(home: Home, workflow: str) -> dict[int, Entry]:
    """Versions from which a person went back to an earlier champion, each with the move that did so.

    A move to a version that was champion before takes back all that came between, unless a gate made it; whoever is
    promoted again is taken back no more.
    """
    back: dict[int, Entry] = {}
    history: list[int] = []
    for move in home.ledger.stream(stream(workflow, "alias", CHAMPION)):
        to = move.body["version"]
        if to is None:
            continue
        if to in history:
            later = slice(history.index(to) + 1, None)
            if not _by_gate(home, workflow, move):
                back |= dict.fromkeys(history[later], move)
            del history[later]
        else:
            history.append(to)
        back.pop(to, None)
    return back


def _by_gate(home: Home, workflow: str, move: Entry) -> bool:
    """Whether the verdict that a move names compared the two versions between which it moved."""
    number = move.body.get("verdict")
    if not number:
        return False
    verdicts = home.ledger.stream(stream(workflow, "verdict"), after=number - 1)[:1]
    return any(one.body.get("against") == f"{workflow}@{move.body['previous']}" for one in verdicts)


def champions(home: Home, workflow: str) -> list[int]:
    """Where each move of the champion went, oldest first."""
    moves = home.ledger.stream(stream(workflow, "alias", CHAMPION))
    return [entry.body["version"] for entry in moves if entry.body["version"] is not None]


def challenger(home: Home, found: Version, verdict: int, who: str) -> None:
    """Point `challenger` at a version that passed its gate, unless it is there already.

    The last one that passed is challenger: of two runs at once none is refused for having been second.
    """
    for _ in range(TRIES):
        present, number = alias(home.ledger, found.workflow, CHALLENGER)
        if present is not None and present.number == found.number:
            return
        try:
            move(home, found, CHALLENGER, why="passed its gate", who=who, after=number, verdict=verdict)
        except ConflictError:
            continue
        return
    raise ConflictError(f"{found.workflow}: challengers were named by others all the time", hint="run again")


__all__ = [
    "challenger",
    "champions",
    "check_promotion",
    "check_whole",
    "move",
    "previous_champion",
    "promote",
    "rollback",
    "taken_back",
]
