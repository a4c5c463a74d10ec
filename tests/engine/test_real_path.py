"""Folders are resolved once, and the answer is `os.path.realpath`'s."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.engine.real_path import real_path


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "real" / "inner" / "a.py").write_text("")
    (tmp_path / "shown").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "linked.py").symlink_to(tmp_path / "real" / "inner" / "a.py")
    (tmp_path / "real" / "loop.py").symlink_to(tmp_path / "real" / "loop.py")
    names = ("real/inner/a.py", "shown/inner/a.py", "shown/linked.py", "shown/inner/../linked.py", "none/b.py", "shown")
    return [str(tmp_path / name) for name in (*names, "shown/loop.py")]


def test_it_is_where_the_system_says(places: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for path in places:
        assert real_path(path) == os.path.realpath(path)
    for path in ("", "a.py", "inner/a.py", "../x", "/"):
        assert real_path(path) == os.path.realpath(path)
    monkeypatch.chdir(os.path.dirname(places[0]))
    assert real_path("a.py") == os.path.realpath("a.py")


def test_a_folder_is_asked_about_once(places: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real_path(places[0])
    asked: list[str] = []
    monkeypatch.setattr(os.path, "realpath", lambda path: asked.append(path) or path)
    real_path(places[0])
    real_path(places[0] + "c")
    assert asked == []
