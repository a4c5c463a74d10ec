"""Prefect: what a flow becomes there, and every promise of a backend kept by the engine itself."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import penstock as ps
from penstock.backends.backend import Options
from penstock.backends.call import Told
from penstock.backends.compiled import Compiled, compiled
from penstock.backends.prefect import WORDS, Prefect, is_cron, signature
from penstock.backends.prefect_artifact import markdown, veil, veiled
from penstock.backends.prefect_run import Plan, _Run, error_of, state_of, tags_of
from penstock.backends.tasks import Task
from penstock.cli.elsewhere import _options as options_of_run_on
from penstock.core.flow import Graph
from penstock.errors import MissingExtraError, StepError, StepTimeoutError, UsageError
from penstock.testing import backend_flows as flows
from penstock.testing.backend_suite import BackendSuite, Project, TaskEnded, Went
from tests.backends.engines.processes import ROOT

if TYPE_CHECKING:
    from tests.backends.engines.prefect import Prefect as Engine

FLOW = """
import penstock as ps
from penstock import Param

@ps.step(retries=2, timeout_s=5.0)
def first(n: int, loud: bool, share: float, since: str, until):
    return n

some = Param("n", 1), Param("loud", False), Param("share", 0.5), Param("since", "2026"), Param("until")
flow = ps.Flow(first(*some), name="small")
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """A flow of one step with a parameter of each kind, two of them set."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "penstock.toml").write_text("")
    (folder / "flows.py").write_text(FLOW)
    return compiled(str(folder / "flows.py"), params={"n": 4, "loud": True})


def with_params(flow: Compiled, **params: Any) -> Compiled:
    graph = Graph(flow.graph.name, flow.graph.nodes, params=params)
    return replace(flow, graph=graph, request=replace(flow.request, params={}))


def test_parameters_are_typed_and_have_the_defaults_of_this_export(small: Compiled) -> None:
    found = signature(small).parameters
    assert {name: one.default for name, one in found.items()} == {
        "n": 4, "loud": True, "share": 0.5, "since": "2026", "until": None,
    }  # fmt: skip
    assert [found[name].annotation for name in ("n", "loud", "share", "since")] == [int, bool, float, str]
    assert found["until"].annotation == str | None


def test_an_export_is_a_short_file_that_compiles(small: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(small.request.file).parent)
    text = Prefect().export(small, Options(schedule="@weekly", group="step", secrets=("DATABASE_URL",)))
    compile(text, "flows_prefect.py", "exec")
    assert "flow = to_prefect('flows.py', group='step', params={'n': '4', 'loud': 'true'}" in text
    assert "secrets=('DATABASE_URL',)" in text
    assert "    flow.serve(name='small', cron='0 0 * * 0')" in text
    assert len(text.splitlines()) < 12


def test_an_export_for_another_machine_names_the_file_there(small: Compiled) -> None:
    there = replace(small, file="/srv/flows.py")
    assert "to_prefect('/srv/flows.py'" in Prefect().export(there, Options())


def test_what_prefect_cannot_do_is_said_with_a_remedy(small: Compiled) -> None:
    asking = replace(small.tasks[0], resources={"gpu": 1})
    flow = replace(with_params(small, **{"as-of": 1, "return_state": 2, "fine": 3}), tasks=(asking,))
    options = Options(schedule="asset:rows", image="python:3.11", more={"pool": "x"})
    found = Prefect().check(flow, options)
    assert [one.grade for one in found] == ["error"] * 5 + ["note"]
    assert all(one.remedy for one in found)
    text = " ".join(one.what for one in found)
    for word in ("as-of", "return_state", "asset:rows", "not in an image", "--option pool", "first"):
        assert word in text


@pytest.mark.parametrize(("schedule", "wrong"), [("@daily", 0), ("0 6 * * 1", 0), ("@reboot", 1), ("tomorrow", 1)])
def test_schedules_are_cron_expressions(small: Compiled, schedule: str, wrong: int) -> None:
    assert len(Prefect().check(small, Options(schedule=schedule))) == wrong


def test_what_run_on_gives_every_backend_is_no_option_that_is_refused(small: Compiled) -> None:
    assert Prefect().check(small, options_of_run_on("", "")) == []


def test_words_of_cron_are_five_fields() -> None:
    assert {len(text.split()) for text in WORDS.values()} == {5}


def test_without_prefect_the_command_that_installs_it_is_told(small: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect", None)
    with pytest.raises(MissingExtraError, match=r"penstock\[prefect\]"):
        ps.to_prefect(small.request.file)


def test_a_server_is_named_by_prefects_own_variable(small: Compiled) -> None:
    with pytest.raises(UsageError, match="PREFECT_API_URL"):
        Prefect().run(small, "host:4200", Options(), lambda *_: None)


def test_a_run_names_what_it_sets_otherwise_as_a_person_would() -> None:
    plan = Plan("f", "/p", (), {}, defaults={"n": 1, "since": "2026", "until": None})
    given = {"n": 1, "since": "2027", "until": None, "share": 4000.0, "part": 0.5, "loud": True}
    assert list(plan.set_by(given))[1::2] == ["since=2027", "share=4000", "part=0.5", "loud=true"]


@pytest.mark.parametrize("name", ["class", "from", "None", "self", "cls", "model_config", "v__args", "_n", "as-of"])
def test_a_parameter_that_prefect_cannot_take_is_an_error_before_anything_runs(small: Compiled, name: str) -> None:
    [found] = Prefect().check(with_params(small, **{name: 1}), Options())
    assert (found.grade, f"Param({name!r})" in found.what) == ("error", True)


def test_an_export_holds_variables_and_the_whole_path_of_python(small: Compiled) -> None:
    text = Prefect().export(small, Options(python="venv/bin/python", environment={"REGION": "eu"}))
    assert "environment={'REGION': 'eu'}" in text
    assert f"python={small.python!r}" in text


@pytest.mark.parametrize(
    ("text", "right"),
    [("*/5 6-18 * * mon-fri", True), ("05,35 0 1 jan 7", True), ("61 6 * * 1", False), ("0 6 * * 1 2026", False),
     ("* * * * foo", False), ("*/0 * * * *", False), ("1-2-3 * * * *", False), ("- * * * *", False)],
)  # fmt: skip
def test_a_field_of_cron_holds_what_it_can(text: str, right: bool) -> None:
    assert is_cron(text) == right


def test_an_export_says_how_many_parts_where_that_is_not_the_usual_number(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(flows.MAPPED)
    texts = [
        Prefect().export(compiled(str(tmp_path / "flows.py"), **given), Options())
        for given in ({}, {"parts": 0}, {"parts": 2})
    ]
    assert ["parts=" in text for text in texts] == [False, True, True]
    assert ("parts=0" in texts[1], "parts=2" in texts[2]) == (True, True)


def test_a_task_has_no_more_parts_than_run_at_once() -> None:
    task = Task("score", ("score",), (("score",),), parts=8)
    plan = Plan("f", "/p", (task,), {})
    assert [replace(plan, jobs=jobs).parts_of(task) for jobs in (1, 2, 16)] == [0, 2, 8]
    assert replace(plan, jobs=4).parts_of(replace(task, parts=0)) == 0


def test_a_secret_is_hidden_in_whatever_form_and_what_a_server_refuses_is_replaced() -> None:
    fit = veil({"CAVE_WORD": "opensesame", "EMPTY": ""})
    told = {"error": {"what": "opensesame is wrong"}, "n": 3, "rows": ["b3BlbnNlc2FtZQ"]}
    assert veiled(told, fit) == {"error": {"what": "<CAVE_WORD> is wrong"}, "n": 3, "rows": ["<CAVE_WORD>"]}
    assert fit("a\0b\x1b[31m\ud800") == "a\ufffdb\ufffd[31m\ufffd"
    assert fit("\ttwo\nlines") == "\ttwo\nlines"


def test_an_artifact_is_bounded_and_tells_figures_and_failures() -> None:
    outputs = {str(n): {"digest": f"{n:064x}"[::-1]} for n in range(1, 40)}
    step = {"state": "done", "outputs": outputs, "metrics": {"roc_auc": 0.84567}}
    failed = {"run": "ab12", "state": "failed", "reason": "step x: " + "long " * 9_000, "steps": {}}
    text = markdown("f", "/p", [{"run": "ab12", "steps": {"train": step}}, failed])
    assert "and 36 more" in text
    assert "| train | roc\\_auc | 0.8457 |" in text
    assert "**failed**: step x: long" in text
    assert len(text) < 5_000


@pytest.fixture
def run_of_two(small: Compiled) -> _Run:
    """A run of two parts, whose workers are not started."""
    task = replace(small.tasks[0], retries=2, timeout_s=5.0, calls=(("a",), ("b",)), parts=2)
    plan = Plan("small", "/p", (task,), {task.id: (("a",), ("b",))}, jobs=2)
    return _Run(plan, {}, "id", {}, str, None)


def test_what_is_to_end_is_not_tried_again(run_of_two: _Run) -> None:
    [task] = run_of_two.plan.tasks
    run_of_two.told |= {(task.id, 0): Told(2, {"state": "failed"}), (task.id, 2): Told(5, {"state": "failed"})}
    found = [run_of_two._may_get_better(task, name) for name in (task.id, f"{task.id} 1/2", f"{task.id} 2/2")]
    assert found == [False, True, True]
    run_of_two.stop.set()
    assert not run_of_two._may_get_better(task, f"{task.id} 2/2")


def test_how_a_task_ended_is_not_asked_of_a_server_that_does_not_know_yet() -> None:
    class Future:
        state = "Running"

        def wait(self) -> None:
            self.state = "Failed"

    assert state_of(Future()) == "Failed"


def test_tags_are_part_labels_and_gpu() -> None:
    task = Task("fit", ("fit",), (("fit",),), part="train", resources={"gpu": 1, "labels": {"queue": "big"}})
    assert list(tags_of(task)) == ["train", "queue=big", "gpu"]


def test_a_failure_comes_as_what_it_was() -> None:
    told = Told(5, {"error": {"error": "StepTimeoutError", "what": "over 2 s", "where": "step slow"}})
    assert isinstance(error_of(told, ("slow",)), StepTimeoutError)
    nothing = error_of(Told(-9), ("slow",))
    assert isinstance(nothing, StepError)
    assert "no answer" in str(nothing)


def test_an_artifact_has_verdict_version_figures_and_links(tmp_path: Path) -> None:
    page = tmp_path / ".penstock" / "reports" / "churn-7.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    figures = {"value": 0.8457, "low": 0.755, "high": 0.907, "required": 0.6, "n": 81}
    rule = {"text": "roc_auc ≥ 0.6 | *x*", "outcome": "pass", "figures": figures}
    step = {"state": "done", "wall_s": 0.25, "peak_bytes": 3 << 20, "outputs": {"": {"digest": "ab" * 32}}}
    told = [
        {"run": "ab12", "steps": {"train": step}},
        {"run": "ab12", "steps": {"gate": {"state": "done"}}, "version": "churn@7", "champion": True,
         "verdict": {"outcome": "better", "sentence": "better than required", "rules": [rule]}},
    ]  # fmt: skip
    text = markdown("churn", str(tmp_path), told)
    assert "**churn@7** · champion" in text
    assert "**better**: better than required" in text
    assert "| pass | 0.8457 | 0.755 … 0.907 | 0.6 | 81 | roc\\_auc ≥ 0.6 \\| \\*x\\* |" in text
    assert "| train | done | 0.25 | 3 | `abababababab` |" in text
    assert f"`{page}` on the machine of the run" in text
    assert "file://" not in text  # a browser opens none from the page of a server
    assert "`penstock show ab12`" in text


# ── on the engine itself ─────────────────────────────────────────────────────────────────────────────────────

CALL = """
import sys
from penstock import to_prefect

