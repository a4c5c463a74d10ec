"""The work of `orchestration_work`, as its users write it for Dagster, Prefect and Airflow.

Each file holds the same functions, made into ops or tasks in the way that the system's own pages show, with what it
takes to run them. Dagster's ops take no plain values, so those that need one are made by a function. Airflow carries
frames between tasks by itself, as Parquet in its database, but no fitted model: that one goes through a file.
"""

from __future__ import annotations

from benchmarks import orchestration_work as work

DAGSTER_STEPS = {
    "made": """
@dg.op
def made() -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=({rows}, 10))
    return pd.DataFrame(values, columns=[f"c{{i}}" for i in range(10)])
""",
    "moved": """
def moved(by: int):
    @dg.op(name=f"moved_{{by}}")
    def step(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(c0=frame["c0"] + by, c1=frame["c1"] * frame["c0"])
    return step
""",
    "total": """
def total(by: int):
    @dg.op(name=f"total_{{by}}")
    def step(frame: pd.DataFrame) -> float:
        return float(frame["c0"].sum() + by)
    return step
""",
    "joined": """
@dg.op
def joined(parts: list[float]) -> float:
    return sum(parts)
""",
}
DAGSTER_LINEAR = """
@dg.job{kept}
def flow():
    frame = made()
    for i in range({steps} - 1):
        frame = moved(i)(frame)

if __name__ == "__main__":
    flow.execute_in_process(instance=dg.DagsterInstance.ephemeral())
"""
DAGSTER_FAN = """
@dg.job
def flow():
    frame = made()
    joined([total(i)(frame) for i in range({steps} - 2)])

if __name__ == "__main__":
    done = flow.execute_in_process(instance=dg.DagsterInstance.ephemeral())
    print(done.output_for_node("joined"))
"""
DAGSTER_KEPT = '(resource_defs={"io_manager": dg.FilesystemIOManager(base_dir="kept")})'
DAGSTER_SKLEARN = """
@dg.op
def read() -> pd.DataFrame:
    return pd.read_csv("customers.csv")

@dg.job
def flow():
    train, test = split(read())
    score(fit(train), test)

if __name__ == "__main__":
    done = flow.execute_in_process(instance=dg.DagsterInstance.ephemeral())
    print(done.output_for_node("score"))
"""

PREFECT_LINEAR = """
@flow
def main():
    frame = made({rows}, 10)
    for i in range({steps} - 1):
        frame = moved(frame, i)

if __name__ == "__main__":
    main()
"""
PREFECT_FAN = """
@flow
def main():
    frame = made({rows}, 10)
    return joined(total.map(unmapped(frame), range({steps} - 2)))

if __name__ == "__main__":
    print(main())
"""
PREFECT_SKLEARN = """
@task
def read() -> pd.DataFrame:
    return pd.read_csv("customers.csv")

@flow
def main():
    train, test = split(read())
    return score(fit(train), test)

if __name__ == "__main__":
    print(main())
"""

AIRFLOW_LINEAR = """
@dag(schedule=None)
def flow():
    frame = made({rows}, 10)
    for i in range({steps} - 1):
        frame = moved(frame, i)

flow()
"""
AIRFLOW_FAN = """
@dag(schedule=None)
def flow():
    frame = made({rows}, 10)
    joined([total(frame, i) for i in range({steps} - 2)])

flow()
"""
AIRFLOW_SKLEARN = """
import joblib
import pandas as pd
from airflow.sdk import dag, task
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

@task
def read() -> pd.DataFrame:
    return pd.read_csv("customers.csv")

@task(multiple_outputs=True)
def split(table: pd.DataFrame):
    train, test = train_test_split(table, test_size=0.2, random_state=0)
    return {"train": train, "test": test}

@task
def fit(train: pd.DataFrame) -> str:
    numbers = ("num", StandardScaler(), ["age", "income"])
    words = ("cat", OneHotEncoder(handle_unknown="ignore"), ["city", "gender"])
    model = Pipeline([("preprocess", ColumnTransformer([numbers, words])), ("model", LogisticRegression())])
    joblib.dump(model.fit(train, train["churned"]), "model.joblib")
    return "model.joblib"

@task
def score(file: str, test: pd.DataFrame) -> float:
    model = joblib.load(file)
    return float(roc_auc_score(test["churned"], model.predict_proba(test)[:, 1]))

@dag(schedule=None)
def flow():
    parts = split(read())
    score(fit(parts["train"]), parts["test"])

flow()
"""


def dagster(kind: str, rows: int, steps: int) -> str:
    """A job of ops, run in process: its results in memory, or, in a chain that is `kept`, in files."""
    if kind == "sklearn":
        two = '@dg.op(out={"train": dg.Out(), "test": dg.Out()})'
        return work.SKLEARN.format(imports="import dagster as dg", step="@dg.op", step_two=two) + DAGSTER_SKLEARN
    body = DAGSTER_FAN if kind == "fan" else DAGSTER_LINEAR
    text = body.format(steps=steps, kept=DAGSTER_KEPT if kind == "kept" else "")
    return _frames("import dagster as dg", DAGSTER_STEPS, text).format(rows=rows) + text


def prefect(kind: str, rows: int, steps: int) -> str:
    """A flow that calls tasks, and maps them where they lie side by side; in a chain that is `kept`, with results."""
    if kind == "sklearn":
        given = {"imports": "from prefect import flow, task", "step": "@task", "step_two": "@task"}
        return work.SKLEARN.format(**given) + PREFECT_SKLEARN
    text = (PREFECT_FAN if kind == "fan" else PREFECT_LINEAR).format(rows=rows, steps=steps)
    imports = "from prefect import flow, task" + (", unmapped" if kind == "fan" else "")
    step = "@task(persist_result=True)" if kind == "kept" else "@task"
    return _frames(imports, work.STEPS, text).format(step=step) + text


def airflow(kind: str, rows: int, steps: int) -> str:
    """A DAG file by the TaskFlow interface: its results are always kept."""
    if kind == "sklearn":
        return AIRFLOW_SKLEARN
    text = (AIRFLOW_FAN if kind == "fan" else AIRFLOW_LINEAR).format(rows=rows, steps=steps)
    return _frames("from airflow.sdk import dag, task", work.STEPS, text).format(step="@task") + text


def _frames(imports: str, steps: dict[str, str], body: str) -> str:
    """The imports and functions that a body needs, as a format."""
    return work.FRAMES.format(imports=imports) + "".join(steps[name] for name in work.called(body))


def lines(text: str) -> int:
    """How many lines somebody wrote, empty ones left out."""
    return sum(bool(line.strip()) for line in text.splitlines())
