"""Following the ledger: what `W/deployment` says is loaded beside the live model, proved, and swapped in.

One thread polls with a connection of its own. Only a model that has been verified, replayed and warmed takes the
place of the live one, in one assignment; requests that hold the old one finish with it. Whatever fails, and for as
long as the ledger or the store is away, the old one goes on answering from memory.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.ports import Formats, Ledger, Objects
from penstock.core.run import Entry
from penstock.errors import PenstockError, UnknownNameError, bounded
from penstock.serve.model import Model
from penstock.serve.own import Host
from penstock.serve.predict import Live

POLL_S = 0.2
"""Seconds between two looks at the ledger."""

RETRY_S = (1.0, 30.0)
"""Seconds until a deployment that failed to load is tried again: at first, and at most."""

_FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[\\/](?:[^\s\\/:'\"]+[\\/])+")


class Holder:
    """The one reference to what answers. Readers take it once a request; one thread assigns it."""

    def __init__(self) -> None:
        self.live: Live | None = None
        self.last_error: str | None = None

    def swap(self, live: Live) -> None:
        """Put another model in the place of the live one, as one."""
        self.live = live
        self.last_error = None

    def keep(self, error: BaseException, what: str) -> None:
        """Remember why the live one stays."""
        self.last_error = f"{what}: {for_clients(error)}"
        print(f"penstock serve: {what}: {error}", file=sys.stderr)


def for_clients(error: BaseException) -> str:
    """An error's sentence without the folders of this machine; only the type of what is not ours.

    Examples
    --------
    >>> for_clients(PenstockError("cannot read /srv/models/objects/ab12: gone"))
    'cannot read …/ab12: gone'
    """
    if not isinstance(error, PenstockError):
        return type(error).__name__
    return bounded(_FOLDERS.sub("…/", error.what), 500)


def load_deployed(
    workflow: str, entry: Entry, ledger: Ledger, objects: Objects, formats: Formats, host: Host | None = None
) -> Model:
    """The model that a deployment entry names.

    Raises
    ------
    PenstockError
        As `Model.load`; also when the entry names a version that the ledger does not have.
    """
    version = int(entry.body["version"])
    bundle = entry.body.get("bundle")
    if bundle is None:
        return load_version(workflow, version, ledger, objects, formats, host)
    made = ledger.stream(f"{workflow}/version", after=version - 1) if host is not None and version > 0 else []
    host = _without_own(host, made[0]) if made else host
    return Model.load(workflow, version, Artifact.from_json(bundle), objects, formats, host)


def load_version(
    workflow: str, version: int, ledger: Ledger, objects: Objects, formats: Formats, host: Host | None = None
) -> Model:
    """The model of one registered version, deployed or not.

    Raises
    ------
    UnknownNameError
        The ledger has no such version.
    PenstockError
        As `Model.load`.
    """
    entries = ledger.stream(f"{workflow}/version", after=version - 1) if version > 0 else []
    if not entries or entries[0].number != version:
        raise UnknownNameError(f"the ledger has no {workflow}@{version}", hint="`penstock models` lists the versions")
    host = _without_own(host, entries[0])
    return Model.load(workflow, version, Artifact.from_json(entries[0].body["bundle"]), objects, formats, host)


def _without_own(host: Host | None, entry: Entry) -> Host | None:
    """A host that asks the configuration about each type of a version that another ledger has registered."""
    return host if host is None or entry.body.get("from") is None else replace(host, own=host.own_always)


class Follower:
    """Keeps a holder at the head of a workflow's deployment stream.

    Parameters
    ----------
    workflow : str
    open_ledger : callable
        Opens a connection; called in the follower's thread, and again after a failure.
    objects, formats
        Where bundles are read; asked in the follower's thread only.
    holder : Holder
    prepare : callable, default=Live.of
        From a model to what is swapped in.
    """

    def __init__(
        self,
        workflow: str,
        open_ledger: Callable[[], Ledger],
        objects: Objects,
        formats: Formats,
        holder: Holder,
        *,
        host: Host | None = None,
        poll_s: float = POLL_S,
        retry_s: tuple[float, float] = RETRY_S,
        prepare: Callable[[Model], Live] = Live.of,
    ) -> None:
        self.workflow = workflow
        self.holder = holder
        self.looked = threading.Event()
        """Set after the first look at the ledger, whatever came of it."""
        self._open_ledger = open_ledger
        self._objects = objects
        self._formats = formats
        self._host = host
        self._poll_s = poll_s
        self._retry_s = retry_s
        self._prepare = prepare
        self._ledger: Ledger | None = None
        self._done = 0
        self._pending: Entry | None = None
        self._seen = 0
        self._wait_s = 0.0
        self._retry_at = 0.0
        self._ledger_error: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stop following; a load that is under way ends by itself."""
        self._stop.set()
        self._thread.join(timeout_s)

    def state(self) -> dict[str, Any]:
        """For `/model`: the deployment that answers, the newest on record, and whether the ledger is there."""
        return {"deployment": self._done, "newest": self._seen, "ledger_error": self._ledger_error}

    def step(self) -> float:
        """Look once; load and swap when there is something new. Gives the seconds until the next look."""
        try:
            self._look()
        except Exception as error:
            self._ledger_away(error)
            self.looked.set()
            return self._retry_s[0]
        if self._pending is not None and time.monotonic() >= self._retry_at:
            self._try_load(self._pending)
        self.looked.set()
        return self._poll_s

    def _run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self.step())
        if self._ledger is not None:
            self._ledger.close()

    def _look(self) -> None:
        if self._ledger is None:
            self._ledger = self._open_ledger()
        entries = self._ledger.stream(f"{self.workflow}/deployment", after=self._seen)
        self._ledger_error = None
        if entries:
            self._seen = entries[-1].number
            self._pending = entries[-1]  # only the newest counts; what lies between was never waited for
            self._wait_s = self._retry_at = 0.0

    def _ledger_away(self, error: Exception) -> None:
        self._ledger_error = for_clients(error)
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            try:
                ledger.close()
            except Exception as again:
                self._ledger_error = for_clients(again)

    def _try_load(self, entry: Entry) -> None:
        """Load, prove and swap; on failure keep the live one and try again later, unless something newer comes."""
        assert self._ledger is not None
        live = self.holder.live
        try:
            model = load_deployed(self.workflow, entry, self._ledger, self._objects, self._formats, self._host)
            if live is None or (live.model.bundle, live.model.version) != (model.bundle, model.version):
                self.holder.swap(self._prepare(model))
            else:
                self.holder.last_error = None
        except Exception as error:
            self.holder.keep(error, f"deployment {entry.number} of {self.workflow} was not loaded")
            self._wait_s = min(max(self._retry_s[0], self._wait_s * 2), self._retry_s[1])
            self._retry_at = time.monotonic() + self._wait_s
            return
        self._pending = None
        self._done = entry.number
