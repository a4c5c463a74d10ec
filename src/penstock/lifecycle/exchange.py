"""Moving versions, or all there is, between the stores and ledgers of two environments.

The order is that of every write: bytes, then manifest, then rows. What is there already is left as it is, so that a
move which was interrupted is completed by doing it again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.ports import Home
from penstock.core.run import LET_GO, Entry, Group
from penstock.errors import ConflictError, CorruptObjectError, UnknownNameError
from penstock.lifecycle import promote
from penstock.lifecycle.mirror import tell_workflow
from penstock.lifecycle.promote import check_promotion
from penstock.lifecycle.register import register
from penstock.lifecycle.release import check_code, code_of, held_back, policy
from penstock.lifecycle.schedules import KIND as EXPORT
from penstock.lifecycle.versions import CHALLENGER, CHAMPION, Version, alias, head, manifest, stream, version, versions

TRIES = 20
OWN = ("content", "bundle", "artifacts", "from")
"""What of a version's body is said anew where it arrives."""


@dataclass(slots=True)
class Moved:
    """What a move brought.

    Attributes
    ----------
    versions : list of (str, str, bool)
        Name here, name there, and whether it is new there.
    objects, size : int
        Objects that were not there, and their bytes.
    runs, results, entries : int
        Rows of the ledger, where all was moved.
    held : list of (str, str)
        Champions that do not reign there, and why not.
    promoted : list of str
        Champions that a reason, or a verdict on the champion there, brought there.
    stayed : list of (str, str)
        Champions that do not reign there although whoever pushes may release or gave a reason, and why not.
    apart : list of str
        Workflows that were decided on in both places, so that only their versions went over.
    """

    versions: list[tuple[str, str, bool]] = field(default_factory=list)
    objects: int = 0
    size: int = 0
    runs: int = 0
    results: int = 0
    entries: int = 0
    held: list[tuple[str, str]] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)
    stayed: list[tuple[str, str]] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        names = ("objects", "size", "runs", "results", "entries")
        versions = [{"from": here, "to": there, "new": new} for here, there, new in self.versions]
        found: dict[str, Any] = {"versions": versions} | {name: getattr(self, name) for name in names}
        for kind in ("held", "stayed"):
            if getattr(self, kind):
                found[kind] = [{"version": name, "why": why} for name, why in getattr(self, kind)]
        for name in ("promoted", "apart"):
            if getattr(self, name):
                found[name] = list(getattr(self, name))
        return found


def send(source: Home, target: Home, chosen: Iterable[Version], *, who: str) -> Moved:
    """Bring versions to another environment, where each gets the next number unless an equal one is there.

    A version arrives without standing: nobody's champion moves. Its last verdict comes with it only where the champion
    that it was compared with is the champion there too (or both have none); else the gate there has not judged it.

    Parameters
    ----------
    chosen : iterable of Version
        Of the source's ledger.
    who : str
        "user@host".

    Raises
    ------
    MissingObjectError, CorruptObjectError, StoreError
        Nothing of the version that failed is on the target's ledger.
    """
    moved = Moved()
    for one in chosen:
        files = manifest(source, one.bundle)["files"].values()
        wanted = [one.bundle.digest, *(digest for file in files for digest in _digests(Artifact.from_json(file)))]
        _carry(source, target, wanted, moved)
        _bring_run(source, target, one, moved)
        origin = {"environment": source.config.environment, "version": one.number, "at": one.entry.at}
        body = {name: value for name, value in one.body.items() if name not in OWN}
        there, new = register(target, one.workflow, one.bundle, body | {"from": origin}, who)
        _bring_verdict(source, target, one, there, who, moved)
        moved.versions.append((one.name, there.name, new))
    return moved


def _digests(artifact: Artifact) -> list[str]:
    return [*([artifact.digest] if artifact.text is None else []), *artifact.refs]


def _carry(source: Home, target: Home, digests: Iterable[str], moved: Moved) -> None:
    """Publish in the target what it lacks, a verified copy each."""
    wanted = list(dict.fromkeys(digests))
    absent = _bare(target.objects).missing(wanted)
    for digest in wanted:
        if digest in absent:
            moved.size += _copy(source, target, digest)
            moved.objects += 1
            target.objects.publish([digest])  # one by one: what has arrived need not be sent again
    target.objects.publish(wanted)


def _bare(objects: Any) -> Any:
    """A store without what this machine keeps of it: what is asked is what others see."""
    return objects.direct() if hasattr(objects, "direct") else objects


