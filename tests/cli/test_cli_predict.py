"""`penstock predict`: which file is meant."""

from __future__ import annotations

import pytest

from penstock.cli.predict import command
from penstock.cli.scoring import _read
from penstock.engine.listing import is_table
from penstock.errors import PenstockError, UsageError


def test_no_file_and_two_files_are_refused_in_a_sentence():
    with pytest.raises(UsageError, match="the file to score is missing"):
        command("churn")
    with pytest.raises(UsageError, match=r"two files to score: a.csv and --input b.csv"):
        command("churn", "a.csv", data="b.csv")


@pytest.mark.parametrize("words", [("churn", "a.csv"), ("a.csv",), ("churn",)], ids=["both", "file", "flag"])
def test_a_file_by_position_is_the_file_to_score(words, tmp_path, monkeypatch):
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("penstock.lifecycle.naming.workflow_of", lambda _home, name: name or "churn")
    monkeypatch.setattr("penstock.lifecycle.versions.resolve", lambda _ledger, name: name)

    def score(_home, version, data):
        asked.append((version, data))
        raise PenstockError("far enough")

    monkeypatch.setattr("penstock.cli.scoring.score", score)
    with pytest.raises(PenstockError, match="far enough"):
        command(*words, data="" if "a.csv" in words else "a.csv")
    assert asked == [("churn", "a.csv")]


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.csv.gz", "a.jsonl.zst", "q3.xlsx", "a.feather"])
def test_a_table_is_known_by_its_suffix(name):
    assert is_table(name)


@pytest.mark.parametrize("name", ["churn", "churn@7", "churn.py", "a.gz", "model.skops"])
def test_a_version_or_a_declaration_is_no_table(name):
    assert not is_table(name)


def test_a_file_is_read_as_the_declaration_says(tmp_path):
    declared = {"suffix": ".csv", "na": ("nix",), "strip": False, "sep": ";", "encoding": "latin-1", "sheet": None}
    path = tmp_path / "tomorrow.csv"
    path.write_bytes("name;n;one,two\n Zoë ;nix;a,b\nx;2;c,d\n".encode("latin-1"))
    frame = _read(str(path), {}, declared)
    assert list(frame.columns) == ["name", "n", "one,two"]
    assert (frame["name"][0], bool(frame["n"].isna()[0])) == (" Zoë ", True)
    other = tmp_path / "tomorrow.tsv"  # of another kind: its form is its own, its missing values are the declaration's
    other.write_text("name\tn\nZoë\tnix\nx\t2\n", encoding="utf-8")
    frame = _read(str(other), {}, declared)
    assert list(frame.columns) == ["name", "n"]
    assert bool(frame["n"].isna()[0])


def test_a_workbook_is_read_at_the_declared_sheet(tmp_path):
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "q3.xlsx"
    with pandas.ExcelWriter(path) as book:
        pandas.DataFrame({"a": [1]}).to_excel(book, sheet_name="notes", index=False)
        pandas.DataFrame({"b": [2]}).to_excel(book, sheet_name="rows", index=False)
    assert list(_read(str(path), {}, {"suffix": ".xlsx", "sheet": "rows"}).columns) == ["b"]


def test_data_do_not_steer_a_terminal(shop, monkeypatch):
    shop.write("steering.csv", "customer_id,a,b\n\x1b[31mc1,0.5,0.5\n")
    assert "\x1b[31mc1" in shop.call("predict", "churn@1", "steering.csv").out  # a file gets the key as it is
    monkeypatch.setattr("penstock.cli.output.is_terminal", lambda **_: True)
    assert "�[31mc1" in shop.call("predict", "churn@1", "steering.csv").out
