"""Dagster: a flow as assets with checks. The first tests need no Dagster; the others ask its own instance."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import sys
from collections import Counter
from dataclasses import replace

import pytest

from penstock.backends.backend import Options, backend
from penstock.backends.call import MARGIN_S, Told
from penstock.backends.compiled import beside, compiled
from penstock.backends.dagster import schedule_fault, to_dagster
from penstock.backends.dagster_assets import kind_of, pool_of
from penstock.backends.dagster_kept import packed, slim, unpacked
from penstock.backends.dagster_run import run_job
from penstock.backends.dagster_sensors import state_of
from penstock.backends.dagster_task import MOST_LINES, echo_to, limit_of, params_given, run_id, word
from penstock.backends.dagster_told import MOST_PICTURES, Checked, FilePath, Markdown, checks_of, facts_of, noted_in
from penstock.backends.docstrings import docstring_of
from penstock.backends.tasks import Task, compile_flow
from penstock.core.flow import Graph, Node
from penstock.core.notes import FIGURES
from penstock.core.run import StepRun
from penstock.errors import MissingExtraError, UsageError
from penstock.testing import backend_flows as flows
from penstock.testing.backend_suite import BackendSuite, Project, Went
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
        "schedule 'every day': not understood by Dagster: every, day, five fields are meant",
        "--option queue: not of Dagster",
    ]
    assert any(grade == "note" and what.startswith("TOKEN: ") for grade, what in said)
    assert any(grade == "note" and what.startswith("first: ") for grade, what in said)
    assert all(one.remedy for one in found)


@pytest.mark.parametrize("more", [{}, {"timezone": "UTC"}, {"on": ""}])  # the last is what `penstock run --on` gives
def test_a_check_finds_nothing_wrong_with_a_plain_flow(small, more):
    assert [one for one in backend("dagster").check(small, Options(more=more)) if one.grade == "error"] == []


@pytest.mark.parametrize(
    "text",
    ["", "@daily", "0 6 * * 1", "*/5 0-6,22 1 jan MON-fri", "0 6 * * 5#2", "0 6 l * *", "asset:warehouse/orders,a"],
)
def test_schedules_that_dagster_takes(text):
    assert schedule_fault(text) == ""


@pytest.mark.parametrize(
    "text", ["daily", "@often", "@reboot", "0 6 * *", "0 6 * * * *", "a b c d e", "0 24 * * *", "asset:", "asset:a,,b"]
)
def test_schedules_that_it_does_not(text):
    assert repr(text) in schedule_fault(text)


def test_a_zone_that_is_none_is_refused_before_anything_runs(small):
    found = backend("dagster").check(small, Options(schedule="@daily", more={"timezone": "Mars/City"}))
    assert [one.what for one in found if one.grade == "error"] == ["timezone 'Mars/City': there is no such zone"]


@pytest.mark.parametrize(
    ("name", "said"), [("churn-eu", "churn_eu"), ("config", "flow_config"), ("class", "flow_class")]
)
def test_a_flow_may_be_called_by_a_word_that_dagster_keeps_for_itself(name, said):
    assert word(name) == said


def test_the_limit_of_an_item_is_none_of_the_mapped_step(small):
    nodes = (Node("a", "m:a", None, "", timeout_s=5.0, mapped=True), Node("b", "m:b", None, "", timeout_s=5.0))
    flow = replace(small, graph=Graph("f", nodes))
    assert limit_of(flow, ["a"]) is None
    assert limit_of(flow, ["b"]) == 5.0 + MARGIN_S


def test_another_environment_is_not_left_behind(small, monkeypatch):
    monkeypatch.delenv("PENSTOCK_ENV", raising=False)
    other = compiled(small.request.file, env="ci")
    assert "PENSTOCK_ENV" not in os.environ
    assert other.command(("first",), "dagster", "r")[-4:-2] == ["--env", "ci"]
    monkeypatch.setenv("PENSTOCK_ENV", "ci")
    assert "--env" in compiled(small.request.file, env="dev").command(("first",), "dagster", "r")
    assert os.environ["PENSTOCK_ENV"] == "ci"


def test_a_path_is_seen_from_the_file_that_names_it(small, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    definitions = os.path.join(os.path.dirname(small.request.file), "definitions.py")
    assert beside("flows.py", definitions) == small.request.file
    assert beside("flows.py:flow", definitions) == f"{small.request.file}:flow"
    assert beside("elsewhere.py", definitions) == "elsewhere.py"


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


def test_a_flow_is_unpacked_as_it_was_packed(tmp_path):
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(flows.TEN.replace("part(left(rows))", "part(left.map([[1], [2]]))"))
    flow = compiled(str(tmp_path / "flows.py"), group="step", params={"n": 7}, env="ci")
    again = unpacked(packed(flow, "step"))
    assert {task.id: task.parts for task in again.tasks if task.parts} == {"left": 2}
    assert (again.tasks, again.request) == (flow.tasks, flow.request)
    words = (("left",), "dagster", "r", {"n": 8}, "1/2")
    assert again.command(*words) == flow.command(*words)


def test_an_export_keeps_in_how_many_parts_a_step_is_done(tmp_path):
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(flows.MAPPED)
    for parts, line in ((0, "    parts=0,"), (2, "    parts=2,"), (8, None)):
        flow = compiled(str(tmp_path / "flows.py"), group="step", parts=parts)
        lines = backend("dagster").export(flow, Options(group="step")).splitlines()
        assert [one for one in lines if "parts" in one] == ([line] if line else [])


def test_a_run_takes_an_executor_that_there_is(small):
    found = backend("dagster").check(small, Options(more={"executor": "celery"}))
    assert [one.what for one in found if one.grade == "error"] == ["executor=celery: not of a run on Dagster"]


def test_a_home_of_dagster_that_is_no_folder_is_told(small, monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no absolute path of a folder"):
        run_job(small, Options(), lambda run, steps: None, side_by_side=False)


def test_only_parameters_that_differ_from_the_declaration_are_given(small):
    assert params_given(small, {"n": 4, "loud": False}) == {}
    assert params_given(small, {"n": 5, "loud": True}) == {"n": 5, "loud": True}
    assert str(params_given(small, {"cap": 4000.0})["cap"]) == "4000"  # the text is kept with the version's code


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


def test_what_a_step_logs_is_bounded_and_hides_nothing_of_ours(small, monkeypatch):
    notes = {"state": "mine", "digest": "mine", "score": float("nan"), "long": "x" * 10_000, "ok": True, "n": 3}
    row = StepRun("0" * 16, "a", 1, None, "run", "done", {}, notes=notes)
    monkeypatch.setattr(type(small.home.ledger), "step_runs", lambda *_: [row])
    outputs = {"": {"digest": "d" * 64, "format": "json", "size": 2}}
    step = {"state": "done", "reason": "first time", "outputs": outputs, "wall_s": 0.1, "peak_bytes": 5}
    facts = facts_of(small.home, ["a"], [told(steps={"a": step})])
    assert (facts["state"], facts["digest"], facts["score"], facts["ok"], facts["n"]) == (
        "done",
        "d" * 64,
        "nan",
        True,
        3,
    )
    assert len(facts["long"]) <= 2_010


def test_figures_of_a_step_share_a_row_of_the_database(small):
    data = os.urandom(200 << 10)
    digest, _ = small.home.objects.stage(data)
    small.home.objects.publish([digest])
    pictures = {f"p{i}": {"digest": digest, "kind": "png", "size": len(data)} for i in range(8)}
    found = noted_in(small.home, StepRun("0" * 16, "a", 1, None, "run", "done", {}, notes={FIGURES: pictures}))
    assert sum(len(one) for one in found.values() if isinstance(one, Markdown)) < MOST_PICTURES + (300 << 10)
    assert {type(one) for one in found.values()} == {Markdown, FilePath}


class ALog:
    """Takes what is said to Dagster's event log."""

    def __init__(self):
        self.lines, self.log = [], self

    def info(self, line):
        self.lines.append(line)


