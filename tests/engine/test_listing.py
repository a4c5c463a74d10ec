"""Which files lie at a source's places, in which order, under which names."""

from __future__ import annotations

import os

import pytest

from penstock.core.flow import Node
from penstock.engine import gather as gathering
from penstock.engine import listing
from penstock.engine.gather import probe
from penstock.engine.listing import files_at
from penstock.errors import SourceNotFoundError
from penstock.testing import MemoryLedger

OLD = 1_000_000_000


@pytest.fixture
def lake(tmp_path):
    """A folder of tables, and of other things."""
    for name in (
        "2026-01.csv",
        "2026-02.csv",
        "2025-12.csv.gz",
        "sub/x.PARQUET",
        "README.md",
        "_SUCCESS.csv",
        ".hidden.csv",
        "_tmp/y.csv",
        "year=2026/month=1/p.csv",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"a\n{name}\n")
        os.utime(path, (OLD, OLD))
    return tmp_path


def names(*places):
    files, many = files_at(places, "source t")
    assert many
    assert all(os.path.isfile(path) for _, path in files)
    return [name for name, _ in files]


def test_a_folder_gives_its_tables_by_name(lake):
    assert names(str(lake)) == [
        "2025-12.csv.gz",
        "2026-01.csv",
        "2026-02.csv",
        "sub/x.PARQUET",
        "year=2026/month=1/p.csv",
    ]


def test_a_pattern_gives_what_is_named_so(lake):
    assert names(str(lake / "2026-*.csv")) == ["2026-01.csv", "2026-02.csv"]
    assert names(str(lake / "**" / "p.csv")) == ["year=2026/month=1/p.csv"]


def test_the_folders_that_say_something_stay_in_the_name(lake):
    assert names(str(lake / "year=2026" / "month=1")) == ["year=2026/month=1/p.csv"]
    assert names(str(lake / "year=2026" / "*" / "*.csv")) == ["year=2026/month=1/p.csv"]


def test_a_list_gives_each_file_once_under_names_of_the_folder_they_share(lake):
    places = [str(lake / "2026-02.csv"), str(lake / "sub" / "x.PARQUET"), str(lake / "2026-0?.csv")]
    assert names(*places) == ["2026-01.csv", "2026-02.csv", "sub/x.PARQUET"]


def test_one_file_is_one_file(lake):
    assert files_at((str(lake / "2026-01.csv"),), "") == ([("2026-01.csv", str(lake / "2026-01.csv"))], False)
    odd = lake / "a[1].csv"
    odd.write_text("a\n1\n")
    assert files_at((str(odd),), "") == ([("a[1].csv", str(odd))], False)


def test_nothing_there_is_told_by_place(lake, monkeypatch):
    for place, message in ((lake / "2027-*.csv", "no table is named so"), (lake / "_tmp" / "..", "")):
        if message:
            with pytest.raises(SourceNotFoundError, match=message) as caught:
                files_at((str(place),), "source t")
            assert caught.value.where == "source t"
    (lake / "empty").mkdir()
    with pytest.raises(SourceNotFoundError, match="no table in this folder"):
        files_at((str(lake / "empty"),), "source t")
    monkeypatch.setattr(listing, "MOST_FILES", 2)
    with pytest.raises(SourceNotFoundError, match="more than 2 files"):
        files_at((str(lake),), "source t")


# ── the digest of several files ─────────────────────────────────────────────────────────────────────────────


def probed(lake, ledger=None):
    node = Node("t", "e:e", ["list", []], "", kind="source", path=str(lake))
    found, seen = probe([node], ledger or MemoryLedger())
    return found["t"], seen


def test_the_digest_is_of_names_and_bytes_not_of_places(lake, tmp_path):
    before, seen = probed(lake)
    assert before.many
    assert before.digest != before.files[0][2]
    assert len(seen) == 5
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    lake.rename(moved)
    assert probed(moved)[0].digest == before.digest
    (moved / "2026-01.csv").rename(moved / "2026-00.csv")
    assert probed(moved)[0].digest != before.digest


def test_files_that_were_not_touched_are_not_read_again(lake, monkeypatch):
    before, seen = probed(lake)
    ledger = MemoryLedger()
    ledger._sources.update({one.path: one for one in seen})
    (lake / "2026-03.csv").write_text("a\nnew\n")
    read, whole = [], gathering.hash_file
    monkeypatch.setattr(gathering, "hash_file", lambda path: read.append(os.path.basename(path)) or whole(path))
    after, _ = probed(lake, ledger)
    assert read == ["2026-03.csv"]
    assert after.digest != before.digest
    assert set(after.parts) - set(before.parts) == {"2026-03.csv"}
