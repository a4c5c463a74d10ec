"""Leaking and honest steps on real tables: what the proof finds, how grave it says it is, and what it costs.

    python -m benchmarks.audit --data FOLDER [--rows 4000] [--only cost]

FOLDER, or the variable PENSTOCK_DATA, holds the tables; those that are not there are named and left out. A leak counts
where it acts: where any of ten perturbations of held-out rows moves a training row, which is the most that any
experiment of the kind can show. Cost is in CPU seconds, as a ratio to one run of the same steps.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd

from penstock.core.replay import Raised
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import PenstockError
from penstock.stages.disturb import scrambled
from penstock.stages.membership import Sides
from penstock.stages.partition import partition
from penstock.stages.probes import Declared, Scramble
from penstock.stages.scramble import scramble
from penstock.stages.walk import Walker
from penstock.testing.planted import FUTURE, HONEST, LEAKING, PAST, RANDOM, Planted
from penstock.testing.replay import Steps

TABLES = {
    "german_credit_uci.csv": ("class", {}),
    "telco_churn.csv": ("Churn", {"na_values": [" "]}),
    "adult_train.csv.gz": ("income", {"skipinitialspace": True, "na_values": ["?"]}),
    "bank_additional_full.csv.gz": ("y", {"sep": ";"}),
    "hotel_bookings.csv.gz": ("is_canceled", {}),
    "horse_colic.csv": ("outcome", {"na_values": ["?"]}),
    "abalone.csv": ("rings", {}),
    "bike_day.csv": ("cnt", {}),
    "winequality_white.csv": ("quality", {}),
    "covtype_sample.csv.gz": ("Cover_Type", {}),
    "nycflights_sample.csv.gz": ("arr_delay", {}),
}
"""File → target, and how pandas reads it."""
TIMES = {
    "beijing_pm25_hourly.csv.gz": ("pm2.5", "TEMP", "cbwd", {}),
    "bike_hour.csv.gz": ("cnt", "temp", "weathersit", {}),
}
"""Hourly tables: target, a number, a category."""


@dataclass(frozen=True)
class Other(Scramble):
    """Perturbations beside those of the proof."""

    def change(self, key, table, *, labels):
        held = self.declared.sides.held(table)
        mine = [name for name in map(str, table.columns) if name not in self.declared.never()]
        if held is None or not mine or labels:
            return super().change(key, table, labels=labels) if labels and self.variant in ("low", "high") else None
        rows, same = held[0], np.arange(len(table))
        if self.variant == "deleted":
            return {}, same[~rows]
        if self.variant == "permuted":
            rng, places = np.random.default_rng(1), {}
            for name in mine:
                places[name] = same.copy()
                places[name][rows] = rng.permutation(same[rows])
            return places, None
        if self.variant == "bottom rows":
            turned = table.assign(**{name: -table[name] for name in mine if table[name].dtype.kind in "if"})
            return scrambled(turned, rows, mine, "rows"), None
        return super().change(key, table, labels=labels)


def table_of(folder: str, file: str, rows: int):
    """A sample with `id`, its target as `y`, up to five numbers and two texts; None where it is not there."""
    path = os.path.join(folder, file)
    if not os.path.exists(path):
        print(f"left out: there is no {file} in {folder}", file=sys.stderr)
        return None
    target, options = TABLES[file]
    whole = pd.read_csv(path, **options)
    whole = whole.rename(columns={target: "y"}).dropna(subset=["y"])
    whole = whole.sample(min(rows, len(whole)), random_state=0).reset_index(drop=True)
    if whole["y"].dtype.kind not in "if":
        whole["y"] = pd.factorize(whole["y"], sort=True)[0]
    features = whole.drop(columns="y")
    numbers = [name for name in features if features[name].dtype.kind in "if" and features[name].nunique() > 5]
    numbers = sorted(numbers, key=lambda name: -features[name].nunique())[:5]
    texts = [name for name in features if name not in numbers and 2 <= features[name].nunique() <= 60][:2]
    if not texts:
        features["size"] = pd.qcut(features[numbers[-1]], 4, duplicates="drop").astype(str)
        texts = ["size"]
    made = features[[*numbers, *texts]].astype(dict.fromkeys(texts, "str"))
    return made.assign(y=whole["y"], id=range(len(whole))), numbers, texts


def divided(steps: Steps, roles: Roles, split: Split, task: str):
    """The sides of what the steps give."""
    data = steps.table(steps.data)
    train, test, _ = partition(data, schema={"task": task}, target=Target("y"), roles=roles, split=split, seed=0)
    return train, test


def acts(steps: Steps, train, test, roles: Roles) -> bool:
    """Whether any of ten perturbations moves a training row."""
    declared = Declared(Target("y"), roles, Sides(train, test, roles, Split(), 0))
    walker = Walker(steps, declared.sides, declared.labels, [])
    both = [Scramble(declared, variant) for variant in ("low", "high", "rows")]
    alone = [probe.only(which) for probe in both[:2] for which in ("labels", "features")]
    others = [Other(declared, variant) for variant in ("permuted", "deleted", "bottom rows")]
    return any(walker.walk(probe).moved is not None for probe in (*both, *alone, *others))


def tried(table, numbers, texts, planted: Planted, roles: Roles, split: Split, task: str):
    """Whether the step acts, and what the proof says of it: (acts, [(grade, kind)])."""
    steps = Steps({"table": table}, [("made", planted.on("y", numbers, texts), ("table",))])
    train, test = divided(steps, roles, split, task)
    report = scramble(steps=steps, train=train, test=test, target=Target("y"), roles=roles, split=split, seed=0)
    found = [(one["grade"], one["kind"]) for one in report["findings"]]
    return (bool(planted.kind) and acts(steps, train, test, roles)), found


def keyed(folder: str, rows: int) -> None:
    """Rows divided by key: each leaking step where it acts, each honest one."""
    roles, told = Roles(key=("id",)), defaultdict(Counter)
    for file in TABLES:
        found = table_of(folder, file, rows)
        if found is None:
            continue
        table, numbers, texts = found
        task = "regression" if table["y"].nunique() > 20 else "multiclass" if table["y"].nunique() > 2 else "binary"
        for name, planted in {**LEAKING, **HONEST, "unseeded noise": RANDOM}.items():
            try:
                acting, findings = tried(table, numbers, texts, planted, roles, Split(), task)
            except (PenstockError, Raised, ValueError, TypeError, KeyError, IndexError) as error:
                told[name]["not run"] += 1
                print(f"not run: {file} {name}: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
                continue
            told[name]["acts"] += acting
            told[name]["found"] += acting and bool(findings)
            told[name]["alarm"] += any(grade == "error" for grade, _ in findings)
            told[name]["run"] += 1
            told[name].update(f"{grade}: {kind}" for grade, kind in findings)
            print(f"{file:30s} {name:24s} {acting!s:6s} {findings}", file=sys.stderr)
    print("| step | takes | acts in | found | said |\n|---|---|---|---|---|")
    sums = Counter()
    for name, planted in LEAKING.items():
        one = told[name]
        sums.update({"acts": one["acts"], "found": one["found"]})
        print(f"| {name} | {planted.kind} | {one['acts']} of {one['run']} | {one['found']} | {said(one)} |")
    honest = sum(told[name]["run"] for name in HONEST)
    alarms = sum(told[name]["alarm"] for name in HONEST)
    notes = Counter(key for name in HONEST for key in told[name] if ": " in key)
    noise = told["unseeded noise"]
    print(f"\nleaks that act: {sums['acts']}, found: {sums['found']} ({sums['found'] / max(sums['acts'], 1):.1%})")
    print(f"honest steps: {honest}, errors: {alarms}; said of them: {dict(notes) or 'nothing'}")
    print(f"unseeded noise: {noise['run']}, told as random: {noise['warning: random']}, errors: {noise['alarm']}")


def said(one: Counter) -> str:
    """Grades with how often each was given."""
    return ", ".join(f"{key} × {n}" for key, n in sorted(one.items()) if ": " in key) or "nothing"


def timed(folder: str, rows: int) -> None:
    """Rows with a time, divided by it and by key."""
    print("\n| step | uses | divided by time | divided by key | labels hidden for 24 h |\n|---|---|---|---|---|")
    told = defaultdict(lambda: defaultdict(Counter))
    for file, (target, number, text, options) in TIMES.items():
        path = os.path.join(folder, file)
        if not os.path.exists(path):
            print(f"left out: there is no {file} in {folder}", file=sys.stderr)
            continue
        whole = pd.read_csv(path, **options)
        hour = "hour" if "hour" in whole else "hr"
        day = whole[["year", "month", "day"]] if "year" in whole else whole["dteday"]
        table = pd.DataFrame({"at": pd.to_datetime(day) + pd.to_timedelta(whole[hour], "h"), "y": whole[target]})
        table = table.assign(**{number: whole[number], text: whole[text].astype(str)}).dropna(subset=["y"]).head(rows)
        gaps = np.random.default_rng(0).random(len(table)) < 1 / 7
        table = table.assign(**{number: table[number].mask(gaps)}, id=range(len(table))).reset_index(drop=True)
        for name, planted in {**PAST, **FUTURE}.items():
            steps = Steps({"table": table}, [("made", planted.on("y", [number], [text]), ("table",))])
            for column, by, delay in (("time", "time", None), ("key", "key", None), ("24 h", "time", "24h")):
                roles, split, goal = Roles(key=("id",), time="at"), Split(by=by), Target("y", delay=delay)
                data = steps.table(steps.data)
                train, test, _ = partition(
                    data, schema={"task": "regression"}, target=goal, roles=roles, split=split, seed=0
                )
                report = scramble(steps=steps, train=train, test=test, target=goal, roles=roles, split=split, seed=0)
                found = [f"{one['grade']}: {one['kind']}" for one in report["findings"]]
                told[name][column].update(found or ["nothing"])
    for name in told:
        uses = "earlier rows" if name in PAST else "later rows, or its own label"
        cells = (said(told[name][c]).replace("nothing", "–") for c in ("time", "key", "24 h"))
        print(f"| {name} | {uses} | {' | '.join(cells)} |")


def cost(rows: int, repeats: int) -> None:
    """CPU seconds of a proof and of the steps: nearly free ones, and a leaking one that calls Python for each group."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({f"n{i}": rng.normal(size=rows) for i in range(20)})
    table = table.assign(**{f"c{i}": rng.choice(list("abcdefgh"), rows) for i in range(5)}, id=range(rows))
    table = table.assign(y=(table["n0"] + rng.normal(size=rows) > 0).astype(int))
    cheap = [
        ("filled", lambda t: t.fillna(0), ("table",)),
        ("sums", lambda t: t.assign(total=t.filter(like="n").sum(axis=1)), ("filled",)),
        ("joined", lambda t: t.assign(who=t["c0"] + t["c1"] + t["c2"]), ("sums",)),
        ("sorted", lambda t: t.sort_values("n1"), ("joined",)),
    ]
    dear = [("own", lambda t: t.assign(own=t.groupby(t["id"] // 20)["n0"].transform(lambda v: v.mean())), ("table",))]
    print(f"\n| steps, {rows:,} rows × {table.shape[1]} columns | once, CPU s | the proof, CPU s | times the steps |")
    print("|---|---|---|---|")
    for name, chain in (("four of plain pandas", cheap), ("one that calls Python for 5,000 groups, and leaks", dear)):
        once, proof = [], []
        for _ in range(repeats):
            began = time.process_time()
            steps = Steps({"table": table}, chain)
            once.append(time.process_time() - began)
            train, test = divided(steps, Roles(key=("id",)), Split(), "binary")
            known = {"target": Target("y"), "roles": Roles(key=("id",)), "split": Split(), "seed": 0}
            began = time.process_time()
            scramble(steps=steps, train=train, test=test, **known)
            proof.append(time.process_time() - began)
        ratios = [b / a for a, b in zip(once, proof, strict=True)]
        print(f"| {name} | {np.median(once):.2f} | {np.median(proof):.2f} | {np.median(ratios):.1f} |")


def main() -> int:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("PENSTOCK_DATA", ""), help="folder with the tables")
    parser.add_argument("--rows", type=int, default=4000, help="rows of each table")
    parser.add_argument("--only", choices=["keyed", "timed", "cost"], default=None)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    if asked.only in (None, "keyed"):
        keyed(asked.data, asked.rows)
    if asked.only in (None, "timed"):
        timed(asked.data, asked.rows)
    if asked.only in (None, "cost"):
        cost(100_000, asked.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
