"""The DAG file for Airflow: what stands in it, and how its tasks end (Airflow's own names are faked)."""

from __future__ import annotations

import ast
import json
import os
import sys
import threading
import time
import types
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
    assert len(Airflow().export(flows["ten"], Options()).splitlines()) < 190
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
    assert found["WORKER"][-4:] == ["--param", "n=4", "--param", "on=false"]


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
    assert imported(text) == {"datetime", "airflow"}
    wide = constants(text)["TASKS"]["wide"]
    assert wide["requests"] == {"memory": str(2**30), "nvidia.com/gpu": "1"}
    assert wide["limits"]["nvidia.com/gpu"] == "1"


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
    for schedule in ("every day", "0 6 * *", "asset:", "0h"):
        assert f"--schedule {schedule}" in graded(flows["ten"], "error", schedule=schedule)
    assert "Docker container gets none" in graded(
        flows["ten"], "error", image="i", secrets=("A",), more={"operator": "docker"}
    )
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


class Failed(Exception):
    """Airflow tries the task again."""


class Final(Failed):
    """Airflow does not."""


class Skipped(Exception):
    """Airflow skips what follows."""


class Operator:
    """What the file takes of `BaseOperator`."""

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.after: list[str] = []
        self.outlets = given.get("outlets", [])

    def __rshift__(self, other: Operator) -> None:
        other.after.append(self.given["task_id"])


