"""What a run tells people: one fact a stage, the rules of its gate, how it ended, what to do next."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.fan import items_text
from penstock.core.flow import Graph, Node
from penstock.core.plan import Plan
from penstock.core.ports import Config
from penstock.lifecycle.figures import figure_text
from penstock.lifecycle.records import NOT_COMPARED
from penstock.lifecycle.run import Report
from penstock.lifecycle.stage_ids import CANDIDATE, OFFICIAL

Known = Mapping[tuple[str, str], Artifact]
Load = Callable[[Artifact], Any]
SILENT = ("scramble", "package", "champion", "compare", "original")
"""Stages whose outcome another one tells."""

_REPORTS = dict.fromkeys(("validate", "split", "train", "evaluate", "decide", "refit"), "report") | {
    "audit": "",
    "redecide": "threshold",
    "final": "",
    "opened": "",
    OFFICIAL: "report",
}
_FIRST = ("roc_auc", "neg_root_mean_squared_error", "accuracy")
"""The metric of each task that is told where none is declared."""
MOST_LEADERS = 4
"""Candidates of the leaderboard that the screen of a run shows."""
_GRADES = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes
    ----------
    state : str
        "champion", "challenger", "kept", "refused", "undecided", "registered" or "done".
    sentence : str
    mark : str
        "→", "✗", "?" or "✓".
    """

    state: str
    sentence: str
    mark: str


def is_workflow(graph: Graph) -> bool:
    """Whether a flow is the life of a model rather than steps alone."""
    return "workflow" in graph.about


def label(node: Node) -> str:
    """The word under which a step is shown: its stage, or its id where the user named it."""
    return "ingest" if node.kind == "source" else node.id


def is_stage(node: Node) -> bool:
    """Whether a step is one of Penstock's own; in a flow without a workflow the user's steps may have such names."""
    return node.kind != "source" and node.entry.startswith("penstock.")


def prepares(node: Node) -> bool:
    """Whether a step is the user's own."""
    return node.kind == "step" and not is_stage(node)


def silent(step: str) -> bool:
    """Whether another step tells what became of this one: a candidate stands on the leaderboard."""
    return step in SILENT or step.startswith(CANDIDATE)


def leaders(report: Mapping[str, Any], seconds: Mapping[str, Mapping[str, Any]], most: int = MOST_LEADERS) -> list[str]:
    """The candidates of an evaluation as lines, the best first, and why the winner is chosen.

    Parameters
    ----------
    report : dict
        Of the evaluation; without candidates there are no lines.
    seconds : dict
        Step → what it noted, of those that ran.
    most : int
    """
    board, lines = report.get("candidates", ()), []
    if len(board) < 2:
        return []
    for rank, one in enumerate(board[:most], 1):
        noted = seconds.get(f"{CANDIDATE}{one['name']}", {})
        parts = [f"{rank}. {one['name']}: {figure_text(one)}"]
        if one["behind"] is not None:
            parts.append(one["behind"]["text"])
        if "fit_s" in noted:
            parts.append(f"fit {noted['fit_s']:.2g} s, predict {noted['predict_s']:.2g} s")
        lines.append(" · ".join(parts) + (" ← chosen" if one["chosen"] else ""))
    if len(board) > most:
        lines.append(f"{len(board) - most} more")
    return [*lines, str(report["why"])]


def fact(node: Node, known: Known, load: Load, notes: Mapping[str, Any]) -> str:
    """The one fact that matters of a step that is done, "" where there is none.

    Parameters
    ----------
    node : Node
    known : mapping
        (step id, output) → artifact, of what is done.
    load : callable
        Reads a JSON artifact.
    notes : mapping
        What the step noted.
    """
    if node.kind == "source":
        name = os.path.basename(node.path or node.id) + (f" and {len(node.more):,} more" if node.more else "")
        sniffed = known.get((node.id, "sniffed"))
        return name if sniffed is None else f"{name} · {load(sniffed)['summary']}"
    if is_stage(node) and node.id in _REPORTS:
        report = load(known[node.id, _REPORTS[node.id]])
        return _trained(report) if node.id == "train" else str(report["summary"])
    if is_stage(node) and node.id == "deploy" and (node.id, "") in known:
        return f"{load(known[node.id, ''])['golden']} golden rows answered over HTTP as in training"
    if node.mapped and "items" in notes:
        return items_text(notes["items"])
    return " · ".join(logged(notes))


