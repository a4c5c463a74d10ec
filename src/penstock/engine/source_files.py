"""Which files of the project a flow is made of: all that its declaration executes as it is imported, or may import."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Any

from penstock.engine.closure import Closure
from penstock.engine.importing import import_place
from penstock.engine.own_types import import_folder


def source_files(closure: Closure, file: str, root: str, beside: Iterable[str] = ()) -> dict[str, Any]:
    """The project's files behind a declaration, as they are now.

    Parameters
    ----------
    closure : Closure
        Of the process that has imported the file.
    file, root : str
        The declaring file and the project's root, absolute.
    beside : iterable of str
        Further files that the declaration reads, absolute; those that are not there are passed over.

    Returns
    -------
    dict
        "file": the declaring one; "files": path below the root → SHA-256; "folders": from where modules are imported;
        "outside": files that lie neither below the root nor in a library, be it one that is edited where it lies.
        Paths are relative to the root, with "/"; a file that is a link has the name by which it is imported.
    """
    modules = closure.files(import_place(file)[0])
    found: dict[str, str] = {}
    folders: dict[str, None] = {}
    outside = []
    for module, path in [*modules.items(), *(("", path) for path in (file, *beside) if os.path.isfile(path))]:
        name = _below(path, root)
        if name is None:
            if not (module and closure.is_installed(module)):
                outside.append(path)
            continue
        with open(path, "rb") as content:
            found[name] = hashlib.sha256(content.read()).hexdigest()
        if module:
            folders[import_folder(name, module)] = None
    return {
        "file": _below(file, root) or os.path.basename(file),
        "files": dict(sorted(found.items())),
        "folders": sorted(folders),
        "outside": outside,
    }


def _below(path: str, root: str) -> str | None:
    """A file's path from the root: as it is called where that leads below the root, else where it really lies."""
    shown, real, base = os.path.abspath(path), os.path.realpath(path), os.path.realpath(root)
    for place, folder in ((shown, os.path.abspath(root)), (shown, base), (real, base)):
        if place.startswith(os.path.join(folder, "")):
            return os.path.relpath(place, folder).replace(os.sep, "/")
    return None
