"""From a module's source to its summary: a pure function of the bytes."""

from __future__ import annotations

import ast
import hashlib

from penstock.engine.normal import is_docstring, normal_digest
from penstock.engine.scopes import Scope, bound_in, import_targets, imported_modules
from penstock.engine.shapes import (
    acts_on_subclassing,
    constructors_of,
    is_stateful,
    keeps_state,
    leaves_arguments,
    shape_of,
)
from penstock.engine.summary import LATER, MADE, NOW, Summary, Unit
from penstock.engine.uses import Walker

PENSTOCK = ("=penstock.", "=penstock:")


def analyse(source: bytes) -> Summary:
    r"""Read off a module what its definitions are and which names they use.

    Parameters
    ----------
    source : bytes
        A whole file, in any encoding that Python reads.

    Examples
    --------
    >>> summary = analyse(b"import math as m\nTAU = 2 * m.pi\ndef area(r): return TAU / 2 * r ** 2")
    >>> [(unit.kind, unit.binds) for unit in summary.units]
    [('import', ['m']), ('assign', ['TAU']), ('def', ['area'])]
    >>> [use.root for use in summary.units[2].uses]
    ['TAU']
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return opaque(source)
    return Summary(_Reader(tree, docstrings=b"__doc__" in source).units)


def opaque(data: bytes) -> Summary:
    """The summary of a file whose definitions cannot be told apart: all of its bytes count."""
    unit = Unit("code", [], hashlib.sha256(data).hexdigest(), dynamic=True)
    return Summary([unit], opaque=True)


class _Reader:
    """Divides a module into units."""

    def __init__(self, tree: ast.Module, *, docstrings: bool) -> None:
        self.docstrings = docstrings
        self.scope = bound_in(tree.body, Scope("module"))
        self.scope.names |= _written_by_functions(tree)
        self.units: list[Unit] = []
        for node in tree.body:
            self.statement(node)

    def statement(self, node: ast.stmt) -> None:
        """One top-level statement as a unit, or as none when it is never executed."""
        if is_docstring(node) or isinstance(node, ast.Pass):
            return
        if isinstance(node, ast.If):
            test = _condition(node.test)
            if test == "typing":
                self.units.append(_for_type_checkers(node))
            if test:
                for inner in node.orelse:
                    self.statement(inner)
                return
        self.units.append(self.unit(node))

    def unit(self, node: ast.stmt) -> Unit:
        """Everything about one statement."""
        walker = Walker(self.scope)
        unit = Unit(_kind(node), sorted(_binds(node)), "")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.decorator_list = self.without_step(node.decorator_list)
            unit.decorators = [walker.chain_text(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list]
        if isinstance(node, ast.ClassDef):
            self.describe_class(node, unit, walker)
        else:
            walker.visit(node, NOW)
        if unit.kind == "code":
            classes = [inner for inner in ast.walk(node) if isinstance(inner, ast.ClassDef)]
            unit.bases = [walker.chain_text(base) for inner in classes for base in inner.bases]
            unit.hook = any(acts_on_subclassing(inner) for inner in classes)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            unit.stateful = keeps_state(node)
            unit.leaves = leaves_arguments([node])
        if isinstance(node, ast.Assign | ast.AnnAssign):
            if isinstance(node.value, ast.Call):
                unit.decorators = [walker.chain_text(node.value.func)]
            unit.constant, unit.literal, unit.flat = shape_of(node)
        unit.digest = normal_digest([node], docstrings=self.docstrings)
        self.take_imports(node, unit)
        walker.report(unit)
        return unit

    def describe_class(self, node: ast.ClassDef, unit: Unit, walker: Walker) -> None:
        """A class: its bases, and what its methods do to it."""
        methods = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        making = constructors_of(methods)
        unit.bases = [walker.chain_text(base) for base in node.bases]
        unit.hook = acts_on_subclassing(node)
        unit.stateful = is_stateful(node)
        unit.leaves = leaves_arguments(methods[name] for name in sorted(making))
        walker.visit(node, NOW, {id(m): MADE if name in making else LATER for name, m in methods.items()})

    def without_step(self, decorators: list[ast.expr]) -> list[ast.expr]:
        """Decorators, with Penstock's own reduced to the one option that counts: `outputs`."""
        kept: list[ast.expr] = []
        for decorator in decorators:
            name: ast.AST = decorator.func if isinstance(decorator, ast.Call) else decorator
            while isinstance(name, ast.Attribute):
                name = name.value
            targets = self.scope.imports.get(name.id, []) if isinstance(name, ast.Name) else []
            if not any(target == "=penstock" or target.startswith(PENSTOCK) for target in targets):
                kept.append(decorator)
                continue
            if isinstance(decorator, ast.Call):
                decorator.args = []
                decorator.keywords = [k for k in decorator.keywords if k.arg in ("outputs", None)]
                kept.append(decorator if decorator.keywords else decorator.func)
            else:
                kept.append(decorator)
        return kept

    def take_imports(self, node: ast.stmt, unit: Unit) -> None:
        """Imports that bind names of the module, and those inside functions that only execute a module."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.Import | ast.ImportFrom):
                unit.needs += imported_modules(inner)
                for name, target in import_targets(inner):
                    if name == "*":
                        unit.star.append(target.rpartition(":")[0])
                    elif name in unit.binds:
                        unit.imports.setdefault(name, []).append(target)


def _kind(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return "def"
    if isinstance(node, ast.ClassDef):
        return "class"
    if isinstance(node, ast.Import | ast.ImportFrom):
        return "import"
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if all(isinstance(t, ast.Name) for t in targets):
            return "def" if isinstance(node.value, ast.Lambda) else "assign"
    return "code"


def _binds(node: ast.stmt) -> set[str]:
    """Names of the module that a statement, or a function in it that says `global`, may bind."""
    return bound_in([node], Scope("module")).names.union(_written_by_functions(node)) - {"*"}


def _written_by_functions(tree: ast.AST) -> set[str]:
    return {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


def _condition(test: ast.expr) -> str:
    """Either "typing" or "main" for the conditions that never hold in a run: only their `else` is executed."""
    if isinstance(test, ast.Name | ast.Attribute):
        name = test.id if isinstance(test, ast.Name) else test.attr
        return "typing" if name == "TYPE_CHECKING" else ""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return next((found for found in map(_condition, test.values) if found), "")
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__":
        right = test.comparators[0]
        if isinstance(test.ops[0], ast.Eq) and isinstance(right, ast.Constant) and right.value == "__main__":
            return "main"
    return ""


def _for_type_checkers(node: ast.If) -> Unit:
    """Imports for type checkers: they bind nothing at run time, but name the libraries that annotations mean."""
    unit = Unit("import", [], "")
    for inner in node.body:
        if isinstance(inner, ast.Import | ast.ImportFrom):
            for name, target in import_targets(inner):
                unit.binds.append(name)
                unit.typed.append(name)
                unit.imports.setdefault(name, []).append(target)
    return unit
