"""Stores that cannot be used, files that do not fit the model, and people who act at the same moment."""

from __future__ import annotations

import ctypes
import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DECLARATION = """\
import penstock as ps
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

encode = make_column_transformer(
    (OneHotEncoder(handle_unknown="{unknown}"), ["city"]), (StandardScaler(), ["age", "income"])
)
workflow = ps.Workflow(
    name="{name}",
    data=ps.read("customers.csv"),
    target="churned",
    model=make_pipeline(encode, LogisticRegression(C={C})),
    metrics=["roc_auc"],
    gate=[ps.AtLeast("roc_auc", 0.6)],
    release="{release}",
)
"""
STEP = """\
import penstock as ps


@ps.step
def numbers(n: int = {n}) -> list:
    return list(range(n))


flow = ps.Flow(numbers.ref(), name="numbers")
"""
on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs /proc and capabilities, as Linux has them"
)
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def declare(
    project: Any, content: bytes, name: str, *, release: str = "never", unknown: str = "error", C: float = 1.0
) -> str:
    """Write the table and a workflow that reads it; gives the file's name."""
    if not (project.folder / "customers.csv").exists():
        project.write("customers.csv", content)
    text = DECLARATION.format(name=name, release=release, unknown=unknown, C=C)
    return project.write(f"{name}_flow.py", text).name


@pytest.fixture(scope="module")
def content(table: Any, customers: Any) -> bytes:
    found: bytes = table(customers(200))
    return found


# ── predict ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def released(project: Any, content: bytes) -> Any:
    """Two versions of "strict", which refuses unseen categories, and none of them champion yet."""
    for C in (1.0, 0.1):
        run = project.call("run", declare(project, content, "strict", C=C))
        assert run.code == 0, run.text
        assert "→ challenger: strict@" in run.out
    return project


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "age,city,income\n30,Ulm,40\n50,Wien,40\n",
            'column "city" has levels that training never saw: 1 row, such as "Wien"',
        ),
        ("age,income\n30,40\n", 'column "city" is missing'),
        ("age,city,income\nthirty,Ulm,40\n50,Bern,4\n", 'column "age" must be a whole number'),
        ("age,city,income\n30,Ulm,\n50,Bern,40\n", 'column "income"'),
        ("", "the file is empty"),
        ("age,city,income\n", "no rows"),
    ],
    ids=["unseen", "missing", "text", "gap", "empty", "header"],
)
def test_a_file_that_does_not_fit_is_refused_whole(released: Any, rows: str, said: str) -> None:
    released.write("tomorrow.csv", rows)
    call = released.call("predict", "strict@1", "--input", "tomorrow.csv", "--output", "answers.csv")
    assert call.code == 3, call.text
    assert call.err.startswith("penstock predict: tomorrow.csv: ")
    assert said in call.err
    assert "\n→ " in call.err
    left = {path.name for path in released.folder.iterdir() if "answers" in path.name or "predicted" in path.name}
    assert left == set()


def test_a_file_that_fits_is_answered(released: Any) -> None:
    """Control: the same columns with known levels give an answer a row."""
    released.write("today.csv", "income,age,city\n40,30,Ulm\n40,50,Bern\n")
    call = released.call("predict", "strict@1", "--input", "today.csv", "--output", "today-answers.parquet")
    assert call.code == 0, call.text
    import pandas as pd

    answers = pd.read_parquet(released.folder / "today-answers.parquet")
    assert list(answers.columns) == ["label", "score"]
    assert answers["score"].between(0, 1).all()
    (released.folder / "today-answers.parquet").unlink()


# ── at the same moment ───────────────────────────────────────────────────────────────────────────────────────