def test_a_task_says_only_so_much_in_the_event_log(small):
    context = ALog()
    told = echo_to(context, printing=False)
    for number in range(3_000):
        told(f"penstock: line {number}")
    assert len(context.lines) == MOST_LINES + 1
    assert context.lines[-1] == "the rest stands among what the step printed"


class ADagsterRun:
    """What the code asks of a run of Dagster's."""

    def __init__(self, run_id, parent="", **tags):
        self.run_id, self.parent_run_id = run_id, parent
        self.tags = {f"dagster/{name}": text for name, text in tags.items()}


class AContext:
    """Likewise of a step's context: the run, and an instance that knows others."""

    def __init__(self, run, *others):
        self.run, self.instance = run, self
        self.known = {one.run_id: one for one in others}

    def get_run_by_id(self, name):
        return self.known.get(name)


def test_a_run_that_goes_on_where_others_failed_is_the_first_of_them():
    first, second = ADagsterRun("a"), ADagsterRun("b", "a", is_resume_retry="true")
    third = ADagsterRun("c", "b", is_resume_retry="true")
    assert run_id(AContext(third, first, second)) == "a"
    assert run_id(AContext(third, second)) == "a"


def test_a_run_that_goes_on_with_the_assets_that_failed_is_the_first_too():
    assert run_id(AContext(ADagsterRun("b", "a", is_asset_resume_retry="true"), ADagsterRun("a"))) == "a"


