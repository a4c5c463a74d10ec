"""`penstock audit` on real processes: steps of every library, a leak refused, answered, and proven away."""

import json

import pytest

STEPS = """
import random
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import penstock as ps
from sklearn.linear_model import LogisticRegression


@ps.step
def by_polars(t: pl.DataFrame):
    print("one line a run")
    ps.log(rows=len(t))
    assert t["n"].null_count() > 0, t.schema
    return t.with_columns(pl.col("n").fill_null(0))


@ps.step
def by_arrow(t: pa.Table):
    return t.append_column("a2", pc.multiply(t["a"], 2.0))


@ps.step(outputs=("table", "rates"))
def by_path(t: Path):
    table = pd.read_parquet(t)
    return table, {"mean": float(table["b"].mean())}


@ps.step
def last(t, rates, others):
    t["noise"] = np.random.normal(size=len(t)) + random.random()
    return t LEAK


table, rates = by_path(by_arrow(by_polars(ps.read("customers.csv"))))
churn = ps.Workflow(
    name="churn",
    data=last(table, rates, [ps.read("customers.csv", name="again")]),
    target="churned",
    key="customer_id",
    features=["a", "a2", "b", "noise"],
    model=LogisticRegression(),
    AUDIT
)
"""
LEAK = '.assign(b=lambda u: u["b"] - rates["mean"])'


def declared(leak="", audit=""):
    return STEPS.replace("LEAK", leak).replace("AUDIT", audit)


@pytest.fixture
def project(empty):
    lines = empty.table().splitlines()
    numbered = [f"{line},{'' if i % 9 == 3 else i % 5}" for i, line in enumerate(lines[1:])]
    empty.write("customers.csv", "\n".join([f"{lines[0]},n", *numbered]) + "\n")
    empty.write("churn.py", declared())
    return empty


def proof(project, *words):
    ended = project.call("audit", "--json", *words)
    assert ended.out, ended.err
    return ended.code, json.loads(ended.out)


def test_steps_of_every_library_are_proven_refused_and_answered(project):
    code, clean = proof(project)
    assert (code, [one for one in clean["findings"] if "step" in one]) == (0, [])
    watched = [one["what"] for one in clean["tried"] if "watched" in one["what"]]
    assert len(watched) == 3
    assert all("by_polars, by_arrow, by_path, last" in what for what in watched)
    assert clean["summary"].startswith("4 steps: no training row moved with")

    project.write("churn.py", declared(LEAK))
    code, found = proof(project)
    [leak] = [one for one in found["findings"] if "step" in one]
    assert (code, leak["grade"], leak["kind"], leak["column"], leak["step"]) == (4, "error", "features", "b", "last")
    assert "(through by_path)" in leak["what"]
    assert leak["example"].startswith("customer_id=c")
    refused = project.call("run")
    assert refused.code == 4
    assert "the audit found an error, so it was not compared: step last" in refused.out
    assert [one for one in json.loads(project.call("log", "--json").out) if one["kind"] == "look"] == []
    shown = project.call("show", "churn@1")
    assert "  gate: the audit found an error, so it was not compared: step last" in shown.out
    assert " ✗ audit" in refused.out

    project.write("churn.py", declared(LEAK, 'audit=ps.Audit(waive={"last": "a constant of the firm"}),'))
    code, waived = proof(project)
    [answered] = [one for one in waived["findings"] if one["kind"] == "waived"]
    assert (code, answered["grade"]) == (0, "note")
    assert "a constant of the firm" in answered["what"]
    shown = project.call("audit", "churn@1")
    assert shown.code == 4
    assert "error: step last" in shown.out
    assert "not tried" in shown.out


