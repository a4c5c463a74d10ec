"""When an answer over HTTP agrees with training; and what a rehearsal says of a server that does not behave."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from penstock.core.ports import Config, Home
from penstock.core.run import Entry
from penstock.errors import MissingExtraError, RefusedError, UntrustedTypeError
from penstock.formats.registry import FormatRegistry
from penstock.lifecycle import rehearse as module
from penstock.lifecycle.register import json_artifact
from penstock.lifecycle.rehearse import TOLERANCE, rehearse_with, same
from penstock.lifecycle.versions import Version
from penstock.testing import MemoryLedger, MemoryObjects

# ── when answers are the same ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        ({"value": 1.0}, {"value": 1.0}),
        ({"value": 1}, {"value": 1.0}),  # JSON may drop the point
        ({"value": 1e12 * (1 + TOLERANCE / 2)}, {"value": 1e12}),
        ({"value": TOLERANCE / 2}, {"value": 0.0}),
        ({"label": "yes", "score": 0.5, "id": "x"}, {"label": "yes", "score": 0.5}),
        ({"label": 1, "scores": {"1": 0.25, "2": 0.75}}, {"label": 1, "scores": {"1": 0.25, "2": 0.75 + 1e-12}}),
        ({"label": None}, {"label": None}),
    ],
)
def test_what_agrees(answered, expected):
    assert same(answered, expected)


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        ({"value": 1e12 * (1 + TOLERANCE * 2)}, {"value": 1e12}),
        ({"value": TOLERANCE * 2}, {"value": 0.0}),
        ({"value": -0.5}, {"value": 0.5}),
        ({"value": float("nan")}, {"value": 0.5}),
        ({"value": "0.5"}, {"value": 0.5}),
        ({"value": None}, {"value": 0.5}),
        ({"label": "no", "score": 0.5}, {"label": "yes", "score": 0.5}),
        ({"label": "1"}, {"label": 1}),
        ({"score": 0.5}, {"label": "yes", "score": 0.5}),
        ({"label": 1, "scores": {"1": 0.25}}, {"label": 1, "scores": {"1": 0.25, "2": 0.75}}),
        ({"label": 1, "scores": 0.25}, {"label": 1, "scores": {"1": 0.25}}),
        ({}, {"value": 0.5}),
        (None, {"value": 0.5}),
        ("value", {"value": 0.5}),
    ],
)
def test_what_differs(answered, expected):
    assert not same(answered, expected)


# ── a server on the other side, here a thread ────────────────────────────────────────────────────────────────

ROWS = [{"age": 1}, {"age": 2}]
EXPECTED = [{"value": 0.1}, {"value": 0.2}]


@pytest.fixture
def found(tmp_path):
    home = Home(Config(str(tmp_path), "", ""), MemoryObjects(), MemoryLedger(), FormatRegistry())
    golden = home.formats.dump({"rows": ROWS, "expected": EXPECTED}, home.objects.stage)
    files = {"golden": golden.to_json()}
    made = json_artifact(home.objects, {"penstock": "bundle/1", "workflow": "churn", "files": files}, "bundle")
    return home, Version("churn", 7, Entry("churn/version", 7, {"bundle": made.to_json()}))


@pytest.fixture
def stage(monkeypatch):
    """Gives a function: the line that the server says when it is ready, and its answer to the golden rows."""
    servers, asked = [], []
    monkeypatch.setattr(module, "_check_extra", lambda: None)
    monkeypatch.setattr(module, "_stop", lambda pid: asked.append(("stopped", pid)))

    def play(answer=None, *, status=200, line=None):
        class Scratch(BaseHTTPRequestHandler):
            def do_POST(self):
                asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                """Quietly."""

        server = HTTPServer(("127.0.0.1", 0), Scratch)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

        def spawn(command, **_):
            told = json.dumps({"port": server.server_port} if line is None else line) + "\n" if line != "" else ""
            os.write(int(command[command.index("--ready-fd") + 1]), told.encode())
            asked.append(command)
            return 4_000_000

        monkeypatch.setattr(module.processes, "spawn", spawn)
        return asked

    yield play
    for server in servers:
        server.shutdown()
        server.server_close()


def test_golden_rows_are_answered_by_the_version_itself(found, stage):
    asked = stage({"predictions": [{"value": 0.1, "id": "a"}, {"value": 0.2 + 1e-13, "id": "b"}]})
    assert rehearse_with("penstock.serve")(*found) == 2
    command, body, ended = asked
    assert command[command.index("--version") + 1] == "7"
    assert "--no-log" in command
    assert body == {"records": ROWS}
    assert ended == ("stopped", 4_000_000)


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ({"predictions": [{"value": 0.1}, {"value": 0.3}]}, 200, "answers 1 of 2 golden rows otherwise"),
        ({"predictions": [{"value": 0.1}]}, 200, "answers 2 golden rows with 1 answers"),
        ({"error": "no"}, 422, "refused its own golden rows with 422"),
        (b"<html>", 200, "did not answer"),
    ],
)
def test_an_answer_that_is_not_training_s_is_refused(found, stage, answer, status, said):
    asked = stage(answer, status=status)
    with pytest.raises(RefusedError, match=said):
        rehearse_with("penstock.serve")(*found)
    assert asked[-1] == ("stopped", 4_000_000)  # no server is left behind


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ({"error": "no such file"}, RefusedError, "does not start as a server: no such file"),
        ("", RefusedError, "it ended without a word"),
        ({"error": "odd types", "kind": "UntrustedTypeError", "hint": "trust them"}, UntrustedTypeError, "odd types"),
    ],
)
def test_a_server_that_does_not_start_says_why(found, stage, line, error, said):
    asked = stage(line=line)
    with pytest.raises(error, match=said):
        rehearse_with("penstock.serve")(*found)
    assert asked[-1] == ("stopped", 4_000_000)


def test_without_the_extra_the_command_is_told(found, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(MissingExtraError, match="serving needs uvicorn") as caught:
        rehearse_with("penstock.serve")(*found)
    assert "penstock[serve]" in caught.value.hint


@pytest.mark.parametrize("willing", [True, False])
def test_the_scratch_server_is_ended_and_leaves_no_corpse(monkeypatch, willing):
    text = "exec sleep 60" if willing else "trap '' TERM; echo ready; while :; do sleep 60; done"
    ours, theirs = os.pipe()
    says = [(os.POSIX_SPAWN_DUP2, theirs, 1)]
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", text], {}, file_actions=says, setsid=True)
    os.close(theirs)
    if not willing:
        assert os.read(ours, 5) == b"ready"  # the trap is set
        times = iter([0.0, 10.0])
        monkeypatch.setattr(module.time, "monotonic", lambda: next(times))  # it was waited for long enough
    module._stop(pid)
    monkeypatch.undo()
    os.close(ours)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
