"""Ends: Ctrl-C, SIGTERM, kill -9 of coordinator or server; spawned workers; two runs at once; damage between runs."""

import json
import os
import signal
import subprocess
import time

import pytest

from penstock.engine import processes
from penstock.engine.handle import Server
from penstock.errors import DeclarationError, StepKilledError
from penstock.store.fsck import fsck

SLOW = """
@ps.step
def first(x: int) -> int:
    return x

@ps.step
def slow(x: int) -> int:
    if os.path.exists({root!r} + "/go"):
        return x + 1
    child = subprocess.Popen(["sleep", "60"])
    away = subprocess.Popen(["sleep", "60"], start_new_session=True)
    for name, pid in (("server", os.getppid()), ("worker", os.getpid()), ("child", child.pid), ("away", away.pid)):
        with open({root!r} + "/" + name + ".part", "w") as file:
            file.write(str(pid))
        os.replace({root!r} + "/" + name + ".part", {root!r} + "/" + name)
    time.sleep(60)
    return 0

out = slow(first(ps.Param("x", 1)))
"""
# A thread under another name than Python's own, as a library's pool has.
THREAD = """
import threading

def pool():
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as file:
        file.write("pool")
    ready.set()
    threading.Event().wait()

ready = threading.Event()
threading.Thread(target=pool, daemon=True).start()
ready.wait()
"""
NAMES = ("server", "worker", "child", "away")


def slow(project, head=""):
    project.write(head + SLOW.replace("{root!r}", repr(str(project.root))))
    return project.start()


def ended(process):
    """Exit code of a coordinator, its output read."""
    text, _ = process.communicate(timeout=20)
    return process.returncode, text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_run_and_the_next_goes_on(project, number, code):
    process = slow(project)
    pids = project.pids(*NAMES)
    process.send_signal(number)
    assert ended(process)[0] == code
    assert project.survivors(*pids) == []
    home = project.home()
    assert home.ledger.runs()[0].state == "cancelled"
    assert [f for f in fsck(home.objects, home.ledger) if f.fault] == []
    (project.root / "go").touch()
    report = project.run()
    assert report.outcome.states == {"first": "reused", "slow": "done"}


@pytest.mark.parametrize("head", ["", THREAD], ids=["forked", "spawned"])
def test_nothing_survives_a_coordinator_that_is_killed(project, head):
    process = slow(project, head)
    pids = project.pids(*NAMES)
    if head:
        assert pids[0] == process.pid  # a spawned worker is the coordinator's own child
    process.kill()
    process.wait()
    assert project.survivors(*pids) == []
    process.stdout.close()
    (project.root / "go").touch()
    assert project.run().outcome.states["slow"] == "done"


def test_a_coordinator_killed_while_the_file_is_imported_leaves_nothing(project):
    project.write(f"open({str(project.root / 'importer')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n")
    process = project.start()
    [pid] = project.pids("importer")
    process.kill()
    ended(process)
    assert project.survivors(pid) == []


def test_control_c_while_the_file_is_imported_does_not_wait_for_it(project):
    project.write(f"open({str(project.root / 'importer')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n")
    process = project.start()
    [pid] = project.pids("importer")
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - began < 5  # as long as a server that has imported is waited for
    assert project.survivors(pid) == []


def test_a_server_that_is_killed_fails_the_step_in_a_sentence(project):
    process = slow(project)
    pids = project.pids(*NAMES)
    os.kill(pids[0], signal.SIGKILL)
    code, text = ended(process)
    assert (code, "its process ended" in text) == (5, True)
    assert project.survivors(*pids[:3]) == []
    os.kill(pids[3], signal.SIGKILL)  # in a session of its own, and nobody is left who knew of it
    assert project.home().ledger.runs()[0].state == "failed"


def test_retries_cannot_go_on_without_a_server(project):
    project.write(
        """
        @ps.step(retries=2, backoff_s=0.01)
        def kills(x: int) -> int:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(5)

        out = kills(ps.Param("x", 1))
        """
    )
    with pytest.raises(StepKilledError, match="starts workers has ended"):
        project.run()
    assert project.home().ledger.runs()[0].state == "failed"


# ── native threads in the import ────────────────────────────────────────────────────────────────────────────


