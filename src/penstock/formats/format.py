"""What a format is, so that a package of one's own can add one by the entry-point group `penstock.formats`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from penstock.core.artifact import Artifact
from penstock.core.ports import Objects

ENTRY_POINTS = "penstock.formats"
"""Entry-point group in which packages name further formats: an instance, or a class without arguments."""

Stage: TypeAlias = Callable[[bytes | str], tuple[str, int]]
"""`Objects.stage`: bytes, or the path of a file that is moved, in; (digest, size) out."""


@runtime_checkable
class Format(Protocol):
    """One way to keep values. The built-in ones are functions; further ones are objects of this shape.

    Attributes
    ----------
    name : str
        The word that stands in `Artifact.format`; must not be a built-in one.
    """

    name: str

    def takes(self, value: Any) -> bool:
        """Whether this format keeps values of this kind. Asked only when no built-in format does."""
        ...

    def dump(self, value: Any, stage: Stage) -> Artifact:
        """Stage the value's bytes and name them; equal values give equal bytes.

        Raises
        ------
        FormatError
            The value would not come back equal.
        """
        ...

    def load(self, artifact: Artifact, objects: Objects, want: str) -> Any:
        """Read the value back. Must never run code that the bytes bring along.

        Raises
        ------
        FormatError, MissingObjectError, CorruptObjectError
        """
        ...
