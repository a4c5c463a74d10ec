"""A run as it goes: a line for each stage in its fixed order, and on a terminal one live line for what runs now."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from penstock.cli.output import clean, clip, is_terminal, paint, say, width
from penstock.core.artifact import Artifact
from penstock.core.flow import Graph, Node
from penstock.core.ports import Home
from penstock.core.run import Run
from penstock.engine.events import Event
from penstock.lifecycle import story
from penstock.lifecycle.lines import Line, Teller
from penstock.lifecycle.stage_ids import STAGES

MOST_LINES = 30
"""A flow of more steps is shown as a counter."""

MOST_PREPARING = 5
"""More steps of the user's than this, in front of a workflow's stages, share one line."""

TICK_S = 0.2
LABEL, TIME, INDENT = 10, 8, 5
LONGEST = 24
"""Characters of a step's name beside its line; longer ones are clipped."""
_MARKS = {"✓": "green", "✗": "red", "?": "yellow", "→": "dim", "·": "dim"}


class Progress:
    """Listens to a run and tells of it.

    Lines of a workflow come in the order of its stages, whichever finishes first; a run in which nothing has to
    be done says nothing, so that its end can say just that.

    Parameters
    ----------
    home : Home
    title : str
        The file, as it was named.
    quiet, verbose : bool
    """

    def __init__(self, home: Home, title: str, *, quiet: bool = False, verbose: bool = False) -> None:
        self.home, self.title, self.quiet, self.verbose = home, title, quiet, verbose
        self.printed = 0
        self.graph: Graph | None = None
        self._nodes: dict[str, Node] = {}
        self._teller: Teller | None = None
        self._run: Run | None = None
        self._awake = False
        self._order: list[str] = []
        self._label = LABEL
        self._ready: dict[str, list[Line]] = {}
        self._running: dict[str, float] = {}
        self._part: dict[str, str] = {}
        self._done = 0
        self._lock = threading.RLock()
        self._live = _Live(self._now) if is_terminal() and not quiet and os.environ.get("TERM") != "dumb" else None

    # ── what the run tells ──────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def began(self, graph: Graph, run: Run) -> None:
        """Take the flow and the run."""
        self.graph, self._run = graph, run
        self._nodes = {node.id: node for node in graph.nodes}
        self._teller = Teller(graph, self.load)
        shown = [node.id for node in graph.nodes if not story.silent(node.id)]
        self._label = min(max(map(len, shown), default=0), LONGEST) if len(shown) <= MOST_LINES else LABEL
        self._label = max(self._label, LABEL)
        preparing = [node.id for node in graph.nodes if story.prepares(node)]
        if story.is_workflow(graph):
            if len(preparing) > MOST_PREPARING:
                shown = [step for step in shown if step not in preparing]
            order = {step: rank for rank, step in enumerate(STAGES)}
            self._order = sorted(shown, key=lambda step: order.get(step, -1))

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if self.graph is None:
            return
        with self._lock:
            if event.step:
                self._take(event, self._nodes[event.step])
            elif event.kind == "note":
                self._print(f"   {clean(str(event.facts.get('text', '')))[:200]}")
            self._emit()

    def _take(self, event: Event, node: Node) -> None:
        if event.kind == "started":
            self._wake()
            self._running[node.id] = time.monotonic()
            self._explain(event)
            return
        if event.kind == "progress":
            self._part[node.id] = story.part(event.facts)
            return
        if event.kind == "retry":
            self._print(f"   {node.id}: {clean(str(event.facts.get('what', '')))[:200]} · try {event.facts.get('try')}")
            return
        self._running.pop(node.id, None)
        self._done += 1
        assert self._teller is not None
        lines = self._teller.take(event)
        if event.kind in ("done", "failed"):
            self._wake()
            self._show_log(node)
        if event.kind != "skipped":
            self._ready[node.id] = lines

    # ── lines ───────────────────────────────────────────────────────────────────────────────────────────────

    def load(self, artifact: Artifact) -> Any:
        """A JSON artifact's value."""
        return self.home.formats.load(artifact, self.home.objects)

    @property
    def known(self) -> dict[tuple[str, str], Artifact]:
        """(step id, output) → artifact, of what is done."""
        return self._teller.known if self._teller is not None else {}

    @property
    def name(self) -> str:
        """The flow's name."""
        return self.graph.name if self.graph is not None else ""

    def _emit(self) -> None:
        """Print every line whose turn has come."""
        if not self._awake or self.graph is None:
            return
        if not self._order:
            few = len(self.graph.nodes) <= MOST_LINES
            for step in list(self._ready):
                for line in self._ready.pop(step):
                    if few or line.mark == "✗":
                        self._line(line)
            return
        while self._order and self._order[0] in self._ready:
            for line in self._ready.pop(self._order.pop(0)):
                self._line(line)

    def flush(self) -> None:
        """Print what is left at the end, in order: steps before it may have been skipped or have failed."""
        with self._lock:
            rest, self._order = self._order, []
            for step in [s for s in rest if s in self._ready] + [s for s in self._ready if s not in rest]:
                lines = self._ready.pop(step)
                for line in lines:
                    if self._awake and (not story.silent(step) or line.mark == "✗") and self._tells(step, line):
                        self._line(line)

    def _tells(self, step: str, line: Line) -> bool:
        """Whether a step that shares a line, or was counted, still has a word of its own: when it failed."""
        assert self.graph is not None
        if line.mark == "✗" or not story.prepares(self._nodes[step]):
            return True
        return not story.is_workflow(self.graph)

    def _line(self, line: Line) -> None:
        facts = [clean(fact) for fact in line.facts if fact] or [""]
        label = self._label
        room = width() - (label + TIME + 7)
        named = clip(clean(line.label), label)
        head = f" {paint(line.mark, _MARKS[line.mark])} {named:<{label}} {line.time:>{TIME}}  "
        first = facts.pop(0) if len(facts) == 1 or len(facts[0]) <= room else ""
        self._print((head + clip(first, room)).rstrip())
        # Several facts are the rules of a gate: on a narrow screen they begin further left, rather than be cut.
        narrow = any(len(fact) > room for fact in facts)
        indent = INDENT if narrow else label + TIME + 6
        for fact in facts:
            self._print(" " * indent + clip(fact, width() - indent))

    def _wake(self) -> None:
        """The first thing that is really done: from here on lines are printed."""
        if self._awake or self.graph is None or self._run is None:
            return
        self._awake = True
        what = " · try" if self._run.kind == "try" else ""
        self._print(paint(f"{self.name} · run {self._run.id[:4]}{what} · {clean(self.title)}", "bold"))

    def _explain(self, event: Event) -> None:
        if self.verbose and event.decision is not None:
            self._print(paint(f"   {event.step}: {event.decision.because}", "dim"))

    def _show_log(self, node: Node) -> None:
        """With `-v`, what the step printed."""
        if not self.verbose or self._run is None:
            return
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in node.id)
        path = os.path.join(self.home.config.root, ".penstock", "logs", self._run.id, f"{safe}.log")
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as log:
                for text in log.read(1 << 20).splitlines():
                    self._print(paint(f"   {node.id}│ {clean(text)}", "dim"))

    def _print(self, text: str) -> None:
        if self.quiet:
            return
        if self._live is not None:
            self._live.clear()
        say(text)
        self.printed += 1

    def _now(self) -> str:
        """The live line: what runs, for how long; of a long flow how far it is."""
        with self._lock:
            if self.graph is None:
                return f" reading {clean(self.title)}"
            now = time.monotonic()
            running = [f"{step} {now - since:.1f} s{self._part.get(step, '')}" for step, since in self._running.items()]
            total = len(self.graph.nodes)
            count = f"{self._done}/{total} · " if total > MOST_LINES else ""
            return f" … {count}{' · '.join(running)}" if running or count else ""


