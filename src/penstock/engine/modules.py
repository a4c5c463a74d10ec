"""The project's modules: where their files are, and what each name in them stands for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

from penstock.engine.libraries import Libraries
from penstock.engine.summary import Summary, Unit

PROJECT, LIBRARY, STANDARD, OWN = "project", "library", "standard", "penstock"
_EXCLUDED = frozenset((".venv", ".penstock", "site-packages", "dist-packages", ".tox", ".nox"))
_BINARY = (".so", ".pyd", ".dylib")


class Module:
    """One module of the project, read.

    Attributes
    ----------
    name, package : str
        `package` is what relative imports start from.
    units : list of Unit
    binds : dict
        Name → indices of the units that may bind it.
    open : bool
        Whether a name that no unit binds may still exist: star import, `__getattr__`, no readable source.
    """

    def __init__(self, name: str, *, is_package: bool, summary: Summary) -> None:
        self.name = name
        self.package = name if is_package else name.rpartition(".")[0]
        self.units: list[Unit] = summary.units
        self.opaque = summary.opaque
        self.binds: dict[str, list[int]] = {}
        self.stars: list[str] = []
        for index, unit in enumerate(self.units):
            self.stars += unit.star
            for bound in unit.binds:
                self.binds.setdefault(bound, []).append(index)
        self.open = bool(self.stars) or summary.opaque or "__getattr__" in self.binds

    @property
    def own(self) -> bool:
        """Whether it is Penstock's."""
        return is_own(self.name)

    def absolute(self, target: str) -> tuple[str, str]:
        """(module, name) of an import's target "=…module" or "=…module:name"."""
        module, _, name = target[1:].partition(":")
        stripped = module.lstrip(".")
        level = len(module) - len(stripped)
        if level:
            base = self.package.split(".")
            base = base[: len(base) - (level - 1)] if level > 1 else base
            module = ".".join([*base, stripped] if stripped else base)
        return module, name


def is_own(name: str) -> bool:
    """Whether a module is Penstock's."""
    return name == "penstock" or name.startswith("penstock.")


