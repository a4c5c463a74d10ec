"""Processes that are forked from one that has their libraries are what fresh ones would be."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.engine import processes
from penstock.lifecycle.run import Request, run
from penstock.project import open_home
from penstock.testing.warm import Warm

PEEK = """
import json, os, sys
with os.fdopen(int(sys.argv[1]), "w") as file:
    known = {"arguments": sys.argv[2:], "main": __name__, "here": os.getcwd(), "word": os.environ.get("WORD")}
    known |= {"session": os.getsid(0) == os.getpid(), "parent": os.getppid(), "loaded": "colorsys" in sys.modules}
    known |= {"variables": len(os.environ)}
    json.dump(known, file)
sys.exit(7)
"""
FLOW = """
import numpy as np
import pandas as pd
import penstock as ps
from sklearn.tree import DecisionTreeClassifier

@ps.step
def made(n: int) -> pd.DataFrame:
    a = np.random.default_rng(1).normal(size=n)
    return pd.DataFrame({"id": range(n), "a": a, "y": (a > 0).astype(int)})

flow = ps.Workflow(
    name="flow", data=made(ps.Param("n", 120)), target="y", key="id", model=DecisionTreeClassifier(max_depth=2),
    metrics=["accuracy"],
)
"""


@pytest.fixture
def peek(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warm]:
    """Forks a module that tells what it sees."""
    (tmp_path / "peek.py").write_text(PEEK)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    warm = Warm(["peek"], ["colorsys"])
    yield warm
    warm.close()


def seen(warm: Warm, *words: str, **variables: str) -> dict[str, object]:
    """What the module tells; it must end as it says."""
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    environment = processes.environment(1) | variables
    pid = warm.spawn([sys.executable, "-P", "-m", "peek", str(theirs), *words], environment=environment)
    os.close(theirs)
    with os.fdopen(ours) as file:
        told = json.load(file)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    return told | {"same": told.pop("variables") == len(environment)}


def test_it_is_a_child_with_its_own_arguments_environment_folder_and_files(
    peek: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for word in ("one", "two"):
        (tmp_path / word).mkdir()
        monkeypatch.chdir(tmp_path / word)
        assert seen(peek, "-x", word, WORD=word) == {
            "arguments": ["-x", word],
            "main": "__main__",
            "here": str(tmp_path / word),
            "word": word,
            "session": True,
            "parent": os.getpid(),
            "loaded": True,
            "same": True,
        }


@pytest.mark.parametrize("name", ["PYTHONHASHSEED", "OMP_NUM_THREADS"])
def test_what_takes_effect_as_a_process_starts_is_started_anew(peek: Warm, name: str) -> None:
    assert seen(peek, **{name: "3"})["loaded"] is False


def test_a_module_that_is_none_of_the_entries_is_started_anew(peek: Warm) -> None:
    other = Warm(["another"])
    assert seen(other)["loaded"] is False
    assert other._sock is None


def test_files_that_another_thread_opens_and_closes_meanwhile_are_no_matter(peek: Warm) -> None:
    stop = threading.Event()

    def flicker() -> None:
        while not stop.is_set():
            for fd in [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]:
                os.close(fd)

    thread = threading.Thread(target=flicker)
    thread.start()
    try:
        for _ in range(30):
            assert seen(peek)["loaded"] is True
    finally:
        stop.set()
        thread.join()


def test_where_the_one_that_forks_was_killed_it_is_said(peek: Warm) -> None:
    seen(peek)
    os.kill(peek._pid, signal.SIGKILL)
    with pytest.raises((RuntimeError, OSError)):
        seen(peek)


def test_a_run_gives_the_same_recipes_and_the_same_bytes(tmp_path: Path, warm: Warm) -> None:
    """A fresh process and a fork: what had been loaded before is in no recipe and in no result."""
    found = []
    for way in ("fresh", "forked"):
        folder = tmp_path / way
        folder.mkdir()
        (folder / "flow.py").write_text(FLOW)
        (folder / "penstock.toml").touch()
        home, request = open_home(str(folder)), Request(str(folder / "flow.py"), until="evaluate")
        if way == "fresh":
            report = run(home, request, "penstock.worker", rehearse=None)
        else:
            with warm.used():
                report = run(home, request, "penstock.worker", rehearse=None)
        assert report.error is None
        results = home.ledger.results(home.ledger.recipes()).values()
        found.append({one.recipe: [each.digest for each in one.outputs] for one in results})
        home.ledger.close()
    assert len(found[0]) >= 4
    assert found[0] == found[1]