@on_linux
def test_of_two_promotions_at_once_exactly_one_wins(released: Any) -> None:
    """Both read "nobody is champion" and wait for the ledger, which this test keeps locked until they do."""
    lock = sqlite3.connect(released.folder / ".penstock" / "ledger.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    calls = [released.start("promote", f"strict@{number}", "--because", "mine") for number in (1, 2)]
    for call in calls:
        wait_until_it_sleeps(call.pid)
    lock.execute("COMMIT")
    lock.close()
    done = [released.end(call) for call in calls]
    assert sorted(call.code for call in done) == [0, 1], [call.text for call in done]
    winner, loser = sorted(done, key=lambda call: call.code)
    assert "→ champion: strict@" in winner.out
    assert "champion" in loser.err
    assert "\n→ " in loser.err
    heads = released.streams("strict")
    assert heads["strict/alias/champion"] == 1
    assert heads["strict/deployment"] == 1
    assert released.faults() == []


def test_one_promotion_after_another_both_win(released: Any) -> None:
    """Control: without the overlap the second one compares with the first one's champion, and moves it."""
    before = released.streams("strict").get("strict/alias/champion", 0)
    for number in (1, 2, 1):
        assert released.call("promote", f"strict@{number}", "--because", "in turn").code == 0
    assert released.streams("strict")["strict/alias/champion"] >= before + 2


def wait_until_it_sleeps(pid: int, still_s: float = 1.0, most_s: float = 60.0) -> None:
    """Wait until a process has the ledger open and has used no processor time for a while: it waits for the lock."""
    end, used, since = time.monotonic() + most_s, -1, time.monotonic()
    while time.monotonic() < end:
        now = processor_time(pid)
        if now != used or not has_open(pid, "ledger.db"):
            used, since = now, time.monotonic()
        if time.monotonic() - since > still_s:
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} did not come to wait for the ledger")


def processor_time(pid: int) -> int:
    """Ticks of user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def has_open(pid: int, name: str) -> bool:
    links = Path(f"/proc/{pid}/fd").iterdir()
    return any(os.readlink(link).endswith(name) for link in links if link.is_symlink())


def test_two_runs_at_once_both_end_well(project: Any, content: bytes) -> None:
    """Equal runs agree on one version and one champion, however they interleave; the other run says so."""
    file = declare(project, content, "twins", release="auto", unknown="ignore")
    done = [project.end(call) for call in [project.start("run", file), project.start("run", file)]]
    assert [call.code for call in done] == [0, 0], [call.text for call in done]
    heads = project.streams("twins")
    assert heads["twins/version"] == 1
    assert heads["twins/alias/champion"] == 1
    assert heads["twins/deployment"] == 1
    assert heads["twins/look"] == 1
    assert sum("→ champion: twins@1 (local store)" in call.out for call in done) == 1
    assert all("twins@1 is the champion" in call.out or "champion: twins@1" in call.out for call in done)
    assert project.states("twins") == ["done", "done"]
    assert project.faults() == []


def test_an_unseen_category_is_counted_where_the_encoder_ignores_it(project: Any) -> None:
    project.write("wien.csv", "age,city,income\n30,Ulm,40\n50,Wien,40\n")
    call = project.call("predict", "twins", "--input", "wien.csv", "--json")
    assert call.code == 0, call.text
    assert json.loads(call.out)["unseen"] == {"city": 1}


# ── stores that cannot be used ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def used(own_project: Any) -> Any:
    """A project whose store has seen a run."""
    own_project.write("numbers_flow.py", STEP.format(n=3))
    assert own_project.call("run", "numbers_flow.py").code == 0
    return own_project


@pytest.fixture
def sealed() -> Iterator[Callable[[Path], None]]:
    """Take the right to write from a folder and all below it; given back when the test is over."""
    changed: list[tuple[Path, int]] = []

    def seal(folder: Path) -> None:
        for path in [*folder.rglob("*"), folder]:
            mode = stat.S_IMODE(path.stat().st_mode)
            changed.append((path, mode))
            path.chmod(mode & ~0o222)

    yield seal
    for path, mode in reversed(changed):
        path.chmod(mode)


def without_override() -> None:
    """Between fork and exec: modes of files bind root too, from the exec on."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            if libc.prctl(PR_CAPBSET_DROP, right, 0, 0, 0) != 0:
                os._exit(99)


