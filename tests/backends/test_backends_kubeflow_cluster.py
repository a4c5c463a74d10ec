"""A run that is sent to Kubeflow's API: against a server of our own that knows its paths; no cluster was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from penstock.backends.kubeflow_references import faults

SMALL = """
import penstock as ps

@ps.step(retries=2, backoff_s=0.1, timeout_s=60)
def first(n: int):
    return n

@ps.step
def second(n):
    return n + 1

flow = ps.Flow(second(first(ps.Param("n", 1))), name="Small_one")
"""


class Api(BaseHTTPRequestHandler):
    """As much of the API of Kubeflow Pipelines as sending a run, waiting for it and terminating it takes."""

    seen: ClassVar[list[tuple[str, str, Any, str]]] = []
    states: ClassVar[list[str | int]] = []
    """What a run is in, each time when it is asked for; the last for good. A number is an error of HTTP."""

    def answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        path = self.path.partition("?")[0].removeprefix("/apis/v2beta1/")
        body = json.loads(self.rfile.read(size)) if size else None
        self.seen.append((self.command, path, body, self.headers.get("Authorization", "")))
        state = self.states.pop(0) if path == "runs/r1" and len(self.states) > 1 else self.states[0]
        found: dict[str, Any] = {}
        if path == "experiments" and self.command == "POST":
            found = {"experiment_id": "e1"}
        elif path == "runs":
            found = {"run_id": "r1"}
        elif path == "runs/r1":
            found = {"run_id": "r1", "state": state, "error": {"code": 1, "message": "said by the cluster"}}
        page = state == "LOGIN"
        failed = isinstance(state, int) and (path == "runs/r1" or state == 403)
        text = (
            b"<html>Log in</html>"
            if page
            else json.dumps({"error": "no such permission"} if failed else found).encode()
        )
        self.send_response(int(state) if failed else 200)
        self.send_header("Content-Type", "text/html" if page else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


SEND = """
import json, os, sys
from penstock.backends import kubeflow_cluster
from penstock.backends.backend import Options
from penstock.backends.compiled import compiled
from penstock.backends.kubeflow import Kubeflow
from penstock.errors import BackendError
kubeflow_cluster.EVERY_S, kubeflow_cluster.PATIENCE = 0.05, 4
os.environ["PENSTOCK_KFP_TOKEN"] = "t0ken"
flow = compiled(sys.argv[1], group="step")
options = Options(group="step", image="r/x@sha256:0", more={"on": sys.argv[2], "experiment": "mine"})
def send():
    ended = Kubeflow().run(flow, sys.argv[2], options, lambda *_: None)
    print(json.dumps([ended.run, ended.state, ended.outcome, ended.url, ended.reason]))
"""
"""Most tests send in one go: the SDK is loaded once."""


@pytest.fixture
def api() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Api.seen.clear()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(SMALL)
    return tmp_path / "flows.py"


def test_kubeflow_s_client_sends_a_run_and_waits_for_its_end(kubeflow: Any, api: str, file: Path) -> None:
    """An API that does not answer for a moment ends no waiting."""
    Api.states[:] = ["RUNNING", 503, 503, "RUNNING", "CANCELED"]
    said = kubeflow.processes.run("-c", SEND + "send()", file, api)
    url = f"http://{api}/#/runs/details/r1"
    assert json.loads(said) == ["r1", "CANCELED", "cancelled", url, "said by the cluster"]
    [(sent, token)] = [(body, token) for method, path, body, token in Api.seen if (method, path) == ("POST", "runs")]
    assert (sent["experiment_id"], token) == ("e1", "Bearer t0ken")
    assert faults(sent["pipeline_spec"].get("pipeline_spec", sent["pipeline_spec"])) == []
    assert [path for _, path, _, _ in Api.seen].count("runs/r1") == 5
    assert not any(path.endswith(":terminate") for _, path, _, _ in Api.seen)


FAILING = """
def told():
    try:
        send()
    except BackendError as error:
        print(json.dumps([error.what, error.hint]))
told()
sys.argv[2] = "127.0.0.1:9"
told()
"""


def test_what_kubeflow_s_api_does_not_take_is_said_in_a_sentence(kubeflow: Any, api: str, file: Path) -> None:
    Api.states[:] = [403]
    said = kubeflow.processes.run("-c", SEND + FAILING, file, api).splitlines()
    denied, absent = map(json.loads, said)
    assert denied[0] == f'http://{api} took no run: 403 {{"error": "no such permission"}}'
    assert "PENSTOCK_KFP_TOKEN" in denied[1]
    assert "t0ken" not in denied[0]
    assert absent[0].startswith("http://127.0.0.1:9 took no run: ")
    assert "host:port" in absent[1]
    Api.states[:] = ["LOGIN"]
    said = kubeflow.processes.run("-c", SEND + FAILING.partition("sys.argv")[0], file, api)
    assert "it asks for a login" in json.loads(said)[0]


def test_a_run_that_kubeflow_s_api_tells_nothing_of_goes_on_there(kubeflow: Any, api: str, file: Path) -> None:
    Api.states[:] = ["RUNNING", 503]
    said = kubeflow.processes.run("-c", SEND + FAILING.partition("sys.argv")[0], file, api)
    assert "does not tell of the run, which goes on there: 503" in json.loads(said)[0]
    assert not any(path.endswith(":terminate") for _, path, _, _ in Api.seen)


def test_a_run_on_a_cluster_of_kubeflow_is_terminated_with_who_waits(kubeflow: Any, api: str, file: Path) -> None:
    Api.states[:] = ["RUNNING"]
    guard = "\nfrom penstock.cli import failing\nsys.exit(failing.guarded(lambda words: send() or 0, []))\n"
    process = kubeflow.processes.start("sent", "python", "-c", SEND + guard, file, api)
    end = time.monotonic() + 60
    while not any(path == "runs/r1" for _, path, _, _ in Api.seen) and time.monotonic() < end:
        time.sleep(0.05)
    process.terminate()
    process.wait(60)
    kubeflow.processes.forget("sent")
    assert process.returncode == 143
    assert ("POST", "runs/r1:terminate") in [(method, path) for method, path, _, _ in Api.seen]
