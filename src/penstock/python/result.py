"""What a run gave: its values are read from the store when they are asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.core import markup
from penstock.core.names import did_you_mean
from penstock.core.notes import FIGURES
from penstock.core.plan import Plan as Decided
from penstock.core.ports import Home
from penstock.core.run import Entry
from penstock.core.units import duration
from penstock.errors import ConflictError, UnknownNameError
from penstock.lifecycle import story
from penstock.lifecycle.found import Found
from penstock.lifecycle.run import Report
from penstock.lifecycle.versions import LOOKED, Version, head, resolve, stream, who_am_i
from penstock.python.listening import Listener, LiveBlock, Markup, lines_html
from penstock.python.pages import Figure, Page

if TYPE_CHECKING:
    import pandas as pd

TRIES = 20
HELD_OUT = ("split", "test")
"""Step and output of a workflow that are opened by decisions and recorded looks only."""
FINAL = ("split", "final")
"""The same of the final hold-out, which only `penstock run --final` opens."""
IDLE = "nothing to do: all steps reused; no look spent"
MOST_NOTES = 5
TONES = {"champion": "good", "challenger": "good", "refused": "bad", "undecided": "warn"}
_ACTIONS = {"run": "warn", "wait": "faint", "reuse": "good", "skip": "faint"}


@dataclass(frozen=True)
class Verdict:
    """How a version was judged.

    Attributes
    ----------
    outcome : {"better", "worse", "not enough evidence", "not compared"}
        The last one of a version that the audit refused.
    sentence : str
    passed : bool
        Also that the audit found no error.
    rules : tuple of str
        Each rule of the gate with its figures.
    against : str
        The version that it was compared with; "" for the baseline alone, or nobody.
    """

    outcome: str
    sentence: str
    passed: bool
    rules: tuple[str, ...] = ()
    against: str = ""

    def __str__(self) -> str:
        return self.sentence


class Run:
    """A run that has ended.

    Attributes
    ----------
    id : str
        16 hexadecimal digits.
    name : str
        The workflow's or flow's.
    exit_code : int
        As `penstock run` ends: 0 done, 4 refused, 7 not enough evidence.
    version : str or None
        "churn@7".
    steps : dict
        Step → "done", "reused", "skipped" or "failed".
    exploratory : bool
        Whether only this process held what ran.
    notes : tuple of str
        What to know of it.
    wall_s : float
        Seconds.
    """

    def __init__(self, home: Home, report: Report, told: Listener, found: Found) -> None:
        self._config, self._objects = home.config, home.objects
        self._formats = _formats_for(home, found)
        self._outcome, self._lines, self._file = report.outcome, told.lines(), found.file
        self._block: LiveBlock | None = None
        self._kept: dict[str, Any] = {}
        self.id, self.name = report.outcome.run.id, report.graph.name
        self._is_workflow = story.is_workflow(report.graph)
        self.exit_code, self.wall_s, self.idle = report.exit_code, report.wall_s, report.idle
        self.steps: dict[str, str] = dict(report.outcome.states)
        self.exploratory = found.exploratory
        attempt = report.attempt
        self.version = attempt.version.name if attempt is not None and attempt.version is not None else None
        failed = report.error is not None
        self._end = story.Ending("failed", str(report.error), "✗") if failed else story.ending(report)
        known = told.teller.known if told.teller is not None else {}
        remarks = [] if failed else story.remarks(report.graph, known, told.load)
        self.notes = tuple([found.note] * bool(found.note) + remarks)
        self._next = [] if found.exploratory or failed else story.next_commands(report, _shown(found.file))

    # ── values ──────────────────────────────────────────────────────────────────────────────────────────────

    def artifact(self, step: str, output: str | None = None, *, want: str = "") -> Any:
        """What a step gave, read from the store and verified; of held-out rows with a look, as `test` has it.

        Parameters
        ----------
        step : str
        output : str, optional
            Of a step with several outputs; the first by default.
        want : str
            For a table "pandas" (the default), "polars", "arrow" or "path".

        Raises
        ------
        UnknownNameError
            The run has no such step or output.
        PenstockError
            It cannot be read.
        """
        name = self._output(step, output)
        if (step, name) == FINAL and self._is_workflow:
            raise UnknownNameError(
                "the final hold-out is not given away", hint="`penstock run --final` gives the figures, on record"
            )
        if (step, name) == HELD_OUT and self._is_workflow:
            self._open_hold_out()
        return self._formats.load(self._outcome.artifacts[step, name], self._objects, want)

    def _output(self, step: str, output: str | None) -> str:
        there = [name for known, name in self._outcome.artifacts if known == step]
        if not there:
            steps = list(dict.fromkeys(known for known, _ in self._outcome.artifacts))
            state = f" ({self.steps[step]})" if step in self.steps else did_you_mean(step, steps)
            raise UnknownNameError(
                f"run {self.id[:4]} has no value of {step!r}{state}", hint=f"there are {', '.join(steps)}"
            )
        name = there[0] if output is None else output
        if name not in there:
            raise UnknownNameError(
                f"{step} has no output {name!r}{did_you_mean(name, there)}", hint=f"there are {', '.join(there)}"
            )
        return name

    def table(self, step: str, output: str | None = None) -> pd.DataFrame:
        """A step's table as a pandas frame, a copy of your own.

        Raises
        ------
        UnknownNameError, PenstockError
            As `artifact`.
        """
        frame: pd.DataFrame = self.artifact(step, output, want="pandas")
        return frame

    @property
    def train(self) -> pd.DataFrame:
        """The training rows."""
        return self.table("split", "train")

    @property
    def test(self) -> pd.DataFrame:
        """The held-out rows. Whoever opens them takes a look, which goes on record, once for this run."""
        return self.table(*HELD_OUT)

    @property
    def predictions(self) -> pd.DataFrame:
        """Out-of-fold predictions of the training rows."""
        return self.table("evaluate", "predictions")

    @property
    def estimator(self) -> Any:
        """The fitted scikit-learn estimator; with `refit="all"` the one that is served."""
        return self.artifact("refit" if ("refit", "fitted") in self._outcome.artifacts else "train", "fitted")

    @property
    def metrics(self) -> pd.DataFrame:
        """Cross-validated figures: one row a metric, the primary first; errors are positive.

        Returns
        -------
        DataFrame
            Columns "value", "low", "high", "baseline" and "lower_is_better".
        """
        import pandas as pd

        report = self.artifact("evaluate", "report")
        rows = {}
        for name in sorted(report["metrics"], key=lambda name: name != report["primary"]):
            one = report["metrics"][name]
            shown = one["shown"]
            rows[shown["name"]] = {
                "value": shown["value"],
                "low": shown.get("low"),
                "high": shown.get("high"),
                "baseline": one.get("baseline_shown"),
                "lower_is_better": bool(shown.get("lower_is_better")),
            }
        frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")
        numbers = ["value", "low", "high", "baseline"]
        return frame.astype(dict.fromkeys(numbers, float)) if rows else frame

    @property
    def verdict(self) -> Verdict | None:
        """How the gate judged the run's version; None where there is none to judge."""
        if "verdict" not in self._kept:
            self._kept["verdict"] = self._judged()
        found: Verdict | None = self._kept["verdict"]
        return found

    @property
    def report(self) -> Page:
        """The report of the run's version.

        Raises
        ------
        UnknownNameError
            The run made no version.
        """
        from penstock.lifecycle.report import report

        with self._home() as home:
            return Page(report(home, self._registered(home)))

    def logs(self, step: str) -> str:
        """What a step printed, in this run or in the one whose result was reused; "" for nothing.

        Raises
        ------
        UnknownNameError
        """
        self._check_step(step)
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in step)
        for run in dict.fromkeys((self.id, self._maker(step))):
            path = os.path.join(self._config.root, ".penstock", "logs", run, f"{name}.log")
            if run and os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    return file.read()
        return ""

    def logged(self, step: str) -> dict[str, Any]:
        """What a step logged by `ps.log`, in this run or in the one whose result was reused; figures as `Figure`.

        Raises
        ------
        UnknownNameError
        PenstockError
            A figure cannot be read.
        """
        self._check_step(step)
        runs = dict.fromkeys(run for run in (self.id, self._maker(step)) if run)
        with self._home() as home:
            rows = [row for run in runs for row in home.ledger.step_runs(run) if row.step == step and row.notes]
        found = dict(rows[0].notes) if rows else {}
        figures = found.pop(FIGURES, {})
        return found | {name: Figure(one["kind"], self._objects.read(one["digest"])) for name, one in figures.items()}

    def _check_step(self, step: str) -> None:
        if step not in self.steps:
            known = list(self.steps)
            raise UnknownNameError(
                f"run {self.id[:4]} has no step {step!r}{did_you_mean(step, known)}",
                hint=f"there are {', '.join(known)}",
            )

    # ── the ledger ──────────────────────────────────────────────────────────────────────────────────────────

    def _home(self) -> Any:
        return _closing(self._config)

    def _maker(self, step: str) -> str:
        """The run that made a step's result."""
        decision = self._outcome.decisions.get(step)
        recipe = decision.recipe if decision is not None else None
        if recipe is None:
            return ""
        with self._home() as home:
            result = home.ledger.results([recipe]).get(recipe)
        return str(result.made.get("run", "")) if result is not None else ""

    def _registered(self, home: Home) -> Version:
        if self.version is None:
            raise UnknownNameError(
                f"run {self.id[:4]} made no version", hint="a run of a workflow's file to its end makes one"
            )
        return resolve(home.ledger, self.version)

    def _judged(self) -> Verdict | None:
        if self.version is None:
            return None
        from penstock.lifecycle.records import standing

        with self._home() as home:
            entry = standing(home, self._registered(home)).verdict
        if entry is None:
            return None
        body = entry.body
        rules = tuple(str(rule["text"]) for rule in body["rules"])
        return Verdict(body["outcome"], body["sentence"], bool(body["passed"]), rules, body.get("against") or "")

    def _open_hold_out(self) -> None:
        """Put a look on record, and say so, unless this run's is on record already.

        Raises
        ------
        ConflictError
        """
        number = int(self.version.partition("@")[2]) if self.version else None
        body = {"version": number, "against": None, "verdict": None, "run": self.id}
        name = stream(self.name, "look")
        with self._home() as home:
            for _ in range(TRIES):
                seen = home.ledger.stream(name)
                if any(one.body.get("run") == self.id and one.why == LOOKED for one in seen):
                    return
                last = head(home.ledger, name)
                entry = Entry(name, last.number + 1 if last else 1, body, who=who_am_i(), why=LOOKED)
                try:
                    home.ledger.append([entry])
                except ConflictError:
                    continue
                print(f"the hold-out of {self.name} was opened: look {entry.number}, on record", file=sys.stderr)
                return
        raise ConflictError(f"{self.name}: looks were recorded by others all the time", hint="ask again")

    # ── telling ─────────────────────────────────────────────────────────────────────────────────────────────

    def shown_by(self, block: LiveBlock) -> None:
        """Remember the block in which the run was shown, so that the same cell does not show it twice."""
        self._block = block

    @property
    def _ending(self) -> str:
        if self._end.state == "done":
            counts = [f"{n} {word}" for word in ("done", "reused", "skipped") if (n := _count(self.steps, word))]
            return ", ".join(counts) or "no steps"
        return self._end.sentence

    def __repr__(self) -> str:
        kind = " · exploratory" if self.exploratory else ""
        head = f"{self.name} · run {self.id[:4]}{kind}"
        if self.idle:
            return f"{head}\n{IDLE}{f' · {self.version}' if self.version else ''} · {duration(self.wall_s)}"
        width = max((len(line.label) for line in self._lines), default=0)
        lines = [head]
        for line in self._lines:
            facts = [fact for fact in line.facts if fact] or [""]
            lines.append(f" {line.mark} {line.label:<{width}} {line.time:>8}  {facts[0]}".rstrip())
            lines += [f"{'':{width + 14}}{fact}" for fact in facts[1:]]
        return "\n".join([*lines, f"{self._end.mark} {self._ending} · {duration(self.wall_s)}"])

    def _repr_html_(self) -> str:
        if self._block is not None and self._block.is_here:  # the cell's last value is the run: it is shown once
            block, self._block = self._block, None
            block.update(Markup(self.html()))
            return ""
        return self.html()

    def html(self) -> str:
        """The run as HTML."""
        kind = " · exploratory" if self.exploratory else ""
        head = f"{self.name} · run {self.id[:4]}{kind} · {duration(self.wall_s)}"
        end = IDLE + (f" · {self.version}" if self.version else "") if self.idle else self._ending
        tone = TONES.get(self._end.state, "bad" if self._end.state == "failed" else "good")
        parts = [markup.tag("p", markup.safe(head), "head"), lines_html([] if self.idle else self._lines)]
        parts.append(markup.tag("p", markup.tag("b", markup.safe(f"{self._end.mark} {end}")), tone))
        notes = list(self.notes[:MOST_NOTES])
        if (more := len(self.notes) - len(notes)) > 0:
            notes.append(f"{more} more in run.notes")
        parts += [markup.tag("p", markup.safe(note), "faint") for note in notes if not self.idle]
        if self._next:
            commands = " · ".join(markup.tag("code", markup.safe(one)) for one in self._next)
            parts.append(markup.tag("p", f"next {commands}", "faint"))
        return markup.block(*parts)


