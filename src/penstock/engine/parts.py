"""From what an entry reaches to the parts of its code: names and digests."""

from __future__ import annotations

from penstock.core.digest import digest_value
from penstock.engine.effects import Place
from penstock.engine.modules import Module
from penstock.engine.reach import Reach
from penstock.engine.summary import ALIAS, ARG, NOW, Unit


def label(unit: Unit) -> str:
    """Name of a unit in a code part: what it binds, else the first name that it uses at import."""
    if unit.kind in ("def", "class", "assign"):
        return ",".join(unit.binds)
    name = next(iter(unit.binds), None) or next((use.root.lstrip("=") for use in unit.uses if use.when == NOW), "")
    return f"<top>:{name}"


def parts_of(reach: Reach) -> dict[str, str]:
    """Qualified definition → digest, from a finished fix-point.

    Statements with one name are one part, in the order of the file; where order counts beyond that, "module:<top>"
    is the sequence of what is executed.
    """
    gathered: dict[str, list[object]] = {}
    for name, index in sorted(reach.found.units):
        unit = reach.world.resolver.unit(name, index)
        if unit.kind == "import":
            continue
        gathered.setdefault(f"{name}:{label(unit)}", []).append(unit.digest)
    for name, bound in sorted(reach.found.imports):
        gathered.setdefault(f"{name}:{bound}", []).append(_import_of(reach.module(name), bound))
    parts = {key: digest_value("definition", value) for key, value in gathered.items()}
    for name in sorted({name for name, _ in reach.found.units} | _importers(reach)):
        order = _order(reach, name)
        if len(order) > 1:
            parts[f"{name}:<top>"] = digest_value("order", order)
    return parts


def _import_of(module: Module, bound: str) -> list[str]:
    """What imports bind a name to, in the order of the file; "p.q" of `import p.q` is bound by that statement."""
    if bound == "*":
        return [star for unit in module.units for star in unit.star]
    if "." in bound:
        return [f"={bound}"]
    units = [module.units[index] for index in module.binds.get(bound, ())]
    return [target for unit in units if unit.kind == "import" for target in unit.imports.get(bound, ())]


def _importers(reach: Reach) -> set[str]:
    """Modules that import two or more modules with effects that count: their order is the order of the effects."""
    acting = {name for name, _ in reach.counted}
    return {
        name for name in reach.universe if sum(bool(_reaches(reach, n, acting)) for n in reach.world.imports(name)) > 1
    }


def _reaches(reach: Reach, name: str, acting: set[str]) -> bool:
    return not acting.isdisjoint(reach.world.universe([name]))


def _order(reach: Reach, name: str) -> list[str]:
    """What is executed as a module is imported, where one statement may see another's effect."""
    module = reach.module(name)
    touched = {place for places in reach.counted.values() for place in places}
    acting = {home for home, _ in reach.counted}
    several = {bound for bound, indices in module.binds.items() if len(indices) > 1}
    order: list[str] = []
    for index, unit in enumerate(module.units):
        place = (name, index)
        if unit.kind == "import":
            order += [f"import {base}" for base in _acting_imports(reach, module, unit, acting - {name})]
        elif place in reach.found.units and (place in reach.counted or _sees(reach, module, unit, touched, several)):
            order.append(unit.digest)
    return order


def _acting_imports(reach: Reach, module: Module, unit: Unit, acting: set[str]) -> list[str]:
    if not acting:
        return []
    bases = [module.absolute(target)[0] for target in unit.needs]
    return [base for base in dict.fromkeys(bases) if _reaches(reach, base, acting)]


def _sees(reach: Reach, module: Module, unit: Unit, touched: set[Place], several: set[str]) -> bool:
    """Whether executing a statement earlier or later may give something else."""
    if not several.isdisjoint(unit.binds):
        return True
    for use in unit.uses:
        if use.when == NOW:
            if use.root in several:
                return True
            targets = reach.world.resolver.use(module, use)
            if any((target[1], target[2]) in touched for target in targets):
                return True
    return False


def nameless(reach: Reach, entry: str) -> str:
    """Why an entry does not tell one step from another, or "".

    A function that is made by another has only its maker's name; and a function that is wrapped twice, each time
    into a step, gives both steps its own.
    """
    name, _, qualname = entry.partition(":")
    if "<" in qualname:
        return f"{qualname} has no name of its own: define it at the top of {name.replace('.', '/')}.py"
    module = reach.world.modules.get(name)
    if module is None or module.own:
        return ""
    defined = [i for i in module.binds.get(qualname, ()) if module.units[i].kind == "def"]
    if not defined or any(reach.world.effects.is_step(module, i) for i in defined):
        return ""
    wrapped = [unit for other in reach.universe for unit in _wrappers(reach, reach.module(other), (name, defined))]
    if len(wrapped) > 1 or any(unit.kind != "assign" or unit.literal for unit in wrapped):
        return f"{qualname} is wrapped into more than one step: give each a function of its own, marked @step"
    return ""


def _wrappers(reach: Reach, module: Module, home: tuple[str, list[int]]) -> list[Unit]:
    """Statements that hand a function to something other than Penstock and may make a step of the answer."""
    resolver = reach.world.resolver
    found: list[Unit] = []
    for index, unit in enumerate(module.units):
        makes = any(target[0] == "inert" for use in unit.uses for target in resolver.use(module, use))
        for use in unit.uses:
            if use.how not in (ARG, ALIAS) or (module.name, index) in {(home[0], i) for i in home[1]}:
                continue
            if not makes and use.when != NOW:
                continue
            hit = any(t[0] == "unit" and t[1] == home[0] and t[2] in home[1] for t in resolver.use(module, use))
            if hit and not any(t[0] == "inert" for t in resolver.text(module, use.via)):
                found.append(unit)
    return found
