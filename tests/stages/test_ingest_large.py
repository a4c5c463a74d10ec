"""A CSV larger than the memory it is given is streamed: peak memory does not grow with the file."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from penstock.stages import csv_stream

PROGRAM = """
import json, os, resource, sys
import pyarrow.compute, pyarrow.csv, pyarrow.parquet
from penstock.core.source import Source
from penstock.stages import csv_stream, ingest

csv_stream.BLOCK = int(sys.argv[3])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table, sniffed = ingest.read(Source(sys.argv[1], ".csv"), spill=int(sys.argv[2]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = pyarrow.parquet.ParquetFile(table.path).metadata.num_rows
os.unlink(table.path)
print(json.dumps({"grown": (peak - before) * 1024, "rows": rows, "summary": sniffed["summary"]}))
"""


def large(path, megabytes):
    """A CSV of about this size, and its number of rows."""
    block = "".join(f'{i},{i * 0.37:.6f},{i % 97},"Oslo, N",true,{i % 2}\n' for i in range(20_000))
    times = max((megabytes << 20) // len(block), 1)
    with open(path, "w") as file:
        file.write("id,amount,code,city,flag,y\n")
        file.writelines(block for _ in range(times))
    return times * 20_000


def streamed(path, block):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(1 << 20), str(block)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Short form: 16 MB and 32 MB of text, 1 MB of it held at a time, in blocks of 256 KiB."""
    path = tmp_path / "large.csv"
    grown = []
    for megabytes in (16, 32):
        rows = large(path, megabytes)
        found = streamed(path, 1 << 18)
        assert found["rows"] == rows
        assert found["summary"] == f'"," utf-8 · {rows:,} × 6'
        grown.append(found["grown"])
    assert grown[1] - grown[0] < 8 << 20


@pytest.mark.campaign
def test_two_hundred_megabytes_take_no_more_memory_than_a_third_of_a_gibibyte(tmp_path):
    path = tmp_path / "large.csv"
    for megabytes in (200, 600):
        rows = large(path, megabytes)
        found = streamed(path, csv_stream.BLOCK)
        assert found["rows"] == rows
        assert found["grown"] < 340 << 20
