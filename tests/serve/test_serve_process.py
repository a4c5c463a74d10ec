"""Starting and stopping: what is refused, the ready line, following, the log, SIGTERM and the lifeline."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock.errors import ConfigurationError, MissingExtraError, UsageError
from penstock.serve import main as main_module
from penstock.serve.main import Options, bind, check, is_loopback, library_types, open_files, parse

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_an_address_beyond_loopback_needs_a_secret(host):
    assert not is_loopback(host)
    with pytest.raises(UsageError, match="there is no secret"):
        check(Options("churn", ".", host=host))
    check(Options("churn", ".", host=host, token="x" * 16))


def test_sabotage_without_the_check_of_the_address_it_would_start(monkeypatch):
    monkeypatch.setattr(main_module, "is_loopback", lambda host: True)
    check(Options("churn", ".", host="0.0.0.0"))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"token": "short"}, ConfigurationError, "fewer than 16"),
        ({"token": "é" * 16}, ConfigurationError, "ASCII"),
        ({"port": 70_000}, UsageError, "not between"),
        ({"workflow": "../x"}, UsageError, "not the name"),
        ({"workflow": "a/b"}, UsageError, "not the name"),
        ({"workflow": "x\n"}, UsageError, "not the name"),
    ],
)
def test_what_cannot_be_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        check(Options(**({"workflow": "churn", "project": "."} | options)))


def test_a_missing_extra_names_the_command(monkeypatch):
    monkeypatch.setattr(main_module, "EXTRA", ("json", "surely_not_installed"))
    with pytest.raises(MissingExtraError) as caught:
        check(Options("churn", "."))
    assert "surely_not_installed" in str(caught.value)
    assert "pip install 'penstock[serve]'" in str(caught.value)


def test_the_secret_comes_from_the_environment_only(monkeypatch):
    monkeypatch.setenv("MY_SECRET", "s" * 20)
    options = parse(["--workflow", "churn", "--token-env", "MY_SECRET", "--no-log", "--port", "0"])
    assert (options.token, options.log, options.port) == ("s" * 20, False, 0)
    assert parse(["--workflow", "churn"]).token is None
    with pytest.raises(SystemExit):
        parse(["--workflow", "churn", "--token", "x"])
    monkeypatch.setenv("PENSTOCK_TOKEN", "t" * 20)
    assert parse(["--workflow", "churn"]).token == "t" * 20
    assert parse(["--workflow", "churn", "--version", "1", "--lifeline", "5"]).token is None, "a scratch server"
    reachable = parse(["--workflow", "churn", "--version", "1", "--lifeline", "5", "--host", "0.0.0.0"])
    assert reachable.token == "t" * 20


def test_no_repr_shows_the_secret():
    from penstock.serve.http import Router

    assert "s3cret" not in repr(Options("churn", ".", token="s3cret" * 3))
    assert "s3cret" not in repr(Router((), (), "s3cret" * 3))


def test_scoring_files_needs_neither_the_extra_nor_a_library_before_it_is_used():
    code = "import sys, penstock.serve.model, penstock.serve.follow, penstock.serve.table; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(SRC)}, capture_output=True, text=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "penstock" in loaded
    assert not loaded & {"msgspec", "uvicorn", "uvloop", "httptools", "pandas", "numpy", "sklearn"}


def test_a_port_that_is_taken_is_said():
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1, port"):
            bind("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UsageError, match="cannot listen"):
        bind("no-such-host.invalid", 0)


def test_types_of_the_project_are_not_trusted_in_a_server(tmp_path, monkeypatch):
    (tmp_path / "ownmodel.py").write_text("raise SystemExit('a server imported it')")
    installed = tmp_path / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "somelibrary.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(installed))
    names = ["ownmodel.Clip", "somelibrary.Clip", "json.JSONDecoder", "nowhere.Clip"]
    assert library_types(names, str(tmp_path)) == ["somelibrary.Clip", "json.JSONDecoder"]


def test_connections_leave_room_for_files():
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert open_files(300) == min(300, hard if hard != resource.RLIM_INFINITY else 300)
        assert open_files(100) == 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def deployed(folder, kit):
    """Two versions in a project, the first of them deployed."""
    from penstock.project import open_home

    home = open_home(str(folder))
    house = kit.House(objects=home.objects, ledger=home.ledger, formats=home.formats)
    for value in (1.0, 2.0):
        bundle = house.constant(value)
        home.objects.publish([bundle.digest])
        manifest = json.loads(home.objects.read(bundle.digest))
        home.objects.publish(file["digest"] for file in manifest["files"].values() if "text" not in file)
        house.register(bundle)
    house.deploy(1)
    return house


@pytest.fixture
def project(tmp_path, kit):
    """A project on disk with two versions, the first of them deployed."""
    (tmp_path / "penstock.toml").write_text("")
    house = deployed(tmp_path, kit)
    yield house, tmp_path
    house.ledger.close()


class Process:
    """`python -m penstock.serve` as deploy starts it."""

    def __init__(self, folder, *arguments, host=None):
        ready, told = os.pipe()
        lifeline, self.held = os.pipe()
        command = [sys.executable, "-P", "-m", "penstock.serve", "--workflow", "churn", "--project", str(folder)]
        command += ["--port", "0", "--ready-fd", str(told), "--lifeline", str(lifeline), *arguments]
        environment = os.environ | {"PYTHONPATH": str(SRC)}
        self.process = subprocess.Popen(
            command, pass_fds=(told, lifeline), env=environment, stderr=subprocess.PIPE, text=True
        )
        os.close(told)
        os.close(lifeline)
        with os.fdopen(ready) as pipe:
            line = pipe.readline()
        self.ready = json.loads(line) if line else None

    def ask(self):
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.ready["port"], timeout=10)
        headers = {"Host": "localhost", "Content-Type": "application/json"}
        connection.request("POST", "/predict", json.dumps({"records": [{"age": 1.0}]}), headers)
        reply = json.loads(connection.getresponse().read())
        connection.close()
        return reply

    def end(self):
        if self.held is not None:
            os.close(self.held)
            self.held = None
        return self.process.wait(10)


def test_the_process_follows_logs_and_stops_on_sigterm(project, kit):
    house, folder = project
    server = Process(folder)
    assert server.ready["model"] == "churn@1"
    assert server.ready["pid"] == server.process.pid
    assert server.ask()["predictions"][0]["value"] == 1.0
    house.deploy(2)
    kit.until(lambda: server.ask()["model"] == "churn@2", 5)
    with socket.create_connection(("127.0.0.1", server.ready["port"])):  # an idle client does not hold it up
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0, server.process.stderr.read()
        assert time.monotonic() - begun < 5
    (segment,) = (folder / ".penstock" / "predictions" / "churn").iterdir()
    kept = [json.loads(line) for line in segment.read_text().splitlines()]
    assert {row["model"] for row in kept} == {"churn@1", "churn@2"}
    server.end()
    server.process.stderr.close()


def test_a_server_answers_while_the_shared_ledger_is_away_and_follows_it_after(tmp_path, kit, postgres_server):
    """PostgreSQL ends under a running server and comes back: no answer fails, and the next deployment is followed."""
    from penstock.testing.postgres import PostgresServer

    database = PostgresServer()
    try:
        (tmp_path / "penstock.toml").write_text(f'ledger = "{database.url(database.create_database())}"')
        house = deployed(tmp_path, kit)
        server = Process(tmp_path, "--no-log")
        assert server.ask()["model"] == "churn@1"
        database.stop(signal.SIGQUIT)
        answers, end = [], time.monotonic() + 4.0  # some looks at the ledger fail meanwhile
        while time.monotonic() < end:
            answers.append(server.ask()["predictions"][0]["value"])
        database.start()
        house.deploy(2)
        kit.until(lambda: answers.append(server.ask()) or answers[-1]["model"] == "churn@2", 60)
        assert all(one == 1.0 or one["predictions"][0]["value"] in (1.0, 2.0) for one in answers)
        assert len(answers) > 3
        server.end()
        server.process.stderr.close()
        house.ledger.close()
    finally:
        database.close()


def test_a_scratch_server_serves_its_version_and_ends_with_its_starter(project):
    _, folder = project
    server = Process(folder, "--version", "2", "--no-log")
    assert server.ready["model"] == "churn@2"
    assert server.ask()["predictions"][0]["value"] == 2.0
    begun = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - begun < 5
    assert not (folder / ".penstock" / "predictions").exists()
    server.process.stderr.close()


def test_a_version_that_is_not_there_is_exit_2_in_a_sentence(project):
    _, folder = project
    server = Process(folder, "--version", "9")
    assert server.ready["error"] == "the ledger has no churn@9"
    assert server.end() == 2
    text = server.process.stderr.read()
    assert "the ledger has no churn@9" in text
    assert "Traceback" not in text
    server.process.stderr.close()