class Plan:
    """What a run would do, and why.

    Attributes
    ----------
    name : str
        The workflow's or flow's.
    steps : dict
        Step → (action, reason); the action is "run", "wait", "reuse" or "skip".
    note : str
        What to know of it.
    requests : tuple of str
        A sentence for what steps ask for and this machine has not.
    """

    def __init__(self, decided: Decided, note: str = "", requests: tuple[str, ...] = ()) -> None:
        self.name, self.note, self.requests = decided.flow, note, requests
        self.steps = {one.step: (one.action, one.because) for one in decided.decisions}

    def count(self, action: str) -> int:
        """How many steps have an action."""
        return sum(one == action for one, _ in self.steps.values())

    @property
    def _counts(self) -> str:
        words = {"run": "to run", "wait": "waiting", "reuse": "to reuse", "skip": "to skip"}
        return ", ".join(f"{n} {word}" for one, word in words.items() if (n := self.count(one))) or "no steps"

    def __repr__(self) -> str:
        width = max(map(len, self.steps), default=0)
        lines = [f" {action:<5}  {step:<{width}}  {why}" for step, (action, why) in self.steps.items()]
        return "\n".join([*lines, *(f" {text}" for text in self.requests), f"{self.name}: {self._counts}"])

    def _repr_html_(self) -> str:
        rows = [
            (markup.safe(step), markup.tag("span", action, _ACTIONS[action]), markup.safe(why))
            for step, (action, why) in self.steps.items()
        ]
        notes = "".join(markup.tag("p", markup.safe(one), "warn") for one in (self.note, *self.requests) if one)
        head = markup.tag("p", markup.safe(f"{self.name} · {self._counts}"), "head")
        return markup.block(head, notes, markup.table(rows, ("th", "w", "")))


def _formats_for(home: Home, found: Found) -> Any:
    """Formats that also know the caller's own classes, which this process has imported itself."""
    if not found.types:
        return home.formats
    from penstock.project import open_store

    return open_store(home.config, found.types)[1]


def _closing(config: Any) -> Any:
    import contextlib

    from penstock.project import open_home

    @contextlib.contextmanager
    def opened() -> Any:
        home = open_home(config.root, environment=config.environment)
        try:
            yield home
        finally:
            home.ledger.close()

    return opened()


def _count(states: Mapping[str, str], state: str) -> int:
    return sum(one == state for one in states.values())


def _shown(file: str) -> str:
    relative = os.path.relpath(file)
    return file if relative.startswith("..") else relative
