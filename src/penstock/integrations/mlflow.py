"""Mirrors runs, tries, versions and aliases to an MLflow server: a process of its own, which nobody waits for.

Events wait in the outbox of `penstock.lifecycle.mirror`, one file each; what they tell of is read from the ledger. An
event goes when the server has all of it; where the server is away, all stay, in their order, for the next time. A run
that goes on has a file too: whoever sends looks at it again and again until it has ended, be it by a kill.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from penstock.core.ports import Home
from penstock.core.urls import masked
from penstock.errors import PenstockError, UnknownNameError, bounded
from penstock.integrations.sent import sent_of
from penstock.integrations.tracking import Away, Refused, Sent, Tracking
from penstock.lifecycle.alive import is_gone, is_ours, state_of
from penstock.lifecycle.mirror import FAULT, GOING_ON, LOCK, events, going_on, outbox
from penstock.lifecycle.records import aliases
from penstock.lifecycle.versions import Version, versions, workflows

MOST_S = 600
"""Seconds that one look at everything may take; after that the process ends, and what is left waits for the next."""
EVENT_S, LOOK_S, MOST_PAUSE_S = 1.0, 3.0, 60.0
"""Seconds from one look for events to the next, from one look at the runs that go on to the next, and at most where the
server is away."""
SHARE = 20
"""How much longer it waits than a look takes: a flow of thousands of steps is looked at more rarely."""
REQUEST_S = 20
"""Seconds that one request may take."""
FORCED = {
    # MLflow tells nobody that it was used.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # Its client would send a request again whose answer was lost, and so make a second run. Trying again is ours: an
    # event stays in the outbox, and what is there already is looked for first.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
"""Set whatever the environment says."""
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_S),
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
FAULTS = (Refused, UnknownNameError, ValueError, KeyError, TypeError)
"""What is wrong with one event, and stays so."""


class Sender:
    """Sends what an outbox tells of.

    Parameters
    ----------
    home : Home
    folder : str
        The outbox.
    connect : callable
        Gives the server; called when there is something to send.
    write : callable
        Writes the files of (home, version) to a folder.

    Attributes
    ----------
    away : bool
        Whether the server could not be reached the last time.
    """

    def __init__(
        self,
        home: Home,
        folder: str,
        connect: Callable[[Home], Tracking],
        write: Callable[[Home, Version, str], None],
    ) -> None:
        self.home, self.folder, self._connect, self._write = home, folder, connect, write
        self.away = False
        self._server: Tracking | None = None
        self._sent: dict[str, Sent] = {}
        self._heads: dict[str, dict[str, int]] = {}

    @property
    def server(self) -> Tracking:
        """The server.

        Raises
        ------
        Away
        """
        self._server = self._server or self._connect(self.home)
        return self._server

    def drain(self) -> int:
        """Send the events, the oldest first; stop where the server is away.

        Returns
        -------
        int
            Events that still wait.
        """
        fault = os.path.join(self.folder, FAULT)
        self.away = False
        while names := events(self.folder):
            path = os.path.join(self.folder, names[0])
            try:
                server = self.server
                with open(path, encoding="utf-8") as file:
                    event = json.load(file)
                self._mirror(event, server)
            except Away as error:
                self.away = True
                _tell(fault, error)
                return len(names)
            except FAULTS as error:
                _tell(fault, error)
                aside = os.path.join(self.folder, "refused", names[0])
                os.makedirs(os.path.dirname(aside), exist_ok=True)
                os.rename(path, aside)
                _tell(aside.removesuffix(".json") + ".txt", error)
                continue
            os.unlink(path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fault)
        return 0

    def look(self) -> None:
        """Send the news of the runs that go on, and how those ended that did; stop where the server is away."""
        for run, process in self._begun():
            try:
                goes_on = self._look_at(run, process)
            except Away as error:
                self.away = True
                _tell(os.path.join(self.folder, FAULT), error)
                return
            except FAULTS as error:  # its end is an event of its own
                _tell(os.path.join(self.folder, FAULT), error)
                goes_on = False
            if not goes_on:
                os.unlink(os.path.join(self.folder, GOING_ON, f"{run}.json"))

    def goes_on(self) -> bool:
        """Whether a run that this machine began still goes on."""
        return any(self._state(run, process) == "running" for run, process in self._begun())

    def _begun(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Runs that this machine began and that the server does not know to have ended, each with its process."""
        found = []
        for run in going_on(self.folder):
            with open(os.path.join(self.folder, GOING_ON, f"{run}.json"), encoding="utf-8") as file:
                found.append((run, json.load(file)))
        return [(run, process) for run, process in found if is_ours(process)]

    def _state(self, run: str, process: Mapping[str, Any]) -> str:
        """How it is with a run; its row is written a moment after it began, unless its process has died before."""
        found = self.home.ledger.runs(prefix=run, limit=1)
        return state_of(found[0]) if found else "" if is_gone(process) else "running"

    def _look_at(self, run: str, process: Mapping[str, Any]) -> bool:
        """Send the news of one run; say whether it goes on."""
        found = self.home.ledger.runs(prefix=run, limit=1)
        if not found:
            return self._state(run, process) == "running"
        sent = sent_of(self.home, found[0])
        if sent != self._sent.get(run):
            self.server.put_run(sent)
            self._sent[run] = sent
        self._look_at_versions(found[0].flow)
        return sent.status == "RUNNING"

    def _look_at_versions(self, workflow: str) -> None:
        """Send versions and aliases that came or moved since the first look."""
        streams = self.home.ledger.streams(f"{workflow}/")
        now = {name: number for name, number in streams.items() if name.split("/")[1] in ("version", "alias")}
        if self._heads.setdefault(workflow, now) == now:
            return
        try:
            self._mirror_versions(workflow, self.server)
        except FAULTS as error:  # of a version; the run itself is there
            _tell(os.path.join(self.folder, FAULT), error)
        self._heads[workflow] = now

    def _mirror(self, event: Mapping[str, Any], server: Tracking) -> None:
        """Have one event's run, or workflow, on the server: {"run": id} or {"workflow": name}."""
        workflow = event.get("workflow")
        if "run" in event:
            found = self.home.ledger.runs(prefix=str(event["run"]), limit=1)
            if not found:
                return
            server.put_run(sent_of(self.home, found[0]))
            workflow = found[0].flow if "version" in found[0].info else None
        if workflow in workflows(self.home.ledger):
            self._mirror_versions(str(workflow), server)

    def _mirror_versions(self, workflow: str, server: Tracking) -> None:
        """The versions that are not there yet, the oldest first; then where the aliases point."""
        home, there, refused = self.home, server.versions(workflow), []
        for found in versions(home.ledger, workflow):
            if found.number in there:
                continue
            runs = home.ledger.runs(prefix=str(found.body.get("run", "")) or "-", limit=1)
            with tempfile.TemporaryDirectory(prefix="penstock-mlflow-") as folder:
                try:
                    self._write(home, found, os.path.join(folder, "files"))
                except PenstockError as error:
                    refused.append(f"{found.name}: {error.what}")
                    continue
                run = server.put_run(sent_of(home, runs[0])) if runs else ""
                there[found.number] = server.put_version(found, run, os.path.join(folder, "files"))
        now = aliases(home, workflow)
        for name in ("challenger", "champion"):
            server.point(workflow, name, there.get(now[name]) if name in now else None)
        if refused:
            raise Refused("; ".join(refused))


