"""The figures of a report as rows of tables: metrics, slices, confusion, importance, worst mistakes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from penstock.lifecycle.charts import padded, range_bar
from penstock.lifecycle.figures import number as plain_number
from penstock.lifecycle.kept import is_loss, score_shown, scored_by

MAX_CLASSES = 12
"""Up to so many classes a confusion matrix is shown whole; of more, only the commonest confusions."""
MAX_CONFUSIONS = 15
MAX_IMPORTANT = 15
LITTLE = 0.005
"""A column whose loss is less than this share of the greatest is counted, not shown: it would read as zero."""
MAX_SLICES = 60
MAX_CANDIDATES = 20
MAX_SEARCHED = 20
MAX_PARAMETERS = 6

Shown = Mapping[str, Any]


def number(value: float | None) -> str:
    """A figure as a sentence of the run tells it: three decimals, or three digits when it is large or tiny.

    Examples
    --------
    >>> number(0.8434), number(-41.234), number(None), number(0.00012)
    ('0.843', '−41.2', 'n/a', '0.00012')
    """
    if value is None or not isinstance(value, int | float) or not math.isfinite(value):
        return "n/a"
    return plain_number(value).replace("-", "−")


def value(one: float) -> str:
    """A value of a column: whole where it is whole.

    Examples
    --------
    >>> value(72.0), value(-1234.0), value(20.65)
    ('72', '−1,234', '20.6')
    """
    if math.isfinite(one) and one == int(one) and abs(one) < 1e15:
        return f"{int(one):,}".replace("-", "−")
    return number(one)


def aligned(values: Sequence[float | None]) -> list[str]:
    """Figures of one column with equally many decimals, three digits for the largest; "" for none.

    Examples
    --------
    >>> aligned([0.2158, 0.00075, None]), aligned([1834.2, 12.5])
    (['0.216', '0.001', ''], ['1,834', '12'])
    """
    most = max((abs(one) for one in values if one is not None), default=0.0)
    digits = 3 if most <= 0 else min(max(3 - math.ceil(math.log10(most) + 1e-9), 0), 6)
    return ["" if one is None else f"{one:,.{digits}f}".replace("-", "−") for one in values]


def capital(text: str) -> str:
    """A text as a sentence begins; the rest stays as it is."""
    return text[:1].upper() + text[1:]


def percent(share: float) -> str:
    """A share with one decimal, its sign on the same line: "26.6 %"."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def interval(shown: Shown) -> str:
    """The interval of a figure, "" where the rows do not bound it on both sides."""
    if shown.get("low") is None or shown.get("high") is None:
        return ""
    return f"[{number(shown['low'])}, {number(shown['high'])}]"


def primary_first(metrics: Mapping[str, Any], primary: str) -> list[tuple[str, Any]]:
    """Figures by scorer with the primary one first, the others by name.

    Examples
    --------
    >>> primary_first({"a": 1, "b": 2, "c": 3}, "b")
    [('b', 2), ('a', 1), ('c', 3)]
    """
    return sorted(metrics.items(), key=lambda item: (item[0] != primary, item[0]))


def span_of(shown: Iterable[Shown], *guides: float | None) -> tuple[float, float]:
    """A range that holds every figure with its interval."""
    values = [one.get(part) for one in shown for part in ("low", "value", "high")]
    return padded([value for value in (*values, *guides) if value is not None])


def cell(shown: Shown | None, span: tuple[float, float], guide: float | None = None, style: str = "main") -> Any:
    """A figure for a table: its number, its interval, and both drawn on the row's scale."""
    if shown is None:
        return None
    bar = range_bar(shown.get("low"), shown.get("value"), shown.get("high"), span, guide, style)
    return {"value": number(shown.get("value")), "interval": interval(shown), "bar": Markup(bar)}  # noqa: S704  our own


