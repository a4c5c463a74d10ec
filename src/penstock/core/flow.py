"""A flow: steps joined by references, and its form as pure data (`Graph`), which planner and backends see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.replay import Replay
from penstock.core.step import Call, Param, Ref, Step, call_of, output_of
from penstock.core.tree import refs_in
from penstock.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a flow, as data.

    Attributes
    ----------
    id : str
        Step id: the function's name or `name=`; never part of a recipe.
    entry : str
        "module:qualname" of the function.
    tree : Any
        Argument tree (`core.tree`); references are ["ref", step id, output].
    code : str
        Digest of the code part.
    kind : str
        "step", "source" (reads a file, whose digest is in its recipe) or "effect" (acts on the ledger or the
        world: never reused).
    outputs : tuple of str
        Names of several outputs; empty for one.
    needs : tuple of (str, str)
        (step id, output) that the tree refers to.
    retries, backoff_s, timeout_s, memory
        How the engine runs it.
    path : str or None
        The file, folder, pattern or URL that a source step reads.
    more : tuple of str
        Further places that it reads.
    uncacheable : str
        Why the result cannot be reused, or "".
    part : str
        The stage it belongs to.
    refresh : str or None
        Of a query: when it is read again ("run", "manual" or a duration).
    database : str
        Of a query: what one transaction can see, by a name; queries with the same one are read together.
    resources : dict
        What it asks for, as `Resources.to_json` gives it; part of no recipe.
    mapped : bool
        The first argument is ["map", items], and the function is called once for each (`core.fan`); limits, tries and
        resources are those of one call.
    """

    id: str
    entry: str
    tree: Any
    code: str
    kind: str = "step"
    outputs: tuple[str, ...] = ()
    needs: tuple[tuple[str, str], ...] = ()
    retries: int = 0
    backoff_s: float = 1.0
    timeout_s: float | None = None
    memory: int | None = None
    path: str | None = None
    uncacheable: str = ""
    part: str = ""
    more: tuple[str, ...] = ()
    refresh: str | None = None
    database: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)
    mapped: bool = False

    @property
    def limit(self) -> int | None:
        """Most bytes of memory that it may use: its own limit, else what it asks for."""
        return self.resources.get("memory") if self.memory is None else self.memory

    @property
    def places(self) -> tuple[str, ...]:
        """All places that a source step reads."""
        return () if self.path is None else (self.path, *self.more)

    @property
    def names(self) -> tuple[str, ...]:
        """Output names; one nameless output is ("",)."""
        return self.outputs or ("",)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Node:
        """The inverse of `to_json`."""
        values = dict(data)
        values["outputs"], values["more"] = tuple(values["outputs"]), tuple(values.get("more", ()))
        values["needs"] = tuple((step, output) for step, output in values["needs"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Graph:
    """A flow as pure data, in an order in which every step stands after what it needs.

    Attributes
    ----------
    name : str
        The workflow's or flow's name.
    nodes : tuple of Node
    codes : dict
        Code digest → its parts.
    params : dict
        Parameters and the values of this run.
    notes : tuple of str
        What the user should know, such as a step that cannot be cached.
    about : dict
        Of a workflow: what the coordinator must know of the declaration.
    """

    name: str
    nodes: tuple[Node, ...]
    codes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def node(self, step: str) -> Node:
        """The node with an id.

        Raises
        ------
        KeyError
        """
        for node in self.nodes:
            if node.id == step:
                return node
        raise KeyError(step)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        data = {name: getattr(self, name) for name in self.__slots__}
        return data | {"nodes": [node.to_json() for node in self.nodes]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Graph:
        """The inverse of `to_json`."""
        values = dict(data) | {"nodes": tuple(map(Node.from_json, data["nodes"])), "notes": tuple(data["notes"])}
        return cls(**values)


class Flow:
    """Several promised outputs as one thing that runs.

    Parameters
    ----------
    outputs : Ref
        What is wanted; every step that they need belongs to the flow.
    name : str, default="flow"

    Examples
    --------
    >>> from penstock import Flow, read
    >>> Flow(read("a.csv"), read("b.csv"), name="tables")
    <Flow tables: 2 outputs>
    """

    def __init__(self, *outputs: Any, name: str = "flow") -> None:
        wanted: list[Ref] = []
        for output in outputs:
            if isinstance(output, Step):
                output = output.ref()  # noqa: PLW2901  a step that needs no input stands for its output
            wanted += output if isinstance(output, tuple) else [output]
        wrong = [type(ref).__name__ for ref in wanted if not isinstance(ref, Ref)]
        if wrong or not wanted:
            given = ", ".join(wrong) or "nothing"
            raise DeclarationError(f"Flow: {given} given; the promised outputs of steps are meant")
        self.name = name
        self.outputs = tuple(wanted)

    def __repr__(self) -> str:
        return f"<Flow {self.name}: {len(self.outputs)} outputs>"


def calls_of(outputs: tuple[Ref, ...]) -> list[Call]:
    """Every call that the outputs need, each after what it needs itself; a chain may be long, so no recursion."""
    done: dict[int, Call] = {}
    stack: list[tuple[Call, bool]] = [(call_of(ref), False) for ref in reversed(outputs)]
    while stack:
        call, ready = stack.pop()
        if id(call) in done:
            continue
        if ready:
            done[id(call)] = call
            continue
        stack.append((call, True))
        stack += [(need, False) for need in reversed(needs_of(call)) if id(need) not in done]
    return list(done.values())


def needs_of(call: Call) -> list[Call]:
    """Calls whose outputs stand among a call's arguments, in order, once."""
    found: dict[int, Call] = {}
    stack: list[Any] = [call.kwargs, call.args]
    while stack:
        value = stack.pop()
        if isinstance(value, Ref):
            need = call_of(value)
            found[id(need)] = need
        elif isinstance(value, Replay):
            stack.extend(reversed(value.refs()))
        elif type(value) in (list, tuple):
            stack.extend(reversed(value))
        elif type(value) is dict:
            stack.extend(reversed(list(value.values())))
    return list(found.values())


def step_ids(calls: list[Call]) -> tuple[dict[int, str], tuple[str, ...]]:
    """Step ids by call, and a note when repeated calls had to be numbered.

    Returns
    -------
    ids : dict
        `id(call)` → step id. Repeated names get `_2`, `_3`, … by order.
    notes : tuple of str
    """
    taken: set[str] = set()
    count: dict[str, int] = {}
    ids: dict[int, str] = {}
    repeated: dict[str, None] = {}
    for call in calls:
        name = call.name
        while name in taken:
            count[call.name] = count.get(call.name, 1) + 1
            name = f"{call.name}_{count[call.name]}"
            repeated[call.name] = None
        taken.add(name)
        ids[id(call)] = name
    if not repeated:
        return ids, ()
    names = ", ".join(list(repeated)[:3])
    return ids, (f"steps called more than once are numbered in order ({names}); name= at the call tells them apart",)


def substitute(value: Any, found: Mapping[int, Any], params: Mapping[str, Any]) -> Any:
    """Arguments with each Ref replaced by its value and each Param by this run's.

    Parameters
    ----------
    found : dict
        `id(call)` → {output: value}.
    """
    if isinstance(value, Ref):
        return found[id(call_of(value))][output_of(value)]
    if isinstance(value, Param):
        return params[value.name]
    if type(value) in (list, tuple):
        return type(value)(substitute(item, found, params) for item in value)
    if type(value) is dict:
        return {key: substitute(item, found, params) for key, item in value.items()}
    return value


def params_of(calls: list[Call]) -> dict[str, Any]:
    """Parameters among the arguments, with their defaults.

    Raises
    ------
    DeclarationError
        If one name has two defaults.
    """
    found: dict[str, Any] = {}
    faults: list[str] = []
    for call in calls:
        stack: list[Any] = [call.args, call.kwargs]
        while stack:
            value = stack.pop()
            if isinstance(value, Param):
                if value.name in found and found[value.name] != value.default:
                    faults.append(f"Param {value.name!r} has two defaults: {found[value.name]!r} and {value.default!r}")
                found.setdefault(value.name, value.default)
            elif type(value) in (list, tuple):
                stack.extend(value)
            elif type(value) is dict:
                stack.extend(value.values())
    if faults:
        raise DeclarationError(faults)
    return found


_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def set_params(declared: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Values of this run: the defaults, and what was given, read as the default's type.

    Raises
    ------
    DeclarationError
        A name that no step declares, or a text that is not of the default's type.

    Examples
    --------
    >>> set_params({"n": 1, "since": "2026"}, {"n": "3"})
    {'n': 3, 'since': '2026'}
    """
    from penstock.core.names import did_you_mean

    values = dict(declared)
    faults = []
    for name, text in given.items():
        if name not in declared:
            faults.append(f"--param {name}: no step has such a parameter{did_you_mean(name, declared)}")
            continue
        kind = type(declared[name])
        try:
            if kind is bool:
                values[name] = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
                    text.lower()
                ]
            else:
                values[name] = kind(text) if kind in (int, float) else text
        except (ValueError, KeyError):
            faults.append(f"--param {name}={text}: {_KINDS.get(kind, kind.__name__)} is asked for")
    if faults:
        raise DeclarationError(faults)
    return values


__all__ = [
    "Flow",
    "Graph",
    "Node",
    "calls_of",
    "needs_of",
    "params_of",
    "refs_in",
    "set_params",
    "step_ids",
    "substitute",
]
