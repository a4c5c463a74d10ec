"""What `penstock predict --on dask` costs: 1 and 2 workers, growing tables, and the memory of each process.

    make backends ONLY=dask
    python -m benchmarks.dask [--rows 250000 500000 1000000] [--python .venv-dask/bin/python]

A model of four columns is trained once. Then tables of growing length are answered by the plain command, and by one on
a cluster of one and of two of this machine's processes. Each answer must have the plain command's bytes, or nothing is
told. CPU seconds and wall time are those of the whole command with all that it starts, the cluster included; memory is
the most that one process of a kind was seen to hold, asked some twenty times a second.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT, adopt_orphans, cpu_s, tree

DECLARED = """
import penstock as ps
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

churn = ps.Workflow(
    name="churn", data=ps.read("customers.csv"), target="churned", key="id",
    model=make_pipeline(StandardScaler(), LogisticRegression()), metrics=["roc_auc"],
)
"""
TRAINED = 5_000
SLICE = b"penstock.serve.slice"
WORKER = b"multiprocessing"


@dataclass
class Cost:
    """What one command took.

    Attributes
    ----------
    cpu_s, wall_s : float
    peak : dict
        Kind of process ("command", "Dask's worker", "slice") → bytes, resident.
    """

    cpu_s: float
    wall_s: float
    peak: dict[str, int]


def table(path: Path, n_rows: int, seed: int) -> None:
    """Customers as CSV: `a` decides the target."""
    rng = random.Random(seed)
    with path.open("w") as file:
        file.write("id,a,b,c,d,churned\n")
        for row in range(n_rows):
            a, b, c, d = (rng.gauss(0, 1) for _ in range(4))
            file.write(f"{row},{a:.5f},{b:.5f},{c:.5f},{d:.5f},{int(a + rng.gauss(0, 0.5) > 0)}\n")


def cost(command: Sequence[str], folder: Path, jobs: int) -> Cost:
    """Run a command and watch its processes."""
    peak: dict[str, int] = defaultdict(int)

    def watch(pid: int) -> None:
        for one in tree(pid):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{one}/cmdline").read_bytes()
                kind = "slice" if SLICE in words else "Dask's worker" if WORKER in words else "command"
                pages = int(Path(f"/proc/{one}/statm").read_text().split()[1])
                peak[kind] = max(peak[kind], pages * os.sysconf("SC_PAGE_SIZE"))
        time.sleep(0.03)

    began = time.perf_counter()
    spent = cpu_s(command, folder, {"PENSTOCK_JOBS": str(jobs)}, watch=watch)
    return Cost(spent, time.perf_counter() - began, peak)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--python", default=str(ROOT / ".venv-dask" / "bin" / "python"), help="one that has Dask")
    given = parser.parse_args()
    adopt_orphans()
    load = os.getloadavg()[0]
    print("| rows | where | CPU s | wall s | the command, MiB | a Dask worker, MiB | a slice's process, MiB |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "penstock.toml").write_text("")
        (folder / "flows.py").write_text(DECLARED)
        table(folder / "customers.csv", TRAINED, 1)
        cpu_s([sys.executable, "-P", "-m", "penstock", "run", "flows.py"], folder)
        for n_rows in given.rows:
            table(folder / "many.csv", n_rows, 2)
            predict = [given.python, "-P", "-m", "penstock", "predict", "churn", "many.csv", "--out"]
            for where, jobs in (("here", 1), ("1 worker", 1), ("2 workers", 2)):
                out = "here.csv" if where == "here" else "there.csv"
                took = cost([*predict, out, *(["--on", "dask"] if where != "here" else [])], folder, jobs)
                if (folder / out).read_bytes() != (folder / "here.csv").read_bytes():
                    raise SystemExit(f"{n_rows} rows, {where}: other answers")
                held = [took.peak.get(kind, 0) >> 20 for kind in ("command", "Dask's worker", "slice")]
                shown = " | ".join(f"{mib:,}" if mib else "" for mib in held)
                print(f"| {n_rows:,} | {where} | {took.cpu_s:.1f} | {took.wall_s:.1f} | {shown} |", flush=True)
    print(f"\nload before {load:.1f}, at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