def test_after_an_import_with_threads_workers_are_spawned_and_all_else_is_the_same(project):
    project.write(
        THREAD
        + """
@ps.step
def who(x: int) -> list:
    print("hello")
    return [os.getpid(), os.getppid()]

@ps.step(timeout_s=0.5)
def hangs(x: list) -> int:
    if x:
        time.sleep(60)
    return 1

@ps.step
def ends(x: int) -> int:
    os._exit(4)

a = who(ps.Param("x", 1))
flow_who = ps.Flow(a, name="who")
flow_hangs = ps.Flow(hangs(a), name="hangs")
flow_ends = ps.Flow(ends(ps.Param("x", 1)), name="ends")
"""
    )
    report = project.run(variable="flow_who")
    worker, parent = project.value(report, "who")
    assert parent == os.getpid()  # not forked by a server, but started by this coordinator
    assert project.survivors(worker) == []
    assert (project.root / ".penstock/logs" / report.outcome.run.id / "who.log").read_text() == "hello\n"
    assert "limit of 0.5 s" in project.run(variable="flow_hangs").error.what
    assert "exit code 4" in project.run(variable="flow_ends").error.what


def test_control_without_threads_workers_are_forked(project):
    """The choice follows the threads that are there, nothing else; Python's own are quiet."""
    project.write(
        """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()

        @ps.step
        def who(x: int) -> int:
            return os.getppid()

        out = who(ps.Param("x", 1))
        """
    )
    assert project.value(project.run(), "who") != os.getpid()


# ── between and beside runs ─────────────────────────────────────────────────────────────────────────────────

TABLES = """
@ps.step
def make(n: int) -> bytes:
    return b"made" * n

@ps.step
def use(x: bytes, y: int) -> bytes:
    time.sleep(0.05)
    return x + str(y).encode()

flow = ps.Flow(*[use(make(ps.Param("n", 2000)), i, name=f"use{i}") for i in range(4)], name="tables")
"""


def bytes_of(project, report):
    home = project.home()
    return {
        key: home.objects.read(a.digest) if a.text is None else a.text for key, a in report.outcome.artifacts.items()
    }


HELPED = """
import helper

@ps.step
def make(n: int) -> list:
    print("making")
    return list(range(n))

@ps.step
def grown(x: list) -> list:
    return helper.grown(x)

@ps.step
def total(x: list, y: list) -> int:
    return sum(x) + sum(y)

table = make(ps.Param("n", 4))
out = total(grown(table), table)
"""
HELPER = "FACTOR = 2\n\ndef grown(x):\n    return [FACTOR * each for each in x]\n"


def test_a_changed_helper_runs_its_users_only_and_an_equal_output_nothing_after_it(project):
    project.write(HELPER, "helper.py")
    project.write(HELPED)
    assert project.run().error is None
    assert set(project.run().outcome.states.values()) == {"reused"}
    project.write("# a comment\n" + HELPER.replace("= 2", "= 3"), "helper.py")
    changed = project.run().outcome
    assert changed.states == {"make": "reused", "grown": "done", "total": "done"}
    assert str(changed.decisions["grown"].reason) == "code changed: FACTOR in helper.py"
    project.write(HELPED.replace("making", "made"))
    assert project.run().outcome.states == {"make": "done", "grown": "reused", "total": "reused"}


def test_a_flipped_bit_is_found_and_its_maker_runs_again(project):
    project.write(TABLES)
    first = project.run()
    before = bytes_of(project, first)
    digest = first.outcome.artifacts["make", ""].digest
    path = project.home().objects.fetch(digest)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.write(b"M")
    report = project.run(force=("use0", "use1", "use2", "use3"))
    assert report.error is None, report.error
    assert report.outcome.states["make"] == "done"
    assert report.outcome.decisions["make"].reason.why == "corrupt"
    assert bytes_of(project, report) == before
    home = project.home()
    assert [f for f in fsck(home.objects, home.ledger) if f.fault] == []


def test_two_runs_at_once_both_end_well(project):
    project.write(TABLES)
    both = [project.start(), project.start()]
    assert [ended(process)[0] for process in both] == [0, 0]
    home = project.home()
    assert [run.state for run in home.ledger.runs()] == ["done", "done"]
    assert [f for f in fsck(home.objects, home.ledger) if f.fault] == []
    assert set(project.run().outcome.states.values()) == {"reused"}


