"""Running a run's steps again inside one worker, on other tables: what a stage is given for a `core.replay.Replay`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from penstock.core import checkpoints
from penstock.core.artifact import Artifact
from penstock.core.fan import FORMAT, pack
from penstock.core.flow import Node
from penstock.core.notes import note, take, take_pictures
from penstock.core.ports import Formats, Objects
from penstock.core.replay import Change, Key, Raised, Replay, Replayable, refs_among
from penstock.core.secret import hidden_tree
from penstock.core.step import Call, call_of, output_of
from penstock.engine.calling import Load, bind, find, seed_everything, split_outputs
from penstock.engine.describe import Live
from penstock.errors import CorruptObjectError, MissingObjectError, bounded

TABLES = {("pandas", "DataFrame"): "pandas", ("polars", "DataFrame"): "polars", ("pyarrow", "Table"): "arrow"}


class Replayer:
    """The steps of a `Replay`, ready to be called; `core.replay.Replayed` says how.

    Parameters
    ----------
    replay : Replay
    inputs : dict
        (step, output) → artifact of the run, for each of the replay's references.
    live : Live
    formats, objects, seed
        The worker's.
    beside : dict
        What the coordinator knows of earlier runs: "seconds", step → its last on record; "tried", step → digest of the
        code that an earlier proof ran again. It decides nothing but whether a slow step is tried.
    """

    def __init__(
        self,
        replay: Replay,
        inputs: Mapping[Key, Artifact],
        live: Live,
        formats: Formats,
        objects: Objects,
        *,
        seed: int = 0,
        beside: Mapping[str, Any] | None = None,
    ) -> None:
        self._inputs, self._live, self._formats, self._objects, self._seed = inputs, live, formats, objects, seed
        self._nodes = {node.id: node for node in live.graph.nodes}
        self._files: list[Scratch] = []
        self.steps = tuple(self._step(call, beside or {}) for call in replay.calls)
        self.data = (live.ids[id(call_of(replay.data))], output_of(replay.data))

    def _step(self, call: Call, beside: Mapping[str, Any]) -> Replayable:
        step = self._live.ids[id(call)]
        node = self._nodes[step]
        takes = [(self._live.ids[id(call_of(ref))], output_of(ref)) for ref in refs_among([call.args, call.kwargs])]
        return Replayable(
            step,
            call.kind == "source",
            node.names,
            tuple(dict.fromkeys(takes)),
            call.options.across_rows,
            call.options.because,
            node.code,
            float(beside.get("seconds", {}).get(step, 0.0)),
            beside.get("tried", {}).get(step) == node.code,
        )

    def table(self, key: Key) -> Any:
        """An output as the run had it; a table as a pandas frame."""
        artifact = self._inputs[key]
        return self._formats.load(artifact, self._objects, "pandas" if artifact.format == "parquet" else "")

    def recorded(self, key: Key) -> str:
        """Digest of an output of the run."""
        return self._inputs[key].digest

    def frame(self, value: Any) -> Any:
        """A table as a pandas frame, as its format would read it back; anything else as it is."""
        return self._as(value, "pandas") if _library(value) not in ("", "pandas") else value

    def digest(self, value: Any) -> str:
        """Digest of the bytes that a value would be kept as."""
        stage = Scratch().stage
        if isinstance(value, Several):
            return pack([self._formats.dump(one, stage) for one in value], stage).digest
        return self._formats.dump(value, stage).digest

    def call(self, step: str, given: Mapping[Key, Any], change: Change) -> dict[Key, Any]:
        """Run a step as `child.run_step` would, on other inputs; what it prints and logs is dropped.

        Raises
        ------
        Raised
            Whatever the step raised, or returned that it must not.
        CorruptObjectError, MissingObjectError
        """
        call, node = self._live.calls[step], self._nodes[step]
        function = call.function or find(call.entry)

        def load(key: Key, want: str) -> Any:
            return self._as(given[key], want) if key in given else self._changed(key, want, change)

        try:
            if call.mapped:
                (items,), _ = bind(replace(call, args=call.args[:1], kwargs={}), function, self._live, load)
                each = [self._once(replace(call, args=(one, *call.args[1:])), node, function, load) for one in items]
                parts: list[Any] = [Several(given) for given in zip(*each, strict=True)] or [
                    Several() for _ in node.names
                ]
            else:
                parts = self._once(call, node, function, load)
        except (CorruptObjectError, MissingObjectError):
            raise
        except (Exception, SystemExit) as error:
            said = str(error).strip().partition("\n")[0]
            raise Raised(step, bounded(hidden_tree(f"{type(error).__name__}: {said}"), 200)) from error
        return {(step, name): part for name, part in zip(node.names, parts, strict=True)}

    def _once(self, call: Call, node: Node, function: Callable[..., Any], load: Load) -> list[Any]:
        """What a step gives, or a mapped one for an item."""
        args, kwargs = bind(call, function, self._live, load)
        checkpoints.begin()  # what a search remembers is of other rows
        seed_everything(self._seed)
        with _unheard(), _within(node.timeout_s):
            value = function(*args, **kwargs)
        return split_outputs(value, node, function)

    def _changed(self, key: Key, want: str, change: Change) -> Any:
        """An output of the run as a step wants it, changed where it is a table."""
        artifact = self._inputs[key]
        if artifact.format != "parquet":
            asked = "pandas" if artifact.format == FORMAT and not want else want
            return self._formats.load(artifact, self._objects, asked)
        if want != "path":
            form = "pandas" if want in ("", "stored") else want
            return change(key, self._formats.load(artifact, self._objects, form))
        table = self._formats.load(artifact, self._objects, "arrow")
        other = change(key, table)
        return self._formats.load(artifact, self._objects, "path") if other is table else self._as(other, "path")

    def _as(self, value: Any, want: str) -> Any:
        """A value as its format would read it back from the store; a copy."""
        if isinstance(value, Several):
            return [self._as(one, want if _library(one) or want == "path" else "") for one in value]
        library = _library(value)
        wanted = "pandas" if library and want in ("", "stored") else want
        if library == "pandas" and wanted == "pandas":
            return value.copy()
        if library and library == wanted:  # neither polars nor pyarrow changes a table in place
            return value
        scratch = Scratch()
        if wanted == "path":
            self._files.append(scratch)  # the step may read it later
        kept = self._formats.dump(value, scratch.stage)
        return self._formats.load(kept, cast("Objects", scratch), wanted)  # a format only reads and fetches


class Several(list[Any]):
    """What a mapped step gave when it ran again: a value for each item."""


def _library(value: Any) -> str:
    """Whose table it is, as `want` names it; "" for anything else."""
    kind = type(value)
    return TABLES.get((kind.__module__.partition(".")[0], kind.__name__), "")


class Scratch:
    """Objects for one value, on its way from a step to the next: gone with it."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}
        self._folder = ""

    def stage(self, data: bytes | str) -> tuple[str, int]:
        """Keep bytes, or the bytes of a file, which is taken."""
        if isinstance(data, str):
            with open(data, "rb") as file:
                content = file.read()
            os.unlink(data)
            data = content
        digest = hashlib.sha256(data).hexdigest()
        self._held[digest] = data
        return digest, len(data)

    def read(self, digest: str) -> bytes:
        """Bytes that were kept."""
        return self._held[digest]

    def fetch(self, digest: str) -> str:
        """Path of a file with them."""
        if not self._folder:
            self._folder = tempfile.mkdtemp(prefix="penstock-replay-")
            weakref.finalize(self, _remove, self._folder, os.getpid())
        path = os.path.join(self._folder, digest)
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.write(self._held[digest])
        return path


def _remove(folder: str, pid: int) -> None:
    """Remove a folder, unless this is a fork of the process that made it."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Drop what is printed, by this process and its children, and what is logged."""
    before = take()
    _flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        try:
            for stream in (1, 2):
                os.dup2(nowhere.fileno(), stream)
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield
        finally:
            _flush()
            for stream, old in zip((1, 2), kept, strict=True):
                os.dup2(old, stream)
                os.close(old)
            take()
            take_pictures()
            note(**before)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


@contextlib.contextmanager
def _within(seconds: float | None) -> Iterator[None]:
    """Raise in the step when its time is over; only Python code can be stopped so, and only in the main thread."""
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
