"""Runs as a table: one flat row each, with every parameter, figure and cost as a column."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from penstock.core.run import Run
from penstock.core.units import duration, moment, size_text
from penstock.errors import UsageError
from penstock.lifecycle.alive import state_of
from penstock.lifecycle.differ import parameters_kept
from penstock.lifecycle.figures import number
from penstock.lifecycle.kept import figures_kept, is_loss, score_shown, scored_by
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
OF_THE_RUN = (
    "run",
    "flow",
    "kind",
    "state",
    "started",
    "version",
    "note",
    "file",
    "who",
    "model",
    "commit",
    "dirty",
    "set",
)
"""Columns that a candidate of a search shares with its run."""
SCORE = "score"
"""Column of what a search says of a candidate."""
MOST_PARAMETERS = 6
"""Parameters that are shown of a search's candidates without being asked for."""
MOST_SEARCHED = 10_000
"""Candidates of searches that are looked through."""


def rows_of(run: Run, *, candidates: bool = False) -> list[dict[str, Any]]:
    """A run as flat rows: one; with the candidates of a try one each, with those of a search one each below its own.

    Figures and scores are as shown to people: errors and losses positive.
    """
    tried = Try.every(run) if candidates and run.info.get("try") else []
    if tried:
        return [_row(run, one.to_json()) for one in tried]
    row = _row(run, figures_kept(run))
    return [row, *(_searched(run, row) if candidates else ())]


