"""Runs from Python do what the command line does; what only this process holds runs in a fork and makes no version."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

import penstock as ps
from command_line import call
from penstock.errors import StepError, UnknownNameError, UsageError
from penstock.lifecycle import found
from penstock.project import open_home
from penstock.python.result import IDLE

pytestmark = pytest.mark.usefixtures("warm_processes")

DECLARED = """
import penstock as ps
from sklearn.linear_model import LogisticRegression

@ps.step
def clean(table):
    print("cleaning", len(table))
    return table.dropna()

python_churn = ps.Workflow(
    name="python_churn", data=clean(ps.read("customers.csv")), target="churned", key="customer_id",
    model=LogisticRegression(), metrics=["roc_auc", "neg_log_loss"],
)
"""


def write_table(folder: Path, n_rows: int = 240) -> None:
    rng = random.Random(1)
    lines = ["customer_id,a,b,churned"]
    for i in range(n_rows):
        a = rng.gauss(0, 1)
        lines.append(f"c{i},{a:.4f},{rng.gauss(0, 1):.4f},{int(a + rng.gauss(0, 0.5) > 0)}")
    (folder / "customers.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose file this process imports."""
    folder = tmp_path_factory.mktemp("python")
    (folder / ".penstock").mkdir()
    write_table(folder)
    (folder / "declared_for_python.py").write_text(DECLARED)
    with contextlib.chdir(folder):
        sys.path.insert(0, str(folder))
        yield folder
        sys.path.remove(str(folder))
        sys.modules.pop("declared_for_python", None)


@pytest.fixture(scope="module")
def churn(project: Path) -> Any:
    assert project
    return importlib.import_module("declared_for_python").python_churn


@pytest.fixture(scope="module")
def first(churn: Any) -> Any:
    return ps.run(churn, note="the first")


def ledger_runs() -> list[Any]:
    home = open_home(".")
    try:
        return home.ledger.runs()
    finally:
        home.ledger.close()


# ── a file's ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_gives_its_values(first: Any) -> None:
    assert (first.version, first.exit_code, first.name) == ("python_churn@1", 0, "python_churn")
    assert set(first.steps.values()) <= {"done", "reused"}
    assert 160 < len(first.train) < len(first.table("clean")) == 240
    assert len(first.predictions) == len(first.train)
    assert type(first.estimator) is LogisticRegression
    assert first.logs("clean") == "cleaning 240\n"
    assert first.verdict.passed
    assert first.verdict.outcome == "better"
    assert str(first.verdict) == first.verdict.sentence
    assert "python_churn@1" in str(first.report)


def test_metrics_are_a_frame_with_intervals_and_errors_positive(first: Any) -> None:
    metrics = first.metrics
    assert list(metrics.index) == ["roc_auc", "log_loss"]
    assert (metrics["low"] <= metrics["value"]).all()
    assert (metrics["value"] <= metrics["high"]).all()
    assert metrics.loc["log_loss", "value"] > 0
    assert metrics["lower_is_better"].tolist() == [False, True]
    assert metrics.loc["roc_auc", "baseline"] == 0.5


def test_values_are_copies(first: Any) -> None:
    table = first.table("clean")
    table["a"] = 0.0
    assert first.table("clean")["a"].abs().sum() > 0


def test_unknown_names_are_told_with_what_there_is(first: Any) -> None:
    with pytest.raises(UnknownNameError, match='did you mean "clean"'):
        first.artifact("claen")
    with pytest.raises(UnknownNameError, match="no output 'trian'"):
        first.artifact("split", "trian")
    with pytest.raises(UnknownNameError, match="no step"):
        first.logs("claen")


