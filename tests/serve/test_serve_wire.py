"""A real server on loopback: hostile bytes, slow clients, swaps under load, start and stop."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from penstock.errors import ConfigurationError, MissingExtraError, UsageError
from penstock.serve import main as main_module
from penstock.serve.app import Service
from penstock.serve.door import MAX_BODY
from penstock.serve.follow import Holder
from penstock.serve.log import NoLog
from penstock.serve.main import Options, bind, check, is_loopback, library_types, parse
from penstock.serve.predict import Live, Predictor
from penstock.serve.protocol import GuardedProtocol

SRC = Path(__file__).resolve().parents[2] / "src"


def request(body: bytes, *headers: str, method: str = "POST", path: str = "/predict") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


@pytest.fixture(scope="module")
def wire(customers_model, kit):
    holder = Holder()
    holder.swap(Live.of(customers_model))
    predictor = Predictor(NoLog())
    with kit.on_loopback(Service("churn", holder, predictor).app()) as made:
        yield made
    predictor.close()


@pytest.fixture
def good(kit) -> bytes:
    return json.dumps({"records": [kit.customer]}).encode()


def is_well(wire, good) -> None:
    """A good request is answered within a second."""
    begun = time.monotonic()
    assert status(wire.send(request(good, "Connection: close"))) == 200
    assert time.monotonic() - begun < 1.0


# ── hostile bytes ────────────────────────────────────────────────────────────────────────────────────────────

HOSTILE = {
    "body 1 GB by its head": (request(b"{", "Content-Length: 1073741824"), {413}),
    "length of 40 digits": (request(b"{", "Content-Length: " + "9" * 40), {400, 413}),
    "negative length": (request(b"{", "Content-Length: -1"), {400}),
    "two lengths": (request(b"{}", "Content-Length: 2", "Content-Length: 20"), {400}),
    "length and chunks": (request(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"), {400}),
    "gzip": (request(b"\x1f\x8b", "Content-Encoding: gzip"), {415}),
    "bad chunk": (request(b"zz\r\n{}\r\n", "Transfer-Encoding: chunked"), {400}),
    "chunk without end": (request(b"ffffffffffffffffff\r\n", "Transfer-Encoding: chunked"), {400}),
    "unknown coding": (request(b"{}", "Transfer-Encoding: gzip"), {400, 415, 422}),
    "5,000 ranges": (
        request(b"", "Range: bytes=" + ",".join(f"{n}-" for n in range(5_000)), method="GET", path="/healthz"),
        {200, 400},
    ),
    "10,000 query keys": (
        request(b"", method="GET", path="/healthz?" + "&".join(f"k{n}=1" for n in range(3_000))),
        {200},
    ),
    "long path": (request(b"", method="GET", path="/" + "a" * 40_000), {400, 431}),
    "many headers": (request(b"", *(f"X-{n}: 1" for n in range(10_000)), method="GET", path="/healthz"), {400, 431}),
    "one long header": (request(b"", "X-Long: " + "a" * 100_000, method="GET", path="/healthz"), {400, 431}),
    "NUL in a header": (request(b"", "X-Nul: \0", method="GET", path="/healthz"), {400}),
    "newline in a header": (b"GET /healthz HTTP/1.1\nHost: localhost\nX: a\n b\n\n", {200, 400}),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", {421}),
    "HTTP/1.0 without host": (b"GET /healthz HTTP/1.0\r\n\r\n", {421}),
    "two hosts": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n", {421}),
    "absolute form": (b"GET http://evil.com/healthz HTTP/1.1\r\nHost: evil.com\r\n\r\n", {421}),
    "connect": (b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404, 405}),
    "options star": (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
    "websocket": (
        request(
            b"", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA==", method="GET", path="/model"
        ),
        {200, 400},
    ),
    "http/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {0, 400, 404, 405, 421, 505}),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
    "noise": (random.Random(1).randbytes(5_000), {400}),
    "not ASCII in the path": (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
    "encoded slash": (request(b"", method="GET", path="/model%2F..%2Fhealthz"), {404}),
    "dots": (request(b"", method="GET", path="/model/../healthz"), {404}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_cheaply_and_the_next_client_is_served(wire, good, name):
    data, allowed = HOSTILE[name]
    cpu = time.process_time()
    answer = wire.send(data)
    spent = time.process_time() - cpu
    assert status(answer) in allowed, answer[:200]
    assert spent < 0.5
    is_well(wire, good)


def test_expect_100_continue_is_refused_before_the_body_and_obeyed_when_right(wire, good):
    large = wire.send(request(b"", "Expect: 100-continue", "Content-Length: 1073741824"))
    assert large.startswith(b"HTTP/1.1 413")
    with wire.connect() as sock:
        sock.sendall(request(b"", "Expect: 100-continue", f"Content-Length: {len(good)}", "Connection: close"))
        assert sock.recv(1000).startswith(b"HTTP/1.1 100")
        sock.sendall(good)
        assert b"HTTP/1.1 200" in sock.recv(10_000)


def test_an_endless_chunked_body_ends_at_the_limit(wire, good):
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    sent = 0
    with wire.connect() as sock:
        sock.sendall(request(b"", "Transfer-Encoding: chunked"))
        try:
            while sent < 64 * MAX_BODY:
                sock.sendall(chunk)
                sent += len(chunk)
        except ConnectionError:
            pass
    assert sent < 16 * MAX_BODY
    is_well(wire, good)


def test_a_right_chunked_body_is_answered(wire, good):
    chunks = b"".join(b"%x\r\n" % 1 + bytes([byte]) + b"\r\n" for byte in good) + b"0\r\n\r\n"
    assert status(wire.send(request(chunks, "Transfer-Encoding: chunked", "Connection: close"))) == 200


def test_pipelined_requests_are_answered_in_order(wire, good):
    many = request(b"", method="GET", path="/healthz") * 20 + request(
        b"", "Connection: close", method="GET", path="/no"
    )
    answer = wire.send(many)
    assert answer.count(b"HTTP/1.1 200") == 20
    assert answer.rindex(b"HTTP/1.1 404") > answer.rindex(b"HTTP/1.1 200")


def test_a_body_that_is_shorter_than_announced_waits_for_nobody_else(wire, good):
    with wire.connect() as sock:
        sock.sendall(request(b'{"records"', "Content-Length: 100"))
        is_well(wire, good)


def test_answers_carry_no_server_name_and_no_date_of_others(wire):
    answer = wire.get()
    assert b"server:" not in answer.lower()
    assert b"x-content-type-options: nosniff" in answer


def test_a_slow_head_is_cut_off(customers_model, good, kit, monkeypatch):
    monkeypatch.setattr(GuardedProtocol, "head_deadline_s", 0.3)
    holder = Holder()
    holder.swap(Live.of(customers_model))
    predictor = Predictor(NoLog())
    with kit.on_loopback(Service("churn", holder, predictor).app()) as wire:
        slow = [wire.connect() for _ in range(30)]
        for number, sock in enumerate(slow):
            if number % 3:
                sock.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow")
            if number % 3 == 2:
                sock.sendall(b": 1\r\n")
        is_well(wire, good)
        for sock in slow:
            assert sock.recv(100) == b"", "the server closes it"
            sock.close()
        with wire.connect() as sock:  # a second request on a kept connection has the same deadline
            sock.sendall(request(b"", method="GET", path="/healthz"))
            assert b"200" in sock.recv(1000)
            sock.sendall(b"GET /heal")
            assert sock.recv(100) == b""
    predictor.close()


def test_too_many_connections_are_told_so_and_it_passes(customers_model, good, kit, monkeypatch):
    monkeypatch.setattr(GuardedProtocol, "max_connections", 20)
    holder = Holder()
    holder.swap(Live.of(customers_model))
    predictor = Predictor(NoLog())
    with kit.on_loopback(Service("churn", holder, predictor).app()) as wire:
        idle = [wire.connect() for _ in range(20)]
        time.sleep(0.2)
        answer = wire.get()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in answer
        for sock in idle:
            sock.close()
        kit.until(lambda: wire.get().startswith(b"HTTP/1.1 200"), 2)
        is_well(wire, good)
    predictor.close()


# ── swaps under load ─────────────────────────────────────────────────────────────────────────────────────────


def ask_until(port, stop, results, errors):
    """One client on one connection: (version named in the header, in the body, value) of every answer."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = json.dumps({"records": [{"age": 1.0}, {"age": 2.0}]})
    try:
        while not stop.is_set():
            connection.request("POST", "/predict", body, {"Host": "localhost", "Content-Type": "application/json"})
            reply = connection.getresponse()
            data = json.loads(reply.read())
            if reply.status != 200:
                errors.append((reply.status, data))
                continue
            values = {prediction["value"] for prediction in data["predictions"]}
            results.append((reply.headers["x-penstock-model"], data["model"], values))
    except Exception as error:
        errors.append(error)
    finally:
        connection.close()


