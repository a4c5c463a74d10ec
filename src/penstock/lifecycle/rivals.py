"""Versions beside the champion that a gate's rules name, and the last champion that had to beat somebody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.gate import LAST
from penstock.core.ports import Home
from penstock.errors import UnknownNameError
from penstock.lifecycle.versions import CHAMPION, Version, alias, parts_of, stream, version


def named(home: Home, workflow: str, names: Iterable[str]) -> dict[str, Version | None]:
    """The version of each name; None where there is none of that name.

    Parameters
    ----------
    names : iterable of str
        Aliases, numbers of versions, and `LAST`.
    """
    return {name: _one(home, workflow, name) for name in names}


def _one(home: Home, workflow: str, name: str) -> Version | None:
    if name == LAST:
        return last_that_beat(home, workflow)
    if not name.isdecimal():
        return alias(home.ledger, workflow, name)[0]
    try:
        return version(home.ledger, workflow, int(name))
    except UnknownNameError:
        return None


def last_that_beat(home: Home, workflow: str) -> Version | None:
    """The last champion that passed a rule which asked it to be better, where it is not the present one.

    A champion that was only not worse than the one before may be a little worse; so may the next. Beside this version
    it shows how far that has gone.
    """
    moves = [move.body["version"] for move in home.ledger.stream(stream(workflow, "alias", CHAMPION))]
    present = moves[-1] if moves else None
    if present is None:
        return None
    # After a roll-back the versions that were gone back from stand for nothing.
    reigned = {number for number in moves if number is not None and number <= present}
    beat = [
        verdict.body["version"]
        for verdict in home.ledger.stream(stream(workflow, "verdict"))
        if verdict.body["version"] in reigned and verdict.body["passed"] and _asked_to_beat(verdict.body)
    ]
    return version(home.ledger, workflow, beat[-1]) if beat and beat[-1] != present else None


def _asked_to_beat(verdict: Mapping[str, Any]) -> bool:
    """Whether one of the rules was passed by being better than another model."""
    return any(
        rule["kind"] == "difference" and rule["outcome"] == "pass" and (rule["figures"].get("required") or 0.0) >= 0
        for rule in verdict.get("rules", ())
    )


def sizes(home: Home, people: Mapping[str, Version | None]) -> dict[str, int]:
    """Bytes of the estimator that each version serves."""
    return {who: parts_of(home, one.bundle)["estimator"].size for who, one in people.items() if one is not None}


def absent(name: str) -> dict[str, Any]:
    """What is told of a version that there is none of."""
    why = "no champion before it had to beat anybody" if name == LAST else f"there is no version or alias {name!r}"
    return {"champion": None, "unanswered": why}


def outputs_of(names: Iterable[str]) -> list[str]:
    """Names of rivals among the outputs of the step that finds them, such as "7:fitted".

    Examples
    --------
    >>> outputs_of(["fitted", "about", "7:fitted", "7:seen", "production:fitted"])
    ['7', 'production']
    """
    return list(dict.fromkeys(name.partition(":")[0] for name in names if ":" in name))


Parts = tuple[Artifact, Artifact, Artifact]
"""Estimator, digests of what it has learned from, digests of what was held out."""
