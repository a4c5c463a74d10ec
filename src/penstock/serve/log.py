"""The prediction log: JSON lines, append-only, written by a thread of its own off the hot path.

Rows wait in a bounded queue; what does not fit is dropped and counted, so a slow or full disk never slows an
answer. Lines reach the file at least once a second: a crash loses at most the last second. A segment is never
rewritten; a new one begins each UTC day, after 64 MiB, and after an error (whose last line may be half a line, which
readers pass over).
"""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Callable, Sequence
from io import FileIO
from typing import Any

from penstock.serve.predict import Row

MAX_ROWS = 20_000
"""Rows that wait to be written."""

SEGMENT_BYTES = 64 << 20
"""Bytes after which a new segment begins."""

FLUSH_S = 1.0
"""Seconds after which waiting rows are in the file."""

_BATCH = 1_000


class NoLog:
    """A server that keeps no log."""

    def offer(self, rows: Sequence[Row]) -> bool:
        """Take nothing."""
        return bool(rows) and False

    def state(self) -> dict[str, Any]:
        """For `/model`."""
        return {"on": False, "written": 0, "dropped": 0, "error": None}

    def close(self) -> None:
        """There is nothing to end."""


class PredictionLog:
    """Writes answered rows into segments `START-PID.jsonl` of one folder.

    Parameters
    ----------
    folder : str
        `predictions/WORKFLOW` of the project; made when it is not there.
    max_rows, segment_bytes : int
    flush_s : float
    clock : callable, default=time.time
        Unix time in seconds.
    """

    def __init__(
        self,
        folder: str,
        *,
        max_rows: int = MAX_ROWS,
        segment_bytes: int = SEGMENT_BYTES,
        flush_s: float = FLUSH_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.written = 0
        self.dropped = 0
        self.error: str | None = None
        self._max_rows = max_rows
        self._segment_bytes = segment_bytes
        self._flush_s = flush_s
        self._clock = clock
        self._waiting: collections.deque[Sequence[Row]] = collections.deque()
        self._rows = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._file: FileIO | None = None
        self._size = 0
        self._day = ""
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def offer(self, rows: Sequence[Row]) -> bool:
        """Take rows to be written, without waiting; False when they were dropped for want of room."""
        with self._lock:
            if self._rows + len(rows) > self._max_rows:
                self.dropped += len(rows)
                return False
            self._rows += len(rows)
            self._waiting.append(rows)
            return True

    def state(self) -> dict[str, Any]:
        """For `/model`: rows written and dropped, and the last error."""
        return {"on": True, "written": self.written, "dropped": self.dropped, "error": self.error}

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what waits and end."""
        self._ended.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ended.wait(self._flush_s / 2):
            self._drain()
        self._drain()
        self._end_segment()

    def _drain(self) -> None:
        """Write all that waits: one write a segment, straight to the operating system."""
        with self._lock:
            batches, self._waiting = self._waiting, collections.deque()
            self._rows = 0
        rows = [row for batch in batches for row in batch]
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            try:
                self._write(part)
            except (OSError, ValueError, TypeError) as error:
                self._failed(error, len(part))

    def _write(self, rows: Sequence[Row]) -> None:
        import msgspec

        data = memoryview(b"".join(msgspec.json.encode(_line(row)) + b"\n" for row in rows))
        file = self._segment()
        self._size += len(data)
        while data:
            data = data[file.write(data) :]
        self.written += len(rows)
        self.error = None

    def _failed(self, error: Exception, rows: int) -> None:
        with self._lock:
            self.dropped += rows
        self.error = f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'a row could not be written'}"
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as again:
                self.error = f"{type(again).__name__}: {again.strerror}"

    def _segment(self) -> FileIO:
        """The open segment, or a new one when the day or the size asks for it."""
        day = time.strftime("%Y%m%d", time.gmtime(self._clock()))
        if self._file is not None and (day != self._day or self._size >= self._segment_bytes):
            self._end_segment()
        if self._file is None:
            self._file = self._open()
            self._day, self._size = day, 0
        return self._file

    def _open(self) -> FileIO:
        os.makedirs(self.folder, exist_ok=True)
        start = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        for turn in range(10_000):
            name = f"{start}-{os.getpid()}{f'-{turn}' if turn else ''}.jsonl"
            try:
                return FileIO(os.path.join(self.folder, name), "xb")
            except FileExistsError:
                continue
        raise FileExistsError(self.folder)

    def _end_segment(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with file:
                os.fsync(file.fileno())
        except OSError as error:
            self._failed(error, 0)


def _line(row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {"id": row.id, "at": row.at, "model": row.model, "row": row.row}
    if row.key:
        line["key"] = row.key
    return line | {"answer": row.answer, "unseen": list(row.unseen)}
