"""Airflow 3: an API server, a scheduler with LocalExecutor and a DAG processor, on a PostgreSQL of their own."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import Any
from urllib.parse import quote

from penstock.testing.postgres import PostgresServer, free_port
from tests.backends.engines.processes import Processes, ask

ENDED = frozenset({"success", "failed"})


class Airflow:
    """A running Airflow; `close` ends it and its database.

    What had to be found out:

    * Beside `psycopg2` it needs `asyncpg`: it opens the same database with both.
    * `airflow standalone` opens log servers on every interface and leaves its scheduler behind: the three services
      are started one by one, and the scheduler with `--skip-serve-logs`. The API server reads tasks' logs from the
      folder that they share.
    * Tasks reach the API server at `core.execution_api_server_url`; scheduler and API server must be given the same
      `api_auth.jwt_secret`, or every task fails before it starts.
    * With `core.simple_auth_manager_all_admins`, `GET /auth/token` gives a token without a password.
    * The DAG processor looks for new files every `dag_processor.refresh_interval` (300 s by default), and asks for
      that only every `bundle_refresh_check_interval`.
    * `scheduler_idle_sleep_time` bounds how long a state waits; `execution_api_timeout` (5 s) is too short on a
      loaded machine.
    * A retry waits 300 s by default: a DAG must name its `retry_delay`.
    * `logical_date` must be in the body of a new run, null where there is none.
    """

    def __init__(self, bin_folder: str | None = None) -> None:
        self.processes = Processes("airflow")
        self.database = PostgresServer(bin_folder=bin_folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.dags = self.processes.folder / "dags"
        self.dags.mkdir()
        self.processes.env |= {f"AIRFLOW__{name}": value for name, value in self._settings().items()}
        self.processes.env["AIRFLOW_HOME"] = str(self.processes.folder)
        self._token = ""
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _settings(self) -> dict[str, str]:
        database = self.database.url(self.database.create_database())
        return {
            "DATABASE__SQL_ALCHEMY_CONN": database.replace("postgresql://", "postgresql+psycopg2://"),
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "2",
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "CORE__KILLED_TASK_CLEANUP_TIME": "10",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "API__BASE_URL": self.url,
            "API__SECRET_KEY": secrets.token_hex(32),
            "API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "WORKERS__EXECUTION_API_TIMEOUT": "60",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "120",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "1",
            "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
            "LOGGING__COLORED_CONSOLE_LOG": "False",
        }

    def _start(self) -> None:
        self.processes.run("-m", "airflow", "db", "migrate")
        where = ("--host", "127.0.0.1", "--port", self.port, "--workers", 1)
        self.processes.start("api-server", "airflow", "api-server", *where)
        self.processes.start("scheduler", "airflow", "scheduler", "--skip-serve-logs")
        self.processes.start("dag-processor", "airflow", "dag-processor")
        self.processes.wait("token", self._signed_in)
        self.processes.wait("healthy services", self._healthy, every=0.3)

    def _signed_in(self) -> bool:
        self._token = ask(f"{self.url}/auth/token")["access_token"]
        return True

    def _healthy(self) -> bool:
        health = ask(f"{self.url}/api/v2/monitor/health")
        return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    def api(self, path: str, body: Any = None, *, method: str | None = None) -> Any:
        """Ask the API of version 2: a path below `/api/v2/`."""
        return ask(f"{self.url}/api/v2/{path}", body, method=method, Authorization=f"Bearer {self._token}")

    def add(self, dag: str, text: str) -> None:
        """Put a DAG file into the folder, and wait until the scheduler knows its DAG.

        Raises
        ------
        AssertionError
            Airflow cannot import the file: with what it says.
        """
        (self.dags / f"{dag}.py").write_text(text)
        self.processes.wait(f"DAG {dag}", lambda: self._known(dag), every=0.3)

    def _known(self, dag: str) -> bool:
        errors = [e["stack_trace"] for e in self.api("importErrors")["import_errors"] if f"{dag}.py" in e["filename"]]
        assert not errors, errors[0]
        return bool(self.api(f"dags/{dag}")["dag_id"])

    def trigger(self, dag: str, **conf: Any) -> str:
        """Start a run with these params; its id."""
        return str(self.api(f"dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"])

    def wait(self, dag: str, run: str, seconds: float = 300) -> str:
        """Wait until a run has ended; `success` or `failed`."""
        self.processes.wait(f"end of {run}", lambda: self.state(dag, run) in ENDED, seconds, every=0.3)
        return self.state(dag, run)

    def state(self, dag: str, run: str) -> str:
        """The state of a run now."""
        return str(self.api(f"dags/{dag}/dagRuns/{quote(run)}")["state"])

    def tasks(self, dag: str, run: str) -> dict[str, str | None]:
        """The state of each task: `success`, `skipped`, `failed`, `upstream_failed`, `up_for_retry`, …, None."""
        found = self.api(f"dags/{dag}/dagRuns/{quote(run)}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in found}

    def parts(self, dag: str, run: str) -> dict[str, int]:
        """Tasks that Airflow expanded, and how many of each there are."""
        found = self.api(f"dags/{dag}/dagRuns/{quote(run)}/taskInstances")["task_instances"]
        return dict(Counter(task["task_id"] for task in found if task["map_index"] >= 0))

    def tries(self, dag: str, run: str, task: str) -> int:
        """How many times a task was started."""
        return int(self.api(f"dags/{dag}/dagRuns/{quote(run)}/taskInstances/{task}")["try_number"])

    def log(self, dag: str, run: str, task: str, attempt: int = 1) -> str:
        """What the API shows of a task's log: its own lines and what it printed."""
        path = f"dags/{dag}/dagRuns/{quote(run)}/taskInstances/{task}/logs/{attempt}?full_content=true"
        content = self.api(path)["content"]
        return "\n".join(text for line in content for text in _lines(line))

    def cancel(self, dag: str, run: str) -> None:
        """Mark a run as failed, which ends its tasks: what a person does in the UI."""
        self.api(f"dags/{dag}/dagRuns/{quote(run)}", {"state": "failed"}, method="PATCH")

    def close(self) -> None:
        """End all processes, then the database."""
        try:
            self.processes.close()
        finally:
            self.database.close()


def _lines(entry: Any) -> list[str]:
    """An entry of a log as text, with the error that it tells of."""
    if not isinstance(entry, dict):
        return [str(entry)]
    errors = entry.get("error_detail") or []
    return [str(entry.get("event", "")), *(f"{error['exc_type']}: {error['exc_value']}" for error in errors)]
