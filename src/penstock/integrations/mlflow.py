"""Mirrors runs, tries, versions and aliases to an MLflow server: a process of its own, which nobody waits for.

Events wait in the outbox of `penstock.lifecycle.mirror`, one file each; what they tell of is read from the ledger. An
event goes when the server has all of it; where the server is away, all stay, in their order, for the next time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.ports import Home
from penstock.core.run import Run
from penstock.core.urls import masked
from penstock.errors import PenstockError, UnknownNameError, bounded
from penstock.integrations.tracking import Away, Refused, Sent, Tracking
from penstock.lifecycle.kept import figures_kept
from penstock.lifecycle.mirror import FAULT, events, outbox
from penstock.lifecycle.records import aliases
from penstock.lifecycle.versions import Version, versions, workflows

MOST_S = 600
"""Seconds that one process sends for at most; what is left waits for the next one."""
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
STATUS = {"failed": "FAILED", "cancelled": "KILLED", "interrupted": "KILLED", "running": "RUNNING"}
_ODD = re.compile(r"[^\w\-. :/]")


def sent_of(home: Home, run: Run) -> Sent:
    """A run as MLflow keeps it; with the difference of its code as a text."""
    from penstock.lifecycle.alive import state_of

    info, state = run.info, state_of(run)
    kept = figures_kept(run)
    metrics: dict[str, float] = {}
    for one in kept.get("metrics", {}).values():
        shown = one["shown"]
        for name, key in ((shown["name"], "value"), (f"{shown['name']}.low", "low"), (f"{shown['name']}.high", "high")):
            if isinstance(shown.get(key), int | float):
                metrics[_name(name)] = float(shown[key])
    cost = info.get("cost", {})
    metrics |= {name: float(cost[name]) for name in ("cpu_s", "peak_bytes", "fit_s") if name in cost}
    declared = {**info.get("parameters", {}), **info.get("params", {})}
    code = info.get("code") or {}
    tags = {"penstock.run": run.id, "penstock.kind": run.kind, "penstock.state": state, "penstock.workflow": run.flow}
    tags |= {"mlflow.user": str(info.get("who", "")), "mlflow.note.content": str(info.get("note", ""))}
    tags |= {"mlflow.source.name": str(info.get("file", "")), "mlflow.source.git.commit": code.get("commit", "")}
    tags |= {"penstock.set": json.dumps(info["set"])} if "set" in info else {}
    tags |= {"penstock.predictions": info["predictions"]} if "predictions" in info else {}
    tags |= {"penstock.version": f"{run.flow}@{info['version']}"} if "version" in info else {}
    return Sent(
        run=run.id,
        experiment=home.config.mlflow.get("experiment") or run.flow,
        name=f"{run.kind} {run.id[:4]}",
        status=STATUS.get(state, "FINISHED"),
        started=int(run.started * 1000),
        ended=int(run.ended * 1000) if run.ended else 0,
        tags={name: value[:4_000] for name, value in tags.items() if value},
        params={_name(path): str(value)[:500] for path, value in declared.items()},
        metrics=metrics,
        texts=_texts(home, code),
    )


def _texts(home: Home, code: Mapping[str, Any]) -> dict[str, str]:
    """The difference of the code from its commit, where one is kept and still there."""
    if "diff" not in code:
        return {}
    try:
        return {"code.diff": str(home.formats.load(Artifact.from_json(code["diff"]), home.objects)["diff"])}
    except PenstockError:
        return {}


def _name(text: str) -> str:
    """A name as MLflow takes it."""
    return _ODD.sub("_", text)[:250]


def mirror(home: Home, event: Mapping[str, Any], server: Tracking, write: Callable[[Home, Version, str], None]) -> None:
    """Have one event's run, or workflow, on the server.

    Parameters
    ----------
    event : dict
        {"run": id} or {"workflow": name}.
    write : callable
        Writes the files of (home, version) to a folder.

    Raises
    ------
    Away, Refused
    """
    workflow = event.get("workflow")
    if "run" in event:
        found = home.ledger.runs(prefix=str(event["run"]), limit=1)
        if not found:
            return
        server.put_run(sent_of(home, found[0]))
        workflow = found[0].flow if "version" in found[0].info else None
    if workflow in workflows(home.ledger):
        _mirror_versions(home, str(workflow), server, write)


def _mirror_versions(home: Home, workflow: str, server: Tracking, write: Callable[[Home, Version, str], None]) -> None:
    """The versions that are not there yet, the oldest first; then where the aliases point."""
    there, refused = server.versions(workflow), []
    for found in versions(home.ledger, workflow):
        if found.number in there:
            continue
        runs = home.ledger.runs(prefix=str(found.body.get("run", "")) or "-", limit=1)
        with tempfile.TemporaryDirectory(prefix="penstock-mlflow-") as folder:
            try:
                write(home, found, os.path.join(folder, "files"))
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


def drain(
    home: Home, folder: str, connect: Callable[[Home], Tracking], write: Callable[[Home, Version, str], None]
) -> int:
    """Send what waits in an outbox, the oldest first; stop where the server is away.

    Returns
    -------
    int
        Events that still wait.
    """
    server: Tracking | None = None
    fault = os.path.join(folder, FAULT)
    while names := events(folder):
        path = os.path.join(folder, names[0])
        try:
            server = server or connect(home)
            with open(path, encoding="utf-8") as file:
                event = json.load(file)
            mirror(home, event, server, write)
        except Away as error:
            _tell(fault, error)
            return len(names)
        except (Refused, UnknownNameError, ValueError, KeyError, TypeError) as error:
            _tell(fault, error)
            os.makedirs(os.path.join(folder, "refused"), exist_ok=True)
            os.rename(path, os.path.join(folder, "refused", names[0]))
            continue
        os.unlink(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fault)
    return 0


def _tell(path: str, error: Exception) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(bounded(masked(f"{error}"), 500))


def write_files(home: Home, found: Version, folder: str) -> None:
    """A version's files, readable without Penstock; of types that every machine trusts, none of the project's own.

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
    if hasattr(signal, "alarm"):
        signal.alarm(MOST_S)
    with open(os.path.join(folder, "next"), "w") as turn, open(os.path.join(folder, "lock"), "w") as lock:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # who waits for its turn will find this event too
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(turn, fcntl.LOCK_UN)
        from penstock.integrations.mlflow_client import connect

        try:
            return 1 if drain(home, folder, connect, write_files) else 0
        except Exception as error:  # nobody reads what this process prints
            _tell(os.path.join(folder, FAULT), error)
            return 1


if __name__ == "__main__":
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a terminal is the run's own, which may go on for long
    status = main()
    os._exit(status)
