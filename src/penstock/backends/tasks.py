"""Compiling a flow to tasks: pure, from the flow as data to the tasks that every backend makes native.

A task holds one step or several. It starts the worker once for each of its calls, in order; a call names one step, or
several queries of one database, which one transaction reads.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.core.fan import declared
from penstock.core.flow import Graph, Node
from penstock.core.names import did_you_mean
from penstock.errors import UsageError

GROUPS = ("step", "part", "workflow")
"""How steps are grouped to tasks: one each; prepare, train and judge; all in one."""
TRAIN = ("train", "evaluate", "decide", "refit", "scramble", "audit")
"""Stages of the part "train"."""
JUDGE = ("package", "register", "champion", "compare", "gate", "deploy", "final", "opened")
"""Stages of the part "judge"; what is in neither, the user's own steps too, prepares."""
ENDS = ("champion", "gate")
"""Effects after which nothing more may be to do: who reigns already, or who does not pass."""
MOST_PARTS = 8
"""Parts of a mapped step where nothing else is said: each costs the start of a worker."""
MOST_NAME = 50
"""Characters of a task's id, before a number that tells it from another."""
TAKEN = frozenset(
    {"context", "conf", "config", "meta", "arg_dict", "dict", "input_arg_dict", "output_arg_dict", "none"}
    | {"int", "str", "float", "bool", "input", "output", "type", "self", "flow", "task", "dag"}
)
"""Words that some backend keeps for itself."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a backend runs as one thing.

    Attributes
    ----------
    id : str
        Lower-case letters, digits and `_`, a letter first, at most 63 characters: an identifier on every backend.
    steps : tuple of str
        Step ids in the order in which they run.
    calls : tuple of tuple of str
        The same by start of the worker.
    needs : tuple of str
        Ids of the tasks whose outputs it takes.
    part : str
        "prepare", "train" or "judge" of a workflow; of a step in another flow, what it belongs to.
    retries : int
        Tries after the first that failed: the most that one of its steps may have.
    backoff_s : float
        Seconds before the first of them: the longest of its steps.
    timeout_s : float or None
        Seconds for one try: the sum over its steps; None where one has no limit, or has one for each of its items.
    resources : dict
        "cpu", "memory" (bytes) and "gpu", the largest of its steps, and "labels"; only what is asked for.
    memory : int or None
        The largest limit of its steps, in bytes; None where one has none, or has one for each of its items.
    refuses : bool
        Whether it holds the gate.
    may_skip : bool
        Whether a task before it can leave it nothing to do.
    parts : int
        In how many parts its one step, which goes through a declared list, may be done at once, each with what the
        task may use; 0 where it is not divided. The task itself comes after them, and makes a whole of what they gave.
    """

    id: str
    steps: tuple[str, ...]
    calls: tuple[tuple[str, ...], ...]
    needs: tuple[str, ...] = ()
    part: str = ""
    retries: int = 0
    backoff_s: float = 1.0
    timeout_s: float | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    memory: int | None = None
    refuses: bool = False
    may_skip: bool = False
    parts: int = 0


