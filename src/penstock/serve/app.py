"""The server's routes: predictions, health, readiness, the model and the description."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from penstock.errors import DataError
from penstock.serve.door import MAX_BODY, refusal
from penstock.serve.follow import Holder
from penstock.serve.http import Request, Response, Route, Router
from penstock.serve.openapi import describe
from penstock.serve.predict import Predictor

PREDICT_DEADLINE_S = 30.0
"""Seconds from the head of a request to its answer."""

_OK = Response(200, b'{"status":"ok"}')


class Service:
    """The handlers, over one holder of the live model and one pool of threads.

    Parameters
    ----------
    workflow : str
    holder : Holder
        The one reference to what answers.
    predictor : Predictor
    token : bool, default=False
        Whether the server asks for a secret; told in the description only.
    following : callable or None
        State of what follows the ledger, for `/model`.
    """

    def __init__(
        self,
        workflow: str,
        holder: Holder,
        predictor: Predictor,
        *,
        token: bool = False,
        following: Callable[[], dict[str, Any]] | None = None,
        deadline_s: float = PREDICT_DEADLINE_S,
    ) -> None:
        self.workflow = workflow
        self.holder = holder
        self.predictor = predictor
        self.token = token
        self.following = following
        self.deadline_s = deadline_s
        self.started = time.time()

    def routes(self) -> tuple[Route, ...]:
        """The whole table; tests list it again, so that a new route is noticed."""
        json = "application/json"
        return (
            Route("POST", "/predict", self.predict, "token", MAX_BODY, json, self.deadline_s),
            Route("GET", "/healthz", self.healthz, "open", 0, "", 5.0),
            Route("GET", "/readyz", self.readyz, "open", 0, "", 5.0),
            Route("GET", "/model", self.model, "token", 0, "", 5.0),
            Route("GET", "/openapi.json", self.openapi, "token", 0, "", 5.0),
        )

    def app(self, *, hosts: Iterable[str] = (), token: str | None = None) -> Router:
        """The ASGI application."""
        return Router(self.routes(), hosts, token)

    def _not_ready(self) -> DataError:
        if self.holder.last_error is None:
            return refusal(503, f"{self.workflow} has no deployed version yet")
        return refusal(503, f"the deployed version of {self.workflow} could not be loaded; /model says why")

    async def predict(self, request: Request) -> Response:
        """Answer records with one model: the one that is live when the request is whole."""
        live = self.holder.live
        if live is None:
            raise self._not_ready()
        future = self.predictor.submit(live, request.body, time.monotonic() + self.deadline_s)
        answered = await asyncio.wrap_future(future)
        return Response(200, answered.body, ((b"x-penstock-model", answered.model.encode()),))

    async def healthz(self, _request: Request) -> Response:
        """The process lives and its loop turns."""
        return _OK

    async def readyz(self, _request: Request) -> Response:
        """A model answers. A failed load of a newer one leaves this as it is: the old one goes on."""
        live = self.holder.live
        if live is None:
            raise self._not_ready()
        if live.model.process is not None and not live.model.process.is_ready:
            raise refusal(503, f"the model process of {live.model.name} is being started again; /model says why")
        return _OK

    async def model(self, _request: Request) -> Response:
        """Which version answers since when, why the newest deployment does not, and what was counted."""
        import msgspec

        live = self.holder.live
        state: dict[str, Any] = {
            "workflow": self.workflow,
            "model": live.model.name if live else None,
            "version": live.model.version if live else None,
            "bundle": live.model.bundle if live else None,
            "since": live.since if live else None,
            "started": self.started,
            "last_error": self.holder.last_error,
            "rows": self.predictor.counters.rows,
            "unseen": dict(self.predictor.counters.unseen),
            "process": live.model.process.state() if live and live.model.process else None,
            "log": self.predictor.log.state(),
            "following": self.following() if self.following else None,
            "input": live.model.contract.raw if live else None,
        }
        return Response(200, msgspec.json.encode(state))

    async def openapi(self, _request: Request) -> Response:
        """The description, made from the live model's contract."""
        import msgspec

        live = self.holder.live
        if live is not None and not self.token:
            return Response(200, live.openapi)
        document = describe(live.model if live else None, token=self.token)
        return Response(200, msgspec.json.encode(document))
