"""Prefect 3: a server, and deployments that are served by a process each."""

from __future__ import annotations

import time
from typing import Any

from penstock.testing.postgres import free_port
from tests.backends.engines.processes import Processes, Refused, ask

ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
BUSY = 503


class Prefect:
    """A running server, in whose environment `processes.run(FILE)` calls a flow; `close` ends it and what it serves.

    What had to be found out:

    * `--host` is needed, and `--analytics-off` beside `DO_NOT_TRACK`.
    * Whoever calls or serves a flow finds the server by `PREFECT_API_URL`; without it each call starts one of its own.
    * Its SQLite has one writer: on a loaded machine the API answers 503, and means that one may ask again.
    * A served deployment asks for runs every `PREFECT_RUNNER_POLL_FREQUENCY` (10 s by default); it runs each flow in
      a process of its own, which imports Prefect anew.
    * A state has a type (`COMPLETED`) and a name (`Skipped`): what is shown is the name.
    * A task that is never started because one before it failed has a state all the same: `PENDING`, `NotReady`.
    * Tasks' states reach the server as events, after the flow's own: some are `Running` when the run has ended.
    * Logs reach the server in batches, some seconds after the run has ended.
    """

    def __init__(self) -> None:
        self.processes = Processes("prefect")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.processes.env |= {
            "PREFECT_HOME": str(self.processes.folder / "home"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
            "PREFECT_API_REQUEST_TIMEOUT": "120",
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
            "PREFECT_SERVER_API_DEFAULT_LIMIT": "200",
        }
        try:
            where = ("--host", "127.0.0.1", "--port", self.port)
            self.processes.start("server", "prefect", "server", "start", *where, "--no-ui", "--analytics-off")
            self.processes.wait("server", lambda: ask(f"{self.url}/health"))
        except BaseException:
            self.close()
            raise

    def api(self, path: str, body: Any = None, *, method: str | None = None) -> Any:
        """Ask the API: a path below `/api/`; again, as Prefect's own client does, where its database was busy."""
        for _ in range(60):
            try:
                return ask(f"{self.url}/{path}", body, method=method)
            except Refused as refused:
                if refused.status != BUSY:
                    raise
            time.sleep(1)
        raise AssertionError(f"{path}: Prefect's database was busy for a minute\n{self.processes.logs()}")

    def serve(self, name: str, text: str) -> None:
        """Write a file that ends in `FLOW.serve(…)`, run it in a process, and wait until its deployment is ready.

        The flow is served under the file's own name: `FLOW.serve(name=NAME)`.
        """
        file = self.processes.folder / f"{name}.py"
        file.write_text(text)
        self.processes.start(name, "python", file)
        self.processes.wait(f"deployment {name}", lambda: self.deployment(name).get("status") == "READY")

    def deployment(self, name: str) -> dict[str, Any]:
        """What the API shows of a deployment; {} where there is none."""
        found = self.api("deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return found[0] if found else {}

    def trigger(self, name: str, **parameters: Any) -> str:
        """Start a run of a deployment; its id."""
        body = {"parameters": parameters}
        return str(self.api(f"deployments/{self.deployment(name)['id']}/create_flow_run", body)["id"])

    def wait(self, run: str, seconds: float = 300) -> str:
        """Wait until a run has ended; the name of its state, such as `Completed`."""
        ended = self.processes.wait(
            f"end of {run}", lambda: (found := self._run(run))["state_type"] in ENDED and found, seconds, every=0.3
        )
        return str(ended["state_name"])

    def _run(self, run: str) -> dict[str, Any]:
        return dict(self.api(f"flow_runs/{run}"))

    def runs(self, flow: str) -> list[str]:
        """Ids of all runs of a flow, the newest first: for one that was called, not deployed."""
        body = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_DESC"}
        return [found["id"] for found in self.api("flow_runs/filter", body)]

    def tasks(self, run: str) -> dict[str, str]:
        """The name of each task run's state, by the task run's name: `one-0c9`, or what the task was told to use.

        Waits, for a run that has ended, until those that were started have ended too.
        """
        ended = self._run(run)["state_type"] in ENDED
        found = self.processes.wait("end of tasks", lambda: self._tasks(run, ended=ended), every=0.3)
        return {task["name"]: task["state_name"] for task in found[0]}

    def _tasks(self, run: str, *, ended: bool) -> tuple[list[dict[str, Any]], ...]:
        found = self.api("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        late = ended and any(task["state_type"] not in ENDED and task["state_name"] != "NotReady" for task in found)
        return () if late else (found,)

    def tries(self, run: str) -> dict[str, int]:
        """How many times each task run was started."""
        found = self._tasks(run, ended=False)[0]
        return {task["name"]: task["run_count"] for task in found}

    def log(self, run: str) -> str:
        """What the API shows of a run's log, its tasks' included."""
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
        return "\n".join(line["message"] for line in self.api("logs/filter", body))

    def wait_for_log(self, run: str, text: str, seconds: float = 60) -> str:
        """The log, as soon as it holds a text."""
        return str(self.processes.wait(f"{text!r} in the log", lambda: text in (log := self.log(run)) and log, seconds))

    def artifacts(self, run: str) -> list[dict[str, Any]]:
        """The artifacts that a run and its tasks made, with `key`, `type` and `data`."""
        return list(self.api("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}}))

    def cancel(self, run: str) -> None:
        """Ask for the end of a run, as the UI does: whoever serves it ends its process."""
        self.api(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def close(self) -> None:
        """End the server and all that it serves."""
        self.processes.close()