def compile_flow(graph: Graph, group: str = "part", parts: int = MOST_PARTS) -> tuple[Task, ...]:
    """The tasks of a flow, each after those that it needs.

    Parameters
    ----------
    graph : Graph
    group : {"part", "step", "workflow"}, default="part"
        Steps of one group stand in one task, as long as no two tasks then wait for each other and no two of its
        steps ask for different labels; else in several. "part" means a task a step where no workflow was declared.
    parts : int
        At most so many parts of a mapped step; less than 2 divides none.

    Raises
    ------
    UsageError
        Another word for `group`.

    Examples
    --------
    >>> chain = Graph("f", (Node("a", "m:a", None, ""), Node("b", "m:b", None, "", needs=(("a", ""),))))
    >>> [(task.id, task.needs) for task in compile_flow(chain)]
    [('a', ()), ('b', ('a',))]
    """
    if group not in GROUPS:
        what = f"--group {group}: no such grouping{did_you_mean(group, GROUPS)}"
        raise UsageError(what, hint=f"there are {', '.join(GROUPS)}")
    staged = group == "part" and "workflow" in graph.about
    bundles = _in_parts(graph) if staged else _in_one(graph) if group == "workflow" else _each(graph)
    together = _together(graph.nodes)
    names = [graph.name if group == "workflow" else part_of(b.nodes[0]) if staged else b.nodes[0].id for b in bundles]
    tasks: dict[int, Task] = {}
    ends: set[int] = set()  # bundles after which nothing may be left to do
    for bundle, name in zip(bundles, _ids(names), strict=True):
        if any(node.kind == "effect" and node.part in ENDS for node in bundle.nodes) or ends & bundle.direct.keys():
            ends.add(id(bundle))
        tasks[id(bundle)] = Task(
            id=name,
            needs=tuple(tasks[key].id for key in bundle.direct),
            part=_part(bundle.nodes[0], graph, group),
            may_skip=bool(ends & bundle.direct.keys()),
            parts=_divided(bundle.nodes, parts),
            **_of_steps(bundle.nodes, together),
        )
    return tuple(tasks.values())


def part_of(node: Node) -> str:
    """The part of a workflow that a step belongs to: "prepare", "train" or "judge"."""
    if node.part in TRAIN:
        return "train"
    return "judge" if node.part in JUDGE else "prepare"


@dataclass(eq=False)
class _Bundle:
    """Steps that are to be one task, the bundles that it takes from, and all that it waits for, directly or not."""

    nodes: list[Node] = field(default_factory=list)
    direct: dict[int, None] = field(default_factory=dict)
    before: set[int] = field(default_factory=set)

    def may_take(self, node: Node, needed: Iterable[_Bundle]) -> bool:
        """Whether this then stays one thing: on one kind of machine, and waiting for nobody who waits for it."""
        ours, theirs = _labels(self.nodes), node.resources.get("labels", {})
        if any(ours.get(name, value) != value for name, value in theirs.items()):
            return False
        return not any(id(self) in other.before for other in needed)

    def take(self, node: Node, needed: Iterable[_Bundle]) -> None:
        """One more step."""
        self.nodes.append(node)
        self.direct |= {id(other): None for other in needed if other is not self}


def _in_one(graph: Graph) -> list[_Bundle]:
    return [_Bundle(list(graph.nodes))]


def _each(graph: Graph) -> list[_Bundle]:
    """A bundle a step, in the flow's order; queries that are read together need nothing, so the first has them all."""
    together = _together(graph.nodes)
    read: dict[str, _Bundle] = {}
    of: dict[str, _Bundle] = {}
    for node in graph.nodes:
        bundle = read.setdefault(together[node.id], _Bundle()) if node.id in together else _Bundle()
        bundle.take(node, [of[step] for step, _ in node.needs])
        of[node.id] = bundle
    return list(dict.fromkeys(of.values()))


def _in_parts(graph: Graph) -> list[_Bundle]:
    """A bundle a part, more where one would not do; each after those that it waits for."""
    together = _together(graph.nodes)
    bundles: list[_Bundle] = []
    of: dict[str, _Bundle] = {}
    read: dict[str, _Bundle] = {}
    latest: dict[str, _Bundle] = {}
    for node in graph.nodes:
        needed = [of[step] for step, _ in node.needs]
        bundle = read.get(together.get(node.id, ""))
        if bundle is None:
            bundle = latest.get(part_of(node))
        if bundle is None or (node.id not in together and not bundle.may_take(node, needed)):
            bundle = latest[part_of(node)] = _Bundle()
            bundles.append(bundle)
        bundle.take(node, needed)
        _wait(bundle, needed, bundles)
        of[node.id] = bundle
        if node.id in together:
            read[together[node.id]] = bundle
    return _ordered(bundles)


