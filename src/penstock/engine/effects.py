"""What a top-level statement may change as the module is imported, beyond the names that it binds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from penstock.engine.modules import Module
from penstock.engine.resolve import Resolver, Target
from penstock.engine.shapes import CHANGING, MUTATORS
from penstock.engine.summary import ALIAS, ARG, CALL, DECORATE, DISCARD, ITER, KEEP, LATER, LOAD, NOW, STORE, Unit, Use

QUIET = frozenset(("logging", "typing", "functools", "dataclasses", "abc", "contextlib", "enum", "collections"))
"""Libraries whose calls change nothing that a step computes."""
PURE_DECORATORS = frozenset(
    [
        "vectorize",
        "guvectorize",
        "njit",
        "jit",
        "stencil",
        "delayed",
        "validate_call",
        "typechecked",
        "beartype",
        "deprecated",
    ]
)
"""Decorators of libraries that only wrap the function."""
PLAIN_BASES = frozenset(
    ("sklearn", "numpy", "pandas", "polars", "xgboost", "lightgbm", "catboost", "torch", "pydantic")
)
"""Libraries whose classes keep no list of their subclasses."""

Place = tuple[str, int | str]
"""A unit as (module, index), a name that nothing binds as (module, name), a whole module as (module, "*")."""


@dataclass
class Effect:
    """What a statement may change.

    Attributes
    ----------
    touched : set of Place
    libraries : set of str
        Top-level modules that it changes: these count for what reaches them.
    everywhere : bool
        It counts for every step: it acts on a library, calls a function of the project for its effect, or uses
        means that hide what is changed.
    """

    touched: set[Place] = field(default_factory=set)
    libraries: set[str] = field(default_factory=set)
    everywhere: bool = False

    def __bool__(self) -> bool:
        return bool(self.touched or self.libraries or self.everywhere)


class Effects:
    """Finds out for each unit what it changes, and remembers it.

    The rules err on the side of too much. What is known to change nothing: calls of Penstock's interface and of
    steps, reading, constructors of libraries, and classes whose making leaves no trace outside the instance.
    """

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self._known: dict[tuple[str, int], Effect] = {}
        self._hooks: dict[tuple[str, int], bool] = {}
        self._steps: dict[tuple[str, int], bool] = {}

    def of(self, module: Module, index: int) -> Effect:
        """The effect of one unit."""
        key = (module.name, index)
        if key not in self._known:
            unit = module.units[index]
            self._known[key] = Effect() if unit.kind == "import" else _Trace(self, module, index).effect
        return self._known[key]

    def is_step(self, module: Module, index: int) -> bool:
        """Whether a name stands for something of Penstock's: calling a step at import promises, and changes nothing."""
        key = (module.name, index)
        if key not in self._steps:
            decorators = module.units[index].decorators
            targets = [t for text in decorators for t in self.resolver.text(module, text)]
            self._steps[key] = any(target[0] == "inert" for target in targets)
        return self._steps[key]

    def bases(self, module: str, index: int) -> Iterator[tuple[str, int]]:
        """The project's classes that a class derives from, itself first."""
        todo, seen = [(module, index)], set()
        while todo:
            place = todo.pop()
            if place in seen:
                continue
            seen.add(place)
            home = self.resolver.modules.get(place[0])
            if home is None:
                continue
            yield place
            for text in home.units[place[1]].bases:
                todo += [(t[1], t[2]) for t in self.resolver.text(home, text) if t[0] == "unit" and type(t[2]) is int]

    def may_register(self, module: str, index: int) -> bool:
        """Whether making a subclass of a class may leave a trace in it."""
        key = (module, index)
        if key not in self._hooks:
            unit = self.resolver.unit(module, index)
            home = self.resolver.modules.get(module)
            assert home is not None
            targets = [t for text in unit.bases for t in self.resolver.text(home, text) if t[0] == "library"]
            foreign = any(t[1] not in PLAIN_BASES and t[1] not in sys.stdlib_module_names for t in targets)
            made = unit.kind in ("assign", "code") and not unit.constant
            self._hooks[key] = unit.hook or foreign or made
        return self._hooks[key]

    def is_stateful(self, module: str, index: int) -> bool:
        """Whether the methods of a class, or those that it inherits, change a class."""
        return any(self.resolver.unit(*place).stateful for place in self.bases(module, index))


