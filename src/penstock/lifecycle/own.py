"""Classes and functions of the project's own that a version holds: named in its bundle, compared with the code here."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.flow import Graph
from penstock.core.ports import Home
from penstock.errors import UntrustedTypeError, UsageError
from penstock.lifecycle.register import json_artifact
from penstock.lifecycle.versions import Version, parts_of

FILE = "types"
"""The bundle's file that names them."""


def bundle_types(home: Home, graph: Graph, files: Mapping[str, Artifact], file: str) -> Artifact | None:
    """What a bundle says of the project's own types in its estimators; None where they hold none.

    No code is inside: names, digests, and where below the project's root their modules lie.

    Parameters
    ----------
    graph : Graph
    files : dict
        The bundle's files so far: "estimator", and "judged" where that is another.
    file : str
        The declaring file; modules beside it are imported from its folder.
    """
    if not any(_is_project(name) for parts in graph.codes.values() for name in parts):
        return None
    from penstock.engine.importing import import_place
    from penstock.engine.own_types import own_types
    from penstock.formats.skops import named_in

    fitted = [files[name] for name in ("estimator", "judged") if name in files and files[name].format == "skops"]
    names = {name for artifact in fitted for name in named_in(home.objects.read(artifact.digest))}
    root = os.path.realpath(home.config.root)
    beside = os.path.relpath(os.path.realpath(import_place(os.path.abspath(file))[1]), root).replace(os.sep, "/")
    found = own_types(root, names, [beside])
    if not found:
        return None
    folders = dict.fromkeys([beside, *(one["folder"] for one in found.values() if "folder" in one)])
    return json_artifact(home.objects, {"types": found, "folders": [f for f in folders if f.split("/")[0] != ".."]})


def _is_project(name: str) -> bool:
    """Whether a part of a step's code is the project's."""
    return name != "python" and not name.startswith(("library:", "penstock:", "penstock."))


def same_code(ours: Mapping[str, Artifact], theirs: Mapping[str, Artifact]) -> bool:
    """Whether two bundles hold the same own types with the same code; both none is the same too."""
    mine, other = ours.get(FILE), theirs.get(FILE)
    return (mine and mine.digest) == (other and other.digest)


def types_of(home: Home, files: Mapping[str, Artifact]) -> dict[str, Any]:
    """Own types of a bundle: name → what it says of them; empty where it holds none."""
    return dict(home.formats.load(files[FILE], home.objects)["types"]) if FILE in files else {}


def needs_of(types: Mapping[str, Any]) -> list[str]:
    """Modules of the project that a version needs where it runs, in order.

    Examples
    --------
    >>> needs_of({"fraud.features:AmountRatio": {}, "fraud.features:Vote": {}})
    ['fraud.features']
    """
    return sorted({name.partition(":")[0] for name in types})


def unlike(home: Home, files: Mapping[str, Artifact]) -> str:
    """Why the code of this work tree cannot stand for that of a bundle's own types, or ""."""
    types = types_of(home, files)
    if not types:
        return ""
    from penstock.engine.own_types import differing, own_types

    folders = home.formats.load(files[FILE], home.objects)["folders"]
    here = own_types(home.config.root, types, folders)
    for name, told in sorted(types.items()):
        now = here.get(name, {"fault": f"there is no module {name.partition(':')[0]} here"})
        if fault := told.get("fault") or now.get("fault"):
            return f"it needs {name}: {fault}"
        if told["digest"] != now["digest"]:
            changed = ", ".join(differing(told["parts"], now["parts"])[:5])
            return f"it was made with another {name} than is here (what differs: {changed})"
    return ""


def both(theirs: Version, ours: Version) -> str:
    """What to do so that a champion of other code can answer beside the edited one, or to go past it."""
    git = theirs.body.get("git") or {}
    commit = str(git.get("commit", ""))[:12]
    where = f" (commit {commit})" if commit and not git.get("dirty") else ""
    return (
        f"{theirs.name} cannot be asked by the code that is here. To have the two compared, keep both: bring its code "
        f"back as it was{where} and give what you edited names of its own; then run again. To go past the gate, on "
        f'record: penstock promote {ours.name} --force --because "…"'
    )


def estimator_of(home: Home, version: Version) -> Any:
    """A version's estimator in this process, its user's own: trusted classes of the project are imported.

    Raises
    ------
    UntrustedTypeError
        A type is not trusted, has other code here, or was imported from elsewhere.
    """
    files = parts_of(home, version.bundle)
    types = types_of(home, files)
    if not types:
        return home.formats.load(files["estimator"], home.objects)
    if why := unlike(home, files):
        raise UntrustedTypeError(f"{version.name} cannot be loaded here: {why}")
    config = home.config
    own = "own" in config.trust or (config.trusts_own and version.body.get("from") is None)
    lines = [f"{name}@{told['digest']}" for name, told in sorted(types.items())]
    if not own and (absent := [line for line in lines if line not in config.trust]):
        listed = ", ".join(f'"{line}"' for line in (*config.trust, *absent))
        words = ", ".join(line.partition("@")[0] for line in absent)
        raise UntrustedTypeError(
            f"{version.name} cannot be loaded here: the configuration does not trust {words}",
            where=os.path.join(config.root, "penstock.toml"),
            hint=f"if the code is yours, set trust = [{listed}]",
        )
    folders = home.formats.load(files[FILE], home.objects)["folders"]
    before = list(sys.path)
    sys.path[:0] = [os.path.normpath(os.path.join(config.root, folder)) for folder in folders]
    try:
        for name, told in sorted(types.items()):
            _check_import(version, name, os.path.join(os.path.realpath(config.root), told["file"]))
        from penstock.formats.registry import FormatRegistry

        formats = FormatRegistry(config.trust, [name.replace(":", ".") for name in types])
        return formats.load(files["estimator"], home.objects)
    finally:
        sys.path[:] = before


def _check_import(version: Version, name: str, file: str) -> None:
    """Import a type's module, and see that it is the file that was read."""
    module = importlib.import_module(name.partition(":")[0])
    found = os.path.realpath(getattr(module, "__file__", None) or "")
    if found != os.path.realpath(file):
        raise UntrustedTypeError(
            f"{version.name} cannot be loaded here: {module.__name__} was imported from {found}, not from {file}",
            hint="start another process, in the project's folder",
        )


def check_code(home: Home, version: Version) -> None:
    """Refuse to run a version by steps of this work tree where its own types have other code here.

    Raises
    ------
    UsageError
    """
    if why := unlike(home, parts_of(home, version.bundle)):
        commit = version.body.get("git", {}).get("commit", "")
        hint = f"check out commit {commit[:10]}, from which it was made" if commit else "train it again"
        raise UsageError(f"{version.name} cannot answer by the code of this work tree: {why}", hint=hint)
