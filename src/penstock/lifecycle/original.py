"""What is done again: a version, or a run that registered none, with all that is on record of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.ports import Home
from penstock.core.run import Result, Run
from penstock.errors import NotReproducibleError, UnknownNameError, UntrustedTypeError, UsageError
from penstock.lifecycle.kept_code import CODE
from penstock.lifecycle.records import StepSeen, results_of, steps_of
from penstock.lifecycle.versions import Version, parts_of, resolve_run, version

KINDS = ("run", "try")
"""Kinds of runs that a declaration alone decides; others depend on the ledger or on traffic."""


@dataclass(frozen=True, slots=True)
class Original:
    """What is done again.

    Attributes
    ----------
    name : str
        As people write it: "churn@7", or "run:3f9c01ab".
    workflow : str
    number : int or None
        Of a version.
    run : str
        Id of the run that made it, or that it is.
    at : float
        Unix time in seconds.
    who : str
    foreign : bool
        Whether it came from another environment.
    files : dict
        A bundle's files by name; of a run "code" and "machine".
    sources : dict
        Source step → digest on record.
    results : dict
        Step → what it gave, and the code and recipe that it gave it by.
    done : tuple of str
        Steps of a run that gave something: no others are done again. Empty for a version: it has all.
    rest : tuple of str
        Steps of a run that failed, or were cut off.
    """

    name: str
    workflow: str
    number: int | None
    run: str
    at: float
    who: str
    foreign: bool = False
    files: Mapping[str, Artifact] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, Result] = field(default_factory=dict)
    done: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()


def original_of(home: Home, found: Version | Run) -> Original:
    """The original that a name stands for; of a run that registered a version, the version.

    Of a run that reused everything, it is the run that made the last of it.

    Raises
    ------
    UsageError
        A version that only has another threshold, or a run of a kind that cannot be done again.
    NotReproducibleError
        A run that kept no code.
    CorruptObjectError, MissingObjectError
        A bundle's manifest is not there as it was recorded.
    """
    if isinstance(found, Version):
        return _of_version(home, found)
    if "version" in found.info:
        return _of_version(home, version(home.ledger, found.flow, int(found.info["version"])))
    return _of_run(home, found)


def _of_version(home: Home, one: Version) -> Original:
    decided = one.body.get("decided")
    if decided:
        base = f"{one.workflow}@{decided['from']}"
        raise UsageError(f"{one.name} is {base} with a threshold that a person gave", hint=f"penstock reproduce {base}")
    run = str(one.body.get("run") or "")
    try:
        seen = steps_of(home, resolve_run(home.ledger, f"run:{run}"))
    except UnknownNameError:
        seen = {}
    recipes: Mapping[str, str] = one.body.get("recipes", {})
    known = home.ledger.results(list(recipes.values()))
    results = {step: known[recipe] for step, recipe in recipes.items() if recipe in known}
    return Original(
        one.name,
        one.workflow,
        one.number,
        run,
        one.entry.at,
        one.entry.who,
        one.body.get("from") is not None,
        parts_of(home, one.bundle),
        one.body.get("sources", {}),
        _as_seen(results, seen),
    )


def _of_run(home: Home, run: Run) -> Original:
    name = f"run:{run.id[:8]}"
    if run.kind not in KINDS or run.info.get("exploratory"):
        raise UsageError(
            f"{name} is no run of a declaration but {_called(run)}", hint="a version, a run or a try can be reproduced"
        )
    seen = steps_of(home, run)
    kept = run.info.get("code") or {}
    if "files" not in kept:
        if makers := _makers(home, run, seen):  # what it reused, another run made
            return original_of(home, resolve_run(home.ledger, f"run:{makers[-1]}"))
        raise NotReproducibleError(
            f"{name} kept no code: no step of it began, or an older Penstock made it", hint="run it again"
        )
    results = _as_seen(results_of(home, seen), seen)
    files = {word: kept[key] for word, key in (("code", "files"), ("machine", "machine")) if key in kept}
    done = tuple(step for step, one in seen.items() if one.state == "done" and one.outputs)
    return Original(
        name,
        run.flow,
        None,
        run.id,
        run.started,
        str(run.info.get("who", "")),
        files={word: Artifact.from_json(one) for word, one in files.items()},
        sources={step: one.source for step, one in results.items() if one.source is not None},
        results=results,
        done=done,
        rest=tuple(step for step, one in seen.items() if one.state in ("failed", "cancelled")),
    )


def _as_seen(results: Mapping[str, Result], seen: Mapping[str, StepSeen]) -> dict[str, Result]:
    """Results with the outputs that the run's own rows tell: a recipe that ran again since may have given others."""
    found = dict(results)
    for step, one in seen.items():
        if one.outputs and one.state == "done":
            found[step] = replace(found.get(step, Result("", "", None, None, ())), outputs=one.outputs)
    return found


def _called(run: Run) -> str:
    return "an exploratory one, of what only one process held" if run.info.get("exploratory") else f"a {run.kind}"


def _makers(home: Home, run: Run, seen: Mapping[str, StepSeen]) -> list[str]:
    """Ids of the runs that made what this one reused, the one that made the last of it at the end."""
    results = results_of(home, dict(seen))
    made = [str(results[step].made.get("run", "")) for step in seen if step in results]
    return [one for one in made if one and one != run.id]


def check_trust(home: Home, original: Original, *, trust: bool) -> None:
    """Refuse to run code that others may have put on record, unless somebody vouches for it.

    Raises
    ------
    UntrustedTypeError
    """
    if trust or (home.config.trusts_own and not original.foreign):
        return
    foreign = original.foreign
    why = "comes from another environment" if foreign else "stands on a ledger or in a store that others write to"
    read = f"`penstock pull {original.name} DIR` writes that code as code.json; if you trust it, add --trust"
    raise UntrustedTypeError(
        f"to reproduce {original.name} is to run the code that is stored with it, and it {why}",
        hint=read if original.number is not None else "if you trust those who can write there, add --trust",
    )


def stored(home: Home, original: Original) -> tuple[dict[str, Any], dict[str, Any]]:
    """The code and the environment that it was made with.

    Raises
    ------
    NotReproducibleError
        Its code was not kept.
    CorruptObjectError, MissingObjectError
        The bytes are not those that were recorded.
    """
    files = original.files
    if "code" not in files:
        raise NotReproducibleError(
            f"the code of {original.name} is not stored: an older Penstock made it",
            hint="run it again, to have it kept",
        )
    if original.number is None and home.objects.missing([files["code"].digest]):
        raise NotReproducibleError(
            f"the code of {original.name} is not kept any more",
            hint="`penstock gc` keeps that of recent runs and of all versions; what is lost otherwise `fsck` tells",
        )
    code: dict[str, Any] = home.formats.load(files["code"], home.objects)
    if code.get("penstock") != CODE or "withheld" in code:
        why = code.get("withheld", "it has a form that this Penstock does not know")
        mend = "a secret belongs into ps.Secret; then run again" if "secret" in why else "mend that, then run again"
        raise NotReproducibleError(f"the code of {original.name} is not stored: {why}", hint=mend)
    there = "machine" in files and not home.objects.missing([files["machine"].digest])
    return code, home.formats.load(files["machine"], home.objects) if there else {}
