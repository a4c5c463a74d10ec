"""The Protocols between the parts, and `Home`, the object that the composition root returns.

All are synchronous and small. Each has two implementations that pass one conformance suite
(`penstock.testing`): the real one and an in-memory fake.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from penstock.core.artifact import Artifact

if TYPE_CHECKING:  # a worker reads and writes objects, and nothing of the ledger
    from penstock.core.run import Decided, Entry, Group, Result, Run, SourceStat, StepRun


class ObjectStat(NamedTuple):
    """What `Objects.walk` tells of one object: name, bytes, Unix time of last change, and whether only staged."""

    digest: str
    size: int
    mtime: float
    staged: bool


class Objects(Protocol):
    """Immutable bytes named by their SHA-256."""

    def stage(self, data: bytes | str) -> tuple[str, int]:
        """Write bytes (or move the file at a path) into staging; give (digest, size).

        Readable at once by this machine's processes, not durable yet. Staging what is already there is free.

        Raises
        ------
        StoreError
            Disk full, read-only, I/O error; nothing half-written is left under a digest's name.
        """
        ...

    def publish(self, digests: Iterable[str]) -> None:
        """Make staged objects durable: fsync every file, rename all, fsync each parent directory once.

        Digests already published are passed over. An error of fsync is final: nothing is acknowledged, and
        the caller stages the bytes again from their source.

        Raises
        ------
        MissingObjectError
            A digest is neither staged nor published.
        StoreError
            As for `stage`.
        """
        ...

    def read(self, digest: str) -> bytes:
        """The bytes, verified against their name, whether staged or published.

        Raises
        ------
        MissingObjectError, CorruptObjectError, StoreError
        """
        ...

    def fetch(self, digest: str) -> str:
        """Path of a local read-only file with verified bytes; valid until the object is deleted.

        Raises
        ------
        MissingObjectError, CorruptObjectError, StoreError
        """
        ...

    def missing(self, digests: Collection[str]) -> set[str]:
        """Those of the digests that are neither staged nor published (existence only, bytes unread)."""
        ...

    def quarantine(self, digest: str) -> None:
        """Move a corrupt object aside, so that its maker can write it again. No error if it is gone."""
        ...

    def walk(self) -> Iterator[ObjectStat]:
        """Every object, staged and published, in no order."""
        ...

    def delete(self, digest: str) -> None:
        """Remove an object, staged or published. No error if it is gone."""
        ...


class Ledger(Protocol):
    """The facts on record.

    *Recomputable* facts are committed in groups; *decisions* are appended to numbered streams and durable
    before the call returns.
    """

    def results(self, recipes: Collection[str]) -> dict[str, Result]:
        """What these recipes gave, for those that are known."""
        ...

    def decided(self, flow: str) -> dict[str, Decided]:
        """The last decision on each step of a flow, by step id."""
        ...

    def codes(self, digests: Collection[str]) -> dict[str, dict[str, str]]:
        """The parts of code digests."""
        ...

    def sources(self, paths: Collection[str]) -> dict[str, SourceStat]:
        """What is remembered of files, by path."""
        ...

    def commit(self, group: Group) -> None:
        """Write a group in one durable transaction, all or nothing.

        Rows are by natural key and the last writer wins for `Run`, `Decided` and `SourceStat`; a `Result`, a
        code part or a `StepRun` that is already there is kept as it is.

        Raises
        ------
        StoreError
            Disk full, read-only, busy beyond the time-out. Nothing of the group is then on record.
        """
        ...

    def append(self, entries: Sequence[Entry], *, key: str | None = None) -> list[Entry]:
        """Append decisions in one durable transaction, all or nothing.

        Parameters
        ----------
        entries : sequence of Entry
            Each `number` must be the head of its stream plus 1; `at` 0.0 is filled in with the clock.
        key : str or None
            Idempotency key. A second call with the same key and the same entries (stream, number, body)
            gives the first call's result and writes nothing.

        Returns
        -------
        list of Entry
            As recorded.

        Raises
        ------
        ConflictError
            Another entry has that number, or the key was used for something else; `head` is the stream's
            present head as an Entry or None.
        StoreError
            As for `commit`.
        """
        ...

    def stream(self, name: str, *, after: int = 0) -> list[Entry]:
        """Entries of one stream with a number above `after`, in order."""
        ...

    def streams(self, prefix: str = "") -> dict[str, int]:
        """Names of the streams that begin with a prefix, and the number of each one's head."""
        ...

    def runs(self, *, flow: str | None = None, prefix: str = "", limit: int = 100) -> list[Run]:
        """Runs, newest first; `prefix` is the beginning of an id."""
        ...

    def step_runs(self, run: str) -> list[StepRun]:
        """The decisions of one run, in the order in which they were recorded."""
        ...

    def makers(self, digest: str) -> list[Result]:
        """Results of which this digest is an output: backwards in lineage."""
        ...

    def users(self, digest: str) -> list[Result]:
        """Results whose argument tree holds this digest: forwards in lineage."""
        ...

    def close(self) -> None:
        """Release the connection."""
        ...


