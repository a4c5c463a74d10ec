"""The DAG file for Airflow: what stands in it, and what is said beforehand."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

from command_line import call
from penstock.backends.airflow import Airflow
from penstock.backends.backend import Options
from penstock.backends.compiled import Compiled, compiled
from penstock.errors import UsageError
from penstock.testing.backend_flows import CHURN, PASSES, TEN

SHAPED = """
import penstock as ps

LABELS = {"pool": "gpus", "queue": "big", "zone": "b"}

@ps.step(timeout_s=60, retries=3, backoff_s=2.5, resources=ps.Resources(gpu=1, memory="1GiB", labels=LABELS))
def wide(n: int, mode: str, on: bool):
    return [n, mode, on]

flow = ps.Flow(wide(ps.Param("n", 3), ps.Param("mode", 'say "a"'), ps.Param("on", True)), name="shaped: weekly")
"""


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compiled]:
    """Ten steps, a workflow in parts, and a step that asks for all that Airflow knows."""
    folder = tmp_path_factory.mktemp("flows")
    (folder / "penstock.toml").write_text("")
    (folder / "customers.csv").write_text("customer_id,age,income,churned\n1,2,3,1\n")
    made = {}
    for name, text in (("ten", TEN), ("churn", CHURN.replace("LEVEL", PASSES)), ("shaped", SHAPED)):
        (folder / f"{name}.py").write_text(text)
        made[name] = compiled(str(folder / f"{name}.py"), group="step" if name == "ten" else "part")
    return made


def constants(text: str) -> dict[str, Any]:
    """The plain data at the top of a file."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                found[node.targets[0].id] = ast.unparse(node.value)
    return found


def imported(text: str) -> set[str]:
    return {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }


def graded(flow: Compiled, grade: str, **options: Any) -> str:
    found = Airflow().check(flow, Options(**options))
    return "\n".join(f"{one.what} → {one.remedy}" for one in found if one.grade == grade)


def test_the_file_needs_airflow_and_the_standard_library_alone(flows: dict[str, Compiled]) -> None:
    text = Airflow().export(flows["ten"], Options(secrets=("TOKEN",)))
    assert imported(text) - sys.stdlib_module_names == {"airflow"}
    assert "shell" not in text
    assert len(Airflow().export(flows["ten"], Options()).splitlines()) < 240
    assert max(map(len, text.splitlines())) <= 120


def test_the_same_flow_gives_the_same_bytes(flows: dict[str, Compiled]) -> None:
    one = Airflow().export(flows["ten"], Options())
    again = compiled(flows["ten"].request.file, group="step")
    assert Airflow().export(again, Options()) == one


def test_the_tasks_stand_at_the_top_as_data(flows: dict[str, Compiled]) -> None:
    found = constants(Airflow().export(flows["ten"], Options(schedule="@daily")))
    assert (found["DAG_ID"], found["SCHEDULE"], found["ASSET"], found["LAST"]) == (
        "ten",
        "@daily",
        "penstock://ten",
        "last",
    )
    assert found["PARAMS"] == {"n": 5, "folder": "", "by": 1.5}
    assert found["TASKS"]["join"] == {"calls": [["join"]], "needs": ["part", "right"]}
    assert found["TASKS"]["right"] == {"calls": [["right"]], "needs": ["start"], "retries": 2, "retry_delay": 0.1}
    parts = constants(Airflow().export(flows["churn"], Options()))["TASKS"]
    assert list(parts) == ["prepare", "train", "judge"]
    assert parts["judge"]["calls"][-2:] == [["gate"], ["deploy"]]