class _Trace:
    """One statement's effect, followed through the functions of the project that it calls."""

    def __init__(self, effects: Effects, module: Module, index: int) -> None:
        self.effects = effects
        self.resolver = effects.resolver
        self.home = (module.name, index)
        self.effect = Effect()
        self.todo: list[tuple[str, int, bool]] = []
        self.done: set[tuple[str, int, bool]] = set()
        unit = module.units[index]
        self.effect.everywhere = unit.hidden_now
        self.start(module, unit)
        while self.todo:
            place = self.todo.pop()
            if place not in self.done:
                self.done.add(place)
                self.follow(*place)
        self.effect.touched.discard(self.home)

    def start(self, module: Module, unit: Unit) -> None:
        """What the statement itself does while it is executed."""
        if unit.bases:
            for place in self.effects.bases(*self.home):
                if place != self.home and self.effects.may_register(*place):
                    self.touch(place)
                    self.activate(place)
        for use in unit.uses:
            if use.when != NOW or use.how in (LOAD, ITER, KEEP, ALIAS):
                continue
            targets = self.resolver.use(module, use)
            for target in targets:
                if use.how in (DISCARD, STORE):
                    self.everywhere(use, target)
                if use.how == DECORATE and self.is_ours(target):
                    self.activate(self.home)
            self.apply(module, use, targets, deep=False)

    def everywhere(self, use: Use, target: Target) -> None:
        """Statements that exist for their effect alone."""
        kind, name, index, _ = target
        if kind == "library":
            # `del np` only forgets a name; `np.x = …` changes the library.
            acts = use.how == DISCARD or bool(index)
            self.effect.everywhere |= acts and name not in QUIET
        elif kind == "unit" and use.how == DISCARD:
            unit = self.resolver.unit(name, int(index))
            called = unit.kind == "def" or (unit.kind == "class" and not target[3])
            home = self.resolver.modules.get(name)
            assert home is not None
            self.effect.everywhere |= called and not self.effects.is_step(home, int(index))
        elif kind == "open":
            self.effect.everywhere = True

    def is_ours(self, target: Target) -> bool:
        """Whether a decorator is code of the project that runs at import."""
        if target[0] != "unit":
            return target[0] in ("open", "miss", "module")
        home = self.resolver.modules.get(target[1])
        return home is not None and not self.effects.is_step(home, int(target[2]))

    def touch(self, place: Place) -> None:
        """Note a change; what is changed in a class may belong to one that it derives from."""
        self.effect.touched.add(place)
        name, index = place
        if isinstance(index, int) and self.resolver.unit(name, index).bases:
            self.effect.touched.update(self.effects.bases(name, index))

    def activate(self, place: tuple[str, int], *, made: bool = False) -> None:
        self.todo.append((*place, made))

    def follow(self, name: str, index: int, made: bool) -> None:
        """Everything that a unit's code may do; only what making an instance runs when `made`."""
        module = self.resolver.modules.get(name)
        if module is None:
            return
        unit = module.units[index]
        if unit.hidden and not made and (name, index) != self.home:
            self.effect.everywhere = True
        for use in unit.uses:
            if not (made and use.when == LATER):
                self.apply(module, use, self.resolver.use(module, use), deep=unit.kind in ("assign", "code"))
        if unit.kind == "class":
            for place in self.effects.bases(name, index):
                if place != (name, index):
                    self.activate(place, made=made)

    def apply(self, module: Module, use: Use, targets: tuple[Target, ...], *, deep: bool) -> None:
        """One use, by what it stands for; `deep` in a value whose methods are called, so that all it holds counts."""
        for kind, name, index, rest in targets:
            if kind == "unit":
                self.on_unit(module, use, (name, int(index)), rest, deep=deep)
            elif kind == "module":
                if use.how not in (LOAD, STORE):
                    self.touch((name, "*"))
            elif kind == "open":
                self.effect.everywhere |= use.how in (CALL, DISCARD, STORE, DECORATE)
                self.touch((name, "*"))
            elif kind == "miss":
                if use.how not in (LOAD, ITER):
                    self.touch((name, str(index)))
            elif kind == "library" and use.how in (DISCARD, STORE, DECORATE):
                self.on_library(name, str(index).rpartition(".")[2] if use.how == DECORATE else "")

    def on_library(self, name: str, decorator: str) -> None:
        if decorator in PURE_DECORATORS:
            return
        self.effect.everywhere |= "register" in decorator and name not in sys.stdlib_module_names
        if name not in QUIET and (name not in sys.stdlib_module_names or name in ("os", "sys", "random", "builtins")):
            self.effect.libraries.add(name)

    def on_unit(self, module: Module, use: Use, place: tuple[str, int], rest: str, *, deep: bool) -> None:
        """A use of one of the project's definitions."""
        unit = self.resolver.unit(*place)
        home = self.resolver.modules.get(place[0])
        assert home is not None
        if use.how != STORE and self.effects.is_step(home, place[1]):
            return
        if use.how == ARG and self.receives_nothing(module, use):
            return
        if use.how == STORE or (deep and use.how in (ARG, ALIAS, KEEP) and not unit.constant):
            self.touch(place)
            self.activate(place)
        elif unit.kind == "def":
            self.on_function(module, use, place, rest)
        elif unit.kind == "class":
            self.on_class(module, use, place, rest, deep=deep)
        elif not unit.constant:
            self.on_state(module, use, place, rest)

    def on_function(self, module: Module, use: Use, place: tuple[str, int], rest: str) -> None:
        calls = use.how in (CALL, DISCARD, DECORATE)
        if (
            (use.how == ARG and not self.only_reads(module, use))
            or (rest and (calls or use.how == ALIAS))
            or (calls and self.resolver.unit(*place).stateful)
        ):
            self.touch(place)
        self.activate(place)

    def on_class(self, module: Module, use: Use, place: tuple[str, int], rest: str, *, deep: bool) -> None:
        calls = use.how in (CALL, DISCARD, DECORATE)
        if calls and not rest:
            if self.effects.is_stateful(*place):
                self.touch(place)
            self.activate(place, made=not deep)
        elif (rest and (calls or use.how in (ALIAS, KEEP))) or (use.how == ARG and not self.only_reads(module, use)):
            self.touch(place)
            self.activate(place)
        else:
            self.activate(place, made=True)

    def on_state(self, module: Module, use: Use, place: tuple[str, int], rest: str) -> None:
        """A value that can be changed in place."""
        unit = self.resolver.unit(*place)
        if rest and use.how in (ARG, ALIAS, KEEP) and unit.literal:  # `map(REG.append, …)`
            use = use._replace(how=CALL, via=rest.rpartition(".")[2])
        if use.how == LOAD or (unit.flat and use.how in (ITER, KEEP)):
            return
        if use.how in (CALL, DISCARD, DECORATE) and unit.literal and use.via and use.via not in MUTATORS:
            return
        if use.how == ARG and self.only_reads(module, use, container=unit.literal):
            return
        self.touch(place)
        self.activate(place)

    def receives_nothing(self, module: Module, use: Use) -> bool:
        """Whether an argument goes to Penstock's interface or to a step."""
        return any(
            target[0] == "inert" or (target[0] == "unit" and self._is_step_at(target))
            for target in self.resolver.text(module, use.via)
        )

    def _is_step_at(self, target: Target) -> bool:
        home = self.resolver.modules.get(target[1])
        return home is not None and self.effects.is_step(home, int(target[2]))

    def only_reads(self, module: Module, use: Use, *, container: bool = False) -> bool:
        """Whether a call leaves its arguments as they are: Python's own functions and constructors of libraries."""
        root, _, attrs = use.via.partition("|")
        last = attrs.rpartition(".")[2] or root.rpartition(":")[2]
        if last in CHANGING or last in MUTATORS or last.startswith("__"):
            return False
        targets = self.resolver.text(module, use.via)
        if not targets:
            return container or root != "?"
        if all(target[0] == "library" for target in targets):
            return container or last[:1].isupper() or last.startswith("make_")
        return container and all(t[0] == "unit" and not t[3] and self.leaves(t[1], int(t[2])) for t in targets)

    def leaves(self, name: str, index: int) -> bool:
        """Whether a function or constructor leaves its arguments as they are, seen from its text alone."""
        unit = self.resolver.unit(name, index)
        places = list(self.effects.bases(name, index)) if unit.kind == "class" else [(name, index)]
        return unit.kind in ("def", "class") and all(self._leaves(*place) for place in places)

    def _leaves(self, name: str, index: int) -> bool:
        module = self.resolver.modules.get(name)
        assert module is not None
        unit = module.units[index]
        inside = [use for use in unit.uses if use.when != (LATER if unit.kind == "class" else NOW)]
        calls = [use for use in inside if use.how in (CALL, DISCARD, ARG)]
        ours = any(t[0] not in ("library", "inert") for use in calls for t in self.resolver.use(module, use))
        return unit.leaves and not unit.hook and not unit.decorators and not ours
