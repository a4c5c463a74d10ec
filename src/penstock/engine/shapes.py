"""What kind of value a definition holds: whether importing or calling something could change it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

FIXED = frozenset(
    [
        "getLogger",
        "compile",
        "Path",
        "PurePath",
        "PosixPath",
        "frozenset",
        "TypeVar",
        "ParamSpec",
        "NewType",
        "timedelta",
        "date",
        "datetime",
        "Decimal",
        "Fraction",
        "MappingProxyType",
        "namedtuple",
        "NamedTuple",
        "TypedDict",
    ]
)
"""Functions whose answer nobody changes."""
CONTAINERS = frozenset(("list", "dict", "set", "defaultdict", "OrderedDict", "Counter", "deque"))
CONSTRUCTORS = ("__init__", "__new__", "__post_init__", "__set_name__")
READING = frozenset(("items", "keys", "values", "get", "copy", "index", "count"))
MUTATORS = frozenset(
    [
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "clear",
        "sort",
        "reverse",
        "add",
        "discard",
        "update",
        "setdefault",
        "popitem",
        "appendleft",
        "extendleft",
        "popleft",
        "rotate",
        "subtract",
        "move_to_end",
        "difference_update",
        "intersection_update",
        "symmetric_difference_update",
        "__setitem__",
        "__delitem__",
        "__iadd__",
        "__ior__",
    ]
)
"""Methods that change a list, dict, set, deque or Counter; its other methods read."""
CHANGING = frozenset(
    [
        "heappush",
        "heappop",
        "heapify",
        "heapreplace",
        "heappushpop",
        "shuffle",
        "insort",
        "insort_left",
        "insort_right",
        "next",
        "setattr",
        "delattr",
        "type",
        "partial",
        "partialmethod",
        "reduce",
    ]
)
"""Functions of Python's that change their argument."""
_READERS = frozenset(("len", "sorted", "list", "tuple", "dict", "set", "sum", "min", "max", "isinstance"))
_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)


def shape_of(node: ast.Assign | ast.AnnAssign) -> tuple[bool, bool, bool]:
    """Whether an assigned value is constant, a written-out container, and one that holds only constants.

    Examples
    --------
    >>> [shape_of(ast.parse(text).body[0]) for text in ("A = 1", "A = []", "A = [1]", "A = f()")]
    [(True, False, False), (False, True, False), (False, True, True), (False, False, False)]
    """
    value = node.value
    if value is None or is_constant(value):
        return True, False, False
    if isinstance(value, ast.Call):
        name = _last_name(value.func)
        if name in FIXED and all(is_constant(a) or isinstance(a, ast.Name) for a in value.args):
            return True, False, False
        return False, name in CONTAINERS, False
    return False, isinstance(value, _DISPLAYS), _is_flat(value)


def is_constant(node: ast.AST) -> bool:
    """Whether an expression is written with constants only, and gives one."""
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, ast.Tuple):
            stack += item.elts
        elif isinstance(item, ast.UnaryOp):
            stack.append(item.operand)
        elif isinstance(item, ast.BinOp):
            stack += [item.left, item.right]
        elif not isinstance(item, ast.Constant):
            return False
    return True


def _is_flat(node: ast.expr) -> bool:
    """A display with at least one item, all constants, or displays of constants."""
    stack: list[ast.expr | None] = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, ast.List | ast.Set | ast.Tuple) and item.elts:
            stack += item.elts
        elif isinstance(item, ast.Dict) and item.values:
            stack += [*item.keys, *item.values]
        elif item is None or not is_constant(item):
            return False
    return True


def _last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def constructors_of(methods: Mapping[str, ast.AST]) -> set[str]:
    """Methods that making an instance runs: the constructors and what these name on any object."""
    found: set[str] = set()
    todo = [name for name in CONSTRUCTORS if name in methods]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        named = {node.attr for node in ast.walk(methods[name]) if isinstance(node, ast.Attribute)}
        todo += sorted(named & methods.keys())
    return found


def is_stateful(node: ast.ClassDef) -> bool:
    """Whether the methods of a class may change the class itself or a container that it holds."""
    held = _held_by(node)
    owners = {"cls", "mcs", "owner", node.name}
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute | ast.Subscript) and not isinstance(part.ctx, ast.Load):
            if _leads_to_class(part.value, owners, held):
                return True
        elif isinstance(part, ast.Call):
            method = part.func
            if isinstance(method, ast.Attribute) and method.attr not in READING:
                inner = method.value
                if _holds(inner, held) or (isinstance(inner, ast.Attribute) and _leads_to_class(inner, owners, held)):
                    return True
            if _last_name(part.func) in ("setattr", "delattr") and not _on_self(part):
                return True
            if _last_name(part.func) not in _READERS and any(_holds(argument, held) for argument in part.args):
                return True
    return False


def keeps_state(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function may remember something between calls: a decorator's cache, a default that can change."""
    defaults = [*node.args.defaults, *node.args.kw_defaults]
    return bool(node.decorator_list) or any(d is not None and isinstance(d, (*_DISPLAYS, ast.Call)) for d in defaults)


def leaves_arguments(functions: Iterable[ast.AST]) -> bool:
    """Whether nothing in some functions changes a value in place, but for attributes of `self`."""
    for part in (part for function in functions for part in ast.walk(function)):
        if isinstance(part, ast.AugAssign | ast.Delete | ast.Global | ast.Nonlocal):
            return False
        if isinstance(part, ast.Subscript) and not isinstance(part.ctx, ast.Load):
            return False
        if isinstance(part, ast.Attribute) and not isinstance(part.ctx, ast.Load) and not _is_self(part.value):
            return False
        if isinstance(part, ast.Call) and _last_name(part.func) in MUTATORS | CHANGING:
            return False
    return True


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _held_by(node: ast.ClassDef) -> set[str]:
    """Class attributes whose value can be changed in place."""
    held: set[str] = set()
    for part in node.body:
        if isinstance(part, ast.Assign | ast.AnnAssign) and not shape_of(part)[0] and not _is_field(part.value):
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            held.update(target.id for target in targets if isinstance(target, ast.Name))
    return held


def _holds(node: ast.AST, held: set[str]) -> bool:
    """Whether an expression starts from a held attribute."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute) and node.attr in held:
            return True
        node = node.value
    return False


def _on_self(call: ast.Call) -> bool:
    return bool(call.args) and _is_self(call.args[0])


def _is_field(value: ast.AST | None) -> bool:
    """Whether a dataclass makes the value anew for each instance."""
    return isinstance(value, ast.Call) and _last_name(value.func) == "field"


def _leads_to_class(node: ast.AST, owners: set[str], held: set[str]) -> bool:
    """Whether a target belongs to the class: `cls.x`, `type(self).x`, `self.__class__.x`, `self.held[k]`."""
    while True:
        if isinstance(node, ast.Attribute):
            if node.attr in held or node.attr == "__class__":
                return True
            node = node.value
        elif isinstance(node, ast.Subscript):
            node = node.value
        elif isinstance(node, ast.Call):
            return _last_name(node.func) == "type"
        else:
            return isinstance(node, ast.Name) and node.id in owners


def acts_on_subclassing(node: ast.ClassDef) -> bool:
    """Whether making a subclass runs code: `__init_subclass__`, or a metaclass other than Python's plain ones."""
    meta = [k.value for k in node.keywords if k.arg == "metaclass"]
    if any(_last_name(value) not in ("ABCMeta", "EnumMeta", "EnumType") for value in meta):
        return True
    named = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(part, named) and part.name == "__init_subclass__" for part in ast.walk(node))