def logged(notes: Mapping[str, Any]) -> list[str]:
    """What a step logged, a name and a value each.

    Examples
    --------
    >>> logged({"rows": 32732, "share": 0.5, "plot": ["a"]})
    ['rows 32,732', 'share 0.5']
    """
    plain = {name: value for name, value in notes.items() if isinstance(value, str | int | float)}
    return [f"{name} {value:,}" if type(value) is int else f"{name} {value}" for name, value in plain.items()]


def awaited(report: Mapping[str, Any], metrics: Sequence[str], limit: int = 1) -> list[str]:
    """How wide the intervals will be on the held-out rows of a split, told before anything is trained.

    Parameters
    ----------
    report : dict
        Of the split.
    metrics : sequence of str
        As declared, the first first; without any, the first that is known.
    limit : int
        How many are told.

    Examples
    --------
    >>> awaited({"expected": {"roc_auc": 0.0271, "neg_log_loss": 0.031}}, ["neg_log_loss"])
    ['log_loss ± 0.031 to expect']
    >>> awaited({"expected": {"r2": 0.05}, "grouped": True}, ["r2", "neg_max_error"], limit=2)
    ['r2 ± 0.05 or more to expect', 'max_error: interval not estimated']
    """
    widths = report.get("expected", {})
    if not widths:
        return []
    more = " or more" if report.get("grouped") else ""
    names = metrics or [name for name in _FIRST if name in widths]
    return [
        f"{name.removeprefix('neg_')} ± {widths[name]:.2g}{more} to expect"
        if name in widths
        else f"{name.removeprefix('neg_')}: interval not estimated"
        for name in names[:limit]
    ]


