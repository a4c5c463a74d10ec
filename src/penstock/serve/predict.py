"""From the bytes of a request to answers, ids and log rows: what runs in a worker thread, on one model throughout."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from penstock.errors import DataError, ModelAwayError
from penstock.serve.contract import Fault
from penstock.serve.door import Door, pick, refusal
from penstock.serve.model import Model

MAX_WAITING = 64
"""Requests that are computed or wait for it; one more is told to come back."""

THREADS = 2
"""Threads that compute answers; the event loop stays free for health and heads."""


class Row(NamedTuple):
    """One answered record as the log keeps it."""

    id: str
    at: float
    model: str
    row: Mapping[str, Any]
    key: Mapping[str, Any]
    answer: Mapping[str, Any]
    unseen: Sequence[str]


class Log(Protocol):
    """What takes answered rows off the hot path; `PredictionLog`, or `NoLog`."""

    def offer(self, rows: Sequence[Row]) -> bool:
        """Take rows without waiting; False when they were dropped because too many are waiting."""
        ...

    def state(self) -> dict[str, Any]:
        """Counts for `/model`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """What one answer comes from: a model, its door and its description, swapped as one reference."""

    model: Model
    door: Door
    openapi: bytes
    since: float

    @classmethod
    def of(cls, model: Model) -> Live:
        """Build door and description of a model that has been replayed, and warm them with its golden rows.

        Raises
        ------
        DataError
            The door does not let the golden rows through: the contract contradicts the data it was made from.
        """
        import msgspec

        from penstock.serve.openapi import describe

        door = Door(model.contract)
        door.records(msgspec.json.encode({"records": model.golden_rows}))
        return cls(model, door, msgspec.json.encode(describe(model)), time.time())


class Answered(NamedTuple):
    """The name of the model that answered, and the answer's body."""

    model: str
    body: bytes


class Counters:
    """What `/model` tells of the traffic; changed under one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.rows = 0
        self.unseen: dict[str, int] = {}

    def add(self, rows: int, unseen: Sequence[Sequence[str]]) -> None:
        """Count answered rows and their unseen levels by column."""
        with self._lock:
            self.rows += rows
            for names in unseen:
                for name in names:
                    self.unseen[name] = self.unseen.get(name, 0) + 1


class Predictor:
    """A small pool of threads with a bounded queue.

    Parameters
    ----------
    log : Log
    threads : int, default=2
    max_waiting : int, default=64
    """

    def __init__(self, log: Log, *, threads: int = THREADS, max_waiting: int = MAX_WAITING) -> None:
        self.log = log
        self.counters = Counters()
        self._name = f"predict-{secrets.token_hex(4)}"
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=self._name)
        self._room = threading.BoundedSemaphore(max_waiting)
        self._prefix = secrets.token_hex(6)
        self._count = itertools.count(1)

    def submit(self, live: Live, body: bytearray, deadline: float) -> Future[Answered]:
        """Start answering a body; its place in the queue is free again when its thread is, not before.

        Parameters
        ----------
        deadline : float
            `time.monotonic()` after which nobody waits for the answer.

        Raises
        ------
        DataError
            Status 503: too many requests are waiting.
        """
        if not self._room.acquire(blocking=False):
            raise refusal(503, "too many requests at once")
        try:
            future = self._pool.submit(self._answer, live, body, deadline)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future

    def close(self, timeout_s: float = 5.0) -> bool:
        """Drop what waits, give what runs some time; False when it still runs after that."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + timeout_s
        for thread in threading.enumerate():
            if thread.name.startswith(self._name):
                thread.join(max(until - time.monotonic(), 0.0))
        return not any(thread.name.startswith(self._name) for thread in threading.enumerate())

    def _answer(self, live: Live, body: bytearray, deadline: float) -> Answered:
        import msgspec

        if time.monotonic() > deadline:
            raise refusal(503, "no answer within the deadline")
        records = live.door.records(body)
        given = _given(live.model, records)
        unseen = live.model.contract.unseen(records)
        ids = [f"{self._prefix}-{next(self._count):x}" for _ in records]
        rows = [
            {"id": name, **answer, **({"unseen": strange} if strange else {})}
            for name, answer, strange in zip(ids, given, unseen, strict=True)
        ]
        encoded = msgspec.json.encode({"model": live.model.name, "predictions": rows})
        self.counters.add(len(records), unseen)
        self.log.offer(_log_rows(live.model, records, ids, given, unseen))
        return Answered(live.model.name, encoded)


def _log_rows(
    model: Model,
    records: Sequence[Mapping[str, Any]],
    ids: Sequence[str],
    given: Sequence[Mapping[str, Any]],
    unseen: Sequence[Sequence[str]],
) -> list[Row]:
    now = time.time()
    names = [column.name for column in model.contract.columns]
    return [
        Row(name, now, model.name, pick(record, names), pick(record, model.contract.key), answer, strange)
        for name, record, answer, strange in zip(ids, records, given, unseen, strict=True)
    ]


def _given(model: Model, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers, or a refusal that names the first record for which the model has none.

    The estimator's own words stay out of it: they may hold anything.
    """
    try:
        return model.answer(records)
    except ModelAwayError as error:
        raise refusal(503, error.what) from error
    except DataError as error:
        row = error.facts.get("row")
        if row is None:
            row = _first_bad(records, model.answer)
        faults = [Fault(row, "", "the model has no finite answer for these values")]
        raise refusal(422, f"record {row}: the model has no finite answer for these values", faults) from error


def _first_bad(records: Sequence[Any], answer: Callable[[Sequence[Any]], Any]) -> int:
    """Position of the first record that cannot be answered, by halving; -1 never: the whole is known to fail.

    Examples
    --------
    >>> def picky(records):
    ...     if 7 in records:
    ...         raise DataError("seven")
    >>> _first_bad([1, 2, 7, 3, 7], picky)
    2
    """
    low, high = 0, len(records)  # records[:low] is answered, records[:high] is not
    while high - low > 1:
        middle = (low + high) // 2
        try:
            answer(records[low:middle])
            low = middle
        except DataError:
            high = middle
    return low
