"""What a tracking server is asked for, and what it may say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from penstock.lifecycle.versions import Version


class Away(Exception):  # noqa: N818  a signal: not now
    """The server cannot be reached, or has a fault of its own: the events wait."""


class Refused(Exception):  # noqa: N818  a signal: never
    """The server does not take this: the event is put aside."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A run as MLflow keeps it.

    Attributes
    ----------
    run : str
        Our id, the tag by which it is found again.
    experiment, name, status : str
    started, ended : int
        Milliseconds; `ended` 0 while it runs, or where nobody knows.
    tags, params : dict of str to str
    metrics : dict of str to float
        As shown to people: errors positive.
    files : dict of str to str
        Path of a file beside the run → digest of what it was made of.
    contents : callable
        Path → bytes; may raise PenstockError, where they are not kept any more.
    """

    run: str
    experiment: str
    name: str
    status: str
    started: int
    ended: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    files: Mapping[str, str] = field(default_factory=dict)
    contents: Callable[[str], bytes] = field(default=lambda _: b"", compare=False)


class Tracking(Protocol):
    """What is asked of an MLflow server. Every call may be repeated; it raises `Away` or `Refused`."""

    def put_run(self, sent: Sent) -> str:
        """Have a run there, once, as it is by now; give its id there."""
        ...

    def versions(self, workflow: str) -> dict[int, str]:
        """Our number → number there, of the versions that are there."""
        ...

    def put_version(self, found: Version, run: str, files: str) -> str:
        """Have a version there, with a folder of files as its model; give its number there."""
        ...

    def point(self, workflow: str, name: str, to: str | None) -> None:
        """Have an alias point to a version there, or nowhere."""
        ...
