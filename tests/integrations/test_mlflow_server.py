"""A real MLflow server, in an environment of its own: what is mirrored is there, and its model loads without us."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from penstock.testing.proxy import Fault, FaultProxy

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


@pytest.fixture
def server(mlflow_command, tmp_path, port):
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
        yield f"http://127.0.0.1:{port}"
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
    assert not list((tmp_path / "art").rglob("*.pkl"))
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


@pytest.fixture
def customers():
    import random

    rng = random.Random(1)
    lines = ["customer_id,a,b,churned"]
    for i in range(240):
        a = rng.gauss(0, 1)
        lines.append(f"c{i},{a:.4f},{rng.gauss(0, 1):.4f},{int(a + rng.gauss(0, 0.5) > 0)}")
    return "\n".join(lines) + "\n"
