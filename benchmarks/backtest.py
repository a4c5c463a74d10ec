"""What a back-test costs beside the bare trainings of the same rows, and what of it is used again.

    python -m benchmarks.backtest [--rows 20000] [--origins 6] [--repeat 5] [--only trees linear]

For each model a table in Markdown, CPU seconds with all processes, medians: a bare script that reads the file, and at
each origin fits the model on the rows known by then and scores those of the window; `penstock backtest` from nothing;
the same again; and with one origin more. The last two say how many steps ran and how many were used again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.measure import adopt_orphans, cpu_s

DAYS, EVERY, FIRST = 720, 60, 300
FEATURES = 20
MODELS = {
    "linear": (
        "from sklearn import linear_model, pipeline, preprocessing",
        "pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())",
    ),
    "trees": (
        "from sklearn.ensemble import HistGradientBoostingClassifier",
        "HistGradientBoostingClassifier(random_state=0)",
    ),
}
DECLARED = """
import penstock as ps
{imports}

past = ps.Workflow(
    name="past", data=ps.read("rows.csv"), target="y", key="id", time="day", split=ps.Split(test="30d"),
    model={model}, metrics=["neg_log_loss"], gate=[ps.NotWorse()],
)
"""
BARE = """
import sys
import pandas as pd
from sklearn.metrics import log_loss
{imports}

table = pd.read_csv("rows.csv", parse_dates=["day"])
features = [name for name in table if name.startswith("x")]
first = pd.Timestamp(sys.argv[1])
for k in range(int(sys.argv[2])):
    at = first + pd.Timedelta(days={every} * k)
    known = table[table["day"] < at - pd.Timedelta(days=30)]
    window = table[(table["day"] >= at) & (table["day"] < at + pd.Timedelta(days={every}))]
    fitted = {model}.fit(known[features], known["y"])
    print(at, log_loss(window["y"], fitted.predict_proba(window[features])[:, 1]))
"""
START = np.datetime64("2024-01-01")


def write_table(path: Path, rows: int) -> None:
    """Rows spread over two years, of which features say something."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, FEATURES))
    y = (x @ rng.normal(size=FEATURES) / 2 + rng.logistic(size=rows) > 0).astype(int)
    days = START + (np.arange(rows) * DAYS // rows).astype("timedelta64[D]")
    with path.open("w") as file:
        file.write(",".join(["id", "day", *(f"x{i}" for i in range(FEATURES)), "y"]) + "\n")
        for i in range(rows):
            file.write(",".join([f"r{i}", str(days[i]), *(f"{one:.5f}" for one in x[i]), str(y[i])]) + "\n")


def steps(folder: Path) -> dict[str, int]:
    """How many steps of the newest back-test ran, and how many were used again."""
    with contextlib.closing(sqlite3.connect(folder / ".penstock" / "ledger.db")) as ledger:
        [(text,)] = ledger.execute("select counts from run where kind = 'backtest' order by started desc limit 1")
    counts: dict[str, int] = json.loads(text)
    return counts


def measured(name: str, rows: int, origins: int, repeat: int) -> list[str]:
    """Lines of the table for one model."""
    imports, model = MODELS[name]
    first = str(START + np.timedelta64(FIRST, "D"))

    def until(n: int) -> str:
        return str(START + np.timedelta64(FIRST + EVERY * (n - 1) + 1, "D"))

    seconds: dict[str, list[float]] = {}
    told: dict[str, dict[str, int]] = {}
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_table(folder / "rows.csv", rows)
            (folder / "penstock.toml").write_text("")
            (folder / "past.py").write_text(DECLARED.format(imports=imports, model=model))
            (folder / "bare.py").write_text(BARE.format(imports=imports, model=model, every=EVERY))
            asked = [sys.executable, "-m", "penstock", "backtest", "past.py", "--from", first, "--every", f"{EVERY}d",
                     "-q", "--until"]  # fmt: skip
            for what, command in (
                ("bare script", [sys.executable, "bare.py", first, str(origins)]),
                ("from nothing", [*asked, until(origins)]),
                ("again", [*asked, until(origins)]),
                ("one origin more", [*asked, until(origins + 1)]),
            ):
                seconds.setdefault(what, []).append(cpu_s(command, folder))
                if what != "bare script":
                    told[what] = steps(folder)
    bare = median(seconds["bare script"])
    return [
        f"| {name}, {what} | {median(all_of):.1f} s | {median(all_of) / bare:.2f}× | {said(told.get(what))} |"
        for what, all_of in seconds.items()
    ]


def said(counts: dict[str, int] | None) -> str:
    """Counts as people read them."""
    return "" if counts is None else ", ".join(f"{n} {word}" for word, n in sorted(counts.items()) if n)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--origins", type=int, default=6)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=sorted(MODELS), default=sorted(MODELS))
    asked = parser.parse_args()
    adopt_orphans()
    print(f"{asked.rows:,} rows × {FEATURES} features, {asked.origins} origins, {asked.repeat} times\n")
    print("| model, what | CPU | beside the bare script | steps |\n|---|---|---|---|")
    for name in asked.only:
        for line in measured(name, asked.rows, asked.origins, asked.repeat):
            print(line, flush=True)


if __name__ == "__main__":
    main()
