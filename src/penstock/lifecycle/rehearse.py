"""The dress rehearsal: a version's golden rows through real HTTP on a scratch server, before it goes live."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import time
from typing import Any

from penstock.core.ports import Home
from penstock.engine import processes
from penstock.errors import MissingExtraError, RefusedError, UntrustedTypeError
from penstock.lifecycle.versions import Version, file_of

TOLERANCE = 1e-9
START_S = 60.0


def rehearse_with(entry: str) -> Any:
    """A function that rehearses with the server behind a module's name.

    Parameters
    ----------
    entry : str
        "penstock.serve"; told by the caller, which may know it.
    """

    def rehearse(home: Home, version: Version) -> int:
        return rehearsal(home, version, entry)

    return rehearse


def rehearsal(home: Home, version: Version, entry: str) -> int:
    """Replay the golden rows.

    Returns
    -------
    int
        How many rows were answered as they should be.

    Raises
    ------
    MissingExtraError
        The serving extra is not installed.
    UntrustedTypeError
        The model holds types that no server runs here.
    RefusedError
        The server does not start, or an answer differs.
    """
    _check_extra()
    golden = file_of(home, version.bundle, "golden")
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    alive, life = os.pipe()
    os.set_inheritable(alive, True)
    command = [sys.executable, "-P", "-m", entry, "--workflow", version.workflow, "--project", home.config.root]
    command += ["--version", str(version.number), "--port", "0", "--no-log", "--quiet"]
    command += ["--ready-fd", str(theirs), "--lifeline", str(alive)]
    pid = processes.spawn(command, environment=processes.environment(1))
    os.close(theirs)
    os.close(alive)
    try:
        port = _port(ours, version)
        answered = _ask(port, golden["rows"])
    finally:
        os.close(ours)
        os.close(life)
        _stop(pid)
    if len(answered) != len(golden["expected"]):
        raise RefusedError(f"{version.name} answers {len(golden['expected'])} golden rows with {len(answered)} answers")
    wrong = [i for i, (a, b) in enumerate(zip(answered, golden["expected"], strict=True)) if not same(a, b)]
    if wrong:
        i = wrong[0]
        raise RefusedError(
            f"{version.name} answers {len(wrong)} of {len(answered)} golden rows otherwise over HTTP than in training",
            where=f"golden row {i}",
            hint=f"expected {golden['expected'][i]}, got {answered[i]}",
        )
    return len(answered)


def _check_extra() -> None:
    from importlib.util import find_spec

    absent = [name for name in ("uvicorn", "msgspec", "httptools") if find_spec(name) is None]
    if absent:
        raise MissingExtraError(f"serving needs {', '.join(absent)}", hint="pip install 'penstock[serve]'")


def _port(fd: int, version: Version) -> int:
    """Wait for the server's one line."""
    import select

    text = b""
    end = time.monotonic() + START_S
    while b"\n" not in text and time.monotonic() < end:
        if select.select([fd], [], [], 0.5)[0]:
            part = os.read(fd, 4096)
            if not part:
                break
            text += part
    line = json.loads(text) if b"\n" in text else {}
    if "port" not in line:
        why = line.get("error", "it ended without a word")
        if line.get("kind") == UntrustedTypeError.__name__:
            raise UntrustedTypeError(why, hint=line.get("hint", ""))
        raise RefusedError(
            f"{version.name} does not start as a server: {why}", hint="`penstock serve` shows the whole error"
        )
    return int(line["port"])


def _ask(port: int, rows: list[Any]) -> list[Any]:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        body = json.dumps({"records": rows}, allow_nan=False)
        connection.request("POST", "/predict", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        data = json.loads(answer.read())
    except (OSError, ValueError) as error:
        raise RefusedError(f"the scratch server did not answer: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise RefusedError(f"the scratch server refused its own golden rows with {answer.status}", hint=str(data)[:500])
    return list(data["predictions"])


def same(answered: Any, expected: Any) -> bool:
    """Whether an answer agrees with what training said: labels equal, numbers to 1e-9 of their size.

    Examples
    --------
    >>> same({"id": "x", "score": 0.5 + 1e-12}, {"score": 0.5})
    True
    """
    if isinstance(expected, dict):
        if not isinstance(answered, dict):
            return False
        return all(name in answered and same(answered[name], value) for name, value in expected.items())
    if isinstance(expected, float) and isinstance(answered, int | float):
        return math.isclose(answered, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(answered == expected)


def _stop(pid: int) -> None:
    """End the scratch server: its lifeline is cut; then by signal."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 5.0
    while time.monotonic() < end:
        with contextlib.suppress(ChildProcessError):
            done, _ = os.waitpid(pid, os.WNOHANG)
            if not done:
                time.sleep(0.02)
                continue
        return
    processes.kill_tree(pid)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
