"""Which files of the project a flow is made of: all that its declaration executes as it is imported, or may import."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Any

from penstock.engine.closure import Closure
from penstock.engine.importing import module_name
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
        "outside": files that do not lie below the root. Paths are relative to the root, with "/".
    """
    base = os.path.realpath(root)
    modules = closure.files(module_name(file)[0])
    found: dict[str, str] = {}
    folders: dict[str, None] = {}
    outside = []
    for module, path in [*modules.items(), *(("", path) for path in (file, *beside) if os.path.isfile(path))]:
        real = os.path.realpath(path)
        if not real.startswith(os.path.join(base, "")):
            outside.append(path)
            continue
        name = os.path.relpath(real, base)
        with open(real, "rb") as content:
            found[name.replace(os.sep, "/")] = hashlib.sha256(content.read()).hexdigest()
        if module:
            folders[import_folder(name, module)] = None
    declaring = os.path.relpath(os.path.realpath(file), base).replace(os.sep, "/")
    return {"file": declaring, "files": dict(sorted(found.items())), "folders": sorted(folders), "outside": outside}
