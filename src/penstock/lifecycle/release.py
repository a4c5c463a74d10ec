"""Who may move the champion: one decision for runs and for promotions by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.core.ports import Config, Home
from penstock.core.run import Entry
from penstock.errors import ConflictError, RefusedError
from penstock.lifecycle.versions import Version, head, stream

COMMIT = "commit"
"""Kind of the stream that tells of a version that was made again from a commit."""


def policy(config: Config, declared: str | None) -> str:
    """What holds: the configuration's `release`, else the declaration's, else "ci" on a shared ledger and "auto" here.

    Examples
    --------
    >>> from penstock.core.ports import Config
    >>> policy(Config("/p", "/p/.penstock", "/p/ledger.db"), None)
    'auto'
    >>> policy(Config("/p", "s3://bucket/x", "postgresql://db/x"), None)
    'ci'
    """
    return config.release or declared or ("ci" if config.shared else "auto")


def is_releaser(home: Home) -> bool:
    """Whether this process is CI: its role on the ledger says so, or, where there are no roles, `PENSTOCK_RELEASE=ci`.

    A ledger that knows the role and does not find this user in it outweighs the variable, which anybody can set.
    """
    asked = getattr(home.ledger, "may_release", None)
    role = asked() if asked is not None else None
    return home.config.is_ci if role is None else bool(role)


def held_back(home: Home, release: str, git: Mapping[str, Any], *, allow_dirty: bool = False) -> str | None:
    """Why a run may not move the champion to a version that passed its gate, or None when it may.

    Parameters
    ----------
    release : {"auto", "ci", "never"}
    git : dict
        Commit and whether the tree differs from it; empty outside Git.
    allow_dirty : bool
        A person answers for code that no commit holds.
    """
    if release == "never":
        return "release is 'never'"
    if release == "ci" and not is_releaser(home):
        return "release is 'ci', and this process is not CI"
    if home.config.shared and not allow_dirty and (fault := unclean(git)):
        return f"{fault}, and the ledger is shared (--allow-dirty goes past this, on record)"
    return None


def unclean(git: Mapping[str, Any]) -> str:
    """What is wrong with where code comes from; "" for a commit and nothing else.

    Examples
    --------
    >>> unclean({}), unclean({"commit": "3f9c", "dirty": True}), unclean({"commit": "3f9c", "dirty": False})
    ('its code is not in Git', 'its code differs from the commit', '')
    """
    if not git.get("commit"):
        return "its code is not in Git"
    return "its code differs from the commit" if git.get("dirty") else ""


def note_commit(home: Home, found: Version, git: Mapping[str, Any], who: str) -> None:
    """Put on record that a version whose code was in no commit was made again, equal, from one."""
    if unclean(git) or not unclean(code_of(home, found)):
        return
    name = stream(found.workflow, COMMIT)
    last = head(home.ledger, name)
    body = {"version": found.number, "git": dict(git)}
    entry = Entry(name, last.number + 1 if last else 1, body, who=who, why="made again, equal, from a commit")
    try:
        home.ledger.append([entry])
    except ConflictError:
        return  # another run told of one at the same moment; the next run of this tells again if need be


def code_of(home: Home, found: Version) -> Mapping[str, Any]:
    """Where a version's code comes from: the commit that it was made from later, else what it was registered with."""
    later = [e.body["git"] for e in home.ledger.stream(stream(found.workflow, COMMIT))
             if e.body["version"] == found.number]  # fmt: skip
    state: Mapping[str, Any] = later[-1] if later else found.body.get("git", {})
    return state


def check_code(home: Home, found: Version, *, allow_dirty: bool) -> str:
    """Refuse to promote by hand, on a shared ledger, what no commit holds; give what was allowed all the same, or "".

    Raises
    ------
    RefusedError
    """
    fault = unclean(code_of(home, found)) if home.config.shared else ""
    if fault and not allow_dirty:
        raise RefusedError(
            f"{found.name} cannot be champion of a shared ledger: {fault}",
            hint="commit and run again: an equal version then is of that commit; or --allow-dirty, on record",
        )
    return fault
