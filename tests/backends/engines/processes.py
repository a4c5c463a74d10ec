"""The processes of one engine: started, looked at, and all of them ended; and its API asked."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
BACKENDS = ("airflow", "prefect", "dagster", "kubeflow", "dask")
SAME_FOR_ALL = {"DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
NOT_TAKEN_OVER = ("PYTHON", "PENSTOCK_", "AIRFLOW", "PREFECT_", "DAGSTER_", "DASK_", "PYTEST_", "COV_")
_MARK = "ENGINE_OF_TESTS"
_PR_SET_PDEATHSIG = 1


def python_of(backend: str) -> Path:
    """Python of the environment that `make backends` makes; skips, loudly, where it was not made (fails in CI)."""
    import pytest

    path = ROOT / f".venv-{backend}" / "bin" / "python"
    if not path.exists():
        pytest.skip(f"not built yet: make backends ONLY={backend}")
    return path


class Processes:
    """An engine's processes, with a folder of their own that is also their `HOME`.

    Each starts in a session of its own. What they start in turn is found by parent, by session or by a mark in its
    environment: an engine's children outlive a signal to their parent, start sessions and rename themselves.

    Parameters
    ----------
    backend : str
        Whose Python runs them: the one in `.venv-BACKEND`.
    env : mapping of str to str, optional
        Variables beside the few that are taken over.
    python : Path, optional
        Another Python than that one.
    """

    def __init__(self, backend: str, env: Mapping[str, str] | None = None, *, python: Path | None = None) -> None:
        self.python = python or python_of(backend)
        self.folder = Path(tempfile.mkdtemp(prefix=f"engine-{backend}-"))
        self.mark = secrets.token_hex(8)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_TAKEN_OVER)}
        path = f"{self.python.parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
        own = {"HOME": str(self.folder), "PATH": path, _MARK: self.mark}
        self.env = {**kept, **SAME_FOR_ALL, **own, **(env or {})}
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: list[subprocess.Popen[bytes]] = []
        self._seen: set[tuple[int, str]] = set()

    def start(self, name: str, *words: object, module: str | None = None) -> subprocess.Popen[bytes]:
        """Start a program of the environment, or a module of its Python; what it prints goes to `NAME.log`."""
        first = [self.python, "-m", module] if module else [self.python.parent / str(words[0])]
        command = [*first, *(words if module else words[1:])]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, preexec_fn=_end_with_maker,
            )  # fmt: skip
        self._started[name] = process
        return process

    def run(self, *words: object, timeout: float = 300, **env: str) -> str:
        """Run the environment's Python with these words until it ends; what it printed to stdout."""
        done = subprocess.run(
            [str(self.python), *map(str, words)], cwd=self.folder, env={**self.env, **env}, timeout=timeout,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (
            f"{words[:3]} ended {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
        return done.stdout

    def started(self, name: str) -> subprocess.Popen[bytes]:
        """A process that was started under this name and has not been stopped."""
        return self._started[name]

    def forget(self, name: str) -> None:
        """Wait for the end of a process that a test ended itself: `wait` minds it no more."""
        self._started[name].wait(30)
        self._ended.append(self._started.pop(name))

    def stop(self, name: str, patience: float = 30) -> None:
        """End one process in order; what it started is ended with the engine."""
        self._started[name].terminate()
        try:
            self._started[name].wait(patience)
        except subprocess.TimeoutExpired:
            self._started[name].kill()
        self.forget(name)

    def logs(self, last: int = 3_000) -> str:
        """The ends of all logs, for a message."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"── {file.name}\n{file.read_text(errors='replace')[-last:]}" for file in files)

    def wait(self, what: str, check: Callable[[], Any], seconds: float = 180, every: float = 0.1) -> Any:
        """Ask until the answer is true, and give it; an engine that does not listen yet is no answer.

        Raises
        ------
        AssertionError
            A process ended, or the time is over: with the ends of the logs.
        """
        deadline, why = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            try:
                if answer := check():
                    return answer
            except OSError as error:  # no connection yet, or 404 and 503 while it starts
                why = f" ({error})"
            for name, process in self._started.items():
                assert process.poll() is None, f"{name} ended {process.returncode}, waiting for {what}\n{self.logs()}"
            time.sleep(every)
        raise AssertionError(f"no {what} after {seconds} s{why}\n{self.logs()}")

    def pids(self) -> list[int]:
        """Ids of all processes of this engine that live now."""
        table = {int(name): stat for name in os.listdir("/proc") if name.isdigit() and (stat := _stat(name))}
        ours = {pid for pid, stat in table.items() if (pid, stat[3]) in self._seen}
        sessions = {process.pid for process in (*self._started.values(), *self._ended)}
        ours |= {pid for pid, stat in table.items() if stat[2] in sessions or pid in sessions or self._marked(pid)}
        while more := {pid for pid, stat in table.items() if stat[1] in ours} - ours:
            ours |= more
        self._seen |= {(pid, table[pid][3]) for pid in ours if pid in table}
        return sorted(pid for pid in ours if pid in table and table[pid][0] != "Z")

    def _marked(self, pid: int) -> bool:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            return f"{_MARK}={self.mark}".encode() in file.read()
        return False

    def listening(self) -> set[tuple[str, int]]:
        """Addresses and ports that these processes listen on (TCP)."""
        inodes = set()
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for number in os.listdir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        inodes.add(os.readlink(f"/proc/{pid}/fd/{number}"))
        return {address for inode, address in _listeners() if f"socket:[{inode}]" in inodes}

    def close(self, patience: float = 3) -> None:
        """End all of them, in order first and then at once, and remove the folder.

        Raises
        ------
        AssertionError
            One of them lives on.
        """
        try:
            for how, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 20)):
                self._end(how, seconds)
            left = self.pids()
            assert not left, f"processes {left} live on"
            for process in self._started.values():
                process.wait(20)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, how: signal.Signals, seconds: float) -> None:
        deadline, told = time.monotonic() + seconds, set()
        while (pids := self.pids()) and time.monotonic() < deadline:
            for pid in set(pids) - told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
            told |= set(pids)
            time.sleep(0.05)


def _end_with_maker() -> None:
    """Ask the system to end this process when its maker ends, whatever way."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stat(pid: str) -> tuple[str, int, int, str] | None:
    """State, parent, session and start of a process; None when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            words = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return words[0], int(words[1]), int(words[3]), words[19]


def _listeners() -> Iterator[tuple[str, tuple[str, int]]]:
    """Inode and address of each TCP socket of this machine that listens."""
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with contextlib.suppress(OSError), open(f"/proc/net/{table}", encoding="ascii") as file:
            for line in list(file)[1:]:
                words = line.split()
                if words[3] != "0A":
                    continue
                host, port = words[1].split(":")
                # Each 32 bits are written as one number of this machine's byte order.
                packed = b"".join(bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8))
                yield words[9], (socket.inet_ntop(family, packed), int(port, 16))


class Refused(OSError):
    """An answer that is no success, in its own words, with its HTTP `status`."""

    def __init__(self, url: str, status: int, text: str) -> None:
        super().__init__(f"{status} from {url}: {text[:2000]}")
        self.status = status


def ask(url: str, body: Any = None, *, method: str | None = None, **headers: str) -> Any:
    """Ask a server; its JSON (a text, where it is none). A body makes it a POST.

    Raises
    ------
    OSError
        It did not answer, or not with success (`Refused`).
    """
    data = None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", "Accept": "application/json", **headers}
    request = urllib.request.Request(url, data=data, method=method, headers=sent)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        raise Refused(url, error.code, error.read().decode(errors="replace")) from error
    try:
        return json.loads(text)
    except ValueError:
        return text
