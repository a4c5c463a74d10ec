"""`penstock backtest`: the past of a workflow, replayed by real workers."""

import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import date, timedelta

import pytest

from command_line import call

DECLARED = """
import penstock as ps
from sklearn.linear_model import LogisticRegression

churn = ps.Workflow(
    name="churn",
    data=ps.read("customers.csv"),
    target="churned",
    key="customer_id",
    time="day",
    drop=["city"],
    split=ps.Split(test="30d"),
    model=LogisticRegression(),
    metrics=["roc_auc"],
    gate=[ps.NotWorse()],
)
"""
STEPPED = """
import pandas as pd
import penstock as ps
from sklearn.linear_model import LogisticRegression

@ps.step
def prepared(table: pd.DataFrame, as_of: str) -> pd.DataFrame:
    print("as of", as_of)
    table["a"] = table["a"] / table["a"].abs().mean()
    table["rate"] = table.groupby("city")["churned"].transform("mean")
    return table

churn = ps.Workflow(
    name="churn", data=prepared(ps.read("customers.csv"), as_of=ps.Param("as_of", "")),
    target=ps.Target("churned", delay="25d"), key="customer_id", time="day", model=LogisticRegression(),
    metrics=["neg_log_loss"], drop=["city"],
)
"""
UNCUT = """
import penstock.stages.asknown
penstock.stages.asknown.before = lambda table, **_: table
"""
FROM = ("--from", "2025-05-01", "--every", "40d")