class Named:
    """An asset, an alias, a parameter or a DAG."""

    def __init__(self, name: Any, **given: Any) -> None:
        self.name, self.given = name, given

    def __enter__(self) -> Named:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Kept:
    """Airflow's connections and variables."""

    password = "s3cret"

    @classmethod
    def get(cls, key: str) -> Any:
        return cls() if key == "warehouse" else f"value of {key}"

    def get_uri(self) -> str:
        return "postgres://ana:s3cret@db/x"


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Airflow's names in place of Airflow; gives what was masked (by a name beside it, some would not be)."""
    found: list[str] = []
    sdk = types.ModuleType("airflow.sdk")
    for name in ("DAG", "Asset", "AssetAlias", "Param"):
        setattr(sdk, name, Named)
    vars(sdk).update(BaseOperator=Operator, Connection=Kept, Variable=Kept)
    log, exceptions = types.ModuleType("airflow.sdk.log"), types.ModuleType("airflow.sdk.exceptions")
    vars(log).update(mask_secret=found.append)
    vars(exceptions).update(AirflowException=Failed, AirflowFailException=Final, AirflowSkipException=Skipped)
    for module in (types.ModuleType("airflow"), sdk, log, exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return found


def loaded(text: str, script: str = "", folder: Path | None = None) -> dict[str, Any]:
    """The file's names; its worker is replaced by a script."""
    module: dict[str, Any] = {}
    exec(compile(text, "dag.py", "exec"), module)
    if folder is not None:
        (folder / "fake.py").write_text(script)
        module["PYTHON"], module["WORKER"] = sys.executable, [str(folder / "fake.py")]
    return module


def context(**params: Any) -> dict[str, Any]:
    return {"run_id": "manual__2026-11-22T20:44:56+00:00", "params": params, "outlet_events": Events()}


class Events(dict[Any, Any]):
    """Asset events by outlet."""

    def __missing__(self, key: Any) -> Any:
        self[key] = types.SimpleNamespace(told=[])
        self[key].add = lambda asset, extra: self[key].told.append((asset.name, extra))
        return self[key]


ANSWERS = """
import json, os, sys
given = {given}
step = sys.argv[sys.argv.index("--step") + 1]
answer, code = given.get(step, given.get("*"))
if answer is not None:
    json.dump(answer, open(os.environ["PENSTOCK_RESULT"], "w"))
print("log of " + step, file=sys.stderr)
print(json.dumps(sys.argv[1:]), file=sys.stderr)
sys.exit(code) if code >= 0 else os.kill(os.getpid(), -code)
"""
DONE = {
    "state": "done",
    "run": "0123",
    "steps": {"s": {"outputs": {"": {"digest": "d" * 64, "size": 3, "format": "json"}}}},
}


@pytest.mark.parametrize(
    ("answer", "code", "raised"),
    [
        ({"state": "skipped", "reason": "refused"}, 99, Skipped),
        ({"state": "done"}, 99, Failed),
        (None, 99, Failed),
        (None, 0, Failed),
        ({"state": "failed"}, 0, Failed),
        ({"state": "failed", "retriable": True}, 5, Failed),
        ({"state": "failed", "retriable": False}, 1, Final),
        ({"state": "failed", "retriable": False}, 3, Final),
        (None, 2, Final),
        (None, -9, Failed),
        ({"state": "cancelled", "retriable": False}, 143, Final),
    ],
)
def test_a_task_ends_as_its_worker_says(
    flows: dict[str, Compiled], masked: list[str], tmp_path: Path, answer: Any, code: int, raised: type[Exception]
) -> None:
    module = loaded(Airflow().export(flows["ten"], Options()), ANSWERS.format(given={"*": (answer, code)}), tmp_path)
    with pytest.raises(raised) as error:
        module["made"]["start"].execute(context())
    assert error.type is raised
    assert not masked


def test_a_task_gives_ids_and_digests_and_its_log(
    flows: dict[str, Compiled], masked: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    module = loaded(Airflow().export(flows["ten"], Options()), ANSWERS.format(given={"*": (DONE, 0)}), tmp_path)
    told = module["made"]["start"].execute(context(n=7, folder="/x", by=1.5, strange=1))  # `by` as declared
    assert told == {"outputs": {"s": {"": "d" * 64}}, "run": "0123", "state": "done"}
    first, words = capfd.readouterr().out.splitlines()
    assert first == "log of start"
    run = ["--run", "ten/manual__2026-11-22T20:44:56+00:00", "--step", "start"]
    assert json.loads(words) == [*run, "--param", "n=7", "--param", "folder=/x"]
    assert module["made"]["join"].after == ["part", "right"]
    assert not masked


def test_a_task_of_several_steps_runs_each_and_is_no_failure_when_the_gate_refuses(
    flows: dict[str, Compiled], masked: list[str], tmp_path: Path
) -> None:
    refused = {**DONE, "passed": False}
    given = {"*": (DONE, 0), "gate": (refused, 0), "deploy": ({"state": "skipped"}, 99)}
    module = loaded(Airflow().export(flows["churn"], Options()), ANSWERS.format(given=given), tmp_path)
    around = context(cap=4000.0)
    assert module["made"]["judge"].execute(around)["passed"] is False
    assert not around["outlet_events"], "an asset of a refused run is not new"
    module = loaded(Airflow().export(flows["churn"], Options()), ANSWERS.format(given={"*": (DONE, 0)}), tmp_path)
    module["made"]["judge"].execute(around)
    [event] = around["outlet_events"].values()
    assert event.told == [("penstock://churn", {"run": "0123", "state": "done"})]
    assert module["made"]["train"].outlets == masked == []


def test_a_failure_in_the_middle_ends_the_task(flows: dict[str, Compiled], masked: list[str], tmp_path: Path) -> None:
    given = {"*": (DONE, 0), "evaluate": ({"state": "failed", "retriable": True}, 5), "scramble": (None, 2)}
    module = loaded(Airflow().export(flows["churn"], Options()), ANSWERS.format(given=given), tmp_path)
    with pytest.raises(Failed) as error:
        module["made"]["train"].execute(context(cap=1.0))
    assert error.type is Failed
    assert not masked


SHOWS = """
import json, os
seen = {n: v for n, v in os.environ.items() if "AIRFLOW" in n or n in ("A", "B", "C", "D")}
told = {"state": "done", "run": json.dumps(seen)}
json.dump(told, open(os.environ["PENSTOCK_RESULT"], "w"))
"""


def test_secrets_reach_the_worker_alone_and_airflows_own_do_not(
    flows: dict[str, Compiled], masked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://airflow:pw@db/airflow")
    given = ("A", "B=variable:b", "C=connection:warehouse", "D=connection:warehouse:password")
    text = Airflow().export(flows["ten"], Options(secrets=given))
    assert "s3cret" not in text
    module = loaded(text, SHOWS, tmp_path)
    seen = json.loads(module["made"]["start"].execute(context())["run"])
    assert seen == {"A": "value of A", "B": "value of b", "C": "postgresql://ana:s3cret@db/x", "D": "s3cret"}
    assert sorted(masked) == ["postgresql://ana:s3cret@db/x", "s3cret", "value of A", "value of b"]
    assert "A" not in os.environ


SLEEPS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, {how})
print("pid", os.getpid(), file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_a_task_that_airflow_ends_ends_its_worker(
    flows: dict[str, Compiled], masked: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = Airflow().export(flows["ten"], Options())
    module = loaded(text, SLEEPS.format(how="lambda *_: sys.exit(143)"), tmp_path)
    task = module["made"]["start"]

    def kill() -> None:
        while "pid" not in (read := capfd.readouterr().out):
            time.sleep(0.02)
        seen.append(int(read.split()[1]))
        task.on_kill()

    seen: list[int] = []
    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(Final):
        task.execute(context())
    killer.join()
    assert not os.path.exists(f"/proc/{seen[0]}")
    assert not masked


def test_a_worker_that_does_not_listen_is_ended_all_the_same(
    flows: dict[str, Compiled], masked: list[str], tmp_path: Path
) -> None:
    module = loaded(Airflow().export(flows["ten"], Options()), SLEEPS.format(how="signal.SIG_IGN"), tmp_path)
    import subprocess

    command = [sys.executable, str(tmp_path / "fake.py")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    with process.stderr:
        process.stderr.readline()
        module["end"](process, 0.1)
    assert process.returncode == -9
    assert not masked


def test_a_python_that_is_not_there_is_no_reason_to_try_again(flows: dict[str, Compiled], masked: list[str]) -> None:
    module = loaded(Airflow().export(flows["ten"], Options()))
    module["PYTHON"] = "/no/such/python"
    with pytest.raises(Final, match=r"does not start.*--python"):
        module["made"]["start"].execute(context())
    assert not masked
