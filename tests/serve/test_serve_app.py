"""The route table: only the listed pairs answer, to the listed hosts, with the secret, within the limits."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.serve import door as door_module
from penstock.serve.app import Service
from penstock.serve.follow import Holder
from penstock.serve.http import Route, Router, _split_host
from penstock.serve.log import NoLog
from penstock.serve.predict import Live, Predictor

LISTED = {
    ("POST", "/predict"): "token",
    ("GET", "/healthz"): "open",
    ("GET", "/readyz"): "open",
    ("GET", "/model"): "token",
    ("GET", "/openapi.json"): "token",
}
"""The whole of what answers, and whether it asks for the secret. A new route is listed here first."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO", "get")
SECRET = "a-secret-of-the-test"
SLOW = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"10")]


def body_of(kit) -> bytes:
    return json.dumps({"records": [kit.customer]}).encode()


# ── methods, paths, secrets ──────────────────────────────────────────────────────────────────────────────────


def test_the_table_is_the_list(running):
    table = {(route.method, route.path): route.auth for route in running.service.routes()}
    assert table == LISTED


def test_only_the_listed_pairs_answer(running, kit):
    for path in {path for _, path in LISTED}:
        for method in METHODS:
            reply = running.client.call(method, path, body_of(kit))
            if (method, path) in LISTED:
                assert reply.status == 200, (method, path)
                continue
            assert reply.status == 405, (method, path)
            assert reply.headers["allow"] == ", ".join(m for m, p in LISTED if p == path)


@pytest.mark.parametrize(
    "path",
    ["/", "", "/predict/", "/Predict", "//predict", "/predict/healthz", "/model/healthz", "/x/readyz", "/healthz.json",
     "/%2e%2e/model", "/../model", "/model%2Fhealthz", "/metrics", "/docs", "/static/x", "*"],
)  # fmt: skip
def test_any_other_path_is_404_and_no_end_of_it_opens_anything(running, path):
    app = running.service.app(token=SECRET)
    assert type(running.client)(app).call("GET", path).status == 404


def test_with_a_secret_only_health_is_open(running, kit):
    client = kit.Client(running.service.app(token=SECRET))
    for (method, path), auth in LISTED.items():
        for secret, right in [
            (None, False),
            (b"Bearer wrong", False),
            (SECRET.encode(), False),
            (b"Basic " + SECRET.encode(), False),
            (b"Bearer " + SECRET.encode() + b" ", False),
            (b"Bearer \xff", False),
            (b"Bearer " + SECRET.encode(), True),
        ]:
            headers = [kit.HOST, kit.JSON] + ([(b"authorization", secret)] if secret else [])
            reply = client.call(method, path, body_of(kit), headers)
            assert reply.status == (200 if right or auth == "open" else 401), (method, path, secret)
            if reply.status == 401:
                assert reply.headers["www-authenticate"] == "Bearer"
    twice = [kit.HOST, (b"authorization", b"Bearer " + SECRET.encode()), (b"authorization", b"Bearer x")]
    assert client.call("GET", "/model", headers=twice).status == 401


def test_sabotage_a_route_added_without_listing_it_is_noticed(running):
    class Wider(Service):
        def routes(self):
            return (*super().routes(), Route("GET", "/debug", self.healthz, "open", 0, "", 1.0))

    wider = Wider("churn", running.holder, running.predictor)
    assert {(route.method, route.path): route.auth for route in wider.routes()} != LISTED


def test_a_route_without_a_whole_declaration_cannot_be_made(running):
    with pytest.raises(TypeError):
        Route("GET", "/x", running.service.healthz)  # type: ignore[call-arg]
    for wrong in (
        [Route("POST", "/x", running.service.healthz, "open", 10, "", 1.0)],
        [Route("POST", "/x", running.service.healthz, "open", 0, "application/json", 1.0)],
        [Route("GET", "/x", running.service.healthz, "open", 0, "", 1.0)] * 2,
    ):
        with pytest.raises(ValueError, match="/x"):
            Router(wrong)


# ── hosts ────────────────────────────────────────────────────────────────────────────────────────────────────

GOOD_HOSTS = [b"localhost", b"LOCALHOST:80", b"127.0.0.1", b"127.0.0.1:8000", b"[::1]", b"[::1]:8000", b"churn.example"]
BAD_HOSTS = [
    b"evil.com", b"localhost.evil.com", b"127.0.0.1.nip.io", b"2130706433", b"0x7f000001", b"127.1", b"::1", b"0.0.0.0",
    b"", b"localhost:", b"localhost:x", b"localhost:80:80", b"[::1", b"[::1]x", b"localhost evil", b"churn.example.",
    b"user@localhost", b"localhost/evil", b"\xff", b"null",
]  # fmt: skip


