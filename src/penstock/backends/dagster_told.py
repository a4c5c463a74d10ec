"""What Dagster shows of a task: figures of its materialisation and the results of its checks, as plain values."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock.backends.call import Told
from penstock.core.artifact import Artifact
from penstock.core.flow import Graph
from penstock.core.notes import FIGURES
from penstock.core.ports import Home
from penstock.core.run import StepRun
from penstock.errors import PenstockError, bounded

CHECKED = ("validate", "audit", "gate")
"""Stages of a workflow that judge, each of them an asset check."""
MOST_SHOWN = 20
"""Notes of a step, rules of a verdict and findings that are shown."""
MOST_TEXT = 2_000
"""Characters of a text that a step logged."""
MOST_NAME = 100
"""Characters of its name."""
MOST_PICTURE = 256 << 10
"""Bytes of a figure that is shown in place; of a larger one, the path of its file."""
MOST_PICTURES = 1 << 20
"""Bytes of all figures of a step that are shown in place: they stand in one row of Dagster's database."""
KINDS = {"png": "image/png", "svg": "image/svg+xml"}
"""Kinds of figures that Markdown shows."""


class Markdown(str):
    """A text that is shown as Markdown."""

    __slots__ = ()


class FilePath(str):
    """A path that is shown as such."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """One result of a check.

    Attributes
    ----------
    name : str
        One of `CHECKED`.
    passed : bool
    grade : {"error", "warning"}
        How much it matters when it did not pass: a refusal of the gate is no failure.
    sentence : str
    facts : dict
    """

    name: str
    passed: bool
    grade: Literal["error", "warning"] = "error"
    sentence: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def facts_of(home: Home, steps: Sequence[str], tolds: Sequence[Told]) -> dict[str, Any]:
    """What is known of a task that has ended: state, digests, rows, sizes, time, memory, metrics, verdict, links.

    Parameters
    ----------
    steps : sequence of str
        Of the task; the figures of several stand under their names.
    tolds : sequence of Told
        What the starts of the worker came to.
    """
    found: dict[str, Any] = {}
    run = next((str(told.answer["run"]) for told in tolds if told.answer.get("run")), "")
    rows = {row.step: row for row in home.ledger.step_runs(run)} if run else {}
    wall, peak = 0.0, 0
    for told in tolds:
        for step, one in told.answer.get("steps", {}).items():
            prefix = f"{step}/" if len(steps) > 1 else ""
            facts = {"state": one["state"], "reason": one["reason"] or told.reason, **_outputs(home, one["outputs"])}
            facts |= {name: float(value) for name, value in one.get("metrics", {}).items()}
            noted = noted_in(home, rows[step]) if step in rows else {}
            facts |= {name: value for name, value in noted.items() if name not in facts}  # ours hide what is called so
            found |= {f"{prefix}{name}": shown(value) for name, value in facts.items() if value not in ("", None)}
            wall, peak = wall + float(one["wall_s"]), max(peak, int(one["peak_bytes"]))
        found |= _whole(home, told)
    return {"penstock run": run, "wall_s": round(wall, 3), "peak_bytes": peak, **found}


def shown(value: Any) -> Any:
    """A value as Dagster's page can show it: no number that JSON does not have, and no endless text.

    Examples
    --------
    >>> shown(float("nan")), shown(0.5)
    ('nan', 0.5)
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str) and not isinstance(value, Markdown | FilePath):
        return bounded(value, MOST_TEXT)
    return value


