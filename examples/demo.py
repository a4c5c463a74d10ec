"""`make demo`: one model from raw data to production and back, by the public command line alone.

In a temporary folder, on generated customers: a champion is trained, judged and deployed, answers over HTTP, a moved
batch is noticed, newer data is learnt from against the champion, and the champion is rolled back. Ends with 0 when
every stage did what it should, with 1 and the reason when one did not.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from customers import customers, write  # noqa: E402  a neighbour, wherever this is called from

PATIENCE_S = 40
ASKED = (
    {"age": 24, "income": 21_000, "city": "Lille", "gender": "f"},
    {"age": 47, "income": 39_000, "city": "Bonn", "gender": "m"},
    {"age": 71, "income": 64_000, "city": "Porto", "gender": "f"},
)


class UnexpectedError(Exception):
    """A stage did not do what it should."""


def environment() -> dict[str, str]:
    """The environment of every command: this checkout's package first, nobody's settings of Penstock."""
    values = {name: text for name, text in os.environ.items() if not name.startswith("PENSTOCK_")}
    path = [str(HERE.parent / "src"), values.get("PYTHONPATH", "")]
    return values | {"PYTHONPATH": os.pathsep.join(part for part in path if part)}


def tell(text: str) -> None:
    """A sentence between commands."""
    print(f"\n{text}\n", flush=True)


def penstock(words: str, folder: Path, expect: Sequence[int] = (0,)) -> int:
    """Run a command as a person would type it, showing it and what it says.

    Raises
    ------
    UnexpectedError
        It ended with another code than expected.
    """
    print(f"    $ penstock {words}", flush=True)
    command = [sys.executable, "-m", "penstock", *shlex.split(words)]
    done = subprocess.run(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    for line in done.stdout.splitlines():
        print(f"    {line}".rstrip())
    told = "" if expect == (0,) else f"    (exit code {done.returncode})\n"
    print(told, end="", flush=True)
    if done.returncode not in expect:
        wanted = " or ".join(map(str, expect))
        raise UnexpectedError(f"penstock {words} ended with {done.returncode}, not with {wanted}")
    return done.returncode


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, object]:
    """One request to the server: status and JSON answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or "null")


@contextlib.contextmanager
def server(folder: Path) -> Iterator[int]:
    """`penstock serve churn` on a free port, ended when the block is left; gives the port."""
    port = free_port()
    print(f"    $ penstock serve churn --port {port} &", flush=True)
    command = [sys.executable, "-m", "penstock", "serve", "churn", "--port", str(port), "--quiet"]
    with open(folder / "server.txt", "w", encoding="utf-8") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=said, stderr=said)
        try:
            until(lambda: process.poll() is not None or _ready(port), "the server is ready")
            if process.poll() is not None:
                raise UnexpectedError(f"the server ended: {(folder / 'server.txt').read_text()}")
            yield port
        finally:
            process.terminate()
            code = process.wait(PATIENCE_S)
    if code not in (0, 143):
        raise UnexpectedError(f"the server ended with {code} when it was asked to end")


def _ready(port: int) -> bool:
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        return ask(port, "GET", "/readyz")[0] == 200
    return False


def until(true: object, what: str) -> None:
    """Wait until a condition holds.

    Raises
    ------
    UnexpectedError
        It does not, in time.
    """
    end = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > end:
            raise UnexpectedError(f"waited {PATIENCE_S} s in vain until {what}")
        time.sleep(0.05)


def version(port: int) -> str:
    """Which version answers now."""
    return str(ask(port, "GET", "/model")[1]["version"])


def predict(port: int, records: Sequence[dict[str, object]]) -> None:
    """Ask for a few customers, one request each, and show the answers.

    Raises
    ------
    UnexpectedError
    """
    for record in records:
        print(f"    $ curl localhost:{port}/predict -d '{json.dumps({'records': [record]})}'")
        status, answer = ask(port, "POST", "/predict", {"records": [record]})
        print(f"    {json.dumps(answer)}", flush=True)
        if status != 200 or len(answer["predictions"]) != 1:
            raise UnexpectedError(f"/predict answered {status}: {answer}")


