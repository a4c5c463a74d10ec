"""Tables and declarations that cannot be used end in a clear error, the right exit code, and nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

Rows = list[list[Any]]
AGE, CITY, INCOME, CHURNED = range(4)

MODEL = """make_pipeline(
        make_column_transformer((OneHotEncoder(), ["city"]), (StandardScaler(), ["age", "income"])),
        LogisticRegression(),
    )"""
DECLARATION = """\
import penstock as ps
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

workflow = ps.Workflow(
    name="{name}",
    data=ps.read("{name}.csv"{read}),
    target={target},
    model={model},
)
"""


@dataclass(frozen=True)
class Case:
    """What is wrong, how the call ends, and what it must say: place, cause, what to do."""

    name: str
    code: int
    said: tuple[str, ...]
    table: Callable[[Rows, Any], bytes] = lambda rows, csv: csv(rows)
    read: str = ""
    target: str = '"churned"'
    model: str = MODEL


def cells(column: int, value: Callable[[int], Any | None]) -> Callable[[Rows, Any], bytes]:
    """The table with some cells of a column replaced: by what `value` gives for a row's number, unless None."""

    def change(rows: Rows, csv: Any) -> bytes:
        changed = [list(row) for row in rows]
        for number, row in enumerate(changed):
            new = value(number)
            row[column] = row[column] if new is None else new
        return csv(changed)

    return change


def ragged(rows: Rows, csv: Any) -> bytes:
    lines = csv(rows).decode().splitlines(keepends=True)
    lines[40] = lines[40].replace("\n", ",7\n")
    return "".join(lines).encode()


def latin(rows: Rows, csv: Any) -> bytes:
    return cells(CITY, lambda i: "Zürich" if i % 3 == 0 else None)(rows, csv).decode().encode("latin-1")


TABLES = [
    Case("empty", 3, ("empty.csv: the file is empty", "→ a table needs a header line and rows"), lambda *_: b""),
    Case("header", 3, ("header.csv: a header line with 4 columns and no rows", "→"), lambda _, csv: csv([])),
    Case("ragged", 3, ("ragged.csv: rows do not have the 4 cells", "line 41 has 5 cells", "→ a cell that"), ragged),
    Case(
        "delimiter",
        3,
        ("delimiter.csv: declared sep=';' does not occur", "→ write sep=','"),
        read=', sep=";"',
    ),
    Case(
        "encoding",
        3,
        ("encoding.csv: line 2: the bytes fc 72 69 63 are not utf-8", "→ declare the right encoding="),
        latin,
        read=', encoding="utf-8"',
    ),
    Case(
        "codec",
        2,
        ("encoding='utf-99' is not known", 'did you mean "utf-8"?'),
        read=', encoding="utf-99"',
    ),
    Case(
        "twice",
        3,
        ("twice.csv: column names occur more than once: 'age' (2 times)", "→ rename them"),
        lambda rows, csv: csv(rows, header="age,city,age,churned"),
    ),
    Case("noise", 3, ("noise.csv: ", "not a text table", "→ check how"), lambda *_: bytes(range(256)) * 10),
    Case(
        "notarget",
        3,
        ("target names the column 'left', which is not in the table", "→ the table has age, city, income, churned"),
        target='"left"',
    ),
    Case(
        "constant",
        3,
        ("the target 'churned' is 'yes' in all 160 rows", "→ check how 'churned' is made"),
        cells(CHURNED, lambda _: "yes"),
    ),
    Case(
        "nulls",
        3,
        ("the target 'churned' is missing in 8 of 160 rows", "row 21", 'missing="drop"'),
        cells(CHURNED, lambda i: "" if i % 20 == 0 else None),
    ),
    Case(
        "unplain",
        2,
        ("which class of 'city' is the positive one, 'Graz' and 'Ulm'", "positive="),
        cells(CITY, lambda i: "Ulm" if i % 2 else "Graz"),
        target='"city"',
    ),
    Case(
        "allnull",
        3,
        ("the column 'income' has no value in any row", "→ leave it out by drop=['income']"),
        cells(INCOME, lambda _: ""),
    ),
    Case(
        "infinite",
        3,
        ("'income' is infinite in 1 row (row 31: inf)", "→ make them missing or correct them in a step"),
        cells(INCOME, lambda i: "inf" if i == 30 else None),
    ),
    Case("onerow", 3, ("the table has 1 row with a target", "→ gather more rows"), lambda rows, csv: csv(rows[:1])),
    Case(
        "dozen",
        3,
        ("a side of the split is empty: 12 rows", "→ declare a larger test="),
        lambda rows, csv: csv(rows[:12]),
    ),
]
FITTED = "LogisticRegression().fit([[0.0], [1.0]], [0, 1])"
BARE = "LogisticRegression()"
NO_ESTIMATOR = 'make_pipeline("passthrough", 3)'
LAMBDA = 'make_pipeline(FunctionTransformer(lambda X: X[["age"]]), LogisticRegression())'
MODELS = [
    Case("kind", 2, ("model=LogisticRegression: a class", "make an object of it"), model="LogisticRegression"),
    Case("fitted", 2, ("model: already fitted", "give an unfitted one"), model=FITTED),
    Case("nofit", 2, ("model=: object has no fit", "an unfitted scikit-learn estimator"), model="object()"),
    Case("lambda", 2, ("model.steps[0][1].func: a lambda", "define it at module level"), model=LAMBDA),
    Case("texts", 5, ("step train", "text, which this estimator cannot read, in column 'city'"), model=BARE),
    Case("inner", 5, ("step train", "Last step of Pipeline should implement fit"), model=NO_ESTIMATOR),
]


