"""What Penstock remembers of itself stands beside its byte code, and never makes an answer another one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from penstock.engine import closure, memory
from penstock.engine.beside import beside, may_write, write
from penstock.engine.closure import Closure
from penstock.engine.environment import environment, records_of

ENTRY = "penstock.stages.ingest:ingest"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for byte code that may be written and holds none."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "bytecode"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return tmp_path / "bytecode"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the sources that were analysed."""
    seen: list[int] = []
    analyse = closure.analyse
    monkeypatch.setattr(closure, "analyse", lambda source: seen.append(len(source)) or analyse(source))
    return seen


def of(root: Path) -> closure.CodePart:
    made = Closure(str(root), cache=str(root / ".penstock" / "closure.json"))
    part = made.of(ENTRY)
    made.save()
    return part


def test_our_own_sources_are_analysed_once_for_all_projects(tmp_path: Path, kept: Path, read: list[int]) -> None:
    first = of(tmp_path / "a")
    assert len(read) > 5
    read.clear()
    assert of(tmp_path / "b") == first
    assert read == []
    assert not (tmp_path / "b" / ".penstock").exists()  # nothing of the project was analysed


def test_a_source_that_is_another_by_now_is_analysed_again(tmp_path: Path, kept: Path, read: list[int]) -> None:
    first = of(tmp_path / "a")
    read.clear()
    for path in kept.rglob("ingest.*.code.json"):
        data = json.loads(path.read_text())
        path.write_text(json.dumps(data | {"source": "0" * 64, "summary": [False, []]}))
    assert of(tmp_path / "b") == first
    assert len(read) == 1


@pytest.mark.parametrize("content", ["", "[]", "null", '{"summary": [false, [[1]]]}', "[" * 5_000])
def test_a_damaged_memory_is_none(tmp_path: Path, kept: Path, read: list[int], content: str) -> None:
    first = of(tmp_path / "a")
    files = list(kept.rglob("*.code.json"))
    read.clear()
    for path in files:
        path.write_text(content)
    assert of(tmp_path / "b") == first
    assert len(read) == len(files)
    read.clear()
    of(tmp_path / "c")
    assert read == []  # mended


def test_one_of_another_analysis_is_none(tmp_path: Path, kept: Path, read: list[int], monkeypatch) -> None:
    of(tmp_path / "a")
    read.clear()
    monkeypatch.setattr(memory, "_HEAD", memory._HEAD | {"version": -1})
    of(tmp_path / "b")
    assert read != []


def test_where_no_byte_code_is_wanted_the_project_remembers(
    tmp_path: Path, kept: Path, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    of(tmp_path)
    read.clear()
    of(tmp_path)
    assert (read, kept.exists()) == ([], False)
    assert (tmp_path / ".penstock" / "closure.json").is_file()


def test_what_another_user_wrote_there_is_read(tmp_path: Path, kept: Path, read: list[int], monkeypatch) -> None:
    of(tmp_path / "a")
    read.clear()
    monkeypatch.setattr(memory, "may_write", lambda _: False)  # an image that was made by another user
    of(tmp_path / "b")
    assert read == []


def test_digests_of_distributions_are_remembered_there_too(tmp_path: Path, kept: Path) -> None:
    place = records_of(str(tmp_path))
    assert place.startswith(str(kept))
    assert environment(place) == environment()
    assert "numpy" in Path(place).read_text()


def test_digests_of_distributions_are_remembered_in_the_project_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert records_of(str(tmp_path)) == str(tmp_path / ".penstock" / "environment.json")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write(str(path), {"a": 1})
    with pytest.raises(TypeError):
        write(str(path), {"a": object()})
    assert (json.loads(path.read_text()), os.listdir(path.parent)) == ({"a": 1}, ["b.json"])
    write("/proc/none/b.json", {})  # costs time, never a run


def test_optimised_byte_code_has_the_same_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", None)
    assert beside("/a/b.py", "code") == f"/a/__pycache__/b.{sys.implementation.cache_tag}.code.json"


def test_a_folder_of_somebody_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = str(tmp_path / "not" / "there" / "x.json")
    assert may_write(path)
    asked: list[object] = []
    monkeypatch.setattr(os, "access", lambda *given: asked.append(given))  # root may write everywhere
    assert not may_write(path)
    assert asked == [(str(tmp_path), os.W_OK)]
