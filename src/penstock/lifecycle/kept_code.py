"""What is kept of each run so that it can be done again: its source files, and the environment that it ran in."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tokenize
from collections.abc import Callable, Iterator, Mapping
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
        "code": {"penstock", "file", "variable", "params", "set", "only", "full", "seed", "folders", "files": path →
        text, or {"base64"} of what is no UTF-8}, or {"penstock", "withheld"}; "machine": see `engine.environment`,
        with "cpu".
        Empty where the process that imported the file told neither.
    """
    if "code" not in graph.about:
        return {}
    told = dict(graph.about["code"])
    hide = _hiding(graph, os.path.join(home.config.root, os.path.dirname(told["file"])))
    files, why = _read(home.config.root, told.pop("files"), told.pop("outside"), hide)
    given = canonical(told)
    if not why and hide(given) != given:
        why = "a parameter that was given by hand holds a password or the value of a secret"
    code = {"penstock": CODE} | ({"withheld": why} if why else told | {"files": files})
    return {"code": _stored(home, code), "machine": _stored(home, graph.about["machine"])}


def kept(home: Home, graph: Graph) -> dict[str, Any]:
    """The same as a run's row keeps it, durable: "files" and "machine"; "withheld" where the code cannot be kept."""
    found = made_with(home, graph)
    home.objects.publish([artifact.digest for artifact in found.values()])
    names = {"code": "files", "machine": "machine"}
    row: dict[str, Any] = {names[name]: artifact.to_json() for name, artifact in found.items()}
    why = home.formats.load(found["code"], home.objects).get("withheld") if found else None
    return row | ({"withheld": why} if why else {})


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


def harmless(text: str, graph: Graph, folder: str = "") -> str:
    """A text without passwords in URLs, and without the values of the secrets that the flow names.

    Parameters
    ----------
    folder : str
        Of the declaring file: secrets in files are relative to it.
    """
    return _hiding(graph, folder)(text)


def _hiding(graph: Graph, folder: str) -> Callable[[str], str]:
    """What takes passwords and values of secrets out of a text."""
    forms: dict[str, str] = {}
    for name in {name for node in graph.nodes for name in _secrets(node.tree)}:
        value = _value(name, folder)
        forms |= dict.fromkeys(forms_of(value) if value else (), name)

    def hide(text: str) -> str:
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, f"<{forms[form]}>")
        return "\n".join(masked(line) for line in text.split("\n"))

    return hide


def _value(name: str, folder: str) -> str:
    """Value of a named secret as far as this process can tell; "" else."""
    kind, _, rest = name.partition(":")
    if kind == "env":
        return os.environ.get(rest, "")
    try:
        with open(os.path.join(folder, rest), encoding="utf-8") as file:
            return file.read(1 << 20).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError):
        return ""


def _stored(home: Home, value: Any) -> Artifact:
    """A JSON value that is never inline: rows of the ledger stay small."""
    data = canonical(value).encode("utf-8")
    digest, size = home.objects.stage(data)
    return Artifact(digest, "json", size)


def _read(root: str, told: Mapping[str, str], outside: list[str], hide: Callable[[str], str]) -> tuple[Files, str]:
    """The files as they were when they were imported, and why they cannot be kept, or ""."""
    if outside:
        return {}, f"{_shown(outside[0])} lies outside of the project"
    if len(told) > MOST_FILES:
        return {}, f"{len(told):,} files; at most {MOST_FILES:,} are kept"
    found: Files = {}
    size = 0
    for name, digest in told.items():
        if _shown(name) != name:
            return {}, f"{_shown(name)} has a name that is no UTF-8"
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
        text, odd = _text(data)
        if (line := _secret_line(text, hide)) is not None:
            return {}, f"{name} holds a password or the value of a secret in line {line}"
        found[name] = {"base64": base64.b64encode(data).decode("ascii")} if odd else text
    return found, ""


def _shown(path: str) -> str:
    """A path as text that can be written."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _text(data: bytes) -> tuple[str, bool]:
    """A file's text, and whether it is no UTF-8: then by the encoding that its first lines declare."""
    try:
        return data.decode("utf-8"), False
    except UnicodeDecodeError:
        pass
    try:
        return data.decode(tokenize.detect_encoding(io.BytesIO(data).readline)[0]), True
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return data.decode("latin-1"), True


def _secret_line(text: str, hide: Callable[[str], str]) -> int | None:
    """The first line that may not be kept, from 1; None where there is none."""
    clean = hide(text)
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
