"""Which of the steps that wait may start: only what fits beside what runs, and nobody waits for ever.

The rule: steps start in their order. One that does not fit holds the head of the queue. Another may pass it only where
that cannot make it start later: the other takes nothing of what the head waits for, and of all else leaves it enough
even when no more than one of those who hold what it waits for has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from penstock.core.flow import Graph, Node
from penstock.core.ports import Config
from penstock.core.units import size_text
from penstock.engine import processes
from penstock.engine.events import Event, Listener, silent
from penstock.engine.gpus import gpu_ids
from penstock.engine.slots import Slots

MOST_PASSED = 100
"""At most this many are asked whether they may pass, so that a queue of thousands stays cheap."""
AGAIN_S = 0.5
"""Seconds after which a step asks again for a GPU that another run holds."""
GPU = 3
"""Place of GPUs among the amounts."""


class Amounts(NamedTuple):
    """What a step takes, or what there is: processes, thousandths of a processor, bytes of memory, GPUs."""

    processes: int
    cpu: int
    memory: int
    gpu: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What this machine has for a run.

    Attributes
    ----------
    jobs : int
        Steps that run at once.
    cpu : int
        Processors; never fewer than `jobs`.
    memory : int
        Bytes.
    gpus : tuple of str
        Ids of GPUs, as `CUDA_VISIBLE_DEVICES` takes them.
    """

    jobs: int
    cpu: int
    memory: int
    gpus: tuple[str, ...] = ()

    @property
    def amounts(self) -> Amounts:
        """The same as amounts."""
        return Amounts(self.jobs, 1000 * self.cpu, self.memory, len(self.gpus))


class Admission:
    """Keeps count of what runs, and lets in what fits.

    Parameters
    ----------
    totals : Totals, optional
        Without them nothing is counted, and a step starts as soon as there is room.
    listen : callable
        Told once of a step that waits for another run's GPU.

    Examples
    --------
    >>> one = Admission(Totals(jobs=2, cpu=2, memory=100))
    >>> waiting = deque([Node("a", "", None, "", resources={"cpu": 2}), Node("b", "", None, "")])
    >>> [node.id for node in one.admit(waiting, room=2)], [node.id for node in waiting]
    (['a'], ['b'])
    """

    def __init__(self, totals: Totals | None = None, listen: Listener = silent) -> None:
        self.totals, self._listen, self._slots = totals, listen, Slots()
        self._away: dict[str, None] = {}  # steps that wait for GPUs which other runs hold
        self._told: set[str] = set()
        self._there = totals.amounts if totals is not None else Amounts(0, 0, 0, 0)
        self._running: dict[str, Amounts] = {}
        self._gpus: dict[str, tuple[str, ...]] = {}

    def admit(self, queue: deque[Node], room: int) -> list[Node]:
        """Take from the queue what may start now, in order and no more than there is room for.

        It counts as running until it is released. A GPU that another run on this machine holds is waited for too.
        """
        self._away.clear()
        if self.totals is None:
            return [queue.popleft() for _ in range(min(room, len(queue)))]
        admitted: list[Node] = []
        passed = deque[Node]()
        while queue and len(admitted) < room and len(passed) <= MOST_PASSED:
            node = queue.popleft()
            may = self._may_pass(node, passed[0]) if passed else self._fits(node)
            if may and self._start(node, self.totals.gpus):
                admitted.append(node)
            else:
                passed.append(node)
        queue.extendleft(reversed(passed))
        return admitted

    def release(self, step: str) -> None:
        """What a step took is free again."""
        self._running.pop(step, None)
        self._slots.give(self._gpus.pop(step, ()))

    def close(self) -> None:
        """The run has ended: what it held is free for others."""
        self._slots.close()

    def due(self) -> float | None:
        """Seconds until it is worth asking again though nothing of this run has ended; None where it is not."""
        return AGAIN_S if self._away else None

    def visible(self, step: str) -> str | None:
        """What `CUDA_VISIBLE_DEVICES` is to be for a step: its own GPUs, none; None where it is left as it is."""
        return ",".join(self._gpus.get(step, ())) if self.totals is not None and self.totals.gpus else None

    @property
    def taken(self) -> Amounts:
        """What all that runs takes together."""
        return _sum(self._running.values())

    def _fits(self, node: Node) -> bool:
        if not self._running:  # what is alone runs, though its request be too large: it was refused before, or forced
            return True
        return _within(_sum([*self._running.values(), amounts(node)]), self._there)

    def _may_pass(self, node: Node, head: Node) -> bool:
        """Whether a step may start before the one at the head without making it start later."""
        if not self._fits(node):
            return False
        mine, its, there, taken = amounts(node), amounts(head), self._there, self.taken
        lacking = [at for at in range(len(there)) if taken[at] + its[at] > there[at]]
        lacking = lacking or ([GPU] if head.id in self._away else [])
        if not lacking or any(mine[at] for at in lacking):
            return False
        for at in range(len(there)):
            # Of each thing that the head waits for, one at least of those who hold it has to end.
            freed = max(min((one[at] for one in self._running.values() if one[what]), default=0) for what in lacking)
            if taken[at] - freed + mine[at] + its[at] > there[at]:
                return False
        return True

    def _start(self, node: Node, gpus: tuple[str, ...]) -> bool:
        """Count a step as running; whether it may, for another run may hold the GPUs that this one has free."""
        held = {gpu for gpus in self._gpus.values() for gpu in gpus}
        free = [gpu for gpu in gpus if gpu not in held]
        number = min(node.resources.get("gpu", 0), len(free))
        taken = self._slots.take(free, number) if number else ()
        if taken is None:
            self._away[node.id] = None
            if node.id not in self._told:
                self._told.add(node.id)
                what = f"{number} GPU{'' if number == 1 else 's'}"
                self._listen(Event("note", facts={"text": f"{node.id} waits for {what} that another run here holds"}))
            return False
        self._running[node.id], self._gpus[node.id] = amounts(node), taken
        return True