def _wait(bundle: _Bundle, needed: Iterable[_Bundle], every: Iterable[_Bundle]) -> None:
    """Whoever waits for a bundle waits for what it waits for."""
    others = [other for other in needed if other is not bundle]
    more = {id(other) for other in others}.union(*(other.before for other in others))
    for one in every:
        if one is bundle or id(bundle) in one.before:
            one.before |= more


def _together(nodes: Iterable[Node]) -> dict[str, str]:
    """Step id → database, of the queries that are read with others."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        if node.database and not node.needs:
            found.setdefault(node.database, []).append(node.id)
    return {step: database for database, steps in found.items() if len(steps) > 1 for step in steps}


def _ordered(bundles: list[_Bundle]) -> list[_Bundle]:
    """Each after those that it waits for, otherwise as they came."""
    done: dict[int, _Bundle] = {}
    left = bundles
    while left:
        for bundle in left:
            if bundle.before <= done.keys():
                done[id(bundle)] = bundle
        left = [bundle for bundle in left if id(bundle) not in done]
    return list(done.values())


def _ids(names: Iterable[str]) -> list[str]:
    """Names as identifiers that every backend takes, each once."""
    taken: set[str] = set()
    found = []
    for name in names:
        word = re.sub(r"[^a-z0-9_]", "_", name.lower())[:MOST_NAME]
        if not word[:1].isalpha() or word in TAKEN or keyword.iskeyword(word) or keyword.issoftkeyword(word):
            word = f"step_{word}"
        one, number = word, 1
        while one in taken:
            number += 1
            one = f"{word}_{number}"
        taken.add(one)
        found.append(one)
    return found


def _of_steps(nodes: Sequence[Node], together: Mapping[str, str]) -> dict[str, Any]:
    """What of a task follows from its steps alone."""
    # Of a mapped step they hold for an item, and its worker sees to them.
    times = [None if node.mapped else node.timeout_s for node in nodes]
    limits = [None if node.mapped else node.limit for node in nodes]
    return {
        "steps": tuple(node.id for node in nodes),
        "calls": _calls(nodes, together),
        "retries": max(node.retries for node in nodes),
        "backoff_s": max(node.backoff_s for node in nodes),
        "timeout_s": None if None in times else sum(time for time in times if time is not None),
        "resources": _resources(nodes),
        "memory": None if None in limits else max(limit for limit in limits if limit is not None),
        "refuses": any(node.kind == "effect" and node.part == "gate" for node in nodes),
    }


def _divided(nodes: Sequence[Node], most: int) -> int:
    """How many parts a task has; none of a step whose items keep nothing."""
    first = nodes[0]
    found = min(declared(first), most) if len(nodes) == 1 and not first.uncacheable else 0
    return found if found > 1 else 0


def _calls(nodes: Iterable[Node], together: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Steps by start of the worker: queries that are read together at the place of the first, all others alone."""
    calls: dict[str, list[str]] = {}
    for node in nodes:
        key = f"queries {together[node.id]}" if node.id in together else f"step {node.id}"
        calls.setdefault(key, []).append(node.id)
    return tuple(map(tuple, calls.values()))


def _resources(nodes: Iterable[Node]) -> dict[str, Any]:
    """The largest request of each kind, and all labels."""
    asked = [node.resources for node in nodes]
    found: dict[str, Any] = {}
    for kind in ("cpu", "memory", "gpu"):
        if any(kind in one for one in asked):
            found[kind] = max(one.get(kind, 0) for one in asked)
    labels = _labels(nodes)
    return found | ({"labels": labels} if labels else {})


def _labels(nodes: Iterable[Node]) -> dict[str, str]:
    """Labels of several steps; of two with one name the first."""
    found: dict[str, str] = {}
    for node in nodes:
        found = {**node.resources.get("labels", {}), **found}
    return found


def _part(node: Node, graph: Graph, group: str) -> str:
    if group == "workflow":
        return ""
    return part_of(node) if "workflow" in graph.about else node.part
