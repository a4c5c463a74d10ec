"""From live calls to pure data: in the process that has imported the user's file, and only there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from penstock.core.flow import Graph, Node, calls_of, needs_of, params_of, set_params, step_ids
from penstock.core.names import did_you_mean
from penstock.core.query import Query, database_of
from penstock.core.replay import Replay, refs_among
from penstock.core.secret import Secret
from penstock.core.source import Source
from penstock.core.step import Call, Param, Ref, call_of, output_of
from penstock.core.tree import NotCanonical, encode, parts_of, refs_in
from penstock.engine.closure import Closure
from penstock.errors import DeclarationError


@dataclass(frozen=True)
class Live:
    """A flow in the process that can run it.

    Attributes
    ----------
    graph : Graph
        What everybody else sees.
    calls : dict
        Step id → the call with its live arguments.
    ids : dict
        `id(call)` → step id.
    params : dict
        Parameter → value of this run.
    """

    graph: Graph
    calls: Mapping[str, Call]
    ids: Mapping[int, str]
    params: Mapping[str, Any]


def describe(
    name: str,
    outputs: tuple[Ref, ...],
    closure: Closure,
    *,
    given: Mapping[str, str] | None = None,
    about: Mapping[str, Any] | None = None,
    until: str | None = None,
) -> Live:
    """Describe the steps that the outputs need.

    Parameters
    ----------
    name : str
        The flow's.
    outputs : tuple of Ref
    closure : Closure
        Digests code.
    given : dict
        Parameters that this run sets, as text.
    about : dict
        Carried in the graph as it is.
    until : str, optional
        Leave out every step that this one does not need.

    Raises
    ------
    DeclarationError
    """
    calls = calls_of(outputs)
    ids, notes = step_ids(calls)
    if until is not None:
        calls = _only_until(calls, ids, until)
    params = set_params(params_of(calls), given or {})
    codes: dict[str, dict[str, str]] = {}
    nodes = [_node(call, ids, params, closure, codes) for call in calls]
    nodes = _with_replayed(nodes, calls, ids)
    uncached = tuple(f"{node.id} is not cacheable: {node.uncacheable}" for node in nodes if node.uncacheable)
    graph = Graph(name, tuple(nodes), codes, params, (*notes, *uncached), dict(about or {}))
    return Live(graph, {ids[id(call)]: call for call in calls}, ids, params)


def _only_until(calls: list[Call], ids: Mapping[int, str], until: str) -> list[Call]:
    """The call with a step id, and what it needs."""
    found = [call for call in calls if ids[id(call)] == until]
    if not found:
        known = [ids[id(call)] for call in calls]
        raise DeclarationError(
            f"--until {until}: no such step{did_you_mean(until, known)}", hint=f"there are {', '.join(known)}"
        )
    return calls_of((Ref(found[0]),))


def _node(
    call: Call,
    ids: Mapping[int, str],
    params: Mapping[str, Any],
    closure: Closure,
    codes: dict[str, dict[str, str]],
) -> Node:
    step = ids[id(call)]
    uncacheable = call.uncacheable
    special = _references(ids, params)
    items = _items(call, step, special)
    try:
        args = list(call.args) if items is None else [None, *call.args[1:]]
        tree = encode([args, call.kwargs], "", special)
    except NotCanonical as problem:
        uncacheable = str(problem).replace("parameter [0]", "argument ").replace("parameter [1].", "parameter ")
        needs = [(ids[id(need)], "") for need in needs_of(call)]
        tree = ["list", [["ref", *need] for need in _outputs_needed(call, ids) or needs]]
        tree = tree if items is None else ["list", [["list", [None, *tree[1]]], ["dict", []]]]
    if items is not None:
        tree[1][0][1][0] = items
    code = ""
    if call.kind != "effect":
        # What a step receives is read back as a pandas table, whether its own code names pandas or not.
        tables = ("pandas",) if needs_of(call) else ()
        part = closure.of(call.entry, _also(call, params), tables)
        code = part.digest
        codes[code] = dict(part.parts)
        uncacheable = uncacheable or part.uncacheable
    options = call.options
    source = call.args[0] if call.kind == "source" else None
    return Node(
        id=step,
        entry=call.entry,
        tree=tree,
        code=code,
        kind=call.kind,
        outputs=options.outputs,
        needs=tuple(refs_in(tree)),
        retries=options.retries,
        backoff_s=options.backoff_s,
        timeout_s=options.timeout_s,
        memory=options.memory,
        path=source.path if isinstance(source, Source) else None,
        more=source.more if isinstance(source, Source) else (),
        uncacheable=uncacheable,
        part=call.part or step,
        refresh=source.refresh if isinstance(source, Query) else None,
        database=database_of(source.url, call.kwargs.get("secret")) if isinstance(source, Query) else "",
        resources=options.resources.to_json() if options.resources is not None else {},
        mapped=call.mapped,
    )


def _items(call: Call, step: str, special: Callable[[Any], Any]) -> Any:
    """The items of a mapped call, which must be told apart by what they are; None of any other call.

    Raises
    ------
    DeclarationError
    """
    if not call.mapped:
        return None
    try:
        return ["map", encode(call.args[0], "", special)]
    except NotCanonical as problem:
        what = f"{step}.map: item {problem.path} is of type {problem.kind}, which cannot be told from another"
        raise DeclarationError(what, hint="map over plain values, estimators or references") from problem


def _with_replayed(nodes: list[Node], calls: list[Call], ids: Mapping[int, str]) -> list[Node]:
    """A step that runs others again is not cacheable where one of these is not."""
    why = {node.id: node.uncacheable for node in nodes}
    found = []
    for node, call in zip(nodes, calls, strict=True):
        again = [ids[id(one)] for value in call.kwargs.values() if isinstance(value, Replay) for one in value.calls]
        spoilt = next((step for step in again if why[step]), None)
        if spoilt is not None:
            node = replace(node, uncacheable=f"it runs {spoilt} again, which is not ({why[spoilt]})")  # noqa: PLW2901
        found.append(node)
    return found


def _references(ids: Mapping[int, str], params: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Tells `encode` how references, parameters and sources are written."""

    def special(value: Any) -> Any:
        if isinstance(value, Ref):
            return ["ref", ids[id(call_of(value))], output_of(value)]
        if isinstance(value, Param):
            return encode(params[value.name], value.name)
        if isinstance(value, Source | Query):
            return ["source", encode(value.options(), "read")]
        if isinstance(value, Replay):
            return _replayed(value, special)
        return None

    return special


