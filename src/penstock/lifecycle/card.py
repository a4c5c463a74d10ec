"""The card of a version: the facts of its report in short, as CommonMark with tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from penstock.lifecycle.charts import harmless

MAX_TEXT = 300
MAX_ROWS = 12
_SPECIAL = re.compile(r"([\\`*_\[\]|~#!])")
_FIRST = re.compile(r"^([-+=]|\d+(?=[.)]))")
_LINK = re.compile(r"(?i)\b(https?|ftp|www)(?=[:.])")

Rows = Iterable[Sequence[Any]]


def card(page: Mapping[str, Any]) -> str:
    """The card as text. It names no people and no machine.

    Parameters
    ----------
    page : dict
        As `report.page` makes it.
    """
    parts = [
        f"# {plain(page['name'])}: {plain(page['standing']['word'])}",
        plain(page["standing"]["sentence"])
        + (f". {plain(page['standing']['why'])}" if page["standing"]["why"] else "."),
        f"Note: {plain(page['note'])}" if page["note"] else "",
        *_verdict(page),
        *_figures(page),
        *_answers(page),
        *_slices(page),
        *_columns(page),
        *_audit(page),
        *_data(page),
        *_candidates(page),
        *_lineage(page),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(value: Any) -> str:
    r"""A text as Markdown shows it: nothing in it is markup, a link, a table's border or a line of its own.

    Examples
    --------
    >>> plain("a|b *c* <i>"), plain("- no list"), plain("[x](javascript:y)")
    ('a\\|b \\*c\\* &lt;i&gt;', '\\- no list', '\\[x\\](javascript:y)')
    """
    text = " ".join(harmless(str(value), MAX_TEXT).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _FIRST.sub(_escaped_first, _SPECIAL.sub(r"\\\1", text))
    return _LINK.sub(lambda found: f"{found[1][0]}&#{ord(found[1][1])};{found[1][2:]}", text).replace("@", "&#64;")


def _escaped_first(found: re.Match[str]) -> str:
    """What would begin a list or underline a heading, told as text."""
    return f"\\{found[1]}" if not found[1].isdigit() else f"&#{ord(found[1][0])};{found[1][1:]}"


def code(value: Any) -> str:
    """A text as a code span, which holds no fence of its own.

    Examples
    --------
    >>> code("penstock show churn@7"), code("a`b")
    ('`penstock show churn@7`', "`a'b`")
    """
    text = " ".join(harmless(str(value), MAX_TEXT).split()).replace("`", "'").replace("|", "\N{BROKEN BAR}")
    return f"`{text}`" if text else ""


def table(head: Sequence[str], rows: Rows, right: Iterable[int] = ()) -> str:
    """A table; cells are Markdown already."""
    aligned = set(right)
    lines = [
        f"| {' | '.join(head)} |",
        "|" + "|".join("---:" if i in aligned else "---" for i in range(len(head))) + "|",
        *(f"| {' | '.join(str(one) for one in row)} |" for row in rows),
    ]
    return "\n".join(lines) if len(lines) > 2 else ""


def _section(title: str, *parts: str) -> list[str]:
    told = [part for part in parts if part]
    return [f"## {title}", *told] if told else []


def _bullets(texts: Iterable[str]) -> str:
    return "\n".join(f"- {text}" for text in texts if text)


def _verdict(page: Mapping[str, Any]) -> list[str]:
    rules = [f"{rule['mark']} {plain(rule['text'])} ({code(rule['rule'])})" for rule in page["rules"]]
    told = " ".join(plain(sentence) for sentence in (*page["compared"], *page["served"]))
    return _section("Verdict", told, _bullets(rules), _bullets(plain(one) for one in page["remarks"]))


def _cell(one: Mapping[str, Any] | None) -> str:
    return "–" if one is None else f"{one['value']} {plain(one['interval'])}".strip()


def _name(row: Mapping[str, Any]) -> str:
    return plain(row["name"]) + (" (lower is better)" if row["lower"] else "")


def _figures(page: Mapping[str, Any]) -> list[str]:
    held, crossed = page["held_out"], page["cross_validated"]
    first = ""
    if held:
        head = ["metric", *(plain(title) for title in held["titles"])]
        rows = [[_name(row), *(_cell(one) for one in row["cells"])] for row in held["rows"]]
        first = f"On {held['n']:,} held-out rows, with 95 % intervals:\n\n{table(head, rows, range(1, len(head)))}"
    head = ["metric", "this model", "baseline"]
    rows = [[_name(row), _cell(row["cell"]), row["baseline"]] for row in crossed]
    second = table(head, rows, (1, 2))
    return _section("Figures", first, f"{plain(page['scope'])}:\n\n{second}" if second else "")


def _answers(page: Mapping[str, Any]) -> list[str]:
    confusion, threshold = page["confusion"], page["threshold"]
    readings = [f"{one['title']}: {plain(one['reading'])}" for one in page["plots"]]
    told = [f"Threshold {threshold['threshold']}, by the rule {plain(threshold['rule'])}."] if threshold else []
    matrix = ""
    if confusion and confusion["matrix"]:
        names = [plain(one["name"]) for one in confusion["classes"]]
        rows = [[names[i], *(f"{one['n']:,}" for one in row)] for i, row in enumerate(confusion["matrix"])]
        matrix = table(["true, by predicted", *names], rows, range(1, len(names) + 1))
    return _section(
        "How it answers", *told, _bullets(readings), plain(confusion["sentence"]) if confusion else "", matrix
    )


def _more(n: int) -> str:
    return f"{n:,} more are not shown." if n > 0 else ""


def _slices(page: Mapping[str, Any]) -> list[str]:
    found = page["slices"]
    if not found:
        return []
    rows = [
        [
            plain(row["label"]) + (" (too few rows to judge)" if row["small"] else ""),
            f"{row['n']:,}",
            _cell(row["cell"]),
        ]
        for row in found["rows"][:MAX_ROWS]
    ]
    head = ["slice, the worst first", "rows", plain(found["metric"])]
    return _section("Slices", table(head, rows, (1, 2)), _more(len(found["rows"]) - MAX_ROWS + found["more"]))


def _columns(page: Mapping[str, Any]) -> list[str]:
    found = page["importance"]
    if not found:
        return []
    rows = [[plain(row["column"]), row["drop"], row["range"]] for row in found["rows"]]
    head = ["column", f"{plain(found['metric'])} {found['verb']} by", "95 % interval"]
    rest = ", ".join(plain(name) for name in found["rest"][:MAX_ROWS])
    left = f", and {len(found['rest']) - MAX_ROWS:,} more" if len(found["rest"]) > MAX_ROWS else ""
    useless = f"Not told from useless columns: {rest}{left}." if rest else ""
    return _section("What it goes by", table(head, rows, (1, 2)), useless)


def _audit(page: Mapping[str, Any]) -> list[str]:
    found = page["audit"]
    if not found:
        return []
    findings = [f"{one['grade']}: {plain(one['what'])}" for one in found["findings"][:MAX_ROWS]]
    more = _more(len(found["findings"]) - MAX_ROWS + found["more"])
    left = [f"{plain(one['what'])} ({plain(one['why'])})" for one in found["not_tried"][:MAX_ROWS]]
    not_tried = "Not tried: " + "; ".join(left) + "." if left else ""
    return _section("Audit", plain(found["summary"]) + ".", _bullets(findings), more, not_tried)


def _data(page: Mapping[str, Any]) -> list[str]:
    found = page["data"]
    told = _bullets(f"{one['stage']}: {plain(one['text'])}" for one in found["told"])
    notes = _bullets(plain(note) for note in found["notes"][:MAX_ROWS])
    moved = ""
    if found["moved"]:
        marked = [one for one in found["moved"]["rows"] if one["marked"]]
        names = ", ".join(f"{plain(one['column'])} ({one['distance']:.2f})" for one in marked) or "none"
        moved = f"Columns that moved since {plain(found['moved']['since'])}, with their distance: {names}."
    hidden = (
        f"Values of {', '.join(plain(name) for name in page['redacted'])} are redacted." if page["redacted"] else ""
    )
    logged = ", ".join(f"{plain(one['name'])} of {plain(one['step'])}" for one in page["logged"])
    figures = f"Figures that its steps logged, on the page: {logged}." if logged else ""
    return _section("Data", told, notes, moved, figures, hidden)


def _candidates(page: Mapping[str, Any]) -> list[str]:
    found = page["candidates"]
    if not found:
        return []
    rows = [[plain(row["name"]), _cell(row["cell"]), plain(row["behind"] or "chosen")] for row in found["rows"]]
    head = ["candidate", plain(found["metric"]), "the chosen one beside it"]
    return _section("Candidates", table(head, rows, (1,)), f"{plain(found['why'])}.", _more(found["more"]))


def _lineage(page: Mapping[str, Any]) -> list[str]:
    found, libraries = page["lineage"], page["environment"]["libraries"]
    commit = found["commit"]
    told = [
        f"declared in {code(found['file'])}" + (f" at commit {code(commit[:12])}" if commit else "")
        if found["file"]
        else "",
        "with changes that were not committed" if found["dirty"] else "",
        *(f"source {code(one['file'])} {code(one['digest'])}" for one in found["sources"]),
        f"bundle {code(found['bundle'])}" if found["bundle"] else "",
        "with " + ", ".join(f"{plain(one['name'])} {plain(one['version'])}" for one in libraries) if libraries else "",
    ]
    next_ = [f"{code(one['line'])}: {plain(one['note'])}" for one in page["commands"]]
    return [*_section("Lineage", _bullets(told)), *_section("Next", _bullets(next_))]
