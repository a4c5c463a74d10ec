"""A mapped step as data: who its children are, and the list of what they gave."""

import functools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.core.artifact import INLINE_LIMIT, Artifact
from penstock.core.fan import (
    Results,
    cut,
    declared,
    items_in,
    items_text,
    list_behind,
    mapped_by,
    named_by,
    pack,
    spread,
    unpack,
)
from penstock.core.flow import Node
from penstock.core.step import call_of
from penstock.core.tree import children, encode, rebuilt, refs_in, resolve
from penstock.errors import DeclarationError
from penstock.formats import canonical_json
from penstock.formats.registry import FormatRegistry
from penstock.testing import MemoryObjects

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@ps.step
def score(item, base=0):
    return item


@ps.step(outputs=("a", "b"))
def both(item):
    return item, item


def mapped(items, *more, **named):
    """The node of a mapped step."""
    tree = ["list", [["list", [["map", items], *more]], ["dict", [[k, v] for k, v in named.items()]]]]
    return Node("score", "m:score", tree, "c" * 64, needs=tuple(refs_in(tree)), mapped=True)


# ── declaring ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_mapped_call_promises_one_output():
    ref = score.map([1, 2], base=3)
    assert repr(ref) == "<Ref score>"
    call = call_of(ref)
    assert (call.mapped, call.args, call.kwargs) == (True, ([1, 2],), {"base": 3})


def test_a_mapped_step_with_several_outputs_promises_each():
    a, b = both.map([1], name="pair")
    assert call_of(a) is call_of(b)
    assert call_of(a).name == "pair"


@pytest.mark.parametrize("items", ["abc", {1, 2}, {"a": 1}, range(3), 7, None])
def test_what_is_no_list_is_refused(items):
    with pytest.raises(DeclarationError, match=r"score\.map: a list is meant, or a reference to one, not a"):
        score.map(items)


def test_the_trees_of_items_are_walked_and_changed_like_others():
    tree = ["map", ["ref", "a", ""]]
    assert children(tree) == [("", ["ref", "a", ""])]
    assert refs_in(tree) == [("a", "")]
    assert resolve(tree, {("a", ""): ["json", "ff"]}) == ["map", ["artifact", "json", "ff"]]
    assert rebuilt(tree, lambda _: 1) == ["map", 1]


# ── children ────────────────────────────────────────────────────────────────────────────────────────────────


def ids(items, *more, **named):
    return [child.id for child in spread(mapped(encode(items), *more, **named), {}).children]


@given(st.lists(plain, max_size=8), st.randoms())
def test_a_child_is_named_by_its_item_alone(items, random):
    """Neither order nor repetition nor what stands beside it changes who a child is."""
    fan = spread(mapped(encode(items)), {})
    other = items + items[:2]
    random.shuffle(other)
    again = spread(mapped(encode(other), 7, base=1), {})
    assert {child.id for child in fan.children} == {child.id for child in again.children}
    assert len({child.id for child in fan.children}) == len(fan.children)
    own = [fan.children[place].tree[1][0][1][0] for place in fan.places]
    assert own == [encode(item) for item in items]
    assert [items[first] for first in fan.firsts] == [items[fan.places.index(at)] for at in range(len(fan.children))]


def test_items_of_other_types_are_other_items():
    assert len(set(ids([1, 1.0, True, "1", None, [1], (1,)]))) == 7


def test_a_child_s_arguments_are_those_of_a_plain_call():
    node = mapped(encode(["x", "y"]), 5, base=["ref", "m", ""])
    known = {("m", ""): Artifact("ff", "skops", 1)}
    first, second = spread(node, known).children
    assert first.tree == ["list", [["list", ["x", 5]], ["dict", [["base", ["artifact", "skops", "ff"]]]]]]
    assert first.needs == second.needs == (("m", ""),)
    assert not first.mapped
    assert mapped_by(first.id) == "score"


def test_of_references_a_child_needs_its_own_and_those_that_all_share():
    known = {
        (step, ""): Artifact(digest, "parquet", 1) for step, digest in [("a", "1"), ("b", "2"), ("c", "1"), ("m", "3")]
    }
    fan = spread(mapped(["list", [["ref", s, ""] for s in "abc"]], ["ref", "m", ""]), known)
    assert [child.needs for child in fan.children] == [(("a", ""), ("m", "")), (("b", ""), ("m", ""))]
    assert fan.places == (0, 1, 0)  # a and c gave the same bytes


def test_of_a_made_list_the_items_stand_by_their_digests():
    node = mapped(["ref", "names", ""])
    assert list_behind(node) == ("names", "")
    made, texts = items_in('["a","b","a"]')
    fan = spread(node, {("names", ""): Artifact("ff", "json", 13)}, made, texts)
    assert [child.tree[1][0][1][0] for child in fan.children] == [["artifact", "json", one.digest] for one in made[:2]]
    assert (fan.places, [one.text for one in fan.made]) == ((0, 1, 0), ['"a"', '"b"'])
    assert list_behind(mapped(encode([1]))) is None


