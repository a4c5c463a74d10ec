"""A real MLflow server, in an environment of its own: what is mirrored is there, and its model loads without us."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from penstock.testing.proxy import Fault, FaultProxy

PROJECT = Path(__file__).parents[1] / "serve" / "fraud_project"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DECLARED = """
import penstock as ps
from sklearn.linear_model import LogisticRegression

churn = ps.Workflow(
    name="churn", data=ps.read("customers.csv"), target="churned", key="customer_id", model=LogisticRegression(),
    metrics=["roc_auc", "neg_log_loss"], gate=[ps.AtLeast("roc_auc", 0.6)],
)
"""
LOAD = """
import importlib.util, json, sys, warnings
import mlflow, pandas
assert importlib.util.find_spec("penstock") is None
warnings.simplefilter("ignore")
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/churn@champion")
print(json.dumps(model.predict(pandas.read_csv("customers.csv").head(5)).to_dict("records")))
"""
QUICK = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def server(mlflow_command, tmp_path_factory, port):
    tmp_path = tmp_path_factory.mktemp("mlflow")
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{tmp_path}/db.sqlite", "--artifacts-destination", f"{tmp_path}/art"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | QUICK
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [mlflow_command, *words], cwd=tmp_path, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(400):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
            except OSError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.25)
        yield f"http://127.0.0.1:{port}", tmp_path / "art"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def asked(url, path, **body):
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def penstock(folder, url, *words, patience_s=2):
    env = os.environ | {"PENSTOCK_MLFLOW_TRACKING_URI": url, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(patience_s)}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=env, capture_output=True, text=True, timeout=200, check=False
    )


def waits(folder):
    outbox = folder / ".penstock" / "mlflow-outbox" / "dev"
    return [name for name in os.listdir(outbox) if name.endswith(".json")]


def drained(folder, url, patience_s=2):
    """One more process that sends; it waits for the one that the run has started."""
    penstock(folder, url, "penstock.integrations.mlflow", str(folder), "dev", patience_s=patience_s)
    return waits(folder)


def last_fault(folder):
    told = folder / ".penstock" / "mlflow-outbox" / "dev" / "last-fault.txt"
    return told.read_text() if told.exists() else "no fault is on record"


def test_what_is_run_tried_and_moved_is_there_and_loads_without_penstock(server, mlflow_command, tmp_path, customers):
    server, files = server
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "customers.csv").write_text(customers)
    (folder / "churn.py").write_text(DECLARED)
    proxy = FaultProxy("127.0.0.1", int(server.rpartition(":")[2]))
    try:
        # The first request hangs past its time-out, later ones are answered with an error or cut.
        proxy.plan(Fault("hang"), Fault("hang"))
        tried = penstock(folder, proxy.url, "penstock", "try", "-q", "--set", "C=1", "churn.py")
        assert tried.returncode == 2, tried.stdout
        tried = penstock(folder, proxy.url, "penstock", "try", "-q", "--set", "model.C=0.5", "churn.py")
        assert tried.returncode == 0, tried.stderr
        ran = penstock(folder, proxy.url, "penstock", "run", "-q", "churn.py")
        assert ran.returncode == 0, ran.stderr
        for fault in (
            Fault("status", 500),
            Fault("cut"),
            Fault("lost", 500, match="runs/create"),
            Fault("status", 503),
        ):
            proxy.plan(fault)
            drained(folder, proxy.url)
        # A sender that finds another one waiting for its turn ends at once: that one may still meet the faults.
        deadline = time.monotonic() + 150
        while drained(folder, proxy.url, patience_s=30) and time.monotonic() < deadline:
            time.sleep(1)
        assert waits(folder) == [], last_fault(folder)
    finally:
        proxy.stop()
    [experiment] = [
        one for one in asked(server, "experiments/search", max_results=10)["experiments"] if one["name"] == "churn"
    ]
    runs = asked(server, "runs/search", experiment_ids=[experiment["experiment_id"]])["runs"]
    tags = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs]
    assert sorted(tag["penstock.kind"] for tag in tags) == ["run", "try"]
    metrics = {one["key"]: one["value"] for one in runs[0]["data"]["metrics"]}
    assert metrics["log_loss"] > 0
    assert metrics["roc_auc.low"] < metrics["roc_auc"]
    assert {one["key"] for one in runs[0]["data"]["params"]} >= {"model", "target.column"}
    found = asked(server, "registered-models/get?name=churn")["registered_model"]
    assert {one["alias"] for one in found["aliases"]} == {"champion", "challenger"}
    assert not list(files.rglob("*.pkl"))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | QUICK
    python = mlflow_command.parent / "python"
    loaded = subprocess.run(
        [python, "-c", LOAD, server], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert loaded.returncode == 0, loaded.stderr[-2000:]
    answers = json.loads(loaded.stdout.strip().splitlines()[-1])
    (folder / "five.csv").write_text("\n".join(customers.splitlines()[:6]) + "\n")
    ours = penstock(folder, "", "penstock", "predict", "churn", "-i", "five.csv")
    for line, answer in zip(ours.stdout.splitlines()[1:], answers, strict=True):
        key, label, score = line.split(",")
        assert (answer["customer_id"], str(answer["label"])) == (key, label)
        assert answer["score"] == pytest.approx(float(score), abs=1e-12)


def test_classes_of_the_project_load_there_with_their_code(server, mlflow_command, tmp_path):
    url, _ = server
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    rng = random.Random(1)
    rows = [f"{i},{rng.lognormvariate(3 + i % 2, 0.5):.3f},{rng.uniform(18, 80):.2f},{i % 2}" for i in range(240)]
    (folder / "payments.csv").write_text("\n".join(["id,amount,age,fraud", *rows]) + "\n")
    ran = penstock(folder, url, "penstock", "run", "fraud_model.py", "-q", patience_s=60)
    assert ran.returncode == 0, ran.stderr
    until(lambda: None if drained(folder, url, patience_s=60) else 1, "an empty outbox")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(folder / "payments.csv", elsewhere)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | QUICK
    load = LOAD.replace("churn@champion", "fraud@champion").replace("customers.csv", "payments.csv")
    python = mlflow_command.parent / "python"
    loaded = subprocess.run(
        [python, "-c", load, url], cwd=elsewhere, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert loaded.returncode == 0, loaded.stderr[-2000:]
    answers = json.loads(loaded.stdout.strip().splitlines()[-1])
    (folder / "five.csv").write_text("\n".join(["id,amount,age,fraud", *rows[:5]]) + "\n")
    ours = penstock(folder, "", "penstock", "predict", "fraud", "-i", "five.csv")
    for line, answer in zip(ours.stdout.splitlines()[1:], answers, strict=True):
        assert answer["score"] == pytest.approx(float(line.split(",")[2]), abs=1e-12)


WAITING = """
import os, time
import penstock as ps