def parted(report: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """The split in one line: rows, shares of the target, what left training, the interval to expect."""
    return " · ".join([str(report["summary"]), *awaited(report, metrics)])


def held_out(graph: Graph, plan: Plan, load: Load) -> list[str]:
    """What a plan knows of the split before anything is trained: its line and its notes, where it is reused.

    Parameters
    ----------
    graph : Graph
    plan : Plan
    load : callable
        Reads a JSON artifact.
    """
    for decision in plan.decisions:
        node = graph.node(decision.step)
        if node.id == "split" and is_stage(node) and is_workflow(graph) and decision.outputs:
            report = load(decision.outputs[node.names.index("report")])
            return [parted(report, graph.about.get("metrics", ())), *report["notes"]]
    return []


def _trained(report: Mapping[str, Any]) -> str:
    """Of training without what preprocessing tells in its own line."""
    parts = [part for part in str(report["summary"]).split(" · ") if not part.endswith(" features")]
    return " · ".join(parts)


def preprocessed(report: Mapping[str, Any]) -> str:
    """What preprocessing made of the features, and which columns the model does not see."""
    before, after = report["n_features"], report.get("n_features_out")
    text = f"{before} → {after} features" if after not in (None, before) else f"{before} features"
    left = [f"{name} ({why})" for name, why in report.get("left_out", {}).items()]
    if left:
        text += " · left out: " + ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
    return text


def rules(known: Known, load: Load) -> list[str]:
    """The gate's rules, each as one line with its figures and ✓, ✗ or ?."""
    compared = known.get(("compare", ""))
    return [] if compared is None else [rule["text"] for rule in load(compared)["rules"]]


def remarks(graph: Graph, known: Known, load: Load) -> list[str]:
    """What a person should know of a run, the gravest first."""
    found: list[str] = []
    proof = known.get(("audit", ""))
    if proof is not None:
        findings = sorted(load(proof)["findings"], key=lambda one: _GRADES.index(one["grade"]))
        found += [one["what"] if one["grade"] == "note" else f"{one['grade']}: {one['what']}" for one in findings]
    found += graph.notes
    places = [(node.id, "sniffed") for node in graph.nodes if node.kind == "source"]
    stages = [
        ("compare", ""),
        ("opened", ""),
        *((step, "report") for step in ("validate", "split", "evaluate", "train")),
    ]
    for place in [stages[0], *places, *stages[1:]]:
        if place in known:
            found += load(known[place]).get("notes", ())
    return list(dict.fromkeys(str(text) for text in found))


def of_the_run(report: Report) -> list[str]:
    """What a person should know of how it ran: that it cannot be reproduced, or that another processor made parts."""
    withheld = (report.outcome.run.info.get("code") or {}).get("withheld")
    found = [f"its code is not kept, so it cannot be reproduced: {withheld}"] if withheld else []
    decided = report.outcome.decisions.values()
    places = [one.reason.what for one in decided if one.action == "reuse" and one.reason.why == "elsewhere"]
    for place in dict.fromkeys(places):
        n = places.count(place)
        steps = f"{n} reused results were" if n > 1 else "a reused result was"
        found.append(f"{steps} {place}: last digits may differ here; --force STEP makes one anew")
    return found


def ending(report: Report) -> Ending:
    """How a run that did not fail ended."""
    attempt = report.attempt
    if attempt is None or attempt.version is None:
        return Ending("done", "done", "✓")
    name, workflow = attempt.version.name, attempt.version.workflow
    if attempt.promoted:
        return Ending("champion", f"champion: {name} ({_where(attempt.home.config)})", "→")
    if report.exit_code == 4:
        return Ending("refused", f"{name} refused: {attempt.reason.removeprefix('refused: ')}", "✗")
    if report.exit_code == 7:
        return Ending("undecided", f"{name} undecided: {attempt.reason}", "?")
    if attempt.passed is None:
        return Ending("registered", f"registered: {name} · not judged: the run was to end before its gate", "→")
    if attempt.verdict is not None and not attempt.reigns:
        why = attempt.reason or "not promoted: the run was to end at its gate"
        return Ending("challenger", f"challenger: {name} · {why}", "→")
    return Ending("kept", attempt.reason or f"the champion of {workflow} stays", "→")


def _where(config: Config) -> str:
    return f"shared ledger, {config.environment}" if config.shared else "local store"


def next_commands(report: Report, file: str) -> list[str]:
    """Two or three commands that make sense after a run.

    Parameters
    ----------
    file : str
        The declaring file, as it was named.
    """
    attempt = report.attempt
    if attempt is None or attempt.version is None:
        return [f"penstock show run:{report.outcome.run.id[:4]}", f"penstock plan {file}"]
    name, workflow = attempt.version.name, attempt.version.workflow
    if attempt.verdict is not None and attempt.verdict["outcome"] == NOT_COMPARED:
        return [f"penstock audit {name}", f"penstock show {name}", f"penstock try {file}"]
    if report.exit_code:
        return [f"penstock show {name}", f"penstock log {workflow}", f"penstock try {file}"]
    if attempt.passed is None:
        return [f"penstock run {file}", f"penstock show {name}"]
    if not attempt.promoted and not attempt.reigns and attempt.verdict is not None:
        return [f"penstock show {name}", f'penstock promote {name} --because "…"']
    freeze = f"penstock monitor {file}" if report.graph.about.get("schema") else f"penstock schema accept {file}"
    return [f"penstock serve {workflow}", f"penstock show {name}", freeze]


def part(facts: Mapping[str, Any]) -> str:
    """How far a search is, for the live line.

    Examples
    --------
    >>> part({"done": 34, "total": 64, "best": 0.8712, "left_s": 720.0})
    ' (34/64, best 0.871, about 12 min left)'
    """
    words = [f"{facts.get('done', 0)}/{facts.get('total', 0)}"]
    if facts.get("best") is not None:
        words.append(f"best {facts['best']:.3g}")
    left = float(facts.get("left_s") or 0.0)
    if left >= 1:
        words.append(f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left")
    return f" ({', '.join(words)})"