def test_nothing_runs_twice_and_what_steps_print_stays_unheard(project):
    project.call("audit")
    again = project.call("audit", "-v")
    assert again.code == 0
    assert "one line a run" not in again.out
    plan = json.loads(project.call("plan", "--json").out)
    known = {step["step"]: step["action"] for step in plan["steps"]}
    assert (known["scramble"], known["audit"], known["train"]) == ("reuse", "reuse", "run")
    project.write("churn.py", declared().replace("@ps.step\ndef last", '@ps.step(across_rows="of the day")\ndef last'))
    plan = json.loads(project.call("plan", "--json").out)
    known = {step["step"]: step["action"] for step in plan["steps"]}
    assert (known["last"], known["split"], known["scramble"]) == ("reuse", "reuse", "run")
    project.write("churn.py", declared().replace('pl.col("n").fill_null(0)', 'pl.col("n").fill_null(1)'))
    plan = json.loads(project.call("plan", "--json").out)
    assert {step["step"]: step["action"] for step in plan["steps"]}["scramble"] == "wait"


def test_full_fits_again_and_a_table_without_steps_needs_no_proof(project):
    project.write("churn.py", declared())
    code, full = proof(project, "--full")
    assert code == 0
    assert any("fitted 3 times again" in one["what"] for one in full["tried"])
    project.write("churn.py", project.declared)
    code, plain = proof(project)
    assert code == 0
    assert not any("watched" in one["what"] for one in plain["tried"])


SLOW = """
import time

import penstock as ps
from penstock.stages import scramble
from sklearn.linear_model import LogisticRegression

scramble.SLOW_S = 0.3


@ps.step
def slow(t):
    time.sleep(0.4)
    return t.assign(b=t["b"] - MEAN)


churn = ps.Workflow(
    name="churn",
    data=slow(ps.read("customers.csv")),
    target="churned",
    key="customer_id",
    features=["a", "b"],
    model=LogisticRegression(),
)
"""


def test_a_step_over_the_limit_is_tried_once_for_its_code_while_nothing_is_found(project):
    """The limit is a minute; here it is lowered in the process that forks the workers."""
    project.write("churn.py", SLOW.replace("MEAN", "1.0"))
    table = (project.folder / "customers.csv").read_text()

    def told(*words):
        code, report = proof(project, *words)
        return code, [one["why"] for one in report["not_tried"] if one["what"].startswith("step slow:")]

    assert told() == (0, [])  # its code was never tried
    lines = table.splitlines(keepends=True)
    project.write("customers.csv", "".join(lines[:-3]))
    code, [why] = told()
    assert (code, why.endswith("s, and this code was tried before: `penstock audit --full` tries it again")) == (
        0,
        True,
    )
    assert told("--full") == (0, [])
    project.write("churn.py", SLOW.replace("MEAN", 't["b"].mean()'))
    assert told() == (4, [])  # other code
    project.write("customers.csv", table)
    assert told() == (4, [])  # what was found once does not pass for tried


def test_official_test_rows_go_through_the_steps_apart_and_the_proof_says_so(project):
    table = (project.folder / "customers.csv").read_text().splitlines(keepends=True)
    project.write("test.csv", "".join([table[0], *table[-80:]]))
    project.write("customers.csv", "".join(table[:-80]))
    declared = SLOW.replace("time.sleep(0.4)", "").replace("MEAN", 't["b"].mean()').replace('key="customer_id",', "")
    project.write("churn.py", declared.replace("model=", 'split=ps.Split(test=ps.read("test.csv")), model='))
    code, report = proof(project)
    assert (code, report["n_test"]) == (0, 80)
    what = "by construction: no step that leads to training rows takes a row of the official test file"
    assert {"what": what, "rows": 80} in report["tried"]
    assert report["summary"].startswith("1 step: the 80 rows of the official test file go through them apart")
    assert not [one for one in report["not_tried"] if "steps before the split" in one["what"]]


def test_what_must_not_run_again_is_said(project):
    told = declared(LEAK).replace("@ps.step\ndef last", '@ps.step(audit=False, because="calls a paid API")\ndef last')
    project.write("churn.py", told)
    code, report = proof(project)
    assert (code, [one for one in report["findings"] if "step" in one]) == (0, [])
    assert {"what": "step last: whether held-out rows move a training row in it", "why": "calls a paid API"} in (
        report["not_tried"]
    )
