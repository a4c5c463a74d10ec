"""Runs as a table: one flat row each, with every parameter, figure and cost as a column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from penstock.core.run import Run
from penstock.lifecycle.alive import state_of
from penstock.lifecycle.differ import parameters_kept
from penstock.lifecycle.kept import figures_kept
from penstock.lifecycle.query import column, parse
from penstock.lifecycle.tries import Try

MOST_RUNS = 10_000
"""Runs that are looked through."""
FIXED = (
    "run",
    "flow",
    "kind",
    "state",
    "started",
    "ended",
    "took_s",
    "version",
    "champion",
    "note",
    "file",
    "who",
    "model",
    "candidate",
    "primary",
    "cpu_s",
    "peak_bytes",
    "fit_s",
    "predict_s",
    "commit",
    "dirty",
    "set",
)
"""Columns that every table has."""


def rows_of(run: Run, *, candidates: bool = False) -> list[dict[str, Any]]:
    """A run as flat rows: one, or with its candidates one each.

    Figures are as shown to people: errors and losses positive.
    """
    tried = Try.every(run) if candidates and run.info.get("try") else []
    if not tried:
        return [_row(run, figures_kept(run))]
    return [_row(run, one.to_json()) for one in tried]


def _row(run: Run, figures: Mapping[str, Any]) -> dict[str, Any]:
    info, cost, code = run.info, run.info.get("cost", {}), run.info.get("code") or {}
    row: dict[str, Any] = dict.fromkeys(FIXED)
    row |= {"run": run.id, "flow": run.flow, "kind": run.kind, "state": state_of(run), "started": run.started}
    row |= {"ended": run.ended, "took_s": round(run.ended - run.started, 3) if run.ended else None}
    row |= {"version": f"{run.flow}@{info['version']}" if "version" in info else None}
    row |= {name: info.get(name) for name in ("champion", "note", "file", "who")}
    row |= {name: cost.get(name) for name in ("cpu_s", "peak_bytes", "fit_s", "predict_s")}
    row |= {"commit": code.get("commit") or None, "dirty": code.get("dirty")}
    row["set"] = ", ".join(f"{path}={text}" for path, text in info.get("set", {}).items()) or None
    row |= {"model": figures.get("model") or info.get("parameters", {}).get("model")}
    row |= {"candidate": figures.get("candidate") or None}
    metrics = figures.get("metrics", {})
    primary = metrics.get(figures.get("primary"))
    row["primary"] = primary["shown"]["name"] if primary else None
    for scorer, metric in metrics.items():
        shown = metric["shown"]
        for name in dict.fromkeys((shown["name"], scorer)):
            row[name] = shown["value"]
            row[f"{name}.low"], row[f"{name}.high"] = shown.get("low"), shown.get("high")
    row |= {f"seconds.{step}": seconds for step, seconds in cost.get("seconds", {}).items()}
    return row | {f"params.{path}": value for path, value in parameters_kept(run).items()}


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every column of some rows, the fixed ones first, then figures, then parameters."""
    found = dict.fromkeys(FIXED) | {name: None for row in rows for name in row}
    return sorted(found, key=lambda name: (name.startswith("params."), name.startswith("seconds.")))


def lower_is_better(runs: Iterable[Run]) -> set[str]:
    """Names of figures, shown and scorers', of which less is better."""
    found = set()
    for run in runs:
        for scorer, metric in figures_kept(run).get("metrics", {}).items():
            if metric["shown"].get("lower_is_better"):
                found |= {scorer, metric["shown"]["name"]}
    return found


def select(
    runs: Sequence[Run], *, where: str = "", sort: str = "", candidates: bool = False
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of some runs that fulfil a condition, in an order.

    Parameters
    ----------
    runs : sequence of Run
        Newest first.
    where : str
        In the language of `query`.
    sort : str
        A column: of a figure the best first, of any other the smallest; "-" in front turns it round. Rows without a
        value come last. By default the newest first.
    candidates : bool
        A row for each candidate of a try.

    Returns
    -------
    rows : list of dict
    known : list of str
        Every column that there is.

    Raises
    ------
    UsageError
    """
    rows = [row for run in runs for row in rows_of(run, candidates=candidates)]
    known = columns_of(rows)
    if where:
        test = parse(where, known)
        rows = [row for row in rows if test(row)]
    if sort:
        backwards = sort.startswith("-")
        name = column(sort.removeprefix("-"), known)
        figures = {one for run in runs for m in figures_kept(run).get("metrics", {}).items() for one in _names(*m)}
        greater = name in figures and name not in lower_is_better(runs)
        rows = in_order(rows, name, down=greater != backwards)
    return rows, known


def _names(scorer: str, metric: Mapping[str, Any]) -> tuple[str, str]:
    return scorer, metric["shown"]["name"]


def in_order(rows: Sequence[Mapping[str, Any]], name: str, *, down: bool) -> list[dict[str, Any]]:
    """Rows by a column, numbers before texts, those without a value last, equal ones as they came.

    Examples
    --------
    >>> [row["a"] for row in in_order([{"a": 2}, {}, {"a": "x"}, {"a": 10}], "a", down=False) if row]
    [2, 10, 'x']
    """
    with_value = [dict(row) for row in rows if row.get(name) is not None]
    numbers = [row for row in with_value if isinstance(row[name], int | float)]
    texts = [row for row in with_value if not isinstance(row[name], int | float)]
    numbers.sort(key=lambda row: row[name], reverse=down)
    texts.sort(key=lambda row: str(row[name]), reverse=down)
    return [*numbers, *texts, *(dict(row) for row in rows if row.get(name) is None)]
