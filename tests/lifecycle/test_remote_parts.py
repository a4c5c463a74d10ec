"""One step of a backend's run in parts, each a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from command_line import call
from penstock.core.ports import Home
from penstock.errors import UsageError
from penstock.lifecycle.records import steps_of
from penstock.lifecycle.remote import Answer, run_part
from penstock.lifecycle.remote_call import parse
from penstock.lifecycle.remote_record import Part, events_of, report_of
from penstock.lifecycle.run import Request, run
from penstock.project import open_home
from penstock.testing.backend_flows import customers

WORKER = "penstock.worker"
WIDE = """
import os
import penstock as ps

@ps.step
def numbers(n: int):
    return list(range(n))

@ps.step(retries=2)
def score(n: int, folder: str):
    with open(os.path.join(folder, f"ran-{n}"), "a") as file:
        file.write("x")
    BODY
    return n * n

@ps.step
def best(scores):
    return max(scores)

folder = ps.Param("folder", "")
wide = ps.Flow(best(score.map(ITEMS, folder)), name="wide")
"""
DECLARED, MADE = "[3, 1, 4, 1, 5, 9, 2]", 'numbers(ps.Param("n", 7))'


def unused(_home: Home, _version: Any) -> int:
    raise AssertionError("nothing is rehearsed here")


class Project:
    """A folder with a mapped step, and what a backend's tasks do in it."""

    def __init__(self, folder: Path, items: str = DECLARED, body: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "penstock.toml").write_text("")
        self.file = folder / "flows.py"
        self.write(items, body)
        self.home = open_home(str(folder))
        self.request = Request(str(self.file), params={"folder": str(folder)})

    def write(self, items: str = DECLARED, body: str = "") -> None:
        self.file.write_text(WIDE.replace("ITEMS", items).replace("BODY", body))

    def task(self, step: str, of: tuple[int, int] | None = None) -> Answer:
        part = Part("airflow", "r", (step,), of)
        return run_part(self.home, self.request, part, WORKER, rehearse=unused)

    def tries(self) -> dict[str, int]:
        return {file.name.removeprefix("ran-"): file.stat().st_size for file in sorted(self.folder.glob("ran-*"))}

    def rows(self) -> list[str]:
        [found] = self.home.ledger.runs()
        return [row.step for row in self.home.ledger.step_runs(found.id)]


@pytest.mark.parametrize("items", [DECLARED, MADE])
def test_parts_and_the_task_after_them_give_what_a_local_run_gives(tmp_path: Path, items: str) -> None:
    project, local = Project(tmp_path / "p", items), Project(tmp_path / "local", items)
    if items == MADE:
        project.task("numbers")
    answers = [project.task("score", (k, 3)) for k in (2, 1, 3)]
    assert [answer.state for answer in answers] == ["done"] * 3
    told = answers[0].to_json()
    assert (told["part"], told["exit"], told["steps"]["score"]["outputs"]) == ("2/3", 0, {})
    assert "score" not in project.rows()
    assert project.home.ledger.runs()[0].state == "running"
    ran = project.tries()
    assert set(ran.values()) == {1}
    whole = project.task("score")
    assert (whole.state, project.tries()) == ("done", ran)
    assert whole.outcome.notes["score"]["items"]["run"] == len(ran)  # by this run, in its parts
    project.task("best")
    # A parameter of the step is the project's folder: both take the same.
    report = run(local.home, Request(str(local.file), params={"folder": str(project.folder)}), WORKER, rehearse=unused)
    step_runs = project.home.ledger.step_runs(project.home.ledger.runs()[0].id)
    for row in step_runs:
        if row.step in ("score", "best"):
            [expected] = [a for (step, _), a in report.outcome.artifacts.items() if step == row.step]
            assert row.outputs[0].digest == expected.digest
    assert project.home.ledger.runs()[0].state == "done"


def test_each_distinct_item_belongs_to_one_part_and_more_parts_than_items_do_no_harm(tmp_path: Path) -> None:
    project = Project(tmp_path, "[1, 2, 1]")
    states = [project.task("score", (k, 4)).state for k in range(1, 5)]
    assert sorted(states) == ["done", "done", "reused", "reused"]
    assert project.tries() == {"1": 1, "2": 1}


