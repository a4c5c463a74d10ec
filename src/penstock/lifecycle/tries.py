"""Trying: cross-validate a declaration on its training rows and rank it among the tries; the hold-out stays closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from penstock.core.flow import Graph
from penstock.core.ports import Home
from penstock.core.run import Group, Run
from penstock.engine.events import Listener, silent
from penstock.engine.outcome import Outcome
from penstock.errors import InternalError
from penstock.lifecycle.kept import costs, predictions
from penstock.lifecycle.mirror import tell_run
from penstock.lifecycle.run import Opener, Report, Request, run
from penstock.lifecycle.stage_ids import CANDIDATE
from penstock.lifecycle.versions import Version

LAST_STEP = "evaluate"
MOST_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class Try:
    """One try on record.

    Attributes
    ----------
    run : str
        Id of its run.
    at : float
        Unix time in seconds.
    note : str
    model : str
        Class of the estimator, of a pipeline's last part.
    primary : str
        The scorer that ranks it.
    metrics : dict
        Scorer → {"value", "shown"}; values in scikit-learn's sign, so greater is better.
    rows : str
        Digest of the training table: only tries on the same rows are compared.
    result : str
        Digest of the figures: two tries with the same one are the same.
    candidate : str
        Its name, where one run tried several.
    """

    run: str
    at: float
    note: str
    model: str
    primary: str
    metrics: Mapping[str, Any]
    rows: str
    result: str
    candidate: str = ""

    @property
    def value(self) -> float:
        """The primary figure, greater is better; an undefined one ranks last."""
        value = self.metrics[self.primary]["value"]
        return float("-inf") if value is None else float(value)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_run(cls, row: Run) -> Try | None:
        """The try that a run records, of several candidates the chosen one; None for one that did not finish."""
        kept = row.info.get("try")
        return None if kept is None else cls(row.id, row.started, row.info.get("note", ""), **kept)

    @classmethod
    def every(cls, row: Run) -> list[Try]:
        """All that a run tried: each of its candidates."""
        first = cls.from_run(row)
        others = row.info.get("candidates", ())
        beside = [cls(row.id, row.started, row.info.get("note", ""), **kept) for kept in others]
        return ([] if first is None else [first]) + beside


def attempt(
    home: Home,
    request: Request,
    entry: str | Opener,
    *,
    listen: Listener = silent,
    began: Callable[[Graph, Run], None] = lambda *_: None,
) -> tuple[Report, Try | None]:
    """Run a declaration up to its evaluation, and put the figures on record.

    Raises
    ------
    PenstockError, CancelledError
        As `run`. A failed step does not raise: the report has it, and the try is None.
    """
    request = replace(request, what="try", until=LAST_STEP)
    report = run(home, request, entry, rehearse=_never, listen=listen, began=began)
    if report.error is not None:
        return report, None
    row, outcome = report.outcome.run, report.outcome
    figures = report.value(home, LAST_STEP, "report")
    rows = outcome.artifacts["split", "train"].digest
    winner = figures.get("winner", "")
    steps = {one["name"]: f"{CANDIDATE}{one['name']}" for one in figures.get("candidates", ())}
    kept = _kept(report, figures, steps.get(winner, LAST_STEP), rows, winner, outcome)
    others = [
        _kept(report, report.value(home, step, "report"), step, rows, name, outcome)
        for name, step in steps.items()
        if name != winner
    ]
    info = {**row.info, "try": kept} | ({"candidates": others} if others else {})
    info |= costs(home, outcome) | predictions(outcome)
    outcome.run = replace(row, info=info)
    home.ledger.commit(Group(runs=[outcome.run]))
    tell_run(home, outcome.run.id)
    return report, Try.from_run(outcome.run)


def _kept(
    report: Report, figures: Mapping[str, Any], step: str, rows: str, name: str, outcome: Outcome
) -> dict[str, Any]:
    """What is kept of one evaluation; `result` names the evaluation itself, so that a candidate equals itself alone."""
    kept = {
        "model": model_name(report.graph, step),
        "primary": figures["primary"],
        "metrics": {n: {"value": m["value"], "shown": m["shown"]} for n, m in figures["metrics"].items()},
        "rows": rows,
        "result": outcome.artifacts[step, "report"].digest,
    }
    return kept | ({"candidate": name} if name else {})


def _never(_home: Home, version: Version) -> int:
    """A try deploys nothing."""
    raise InternalError(f"a try was about to deploy {version.name}")


def board(home: Home, present: Try | None, workflow: str) -> list[Try]:
    """Tries of a workflow on the same training rows, the best first; equal ones once.

    Parameters
    ----------
    present : Try or None
        Whose rows and primary metric count; the newest try's by default.
    workflow : str
    """
    rows = home.ledger.runs(flow=workflow, limit=MOST_TRIES)
    every = [one for row in rows if row.kind == "try" for one in Try.every(row)]
    present = present or (every[0] if every else None)
    if present is None:
        return []
    like = [one for one in every if one.rows == present.rows and present.primary in one.metrics]
    distinct = {one.result: one for one in like}  # newest first, so the oldest of equal ones stays
    return sorted(
        (replace(one, primary=present.primary) for one in distinct.values()), key=lambda one: (-one.value, one.at)
    )


def model_name(graph: Graph, step: str = LAST_STEP) -> str:
    """Class of the estimator that a step of a flow evaluates, of a pipeline's last part.

    Returns
    -------
    str
        "" where the flow evaluates none.
    """
    trees = [node.tree for node in graph.nodes if node.id == step]
    found = _find(trees, "model") if trees else None
    while isinstance(found, list) and found and found[0] == "estimator":
        name = str(found[1]).rpartition(":")[2].rpartition(".")[2]
        steps = found[2].get("steps") if isinstance(found[2], dict) and name == "Pipeline" else None
        if steps is None:
            return name
        found = steps[1][-1][1][1]
    return ""


def _find(tree: Any, name: str) -> Any:
    """The value of a keyword argument in an encoded argument tree."""
    if isinstance(tree, list):
        if len(tree) == 2 and tree[0] == name:
            return tree[1]
        for item in tree:
            if isinstance(item, list) and (found := _find(item, name)) is not None:
                return found
    return None
