"""kill -9 of a workflow's run at random moments, with all its processes: the next run ends as if nothing had been."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import penstock
from penstock.engine.processes import descendants
from penstock.project import open_home
from penstock.store.fsck import fsck
from penstock.store.objects import DirectoryObjects

SOURCE = str(Path(penstock.__file__).parent.parent)
FLOW = """
import time
import penstock as ps
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

@ps.step
def ratio(table):
    time.sleep(0.15)
    return table.assign(ratio=table["income"] / table["age"])

@ps.step
def older(table):
    time.sleep(0.15)
    return table[table["age"] >= 20]

data = older(ratio(ps.read("people.csv")))
churn = ps.Workflow(
    name="churn", data=data, target="churned", key="id", metrics=["roc_auc"],
    model=make_pipeline(StandardScaler(), LogisticRegression()), split=ps.Split(folds=2),
)
"""
DRIVER = """
import sys
from penstock.project import open_home
from penstock.lifecycle.run import Request, run
file = sys.argv[1]
home = open_home(file, {"jobs": 2})
told = lambda event: print(event.kind, event.step, flush=True)
report = run(home, Request(file, allow_dirty=True), "penstock.worker", rehearse=lambda *_: 1, listen=told)
assert report.error is None, report.error
sys.exit(report.exit_code)
"""


def write(root):
    """The table and the file; the positive class depends on the income."""
    draw = random.Random(0)
    rows = ["id,age,income,churned"]
    for i in range(400):
        age, income = draw.randint(18, 80), draw.randint(1, 100)
        rows.append(f"{i},{age},{income},{int(income + draw.gauss(0, 25) > 50)}")
    (root / "people.csv").write_text("\n".join(rows) + "\n")
    (root / "churn.py").write_text(FLOW)
    (root / "penstock.toml").write_text('release = "auto"')
    old = time.time() - 3600
    os.utime(root / "people.csv", (old, old))


class Runs:
    """Runs of one project, each in a session of its own; `elsewhere` gives settings of an empty store and ledger."""

    def __init__(self, root, sabotage="", elsewhere=None):
        self.root, self.code, self.elsewhere = root, sabotage + DRIVER, elsewhere
        write(root)
        self.forget()

    def start(self):
        environment = os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-c", self.code, str(self.root / "churn.py")]
        with open(self.output(), "wb") as output:
            return subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

    def output(self):
        return self.root / "output"

    def finish(self):
        """Run to the end; gives its exit code."""
        process = self.start()
        try:
            return process.wait(timeout=100)
        finally:
            process.kill()

    def events(self):
        """How many things the present run has told of."""
        return (self.root / "output").read_bytes().count(b"\n")

    def kill_after(self, events, seconds, whom):
        """Kill a run; gives the processes that it had. The coordinator, a worker, or every process in one go."""
        process = self.start()
        while self.events() < events and process.poll() is None:
            time.sleep(0.002)
        time.sleep(seconds)
        pids = [process.pid, *descendants(process.pid)]
        for pid in {"coordinator": pids[:1], "all": pids, "worker": pids[-1:]}[whom]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait(100)  # a run whose worker was killed says so, or ends well with another
        return pids

    def forget(self):
        """A fresh store."""
        for name in ("objects", "staging", "tmp", "quarantine", "logs", "reports"):
            shutil.rmtree(self.root / ".penstock" / name, ignore_errors=True)
        for name in ("ledger.db", "ledger.db-journal", "format"):
            (self.root / ".penstock" / name).unlink(missing_ok=True)
        if self.elsewhere is not None:
            shutil.rmtree(self.root / ".penstock", ignore_errors=True)
            (self.root / "penstock.toml").write_text(f'release = "auto"\n{self.elsewhere()}')

    def state(self):
        """What the ledger holds that a second run must give again: results by recipe, versions, moves."""
        home = open_home(str(self.root))
        results = {r.recipe: [a.digest for a in r.outputs] for r in home.ledger.results(home.ledger.recipes()).values()}
        streams = {name: [_lasting(e.body) for e in home.ledger.stream(name)] for name in home.ledger.streams()}
        faults = [f for f in fsck(home.objects, home.ledger) if f.fault]
        home.ledger.close()
        return results, streams, faults

    def made_anew(self, before):
        """Steps that the last run ran although their results were on record."""
        home = open_home(str(self.root))
        [last] = home.ledger.runs(limit=1)
        ran = [row.step for row in home.ledger.step_runs(last.id) if row.action == "run" and row.recipe in before]
        home.ledger.close()
        return ran

    def survivors(self, pids):
        end = time.monotonic() + 1.0
        while time.monotonic() < end and any(map(running, pids)):
            time.sleep(0.01)
        return [pid for pid in pids if running(pid)]


def _lasting(body):
    """A decision without the id of the run that took it, and without the record that holds this id too."""
    kept = {key: value for key, value in body.items() if key != "run"}
    return kept | {"artifacts": {k: v for k, v in body.get("artifacts", {}).items() if k != "record"}}


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


WHOM = ("coordinator", "all", "worker")


def rounds(root, number, seed, between=(0.0, 1.0), elsewhere=None, whom=WHOM):
    """Kill and run again on fresh stores; gives every breach, and how many kills fell between two results.

    `between`: the part of a run's events in which its kills fall.
    """
    runs, found, inside = Runs(root, elsewhere=elsewhere), [], 0
    assert runs.finish() == 0, (root / "output").read_text()
    events = runs.events()
    results, streams, faults = runs.state()
    assert faults == []
    assert streams["churn/alias/champion"][0]["version"] == 1
    draw = random.Random(seed)
    for i in range(number):
        runs.forget()
        after, seconds = max(round(events * draw.uniform(*between)), 1), draw.uniform(0, 0.15)
        pids = runs.kill_after(after, seconds, whom[i % len(whom)])
        place = f"seed {seed}, round {i}, {whom[i % len(whom)]}, {seconds:.3f} s after event {after}"
        found += [f"{place}: process {pid} survives" for pid in runs.survivors(pids)]
        before, decided, faults = runs.state()
        inside += bool(before) and (len(before) < len(results) or len(decided) < len(streams))
        found += [f"{place}: after the kill: {fault.what}" for fault in faults]
        if runs.finish() != 0:
            found.append(f"{place}: the next run failed: {(root / 'output').read_text()[-300:]}")
            continue
        after, then, faults = runs.state()
        found += [f"{place}: {fault.what}" for fault in faults]
        found += [f"{place}: made anew though it was done: {step}" for step in runs.made_anew(before)]
        found += [
            f"{place}: other bytes of {recipe[:12]}" for recipe in results if after.get(recipe) != results[recipe]
        ]
        found += [f"{place}: other decisions: {name}" for name in streams if then.get(name) != streams[name]]
    return found, inside


def test_two_kills(tmp_path):
    """Amid a run: once its coordinator alone, once all its processes. `test_many_kills` kills at every moment."""
    found, inside = rounds(tmp_path, 2, seed=7, between=(0.3, 0.8), whom=WHOM[:2])
    assert found == []
    assert inside == 2


@pytest.fixture
def shared(postgres_server, s3):
    """Settings of an empty folder of a bucket and an empty database, new at each call."""
    made = []

    def elsewhere():
        made.append(postgres_server.create_database())
        return f'store = "{s3}/{len(made)}"\nledger = "{postgres_server.url(made[-1])}"\n'

    yield elsewhere
    for name in made:
        postgres_server.drop_database(name)


def test_a_worker_killed_with_a_bucket_and_a_shared_ledger(tmp_path, shared):
    found, inside = rounds(tmp_path, 1, seed=3, between=(0.4, 0.6), elsewhere=shared, whom=WHOM[2:])
    assert found == []
    assert inside == 1


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_many_kills_with_a_bucket_and_a_shared_ledger(tmp_path, shared, report):
    began, number = time.monotonic(), 8
    found, inside = rounds(tmp_path, number, seed=2027, elsewhere=shared)
    report(
        f"bucket and PostgreSQL: {number} kills (seed 2027), {inside} of them between the first result and the last: "
        f"{len(found)} breaches, {time.monotonic() - began:.0f} s"
    )
    assert found == []
    assert inside >= number // 3


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_four_machines_run_the_same_at_once(tmp_path, shared, report):
    """Each with copies of its own: they agree on every byte, on one version and one champion."""
    settings, began = shared(), time.monotonic()
    machines = []
    for name in "abcd":
        (tmp_path / name).mkdir()
        machines.append(Runs(tmp_path / name, elsewhere=lambda: settings))
    processes = [machine.start() for machine in machines]
    assert [process.wait(300) for process in processes] == [0] * 4, [m.output().read_text() for m in machines]
    results, streams, faults = machines[0].state()
    assert faults == []
    assert [len(streams[name]) for name in ("churn/version", "churn/alias/champion", "churn/deployment")] == [1, 1, 1]
    home = open_home(str(tmp_path / "a"))
    ran = [row for run in home.ledger.runs(limit=9) for row in home.ledger.step_runs(run.id) if row.action == "run"]
    home.ledger.close()
    outputs = {(row.recipe, tuple(one.digest for one in row.outputs)) for row in ran if row.recipe in results}
    assert len(outputs) == len({recipe for recipe, _ in outputs})  # whoever made it, the same bytes
    report(f"4 runs at once: {len(ran)} steps run for {len(outputs)} results, {time.monotonic() - began:.0f} s")


def test_a_full_disk_below_the_copies_ends_a_run_in_a_sentence(tmp_path, shared):
    """The store is a bucket; this machine's disk is full. Nothing is half registered, and with room all goes on."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount: full disks are not tested")
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("no tmpfs can be mounted here: full disks are not tested")
    try:
        settings = shared()
        runs = Runs(place, elsewhere=lambda: settings)
        runs.output = lambda: tmp_path / "output"  # what it says has room
        space = os.statvfs(place)
        with open(place / "filler", "wb") as filler:
            filler.write(bytes(space.f_bavail * space.f_frsize - 60_000))
        assert runs.finish() != 0
        assert "full" in runs.output().read_text()
        os.unlink(place / "filler")
        results, streams, faults = runs.state()
        assert faults == []
        assert not any(name.endswith(("/version", "/champion")) for name in streams)
        assert runs.finish() == 0, runs.output().read_text()
        after, streams, faults = runs.state()
        assert faults == []
        assert results.items() <= after.items()
        assert len(streams["churn/version"]) == len(streams["churn/alias/champion"]) == 1
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


