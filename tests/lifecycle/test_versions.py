"""Names of versions and runs: what they stand for on the ledger, and what is said when they stand for nothing."""

import os

import pytest

from penstock.core.ports import Config, Home
from penstock.core.run import Entry, Group, Run
from penstock.errors import CorruptObjectError, MissingObjectError, UnknownNameError
from penstock.formats.registry import FormatRegistry
from penstock.lifecycle.register import json_artifact
from penstock.lifecycle.versions import (
    Version,
    alias,
    file_of,
    head,
    manifest,
    resolve,
    resolve_run,
    stream,
    version,
    versions,
    who_am_i,
    workflows,
)
from penstock.store.ledger import SqliteLedger
from penstock.testing import MemoryLedger, MemoryObjects

MANY = "9" * 30


def filled(ledger):
    """Three versions of churn, its champion at 2, its challenger at 3; one version of fraud, champion of nothing."""
    ledger.append([Entry("churn/version", n, {"bundle": {}, "n": n}) for n in (1, 2, 3)])
    ledger.append([Entry("fraud/version", 1, {"bundle": {}, "n": 1})])
    for number, to in enumerate((1, 2), 1):
        ledger.append([Entry("churn/alias/champion", number, {"version": to, "previous": to - 1 or None})])
    ledger.append([Entry("churn/alias/challenger", 1, {"version": 3, "previous": None})])
    return ledger


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request, tmp_path):
    made = filled(MemoryLedger() if request.param == "memory" else SqliteLedger(str(tmp_path / "ledger.db")))
    yield made
    made.close()


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_is_named_by_workflow_kind_and_name():
    assert stream("churn", "version") == "churn/version"
    assert stream("churn", "alias", "champion") == "churn/alias/champion"


def test_the_head_is_the_newest_entry_of_that_stream_alone(ledger):
    ledger.append([Entry("churn/versions-of-old", 1, {})])  # a name that begins with the other's
    assert (head(ledger, "churn/version").number, head(ledger, "churn/version").body["n"]) == (3, 3)
    assert head(ledger, "churn/verdict") is None


def test_versions_come_oldest_first_and_know_their_name(ledger):
    assert [one.name for one in versions(ledger, "churn")] == ["churn@1", "churn@2", "churn@3"]
    assert versions(ledger, "nothing") == []
    assert workflows(ledger) == ["churn", "fraud"]


def test_an_alias_tells_its_version_and_the_number_of_its_last_move(ledger):
    found, moves = alias(ledger, "churn", "champion")
    assert (found.number, moves) == (2, 2)
    assert alias(ledger, "fraud", "champion") == (None, 0)


def test_an_alias_that_was_taken_away_keeps_the_count_of_its_moves(ledger):
    ledger.append([Entry("churn/alias/champion", 3, {"version": None, "previous": 2})])
    assert alias(ledger, "churn", "champion") == (None, 3)


@pytest.mark.parametrize(
    ("text", "number"), [("churn", 2), ("churn@champion", 2), ("churn@challenger", 3), ("churn@1", 1), ("churn@03", 3)]
)
def test_a_name_stands_for_a_version(ledger, text, number):
    assert resolve(ledger, text).number == number


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chrun", 'did you mean "churn"'),
        ("chrun@2", 'did you mean "churn"'),
        ("churn@champoin", 'did you mean "champion"'),
        ("churn@chalenger", 'did you mean "challenger"'),
        ("fraud", "fraud has no 'champion'"),
        ("churn@4", "there is no version churn@4"),
        ("churn@0", "there is no version churn@0"),
        (f"churn@{MANY}", "there is no version churn@999"),
        ("churn@", "did you mean"),
        ("CHURN", "no workflow called 'CHURN'"),
        ("../churn", "did you mean"),
        ("", "no workflow called ''"),
    ],
)
def test_a_name_that_stands_for_nothing_gets_the_nearest_right_word(ledger, text, said):
    with pytest.raises(UnknownNameError) as caught:
        resolve(ledger, text)
    assert said in caught.value.what
    assert "penstock models" in caught.value.hint


@pytest.mark.parametrize("number", [-1, 0, 4, 2**63, 10**40])
def test_a_number_that_no_version_has_is_refused(ledger, number):
    with pytest.raises(UnknownNameError, match="there is no version"):
        version(ledger, "churn", number)


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def with_runs(ledger):
    ids = ("aa11" * 4, "aa22" * 4, "bb33" * 4)
    ledger.commit(Group(runs=[Run(one, "churn", "run", "done", float(at)) for at, one in enumerate(ids, 1)]))
    return ledger


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("last", "bb33"),
        ("last~0", "bb33"),
        ("last~1", "aa22"),
        ("last~2", "aa11"),
        ("run:bb", "bb33"),
        ("bb33", "bb33"),
        ("aa2", "aa22"),
        ("aa22" * 4, "aa22"),
    ],
)
def test_a_run_is_named_by_its_place_or_a_prefix(with_runs, text, found):
    assert resolve_run(with_runs, text).id == found * 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("aa", "several runs begin with it"),
        ("run:aa", "several runs begin with it"),
        ("cc", "no run begins with it"),
        ("run:", "no run begins with it"),
        ("", "no run begins with it"),
        ("last~3", "there is no run last~3"),
        ("last~x", "there is no run last~x"),
        ("last~²", "there is no run last~²"),
        (f"last~{MANY}", "there is no run last~"),
    ],
)
def test_a_run_that_is_not_one_is_refused(with_runs, text, said):
    with pytest.raises(UnknownNameError, match="penstock runs") as caught:
        resolve_run(with_runs, text)
    assert said in caught.value.what


# ── bundles ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def home(tmp_path):
    return Home(Config(str(tmp_path), "", ""), MemoryObjects(), MemoryLedger(), FormatRegistry())


def bundled(home, **files):
    kept = {name: home.formats.dump(value, home.objects.stage).to_json() for name, value in files.items()}
    return json_artifact(home.objects, {"penstock": "bundle/1", "workflow": "churn", "files": kept}, "bundle")


def test_files_of_a_bundle_are_read_back(home):
    made = bundled(home, golden={"rows": [1]}, schema=b"large", metrics={"text": "x" * 10_000})
    assert set(manifest(home, made)["files"]) == {"golden", "schema", "metrics"}
    assert file_of(home, made, "golden") == {"rows": [1]}
    assert file_of(home, made, "schema") == b"large"
    assert file_of(home, made, "metrics") == {"text": "x" * 10_000}
    found = Version("churn", 7, Entry("churn/version", 7, {"bundle": made.to_json()}))
    assert (found.name, found.bundle) == ("churn@7", made)


def test_a_bundle_that_was_lost_or_changed_is_never_read(home):
    made = bundled(home, golden={"rows": [1]})
    home.objects.staged[made.digest] = b"{}"
    with pytest.raises(CorruptObjectError):
        manifest(home, made)
    home.objects.delete(made.digest)
    with pytest.raises(MissingObjectError):
        file_of(home, made, "golden")


# ── who ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_decision_knows_who_took_it(monkeypatch):
    monkeypatch.setenv("USER", "ada")
    assert who_am_i() == f"ada@{os.uname().nodename}"


@pytest.mark.parametrize("uid", [None, 4_000_000_000])
def test_without_a_name_in_the_environment_the_system_is_asked(monkeypatch, uid):
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.delenv("LOGNAME", raising=False)
    if uid is not None:  # as a container runs it: a user that no list has
        monkeypatch.setattr(os, "getuid", lambda: uid)
    name = who_am_i().partition("@")[0]
    assert name == str(uid) if uid is not None else name
