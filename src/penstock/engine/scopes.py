"""Which names a scope binds, so that a local variable is never taken for a module's definition."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Scope:
    """One scope's own names.

    Attributes
    ----------
    kind : "module", "class" or "function"
    names : set of str
        Bound here.
    imports : dict
        Name → what it may be, as targets "=module" or "=module:name".
    free : set of str
        Declared `global`.
    owner : str
        Name of the class whose body this is.
    """

    kind: str
    parent: Scope | None = None
    names: set[str] = field(default_factory=set)
    imports: dict[str, list[str]] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)
    owner: str = ""

    def roots(self, name: str) -> list[str]:
        """What a name may stand for outside this function: a module's name or an import's target.

        Empty for a local variable. A class body sees its own names and the module's; functions inside it do not
        see the class body.
        """
        scope: Scope = self
        found: list[str] = []
        while scope.parent is not None:
            if name in scope.free:
                return [*found, name]
            if name in scope.names and (scope.kind == "function" or scope is self):
                found += scope.imports.get(name, ())
                if scope.kind == "function":
                    return found
            scope = scope.parent
        return [*found, name]


def private_name(name: str, scope: Scope | None) -> str:
    """A name as Python writes it: `__x` inside a class `C` is `_C__x`."""
    if name.startswith("__") and not name.endswith("__"):
        while scope is not None:
            if scope.owner:
                return f"_{scope.owner.lstrip('_')}{name}"
            scope = scope.parent
    return name


def import_targets(node: ast.Import | ast.ImportFrom) -> list[tuple[str, str]]:
    """(bound name, target) of an import statement; the bound name of a star import is "*".

    Examples
    --------
    >>> import_targets(ast.parse("import a.b, c.d as e").body[0])
    [('a', '=a'), ('e', '=c.d')]
    >>> import_targets(ast.parse("from ..p import q as r").body[0])
    [('r', '=..p:q')]
    """
    if isinstance(node, ast.Import):
        return [
            (a.asname or a.name.partition(".")[0], f"={a.name if a.asname else a.name.partition('.')[0]}")
            for a in node.names
        ]
    module = "." * node.level + (node.module or "")
    return [(a.asname or a.name, f"={module}:{a.name}") for a in node.names]


def imported_modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Every module that an import statement may execute, as targets."""
    if isinstance(node, ast.Import):
        return [f"={alias.name}" for alias in node.names]
    return [target for _, target in import_targets(node)]


def bound_in(nodes: Iterable[ast.AST], scope: Scope) -> Scope:
    """Fill a scope with the names that its statements bind, without entering the scopes inside."""
    outer: set[str] = set()
    stack: list[tuple[ast.AST, bool]] = [(node, False) for node in nodes]
    while stack:
        node, only_walrus = stack.pop()
        if isinstance(node, ast.Name):
            if not only_walrus and not isinstance(node.ctx, ast.Load):
                scope.names.add(node.id)
        elif isinstance(node, ast.NamedExpr):
            scope.names.add(node.target.id)
            stack.append((node.value, only_walrus))
        elif isinstance(node, SCOPES):
            if not isinstance(node, ast.Lambda):
                scope.names.add(node.name)
                stack.extend((part, only_walrus) for part in outside_of(node))
        elif isinstance(node, COMPREHENSIONS):
            stack.extend((part, True) for part in ast.iter_child_nodes(node))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for name, target in import_targets(node):
                scope.names.add(name)
                scope.imports.setdefault(name, []).append(target)
        elif isinstance(node, ast.Global):
            scope.free.update(node.names)
        elif isinstance(node, ast.Nonlocal):
            outer.update(node.names)
        else:
            captured = getattr(node, "name", None) or getattr(node, "rest", None)
            if isinstance(captured, str):  # except … as name, case … as name, case [*name], case {**rest}
                scope.names.add(captured)
            stack.extend((part, only_walrus) for part in ast.iter_child_nodes(node))
    scope.names -= outer | scope.free
    return scope


def outside_of(node: ast.AST) -> list[ast.AST]:
    """The parts of a definition that its enclosing scope evaluates."""
    if isinstance(node, ast.ClassDef):
        return [*node.decorator_list, *node.bases, *(k.value for k in node.keywords)]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    defaults: list[ast.AST] = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
    return defaults if isinstance(node, ast.Lambda) else [*node.decorator_list, *defaults]


def arguments_of(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.arg]:
    """Every parameter of a function."""
    args = node.args
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *(a for a in (args.vararg, args.kwarg) if a is not None)]


def function_scope(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, parent: Scope) -> Scope:
    """The scope of a function's body."""
    scope = Scope("function", parent, {argument.arg for argument in arguments_of(node)})
    scope.names.update(type_parameters(node))
    return bound_in([node.body] if isinstance(node, ast.Lambda) else node.body, scope)


def type_parameters(node: ast.AST) -> list[str]:
    """Names of `def f[T]` and `class C[T]`, for the Python versions that have them."""
    return [parameter.name for parameter in getattr(node, "type_params", ())]
