"""A small house for the server's tests: bundles made by hand, a ledger in memory, an ASGI client, a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from penstock.core.answer import answers, with_decision
from penstock.core.artifact import Artifact
from penstock.core.run import Entry
from penstock.formats.registry import FormatRegistry
from penstock.serve.app import Service
from penstock.serve.follow import Follower, Holder, load_version
from penstock.serve.log import NoLog
from penstock.serve.main import make_server
from penstock.serve.model import Model
from penstock.serve.predict import Live, Predictor
from penstock.testing import MemoryLedger, MemoryObjects

HOST = (b"host", b"localhost")
JSON = (b"content-type", b"application/json")


# ── bundles ──────────────────────────────────────────────────────────────────────────────────────────────────


def column(name: str, dtype: str, kind: str, **more: Any) -> dict[str, Any]:
    made = {"name": name, "dtype": dtype, "kind": kind, "categories": None, "unseen": "refuse", "missing": "refuse"}
    return made | {"min": None, "max": None} | more


def plain_records(frame: Any) -> list[dict[str, Any]]:
    """Rows of a frame as plain JSON, gaps as null."""

    def one(value: Any) -> Any:
        value = value.item() if hasattr(value, "item") else value
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        return value

    return [{str(name): one(value) for name, value in row.items()} for row in frame.to_dict("records")]


@dataclass
class House:
    """Store, ledger and formats, and a way to register and deploy versions of the workflow `churn`."""

    workflow: str = "churn"
    objects: Any = field(default_factory=MemoryObjects)
    ledger: Any = field(default_factory=MemoryLedger)
    formats: Any = field(default_factory=FormatRegistry)

    def _json(self, value: Any) -> dict[str, Any]:
        return self.formats.dump(value, self.objects.stage).to_json()

    def bundle(self, estimator: Any, contract: dict[str, Any], frame: Any, **changes: Any) -> Artifact:
        """A bundle whose golden rows are the frame's."""
        decision = changes.pop("decision", None)
        expected = answers(estimator, frame, with_decision(contract, decision))
        golden = {"rows": plain_records(frame), "expected": expected}
        files = {
            "estimator": self.formats.dump(estimator, self.objects.stage).to_json(),
            "input": self._json(contract),
            "golden": self._json(changes.pop("golden", golden)),
        }
        files |= {"decision": self._json(decision)} if decision else {}
        types = changes.pop("types", None)
        files |= {"types": self._json(types)} if types is not None else {}
        files |= {name: self._json({}) for name in ("profile", "metrics", "audit", "environment", "lineage")}
        manifest = {"penstock": "bundle/1", "workflow": self.workflow, "task": contract["task"], "files": files}
        digest, size = self.objects.stage(json.dumps(manifest | changes, sort_keys=True).encode())
        return Artifact(digest, "bundle", size, refs=tuple(file["digest"] for file in files.values()))

    def register(self, bundle: Artifact) -> int:
        number = self.ledger.streams().get(f"{self.workflow}/version", 0) + 1
        self.ledger.append([Entry(f"{self.workflow}/version", number, {"bundle": bundle.to_json()})])
        return number

    def deploy(self, version: int) -> int:
        entry = self.ledger.stream(f"{self.workflow}/version", after=version - 1)[0]
        number = self.ledger.streams().get(f"{self.workflow}/deployment", 0) + 1
        body = {"version": version, "bundle": entry.body["bundle"], "previous": None}
        self.ledger.append([Entry(f"{self.workflow}/deployment", number, body)])
        return number

    def load(self, version: int) -> Model:
        return load_version(self.workflow, version, self.ledger, self.objects, self.formats)

    def constant(self, value: float) -> Artifact:
        """A bundle of a regressor that answers one number, for whatever age."""
        import pandas as pd
        from sklearn.dummy import DummyRegressor

        frame = pd.DataFrame({"age": [1.0, 2.0]})
        estimator = DummyRegressor(strategy="constant", constant=value).fit(frame, [0.0, 1.0])
        contract = {"task": "regression", "classes": None, "positive": None}
        return self.bundle(estimator, contract | {"columns": [column("age", "float64", "number")]}, frame)

    def customers(self, **changes: Any) -> Artifact:
        """A bundle of a real pipeline over numbers, integers, booleans and text."""
        estimator, contract, frame = customers_pipeline()
        return self.bundle(estimator, contract, frame, **changes)

    def follower(self, holder: Holder, **options: Any) -> Follower:
        return Follower(self.workflow, lambda: self.ledger, self.objects, self.formats, holder, **options)


