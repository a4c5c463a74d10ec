"""What a run tells, kept as lines in the order of its stages; in a notebook shown in one block as it goes."""

from __future__ import annotations

import sys
import time
from typing import Any

from penstock.core import markup
from penstock.core.artifact import Artifact
from penstock.core.flow import Graph
from penstock.core.ports import Home
from penstock.core.run import Run
from penstock.core.units import duration
from penstock.engine.events import Event
from penstock.lifecycle import story
from penstock.lifecycle.lines import Line, Teller

MOST_LINES = 40
"""Of a longer flow the lines that failed are shown, and how far it is."""
UPDATE_S = 0.2
TONES = {"✓": "good", "✗": "bad", "?": "warn", "→": "faint", "…": "faint"}


class Listener:
    """Listens to a run.

    Parameters
    ----------
    home : Home
    notes : list of str
        What is told above the lines.
    """

    def __init__(self, home: Home, notes: list[str]) -> None:
        self.home, self.notes = home, notes
        self.title = "reading"
        self.teller: Teller | None = None
        self.run: Run | None = None
        self.running: dict[str, float] = {}
        self._found: dict[str, list[Line]] = {}
        self._order: list[str] = []
        self._block = live_block()
        self._drawn = 0.0

    def began(self, graph: Graph, run: Run) -> None:
        """Take the flow and the run."""
        self.teller, self.run = Teller(graph, self.load), run
        self.title = f"{graph.name} · run {run.id[:4]}"
        self._order = [node.id for node in graph.nodes if not story.silent(node.id)]
        if story.is_workflow(graph):
            from penstock.lifecycle.stage_ids import STAGES

            rank = {step: place for place, step in enumerate(STAGES)}
            self._order.sort(key=lambda step: rank.get(step, -1))

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if self.teller is None or not event.step:
            return
        if event.kind == "started":
            self.running[event.step] = time.time()
        elif event.kind not in ("progress", "retry", "note"):
            self.running.pop(event.step, None)
            self._found[event.step] = self.teller.take(event)
        if self._block is not None and time.monotonic() - self._drawn >= UPDATE_S:
            self._drawn = time.monotonic()
            self._block.update(Markup(self.html()))

    def load(self, artifact: Artifact) -> Any:
        """A JSON artifact's value."""
        return self.home.formats.load(artifact, self.home.objects)

    def lines(self) -> list[Line]:
        """What has ended, in the order of the stages; what failed wherever it stands."""
        found = [line for step in self._order for line in self._found.get(step, ())]
        found += [
            line for step, lines in self._found.items() if step not in self._order for line in lines if line.mark == "✗"
        ]
        return found if len(found) <= MOST_LINES else [line for line in found if line.mark == "✗"]

    def html(self) -> str:
        """The block while the run goes on."""
        now = time.time()
        shown = self.lines()
        shown += [Line("…", step, duration(now - since), ["running"]) for step, since in self.running.items()]
        total = len(self.teller.graph.nodes) if self.teller is not None else 0
        count = f" · {len(self._found)} of {total} steps" if total else ""
        head = markup.tag("p", markup.safe(f"{self.title}{count}"), "head")
        return markup.block(head, *(markup.tag("p", markup.safe(one), "warn") for one in self.notes), lines_html(shown))

    def end(self, how: str, made: Any = None) -> None:
        """Show how it ended in place of how far it is.

        Parameters
        ----------
        how : str
            A word for a run that has no result.
        made : Run, optional
        """
        if self._block is None:
            return
        self.running.clear()
        if made is None:
            self.title += f" · {how}"
            self._block.update(Markup(self.html()))
        else:
            made.shown_by(self._block)
            self._block.update(Markup(made.html()))


def lines_html(lines: list[Line]) -> str:
    """Lines of a run as a table."""
    rows = [
        (
            markup.tag("span", markup.safe(line.mark), TONES.get(line.mark, "")),
            markup.safe(line.label),
            "<br>".join(markup.safe(fact) for fact in line.facts if fact),
            markup.safe(line.time),
        )
        for line in lines
    ]
    return markup.table(rows, ("m", "th", "", "n")) if rows else ""


class Markup:
    """HTML that a notebook shows as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return ""


def in_notebook() -> bool:
    """Whether cells show what is displayed."""
    return _shell() is not None


class LiveBlock:
    """One output of a notebook's cell, written again and again.

    Parameters
    ----------
    handle : DisplayHandle
    cell : int
        Number of the execution.
    """

    def __init__(self, handle: Any, cell: int) -> None:
        self._handle, self.cell = handle, cell

    def update(self, shown: Any) -> None:
        """Show something else in its place."""
        self._handle.update(shown)

    @property
    def is_here(self) -> bool:
        """Whether the cell that shows it still runs."""
        shell = _shell()
        return shell is not None and shell.execution_count == self.cell


def live_block() -> LiveBlock | None:
    """A block in the cell that runs now; None where this is no notebook."""
    shell = _shell()
    if shell is None:
        return None
    from IPython.display import display

    handle = display(Markup(""), display_id=True)  # type: ignore[no-untyped-call]  # IPython types nothing here
    return None if handle is None else LiveBlock(handle, shell.execution_count)


def _shell() -> Any:
    """The kernel's shell; None in a terminal, a script or a fork."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if shell is not None and getattr(shell, "kernel", None) is not None else None