def first(folder: Path) -> None:
    """Data, declaration, the first champion."""
    write(folder / "data" / "customers.csv", customers(4_000))
    write(folder / "data" / "outcomes.csv", customers(4_000), ("customer_id", "churned"))
    shutil.copy(HERE / "churn.py", folder)
    lines = sum(bool(line.strip()) for line in (folder / "churn.py").read_text().splitlines())
    tell(
        f"1 · A table of 4,000 customers and one file of {lines} lines, churn.py, that declares everything.\n"
        "    One command takes it through every stage: checked, split, trained, judged on rows it has not seen,\n"
        "    registered, deployed. A first version must beat the baseline."
    )
    penstock("run churn.py", folder)


def served(folder: Path, port: int) -> None:
    """Three predictions, and records that are refused."""
    predict(port, ASKED)
    wrong = {"age": "old", "income": 1, "city": "Bonn", "gender": "f"}
    status, answer = ask(port, "POST", "/predict", {"records": [wrong]})
    if status != 422:
        raise UnexpectedError(f"a record with a text for an age was answered with {status}")
    print(f"    A record whose age is a text is refused ({status}): {json.dumps(answer)[:160]}")


def noticed(folder: Path) -> None:
    """A batch like the training rows raises no alarm, a moved one does."""
    write(folder / "usual.csv", customers(800, seed=5, first=8_001))
    write(folder / "drifted.csv", customers(800, seed=7, first=9_001, moved=True))
    tell("3 · Has the world moved? A usual batch raises no alarm. After a campaign the customers are other people:")
    penstock("monitor churn.py --data usual.csv --quiet", folder)
    penstock("monitor churn.py --data drifted.csv", folder, expect=(8,))


def retrained(folder: Path, port: int) -> None:
    """Newer data, held against the champion; then back."""
    newer = (
        customers(4_000) + customers(2_000, seed=9, first=4_001) + customers(1_500, seed=11, first=6_001, moved=True)
    )
    write(folder / "data" / "customers.csv", newer)
    tell(
        "4 · Retrain: 3,500 newer customers have been added to the table. What has not changed is not run again;\n"
        "    the new version is compared with the champion, row by row on the same held-out rows."
    )
    code = penstock("run churn.py", folder, expect=(0, 4, 7))
    if code:
        tell("    The evidence did not let it through. A person may still decide otherwise, on record:")
        penstock("promote churn@2 --force --because 'to show a move by hand'", folder)
    until(lambda: version(port).endswith("2"), "the server answers with churn@2")
    print("\n    The running server has swapped it in, without a restart:")
    predict(port, ASKED[:1])
    tell("5 · Second thoughts: back to the version before, which answers within a second.")
    penstock("rollback churn --because 'second thoughts'", folder)
    until(lambda: version(port).endswith("1"), "the server answers with churn@1")
    predict(port, ASKED[:1])
    tell("    Every verdict and every move is on record: who, when, why.")
    penstock("log churn", folder)


def show() -> None:
    """The whole story.

    Raises
    ------
    UnexpectedError
    """
    with tempfile.TemporaryDirectory(prefix="penstock-demo-") as name:
        folder = Path(name).resolve()
        (folder / ".penstock").mkdir()  # a project of its own, whatever is above
        first(folder)
        tell("2 · Serve it. Each answer names its version and an id, by which the outcome can be handed in later.")
        with server(folder) as port:
            served(folder, port)
            noticed(folder)
            retrained(folder, port)


def main() -> int:
    """Tell it, and how long it took."""
    began = time.monotonic()
    print("Penstock: one model from raw data to production and back. Everything happens in a temporary folder.")
    try:
        show()
    except UnexpectedError as error:
        print(f"\n✗ {error}", file=sys.stderr)
        return 1
    tell(
        f"✓ Done in {time.monotonic() - began:.0f} s. What to do next: copy examples/churn.py beside a table\n"
        "  of yours, name its columns, and say `penstock try churn.py`, then `penstock run churn.py`.\n"
        "  docs/tutorial/first-model.md goes through it step by step."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