def host_breaches(client, kit):
    """Pairs of route and host that answer otherwise than they should."""
    found = []
    for method, path in LISTED:
        for host in [*GOOD_HOSTS, *BAD_HOSTS]:
            reply = client.call(method, path, body_of(kit), [(b"host", host), kit.JSON])
            if (reply.status == 200) != (host in GOOD_HOSTS) or reply.status not in (200, 421):
                found.append((method, path, host, reply.status))
        for headers in ([], [kit.HOST, kit.HOST], [kit.HOST, (b"host", b"evil.com")]):
            if client.call(method, path, body_of(kit), [*headers, kit.JSON]).status != 421:
                found.append((method, path, headers))
        forwarded = [(b"host", b"evil.com"), (b"x-forwarded-host", b"localhost"), kit.JSON]
        if client.call(method, path, body_of(kit), forwarded).status != 421:
            found.append((method, path, "forwarded"))
    return found


def test_every_route_answers_to_listed_hosts_only(running, kit):
    assert host_breaches(kit.Client(running.service.app(hosts=["churn.example"])), kit) == []


def test_sabotage_without_the_host_check_the_matrix_is_red(running, kit, monkeypatch):
    monkeypatch.setattr(Router, "_host_allowed", lambda self, values: True)
    assert len(host_breaches(kit.Client(running.service.app(hosts=["churn.example"])), kit)) > 50


def test_unknown_paths_do_not_tell_an_unknown_host_anything(running):
    assert running.client.call("GET", "/nothing", headers=[(b"host", b"evil.com")]).status == 421


def test_no_answer_allows_another_origin(running, kit):
    for method in ("OPTIONS", "GET", "POST"):
        for path in {path for _, path in LISTED}:
            headers = [kit.HOST, kit.JSON, (b"origin", b"http://evil.com"), (b"access-control-request-method", b"POST")]
            reply = running.client.call(method, path, body_of(kit), headers)
            assert not [name for name in reply.headers if name.startswith("access-control")]
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["content-type"] == "application/json"


@given(st.text(max_size=20))
def test_law_splitting_a_host_never_fails(text):
    name, port = _split_host(text)
    assert isinstance(name, str)
    assert isinstance(port, str)


# ── predictions ──────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_names_model_id_label_score_and_unseen(running, customers_model, kit):
    records = [kit.customer, kit.customer | {"city": "Paris", "age": None}]
    reply = running.client.predict(*records)
    assert reply.status == 200
    assert reply.headers["x-penstock-model"] == "churn@1"
    data = reply.json()
    assert data["model"] == "churn@1"
    expected = customers_model.answer(records)
    assert [{"label": p["label"], "score": p["score"]} for p in data["predictions"]] == expected
    assert [p.get("unseen") for p in data["predictions"]] == [None, ["city"]]
    ids = [p["id"] for p in data["predictions"]] + [
        p["id"] for p in running.client.predict(kit.customer).json()["predictions"]
    ]
    assert len(set(ids)) == 3
    state = running.client.call("GET", "/model").json()
    assert (state["rows"], state["unseen"], state["model"]) == (3, {"city": 1}, "churn@1")


def test_faults_are_listed_with_row_and_field(running, kit):
    reply = running.client.predict(kit.customer, kit.customer | {"age": True}, {"age": 1})
    assert reply.status == 422
    faults = reply.json()["faults"]
    assert faults[0] == {"row": 1, "field": "age", "fault": "must be a number, got true"}
    assert [fault["row"] for fault in faults] == [1, 2, 2, 2, 2]


def test_without_a_model_health_is_good_and_predictions_come_later(empty, kit):
    assert empty.client.call("GET", "/healthz").status == 200
    for reply in (empty.client.call("GET", "/readyz"), empty.client.predict(kit.customer)):
        assert reply.status == 503
        assert reply.headers["retry-after"] == "1"
    assert empty.client.call("GET", "/model").json()["model"] is None
    assert "no deployed version yet" in empty.client.call("GET", "/readyz").json()["error"]
    empty.holder.keep(KeyError("x"), "deployment 1 of churn was not loaded")
    assert "/model says why" in empty.client.call("GET", "/readyz").json()["error"]
    assert empty.client.call("GET", "/model").json()["last_error"] == "deployment 1 of churn was not loaded: KeyError"
    assert empty.client.call("GET", "/openapi.json").json()["openapi"] == "3.1.0"


