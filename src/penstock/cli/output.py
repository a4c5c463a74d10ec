"""Writing for people and for programs: lines, columns, colours where they are wanted, one JSON document."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from penstock.core.units import duration, moment, size_text

__all__ = [
    "clean",
    "clip",
    "columns",
    "document",
    "duration",
    "harmless",
    "is_terminal",
    "moment",
    "paint",
    "say",
    "size_text",
    "width",
]

_COLOURS = {"green": "32", "red": "31", "yellow": "33", "dim": "2", "bold": "1"}
_CONTROL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), "�")
"""Control characters but tab, line feed and carriage return: data must not steer a terminal."""


def say(text: str = "", *, err: bool = False, end: str = "\n") -> None:
    """Print a text; a reader that has gone is no error of the verb's.

    Parameters
    ----------
    text : str
        Colours come from `paint`; other control characters are replaced.
    err : bool, default=False
        To standard error.
    """
    stream = sys.stderr if err else sys.stdout
    try:
        stream.write(text + end)
        if err:
            stream.flush()
    except BrokenPipeError:
        _drop(stream)


def _drop(stream: Any) -> None:
    """Send what is still to be written nowhere, so that the verb goes on to its own end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def clean(text: str) -> str:
    """A text from outside, made harmless for a terminal and one line long.

    Examples
    --------
    >>> clean("a" + chr(27) + "[31mb" + chr(10) + "c")
    'a�[31mb c'
    """
    return harmless(text).replace("\n", " ")


def harmless(text: str) -> str:
    """A text of several lines from outside, without characters that steer a terminal."""
    return text.translate(_CONTROL).replace("\r", " ")


def document(value: Any) -> None:
    """Print one JSON document, and nothing else."""
    import json

    say(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def is_terminal(*, err: bool = False) -> bool:
    """Whether a person is looking."""
    stream = sys.stderr if err else sys.stdout
    try:
        return stream.isatty()
    except ValueError:
        return False


def width() -> int:
    """Columns of the terminal; unbounded where output goes elsewhere."""
    if not is_terminal():
        return 1 << 20
    import shutil

    return max(shutil.get_terminal_size().columns, 40)


def paint(text: str, colour: str) -> str:
    """A text in a colour, on a terminal that has not said `NO_COLOR`."""
    if not is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def clip(text: str, room: int) -> str:
    """Cut a text of parts joined by " · " to a number of columns, at a joint where one is near.

    Examples
    --------
    >>> clip("train 80 · test 20 · by key", 22)
    'train 80 · test 20 · …'
    >>> clip("a long sentence without joints", 12)
    'a long sent…'
    """
    if len(text) <= room:
        return text
    head = text[: max(room - 4, 1)]
    joint = text.rfind(" · ", 0, max(room - 1, 1))
    if joint >= len(head) // 2:
        return text[:joint] + " · …"
    return text[: max(room - 1, 1)].rstrip(" ·") + "…"


def wrapped(text: str, room: int, indent: str) -> str:
    """A text in lines of a number of columns, all but the first indented.

    Examples
    --------
    >>> print(wrapped("why it was chosen", 8, "  "))
    why it
      was
      chosen
    """
    import textwrap

    return "\n".join(textwrap.wrap(text, room, subsequent_indent=indent)) or text


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Rows as lines of aligned columns; the last column is clipped at the terminal's edge.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequence of str
    right : sequence of int
        Columns that are aligned to the right.

    Examples
    --------
    >>> columns(["run", "s"], [["3f9c", "12.0"], ["a", "0.1"]], right=[1])
    ['run      s', '3f9c  12.0', 'a      0.1']
    """
    cells = [[clean(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    edge = width()
    lines = []
    for row in cells:
        parts = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append(clip("  ".join(parts).rstrip(), edge))
    return lines
