"""The first sentence of a step's docstring, read without importing what declares it."""

from __future__ import annotations

import ast
import os
from functools import cache

OWN = "penstock."


def docstring_of(entry: str, file: str, root: str) -> str:
    """The first paragraph of what "module:qualname" says of itself; "" where it says nothing or cannot be found.

    Parameters
    ----------
    entry : str
        Of a step, as a flow has it.
    file : str
        The declaring file.
    root : str
        The project's folder.

    Examples
    --------
    >>> docstring_of("penstock.stages.validate:validate", "churn.py", ".").endswith(".")
    True
    """
    module, _, name = entry.partition(":")
    steps = module.split(".")
    base = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if module.startswith(OWN):
        stems = [os.path.join(base, *steps[1:])]
    else:
        stems = [os.path.join(folder, *steps) for folder in dict.fromkeys((os.path.dirname(file), root))]
    for stem in stems:
        for path in (f"{stem}.py", os.path.join(stem, "__init__.py")):
            if os.path.isfile(path):
                return _first(path, name)
    return ""


@cache
def _first(path: str, name: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            found: ast.AST = ast.parse(file.read())
    except (OSError, ValueError, SyntaxError):
        return ""
    for part in name.split("."):
        defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        inside = [one for one in getattr(found, "body", ()) if isinstance(one, defined) and one.name == part]
        if not inside:
            return ""
        found = inside[-1]
    if not isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return ""
    return " ".join((ast.get_docstring(found) or "").partition("\n\n")[0].split())
