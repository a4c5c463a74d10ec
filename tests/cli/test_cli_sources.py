"""Several files as one source, through the whole engine: what is read, what is read again, and why."""

from __future__ import annotations

import pytest

FLOW = """
import pandas as pd
import penstock as ps

@ps.step
def total(table: pd.DataFrame) -> int:
    return int(table["n"].sum())

flow = ps.Flow(total(ps.read("data/2026-*.csv", name="sales")), name="sums")
"""


@pytest.fixture
def sums(empty):
    shop = empty
    (shop.folder / "data").mkdir()
    shop.write("flow.py", FLOW)
    shop.write("data/2026-01.csv", "n\n1\n")
    shop.write("data/2026-02.csv", "n\n2\n")
    shop.write("data/2025-12.csv", "n\n100\n")
    return shop


def test_a_file_that_came_changed_or_went_is_named_in_the_plan(sums):
    assert sums.call("run", "flow.py").code == 0
    again = sums.call("plan", "flow.py")
    assert "2 to reuse" in again.out + again.err
    sums.write("data/2026-03.csv", "n\n3\n")
    sums.write("data/2026-01.csv", "n\n10\n")
    (sums.folder / "data" / "2026-02.csv").unlink()
    short = sums.call("plan", "flow.py").out
    assert "2026-01.csv changed and 2 more" in short
    told = sums.call("plan", "flow.py", "--why").out
    for text in ("2026-01.csv changed", "2026-02.csv is gone", "2026-03.csv is new"):
        assert text in told
    assert "2025-12" not in told
    assert sums.call("run", "flow.py").code == 0
    back = sums.call("diff", "last~1", "last")
    assert "2026-02.csv is gone" in back.out


def test_a_file_that_is_touched_alone_changes_nothing(sums):
    assert sums.call("run", "flow.py").code == 0
    sums.write("data/2025-12.csv", "n\n7\n")
    path = sums.folder / "data" / "2026-01.csv"
    path.write_text(path.read_text())
    told = sums.call("plan", "flow.py")
    assert "2 to reuse" in told.out + told.err
