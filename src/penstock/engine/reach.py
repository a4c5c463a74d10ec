"""From an entry to everything of the project that its result depends on: a fix-point of names and effects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from penstock.engine.effects import Effects, Place
from penstock.engine.libraries import Libraries
from penstock.engine.modules import LIBRARY, Module, Modules, is_own
from penstock.engine.resolve import Resolver, Target
from penstock.engine.summary import Unit

MOST_FILES = 2_000
"""Of a project whose code imports modules by computed names: above this its steps are not cacheable."""


@dataclass
class Reached:
    """What an entry reaches.

    Attributes
    ----------
    units : set of (module, index)
    imports : set of (module, name)
        Names that imports bind, on the way to a definition; "p.q" for a chain that starts from `import p.q`.
    libraries : set of str
        Top-level modules.
    uncacheable : str
    """

    units: set[tuple[str, int]] = field(default_factory=set)
    imports: set[tuple[str, str]] = field(default_factory=set)
    libraries: set[str] = field(default_factory=set)
    uncacheable: str = ""


class World:
    """All modules that a process with this project may execute, and what they do as they are imported."""

    def __init__(self, modules: Modules, libraries: Libraries) -> None:
        self.modules = modules
        self.libraries = libraries
        self.resolver = Resolver(modules)
        self.effects = Effects(self.resolver)
        self._imported: dict[str, tuple[str, ...]] = {}

    def imports(self, name: str) -> tuple[str, ...]:
        """The project's modules that a module may import, with the packages around them."""
        if name not in self._imported:
            module = self.modules.get(name)
            found: dict[str, None] = {}
            for unit in module.units if module else ():
                for target in unit.needs:
                    self._add_import(module, target, found)
            parents = name.split(".")[:-1]
            for count in range(1, len(parents) + 1):
                found[".".join(parents[:count])] = None
            self._imported[name] = tuple(n for n in found if n != name and self.modules.get(n) is not None)
        return self._imported[name]

    def _add_import(self, module: Module | None, target: str, found: dict[str, None]) -> None:
        assert module is not None
        base, inner = module.absolute(target)
        own = base.partition(".")[0] == "penstock"
        if own and not module.own:
            return
        parts = base.split(".")
        for count in range(1, len(parts) + 1):
            found[".".join(parts[:count])] = None
        if inner and inner != "*":
            found[f"{base}.{inner}"] = None

    def universe(self, starts: Iterable[str]) -> list[str]:
        """Everything that importing some modules may execute, sorted."""
        seen: set[str] = set()
        todo = [name for name in starts if self.modules.get(name) is not None]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += self.imports(name)
        return sorted(seen)