def swap_under_load(kit, house, seconds, clients, every_s):
    """(answers, failures, mixed answers, swaps) of a server that follows a ledger while clients ask."""
    for value in (1.0, 2.0):
        house.register(house.constant(value))
    house.deploy(1)
    holder = Holder()
    follower = house.follower(holder, poll_s=0.02)
    predictor = Predictor(NoLog())
    follower.start()
    kit.until(lambda: holder.live is not None)
    results, errors, stop, swaps = [], [], threading.Event(), 0
    with kit.on_loopback(Service("churn", holder, predictor).app()) as wire:
        threads = [threading.Thread(target=ask_until, args=(wire.port, stop, results, errors)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(every_s)
            swaps += 1
            house.deploy(swaps % 2 + 1)
        stop.set()
        for thread in threads:
            thread.join(15)
    follower.stop()
    predictor.close()
    mixed = [row for row in results if row[0] != row[1] or row[2] != {float(row[0].rpartition("@")[2])}]
    return results, errors, mixed, swaps


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.campaign)])
def test_swaps_under_load_fail_nothing_and_mix_nothing(kit, house, seconds):
    results, errors, mixed, swaps = swap_under_load(kit, house, seconds, clients=8, every_s=0.3)
    assert errors == []
    assert mixed == []
    assert {row[0] for row in results} == {"churn@1", "churn@2"}
    assert swaps >= seconds * 2
    assert len(results) > 100 * seconds / 4


