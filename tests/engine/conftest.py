"""Flows in memory: a fake pool runs plain functions over staged bytes, without processes."""

from collections import deque
from types import SimpleNamespace

import pytest

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_code
from penstock.core.flow import Graph, Node
from penstock.core.ports import Config, Home
from penstock.core.run import Run
from penstock.engine.gather import gather
from penstock.engine.local import Execution
from penstock.engine.planner import plan
from penstock.engine.pool import Answer
from penstock.errors import CorruptObjectError, MissingObjectError
from penstock.testing import MemoryLedger, MemoryObjects


class FakePool:
    """A pool of `jobs` workers; each `poll` finishes the task that has waited longest, or the one `pick` names.

    `functions` maps a step id to a function of its inputs' bytes that gives bytes, one for each output, or raises.
    """

    def __init__(self, objects, functions, jobs=1, pick=lambda tasks: 0):
        self.objects, self.functions, self.jobs, self.pick = objects, functions, jobs, pick
        self.tasks, self.calls, self.most, self.closed = deque(), [], 0, False
        self.logs = "/nonexistent"

    @property
    def running(self):
        return len(self.tasks)

    def room(self):
        return self.jobs - len(self.tasks)

    def give(self, tasks):
        self.tasks.extend(tasks)
        self.most = max(self.most, len(self.tasks))

    def poll(self, timeout):
        if not self.tasks:
            return []
        place = self.pick(self.tasks)
        node, message = self.tasks[place]
        del self.tasks[place]
        return [Answer(node, {"wall_s": 0.0, "cpu_s": 0.0} | self._run(node, message), SimpleNamespace(log_path="", log_seen=0))]

    def _run(self, node, message):
        try:
            inputs = [self.objects.read(data["digest"]) for _, _, data in message["inputs"]]
        except (CorruptObjectError, MissingObjectError) as error:
            return {"error": error.to_json(), "corrupt": error.digest}
        self.calls.append(node.id)
        try:
            values = self.functions[node.id](*inputs)
        except Exception as error:
            return {"error": {"error": "StepError", "what": str(error), "where": "", "hint": ""}}
        values = values if isinstance(values, tuple) else (values,)
        return {"outputs": [Artifact(*self._stage(value)).to_json() for value in values]}

    def _stage(self, value):
        digest, size = self.objects.stage(value)
        return digest, "bytes", size

    def close(self):
        self.closed = True


class World:
    """A store and a ledger in memory, and flows that run over them."""

    def __init__(self, objects=None, ledger=None):
        self.objects, self.ledger = objects or MemoryObjects(), ledger or MemoryLedger()
        self.home = Home(Config("/nonexistent", "", ""), self.objects, self.ledger, None)
        self.number = 0

    def plan(self, graph, forced=()):
        facts, _ = gather(graph, self.ledger, self.objects, forced)
        return plan(graph, facts)

    def run(self, graph, functions, *, forced=(), effects=None, listen=lambda _: None, **pool):
        """One run; gives (outcome, pool)."""
        self.number += 1
        facts, seen = gather(graph, self.ledger, self.objects, forced)
        record = Run(f"{self.number:016x}", graph.name, "run", "running", float(self.number))
        fake = FakePool(self.objects, functions, **pool)
        execution = Execution(
            graph, facts, self.home, record, lambda: fake, seen=seen, effects=effects or {}, listen=listen
        )
        return execution.execute(), fake

    def damage(self, digest):
        """Flip one bit of a published object."""
        data = bytearray(self.objects.published[digest])
        data[0] ^= 1
        self.objects.published[digest] = bytes(data)


def node(step, *needs, code="", value=None, kind="step", outputs=(), **fields):
    """A node whose arguments are references and one plain value."""
    needs = tuple(need if isinstance(need, tuple) else (need, "") for need in needs)
    tree = ["list", [["list", [["ref", *need] for need in needs]], ["dict", [["value", value]]]]]
    digest = digest_code({f"m:{code or step}": "1"}) if kind != "effect" else ""
    return Node(step, f"m:{code or step}", tree, digest, kind=kind, outputs=outputs, needs=needs, **fields)


def graph(*nodes, name="flow"):
    return Graph(name, nodes, {n.code: {n.entry: "1"} for n in nodes})


@pytest.fixture
def world():
    return World()


@pytest.fixture
def flows():
    """The makers of nodes, graphs and worlds."""
    return SimpleNamespace(node=node, graph=graph, World=World)
