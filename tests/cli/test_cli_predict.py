"""`penstock predict`: which file is meant."""

from __future__ import annotations

import pytest

from penstock.cli.predict import command
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
