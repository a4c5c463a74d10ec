"""The prediction log: whole rows, append-only, bounded, never in the way of an answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from penstock.serve.follow import Holder
from penstock.serve.log import NoLog, PredictionLog
from penstock.serve.predict import Live, Predictor, Row


def rows(*names):
    return [Row(name, 1.5, "churn@1", {"age": 1}, {}, {"value": 2.0}, []) for name in names]


def lines(folder):
    found = []
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            found += [json.loads(line) for line in file]
    return found


@pytest.fixture
def log(tmp_path):
    made = PredictionLog(str(tmp_path / "predictions" / "churn"), flush_s=0.02)
    yield made
    made.close()


def test_a_row_has_all_that_was_asked_and_answered(log, house, kit):
    estimator, contract, frame = kit.customers_pipeline()
    house.register(house.bundle(estimator, contract | {"key": ["customer_id"]}, frame))
    holder = Holder()
    holder.swap(Live.of(house.load(1)))
    predictor = Predictor(log)
    records = [kit.customer, kit.customer | {"city": "Zürich\n", "age": None, "customer_id": "c-7", "other": 1}]
    body = bytearray(json.dumps({"records": records}).encode())
    before = time.time()
    answered = predictor.submit(holder.live, body, time.monotonic() + 5).result(5)
    predictor.close()
    log.close()
    kept = lines(log.folder)
    assert [line["row"] for line in kept] == [kit.customer, kit.customer | {"city": "Zürich\n", "age": None}]
    given = json.loads(answered.body)["predictions"]
    for line, prediction in zip(kept, given, strict=True):
        assert line["id"] == prediction["id"]
        assert line["model"] == "churn@1"
        assert before <= line["at"] <= time.time()
        assert line["answer"] == {"label": prediction["label"], "score": prediction["score"]}
    assert [line["unseen"] for line in kept] == [[], ["city"]]
    assert [line.get("key") for line in kept] == [None, {"customer_id": "c-7"}]


def test_rows_reach_the_file_within_the_flush_time_without_closing(log, kit):
    log.offer(rows("a", "b"))
    kit.until(lambda: log.state()["written"] == 2, 2)
    assert [line["id"] for line in lines(log.folder)] == ["a", "b"]
    (name,) = os.listdir(log.folder)
    assert name.endswith(f"-{os.getpid()}.jsonl")


def test_a_kill_loses_at_most_the_last_second(tmp_path):
    script = (
        "import sys, time\n"
        "from penstock.serve.log import PredictionLog\n"
        "from penstock.serve.predict import Row\n"
        "log = PredictionLog(sys.argv[1])\n"
        "for number in range(10_000):\n"
        "    log.offer([Row(str(number), time.time(), 'm@1', {}, {}, {}, [])])\n"
        "    print(number, time.time(), flush=True)\n"
        "    time.sleep(0.02)\n"
    )
    source = os.path.join(os.path.dirname(__file__), "..", "..", "src")
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": source},
    )
    process.stdout.readline()
    time.sleep(1.6)
    killed = time.time()
    process.kill()
    offered = [line.split() for line in process.communicate()[0].splitlines() if line.count(" ") == 1]
    kept = {line["id"] for line in lines(tmp_path)}
    assert kept
    assert {number for number, at in offered if float(at) < killed - 1.0} <= kept


def test_what_does_not_fit_is_dropped_and_counted_and_nobody_waits(tmp_path):
    log = PredictionLog(str(tmp_path), max_rows=3, flush_s=30)
    assert log.offer(rows("a", "b", "c"))
    begun = time.perf_counter()
    assert not any(log.offer(rows("x")) for _ in range(1_000))
    assert time.perf_counter() - begun < 1.0
    log.close()
    assert log.state()["dropped"] == 1_000
    assert [line["id"] for line in lines(tmp_path)] == ["a", "b", "c"]


def test_a_new_segment_begins_by_size_and_by_day_and_none_is_written_twice(tmp_path):
    now = [1_700_000_000.0]
    log = PredictionLog(str(tmp_path), segment_bytes=100, flush_s=30, clock=lambda: now[0])
    for names in (("a", "b"), ("c",)):
        log.offer(rows(*names))
        log._drain()
    now[0] += 86_400
    log.offer(rows("d"))
    log._drain()
    log.close()
    assert sorted(os.listdir(tmp_path)) == [
        f"20231114T221320Z-{os.getpid()}-1.jsonl",
        f"20231114T221320Z-{os.getpid()}.jsonl",
        f"20231115T221320Z-{os.getpid()}.jsonl",
    ]
    assert sorted(line["id"] for line in lines(tmp_path)) == ["a", "b", "c", "d"]


def test_a_disk_that_refuses_is_counted_and_later_rows_go_to_a_new_segment(tmp_path, monkeypatch):
    folder = tmp_path / "full"
    log = PredictionLog(str(folder), flush_s=30)
    folder.write_text("a file where the folder should be")
    log.offer(rows("lost"))
    log._drain()
    assert log.state()["dropped"] == 1
    assert "Error" in log.state()["error"]
    assert str(tmp_path) not in log.state()["error"]
    folder.unlink()
    log.offer(rows("kept"))
    log._drain()
    log.close()
    assert log.state()["error"] is None
    assert [line["id"] for line in lines(folder)] == ["kept"]


def test_half_a_line_after_a_full_disk_ends_its_segment(tmp_path, monkeypatch):
    log = PredictionLog(str(tmp_path), flush_s=30)
    log.offer(rows("whole"))
    log._drain()

    class Full:
        """Takes ten bytes, then no more."""

        def __init__(self, file):
            self.file, self.left = file, 10

        def write(self, data):
            if not self.left:
                raise OSError(28, "No space left on device")
            taken, self.left = self.file.write(data[: self.left]), 0
            return taken

        def close(self):
            self.file.close()

        def fileno(self):
            return self.file.fileno()

    log._file = Full(log._file)
    log.offer(rows("half"))
    log._drain()
    log.offer(rows("next"))
    log._drain()
    log.close()
    assert log.state() == {"on": True, "written": 2, "dropped": 1, "error": None}
    segments = sorted(os.listdir(tmp_path), key=len)
    texts = [(tmp_path / name).read_text() for name in segments]
    assert len(texts) == 2
    assert sum(text.count('"id":"next"') for text in texts) == 1
    assert any(not text.endswith("\n") for text in texts)


def test_many_threads_lose_nothing(log):
    def offer(name):
        for number in range(200):
            log.offer(rows(f"{name}-{number}"))

    threads = [threading.Thread(target=offer, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert len({line["id"] for line in lines(log.folder)}) == 800


def test_no_log_keeps_nothing():
    log = NoLog()
    assert log.offer(rows("a")) is False
    assert log.state()["on"] is False
    log.close()


def test_a_slow_log_does_not_slow_answers(tmp_path, customers_model, kit):
    class Stuck(PredictionLog):
        def _write(self, rows):
            time.sleep(0.5)
            super()._write(rows)

    log = Stuck(str(tmp_path), flush_s=0.01, max_rows=5)
    live = Live.of(customers_model)
    predictor = Predictor(log)
    body = bytearray(json.dumps({"records": [kit.customer]}).encode())
    for _ in range(20):
        predictor.submit(live, body, time.monotonic() + 5).result(5)
    assert log.state()["dropped"] > 0
    predictor.close()
    log.close()
