"""Flows in memory over a fake pool of plain functions, and projects that run with real processes."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest

import penstock
from penstock.core.artifact import Artifact
from penstock.core.digest import digest_code
from penstock.core.fan import FORMAT, unpack
from penstock.core.flow import Graph, Node
from penstock.core.ports import Config, Home
from penstock.core.run import Run
from penstock.engine.gather import gather
from penstock.engine.local import Execution
from penstock.engine.planner import plan
from penstock.engine.pool import Answer
from penstock.errors import CorruptObjectError, MissingObjectError
from penstock.lifecycle.run import Request, run
from penstock.project import open_home
from penstock.testing import MemoryLedger, MemoryObjects


class FakePool:
    """A pool of `jobs` workers; each `poll` finishes the task that has waited longest, or the one `pick` names.

    `functions` maps a step id to a function of its inputs' bytes that gives bytes, one for each output, or raises.
    """

    def __init__(self, objects, functions, jobs=1, pick=lambda tasks: 0):
        self.objects, self.functions, self.jobs, self.pick = objects, functions, jobs, pick
        self.tasks, self.calls, self.most, self.closed = deque(), [], 0, False
        self.logs = "/nonexistent"

    @property
    def running(self):
        return len(self.tasks)

    def room(self):
        return self.jobs - len(self.tasks)

    def give(self, tasks):
        self.tasks.extend(tasks)
        self.most = max(self.most, len(self.tasks))

    def poll(self, timeout):
        if not self.tasks:
            return []
        place = self.pick(self.tasks)
        node, message = self.tasks[place]
        del self.tasks[place]
        return [
            Answer(
                node, {"wall_s": 0.0, "cpu_s": 0.0} | self._run(node, message), SimpleNamespace(log_path="", log_seen=0)
            )
        ]

    def _run(self, node, message):
        try:
            inputs = [self._read(Artifact.from_json(data)) for _, _, data in message["inputs"]]
        except (CorruptObjectError, MissingObjectError) as error:
            return {"error": error.to_json(), "corrupt": error.digest}
        self.calls.append(node.id)
        try:
            values = self.functions[node.id](*inputs)
        except Exception as error:
            return {"error": {"error": "StepError", "what": str(error), "where": "", "hint": ""}}
        values = values if isinstance(values, tuple) else (values,)
        return {"outputs": [Artifact(*self._stage(value)).to_json() for value in values]}

    def _read(self, artifact):
        if artifact.format == FORMAT:
            return b",".join(map(self._read, unpack(artifact.text or self.objects.read(artifact.digest))))
        return self.objects.read(artifact.digest) if artifact.text is None else artifact.text.encode()

    def _stage(self, value):
        digest, size = self.objects.stage(value)
        return digest, "bytes", size

    def close(self):
        self.closed = True


class World:
    """A store and a ledger in memory, and flows that run over them."""

    def __init__(self, objects=None, ledger=None):
        self.objects, self.ledger = objects or MemoryObjects(), ledger or MemoryLedger()
        self.home = Home(Config("/nonexistent", "", ""), self.objects, self.ledger, None)
        self.number = 0

    def plan(self, graph, forced=()):
        facts, _ = gather(graph, self.ledger, self.objects, forced)
        return plan(graph, facts)

    def run(self, graph, functions, *, forced=(), effects=None, listen=lambda _: None, **pool):
        """One run; gives (outcome, pool)."""
        self.number += 1
        facts, seen = gather(graph, self.ledger, self.objects, forced)
        record = Run(f"{self.number:016x}", graph.name, "run", "running", float(self.number))
        fake = FakePool(self.objects, functions, **pool)
        execution = Execution(
            graph, facts, self.home, record, lambda: fake, seen=seen, effects=effects or {}, listen=listen
        )
        return execution.execute(), fake

    def damage(self, digest):
        """Flip one bit of a published object."""
        data = bytearray(self.objects.published[digest])
        data[0] ^= 1
        self.objects.published[digest] = bytes(data)


def node(step, *needs, code="", value=None, kind="step", outputs=(), **fields):
    """A node whose arguments are references and one plain value."""
    needs = tuple(need if isinstance(need, tuple) else (need, "") for need in needs)
    tree = ["list", [["list", [["ref", *need] for need in needs]], ["dict", [["value", value]]]]]
    digest = digest_code({f"m:{code or step}": "1"}) if kind != "effect" else ""
    return Node(step, f"m:{code or step}", tree, digest, kind=kind, outputs=outputs, needs=needs, **fields)


def graph(*nodes, name="flow"):
    return Graph(name, nodes, {n.code: {n.entry: "1"} for n in nodes})


@pytest.fixture
def world():
    return World()


@pytest.fixture
def flows():
    """The makers of nodes, graphs and worlds."""
    return SimpleNamespace(node=node, graph=graph, World=World)


# ── with real processes ─────────────────────────────────────────────────────────────────────────────────────

SOURCE = str(Path(penstock.__file__).parent.parent)
HEAD = "import os, sys, time, signal, subprocess\nimport penstock as ps\n\n"


def alive(pid):
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


PATIENCE_S = 30.0
"""Less than the minute for which what should be ended sleeps, and long enough for a machine that others use."""


def wait_for(condition):
    """Wait until a condition holds, with patience; give whether it came to hold."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


class Project:
    """A folder with a flow's file, and runs of it with real processes."""

    def __init__(self, root):
        self.root = root
        (root / "penstock.toml").write_text("")
        self.events = []

    def write(self, text, name="flows.py"):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + textwrap.dedent(text))
        return path

    def home(self, **flags):
        return open_home(str(self.root), {"jobs": 2} | flags)

    def run(self, file="flows.py", *, jobs=2, home=None, **request):
        home = home or self.home(jobs=jobs)
        asked = Request(str(self.root / file), flags={"jobs": jobs}, **request)
        return run(home, asked, "penstock.worker", rehearse=lambda *_: 0, listen=self.events.append)

    def value(self, report, step, output=""):
        return report.value(self.home(), step, output)

    def start(self, file="flows.py", then=""):
        """The same in a process of its own, a session leader with the coordinator's pid; it runs `then` last."""
        code = (
            "import sys\nfrom penstock.project import open_home\n"
            "from penstock.lifecycle.run import run, Request\nfrom penstock.errors import PenstockError\n"
            "try:\n"
            f"    home = open_home({str(self.root)!r}, {{'jobs': 2}})\n"
            f"    r = run(home, Request({str(self.root / file)!r}), 'penstock.worker', rehearse=lambda *_: 0)\n"
            "except PenstockError as error:\n"
            "    print(error)\n    sys.exit(error.exit_code)\n"
            f"print(r.outcome.states, r.error)\n{then}\nsys.exit(r.exit_code)\n"
        )
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def survivors(self, *pids):
        """Those of some processes that do not end."""
        wait_for(lambda: not any(map(alive, pids)))
        return [pid for pid in pids if alive(pid)]

    def pids(self, *names):
        """Process ids that steps wrote into files, once all are there."""
        files = [self.root / name for name in names]
        assert wait_for(lambda: all(f.exists() and f.read_text() for f in files)), "the step did not begin"
        return [int(file.read_text()) for file in files]


@pytest.fixture
def project(monkeypatch):
    """A project on a disk of memory."""
    monkeypatch.setenv("PYTHONPATH", SOURCE)
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    root = Path(tempfile.mkdtemp(prefix="penstock-test-", dir=folder))
    found = Project(root)
    found.alive, found.wait_for = alive, wait_for
    yield found
    shutil.rmtree(root, ignore_errors=True)