def test_a_failed_item_fails_its_part_and_a_retry_does_only_that(tmp_path: Path) -> None:
    luck = 'if n == 4 and not os.path.exists(os.path.join(folder, "luck")): raise ValueError("no luck")'
    project = Project(tmp_path, body=luck)
    first, second = project.task("score", (1, 2)), project.task("score", (2, 2))
    assert (first.state, first.retriable, first.exit_code) == ("failed", True, 5)
    assert first.error is not None
    assert first.error.what.startswith("1 of 3 items failed; the first, item 2: ValueError: no luck")
    assert second.state == "done"
    [found] = project.home.ledger.runs()
    assert (found.state, found.counts["failed"]) == ("failed", 1)
    assert "1 of 3 items failed" in found.info["error"]
    report = report_of(project.home, _graph(project), project.request, Part("airflow", "r", ()), unused)
    assert report.error is not None
    [event] = events_of(project.home, report, ["score"])
    assert (event.kind, event.facts["error"]) == ("failed", "StepError")
    (project.folder / "luck").touch()
    assert project.task("score", (1, 2)).state == "done"
    assert project.home.ledger.runs()[0].state == "running"
    assert project.task("score").state == "done"
    assert project.tries() == {"1": 1, "2": 1, "3": 1, "4": 2, "5": 1, "9": 1}
    project.task("best")
    assert project.home.ledger.runs()[0].state == "done"


def test_an_item_that_failed_for_good_is_not_tried_again_until_its_code_is_another(tmp_path: Path) -> None:
    hopeless = "if n == 4: return object()"
    project = Project(tmp_path, body=hopeless)
    answers = [project.task("score", (1, 2)) for _ in range(2)]
    assert [(answer.exit_code, answer.retriable) for answer in answers] == [(5, False)] * 2
    assert answers[0].to_json()["error"]["what"] == answers[1].to_json()["error"]["what"]
    assert project.tries()["4"] == 1
    assert project.task("score").retriable is False
    assert project.tries() == {"1": 1, "3": 1, "4": 1, "2": 1, "5": 1, "9": 1}
    project.write(body="if n == 4: return 16")
    assert project.task("score", (1, 2)).state == "done"


def test_a_part_of_a_step_that_is_known_is_reused_and_writes_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path)
    run(project.home, project.request, WORKER, rehearse=unused)
    answer = project.task("score", (2, 3))
    assert (answer.state, answer.to_json()["steps"]["score"]["outputs"]) == ("reused", {})
    newest = project.home.ledger.runs()[0]
    assert (newest.state, project.home.ledger.step_runs(newest.id)) == ("running", [])


def test_parts_at_once_lose_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path, "list(range(40))")
    commands = [_command(project, "score", "--part", f"{k}/4") for k in range(1, 5)]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for words in commands]
    told = [json.loads(one.communicate(timeout=300)[0].splitlines()[-1]) for one in started]
    assert [(one["state"], one["part"]) for one in told] == [("done", f"{k}/4") for k in range(1, 5)]
    assert len({one["run"] for one in told}) == 1
    rows = project.rows()
    assert (len(rows), len(set(rows))) == (40, 40)
    whole = project.task("score")
    assert (whole.outcome.notes["score"]["items"]["run"], project.rows()[-1]) == (40, "score")
    assert project.tries() == {str(n): 1 for n in range(40)}


def test_a_failure_of_one_part_stands_when_another_ends_well(tmp_path: Path) -> None:
    project = Project(tmp_path, body='if n == 3: raise ValueError("no luck")')
    project.task("score", (1, 3))
    for of in ((2, 3), (3, 3)):
        assert project.task("score", of).state == "done"
        [found] = project.home.ledger.runs()
        assert (found.state, found.counts["failed"]) == ("failed", 1)
        assert "no luck" in found.info["error"]


@pytest.mark.parametrize(
    ("step", "extra", "says"),
    [
        ("best", ["--part", "1/2"], "best is not done in parts: it goes through no list"),
        ("score", ["--part", "1/2", "--step", "best"], "of one step"),
        ("score", ["--part", "3/2"], "K/N is meant"),
        ("score", ["--part", "0/2"], "K/N is meant"),
        ("score", ["--part", "half"], "K/N is meant"),
    ],
)
def test_what_cannot_be_divided_is_told(tmp_path: Path, step: str, extra: list[str], says: str) -> None:
    project = Project(tmp_path)
    words = ["--file", str(project.file), "--step", step, "--backend", "airflow", "--run", "r", *extra]

    def ask() -> None:
        given = parse(words)
        part = Part("airflow", "r", tuple(given.step), given.part)
        run_part(project.home, project.request, part, WORKER, rehearse=unused)

    with pytest.raises(UsageError, match=says):
        ask()


def test_what_keeps_nothing_is_not_divided(tmp_path: Path) -> None:
    project = Project(tmp_path)
    text = project.file.read_text().replace("folder: str", "folder: str, more=None")
    project.file.write_text(text.replace(", folder)", ", folder, object())"))
    with pytest.raises(UsageError, match="what its items give is not kept"):
        project.task("score", (1, 2))


def _command(project: Project, step: str, *more: str) -> list[str]:
    base = [sys.executable, "-P", "-m", WORKER, "step", "--file", str(project.file), "--step", step]
    return [*base, "--backend", "airflow", "--run", "r", "--param", f"folder={project.folder}", *more]


def _graph(project: Project) -> Any:
    from penstock.lifecycle.run import open_server

    server = open_server(project.home, project.request, WORKER)
    try:
        return server.opened()
    finally:
        server.close()


