"""The code that a step's result depends on, as names and digests: the code part of a recipe.

Code is the normal form of the definitions that a step reaches in the project's modules, the top-level statements
whose effects reach these, and the versions of the libraries that they use. Nothing of the project is executed:
everything is read off the source files of the modules that the process has imported or would import.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass

from penstock.core.digest import digest_code
from penstock.engine.analysis import analyse, opaque
from penstock.engine.libraries import ABSENT, Libraries
from penstock.engine.memory import Memory, own_summary, remember_own
from penstock.engine.modules import LIBRARY, PROJECT, Modules, is_own
from penstock.engine.parts import nameless, parts_of
from penstock.engine.reach import Reach, World
from penstock.engine.summary import Summary

PYTHON = ".".join(map(str, sys.version_info[:3]))


@dataclass(frozen=True)
class CodePart:
    """What a step's code is made of.

    Attributes
    ----------
    parts : dict
        Qualified definition "module:name" → digest of its normal form, "library:NAME" → version, "python" → version.
    digest : str
        Of the parts.
    uncacheable : str
        Why the code cannot be named, or "".
    """

    parts: dict[str, str]
    digest: str
    uncacheable: str


class Closure:
    """Digests code in the process that has imported the user's file.

    Parameters
    ----------
    root : str
        The project's root folder.
    cache : str, optional
        Path of a file that remembers what was read off each source, by the source's digest. What was read off
        Penstock's own is remembered beside its byte code, where that may be written.
    """

    def __init__(self, root: str, *, cache: str | None = None) -> None:
        self._memory = Memory(cache)
        self._libraries = Libraries()
        self._modules = Modules(root, self._summary, self._libraries)
        self._world = World(self._modules, self._libraries)
        self._known: dict[object, CodePart] = {}
        self._universes: dict[str, list[str]] = {}
        self._loaded: tuple[int, list[str]] = (-1, [])

    def of(self, entry: str, also: Iterable[object] = (), libraries: tuple[str, ...] = ()) -> CodePart:
        """The code that an entry reaches.

        Parameters
        ----------
        entry : str
            "module:qualname" of a function.
        also : iterable
            Live objects among its arguments, flattened: estimators, functions, classes, splitters.
        libraries : tuple of str
            Import names of libraries that count although no code that is reached names them.

        Returns
        -------
        CodePart

        Examples
        --------
        >>> part = Closure(".").of("penstock.stats.auc:delong")
        >>> part.uncacheable
        ''
        >>> {"penstock.stats.auc:delong", "library:numpy", "python"} <= part.parts.keys()
        True
        """
        others = tuple(sorted({origin for thing in also for origin in origins_of(thing)})) if also else ()
        key = (entry, others, libraries) if others or libraries else entry
        if key not in self._known:
            self._known[key] = self._find(entry, others, libraries)
        return self._known[key]

    def place(self, module: str) -> tuple[str, str]:
        """Whose a module is (`modules.PROJECT`, `LIBRARY`, …), and its file where it is the project's."""
        return self._modules.kind(module), self._modules.path(module)

    def files(self, module: str) -> dict[str, str]:
        """The project's modules that this process has imported, and those that a module may import: name → file."""
        names = self._universe({module})
        found = {name: self._modules.path(name) for name in names if self._modules.kind(name) == PROJECT}
        return {name: path for name, path in sorted(found.items()) if os.path.isfile(path)}

    def is_installed(self, module: str) -> bool:
        """Whether a distribution of the name of a module's package is installed, to be edited where it lies too."""
        return self._libraries.is_installed(module.partition(".")[0])

    def defines(self, module: str, name: str) -> bool:
        """Whether a module of the project binds a name by a class or function of its own."""
        found = self._modules.get(module)
        units = [found.units[index] for index in found.binds.get(name, ())] if found is not None else []
        return any(unit.kind in ("class", "def", "assign", "code") for unit in units)

    def save(self) -> None:
        """Write the cache if anything was analysed anew."""
        self._memory.save()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────

    def _summary(self, data: bytes, path: str, own: bool) -> Summary:
        if not path.endswith(".py"):
            return opaque(data)
        digest = hashlib.sha256(data).hexdigest()
        known = (own_summary(path, digest) if own else None) or self._memory.get(digest)
        if known is None:
            known = analyse(data)
            if not own or not remember_own(path, digest, known):
                self._memory.put(digest, known)
        return known

    def _find(self, entry: str, others: tuple[str, ...], libraries: tuple[str, ...]) -> CodePart:
        modules = {name.partition(":")[0] for name in (entry, *others)}
        reach = Reach(self._world, self._universe(modules))
        problems = [problem for name in (entry, *others) if (problem := self._start(reach, name))]
        problems += filter(None, [nameless(reach, entry)])
        found = reach.run()
        parts = parts_of(reach)
        for library in sorted({*found.libraries, *libraries}):
            if library != "penstock":
                for name, version in self._libraries.versions(library).items():
                    parts[f"library:{name}"] = version
        parts["python"] = PYTHON
        parts.pop("penstock:__version__", None)
        return CodePart(parts, digest_code(parts), next(iter([*problems, found.uncacheable]), ""))

    def _start(self, reach: Reach, name: str) -> str:
        """Reach one named definition; gives the reason when that cannot be done."""
        module, _, qualname = name.partition(":")
        if module in ("__main__", "__mp_main__"):
            return f"{qualname} is defined in {module}, which has no name in another process"
        found = self._modules.get(module)
        if found is None:
            top = module.partition(".")[0]
            if self._modules.kind(module) != LIBRARY and top in sys.stdlib_module_names:
                return ""
            if ABSENT in self._libraries.versions(top).values():
                return f"{qualname} is defined in {module}, which has no source file and belongs to no library"
            reach.library(top)
            return ""
        top = qualname.partition(".")[0]
        if top in found.binds:
            reach.add(self._world.resolver.chain(found, top, ""))
        else:
            reach.open(module)
        return ""

    def _universe(self, modules: set[str]) -> list[str]:
        if len(sys.modules) != self._loaded[0]:
            self._loaded = (len(sys.modules), self._modules.loaded())
            self._universes.clear()
        key = ",".join(sorted(modules))
        if key not in self._universes:
            self._universes[key] = self._world.universe([*sorted(modules), *self._loaded[1]])
        return self._universes[key]


def origins_of(thing: object) -> list[str]:
    """Names of the definitions behind a live object, as "module:qualname".

    Examples
    --------
    >>> import datetime
    >>> origins_of(datetime.date.today)
    ['datetime:date']
    """
    entry = getattr(thing, "entry", None) if is_own(type(thing).__module__) else None
    if isinstance(entry, str) and ":" in entry:
        return [entry]
    if isinstance(thing, functools.partial):
        return [origin for part in (thing.func, *thing.args, *thing.keywords.values()) for origin in origins_of(part)]
    if isinstance(thing, types.MethodType | types.BuiltinMethodType) and not isinstance(
        thing.__self__, types.ModuleType
    ):
        owner = thing.__self__
        return origins_of(owner if isinstance(owner, type) else type(owner))
    if isinstance(thing, types.FunctionType | types.BuiltinFunctionType):
        module = thing.__module__ or "builtins"
        return [f"{module}:{thing.__qualname__.partition('.<locals>')[0]}"]
    kind = thing if isinstance(thing, type) else type(thing)
    return [
        f"{k.__module__}:{k.__qualname__.partition('.<locals>')[0]}" for k in kind.__mro__ if k.__module__ != "builtins"
    ]
