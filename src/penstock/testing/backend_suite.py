"""The promises of a backend as tests: one body for every one, the local engine included."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest

from penstock.core.run import Run, StepRun
from penstock.lifecycle.promote import champions
from penstock.lifecycle.rehearse import rehearse_with
from penstock.lifecycle.run import Request, run
from penstock.project import open_home
from penstock.testing import backend_flows as flows

PATIENCE_S = 30.0
"""Seconds in which what a backend ended must have ended."""
Ended = Literal["success", "failed", "cancelled"]
TaskEnded = Literal["success", "skipped", "failed", "not run"]


@dataclass(frozen=True, slots=True)
class Went:
    """How a run went, as the backend itself tells.

    Attributes
    ----------
    state : {"success", "failed", "cancelled"}
    tasks : dict
        Step id → how the task ended that has it.
    log : callable
        Step id → the log of its task, through the backend's own API.
    parts : dict
        Step id → how many tasks of the backend's own did a part of it each, as the backend tells.
    """

    state: Ended
    tasks: Mapping[str, TaskEnded] = field(default_factory=dict)
    log: Callable[[str], str] = lambda _: ""
    parts: Mapping[str, int] = field(default_factory=dict)


class Runner(Protocol):
    """Runs a file's flow on the backend as a user of both would, and waits for its end.

    Attributes
    ----------
    name : str
        The backend's, as the ledger has it; "" for the local engine.
    lacks : frozenset of str
        What cannot be shown here: "cancel", "retries", "logs", "kill", "no-retry", "skip", "parts" (one task does
        all items of a mapped step). Each is listed as not run.
    """

    name: str
    lacks: frozenset[str]

    def run(
        self,
        file: Path,
        *,
        params: Mapping[str, str],
        group: str = "step",
        cancel_when: Path | None = None,
    ) -> Went:
        """Run it once, under a run id of its own.

        Parameters
        ----------
        file : Path
            Declares one flow or workflow, in a project of its own.
        params : dict
            Parameters of the run, given through the backend's own parameters where it has some.
        group : str
            What makes one task.
        cancel_when : Path, optional
            Cancel the run as soon as there is such a file.
        """
        ...


class LocalRunner:
    """The local engine, held to what the others are held to."""

    name = ""
    lacks = frozenset({"cancel", "parts"})

    def run(
        self,
        file: Path,
        *,
        params: Mapping[str, str],
        group: str = "step",  # noqa: ARG002  the engine has no tasks
        cancel_when: Path | None = None,  # noqa: ARG002  a process of its own is cancelled in the engine's tests
    ) -> Went:
        """Run it in this process."""
        home = open_home(str(file))
        request = Request(str(file), params=params)
        report = run(home, request, "penstock.worker", rehearse=rehearse_with("penstock.serve"))
        words: dict[str, TaskEnded] = {"done": "success", "reused": "success", "skipped": "skipped", "failed": "failed"}
        tasks = {node.id: words.get(report.outcome.states.get(node.id, ""), "not run") for node in report.graph.nodes}
        logs = file.parent / ".penstock" / "logs" / report.outcome.run.id

        def log(step: str) -> str:
            path = logs / f"{step}.log"
            return path.read_text() if path.exists() else ""

        return Went("failed" if report.error is not None else "success", tasks, log)


class Project:
    """A folder with one declaration, and what the ledger says of its runs."""

    def __init__(self, folder: Path, text: str, files: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "penstock.toml").write_text("")
        self.folder, self.file = folder, folder / "flows.py"
        self.file.write_text(text)
        for name, content in (files or {}).items():
            (folder / name).write_text(content)
        self.notes = folder / "notes"
        self.notes.mkdir(exist_ok=True)

    @property
    def params(self) -> dict[str, str]:
        """Where steps count their tries."""
        return {"folder": str(self.notes)}

    def runs(self) -> list[Run]:
        """Of this project, newest first."""
        return open_home(str(self.folder)).ledger.runs()

    def rows(self, run_id: str) -> list[StepRun]:
        """What was decided on each step of a run."""
        return open_home(str(self.folder)).ledger.step_runs(run_id)

    def digests(self, run_id: str) -> dict[str, list[str]]:
        """Step → digests of what it gave; the champion of the moment is no artifact of the run."""
        rows = self.rows(run_id)
        return {row.step: [one.digest for one in row.outputs] for row in rows if row.outputs and row.step != "champion"}

    def tries(self, step: str) -> int:
        """How often a step that counts was tried."""
        path = self.notes / f"{step}.tries"
        return path.stat().st_size if path.exists() else 0


def lacking(runner: Runner, what: str) -> None:
    """Say loudly that a promise is not shown here."""
    if what in runner.lacks:
        pytest.skip(f"not run on {runner.name or 'the local engine'}: {what}")


class BackendSuite:
    """Subclass it and give the fixture `runner`.

    Examples
    --------
    A test module of a backend::

        class TestMine(BackendSuite):
            @pytest.fixture(scope="class")
            @classmethod
            def runner(cls):
                return MyRunner()
    """

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls) -> Any:
        """The backend under test: the subclass gives it."""
        pytest.fail("the subclass must define the fixture `runner`")

    @pytest.fixture(scope="class")
    @classmethod
    def ten(cls, runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Went]:
        """The ten steps, run once."""
        project = Project(tmp_path_factory.mktemp("ten"), flows.TEN)
        return project, runner.run(project.file, params={**project.params, "n": "7"})

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
        """What the local engine makes of the same ten steps."""
        folder = tmp_path_factory.mktemp("local")
        project = Project(folder, flows.TEN)
        LocalRunner().run(project.file, params={**project.params, "n": "7"})
        return project.digests(project.runs()[0].id)

    def test_every_artifact_has_the_bytes_of_a_local_run(
        self, ten: tuple[Project, Went], expected: dict[str, list[str]]
    ) -> None:
        """Equal digests, parameters given, nothing missing."""
        project, went = ten
        assert went.state == "success", project.runs()[0].info.get("error")
        assert set(went.tasks.values()) == {"success"}
        found = project.digests(project.runs()[0].id)
        assert found == expected
        assert set(found) == set(flows.TEN_STEPS)

    def test_a_run_is_one_run_on_the_ledger_and_ends(self, runner: Runner, ten: tuple[Project, Went]) -> None:
        """All tasks of one run are one run here, with its figures, and it says whose."""
        project, _ = ten
        [found] = project.runs()[-1:]
        assert (found.state, found.counts["run"], found.counts["failed"]) == ("done", 10, 0)
        assert found.info.get("backend", {}).get("name", "") == runner.name
        assert found.info["params"]["n"] == 7

    def test_lineage_is_whole(self, ten: tuple[Project, Went]) -> None:
        """From the last artifact every step before it is found again."""
        project, _ = ten
        ledger = open_home(str(project.folder)).ledger
        digests = project.digests(project.runs()[-1].id)
        [made] = ledger.makers(digests["last"][0])
        assert made.made["step"] == "last"
        for step, user in (("both", "last"), ("scaled", "last"), ("part", "both"), ("start", "left")):
            assert user in {one.made["step"] for one in ledger.users(digests[step][0])}

    def test_a_step_that_fails_once_is_tried_again(self, runner: Runner, ten: tuple[Project, Went]) -> None:
        """Two tries, both on the ledger, and the run has not failed."""
        lacking(runner, "retries")
        project, _ = ten
        assert project.tries("right") == 2
        rows = [row for row in project.rows(project.runs()[-1].id) if row.step == "right"]
        assert [(row.attempt, row.state) for row in rows] == [(1, "failed"), (2, "done")]

    def test_the_log_of_a_step_is_read_where_the_backend_shows_it(
        self, runner: Runner, ten: tuple[Project, Went]
    ) -> None:
        """What a step prints arrives in the backend's own log."""
        lacking(runner, "logs")
        assert "start says hello" in ten[1].log("start")

    def test_a_second_run_reuses_everything(self, runner: Runner, ten: tuple[Project, Went]) -> None:
        """The store is shared by all runs, whoever started them."""
        project, _ = ten
        went = runner.run(project.file, params={**project.params, "n": "7"})
        assert went.state == "success"
        newest = project.runs()[0]
        assert (newest.state, newest.counts["run"], newest.counts["reuse"]) == ("done", 0, 10)
        assert project.tries("right") == 2

    @pytest.fixture(scope="class")
    @classmethod
    def mapped(cls, runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Went, Went]:
        """A mapped step, run while one of its items fails, and then when none does."""
        project = Project(tmp_path_factory.mktemp("mapped"), flows.MAPPED)
        (project.notes / "bad-3").touch()
        failed = runner.run(project.file, params=project.params)
        (project.notes / "bad-3").unlink()
        return project, failed, runner.run(project.file, params=project.params)

    def test_an_item_that_fails_fails_the_step_and_the_others_are_kept(
        self, runner: Runner, mapped: tuple[Project, Went, Went]
    ) -> None:
        """A retry, and a later run, do only the item that failed; equal items are one."""
        project, failed, went = mapped
        assert (failed.state, failed.tasks["summed"]) == ("failed", "not run")
        assert failed.tasks["square"] in ("failed", "not run")
        assert went.state == "success"
        assert set(went.tasks.values()) == {"success"}
        assert (project.tries("square-2"), project.tries("square-3")) == (1, 2 if "retries" in runner.lacks else 3)
        after, before = project.runs()
        assert (before.state, before.counts["failed"]) == ("failed", 1)
        told = [row.error["what"] for row in project.rows(before.id) if row.error and row.step.startswith("square[")]
        assert set(told) == {"RuntimeError: 3 is bad"}
        assert (after.state, after.counts["failed"]) == ("done", 0)

    def test_a_mapped_step_gives_what_it_gives_in_a_local_run(
        self, mapped: tuple[Project, Went, Went], tmp_path: Path
    ) -> None:
        """Its results stand in the order of its items, whoever did them."""
        project, _, _ = mapped
        local = Project(tmp_path / "local", flows.MAPPED)
        LocalRunner().run(local.file, params=local.params)
        found, expected = project.digests(project.runs()[0].id), local.digests(local.runs()[0].id)
        assert {step: found[step] for step in ("square", "summed")} == {
            step: expected[step] for step in ("square", "summed")
        }

    def test_the_parts_of_a_mapped_step_are_tasks_of_the_backend(
        self, runner: Runner, mapped: tuple[Project, Went, Went]
    ) -> None:
        """As many as the step has declared items; its own task makes a whole of them."""
        lacking(runner, "parts")
        assert mapped[2].parts == {"square": 3}

    def test_what_cannot_get_better_is_not_tried_again(self, runner: Runner, tmp_path: Path) -> None:
        """A step that fails is tried as often as it says; one that gives the wrong number of outputs once."""
        project = Project(tmp_path / "broken", flows.BROKEN)
        went = runner.run(project.file, params=project.params)
        assert went.state == "failed"
        assert went.tasks["first"] == "success"
        assert went.tasks["behind"] == "not run"
        assert "failed" in (went.tasks["hopeless"], went.tasks["wrong"])
        assert project.tries("wrong") <= 1
        assert project.tries("hopeless") <= (1 if "retries" in runner.lacks else 2)
        assert project.tries("wrong") + project.tries("hopeless") >= 1
        ended = project.runs()[0]
        assert ended.state == "failed"

    def test_a_step_over_its_time_is_ended(self, runner: Runner, tmp_path: Path) -> None:
        """With its process, and the run says why it failed."""
        project = Project(tmp_path / "slow", flows.SLOW.replace("LIMIT", "2.0"))
        went = runner.run(project.file, params=project.params)
        assert (went.state, went.tasks["slow"], went.tasks["after"]) == ("failed", "failed", "not run")
        row = project.rows(project.runs()[0].id)[-1]
        assert row.error is not None
        assert row.error["error"] == "StepTimeoutError"
        self.is_gone(project)

    def test_a_cancelled_run_leaves_no_process(self, runner: Runner, tmp_path: Path) -> None:
        """What ran is ended, what was to follow does not begin, and the ledger says so."""
        lacking(runner, "cancel")
        project = Project(tmp_path / "cancelled", flows.SLOW.replace("LIMIT", "None"))
        went = runner.run(project.file, params=project.params, cancel_when=project.notes / "slow.pid")
        assert went.state == "cancelled"
        assert went.tasks["after"] == "not run"
        self.is_gone(project)
        assert project.runs()[0].state in ("cancelled", "running", "failed")

    def is_gone(self, project: Project) -> None:
        """Wait for the end of the process of the step that notes its id."""
        pid, end = int((project.notes / "slow.pid").read_text()), time.monotonic() + PATIENCE_S
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
            time.sleep(0.1)
        assert not os.path.exists(f"/proc/{pid}")

    @pytest.mark.parametrize("victim", [flows.STEP_ITSELF, flows.WORKER], ids=["step", "worker"])
    def test_a_process_killed_in_the_middle_is_made_good(self, runner: Runner, tmp_path: Path, victim: str) -> None:
        """The step is tried again, and the run succeeds."""
        lacking(runner, "retries")
        if victim == flows.WORKER:
            if not runner.name:
                pytest.skip("the local engine is itself the coordinator: its death ends the run")
            lacking(runner, "kill")
        project = Project(tmp_path / "killed", flows.KILLED.replace("VICTIM", victim))
        went = runner.run(project.file, params=project.params)
        assert went.state == "success"
        assert project.tries("fragile") == 2
        assert project.runs()[0].state == "done"

    @staticmethod
    def workflow(folder: Path, level: str, table: str = "") -> Project:
        """A project with the life of a model."""
        return Project(folder, flows.CHURN.replace("LEVEL", level), {"customers.csv": table or flows.customers()})

    @pytest.fixture(scope="class")
    @classmethod
    def churn(cls, runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Went]:
        """The demo's workflow, run once, in tasks of a part each."""
        project = cls.workflow(tmp_path_factory.mktemp("churn"), flows.PASSES)
        return project, runner.run(project.file, params={"cap": "4000"}, group="part")

    def test_a_model_becomes_champion(
        self, runner: Runner, churn: tuple[Project, Went], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """The whole life of a model, with the artifacts of a local run."""
        project, went = churn
        assert went.state == "success"
        ended = project.runs()[-1]
        assert (ended.state, ended.info["version"], ended.info["champion"]) == ("done", 1, True)
        if not runner.name:
            return
        local = self.workflow(tmp_path_factory.mktemp("churn"), flows.PASSES)
        LocalRunner().run(local.file, params={"cap": "4000"})
        assert project.digests(ended.id) == local.digests(local.runs()[0].id)

    def test_a_refusal_of_the_gate_is_no_failure(self, runner: Runner, churn: tuple[Project, Went]) -> None:
        """Trained anew on newer rows: the run succeeds, what stands behind the gate is skipped, the champion stays."""
        project, _ = churn
        project.file.write_text(flows.CHURN.replace("LEVEL", flows.REFUSES))
        (project.folder / "customers.csv").write_text(flows.customers(500))
        went = runner.run(project.file, params={}, group="part" if "skip" in runner.lacks else "step")
        assert went.state == "success"
        if "skip" not in runner.lacks:
            assert (went.tasks["gate"], went.tasks["deploy"]) == ("success", "skipped")
        ended = project.runs()[0]
        assert ended.state in ("refused", "undecided")
        assert (ended.info["version"], ended.info["champion"]) == (2, False)
        assert champions(open_home(str(project.folder)), "churn") == [1]

    def test_bad_data_stops_the_run_at_once(self, runner: Runner, tmp_path: Path) -> None:
        """What validation refuses is not tried again, and nothing is trained."""
        project = self.workflow(tmp_path / "bad", flows.PASSES, flows.BAD_DATA)
        went = runner.run(project.file, params={}, group="part")
        assert went.state == "failed"
        assert went.tasks["train"] == "not run"
        rows = [row for row in project.rows(project.runs()[0].id) if row.step == "validate"]
        assert [row.state for row in rows] == ["failed"]
        assert rows[0].error is not None
        assert rows[0].error["error"] == "ValidationFailedError"
