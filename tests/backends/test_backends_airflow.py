"""Airflow: the file that is written, what is said beforehand, and the promises of a backend on Airflow itself."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from penstock.backends.airflow import Airflow
from penstock.backends.backend import Options
from penstock.backends.compiled import compiled
from penstock.core.digest import digest_value
from penstock.testing.backend_flows import TEN, WORKER
from penstock.testing.backend_suite import BackendSuite, Project, TaskEnded, Went

SRC = str(Path(__file__).resolve().parents[2] / "src")
PATIENCE_S = 550.0
STATES: dict[str | None, TaskEnded] = {"success": "success", "skipped": "skipped", "failed": "failed"}


class AirflowRunner:
    """Exports a file, puts it into Airflow's folder of DAGs, and starts and watches runs by its API."""

    name = "airflow"
    lacks: frozenset[str] = frozenset()

    def __init__(self, start: Callable[[], Any]) -> None:
        self.start = start
        self.added: set[str] = set()
        self.newest = "", ""

    def run(
        self, file: Path, *, params: Mapping[str, str], group: str = "step", cancel_when: Path | None = None
    ) -> Went:
        """Run it as a user of Airflow would."""
        engine = self.start()
        flow = compiled(str(file), group=group)
        dag = f"d{digest_value('dag', [str(file), group])[:12]}"
        if dag not in self.added:
            options = Options(group=group, environment={"PYTHONPATH": SRC}, more={"dag": dag})
            engine.add(dag, Airflow().export(flow, options))
            self.added.add(dag)
        texts = {name for name, value in flow.graph.params.items() if isinstance(value, str)}
        given = {name: text if name in texts else json.loads(text) for name, text in params.items()}
        run = engine.trigger(dag, **given)
        if cancel_when is not None:
            engine.processes.wait("the step to cancel", cancel_when.exists)
            engine.cancel(dag, run)
        state = engine.wait(dag, run, seconds=PATIENCE_S)
        self.newest = dag, run
        tasks = engine.tasks(dag, run)
        cancelled = cancel_when is not None and state == "failed"
        ended = {
            step: "not run" if cancelled and tasks[task.id] == "skipped" else STATES.get(tasks[task.id], "not run")
            for task in flow.tasks
            for step in task.steps
        }
        of = {step: task.id for task in flow.tasks for step in task.steps}
        parts = {name.removesuffix(".parts"): n for name, n in engine.parts(dag, run).items()}
        state = "cancelled" if cancelled else state
        return Went(state, ended, lambda step: engine.log(dag, run, of[step]), parts)


