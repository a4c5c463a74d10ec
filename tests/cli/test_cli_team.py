"""A team: environments of their own, a shared store and ledger, who may release, and models that move."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys

import pytest

TWO = """
[env.prod]
store = "../prod/store"
ledger = "../prod/ledger.db"
"""
WITHOUT_PENSTOCK = """
import runpy, sys
sys.modules["penstock"] = None  # importing it raises
sys.argv[:] = ["score.py", sys.argv[2]]
runpy.run_path("score.py", run_name="__main__")
"""


@pytest.fixture
def project(shop, tmp_path):
    """A copy of the shop: churn@1 is champion, churn@2 was refused."""
    folder = tmp_path / "shop"
    shutil.copytree(shop.folder, folder)
    copy = type(shop)(folder)
    copy.write("penstock.toml", TWO)
    return copy


class Apart:
    """A project whose calls are processes of their own, as on a person's machine and in CI."""

    def __init__(self, shop, folder):
        self.shop, self.folder = type(shop)(folder), folder

    def call(self, *words):
        done = self.shop.start(*words)
        out, err = done.communicate(timeout=100)
        return type("Ended", (), {"code": done.returncode, "out": out, "err": err})


def said(project, *words):
    call = project.call(*words, "--json")
    assert call.code == 0, call.err + call.out
    return json.loads(call.out)


# ── push and pull ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_version_moves_by_name_once_and_takes_no_standing_with_it(project):
    moved = said(project, "push", "churn@1")
    assert moved["versions"] == [{"from": "churn@1", "to": "churn@1", "new": True}]
    assert moved["objects"] > 3
    again = said(project, "push", "churn", "--to", "prod")  # its champion is the same version
    assert (again["objects"], again["size"], again["versions"][0]["new"]) == (0, 0, False)
    [there] = said(project, "models", "--env", "prod")
    assert (there["versions"], there["champion"]) == (1, None)
    assert project.call("fsck", "--env", "prod").code == 0
    [shown] = said(project, "models", "churn", "--env", "prod")
    assert (shown["aliases"], shown["outcome"]) == (["challenger"], "passed")  # judged against nobody, here as there
    assert project.call("show", "churn@1", "--env", "prod").code == 0
    assert project.call("report", "churn@1", "--env", "prod", "-o", str(project.folder / "r.html")).code in (0, 2)
    assert project.call("promote", "churn@1", "--env", "prod").code == 2  # no reason
    assert project.call("promote", "churn@1", "--env", "prod", "--because", "the fair").code == 0
    assert "because the fair" in project.call("log", "churn", "--env", "prod").out
    answers = project.call("predict", "churn", "customers.csv", "--env", "prod")
    assert answers.out == project.call("predict", "churn", "customers.csv", "--env", "dev").out != ""


def test_a_version_that_was_refused_moves_without_becoming_challenger(project):
    project.call("push", "churn@1")
    project.call("promote", "churn@1", "--env", "prod", "--because", "first")
    assert said(project, "push", "churn@2")["versions"][0]["to"] == "churn@2"
    second = said(project, "models", "churn", "--env", "prod")[0]
    assert second["outcome"] != "passed"
    assert second["verdict"] is not None  # the same champion reigns there: its verdict says something there too
    assert project.call("promote", "churn@2", "--env", "prod", "--because", "x").code == 4


def test_a_verdict_on_another_champion_stays_behind(project):
    project.call("push", "churn@2")  # judged against churn@1, which nobody knows there
    [only] = said(project, "models", "churn", "--env", "prod")
    assert (only["version"], only["outcome"]) == ("churn@1", "not judged")


def test_everything_moves_to_an_empty_place_and_again_for_nothing(project):
    moved = said(project, "push")
    assert moved["entries"] > 5
    assert moved["runs"] >= 4
    assert project.call("fsck", "--env", "prod").code == 0
    for verb in (["models", "churn"], ["log", "churn"], ["runs"]):
        assert said(project, *verb, "--env", "prod") == said(project, *verb, "--env", "dev")
    again = said(project, "push")
    assert again == {"versions": [], "objects": 0, "size": 0, "runs": 0, "results": 0, "entries": 0,
                     "environment": "prod"}  # fmt: skip