def test_limits_labels_and_odd_texts_arrive(flows: dict[str, Compiled]) -> None:
    found = constants(Airflow().export(flows["shaped"], Options(more={"start": "2026-02-03"})))
    assert found["DAG_ID"] == "shaped__weekly"
    assert found["ASSET"] == "penstock://shaped__weekly"
    assert found["START"] == "datetime.datetime(2026, 2, 3, tzinfo=datetime.timezone.utc)"
    assert found["PARAMS"] == {"n": 3, "mode": 'say "a"', "on": True}
    task = found["TASKS"]["wide"]
    assert (task["execution_timeout"], task["retries"], task["retry_delay"]) == (90.0, 3, 2.5)
    assert (task["pool"], task["queue"]) == ("gpus", "big")
    assert "zone" not in task


def test_a_parameter_that_the_export_sets_is_set_in_every_run(flows: dict[str, Compiled]) -> None:
    flow = compiled(flows["shaped"].request.file, params={"n": 4, "on": False})
    found = constants(Airflow().export(flow, Options()))
    assert found["PARAMS"] == {"n": 4, "mode": 'say "a"', "on": False}
    assert "--param" not in found["WORKER"], "a parameter of the DAG is given once, by the run"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("", None),
        ("0 6 * * 1", "0 6 * * 1"),
        ("6h", "datetime.timedelta(seconds=21600)"),
        ("asset:penstock://raw, s3://b/x", "[Asset('penstock://raw'), Asset('s3://b/x')]"),
    ],
)
def test_a_schedule_is_written_in_airflows_words(flows: dict[str, Compiled], text: str, source: object) -> None:
    assert constants(Airflow().export(flows["ten"], Options(schedule=text)))["SCHEDULE"] == source


def test_a_container_a_start_of_the_worker(flows: dict[str, Compiled]) -> None:
    text = Airflow().export(flows["churn"], Options(image="acme:1", secrets=("TOKEN",)))
    assert imported(text) == {"datetime", "airflow", "kubernetes"}
    found = constants(text)
    assert list(found["TASKS"]["train"]["calls"])[:2] == ["train.train", "train.evaluate"]
    assert (found["SECRETS"], found["LAST"]) == (["TOKEN"], "judge.deploy")
    assert "cap={{ params['cap'] }}" in found["TEMPLATED"]
    text = Airflow().export(flows["shaped"], Options(image="acme:1", more={"operator": "docker"}))
    assert imported(text) == {"datetime", "airflow", "docker"}
    assert "n={{ params['n'] | int }}" in constants(text)["TEMPLATED"]
    wide = constants(text)["TASKS"]["wide"]
    assert wide["requests"] == {"memory": str(2**30), "nvidia.com/gpu": "1"}
    assert wide["limits"]["nvidia.com/gpu"] == "1"


def test_a_container_that_refuses_updates_no_asset(flows: dict[str, Compiled]) -> None:
    """It ends well, and Airflow takes no answer of it: where it is the last, none updates the asset."""
    flow = compiled(flows["churn"].request.file, until="gate", group="step")
    assert constants(Airflow().export(flow, Options(image="acme:1")))["LAST"] == ""
    assert constants(Airflow().export(flow, Options()))["LAST"] == "gate"
    flow = compiled(flows["churn"].request.file, group="step")
    assert constants(Airflow().export(flow, Options(image="acme:1")))["LAST"] == "deploy"