def test_sabotage_a_swap_in_two_parts_is_noticed(kit, house, monkeypatch):
    """A holder that changes name and model one after the other gives answers under the wrong name."""

    def swap(self, live):
        if self.live is None:
            self.live = live
            return
        object.__setattr__(self.live.model, "version", live.model.version)
        time.sleep(0.05)
        self.live = live

    monkeypatch.setattr(Holder, "swap", swap)
    _, _, mixed, _ = swap_under_load(kit, house, 1.5, clients=4, every_s=0.2)
    assert mixed


def test_a_load_that_fails_under_load_leaves_the_old_one_answering(kit, house):
    house.deploy(house.register(house.constant(1.0)))
    holder, predictor = Holder(), Predictor(NoLog())
    follower = house.follower(holder, poll_s=0.02)
    follower.start()
    kit.until(lambda: holder.live is not None)
    service = Service("churn", holder, predictor, following=follower.state)
    results, errors, stop = [], [], threading.Event()
    with kit.on_loopback(service.app()) as wire:
        threads = [threading.Thread(target=ask_until, args=(wire.port, stop, results, errors)) for _ in range(4)]
        for thread in threads:
            thread.start()
        bad = house.register(house.constant(2.0))
        digest = house.ledger.stream("churn/version", after=1)[0].body["bundle"]["digest"]
        house.objects.delete(digest)
        house.deploy(bad)
        kit.until(lambda: holder.last_error is not None)
        assert b"HTTP/1.1 200" in wire.get("/readyz")
        state = wire.get("/model")
        assert b"deployment 2 of churn was not loaded" in state
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join(10)
    follower.stop()
    predictor.close()
    assert errors == []
    assert {row[0] for row in results} == {"churn@1"}


# ── start and stop ───────────────────────────────────────────────────────────────────────────────────────────


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


@pytest.fixture
def project(tmp_path, kit):
    """A project on disk with two versions, the first of them deployed."""
    from penstock.project import open_home

    (tmp_path / "penstock.toml").write_text("")
    home = open_home(str(tmp_path))
    house = kit.House(objects=home.objects, ledger=home.ledger, formats=home.formats)
    for value in (1.0, 2.0):
        bundle = house.constant(value)
        home.objects.publish([bundle.digest])
        manifest = json.loads(home.objects.read(bundle.digest))
        home.objects.publish(file["digest"] for file in manifest["files"].values() if "text" not in file)
        house.register(bundle)
    house.deploy(1)
    yield house, tmp_path
    home.ledger.close()


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
