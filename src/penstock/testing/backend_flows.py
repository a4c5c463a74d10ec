"""Flows that every backend runs in its conformance tests: each shows one promise, with as few tasks as that takes.

They exchange plain JSON, so that a task costs little more than the start of its worker. Where a step has to know
which try it is, it counts in a file whose place is a parameter.
"""

from __future__ import annotations

TEN = """
import os
import penstock as ps


@ps.step
def start(n: int):
    print("start says hello", flush=True)
    return list(range(n))


@ps.step
def left(rows):
    return [row + 1 for row in rows]


@ps.step(retries=2, backoff_s=0.1)
def right(rows, folder: str):
    tries = os.path.join(folder, "right.tries")
    with open(tries, "a") as file:
        file.write("x")
    if os.path.getsize(tries) < 2:
        raise RuntimeError("the first try fails")
    return [row * 2 for row in rows]


@ps.step(outputs=("low", "high"))
def part(rows):
    return [row for row in rows if row < 5], [row for row in rows if row >= 5]


@ps.step
def join(a, b):
    return [a, b]


@ps.step
def count(rows):
    return len(rows)


@ps.step
def total(rows):
    return sum(map(sum, rows))


@ps.step
def both(a, b, c):
    return {"n": a, "total": b, "low": c}


@ps.step
def scaled(told, by: float):
    return told["total"] * by


@ps.step
def last(told, by):
    return {**told, "scaled": by}


rows = start(ps.Param("n", 5))
folder = ps.Param("folder", "")
low, high = part(left(rows))
joined = join(high, right(rows, folder))
told = both(count(joined), total(joined), low)
ten = ps.Flow(last(told, scaled(told, ps.Param("by", 1.5))), name="ten")
"""
"""Ten steps with a diamond, two outputs, parameters, a log, and a step whose first try fails."""
TEN_STEPS = ("start", "left", "right", "part", "join", "count", "total", "both", "scaled", "last")

MAPPED = """
import os
import penstock as ps


@ps.step(retries=1, backoff_s=0.1)
def square(n: int, folder: str):
    with open(os.path.join(folder, f"square-{n}.tries"), "a") as file:
        file.write("x")
    if os.path.exists(os.path.join(folder, f"bad-{n}")):
        raise RuntimeError(f"{n} is bad")
    return n * n


@ps.step
def summed(squares: list):
    return sum(squares)


mapped = ps.Flow(summed(square.map([2, 3, 2], ps.Param("folder", ""))), name="mapped")
"""
"""A step that goes through three items, of which one stands twice and one may fail, and a step behind it."""

BROKEN = """
import os
import penstock as ps


def tried(folder, name):
    with open(os.path.join(folder, name), "a") as file:
        file.write("x")


@ps.step
def first(folder: str):
    return folder


@ps.step(retries=1, backoff_s=0.1)
def hopeless(folder):
    tried(folder, "hopeless.tries")
    raise ValueError("never works")


@ps.step(retries=2, backoff_s=0.1, outputs=("a", "b"))
def wrong(folder):
    tried(folder, "wrong.tries")
    return 1, 2, 3


@ps.step
def behind(a, b):
    raise AssertionError("never reached")


where = first(ps.Param("folder", ""))
broken = ps.Flow(behind(hopeless(where), wrong(where)[0]), name="broken")
"""
"""One step fails at every try, one in a way that no other try mends, and one stands behind both."""

SLOW = """
import os
import time
import penstock as ps


@ps.step(timeout_s=LIMIT)
def slow(folder: str):
    with open(os.path.join(folder, "slow.pid"), "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)


@ps.step
def after(value):
    raise AssertionError("never reached")


slowly = ps.Flow(after(slow(ps.Param("folder", ""))), name="slowly")
"""
"""A step that takes ten minutes; `LIMIT` is to be replaced."""

KILLED = """
import os
import penstock as ps


@ps.step(retries=2, backoff_s=0.1)
def fragile(folder: str):
    tries = os.path.join(folder, "fragile.tries")
    with open(tries, "a") as file:
        file.write("x")
    if os.path.getsize(tries) < 2:
        os.kill(VICTIM, 9)
        import time
        time.sleep(600)
    return "survived"


killed = ps.Flow(fragile(ps.Param("folder", "")), name="killed")
"""
"""A step whose first try ends the process `VICTIM`, which is to be replaced."""
STEP_ITSELF = "os.getpid()"
WORKER = "int(open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[1])"
"""The worker that a task started: the parent of the process from which the step's was forked."""

CHURN = """
import pandas as pd
import penstock as ps
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


@ps.step
def prepared(customers: pd.DataFrame, cap: float) -> pd.DataFrame:
    return customers.assign(income=customers["income"].clip(upper=cap))


churn = ps.Workflow(
    name="churn",
    data=prepared(ps.read("customers.csv"), ps.Param("cap", 5000.0)),
    target="churned",
    key="customer_id",
    model=Pipeline([
        ("preprocess", ColumnTransformer([
            ("num", StandardScaler(), ["age", "income"]),
            ("cat", OneHotEncoder(handle_unknown="ignore"), ["city", "gender"]),
        ])),
        ("model", LogisticRegression()),
    ]),
    metrics=["roc_auc", "neg_log_loss"],
    slices=["gender"],
    gate=[ps.AtLeast("roc_auc", LEVEL), ps.Improves(), ps.NoWorseOn("gender")],
    monitor=ps.Monitor(labels=ps.read("outcomes.csv")),
)
"""
"""The demo's declaration, behind a step of one's own; `LEVEL` decides whether its gate lets a version through."""
PASSES, REFUSES = "0.6", "0.9999"


def customers(n_rows: int = 400, seed: int = 1) -> str:
    """A table for `CHURN` as CSV: age decides, more or less. More rows of one seed begin with the same rows."""
    import random

    rng = random.Random(seed)
    lines = ["customer_id,age,income,city,gender,churned"]
    for i in range(n_rows):
        age, income = rng.randint(18, 80), rng.gauss(3000, 800)
        city, gender = rng.choice(("Bonn", "Lille", "Porto")), rng.choice("fm")
        lines.append(f"{i},{age},{income:.1f},{city},{gender},{int(age + rng.gauss(0, 15) > 50)}")
    return "\n".join(lines) + "\n"


BAD_DATA = "customer_id,age,income,city,gender,churned\n" + "".join(
    f"{i // 2},30,1000,Bonn,f,{i % 2}\n" for i in range(40)
)
"""A table in which every key stands twice."""