def test_a_run_on_a_source_uses_the_bytes_that_were_hashed(project):
    """The file changes while it is being read: what is on record is what was used, or the run says so."""
    source = project.root / "t.csv"
    project.write(
        """
        @ps.step
        def total(table: "pandas.DataFrame") -> int:
            return int(table["a"].sum())

        out = total(ps.read("t.csv"))
        """
    )
    source.write_text("a\n" + "1\n" * 1000)

    def change(event):
        if event.kind == "started" and event.step == "t":
            source.write_text("a\n" + "2\n" * 1000)

    project.events = type("Listen", (), {"append": staticmethod(change)})
    report = project.run()
    assert report.error is None, report.error
    total = project.value(report, "total")
    import hashlib

    expected = {hashlib.sha256(("a\n" + f"{n}\n" * 1000).encode()).hexdigest(): n * 1000 for n in (1, 2)}
    rows = {row.recipe for row in project.home().ledger.step_runs(report.outcome.run.id) if row.step == "t"}
    [result] = project.home().ledger.results(rows).values()
    assert expected[result.source] == total
    project.events = []
    source.write_text("a\n" + "3\n" * 1000)
    again = project.run()
    assert again.outcome.states == {"t": "done", "total": "done"}
    assert str(again.outcome.decisions["t"].reason) == "input changed: t.csv"
    assert project.value(again, "total") == 3000


def test_a_source_that_changes_each_time_it_is_read_ends_in_a_sentence(project):
    source = project.root / "t.csv"
    source.write_text("a\n1\n")
    project.write("out = ps.read('t.csv')\n")
    count = iter(range(100))

    def change(event):
        if event.kind == "started":
            source.write_text(f"a\n{next(count)}\n")

    project.events = type("Listen", (), {"append": staticmethod(change)})
    report = project.run()
    assert report.exit_code == 3
    assert "changed" in report.error.what


def test_a_missing_source_is_a_usage_error(project):
    from penstock.errors import SourceNotFoundError

    project.write("out = ps.read('nowhere.csv')\n")
    with pytest.raises(SourceNotFoundError, match="relative to the file"):
        project.run()


# ── the conversation itself ─────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_fails_gives_its_fault_and_no_process(project):
    project.write("raise ValueError('nothing works')\n")
    with pytest.raises(DeclarationError, match="nothing works"):
        project.run()


def test_the_import_may_print_and_read_as_it_likes(project):
    project.write("print('hello')\nassert sys.stdin.read() == ''\nout = ps.read('t.csv')\n")
    (project.root / "t.csv").write_text("a\n1\n")
    assert project.run().error is None


def test_where_no_process_can_be_started_nothing_is_left_open(monkeypatch):
    def refused(*_words, **_options):
        raise OSError("no more processes")

    monkeypatch.setattr(processes, "spawn", refused)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="no more processes"):
        Server(["nothing"], {}).start()
    assert os.listdir("/proc/self/fd") == before


def test_a_stranger_who_starts_the_worker_is_told(project):
    import sys

    done = subprocess.run([sys.executable, "-m", "penstock.worker"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "started by penstock itself" in done.stderr


def test_the_coordinator_imports_nothing_heavy(project):
    project.write(
        """
        import pandas as pd

        @ps.step
        def table(n: int) -> pd.DataFrame:
            return pd.DataFrame({"a": range(n)})

        @ps.step
        def doubled(t: pd.DataFrame) -> pd.DataFrame:
            return 2 * t

        out = doubled(table(ps.Param("n", 4)))
        """
    )
    heavy = ["pandas", "numpy", "sklearn", "pyarrow", "polars", "skops", "rich", "asyncio", "subprocess"]
    process = project.start(then=f"print([name for name in {heavy} if name in sys.modules])")
    code, text = ended(process)
    assert (code, text.splitlines()[-1]) == (0, "[]")


def test_a_lambda_is_never_a_wrong_hit(project):
    """It has no name to be known by, so its step runs whenever its text may have changed."""
    for body, value in (("x + 1", 2), ("x + 2", 3)):
        project.write(f"out = ps.step(lambda x: {body})(ps.Param('x', 1), name='made')\n")
        report = project.run()
        assert (report.outcome.states["made"], project.value(report, "made")) == ("done", value)


def test_a_lambda_inside_the_arguments_makes_the_step_not_cacheable_by_name(project):
    project.write(
        """
        @ps.step
        def apply(x: int, f) -> int:
            return f(x)

        out = apply(ps.Param("x", 1), f=lambda x: x + 1)
        """
    )
    for _ in range(2):
        report = project.run()
        assert report.outcome.states == {"apply": "done"}
    assert "parameter f" in str(report.outcome.decisions["apply"].reason)


def test_rows_on_record_are_plain_json(project):
    project.write(TABLES)
    report = project.run()
    row = project.home().ledger.runs()[0]
    assert json.loads(json.dumps(dict(row.info)))["file"] == "flows.py"
    assert row.id == report.outcome.run.id