@given(st.lists(plain | st.tuples(plain) | st.binary(max_size=3) | st.dates(), max_size=5))
def test_an_item_is_the_artifact_that_it_would_be_by_itself(items):
    stage = MemoryObjects().stage
    made, _ = items_in(canonical_json.dumps(items))
    assert made == [canonical_json.dump(item, stage) for item in items]
    assert items_in(canonical_json.dumps(tuple(items)))[0] == made


def test_a_large_item_has_its_bytes_beside_it():
    made, texts = items_in(json.dumps(["x" * INLINE_LIMIT]))
    assert (made[0].text, texts[made[0].digest]) == (None, b'"' + b"x" * INLINE_LIMIT + b'"')


@pytest.mark.parametrize("text", ["3", '{"a":[1]}', '{"$set":[1]}', '"abc"', "null"])
def test_what_was_made_and_is_no_list_has_no_items(text):
    assert items_in(text) is None


# ── the list of what they gave ──────────────────────────────────────────────────────────────────────────────


@given(st.lists(plain, max_size=6), st.booleans())
def test_what_is_packed_comes_back_in_order(values, large):
    formats, objects = FormatRegistry(), MemoryObjects()
    values = [*values, "x" * INLINE_LIMIT] if large else values
    kept = [formats.dump(value, objects.stage) for value in values]
    packed = pack(kept, objects.stage)
    assert unpack(packed.text or objects.read(packed.digest)) == kept
    assert list(formats.load(packed, objects)) == values
    assert pack(kept, objects.stage) == packed
    assert packed.refs == tuple(one.digest for one in kept if one.text is None)
    assert formats.dump(formats.load(packed, objects), objects.stage) == packed


def test_what_is_needed_of_a_list_is_its_own_bytes_and_those_that_it_names():
    one = Artifact("aa", "parquet", 1)
    assert named_by(pack([one], None)) == ("aa",)
    assert named_by(Artifact("bb", "list", 9, None, ("aa",))) == ("bb", "aa")


def test_results_are_read_one_at_a_time_and_afresh():
    read = []

    def load(one):
        read.append(one.digest)
        return [one.digest]

    results = Results([Artifact(name, "json", 1) for name in "abc"], load)
    assert (len(results), read) == (3, [])
    assert (results[1], read) == (["b"], ["b"])
    assert results[1] is not results[1]
    assert results[1:] == [["b"], ["c"]]
    assert list(results) == [["a"], ["b"], ["c"]]
    assert list(reversed(results)) == [["c"], ["b"], ["a"]]
    assert ["c"] in results
    with pytest.raises(IndexError):
        results[3]
    assert repr(results) == "<3 results of a mapped step>"


def test_a_count_of_items_in_words():
    assert items_text({"items": 1, "distinct": 1, "run": 1, "reused": 0, "failed": 0}) == "1 item: 1 run"
    assert items_text({"items": 0, "distinct": 0, "run": 0, "reused": 0, "failed": 0}) == "0 items"


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(1, 9))
def test_the_parts_of_a_mapped_step_are_its_items_once_each_in_their_order_and_of_like_size(items, n):
    node = mapped_over(items)
    fan = spread(node, {})
    parts = [cut(fan, k, n) for k in range(1, n + 1)]
    assert [child.id for part in parts for child in part.children] == [child.id for child in fan.children]
    assert [first for part in parts for first in part.firsts] == list(fan.firsts)
    sizes = [len(part.children) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sum(len(part.places) for part in parts) == len(items) == declared(node)
    for part in parts:  # each place leads to a child of the same part
        assert all(0 <= at < len(part.children) for at in part.places)
        assert set(part.places) == set(range(len(part.children)))


def mapped_over(items):
    tree = ["list", [["list", [["map", encode(items)]]], ["dict", []]]]
    return Node("score", "m:score", tree, "c", mapped=True)


def test_results_are_equal_to_a_list_of_them():
    found = Results([Artifact("ab", "json", 1, "3"), Artifact("cd", "json", 1, "5")], lambda one: int(one.text))
    assert found == [3, 5]
    assert found == Results(found.artifacts, lambda one: int(one.text))
    assert found != [3]
    assert found != [3, 6]
    assert found != (3, 5)


@pytest.mark.parametrize(
    ("given", "named", "says"),
    [
        (([1], 2), {"y": 2}, "area: got an unexpected keyword argument 'y'"),
        (([1], 2, 3), {}, "area: too many positional arguments"),
        (([1],), {}, "area: missing a required argument: 'b'"),
        (([1], 2), {"a": 3}, "area: multiple values for argument 'a'"),
    ],
)
def test_arguments_that_the_function_does_not_take_are_told_where_it_is_mapped(given, named, says):
    @ps.step
    def area(a, b):
        return a * b

    for promise in (area.map, lambda items, *more, **rest: area.ref(items[0], *more, **rest)):
        with pytest.raises(DeclarationError, match=says) as raised:
            promise(*given, **named)
        assert "it takes area(a, b)" in str(raised.value)


def test_a_wrapper_that_gives_arguments_of_its_own_is_taken_by_its_own_word():
    def with_more(function):
        @functools.wraps(function)
        def wrapped(*given):
            return function(*given, 5)

        return wrapped

    @ps.step
    @with_more
    def area(a, b):
        return a * b

    assert area.map([1, 2]) is not None
