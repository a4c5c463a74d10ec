"""`penstock run --final`: each opening of the final hold-out is on record, and shown wherever the version is."""

import contextlib
import html
import io
import json
import random
from dataclasses import replace

import pytest

from penstock.cli import main
from penstock.cli.projects import here
from penstock.lifecycle.final import openings, put_opening
from penstock.lifecycle.naming import run_or_version

DECLARED = """
import penstock as ps
from sklearn.linear_model import LogisticRegression

kept = ps.Workflow(
    name="kept", data=ps.read("rows.csv"), target="late", key="id", model=LogisticRegression(),
    metrics=["roc_auc"], split=ps.Split(final=0.2),
)
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A project whose final hold-out was opened with its first version, and six times with others."""
    folder, rng = tmp_path_factory.mktemp("final"), random.Random(3)
    rows = [(f"r{i:03}", rng.gauss(0, 1)) for i in range(400)]
    lines = ["id,a,late", *(f"{name},{a:.3f},{int(a + rng.gauss(0, 1) > 0)}" for name, a in rows)]
    for name, text in (("penstock.toml", ""), ("rows.csv", "\n".join(lines) + "\n"), ("kept.py", DECLARED)):
        (folder / name).write_text(text)

    def call(*words):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(words))
        assert code == 0, err.getvalue()
        return out.getvalue()

    call.first = call("run", "--final", "-q")
    call.closed = call("show", "kept@1")
    with contextlib.chdir(folder):
        home = here(make=False)
        version = run_or_version(home, "kept@1")
        [call.entry] = openings(home, "kept")
        for number in range(2, 8):
            figures = {name: call.entry.body[name] for name in ("metrics", "summary")} | {"n_rows": number}
            put_opening(home, replace(version, number=number), figures, run=f"beef{number}", who="ann@there")
    return call


def test_a_version_shows_what_the_first_opening_found(opened):
    assert "  final hold-out of kept: opened once\n" in opened.closed
    run = opened.entry.body["run"][:4]
    assert f"    1: {opened.entry.body['summary']} · run:{run} · " in opened.closed


def test_a_version_shows_how_often_it_was_opened_by_which_run_when_and_by_whom(opened):
    out = opened("show", "kept@1")
    assert "  final hold-out of kept: opened 7 times, the first 2 not shown\n" in out
    assert "    7: for kept@7 · run:beef · " in out
    assert " by ann@there\n" in out
    told = json.loads(opened("show", "kept@1", "--json"))["final"]
    assert [one["number"] for one in told] == [1, 2, 3, 4, 5, 6, 7]
    assert (told[0]["version"], told[0]["run"]) == ("kept@1", opened.entry.body["run"])
    assert told[0]["metrics"]["roc_auc"]["version"]["n"] == told[0]["n_rows"]


def test_the_run_that_opened_it_says_so(opened):
    told = f"  opened the final hold-out for kept@1: {opened.entry.body['summary']}\n"
    assert told in opened("show", f"run:{opened.entry.body['run'][:8]}")


@pytest.mark.parametrize("form", ["html", "md"])
def test_a_report_tells_openings_and_what_they_said_of_its_version(opened, form, tmp_path):
    opened("report", "kept@1", "--format", form, "--out", str(tmp_path / "page"))
    text = html.unescape((tmp_path / "page").read_text()).replace("\\", "")
    assert "The final hold-out of kept was opened 7 times, last on 20" in text
    assert " by run beef for kept@7." in text
    assert "Of kept@1 it said: " in text
    assert ("final hold-out opened, opening 1: " in text) is (form == "html")


def test_without_an_opening_nothing_is_said_of_it(opened, monkeypatch):
    monkeypatch.setattr("penstock.lifecycle.final.openings", lambda *_: [])
    assert "final hold-out" not in opened("show", "kept@1")
