"""The environment on record: what changes it and what does not, and that it costs next to nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from penstock.engine import environment as measured
from penstock.engine.environment import distributions, environment, record_digest


def install(folder: Path, name: str, version: str, record: str | None) -> Path:
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    if record is not None:
        (about / "RECORD").write_text(record)
    return about / "RECORD"


def test_another_file_of_the_same_version_is_another_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = install(tmp_path, "Some_Lib", "1.0", "a.py,sha256=x,1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    cache = str(tmp_path / "cache" / "environment.json")
    before = distributions(cache)
    assert before["some-lib"][0] == "1.0"
    assert distributions(cache) == before
    record.write_text("a.py,sha256=other,1\n")
    assert distributions(cache)["some-lib"] != before["some-lib"]
    assert distributions(cache) == distributions()


def test_first_of_two_counts_and_one_without_record_has_no_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "a", "lib", "2.0", None)
    install(tmp_path / "b", "lib", "1.0", "a.py,sha256=x,1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / name) for name in ("a", "b", "none")])
    assert distributions() == {"lib": ["2.0", ""]}


@pytest.mark.parametrize(
    "line",
    [
        "../../../bin/tool,sha256=y,1",
        "m/__pycache__/a.cpython-311.pyc,,",
        "m-1.dist-info/INSTALLER,sha256=y,4",
        "m-1.dist-info/direct_url.json,sha256=y,4",
        "/usr/bin/tool,sha256=y,1",
    ],
)
def test_what_an_installer_adds_in_one_place_does_not_count(line: str) -> None:
    assert record_digest(f"m/a.py,sha256=x,1\n{line}\n") == record_digest("m/a.py,sha256=x,1\n")


@pytest.mark.parametrize("content", ["not json", "[]", "null"])
def test_damaged_cache_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    install(tmp_path, "lib", "1.0", "a.py,sha256=x,1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    cache = tmp_path / "environment.json"
    cache.write_text(content)
    assert distributions(str(cache)) == distributions()
    assert isinstance(json.loads(cache.read_text()), dict)


def test_unchanged_records_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = install(tmp_path, "lib", "1.0", "a.py,sha256=x,1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    cache = str(tmp_path / "environment.json")
    first = distributions(cache)
    read: list[str] = []
    monkeypatch.setattr(measured, "_text", lambda path: read.append(path) or "")
    assert distributions(cache) == first
    assert read == []
    os.utime(record, (1, 1))
    distributions(cache)
    assert read == [str(record)]


def test_threads_and_blas_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    assert np.__version__
    for name in measured.THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")
    found = environment()
    assert found["threads"] == "1"
    assert found["blas"]
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert environment()["threads"] == "1, 4"