def _copy(source: Home, target: Home, digest: str) -> int:
    folder = tempfile.mkdtemp(prefix="penstock-move-")
    try:
        path = os.path.join(folder, digest)
        shutil.copyfile(source.objects.fetch(digest), path)
        found, size = target.objects.stage(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if found != digest:
        raise CorruptObjectError(
            f"object {digest[:12]}… was changed while it was copied", digest=digest, found=found, hint="move it again"
        )
    return size


def _bring_run(source: Home, target: Home, one: Version, moved: Moved) -> None:
    """The row of the run that made a version, so that it can be shown, with what it names that is still there."""
    name = one.body.get("run") or ""
    runs = source.ledger.runs(prefix=name, limit=1) if name else []
    if runs and not target.ledger.runs(prefix=name, limit=1):
        [run] = runs
        gone = source.objects.missing(run.kept.values())
        _carry(source, target, [digest for digest in run.kept.values() if digest not in gone], moved)
        row = replace(run, info={**run.info, LET_GO: True}) if gone else run
        target.ledger.commit(Group(runs=[row], step_runs=[]))


def _bring_verdict(source: Home, target: Home, one: Version, there: Version, who: str, moved: Moved) -> None:
    verdicts = [e for e in source.ledger.stream(stream(one.workflow, "verdict")) if e.body["version"] == one.number]
    if not verdicts:
        return
    last = verdicts[-1]
    reigning, _ = alias(target.ledger, one.workflow, CHAMPION)
    if _content(source, last.body.get("against")) != (reigning.body["content"] if reigning else None):
        return
    comparison = Artifact.from_json(last.body["comparison"]) if "comparison" in last.body else None
    if comparison is not None and comparison.text is None:
        _carry(source, target, [comparison.digest], moved)
    name = stream(one.workflow, "verdict")
    body = {**last.body, "version": there.number, "against": reigning.name if reigning else None}
    other = {"from": None, "run": None}  # where and when the same was found does not count
    for _ in range(TRIES):
        same = [e for e in target.ledger.stream(name) if {**e.body, **other} == {**body, **other}]
        if same:
            number = same[-1].number
            break
        present = head(target.ledger, name)
        number = present.number + 1 if present else 1
        origin = {"environment": source.config.environment, "version": one.number, "verdict": last.number}
        entry = Entry(name, number, {**body, "from": origin}, who=who, why=f"judged in {source.config.environment}")
        try:
            target.ledger.append([entry])
        except ConflictError:
            continue
        break
    else:
        raise ConflictError(f"{one.workflow}: verdicts were recorded by others all the time", hint="do it again")
    named = [e.body["version"] for e in target.ledger.stream(stream(one.workflow, "alias", CHALLENGER))]
    if last.body["passed"] and there.number not in named and (reigning is None or reigning.number != there.number):
        promote.challenger(target, there, number, who)


def _content(home: Home, name: str | None) -> str | None:
    """Digest of what a version holds that a verdict names; "?" for one that is not on record."""
    if name is None:
        return None
    workflow, _, number = name.partition("@")
    try:
        return str(version(home.ledger, workflow, int(number)).body["content"])
    except (UnknownNameError, ValueError):
        return "?"


def send_all(
    source: Any,
    target: Home,
    *,
    reach: Callable[[Any, Any], set[str]],
    copy: Callable[..., Any],
    who: str,
    because: str = "",
    allow_dirty: bool = False,
) -> Moved:
    """Bring all objects that a ledger reaches, and then the ledger itself, to another environment.

    Where a workflow was decided on in both places, its streams cannot become one: then its versions go by name, as
    `send` brings them. A champion whose moves cannot be copied, for that reason or because this process may not release
    there, moves there anew: by `because`, as `promote` by hand moves it; or, where this process may release, if its
    gate compared it with the champion there. Else it stays, with the reason in `held` or `stayed`. No champion of the
    past comes back by this.

    Parameters
    ----------
    reach : callable
        Digests of every object that (objects, ledger) need.
    copy : callable
        Copies (ledger, ledger, leave=streams); refuses two that went on apart.
    who : str
        "user@host".
    because : str
        The reason of a person who promotes by hand.
    allow_dirty : bool
        Champions whose code no commit holds too, on record.

    Raises
    ------
    RefusedError
        `because` was given for a champion whose gate did not pass it, or whose code no commit holds: nothing is moved.
    ConflictError
        Somebody decided there at the same moment.
    """
    plan = _plan(source, target, allow_dirty=allow_dirty)
    for champion, _ in plan.champions if because else ():
        check_promotion(source, champion)
        check_code(
            Home(target.config, source.objects, source.ledger, source.formats), champion, allow_dirty=allow_dirty
        )
    moved = Moved(apart=plan.apart)
    _carry(source, target, sorted(reach(source.objects, source.ledger)), moved)
    copied = copy(source.ledger, target.ledger, leave=plan.leave)
    moved.runs, moved.results, moved.entries = copied.runs, copied.results, copied.entries
    for workflow in plan.apart:
        named = send(source, target, versions(source.ledger, workflow), who=who)
        moved.versions += [one for one in named.versions if one[2]]
    for champion, why in plan.champions:
        _bring_champion(source, target, champion, why, moved, who=who, because=because, allow_dirty=allow_dirty)
    return moved


@dataclass(slots=True)
class _Plan:
    """What of a ledger is copied, and what is not.

    Attributes
    ----------
    leave : list of str
        Streams that stay behind.
    apart : list of str
        Workflows whose streams all stay behind: both places went on from what they had in common.
    champions : list of (Version, str or None)
        Whose moves stay behind, with why this process may not bring them; None where it may.
    """

    leave: list[str] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)
    champions: list[tuple[Version, str | None]] = field(default_factory=list)


