"""Importing the user's file under one name, without writing into the work tree."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from penstock.engine.real_path import real_path
from penstock.errors import DeclarationError, UsageError

RACY_S = 2.0
"""A file younger than this, in seconds, is compiled anew."""


def import_place(path: str) -> tuple[str, str]:
    """As `module_name`, of a file that has been imported: its name is not questioned again."""
    folder, base = os.path.split(path)
    parts = [os.path.splitext(base)[0]]
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    return ".".join(parts), folder


def module_name(path: str) -> tuple[str, str]:
    """Name under which a file is imported, and the folder that goes on `sys.path` for it.

    Parameters
    ----------
    path : str
        Absolute path of a Python file.

    Returns
    -------
    name : str
        Its stem, or the dotted name when its folder is a package.
    folder : str

    Raises
    ------
    UsageError
        The stem is no identifier, or Python or an installed library has that name.
    """
    base = os.path.basename(path)
    name, folder = import_place(path)
    parts = name.split(".")
    bad = next((part for part in (os.path.splitext(base)[0], *parts) if not part.isidentifier()), None)
    if bad is not None:
        raise UsageError(
            f"{base}: {bad!r} is no name that Python can import", hint=f"rename the file: {_better(bad)}.py"
        )
    top = parts[0]
    if top in sys.stdlib_module_names or _installed(top, folder):
        raise UsageError(f"{base}: a library is called {top!r} too, and would be shadowed", hint="rename the file")
    return name, folder


def _better(name: str) -> str:
    text = "".join(c if c.isalnum() else "_" for c in name)
    return text if text.isidentifier() else f"workflow_{text}"


def _installed(name: str, folder: str) -> bool:
    """Whether a name is found on the path without the file's own folder."""
    if name == "penstock":
        return True
    search = [p for p in sys.path if p and os.path.abspath(p) != os.path.abspath(folder)]
    spec = PathFinder.find_spec(name, search)
    return spec is not None and spec.origin is not None


class _CachedElsewhere(SourceFileLoader):
    """Loads a project's module, but keeps its byte code in `.penstock/pycache`."""

    def __init__(self, name: str, path: str, cache: str) -> None:
        super().__init__(name, path)
        self._cache = cache

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """As `SourceFileLoader.path_stats`, but a file that was just written has no byte code.

        Byte code is told by its source's size and the second of its last change. A file that is edited twice within one
        second could so run as it was before, while its text says something else.

        Raises
        ------
        OSError
        """
        stats = super().path_stats(path)
        if time.time() - stats["mtime"] < RACY_S:
            raise OSError(f"{path} was written just now")
        return stats

    def get_code(self, fullname: str) -> CodeType | None:
        before = sys.pycache_prefix
        sys.pycache_prefix = self._cache
        try:
            return super().get_code(fullname)
        finally:
            sys.pycache_prefix = before


class ProjectFinder(MetaPathFinder):
    """Finds modules under the project's root and gives them the loader above."""

    def __init__(self, root: str, cache: str) -> None:
        self._root = os.path.join(os.path.realpath(root), "")
        self._outside = tuple(os.path.join(os.path.realpath(p), "") for p in (sys.prefix, sys.base_prefix))
        self._cache = cache

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """As `MetaPathFinder.find_spec`."""
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader or spec.origin is None:
            return spec
        origin = real_path(spec.origin)
        if origin.startswith(self._root) and not origin.startswith(self._outside):
            spec.loader = _CachedElsewhere(name, spec.origin, self._cache)
        return spec


def import_file(path: str, root: str, cache: str) -> ModuleType:
    """Import a user's file as a module of its project.

    Parameters
    ----------
    path, root, cache : str
        Absolute paths of the file, of the project's root, and of the folder for byte code.

    Raises
    ------
    UsageError, DeclarationError
        The file is not there or its name cannot be used. An error in the file itself passes through.
    """
    if not os.path.isfile(path):
        raise UsageError(f"there is no file {path}", hint="name the Python file that declares the workflow")
    name, folder = module_name(path)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.meta_path.insert(0, ProjectFinder(root, cache))
    module = importlib.import_module(name)
    found = getattr(module, "__file__", None)
    if found is None or os.path.realpath(found) != os.path.realpath(path):
        raise UsageError(f"importing {name!r} gave {found}, not {path}", hint="rename the file")
    return module


def pick(module: ModuleType, kinds: tuple[type, ...], variable: str | None) -> Any:
    """The declaration that a module holds.

    Parameters
    ----------
    kinds : tuple of type
        What counts as a declaration, the first kind found wins.
    variable : str or None
        Its name, needed when there are several.

    Raises
    ------
    DeclarationError
    """
    base = os.path.basename(getattr(module, "__file__", None) or module.__name__)
    if variable is not None:
        value = vars(module).get(variable)
        if not isinstance(value, kinds):
            raise DeclarationError(f"{base}: no workflow, flow or promised output is called {variable!r}")
        return value
    for kind in kinds:
        found = {id(v): (k, v) for k, v in vars(module).items() if isinstance(v, kind) and not k.startswith("_")}
        if len(found) == 1:
            return next(iter(found.values()))[1]
        if len(found) > 1 and kind is not kinds[-1]:
            names = ", ".join(name for name, _ in found.values())
            raise DeclarationError(
                f"{base} holds {len(found)}: {names}", hint=f"name one, as {base}:{names.split(',')[0]}"
            )
        if len(found) > 1:
            return tuple(value for _, value in found.values())
    raise DeclarationError(f"{base}: no workflow in it", hint="declare one: churn = ps.Workflow(name=…, …)")