def test_a_value_that_the_estimator_refuses_is_422_for_its_row(running, kit):
    reply = running.client.predict(*[kit.customer] * 5, kit.customer | {"age": 1e308}, kit.customer)
    data = reply.json()
    if reply.status == 200:  # whether 1e308 overflows depends on the scaler's variance
        assert all(abs(p["score"]) <= 1 for p in data["predictions"])
    broken = Live.of(running.holder.live.model)
    object.__setattr__(broken, "model", _Picky(running.holder.live.model))
    running.holder.swap(broken)
    reply = running.client.predict(*[kit.customer] * 5, kit.customer | {"visits": 13}, kit.customer)
    assert reply.status == 422
    assert reply.json()["faults"] == [
        {"row": 5, "field": "", "fault": "the model has no finite answer for these values"}
    ]
    assert b"/secret" not in reply.body


class _Picky:
    """A model that refuses one value, with words that nobody outside may read."""

    def __init__(self, model):
        self.name, self.contract, self._model = model.name, model.contract, model

    def answer(self, records):
        from penstock.errors import DataError

        if any(record["visits"] == 13 for record in records):
            raise DataError("cannot read /secret/place")
        return self._model.answer(records)


def test_a_fault_of_ours_gives_an_id_and_nothing_else(running, kit, capsys):
    class Broken:
        name = "churn@1"
        contract = running.holder.live.model.contract

        def answer(self, records):
            raise KeyError("/secret/path of the server")

    live = Live.of(running.holder.live.model)
    object.__setattr__(live, "model", Broken())
    running.holder.swap(live)
    reply = running.client.predict(kit.customer)
    assert reply.status == 500
    assert set(reply.json()) == {"error", "id"}
    assert b"secret" not in reply.body
    assert b"KeyError" not in reply.body
    logged = capsys.readouterr().err
    assert reply.json()["id"] in logged
    assert "/secret/path" in logged


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (b"application/json", 200),
        (b"application/json; charset=utf-8", 200),
        (b"Application/JSON;charset=UTF-8", 200),
        (b"application/json; charset=latin-1", 415),
        (b"text/plain", 415),
        (b"application/x-pickle", 415),
        (b"application/vnd.penstock+json", 415),
        (b"application/json, text/plain", 415),
        (b"<script>", 415),
        (b"", 415),
        (b"\xff", 415),
        (None, 415),
    ],
)
def test_only_json_is_read(running, kit, kind, status):
    headers = [kit.HOST] + ([(b"content-type", kind)] if kind is not None else [])
    reply = running.client.call("POST", "/predict", body_of(kit), headers)
    assert reply.status == status
    assert b"<script>" not in reply.body


def test_a_compressed_body_is_not_read(running, kit):
    for coding, status in [(b"gzip", 415), (b"br", 415), (b"identity", 200), (b"deflate, gzip", 415)]:
        reply = running.client.call(
            "POST", "/predict", body_of(kit), [kit.HOST, kit.JSON, (b"content-encoding", coding)]
        )
        assert reply.status == status


def test_a_body_that_is_too_large_is_refused_before_it_is_held(running, kit):
    """By its head where that is honest, else by what arrives."""
    asked = []

    async def call(headers, chunks):
        sent = []

        async def receive():
            asked.append(1)
            chunk = next(chunks, None)
            return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [kit.HOST, kit.JSON, *headers]}
        await running.client.app(scope, receive, send)
        return sent[0]

    for length in (b"1000000000", b"9" * 40, b"-1", b"1_0", b"\xb2"):
        start = asyncio.run(call([(b"content-length", length)], iter([b"x"])))
        assert start["status"] == 413
        assert (b"connection", b"close") in start["headers"]
    assert asked == []
    endless = iter(lambda: b"x" * 65_536, None)
    start = asyncio.run(call([(b"transfer-encoding", b"chunked")], endless))
    assert start["status"] == 413
    assert len(asked) <= door_module.MAX_BODY // 65_536 + 1
    assert running.client.app.buffered == 0
    exact = b" " * (door_module.MAX_BODY - len(body_of(kit))) + body_of(kit)
    assert running.client.call("POST", "/predict", exact).status == 200
    assert running.client.call("POST", "/predict", exact + b" ").status == 413


def test_sabotage_without_counting_chunks_a_lying_length_gets_through(running, kit, monkeypatch):
    from penstock.serve import http

    body = [body_of(kit)] + [b" " * 65_536] * 17
    headers = [kit.HOST, kit.JSON, (b"content-length", b"10")]
    assert running.client.call("POST", "/predict", list(body), headers).status == 413
    monkeypatch.setattr(http._Body, "_take", lambda *_: None)
    assert running.client.call("POST", "/predict", list(body), headers).status == 200