class _Live:
    """The last line of a terminal, drawn again five times a second by a thread of its own."""

    def __init__(self, text: Any) -> None:
        self._text, self._drawn = text, False
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="live-line", daemon=True)

    def start(self) -> None:
        """Begin to draw."""
        self._thread.start()

    def stop(self) -> None:
        """Stop and leave a clean line."""
        self._stop.set()
        self._thread.join(1.0)
        self.clear()

    def clear(self) -> None:
        """Wipe the line, so that another can be printed in its place."""
        with self._lock:
            if self._drawn:
                say("\r\x1b[2K", end="")
                self._drawn = False

    def _loop(self) -> None:
        while not self._stop.wait(TICK_S):
            text = self._text()
            with self._lock:
                if text and not self._stop.is_set():
                    say("\r\x1b[2K" + clip(text, width() - 1), end="")
                    self._drawn = True
                    _flush()


def _flush() -> None:
    import contextlib
    import sys

    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()


def counts_text(counts: Mapping[str, int]) -> str:
    """Counts of a run as text.

    Examples
    --------
    >>> counts_text({"run": 3, "reuse": 1, "skip": 0, "failed": 0})
    '3 run, 1 reused'
    """
    words = {"run": "run", "reuse": "reused", "skip": "skipped", "failed": "failed"}
    return ", ".join(f"{counts[key]} {word}" for key, word in words.items() if counts.get(key)) or "no steps"
