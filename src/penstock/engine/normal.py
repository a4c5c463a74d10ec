"""A definition's normal form: its syntax tree without comments, docstrings, positions or layout."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable

_SKIPPED = frozenset({"ctx", "type_comment", "kind"})
_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)


def is_docstring(node: ast.AST) -> bool:
    """Whether a statement is a text that stands alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def normal_text(nodes: Iterable[ast.AST], *, docstrings: bool = False) -> str:
    r"""Serialise syntax trees, without recursion so that no nesting is too deep.

    Parameters
    ----------
    nodes : iterable of ast.AST
    docstrings : bool, default=False
        Keep them: for modules that read `__doc__`.

    Examples
    --------
    >>> one = ast.parse("def f(x):  # comment\n    'doc'\n    return (x)").body
    >>> two = ast.parse("def f( x ): return x").body
    >>> normal_text(one) == normal_text(two)
    True
    """
    out: list[str] = []
    stack: list[object] = []
    stack.extend(reversed(list(nodes)))
    while stack:
        item = stack.pop()
        if type(item) is _Mark:
            out.append(item)
        elif isinstance(item, ast.AST):
            out.append(type(item).__name__ + "(")
            stack.append(_END)
            fields = [_field(item, name, docstrings) for name in item._fields if name not in _SKIPPED]
            stack.extend(reversed(fields))
        elif type(item) is list:
            out.append("[")
            stack.append(_CLOSE)
            stack.extend(reversed(item))
        else:
            out.append(_constant(item))
    return "".join(out)


class _Mark(str):
    """Closing brackets on the stack: a type of its own, so that no constant is mistaken for one."""

    __slots__ = ()


_END, _CLOSE = _Mark(")"), _Mark("]")


def _field(node: ast.AST, name: str, docstrings: bool) -> object:
    value = getattr(node, name, None)
    if name == "body" and not docstrings and isinstance(node, _DOCUMENTED) and value and is_docstring(value[0]):
        return value[1:] or [ast.Pass()]
    return value


def _constant(value: object) -> str:
    """A constant with its type, so that 1, 1.0, True and '1' differ; integers by hex, which has no length limit."""
    if type(value) is int:
        return f"{value:#x},"
    return f"{value!r},"


def normal_digest(nodes: Iterable[ast.AST], *, docstrings: bool = False) -> str:
    """Digest of `normal_text`."""
    return hashlib.sha256(normal_text(nodes, docstrings=docstrings).encode("utf-8", "surrogatepass")).hexdigest()
