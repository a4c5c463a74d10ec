"""What the search for betrayal finds: planted traps, known traps of real tables, clean tables, and copied rows.

    python benchmarks/betrayal.py [--tables FOLDER] [--clean 200] [--first-seed 9000] [--few 1000]

Prints four tables in Markdown. The real tables are read from FOLDER, or from the folder that the variable
PENSTOCK_TEST_DATA names; without one they are skipped, and that is said. Everything is seeded.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages.audit import audit
from penstock.stages.overlap import copies
from penstock.stages.split import split as divide
from penstock.testing.traps import TRAPS, clean_table, people

MOST_ROWS = 40_000


def proof(table: pd.DataFrame, target: str, schema: dict[str, Any], roles: Roles) -> dict[str, Any]:
    """Split as a run would, and audit."""
    about = Target(target)
    train, test, _ = divide(table, target=about, roles=roles, split=Split(), seed=0, task=schema["task"])
    return audit(train, test, target=about, roles=roles, schema=schema)


def planted(n: int = 1_000, seeds: int = 5) -> None:
    """Each trap in an honest table of `n` rows, under several seeds."""
    print(f"\n| planted trap (in {n:,} rows, {seeds} seeds) | mechanism | grade | found | other findings |")
    print("|---|---|---|---|---|")
    for name, trap in TRAPS.items():
        found, others = 0, Counter[str]()
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            table = trap.make(people(n, seed, trap.schema), rng)
            findings = proof(table, "y", trap.schema, trap.roles)["findings"]
            wanted = [f for f in findings if (f["kind"], f["grade"]) == (trap.mechanism, trap.grade)]
            named = {column for f in wanted for column in f["column"].split(" + ")}
            found += set(trap.columns) <= named
            others.update(
                f"{f['grade']}: {f['kind']} {f['column']}"
                for f in findings
                if not set(f["column"].split(" + ")) & set(trap.columns)
            )
        more = ", ".join(f"{what} ({n})" for what, n in others.items()) or "none"
        print(f"| {name} | {trap.mechanism} | {trap.grade} | {found} of {seeds} | {more} |")


def clean(n: int, first: int) -> None:
    """Alarms on tables without a trap."""
    counts, kinds = Counter[str](), Counter[str]()
    started = time.process_time()
    for seed in range(first, first + n):
        table, schema, roles = clean_table(seed)
        findings = proof(table, "y", schema, roles)["findings"]
        grades = {f["grade"] for f in findings}
        counts["error or warning"] += bool(grades & {"error", "warning"})
        counts["note"] += "note" in grades
        kinds.update({f"{f['grade']}: {f['kind']}" for f in findings})
    spent = time.process_time() - started
    print(f"\n| {n} clean tables, seeds {first}.. | tables | share |\n|---|---|---|")
    for what in ("error or warning", "note"):
        print(f"| {what} | {counts[what]} | {100 * counts[what] / n:.1f} % |")
    print(f"\nby kind: {dict(kinds) or 'none'}; {spent / n:.2f} CPU seconds a table")


def few_values(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and held-out rows of one to five rounded or whole numbers and short lists of texts; none is a copy."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([200, 500, 900, 2_000, 5_000]))
    common, lift, columns = rng.normal(size=n), np.zeros(n), dict[str, Any]()
    for at in range(int(rng.integers(1, 5))):
        with_others = rng.choice([0, 0, 0.5, 0.9])
        z = with_others * common + np.sqrt(1 - with_others**2) * rng.normal(size=n)
        values = _few(rng, z)
        columns[f"f{at}"] = values
        effect = np.asarray(pd.factorize(values)[0] if values.dtype.kind == "U" else values, dtype=float)
        lift += rng.normal() * (effect - effect.mean()) / (effect.std() or 1)
    numbers = [values for values in columns.values() if values.dtype.kind in "if"]
    if len(numbers) > 1 and rng.random() < 0.2:
        columns["total"] = numbers[0] + numbers[1]
    lift = lift / (lift.std() or 1) + float(np.exp(rng.uniform(-3, 1))) * rng.normal(size=n)
    y = np.round(lift * rng.choice([1, 3])) if seed % 3 == 2 else lift > np.quantile(lift, rng.choice([0.5, 0.8]))
    table = pd.DataFrame(columns).assign(y=y.astype(int))
    held = rng.random(n) < 0.2
    return table[~held].reset_index(drop=True), table[held].reset_index(drop=True)


def _few(rng: Any, z: Any) -> Any:
    """A column of few distinct values that goes with z, or of texts that do not."""
    kind = rng.integers(0, 6)
    if kind == 0:
        return np.round(z * rng.choice([2, 5, 15]) + 40)
    if kind == 1:
        return np.round(z, 1)
    if kind == 2:
        return rng.choice(list("abcdefgh")[: int(rng.integers(2, 9))], len(z))
    if kind == 3:
        return rng.poisson(np.exp(z * 0.5 + rng.uniform(0, 3)))
    if kind == 4:
        return np.where(rng.random(len(z)) < 0.6, 0, np.round(np.exp(z) * 100) * rng.choice([1, 10]))
    return np.round(z * 10 + 40)


def copied(n: int) -> None:
    """Warnings of copied rows: tables of few values without one, and other tables with one in twenty."""
    warned = Counter[str]()
    started = time.process_time()
    for seed in range(n):
        train, test = few_values(seed)
        warned["few"] += "warning" in {one.grade for one in copies(train, test, Target("y"), Roles())[0]}
    each = (time.process_time() - started) / n
    few = n // 10
    for seed in range(9_000, 9_000 + few):
        table, _, _ = clean_table(seed)
        table = table.drop(columns=["who", "nr", "day"], errors="ignore").drop_duplicates(ignore_index=True)
        held = np.random.default_rng(seed).random(len(table)) < 0.2
        train, test = table[~held].reset_index(drop=True), table[held].reset_index(drop=True)
        more = train.sample(max(5, len(test) // 20), random_state=seed)
        for what, rows in (("without", test), ("with", pd.concat([test, more], ignore_index=True))):
            warned[what] += "warning" in {one.grade for one in copies(train, rows, Target("y"), Roles())[0]}
    print("\n| tables | copies | warned of |\n|---|---|---|")
    print(f"| {n:,} of few distinct values, seeds 0.. ({each:.3f} CPU s each) | none | {warned['few']} |")
    print(f"| {few:,} clean tables rid of copies, seeds 9000.. | none | {warned['without']} |")
    print(f"| the same | one for 20 held-out rows, 5 at least | {warned['with']} |")


def yes_no(positive: str, other: str) -> dict[str, Any]:
    """The schema of a target with two classes."""
    return {"task": "binary", "classes": [other, positive], "positive": positive}


NUMBER = {"task": "regression"}
ZERO_ONE = {"task": "binary", "classes": [0, 1], "positive": 1}
REAL: dict[str, tuple[str, str, dict[str, Any], Roles, dict[str, Any], tuple[str, ...]]] = {
    "bike_day": ("bike_day.csv", "cnt", NUMBER, Roles(), {}, ("casual", "registered", "instant")),
    "bike_hour": ("bike_hour.csv.gz", "cnt", NUMBER, Roles(), {}, ("casual", "registered", "instant")),
    "hotel": (
        *("hotel_bookings.csv.gz", "is_canceled", ZERO_ONE, Roles(), {}),
        (
            *("reservation_status", "reservation_status_date", "assigned_room_type", "booking_changes"),
            "required_car_parking_spaces",
        ),
    ),
    "hotel, in time": (
        *("hotel_bookings.csv.gz", "is_canceled", ZERO_ONE, Roles(time="arrival", drop=("reservation_status",)), {}),
        ("reservation_status_date",),
    ),
    "bank": ("bank_additional_full.csv.gz", "y", yes_no("yes", "no"), Roles(), {"sep": ";"}, ("duration",)),
    "flights": (
        *("nycflights_sample.csv.gz", "arr_delay", NUMBER, Roles(), {}),
        ("dep_delay", "dep_time", "arr_time", "air_time"),
    ),
    "horse": (
        *("horse_colic.csv", "surgical_lesion", {"task": "binary", "classes": [1, 2], "positive": 1}, Roles()),
        *({"na_values": "?"}, ("outcome", "lesion_1", "lesion_2", "lesion_3", "cp_data", "hospital_number")),
    ),
    "telco": ("telco_churn.csv", "Churn", yes_no("Yes", "No"), Roles(), {"na_values": [" "]}, ("customerID",)),
    "beijing": ("beijing_pm25_hourly.csv.gz", "pm2.5", NUMBER, Roles(), {}, ("No",)),
    "adult": (
        *("adult_train.csv.gz", "income", yes_no(">50K", "<=50K"), Roles()),
        *({"skipinitialspace": True, "na_values": "?"}, ()),
    ),
    "german": (
        *("german_credit_uci.csv", "class", {"task": "binary", "classes": [1, 2], "positive": 2}, Roles(), {}, ()),
    ),
    "covtype": (
        *("covtype_sample.csv.gz", "Cover_Type", {"task": "multiclass", "classes": [1, 2, 3, 4, 5, 6, 7]}),
        *(Roles(), {}, ()),
    ),
    "abalone": ("abalone.csv", "rings", NUMBER, Roles(), {}, ()),
    "wine": ("winequality_white.csv", "quality", NUMBER, Roles(), {}, ()),
}
"""Table → file, target, schema, roles, how it is read, columns that are known traps."""


def real(folder: Path) -> None:
    """The known traps of real tables; and what is found beside them."""
    print("\n| table | trap | found as |\n|---|---|---|")
    for name, (file, target, schema, roles, read, traps) in REAL.items():
        if not (folder / file).exists():
            print(f"SKIPPED: {folder / file} is not there", file=sys.stderr)
            continue
        table = pd.read_csv(folder / file, **read).dropna(subset=[target])
        if len(table) > MOST_ROWS:
            table = table.iloc[np.linspace(0, len(table) - 1, MOST_ROWS).round().astype(int)].reset_index(drop=True)
        if roles.time == "arrival":
            parts = table[["arrival_date_year", "arrival_date_month", "arrival_date_day_of_month"]].astype(str)
            table["arrival"] = pd.to_datetime(parts.agg(" ".join, axis=1), format="%Y %B %d")
        started = time.process_time()
        findings = proof(table, target, schema, roles)["findings"]
        spent = time.process_time() - started
        by_column = {part: f for f in reversed(findings) for part in (*f["column"].split(" + "),)}
        for trap in traps:
            print(f"| {name} | `{trap}` | {_told(by_column.get(trap))} |")
        rest = [f for f in findings if not set(f["column"].split(" + ")) & set(traps)]
        told = "; ".join(f"`{f['column']}` {_told(f)}" if f["column"] else _told(f) for f in rest) or "nothing"
        print(f"| {name} | others ({table.shape[1]} columns, {len(table):,} rows, {spent:.1f} CPU s) | {told} |")


def _told(finding: dict[str, Any] | None) -> str:
    return f"**{finding['grade']}**: {finding['kind']}" if finding else "not found"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tables", type=Path, default=os.environ.get("PENSTOCK_TEST_DATA"))
    parser.add_argument("--clean", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=9_000)
    parser.add_argument("--few", type=int, default=1_000)
    options = parser.parse_args()
    planted()
    if options.tables is None:
        print("SKIPPED: real tables; name their folder with --tables or PENSTOCK_TEST_DATA", file=sys.stderr)
    else:
        real(Path(options.tables))
    clean(options.clean, options.first_seed)
    copied(options.few)


if __name__ == "__main__":
    main()