class Formats(Protocol):
    """Value ↔ bytes."""

    def dump(self, value: Any, stage: Callable[[bytes | str], tuple[str, int]]) -> Artifact:
        """Turn a value into bytes, stage them and name them.

        JSON of at most `INLINE_LIMIT` bytes is carried in the artifact's `text` and not staged.

        Raises
        ------
        FormatError
            No format keeps values of this type, or the value would not come back equal; says how to add one.
        """
        ...

    def load(self, artifact: Artifact, objects: Objects, want: str = "") -> Any:
        """Read a value back.

        Parameters
        ----------
        want : str
            For tables "pandas" (the default), "polars", "arrow" or "path"; "" for the format's own type.

        Raises
        ------
        FormatError, UntrustedTypeError, MissingObjectError, CorruptObjectError
        """
        ...


@dataclass(frozen=True, slots=True)
class Config:
    """Configuration, resolved; `origin` says where each value came from (`penstock doctor`).

    Attributes
    ----------
    root : str
        The project's root, absolute.
    store, ledger : str
        Absolute paths of the object directory and of the ledger file, or URLs.
    seed : int or None
        Overrides the workflow's seed when given.
    jobs : int
        Steps that run at once; 0 means one a core.
    gpus : int or None
        GPUs that steps may ask for; None for as many as are found.
    trust : tuple of str
        Exact names of further types that artifacts may hold; "module:name@sha256:…" for those of a project, "own"
        for all of this one whose code is here as it was in training.
    hosts : tuple of str
        Hosts inside a network that `ps.read("http://…")` may reach.
    release : str or None
        Overrides `release` of every workflow.
    environment : str
        "dev", "ci" or any name of an `env.*` table.
    is_ci : bool
        Whether this process is CI, which may move the champion where `release` is "ci": `PENSTOCK_RELEASE=ci`.
    grace, keep : str
        Defaults of `penstock gc`: objects touched, and results of runs, since so long ago stay.
    cache : int
        GiB of a remote store's objects that are kept on this machine.
    mlflow : dict
        "tracking_uri" and "experiment" of the MLflow server to which runs are mirrored; empty for none.
    model_memory : int
        MiB that a model with classes of the project may use where it is served.
    model_timeout : int
        Seconds that such a model may take for the answers of one request.
    redact : tuple of str
        Columns whose values no report shows.
    """

    root: str
    store: str
    ledger: str = field(repr=False)
    seed: int | None = None
    jobs: int = 0
    gpus: int | None = None
    trust: tuple[str, ...] = ()
    release: str | None = None
    environment: str = "dev"
    is_ci: bool = False
    grace: str = "14d"
    keep: str = "30d"
    cache: int = 20
    hosts: tuple[str, ...] = ()
    mlflow: Mapping[str, str] = field(default_factory=dict, repr=False)
    model_memory: int = 4_096
    model_timeout: int = 10
    redact: tuple[str, ...] = ()
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def shared(self) -> bool:
        """Whether others write to this ledger too: it is a URL."""
        return "://" in self.ledger

    @property
    def trusts_own(self) -> bool:
        """Whether models may hold the project's own types where the code here is that of training.

        So it is where nobody else writes to store and ledger: who could put a model there could as well edit the code.
        """
        return "own" in self.trust or not (self.shared or "://" in self.store)


@dataclass(frozen=True, slots=True)
class Home:
    """What the composition root wires: configuration, objects, ledger, formats. No behaviour."""

    config: Config
    objects: Objects
    ledger: Ledger
    formats: Formats