def _searched(run: Run, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The candidates of a run's search, the best first: "score", "score_std", "scored_by", "rank", parameters."""
    search = run.info.get("search") or {}
    shared = {name: row.get(name) for name in OF_THE_RUN}
    shared |= {f"params.{path}": value for path, value in run.info.get("parameters", {}).items()}
    found = []
    for place, one in enumerate(search.get("candidates", ()), 1):
        told = {"candidate": f"#{place}", "rank": one["rank"], "scored_by": scored_by(search) or None}
        told |= {SCORE: score_shown(search, one["score"]), "score_std": one["std"]}
        told |= {"iteration": one["iteration"]} if "iteration" in one else {}
        values = {f"params.{search['path']}{name}": _literal(text) for name, text in one["params"].items()}
        found.append(dict.fromkeys(FIXED) | shared | told | values)
    return found


def _literal(text: str) -> Any:
    """A parameter's value where its text is one of a plain kind, so that numbers are ordered as numbers.

    Examples
    --------
    >>> _literal("0.1"), _literal("'l2'"), _literal("np.float64(0.5)"), _literal("SVC(C=1)")
    (0.1, 'l2', 0.5, 'SVC(C=1)')
    """
    bare = text.partition("(")[2].removesuffix(")") if text.startswith("np.") else text
    try:
        value = ast.literal_eval(bare)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return value if isinstance(value, str | int | float | bool) else text


def _row(run: Run, figures: Mapping[str, Any]) -> dict[str, Any]:
    info, cost, code = run.info, run.info.get("cost", {}), run.info.get("code") or {}
    row: dict[str, Any] = dict.fromkeys(FIXED)
    row |= {"run": run.id, "flow": run.flow, "kind": run.called, "state": state_of(run), "started": run.started}
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


def chosen(
    asked: Iterable[str], known: Sequence[str], rows: Sequence[Mapping[str, Any]], *, whole: bool = False
) -> list[str]:
    """The columns to show: those asked for, else what tells most; of a search what its candidates differ in.

    Parameters
    ----------
    whole : bool
        Also all that is known of a candidate's score.

    Raises
    ------
    UsageError
        There is no such column.
    """
    names = [column(one, known) for one in asked]
    if names:
        return list(dict.fromkeys(["run", *names]))
    figures = dict.fromkeys(str(row["primary"]) for row in rows if row.get("primary"))
    if searched := [row for row in rows if "rank" in row]:
        differ = [
            one for one in known if one.startswith("params.") and len({str(row.get(one)) for row in searched}) > 1
        ]
        score = [SCORE, "score_std", "scored_by", "rank"] if whole else [SCORE]
        first = ["run", "candidate", *score, *differ[:MOST_PARAMETERS], *figures]
        return [*first, "flow", "state", "started", "version", "note"]
    return ["run", "flow", "kind", "state", "started", "took_s", *figures, "model", "candidate", "version", "note"]


def cell(name: str, row: Mapping[str, Any]) -> str:
    """A value as people read it; a figure with its interval.

    Examples
    --------
    >>> cell("took_s", {"took_s": 1.25}), cell("auc", {"auc": 0.8, "auc.low": 0.7, "auc.high": 0.9})
    ('1.2 s', '0.800 [0.700, 0.900]')
    """
    value = row.get(name)
    if value is None:
        return ""
    if name == "run":
        return f"run:{value[:4]}"
    if name in ("started", "ended"):
        return moment(value)
    if name.endswith("_s") or name.startswith("seconds."):
        return duration(value)
    if name == "peak_bytes":
        return size_text(value)
    if name == SCORE:
        std = row.get("score_std")
        return number(value) + (f" ± {number(std)}" if std is not None else "")
    if f"{name}.low" in row:
        low, high = row.get(f"{name}.low"), row.get(f"{name}.high")
        return number(value) + (f" [{number(low)}, {number(high)}]" if low is not None and high is not None else "")
    return f"{value:g}" if isinstance(value, float) else str(value)


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
        A row for each candidate of a try; below a run that searched, one for each candidate of its search.

    Returns
    -------
    rows : list of dict
    known : list of str
        Every column that there is.

    Raises
    ------
    UsageError
    """
    rows, searched = [], 0
    for run in runs:
        found = rows_of(run, candidates=candidates and searched < MOST_SEARCHED)
        searched += len(found) - 1
        rows += found
    known = columns_of(rows)
    if where:
        test = parse(where, known)
        rows = [row for row in rows if test(row)]
    if sort:
        backwards = sort.startswith("-")
        name = sort.removeprefix("-")
        if name == SCORE and not candidates:
            raise UsageError(
                "score is a column of a search's candidates", hint="--candidates lists them below their runs"
            )
        name = column(name, known)
        figures = {one for run in runs for m in figures_kept(run).get("metrics", {}).items() for one in _names(*m)}
        losses = {run.id for run in runs if is_loss(run.info.get("search") or {})} if name == SCORE else set()

        def sign(row: Mapping[str, Any]) -> int:
            return -1 if row["run"] in losses else 1

        greater = name == SCORE or (name in figures and name not in lower_is_better(runs))
        rows = in_order(rows, name, down=greater != backwards, sign=sign)
    return rows, known


def _names(scorer: str, metric: Mapping[str, Any]) -> tuple[str, str]:
    return scorer, metric["shown"]["name"]


def in_order(
    rows: Sequence[Mapping[str, Any]],
    name: str,
    *,
    down: bool,
    sign: Callable[[Mapping[str, Any]], int] = lambda _row: 1,
) -> list[dict[str, Any]]:
    """Rows by a column, numbers before texts, those without a value last, equal ones as they came.

    Parameters
    ----------
    sign : callable
        Row → -1 where a number stands for its opposite, as a loss beside scores of which more is better.

    Examples
    --------
    >>> [row["a"] for row in in_order([{"a": 2}, {}, {"a": "x"}, {"a": 10}], "a", down=False) if row]
    [2, 10, 'x']
    """
    with_value = [dict(row) for row in rows if row.get(name) is not None]
    numbers = [row for row in with_value if isinstance(row[name], int | float)]
    texts = [row for row in with_value if not isinstance(row[name], int | float)]
    numbers.sort(key=lambda row: sign(row) * row[name], reverse=down)
    texts.sort(key=lambda row: str(row[name]), reverse=down)
    return [*numbers, *texts, *(dict(row) for row in rows if row.get(name) is None)]