def admission(graph: Graph, config: Config, listen: Listener = silent) -> Admission:
    """What lets in the steps of a flow: by count of what this machine has, where any of them asks for something."""
    return Admission(totals_of(graph, config) if asks(graph) else None, listen)


def amounts(node: Node) -> Amounts:
    """What a step takes; one that says nothing takes one processor."""
    asked = node.resources
    return Amounts(1, max(1, round(1000 * asked.get("cpu", 1))), asked.get("memory", 0), asked.get("gpu", 0))


def asks(graph: Graph) -> bool:
    """Whether any step of a flow asks for something that this machine can run short of."""
    return any({"cpu", "memory", "gpu"} & node.resources.keys() for node in graph.nodes)


def unfit(nodes: Iterable[Node], totals: Totals) -> list[str]:
    """A sentence for each step that can never run here, however long it waits.

    Examples
    --------
    >>> unfit([Node("fit", "", None, "", resources={"gpu": 2})], Totals(2, 2, 100, ("0",)))
    ['fit asks for 2 GPUs, and there is 1']
    """
    found = []
    there = totals.amounts
    for node in nodes:
        asked = amounts(node)
        if asked.cpu > there.cpu:
            found.append(f"{node.id} asks for {asked.cpu / 1000:g} processors, and there are {totals.cpu}")
        if asked.memory > there.memory:
            some, all_ = size_text(asked.memory), size_text(there.memory)
            found.append(f"{node.id} asks for {some} of memory, and there are {all_}")
        if asked.gpu > there.gpu:
            is_ = {0: "is none", 1: "is 1"}.get(there.gpu, f"are {there.gpu}")
            found.append(f"{node.id} asks for {asked.gpu} GPU{'' if asked.gpu == 1 else 's'}, and there {is_}")
    return found


def totals_of(graph: Graph, config: Config) -> Totals:
    """What this machine has; GPUs are looked for only where a step asks for one.

    Parameters
    ----------
    graph : Graph
    config : Config
        `jobs` (0 is one a core), and `gpus` where their number is set.
    """
    jobs = config.jobs or processes.cores()
    wanted = any(node.resources.get("gpu") for node in graph.nodes)
    seen = gpu_ids(config.gpus) if wanted else ()
    return Totals(jobs, max(jobs, processes.cores()), processes.machine_memory(), seen)


def _sum(given: Iterable[Amounts]) -> Amounts:
    given = list(given)
    return Amounts(*(sum(one[at] for one in given) for at in range(len(Amounts._fields))))


def _within(asked: Amounts, there: Amounts) -> bool:
    return all(one <= other for one, other in zip(asked, there, strict=True))
