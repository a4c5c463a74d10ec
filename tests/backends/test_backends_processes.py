"""What an engine starts is found and ended, whatever it does to be forgotten."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.backends.engines.prefect import Prefect
from tests.backends.engines.processes import BACKENDS, ROOT, Processes, Refused, ask

# A child in a session of its own whose parent is gone; it takes no notice of SIGTERM, and listens everywhere.
ORPHAN = """
import os, signal, socket, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        door = socket.create_server((sys.argv[1], 0))
        with open("port", "w") as file:
            file.write(str(door.getsockname()[1]))
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600)
"""
SHARED = ("numpy", "pandas", "scikit-learn", "scipy", "pyarrow", "polars", "skops", "joblib", "threadpoolctl")


@pytest.fixture
def processes():
    held = Processes("none", python=Path(sys.executable))
    yield held
    held.close(patience=0)


def port_of(processes: Processes) -> int:
    path = processes.folder / "port"
    return int(processes.wait("port", lambda: path.exists() and path.read_text()))


def lives(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_orphan_in_a_session_of_its_own_is_found_with_what_it_listens_on_and_ended(processes, host):
    parent = processes.start("parent", "python", "-c", ORPHAN, host)
    port = port_of(processes)
    assert processes.listening() == {(host, port)}
    assert len(processes.pids()) == 2
    orphan = next(pid for pid in processes.pids() if pid != parent.pid)
    assert os.getsid(orphan) not in {parent.pid, os.getsid(0)}
    processes.close(patience=0.1)
    assert not lives(orphan)
    assert parent.returncode is not None
    assert not processes.folder.exists()


def test_without_its_mark_an_orphan_would_be_missed(processes):
    processes.start("parent", "python", "-c", ORPHAN, "127.0.0.1")
    port_of(processes)
    mark, processes.mark = processes.mark, "another"
    processes._seen.clear()
    assert len(processes.pids()) == 1
    processes.mark = mark
    assert len(processes.pids()) == 2


def test_waiting_for_a_process_that_ended_says_what_it_said(processes):
    processes.start("short", "python", "-c", "print('why it ended'); raise SystemExit(3)")
    with pytest.raises(AssertionError, match=r"short ended 3, waiting for Godot(.|\n)*why it ended"):
        processes.wait("Godot", lambda: False)


def test_waiting_has_an_end(processes):
    with pytest.raises(AssertionError, match=r"no Godot after 0.2 s \(not yet\)"):
        processes.wait("Godot", not_yet, seconds=0.2)


def not_yet():
    raise ConnectionRefusedError("not yet")


def test_an_engine_sees_nothing_of_whoever_runs_the_tests(processes, monkeypatch):
    for name in ("PYTHONPATH", "PENSTOCK_STORE", "AIRFLOW_HOME", "PREFECT_API_URL", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "/theirs")
    other = Processes("none", python=Path(sys.executable))
    try:
        seen = json.loads(other.run("-c", "import json, os; print(json.dumps(dict(os.environ)))"))
    finally:
        other.close()
    assert "/theirs" not in seen.values()
    assert seen["HOME"] == str(other.folder) != str(processes.folder)
    assert seen["DO_NOT_TRACK"] == "1"


def test_a_command_that_fails_says_what_it_said(processes):
    with pytest.raises(AssertionError, match="no_such_module"):
        processes.run("-c", "import no_such_module")


class Answers(BaseHTTPRequestHandler):
    left: ClassVar[list[tuple[int, bytes]]] = []

    def do_GET(self) -> None:
        status, text = self.left.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering():
    """Give the answers, one a request; a function that takes them and gives the server's URL."""
    with HTTPServer(("127.0.0.1", 0), Answers) as server:

        def given(*answers: tuple[int, bytes]) -> str:
            Answers.left[:] = answers
            threading.Thread(target=lambda: [server.handle_request() for _ in answers]).start()
            return f"http://127.0.0.1:{server.server_port}"

        yield given


def test_what_an_engine_refuses_is_told_in_its_own_words(answering):
    url = answering((422, b'{"detail": "n must be a number"}'))
    with pytest.raises(Refused, match=r"422 from (.|\n)*n must be a number") as raised:
        ask(url)
    assert raised.value.status == 422


def test_a_prefect_that_is_busy_is_asked_again_and_one_that_refuses_is_not(answering, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    prefect = object.__new__(Prefect)
    prefect.url = answering((503, b"{}"), (503, b"{}"), (200, b"[7]"), (404, b"{}"))
    assert prefect.api("flow_runs") == [7]
    with pytest.raises(Refused, match="404"):
        prefect.api("flow_runs")


def pinned(path: Path) -> dict[str, set[str]]:
    """Name → versions and where they hold, of a lock."""
    found: dict[str, set[str]] = {}
    for line in path.read_text().splitlines():
        if "==" in line and line[0] not in " #":
            name, _, rest = line.partition("==")
            found.setdefault(name, set()).add(rest.rstrip(" \\"))
    return found


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "airflow"])
def test_what_makes_artifacts_is_the_same_beside_every_engine(backend):
    ours, theirs = (
        pinned(ROOT / "requirements" / "dev.txt"),
        pinned(ROOT / "requirements" / "backends" / f"{backend}.txt"),
    )
    assert {name: theirs[name] for name in SHARED} == {name: ours[name] for name in SHARED}


def test_each_engine_has_a_lock_that_make_knows():
    locks = {path.stem for path in (ROOT / "requirements" / "backends").glob("*.txt")}
    assert locks == set(BACKENDS)
    assert f"BACKENDS := {' '.join(BACKENDS)}\n" in (ROOT / "Makefile").read_text()
