"""A step that is done once for each item of a list: its children, and the list of what they gave.

A mapped step is one node of a flow. Whoever runs it makes a node of its own for each distinct item, with the same
recipe that a plain call with this item would have; what they gave is one artifact, which names theirs in the order of
the items. Decision 0030 says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.artifact import INLINE_LIMIT, Artifact
from penstock.core.digest import canonical, digest_bytes, digest_value
from penstock.core.flow import Node
from penstock.core.tree import refs_in, resolve

FORMAT = "list"
"""Format of the artifact that names the children's."""
ITEM = ("", "item")
"""In place of (step, output) among a child's inputs: the item that an earlier step made."""
_CHILD = re.compile(r"(.+)\[[0-9a-f]{16}\]")


@dataclass(frozen=True, slots=True)
class Fan:
    """A mapped step, spread out over its items.

    Attributes
    ----------
    node : Node
    children : tuple of Node
        One for each distinct item, in the order in which these come first.
    places : tuple of int
        For each item which of the children is its own.
    firsts : tuple of int
        For each child the place of the first item that it is of.
    made : tuple of Artifact
        Of a list that an earlier step made: the item of each child.
    texts : dict
        Digest → bytes, of items of such a list that are too large for a row.
    """

    node: Node
    children: tuple[Node, ...]
    places: tuple[int, ...]
    firsts: tuple[int, ...]
    made: tuple[Artifact, ...] = ()
    texts: Mapping[str, bytes] = field(default_factory=dict)


def mapped_by(step: str) -> str:
    """The mapped step that a child's id belongs to; "" for any other step.

    Examples
    --------
    >>> mapped_by("score[3f9c1d20b7a4e856]"), mapped_by("score")
    ('score', '')
    """
    found = _CHILD.fullmatch(step)
    return found[1] if found is not None else ""


def items_text(counts: Mapping[str, int]) -> str:
    """What became of a mapped step's items, as its row counts them.

    Examples
    --------
    >>> items_text({"items": 100, "distinct": 98, "run": 2, "reused": 96, "failed": 0})
    '100 items, 98 distinct: 2 run, 96 reused'
    """
    total, distinct = counts["items"], counts["distinct"]
    text = f"{total:,} item{'' if total == 1 else 's'}" + (f", {distinct:,} distinct" if distinct < total else "")
    parts = [f"{counts[word]:,} {word}" for word in ("run", "reused", "failed") if counts[word]]
    return f"{text}: {', '.join(parts)}" if parts else text


def list_behind(node: Node) -> tuple[str, str] | None:
    """(step, output) of the list that a mapped step goes through; None where the items stand in the declaration."""
    items = _items(node)
    return (items[1], items[2]) if items[0] == "ref" else None


def spread(
    node: Node,
    known: Mapping[tuple[str, str], Artifact],
    made: Sequence[Artifact] | None = None,
    texts: Mapping[str, bytes] | None = None,
) -> Fan:
    """A node for each distinct item of a mapped step.

    Parameters
    ----------
    node : Node
    known : mapping
        (step, output) → artifact, of all that it needs.
    made : sequence of Artifact, optional
        The items, where an earlier step made the list.
    texts : mapping, optional
        As `Fan.texts`.
    """
    items = _items(node)
    (_, (_, *rest)), kwargs = node.tree[1]
    inputs = {need: [known[need].format, known[need].digest] for need in node.needs}
    shared = refs_in(["list", [*rest, kwargs]])
    rest, kwargs = [resolve(one, inputs) for one in rest], resolve(kwargs, inputs)
    trees = items[1] if made is None else [["artifact", one.format, one.digest] for one in made]
    order: dict[str, int] = {}
    children: list[Node] = []
    places: list[int] = []
    firsts: list[int] = []
    for place, tree in enumerate(trees):
        needs = refs_in(tree) if type(tree) is list else []
        item = resolve(tree, inputs) if needs else tree
        key = digest_value("item", item)
        at = order.setdefault(key, len(children))
        if at == len(children):
            own = ["list", [["list", [item, *rest]], kwargs]]
            needed = tuple(dict.fromkeys([*needs, *shared]))
            children.append(replace(node, id=f"{node.id}[{key[:16]}]", tree=own, needs=needed, mapped=False))
            firsts.append(place)
        places.append(at)
    own_items = tuple(made[first] for first in firsts) if made is not None else ()
    return Fan(node, tuple(children), tuple(places), tuple(firsts), own_items, texts or {})


def declared(node: Node) -> int:
    """How many items a mapped step declares; 0 for a list that an earlier step makes, and for any other step.

    Examples
    --------
    >>> declared(Node("a", "m:a", ["list", [["list", [["map", ["list", [1, 2]]]]], ["dict", {}]]], "", mapped=True))
    2
    """
    is_known = node.mapped and node.tree is not None and list_behind(node) is None
    return len(_items(node)[1]) if is_known else 0


