"""The work that is measured: each kind as a bare script and as the same functions in a flow."""

from __future__ import annotations

import re

FRAMES = """
import numpy as np
import pandas as pd
{imports}
"""

STEPS = {
    "made": """
{step}
def made(rows: int, columns: int) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(rows, columns))
    return pd.DataFrame(values, columns=[f"c{{i}}" for i in range(columns)])
""",
    "moved": """
{step}
def moved(frame: pd.DataFrame, by: int) -> pd.DataFrame:
    return frame.assign(c0=frame["c0"] + by, c1=frame["c1"] * frame["c0"])
""",
    "total": """
{step}
def total(frame: pd.DataFrame, by: int) -> float:
    return float(frame["c0"].sum() + by)
""",
    "joined": """
{step}
def joined(parts: list) -> float:
    return sum(parts)
""",
}
"""The functions of the flows of frames, by name: a file holds those that its body calls."""

LINEAR = """
frame = made{call}({rows}, 10)
for i in range({steps} - 1):
    frame = moved(frame, i)
"""

FAN = """
frame = made{call}({rows}, 10)
last = joined([total(frame, i) for i in range({steps} - 2)])
"""

KEPT = """
frame = made({rows}, 10)
for i in range({steps} - 1):
    frame = moved(frame, i)
    frame.to_parquet("frame.parquet")
    frame = pd.read_parquet("frame.parquet")
"""

SKLEARN = """
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
{imports}

{step_two}
def split(table: pd.DataFrame):
    train, test = train_test_split(table, test_size=0.2, random_state=0)
    return train, test

{step}
def fit(train: pd.DataFrame):
    numbers = ("num", StandardScaler(), ["age", "income"])
    words = ("cat", OneHotEncoder(handle_unknown="ignore"), ["city", "gender"])
    model = Pipeline([("preprocess", ColumnTransformer([numbers, words])), ("model", LogisticRegression())])
    return model.fit(train, train["churned"])

{step}
def score(model, test: pd.DataFrame) -> float:
    return float(roc_auc_score(test["churned"], model.predict_proba(test)[:, 1]))
"""

SKLEARN_BARE = """
train, test = split(pd.read_csv("customers.csv"))
print(score(fit(train), test))
"""

SKLEARN_FLOW = """
train, test = split(ps.read("customers.csv"))
flow = ps.Flow(score(fit(train), test), name="small")
"""

TINY = """
import penstock as ps

@ps.step
def tiny(x: int, i: int) -> int:
    return x + i

@ps.step
def joined(parts: list) -> int:
    return sum(parts)
"""

FAN_IN = """
last = 0
for layer in range({steps} // 100):
    parts = [tiny.ref(last, 100 * layer + i) for i in range(99)]
    last = joined(parts)
flow = ps.Flow(last, name="tiny")
"""

CHAIN = """
last = 0
for i in range({steps}):
    last = tiny.ref(last, i)
flow = ps.Flow(last, name="tiny")
"""

FLOOR = '''
"""The least that {steps} steps can cost: for each one JSON each way over a socket pair, a hash, and three rows."""
import hashlib, json, socket, sqlite3
ours, theirs = socket.socketpair()
ledger = sqlite3.connect("floor.db")
for table in ("result", "step_run", "artifact"):
    ledger.execute(f"create table {{table}} (id blob primary key, run text, body text) without rowid")
for i in range({steps}):
    ours.sendall(json.dumps({{"step": f"tiny_{{i}}", "inputs": [["tiny", "", i]]}}).encode())
    task = json.loads(theirs.recv(4096))
    theirs.sendall(json.dumps({{"step": task["step"], "outputs": [i], "wall_s": 0.0}}).encode())
    body = ours.recv(4096)
    json.loads(body)
    digest = hashlib.sha256(body).digest()
    for table in ("result", "step_run", "artifact"):
        ledger.execute(f"insert into {{table}} values (?, ?, ?)", (digest, "run", body))
    if i % 1000 == 999:
        ledger.commit()
ledger.commit()
'''


def called(body: str) -> list[str]:
    """Names of the functions that a body calls."""
    return [name for name in STEPS if re.search(rf"\b{name}\b", body)]


def frames_bare(body: str, rows: int, steps: int) -> str:
    """A script that calls the functions one after another."""
    text = FRAMES.format(imports="") + "".join(STEPS[name].format(step="") for name in called(body))
    return text + body.format(rows=rows, steps=steps, call="")


def frames_flow(body: str, rows: int, steps: int) -> str:
    """The same functions as the steps of a flow."""
    last = "last" if "last" in body else "frame"
    steps_of = "".join(STEPS[name].format(step="@ps.step") for name in called(body))
    text = FRAMES.format(imports="import penstock as ps") + steps_of
    return text + body.format(rows=rows, steps=steps, call=".ref") + f'flow = ps.Flow({last}, name="flow")\n'


def sklearn_bare() -> str:
    """Read, split, fit, score."""
    return SKLEARN.format(imports="", step="", step_two="") + SKLEARN_BARE


def sklearn_flow() -> str:
    """The same as four steps."""
    two = '@ps.step(outputs=("train", "test"))'
    return SKLEARN.format(imports="import penstock as ps", step="@ps.step", step_two=two) + SKLEARN_FLOW


def tiny_flow(body: str, steps: int) -> str:
    """Steps that add two whole numbers."""
    return TINY + body.format(steps=steps)


MAPPED = """
flow = ps.Flow(joined(tiny.map(list(range({items})), i=1)), name="tiny")
"""


def mapped_flow(items: int) -> str:
    """One step that adds two whole numbers, mapped over many items."""
    return TINY + MAPPED.format(items=items)


def floor(steps: int) -> str:
    """The least that as many tiny steps can cost."""
    return FLOOR.format(steps=steps)


def customers(rows: int = 1_000) -> str:
    """A seeded table as CSV text."""
    import random

    draw = random.Random(0)
    lines = ["age,income,city,gender,churned"]
    for _ in range(rows):
        age, city = draw.randint(18, 80), draw.choice(["Bonn", "Lille", "Turin"])
        churned = int(draw.random() < 0.15 + 0.5 * (age < 30))
        lines.append(f"{age},{draw.lognormvariate(10, 0.5):.2f},{city},{draw.choice('fm')},{churned}")
    return "\n".join(lines) + "\n"
