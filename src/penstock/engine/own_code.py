"""The source files that the project's own types need wherever they are imported; read here, imported nowhere."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from penstock.engine.closure import Closure
from penstock.engine.modules import LIBRARY, OWN, PROJECT
from penstock.engine.own_types import searching


@dataclass(slots=True)
class OwnCode:
    """Modules of the project that some modules import, directly or not, themselves included.

    Attributes
    ----------
    files : dict of str to str
        Path as seen from where they are imported, "fraud/features.py" → absolute path.
    libraries : set of str
        Packages of others that they import, by the name that is imported.
    with_penstock : list of str
        Modules that import Penstock.
    """

    files: dict[str, str] = field(default_factory=dict)
    libraries: set[str] = field(default_factory=set)
    with_penstock: list[str] = field(default_factory=list)


def own_code(root: str, modules: Iterable[str], folders: Sequence[str] = (".",)) -> OwnCode:
    """All that modules of a project need of the project.

    Parameters
    ----------
    root : str
        The project's root.
    modules : iterable of str
        Dotted names.
    folders : sequence of str
        From where they are imported, relative to the root, in order.
    """
    found = OwnCode()
    with searching(root, folders):
        closure = Closure(root)
        left, seen = list(modules), set[str]()
        while left:
            name = left.pop()
            kind, path = closure.place(name)
            if name in seen or kind != PROJECT or not path or not os.path.isfile(path):
                continue
            seen.add(name)
            is_package = os.path.basename(path) == "__init__.py"
            found.files[name.replace(".", "/") + ("/__init__.py" if is_package else ".py")] = path
            left += [name.rpartition(".")[0]] if "." in name else []
            for other in _imports(path, name if is_package else name.rpartition(".")[0]):
                whose = closure.place(other)[0]
                if whose == OWN and name not in found.with_penstock:
                    found.with_penstock.append(name)
                elif whose == LIBRARY:
                    found.libraries.add(other.partition(".")[0])
                else:
                    left.append(other)
    return found


def _imports(path: str, package: str) -> Iterator[str]:
    """Dotted names that a file may import; of `from a import b` both `a` and `a.b`."""
    with open(path, "rb") as file:
        tree = ast.parse(file.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{one.name}" for one in node.names if one.name != "*")
