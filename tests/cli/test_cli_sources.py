"""Several files as one source, through the whole engine: what is read, what is read again, and why."""

from __future__ import annotations

import json
import os

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
    sums.write("data/2025-12.csv", "n\n7\n")
    path = sums.folder / "data" / "2026-01.csv"
    path.write_text(path.read_text())
    told = sums.call("plan", "flow.py")  # a file outside the pattern, and one that was touched alone
    assert "2 to reuse" in told.out + told.err
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


def test_a_folder_in_a_bucket_is_read_once_and_its_keys_stay_outside(sums, s3):
    """A real S3 server; workers are other processes and get the bytes, not the credentials' way to them."""
    import fsspec

    bucket = fsspec.filesystem("s3", use_listings_cache=False)
    place = s3.removeprefix("s3://").rstrip("/") + "/sales"
    for month in (1, 2):
        bucket.pipe(f"{place}/month={month}/x.csv", f"n\n{month}\n".encode())
    sums.write("flow.py", FLOW.replace("data/2026-*.csv", f"s3://{place}/"))
    first = sums.call("run", "flow.py")
    assert first.code == 0, first.err
    assert "2 files by month" in first.out + first.err
    again = sums.call("plan", "flow.py")
    assert "2 to reuse" in again.out + again.err
    bucket.pipe(f"{place}/month=3/x.csv", b"n\n3\n")
    assert "month=3/x.csv is new" in sums.call("plan", "flow.py").out
    kept = [path for path in sums.folder.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"s3cret-of-the-tests" in path.read_bytes()]


def test_a_fetched_copy_that_was_damaged_is_fetched_again(sums, s3):
    """The copy is held against its digest when it is read, and not believed by its size."""
    import fsspec

    place = s3.removeprefix("s3://").rstrip("/") + "/t.csv"
    fsspec.filesystem("s3").pipe(place, b"n\n1\n")
    sums.write("flow.py", FLOW.replace("data/2026-*.csv", f"s3://{place}"))
    assert sums.call("run", "flow.py").code == 0
    [copy] = (sums.folder / ".penstock" / "fetched").iterdir()
    copy.write_bytes(b"n\n9\n")
    ended = sums.call("run", "flow.py", "--force", "sales")
    assert ended.code == 0, ended.err
    assert copy.read_bytes() == b"n\n1\n"
    assert json.loads(sums.call("gc", "--json").out)["fetched"] == 0  # a recent run used it
    os.utime(copy, (1e9, 1e9))
    assert "would remove 1 files from URLs that no recent run used, 4 B" in sums.call("gc", "--dry-run").out
    assert "removed 1 files from URLs" in sums.call("gc").out
    assert not copy.exists()


def test_an_address_inside_the_network_is_refused_with_the_setting_that_allows_it(sums):
    sums.write("flow.py", FLOW.replace("data/2026-*.csv", "http://127.0.0.1:9/t.csv"))
    ended = sums.call("run", "flow.py")
    assert ended.code == 2
    sums.write("flow.py", FLOW.replace("data/2026-*.csv", "http://me:word@example.org/t.csv"))
    ended = sums.call("run", "flow.py")
    assert ended.code == 2
    assert "credential" in ended.err
    assert "word" not in ended.err
