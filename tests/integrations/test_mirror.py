"""The mirror: what is sent, in which order, once; and what a server that is away, slow or unwilling does to it."""

import fcntl
import json
import os
import socket
import time
from dataclasses import replace

import pytest

from penstock.core.artifact import Artifact
from penstock.core.plan import Reason
from penstock.core.ports import Config, Home
from penstock.core.run import Entry, Group, Run, StepRun
from penstock.errors import UntrustedTypeError
from penstock.formats.registry import FormatRegistry
from penstock.integrations import mlflow
from penstock.integrations.mlflow import Sender, main
from penstock.integrations.sent import sent_of
from penstock.integrations.tracking import Away, Refused
from penstock.lifecycle import alive
from penstock.lifecycle.mirror import (
    FAULT,
    GOING_ON,
    LOCK,
    events,
    going_on,
    outbox,
    tell_begun,
    tell_run,
    tell_workflow,
    waiting,
)
from penstock.lifecycle.register import json_artifact
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


def drain(home, folder, connect, write):
    return Sender(home, folder, connect, write).drain()


@pytest.fixture
def started():
    """Command lines of the processes that were started to send."""
    return []


@pytest.fixture
def home(tmp_path, monkeypatch, started):
    monkeypatch.setattr("penstock.lifecycle.mirror.spawn", lambda words, **_: started.append(words))
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
    refused = sorted(os.listdir(os.path.join(folder, "refused")))
    assert [name.rpartition(".")[2] for name in refused] == ["json", "txt"] * 2
    with open(os.path.join(folder, "refused", refused[-1])) as file:
        assert file.read() == "no"
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


# ── while a run goes on ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def running(home):
    """A run that goes on in this process, and a sender for it."""
    run = Run("e" * 16, "churn", "run", "running", 5.0, info={"parameters": {"model.C": 2}, "process": alive.mark()})
    home.ledger.commit(Group(runs=[run]))
    tell_begun(home, run)
    return run


def step(run, name, **more):
    return StepRun(run.id, name, 1, None, "run", "done", Reason("new").to_json(), **more)


def test_a_run_is_there_while_it_goes_on_and_ends_there_as_here(home, running):
    server = Server()
    sender = Sender(home, outbox(home.config), lambda _: server, write)
    sender.look()
    begun = server.runs[running.id]
    assert (begun.status, begun.params, begun.metrics, begun.ended) == ("RUNNING", {"model.C": "2"}, {}, 0)
    calls = server.calls
    sender.look()
    assert server.calls == calls  # no news, no request
    notes = {"rows": 3, "label": "x", "ok": True, "figures": {"curve": {"kind": "png", "digest": "d" * 64, "size": 9}}}
    home.ledger.commit(Group(step_runs=[step(running, "clean", wall_s=1.5, peak_bytes=7, notes=notes)]))
    sender.look()
    known = server.runs[running.id]
    assert known.metrics == {"clean.rows": 3.0, "seconds.clean": 1.5, "peak_bytes": 7.0}
    assert known.files == {"figures/clean/curve.png": "d" * 64}
    assert sender.goes_on()
    home.ledger.commit(Group(runs=[replace(running, state="refused", ended=9.0)]))
    sender.look()
    assert (server.runs[running.id].status, server.runs[running.id].ended) == ("FINISHED", 9000)
    assert (going_on(outbox(home.config)), sender.goes_on()) == ([], False)


def test_figures_are_there_when_they_are_known(home, running):
    shown = {"name": "roc_auc", "value": 0.7, "low": 0.6, "high": 0.8}
    report = json_artifact(home.objects, {"metrics": {"roc_auc": {"shown": shown}}})
    home.ledger.commit(Group(step_runs=[step(running, "evaluate", outputs=(report,))]))
    assert sent_of(home, running).metrics["roc_auc.low"] == 0.6


@pytest.mark.parametrize(
    ("state", "status"),
    [("done", "FINISHED"), ("undecided", "FINISHED"), ("failed", "FAILED"), ("cancelled", "KILLED")],
)
def test_every_end_is_told(home, running, state, status):
    home.ledger.commit(Group(runs=[replace(running, state=state, ended=9.0)]))
    error = {"what": "it broke"}
    home.ledger.commit(Group(step_runs=[replace(step(running, "clean"), state="failed", error=error)]))
    sent = sent_of(home, replace(running, state=state))
    assert (sent.status, sent.tags["penstock.failed"]) == (status, "clean: it broke")


def test_a_run_whose_process_was_killed_is_ended_there(home, running, monkeypatch):
    server = Server()
    sender = Sender(home, outbox(home.config), lambda _: server, write)
    sender.look()
    monkeypatch.setattr(alive, "is_gone", lambda _: True)
    sender.look()
    assert (server.runs[running.id].status, server.runs[running.id].ended) == ("KILLED", 0)
    assert going_on(outbox(home.config)) == []