def held_out(comparison: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Figures on the held-out rows: this version, the champion of then, the baseline."""
    metrics: Mapping[str, Any] = comparison.get("metrics") or {}
    if not metrics:
        return None
    who = [one for one in ("challenger", "champion", "baseline") if any(one in row for row in metrics.values())]
    titles = {"challenger": name, "champion": str(comparison.get("against") or "champion"), "baseline": "baseline"}
    rows = []
    for _, figures in primary_first(metrics, str(comparison.get("primary"))):
        shown = {one: figures[one]["shown"] for one in who if one in figures}
        span = span_of(shown.values())
        guide = shown.get("baseline", {}).get("value")
        first = shown.get("challenger", {})
        cells = [cell(shown.get(one), span, guide, "main" if one == "challenger" else "other") for one in who]
        rows.append({"name": first.get("name", ""), "lower": bool(first.get("lower_is_better")), "cells": cells})
    return {"titles": [titles[one] for one in who], "rows": rows, "n": comparison.get("n_rows", 0)}


def cross_validated(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Figures on training rows by cross-validation, each with the baseline and what every fold gave."""
    rows = []
    for key, figure in primary_first(metrics.get("metrics") or {}, str(metrics.get("primary"))):
        shown, baseline = figure["shown"], figure.get("baseline_shown")
        sign = -1 if shown["lower_is_better"] else 1
        folds = [fold["metrics"].get(key) for fold in metrics.get("folds") or ()]
        rows.append(
            {
                "name": shown["name"],
                "lower": shown["lower_is_better"],
                "cell": cell(shown, span_of([shown], baseline), baseline),
                "baseline": number(baseline),
                "folds": " · ".join(number(None if value is None else sign * value) for value in folds),
                "method": figure.get("method", ""),
            }
        )
    return rows


def slices(metrics: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, Any] | None:
    """The primary metric by slice, the worst first; slices of few rows last, since nothing follows from them."""
    found = list(metrics.get("slices") or ())
    if not found:
        return None
    held = {(one["column"], one["label"]): one for one in comparison.get("slices") or ()}
    judged = [one for one in found if not one["small"]]
    both = [*judged, *(one for one in held.values() if not one["small"])]
    whole = (metrics["metrics"].get(metrics["primary"]) or {}).get("shown", {})
    over = (comparison.get("metrics") or {}).get(metrics["primary"], {}).get("challenger", {}).get("shown", {})
    span = span_of([one["shown"] for one in both], whole.get("value"), over.get("value"))
    rows = []
    for one in [*judged, *(one for one in found if one["small"])]:
        other = held.get((one["column"], one["label"]))
        rows.append(
            {
                "label": one["label"],
                "n": one["n"],
                "small": one["small"],
                "cell": cell(one["shown"], span, whole.get("value"), "faint" if one["small"] else "main"),
                "n_held": other["n"] if other else None,
                "held": _held_slice(other, span, over.get("value")),
            }
        )
    name = whole.get("name", metrics["primary"])
    more = max(len(rows) - MAX_SLICES, 0)
    lower = bool(whole.get("lower_is_better"))
    return {"rows": rows[:MAX_SLICES], "more": more, "metric": name, "lower": lower, "any_held": bool(held)}


def _held_slice(one: Mapping[str, Any] | None, span: tuple[float, float], guide: float | None) -> Any:
    return cell(one["shown"], span, guide, "faint" if one["small"] else "other") if one else None


def confusion(metrics: Mapping[str, Any], threshold: Mapping[str, Any]) -> dict[str, Any] | None:
    """Rows by true and predicted class: the matrix, or the commonest confusions where there are many classes.

    Where a threshold is in use, at that threshold.
    """
    found = threshold.get("confusion") or metrics.get("confusion")
    if not found or not found["classes"]:
        return None
    names, counts = [str(one) for one in found["classes"]], found["counts"]
    truths, said = [sum(row) for row in counts], [sum(column) for column in zip(*counts, strict=True)]
    view: dict[str, Any] = {
        "at": number(threshold["threshold"]) if threshold.get("confusion") else "",
        "sentence": _sentence(metrics, found, truths, said),
        "classes": [
            {
                "name": name,
                "n": truths[i],
                "recall": percent(counts[i][i] / truths[i]) if truths[i] else "n/a",
                "precision": percent(counts[i][i] / said[i]) if said[i] else "n/a",
            }
            for i, name in enumerate(names)
        ],
    }
    if len(names) <= MAX_CLASSES:
        view["matrix"] = [[_share(n, truths[i], i == j) for j, n in enumerate(row)] for i, row in enumerate(counts)]
    else:
        view["matrix"], view["pairs"] = None, _pairs(names, counts, truths)
        view["classes"] = sorted(view["classes"], key=lambda one: -one["n"])[:MAX_CONFUSIONS]
        view["n_classes"] = len(names)
    return view


def _share(n: int, total: int, right: bool) -> dict[str, Any]:
    share = n / total if total else 0.0
    return {"n": n, "share": percent(share), "depth": round(share, 3), "right": right}


def _pairs(names: Sequence[str], counts: Sequence[Sequence[int]], truths: Sequence[int]) -> list[dict[str, Any]]:
    wrong = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if i != j and n]
    wrong.sort(key=lambda one: (-one[0], one[1], one[2]))
    return [
        {"truth": names[i], "said": names[j], "n": n, "share": percent(n / truths[i])}
        for n, i, j in wrong[:MAX_CONFUSIONS]
    ]


