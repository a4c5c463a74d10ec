"""What is kept of a run beside its steps, as lines: parameters, code, cost, candidates of a search."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.cli.output import clean, duration, size_text
from penstock.core.artifact import Artifact
from penstock.core.run import LET_GO, Run
from penstock.errors import UnknownNameError

if TYPE_CHECKING:
    from penstock.core.ports import Home
    from penstock.lifecycle.versions import Version

MOST_LINES = 40
MOST_CANDIDATES = 10


def parameter_lines(info: Mapping[str, Any]) -> list[str]:
    """What was declared, a line each, those set by hand with a mark; how many defaults there are beside."""
    by_hand = info.get("set", {})
    declared = {**info.get("params", {}), **info.get("parameters", {})}
    marked = {path: "  (--set)" if path in by_hand else "" for path in declared}
    lines = [f"{clean(path)} = {clean(str(value))}{marked[path]}" for path, value in declared.items()]
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"{len(lines) - MOST_LINES} more: --json"]
    defaults = len(info.get("defaults", {}))
    return [*lines, f"{defaults} parameters at their defaults: --json"] if defaults else lines


def code_lines(run: Run) -> list[str]:
    """Commit, and that something differed from it; and why its code was not kept, where it was not."""
    code = run.info.get("code") or {}
    withheld = [f"code not kept, so it cannot be reproduced: {clean(code['withheld'])}"] if "withheld" in code else []
    if not code.get("commit"):
        return withheld
    changed = f", with changes: penstock show run:{run.id[:4]} --code" if "diff" in code else ""
    elsewhere = ", with changes elsewhere in the tree" if code.get("dirty") and "diff" not in code else ""
    return [f"commit {code['commit'][:10]}{changed}{elsewhere}", *withheld]


def cost_line(info: Mapping[str, Any]) -> list[str]:
    """What a run cost, and its out-of-fold predictions."""
    cost = info.get("cost")
    found = []
    if cost:
        parts = [f"{duration(cost['cpu_s'])} of CPU", f"{size_text(cost['peak_bytes'])} at most in one worker"]
        if "fit_s" in cost:
            parts.append(f"a fold's fit {duration(cost['fit_s'])}")
        found.append(f"cost  {' · '.join(parts)}")
    if info.get("predictions"):
        found.append(f"out-of-fold predictions  {info['predictions'][:12]}…")
    return found


def search_lines(home: Home, run: Run, steps: Mapping[str, Any]) -> list[str]:
    """Candidates of a search that the run fitted, the best first."""
    from penstock.lifecycle.figures import number
    from penstock.lifecycle.kept import score_shown, scored_by, search_of

    search = search_of(home, steps)
    listed = search.get("candidates", ())
    if not listed:
        return []
    by = f" by {clean(scored_by(search))}" if scored_by(search) else ""
    found = [
        f"search  {search.get('n_candidates', len(listed))} candidates{by}: penstock runs run:{run.id[:4]} --candidates"
    ]
    for one in listed[:MOST_CANDIDATES]:
        told = ", ".join(f"{name}={value}" for name, value in one.get("params", {}).items())
        found.append(f"  {one.get('rank', '')}. {number(score_shown(search, one.get('score')))}  {clean(told)}")
    return found


def overrides_line(kept: Mapping[str, Any]) -> str:
    """That a version is not what its file alone declares, and the command that makes it again."""
    return f"declared + overrides: penstock run {again(kept)}"


def again(kept: Mapping[str, Any]) -> str:
    """File and overrides as they stand on a command line."""
    words = [str(kept["file"]), *(word for path, text in kept["set"].items() for word in ("--set", f"{path}={text}"))]
    return clean(shlex.join(words))


def write_figures(home: Home, found: Run | Version, folder: str) -> list[str]:
    """Write the figures that the steps of a run, or of a version's run, logged; give their paths.

    Raises
    ------
    UnknownNameError
        They logged none.
    MissingObjectError, CorruptObjectError, StoreError
    """
    from penstock.lifecycle.records import pictures_of
    from penstock.store.files import explain

    run = _run_of(home, found)
    pictures = pictures_of(home, run)
    if not pictures:
        raise UnknownNameError(f"run {run.id[:4]} logged no figure", hint="a step does so by ps.log(curve=figure)")
    paths = []
    for (step, name), one in pictures.items():
        data = home.objects.read(one["digest"])
        stem = re.sub(r"[^\w.-]", "_", f"{step}-{name}")[:150].lstrip(".")
        paths.append(os.path.join(folder, f"{stem}.{one['kind']}"))
        try:
            os.makedirs(folder, exist_ok=True)
            with open(paths[-1], "wb") as file:
                file.write(data)
        except OSError as error:
            raise explain(error, "write a figure", paths[-1]) from error
    return paths


def _run_of(home: Home, found: Run | Version) -> Run:
    """A run itself, or the one that made a version."""
    from penstock.lifecycle.versions import resolve_run

    return found if isinstance(found, Run) else resolve_run(home.ledger, f"run:{found.body['run']}")


def difference_of(home: Home, found: Run | Version) -> str:
    """The kept difference of a run's code from its commit.

    Raises
    ------
    UnknownNameError
        None is kept: its code was that of the commit, or was in no Git, or `gc` let go of it.
    MissingObjectError, CorruptObjectError
    """
    run = _run_of(home, found)
    code = run.info.get("code") or {}
    if "diff" not in code:
        why = (
            f"it was that of commit {code['commit'][:10]}"
            if code.get("commit")
            else "it was not in Git, or nothing ran"
        )
        raise UnknownNameError(f"run {run.id[:4]}: no difference of its code is kept: {why}")
    diff = Artifact.from_json(code["diff"])
    if run.info.get(LET_GO) and diff.text is None and home.objects.missing([diff.digest]):
        raise UnknownNameError(
            f"run {run.id[:4]}: the difference of its code is kept no longer", hint="`penstock gc` let go of it"
        )
    kept = home.formats.load(diff, home.objects)
    return str(kept["diff"]) + ("\n… cut here\n" if kept["cut"] else "")


def sign_text(home: Home, run: Run) -> str:
    """What was heard last of a backend's run that has not ended; "" of any other."""
    from penstock.cli.output import clean, moment
    from penstock.lifecycle.remote_tasks import sign_of, told

    sign = sign_of(home, run)
    return clean(told(sign, moment(sign["at"]))) if sign is not None else ""


def schedule_lines(home: Home, flow: str) -> list[str]:
    """Which backend has the schedule of a flow, since when and by whom."""
    from penstock.cli.output import moment
    from penstock.lifecycle.schedules import owner_of, sentence

    owner = owner_of(home.ledger, flow)
    return [f"{clean(sentence(owner))} · {moment(owner.at)} by {clean(owner.who)}"] if owner is not None else []
