"""What is kept of each run so that it can be done again: its source files, and the environment that it ran in."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.digest import canonical
from penstock.core.flow import Graph
from penstock.core.ports import Home
from penstock.core.secret import forms_of
from penstock.core.urls import masked

MOST_FILES = 2_000
MOST_BYTES = 16 << 20
"""Files of a run's code, and bytes of them in all, that are kept; of more nothing is, and it is said."""
CODE = "code/1"
Files = dict[str, str | dict[str, str]]


def made_with(home: Home, graph: Graph) -> dict[str, Artifact]:
    """The code and the environment of a flow as artifacts, staged.

    Equal files and arguments give equal bytes. Where the code cannot be kept, "withheld" in it says why.

    Returns
    -------
    dict
        "code": {"penstock", "file", "variable", "params", "set", "full", "seed", "folders", "files": path → text, or
        {"base64"} of what is no UTF-8}, or {"penstock", "withheld"}; "machine": see `engine.environment`, with "cpu".
        Empty where the process that imported the file told neither.
    """
    if "code" not in graph.about:
        return {}
    told = dict(graph.about["code"])
    files, why = _read(home.config.root, told.pop("files"), told.pop("outside"), graph)
    code = {"penstock": CODE} | ({"withheld": why} if why else told | {"files": files})
    return {"code": _stored(home, code), "machine": _stored(home, graph.about["machine"])}


def kept(home: Home, graph: Graph) -> dict[str, Any]:
    """The same as a run's row keeps it, durable: "files" and "machine"."""
    found = made_with(home, graph)
    home.objects.publish([artifact.digest for artifact in found.values()])
    names = {"code": "files", "machine": "machine"}
    return {names[name]: artifact.to_json() for name, artifact in found.items()}


def files_of(code: Mapping[str, Any]) -> dict[str, bytes]:
    """Path → bytes of a stored code.

    Raises
    ------
    ValueError
        A path that leaves the folder, or something that is no text.

    Examples
    --------
    >>> files_of({"files": {"churn.py": "import penstock as ps"}})
    {'churn.py': b'import penstock as ps'}
    """
    found = {}
    for name, content in dict(code["files"]).items():
        parts = name.split("/")
        if not name or "\\" in name or "\0" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{name!r} is no path below a project")
        if parts[0] in (".penstock", ".git"):
            raise ValueError(f"{name!r} lies where no code of a project lies")
        if isinstance(content, str):
            found[name] = content.encode("utf-8")
        else:
            found[name] = base64.b64decode(content["base64"], validate=True)
    return found


def harmless(text: str, graph: Graph) -> str:
    """A text without passwords in URLs, and without the values of the secrets that the flow names."""
    for name in {name for node in graph.nodes for name in _secrets(node.tree)}:
        value = os.environ.get(name.removeprefix("env:"), "") if name.startswith("env:") else ""
        for form in sorted(forms_of(value), key=len, reverse=True) if value else ():
            text = text.replace(form, f"<{name}>")
    return "\n".join(masked(line) for line in text.split("\n"))


def _stored(home: Home, value: Any) -> Artifact:
    """A JSON value that is never inline: rows of the ledger stay small."""
    data = canonical(value).encode("utf-8")
    digest, size = home.objects.stage(data)
    return Artifact(digest, "json", size)


def _read(root: str, told: Mapping[str, str], outside: list[str], graph: Graph) -> tuple[Files, str]:
    """The files as they were when they were imported, and why they cannot be kept, or ""."""
    if outside:
        return {}, f"{outside[0]} lies outside of the project"
    if len(told) > MOST_FILES:
        return {}, f"{len(told):,} files; at most {MOST_FILES:,} are kept"
    found: Files = {}
    size = 0
    for name, digest in told.items():
        try:
            with open(os.path.join(root, *name.split("/")), "rb") as file:
                data = file.read(MOST_BYTES + 1)
        except OSError as error:
            return {}, f"{name} cannot be read: {error.strerror}"
        if hashlib.sha256(data).hexdigest() != digest:
            return {}, f"{name} was edited while the run began"
        size += len(data)
        if size > MOST_BYTES:
            return {}, f"more than {MOST_BYTES >> 20} MiB of code"
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            found[name] = {"base64": base64.b64encode(data).decode("ascii")}
            continue
        if (line := _secret_line(text, graph)) is not None:
            return {}, f"{name} holds a password or the value of a secret in line {line}"
        found[name] = text
    return found, ""


def _secret_line(text: str, graph: Graph) -> int | None:
    """The first line that may not be kept, from 1; None where there is none."""
    clean = harmless(text, graph)
    if clean == text:
        return None
    pairs = zip(text.split("\n"), clean.split("\n"), strict=False)
    return next((i for i, (line, other) in enumerate(pairs, 1) if line != other), 1)


def _secrets(tree: Any) -> Iterator[str]:
    """Names of the secrets in an argument tree."""
    stack = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += item.values()
        elif isinstance(item, list):
            if len(item) == 2 and item[0] == "secret" and isinstance(item[1], str):
                yield item[1]
            stack += item