flow = to_prefect({file!r}, group={group!r}, python={python!r})

if __name__ == "__main__":
    {run}
"""
WORDS_OF_SUITE: dict[str, TaskEnded] = {"Completed": "success", "Refused": "success", "Skipped": "skipped"}


class Runner:
    """Calls a flow in a process of its own; serves one that is to be cancelled, for only that can be."""

    name = "prefect"
    lacks = frozenset[str]()

    def __init__(self, engines: Any) -> None:
        self.engines = engines
        self.served = 0

    @property
    def engine(self) -> Engine:
        """The engine that runs now."""
        engine: Engine = self.engines.get("prefect")
        engine.processes.env |= {"PYTHONPATH": str(ROOT / "src"), "PENSTOCK_JOBS": "3"}
        return engine

    def run(
        self, file: Path, *, params: Mapping[str, str], group: str = "step", cancel_when: Path | None = None
    ) -> Went:
        if cancel_when is None:
            return self.went(self.called(file, params, group))
        name = self.serve(file, group)
        run = self.engine.trigger(name, **params)
        self.engine.processes.wait("step that runs", cancel_when.exists)
        self.engine.cancel(run)
        self.engine.wait(run)
        self.end(name)
        return self.went(run)

    def text(self, file: Path, group: str, run: str) -> str:
        return CALL.format(file=str(file), group=group, python=sys.executable, run=run)

    def called(self, file: Path, params: Mapping[str, str], group: str) -> str:
        """Call the flow; the id of its run."""
        script = file.parent / "call.py"
        run = f"print(flow(return_state=True, **{dict(params)!r}).state_details.flow_run_id)"
        script.write_text(self.text(file, group, run))
        return self.engine.processes.run(script).splitlines()[-1]

    def serve(self, file: Path, group: str) -> str:
        """Serve the flow in a process of its own; the name of its deployment."""
        self.served += 1
        name = f"served{self.served}"
        self.engine.serve(name, self.text(file, group, f"flow.serve(name={name!r})"))
        return name

    def end(self, name: str) -> None:
        """Serve no more."""
        self.engine.processes.stop(name)

    def went(self, run: str) -> Went:
        engine = self.engine
        state = engine.wait(run)
        words = {"Completed": "success", "Refused": "success", "Cancelled": "cancelled"}
        tasks: dict[str, TaskEnded] = defaultdict(lambda: "not run")
        every = engine.tasks(run)
        parts = Counter(name.rpartition(" ")[0] for name in every if " " in name)
        for name, found in every.items():
            tasks[name] = "not run" if found == "NotReady" else WORDS_OF_SUITE.get(found, "failed")
        return Went(words.get(state, "failed"), tasks, lambda step: self.log(run, step), parts)  # type: ignore[arg-type]

    def log(self, run: str, task: str) -> str:
        """What the API shows of the log of one task."""
        body = {"flow_runs": {"id": {"any_": [run]}}, "task_runs": {"name": {"any_": [task]}}}
        [found] = self.engine.api("task_runs/filter", body)
        asked = {"logs": {"task_run_id": {"any_": [found["id"]]}}, "sort": "TIMESTAMP_ASC"}

        def whole() -> str:
            text = "\n".join(line["message"] for line in self.engine.api("logs/filter", asked))
            return text if "Finished in state" in text else ""

        return str(self.engine.processes.wait(f"log of {task}", whole))


@pytest.mark.prefect
class TestPrefect(BackendSuite):
    """The promises of every backend, and those that only Prefect makes."""

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls, engines: Any) -> Runner:
        return Runner(engines)

    def test_tasks_are_told_what_steps_ask_for(self, runner: Runner, ten: tuple[Project, Went]) -> None:
        """Retries, tags and the tasks that each waits for stand where Prefect shows them."""
        engine = runner.engine
        run = engine.runs("ten")[-1]
        found = {one["name"]: one for one in engine.api("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})}
        assert found["right"]["empirical_policy"]["retries"] == 2
        assert found["right"]["run_count"] == 2
        before = {one["id"] for one in found["join"]["task_inputs"]["wait_for"]}
        assert before == {found["part"]["id"], found["right"]["id"]}

    def test_parts_of_a_mapped_step_are_tasks_that_run_at_once(self, runner: Runner, tmp_path: Path) -> None:
        """Each of two items waits for the other to have begun; the step itself comes after them."""
        project = Project(tmp_path / "met", MEET)
        engine = runner.engine
        run = runner.called(project.file, project.params, "step")
        assert engine.wait(run) == "Completed"
        assert engine.tasks(run) == dict.fromkeys(("meet 1/2", "meet 2/2", "meet", "both"), "Completed")
        found = {one["name"]: one for one in engine.api("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})}
        before = {one["id"] for one in found["meet"]["task_inputs"]["wait_for"]}
        assert before == {found["meet 1/2"]["id"], found["meet 2/2"]["id"]}
        assert project.runs()[0].state == "done"

    def test_an_artifact_tells_what_came_of_a_run(self, runner: Runner, ten: tuple[Project, Went]) -> None:
        """A line a step, with digests, and how to look closer."""
        [found] = runner.engine.artifacts(runner.engine.runs("ten")[-1])
        assert (found["key"], found["type"]) == ("ten", "markdown")
        digests = ten[0].digests(ten[0].runs()[-1].id)
        assert all(digest[:12] in found["data"] for kept in digests.values() for digest in kept)

    def test_a_refusal_of_the_gate_is_no_failure(self, runner: Runner, churn: tuple[Project, Went]) -> None:
        """As everywhere; and it has its name in Prefect, tags by part, and an artifact with the verdict."""
        super().test_a_refusal_of_the_gate_is_no_failure(runner, churn)
        engine = runner.engine
        run = engine.runs("churn")[0]
        assert engine.wait(run) == "Refused"
        body = {"flow_runs": {"id": {"any_": [run]}}}
        found = {one["name"]: one for one in engine.api("task_runs/filter", body)}
        assert [found[name]["state_name"] for name in ("evaluate", "gate", "deploy")] == [
            "Completed",
            "Refused",
            "Skipped",
        ]
        assert [found[name]["tags"] for name in ("validate", "evaluate", "gate")] == [["prepare"], ["train"], ["judge"]]
        [artifact] = engine.artifacts(run)
        assert "**churn@2** · challenger" in artifact["data"]
        assert "| roc\\_auc" in artifact["data"]

    def test_run_on_prefect_waits_and_tells(self, runner: Runner, tmp_path: Path) -> None:
        """The command line tells of a run there as of one here."""
        project = Project(tmp_path / "on", SECRET.replace("FOLDER", str(tmp_path)))
        words = ("-P", "-m", "penstock", "run", project.file, "--on", "prefect", "--param", "n=4")
        said = runner.engine.processes.run(*words, CAVE_WORD="abcde")
        assert "1 run" in said
        assert json.loads((tmp_path / "told").read_text()) == [4, 5]
        run = runner.engine.runs("secretive")[0]
        assert runner.engine.wait(run) == "Completed"
        assert project.runs()[0].info["backend"]["run"] == run

    def test_an_exported_file_is_served_and_triggered(self, runner: Runner, tmp_path: Path) -> None:
        """As a user does it: parameters with their types, secrets from a block, schedule, state, artifact and log."""
        project = Project(tmp_path / "served", SECRET.replace("FOLDER", str(tmp_path)))
        engine = runner.engine
        save = "from prefect.blocks.system import Secret; Secret(value='opensesame').save('cave-word')"
        engine.processes.run("-c", save)
        flow = compiled(str(project.file), python=sys.executable)
        text = Prefect().export(flow, Options(schedule="@daily", secrets=("CAVE_WORD",), python=sys.executable))
        assert "opensesame" not in text
        engine.serve("secretive", text)
        deployed = engine.deployment("secretive")
        assert deployed["schedules"][0]["schedule"]["cron"] == "0 0 * * *"
        assert deployed["parameter_openapi_schema"]["properties"]["n"]["type"] == "integer"
        run = engine.trigger("secretive", n=3)
        assert engine.wait(run) == "Completed"
        assert json.loads((tmp_path / "told").read_text()) == [3, 10]
        log = engine.wait_for_log(run, "Finished in state Completed")
        assert "the word is <CAVE_WORD>" in log
        assert "opensesame" not in log
        assert project.runs()[0].info["backend"]["run"] == run
        runner.end("secretive")

    def test_a_deployment_is_run_by_a_worker_of_a_pool(self, runner: Runner, tmp_path: Path) -> None:
        """The flow is found again by its variable in the file, and the project by its place beside that file."""
        project = Project(tmp_path / "pooled", SECRET.replace("FOLDER", str(tmp_path)))
        engine = runner.engine
        engine.api("work_pools/", {"name": "pool", "type": "process"})
        file = project.folder / "weekly.py"
        file.write_text(POOLED.format(python=sys.executable, folder=str(project.folder)))
        engine.processes.run(file, CAVE_WORD="abc")
        engine.processes.start("pool", "prefect", "worker", "start", "--pool", "pool")
        run = engine.trigger("pooled", n=5)
        assert engine.wait(run) == "Completed"
        assert json.loads((tmp_path / "told").read_text()) == [5, 4]
        engine.processes.stop("pool")

    def test_a_run_that_nobody_serves_is_cancelled_in_prefect(self, runner: Runner, tmp_path: Path) -> None:
        """Prefect only notes that somebody wants its end; the run itself minds it, and ends what it started."""
        project = Project(tmp_path / "called", flows.SLOW.replace("LIMIT", "None"))
        engine = runner.engine
        engine.processes.start("called", "python", "-m", "penstock", "run", project.file, "--on", "prefect",
                               "--param", f"folder={project.notes}")  # fmt: skip
        engine.processes.wait("step that runs", (project.notes / "slow.pid").exists)
        run = engine.runs("slowly")[0]
        engine.cancel(run)
        assert engine.wait(run) == "Cancelled"
        engine.processes.forget("called")
        self.is_gone(project)
        assert "after" not in engine.tasks(run)
        assert project.runs()[0].state == "cancelled"

    def test_a_killed_process_of_a_run_takes_its_workers_along(self, runner: Runner, tmp_path: Path) -> None:
        """Nobody is left to end them."""
        project = Project(tmp_path / "crashed", flows.SLOW.replace("LIMIT", "None"))
        engine = runner.engine
        name = runner.serve(project.file, "step")
        run = engine.trigger(name, folder=str(project.notes))
        engine.processes.wait("step that runs", (project.notes / "slow.pid").exists)
        server = engine.processes.started(name).pid
        [process] = [pid for pid in ancestors(int((project.notes / "slow.pid").read_text())) if parent(pid) == server]
        os.kill(process, signal.SIGKILL)
        assert engine.wait(run) == "Crashed"
        self.is_gone(project)
        runner.end(name)

    def test_a_run_by_schedule_is_tried_again_in_prefect(self, runner: Runner, tmp_path: Path) -> None:
        """What is done is kept, and the same run of ours goes on."""
        project = Project(tmp_path / "scheduled", LATER)
        engine = runner.engine
        later = "datetime.now(timezone.utc) + timedelta(seconds=4)"  # where that passes unseen, 90 s after it
        schedule = f"Interval(timedelta(seconds=90), anchor_date={later}, parameters={project.params!r})"
        text = runner.text(project.file, "step", f"flow.serve('later', schedule={schedule})")
        engine.serve("later", SCHEDULES + text)
        [run] = engine.processes.wait("scheduled run", lambda: self.begun(engine, "later"), every=0.5)
        assert engine.wait(run) == "Failed"
        (project.notes / "there").write_text("")
        engine.api(f"flow_runs/{run}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}})
        engine.processes.wait(
            "second try", lambda: engine.api(f"flow_runs/{run}")["state_name"] == "Completed", every=0.5
        )
        [ended] = project.runs()
        assert (ended.state, ended.info["backend"]["run"]) == ("done", run)
        assert [(row.step, row.state) for row in project.rows(ended.id)][-1] == ("second", "done")
        assert project.tries("first") == 1
        runner.end("later")

    @staticmethod
    def begun(engine: Engine, flow: str) -> list[str]:
        """Runs of a flow that are no longer merely scheduled."""
        found = {run: engine.api(f"flow_runs/{run}")["state_type"] for run in engine.runs(flow)}
        return [run for run, state in found.items() if state not in ("SCHEDULED", "PENDING")]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def ancestors(pid: int) -> list[int]:
    found = [pid]
    while found[-1] > 1:
        found.append(parent(found[-1]))
    return found


MEET = """
import os
import time
import penstock as ps