def declare(project: Any, name: str, content: bytes, **declared: str) -> str:
    """Write a table and the workflow that reads it; gives the file's name."""
    said = {"read": "", "target": '"churned"', "model": MODEL} | declared
    project.write(f"{name}.csv", content)
    return project.write(f"{name}_flow.py", DECLARATION.format(name=name, **said)).name


@pytest.mark.parametrize("case", [*TABLES, *MODELS], ids=lambda case: case.name)
def test_it_ends_in_a_clear_error(project: Any, rows: Rows, table: Any, case: Case) -> None:
    file = declare(project, case.name, case.table(rows, table), read=case.read, target=case.target, model=case.model)
    run = project.call("run", file)
    project.check_refused(run, case.code, case.name, *case.said)


def test_rows_without_a_target_are_dropped_on_demand(project: Any, rows: Rows, table: Any) -> None:
    content = cells(CHURNED, lambda i: "" if i % 20 == 0 else None)(rows, table)
    target = 'ps.Target("churned", missing="drop")'
    run = project.call("run", declare(project, "dropped", content, target=target), "--until", "evaluate")
    assert run.code == 0, run.text
    assert "8 rows dropped (target missing)" in run.out


def test_a_source_that_is_not_there(project: Any, rows: Rows, table: Any) -> None:
    file = declare(project, "nowhere", table(rows))
    (project.folder / "nowhere.csv").unlink()
    project.check_refused(project.call("run", file), 2, "nowhere", "nowhere.csv", "→ relative paths are relative to")


def test_a_regressor_is_not_asked_to_predict_words(project: Any, rows: Rows, table: Any) -> None:
    model = "make_pipeline(StandardScaler(), Ridge())"
    run = project.call("run", declare(project, "words", table(rows), model=model))
    project.check_refused(run, 3, "words", "the target 'churned' is text (such as 'yes')", "→ give a classifier")


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("unparsed", "def f(:", "SyntaxError: invalid syntax"),
        ("unfound", "import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("quits", "raise SystemExit(4)", "called sys.exit(4) while it was imported"),
    ],
)
def test_a_file_that_cannot_be_imported(project: Any, name: str, line: str, said: str) -> None:
    """The user's own lines are shown, not the machinery that imports them."""
    file = project.write(f"{name}_flow.py", f"import math\n{line}\n").name
    run = project.call("run", file)
    project.check_refused(run, 2, name, said, f'{file}", line 2')
    assert "importlib" not in run.err


def test_all_faults_of_a_declaration_at_once(project: Any, rows: Rows, table: Any) -> None:
    file = declare(project, "many", table(rows), target="7", model="object()")
    run = project.call("run", file)
    project.check_refused(run, 2, "many", "2 faults", "target=7", "object has no fit")


def test_the_check_sees_a_half_written_store(own_project: Any, rows: Rows, table: Any) -> None:
    """Sabotage: an object that is on record and gone is noticed by what the other tests ask."""
    run = own_project.call("run", declare(own_project, "whole", table(rows)), "--until", "split")
    assert run.code == 0, run.text
    assert own_project.faults() == []
    home = own_project.home()
    tables = (item for item in home.objects.walk() if home.objects.read(item.digest)[:4] == b"PAR1")
    home.objects.delete(next(tables).digest)
    assert any(fault.startswith("missing") for fault in own_project.faults())
