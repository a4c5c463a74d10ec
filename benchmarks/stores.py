"""What a bucket costs beside a directory: a whole run of one workflow, its objects in S3 and in a folder.

    python -m benchmarks.stores [--rows 20000] [--repeat 5]

The S3 server (moto) is a process of its own on this machine, so it has no distance, and its work is not counted: what
counts is CPU seconds, user and system, of `penstock run` and all that it starts. Both take turns in one run, with byte
code on and threads pinned to one. Requests are counted at the server: times the distance to a real bucket they are what
to wait for, at most. Three cases: from an empty store; again, with nothing changed; and again with the copies on this
machine gone, as on another machine that has only the ledger in common.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.measure import adopt_orphans, cpu_s, ratio, span

BUCKET = "bench"
DECLARED = """
import penstock as ps
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

churn = ps.Workflow(
    name="churn", data=ps.read("customers.csv"), target="churned", key="customer_id",
    model=make_pipeline(StandardScaler(), LogisticRegression()), metrics=["roc_auc"],
)
"""


@dataclass
class Server:
    """An S3 server that tells of each request in its log."""

    url: str
    log: Path

    def empty(self) -> None:
        """Forget everything, and make the bucket."""
        for path, method in (("moto-api/reset", "POST"), (BUCKET, "PUT")):
            urllib.request.urlopen(urllib.request.Request(f"{self.url}/{path}", method=method)).close()

    def requests(self) -> int:
        """How many requests it has answered."""
        return self.log.read_bytes().count(b" HTTP/1.1")


@contextmanager
def serving(log: Path) -> Iterator[Server]:
    """A server that keeps all in memory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open(log, "wb") as file:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield _answering(Server(f"http://127.0.0.1:{port}", log), process)
    finally:
        process.terminate()
        process.wait(30)


def _answering(server: Server, process: subprocess.Popen[bytes]) -> Server:
    deadline = time.monotonic() + 60
    while True:
        try:
            server.empty()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return server


def project(folder: Path, store: str, rows: int) -> Path:
    """A workflow and its table; the ledger is a file, and may stay when all else of `.penstock` goes."""
    folder.mkdir()
    (folder / "penstock.toml").write_text(f'store = "{store}"\nledger = "ledger.db"\nrelease = "auto"\n')
    (folder / "churn.py").write_text(DECLARED)
    draw = random.Random(0)
    lines = ["customer_id," + ",".join(f"x{i}" for i in range(10)) + ",churned"]
    for i in range(rows):
        values = [draw.gauss(0, 1) for _ in range(10)]
        target = int(values[0] + draw.gauss(0, 1) > 0)
        lines.append(",".join([f"c{i}", *(f"{value:.4f}" for value in values), str(target)]))
    (folder / "customers.csv").write_text("\n".join(lines) + "\n")
    return folder


def forget(folder: Path, *names: str) -> None:
    """Remove files and folders of a project."""
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@dataclass
class Case:
    """One line: what is done, and what is taken away before each time."""

    what: str
    prepare: Callable[[Path], object]


def measure(case: Case, near: Path, far: Path, server: Server, repeat: int) -> str:
    """One line of the table; one turn beforehand is not counted."""
    command = [sys.executable, "-m", "penstock", "run", "churn.py", "-q"]
    seconds: dict[Path, list[float]] = {near: [], far: []}
    asked = []
    for turn in range(repeat + 1):
        for folder in (near, far) if turn % 2 else (far, near):
            case.prepare(folder)
            before = server.requests()
            spent = cpu_s(command, folder)
            if turn:
                seconds[folder].append(spent)
                asked += [server.requests() - before] if folder == far else []
    ours, bare = seconds[far], seconds[near]
    low, high = span(ours, bare)
    cells = [case.what, f"{median(bare):.2f} s", f"{median(ours):.2f} s", f"**{ratio(ours, bare):.2f}×**"]
    return f"| {' | '.join([*cells, f'{low:.2f} – {high:.2f}', f'{median(asked):.0f}'])} |"


def compare(server: Server, folder: Path, rows: int, repeat: int) -> None:
    """Print the table."""
    adopt_orphans()  # and wait for every child: the server is somebody else's
    near, far = project(folder / "directory", "store", rows), project(folder / "bucket", f"s3://{BUCKET}/store", rows)

    def empty(place: Path) -> None:
        forget(place, ".penstock", "store", "ledger.db")
        server.empty()

    cases = [
        Case("from an empty store", empty),
        Case("again, nothing changed", lambda _: None),
        Case("again, no copies here", lambda place: forget(place, ".penstock")),
    ]
    print("| `penstock run` | directory | bucket | figure | from – to | requests |\n|---|---|---|---|---|---|")
    for case in cases:
        print(measure(case, near, far, server, repeat), flush=True)
    print(f"\nMedians of {repeat}; load at the end {os.getloadavg()[0]:.1f}.")


def main() -> None:
    """Start the server and, beside it, what measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--beside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.beside is not None:
            url, log = given.beside.split(" ", 1)
            compare(Server(url, Path(log)), Path(folder), given.rows, given.repeat)
            return
        with serving(Path(folder) / "server.log") as server:
            told = {"AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
            told |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": os.devnull}
            options = ["--rows", str(given.rows), "--repeat", str(given.repeat)]
            command = [sys.executable, "-m", "benchmarks.stores", *options, "--beside", f"{server.url} {server.log}"]
            sys.exit(subprocess.run(command, env=os.environ | told, check=False).returncode)


if __name__ == "__main__":
    main()