def _replayed(replay: Replay, special: Callable[[Any], Any]) -> Any:
    """What decides how steps run again: their arguments, what they take of which other, what is said of them.

    Of a source its table decides, which stands among the arguments of those who take it.
    """
    place = {id(call): at for at, call in enumerate(replay.calls)}
    steps = []
    for call in replay.calls:
        if call.kind == "source":
            continue
        takes = [(place.get(id(call_of(ref)), -1), output_of(ref)) for ref in refs_among([call.args, call.kwargs])]
        said = (call.options.outputs, call.options.across_rows, call.options.because)
        steps.append([call.entry, [list(call.args), call.kwargs], takes, said, *(["map"] if call.mapped else [])])
    return ["data", "penstock.core.replay:Replay", {"steps": encode(steps, "steps", special), **_ends(replay, special)}]


def _ends(replay: Replay, special: Callable[[Any], Any]) -> dict[str, Any]:
    return {"data": encode(replay.data, "data", special), "also": encode(replay.also, "also", special)}


def _outputs_needed(call: Call, ids: Mapping[int, str]) -> list[tuple[str, str]]:
    """(step id, output) of every reference among the arguments, when these have no canonical form."""
    found: dict[tuple[str, str], None] = {}
    stack: list[Any] = [call.kwargs, call.args]
    while stack:
        value = stack.pop()
        if isinstance(value, Ref):
            found[ids[id(call_of(value))], output_of(value)] = None
        elif isinstance(value, Replay):
            stack.extend(reversed(value.refs()))
        elif type(value) in (list, tuple):
            stack.extend(reversed(value))
        elif type(value) is dict:
            stack.extend(reversed(list(value.values())))
    return list(found)


_PLAIN = frozenset({Ref, Param, str, int, float, bool, bytes, type(None), Source, Secret, Query})


def _also(call: Call, params: Mapping[str, Any]) -> list[object]:
    """Live objects among the arguments whose code counts: estimators, functions, classes."""
    values = [*call.args, *call.kwargs.values(), *params.values()]
    again = [one for value in values if isinstance(value, Replay) for one in value.calls if one.kind != "source"]
    if again:  # the code of each step that runs again counts as if it were our own
        values = [value for value in values if not isinstance(value, Replay)]
        inner = [part for one in again for part in _also(one, {})]
        return [*again, *inner, *_also(Call("", "", tuple(values), {}, call.options), params)]
    return [
        part
        for value in values
        if type(value) not in _PLAIN
        for _, part in parts_of(value)
        if type(part) not in _PLAIN and (callable(part) or type(part).__module__ not in ("builtins", "datetime"))
    ]
