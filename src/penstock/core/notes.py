"""Facts and figures that a running step logs. They go with the step's run, never into an artifact."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from penstock.errors import StepOutputError

MOST_BYTES = 8 << 20
"""Of one figure; a page that carries its own plotting library is smaller."""
MOST_FIGURES = 20
"""Of one step."""
MOST_NOTED = 1 << 20
"""Bytes as JSON of all facts of one step: they stand in one row of the ledger."""
FIGURES = "figures"
"""Under which name a step's notes tell of its figures."""


class Picture(NamedTuple):
    """A figure as bytes; `kind` is "png", "svg" or "html"."""

    kind: str
    data: bytes


_noted: dict[str, Any] = {}
_pictures: dict[str, Picture] = {}
_running: list[bool] = [False]


def note(**facts: Any) -> None:
    """Record facts of the step that runs now; outside a run this does nothing lasting.

    Parameters
    ----------
    facts : JSON values
        A later value for a name replaces the earlier one.

    Examples
    --------
    >>> note(rows_in=10, rows_out=9)
    >>> take()
    {'rows_in': 10, 'rows_out': 9}
    """
    _noted.update(facts)


def log(**values: Any) -> None:
    """Keep facts and figures with the run of the step that runs now: `ps.log(rows=len(table), costs=figure)`.

    Outside a run nothing is kept, so a step can be called and tested as the function that it is.

    Parameters
    ----------
    values
        Numbers, texts and other plain JSON values, of NumPy too; matplotlib figures and axes (kept as PNG), plotly
        figures (as HTML), and the bytes or text of a PNG, SVG or HTML file. A later value for a name replaces the
        earlier one.

    Raises
    ------
    StepOutputError
        A figure is larger than 8 MiB, or there are more than 20; or a fact is called "figures". A step whose facts
        are larger than 1 MiB together fails with it when it ends.

    Examples
    --------
    >>> _ = take(), take_pictures()
    >>> log(rows=3, curve="<svg xmlns='http://www.w3.org/2000/svg'/>")
    >>> take(), take_pictures()
    ({'rows': 3}, {})
    """
    if FIGURES in values:
        raise StepOutputError(f"log: {FIGURES!r} is taken", hint="give it another name")
    for name, value in values.items():
        if not _is_picture(value):
            _pictures.pop(name, None)
            note(**{name: _plain(value)})
        elif _running[0]:
            _pictures[name] = _bounded(name, _drawn(value))
            _noted.pop(name, None)


def begin() -> None:
    """A step begins in this process: nothing noted before is its own, and from here on figures are kept."""
    _noted.clear()
    _pictures.clear()
    _running[0] = True


def take() -> dict[str, Any]:
    """What was noted since the last call; the worker asks after each step."""
    taken = dict(_noted)
    _noted.clear()
    return taken


def take_pictures() -> dict[str, Picture]:
    """The figures since the last call."""
    taken = dict(_pictures)
    _pictures.clear()
    return taken


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's own."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value


def _is_picture(value: Any) -> bool:
    if isinstance(value, bytes | str):
        return bool(_kind_of(value))
    return callable(getattr(_figure(value), "savefig", None)) or _is_plotly(value)


def _figure(value: Any) -> Any:
    """The figure that something belongs to: axes know theirs."""
    return value if hasattr(value, "savefig") else getattr(value, "figure", None)


def _is_plotly(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "plotly" and hasattr(value, "to_html")


def _kind_of(data: bytes | str) -> str:
    """What a file's bytes or text are, by how they begin; "" for anything else."""
    if isinstance(data, bytes) and data.startswith(b"\x89PNG\r\n"):
        return "png"
    head = data[:1_000]
    text = (head.decode("utf-8", "replace") if isinstance(head, bytes) else head).lstrip("\ufeff \t\r\n").lower()
    if text.startswith("<svg") or (text.startswith("<?xml") and "<svg" in text):
        return "svg"
    return "html" if text.startswith(("<!doctype html", "<html")) else ""


def _drawn(value: Any) -> Picture:
    """A figure as the bytes of a file."""
    if isinstance(value, bytes | str):
        return Picture(_kind_of(value), value if isinstance(value, bytes) else value.encode("utf-8", "replace"))
    if _is_plotly(value):
        return Picture("html", value.to_html(include_plotlyjs=True).encode("utf-8"))
    buffer = io.BytesIO()
    # Without the library's name and version an equal figure has equal bytes.
    _figure(value).savefig(buffer, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
    return Picture("png", buffer.getvalue())


def _bounded(name: str, picture: Picture) -> Picture:
    if len(picture.data) > MOST_BYTES:
        size = f"{len(picture.data) / 2**20:.1f} MiB"
        raise StepOutputError(f"log: figure {name!r} has {size}; at most {MOST_BYTES >> 20} are kept", hint="draw less")
    if len(_pictures) >= MOST_FIGURES and name not in _pictures:
        raise StepOutputError(f"log: more than {MOST_FIGURES} figures", hint="keep those that say something")
    return picture
