"""A task of the DAG file: what it starts, and how it ends (Airflow's own names are faked)."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest

from penstock.backends.airflow import Airflow
from penstock.backends.backend import Options
from penstock.backends.compiled import Compiled, compiled
from penstock.testing.backend_flows import CHURN, MAPPED, PASSES, TEN


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compiled]:
    """Ten steps, and a workflow in parts."""
    folder = tmp_path_factory.mktemp("flows")
    (folder / "penstock.toml").write_text("")
    (folder / "customers.csv").write_text("customer_id,age,income,churned\n1,2,3,1\n")
    made = {}
    for name, text in (("ten", TEN), ("churn", CHURN.replace("LEVEL", PASSES))):
        (folder / f"{name}.py").write_text(text)
        made[name] = compiled(str(folder / f"{name}.py"), group="step" if name == "ten" else "part")
    return made


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

    def __rrshift__(self, others: list[Operator]) -> None:
        self.after += [other.given["task_id"] for other in others]

    @classmethod
    def partial(cls, **given: Any) -> types.SimpleNamespace:
        """One that is made several times."""

        def expand(**each: list[Any]) -> Operator:
            made = Operator(**given)
            made.given["parts"] = [cls(**given, **{name: one}) for name, several in each.items() for one in several]
            return made

        return types.SimpleNamespace(expand=expand)


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

    login, password = None, "s3cret//"

    @classmethod
    def get(cls, key: str) -> Any:
        return (
            cls() if key == "warehouse" else f"-- postgres://key\nvalue of {key}" if key == "A" else f"value of {key}"
        )

    def get_uri(self) -> str:
        return "postgres://ana:s3cret%2F%2F@db/x"


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
    given = context(n=7.0, folder="a b", strange=1)  # as JSON may have a whole number; `by` is not given
    told = module["made"]["start"].execute(given)
    assert told == {"outputs": {"s": {"": "d" * 64}}, "run": "0123", "state": "done"}
    command, first, words = capfd.readouterr().out.splitlines()
    assert first == "log of start"
    run = ["--run", "ten/manual__2026-11-22T20:44:56+00:00"]
    params = ["--param", "n=7", "--param", "folder=a b", "--param", "by=1.5"]
    assert json.loads(words) == ["--step", "start", *params, *run]
    shown = module["made"]["start"].commands(given["run_id"], given["params"])
    start, rest = shown.split(" \\\n    ")
    assert command == f"$ {start} {rest}"
    assert (shlex.split(start)[1:], shlex.split(rest)) == ([str(tmp_path / "fake.py")], json.loads(words))
    assert module["made"]["join"].after == ["part", "right"]
    assert not masked


def test_a_task_of_several_steps_runs_each_and_is_no_failure_when_the_gate_refuses(
    flows: dict[str, Compiled], masked: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = {**DONE, "passed": False, "verdict": {"sentence": "0.61 is below 0.75."}}
    given = {"*": (DONE, 0), "gate": (refused, 0), "deploy": ({"state": "skipped"}, 99)}
    module = loaded(Airflow().export(flows["churn"], Options()), ANSWERS.format(given=given), tmp_path)
    around = context(cap=4000.0)
    assert module["made"]["judge"].execute(around)["passed"] is False
    assert "\n0.61 is below 0.75.\n" in capfd.readouterr().out
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
seen = {n: v for n, v in os.environ.items() if "AIRFLOW" in n or n in ("A", "B", "C", "D", "PENSTOCK_TIED")}
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
    assert seen.pop("PENSTOCK_TIED") == str(os.getpid())
    key, address = "-- postgres://key\nvalue of A", "postgresql://ana:s3cret%2F%2F@db/x"
    assert seen == {"A": key, "B": "value of b", "C": address, "D": "s3cret//"}
    assert set(masked) == {*key.splitlines(), *seen.values(), "s3cret%2F%2F"}
    assert "A" not in os.environ


def test_a_field_that_a_connection_lacks_is_told(flows: dict[str, Compiled], masked: list[str]) -> None:
    module = loaded(Airflow().export(flows["ten"], Options(secrets=("A=connection:warehouse:login",))))
    with pytest.raises(Final, match="A: Airflow's connection warehouse has no login"):
        module["made"]["start"].execute(context())
    assert not masked


SLEEPS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, {how})
print("pid", os.getpid(), file=sys.stderr, flush=True)
time.sleep(60)
"""


def started(capfd: pytest.CaptureFixture[str]) -> int:
    """Wait until the worker has said its id."""
    read = ""
    while "pid " not in read:
        time.sleep(0.02)
        read += capfd.readouterr().out
    return int(read.split("pid ")[1].split()[0])


