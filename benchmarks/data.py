"""Reading, checking and splitting a table: ours beside polars, pandas, pyarrow, DuckDB and pandera.

    python -m benchmarks.data [--rows 1000000] [--repeat 5] [--only checks read memory] [--peers polars floor …]

`checks`: twenty checks on twelve columns of a table in memory. `read`: a CSV to a table. `memory`: `penstock run` up to
the split on that CSV, watched from outside. CPU seconds of one thread, contenders in turns, medians; ratios to polars.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import argparse
import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from benchmarks import table as made
from benchmarks.measure import environment
from penstock.core.source import Source
from penstock.core.target import Roles, Target
from penstock.errors import ValidationFailedError
from penstock.stages import ingest, spool
from penstock.stages.validate import _checked, validate

FULL = ["customer_id", "signed_up", "age", "visits", "tickets", "balance", "rate", "churned"]
RANGES = {
    "age": (18, 90),
    "visits": (0, 60),
    "tickets": (0, 20),
    "income": (0, 1e7),
    "balance": (-1e5, 1e5),
    "rate": (-9, 9),
}
WORDS = {"city": made.CITIES, "plan": made.PLANS, "channel": made.CHANNELS, "churned": ["yes", "no"]}
KEY, FINITE = "customer_id", "income"
# 8 columns without gaps, 6 ranges, 4 sets of words, one key without doubles, one column without infinities: 20 checks.
TARGET, ROLES = Target("churned"), Roles(key=(KEY,))
WORKFLOW = """import penstock as ps
from sklearn.linear_model import LogisticRegression

