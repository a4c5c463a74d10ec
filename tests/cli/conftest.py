"""One small project that has been through a champion, a refusal and tries; many tests look at it."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from command_line import Ended, call

if TYPE_CHECKING:
    from penstock.testing.warm import Warm

DECLARED = """
import penstock as ps
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

churn = ps.Workflow(
    name="churn",
    data=ps.read("customers.csv"),
    target="churned",
    key="customer_id",
    model=LogisticRegression(C=1.0),
    metrics=["roc_auc", "neg_log_loss"],
    gate=[ps.AtLeast("roc_auc", 0.6), ps.Improves()],
)
"""


def table(n_rows: int = 240, *, shift: float = 0.0, seed: int = 1) -> str:
    """Customers as CSV: `a` decides the target, `b` is noise; `shift` moves `a`."""
    rng = random.Random(seed)
    lines = ["customer_id,a,b,churned"]
    for i in range(n_rows):
        a = rng.gauss(0, 1)
        lines.append(f"c{i},{a + shift:.4f},{rng.gauss(0, 1):.4f},{int(a + rng.gauss(0, 0.5) > 0)}")
    return "\n".join(lines) + "\n"


def scrubbed(text: str) -> str:
    """A text without what differs from run to run and from library to library: ids, times, figures."""
    text = re.sub(r"run [0-9a-f]{4}\b", "run ID", text)
    text = re.sub(r" *(\d+ min )?\d+(\.\d)? s\b", " T", text)
    return re.sub(r"[+−-]?\d+\.\d+", "N", text)


class Shop:
    """A folder, and `penstock` in it."""

    declared = DECLARED
    table = staticmethod(table)
    scrubbed = staticmethod(scrubbed)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: dict[str, Ended] = {}

    def write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.write_text(content)
        return path

    def call(self, *words: str) -> Ended:
        """One call in this process."""
        return call(self.folder, *words)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Begin a call in a process of its own."""
        command = [sys.executable, "-m", "penstock", *words]
        given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, **(given | options))


def new_shop(folder: Path) -> Shop:
    folder.mkdir(parents=True, exist_ok=True)
    shop = Shop(folder)
    shop.write("penstock.toml", "")
    shop.write("customers.csv", table())
    shop.write("churn.py", DECLARED)
    return shop


@pytest.fixture(scope="session")
def shop_class() -> type[Shop]:
    """For projects of a test's own."""
    return Shop


@pytest.fixture(scope="module", autouse=True)
def _warm(warm_processes: None) -> None:
    """What a command says and leaves is the thing here; those that are begun by `start` start as they do for people."""


@pytest.fixture
def empty(tmp_path: Path) -> Shop:
    """A project in which nothing was run yet."""
    return new_shop(tmp_path / "empty")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Shop:
    """first: a champion; again: nothing to do; tried, tried_other: two tries; refused: a worse version."""
    made = new_shop(tmp_path_factory.mktemp("cli") / "shop")
    with warm.used():
        made.said["first"] = made.call("run", "churn.py")
        made.said["again"] = made.call("run")
        made.said["tried"] = made.call("try", "--note", "as it stands")
        other = DECLARED.replace("LogisticRegression(C=1.0)", "DummyClassifier()")
        made.write("churn.py", other)
        made.said["tried_other"] = made.call("try", "--note", "a dummy")
        made.said["refused"] = made.call("run", "--json")
        made.write("churn.py", DECLARED)
    return made


@pytest.fixture
def step_file(tmp_path: Path) -> Callable[[str], Shop]:
    """A project whose one step has this body."""

    def make(body: str) -> Shop:
        made = Shop(tmp_path)
        made.write("penstock.toml", "")
        made.write(
            "prep.py", f"import penstock as ps\n\n\n@ps.step\ndef clean():\n    {body}\n\n\nflow = clean.ref()\n"
        )
        return made

    return make
