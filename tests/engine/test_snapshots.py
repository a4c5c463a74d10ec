"""Which queries see one state of a database."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.core.facts import Facts
from penstock.core.flow import Node
from penstock.engine.snapshots import read_with


def node(name: str, database: str = "") -> Node:
    return Node(id=name, entry="m:f", kind="source" if database else "step", code="", tree=None, database=database)


def test_queries_of_one_database_are_read_together() -> None:
    nodes = [node("a", "x"), node("b", "x"), node("c", "y"), node("d", "x"), node("e")]
    facts = Facts()
    facts.reading.update(a="now", b="now", c="now")
    assert [read_with(one, nodes, facts) for one in nodes] == [["a", "b"], ["a", "b"], [], [], []]


def test_a_step_that_reads_no_query_does_not_go_through_the_flow() -> None:
    def none() -> Iterator[Node]:
        raise AssertionError("10,000 steps would take 10,000 × 10,000 looks")
        yield

    assert read_with(node("a"), none(), Facts()) == []