def _outputs(home: Home, outputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one in outputs.items():
        of = f" of {name}" if len(outputs) > 1 else ""
        artifact = Artifact(str(one["digest"]), str(one["format"]), int(one["size"]))
        found |= {f"digest{of}": artifact.digest, f"format{of}": artifact.format, f"bytes{of}": artifact.size}
        if (rows := rows_in(home, artifact)) is not None:
            found[f"rows{of}"] = rows
            found.setdefault("dagster/row_count", rows)
    return found


def rows_in(home: Home, artifact: Artifact) -> int | None:
    """Rows of a stored table, from the end of its file; None where it is no table or cannot be read here."""
    if artifact.format != "parquet":
        return None
    try:
        import pyarrow.parquet as pq

        return int(pq.read_metadata(home.objects.fetch(artifact.digest)).num_rows)
    except (PenstockError, OSError, ValueError):
        return None


def noted_in(home: Home, row: StepRun) -> dict[str, Any]:
    """What the step logged: numbers, texts and figures."""
    plain = [
        (name, value)
        for name, value in row.notes.items()
        if isinstance(value, int | float | str) and name != "skip" and not name.startswith("dagster/")
    ]
    found: dict[str, Any] = {bounded(name, MOST_NAME): value for name, value in plain[:MOST_SHOWN]}
    pictures, left = row.notes.get(FIGURES), MOST_PICTURES
    for name, one in pictures.items() if isinstance(pictures, Mapping) else ():
        picture = _picture(home, bounded(name, MOST_NAME), one, min(left, MOST_PICTURE))
        left -= len(picture) if isinstance(picture, Markdown) else 0
        found[bounded(f"figure {name}", MOST_NAME)] = picture
    return found


def _picture(home: Home, name: str, one: Mapping[str, Any], most: int) -> Any:
    """The figure itself where it takes at most so many bytes, else the path of its file."""
    try:
        path = home.objects.fetch(str(one["digest"]))
        kind = KINDS.get(str(one.get("kind", "")), "")
        if not kind or os.path.getsize(path) > most:
            return FilePath(path)
        with open(path, "rb") as file:
            data = base64.b64encode(file.read()).decode()
    except (PenstockError, OSError, KeyError) as error:
        return bounded(f"cannot be read: {error}", 200)
    return Markdown(f"![{name}](data:{kind};base64,{data})")


def loaded(home: Home, row: StepRun, word: str) -> dict[str, Any]:
    """The first JSON value with a key that a step gave; {} for none."""
    for artifact in row.outputs:
        if artifact.format != "json":
            continue
        try:
            value = home.formats.load(artifact, home.objects)
        except PenstockError:
            continue
        if isinstance(value, dict) and word in value:
            return value
    return {}


def _whole(home: Home, told: Told) -> dict[str, Any]:
    """What belongs to the run's version: its name, verdict, and the page that tells of it."""
    found: dict[str, Any] = {}
    if version := told.answer.get("version"):
        found["version"] = str(version)
        found["champion"] = bool(told.answer.get("champion"))
        page = os.path.join(home.config.root, ".penstock", "reports", f"{str(version).replace('@', '-')}.html")
        if os.path.exists(page):
            found["report"] = FilePath(page)
    if verdict := told.answer.get("verdict"):
        found["verdict"] = bounded(str(verdict["sentence"]), 1_000)
    return found


def checks_of(home: Home, graph: Graph, told: Told) -> list[Checked]:
    """What the stages that judge came to in one start of the worker; nothing of one that did not judge."""
    if "workflow" not in graph.about:
        return []
    found = []
    rows = {row.step: row for row in home.ledger.step_runs(str(told.answer.get("run") or "-"))}
    for step, one in told.answer.get("steps", {}).items():
        part = graph.node(step).part
        if part == "validate":
            found += _validated(home, one["state"], told, rows.get(step))
        elif part == "audit" and one["state"] in ("done", "reused") and step in rows:
            found += _audited(home, rows[step])
        elif part == "gate" and one["state"] in ("done", "reused"):
            found += _judged(told)
    return found


def _validated(home: Home, state: str, told: Told, row: StepRun | None) -> list[Checked]:
    if state == "failed":
        error: Mapping[str, Any] = told.answer.get("error") or {}
        if error.get("error") != "ValidationFailedError":
            return []  # it came to no judgement
        facts = {"hint": str(error["hint"])} if error.get("hint") else {}
        return [Checked("validate", False, "error", bounded(told.reason, 2_000), facts)]
    if state not in ("done", "reused"):
        return []
    report = loaded(home, row, "n_rows") if row is not None else {}
    facts = {name: report[name] for name in ("n_rows", "n_columns") if name in report}
    return [Checked("validate", True, sentence=str(report.get("summary", "")), facts=facts)]


def _audited(home: Home, row: StepRun) -> list[Checked]:
    report = loaded(home, row, "findings")
    if not report:
        return []
    counts = report["n_findings"]
    lines = [f"* {one['grade']}: {one['what']}" for one in report["findings"]]
    facts: dict[str, Any] = {f"{grade}s": int(n) for grade, n in counts.items()}
    if lines:
        facts["findings"] = Markdown(bounded("\n".join(lines[:MOST_SHOWN]), 4_000))
    passed = not counts.get("error") and not counts.get("warning")
    grade: Literal["error", "warning"] = "error" if counts.get("error") else "warning"
    return [Checked("audit", passed, grade, bounded(str(report.get("summary", "")), 1_000), facts)]


def _judged(told: Told) -> list[Checked]:
    if told.answer.get("passed") is None:
        return []
    verdict: Mapping[str, Any] = told.answer.get("verdict") or {}
    facts: dict[str, Any] = {"outcome": str(verdict["outcome"])} if verdict.get("outcome") else {}
    facts |= {"version": str(told.answer["version"])} if told.answer.get("version") else {}
    rules = [str(one["text"]) for one in verdict.get("rules", ())]
    if rules:
        facts["rules"] = Markdown(bounded("\n".join(f"* {one}" for one in rules[:MOST_SHOWN]), 4_000))
    sentence = bounded(str(verdict.get("sentence") or told.reason), 1_000)
    return [Checked("gate", bool(told.answer["passed"]), "warning", sentence, facts)]