def _sentence(metrics: Mapping[str, Any], found: Mapping[str, Any], truths: list[int], said: list[int]) -> str:
    """What the matrix says in a sentence: of the positives for two classes, of all rows for more."""
    counts = found["counts"]
    if metrics.get("task") == "binary" and metrics.get("positive") in found["classes"]:
        at = found["classes"].index(metrics["positive"])
        hits, word = counts[at][at], metrics["positive"]
        parts = []
        if truths[at]:
            parts.append(f"of {truths[at]:,} rows that are {word}, {hits:,} are found ({percent(hits / truths[at])})")
        if said[at]:
            parts.append(f"of {said[at]:,} called {word}, {hits:,} are right ({percent(hits / said[at])})")
        return capital("; ".join(parts)) + "." if parts else ""
    right = sum(counts[i][i] for i in range(len(counts)))
    total = sum(truths)
    return f"Of {total:,} rows {right:,} get the right class ({percent(right / total)})." if total else ""


def importance(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """How much worse the primary metric gets without a column's information, the greatest loss first."""
    found = list(metrics.get("importance") or ())
    if not found:
        return None
    telling = [one for one in found if one["drop"] > 0 and not _useless(one)]
    rest = [one["column"] for one in found if one["drop"] <= 0 or _useless(one)]
    shown = [one for one in telling if one["drop"] >= LITTLE * telling[0]["drop"]][:MAX_IMPORTANT]
    ends = [end for one in shown for end in (one["low"], one["drop"], one["high"]) if end is not None]
    span = (0.0, max(ends, default=1.0))
    every = aligned([one[part] for part in ("drop", "low", "high") for one in shown])
    texts = (every[: len(shown)], every[len(shown) : 2 * len(shown)], every[2 * len(shown) :])
    rows = [
        {
            "column": one["column"],
            "drop": drop,
            "range": "" if one["low"] is None else f"[{low}, {high}]",
            "bar": Markup(range_bar(one["low"], one["drop"], one["high"], span)),  # noqa: S704  our own drawing
        }
        for one, drop, low, high in zip(shown, *texts, strict=True)
    ]
    figure = (metrics["metrics"].get(metrics["primary"]) or {}).get("shown", {})
    return {
        "rows": rows,
        "more": len(found) - len(shown) - len(rest),
        "rest": rest,
        "metric": figure.get("name", metrics["primary"]),
        "verb": "rises" if figure.get("lower_is_better") else "falls",
    }


def _useless(one: Shown) -> bool:
    """Whether a column's loss is not told from none by these rows."""
    return one["low"] is not None and one["low"] <= 0


def levels(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Partial dependence of categories: a row for each level, drawn on one scale."""
    told = []
    for one in found:
        if one["kind"] == "numeric":
            continue
        first = one["lines"][0]
        span = padded([value for line in one["lines"] for value in (*line["low"], *line["high"])])
        rows = [
            {
                "level": level,
                "n": one["rows"][i],
                "mean": number(first["mean"][i]),
                "others": [number(line["mean"][i]) for line in one["lines"][1:]],
                "bar": Markup(range_bar(first["low"][i], first["mean"][i], first["high"][i], span)),  # noqa: S704  ours
            }
            for i, level in enumerate(one["at"])
        ]
        names = [line["name"] for line in one["lines"]]
        told.append({"column": one["column"], "of": one["of"], "names": names, "rows": rows})
    return told


def worst_rows(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The rows with the greatest loss, out of fold, with the columns that matter most."""
    found = list(metrics.get("worst_rows") or ())
    if not found:
        return None
    known = {name for one in found for part in ("values", "rare", "redacted") for name in one.get(part) or ()}
    first = [one["column"] for one in metrics.get("importance") or ()]
    columns = [*(name for name in first if name in known), *sorted(known - set(first))]
    rows = [
        {
            "row": f"{one['row']:,}",
            "truth": _cell(one["y_true"]),
            "said": _cell(one["predicted"]) + (f" ({number(one['score'])})" if one.get("score") is not None else ""),
            "loss": number(one["loss"]),
            "cells": [_shown_cell(one, name) for name in columns],
        }
        for one in found
    ]
    return {"rows": rows, "columns": columns, "rare": any(one.get("rare") for one in found)}


def _shown_cell(one: Mapping[str, Any], name: str) -> str:
    if name in (one.get("redacted") or ()):
        return "redacted"
    if name in (one.get("rare") or ()):
        return "(rare)"
    value = (one.get("values") or {}).get(name)
    return "–" if value is None else _cell(value)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{int(value):,}" if value.is_integer() and abs(value) < 1e15 else number(value)


def candidates(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The leaderboard of several candidates, the best first."""
    board = list(metrics.get("candidates") or ())
    if len(board) < 2:
        return None
    span = span_of([one["shown"] for one in board])
    rows = [
        {
            "name": one["name"],
            "chosen": one["chosen"],
            "cell": cell(one["shown"], span, None, "main" if one["chosen"] else "other"),
            "behind": one["behind"]["text"] if one["behind"] else "",
        }
        for one in board[:MAX_CANDIDATES]
    ]
    shown = board[0]["shown"]
    more = max(len(board) - MAX_CANDIDATES, 0)
    return {"rows": rows, "more": more, "why": capital(str(metrics.get("why", ""))), "metric": shown["name"]}


def search(trained: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a search tried, the best first, with the parameters that differ among its candidates."""
    tried = trained.get("search") or {}
    found = tried.get("candidates") or ()
    if not found:
        return None
    names = sorted({name for one in found for name in one["params"]})
    names = [name for name in names if len({one["params"].get(name) for one in found}) > 1 or len(found) == 1]
    rows = [
        {
            "rank": one["rank"],
            "params": [one["params"].get(name, "–") for name in names[:MAX_PARAMETERS]],
            "score": number(score_shown(tried, one["score"])),
            "std": "" if one["std"] is None else f"± {number(one['std'])}",
        }
        for one in found[:MAX_SEARCHED]
    ]
    shown = names[:MAX_PARAMETERS]
    more = max(tried.get("n_candidates", len(found)) - MAX_SEARCHED, 0)
    by = scored_by(tried) or "its own score"
    told = {"by": by, "better": "lower" if is_loss(tried) else "higher"}
    return {"names": shown, "rows": rows, "more": more, "left": len(names) - len(shown), **told}