def test_a_second_run_reuses_everything_and_so_does_the_command_line(first: Any, churn: Any) -> None:
    again = ps.run(churn)
    assert again.idle
    assert again.version == first.version
    assert IDLE in repr(again)
    assert again.logs("clean") == "cleaning 240\n"
    assert again.verdict == first.verdict
    command = [sys.executable, "-m", "penstock", "run", "declared_for_python.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(IDLE)


def test_the_file_may_be_named(first: Any) -> None:
    assert ps.run("declared_for_python.py:python_churn").version == first.version
    plan = ps.plan("declared_for_python.py")
    assert plan.count("run") == 0
    assert plan.steps["clean"] == ("reuse", "unchanged")
    assert repr(plan).endswith("python_churn: 5 waiting, 9 to reuse")
    assert plan.requests == ()


def test_a_plan_tells_what_this_machine_has_not(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "large_flow.py").write_text(
        "import penstock as ps\n"
        "@ps.step(resources=ps.Resources(cpu=100_000))\n"
        "def large(x: int) -> int:\n    return x\n"
        'flow = ps.Flow(large(ps.Param("x", 1)), name="large")\n'
    )
    plan = ps.plan(tmp_path / "large_flow.py")
    [told] = plan.requests
    assert told.startswith("a run would be refused: large asks for 100000 processors, and there are ")
    assert told in repr(plan)
    assert told in plan._repr_html_()
    ended = call(tmp_path, "plan", "large_flow.py", "--json")
    assert json.loads(ended.out)["requests"] == [told]


def test_what_only_this_process_holds_learns_nothing_from_held_out_rows(churn: Any) -> None:
    steps = ps.plan(churn.replace(refit="all", decide=ps.Threshold(at=0.4))).steps
    assert {"train", "evaluate", "decide", "audit"} <= set(steps)
    assert "refit" not in steps


def test_opening_the_hold_out_is_a_look_on_record_once(first: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def looks() -> int:
        home = open_home(".")
        try:
            return len(home.ledger.stream("python_churn/look"))
        finally:
            home.ledger.close()

    before = looks()
    assert len(first.artifact("split", "test", want="arrow")) == 240 - len(first.train)
    assert "on record" in capsys.readouterr().err
    assert len(first.test) == 240 - len(first.train)
    assert looks() == before + 1
    done = subprocess.run([sys.executable, "-m", "penstock", "fsck"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "log", "python_churn"], capture_output=True, text=True, check=True
    )
    assert f"{before + 1} looks at the hold-out" in done.stdout


def test_a_version_is_loaded_as_the_estimator_that_was_fitted(first: Any) -> None:
    loaded = ps.load("python_churn@champion")
    assert type(loaded) is LogisticRegression
    rows = first.train[["a", "b"]]
    assert (loaded.predict_proba(rows) == first.estimator.predict_proba(rows)).all()
    with pytest.raises(UnknownNameError):
        ps.load("python_churn@99")


def test_an_edited_file_runs_as_it_is_now_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".penstock").mkdir()
    write_table(tmp_path)
    file = tmp_path / "edited_for_python.py"
    file.write_text(DECLARED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    held = importlib.import_module("edited_for_python").python_churn
    assert found.find(held).note == ""
    file.write_text(DECLARED.replace("LogisticRegression()", "LogisticRegression(C=0.5)"))
    run = ps.run(held, until="train")
    assert "edited_for_python.py was edited after it was imported here" in run.notes[0]
    assert run.estimator.C == 0.5


# ── what only this process holds ─────────────────────────────────────────────────────────────────────────────


def test_a_replaced_workflow_is_exploratory_and_registers_nothing(first: Any, churn: Any) -> None:
    assert first.version
    home = open_home(".")
    before = home.ledger.streams()
    run = ps.run(churn.replace(model=DecisionTreeClassifier(max_depth=2)), note="a tree")
    assert home.ledger.streams() == before
    home.ledger.close()
    assert run.exploratory
    assert (run.version, run.verdict, run.exit_code) == (None, None, 0)
    assert type(run.estimator) is DecisionTreeClassifier
    assert run.notes[0].startswith("exploratory")
    assert "gate" not in run.steps
    row = ledger_runs()[0]
    assert row.info["exploratory"] is True
    assert "file" not in row.info
    assert row.called == "exploratory"
    with pytest.raises(UnknownNameError, match="made no version"):
        assert run.report


def test_what_an_exploratory_run_shares_with_the_file_is_reused(first: Any, churn: Any) -> None:
    assert first.version
    run = ps.run(churn.replace(model=DecisionTreeClassifier(max_depth=2)))
    assert run.steps["customers"] == run.steps["split"] == "reused"
    assert run.steps["clean"] == "done"  # its code is what this process holds


def test_code_of_the_callers_own_is_never_reused_from_memory(first: Any, churn: Any) -> None:
    """A function that was replaced in memory must not take, nor leave, a result under its file's name."""
    assert first.version
    changed = churn.replace(model=DecisionTreeClassifier(max_depth=2))
    plan = ps.plan(changed)
    assert plan.steps["clean"][0] == "run"
    assert "what this process holds" in plan.steps["clean"][1]


def test_without_the_distrust_a_stale_function_would_be_a_hit(
    first: Any, churn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.python import forked

    assert first.version
    monkeypatch.setattr(forked, "_own", lambda parts: False)
    assert ps.plan(churn.replace(model=DecisionTreeClassifier(max_depth=2))).steps["clean"][0] == "reuse"


def test_functions_of_this_process_run_with_its_values(project: Path) -> None:
    held = {"by": 3}

    @ps.step
    def times(table: pd.DataFrame) -> int:
        print("in the fork", os.getpid())
        return int(len(table) * held["by"])

    run = ps.run(ps.Flow(times(ps.read(project / "customers.csv")), name="times"), params={})
    assert run.artifact("times") == 720
    assert run.logs("times").startswith("in the fork")
    assert str(os.getpid()) not in run.logs("times")


def test_parameters_and_forced_steps_are_passed_on(project: Path) -> None:
    assert project
    flow = ps.Flow(doubled(ps.Param("x", 1)), name="doubled")
    assert ps.run(flow, params={"x": 21}).artifact("doubled") == 42
    with pytest.raises(UsageError, match="no such step"):
        ps.run(flow, force=["tripled"])


@ps.step
def doubled(x: int) -> int:
    """Twice a number."""
    return 2 * x


@ps.step
def fails(table: pd.DataFrame) -> int:
    """Fail."""
    raise ValueError("no such thing")


def test_a_failed_step_raises_with_its_own_traceback(project: Path) -> None:
    with pytest.raises(StepError, match="no such thing") as caught:
        ps.run(fails(ps.read(project / "customers.csv")))
    assert 'raise ValueError("no such thing")' in "".join(caught.value.__notes__)
    assert caught.value.run.steps["fails"] == "failed"
    assert caught.value.run.exit_code == 5
    assert "✗" in repr(caught.value.run)
    shown = "\n".join(caught.value._render_traceback_())
    assert "penstock/python" not in shown


def test_only_declarations_and_files_run(project: Path) -> None:
    assert project
    with pytest.raises(UsageError, match="is meant"):
        ps.run(3)
    with pytest.raises(UsageError, match="there is no file"):
        ps.run("nothing.py")


def test_a_file_that_runs_itself_while_it_is_imported_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".penstock").mkdir()
    write_table(tmp_path)
    (tmp_path / "itself.py").write_text(DECLARED + "ps.run('itself.py')\n")
    command = [sys.executable, "-m", "penstock", "plan", "itself.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "__name__ == '__main__'" in done.stderr


SLOW = """
import sys, threading, time
import penstock as ps
threading.Thread(target=time.sleep, args=(300,), daemon=True).start()

@ps.step
def slow(table):
    print("started", flush=True)
    time.sleep(300)

try:
    ps.run(slow(ps.read("customers.csv")))
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(7)
"""


def test_ctrl_c_ends_a_fork_with_its_steps_and_is_on_record(tmp_path: Path) -> None:
    from penstock.engine.processes import descendants

    (tmp_path / ".penstock").mkdir()
    write_table(tmp_path)
    (tmp_path / "page.py").write_text(SLOW)
    script = subprocess.Popen([sys.executable, "page.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    logs = tmp_path / ".penstock" / "logs"
    while time.monotonic() < end and not any("started" in one.read_text() for one in logs.glob("*/worker-*.log")):
        time.sleep(0.05)
    below = descendants(script.pid)
    assert below
    script.send_signal(signal.SIGINT)
    out, _ = script.communicate(timeout=30)
    assert (script.returncode, out) == (7, "interrupted\n")
    assert not [pid for pid in below if os.path.exists(f"/proc/{pid}")]
    home = open_home(str(tmp_path))
    assert home.ledger.runs()[0].state == "cancelled"
    home.ledger.close()


# ── looks ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_workflow_in_words_has_every_field_that_works(churn: Any) -> None:
    from penstock.core.told import workflow_rows
    from penstock.core.workflow import LATER

    fields = [field for _, field, _ in workflow_rows(churn)]
    assert set(fields) == set(churn.__dataclass_fields__) - {"name"} - set(LATER)
    words = {field: text for _, field, text in workflow_rows(churn)}
    assert words["split"] == "20% of rows held out · by key · 5 folds · a row keeps its side"
    assert words["gate"] == "Improves()"
    assert words["data"] == "customers → clean"


def test_html_is_escaped_and_has_no_script(first: Any, churn: Any) -> None:
    hostile = "<script>alert(1)</script>"
    pages = [churn.replace(target=ps.Target("churned", positive=hostile))._repr_html_(), first._repr_html_()]
    pages += [ps.plan(churn)._repr_html_(), first.report._repr_html_()]
    for page in pages:
        assert "<script" not in page
    assert "&lt;script&gt;" in pages[0]
    assert 'sandbox=""' in pages[3]
    text = io.StringIO(pages[1]).read()
    assert "champion: python_churn@1" in text
    assert "penstock serve" in text


# ── what steps log ───────────────────────────────────────────────────────────────────────────────────────────

LOGS = """
import penstock as ps

@ps.step
def drawn(x: int) -> int:
    ps.log(rows=x, curve="<svg xmlns='http://www.w3.org/2000/svg'><text>hostile</text></svg>")
    return x

logged = ps.Flow(drawn(ps.Param("x", 3)), name="logged")
"""


def test_what_a_step_logs_is_kept_shown_reused_and_not_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.store.gc import collect

    (tmp_path / ".penstock").mkdir()
    (tmp_path / "logs_for_python.py").write_text(LOGS)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second reuses it
        logged = ps.run("logs_for_python.py").logged("drawn")
        assert logged["rows"] == 3
        assert logged["curve"].kind == "svg"
        assert b"hostile" in logged["curve"].data
        assert "hostile" not in logged["curve"]._repr_html_()
    shown = subprocess.run(
        [sys.executable, "-m", "penstock", "show", "last~1"], capture_output=True, text=True, check=True
    )
    assert "drawn logged rows 3 · figure curve (svg, " in shown.stdout
    for name in ("last~1", "last"):  # of a reused step those of the run that made its result
        words = ["show", name, "--figures", f"taken-{name}"]
        taken = subprocess.run([sys.executable, "-m", "penstock", *words], capture_output=True, text=True, check=True)
        assert taken.stdout.split() == [f"taken-{name}/drawn-curve.svg"]
        assert Path(f"taken-{name}/drawn-curve.svg").read_bytes() == logged["curve"].data
    home = open_home(".")
    objects: Any = home.objects
    ledger: Any = home.ledger
    assert collect(objects, ledger, grace_s=-10.0, dry_run=True).objects == 0
    assert (
        collect(objects, ledger, grace_s=-10.0, keep_s=-10.0, dry_run=True).objects == 3
    )  # and its run's code and environment
    home.ledger.close()


# ── runs as a table ──────────────────────────────────────────────────────────────────────────────────────────


def test_runs_are_a_table_with_the_figures_of_exploratory_ones_too(first: Any, churn: Any) -> None:
    tried = ps.run(churn.replace(model=LogisticRegression(C=0.01)), note="a weak one")
    table = ps.runs(churn, where="note = 'a weak one' or note = 'the first'", sort="roc_auc")
    assert sorted(row["run"] for row in table) == sorted([tried.id, first.id])
    aucs = [row["roc_auc"] for row in table]
    assert aucs == sorted(aucs, reverse=True)
    weak = next(row for row in table if row["run"] == tried.id)
    assert (weak["kind"], weak["params.model.C"], weak["version"]) == ("exploratory", 0.01, None)
    assert weak["log_loss"] == pytest.approx(tried.metrics.loc["log_loss", "value"])
    assert weak["cpu_s"] > 0
    frame = table.to_pandas()
    assert list(frame["run"]) == [row["run"] for row in table]
    assert abs(frame["started"].iloc[0].timestamp() - table[0]["started"]) < 1e-3
    assert "flow" not in table.columns
    assert f"run:{tried.id[:4]}" in repr(table)
    assert "a weak one" in table._repr_html_()
    assert len(table[:1]) == 1


def test_a_table_of_runs_is_escaped_bounded_and_refuses_what_it_does_not_know(churn: Any) -> None:
    from penstock.python.table import MOST_SHOWN, Runs

    many = Runs([{"run": f"{n:016x}", "note": "<script>"} for n in range(MOST_SHOWN + 3)], ["run", "note"], ["run"])
    assert "<script>" not in many._repr_html_()
    assert "3 more" in many._repr_html_()
    assert "3 more" in repr(many)
    assert repr(Runs([], [], [])) == "no runs"
    assert len(ps.runs("nobody")) == 0
    assert len(ps.runs(churn, limit=1)) == 1
    with pytest.raises(UsageError, match="no column is called"):
        ps.runs(churn, sort="roc_auk")


# ── types of the project's own ───────────────────────────────────────────────────────────────────────────────

HALF = """
from sklearn.base import BaseEstimator, TransformerMixin

class Half(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X / 2
"""
OWN = """
import penstock as ps
from halves_for_python import Half
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

own_churn = ps.Workflow(
    name="own_churn", data=ps.read("customers.csv"), target="churned", key="customer_id", release="never",
    model=make_pipeline(Half(), LogisticRegression()),
)
"""


def test_a_model_with_own_types_is_loaded_while_the_code_here_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".penstock").mkdir()
    write_table(tmp_path)
    (tmp_path / "halves_for_python.py").write_text(HALF)
    (tmp_path / "own_for_python.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert ps.run("own_for_python.py").version == "own_churn@1"
    loaded = ps.load("own_churn@1")
    assert type(loaded[0]).__name__ == "Half"
    assert str(tmp_path) not in sys.path
    (tmp_path / "halves_for_python.py").write_text(HALF.replace("X / 2", "X / 3"))
    with pytest.raises(UsageError, match="was made with another halves_for_python:Half"):
        ps.load("own_churn@1")
    sys.modules.pop("halves_for_python", None)