def call_bound_by_modes(project: Any, *words: str) -> Any:
    """A call for which a read-only file is read-only, also when root runs the tests."""
    probe = subprocess.run([sys.executable, "-c", ""], preexec_fn=without_override, check=False)
    if probe.returncode == 99:
        pytest.skip("root may not give up its right to write everywhere here")
    return project.end(project.start(*words, preexec_fn=without_override))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@on_linux
def test_a_read_only_store(used: Any, sealed: Callable[[Path], None]) -> None:
    store = used.folder / ".penstock"
    used.write("numbers_flow.py", STEP.format(n=4))
    before = snapshot(store)
    sealed(store)
    call = call_bound_by_modes(used, "run", "numbers_flow.py")
    assert call.code == 1, call.text
    assert ".penstock: cannot write an object: permission is missing" in call.err
    assert "\n→ Give this user the right to read and write" in call.err
    assert "Traceback" not in call.err
    assert snapshot(store) == before


@on_linux
def test_a_read_only_ledger(used: Any) -> None:
    used.write("numbers_flow.py", STEP.format(n=4))
    ledger = used.folder / ".penstock" / "ledger.db"
    before = ledger.read_bytes()
    ledger.chmod(0o444)
    call = call_bound_by_modes(used, "run", "numbers_flow.py")
    assert call.code == 1, call.text
    assert ".penstock/ledger.db: the ledger is read-only for this user" in call.err
    assert "\n→ Give this user the right to write" in call.err
    assert ledger.read_bytes() == before


@on_linux
def test_a_folder_in_which_no_store_can_be_made(own_project: Any, sealed: Callable[[Path], None]) -> None:
    own_project.write("numbers_flow.py", STEP.format(n=3))
    sealed(own_project.folder)
    call = call_bound_by_modes(own_project, "run", "numbers_flow.py")
    assert call.code == 1, call.text
    assert ".penstock: cannot make the store: permission is missing" in call.err
    assert "\n→ Give this user the right to read and write" in call.err
    assert not (own_project.folder / ".penstock").exists()


@on_linux
def test_the_same_store_with_its_rights_back(used: Any) -> None:
    """Control: what is refused above is done when nothing is sealed."""
    used.write("numbers_flow.py", STEP.format(n=4))
    assert call_bound_by_modes(used, "run", "numbers_flow.py").code == 0


@pytest.mark.parametrize("verb", [("run", "numbers_flow.py"), ("models",), ("fsck",)], ids=lambda verb: verb[0])
def test_a_store_written_by_a_newer_version(used: Any, verb: tuple[str, ...]) -> None:
    mark = used.folder / ".penstock" / "format"
    mark.write_text('{"penstock-store": 99}\n')
    before = snapshot(used.folder / ".penstock")
    call = used.call(*verb)
    assert call.code == 1, call.text
    assert "the store has format 99, this Penstock knows formats up to 1" in call.err
    assert "\n→ Use the newer Penstock" in call.err
    assert snapshot(used.folder / ".penstock") == before


@pytest.mark.parametrize("verb", [("run", "numbers_flow.py"), ("models",), ("fsck",)], ids=lambda verb: verb[0])
def test_a_ledger_written_by_a_newer_version(used: Any, verb: tuple[str, ...]) -> None:
    path = used.folder / ".penstock" / "ledger.db"
    with sqlite3.connect(path) as ledger:
        ledger.execute("PRAGMA user_version=99")
        ledger.execute("UPDATE meta SET value = '99' WHERE key IN ('min_reader', 'min_writer')")
    ledger.close()
    before = path.read_bytes()
    call = used.call(*verb)
    assert call.code == 1, call.text
    assert "the ledger has schema 99; this Penstock knows schema 1" in call.err
    assert "\n→ Use the newer Penstock" in call.err
    assert path.read_bytes() == before


def test_a_store_that_is_none_of_ours(used: Any) -> None:
    (used.folder / ".penstock" / "format").write_text("hello\n")
    call = used.call("run", "numbers_flow.py")
    assert call.code == 1, call.text
    assert "this file is not the mark of a Penstock store" in call.err
    assert "\n→ " in call.err
