"""Drift of a table, ours against the exact floor: the same statistics in plain numpy, columns in a loop.

    python benchmarks/drift.py [--rows 100000] [--columns 12] [--repeats 5]

Ours and the floor alternate in one process; CPU seconds, medians, and the ratio that counts. The floor computes the
Kolmogorov–Smirnov distance and the Wasserstein distance of numeric columns and the two-sample chi-square of
categorical ones, and nothing else: no missing values, no p-values, no choice of test. SciPy's own functions and the
comparison with a stored profile are timed beside it.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from statistics import median

import numpy as np
from scipy import stats

from penstock.stats import auc, drift, profile

Columns = dict[str, tuple[np.ndarray, np.ndarray, drift.Kind]]


def table(rows: int, columns: int, seed: int = 0) -> Columns:
    """Two thirds numeric (continuous, whole numbers, one with gaps), one third categories as text objects."""
    rng = np.random.default_rng(seed)
    cities = np.array([f"city {i}" for i in range(20)], dtype=object)
    made: Columns = {}
    for i in range(columns):
        name = f"c{i}"
        if i % 3 == 2:
            made[name] = (cities[rng.integers(0, 20, rows)], cities[rng.integers(0, 20, rows)], "categorical")
        elif i % 6 == 3:
            made[name] = (rng.poisson(40, rows).astype(float), rng.poisson(40, rows).astype(float), "numeric")
        else:
            made[name] = (rng.normal(size=rows), rng.normal(size=rows), "numeric")
    return made


def floor_numeric(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Both distances from the distribution functions on the pooled values, as SciPy defines them."""
    x, y = np.sort(x), np.sort(y)
    both = np.sort(np.concatenate([x, y]), kind="stable")
    apart = np.abs(np.searchsorted(x, both, "right") / len(x) - np.searchsorted(y, both, "right") / len(y))
    return float(apart.max()), float(apart[:-1] @ np.diff(both))


def floor_categorical(x: np.ndarray, y: np.ndarray) -> float:
    """Pooled chi-square of the counts."""
    a, b = Counter(x.tolist()), Counter(y.tolist())
    names = a.keys() | b.keys()
    counts = np.array([[a[name] for name in names], [b[name] for name in names]], dtype=float)
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def floor(columns: Columns) -> None:
    for x, y, kind in columns.values():
        if kind == "numeric":
            floor_numeric(x, y)
        else:
            floor_categorical(x, y)


def scipy_way(columns: Columns) -> None:
    for x, y, kind in columns.values():
        if kind == "numeric":
            stats.ks_2samp(x, y, method="asymp")
            stats.wasserstein_distance(x, y)
        else:
            a, b = Counter(x.tolist()), Counter(y.tolist())
            stats.chi2_contingency([[a[k] for k in a], [b[k] for k in a]])


def cpu(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    columns = table(options.rows, options.columns)
    make = {"numeric": profile.numeric_profile, "categorical": profile.categorical_profile}
    profiles = {name: (make[kind](x), y, kind) for name, (x, y, kind) in columns.items()}
    small = {name: (p, y[:1_000], kind) for name, (p, y, kind) in profiles.items()}
    rng = np.random.default_rng(1)
    y = rng.random(options.rows) < 0.3
    scores = rng.normal(size=(2, options.rows)) + y
    contenders: dict[str, Callable[[], object]] = {
        "floor in numpy": lambda: floor(columns),
        "table_drift": lambda: drift.table_drift(columns),
        "SciPy": lambda: scipy_way(columns),
        "table_drift on profiles": lambda: drift.table_drift(profiles),
        "the same, 1,000 rows": lambda: drift.table_drift(small),
        "make the profiles": lambda: [make[kind](x) for x, _, kind in columns.values()],
        "delong, two scores": lambda: auc.delong(y, scores),
        "sort both scores (its floor)": lambda: np.argsort(scores, axis=1),
    }
    for function in contenders.values():
        function()  # imports and caches
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.repeats):
        for name, function in contenders.items():
            times[name].append(cpu(function))
    base = median(times["floor in numpy"])
    print(
        f"{options.columns} columns, {options.rows:,} against {options.rows:,} rows; CPU, median of {options.repeats}"
    )
    for name, spent in times.items():
        print(f"  {name:30s} {median(spent) * 1e3:9.1f} ms  {median(spent) / base:6.2f} × floor")


if __name__ == "__main__":
    main()