def send(sender: Sender) -> int:
    """Send what waits, and follow the runs that go on until the last has ended.

    Returns
    -------
    int
        Events that still wait.
    """
    pause = LOOK_S
    while True:
        if hasattr(signal, "alarm"):
            signal.alarm(MOST_S)
        start = time.monotonic()
        waits = sender.drain()
        if not sender.away:
            sender.look()
        if not sender.goes_on():
            if not sender.away:
                sender.look()  # the last may have ended since
            return waits
        took = time.monotonic() - start
        pause = min(2 * pause, MOST_PAUSE_S) if sender.away else max(LOOK_S, SHARE * took)
        _wait(sender.folder, pause, waits)


def _wait(folder: str, pause: float, waits: int) -> None:
    """Wait, or until there is one more event."""
    end = time.monotonic() + pause
    while time.monotonic() < end and len(events(folder)) <= waits:
        time.sleep(min(EVENT_S, pause))


def _tell(path: str, error: Exception) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(bounded(masked(f"{error}"), 500))


def write_files(home: Home, found: Version, folder: str) -> None:
    """A version's files, readable without Penstock; of types that every machine trusts or the project defines.

    Raises
    ------
    PenstockError
    """
    from penstock.formats.registry import FormatRegistry
    from penstock.lifecycle.export import export
    from penstock.lifecycle.report import write_report
    from penstock.stages.infer import MARKERS

    export(home, found, folder, formats=FormatRegistry(), write_report=write_report, missing=MARKERS)


def main(arguments: list[str] | None = None) -> int:
    """Entry of the process: ``ROOT ENVIRONMENT``. One sends, one more waits for its turn, all others end at once."""
    from penstock.project import open_home

    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2:
        print("penstock.integrations.mlflow is started by penstock itself", file=sys.stderr)
        return 2
    os.environ.update({**ENVIRONMENT, **os.environ, **FORCED})
    home = open_home(given[0], environment=given[1])
    folder = outbox(home.config)
    if not home.config.mlflow.get("tracking_uri") or not os.path.isdir(folder):
        return 0
    with open(os.path.join(folder, "next"), "w") as turn, open(os.path.join(folder, LOCK), "w") as lock:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # who waits for its turn will find this event too
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(turn, fcntl.LOCK_UN)
        from penstock.integrations.mlflow_client import connect

        try:
            return 1 if send(Sender(home, folder, connect, write_files)) else 0
        except Exception as error:  # nobody reads what this process prints
            _tell(os.path.join(folder, FAULT), error)
            return 1


if __name__ == "__main__":
    os.nice(10)  # whatever runs beside comes first
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a terminal is the run's own, which may go on for long
    status = main()
    os._exit(status)