@pytest.mark.airflow
class TestAirflow(BackendSuite):
    """Every promise, on Airflow's scheduler with LocalExecutor."""

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls, engines: Any, system_command: Callable[[str], str]) -> AirflowRunner:
        return AirflowRunner(lambda: engines.get("airflow", bin_folder=str(Path(system_command("postgres")).parent)))

    def told(self, runner: Any) -> list[Any]:
        """What the newest run said of its asset."""
        events, newest = runner.start().api("assets/events?limit=100")["asset_events"], runner.newest
        return [one["extra"] for one in events if (one["source_dag_id"], one["source_run_id"]) == newest]

    def test_a_model_becomes_champion(
        self, runner: Any, churn: tuple[Project, Went], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """And the asset is new, with its version."""
        super().test_a_model_becomes_champion(runner, churn, tmp_path_factory)
        [event] = self.told(runner)
        assert (event["version"], event["passed"], event["champion"]) == ("churn@1", True, True)

    def test_a_refusal_of_the_gate_is_no_failure(self, runner: Any, churn: tuple[Project, Went]) -> None:
        """And the asset is what it was."""
        super().test_a_refusal_of_the_gate_is_no_failure(runner, churn)
        assert self.told(runner) == []


RAW = """
import json
import os
import penstock as ps

@ps.step(resources=ps.Resources(labels={"pool": "narrow"}))
def raw(n: int, folder: str):
    print("the address is", os.environ["WAREHOUSE"], flush=True)
    airflows = [name for name in os.environ if "AIRFLOW" in name]
    with open(os.path.join(folder, "seen.json"), "w") as file:
        json.dump([os.environ["WAREHOUSE"], os.environ["TOKEN"], airflows], file)
    return n

raw_flow = ps.Flow(raw(ps.Param("n", 1), ps.Param("folder", "")), name="raw: all")
"""
BEHIND = """
import penstock as ps

@ps.step
def behind():
    return "ran"

behind_flow = ps.Flow(behind, name="behind")
"""


def exported(folder: Path, name: str, text: str, **given: Any) -> str:
    """A flow in a project of its own, as a DAG."""
    folder.mkdir(exist_ok=True)
    (folder / "penstock.toml").write_text("")
    (folder / f"{name}.py").write_text(text)
    flow = compiled(str(folder / f"{name}.py"))
    return Airflow().export(flow, Options(environment={"PYTHONPATH": SRC}, **given))


def test_what_airflow_keeps_and_triggers_reaches_a_flow(airflow: Any, tmp_path: Path) -> None:
    """Pool, secrets, parameters with types, a schedule, and an asset that starts another."""
    address = {
        "conn_type": "postgres",
        "host": "db",
        "login": "ana",
        "password": "s3cret-pw",
        "schema": "x",
        "port": 5432,
    }
    airflow.api("connections", {"connection_id": "warehouse", **address})
    airflow.api("variables", {"key": "token", "value": "t0ken-of-ours"})
    airflow.api("pools", {"name": "narrow", "slots": 1})
    secrets = ("WAREHOUSE=connection:warehouse", "TOKEN=variable:token")
    folder = tmp_path / "raw"
    airflow.add("raw", exported(folder, "raw", RAW, secrets=secrets, more={"dag": "raw"}))
    weekly = {"dag": "weekly", "start": "2099-01-01"}
    airflow.add("weekly", exported(folder, "raw", RAW, secrets=secrets, schedule="0 6 * * 1", more=weekly))
    asset = "penstock://raw__all"
    airflow.add("behind", exported(tmp_path / "behind", "behind", BEHIND, schedule=f"asset:{asset}"))

    run = airflow.trigger("raw", n=3, folder=str(folder))
    assert airflow.wait("raw", run) == "success"
    url = "postgresql://ana:s3cret-pw@db:5432/x"
    assert json.loads((folder / "seen.json").read_text()) == [url, "t0ken-of-ours", []]
    log = airflow.log("raw", run, "raw")
    assert "the address is ***" in log
    assert "s3cret-pw" not in log
    task = airflow.api(f"dags/raw/dagRuns/{quote(run)}/taskInstances/raw")
    assert task["pool"] == "narrow"
    kept = airflow.api(f"dags/raw/dagRuns/{quote(run)}/taskInstances/raw/xcomEntries/return_value")["value"]
    kept = json.loads(kept) if isinstance(kept, str) else kept
    assert set(kept) == {"outputs", "run", "state", "champion"}
    assert len(kept["outputs"]["raw"][""]) == 64

    params = airflow.api("dags/raw/details")["params"]
    assert (params["n"]["value"], params["n"]["schema"]["type"]) == (1, "integer")
    with pytest.raises(OSError, match="400"):
        airflow.trigger("raw", n="many")
    assert airflow.api("dags/weekly")["next_dagrun_run_after"].startswith("2099-01-05T06:00")

    airflow.processes.wait("a run that the asset started", lambda: airflow.api("dags/behind/dagRuns")["dag_runs"])
    [started] = airflow.api("dags/behind/dagRuns")["dag_runs"]
    assert started["run_type"] == "asset_triggered"
    assert airflow.wait("behind", started["dag_run_id"]) == "success"


STUBBORN = """
import os
import time
import penstock as ps

@ps.step(retries=2, backoff_s=0.1)
def stubborn(folder: str):
    tries = os.path.join(folder, "stubborn.tries")
    with open(tries, "a") as file:
        file.write("x")
    n = os.path.getsize(tries)
    with open(os.path.join(folder, f"{n}.part"), "w") as file:
        file.write(" ".join(map(str, (os.getpid(), os.getppid(), WORKER))))
    os.replace(os.path.join(folder, f"{n}.part"), os.path.join(folder, f"{n}.pids"))
    if n < 3:
        time.sleep(600)
    return n

@ps.step
def after(n):
    return n

flow = ps.Flow(after(stubborn(ps.Param("folder", ""))), name="stubborn")
""".replace("WORKER", WORKER)


def parent(pid: int) -> int:
    """Of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_task_that_airflow_loses_leaves_no_worker_and_is_tried_again(airflow: Any, tmp_path: Path) -> None:
    """Its process killed, as memory that runs out would; then asked to end, as a machine that goes down would."""
    airflow.add("stubborn", exported(tmp_path / "stubborn", "stubborn", STUBBORN, more={"dag": "stubborn"}))
    run = airflow.trigger("stubborn", folder=str(tmp_path))
    for n, how in ((1, signal.SIGKILL), (2, signal.SIGTERM)):
        airflow.processes.wait(f"try {n}", (tmp_path / f"{n}.pids").exists)
        pids = [int(word) for word in (tmp_path / f"{n}.pids").read_text().split()]
        task = parent(pids[-1])
        os.kill(task if how == signal.SIGKILL else parent(task), how)
        airflow.processes.wait("the end of them", lambda all_of=(*pids, task): not any(map(lives, all_of)), 60)
    assert airflow.wait("stubborn", run) == "success"
    assert airflow.tries("stubborn", run, "stubborn") == 3
    assert (tmp_path / "stubborn.tries").stat().st_size == 3
    rendered = airflow.api(f"dags/stubborn/dagRuns/{quote(run)}/taskInstances/stubborn")["rendered_fields"]
    assert rendered["command"].endswith(f"    --step stubborn --param folder={tmp_path} --run stubborn/{run}")
    assert "Airflow ended the task" in airflow.log("stubborn", run, "stubborn", 2)
    tasks = airflow.api("dags/stubborn/tasks")["tasks"]
    assert {task["operator_name"] for task in tasks} == {"Penstock"}


def lives(pid: int) -> bool:
    """Whether a process runs (one that has ended may wait for its parent to notice)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


COST = """
import time
import airflow.sdk
start = time.process_time()
airflow.sdk.DAG, airflow.sdk.BaseOperator, airflow.sdk.Asset, airflow.sdk.AssetAlias, airflow.sdk.Param
own = time.process_time()
import ten_dag
print(own, time.process_time() - own)
"""


def test_the_file_for_airflow_costs_little_beside_airflow(airflow: Any, tmp_path: Path) -> None:
    """At most a twentieth of what Airflow's own import takes: about 2 s of processor time, where 50 ms are promised."""
    folder = airflow.processes.folder / "cost"
    (tmp_path / "ten").mkdir()
    folder.mkdir()
    (folder / "ten_dag.py").write_text(exported(tmp_path / "ten", "ten", TEN))
    own, ours = map(float, airflow.processes.run("-c", COST, PYTHONPATH=str(folder)).split()[-2:])
    assert ours < own / 20
