"""Dagster: a flow as assets with checks. The first tests need no Dagster; the others ask its own instance."""

from __future__ import annotations

import importlib.util
import json
import os

import pytest

from penstock.backends.backend import Options, backend
from penstock.backends.call import Told
from penstock.backends.compiled import compiled
from penstock.backends.dagster import schedule_fault, slim, to_dagster
from penstock.backends.dagster_assets import kind_of, params_given, pool_of
from penstock.backends.dagster_sensors import state_of
from penstock.backends.dagster_told import Checked, Markdown, checks_of, facts_of
from penstock.backends.docstrings import docstring_of
from penstock.backends.tasks import Task, compile_flow
from penstock.core.flow import Graph, Node
from penstock.errors import MissingExtraError, UsageError
from penstock.testing.backend_suite import BackendSuite, Went
from tests.backends.engines.processes import ROOT

SMALL = """
import penstock as ps

@ps.step(retries=2, backoff_s=3.0, timeout_s=60.0, resources=ps.Resources(cpu=2, gpu=1, labels={"zone": "a"}))
def first(n: int, loud: bool):
    '''Count to n.

    Not shown.
    '''
    return n

flow = ps.Flow(first(ps.Param("n", 1), ps.Param("loud", False)), name="small-one")
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A flow of one step, ready for a backend."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "penstock.toml").write_text("")
    (folder / "flows.py").write_text(SMALL)
    return compiled(str(folder / "flows.py"), group="step", params={"n": 4}, extra={"full": True})


def test_an_export_is_a_few_lines_that_load_the_file(small):
    text = backend("dagster").export(
        small, Options(schedule="@daily", group="part", more={"timezone": "Europe/Berlin"})
    )
    assert text.splitlines()[2:] == [
        "import penstock as ps",
        "",
        "defs = ps.to_dagster(",
        f"    {json.dumps(small.request.file)},",
        '    group="part",',
        '    schedule="@daily",',
        '    timezone="Europe/Berlin",',
        '    params={"n": "4"},',
        "    full=True,",
        ")",
    ]
    compile(text, "definitions.py", "exec")


def test_a_check_names_what_dagster_cannot_do(small):
    options = Options(image="acme/churn:3", schedule="every day", more={"queue": "x"}, secrets=("TOKEN",))
    found = backend("dagster").check(small, options)
    said = [(one.grade, one.what) for one in found]
    assert [what for grade, what in said if grade == "error"] == [
        "--image acme/churn:3: Dagster starts the worker by a Python of the machine that runs its steps",
        "schedule 'every day': not understood by Dagster",
        "--option queue: not of Dagster",
    ]
    assert any(grade == "note" and what.startswith("TOKEN: ") for grade, what in said)
    assert any(grade == "note" and what.startswith("first: ") for grade, what in said)
    assert all(one.remedy for one in found)


def test_a_check_finds_nothing_wrong_with_a_plain_flow(small):
    assert [one for one in backend("dagster").check(small, Options()) if one.grade == "error"] == []


@pytest.mark.parametrize("text", ["", "@daily", "0 6 * * 1", "asset:warehouse/orders,prices"])
def test_schedules_that_dagster_takes(text):
    assert schedule_fault(text) == ""


@pytest.mark.parametrize("text", ["daily", "@often", "0 6 * *", "asset:"])
def test_schedules_that_it_does_not(text):
    assert repr(text) in schedule_fault(text)


def test_a_place_is_refused(small):
    with pytest.raises(UsageError, match="dagster://host:3000"):
        backend("dagster").run(small, "host:3000", Options(), lambda run, steps: None)


@pytest.mark.skipif(importlib.util.find_spec("dagster") is not None, reason="Dagster is installed here")
def test_without_dagster_the_command_to_install_it_is_told(small):
    with pytest.raises(MissingExtraError) as found:
        to_dagster(small.request.file)
    assert found.value.hint == "pip install 'penstock[dagster]'"


def test_a_flow_is_kept_for_the_steps_without_what_only_the_worker_needs(small):
    kept = Graph.from_json(json.loads(json.dumps(slim(small.graph).to_json())))
    assert compile_flow(kept, "step") == small.tasks
    assert len(json.dumps(kept.to_json())) < 2_000


def test_only_parameters_that_differ_from_the_declaration_are_given(small):
    assert params_given(small, {"n": 4, "loud": False}) == {}
    assert params_given(small, {"n": 5, "loud": True}) == {"n": 5, "loud": True}


def test_a_pool_is_the_label_or_gpu(small):
    assert pool_of(small.tasks[0]) == "gpu"
    assert pool_of(Task("a", ("a",), (("a",),), resources={"labels": {"pool": "heavy"}, "gpu": 1})) == "heavy"
    assert pool_of(Task("a", ("a",), (("a",),))) is None
    assert kind_of(small, small.tasks[0]) == "python"


def test_a_description_is_the_first_paragraph_of_the_docstring(small):
    assert docstring_of("flows:first", small.request.file, small.home.config.root) == "Count to n."
    assert docstring_of("flows:second", small.request.file, small.home.config.root) == ""
    assert docstring_of("elsewhere:first", small.request.file, small.home.config.root) == ""


def test_the_state_of_sources_changes_with_a_file_of_a_folder_or_a_pattern(tmp_path):
    (tmp_path / "in").mkdir()
    places = [str(tmp_path / "in"), str(tmp_path / "*.csv"), str(tmp_path / "none.csv")]
    seen = [state_of(places)]
    for name in ("in/a.csv", "b.csv"):
        (tmp_path / name).write_text("x")
        seen.append(state_of(places))
    os.utime(tmp_path / "b.csv", ns=(1, 1))
    seen.append(state_of(places))
    assert seen[0] == ""
    assert len(set(seen)) == 4
    assert state_of(places) == seen[-1]


def told(**more):
    """An answer of a worker."""
    answer = {
        "state": "done",
        "run": "0" * 16,
        "exit": 0,
        "passed": None,
        "verdict": None,
        "version": None,
        "steps": {},
    }
    return Told(0, answer | more)


def gate_graph():
    return Graph(
        "churn",
        (Node("gate", "penstock.lifecycle:gate", None, "", "effect", part="gate"),),
        about={"workflow": "churn"},
    )


@pytest.mark.parametrize(("passed", "sentence"), [(True, "better than required"), (False, "not enough evidence")])
def test_a_verdict_is_a_check_that_warns(small, passed, sentence):
    step = {"state": "done", "reason": "", "outputs": {}, "wall_s": 0.1, "peak_bytes": 5}
    verdict = {"outcome": "better", "sentence": sentence, "rules": [{"text": "roc_auc 0.8 ≥ 0.6 ✓"}]}
    one = told(passed=passed, verdict=verdict, version="churn@7", steps={"gate": step})
    [found] = checks_of(small.home, gate_graph(), one)
    facts = {"outcome": "better", "version": "churn@7", "rules": Markdown("* roc_auc 0.8 ≥ 0.6 ✓")}
    assert found == Checked("gate", passed, "warning", sentence, facts)
    assert facts_of(small.home, ["gate"], [one])["verdict"] == sentence


def test_a_gate_that_was_skipped_has_judged_nothing(small):
    step = {"state": "skipped", "reason": "refused", "outputs": {}, "wall_s": 0.0, "peak_bytes": 0}
    assert checks_of(small.home, gate_graph(), Told(99, told(state="skipped", steps={"gate": step}).answer)) == []


def test_data_that_does_not_pass_is_a_check_that_fails(small):
    graph = Graph("churn", (Node("validate", "v:v", None, "", part="validate"),), about={"workflow": "churn"})
    error = {"error": "ValidationFailedError", "what": "customer_id: 20 keys stand twice", "hint": "drop them"}
    step = {"state": "failed", "reason": "", "outputs": {}, "wall_s": 0.1, "peak_bytes": 5}
    [found] = checks_of(small.home, graph, Told(3, told(state="failed", error=error, steps={"validate": step}).answer))
    assert (found.passed, found.grade, found.sentence) == (False, "error", "customer_id: 20 keys stand twice")
    broken = {**error, "error": "StepError"}
    assert (
        checks_of(small.home, graph, Told(5, told(state="failed", error=broken, steps={"validate": step}).answer)) == []
    )


TYPES = {"n": int, "by": float, "cap": float}
ENDED = {"SUCCESS": "success", "FAILURE": "failed", "CANCELED": "cancelled", "SKIPPED": "skipped"}


class DagsterRunner:
    """Writes a file of definitions, loads it as a code location, and launches its job through Dagster's API."""

    name = "dagster"
    lacks = frozenset()

    def __init__(self, engine):
        self.engine = engine
        engine.processes.env["PYTHONPATH"] = str(ROOT / "src")
        self.runs = 0
        self.loaded = ()
        self.last = ""

    def load(self, file, words):
        """A code location of its own for each file, the only one that is loaded."""
        if self.loaded and self.loaded[1:] == (str(file), words):
            return self.loaded[0]
        if self.loaded:
            self.engine.remove(self.loaded[0])
        self.runs += 1
        name = f"location_{self.runs}"
        self.engine.add(name, f"import penstock as ps\ndefs = ps.to_dagster({str(file)!r}, {words})\n")
        self.loaded = (name, str(file), words)
        return name

    def run(self, file, *, params, group="step", cancel_when=None):
        name = self.load(file, f"group={group!r}")
        job = next(one for one in self.engine.jobs(name) if not one.startswith("__"))
        given = {key: TYPES.get(key, str)(value) for key, value in params.items()}
        config = {"resources": {f"{job}_params": {"config": given}}} if given else {}
        self.last = run = self.engine.trigger(name, job, config=config)
        if cancel_when is not None:
            self.engine.processes.wait("the step's own process", cancel_when.exists)
            self.engine.cancel(run)
        state = ENDED[self.engine.wait(run)]
        told = self.engine.tasks(run)
        tasks = {key.partition("__")[2]: ENDED[one] for key, one in told.items()}
        return Went(state, Tasks(tasks), lambda step: self.engine.log(run))


class Tasks(dict):
    """A step that Dagster never reached has no state."""

    def __missing__(self, key):
        return "not run"


@pytest.mark.dagster
class TestDagster(BackendSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls, engines):
        return DagsterRunner(engines.get("dagster"))
