"""Figures that the steps behind a version or a try logged, as a report shows them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from penstock.core.notes import FIGURES
from penstock.core.ports import Home
from penstock.core.run import Result
from penstock.errors import CorruptObjectError, MissingObjectError

MOST = 12
"""Figures that a page shows; the others are named."""
MOST_BYTES = 3 << 20
"""Of all figures on a page together: it is one file, and it is mailed."""
TYPES = {"png": "png", "svg": "svg+xml"}
"""Kinds that stand on a page. HTML draws itself by a script, and a report runs none."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure that a step logged.

    Attributes
    ----------
    step, name, kind : str
    size : int
        Bytes.
    data : bytes or None
        None where it does not stand on the page; `why` then says why.
    why : str
    """

    step: str
    name: str
    kind: str
    size: int
    data: bytes | None = None
    why: str = ""

    def hidden(self, why: str) -> Picture:
        """The same without its bytes."""
        return replace(self, data=None, why=why)

    def shown(self) -> dict[str, Any]:
        """What the template needs: bytes as an address, which a browser shows as an image and never runs."""
        source = ""
        if self.data is not None:
            source = f"data:image/{TYPES[self.kind]};base64,{base64.b64encode(self.data).decode('ascii')}"
        return {
            "step": self.step,
            "name": self.name,
            "source": Markup(source),  # noqa: S704  the alphabet of base64 holds no markup
            "about": f"{self.kind}, {max(self.size // 1024, 1):,} kB",
            "why": self.why,
        }


def pictures(home: Home, results: Mapping[str, Result]) -> tuple[Picture, ...]:
    """The figures that these steps logged when they ran, in the order of the steps.

    Parameters
    ----------
    home : Home
    results : dict
        Step → its result, which names the run that made it.
    """
    makers = {
        step: (str(result.made.get("run", "")), str(result.made.get("step", step))) for step, result in results.items()
    }
    told: dict[tuple[str, str], Mapping[str, Any]] = {}
    for run in dict.fromkeys(run for run, _ in makers.values() if run):
        for row in home.ledger.step_runs(run):
            if isinstance(kept := row.notes.get(FIGURES), Mapping):
                told[run, row.step] = kept
    found: list[Picture] = []
    left, room = MOST, MOST_BYTES
    for step, maker in makers.items():
        for name, one in told.get(maker, {}).items():
            picture = _read(home, Picture(step, name, one["kind"], one["size"]), one["digest"], left, room)
            found.append(picture)
            left, room = left - (picture.data is not None), room - len(picture.data or b"")
    return tuple(found)


def _read(home: Home, picture: Picture, digest: str, left: int, room: int) -> Picture:
    """The figure with its bytes, or why it is only named."""
    if picture.kind not in TYPES:
        return picture.hidden("drawn by a script, and this file runs none")
    if not left or picture.size > room:
        return picture.hidden("left out, to keep this file small")
    try:
        return replace(picture, data=home.objects.read(digest))
    except (MissingObjectError, CorruptObjectError):
        return picture.hidden("not kept any more")
