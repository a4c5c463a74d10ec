"""What a notebook shows as it was drawn: reports and figures, each where nothing of the notebook can be reached."""

from __future__ import annotations

import base64
import html
import os
from dataclasses import dataclass

_FRAME = "width:100%;height:60vh;border:1px solid rgba(128,128,128,.4)"


class Page(str):
    """A report's HTML; a notebook shows it in a frame of its own, in which no script runs."""

    __slots__ = ()

    def save(self, path: str) -> str:
        """Write it to a file; give its absolute path.

        Raises
        ------
        OSError
        """
        with open(path, "w", encoding="utf-8") as file:
            file.write(str(self))
        return os.path.abspath(path)

    def __repr__(self) -> str:
        return f"<report, {len(self):,} characters of HTML>"

    def _repr_html_(self) -> str:
        return f'<iframe sandbox="" title="report" style="{_FRAME}" srcdoc="{html.escape(str(self))}"></iframe>'


@dataclass(frozen=True, repr=False)
class Figure:
    """A figure that a step logged.

    Attributes
    ----------
    kind : {"png", "svg", "html"}
    data : bytes
        Of the file.
    """

    kind: str
    data: bytes

    def save(self, path: str) -> str:
        """Write it to a file; give its absolute path.

        Raises
        ------
        OSError
        """
        with open(path, "wb") as file:
            file.write(self.data)
        return os.path.abspath(path)

    def __repr__(self) -> str:
        return f"<figure, {self.kind}, {len(self.data):,} bytes>"

    def _repr_html_(self) -> str:
        if self.kind == "html":  # its scripts draw it, cut off from the notebook
            text = html.escape(self.data.decode("utf-8", "replace"))
            return f'<iframe sandbox="allow-scripts" title="figure" style="{_FRAME}" srcdoc="{text}"></iframe>'
        kind = "svg+xml" if self.kind == "svg" else "png"
        return f'<img alt="figure" style="max-width:100%" src="data:image/{kind};base64,{self._base64}">'

    @property
    def _base64(self) -> str:
        return base64.b64encode(self.data).decode("ascii")
