"""What a run shows of its steps as they end: one line a stage, with the one fact that matters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.flow import Graph, Node
from penstock.core.units import duration
from penstock.engine.events import Event
from penstock.lifecycle import story


@dataclass(slots=True)
class Line:
    """One line of a run.

    Attributes
    ----------
    mark : str
        "✓", "✗", "?" or "→".
    label, time : str
    facts : list of str
    """

    mark: str
    label: str
    time: str
    facts: list[str] = field(default_factory=list)


class Teller:
    """Remembers what has ended and puts it into lines.

    Parameters
    ----------
    graph : Graph
    load : callable
        Reads a JSON artifact.
    """

    def __init__(self, graph: Graph, load: Callable[[Artifact], Any]) -> None:
        self.graph, self.load = graph, load
        self.nodes = {node.id: node for node in graph.nodes}
        self.known: dict[tuple[str, str], Artifact] = {}
        self._wall: dict[str, float] = {}
        self._noted: dict[str, Mapping[str, Any]] = {}

    def take(self, event: Event) -> list[Line]:
        """The lines of a step that has ended; none where it was skipped."""
        node = self.nodes[event.step]
        self.known.update(zip(((node.id, name) for name in node.names), event.outputs, strict=False))
        if event.kind in ("done", "failed"):
            self._wall[node.id] = event.wall_s
            self._noted[node.id] = event.facts
        return [] if event.kind == "skipped" else self._lines(event, node)

    def _lines(self, event: Event, node: Node) -> list[Line]:
        """What a step that has ended has to say."""
        took = "reused" if event.kind == "reused" else duration(event.wall_s)
        if event.kind == "failed":
            return [Line("✗", story.label(node), took, [str(event.facts.get("what", "")).split("\n")[0]])]
        stage = node.id if story.is_stage(node) else ""
        if stage == "gate":
            return [self._gate(event)]
        if stage == "register":
            about = self.load(self.known["register", ""])
            equal = "" if event.kind == "done" else " (registered before)"
            return [Line("✓", "register", took, [f"{self.graph.name}@{about['version']}{equal}"])]
        if skip := event.facts.get("skip"):
            return [Line("→", node.id, "", [str(skip)])]
        if event.decision is not None and event.decision.reason.why == "snapshot":
            took = str(event.decision.reason)
        lines = [Line("✓", story.label(node), took, [story.fact(node, self.known, self.load, event.facts)])]
        if stage == "split" and story.is_workflow(self.graph):
            report = self.load(self.known["split", "report"])
            lines[0].facts[0] = story.parted(report, self.graph.about.get("metrics", ()))
        if stage == "evaluate":
            lines[0].facts += story.leaders(self.load(self.known["evaluate", "report"]), self._noted)
        if stage == "audit" and self.load(self.known["audit", ""])["grade"] == "error":
            lines[0].mark = "✗"
        if stage == "train" and "preprocess_s" in event.facts:
            report, spent = self.load(self.known["train", "report"]), event.facts["preprocess_s"]
            lines[0].time = duration(max(event.wall_s - spent, 0.0))
            lines.insert(0, Line("✓", "preprocess", duration(spent), [story.preprocessed(report)]))
        return lines

    def _gate(self, event: Event) -> Line:
        compared = self.load(self.known["compare", ""])
        mark = {"better": "✓", "worse": "✗"}.get(compared["outcome"], "?")
        took = "reused" if event.kind == "reused" else duration(self._wall.get("compare", 0.0) + event.wall_s)
        return Line(mark, "gate", took, story.rules(self.known, self.load))
