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
report = run(home, Request(file), "penstock.worker", rehearse=lambda *_: 1, listen=told)
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
    (root / "penstock.toml").write_text("")
    old = time.time() - 3600
    os.utime(root / "people.csv", (old, old))


class Runs:
    """Runs of one project, each in a session of its own."""

    def __init__(self, root, sabotage=""):
        self.root, self.code = root, sabotage + DRIVER
        write(root)

    def start(self):
        environment = os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-c", self.code, str(self.root / "churn.py")]
        with open(self.root / "output", "wb") as output:
            return subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

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

    def kill_after(self, events, seconds, *, all_at_once):
        """Kill a run; gives the processes that it had. The coordinator alone, or every process in one go."""
        process = self.start()
        while self.events() < events and process.poll() is None:
            time.sleep(0.002)
        time.sleep(seconds)
        pids = [process.pid, *descendants(process.pid)]
        for pid in pids if all_at_once else pids[:1]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
        return pids

    def forget(self):
        """A fresh store."""
        for name in ("objects", "staging", "tmp", "quarantine", "logs", "reports"):
            shutil.rmtree(self.root / ".penstock" / name, ignore_errors=True)
        for name in ("ledger.db", "ledger.db-journal", "format"):
            (self.root / ".penstock" / name).unlink(missing_ok=True)

    def state(self):
        """What the ledger holds that a second run must give again: results by recipe, versions, moves."""
        home = open_home(str(self.root))
        results = {r.recipe: [a.digest for a in r.outputs] for r in home.ledger.results(home.ledger.recipes()).values()}
        streams = {name: [_lasting(e.body) for e in home.ledger.stream(name)] for name in home.ledger.streams()}
        faults = [f for f in fsck(home.objects, home.ledger) if f.fault]
        home.ledger.close()
        return results, streams, faults

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


def rounds(root, number, seed, between=(0.0, 1.0)):
    """Kill and run again on fresh stores; gives every breach, and how many kills fell between two results.

    `between`: the part of a run's events in which its kills fall.
    """
    runs, found, inside = Runs(root), [], 0
    assert runs.finish() == 0, (root / "output").read_text()
    events = runs.events()
    results, streams, faults = runs.state()
    assert faults == []
    assert streams["churn/alias/champion"][0]["version"] == 1
    draw = random.Random(seed)
    for i in range(number):
        runs.forget()
        after, seconds = max(round(events * draw.uniform(*between)), 1), draw.uniform(0, 0.15)
        pids = runs.kill_after(after, seconds, all_at_once=bool(i % 2))
        place = f"seed {seed}, round {i}, {seconds:.3f} s after event {after}"
        found += [f"{place}: process {pid} survives" for pid in runs.survivors(pids)]
        before, decided, faults = runs.state()
        inside += bool(before) and (len(before) < len(results) or len(decided) < len(streams))
        found += [f"{place}: after the kill: {fault.what}" for fault in faults]
        if runs.finish() != 0:
            found.append(f"{place}: the next run failed: {(root / 'output').read_text()[-300:]}")
            continue
        after, then, faults = runs.state()
        found += [f"{place}: {fault.what}" for fault in faults]
        found += [
            f"{place}: other bytes of {recipe[:12]}" for recipe in results if after.get(recipe) != results[recipe]
        ]
        found += [f"{place}: other decisions: {name}" for name in streams if then.get(name) != streams[name]]
    return found, inside


def test_two_kills(tmp_path):
    """Amid a run: once its coordinator alone, once all its processes. `test_many_kills` kills at every moment."""
    found, inside = rounds(tmp_path, 2, seed=7, between=(0.3, 0.8))
    assert found == []
    assert inside == 2


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