@ps.step(timeout_s=120)
def meet(me: str, folder: str):
    other = {"one": "two", "two": "one"}[me]
    with open(os.path.join(folder, me), "w") as file:
        file.write("here")
    while not os.path.exists(os.path.join(folder, other)):
        time.sleep(0.05)
    return me


@ps.step
def both(names):
    return "".join(names)


met = ps.Flow(both(meet.map(["one", "two"], ps.Param("folder", ""))), name="met")
"""
SCHEDULES = """
from datetime import datetime, timedelta, timezone
from prefect.schedules import Interval
"""
LATER = """
import os
import penstock as ps


@ps.step
def first(folder: str):
    with open(os.path.join(folder, "first.tries"), "a") as file:
        file.write("x")
    return 1


@ps.step
def second(one, folder: str):
    if not os.path.exists(os.path.join(folder, "there")):
        raise RuntimeError("what it needs is not there yet")
    return one + 1


folder = ps.Param("folder", "")
later = ps.Flow(second(first(folder), folder), name="later")
"""
POOLED = """
from flows import secretive
from penstock import to_prefect

weekly = to_prefect(secretive, python={python!r}, variable="weekly")

if __name__ == "__main__":
    found = weekly.from_source({folder!r}, "weekly.py:weekly")
    found.deploy("pooled", work_pool_name="pool", job_variables={{"env": {{"CAVE_WORD": "abcd"}}}})
"""
SECRET = """
import json
import os
import penstock as ps


@ps.step
def tell(n: int):
    print("the word is", os.environ["CAVE_WORD"])
    with open("FOLDER/told", "w") as file:
        json.dump([n, len(os.environ["CAVE_WORD"])], file)
    return n


secretive = ps.Flow(tell(ps.Param("n", 1)), name="secretive")
"""