def customers(n=900, *, shift=None, spoiled=None, seed=1):
    """Rows of 300 days: `a` decides, from row `shift` on `b`; from row `spoiled` on everything is upside down."""
    rng, lines = random.Random(seed), ["customer_id,day,city,a,b,churned"]
    for i in range(n):
        a, b = rng.gauss(0, 1), rng.gauss(0, 1)
        y = int(2 * (a if shift is None or i < shift else b) + rng.gauss(0, 0.7) > 0)
        if spoiled is not None and i >= spoiled:
            a, y = 50 * a, 1 - y
        day = date(2025, 1, 1) + timedelta(days=i * 300 // n)
        lines.append(f"c{i:04},{day},{'xyz'[i % 3]},{a:.4f},{b:.4f},{y}")
    return "\n".join(lines) + "\n"


class Project:
    """A folder, and `penstock` in it."""

    def __init__(self, folder, rows, declared=DECLARED):
        folder.mkdir(parents=True)
        self.folder = folder
        for name, text in (("penstock.toml", ""), ("customers.csv", rows), ("churn.py", declared)):
            (folder / name).write_text(text)

    def call(self, *words):
        return call(self.folder, *words)

    def backtest(self, *words):
        code, out, err = self.call("backtest", "churn.py", *(words or FROM), "--json")
        assert code == 0, err
        return json.loads(out)

    def ledger(self, query):
        with contextlib.closing(sqlite3.connect(self.folder / ".penstock" / "ledger.db")) as db:
            return db.execute(query).fetchall()


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """The relation changes in the middle: a project, and its back-test."""
    made = Project(tmp_path_factory.mktemp("backtest") / "shifted", customers(shift=480))
    made.found = made.backtest("--from", "2025-01-20", "--every", "40d", "--out", "page.html", "--note", "replayed")
    return made


def kept(found):
    return [one for one in found["origins"] if not one["skipped"]]


def value(one, way="gated"):
    return next(iter(one["figures"][way].values()))["value"]


def test_a_champion_decays_after_a_shift_and_is_replaced(shifted):
    rows = kept(shifted.found)
    assert [one["at"] for one in rows] == ["2025-03-01", "2025-04-10", "2025-05-20", "2025-06-29", "2025-08-08",
                                           "2025-09-17"]  # fmt: skip
    assert rows[0]["promoted"]
    assert rows[0]["verdict"].startswith("better than the baseline")
    assert value(rows[0]) > 0.85
    assert value(rows[-1], "never") < 0.65  # by then the relation is another
    replaced = [one for one in rows if one["promoted"] and one["at"] > "2025-06-10"]
    assert replaced
    assert value(rows[-1]) > value(rows[-1], "never") + 0.1
    assert shifted.found["retraining"]["never"]["low"] > 0
    assert "retraining brought roc_auc +" in shifted.found["summary"]


def test_an_origin_with_too_few_rows_is_skipped_and_said(shifted):
    first = shifted.found["origins"][0]
    assert first["at"] == "2025-01-20"
    assert "are needed" in first["skipped"] or "empty" in first["skipped"]


def test_ages_are_those_of_the_reigning_champion(shifted):
    rows = kept(shifted.found)
    for one in rows:
        assert one["champion_at"] <= one["at"]
        assert one["age_days"] == (date.fromisoformat(one["at"]) - date.fromisoformat(one["champion_at"])).days
    ages = {one["age_days"]: one["figures"] for one in shifted.found["by_age"]}
    assert ages[200.0]["never"]["n_windows"] == 1
    assert sum(one["gated"]["n_windows"] for one in ages.values() if "gated" in one) == len(rows)


def test_it_spends_no_look_and_makes_no_version(shifted):
    """All that it leaves but results are two runs of its own kind."""
    assert shifted.ledger("select count(*) from entry") == [(0,)]
    code, out, _ = shifted.call("runs", "--json")
    assert code == 0
    kinds = {run["kind"] for run in json.loads(out)}
    assert kinds == {"backtest", "calendar"}


def test_it_can_be_shown_again_and_all_of_it_is_reused(shifted):
    before = shifted.ledger("select count(*) from result")
    again = shifted.backtest("--from", "2025-01-20", "--every", "40d")
    without = ("run", "page")
    assert {k: v for k, v in again.items() if k not in without} == {
        k: v for k, v in shifted.found.items() if k not in without
    }
    assert shifted.ledger("select count(*) from result") == before
    code, out, _ = shifted.call("show", f"run:{shifted.found['run'][:8]}")
    assert code == 0
    assert shifted.found["summary"] in out
    assert "2025-09-17" in out
    code, out, _ = shifted.call("show", f"run:{shifted.found['run'][:8]}", "--json")
    assert json.loads(out)["backtest"]["summary"] == shifted.found["summary"]


def test_rows_that_came_since_leave_past_origins_as_they_were(shifted, tmp_path):
    """By recipe: only the origins that are new, and the last window, are computed."""
    grown = Project(tmp_path / "grown", (shifted.folder / "customers.csv").read_text())
    import shutil

    shutil.copytree(shifted.folder / ".penstock", grown.folder / ".penstock")
    lines = (grown.folder / "customers.csv").read_text().splitlines()
    later = [line.replace("c0", "d0", 1).replace(",2025-", ",2026-", 1) for line in lines[1:300]]
    (grown.folder / "customers.csv").write_text("\n".join([*lines, *later]) + "\n")
    words = ("--from", "2025-01-20", "--every", "40d", "--until", "2025-10-01")
    found = grown.backtest(*words)
    same = slice(0, len(kept(found)) - 1)  # the last window was cut short then
    assert [one["figures"] for one in kept(found)[same]] == [one["figures"] for one in kept(shifted.found)[same]]
    trained = grown.ledger("select count(*) from step_run where step like 'train@%' and action = 'run'")
    assert trained == [(len(kept(shifted.found)),)]  # none anew


def test_the_page_says_what_the_screen_says(shifted):
    text = (shifted.folder / "page.html").read_text()
    assert "<script" not in text
    assert text.count("<svg") == 2
    assert "never retrained" in text
    assert "2025-09-17" in text


def test_without_a_shift_retraining_brings_little(tmp_path):
    found = Project(tmp_path / "calm", customers(), DECLARED.replace("ps.NotWorse()", "ps.Beats()")).backtest(
        *FROM, "--every", "80d"
    )
    assert sum(one["promoted"] for one in kept(found)) == 1  # the first, against the baseline
    assert found["overall"]["gated"] == found["overall"]["never"]
    assert found["retraining"]["never"]["value"] == 0


def test_candidates_a_threshold_and_a_refit_are_made_at_each_origin(tmp_path):
    beside = 'model={"lr": LogisticRegression(), "C": LogisticRegression(C=0.01)}, refit="all", '
    declared = DECLARED.replace("model=LogisticRegression()", beside + 'decide=ps.Threshold(maximise="f1")')
    project = Project(tmp_path / "beside", customers(600), declared.replace('["roc_auc"]', '["roc_auc", "f1"]'))
    [first, second] = kept(project.backtest("--from", "2025-06-10", "--every", "60d", "--until", "2025-08-20"))
    assert first["promoted"]
    assert set(second["figures"]["gated"]) == {"roc_auc", "f1"}
    assert second["champion_at"] in (first["at"], second["at"])


@pytest.mark.parametrize(("declared", "equal"), [(STEPPED, True), (STEPPED + UNCUT, False)])
def test_what_came_after_an_origin_changes_nothing(tmp_path, declared, equal):
    """The step takes statistics over all rows that it is given. Sabotage: without the cut before it, it sees them."""
    words = ("--from", "2025-06-10", "--until", "2025-06-11", "--every", "30d")
    projects = [
        Project(tmp_path / name, customers(600, spoiled=spoiled), declared)
        for name, spoiled in (("as-it-was", None), ("spoiled", 400))
    ]
    first, second = (kept(one.backtest(*words))[0] for one in projects)
    assert ((first["figures"], first["verdict"]) == (second["figures"], second["verdict"])) is equal
    assert first["n_known"] == 272  # 136 days up to 2025-05-16, two rows a day
    assert first["figures"]["gated"]["neg_log_loss"]["n"] == 60
    logs = "".join(path.read_text() for path in (projects[0].folder / ".penstock" / "logs").rglob("prepared*.log"))
    assert "as of 2025-06-10" in logs


def test_a_back_test_that_was_killed_goes_on_where_it_stopped(shifted, tmp_path):
    project = Project(tmp_path / "killed", (shifted.folder / "customers.csv").read_text())
    words = ("backtest", "churn.py", "--from", "2025-01-20", "--every", "40d", "--jobs", "1")
    child = subprocess.Popen(
        [sys.executable, "-m", "penstock", *words, "-q"], cwd=project.folder, stdout=subprocess.DEVNULL
    )
    query = "select count(distinct step) from step_run where step like 'train@%' and state = 'done'"
    give_up = time.monotonic() + 100
    while time.monotonic() < give_up and child.poll() is None:
        with contextlib.suppress(sqlite3.OperationalError):
            if (project.folder / ".penstock" / "ledger.db").exists() and project.ledger(query) > [(1,)]:
                break
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    [(done,)] = project.ledger(query)
    found = project.backtest(*words[2:6])
    assert found["origins"] == shifted.found["origins"]
    assert 0 < done < 6
    trained = project.ledger("select count(*) from step_run where step like 'train@%' and action = 'run'")
    assert trained == [(6,)]  # none twice


BESIDE = """
import pandas as pd
import penstock as ps
from sklearn.linear_model import LogisticRegression

@ps.step
def joined(customers: pd.DataFrame, cities: pd.DataFrame) -> pd.DataFrame:
    return customers.merge(cities, on="city")

churn = ps.Workflow(
    name="churn", data=joined(ps.read("customers.csv"), ps.read("cities.csv")), target="churned", key="customer_id",
    time="day", split=ps.Split(test="30d", final="60d"), model=LogisticRegression(), metrics=["roc_auc"], drop=["city"],
)
"""


def test_an_uncut_table_is_named_in_every_form_and_the_final_hold_out_stays_closed(tmp_path):
    project = Project(tmp_path / "beside", customers(600), BESIDE)
    (project.folder / "cities.csv").write_text("city,size\nx,1\ny,2\nz,4\n")
    words = ("backtest", "churn.py", "--from", "2025-06-10", "--every", "60d", "--out", "page.html")
    said = "cities was not cut, so later rows may have been known"
    code, out, err = project.call(*words)
    assert code == 0, err
    warning = "warning  cities is not cut: it has no column day; what steps take from it may have come later"
    assert f"{said}\n{warning}" in out
    assert "note  rows of the final hold-out were neither learned from nor measured" in out
    assert (project.folder / "page.html").read_text().count("cities is not cut: it has no column day") == 1
    assert project.call(*words, "-q").out.rstrip().endswith(said)
    found = json.loads(project.call(*words, "--json").out)
    assert found["cuts"] == {"customers": "day", "cities": ""}
    last = kept(found)[-1]
    assert (last["at"], last["stop"], last["n_rows"]) == (
        "2025-08-09",
        "2025-08-27 00:00:00.000001",
        38,
    )  # of 27 October


@pytest.mark.parametrize(
    ("declared", "words", "said"),
    [
        (DECLARED.replace('test="30d"', 'test=ps.read("customers.csv", name="late")'), FROM, "was not known at it"),
        (DECLARED.replace('test="30d"', 'by="random", final=0.1'), FROM, "keeps a final hold-out by exact quotas"),
        (DECLARED.replace('test="30d"', 'test="2025-09-01"'), ("--until", "2025-08-01"), "are held out, and none was"),
        (DECLARED.replace('    time="day",\n', "").replace('test="30d"', ""), FROM, "declare time="),
        (DECLARED, ("--every", "month"), "is not a duration"),
        (DECLARED, ("--from", "yesterday"), "a date such as 2026-01-31"),
        (DECLARED, ("--cut", "orders=day"), "no such source"),
        (DECLARED, ("--out", "nowhere/page.html"), "there is no folder nowhere"),
        (DECLARED, ("--from", "2025-01-03", "--until", "2025-01-10", "--every", "3d"), "no origin has enough rows"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, declared, words, said):
    code, _, err = Project(tmp_path / "wrong", customers(300), declared).call("backtest", "churn.py", *words)
    assert code == 2
    assert said in err


def test_two_years_of_bicycles(tmp_path, shared_data):
    """Real rows, two months held out: demand grew, and too few rows tell the gate so."""
    declared = """
import penstock as ps
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

bikes = ps.Workflow(
    name="bikes", data=ps.read("customers.csv"), target="cnt", time="dteday", drop=["casual", "registered"],
    split=ps.Split(test="60d"), model=make_pipeline(StandardScaler(), Ridge()),
    metrics=["neg_root_mean_squared_error"], gate=[ps.NotWorse()],
)
"""
    project = Project(tmp_path / "bikes", shared_data("bike_day.csv").read_text(), declared)
    found = project.backtest("--from", "2011-09-01", "--every", "120d")
    assert [one["promoted"] for one in kept(found)] == [False, False, True, False, False]
    assert kept(found)[0]["errors"]["gated"] == "no model had passed yet"
    overall = {way: one["neg_root_mean_squared_error"] for way, one in found["overall"].items()}
    assert {one["n_windows"] for one in overall.values()} == {3}  # all three ways on the same rows
    assert found["summary"].endswith("the first champion was never replaced")
    [aged] = [one for one in found["by_age"] if one["age_days"] == 120]
    assert aged["than_fresh"]["high"] < 0  # after 120 days a model trained that day would have been better
