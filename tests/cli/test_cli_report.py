"""`penstock report`: which version is meant, where the file goes, and what is said."""

import json

import pytest

from penstock.cli import main
from penstock.core.run import Entry
from penstock.lifecycle.register import json_artifact, register
from penstock.project import open_home


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two versions, the first one the champion."""
    (tmp_path / "penstock.toml").touch()
    monkeypatch.chdir(tmp_path)
    home = open_home(".")
    for number in (1, 2):
        files = {"schema": home.formats.dump({"target": f"y{number}"}, home.objects.stage).to_json()}
        made = json_artifact(home.objects, {"penstock": "bundle/1", "workflow": "churn", "files": files}, "bundle")
        register(home, "churn", made, {"run": ""}, "ada@lab")
    home.ledger.append([Entry("churn/alias/champion", 1, {"version": 1})])
    home.ledger.close()
    return tmp_path


@pytest.mark.parametrize(("words", "number"), [([], 1), (["churn"], 1), (["churn@2"], 2), (["churn@champion"], 1)])
def test_the_version_that_is_meant_is_told(project, capsys, words, number):
    assert main(["report", *words]) == 0
    assert capsys.readouterr().out == f"churn@{number}: .penstock/reports/churn-{number}.html\n"
    text = (project / ".penstock" / "reports" / f"churn-{number}.html").read_text(encoding="utf-8")
    assert f"<title>churn@{number} · " in text


def test_it_goes_where_it_is_told_to(project, capsys):
    assert main(["report", "churn@2", "--output", "out.html", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "version": "churn@2",
        "path": str(project / "out.html"),
        "bytes": (project / "out.html").stat().st_size,
    }
    assert main(["report", "churn@2", "-o", "out.html", "--quiet"]) == 0
    assert capsys.readouterr().out == "out.html\n"


def test_without_a_champion_the_newest_version_is_told(project, capsys):
    home = open_home(".")
    home.ledger.append([Entry("churn/alias/champion", 2, {"version": None, "previous": 1})])
    home.ledger.close()
    assert main(["report"]) == 0
    assert capsys.readouterr().out.startswith("churn@2: ")


@pytest.mark.parametrize("words", [["chrun@1"], ["churn@9"], ["other"]])
def test_an_unknown_name_is_a_fault_of_usage(project, capsys, words):
    assert main(["report", *words]) == 2
    assert "→" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_an_error_and_nothing_is_left(project, capsys):
    assert main(["report", "--output", "nowhere/a.html"]) == 1
    assert "cannot write the report" in capsys.readouterr().err
    assert not (project / "nowhere").exists()