def test_a_run_that_is_done_again_from_the_beginning_is_its_own():
    assert run_id(AContext(ADagsterRun("b", "a", root_run_id="a"), ADagsterRun("a"))) == "b"


ALONE = """
import penstock as ps

@ps.step
def first():
    return 1

@ps.step
def second(n):
    return n + 1

flow = ps.Flow(second(first.ref()), name="alone")
"""
LOAD = """
import json, sys
import dagster as dg
import penstock as ps

defs = ps.to_dagster(sys.argv[1], sys.argv[2], schedule="asset:warehouse/orders")
nodes = {
    spec.key.to_user_string(): {
        "needs": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "description": spec.description,
        "checks": [one.name for one in asset.check_specs],
        "retries": asset.op.retry_policy and [asset.op.retry_policy.max_retries, asset.op.retry_policy.delay],
        "pool": asset.op.pool,
        "tags": {name: text for name, text in asset.op.tags.items() if "k8s" in name or "penstock" in name},
    }
    for asset in defs.assets
    for spec in asset.specs
}
sensors = {one.name: one for one in defs.sensors}
look = sensors["churn_sources"]
cursors = [dg.build_sensor_context(cursor=text) for text in ("", "before")]
told = [type(look(context)).__name__ for context in cursors]
keys = [look(dg.build_sensor_context(cursor="another")).run_key]
told.append(type(look(dg.build_sensor_context(cursor=cursors[0].cursor))).__name__)
alone = []
with dg.DagsterInstance.ephemeral() as instance:
    assets = list(ps.to_dagster(sys.argv[3]).assets)
    for name in ("second", "first", "second"):
        ended = dg.materialize(
            assets,
            selection=[dg.AssetKey(["alone", name])],
            instance=instance,
            raise_on_error=False,
        )
        failed = [one.step_failure_data.user_failure_data for one in ended.all_events if one.is_step_failure]
        made = [one.materialization.metadata for one in ended.all_events if one.is_step_materialization]
        alone.append([one.metadata["hint"].value for one in failed] + [one["digest"].value for one in made])
try:
    ps.to_dagster(sys.argv[1], sys.argv[1])
except ps.PenstockError as error:
    twice = str(error)
found = {"nodes": nodes, "sensors": sorted(sensors), "told": told, "keys": keys, "alone": alone, "twice": twice}
print(json.dumps(found))
"""


