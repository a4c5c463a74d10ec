"""Each engine runs a small flow that is its own, so that a failing conformance test is not the engine's."""

from __future__ import annotations

import pytest

AIRFLOW = """
import datetime
from airflow.sdk import dag, task

@dag(schedule=None, params={"n": 1})
def plain():
    @task
    def one(params):
        print("hello from one", params["n"])
        return params["n"]

    @task(retries=1, retry_delay=datetime.timedelta(seconds=0))
    def two(x, ti):
        if ti.try_number == 1:
            raise ValueError("first try")
        return x + 1

    @task
    def three(x):
        from airflow.sdk.exceptions import AirflowSkipException

        raise AirflowSkipException(f"not for {x}")

    @task
    def four(x):
        raise AssertionError("started")

    four(three(two(one())))

plain()
"""
PREFECT = """
from prefect import flow, task
from prefect.states import Completed

@task(task_run_name="one")
def one(n):
    print("hello from one", n)
    return n

tries = []

@task(task_run_name="two", retries=1)
def two(x):
    tries.append(x)
    if len(tries) == 1:
        raise ValueError("first try")
    return x + 1

@task(task_run_name="three")
def three(x):
    return Completed(name="Skipped", message=f"not for {x}")

@flow(log_prints=True)
def plain(n: int = 1):
    three(two(one(n)))

if __name__ == "__main__":
    plain.serve(name="plain")
"""
DAGSTER = """
import dagster as dg

class Given(dg.Config):
    n: int = 1

@dg.asset
def one(context, config: Given):
    print("hello from one", config.n)
    context.add_output_metadata({"rows": 3})
    return config.n

@dg.asset(retry_policy=dg.RetryPolicy(max_retries=1))
def two(context, one):
    if context.retry_number == 0:
        raise ValueError("first try")
    return one + 1

@dg.asset(output_required=False)
def three(two):
    yield from ()

@dg.asset
def four(three):
    raise AssertionError("started")

defs = dg.Definitions([one, two, three, four], executor=dg.in_process_executor)
"""
KUBEFLOW = """
from kfp import dsl

@dsl.component(install_kfp_package=False)
def one(n: int) -> int:
    print("hello from one", n)
    return n

@dsl.component(install_kfp_package=False)
def two(x: int, tries: str) -> str:
    import os

    with open(tries, "a") as file:
        file.write("x")
    if os.path.getsize(tries) == 1:
        raise ValueError("first try")
    return "refused"

@dsl.component(install_kfp_package=False)
def three():
    raise KeyError("three")

@dsl.pipeline(name="plain")
def pipeline(tries: str, until: str, n: int = 1):
    asked = two(x=one(n=n).output, tries=tries).set_retry(1)
    with dsl.If(asked.output == until):
        three()
"""
DASK = """
def one(n):
    print("hello from one", n)
    return n

def two(x, tries):
    with open(tries, "a") as file:
        file.write("x")
    with open(tries) as file:
        if file.read() == "x":
            raise ValueError("first try")
    return x + 1

def three(x):
    raise KeyError("three")

a = client.submit(one, words[0], key="one")
b = client.submit(two, a, words[1], key="two", retries=1)
c = client.submit(three, b, key="three")
answer = [b.result(), c.exception().args[0]]
client.publish_dataset(plain=[a, b, c])
"""


def on_loopback(processes):
    """What an engine listens on, once it is seen to be this machine's own."""
    found = processes.listening()
    assert found
    assert {host for host, _ in found} <= {"127.0.0.1", "::1"}
    return found


def test_airflow_runs_a_flow_of_its_own(airflow):
    airflow.add("plain", AIRFLOW)
    run = airflow.trigger("plain", n=7)
    assert airflow.wait("plain", run) == "success"
    assert airflow.tasks("plain", run) == {"one": "success", "two": "success", "three": "skipped", "four": "skipped"}
    assert airflow.tries("plain", run, "two") == 2
    assert "hello from one 7" in airflow.log("plain", run, "one")
    assert "ValueError: first try" in airflow.log("plain", run, "two", attempt=1)
    assert airflow.port in {port for _, port in on_loopback(airflow.processes)}