def cut(fan: Fan, k: int, n: int) -> Fan:
    """The k-th of n parts of a mapped step: items that follow each other, in each part as many, give or take one.

    Parameters
    ----------
    fan : Fan
    k : int
        From 1 to n.
    n : int
        More than there are distinct items leave some parts without any.
    """
    begin, end = len(fan.children) * (k - 1) // n, len(fan.children) * k // n
    places = tuple(at - begin for at in fan.places if begin <= at < end)
    return replace(
        fan, children=fan.children[begin:end], places=places, firsts=fan.firsts[begin:end], made=fan.made[begin:end]
    )


def _items(node: Node) -> Any:
    """The tree of the items: a list's, a tuple's or a reference's."""
    (_, ((_, items), *_)), _ = node.tree[1]
    return items


def items_in(text: str | bytes) -> tuple[list[Artifact], dict[str, bytes]] | None:
    """Each item of a list, as the artifact that it would be by itself; None for what is no list.

    Parameters
    ----------
    text : str or bytes
        A JSON artifact, as the format writes it: each part of it stands as it would stand alone.

    Examples
    --------
    >>> [item.text for item in items_in('[{"a":1},"b"]')[0]], items_in('{"a":1}')
    (['{"a":1}', '"b"'], None)
    """
    found = json.loads(text)
    if type(found) is dict and list(found) == ["$tuple"]:
        found = found["$tuple"]
    if type(found) is not list:
        return None
    made, texts = [], {}
    for item in found:
        data = canonical(item).encode()
        digest = digest_bytes(data)
        small = len(data) <= INLINE_LIMIT
        made.append(Artifact(digest, "json", len(data), data.decode() if small else None))
        if not small:
            texts[digest] = data
    return made, texts


def pack(artifacts: Sequence[Artifact], stage: Callable[[bytes | str], tuple[str, int]]) -> Artifact:
    """One artifact that names several, in their order; each is written once.

    Examples
    --------
    >>> one = Artifact("ab12", "parquet", 7)
    >>> both = pack([one, one], stage=None)
    >>> both.format, both.refs, unpack(both.text) == [one, one]
    ('list', ('ab12',), True)
    """
    order: dict[tuple[str, str], int] = {}
    distinct: list[Artifact] = []
    places: list[int] = []
    for one in artifacts:
        place = order.setdefault((one.format, one.digest), len(distinct))
        if place == len(distinct):
            distinct.append(one)
        places.append(place)
    data = canonical({"artifacts": [one.to_json() for one in distinct], "places": places}).encode()
    refs = dict.fromkeys(digest for one in distinct for digest in named_by(one))
    if len(data) <= INLINE_LIMIT:
        return Artifact(digest_bytes(data), FORMAT, len(data), data.decode(), tuple(refs))
    digest, size = stage(data)
    return Artifact(digest, FORMAT, size, None, tuple(refs))


def named_by(artifact: Artifact) -> tuple[str, ...]:
    """Digests of the objects without which an artifact is not there: its own, where it has one, and its refs."""
    return artifact.refs if artifact.text is not None else (artifact.digest, *artifact.refs)


def unpack(text: str | bytes) -> list[Artifact]:
    """The inverse of `pack`."""
    data = json.loads(text)
    distinct = [Artifact.from_json(one) for one in data["artifacts"]]
    return [distinct[place] for place in data["places"]]


class Results(Sequence[Any]):
    """What a mapped step gave: a list in the order of its items, of which a result is read when it is asked for.

    Each access reads a copy of its own, so that one that is gone through takes the memory of one result. A parameter
    with the annotation `list` receives a plain list in its place.

    Parameters
    ----------
    artifacts : sequence of Artifact
    load : callable
        Reads one.

    Examples
    --------
    >>> scores = Results([Artifact("ab", "json", 1, "3"), Artifact("cd", "json", 1, "5")], lambda one: int(one.text))
    >>> len(scores), scores[-1], scores[:1], max(scores)
    (2, 5, [3], 5)
    >>> scores == [3, 5], scores == []
    (True, False)
    """

    def __init__(self, artifacts: Sequence[Artifact], load: Callable[[Artifact], Any]) -> None:
        self.artifacts, self._load = list(artifacts), load

    def __len__(self) -> int:
        return len(self.artifacts)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self._load(one) for one in self.artifacts[place]]
        return self._load(self.artifacts[place])

    def __iter__(self) -> Iterator[Any]:
        return map(self._load, self.artifacts)

    def __eq__(self, other: object) -> bool:
        """As a list: of equal length, and each result equal."""
        if not isinstance(other, list | Results):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        n = len(self)
        return f"<{n:,} result{'' if n == 1 else 's'} of a mapped step>"
