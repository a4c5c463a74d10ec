"""Registering: a fitted estimator and its evidence become one immutable bundle and a numbered version."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from penstock.core.artifact import INLINE_LIMIT, Artifact
from penstock.core.digest import canonical, digest_bytes, digest_value
from penstock.core.flow import Graph
from penstock.core.ports import Home, Objects
from penstock.core.run import Entry
from penstock.core.tree import rebuilt
from penstock.errors import ConflictError
from penstock.lifecycle.kept_code import made_with
from penstock.lifecycle.versions import Version, stream, versions

ABOUT = ("environment", "lineage", "code", "machine")
"""Files of a bundle that tell how it came about, and are no part of what it holds."""
TRIES = 20
"""How often a version's number is tried for when others register at the same time."""


def json_artifact(objects: Objects, value: Any, kind: str = "json") -> Artifact:
    """A plain JSON value as an artifact: inline when small, staged when not."""
    data = canonical(value).encode("utf-8")
    digest = digest_bytes(data)
    if len(data) <= INLINE_LIMIT and kind == "json":
        return Artifact(digest, kind, len(data), data.decode("utf-8"))
    refs = tuple(f["digest"] for f in value["files"].values() if "text" not in f) if kind == "bundle" else ()
    objects.stage(data)
    return Artifact(digest, kind, len(data), None, refs)


def bundle(home: Home, graph: Graph, files: Mapping[str, Artifact], facts: Mapping[str, Any]) -> Artifact:
    """The manifest that makes one immutable thing of an estimator, its contract and its evidence.

    Nothing in it tells who made it or when: equal artifacts give an equal bundle.

    Parameters
    ----------
    files : dict
        Name → artifact.
    facts : dict
        "recipes" and "sources" of the steps that made them.
    """
    libraries: dict[str, str] = {}
    for parts in graph.codes.values():
        libraries |= {
            k.removeprefix("library:"): v for k, v in parts.items() if k.startswith("library:") or k == "python"
        }
    environment = json_artifact(home.objects, dict(sorted(libraries.items())))
    lineage = json_artifact(home.objects, dict(facts))
    members = {**files, **made_with(home, graph), "environment": environment, "lineage": lineage}
    return manifest_of(home, graph.name, members)


def manifest_of(home: Home, workflow: str, members: Mapping[str, Artifact]) -> Artifact:
    """The manifest of all files of a bundle.

    Parameters
    ----------
    workflow : str
    members : dict
        Name → artifact.
    """
    files = {name: artifact.to_json() for name, artifact in sorted(members.items())}
    return json_artifact(home.objects, {"penstock": "bundle/1", "workflow": workflow, "files": files}, "bundle")


def content_of(made: Artifact, objects: Objects) -> str:
    """Digest of what a bundle holds, without how it came about: the same content is the same version."""
    import json

    files = json.loads(objects.read(made.digest))["files"]
    return digest_value("content", {n: f["digest"] for n, f in files.items() if n not in ABOUT})


def declaration_of(graph: Graph) -> str:
    """Digest of what a person declared for training: code and parameters, without inputs and library versions."""
    nodes = [graph.node("train"), *(node for node in graph.nodes if node.id in ("decide", "refit"))]
    told: list[Any] = []
    for node in nodes:
        code = {k: v for k, v in graph.codes[node.code].items() if not k.startswith("library:") and k != "python"}
        code = {k: v for k, v in code.items() if k.partition(":")[0].partition(".")[0] != "penstock"}
        told += [code, _without_refs(node.tree)]
    return digest_value("declaration", told)


def _without_refs(tree: Any) -> Any:
    if type(tree) is list and tree and tree[0] == "ref":
        return ["ref"]
    return rebuilt(tree, _without_refs)


def register(home: Home, workflow: str, made: Artifact, body: Mapping[str, Any], who: str) -> tuple[Version, bool]:
    """Give a bundle the next version number; equal content keeps the number that it has.

    Bytes first, then a manifest of the version itself (so that versions can be rebuilt from the store alone),
    then one durable row.

    Parameters
    ----------
    made : Artifact
        The bundle.
    body : dict
        Recorded with the version.
    who : str

    Returns
    -------
    version : Version
    new : bool

    Raises
    ------
    ConflictError
        Others took every number that was tried for.
    """
    content = content_of(made, home.objects)
    name = stream(workflow, "version")
    full = {**body, "content": content, "bundle": made.to_json(), "artifacts": {"bundle": made.digest}}
    for _ in range(TRIES):
        known = versions(home.ledger, workflow)  # again at each try: the other may have registered the same
        same = next((found for found in reversed(known) if found.body["content"] == content), None)
        if same is not None:
            return same, False
        home.objects.publish([made.digest, *made.refs])
        number = known[-1].number + 1 if known else 1
        record = {"penstock": "version/1", "workflow": workflow, "number": number, "body": full}
        digest, _ = home.objects.stage(canonical(record).encode("utf-8"))
        home.objects.publish([digest])
        artifacts = {"bundle": made.digest, "record": digest}
        entry = Entry(name, number, {**full, "artifacts": artifacts}, who=who, why=f"run:{body.get('run', '')}")
        try:
            [written] = home.ledger.append([entry], key=f"register:{workflow}:{made.digest}:{number}")
        except ConflictError:
            home.objects.delete(digest)  # it claims a number that is another's; whoever rebuilds would doubt both
            continue
        return Version(workflow, number, written), True
    raise ConflictError(f"{workflow}: {TRIES} version numbers were taken by others meanwhile", hint="run again")


def git_state(folder: str) -> dict[str, Any]:
    """Commit and whether the tree differs from it; empty where there is no Git."""
    if not _inside_git(folder):
        return {}
    import subprocess

    def git(*arguments: str) -> str:
        command = ["git", "-C", folder, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--verify", "--quiet", "HEAD")
        return {"commit": commit, "dirty": bool(git("status", "--porcelain"))} if commit else {}
    except (OSError, subprocess.SubprocessError):
        return {}


def _inside_git(folder: str) -> bool:
    folder = os.path.abspath(folder)
    while True:
        if os.path.exists(os.path.join(folder, ".git")):
            return True
        above = os.path.dirname(folder)
        if above == folder:
            return False
        folder = above