def test_a_run_that_died_before_its_row_was_written_is_forgotten(home):
    never = Run("f" * 16, "churn", "run", "running", 5.0, info={"process": alive.mark()})
    tell_begun(home, never)
    server = Server()
    sender = Sender(home, outbox(home.config), lambda _: server, write)
    sender.look()
    assert sender.goes_on()
    gone = alive.mark() | {"start": "1"}
    tell_begun(home, replace(never, info={"process": gone}))
    sender.look()
    assert (going_on(outbox(home.config)), server.calls) == ([], 0)


def test_a_run_of_another_machine_is_left_to_it(home, running):
    tell_begun(home, replace(running, info={"process": alive.mark() | {"host": "elsewhere"}}))
    server = Server()
    sender = Sender(home, outbox(home.config), lambda _: server, write)
    sender.look()
    assert (server.calls, sender.goes_on(), going_on(outbox(home.config))) == (0, False, [running.id])


def test_a_version_and_an_alias_are_there_before_their_run_has_ended(home, running):
    server = Server()
    sender = Sender(home, outbox(home.config), lambda _: server, write)
    sender.look()
    assert server.models == {}
    bundle = Artifact("c" * 64, "bundle", 1).to_json()
    home.ledger.append([Entry("churn/version", 3, {"bundle": bundle, "run": running.id})])
    home.ledger.append([Entry("churn/alias/challenger", 1, {"version": 3})])
    sender.look()
    assert server.models[3] == "v3"
    assert server.aliases["challenger"] == "v3"
    assert server.runs[running.id].status == "RUNNING"


@pytest.mark.parametrize("call", range(3))
def test_news_that_could_not_be_sent_are_sent_the_next_time(home, running, call):
    server = Server(*[None] * call, Away("gone"))
    sender = Sender(home, outbox(home.config), lambda _: server, write)
    sender.look()
    bundle = Artifact("c" * 64, "bundle", 1).to_json()
    home.ledger.append([Entry("churn/version", 3, {"bundle": bundle, "run": running.id})])
    home.ledger.commit(Group(runs=[replace(running, state="done", ended=9.0)]))
    for _ in range(3):
        sender.look()
    assert server.runs[running.id].status == "FINISHED"
    assert (set(server.models), going_on(outbox(home.config))) == ({1, 2, 3} if call else set(), [])


def test_who_sends_goes_on_until_the_last_run_has_ended_and_not_longer(home, running, monkeypatch):
    monkeypatch.setattr(mlflow, "LOOK_S", 0.0)
    monkeypatch.setattr(mlflow, "SHARE", 0)
    monkeypatch.setattr(mlflow.signal, "alarm", lambda _: 0)
    server, looks = Server(), []

    def end(_folder, _pause, _waits):
        looks.append(server.runs[running.id].status)
        if len(looks) == 3:
            home.ledger.commit(Group(runs=[replace(running, state="done", ended=9.0)]))
            tell_run(home, running.id)

    monkeypatch.setattr(mlflow, "_wait", end)
    assert mlflow.send(Sender(home, outbox(home.config), lambda _: server, write)) == 0
    assert (looks, server.runs[running.id].status) == (["RUNNING"] * 3, "FINISHED")


def test_where_the_server_is_away_nobody_waits_for_it_longer_than_the_run_goes_on(home, running, monkeypatch):
    monkeypatch.setattr(mlflow.signal, "alarm", lambda _: 0)
    pauses = []

    def wait(_folder, pause, _waits):
        pauses.append(pause)
        if len(pauses) == 6:
            home.ledger.commit(Group(runs=[replace(running, state="done", ended=9.0)]))
            tell_run(home, running.id)

    monkeypatch.setattr(mlflow, "_wait", wait)
    server = Server(*[Away("gone")] * 99)
    assert mlflow.send(Sender(home, outbox(home.config), lambda _: server, write)) == 1
    assert pauses == [6.0, 12.0, 24.0, 48.0, 60.0, 60.0]  # it is asked more and more rarely
    healthy = Server()
    assert mlflow.send(Sender(home, outbox(home.config), lambda _: healthy, write)) == 0
    assert healthy.runs[running.id].status == "FINISHED"


def test_beside_one_that_sends_no_second_process_is_started_for_a_run_that_begins(home, running, started):
    assert len(started) == 1
    with open(os.path.join(outbox(home.config), LOCK), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tell_begun(home, running)
        assert len(started) == 1
        tell_run(home, running.id)
    assert len(started) == 2
    assert os.listdir(os.path.join(outbox(home.config), GOING_ON)) == [f"{running.id}.json"]


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
