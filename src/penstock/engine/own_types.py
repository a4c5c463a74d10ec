"""Digests of the project's own classes and functions, as the source files of a work tree say: nothing is imported.

Whoever registers a model and whoever is to run it come to the same digest exactly where the code that a type reaches in
the project's modules is the same. Comments and layout do not count, nor do the versions of libraries: the golden rows
tell what these change.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from penstock.core.digest import digest_value
from penstock.engine.closure import Closure
from penstock.engine.modules import PROJECT


def own_types(root: str, names: Iterable[str], folders: Sequence[str] = (".",)) -> dict[str, dict[str, Any]]:
    """What the work tree says of each type that it defines.

    Parameters
    ----------
    root : str
        The project's root.
    names : iterable of str
        "module:name" each.
    folders : sequence of str
        From where the project's modules are imported, relative to the root, in order.

    Returns
    -------
    dict
        Name → {"digest": "sha256:…", "parts": definition → digest, "file": path below the root, "folder": from where it
        is imported}, or {"fault": half a sentence} for what the tree does not define under that name. What a library or
        Python defines is left out.
    """
    asked = sorted(set(names))
    with searching(root, folders):
        closure = Closure(root)
        found = {name: _describe(closure, os.path.realpath(root), name) for name in asked}
    return {name: told for name, told in found.items() if told is not None}


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Definitions that two lists of parts do not agree on, in order.

    Examples
    --------
    >>> differing({"a:f": "1", "a:g": "2"}, {"a:f": "1", "a:g": "3", "a:h": "4"})
    ['a:g', 'a:h']
    """
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


@contextlib.contextmanager
def searching(root: str, folders: Sequence[str]) -> Iterator[None]:
    """The folders first on the path, as where the model runs."""
    before = list(sys.path)
    sys.path[:0] = [os.path.normpath(os.path.join(root, folder)) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before


def _describe(closure: Closure, root: str, name: str) -> dict[str, Any] | None:
    module, _, word = name.partition(":")
    kind, path = closure.place(module)
    if kind != PROJECT:
        return None
    if not path or not os.path.isfile(path):
        return {"fault": f"there is no module {module}"}
    real = os.path.realpath(path)
    if not real.startswith(os.path.join(root, "")):
        return {"fault": f"{module} lies outside of the project's root, at {path}"}
    if not closure.defines(module, word):
        return {"fault": f"{module} defines no {word}"}
    code = closure.of(name)
    if code.uncacheable:
        return {"fault": code.uncacheable}
    parts = {key: digest for key, digest in code.parts.items() if not _is_foreign(key)}
    file = os.path.relpath(real, root)
    return {
        "digest": f"sha256:{digest_value('own type', parts)}",
        "parts": parts,
        "file": file.replace(os.sep, "/"),
        "folder": import_folder(file, module),
    }


def _is_foreign(key: str) -> bool:
    """Whether a part of a code is a library's, Python's or Penstock's."""
    return key == "python" or key.startswith(("library:", "penstock:", "penstock."))


def import_folder(file: str, module: str) -> str:
    """From where a file is imported under a dotted name, relative to the root.

    Examples
    --------
    >>> import_folder("src/fraud/features.py", "fraud.features"), import_folder("features.py", "features")
    ('src', '.')
    """
    depth = module.count(".") + (os.path.basename(file) == "__init__.py")
    folder = os.path.dirname(file)
    for _ in range(depth):
        folder = os.path.dirname(folder)
    return folder.replace(os.sep, "/") or "."
