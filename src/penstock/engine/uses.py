"""Walks a statement and notes every use of a name that is not local: which, how, and when."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping

from penstock.engine.scopes import (
    COMPREHENSIONS,
    Scope,
    arguments_of,
    bound_in,
    function_scope,
    import_targets,
    private_name,
    type_parameters,
)
from penstock.engine.summary import (
    ALIAS,
    ARG,
    CALL,
    DECORATE,
    DISCARD,
    ITER,
    KEEP,
    LATER,
    LOAD,
    NOW,
    STORE,
    Unit,
    Use,
)

DYNAMIC_NAMES = frozenset(("eval", "exec", "compile", "globals", "locals", "vars", "setattr", "delattr", "__import__"))
DYNAMIC_ATTRS = frozenset(
    ("__dict__", "__globals__", "__builtins__", "__getattribute__", "__code__", "f_globals", "f_locals", "__closure__")
)
IMPORTERS = ("=importlib", "=pkgutil", "=runpy", "=imp", "=zipimport", "=imp:")
PLAIN_IMPORTERS = ("=importlib.metadata", "=importlib.resources", "=importlib:metadata", "=importlib:resources")

_Task = tuple[ast.AST, Scope, int, str, int]


class Walker:
    """Collects the uses in one top-level statement, without recursion.

    Parameters
    ----------
    module : Scope
        The module's own names.
    """

    def __init__(self, module: Scope) -> None:
        self.module = module
        self.uses: set[Use] = set()
        self.needs: set[str] = set()
        self.dynamic = self.hidden = self.hidden_now = self.anything = self.subclasses = False
        self._stack: list[_Task] = []
        self._when: Mapping[int, int] = {}

    def visit(self, node: ast.AST, when: int, methods: Mapping[int, int] | None = None) -> None:
        """Walk a statement; `methods` says for each method of a class (by `id`) when its body runs."""
        self._when = methods or {}
        self._stack.append((node, self.module, LOAD, "", when))
        while self._stack:
            item, scope, how, via, at = self._stack.pop()
            handler = _HANDLERS.get(type(item))
            if handler is None:
                self._children(item, scope, how if how == ARG else LOAD, via, at)
            else:
                handler(self, item, scope, how, via, at)

    def report(self, unit: Unit) -> None:
        """Write what was found into a unit, in an order of its own."""
        unit.uses = sorted(self.uses)
        unit.needs = sorted({*unit.needs, *self.needs})
        unit.star = sorted(set(unit.star))
        unit.dynamic, unit.hidden, unit.hidden_now = self.dynamic, self.hidden, self.hidden_now
        unit.anything, unit.subclasses = self.anything, self.subclasses

    def chain_text(self, node: ast.AST, scope: Scope | None = None) -> str:
        """A dotted expression as "root|attrs"; "?" when its root is local or no name."""
        attrs: list[str] = []
        while isinstance(node, ast.Attribute):
            attrs.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return "?|" + (attrs[-1] if attrs else "")
        roots = (scope or self.module).roots(node.id)
        return f"{roots[0]}|{'.'.join(attrs)}" if roots else "?|" + (attrs[-1] if attrs else "")

    # ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────

    def _push(self, node: ast.AST | None, scope: Scope, how: int, via: str, at: int) -> None:
        if node is not None:
            self._stack.append((node, scope, how, via, at))

    def _each(self, nodes: Iterable[ast.AST | None], scope: Scope, how: int, via: str, at: int) -> None:
        for node in nodes:
            self._push(node, scope, how, via, at)

    def _children(self, node: ast.AST, scope: Scope, how: int, via: str, at: int) -> None:
        self._each(ast.iter_child_nodes(node), scope, how, via, at)

    def _mark_dynamic(self, at: int, *, changes: bool = True) -> None:
        self.dynamic = True
        self.hidden |= changes
        self.hidden_now |= changes and at == NOW

    def _record(self, name: str, attrs: list[str], scope: Scope, how: int, via: str, at: int) -> list[str]:
        """Note a use for each thing that the name may stand for; gives these."""
        roots = scope.roots(name)
        for root in roots:
            self.uses.add(Use(private_name(root, scope), ".".join(attrs), how, via, at))
            self._suspect(root, attrs, at)
        if name in DYNAMIC_NAMES and name in roots and name not in self.module.names:
            if name == "__import__":
                self.anything = True
            self._mark_dynamic(at, changes=name not in ("vars", "locals"))
        return roots

    def _suspect(self, root: str, attrs: list[str], at: int) -> None:
        """Ways to modules and names that no text shows."""
        for target in (root, *self.module.imports.get(root, ())):
            full = target + ("." + ".".join(attrs) if attrs else "")
            if target in ("=sys", "=sys:modules") and "modules" in (*attrs, target.rpartition(":")[2]):
                self._mark_dynamic(at)
            if target.startswith(IMPORTERS) and not full.startswith(PLAIN_IMPORTERS):
                self._mark_dynamic(at, changes=False)
                self.anything = True

    # ── expressions ──────────────────────────────────────────────────────────────────────────────────────────

    def name(self, node: ast.Name, scope: Scope, how: int, via: str, at: int) -> None:
        """A name, where it is read."""
        if isinstance(node.ctx, ast.Load) or how == STORE:
            self._record(node.id, [], scope, how, via, at)

    def chain(self, node: ast.AST, scope: Scope, how: int, via: str, at: int) -> None:
        """Attributes, items and calls in a row: what counts is the name at their root."""
        attrs: list[str] = []
        if not isinstance(getattr(node, "ctx", None), ast.Load | None):
            how = STORE
        while True:
            if isinstance(node, ast.Attribute):
                self._attribute(node, at)
                attrs.insert(0, node.attr)
                node = node.value
            elif isinstance(node, ast.Subscript):
                self._push(node.slice, scope, LOAD, "", at)
                attrs, node = [], node.value
            elif isinstance(node, ast.Call):
                call = node
                if self._known_import(node, scope):
                    return
                how = how if how in (DISCARD, DECORATE, STORE) else CALL
                via = node.func.attr if isinstance(node.func, ast.Attribute) else ""
                self._arguments(node, scope, at)
                attrs, node = [], node.func
                if isinstance(node, ast.Name) and node.id in ("setattr", "delattr") and _on_self(call):
                    self._mark_dynamic(at, changes=False)
                    return
            else:
                break
        if isinstance(node, ast.Name):
            self._record(node.id, attrs, scope, how, via, at)
        else:
            self._push(node, scope, how, via, at)

    def _attribute(self, node: ast.Attribute, at: int) -> None:
        if node.attr in DYNAMIC_ATTRS:
            self._mark_dynamic(at, changes=not _is_self(node.value))
        elif node.attr == "__subclasses__":
            self.subclasses = True

    def _arguments(self, node: ast.Call, scope: Scope, at: int) -> None:
        callee = self.chain_text(node.func, scope)
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        if callee in ("getattr|", "hasattr|") and (len(node.args) < 2 or not _is_text(node.args[1])):
            self._mark_dynamic(at, changes=False)
        self._each(arguments, scope, ARG, callee, at)

    def _known_import(self, node: ast.Call, scope: Scope) -> bool:
        """`importlib.import_module("p.q")`: an import like any other, of the whole module."""
        name = self.chain_text(node.func, scope)
        root, _, attrs = name.partition("|")
        targets = {t + ("." + attrs if attrs else "") for t in (root, *self.module.imports.get(root, ()))}
        known = {"=importlib.import_module", "=importlib:import_module", "__import__"}
        if not (targets & known and len(node.args) == 1 and not node.keywords and _is_text(node.args[0])):
            return False
        assert isinstance(node.args[0], ast.Constant)
        module = str(node.args[0].value)
        if not module or module.startswith("."):
            return False
        self.needs.add(f"={module}")
        self.uses.add(Use(f"={module}", "", ALIAS, "", LATER))
        return True

    def call(self, node: ast.Call, scope: Scope, how: int, via: str, at: int) -> None:
        """A call: its root counts, as called."""
        del via
        self.chain(node, scope, how if how in (DISCARD, DECORATE, STORE) else CALL, "", at)

    def lambda_(self, node: ast.Lambda, scope: Scope, how: int, via: str, at: int) -> None:
        """A lambda, whose body runs now where something may call it at once."""
        del via
        self._each([*node.args.defaults, *node.args.kw_defaults], scope, KEEP, "", at)
        body = at if at != NOW or how in (ARG, DECORATE, DISCARD, CALL) else LATER
        self._push(node.body, function_scope(node, scope), ALIAS, "", body)

    def comprehension(self, node: ast.AST, scope: Scope, how: int, via: str, at: int) -> None:
        """A comprehension: a scope whose first iterable belongs to the one outside."""
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        inner = Scope("function", scope)
        bound_in([g.target for g in generators], inner)
        self._push(generators[0].iter, scope, ITER, "", at)
        for receiver in self._receivers(node, inner.names, inner):
            self._push(generators[0].iter, scope, ARG, receiver, at)
            self._each([g.iter for g in generators[1:]], inner, ARG, receiver, at)
        self._each([g.iter for g in generators[1:]], inner, ITER, "", at)
        self._each([test for g in generators for test in g.ifs], inner, LOAD, "", at)
        self._each([g.target for g in generators], inner, LOAD, "", at)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]  # type: ignore[attr-defined]
        self._each(parts, inner, how, via, at)

    def _receivers(self, node: ast.AST, targets: set[str], scope: Scope) -> list[str]:
        """What a comprehension hands its elements to: functions, and methods of the elements themselves."""
        found: set[str] = set()
        for part in ast.walk(node):
            if isinstance(part, ast.Call):
                method, attr = part.func, ""
                while isinstance(method, ast.Attribute | ast.Subscript):
                    attr = attr or getattr(method, "attr", "")
                    method = method.value
                if isinstance(method, ast.Name) and method.id in targets:
                    found.add(f"?|{attr}")
                values = [*part.args, *(keyword.value for keyword in part.keywords)]
                if any(isinstance(value, ast.Name) and value.id in targets for value in values):
                    found.add(self.chain_text(part.func, scope))
        return sorted(found)

    def passing(self, node: ast.AST, scope: Scope, how: int, via: str, at: int) -> None:
        """Containers, alternatives, awaits: their parts are used as they are."""
        if how == ITER and isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            how = ALIAS  # the elements of something written out are given another name
        if isinstance(node, ast.IfExp):
            self._push(node.test, scope, LOAD, "", at)
            self._each([node.body, node.orelse], scope, how, via, at)
        else:
            self._children(node, scope, how, via, at)

    def operator(self, node: ast.BinOp, scope: Scope, how: int, via: str, at: int) -> None:
        """`a >> b` may well act on both; other operators read, where their answer is used."""
        acts = how == DISCARD or isinstance(node.op, ast.LShift | ast.RShift)
        self._each([node.left, node.right], scope, CALL if acts else how if how == ARG else LOAD, via, at)

    def giving(self, node: ast.AST, scope: Scope, how: int, via: str, at: int) -> None:
        """`return`, `yield`, walrus: another way to the value, beside what is done with it here."""
        value = getattr(node, "value", None)
        self._push(value, scope, ALIAS, "", at)
        if how >= ARG and isinstance(node, ast.NamedExpr):
            self._push(value, scope, how, via, at)

    # ── statements ───────────────────────────────────────────────────────────────────────────────────────────

    def expression(self, node: ast.Expr, scope: Scope, how: int, via: str, at: int) -> None:
        """A statement that is one expression exists for its effect."""
        del how, via
        value = node.value
        acts = not isinstance(value, ast.Name | ast.Constant | ast.Yield | ast.YieldFrom)
        self._push(value, scope, DISCARD if acts else LOAD, "", at)

    def assign(self, node: ast.AST, scope: Scope, how: int, via: str, at: int) -> None:
        """An assignment: its targets' content, and another way to its value."""
        del how, via
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]  # type: ignore[attr-defined]
        kept = scope.kind == "class" or all(isinstance(target, ast.Attribute) for target in targets)
        if isinstance(node, ast.AnnAssign):
            self._annotation(node.annotation, scope, at)
        self._each(targets, scope, LOAD, "", at)
        value = getattr(node, "value", None)
        dropped = isinstance(value, ast.Call) and all(isinstance(t, ast.Name) and t.id == "_" for t in targets)
        self._push(value, scope, DISCARD if dropped else KEEP if kept else ALIAS, "", at)

    def changed(self, node: ast.AST, scope: Scope, how: int, via: str, at: int) -> None:
        """`x += …` and `del x` change x itself."""
        del how, via
        targets = node.targets if isinstance(node, ast.Delete) else [node.target]  # type: ignore[attr-defined]
        self._each(targets, scope, STORE, "", at)
        self._push(getattr(node, "value", None), scope, LOAD, "", at)

    def loop(self, node: ast.For | ast.AsyncFor, scope: Scope, how: int, via: str, at: int) -> None:
        """`for`: the elements get another name."""
        del how, via
        self._push(node.iter, scope, ITER, "", at)
        self._each([node.target, *node.body, *node.orelse], scope, LOAD, "", at)

    def with_(self, node: ast.With | ast.AsyncWith, scope: Scope, how: int, via: str, at: int) -> None:
        """`with` calls its context."""
        del how, via
        for item in node.items:
            self._push(item.context_expr, scope, DISCARD, "", at)
            self._push(item.optional_vars, scope, LOAD, "", at)
        self._each(node.body, scope, LOAD, "", at)

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope, how: int, via: str, at: int) -> None:
        """A definition: decorators and defaults now, the body when it is called."""
        del how, via
        self._each(node.decorator_list, scope, DECORATE, "", at)
        self._each([*node.args.defaults, *node.args.kw_defaults], scope, KEEP, "", at)
        outer = _with_type_parameters(node, scope)
        for annotation in (*(argument.annotation for argument in arguments_of(node)), node.returns):
            self._annotation(annotation, outer, at)
        self._each(getattr(node, "type_params", ()), outer, LOAD, "", LATER)
        body = self._when.get(id(node), LATER if at == NOW else at)
        self._each(node.body, function_scope(node, outer), LOAD, "", body)

    def class_(self, node: ast.ClassDef, scope: Scope, how: int, via: str, at: int) -> None:
        """A class: its body runs now."""
        del how, via
        self._each(node.decorator_list, scope, DECORATE, "", at)
        outer = _with_type_parameters(node, scope)
        self._each(node.bases, outer, LOAD, "", at)
        for keyword in node.keywords:
            self._push(keyword.value, outer, CALL if keyword.arg == "metaclass" else ARG, "?|", at)
        inner = bound_in(node.body, Scope("class", outer, owner=node.name))
        self._each(node.body, inner, LOAD, "", at)

    def import_(self, node: ast.AST, scope: Scope, how: int, via: str, at: int) -> None:
        """Imports are taken by the analysis; those in a class body are attributes, used in ways that no text shows."""
        del how, via
        assert isinstance(node, ast.Import | ast.ImportFrom)
        for _, target in import_targets(node):
            self._suspect(target, [], at)
            if scope.kind == "class":
                self.uses.add(Use(target, "", ALIAS, "", at))

    def _annotation(self, node: ast.expr | None, scope: Scope, at: int) -> None:
        """An annotation, also one that is written as text."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                node = ast.parse(node.value.strip(), mode="eval").body
            except (SyntaxError, ValueError):
                return
        self._push(node, scope, LOAD, "", at)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _on_self(call: ast.Call) -> bool:
    """`setattr(self, …)` changes one instance only."""
    return bool(call.args) and _is_self(call.args[0])


def _with_type_parameters(node: ast.AST, scope: Scope) -> Scope:
    names = type_parameters(node)
    return Scope("function", scope, set(names)) if names else scope


_HANDLERS: dict[type[ast.AST], Callable[..., None]] = {
    ast.Name: Walker.name,
    ast.Attribute: Walker.chain,
    ast.Subscript: Walker.chain,
    ast.Call: Walker.call,
    ast.Lambda: Walker.lambda_,
    **dict.fromkeys(COMPREHENSIONS, Walker.comprehension),
    **dict.fromkeys((ast.List, ast.Tuple, ast.Set, ast.Dict, ast.BoolOp, ast.IfExp), Walker.passing),
    **dict.fromkeys((ast.Starred, ast.Await), Walker.passing),
    ast.BinOp: Walker.operator,
    **dict.fromkeys((ast.Return, ast.Yield, ast.YieldFrom, ast.NamedExpr), Walker.giving),
    ast.Expr: Walker.expression,
    **dict.fromkeys((ast.Assign, ast.AnnAssign), Walker.assign),
    **dict.fromkeys((ast.AugAssign, ast.Delete), Walker.changed),
    **dict.fromkeys((ast.For, ast.AsyncFor), Walker.loop),
    **dict.fromkeys((ast.With, ast.AsyncWith), Walker.with_),
    **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef), Walker.function),
    ast.ClassDef: Walker.class_,
    **dict.fromkeys((ast.Import, ast.ImportFrom), Walker.import_),
}
