"""Dagster: an instance with its webserver and a code server for each file; a run is a process of its own."""

from __future__ import annotations

import json
from typing import Any

from penstock.testing.postgres import free_port
from tests.backends.engines.processes import Processes, ask

ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
INSTANCE = """
telemetry:
  enabled: false
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
"""
_REPOSITORIES = """{ workspaceOrError { __typename ... on Workspace { locationEntries { name locationOrLoadError {
    __typename ... on RepositoryLocation { repositories { name jobs { name } } } ... on PythonError { message stack }
} } } } }"""
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message stack }
    ... on RunConfigValidationInvalid { errors { message } } ... on PipelineNotFoundError { message }
    ... on InvalidSubsetError { message } ... on UnauthorizedError { message }
} }"""
_AGAIN = """mutation($params: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message stack }
} }"""
_RUN = """query($run: ID!) { runOrError(runId: $run) { ... on Run {
    status stepStats { stepKey status attempts { startTime } }
} } }"""
_EVENTS = """query($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
    __typename ... on MessageEvent { message stepKey level eventType }
    ... on MaterializationEvent { assetKey { path } metadataEntries { label description
        ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } ... on TextMetadataEntry { text }
        ... on UrlMetadataEntry { url } ... on PathMetadataEntry { path } ... on BoolMetadataEntry { boolValue }
    } }
    ... on LogsCapturedEvent { fileKey }
} } } }"""
_CAPTURED = "query($key: [String!]!) { capturedLogs(logKey: $key) { stdout stderr } }"
_END = """mutation($run: String!) { terminateRun(runId: $run) {
    __typename ... on TerminateRunFailure { message } ... on PythonError { message } } }"""


class Dagster:
    """A running instance in a folder of its own; `close` ends the whole tree of processes.

    What had to be found out:

    * Telemetry is off by `telemetry.enabled` of `dagster.yaml`; `DAGSTER_DISABLE_TELEMETRY` says it again.
    * The webserver alone runs jobs, when the instance's run coordinator is `DefaultRunCoordinator`: no daemon then.
      Schedules, sensors and retries of whole runs need one (`daemon=True`).
    * The webserver starts a code server a file, and each run as a child of that one: they outlive their parents.
    * The mutation `reloadWorkspace` reads `workspace.yaml` anew, so files can be added to a running instance.
    * The default executor starts a process a step, which imports Dagster and the file anew;
      `Definitions(executor=in_process_executor)` does without.
    * What a step prints is in the compute log (`capturedLogs`), not among the run's events; a process a step makes
      a file a step.
    * `dagster definitions validate` ends 1 when a file cannot be loaded.
    """

    def __init__(self, *, daemon: bool = False) -> None:
        self.processes = Processes("dagster")
        self.folder = self.processes.folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (self.folder / "dagster.yaml").write_text(INSTANCE)
        self._files: list[str] = []
        self._write_workspace()
        self.processes.env |= {"DAGSTER_HOME": str(self.folder), "DAGSTER_DISABLE_TELEMETRY": "1"}
        try:
            words = ("-h", "127.0.0.1", "-p", self.port, "-w", "workspace.yaml")
            self.processes.start("webserver", "dagster-webserver", *words)
            self.processes.wait("webserver", lambda: ask(f"{self.url}/server_info"))
            if daemon:
                self.processes.start("daemon", "dagster-daemon", "run", "-w", "workspace.yaml")
        except BaseException:
            self.close()
            raise

    def _write_workspace(self) -> None:
        files = [{"python_file": {"relative_path": f"{name}.py", "location_name": name}} for name in self._files]
        (self.folder / "workspace.yaml").write_text(json.dumps({"load_from": files}))  # JSON is YAML

    def query(self, text: str, **variables: Any) -> Any:
        """Ask by GraphQL; the `data` of the answer.

        Raises
        ------
        AssertionError
            The query is not understood.
        """
        answer = ask(f"{self.url}/graphql", {"query": text, "variables": variables})
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    def add(self, name: str, text: str) -> None:
        """Write a file of definitions and load it as the code location `name`.

        Raises
        ------
        AssertionError
            Dagster cannot load the file: with what it says.
        """
        (self.folder / f"{name}.py").write_text(text)
        self._files = [*dict.fromkeys([*self._files, name])]
        self._reload()
        self.processes.wait(f"code location {name}", lambda: name in self._jobs(), every=0.3)

    def remove(self, name: str) -> None:
        """Unload a code location: one that does not load keeps every other one from being asked for."""
        self._files.remove(name)
        self._reload()

    def _reload(self) -> None:
        self._write_workspace()
        self.query("mutation { reloadWorkspace { __typename } }")

    def _jobs(self) -> dict[str, tuple[str, list[str]]]:
        """Repository and jobs of each code location that is loaded."""
        found = {}
        for entry in self.query(_REPOSITORIES)["workspaceOrError"]["locationEntries"]:
            loaded = entry["locationOrLoadError"]
            if loaded is None:
                continue  # its code server starts
            assert loaded["__typename"] == "RepositoryLocation", "".join([loaded["message"], *loaded["stack"]])
            repository = loaded["repositories"][0]
            found[entry["name"]] = (repository["name"], [job["name"] for job in repository["jobs"]])
        return found

    def jobs(self, name: str) -> list[str]:
        """The jobs of a code location; `__ASSET_JOB` is the one of all its assets."""
        return self._jobs()[name][1]

    def validate(self, name: str) -> None:
        """Have Dagster's own command check a file.

        Raises
        ------
        AssertionError
            It does not load.
        """
        self.processes.run("-m", "dagster", "definitions", "validate", "-f", self.folder / f"{name}.py")

    def trigger(self, name: str, job: str = "__ASSET_JOB", *, config: Any = None, tags: Any = None) -> str:
        """Launch a run of a job; its id."""
        repository, _ = self._jobs()[name]
        selector = {"repositoryLocationName": name, "repositoryName": repository, "jobName": job}
        given = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        params = {"selector": selector, "runConfigData": config or {}, "executionMetadata": {"tags": given}}
        launched = self.query(_LAUNCH, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def reexecute(self, run: str, strategy: str = "FROM_FAILURE") -> str:
        """Launch a run that goes on where another failed, as the UI does; its id."""
        launched = self.query(_AGAIN, params={"parentRunId": run, "strategy": strategy})["launchRunReexecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def wait(self, run: str, seconds: float = 300) -> str:
        """Wait until a run has ended; `SUCCESS`, `FAILURE` or `CANCELED`."""
        self.processes.wait(f"end of {run}", lambda: self.state(run) in ENDED, seconds, every=0.3)
        return self.state(run)

    def state(self, run: str) -> str:
        """The state of a run now."""
        return str(self._run(run)["status"])

    def _run(self, run: str) -> dict[str, Any]:
        return dict(self.query(_RUN, run=run)["runOrError"])

    def tasks(self, run: str) -> dict[str, str]:
        """The state of each step that was reached: `SUCCESS`, `SKIPPED`, `FAILURE`; the others are absent."""
        return {step["stepKey"]: step["status"] for step in self._run(run)["stepStats"]}

    def tries(self, run: str) -> dict[str, int]:
        """How many times each step was started."""
        return {step["stepKey"]: len(step["attempts"]) for step in self._run(run)["stepStats"]}

    def events(self, run: str) -> list[dict[str, Any]]:
        """All events of a run, with their type, step and message; materializations with their metadata."""
        return list(self.query(_EVENTS, run=run)["logsForRun"]["events"])

    def log(self, run: str) -> str:
        """What the API shows of a run: its events' messages, then what its steps printed (stdout, then stderr)."""
        events = self.events(run)
        lines = [event["message"] for event in events if event.get("message")]
        for key in dict.fromkeys(event["fileKey"] for event in events if event.get("fileKey")):
            captured = self.query(_CAPTURED, key=[run, "compute_logs", key])["capturedLogs"]
            lines += [captured["stdout"] or "", captured["stderr"] or ""]
        return "\n".join(lines)

    def cancel(self, run: str) -> None:
        """Ask for the end of a run, as the UI does: its process is interrupted."""
        ended = self.query(_END, run=run)["terminateRun"]
        assert ended["__typename"] == "TerminateRunSuccess", ended

    def close(self) -> None:
        """End the webserver, the code servers and all runs."""
        self.processes.close()