def customers_pipeline() -> tuple[Any, dict[str, Any], Any]:
    """A fitted pipeline, its contract and eight training rows."""
    import numpy as np
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(0)
    n = 200
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 10, n),
            "visits": rng.integers(0, 30, n),
            "member": rng.random(n) < 0.5,
            "city": rng.choice(["Bern", "Genf", "Zürich"], n),
            "gender": rng.choice(["f", "m"], n),
        }
    )
    frame.loc[rng.random(n) < 0.1, "age"] = np.nan
    target = (frame["age"].fillna(40) + 3 * frame["visits"] + rng.normal(0, 5, n) > 85).astype(int)
    preprocess = ColumnTransformer(
        [
            ("num", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
            ("int", StandardScaler(), ["visits", "member"]),
            ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
            ("gender", OneHotEncoder(), ["gender"]),
        ]
    )
    estimator = make_pipeline(preprocess, LogisticRegression()).fit(frame, target)
    contract = {
        "task": "binary",
        "classes": [0, 1],
        "positive": 1,
        "columns": [
            column("age", str(frame["age"].dtype), "number", missing="allow"),
            column("visits", str(frame["visits"].dtype), "integer"),
            column("member", str(frame["member"].dtype), "boolean"),
            column("city", str(frame["city"].dtype), "text", categories=["Bern", "Genf", "Zürich"], unseen="count"),
            column("gender", str(frame["gender"].dtype), "text", categories=["f", "m"]),
        ],
    }
    return estimator, contract, frame.head(8)


CUSTOMER = {"age": 41.5, "visits": 12, "member": True, "city": "Bern", "gender": "f"}


# ── in process ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body, parse_constant=lambda word: pytest.fail(f"{word} in an answer"))


class Client:
    """Calls an ASGI application as a server would, without a socket."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def call(
        self, method: str, path: str, body: bytes | list[bytes] = b"", headers: Any = None, *, hang: bool = False
    ) -> Reply | None:
        """One request; None when the application answered nothing. `hang`: the body never ends."""
        return asyncio.run(self.acall(method, path, body, headers, hang=hang))

    async def acall(
        self, method: str, path: str, body: bytes | list[bytes] = b"", headers: Any = None, *, hang: bool = False
    ) -> Reply | None:
        chunks = [body] if isinstance(body, bytes) else list(body)
        sent: list[Any] = []

        async def receive() -> Any:
            if chunks:
                chunk = chunks.pop(0)
                return {"type": "http.request", "body": chunk, "more_body": bool(chunks) or hang}
            if hang:
                await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        given = [HOST, JSON] if headers is None else headers
        scope = {"type": "http", "method": method, "path": path, "headers": given, "query_string": b""}
        await self.app(scope, receive, send)
        if not sent:
            return None
        heads = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], heads, b"".join(message.get("body", b"") for message in sent[1:]))

    def predict(self, *records: Any, headers: Any = None) -> Reply:
        reply = self.call("POST", "/predict", json.dumps({"records": list(records)}).encode(), headers)
        assert reply is not None
        return reply


@dataclass
class Running:
    """A service in this process: its client and its parts."""

    client: Client
    service: Service
    holder: Holder
    predictor: Predictor


# ── over a socket ────────────────────────────────────────────────────────────────────────────────────────────


class Wire:
    """Raw bytes to a real server on loopback, bounded in time."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self, timeout_s: float = 5.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

    def send(self, data: bytes, timeout_s: float = 5.0) -> bytes:
        """Send, then read until the server closes or falls silent for 0.2 s after its first bytes."""
        with self.connect(timeout_s) as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(data)
            return read_all(sock)

    def get(self, path: str = "/healthz") -> bytes:
        return self.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())


def read_all(sock: socket.socket) -> bytes:
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
            sock.settimeout(0.2)
    except (TimeoutError, ConnectionError):
        return data
    return data


@contextlib.contextmanager
def on_loopback(app: Any) -> Any:
    """A real uvicorn in a thread."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    started = threading.Event()
    server = make_server(app, started.set)
    thread = threading.Thread(target=lambda: server.run(sockets=[sock]), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield Wire(sock.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


# ── fixtures ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture(scope="session")
def customers_model() -> Model:
    """One model of the real pipeline, for all tests that only read it."""
    house = House()
    house.register(house.customers())
    return house.load(1)


@pytest.fixture
def running(customers_model: Model) -> Any:
    """The service on the real pipeline."""
    holder = Holder()
    holder.swap(Live.of(customers_model))
    yield from _run(holder)


@pytest.fixture
def empty() -> Any:
    """The service without a model."""
    yield from _run(Holder())


def _run(holder: Holder) -> Any:
    predictor = Predictor(NoLog())
    service = Service("churn", holder, predictor)
    yield Running(Client(service.app()), service, holder, predictor)
    predictor.close()


@pytest.fixture(scope="session")
def kit() -> Any:
    """The helpers of this file, for tests that cannot import it."""

    class Kit:
        House = House
        Client = Client
        Wire = Wire
        column = staticmethod(column)
        customer = dict(CUSTOMER)
        customers_pipeline = staticmethod(customers_pipeline)
        plain_records = staticmethod(plain_records)
        on_loopback = staticmethod(on_loopback)
        read_all = staticmethod(read_all)
        HOST = HOST
        JSON = JSON

        @staticmethod
        def until(condition: Any, timeout_s: float = 10.0) -> None:
            end = time.monotonic() + timeout_s
            while not condition():
                assert time.monotonic() < end, "waited too long"
                time.sleep(0.01)

    return Kit
