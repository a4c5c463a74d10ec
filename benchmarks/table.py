"""A table of twelve columns, the same each time: a key, a date, whole numbers, decimals with gaps, texts, a target.

    python -m benchmarks.table FOLDER [--rows 1000000] [--order shuffled]

writes `FOLDER/N.csv` and `FOLDER/N.parquet`, batch by batch, so that ten million rows need little memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

BATCH = 100_000
"""Rows made at once: part of what decides the numbers, so it never changes."""
CITIES = [f"City of {chr(65 + i)}{'aeiou'[i % 5]}ville" for i in range(20)]
PLANS = ["basic", "family", "free", "premium"]
CHANNELS = [f"channel {i:03d}" for i in range(40)]
FIRST_DAY = np.datetime64("2019-01-01")


def key_of(rows: int, order: str) -> np.ndarray:
    """Whole numbers, each once: in order, or scattered by a permutation that needs no memory beside itself."""
    keys = np.arange(1, rows + 1, dtype=np.int64)
    return keys if order == "sorted" else np.random.default_rng(1).permutation(keys)


def batches(rows: int, order: str = "shuffled") -> Iterator[pa.RecordBatch]:
    """The table's rows."""
    keys = key_of(rows, order)
    for number, start in enumerate(range(0, rows, BATCH)):
        n = min(BATCH, rows - start)
        rng = np.random.default_rng([7, number])
        age = rng.integers(18, 90, n)
        income = np.round(rng.lognormal(10, 0.6, n), 2)
        rate = np.round(rng.normal(0, 1, n), 5)
        plan = rng.integers(0, len(PLANS), n)
        chance = 1 / (1 + np.exp(2 - 0.8 * rate - 0.4 * (plan == 2)))
        key = keys[start : start + n]
        yield pa.RecordBatch.from_pydict(
            {
                "customer_id": key,
                "signed_up": pa.array(np.datetime_as_string(FIRST_DAY + rng.integers(0, 2500, n)).tolist()),
                "age": age,
                "visits": rng.poisson(12, n),
                "tickets": rng.poisson(0.7, n),
                "income": pa.array(income, mask=rng.random(n) < 0.03),
                "balance": np.round(rng.normal(500, 2000, n), 2),
                "rate": rate,
                "city": pa.array(np.array(CITIES)[rng.integers(0, len(CITIES), n)]),
                "plan": pa.array(np.array(PLANS)[plan]),
                "channel": pa.array(np.array(CHANNELS)[rng.integers(0, len(CHANNELS), n)]),
                "churned": pa.array(np.where(rng.random(n) < chance, "yes", "no")),
            }
        )


def write(folder: Path, rows: int, order: str = "shuffled") -> tuple[Path, Path]:
    """Both files; those that are there already are kept."""
    text, parquet = (folder / f"{order}-{rows}.{suffix}" for suffix in ("csv", "parquet"))
    if text.exists() and parquet.exists():
        return text, parquet
    schema = next(batches(10, order)).schema
    new = [path.with_suffix(path.suffix + ".new") for path in (text, parquet)]
    with (
        pa.csv.CSVWriter(new[0], schema, write_options=pa.csv.WriteOptions(quoting_style="none")) as lines,
        pa.parquet.ParquetWriter(new[1], schema) as columns,
    ):
        for batch in batches(rows, order):
            lines.write_batch(batch)
            columns.write_batch(batch)
    for made, path in zip(new, (text, parquet), strict=True):
        made.rename(path)
    return text, parquet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--order", choices=("shuffled", "sorted"), default="shuffled")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for path in write(options.folder, options.rows, options.order):
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
