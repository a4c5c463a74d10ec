"""When a query is read again: by its policy, when it is asked for, and when its snapshot is of no use any more."""

import sqlite3

import pytest

from penstock.core.facts import Facts
from penstock.core.run import SourceStat
from penstock.engine import snapshots
from penstock.errors import UsageError
from penstock.lifecycle.run import Request, make_plan
from penstock.testing import MemoryLedger

FLOW = """
    crm = ps.read("sqlite:///crm.db", query="select * from t where n >= :least", params={"least": ps.Param("least", 1)},
                  name="crm", refresh=REFRESH)

    @ps.step
    def total(t) -> int:
        return int(t["n"].sum())

    flow = ps.Flow(total(crm), name="crm")
"""


@pytest.fixture
def crm(project):
    database = sqlite3.connect(project.root / "crm.db", isolation_level=None)
    database.execute("create table t (n int)")
    database.execute("insert into t values (1), (2)")

    def declare(refresh):
        project.write(FLOW.replace("REFRESH", repr(refresh)))

    project.sql, project.declare = database.execute, declare
    yield project
    database.close()


def reasons(project, **request):
    home = project.home()
    _, plan, _ = make_plan(home, Request(str(project.root / "flows.py"), "flow", **request), "penstock.worker")
    home.ledger.close()
    return {d.step: (d.action, str(d.reason)) for d in plan.decisions}


def run(project, **request):
    report = project.run(variable="flow", **request)
    assert report.error is None, report.error
    return report.outcome.states, project.value(report, "total")


def test_a_query_is_read_once_a_run_and_equal_rows_end_it_there(crm):
    crm.declare("run")
    assert reasons(crm)["crm"] == ("run", "the query is read once a run")
    assert run(crm) == ({"crm": "done", "total": "done"}, 3)
    assert run(crm) == ({"crm": "done", "total": "reused"}, 3)
    assert reasons(crm) == {"crm": ("run", "the query is read once a run"), "total": ("wait", "waits for crm")}
    crm.sql("insert into t values (10)")
    assert run(crm) == ({"crm": "done", "total": "done"}, 13)


def test_planning_asks_no_database(crm):
    crm.declare("run")
    (crm.root / "crm.db").unlink()
    assert reasons(crm)["crm"][0] == "run"


def test_a_try_takes_the_newest_snapshot_and_says_its_age_also_after_a_query_that_failed(crm):
    crm.declare("run")
    assert reasons(crm, what="try")["crm"] == ("run", "the query is read once a run")  # there is none
    run(crm)
    crm.sql("insert into t values (10)")
    action, reason = reasons(crm, what="try")["crm"]
    assert action == "reuse"
    assert reason.startswith("snapshot of ")
    assert run(crm, what="try") == ({"crm": "reused", "total": "reused"}, 3)
    crm.sql("alter table t rename to u")
    assert "no such table: t" in str(crm.run(variable="flow").error)
    assert reasons(crm, what="try")["crm"][0] == "reuse"


def test_a_manual_query_is_read_when_it_is_asked_for(crm):
    crm.declare("manual")
    assert run(crm)[1] == 3
    crm.sql("insert into t values (10)")
    assert run(crm) == ({"crm": "reused", "total": "reused"}, 3)
    assert reasons(crm, refresh=("crm",))["crm"] == ("run", "the query is read again: asked for")
    assert run(crm, refresh=("crm",))[1] == 13
    assert reasons(crm)["crm"][0] == "reuse"
    with pytest.raises(UsageError, match='--refresh crn: no such query; did you mean "crm"'):
        reasons(crm, refresh=("crn",))


def test_another_parameter_is_another_query_with_a_snapshot_of_its_own(crm):
    crm.declare("manual")
    assert run(crm)[1] == 3
    assert run(crm, params={"least": "2"})[1] == 2
    assert run(crm) == ({"crm": "reused", "total": "reused"}, 3)


def test_a_snapshot_that_is_gone_is_a_miss_that_says_so(crm):
    crm.declare("manual")
    home = crm.home()
    report = crm.run(variable="flow", home=home)
    home.objects.delete(report.outcome.artifacts["crm", "table"].digest)
    home.ledger.close()
    assert reasons(crm)["crm"] == ("run", "the query is read again: its snapshot is no longer in the store")
    assert run(crm) == ({"crm": "done", "total": "reused"}, 3)
    assert reasons(crm)["crm"][0] == "reuse"


@pytest.mark.parametrize(
    ("policy", "seconds", "why"),
    [
        ("1d", 3600, ""),
        ("1d", 90_000, "the query is read again: its snapshot is 1 d old (refresh='1d')"),
        ("1d", -7200, "the query is read again: its snapshot is 0 s old (refresh='1d')"),
        ("manual", 10**9, ""),
        ("run", 0, "the query is read once a run"),
    ],
)
def test_a_policy_over_the_age_of_the_snapshot(flows, policy, seconds, why):
    import time

    node = flows.node("crm", kind="source", refresh=policy)
    ledger = MemoryLedger()
    ledger._sources[snapshots.key_of(node)] = SourceStat("k", (int((time.time() - seconds) * 1e9), 0, 0), "ab" * 32)
    facts = Facts()
    snapshots.choose([node], facts, ledger)
    assert facts.reading.get("crm", "") == why
    assert (facts.sources["crm"] == "ab" * 32) == (not why)


def test_one_query_declared_twice_is_read_at_one_moment(flows):
    twins = [flows.node(name, kind="source", refresh="run") for name in ("a", "b")]
    facts = Facts()
    snapshots.choose(twins, facts, MemoryLedger())
    assert facts.sources["a"] == facts.sources["b"]


def test_queries_of_one_database_are_read_together_and_nothing_is_left(crm, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    crm.write(
        """
        a = ps.read("sqlite:///crm.db", query="select n from t", name="a")
        b = ps.read("sqlite:///crm.db", query="select n + 1 as m from t", name="b")
        flow = ps.Flow(a, b, name="two")
        """
    )
    report = crm.run(variable="flow")
    assert report.error is None, report.error
    assert report.value(crm.home(), "a", "table")["n"].to_pylist() == [1, 2]
    assert report.value(crm.home(), "b", "table")["m"].to_pylist() == [2, 3]
    assert not [name for name in tmp_path.iterdir() if name.name.startswith("penstock-queries-")]


def test_the_password_of_a_query_is_named_in_the_flow_and_stands_nowhere(project, monkeypatch):
    """A server that is not there: the worker has resolved the secret, and the driver says what it likes."""
    import os

    from penstock.testing.postgres import free_port

    monkeypatch.setenv("CRM_PASSWORD", "canary'7f\\3a/91")
    project.write(
        f"""
        crm = ps.read("postgresql://me@127.0.0.1:{free_port()}/crm", query="t", secret=ps.Secret("env:CRM_PASSWORD"))
        flow = ps.Flow(crm, name="crm")
        """
    )
    report = project.run(variable="flow")
    assert "does not answer" in str(report.error)
    assert "env:CRM_PASSWORD" in str(report.graph.node("t").tree)
    for folder, _, names in os.walk(project.root):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                assert b"canary" not in file.read(), name
    assert "canary" not in str(report.error) + repr(project.events)