def test_every_fault_is_told_beforehand(flows: dict[str, Compiled]) -> None:
    told = graded(
        flows["ten"],
        "error",
        schedule="@dayly",
        secrets=("A=vault:x", "1B"),
        environment={"DB": "postgresql://ana:pw@db/x", "API_TOKEN": "abc"},
        more={"colour": "red", "dag": "a b", "start": "soon"},
    )
    for part in (
        'did you mean "@daily"?',
        "--secret A",
        "--secret 1B",
        "DB holds",
        "API_TOKEN holds",
        "colour",
        "dag=a b",
        "start=soon",
    ):
        assert part in told
    assert "pw" not in told
    for schedule in (
        "every day",
        "0 6 * *",
        "asset:",
        "0h",
        "60 6 * * *",
        "0 6 1-32 * *",
        "*/0 * * * *",
        "0 6 * * 8",
        "0 0 6 * * 1",
    ):
        assert f"--schedule {schedule}" in graded(flows["ten"], "error", schedule=schedule)
    assert "Docker container gets none" in graded(
        flows["ten"], "error", image="i", secrets=("A",), more={"operator": "docker"}
    )
    for schedule in ("*/15 6-18 * JAN-MAR mon", "0 6 L * *", "5,35 0 1 1 5#2", "0 0 * * 7"):
        assert graded(flows["ten"], "error", schedule=schedule) == ""
    assert "start=2026-02-31" in graded(flows["ten"], "error", more={"start": "2026-02-31"})
    told = graded(flows["ten"], "error", more={"operator": "docker", "secret": "theirs"})
    assert "--option operator: only a container" in told
    assert "--option secret: only a container" in told
    with pytest.raises(UsageError, match="no such preset"):
        Airflow().export(flows["ten"], Options(schedule="@dayly"))


def test_what_airflow_does_not_do_is_noted(flows: dict[str, Compiled]) -> None:
    told = graded(flows["shaped"], "note")
    for part in ("pool gpus must exist", "zone=b says nothing", "reserves no processors"):
        assert part in told
    assert graded(flows["ten"], "note") == graded(flows["ten"], "error") == ""


def test_nothing_waits_for_airflow(flows: dict[str, Compiled]) -> None:
    with pytest.raises(UsageError, match="folder of DAGs") as raised:
        Airflow().run(flows["ten"], "", Options(), lambda _run, _steps: None)
    assert "penstock export airflow ten.py" in str(raised.value.hint)


def test_the_command_line_writes_the_file_or_says_what_is_wrong(flows: dict[str, Compiled]) -> None:
    folder = Path(flows["ten"].request.file).parent
    given = (
        "export",
        "airflow",
        "ten.py",
        "--variable",
        "OMP_NUM_THREADS=2",
        "--secret",
        "TOKEN",
        "--python",
        sys.executable,
    )
    ended = call(folder, *given, "--output", "dag.py")
    assert (ended.code, ended.err) == (0, "")
    found = constants((folder / "dag.py").read_text())
    assert (found["ENVIRONMENT"], found["PYTHON"]) == ({"OMP_NUM_THREADS": "2"}, sys.executable)
    assert found["SECRETS"] == {"TOKEN": ["variable", "TOKEN", ""]}
    assert found["WORKER"][-4:] == ["--file", str(folder / "ten.py"), "--backend", "airflow"]
    ended = call(folder, *given, "--schedule", "@dayly")
    assert (ended.code, ended.out) == (2, "")
    assert "no such preset" in ended.err


LEAVES = """
import penstock as ps

@ps.step
def updated(cap: float):
    '''Say what the most is.

    No more than that.
    '''
    return cap > 3

@ps.step
def other():
    return 1

flow = ps.Flow(updated(ps.Param("cap", 5.0)), other, name="leaves")
"""


def test_an_asset_is_new_when_all_that_ends_a_flow_has(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "leaves.py").write_text(LEAVES)
    flow = compiled(str(tmp_path / "leaves.py"), params={"cap": "inf"})
    found = constants(Airflow().export(flow, Options()))
    assert found["LAST"] == "updated_", "`updated` is a step of theirs"
    assert found["TASKS"]["updated_"] == {"calls": [], "needs": ["updated", "other"]}
    assert found["TASKS"]["updated"]["docs"] == {"updated": "Say what the most is."}
    assert "docs" not in found["TASKS"]["other"]
    assert found["WORKER"][-2:] == ["--param", "cap=inf"], "JSON has no such number, so no run can set it"
    assert found["PARAMS"] == {}
    found = constants(Airflow().export(flow, Options(image="acme:1")))
    assert found["LAST"] == "updated_"
    assert found["WORKER"][-2:] == ["--param", "cap=inf"]