def test_bodies_share_one_budget(running, kit):
    running.client.app.max_buffered = 10
    reply = running.client.predict(kit.customer)
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert running.client.app.buffered == 0


def test_a_client_that_goes_away_is_answered_nothing(running):
    assert running.client.call("POST", "/predict", [], None) is None
    assert running.client.app.buffered == 0


def test_a_slow_body_is_408(running):
    quick = Service("churn", running.holder, running.predictor, deadline_s=0.05)
    reply = type(running.client)(quick.app()).call("POST", "/predict", b"{", SLOW, hang=True)
    assert reply.status == 408
    assert reply.headers["connection"] == "close"


# ── queue and deadline ───────────────────────────────────────────────────────────────────────────────────────


class _Slow(NoLog):
    """Holds each answer until it is let go."""

    def __init__(self):
        self.gate = threading.Event()

    def offer(self, rows):
        self.gate.wait(10)
        return False


def test_past_the_queue_comes_503_and_health_goes_on(customers_model, kit):
    holder, log = Holder(), _Slow()
    holder.swap(Live.of(customers_model))
    predictor = Predictor(log, threads=1, max_waiting=3)
    client = kit.Client(Service("churn", holder, predictor).app())

    async def storm():
        calls = [asyncio.create_task(client.acall("POST", "/predict", body_of(kit))) for _ in range(8)]
        for early in asyncio.as_completed(calls):
            assert (await early).status == 503
            if sum(call.done() for call in calls) == 5:
                break
        begun = time.monotonic()
        health = await client.acall("GET", "/healthz")
        assert time.monotonic() - begun < 1.0
        log.gate.set()
        return health, [await call for call in calls]

    health, replies = asyncio.run(storm())
    assert health.status == 200
    assert sorted(reply.status for reply in replies) == [200] * 3 + [503] * 5
    assert {reply.headers.get("retry-after") for reply in replies if reply.status == 503} == {"1"}
    assert client.predict(kit.customer).status == 200, "back to normal"
    predictor.close()


def test_no_answer_within_the_deadline_is_503_and_its_place_stays_taken_until_it_ends(customers_model, kit):
    holder, log = Holder(), _Slow()
    holder.swap(Live.of(customers_model))
    predictor = Predictor(log, threads=1, max_waiting=1)
    client = kit.Client(Service("churn", holder, predictor, deadline_s=0.2).app())
    assert client.predict(kit.customer).status == 503
    assert "too many" in client.predict(kit.customer).json()["error"]
    log.gate.set()
    kit.until(lambda: client.predict(kit.customer).status == 200)
    predictor.close()


# ── description ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_description_is_openapi_made_from_the_contract(running):
    document = running.client.call("GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert {(method.upper(), path) for path, item in document["paths"].items() for method in item} == set(LISTED)
    record = document["components"]["schemas"]["Record"]
    assert record["required"] == ["age", "visits", "member", "city", "gender"]
    assert record["properties"]["age"]["type"] == ["number", "null"]
    assert record["properties"]["gender"]["enum"] == ["f", "m"]
    assert "enum" not in record["properties"]["city"]
    _resolve_all(document, document)
    for item in document["paths"].values():
        for operation in item.values():
            assert operation["operationId"]
            assert all(response["description"] for response in operation["responses"].values())


def test_the_description_of_a_column_of_objects_allows_what_it_takes(kit):
    from penstock.serve.contract import Column
    from penstock.serve.openapi import _column

    objects = kit.column("b", "object", "text", categories=[False, True], missing="allow")
    described = _column(Column.from_json(objects))
    assert described["type"] == ["boolean", "null"]
    assert described["enum"] == [False, True, None]
    assert _column(Column.from_json(kit.column("at", "datetime64[us]", "datetime")))["format"] == "date-time"


def _resolve_all(node, document):
    """Every `$ref` points at something."""
    if isinstance(node, list):
        for item in node:
            _resolve_all(item, document)
    if isinstance(node, dict):
        if "$ref" in node:
            place = document
            for part in node["$ref"].removeprefix("#/").split("/"):
                place = place[part]
        for item in node.values():
            _resolve_all(item, document)


def test_with_a_secret_the_description_says_so(customers_model, kit):
    holder = Holder()
    holder.swap(Live.of(customers_model))
    predictor = Predictor(NoLog())
    client = kit.Client(Service("churn", holder, predictor, token=True).app())
    document = client.call("GET", "/openapi.json").json()
    assert document["security"] == [{"secret": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    predictor.close()