def _plan(source: Home, target: Home, *, allow_dirty: bool) -> _Plan:
    plan, streams, release = _Plan(), sorted(source.ledger.streams()), policy(target.config, None)
    plan.leave = [name for name in streams if name.split("/")[1:2] == [EXPORT]]  # who has a schedule is this place's
    streams = [name for name in streams if name not in plan.leave]
    for workflow in sorted({name.partition("/")[0] for name in streams}):
        own = [name for name in streams if name.partition("/")[0] == workflow]
        moves = [stream(workflow, "alias", CHAMPION), stream(workflow, "deployment")]
        if any(_differ(source, target, name) for name in own if name not in moves):
            plan.apart.append(workflow)
            plan.leave += own
        champion, _ = alias(source.ledger, workflow, CHAMPION)
        if champion is None:
            continue
        why = held_back(target, release, code_of(source, champion), allow_dirty=allow_dirty)
        if why is not None or workflow in plan.apart or any(_differ(source, target, name) for name in moves):
            plan.leave += moves
            plan.champions.append((champion, why))
    return plan


def _differ(source: Home, target: Home, name: str) -> bool:
    """Whether a stream went on in two places."""
    there = target.ledger.stream(name)
    return bool(there) and any(ours != other for ours, other in zip(source.ledger.stream(name), there, strict=False))


def _bring_champion(
    source: Home,
    target: Home,
    champion: Version,
    why: str | None,
    moved: Moved,
    *,
    who: str,
    because: str,
    allow_dirty: bool,
) -> None:
    """Move a champion that has arrived as a version, or say why not."""
    workflow, content = champion.workflow, champion.body["content"]
    there = next(one for one in reversed(versions(target.ledger, workflow)) if one.body["content"] == content)
    reigning, number = alias(target.ledger, workflow, CHAMPION)
    if reigning is not None and reigning.body["content"] == content:
        return
    now = reigning.name if reigning else None
    if there.number in promote.champions(target, workflow):
        moved.stayed.append((there.name, f"it was before, and {now} took its place; `penstock promote` brings it back"))
        return
    if why is not None and not because:
        moved.held.append((there.name, why))
        return
    verdicts = [e for e in target.ledger.stream(stream(workflow, "verdict")) if e.body["version"] == there.number]
    last = verdicts[-1] if verdicts else None
    judged = last is not None and last.body["passed"] and (because or last.body["against"] == now)
    if last is None or not judged:
        told = f"its gate has not passed it against {now or 'nobody'}, who reigns there"
        moved.stayed.append((there.name, f"{told}: `penstock run --env {target.config.environment}` judges it"))
        return
    if because:
        promote.promote(target, there, why=because, who=who, allow_dirty=allow_dirty)
    else:
        promote.check_whole(target, there)
        dirty = check_code(target, there, allow_dirty=allow_dirty)
        origin = f"pushed from {source.config.environment}: {last.body['sentence']}"
        promote.move(target, there, why=origin, who=who, after=number, verdict=last.number, dirty=dirty)
        tell_workflow(target, workflow)
    moved.promoted.append(there.name)
