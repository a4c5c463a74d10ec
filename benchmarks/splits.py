"""What a hash split does to real tables, and how wide intervals are beside what was told before training.

    python -m benchmarks.splits ../shared/data [--salts 300]

Prints two Markdown tables: over salts the share held out, the positive rows among it and how often a test at
5 % calls the sides different; and half the width of 95 % intervals, told by `stats.planned` and measured on one model.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages import keys
from penstock.stages.predicted import predict
from penstock.stages.problem import Problem
from penstock.stages.split import _design_effect
from penstock.stages.split import split as divide
from penstock.stages.uncertainty import interval
from penstock.stats.two_sample import chi2_two_sample

TABLES: dict[str, tuple[str, Any, str | None]] = {
    "horse_colic.csv": ("surgical_lesion", 1, None),
    "german_credit_uci.csv": ("class", 2, None),
    "telco_churn.csv": ("Churn", "Yes", "customerID"),
    "bank_additional_full.csv.gz": ("y", "yes", None),
    "hotel_bookings.csv.gz": ("is_canceled", 1, None),
}
"""Table → target, its positive class, key."""
LEAKS = ("duration", "reservation_status", "reservation_status_date")
METRICS = ("roc_auc", "neg_log_loss", "accuracy", "f1")


def read(folder: Path, name: str) -> tuple[pd.DataFrame, Target, Roles] | None:
    """A table without what gives its target away; None where it is not there or has no such target."""
    column, positive, key = TABLES[name]
    path = folder / name
    if not path.exists():
        return None
    table = pd.read_csv(path)
    if column not in table.columns or positive not in set(table[column].dropna()):
        return None
    table = table.dropna(subset=[column]).drop(columns=[leak for leak in LEAKS if leak in table.columns])
    return table.reset_index(drop=True), Target(column, positive=positive), Roles(key=(key,) if key else ())


def over_salts(table: pd.DataFrame, target: Target, roles: Roles, salts: int) -> str:
    """Share, rarer class and alarms over many salts, by the stage's own hash of the keys or of the content."""
    columns = list(roles.key) or sorted(str(name) for name in table.columns if name != target.column)
    positive = (table[target.column] == target.positive).to_numpy()
    rows = table[columns]
    if not roles.key:  # the content as one number, so that each salt hashes one column
        rows = pd.DataFrame({"content": keys.rows(table, columns, keys.secret("content", 0, 0)).view("int64")})
    distinct = len(rows.drop_duplicates()) / len(rows)
    effect = _design_effect(keys.rows(rows, list(rows), keys.secret("side", 0, 0)))
    shares, found, alarms = [], [], 0
    for salt in range(salts):
        held = keys.below(keys.rows(rows, list(rows), keys.secret("side", 0, salt)), 0.2)
        counts = [[int((positive & side).sum()), int((~positive & side).sum())] for side in (~held, held)]
        shares.append(held.mean())
        found.append(counts[1][0])
        fewer = np.round(np.array(counts) / effect)
        alarms += chi2_two_sample(fewer[0], fewer[1]).p_value < 0.05
    low, high = np.quantile(shares, [0.025, 0.975])
    few, many = np.quantile(found, [0.025, 0.975])
    told = f"{few:.0f}–{many:.0f} ({0.2 * positive.sum():.0f}) | {alarms / salts:.3f}"
    return f"{len(table):,} | {distinct:.2f} | {effect:.1f} | {low:.3f}–{high:.3f} | {told}"


def widths(table: pd.DataFrame, target: Target, roles: Roles) -> list[str]:
    """Told and measured half widths, of a linear model and of boosted trees."""
    train, test, report = divide(table, target=target, roles=roles, split=Split(), seed=0, task="binary")
    names = [name for name in table.columns if name not in (target.column, *roles.key)]
    classes = tuple(sorted(table[target.column].unique().tolist(), key=lambda label: label == target.positive))
    problem = Problem("binary", classes, target.column)
    prepare = make_column_transformer(
        (
            OneHotEncoder(handle_unknown="ignore", max_categories=30, sparse_output=False),
            make_column_selector(dtype_exclude="number"),
        ),
        (StandardScaler(), make_column_selector(dtype_include="number")),
    )
    lines = []
    for kind, model in (
        ("linear", LogisticRegression(max_iter=2000)),
        ("trees", HistGradientBoostingClassifier(random_state=0)),
    ):
        filled = [
            side[names].apply(lambda c: c.fillna(c.median() if c.dtype.kind in "if" else "?")) for side in (train, test)
        ]
        fitted = make_pipeline(prepare, model).fit(filled[0], train[target.column])
        answers = predict(fitted, filled[1], test[target.column], problem)
        cells = []
        for name in METRICS:
            seen = interval(name, answers)
            cells.append(f"{report['expected'][name]:.3f} / {(seen.high - seen.low) / 2:.3f}")
        lines.append(f"{kind} ({interval('roc_auc', answers).value:.2f}) | {len(test):,} | " + " | ".join(cells))
    return lines


def main() -> None:
    """Read, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--salts", type=int, default=300)
    asked = parser.parse_args()
    found = {name: read(asked.folder, name) for name in TABLES}
    print("| table | rows | distinct | design effect | share held out, 95 % | positives (a fifth) | alarms at 5 % |")
    print("|---|---|---|---|---|---|---|")
    for name, one in found.items():
        if one is not None:
            print(f"| {name.partition('.')[0]} | {over_salts(*one, asked.salts)} |", flush=True)
    print(f"\n| table, model (AUC) | held out | {' | '.join(METRICS)} |\n|---|---|" + "---|" * len(METRICS))
    for name, one in found.items():
        for line in widths(*one) if one is not None else ():
            print(f"| {name.partition('.')[0]}, {line} |", flush=True)


if __name__ == "__main__":
    main()