class Reach:
    """One fix-point.

    Parameters
    ----------
    world : World
    universe : list of str
        Modules whose import may have effects.
    """

    def __init__(self, world: World, universe: list[str]) -> None:
        self.world = world
        self.universe = universe
        self.found = Reached()
        self.missed: set[Place] = set()
        self._importers: dict[str, list[tuple[str, str]]] = {}
        self.modules: set[str] = set()
        self.counted: dict[tuple[str, int], set[Place]] = {}
        self._subclasses = False
        self._anything: set[bool] = set()
        self._whole: set[str] = set()
        self._todo: list[tuple[str, int]] = []
        self._open: list[str] = []
        self._dynamic: set[str] = set()
        self._pending: list[tuple[str, int]] | None = None

    def add(self, targets: Iterable[Target]) -> None:
        """Reach what names stand for."""
        for kind, name, index, _ in targets:
            if kind == "unit":
                self._todo.append((name, int(index)))
            elif kind == "module":
                self.whole(name)
            elif kind == "open":
                self.open(name)
            elif kind == "miss":
                self.missed.add((name, index))
                self.modules.add(name)
            elif kind == "library":
                self.library(name)
            elif kind == "import":
                self.found.imports.add((name, str(index)))
            elif kind == "below":
                self.found.imports.update(self._importers_of(name))

    def library(self, top: str) -> None:
        """Reach a library."""
        if self.world.modules.kind(top) == LIBRARY:
            self.found.libraries.add(top)

    def whole(self, name: str) -> None:
        """Reach a whole module."""
        module = self.world.modules.get(name)
        if module is not None and name not in self._whole:
            self._whole.add(name)
            self.modules.add(name)
            for index, unit in enumerate(module.units):
                self._todo.append((name, index))
                if unit.kind == "import":
                    self.found.imports.update((name, bound) for bound in unit.binds if bound not in unit.typed)
                    self.found.imports.update([(name, "*")] if unit.star else [])

    def open(self, name: str) -> None:
        """Reach a whole module and every module of the project that it imports, as far as that goes."""
        if name not in self._dynamic:
            self._open.append(name)

    def _importers_of(self, below: str) -> list[tuple[str, str]]:
        """The imports that make a submodule an attribute of its package."""
        if below not in self._importers:
            self._importers[below] = [
                (name, bound)
                for name in self.universe
                for unit in self.module(name).units
                if unit.kind == "import" and below in self._executed(name, unit)
                for bound in unit.binds
            ]
        return self._importers[below]

    def _executed(self, name: str, unit: Unit) -> set[str]:
        module = self.module(name)
        return {".".join(part for part in pair if part) for pair in map(module.absolute, unit.needs)} | {
            module.absolute(need)[0] for need in unit.needs
        }

    def run(self) -> Reached:
        """Alternate names and effects until neither adds anything."""
        while True:
            self._names()
            if not self._by_effects() and not self._by_subclasses() and not self._todo and not self._open:
                return self.found

    def _names(self) -> None:
        while self._todo or self._open:
            while self._open:
                name = self._open.pop()
                if name not in self._dynamic:
                    self._dynamic.add(name)
                    self.whole(name)
                    self._open += self.world.imports(name)
            if self._todo:
                place = self._todo.pop()
                if place not in self.found.units:
                    self.found.units.add(place)
                    self._unit(*place)

    def _unit(self, name: str, index: int) -> None:
        module = self.world.modules.get(name)
        assert module is not None
        unit = module.units[index]
        self.modules.add(name)
        if unit.dynamic or module.stars:
            self.open(name)
        if unit.anything and module.own not in self._anything:
            self._anything.add(module.own)
            self._everything(own=module.own)
        self._subclasses |= unit.subclasses
        for use in unit.uses:
            self.add(self.world.resolver.trail(module, use.root, use.attrs))
        for target in unit.needs:
            base, _ = module.absolute(target)
            self.library(base.partition(".")[0])

    def _everything(self, *, own: bool) -> None:
        """Whatever a computed name may mean: all files of the project, or all of Penstock that may be imported."""
        if own:
            names: list[str] | None = [name for name in self.universe if is_own(name)]
        else:
            names = self.world.modules.everything(MOST_FILES)
        if names is None:
            self.found.uncacheable = "its code imports modules by computed names in a project of too many files"
            return
        for name in names:
            self.open(name)

    def _by_effects(self) -> bool:
        """Add the statements whose effects count; whether there was one."""
        if self._pending is None:
            self._pending = self._effects()
        rest, added = [], False
        for place in self._pending:
            if place in self.counted:
                continue
            if self._counts(place):
                self._todo.append(place)
                self.counted[place] = self.world.effects.of(self.module(place[0]), place[1]).touched
                added = True
            else:
                rest.append(place)
        self._pending = rest
        return added

    def _effects(self) -> list[tuple[str, int]]:
        effects = self.world.effects
        return [
            (name, index)
            for name in self.universe
            for index in range(len(self.module(name).units))
            if effects.of(self.module(name), index)
        ]

    def _counts(self, place: tuple[str, int]) -> bool:
        effect = self.world.effects.of(self.module(place[0]), place[1])
        if effect.everywhere or place in self.found.units or not effect.libraries.isdisjoint(self.found.libraries):
            return True
        for name, index in effect.touched:
            if (index == "*" and name in self.modules) or (name, index) in self.found.units:
                return True
            if (name, index) in self.missed:
                return True
        return False

    def _by_subclasses(self) -> bool:
        """Where the code asks for subclasses, those of every class reached."""
        if not self._subclasses:
            return False
        added = False
        for name in self.universe:
            for index, unit in enumerate(self.module(name).units):
                if unit.bases and (name, index) not in self.found.units:
                    bases = set(self.world.effects.bases(name, index))
                    if not bases.isdisjoint(self.found.units):
                        self._todo.append((name, index))
                        added = True
        return added

    def module(self, name: str) -> Module:
        """A module that is known to be the project's or Penstock's."""
        module = self.world.modules.get(name)
        assert module is not None
        return module
