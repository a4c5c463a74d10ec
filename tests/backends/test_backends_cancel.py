"""Each engine that can cancel a run ends what the run does."""

from __future__ import annotations

import os
from pathlib import Path

# A task that tells who it is and then does not end by itself.
LONG = """
import os, time

def long(path):
    with open(path + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.replace(path + ".new", path)
    time.sleep(600)
"""
AIRFLOW = (
    LONG
    + """
from airflow.sdk import dag, task

@dag(schedule=None, params={"path": ""})
def long_flow():
    @task
    def only(params):
        long(params["path"])

    only()

long_flow()
"""
)
PREFECT = (
    LONG
    + """
from prefect import flow

@flow
def long_flow(path: str):
    long(path)

if __name__ == "__main__":
    long_flow.serve(name="long_flow")
"""
)
DAGSTER = (
    LONG
    + """
import dagster as dg

class Given(dg.Config):
    path: str

@dg.asset
def only(config: Given):
    long(config.path)

defs = dg.Definitions([only], executor=dg.in_process_executor)
"""
)


def started(processes) -> int:
    """Id of the task's process, once it has begun."""
    path = processes.folder / "pid"
    pid = int(processes.wait("task", lambda: path.exists() and path.read_text()))
    assert lives(pid)
    return pid


def lives(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_airflow_ends_a_run_that_is_cancelled(airflow):
    airflow.add("long_flow", AIRFLOW)
    run = airflow.trigger("long_flow", path=os.fspath(airflow.processes.folder / "pid"))
    pid = started(airflow.processes)
    airflow.cancel("long_flow", run)
    assert airflow.wait("long_flow", run) == "failed"
    airflow.processes.wait("end of the task", lambda: not lives(pid))


def test_prefect_ends_a_run_that_is_cancelled(prefect):
    prefect.serve("long_flow", PREFECT)
    run = prefect.trigger("long_flow", path=os.fspath(prefect.processes.folder / "pid"))
    pid = started(prefect.processes)
    prefect.cancel(run)
    assert prefect.wait(run) == "Cancelled"
    prefect.processes.wait("end of the flow", lambda: not lives(pid))


def test_dagster_ends_a_run_that_is_cancelled(dagster):
    dagster.add("long_flow", DAGSTER)
    given = {"path": os.fspath(dagster.processes.folder / "pid")}
    run = dagster.trigger("long_flow", config={"ops": {"only": {"config": given}}})
    pid = started(dagster.processes)
    dagster.cancel(run)
    assert dagster.wait(run) == "CANCELED"
    dagster.processes.wait("end of the run", lambda: not lives(pid))