SEARCH = """
import os
import penstock as ps
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

def judge(fitted, X, y):
    with open(os.path.join(os.environ["SEARCH_NOTES"], "judged"), "a") as file:
        file.write("x")
    return fitted.score(X, y)

churn = ps.Workflow(
    name="churn",
    data=ps.read("customers.csv"),
    target="churned",
    key="customer_id",
    features=["age", "income"],
    model=GridSearchCV(LogisticRegression(), {"C": [0.01, 0.1, 1.0, 10.0]}, cv=3, scoring=judge),
    metrics=["roc_auc"],
)
"""


def search(folder: Path) -> Project:
    project = Project(folder)
    project.file.write_text(SEARCH)
    project.request = Request(str(project.file))
    (folder / "customers.csv").write_text(customers())
    return project


def test_parts_of_a_search_are_fitted_once_and_the_whole_has_the_bytes_of_a_local_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCH_NOTES", str(tmp_path))
    local, project = search(tmp_path / "local"), search(tmp_path / "parts")
    report = run(local.home, Request(str(local.file), until="train"), WORKER, rehearse=unused)
    assert report.error is None
    judged = tmp_path / "judged"
    judged.unlink()
    for step in ("churn", "validate", "split"):
        assert project.task("customers" if step == "churn" else step).state == "done"
    fits = []
    for k in (2, 1, 1):  # in any order, and again after a worker of the backend died
        assert project.task("train", (k, 2)).state == "done"
        fits.append(judged.stat().st_size)
    assert fits == [6, 12, 12]
    assert "train" not in project.rows()
    whole = project.task("train")
    assert whole.state == "done"
    assert judged.stat().st_size == 12
    digests = {key: one.digest for key, one in report.outcome.artifacts.items() if key[0] == "train"}
    assert {key: one.digest for key, one in whole.outcome.artifacts.items() if key[0] == "train"} == digests
    assert project.task("train", (1, 2)).state == "reused"


def test_a_step_that_searches_nothing_is_not_done_in_parts(tmp_path: Path) -> None:
    project = search(tmp_path / "parts")
    with pytest.raises(UsageError, match="validate is not done in parts"):
        project.task("validate", (1, 2))


def test_what_the_parts_took_is_the_step_s_and_items_tell_what_they_logged(tmp_path: Path) -> None:
    project = Project(tmp_path, "[1, 2, 3, 4]", "import time; time.sleep(0.2); ps.log(n=n, square=float(n * n))")
    for k in (1, 2):
        project.task("score", (k, 2))
    project.task("score")
    project.task("best")
    [found] = project.home.ledger.runs()
    rows = {row.step: row for row in project.home.ledger.step_runs(found.id)}
    items = [row for step, row in rows.items() if step.startswith("score[")]
    whole = rows["score"]
    assert whole.cpu_s == pytest.approx(sum(row.cpu_s for row in items))
    assert whole.started == pytest.approx(min(row.started for row in items))
    assert whole.wall_s > 0.2
    assert whole.peak_bytes == max(row.peak_bytes for row in items) > 0
    seen = steps_of(project.home, found)
    assert seen["score"].notes["n"] == "1 to 4 (4 items)"
    assert seen["score"].notes["items"]["run"] == 4
    ended = call(project.folder, "show")
    assert "score logged n 1 to 4 (4 items) · square 1.0 to 16.0 (4 items)" in ended.text


def test_a_step_that_failed_in_a_part_is_shown_as_failed(tmp_path: Path) -> None:
    project = Project(tmp_path, body='if n == 3: raise ValueError("no luck")')
    project.task("score", (1, 3))
    [found] = project.home.ledger.runs()
    seen = steps_of(project.home, found)["score"]
    assert (seen.state, seen.error["what"] if seen.error else "") == (
        "failed",
        "1 item failed; the first: ValueError: no luck",
    )
    ended = call(project.folder, "show")
    assert re.search(r"✗ +score .* 1 item failed; the first: ValueError: no luck", ended.text), ended.text


def test_a_part_that_is_killed_leaves_what_it_finished_and_its_retry_does_the_rest(tmp_path: Path) -> None:
    body = """
    import time
    if n == 3 and not os.path.exists(os.path.join(folder, "again")):
        open(os.path.join(folder, "again"), "w").close()
        time.sleep(600)
"""
    project = Project(tmp_path, "[1, 2, 3, 4]", body)
    command = _command(project, "score", "--part", "1/1")
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "PENSTOCK_JOBS": "1"})
    end = time.monotonic() + 60
    while time.monotonic() < end and not (tmp_path / "again").exists():
        time.sleep(0.05)
    time.sleep(0.5)  # what has ended is on record within a tenth of this
    killed.kill()
    killed.wait()
    assert project.task("score", (1, 1)).state == "done"
    assert project.tries() == {"1": 1, "2": 1, "3": 2, "4": 1}
    assert project.task("score").state == "done"