def test_a_task_that_airflow_ends_ends_its_worker(
    flows: dict[str, Compiled], masked: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With its machine, as like as not: it is tried again where it may be."""
    text = Airflow().export(flows["ten"], Options())
    module = loaded(text, SLEEPS.format(how="lambda *_: sys.exit(143)"), tmp_path)
    task = module["made"]["start"]

    def kill() -> None:
        seen.append(started(capfd))
        task.on_kill()

    seen: list[int] = []
    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(Failed, match="Airflow ended the task") as error:
        task.execute(context())
    killer.join()
    assert error.type is Failed
    assert not os.path.exists(f"/proc/{seen[0]}")
    with pytest.raises(Failed, match="Airflow ended the task"):
        task.execute(context())
    assert not masked


def test_a_limit_of_airflows_own_ends_the_worker(
    flows: dict[str, Compiled], masked: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It raises in the middle of the waiting, by a signal, as Airflow's does."""

    def late(*_: object) -> None:
        raise TimeoutError("too long")

    module = loaded(Airflow().export(flows["ten"], Options()), SLEEPS.format(how="signal.SIG_DFL"), tmp_path)
    seen: list[int] = []

    def alarm() -> None:
        seen.append(started(capfd))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, late)
    try:
        killer = threading.Thread(target=alarm)
        killer.start()
        with pytest.raises(TimeoutError):
            module["made"]["start"].execute(context())
        killer.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not os.path.exists(f"/proc/{seen[0]}")
    assert not masked


def test_a_task_whose_watcher_is_gone_ends_its_worker(
    flows: dict[str, Compiled], masked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would hear how it ends, and Airflow will start it anew."""
    module = loaded(Airflow().export(flows["ten"], Options()), SLEEPS.format(how="signal.SIG_DFL"), tmp_path)
    parents = iter([7, 7, 1, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    with pytest.raises(Failed, match="watches over this task is gone"):
        module["made"]["start"].execute(context())
    assert module["made"]["start"].process.returncode == -15
    assert not masked


LONG = """
import json, os, sys
print("x" * 25_000, file=sys.stderr)
json.dump({"state": "done"}, open(os.environ["PENSTOCK_RESULT"], "w"))
"""


def test_a_line_without_end_is_cut(
    flows: dict[str, Compiled], masked: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    module = loaded(Airflow().export(flows["ten"], Options()), LONG, tmp_path)
    module["made"]["start"].execute(context())
    assert list(map(len, capfd.readouterr().out.splitlines()[1:])) == [10_000, 10_000, 5_000]
    assert not masked


def test_a_divided_step_is_a_mapped_task_before_its_own(
    masked: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "mapped.py").write_text(MAPPED)
    text = Airflow().export(compiled(str(tmp_path / "mapped.py"), group="step"), Options())
    made = loaded(text, ANSWERS.format(given={"*": ({"state": "done", "run": "0123"}, 0)}), tmp_path)["made"]
    (name,) = made["square"].after
    assert name == "square.parts"
    assert made["summed"].after == ["square"]
    assert "--part" not in made["square"].commands("r", {})
    assert isinstance(made["square"].execute(context()), dict)
    capfd.readouterr()
    parts = loaded(text, ANSWERS.format(given={"*": ({"state": "done", "run": "0123"}, 0)}), tmp_path)["parts"]
    assert parts.after == []
    first, *others = parts.given["parts"]
    assert [one.part for one in (first, *others)] == ["1/3", "2/3", "3/3"]
    assert first.execute(context()) == {"outputs": {}, "run": "0123", "state": "done"}
    words = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert words[words.index("--part") + 1] == "1/3"
    assert not masked


def test_a_task_without_steps_updates_the_asset(flows: dict[str, Compiled], masked: list[str]) -> None:
    text = Airflow().export(flows["ten"], Options())
    module = loaded(text)
    around = context()
    task = module["Worker"](task_id="updated", calls=[], outlets=[module["AssetAlias"]("a")])
    assert task.execute(around) == {}
    assert [event.told for event in around["outlet_events"].values()] == [[("penstock://ten", {})]]
    assert not masked


def test_a_worker_that_does_not_listen_is_ended_all_the_same(
    flows: dict[str, Compiled], masked: list[str], tmp_path: Path
) -> None:
    module = loaded(Airflow().export(flows["ten"], Options()), SLEEPS.format(how="signal.SIG_IGN"), tmp_path)
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
