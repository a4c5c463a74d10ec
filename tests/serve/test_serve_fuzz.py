"""Fuzz: no body makes the server fail, and whatever it answers is strict JSON."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.serve.app import Service
from penstock.serve.contract import kind_of
from penstock.serve.follow import Holder
from penstock.serve.http import Request, Response, Route, Router
from penstock.serve.log import NoLog
from penstock.serve.predict import Live, Predictor

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([1e308, -1e308, 5e-324, 2**63, 10**400, "Bern", "f", "\0", "\ud800", -0.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
near_records = st.fixed_dictionaries(
    {
        "age": st.none() | st.floats() | json_values,
        "visits": st.integers() | json_values,
        "member": st.booleans() | json_values,
        "city": st.sampled_from(["Bern", "Paris"]) | json_values,
        "gender": st.sampled_from(["f", "m"]) | json_values,
    },
    optional={"extra": json_values},
)
bodies = st.one_of(
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.lists(near_records, min_size=1, max_size=3).map(lambda rows: json.dumps({"records": rows}).encode()),
)


@pytest.fixture(scope="module")
def fuzzed(customers_model):
    holder = Holder()
    holder.swap(Live.of(customers_model))
    predictor = Predictor(NoLog())
    yield Service("churn", holder, predictor).app()
    predictor.close()


def hold_against(app, body, cut, flip):
    """One body, perhaps cut and with one character's case turned: refused cleanly or answered in strict JSON."""
    body = body[:cut] if cut is not None else body
    if flip is not None and flip < len(body):
        body = body[:flip] + bytes([body[flip] ^ 32]) + body[flip + 1 :]
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    asyncio.run(app({"type": "http", "method": "POST", "path": "/predict", "headers": headers}, receive, send))
    assert sent[0]["status"] in (200, 400, 413, 422), sent[1]["body"]

    def strict(word):
        raise AssertionError(f"{word} in an answer")

    answer = json.loads(sent[1]["body"].decode("utf-8"), parse_constant=strict)
    if sent[0]["status"] == 200:
        records = json.loads(body)["records"]
        assert len(answer["predictions"]) == len(records)
        assert {kind_of(record["member"]) for record in records} <= {"true", "false"}


mangled = given(body=bodies, cut=st.none() | st.integers(0, 80), flip=st.none() | st.integers(0, 400))


@settings(max_examples=400)
@mangled
def test_fuzz_no_body_makes_a_5xx_and_every_answer_is_strict_json(fuzzed, body, cut, flip):
    hold_against(fuzzed, body, cut, flip)


@pytest.mark.campaign
@pytest.mark.timeout(1_800)
@settings(max_examples=20_000)
@mangled
def test_fuzz_for_long(fuzzed, body, cut, flip):
    hold_against(fuzzed, body, cut, flip)


def test_sabotage_the_fuzz_would_notice_a_handler_that_fails():
    async def broken(request: Request) -> Response:
        raise RuntimeError("no")

    app = Router([Route("POST", "/predict", broken, "open", 10, "application/json", 1.0)])
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    asyncio.run(app({"type": "http", "method": "POST", "path": "/predict", "headers": headers}, receive, send))
    assert sent[0]["status"] == 500
