"""The server's cost beside a raw ASGI no-op, alternating in one run, and what a swap under load does to answers.

Run with `python -m benchmarks.serving` from the repository's root. Each server is a process of its own (uvicorn with
uvloop and httptools), one row a request; its CPU seconds are read from the kernel before and after each round, so
the client's own work does not count. Wall times are shown for orientation only: they depend on what else the machine
does. What is measured: a raw ASGI application that answers a constant ("no-op"), the server with all checks, ids and
the log on and a model that answers a constant ("door", which still builds the data frame), and with a pipeline over
numbers and categories with a histogram gradient boosting ("pipeline"). Then a server that follows the ledger answers
8 connections, calm and with a new deployment every second: requests that failed or that name one version and answer
with another's, and the times of the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

NOOP = """
import asyncio, json, os, socket, sys, uvicorn
async def app(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})
sock = socket.socket(); sock.bind(("127.0.0.1", 0))
os.write(int(sys.argv[1]), json.dumps({"port": sock.getsockname()[1]}).encode() + b"\\n")
config = uvicorn.Config(app, loop="uvloop", http="httptools", lifespan="off", log_config=None, access_log=False)
uvicorn.Server(config).run(sockets=[sock])
"""

RECORD = {"age": 41.5, "income": 5200.0, "visits": 12, "city": "Bern", "gender": "f"}


def pipeline(depth: int) -> tuple[Any, Any]:
    """A fitted pipeline over three numbers and two categories, and its training frame."""
    import numpy as np
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(0)
    n = 5_000
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 10, n),
            "income": rng.lognormal(8.5, 0.4, n),
            "visits": rng.integers(0, 40, n),
            "city": rng.choice(["Bern", "Genf", "Basel", "Chur"], n),
            "gender": rng.choice(["f", "m"], n),
        }
    )
    target = (frame["age"] + frame["visits"] + rng.normal(0, 10, n) > 62).astype(int)
    encode = ColumnTransformer(
        [
            ("num", StandardScaler(), ["age", "income", "visits"]),
            ("cat", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city", "gender"]),
        ]
    )
    return make_pipeline(encode, HistGradientBoostingClassifier(max_depth=depth, random_state=0)).fit(
        frame, target
    ), frame


def register(folder: str) -> None:
    """A project with three versions: 1 answers a constant, 2 and 3 are pipelines of other depths."""
    from sklearn.dummy import DummyClassifier

    from penstock.core.answer import answers
    from penstock.core.artifact import Artifact
    from penstock.core.run import Entry
    from penstock.project import open_home

    (Path(folder) / "penstock.toml").write_text("")
    home = open_home(folder)
    real, frame = pipeline(6)
    other, _ = pipeline(3)
    constant = DummyClassifier(strategy="constant", constant=1).fit(frame, [0, 1] * (len(frame) // 2))
    columns = [
        {"name": name, "dtype": str(frame[name].dtype), "kind": kind, "categories": levels, "unseen": "count"}
        for name, kind, levels in [
            ("age", "number", None),
            ("income", "number", None),
            ("visits", "integer", None),
            ("city", "text", ["Basel", "Bern", "Chur", "Genf"]),
            ("gender", "text", ["f", "m"]),
        ]
    ]
    contract = {"task": "binary", "classes": [0, 1], "positive": 1, "columns": columns}
    rows = frame.head(5)
    for number, estimator in ((1, constant), (2, real), (3, other)):
        golden = {"rows": json.loads(rows.to_json(orient="records", double_precision=15)), "expected": []}
        exact = rows.assign(**{name: [row[name] for row in golden["rows"]] for name in ("age", "income")})
        golden["expected"] = answers(estimator, exact, contract)
        parts = {"estimator": estimator, "input": contract, "golden": golden}
        files = {name: home.formats.dump(value, home.objects.stage) for name, value in parts.items()}
        manifest = {
            "penstock": "bundle/1",
            "workflow": "bench",
            "files": {name: artifact.to_json() for name, artifact in files.items()},
        }
        digest, size = home.objects.stage(json.dumps(manifest).encode())
        home.objects.publish([digest, *(artifact.digest for artifact in files.values() if artifact.text is None)])
        home.ledger.append([Entry("bench/version", number, {"bundle": Artifact(digest, "bundle", size).to_json()})])
    home.ledger.close()


class Server:
    """A server process, its port, and the CPU seconds that it has used."""

    def __init__(self, command: list[str]) -> None:
        ready, told = os.pipe()
        environment = os.environ | {"PYTHONPATH": str(SRC)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.process = subprocess.Popen([*command, str(told)], pass_fds=(told,), env=environment)
        os.close(told)
        with os.fdopen(ready) as pipe:
            self.port = json.loads(pipe.readline())["port"]

    def cpu(self) -> float:
        """User and system seconds of the process and all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Resident MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def request(rows: int) -> bytes:
    """A whole request."""
    body = json.dumps({"records": [RECORD] * rows}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def ask(port: int, connections: int, requests: int, rows: int) -> list[float]:
    """Seconds of each request, over some connections at once."""
    data = request(rows)
    times: list[float] = []

    async def client(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            begun = time.perf_counter()
            writer.write(data)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
            times.append(time.perf_counter() - begun)
        writer.close()

    await asyncio.gather(*(client(requests // connections) for _ in range(connections)))
    return times


def measure(servers: dict[str, Server], connections: int, rows: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median over the rounds, which alternate between the servers: CPU ms a request, p50 ms, requests a second."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in servers}
    for turn in range(rounds + 1):
        for name, server in servers.items():
            requests = 4_000 if name == "no-op" else 160
            cpu, wall = server.cpu(), time.perf_counter()
            times = asyncio.run(ask(server.port, connections, requests, rows))
            took, spent = time.perf_counter() - wall, server.cpu() - cpu
            if turn:  # the first round warms up
                found[name].append((spent / len(times) * 1e3, statistics.median(times) * 1e3, len(times) / took))
    keys = ("cpu_ms", "p50_ms", "per_s")
    return {
        name: {key: statistics.median(row[index] for row in rows_) for index, key in enumerate(keys)}
        for name, rows_ in found.items()
    }


async def ask_for(port: int, seconds: float, every_s: float, deploy: Any) -> tuple[list[float], int, int]:
    """Times of the answers, and how many failed or were mixed, while `deploy` is called now and then."""
    data, end = request(1), time.perf_counter() + seconds
    times: list[float] = []
    wrong = {"failed": 0, "mixed": 0}
    scores: dict[str, float] = {}

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            begun = time.perf_counter()
            writer.write(data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            headers = dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])
            answer = json.loads(await reader.readexactly(int(headers["content-length"])))
            times.append(time.perf_counter() - begun)
            if not head.startswith("http/1.1 200"):
                wrong["failed"] += 1
                continue
            name, score = answer["model"], answer["predictions"][0]["score"]
            wrong["mixed"] += name != headers["x-penstock-model"] or scores.setdefault(name, score) != score
        writer.close()

    async def deployer() -> None:
        while deploy is not None and time.perf_counter() + every_s < end:
            await asyncio.sleep(every_s)
            deploy()

    await asyncio.gather(deployer(), *(client() for _ in range(8)))
    assert deploy is None or len(set(scores.values())) == 2, scores
    return times, wrong["failed"], wrong["mixed"]


def swaps(folder: str, command: list[str], seconds: float) -> None:
    """Calm, then with a deployment every second, on one server; printed."""
    from penstock.core.run import Entry
    from penstock.project import open_home

    home = open_home(folder)
    bundles = [entry.body["bundle"] for entry in home.ledger.stream("bench/version")]
    count = 0

    def deploy() -> None:
        nonlocal count
        count += 1
        version = count % 2 + 2
        body = {"version": version, "bundle": bundles[version - 1], "previous": None}
        home.ledger.append([Entry("bench/deployment", count, body)])

    deploy()
    server = Server([*command, "--ready-fd"])
    try:
        for name, action in (("calm", None), ("swaps", deploy)):
            before = count
            times, failed, mixed = asyncio.run(ask_for(server.port, seconds, 1.0, action))
            times.sort()
            p50, p99 = (times[int(len(times) * part)] * 1e3 for part in (0.5, 0.99))
            print(
                f"{name}: {len(times)} requests, {count - before} swaps, {failed} failed, {mixed} mixed, "
                f"p50 {p50:.0f} ms, p99 {p99:.0f} ms"
            )
    finally:
        server.stop()
        home.ledger.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--swap-seconds", type=float, default=15.0)
    given = parser.parse_args()
    rounds, seconds = given.rounds, given.swap_seconds
    sys.path.insert(0, str(SRC))
    with tempfile.TemporaryDirectory() as folder:
        register(folder)
        ours = [sys.executable, "-P", "-m", "penstock.serve", "--workflow", "bench", "--project", folder, "--port", "0"]
        servers = {"no-op": Server([sys.executable, "-c", NOOP])}
        servers["door"] = Server([*ours, "--version", "1", "--ready-fd"])
        servers["pipeline"] = Server([*ours, "--version", "2", "--ready-fd"])
        starts = {name: (server.cpu(), server.memory()) for name, server in servers.items()}
        try:
            print(f"| server | connections | rows | CPU ms a request | × no-op | p50 ms | 1/s | (median of {rounds})")
            print("|---|---|---|---|---|---|---|")
            for connections, rows in ((1, 1), (16, 1), (1, 100)):
                figures = measure(servers, connections, rows, rounds)
                base = figures["no-op"]["cpu_ms"]
                for name, row in figures.items():
                    print(
                        f"| {name} | {connections} | {rows} | {row['cpu_ms']:.3f} | {row['cpu_ms'] / base:.1f} "
                        f"| {row['p50_ms']:.2f} | {row['per_s']:.0f} |"
                    )
            for name, (cpu, memory) in starts.items():
                print(f"start of {name}: {cpu:.2f} s CPU, {memory:.0f} MB")
        finally:
            for server in servers.values():
                server.stop()
        swaps(folder, ours, seconds)


if __name__ == "__main__":
    main()