def test_a_push_of_everything_brings_no_champion_that_release_does_not_allow(project, monkeypatch):
    """A ledger that knows nothing of the workflow is no way around what `release` asks for."""
    project.write("penstock.toml", TWO + 'release = "ci"\n')
    moved = said(project, "push")
    assert [one["version"] for one in moved["held"]] == ["churn@1"]
    assert "this process is not CI" in moved["held"][0]["why"]
    [there] = said(project, "models", "--env", "prod")
    assert (there["versions"], there["champion"]) == (2, None)
    assert project.call("fsck", "--env", "prod").code == 0
    told = project.call("push").out
    assert "churn@1 arrived without being champion in prod: release is 'ci'" in told
    assert 'next  penstock promote churn@1 --env prod --because "…"' in told
    assert project.call("push", "churn@1", "--because", "x").code == 2
    by_hand = project.call("push", "--because", "the fair")
    assert "→ champion: churn@1 in prod" in by_hand.out, by_hand.err
    moves = [one for one in said(project, "log", "churn", "--env", "prod") if one["kind"] == "alias"]
    assert "the fair" in [one["why"] for one in moves]
    again = said(project, "push")  # the same champion reigns by a move of its own: nothing is apart
    assert {"held", "promoted"}.isdisjoint(again)
    monkeypatch.setenv("PENSTOCK_RELEASE", "ci")
    assert {"held", "promoted", "stayed", "apart"}.isdisjoint(said(project, "push"))
    monkeypatch.delenv("PENSTOCK_RELEASE")
    shutil.rmtree(project.folder.parent / "prod")
    monkeypatch.setenv("PENSTOCK_RELEASE", "ci")
    assert "held" not in said(project, "push")
    assert said(project, "models", "--env", "prod")[0]["champion"] == "churn@1"


def test_a_push_with_a_reason_asks_for_what_a_promotion_asks_for(project, monkeypatch):
    """On a shared ledger a commit must hold the code; nothing has moved when one does not."""
    from penstock.core.ports import Config

    project.write("penstock.toml", TWO + 'release = "ci"\n')
    monkeypatch.setattr(Config, "shared", property(lambda config: "prod" in config.ledger))
    refused = project.call("push", "--because", "the fair")
    assert (refused.code, "its code is not in Git" in refused.err) == (4, True), refused.out
    assert said(project, "models", "--env", "prod") == []
    assert project.call("push", "--because", "the fair", "--allow-dirty").code == 0
    assert said(project, "models", "--env", "prod")[0]["champion"] == "churn@1"
    assert "allowed)" in project.call("log", "churn", "--env", "prod").out


def test_places_that_were_both_decided_in_are_told_so_and_go_on(project):
    from penstock.core.run import Entry
    from penstock.store.ledger import SqliteLedger

    project.call("push")
    for place in (project.folder / ".penstock" / "ledger.db", project.folder.parent / "prod" / "ledger.db"):
        ledger = SqliteLedger(str(place))
        number = ledger.streams().get("churn/look", 0) + 1
        ledger.append([Entry("churn/look", number, {"version": 1, "run": place.parent.name})])
        ledger.close()
    moved = project.call("push")
    assert (moved.code, moved.err) == (0, "")
    assert "churn was decided on in both places: its versions went over by name" in moved.out
    assert said(project, "pull")["apart"] == ["churn"]


def test_pull_brings_what_push_took_away(project):
    project.call("push", "churn@1")
    shutil.rmtree(project.folder / ".penstock")
    assert said(project, "pull", "churn@1")["versions"][0]["new"]
    assert said(project, "show", "churn@1")["version"] == "churn@1"
    assert project.call("fsck").code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["push", "churn@9"], "no version churn@9"),
        (["push", "--to", "nowhere"], "no environment 'nowhere'"),
        (["push", "--to", "dev"], "the same store and ledger"),
        (["pull", "churn@1", "penstock.toml"], "is there already"),
    ],
)
def test_what_cannot_move_is_told(project, words, told):
    call = project.call(*words)
    assert (call.code, told in call.err) == (2, True), call.err


def test_without_another_environment_push_says_how_to_make_one(project):
    project.write("penstock.toml", "")
    call = project.call("push")
    assert call.code == 2
    assert "[env.prod]" in call.err


class Ended(BaseException):
    """The process is ended here."""


@pytest.mark.parametrize("things", [["churn@1"], []])
def test_a_push_that_is_ended_anywhere_is_completed_by_another(project, monkeypatch, things):
    """At each write to the other place in turn; then once more without an end."""
    from penstock.store.ledger import SqliteLedger
    from penstock.store.objects import DirectoryObjects

    left = [math.inf]

    def ended(real, *args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise Ended
        return real(*args, **kwargs)

    for kind, names in ((DirectoryObjects, ("stage", "publish")), (SqliteLedger, ("append", "commit"))):
        for name in names:
            real = getattr(kind, name)
            monkeypatch.setattr(kind, name, lambda *a, real=real, **k: ended(real, *a, **k))
    ends = 0
    for writes in range(200):
        left[0] = writes
        try:
            project.call("push", *things)
        except Ended:
            ends += 1
            left[0] = math.inf
            found = json.loads(project.call("fsck", "--env", "prod", "--json").out)
            assert [one for one in found["findings"] if one["fault"]] == []
            if writes % 3:  # some are taken up where they ended, some start anew
                shutil.rmtree(project.folder.parent / "prod")
        else:
            break
    left[0] = math.inf
    assert ends > 5
    assert said(project, "push", *things)["objects"] == 0
    assert project.call("fsck", "--env", "prod").code == 0
    assert [one["number"] for one in said(project, "log", "churn", "--env", "prod") if one["kind"] == "version"] in (
        [1],
        [2, 1],
    )


# ── elsewhere ────────────────────────────────────────────────────────────────────────────────────────────────


def scored(folder, rows):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", WITHOUT_PENSTOCK, "score.py", str(rows)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_exported_version_scores_where_penstock_cannot_be_imported(project):
    files = said(project, "pull", "churn@1", "taken")["files"]
    assert {"estimator.skops", "input.json", "golden.csv", "metrics.json", "report.html", "requirements.txt",
            "score.py", "version.json"} <= set(files)  # fmt: skip
    folder = project.folder / "taken"
    assert sorted(os.listdir(folder)) == files
    assert scored(folder, project.folder / "customers.csv") == project.call("predict", "churn@1", "customers.csv").out
    ours = list(csv.DictReader(scored(folder, "golden.csv").splitlines()))
    kept = list(csv.DictReader((folder / "golden_answers.csv").read_text().splitlines()))
    assert [(one["label"], float(one["score"])) for one in ours] == [
        (one["label"], pytest.approx(float(one["score"]), abs=1e-12)) for one in kept
    ]
    pinned = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in pinned)
    assert any(line.startswith("skops==") for line in pinned)