ROWS_BEFORE_BYTES = """
import os, time
from penstock.store.objects import DirectoryObjects
from penstock.engine.commit import Committer
from penstock.core.run import Group

def flush(self):
    if self._group:
        self._ledger.commit(self._group)
        if self._staged:
            time.sleep(0.15)
            self._objects.publish(list(self._staged))
        self._group, self._staged, self._since, self._rows = Group(), {}, None, 0

Committer.flush = flush
"""


def test_control_rows_before_bytes_are_found(tmp_path):
    """Sabotage: commit the rows first. A power cut would lose the staged bytes that they name."""
    runs = Runs(tmp_path, ROWS_BEFORE_BYTES)
    process = runs.start()
    found = []
    end = time.monotonic() + 60
    while not found and time.monotonic() < end:
        time.sleep(0.05)
        if not (tmp_path / ".penstock" / "ledger.db").exists():
            continue
        home = open_home(str(tmp_path))
        recipes = home.ledger.recipes()
        named = {a.digest for r in home.ledger.results(recipes).values() for a in r.outputs if a.text is None}
        durable = {stat.digest for stat in DirectoryObjects(home.config.store).walk() if not stat.staged}
        found = sorted(named - durable)
        home.ledger.close()
    process.kill()
    process.wait()
    assert found != []


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_many_kills(tmp_path, report):
    began = time.monotonic()
    number = 40
    found, inside = rounds(tmp_path, number, seed=2026)
    report(
        f"{number} kills of a run (seed 2026), {inside} of them between its first result and its last: "
        f"{len(found)} breaches, {time.monotonic() - began:.0f} s"
    )
    assert found == []
    assert inside >= number // 3