@pytest.fixture(scope="class")
def loaded(engines, tmp_path_factory):
    """What Dagster's own objects say of a flow and a workflow, and of assets that are materialised one by one."""
    small = Project(tmp_path_factory.mktemp("small"), SMALL)
    alone = Project(tmp_path_factory.mktemp("alone"), ALONE)
    churn = Project(tmp_path_factory.mktemp("churn"), flows.CHURN.replace("LEVEL", "0.6"))
    (churn.folder / "customers.csv").write_text(flows.customers())
    processes = engines.get("dagster").processes
    text = processes.run("-c", LOAD, small.file, churn.file, alone.file, PYTHONPATH=str(ROOT / "src"))
    return json.loads(text.splitlines()[-1])


@pytest.mark.dagster
class TestDagsterAssets:
    def test_steps_are_assets_with_lineage_and_groups(self, loaded):
        nodes = loaded["nodes"]
        assert nodes["churn/validate"]["needs"] == ["churn/prepared"]
        assert nodes["churn/gate"]["needs"] == ["churn/champion", "churn/compare", "churn/register"]
        groups = {name: nodes[f"churn/{name}"]["group"] for name in ("customers", "train", "gate")}
        assert groups == {"customers": "churn_prepare", "train": "churn_train", "gate": "churn_judge"}
        assert nodes["churn/customers"]["kinds"] == ["penstock", "source"]
        assert (nodes["small_one/first"]["group"], nodes["small_one/first"]["description"]) == (
            "small_one",
            "Count to n.",
        )

    def test_what_a_schedule_waits_for_stands_before_what_needs_nothing(self, loaded):
        nodes = loaded["nodes"]
        assert nodes["churn/customers"]["needs"] == ["warehouse/orders"]
        assert nodes["churn/prepared"]["needs"] == ["churn/customers"]

    def test_what_judges_is_a_check(self, loaded):
        checks = {name: one["checks"] for name, one in loaded["nodes"].items() if one["checks"]}
        assert checks == {"churn/validate": ["validate"], "churn/audit": ["audit"], "churn/gate": ["gate"]}

    def test_retries_pools_and_requests_are_native(self, loaded):
        first = loaded["nodes"]["small_one/first"]
        assert (first["retries"], first["pool"]) == ([2, 3.0], "gpu")
        asked = {"requests": {"cpu": "2", "nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
        assert first["tags"]["penstock/zone"] == "a"
        assert json.loads(first["tags"]["dagster-k8s/config"]) == {"container_config": {"resources": asked}}

    def test_a_sensor_starts_a_run_after_a_change_only(self, loaded):
        assert loaded["sensors"] == ["churn_assets", "churn_sources", "small_one_assets"]
        assert loaded["told"] == ["SkipReason", "RunRequest", "SkipReason"]
        assert loaded["keys"] == [None]  # Dagster runs a key once, and files may come back to what they were

    def test_an_asset_alone_is_made_when_what_it_needs_is_known(self, loaded):
        early, first, second = loaded["alone"]
        assert early == ["run first first: second needs what it gives"]
        assert len(first) == len(second) == 1
        assert first != second

    def test_two_flows_of_one_name_are_refused(self, loaded):
        assert "several flows are called small_one" in loaded["twice"]


AGAIN = """
import os
import penstock as ps

@ps.step
def first(folder: str):
    with open(os.path.join(folder, "first.tries"), "a") as file:
        file.write("x")
    return folder

@ps.step
def second(folder):
    if not os.path.exists(os.path.join(folder, "good")):
        raise RuntimeError("not yet")
    return 2

flow = ps.Flow(second(first(ps.Param("folder", ""))), name="again")
"""
PAIR = """
import os, time
import penstock as ps

def meet(folder, mine, other):
    open(os.path.join(folder, mine), "w").close()
    end = time.monotonic() + 120
    while not os.path.exists(os.path.join(folder, other)):
        assert time.monotonic() < end, f"{other} does not come"
        time.sleep(0.05)
    return mine

@ps.step
def one(folder: str):
    return meet(folder, "one", "two")

@ps.step
def two(folder: str):
    return meet(folder, "two", "one")

@ps.step
def both(a, b):
    return [a, b]

folder = ps.Param("folder", "")
flow = ps.Flow(both(one(folder), two(folder)), name="pair")
"""
TYPES = {"n": int, "by": float, "cap": float}
ENDED = {"SUCCESS": "success", "FAILURE": "failed", "CANCELED": "cancelled", "SKIPPED": "skipped"}


DEFINITIONS = """
import penstock as ps
import penstock.backends.dagster as module

compiled = module.compiled

def counted(*given, **more):
    with open({log!r}, "a") as file:
        file.write("x")
    return compiled(*given, **more)

module.compiled = counted
defs = ps.to_dagster({file!r}, {words})
"""
CHECKS = """query($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
    ... on AssetCheckEvaluationEvent { evaluation { checkName success severity description } }
} } } }"""


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
        self.shown = {}

    def load(self, file, words):
        """A code location of its own for each file, the only one that is loaded."""
        if self.loaded and self.loaded[1:] == (str(file), words):
            return self.loaded[0]
        if self.loaded:
            self.engine.remove(self.loaded[0])
        self.runs += 1
        name = f"location_{self.runs}"
        self.engine.add(name, DEFINITIONS.format(file=str(file), words=words, log=str(file.parent / "compiled.log")))
        self.loaded = (name, str(file), words)
        return name

    def run(self, file, *, params, group="step", cancel_when=None):
        name = self.load(file, f"group={group!r}, python={sys.executable!r}")  # serving is not in Dagster's own
        job = next(one for one in self.engine.jobs(name) if not one.startswith("__"))
        given = {key: TYPES.get(key, str)(value) for key, value in params.items()}
        config = {"resources": {f"{job}_params": {"config": given}}} if given else {}
        self.last = run = self.engine.trigger(name, job, config=config)
        if cancel_when is not None:
            self.engine.processes.wait("the step's own process", cancel_when.exists)
            self.engine.cancel(run)
        state = ENDED[self.engine.wait(run)]
        told = self.engine.tasks(run)
        keys = {key: key.partition("__")[2].partition(".") for key in told}
        tasks = {keys[key][0]: ENDED[one] for key, one in told.items() if keys[key][2] in ("", "whole")}
        parts = Counter(step for step, _, part in keys.values() if part.startswith("part_"))
        self.shown = self.shown or self.metadata()  # of the first run
        return Went(state, Tasks(tasks), lambda step: self.engine.log(run), dict(parts))

    def checks(self):
        """Name, result and severity of each check of the newest run, with what it said."""
        events = self.engine.query(CHECKS, run=self.last)["logsForRun"]["events"]
        found = [event["evaluation"] for event in events if event.get("evaluation")]
        return {one["checkName"]: (one["success"], one["severity"], one["description"]) for one in found}

    def metadata(self):
        """Asset → label → value, of what the newest run materialised."""
        words = ("intValue", "floatValue", "text", "path", "boolValue")
        return {
            event["assetKey"]["path"][-1]: {
                entry["label"]: next((entry[word] for word in words if entry.get(word) is not None), None)
                for entry in event["metadataEntries"]
            }
            for event in self.engine.events(self.last)
            if event.get("assetKey")
        }


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

    def test_the_processes_of_steps_do_not_compile_the_flow_again(self, ten):
        project, _ = ten
        assert (project.folder / "compiled.log").read_text() == "x"

    def test_a_materialisation_shows_digests_and_figures(self, runner, ten):
        project, _ = ten
        newest = project.runs()[-1]
        digests = project.digests(newest.id)
        for step, facts in runner.shown.items():
            found = {text for label, text in facts.items() if label.startswith("digest")}
            assert found == set(digests[step])
            assert (facts["penstock run"], facts["state"]) == (newest.id, "done")
            assert facts["peak_bytes"] > 0

    def test_a_run_that_was_killed_leaves_no_step_behind(self, runner, tmp_path):
        project = Project(tmp_path / "killed", flows.SLOW.replace("LIMIT", "None"))
        name = runner.load(project.file, f"python={sys.executable!r}")
        config = {"resources": {"slowly_params": {"config": project.params}}}
        run = runner.engine.trigger(name, "slowly", config=config)
        runner.engine.processes.wait("the step's own process", (project.notes / "slow.pid").exists)
        told = [one["message"] for one in runner.engine.events(run) if "parent process (pid:" in (one["message"] or "")]
        os.kill(int(re.search(r"pid: (\d+)", told[0])[1]), signal.SIGKILL)
        self.is_gone(project)

    @pytest.mark.parametrize("strategy", ["FROM_FAILURE", "FROM_ASSET_FAILURE"])
    def test_a_run_that_goes_on_where_it_failed_is_the_same_run(self, runner, tmp_path, strategy):
        project = Project(tmp_path / "again", AGAIN)
        assert runner.run(project.file, params=project.params).state == "failed"
        (project.notes / "good").touch()
        run = runner.engine.reexecute(runner.last, strategy)
        assert runner.engine.wait(run) == "SUCCESS"
        [only] = project.runs()
        assert (only.state, only.counts["run"]) == ("done", 2)
        assert project.tries("first") == 1

    def test_independent_steps_run_side_by_side_from_here_too(self, engines, tmp_path):
        project = Project(tmp_path / "a project", PAIR)
        words = ("-m", "penstock", "run", project.file, "--on", "dagster", "--param", f"folder={project.notes}")
        text = engines.get("dagster").processes.run(*words, PYTHONPATH=str(ROOT / "src"), DAGSTER_HOME="")
        assert "3 run" in text
        assert project.runs()[0].state == "done"

    def test_run_on_dagster_needs_no_instance(self, engines, tmp_path):
        project = Project(tmp_path / "alone", ALONE)
        words = ("-m", "penstock", "run", project.file, "--on", "dagster")
        text = engines.get("dagster").processes.run(*words, PYTHONPATH=str(ROOT / "src"), DAGSTER_HOME="")
        assert "2 run" in text
        assert project.runs()[0].state == "done"

    def test_dagster_validates_an_export(self, runner, ten):
        project, _ = ten
        flow = compiled(str(project.file), group="step")
        (runner.engine.folder / "exported.py").write_text(backend("dagster").export(flow, Options(schedule="@daily")))
        runner.engine.validate("exported")

    def test_a_refusal_of_the_gate_is_no_failure(self, runner, churn):
        super().test_a_refusal_of_the_gate_is_no_failure(runner, churn)
        checks = runner.checks()
        assert {name: found[:2] for name, found in checks.items()} == {
            "validate": (True, "ERROR"),
            "audit": (True, "WARN"),
            "gate": (False, "WARN"),
        }
        assert "roc_auc" in checks["gate"][2]
        shown = runner.metadata()
        assert 0.5 < shown["evaluate"]["roc_auc"] <= 1
        assert shown["customers"]["dagster/row_count"] == 500
        assert "gate" not in shown

    def test_bad_data_stops_the_run_at_once(self, runner, tmp_path):
        super().test_bad_data_stops_the_run_at_once(runner, tmp_path)
        [(name, (passed, severity, sentence))] = runner.checks().items()
        assert (name, passed, severity) == ("validate", False, "ERROR")
        assert "customer_id" in sentence
