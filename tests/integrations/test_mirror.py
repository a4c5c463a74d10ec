"""The mirror: what is sent, in which order, once; and what a server that is away, slow or unwilling does to it."""

import json
import os
import socket
import time

import pytest

from penstock.core.artifact import Artifact
from penstock.core.ports import Config, Home
from penstock.core.run import Entry, Group, Run
from penstock.errors import UntrustedTypeError
from penstock.formats.registry import FormatRegistry
from penstock.integrations.mlflow import drain, main, sent_of
from penstock.integrations.tracking import Away, Refused
from penstock.lifecycle.mirror import FAULT, events, outbox, tell_run, tell_workflow, waiting
from penstock.testing.memory import MemoryLedger, MemoryObjects


class Server:
    """A tracking server in memory. `faults` are raised by the next calls, one each."""

    def __init__(self, *faults):
        self.faults, self.runs, self.models, self.aliases, self.calls = list(faults), {}, {}, {}, 0

    def _call(self):
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault

    def put_run(self, sent):
        self._call()
        self.runs[sent.run] = sent
        return f"there-{sent.run}"

    def versions(self, workflow):
        self._call()
        return dict(self.models)

    def put_version(self, found, run, files):
        self._call()
        assert found.number not in self.models
        assert run == f"there-{found.body['run']}"
        self.models[found.number] = f"v{found.number}"
        return self.models[found.number]

    def point(self, workflow, name, to):
        self._call()
        self.aliases[name] = to


def write(home, found, folder):
    os.makedirs(folder)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.lifecycle.mirror.spawn", lambda *_, **__: 0)
    config = Config(str(tmp_path), "", "", mlflow={"tracking_uri": "http://127.0.0.1:1"})
    home = Home(config, MemoryObjects(), MemoryLedger(), FormatRegistry())
    shown = {"name": "log_loss", "value": 0.3, "low": 0.2, "high": 0.4, "lower_is_better": True}
    tried = {"primary": "neg_log_loss", "metrics": {"neg_log_loss": {"value": -0.3, "shown": shown}}}
    info = {"try": tried, "parameters": {"model.C": 0.5}, "note": "woe", "version": 1}
    home.ledger.commit(Group(runs=[Run(digit * 16, "churn", "run", "done", 1.0, 2.0, info=info) for digit in "ab"]))
    bundle = Artifact("c" * 64, "bundle", 1).to_json()
    entries = [Entry("churn/version", n, {"bundle": bundle, "run": run * 16}) for n, run in ((1, "a"), (2, "b"))]
    home.ledger.append(entries)
    home.ledger.append([Entry("churn/alias/champion", 1, {"version": 1})])
    return home


def test_runs_versions_and_aliases_arrive_once_and_in_their_order(home):
    tell_run(home, "a" * 16)
    tell_workflow(home, "churn")
    server = Server()
    assert drain(home, outbox(home.config), lambda _: server, write) == 0
    assert (list(server.runs), server.models) == (["a" * 16, "b" * 16], {1: "v1", 2: "v2"})
    assert server.aliases == {"champion": "v1", "challenger": None}
    sent = server.runs["a" * 16]
    assert sent.metrics == {"log_loss": 0.3, "log_loss.low": 0.2, "log_loss.high": 0.4}
    assert (sent.params, sent.tags["mlflow.note.content"], sent.status) == ({"model.C": "0.5"}, "woe", "FINISHED")
    assert events(outbox(home.config)) == []


@pytest.mark.parametrize("call", range(7))
def test_a_server_that_goes_away_at_any_call_is_gone_on_with(home, call):
    tell_run(home, "a" * 16)
    tell_run(home, "b" * 16)
    server = Server(*[None] * call, Away("gone: http://ana:pw@h"))
    assert drain(home, outbox(home.config), lambda _: server, write) > 0
    told = waiting(home)
    assert told["fault"] == "gone: http://ana:***@h"
    assert drain(home, outbox(home.config), lambda _: server, write) == 0
    assert (set(server.runs), set(server.models)) == ({"a" * 16, "b" * 16}, {1, 2})
    assert waiting(home) == {"events": 0, "fault": ""}


def test_what_a_server_never_takes_does_not_hold_up_the_rest(home):
    tell_run(home, "a" * 16)
    tell_run(home, "b" * 16)
    folder = outbox(home.config)
    server = Server(Refused("no"))
    with open(os.path.join(folder, "0-torn.json"), "w") as file:
        file.write("{")
    assert drain(home, folder, lambda _: server, write) == 0
    assert len(os.listdir(os.path.join(folder, "refused"))) == 2
    assert "b" * 16 in server.runs


def test_a_version_that_cannot_be_read_here_is_left_out_and_told(home):
    def refuse(home, found, folder):
        if found.number == 1:
            raise UntrustedTypeError("its types are not trusted")
        os.makedirs(folder)

    tell_workflow(home, "churn")
    server = Server()
    drain(home, outbox(home.config), lambda _: server, refuse)
    assert server.models == {2: "v2"}
    with open(os.path.join(outbox(home.config), FAULT)) as file:
        assert "churn@1" in file.read()


def test_nothing_is_written_where_no_server_is_named(home, tmp_path):
    plain = Home(Config(str(tmp_path / "x"), "", ""), home.objects, home.ledger, home.formats)
    tell_run(plain, "a" * 16)
    assert not os.path.exists(outbox(plain.config))


def test_telling_costs_a_moment_and_a_full_disk_is_no_fault_of_the_run(home, monkeypatch):
    before = time.process_time()
    for _ in range(20):
        tell_run(home, "a" * 16)
    assert (time.process_time() - before) / 20 < 0.05
    monkeypatch.setattr("penstock.lifecycle.mirror.os.rename", lambda *_: (_ for _ in ()).throw(OSError("full")))
    tell_run(home, "a" * 16)
    assert len(events(outbox(home.config))) == 20


def test_odd_names_become_names_that_mlflow_takes(home):
    run = Run("d" * 16, "churn", "run", "failed", 1.0, 2.0, info={"parameters": {"model.a[0]|x": "y" * 9_999}})
    sent = sent_of(home, run)
    [(name, value)] = sent.params.items()
    assert (name, len(value), sent.status) == ("model.a_0__x", 500, "FAILED")


def test_a_server_that_never_answers_holds_up_nobody_but_the_process_that_sends(tmp_path, monkeypatch):
    """The run's own part returns at once; the sender gives up by its own time-out, and the event stays."""
    pytest.importorskip("mlflow")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("PENSTOCK_MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        (tmp_path / "penstock.toml").write_text("")
        (tmp_path / ".penstock" / "mlflow-outbox" / "dev").mkdir(parents=True)
        from penstock.project import open_home

        home = open_home(str(tmp_path))
        home.ledger.commit(Group(runs=[Run("a" * 16, "churn", "try", "done", 1.0, 2.0)]))
        (tmp_path / ".penstock" / "mlflow-outbox" / "dev" / "1.json").write_text(json.dumps({"run": "a" * 16}))
        for name, value in fast().items():  # put back at the end
            monkeypatch.setenv(name, value)
        start = time.monotonic()
        assert main([str(tmp_path), "dev"]) == 1
        assert time.monotonic() - start < 60
        assert "MLflow" in waiting(home)["fault"]
        assert waiting(home)["events"] == 1


def fast():
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