def test_an_export_is_whole_or_not_at_all(project, monkeypatch):
    from penstock.lifecycle import export

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_untrusted", fails)
    call = project.call("pull", "churn@1", "taken")
    assert (call.code, "the disk is full" in call.err) == (1, True)
    assert [name for name in os.listdir(project.folder) if name.startswith("taken")] == []


# ── who may release ──────────────────────────────────────────────────────────────────────────────────────────


def commit(folder):
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True, env=environment)


def test_on_a_shared_ledger_people_register_and_ci_releases(empty, s3, postgres, monkeypatch):
    """The whole journey: objects in S3, the ledger in PostgreSQL."""
    monkeypatch.setenv("LEDGER", postgres)
    empty.write("penstock.toml", f'store = "{s3}"\nledger = "${{LEDGER}}"\n')
    write, empty = empty.write, Apart(empty, empty.folder)
    first = empty.call("run", "churn.py")
    assert first.code == 0, first.err + first.out
    assert "challenger: churn@1 · release is 'ci', and this process is not CI" in first.out
    assert 'penstock promote churn@1 --because "…"' in first.out
    assert said(empty, "models")[0]["champion"] is None
    by_hand = empty.call("promote", "churn@1", "--because", "the fair")
    assert (by_hand.code, "its code is not in Git" in by_hand.err) == (4, True)
    monkeypatch.setenv("PENSTOCK_RELEASE", "ci")
    held = empty.call("run", "churn.py")
    assert "challenger: churn@1 · its code is not in Git, and the ledger is shared" in held.out, held.out + held.err
    assert said(empty, "models")[0]["champion"] is None
    write(".gitignore", "customers.csv\n")
    commit(empty.folder)
    released = empty.call("run", "churn.py")
    assert released.code == 0, released.err + released.out
    assert "champion: churn@1" in released.out
    assert empty.call("fsck").code == 0
    doctor = empty.call("doctor")
    assert doctor.code == 0, doctor.err + doctor.out
    kinds = [one["kind"] for one in said(empty, "log", "churn")]
    assert kinds.count("alias") == 2  # challenger, then champion
    assert kinds.count("look") == 1
    other = Apart(empty.shop, empty.folder.parent / "other")  # a second machine: nothing but the files under Git
    shutil.copytree(empty.folder, other.folder, ignore=shutil.ignore_patterns(".penstock"))
    again = other.call("run", "churn.py")
    assert "nothing to do" in again.out, again.out + again.err


# ── looking leaves things as they are ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "words", [["models"], ["runs"], ["log"], ["doctor"], ["show"], ["fsck"], ["gc"], ["lineage"], ["diff"]]
)
def test_a_verb_that_reads_makes_no_store(tmp_path, empty, words):
    before = sorted(os.listdir(empty.folder))
    assert empty.call(*words).code in (0, 2)
    assert sorted(os.listdir(empty.folder)) == before


def test_the_project_s_folder_is_kept_out_of_git_wherever_the_store_is(empty):
    empty.write("penstock.toml", 'store = "../elsewhere/store"\nledger = "../elsewhere/ledger.db"\n')
    assert empty.call("plan", "churn.py").code == 0
    assert (empty.folder / ".penstock" / ".gitignore").read_text() == "*\n"


def test_every_verb_takes_an_environment(empty):
    from penstock.cli.verbs import VERBS

    for verb in VERBS:
        assert "--env" in empty.call(verb, "--help").out, verb


def test_gc_keeps_as_long_as_the_environment_says(project):
    project.write("penstock.toml", 'keep = "0s"\ngrace = "0s"\n[env.night]\nkeep = "900d"\n')
    assert said(project, "gc", "--dry-run", "--env", "night")["results"] == 0
    assert said(project, "gc", "--dry-run", "--env", "dev")["results"] > 0