class Modules:
    """Finds and reads the project's modules.

    Parameters
    ----------
    root : str
    analysed : callable
        Bytes of a file, its path, and whether it is Penstock's own → `Summary`.
    libraries : Libraries
    """

    def __init__(self, root: str, analysed: Callable[[bytes, str, bool], Summary], libraries: Libraries) -> None:
        self.root = os.path.join(os.path.realpath(root), "")
        self._shown_root = os.path.join(os.path.abspath(root), "")
        self._analysed = analysed
        self._libraries = libraries
        self._places: dict[str, tuple[str, str]] = {}
        self._read: dict[str, Module | None] = {}
        self._below: dict[str, bool] = {}
        self._inner = tuple(
            os.path.join(os.path.realpath(p), "") for p in {sys.prefix, sys.base_prefix, sys.exec_prefix}
        )
        self._standard = os.path.join(os.path.dirname(os.path.realpath(os.__file__)), "")

    def kind(self, name: str) -> str:
        """PROJECT, LIBRARY, STANDARD or OWN."""
        return self._place(name)[0]

    def path(self, name: str) -> str:
        """File of a module of the project or of Penstock, "" where there is none."""
        return self._place(name)[1]

    def get(self, name: str) -> Module | None:
        """A module of the project or of Penstock, or None when it is another's or there is no such file."""
        if name not in self._read:
            kind, path = self._place(name)
            self._read[name] = self._load(name, path) if kind in (PROJECT, OWN) and path else None
        return self._read[name]

    def loaded(self) -> list[str]:
        """Modules under the root that this process has imported."""
        return [
            name
            for name, module in list(sys.modules.items())
            if name not in ("__main__", "__mp_main__")
            and not is_own(name)
            and self.is_below(getattr(module, "__file__", None))
        ]

    def is_below(self, file: str | None) -> bool:
        """Whether a file is the project's own: under the root, in no environment inside it."""
        if not isinstance(file, str):
            return False
        folder, base = os.path.split(file)
        if folder not in self._below:
            self._below[folder] = self._folder_is_below(folder)
        return self._below[folder] and base not in _EXCLUDED

    def _folder_is_below(self, folder: str) -> bool:
        shown = os.path.join(os.path.abspath(folder), "")
        if shown.startswith(self._standard) or "site-packages" in shown:
            return False
        for path, root in ((shown, self._shown_root), (os.path.join(os.path.realpath(folder), ""), self.root)):
            if path.startswith(root) and _EXCLUDED.isdisjoint(path[len(root) :].split(os.sep)):
                inside = tuple(p for p in self._inner if p.startswith(root) and p != root)
                return not path.startswith((*inside, self._standard))
        return False

    def everything(self, most: int) -> list[str] | None:
        """Dotted names of all Python files below the root, or None when there are more than `most`."""
        found: list[str] = []
        for folder, inner, files in os.walk(self.root):
            inner[:] = sorted(
                name
                for name in inner
                if not name.startswith(".") and name not in _EXCLUDED and name not in ("__pycache__", "node_modules")
                if not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
            )
            for file in sorted(files):
                if file.endswith(".py"):
                    name = _dotted(os.path.join(folder, file))
                    if not is_own(name) and self._adopt(name, os.path.join(folder, file)):
                        found.append(name)
            if len(found) > most:
                return None
        return found

    def _adopt(self, name: str, path: str) -> bool:
        """Take a file found by walking under its dotted name, unless the import system means another one."""
        kind, known = self._place(name)
        if known and os.path.realpath(known) != os.path.realpath(path):
            return False
        if not known and kind not in (STANDARD, OWN):
            self._places[name] = (PROJECT, path)
            self._read.pop(name, None)
        return bool(self.get(name))

    def _load(self, name: str, path: str) -> Module | None:
        if os.path.isdir(path):
            return Module(name, is_package=True, summary=Summary([]))
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            return None
        summary = self._analysed(data, path, is_own(name))
        return Module(name, is_package=os.path.basename(path).startswith("__init__."), summary=summary)

    # ── where a module is ────────────────────────────────────────────────────────────────────────────────────

    def _place(self, name: str) -> tuple[str, str]:
        if name not in self._places:
            self._places[name] = self._look(name)
        return self._places[name]

    def _look(self, name: str) -> tuple[str, str]:
        top = name.partition(".")[0]
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if top == "penstock":
            return OWN, file or self._beside(name) or ""
        if isinstance(file, str):
            return self._judge(top, _source(file))
        parent = name.rpartition(".")[0]
        if parent:
            kind, _ = self._place(parent)
            if kind != PROJECT:
                return kind, ""
            return PROJECT, self._beside(name) or ""
        if top in sys.stdlib_module_names and module is not None:
            return STANDARD, ""
        for folder in (*sys.path, self.root, os.path.join(self.root, "src")):
            found = _in_folder(folder or os.getcwd(), name)
            if found:
                return self._judge(top, found)
        return (STANDARD if top in sys.stdlib_module_names else LIBRARY), ""

    def _beside(self, name: str) -> str | None:
        """A submodule's file in its parent's folders."""
        parent, _, last = name.rpartition(".")
        folders: list[str] = list(getattr(sys.modules.get(parent), "__path__", ()))
        if not folders:
            path = self._place(parent)[1] if parent else ""
            folders = [path if os.path.isdir(path) else os.path.dirname(path)] if path else []
            if path and not os.path.isdir(path) and not os.path.basename(path).startswith("__init__."):
                return None
        return next((found for found in (_in_folder(folder, last) for folder in folders) if found), None)

    def _judge(self, top: str, path: str) -> tuple[str, str]:
        """Whose a file is. One outside the root that no library owns counts as the project's: it may be edited.

        So does one of a library that is installed to be edited where it lies.
        """
        if self.is_below(path):
            return PROJECT, path
        real = os.path.realpath(path)
        parts = real.split(os.sep)
        if "site-packages" in parts or "dist-packages" in parts:
            return LIBRARY, ""
        if real.startswith(self._standard) or top in sys.stdlib_module_names:
            return STANDARD, ""
        owned = self._libraries.is_installed(top) and not self._libraries.is_editable(top)
        if real.startswith(self._inner) or owned or os.path.isdir(path):
            return LIBRARY, ""
        return PROJECT, path


def _source(file: str) -> str:
    """The source of a loaded module's file."""
    if file.endswith(".pyc") and os.path.exists(file[:-1]):
        return file[:-1]
    return file


def _in_folder(folder: str, name: str) -> str | None:
    """File of a module in a folder, in the order in which Python looks; a folder for a package without one."""
    base = os.path.join(folder, name)
    package = os.path.join(base, "__init__.py")
    if os.path.isfile(package):
        return package
    for suffix in _binary_suffixes():
        if os.path.isfile(base + suffix):
            return base + suffix
    if os.path.isfile(base + ".py"):
        return base + ".py"
    return base if os.path.isdir(base) else None


def _binary_suffixes() -> Iterator[str]:
    from importlib.machinery import EXTENSION_SUFFIXES

    return iter(EXTENSION_SUFFIXES)


def _dotted(path: str) -> str:
    """Name under which a file is imported: its stem, below every folder that is a package."""
    folder, base = os.path.split(path)
    parts = [] if base == "__init__.py" else [base.removesuffix(".py")]
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    return ".".join(parts)
