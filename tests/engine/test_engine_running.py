"""Flows run for real, in processes: what a step may do to its worker, and what the run makes of it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import penstock
from penstock.engine.processes import descendants
from penstock.lifecycle.run import Request, make_plan, run
from penstock.project import open_home

SOURCE = os.path.dirname(os.path.dirname(penstock.__file__))
STEPS = """
    import os, subprocess, sys, time
    import pandas as pd
    import penstock as ps

    @ps.step
    def one() -> dict:
        return {"x": 1}

    @ps.step
    def table(n: int = 4) -> pd.DataFrame:
        print("making", n)
        return pd.DataFrame({"a": range(n), "b": [0.5] * n})

    @ps.step
    def doubled(t: pd.DataFrame) -> pd.DataFrame:
        t["a"] *= 2
        return t

    @ps.step
    def total(t: pd.DataFrame, other: pd.DataFrame) -> dict:
        return {"total": t.a.sum() + other.b.sum()}
"""


class Project:
    """A folder with one file of steps and one flow a test."""

    def __init__(self, folder):
        self.folder = folder
        self.write("steps.py", STEPS)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return str(path)

    def flow(self, text, name="flow_of_test.py"):
        head = "import os, subprocess, sys, time\nimport pandas as pd\nimport penstock as ps\n"
        return self.write(name, head + "from steps import doubled, one, table, total\n" + textwrap.dedent(text))

    def run(self, file, **options):
        home = open_home(str(self.folder))
        return run(home, Request(file, **options), "penstock.worker", rehearse=lambda *_: 0)

    def states(self, file, **options):
        return self.run(file, **options).outcome.states

    def command(self, *arguments):
        return [sys.executable, "-m", "penstock", *arguments]

    def start(self, *arguments):
        environment = {**os.environ, "PYTHONPATH": SOURCE}
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


# ── what runs, and what is used again ───────────────────────────────────────────────────────────────────────────


def test_a_second_run_reuses_all_and_a_changed_helper_runs_its_users_only(project):
    project.write("helper.py", "FACTOR = 2\ndef grown(t):\n    return t.assign(a=t.a * FACTOR)\n")
    file = project.flow("""
        import helper

        @ps.step
        def grown(t: pd.DataFrame) -> pd.DataFrame:
            return helper.grown(t)

        out = total(grown(table.ref()), table.ref(name="other"))
    """)
    first = project.run(file)
    assert first.error is None
    assert set(first.outcome.states.values()) <= {"done", "reused"}
    assert set(project.states(file).values()) == {"reused"}
    project.write("helper.py", "# a comment\nFACTOR = 3\ndef grown(t):\n    return t.assign(a=t.a * FACTOR)\n")
    again = project.run(file)
    assert again.outcome.states == {"table": "reused", "other": "reused", "grown": "done", "total": "done"}
    assert str(again.outcome.decisions["grown"].reason) == "code changed: FACTOR in helper.py"


def test_an_equal_output_cuts_the_rest_off(project):
    file = project.flow("out = total(doubled(table.ref()), table.ref(name='other'))")
    project.run(file)
    project.write("steps.py", STEPS.replace('print("making", n)', 'print("made", n)'))
    states = project.states(file)
    assert states["table"] == "done"
    assert states["doubled"] == states["total"] == "reused"


def test_two_equal_calls_run_once(project):
    file = project.flow("out = total(table.ref(), table.ref())")
    assert sorted(project.states(file).values()) == ["done", "done", "reused"]


def test_what_a_step_gets_is_a_copy(project):
    file = project.flow("""
        raw = table.ref()
        out = total(doubled(raw), raw)
    """)
    report = project.run(file)
    home = open_home(str(project.folder))
    assert report.value(home, "total") == {"total": 2 * 6 + 2.0}
    assert report.value(home, "table").a.tolist() == [0, 1, 2, 3]


def test_force_and_until(project):
    file = project.flow("out = doubled(table.ref())")
    assert project.states(file, until="table") == {"table": "done"}
    assert project.states(file) == {"table": "reused", "doubled": "done"}
    assert project.states(file, force=("doubled",)) == {"table": "reused", "doubled": "done"}


def test_parameters_are_typed_and_belong_to_the_recipe(project):
    file = project.flow("out = table(ps.Param('n', 4))")
    project.run(file)
    report = project.run(file, params={"n": "6"})
    assert report.outcome.states == {"table": "done"}
    assert str(report.outcome.decisions["table"].reason).startswith("parameter changed")
    assert len(report.value(open_home(str(project.folder)), "table")) == 6


def test_what_a_step_prints_is_in_its_log(project):
    file = project.flow("out = doubled(table.ref())")
    report = project.run(file)
    logs = project.folder / ".penstock" / "logs" / report.outcome.run.id
    assert [path.name for path in logs.iterdir()] == ["table.log"]
    assert (logs / "table.log").read_text() == "making 4\n"


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────────

BAD = [
    ("raise ValueError('no ' + 'good')", "StepError", "ValueError: no good"),
    ("sys.exit(3)", "StepError", "called sys.exit(3)"),
    ("os._exit(99)", "StepKilledError", "exit code 99"),
    ("os.kill(os.getpid(), 9)", "StepKilledError", "SIGKILL"),
    ("return object()", "StepOutputError", "builtins.object"),
]


@pytest.mark.parametrize(("body", "kind", "words"), BAD)
def test_a_step_that_fails_ends_the_run_and_keeps_what_was_done(project, body, kind, words):
    file = project.flow(f"""
        @ps.step
        def bad(d: dict):
            {body}

        out = bad(one.ref())
    """)
    report = project.run(file)
    assert report.outcome.states == {"one": "done", "bad": "failed"}
    assert type(report.error).__name__ == kind
    assert words in str(report.error)
    assert report.exit_code == report.error.exit_code
    assert project.states(file)["one"] == "reused"


def test_a_failure_shows_the_users_frames_and_none_of_ours(project):
    file = project.flow("""
        def deeper(d):
            raise ValueError("here")

        @ps.step
        def bad(d: dict) -> dict:
            return deeper(d)

        out = bad(one.ref())
    """)
    error = project.run(file).error
    assert "in deeper" in error.traceback
    assert "in bad" in error.traceback
    assert os.path.dirname(penstock.__file__) not in error.traceback


def test_a_wrong_type_is_told(project):
    file = project.flow("""
        @ps.step
        def bad(d: dict) -> pd.DataFrame:
            return None

        out = bad(one.ref())
    """)
    assert "returned nothing (None)" in str(project.run(file).error)


def test_outputs_that_were_not_declared_are_told(project):
    file = project.flow("""
        @ps.step(outputs=("left", "right"))
        def halves(d: dict):
            return 1, 2, 3

        left, right = halves(one.ref())
    """)
    assert "declared 2 outputs (left, right) and returned 3 values" in str(project.run(file).error)


def test_a_step_over_its_time_is_ended_with_its_children(project):
    mark = f"7{os.getpid()}"
    file = project.flow(f"""
        @ps.step(timeout_s=0.5)
        def hangs(d: dict) -> dict:
            subprocess.Popen(["sleep", "{mark}"], start_new_session=True)
            subprocess.run(["sleep", "{mark}"])

        out = hangs(one.ref())
    """)
    report = project.run(file)
    assert type(report.error).__name__ == "StepTimeoutError"
    assert "limit of 0.5 s" in str(report.error)
    found = subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, text=True, check=False)
    assert found.stdout.split() == []


def test_a_step_over_its_memory_is_ended(project):
    file = project.flow("""
        @ps.step(memory="250MiB")
        def eats(d: dict) -> dict:
            kept = []
            while True:
                kept.append(bytearray(20_000_000))
                time.sleep(0.01)

        out = eats(one.ref())
    """)
    report = project.run(file)
    assert type(report.error).__name__ == "StepMemoryError"
    assert "250 MiB" in str(report.error)


def test_retries_with_back_off(project):
    count = project.folder / "count"
    file = project.flow(f"""
        @ps.step(retries=2, backoff_s=0.05)
        def flaky(d: dict) -> int:
            path = {str(count)!r}
            tries = int(open(path).read()) + 1 if os.path.exists(path) else 1
            open(path, "w").write(str(tries))
            if tries < 3:
                raise RuntimeError("again")
            return tries

        out = flaky(one.ref())
    """)
    report = project.run(file)
    assert report.error is None
    assert report.value(open_home(str(project.folder)), "flaky") == 3
    rows = open_home(str(project.folder)).ledger.step_runs(report.outcome.run.id)
    assert [(r.attempt, r.state) for r in rows if r.step == "flaky"] == [(1, "failed"), (2, "failed"), (3, "done")]


def test_no_retry_of_what_cannot_get_better(project):
    file = project.flow("""
        @ps.step(retries=3)
        def bad(d: dict) -> pd.DataFrame:
            return 5

        out = bad(one.ref())
    """)
    report = project.run(file)
    rows = open_home(str(project.folder)).ledger.step_runs(report.outcome.run.id)
    assert sum(r.step == "bad" for r in rows) == 1


# ── damage, signals, death ──────────────────────────────────────────────────────────────────────────────────────


def test_a_damaged_artifact_is_made_again_and_never_used(project):
    file = project.flow("out = doubled(table.ref())")
    report = project.run(file)
    digest = report.outcome.artifacts["table", ""].digest
    path = project.folder / ".penstock" / "objects" / digest[:2] / digest[2:]
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = project.run(file, force=("doubled",))
    assert again.error is None
    assert again.outcome.artifacts["doubled", ""].digest == report.outcome.artifacts["doubled", ""].digest
    assert str(again.outcome.decisions["table"].reason).startswith("artifact corrupt")
    assert path.read_bytes() != bytes(data)


def test_a_deleted_artifact_is_made_again(project):
    file = project.flow("out = doubled(table.ref())")
    report = project.run(file)
    digest = report.outcome.artifacts["doubled", ""].digest
    open_home(str(project.folder)).objects.delete(digest)
    _, plan, _ = make_plan(open_home(str(project.folder)), Request(file), "penstock.worker")
    assert [str(d.reason) for d in plan.decisions if d.step == "doubled"] == [f"artifact missing: {digest[:12]}"]
    assert project.states(file) == {"table": "reused", "doubled": "done"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_cancelled_run_is_on_record_and_goes_on_where_it_stopped(project, number, code):
    mark = project.folder / "waiting"
    file = project.flow(
        f"""
        @ps.step
        def waits(t: pd.DataFrame) -> dict:
            open({str(mark)!r}, "w").write(str(os.getpid()))
            time.sleep({{}})
            return {{"done": True}}

        out = waits(table.ref())
    """.replace("{}", "60")
        .replace("{{", "{")
        .replace("}}", "}")
    )
    process = project.start("run", file)
    worker = int(wait_for(lambda: mark.exists() and mark.read_text()))
    process.send_signal(number)
    text = process.communicate(timeout=20)[0]
    assert process.returncode == code, text
    assert not alive(worker)
    home = open_home(str(project.folder))
    [row] = home.ledger.runs(limit=1)
    assert row.state == "cancelled"
    assert project.states(file, until="table") == {"table": "reused"}


def test_killing_the_coordinator_ends_server_workers_and_grandchildren(project):
    mark = project.folder / "waiting"
    file = project.flow(f"""
        @ps.step
        def waits(t: pd.DataFrame) -> dict:
            child = subprocess.Popen(["sleep", "300"])
            open({str(mark)!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
            time.sleep(60)
            return {{}}

        out = waits(table.ref())
    """)
    process = project.start("run", file)
    pids = [int(word) for word in wait_for(lambda: mark.exists() and mark.read_text()).split()]
    below = descendants(process.pid)
    time.sleep(0.3)  # a group of results is durable 100 ms after the first of it
    process.kill()
    process.communicate(timeout=10)
    wait_for(lambda: not any(alive(pid) for pid in {*pids, *below}))
    again = project.run(file, until="table")
    assert again.outcome.states == {"table": "reused"}, again.outcome.decisions


def test_a_source_that_changes_is_read_as_it_was_hashed(project):
    data = project.folder / "rows.csv"
    data.write_text("a,b\n1,2\n3,4\n")
    file = project.flow("out = doubled(ps.read('rows.csv'))")
    project.run(file)
    data.write_text("a,b\n1,2\n3,4\n5,6\n")
    report = project.run(file)
    assert report.outcome.states == {"rows": "done", "doubled": "done"}
    assert str(report.outcome.decisions["rows"].reason) == "input changed: rows.csv"
    assert report.value(open_home(str(project.folder)), "doubled").a.tolist() == [2, 6, 10]


# ── the file ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("random.py", "x = 1", "a library is called 'random' too"),
        ("data-1.py", "x = 1", "no name that Python can import"),
        ("empty_one.py", "x = 1", "no workflow in it"),
        ("raising.py", "raise KeyError('lost')", "KeyError: 'lost'"),
        ("ending.py", "import os; os._exit(7)", "ended with exit code 7"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_a_sentence(project, name, text, words):
    file = project.write(name, text)
    with pytest.raises(penstock.PenstockError, match=words.replace("(", r"\(")):
        project.run(file)


def test_a_file_in_a_package_has_its_dotted_name(project):
    (project.folder / "shop").mkdir()
    project.write("shop/__init__.py", "")
    project.write("shop/tools.py", "def grow(x):\n    return x + 1\n")
    file = project.write(
        "shop/flow_in_package.py",
        """
        import penstock as ps
        from . import tools

        @ps.step
        def grown(x: int) -> int:
            return tools.grow(x)

        out = grown.ref(1)
        """,
    )
    report = project.run(file)
    assert report.graph.node("grown").entry == "shop.flow_in_package:grown"
    project.write("shop/tools.py", "def grow(x):\n    return x + 2\n")
    assert project.states(file) == {"grown": "done"}


def test_byte_code_stays_out_of_the_work_tree(project, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    file = project.flow("out = one.ref()")
    for path in project.folder.glob("*.py"):
        os.utime(path, (1.7e9, 1.7e9))
    project.run(file)
    assert not list(project.folder.glob("__pycache__"))
    assert list((project.folder / ".penstock" / "pycache").rglob("*.pyc"))


def test_a_file_whose_import_starts_threads_gets_spawned_workers(project):
    file = project.flow("""
        import threading

        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        out = doubled(table.ref())
    """)
    report = project.run(file)
    assert report.error is None
    assert report.outcome.states == {"table": "done", "doubled": "done"}


def test_the_coordinator_imports_nothing_heavy(project):
    file = project.flow("out = doubled(table.ref())")
    code = (
        "import sys, json; from penstock.project import open_home; from penstock.lifecycle.run import Request, run;"
        f"report = run(open_home({str(project.folder)!r}), Request({file!r}), 'penstock.worker', rehearse=None);"
        "assert report.error is None, report.error;"
        "print(json.dumps(sorted({'pandas', 'numpy', 'sklearn', 'pyarrow', 'polars', 'skops', 'rich', 'asyncio',"
        " 'subprocess'} & set(sys.modules))))"
    )
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout) == []


def test_an_edit_within_the_same_second_is_never_run_as_it_was(project, monkeypatch):
    """Byte code is told by size and second: without care the second run would keep 2 under the recipe of 3."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    text = """
        @ps.step
        def number() -> int:
            return 2

        out = number.ref()
    """
    home = open_home(str(project.folder))
    assert project.run(project.flow(text)).value(home, "number") == 2
    file = project.flow(text.replace("return 2", "return 3"))
    now = time.time()
    os.utime(file, (now, now))
    assert project.run(file).value(home, "number") == 3
