"""Lineage: from a version back to data, code and environment; from a file or an artifact forward to versions."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from penstock.core.ports import Home
from penstock.core.source import Found
from penstock.engine.gather import hash_file
from penstock.engine.listing import files_at
from penstock.engine.reasons import LIBRARY
from penstock.errors import UnknownNameError
from penstock.lifecycle.environments import summary
from penstock.lifecycle.versions import Version, file_of, parts_of, resolve_run, versions, workflows

_DIGEST = re.compile(r"^[0-9a-f]{64}$")


def is_digest(text: str) -> bool:
    """Whether a text is a whole SHA-256.

    Examples
    --------
    >>> is_digest("0" * 64), is_digest("churn@7")
    (True, False)
    """
    return _DIGEST.match(text) is not None


def back(home: Home, version: Version) -> dict[str, Any]:
    """What a version was made of.

    Returns
    -------
    dict
        "version", "bundle", "run", "registered", "who", "git"; "data": for each source its step, file, digest and
        whether the file is now "the same", "changed", "gone" or "unknown"; "code": definition → digest of the
        project's own; "environment": library → version; "machine": all that was installed and
        ran it, in a line; "files": those of the code that is stored with it; "steps": step → recipe and the run that
        made it.
    """
    body = version.body
    recipes: dict[str, str] = dict(body.get("recipes", {}))
    results = home.ledger.results(list(recipes.values()))
    codes = home.ledger.codes({result.code for result in results.values()})
    code: dict[str, str] = {}
    for parts in codes.values():
        code |= {n: d for n, d in parts.items() if not n.startswith((LIBRARY, "penstock")) and n != "python"}
    steps = {
        step: {"recipe": recipe, "run": results[recipe].made.get("run") if recipe in results else None}
        for step, recipe in recipes.items()
    }
    return {
        "version": version.name,
        "bundle": version.bundle.digest,
        "run": body.get("run"),
        "registered": version.entry.at,
        "who": version.entry.who,
        "git": dict(body.get("git", {})),
        "rows": dict(body.get("rows", {})),
        "data": [_source(home, version, step, digest) for step, digest in body.get("sources", {}).items()],
        "code": dict(sorted(code.items())),
        "environment": file_of(home, version.bundle, "environment"),
        "machine": summary(_kept(home, version, "machine")) if "machine" in parts_of(home, version.bundle) else "",
        "files": sorted(_kept(home, version, "code").get("files", ())),
        "steps": steps,
    }


def _kept(home: Home, version: Version, name: str) -> Mapping[str, Any]:
    """A file of the bundle that older versions lack."""
    found: Mapping[str, Any] = file_of(home, version.bundle, name) if name in parts_of(home, version.bundle) else {}
    return found


def _source(home: Home, version: Version, step: str, digest: str) -> dict[str, Any]:
    """One source of a version: where it was, what it was, and whether it still is."""
    file = _files(home, version).get(step)
    state = "unknown" if file is None else _now(os.path.join(home.config.root, file), digest)
    return {"step": step, "file": file, "digest": digest, "now": state}


def _now(place: str, digest: str) -> str:
    """Whether a place still holds what it did: "the same", "changed", "gone"; "unknown" of a list and of a URL."""
    if "://" in place or place.endswith(" more"):
        return "unknown"
    try:
        files, many = files_at((place,), "")
        found = Found(tuple((name, path, hash_file(path)) for name, path in files), many)
    except OSError:
        return "gone"
    return "the same" if found.digest == digest else "changed"


def _files(home: Home, version: Version) -> dict[str, str]:
    """Step → file, as the run that registered the version read them."""
    return dict(_info(home, version).get("sources", {}))


def _declared_in(home: Home, version: Version) -> str:
    """The file that the registering run was given, "" where that is not on record."""
    return str(_info(home, version).get("file", ""))


def _info(home: Home, version: Version) -> Mapping[str, Any]:
    run = version.body.get("run")
    try:
        return resolve_run(home.ledger, f"run:{run}").info if run else {}
    except UnknownNameError:
        return {}  # a ledger rebuilt from the store has the versions, not the runs


def forward(home: Home, text: str) -> dict[str, Any]:
    """Versions that a data file, a code file or an artifact is part of.

    Parameters
    ----------
    text : str
        Path of a file as it is now, or the digest of an artifact or source.

    Returns
    -------
    dict
        "of", "digest" and "versions": each with its "version" and the "steps" that it came in by.

    Raises
    ------
    UnknownNameError
        Neither a file nor a digest.
    """
    if is_digest(text):
        digest, module = text, ""
    elif os.path.isfile(text):
        digest, module = hash_file(text), _module(home, text)
    else:
        raise UnknownNameError(
            f"{text!r} is no file, version or digest", hint="for instance churn@7, data/customers.csv or 64 digits"
        )
    reached = _reached(home, digest)
    found = []
    for workflow in workflows(home.ledger):
        for version in versions(home.ledger, workflow):
            steps = _steps(home, version, digest, module, reached)
            if module and _declared_in(home, version) == os.path.relpath(os.path.abspath(text), home.config.root):
                steps = ["declaration", *steps]
            if steps:
                found.append({"version": version.name, "steps": steps})
    return {"of": text, "digest": digest, "versions": found}


def _module(home: Home, path: str) -> str:
    """Name under which a code file's definitions are on record, "" for a file that is no code."""
    relative = os.path.relpath(os.path.abspath(path), home.config.root)
    return relative[:-3].replace(os.sep, ".") if relative.endswith(".py") else ""


def _reached(home: Home, digest: str) -> set[str]:
    """Recipes of the results that an artifact entered, directly or through others."""
    recipes: set[str] = set()
    seen, stack = {digest}, [digest]
    while stack:
        for result in home.ledger.users(stack.pop()):
            recipes.add(result.recipe)
            fresh = [output.digest for output in result.outputs if output.digest not in seen]
            seen.update(fresh)
            stack += fresh
    return recipes


def _steps(home: Home, version: Version, digest: str, module: str, reached: set[str]) -> list[str]:
    recipes: dict[str, str] = dict(version.body.get("recipes", {}))
    sources = version.body.get("sources", {})
    files = home.ledger.codes(set(sources.values()))
    steps = [step for step, one in sources.items() if digest == one or digest in files.get(one, {}).values()]
    steps += [step for step, recipe in recipes.items() if recipe in reached]
    if module:
        results = home.ledger.results(list(recipes.values()))
        codes = home.ledger.codes({result.code for result in results.values()})
        steps += [
            step
            for step, recipe in recipes.items()
            if recipe in results and any(n.partition(":")[0] == module for n in codes.get(results[recipe].code, {}))
        ]
    if digest == version.bundle.digest:
        steps.append("register")
    return list(dict.fromkeys(steps))
