"""What a backend is: the port that ours and other people's implement, and how they are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from penstock.backends.compiled import Compiled
from penstock.core.names import did_you_mean
from penstock.errors import UsageError

GROUP = "penstock.backends"
"""Entry points under which backends are found: name → a class without arguments."""

Grade = Literal["error", "warning", "note"]
Outcome = Literal["", "success", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a flow is exported or run elsewhere.

    Attributes
    ----------
    schedule : str
        A cron expression, "@daily" and its like, or "asset:NAME[,NAME…]" where the backend has assets; "" for none.
    image : str
        The container image that the steps run in; "" where they run by a Python of the machine.
    python : str
        Path of the Python that runs the steps there; "" where it is this one.
    group : str
        "step", "part" or "workflow".
    environment : dict
        Variables of the environment that each step gets.
    secrets : tuple of str
        Variables that hold secrets: never written to an export, but asked of the backend by name.
    more : dict
        What only one backend knows.
    """

    schedule: str = ""
    image: str = ""
    python: str = ""
    group: str = "part"
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look before anything runs found.

    Attributes
    ----------
    grade : {"error", "warning", "note"}
        An error would make a run fail there.
    what, remedy : str
        In a sentence each.
    """

    grade: Grade
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended that a backend carried out while somebody waited.

    Attributes
    ----------
    run : str
        The backend's own id of it, as its tasks gave it to the worker.
    state : str
        The backend's own word for how it ended.
    url : str
        Where the backend shows it; "" where it does not.
    outcome : {"", "success", "failed", "cancelled"}
        What that word means; "" leaves it to the ledger, on which not all that a backend knows is.
    reason : str
        Why it did not succeed, in the backend's words.
    """

    run: str
    state: str
    url: str = ""
    outcome: Outcome = ""
    reason: str = ""


Done = Callable[[str, tuple[str, ...]], None]


class Backend(Protocol):
    """Executes flows elsewhere. It compiles tasks to its own kind, and each of them starts the worker.

    Attributes
    ----------
    name : str
        As the command line and the ledger know it.
    away : bool
        Whether its steps run on machines other than this one, which see no folder of it.
    group : str, optional
        What makes one task of an export that does not say; "part" where there is no such attribute.
    """

    name: str
    away: bool

    def check(self, flow: Compiled, options: Options) -> list[Finding]:
        """What of this flow does not work there, beside what is wrong on every backend."""
        ...

    def export(self, flow: Compiled, options: Options) -> str:
        """The file that makes the flow the backend's own.

        Raises
        ------
        UsageError
            The backend has none.
        """
        ...

    def run(self, flow: Compiled, where: str, options: Options, done: Done) -> Ended:
        """Run the flow there and wait for its end.

        Parameters
        ----------
        where : str
            What follows the name in "name://…", or "".
        done : callable
            Called with the run's id there and the steps of each task that has ended, and of each part of one, from
            any thread.

        Raises
        ------
        UsageError
            It cannot be waited for.
        MissingExtraError
        """
        ...


OURS = {
    "dask": "penstock.backends.dask:Dask",
    "airflow": "penstock.backends.airflow:Airflow",
    "prefect": "penstock.backends.prefect:Prefect",
    "dagster": "penstock.backends.dagster:Dagster",
    "kubeflow": "penstock.backends.kubeflow:Kubeflow",
}
"""Those that come with Penstock, so that a source tree that is not installed has them too."""


def names() -> list[str]:
    """Names of all backends that are here."""
    from importlib.metadata import entry_points

    return sorted({*OURS, *(point.name for point in entry_points(group=GROUP))})


def backend(name: str) -> Backend:
    """The backend of a name.

    Raises
    ------
    UsageError
        There is none.
    """
    from importlib import import_module
    from importlib.metadata import entry_points

    if name in OURS:
        module, _, word = OURS[name].partition(":")
        made: Backend = getattr(import_module(module), word)()
        return made
    others: dict[str, Backend] = {point.name: point.load()() for point in entry_points(group=GROUP, name=name)}
    if name in others:
        return others[name]
    known = names()
    raise UsageError(f"there is no backend {name!r}{did_you_mean(name, known)}", hint=f"there are {', '.join(known)}")