@ps.step
def draw(how: str) -> str:
    ps.log(drawn=3, curve="<svg xmlns='http://www.w3.org/2000/svg'/>")
    return how

@ps.step
def wait(how: str) -> str:
    open(f"{how}.there", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.05)
    if how == "fails":
        raise ValueError("it broke")
    return how

waits = ps.Flow(wait(draw(ps.Param("how", "ends"))), name="waits")
"""
ENDS = {"ends": "FINISHED", "fails": "FAILED", "cancelled": "KILLED", "killed": "KILLED"}


def runs_there(url, experiment):
    found = asked(url, f"experiments/get-by-name?experiment_name={experiment}")["experiment"]
    runs = asked(url, "runs/search", experiment_ids=[found["experiment_id"]])["runs"]
    return {next(p["value"] for p in run["data"]["params"] if p["key"] == "how"): run for run in runs}


def until(test, what):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, LookupError, StopIteration):
            if (found := test()) is not None:
                return found
        time.sleep(0.5)
    raise AssertionError(f"never seen: {what}")


def test_a_run_is_there_while_it_goes_on_and_its_end_however_it_ends(server, tmp_path):
    url, files = server
    (tmp_path / "waits.py").write_text(WAITING)
    (tmp_path / "penstock.toml").write_text("")
    env = os.environ | {"PENSTOCK_MLFLOW_TRACKING_URI": url}
    words = [sys.executable, "-m", "penstock", "run", "waits.py", "-q", "-p"]
    going = {
        how: subprocess.Popen([*words, f"how={how}"], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL) for how in ENDS
    }
    try:
        until(lambda: all((tmp_path / f"{how}.there").exists() for how in ENDS) or None, "four runs that wait")

        def known():
            there = runs_there(url, "waits")
            logged = [any(m["key"] == "draw.drawn" for m in run["data"].get("metrics", ())) for run in there.values()]
            return there if len(there) == 4 and all(logged) else None

        seen = until(known, "four runs, each with what its first step logged")
        assert {run["info"]["status"] for run in seen.values()} == {"RUNNING"}
        going["cancelled"].send_signal(signal.SIGINT)
        going["killed"].kill()
        assert going["cancelled"].wait(60) == 130
        (tmp_path / "go").touch()
        assert (going["ends"].wait(60), going["fails"].wait(60)) == (0, 5)
    finally:
        for process in going.values():
            process.kill()
            process.wait()

    def ended():
        there = runs_there(url, "waits")
        return there if all(run["info"]["status"] != "RUNNING" for run in there.values()) else None

    there = until(ended, "the ends of four runs")
    assert {how: run["info"]["status"] for how, run in there.items()} == ENDS
    tags = {tag["key"]: tag["value"] for tag in there["fails"]["data"]["tags"]}
    assert tags["penstock.failed"].startswith("wait: ")
    assert "it broke" in tags["penstock.failed"]
    assert len(list(files.rglob("figures/draw/curve.svg"))) == 4
    until(lambda: None if waits(tmp_path) else 1, "an empty outbox")


@pytest.fixture
def customers():
    rng = random.Random(1)
    lines = ["customer_id,a,b,churned"]
    for i in range(240):
        a = rng.gauss(0, 1)
        lines.append(f"c{i},{a:.4f},{rng.gauss(0, 1):.4f},{int(a + rng.gauss(0, 0.5) > 0)}")
    return "\n".join(lines) + "\n"