churn = ps.Workflow(
    name="churn", data=ps.read("table.csv"), target="churned", key="customer_id", model=LogisticRegression()
)
"""


def schema_of(frame: pd.DataFrame) -> dict[str, Any]:
    """Ours, inferred from some rows, then with the bounds of all contenders."""
    schema = validate(frame, target=TARGET, roles=ROLES, schema=None)[1]
    for column in schema["columns"]:
        column["null"] = column["name"] not in FULL
        if column["name"] in RANGES:
            column["min"], column["max"] = RANGES[column["name"]]
        elif column["name"] in WORDS and column["name"] != "churned":
            column["categories"] = sorted(WORDS[column["name"]])
        elif column["name"] == "signed_up":
            column.pop("categories", None)
    return schema


def ours(frame: pd.DataFrame, schema: dict[str, Any]) -> bool:
    """All that `validate` checks: also the types of all columns, and infinities in all numbers."""
    try:
        _checked(frame, TARGET, ROLES, schema, {}, ())
    except ValidationFailedError:
        return False
    return True


def by_polars(frame: pl.DataFrame) -> bool:
    c = pl.col
    checks = [c(n).null_count().eq(0).alias(f"full {n}") for n in FULL]
    checks += [c(n).is_between(low, high).all().alias(f"range {n}") for n, (low, high) in RANGES.items()]
    checks += [c(n).is_in(words).all().alias(f"words {n}") for n, words in WORDS.items()]
    checks += [c(KEY).n_unique().eq(pl.len()).alias("unique"), c(FINITE).is_infinite().any().not_().alias("finite")]
    assert len(checks) == 20
    return all(frame.select(checks).row(0))


def by_arrow(table: pa.Table) -> bool:
    """The floor: numpy and Arrow, nothing told but yes or no."""
    good = [table[n].null_count == 0 for n in FULL]
    for n, (low, high) in RANGES.items():
        found = pc.min_max(table[n])
        good.append(found["min"].as_py() >= low and found["max"].as_py() <= high)
    good += [pc.all(pc.is_in(table[n], value_set=pa.array(words))).as_py() for n, words in WORDS.items()]
    key = np.sort(table[KEY].to_numpy())
    good += [bool((key[1:] != key[:-1]).all()), not pc.any(pc.is_inf(table[FINITE])).as_py()]
    return all(good)


def by_duckdb(table: pa.Table) -> bool:
    def listed(words: list[str]) -> str:
        return ", ".join(f"'{word}'" for word in words)

    parts = [f"count(*) = count({n})" for n in FULL]
    parts += [f"min({n}) >= {low} and max({n}) <= {high}" for n, (low, high) in RANGES.items()]
    parts += [f"bool_and({n} in ({listed(words)}))" for n, words in WORDS.items()]
    parts += [f"count(distinct {KEY}) = count(*)", f"not bool_or(isinf({FINITE}))"]
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("t", table)
        return all(connection.execute(f"select {', '.join(parts)} from t").fetchone())


def pandera_of() -> Callable[[pd.DataFrame], bool]:
    import pandera.pandas as pa_

    columns: dict[str, Any] = {n: [] for n in [*FULL, *RANGES, *WORDS]}
    for n, (low, high) in RANGES.items():
        columns[n].append(pa_.Check.in_range(low, high))
    for n, words in WORDS.items():
        columns[n].append(pa_.Check.isin(words))
    columns[FINITE].append(pa_.Check(lambda column: ~np.isinf(column)))
    schema = pa_.DataFrameSchema(
        {n: pa_.Column(checks=c, nullable=n not in FULL, unique=n == KEY) for n, c in columns.items()}
    )

    def check(frame: pd.DataFrame) -> bool:
        try:
            schema.validate(frame, lazy=True)
        except pa_.errors.SchemaErrors:
            return False
        return True

    return check


def checkers(path: Path, peers: list[str]) -> dict[str, Callable[[], bool]]:
    table = pa.parquet.read_table(path).combine_chunks()
    frame = table.to_pandas()
    schema = schema_of(frame.head(100_000)) if "ours" in peers else {}
    lazy = pl.DataFrame(pl.from_arrow(table))
    pandera = pandera_of() if "pandera" in peers else None
    found = {
        "ours": lambda: ours(frame, schema),
        "polars": lambda: by_polars(lazy),
        "floor": lambda: by_arrow(table),
        "duckdb": lambda: by_duckdb(table),
        "pandera": lambda: pandera is not None and pandera(frame),
    }
    return {name: found[name] for name in peers}


def prove(peers: list[str]) -> None:
    """Each contender passes a good table and refuses three bad ones: else it does not do the same work."""
    good = pd.concat([b.to_pandas() for b in made.batches(5_000)], ignore_index=True)
    bad = {"double": good.copy(), "range": good.copy(), "gap": good.copy()}
    bad["double"].loc[7, KEY] = good.loc[8, KEY]
    bad["range"].loc[7, "age"] = 900
    bad["gap"].loc[7, "balance"] = np.nan
    for name, frame in {"good": good, **bad}.items():
        with tempfile.TemporaryDirectory() as folder:
            pa.parquet.write_table(pa.Table.from_pandas(frame), Path(folder) / "t.parquet")
            if name == "good":
                schema = schema_of(frame)
            for peer, check in checkers(Path(folder) / "t.parquet", [p for p in peers if p != "ours"]).items():
                assert check() == (name == "good"), (peer, name)
        if "ours" in peers:
            assert ours(frame, schema) == (name == "good"), ("ours", name)


def readers(path: Path) -> dict[str, Callable[[], object]]:
    def read(spill: int = spool.SPILL) -> None:
        found, _ = ingest.read(Source(str(path), ".csv"), spill=spill)
        if hasattr(found, "path"):
            os.unlink(found.path)

    def written() -> None:
        hashlib.sha256(path.read_bytes()).hexdigest()
        pl.read_csv(path).write_parquet(path.with_suffix(".new"), compression="lz4", statistics=False)
        path.with_suffix(".new").unlink()

    one = pa.csv.ReadOptions(use_threads=False)
    return {
        "ours": read,
        "ours, streamed": lambda: read(1 << 20),
        "polars, hashed, written": written,
        "polars": lambda: pl.read_csv(path),
        "pandas": lambda: pd.read_csv(path),
        "pyarrow": lambda: pa.csv.read_csv(path, read_options=one),
    }


def json_readers(path: Path) -> dict[str, Callable[[], object]]:
    """The first 200,000 rows as JSON lines."""
    lines = path.with_suffix(".jsonl")
    if not lines.exists():
        pd.read_csv(path, nrows=200_000).to_json(lines, orient="records", lines=True)
    return {
        "ours": lambda: ingest.read(Source(str(lines), ".jsonl")),
        "polars": lambda: pl.read_ndjson(lines),
        "pandas": lambda: pd.read_json(lines, lines=True),
    }


def in_turns(title: str, contenders: dict[str, Callable[[], object]], repeat: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeat + 1):
        names = list(contenders) if turn % 2 else list(contenders)[::-1]
        for name in names:
            start = time.process_time()
            contenders[name]()
            if turn:
                times[name].append(time.process_time() - start)
    print(f"{title}; CPU s, median of {repeat}, beside polars (from – to)", flush=True)
    for name, spent in times.items():
        ratios = sorted(a / b for a, b in zip(spent, times["polars"], strict=True))
        ratio = median(spent) / median(times["polars"])
        print(f"  {name:24s} {median(spent):8.2f}  {ratio:5.2f}×  {ratios[0]:.2f} – {ratios[-1]:.2f}", flush=True)


def resident(pid: int) -> tuple[list[int], int]:
    """Resident bytes of a process and each descendant, and their sum with shared pages counted once."""
    pids, each, total = [pid], [], 0
    for one in pids:
        try:
            pids += [int(child) for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in text.splitlines()[1:]}
        each.append(sizes["Rss"])
        total += sizes["Pss"]
    return each, total


def watch(path: Path, rows: int) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        (Path(folder) / "churn.py").write_text(WORKFLOW)
        (Path(folder) / "pyproject.toml").touch()
        os.link(path, Path(folder) / "table.csv")
        command = [sys.executable, "-m", "penstock", "run", "churn.py", "--until", "split"]
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
        one = several = shared_once = 0
        while process.poll() is None:
            each, total = resident(process.pid)
            one, several = max([one, *each]), max(several, sum(each))
            shared_once = max(shared_once, total)
            time.sleep(0.02)
        if process.returncode:
            raise RuntimeError(f"the run ended with {process.returncode}")
    print(f"{rows:,} rows of CSV up to the split; peak, MiB")
    print(f"  largest process {one >> 20} · all, shared pages once {shared_once >> 20} · plain sum {several >> 20}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=("checks", "read", "memory"), default=["checks", "read", "memory"])
    names = ["ours", "polars", "floor", "duckdb", "pandera"]
    parser.add_argument("--peers", nargs="+", choices=names, default=names)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "penstock-benchmark")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    pa.set_cpu_count(1)
    text, parquet = made.write(options.folder, options.rows)
    peers = list(dict.fromkeys(["ours", "polars", *options.peers]))
    if importlib.util.find_spec("great_expectations") is None:
        print("Great Expectations is not installed: NOT MEASURED")
    if "memory" in options.only:
        watch(text, options.rows)
    if "read" in options.only:
        in_turns(f"reading {options.rows:,} rows of CSV", readers(text), options.repeat)
        in_turns("reading 200,000 rows of JSON lines", json_readers(text), options.repeat)
    if "checks" in options.only:
        prove(peers)
        in_turns(f"20 checks on 12 columns, {options.rows:,} rows", checkers(parquet, peers), options.repeat)


if __name__ == "__main__":
    main()
