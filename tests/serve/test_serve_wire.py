"""A real server on loopback: hostile bytes, slow clients, swaps under load."""

from __future__ import annotations

import json
import random
import socket
import threading
import time

import pytest

from penstock.serve.app import Service
from penstock.serve.door import MAX_BODY
from penstock.serve.follow import Holder
from penstock.serve.log import NoLog
from penstock.serve.predict import Live, Predictor
from penstock.serve.protocol import GuardedProtocol


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
    """A good request is answered soon: within a second on a calm machine."""
    begun = time.monotonic()
    assert status(wire.send(request(good, "Connection: close"))) == 200
    assert time.monotonic() - begun < 2.0


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


@pytest.mark.parametrize("slowly", [30, pytest.param(500, marks=pytest.mark.campaign)])
def test_a_slow_head_is_cut_off(customers_model, good, kit, monkeypatch, slowly):
    monkeypatch.setattr(GuardedProtocol, "head_deadline_s", 0.3)
    holder = Holder()
    holder.swap(Live.of(customers_model))
    predictor = Predictor(NoLog())
    with kit.on_loopback(Service("churn", holder, predictor).app()) as wire:
        slow = [wire.connect() for _ in range(slowly)]
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


@pytest.mark.parametrize("limit", [20, pytest.param(1_500, marks=pytest.mark.campaign)])
def test_too_many_connections_are_told_so_and_it_passes(customers_model, good, kit, monkeypatch, limit):
    monkeypatch.setattr(GuardedProtocol, "max_connections", limit)
    holder = Holder()
    holder.swap(Live.of(customers_model))
    predictor = Predictor(NoLog())
    with kit.on_loopback(Service("churn", holder, predictor).app()) as wire:
        idle = [wire.connect() for _ in range(limit)]
        time.sleep(0.2)
        answer = wire.get()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in answer
        for sock in idle:
            sock.close()
        kit.until(lambda: wire.get().startswith(b"HTTP/1.1 200"), 2)
        is_well(wire, good)
    predictor.close()


def test_a_client_that_never_reads_is_dropped(customers_model, kit, good, monkeypatch):
    from penstock.serve import main

    answer = json.dumps({"records": [kit.customer] * 1_000}).encode()
    holder = Holder()
    holder.swap(Live.of(customers_model))
    predictor = Predictor(NoLog())
    monkeypatch.setattr(main, "KEEP_ALIVE_S", 1)
    with kit.on_loopback(Service("churn", holder, predictor).app()) as wire, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        sock.connect(("127.0.0.1", wire.port))
        sock.settimeout(5)
        for _ in range(4):
            sock.sendall(request(answer))
        is_well(wire, good)
        time.sleep(1.5)
        sent = 0
        with pytest.raises(ConnectionError):
            while sent < 300:  # half a minute: a machine that does much else is late to notice
                sent += 1
                sock.sendall(request(answer))
                time.sleep(0.1)
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
