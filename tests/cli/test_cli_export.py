"""`penstock export`: what it writes goes on record, and says who starts runs of a flow from then on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import Ended, call
from penstock.backends import backend as port
from penstock.backends.backend import Finding, Options
from penstock.backends.compiled import Compiled
from penstock.core.run import Entry
from penstock.errors import ConflictError, StoreError, UsageError
from penstock.lifecycle.exchange import _plan
from penstock.lifecycle.schedules import owner_of, put_export, withdraw
from penstock.project import open_home
from penstock.testing.memory import MemoryLedger

FLOW = """
import penstock as ps

@ps.step
def first(n: int):
    return n

flow = ps.Flow(first(ps.Param("n", 1)), name="small")
"""
BODY = {"backend": "fake", "schedule": "@daily", "to": "", "file": "flows.py", "tasks": 1, "digest": "ab"}


class Fake:
    """Writes the flow's name."""

    name = "fake"
    away = False

    def check(self, flow: Compiled, options: Options) -> list[Finding]:
        return []

    def export(self, flow: Compiled, options: Options) -> str:
        return f"{flow.name} {options.schedule}\n"


class Other(Fake):
    name = "other"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flows.py").write_text(FLOW)
    for one in (Fake, Other):
        monkeypatch.setitem(port.OURS, one.name, f"{__name__}:{one.__name__}")
    return tmp_path


def export(folder: Path, backend: str = "fake", *words: str) -> Ended:
    return call(folder, "export", backend, "flows.py", *words)


def entries(folder: Path) -> list[Entry]:
    return open_home(str(folder)).ledger.stream("small/export")


def test_an_export_takes_the_schedule_along_on_record(folder: Path) -> None:
    assert export(folder, "fake", "--check").code == 0
    assert entries(folder) == []
    written = export(folder, "fake", "--schedule", "@daily", "--output", "dags.txt")
    assert (written.code, written.text, (folder / "dags.txt").read_text()) == (0, "", "small @daily\n")
    [entry] = entries(folder)
    assert {name: entry.body[name] for name in ("backend", "schedule", "to", "file", "tasks")} == {
        "backend": "fake",
        "schedule": "@daily",
        "to": "dags.txt",
        "file": "flows.py",
        "tasks": 1,
    }
    export(folder, "fake", "--schedule", "@daily", "--output", "dags.txt")
    assert len(entries(folder)) == 1  # the same again
    assert export(folder).out == "small \n"  # to the screen, which counts too
    assert [one.body["to"] for one in entries(folder)] == ["dags.txt", ""]
    told = call(folder, "log", "small").out
    assert "fake has the schedule (@daily): exported to dags.txt" in told
    assert "fake has the schedule: exported to standard output" in told
    assert "looks" not in told

    checked = export(folder, "other", "--check")
    assert checked.code == 0
    assert "warning  fake has the schedule of small, by " in checked.out
    assert "penstock export fake flows.py --withdraw" in checked.out
    over = export(folder, "other")
    assert (over.code, over.out) == (0, "small \n")
    assert "fake has the schedule of small" in over.err
    refused = export(folder, "fake", "--withdraw")
    assert refused.code == 2
    assert "fake does not have the schedule of small: other has it" in refused.err
    assert export(folder, "other", "--withdraw").out == "small: other has the schedule no more\n"
    assert owner_of(open_home(str(folder)).ledger, "small") is None
    assert "fake has the schedule of" not in export(folder, "other", "--check").out
    call(folder, "run", "flows.py")
    assert "has the schedule" not in call(folder, "show").out
    export(folder)
    assert "fake has the schedule: exported to standard output · " in call(folder, "show").out
    assert json.loads(call(folder, "log", "small", "--json").out)[0]["kind"] == "export"


def test_what_the_check_asks_is_the_owner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without the question nothing is said."""
    put_export(open_home(str(folder)).ledger, "small", BODY, "ana@host")
    assert "has the schedule" in export(folder, "other", "--check").out
    monkeypatch.setattr("penstock.lifecycle.schedules.owner_of", lambda *_: None)
    assert "has the schedule" not in export(folder, "other", "--check").out


def test_an_export_whose_ledger_cannot_be_written_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr("penstock.store.sql_ledger.SqlLedger.append", refuse)
    ended = export(folder)
    assert (ended.code, ended.out) == (0, "small \n")
    assert "! not on record: the disk is full" in ended.err


def test_two_that_export_at_once_are_both_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = MemoryLedger()
    append, first = ledger.append, [True]

    def late(given: Any, **options: Any) -> Any:
        if first.pop() if first else False:
            append([Entry("small/export", 1, {**BODY, "backend": "other"})])
        return append(given, **options)

    monkeypatch.setattr(ledger, "append", late)
    assert put_export(ledger, "small", BODY, "ana@host").number == 2
    owner = owner_of(ledger, "small")
    assert owner is not None
    assert owner.body["backend"] == "fake"
    with pytest.raises(UsageError, match="other does not have the schedule of small: fake has it"):
        withdraw(ledger, "small", "other", "ana@host")

    def always(*_: Any, **__: Any) -> Any:
        raise ConflictError("somebody else was first")

    monkeypatch.setattr(ledger, "append", always)
    with pytest.raises(ConflictError, match="others all the time"):
        withdraw(ledger, "small", "fake", "ana@host")


def test_who_has_a_schedule_stays_where_it_is(folder: Path, tmp_path: Path) -> None:
    here = open_home(str(folder))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "penstock.toml").write_text("")
    there = open_home(str(tmp_path / "there"))
    for home, name in ((here, "fake"), (there, "other")):
        put_export(home.ledger, "small", {**BODY, "backend": name}, "ana@host")
    plan = _plan(here, there, allow_dirty=False)
    assert (plan.leave, plan.apart) == (["small/export"], [])
