"""What an interval and a paired difference of each metric cost, and how often they hold the truth.

    python benchmarks/gates_cost.py [--rows 10000 100000] [--repeats 3] [--coverage 0] [--only f1 r2]

The first table: CPU milliseconds of one metric on one core, medians, two models whose answers are stored. With
`--coverage N` a second: how often the two-sided 90 % interval of a difference of two models, and the 95 % interval of
one, hold the truth (that of a million rows) in N draws of 500 rows.
"""

from __future__ import annotations

import argparse
import math
import time
from statistics import median

import numpy as np

from penstock.stages import scoring
from penstock.stages.predicted import Predicted
from penstock.stages.problem import Problem
from penstock.stages.uncertainty import difference, interval

BINARY, NUMBER, SEVERAL = Problem("binary", (0, 1)), Problem("regression"), Problem("multiclass", (0, 1, 2))
METRICS = {
    "binary": (
        "neg_log_loss",
        "accuracy",
        "roc_auc",
        "f1",
        "recall",
        "precision",
        "balanced_accuracy",
        "matthews_corrcoef",
        "d2_log_loss_score",
        "average_precision",
    ),
    "regression": (
        "neg_mean_squared_error",
        "neg_root_mean_squared_error",
        "r2",
        "d2_absolute_error_score",
        "neg_median_absolute_error",
    ),
    "multiclass": ("f1_macro", "roc_auc_ovr", "roc_auc_ovo", "top_k_accuracy"),
}


def answers(task: str, n: int, seed: int, shift: float = -1.0, law: str = "normal") -> tuple[Predicted, Predicted]:
    """Two models of one truth, whose errors are partly shared; the second errs more."""
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=n), rng.normal(size=(2, n))
    noise = [size * (0.7 * common + math.sqrt(0.51) * mine) for size, mine in zip((1.0, 1.3), own, strict=True)]
    truth = shift + 1.2 * rng.normal(size=n)
    if task == "regression":
        tail = {"normal": rng.normal(size=n), "lognormal": rng.lognormal(size=n), "t3": rng.standard_t(3, n)}[law]
        y = truth + tail
        first, second = (Predicted(NUMBER, y, (truth + 0.3 * one)[:, None]) for one in noise)
        return first, second
    if task == "multiclass":
        y = np.digitize(truth + rng.logistic(size=n), [-1.5, -0.5])
        made = []
        for one in noise:
            read = -np.abs((truth + one)[:, None] - np.array([-2.5, -1.0, 0.5]))
            proba = np.exp(read) / np.exp(read).sum(axis=1, keepdims=True)
            made.append(Predicted(SEVERAL, y, np.column_stack([proba.argmax(axis=1), proba]), proba=slice(1, 4)))
        return made[0], made[1]
    y = (rng.random(n) < 1 / (1 + np.exp(-truth))).astype(int)
    made = []
    for one in noise:
        p = 1 / (1 + np.exp(-(truth + one)))
        made.append(Predicted(BINARY, y, np.column_stack([p > 0.4, 1 - p, p]).astype(float), proba=slice(1, 3)))
    return made[0], made[1]


def cost(name: str, a: Predicted, b: Predicted, repeats: int) -> tuple[float, float, str]:
    """CPU milliseconds of an interval and of a difference, and the method of the latter."""
    taken: tuple[list[float], list[float]] = ([], [])
    method = ""
    for _ in range(repeats):
        start = time.process_time()
        interval(name, a)
        between = time.process_time()
        method = difference(name, a, b).method
        taken[0].append(between - start)
        taken[1].append(time.process_time() - between)
    return 1000 * median(taken[0]), 1000 * median(taken[1]), method


def coverage(task: str, name: str, reps: int, n: int = 500, law: str = "normal") -> tuple[float, float]:
    """Shares of draws whose interval holds the truth: of a difference (90 %), of one model (95 %)."""
    whole = answers(task, 1_000_000, 10**6, law=law)
    one, other = (scoring.figure(name, model) for model in whole)
    held = [0, 0]
    for seed in range(reps):
        a, b = answers(task, n, seed, law=law)
        d, i = difference(name, a, b), interval(name, a)
        held[0] += d.low <= one - other <= d.high
        held[1] += i.low <= one <= i.high
    return held[0] / reps, held[1] / reps


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--coverage", type=int, default=0, metavar="N")
    parser.add_argument("--only", nargs="*", default=None)
    given = parser.parse_args()
    chosen = [(task, one) for task, names in METRICS.items() for one in names if not given.only or one in given.only]
    print("| metric | " + " | ".join(f"interval {n:,} | difference {n:,}" for n in given.rows) + " | method |")
    print("|---|" + "---|---|" * len(given.rows) + "---|")
    for task, name in chosen:
        found = [cost(name, *answers(task, n, 0), given.repeats) for n in given.rows]
        cells = " | ".join(f"{first:.1f} | {second:.1f}" for first, second, _ in found)
        print(f"| {name} | {cells} | {found[-1][2]} |", flush=True)
    if not given.coverage:
        return
    print("\n| metric, 500 rows | difference holds (0.90) | one model holds (0.95) |\n|---|---|---|")
    laws = [("regression", "neg_mean_squared_error", law) for law in ("lognormal", "t3")]
    for task, name, law in [*((task, one, "normal") for task, one in chosen), *laws]:
        shares = coverage(task, name, given.coverage, law=law)
        print(f"| {name}{'' if law == 'normal' else f', {law}'} | {shares[0]:.3f} | {shares[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
