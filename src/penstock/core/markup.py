"""Small pieces of HTML for notebooks: escaped, without a script, readable on light and dark pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

MOST_TEXT = 600
"""No text of a cell is longer than this many characters."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_STYLE = (
    ".penstock{--good:#1a7f37;--bad:#cf222e;--warn:#9a6700;--line:rgba(128,128,128,.28);max-width:62rem;"
    "font:13px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;color:inherit;text-align:left}"
    "@media(prefers-color-scheme:dark){.penstock{--good:#3fb950;--bad:#ff7b72;--warn:#d29922}}"
    "[data-jp-theme-light=true] .penstock,.vscode-light .penstock{--good:#1a7f37;--bad:#cf222e;--warn:#9a6700}"
    "[data-jp-theme-light=false] .penstock,.vscode-dark .penstock{--good:#3fb950;--bad:#ff7b72;--warn:#d29922}"
    ".penstock table{border-collapse:collapse;width:auto;max-width:100%;margin:.35em 0 .5em;"
    "font-size:inherit;color:inherit;border:0}"
    ".penstock tr{background:none!important;border-top:1px solid var(--line)}"
    ".penstock thead tr{border-top:0}"
    ".penstock th,.penstock td{padding:.2em .9em .2em 0;vertical-align:top;text-align:left;border:0;"
    "overflow-wrap:anywhere;white-space:normal}"
    ".penstock thead th{font-weight:400;opacity:.72}"
    ".penstock tbody th,.penstock .w{white-space:nowrap}.penstock tbody th{font-weight:600}"
    ".penstock .n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".penstock .m{width:1.2em;padding-right:.5em;font-weight:700}"
    ".penstock .good{color:var(--good)}.penstock .bad{color:var(--bad)}.penstock .warn{color:var(--warn)}"
    ".penstock .faint{opacity:.72}.penstock .head{font-weight:600;font-size:1.08em}"
    ".penstock p{margin:.2em 0}"
    ".penstock code{font:12px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:none;color:inherit;"
    "padding:0;overflow-wrap:anywhere}"
)


def safe(value: object, most: int = MOST_TEXT) -> str:
    """A text from outside for HTML: bounded, escaped, without characters that steer a page or a terminal.

    Examples
    --------
    >>> safe("<b>1 & 2</b>")
    '&lt;b&gt;1 &amp; 2&lt;/b&gt;'
    """
    text = _CONTROL.sub("\ufffd", str(value))
    return escape(text if len(text) <= most else f"{text[: most - 1]}…")


def tag(name: str, text: str, style: str = "") -> str:
    """An element around a text that is HTML already.

    Examples
    --------
    >>> tag("p", "done", "good")
    '<p class="good">done</p>'
    """
    kind = f' class="{style}"' if style else ""
    return f"<{name}{kind}>{text}</{name}>"


def table(rows: Iterable[Sequence[str]], styles: Sequence[str], header: Sequence[str] = ()) -> str:
    """A table of cells that are HTML already.

    Parameters
    ----------
    rows : iterable of sequence of str
    styles : sequence of str
        For each column its class: "" plain, "n" a number, "m" a mark, "w" a word, "th" what a row is about.
    header : sequence of str

    Examples
    --------
    >>> table([("C", "1.0")], ("th", "n"))
    '<table><tbody><tr><th>C</th><td class="n">1.0</td></tr></tbody></table>'
    """

    def cell(text: str, style: str) -> str:
        return tag("th", text) if style == "th" else tag("td", text, style)

    body = "".join(
        tag("tr", "".join(cell(text, style) for text, style in zip(row, styles, strict=True))) for row in rows
    )
    head = "".join(tag("th", text, style if style == "n" else "") for text, style in zip(header, styles, strict=False))
    return tag("table", (tag("thead", tag("tr", head)) if header else "") + tag("tbody", body))


def block(*parts: str) -> str:
    """Everything of one value, with the one style that all share."""
    return f'<div class="penstock"><style>{_STYLE}</style>{"".join(parts)}</div>'
