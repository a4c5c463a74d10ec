"""What a name in a module stands for, followed across imports."""

from __future__ import annotations

import builtins
from collections.abc import Iterator

from penstock.engine.modules import LIBRARY, STANDARD, Module, Modules, is_own
from penstock.engine.summary import Unit, Use

Target = tuple[str, str, str | int, str]
"""("unit", module, index, attributes that follow) · ("module", module) · ("open", module) for a name that only running
can find · ("miss", module, name) for one that something else must put there · ("library", top-level module, dotted
rest) · ("inert",) for Penstock's own interface. On the way to these: ("import", module, bound or dotted name) ·
("below", module) for a submodule that is an attribute only where something has imported it. Padded with ""."""

INERT: Target = ("inert", "", "", "")


class Resolver:
    """Follows names; remembers what it found."""

    def __init__(self, modules: Modules) -> None:
        self.modules = modules
        self._known: dict[tuple[str, str, str], tuple[Target, ...]] = {}
        self._trails: dict[tuple[str, str, str], tuple[Target, ...]] = {}

    def unit(self, module: str, index: int) -> Unit:
        """A unit by its place."""
        found = self.modules.get(module)
        assert found is not None
        return found.units[index]

    def use(self, module: Module, use: Use) -> tuple[Target, ...]:
        """What a use in a module may mean."""
        return self.chain(module, use.root, use.attrs)

    def text(self, module: Module, text: str) -> tuple[Target, ...]:
        """What "root|attrs" in a module may mean; nothing for a local variable."""
        root, _, attrs = text.partition("|")
        return () if root == "?" else self.chain(module, root, attrs)

    def chain(self, module: Module, root: str, attrs: str) -> tuple[Target, ...]:
        """What a name and its attributes may mean in a module."""
        key = (module.name, root, attrs)
        if key not in self._known:
            self._known[key] = tuple(t for t in self.trail(module, root, attrs) if t[0] not in ("import", "below"))
        return self._known[key]

    def trail(self, module: Module, root: str, attrs: str) -> tuple[Target, ...]:
        """What a name and its attributes may mean, with the imports on the way there."""
        key = (module.name, root, attrs)
        if key not in self._trails:
            self._trails[key] = ()  # an import that leads back to itself means nothing more
            rest = tuple(attrs.split(".")) if attrs else ()
            self._trails[key] = tuple(dict.fromkeys(self._follow(module, root, rest)))
        return self._trails[key]

    def _follow(self, module: Module, root: str, attrs: tuple[str, ...]) -> Iterator[Target]:
        if root.startswith("="):
            yield from self._target(module, root, attrs)
            return
        bound = module.binds.get(root)
        if bound is None:
            if module.stars or module.opaque:
                yield ("open", module.name, "", "")
            if root not in _BUILTINS:
                yield ("miss", module.name, root, "")
            return
        for index in bound:
            unit = module.units[index]
            for target in unit.imports.get(root, ()):
                found = self._target(module, target, attrs)
                if root in unit.typed:
                    yield from (t for t in found if t[0] == "library")
                    continue
                if unit.kind == "import" and not self._is_inert(module, target):
                    yield from (("import", module.name, name, "") for name in _dotted(unit, root, attrs))
                yield from found
            if unit.kind != "import":
                yield ("unit", module.name, index, ".".join(attrs))

    def _target(self, module: Module, target: str, attrs: tuple[str, ...]) -> Iterator[Target]:
        """An import's target seen from a module."""
        name, inner = module.absolute(target)
        if self._is_inert(module, target):
            yield INERT
            return
        yield from self.within(name, ((inner, *attrs) if inner and inner != "*" else attrs))

    def _is_inert(self, module: Module, target: str) -> bool:
        return not module.own and is_own(module.absolute(target)[0])

    def within(self, name: str, attrs: tuple[str, ...]) -> Iterator[Target]:
        """What attributes of a module mean, through its submodules."""
        while True:
            kind = self.modules.kind(name)
            if kind in (LIBRARY, STANDARD):
                top, _, rest = name.partition(".")
                yield ("library", top, ".".join([rest, *attrs] if rest else attrs), "")
                return
            module = self.modules.get(name)
            if module is None:
                yield ("library", name.partition(".")[0], ".".join(attrs), "")
                return
            if not attrs:
                yield ("module", name, "", "")
                return
            first, attrs = attrs[0], attrs[1:]
            below = f"{name}.{first}"
            has_below = self.modules.get(below) is not None
            if first in module.binds:
                yield from self.trail(module, first, ".".join(attrs))
            elif not has_below:
                if module.open:
                    yield ("open", name, "", "")
                if first not in _ALWAYS:
                    yield ("miss", name, first, "")
            if not has_below:
                return
            if first not in module.binds:
                yield ("below", below, "", "")
            name = below


def _dotted(unit: Unit, root: str, attrs: tuple[str, ...]) -> list[str]:
    """Names under which an import statement serves a chain: "p.q" of `import p.q` for `p.q.f`, else what it binds."""
    chain = ".".join((root, *attrs)) + "."
    longer = [need[1:] for need in unit.needs if need.startswith(f"={root}.") and chain.startswith(need[1:] + ".")]
    return longer or [root]


_BUILTINS = frozenset(dir(builtins)) | {
    "__file__", "__name__", "__doc__", "__package__", "__spec__", "__path__", "__loader__", "__annotations__",
}  # fmt: skip
_ALWAYS = frozenset(("__name__", "__doc__", "__package__", "__file__", "__path__"))