def test_airflow_says_what_it_cannot_import(airflow):
    with pytest.raises(AssertionError, match="no_such_module"):
        airflow.add("broken", "# airflow dag\nimport no_such_module")


def test_prefect_runs_a_served_flow_of_its_own(prefect):
    prefect.serve("plain", PREFECT)
    run = prefect.trigger("plain", n=7)
    assert prefect.wait(run) == "Completed"
    ended = {"one": "Completed", "two": "Completed", "three": "Skipped"}
    prefect.processes.wait("all tasks", lambda: prefect.tasks(run) == ended, every=0.3)  # they come after the run's end
    assert prefect.tries(run)["two"] == 2
    assert "first try" in prefect.wait_for_log(run, "hello from one 7")
    assert prefect.port in {port for _, port in on_loopback(prefect.processes)}


def test_dagster_runs_assets_of_its_own(dagster):
    dagster.add("plain", DAGSTER)
    run = dagster.trigger("plain", config={"ops": {"one": {"config": {"n": 7}}}})
    assert dagster.wait(run) == "SUCCESS"
    assert dagster.tasks(run) == {"one": "SUCCESS", "two": "SUCCESS", "three": "SUCCESS", "four": "SKIPPED"}
    assert dagster.tries(run)["two"] == 2
    assert "hello from one 7" in dagster.log(run)
    made = {e["assetKey"]["path"][0]: e["metadataEntries"] for e in dagster.events(run) if e.get("assetKey")}
    assert {"label": "rows", "description": None, "intValue": 3} in made["one"]
    assert dagster.port in {port for _, port in on_loopback(dagster.processes)}


def test_dagster_says_what_it_cannot_load(dagster):
    with pytest.raises(AssertionError, match="no_such_module"):
        dagster.add("broken", "import no_such_module")
    dagster.remove("broken")


def test_kubeflow_runs_a_pipeline_of_its_own(kubeflow):
    tries = kubeflow.processes.folder / "tries"
    compiled = kubeflow.compile("plain", KUBEFLOW)
    kubeflow.validate(compiled)
    ran = kubeflow.run(compiled, n=7, tries=str(tries), until="passed")
    assert (ran.state, ran.tasks) == ("SUCCESS", {"one": "SUCCESS", "two": "SUCCESS"})
    assert ran.tries == {"one": 1, "two": 2}
    assert "hello from one 7" in ran.log
    ran = kubeflow.run(compiled, n=7, tries=str(tries), until="refused")
    assert (ran.state, ran.tasks["three"]) == ("FAILURE", "FAILURE")
    assert "KeyError: 'three'" in ran.log


def test_kubeflow_refuses_a_field_that_it_does_not_know(kubeflow):
    compiled = kubeflow.compile("plain", KUBEFLOW)
    compiled.write_text(compiled.read_text() + "noSuchField: 1\n")
    with pytest.raises(AssertionError, match="noSuchField"):
        kubeflow.validate(compiled)


def test_dask_runs_tasks_of_its_own(dask):
    assert dask.client(DASK, 7, str(dask.processes.folder / "tries")) == [8, "three"]
    assert dask.tasks() == {"one": "memory", "two": "memory", "three": "erred"}
    assert "hello from one 7" in dask.log()
    assert len(on_loopback(dask.processes)) == 6  # each of the three, and the dashboard of each


def test_dask_notices_a_worker_that_was_killed(dask):
    dask.kill_worker("worker-1")
    dask.processes.wait("one worker less", lambda: list(dask.workers()) == ["worker-2"])
    dask.start_worker("worker-3")
    dask.processes.wait("one worker more", lambda: sorted(dask.workers()) == ["worker-2", "worker-3"])
