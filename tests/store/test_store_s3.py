"""A store in S3: a local server of that protocol, behind a proxy that delays, cuts and lies."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from penstock.core.digest import digest_bytes
from penstock.errors import CorruptObjectError, StoreError
from penstock.store.remote import RemoteObjects
from penstock.testing import ObjectsSuite
from penstock.testing.proxy import Fault

DATA = random.Random(1).randbytes(20_000)
DIGEST = digest_bytes(DATA)


class TestS3Objects(ObjectsSuite):
    @pytest.fixture
    def objects(self, s3, tmp_path):
        yield (objects := RemoteObjects(s3, str(tmp_path / "here")))
        assert [item for item in objects.leftovers() if item.kind != "staged"] == []

    @pytest.fixture
    def damage(self, objects, damage_remote):
        return lambda digest, data: damage_remote(objects, digest, data)


@pytest.fixture
def proxy(s3, s3_proxy):
    """Stands between the store and the server."""
    s3_proxy.seen.clear()
    yield s3_proxy
    s3_proxy.faults.clear()


@pytest.fixture
def machine(s3, proxy, tmp_path):
    """Gives a machine with nothing of the store on it."""

    def make(name, **options):
        options = {"deadline_s": 20.0, "timeout_s": 2.0} | options
        return RemoteObjects(s3, str(tmp_path / name), **options)

    return make


def whole(machine):
    """The object as a machine reads it that never saw it."""
    return machine("reader").direct().read(DIGEST)


def put(objects):
    digest, _ = objects.stage(DATA)
    objects.publish([digest])
    return digest


AT_OBJECT = f"/objects/{DIGEST[:2]}/{DIGEST[2:]}"
PASSING = [
    Fault("delay", 0.5),
    Fault("hang"),
    Fault("cut", 0),
    Fault("cut", 100),
    Fault("slice", 1),
    Fault("status", 503),
    Fault("status", 409),
    Fault("status", 500),
    Fault("lost", 503),
    Fault("lost", 500),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.kind}-{fault.value}")
def test_an_upload_gets_through(machine, proxy, fault):
    objects = machine("writer")
    objects.missing([DIGEST])  # the mark of the store is written
    proxy.plan(*[Fault(fault.kind, fault.value, f"PUT {proxy_path(objects)}")] * 2)
    put(objects)
    harmless = fault.kind in ("delay", "slice") or fault.value == 100  # of an answer without a body
    assert len(proxy.faults) == (1 if harmless else 0)
    proxy.faults.clear()
    assert whole(machine) == DATA
    assert [(item.digest, item.size) for item in objects.direct().walk()] == [(DIGEST, len(DATA))]


@pytest.mark.parametrize("fault", [*PASSING[:8], Fault("wrong"), Fault("short", 100), Fault("short", 0)],
                         ids=lambda fault: f"{fault.kind}-{fault.value}")  # fmt: skip
def test_a_download_gets_through_and_is_never_believed_unseen(machine, proxy, fault):
    put(machine("writer"))
    reader = machine("reader")
    reader.missing([DIGEST])  # the mark of the store is read
    proxy.plan(*[Fault(fault.kind, fault.value, f"GET {proxy_path(reader)}")] * 2)
    path = reader.fetch(DIGEST)
    assert Path(path).read_bytes() == DATA
    assert len(proxy.faults) == (1 if fault.kind in ("delay", "slice") else 0)
    assert os.listdir(os.path.join(reader.local.root, "tmp")) == []


def proxy_path(objects):
    return f"/{objects.root[5:]}{AT_OBJECT}"


@pytest.mark.parametrize("fault", [Fault("wrong"), Fault("short", 19_999), Fault("short", 0)])
def test_a_network_that_always_lies_is_a_corrupt_object_and_leaves_no_copy(machine, proxy, fault):
    put(machine("writer"))
    reader = machine("reader")
    proxy.plan(*[Fault(fault.kind, fault.value, f"GET {proxy_path(reader)}")] * 10)
    for ask in (reader.read, reader.fetch):
        with pytest.raises(CorruptObjectError) as caught:
            ask(DIGEST)
        assert caught.value.facts["digest"] == DIGEST
    assert list(reader.local.walk()) == []
    proxy.faults.clear()
    assert reader.read(DIGEST) == DATA


def test_412_is_there_already_only_after_the_bytes_were_held_against_the_name(machine, proxy):
    put(machine("first"))
    second = machine("second")
    put(second)  # staged there too: the server itself answers 412
    asked = [line for line in proxy.seen if proxy_path(second) in line]
    assert [line.split()[0] for line in asked if not line.startswith("HEAD")] == ["PUT", "PUT", "GET"]
    assert whole(machine) == DATA


def test_412_about_an_object_that_is_not_there_loses_nothing(machine, proxy):
    objects = machine("writer")
    proxy.plan(Fault("status", 412, f"PUT {proxy_path(objects)}"))
    put(objects)
    assert whole(machine) == DATA


def test_412_about_wrong_bytes_puts_them_aside(machine, proxy):
    objects = machine("writer")
    objects._bucket.put(AT_OBJECT[1:], b"lies")
    put(objects)
    assert whole(machine) == DATA
    assert len(list(objects._bucket.listed("quarantine"))) == 1


@pytest.mark.parametrize("kind", ["status", "hang"])
def test_a_service_that_is_away_is_told_in_bounded_time(machine, proxy, kind):
    proxy.plan(*[Fault(kind, 503)] * 1_000)
    objects = machine("writer", deadline_s=3.0, timeout_s=0.3)
    digest, _ = objects.stage(DATA)
    begun = time.monotonic()
    with pytest.raises(StoreError, match="cannot read format") as caught:
        objects.publish([digest])
    assert time.monotonic() - begun < 40  # `DEADLINE_S` is 60
    assert "s3cret-of-the-tests" not in str(caught.value)
    assert objects.read(digest) == DATA  # still staged: the next run goes on from here
    proxy.faults.clear()
    objects.publish([digest])
    assert whole(machine) == DATA


def test_a_refusal_is_told_at_once_with_where_to_look(machine, proxy):
    objects = machine("writer")
    proxy.plan(*[Fault("status", 403)] * 1_000)
    digest, _ = objects.stage(DATA)
    begun = time.monotonic()
    with pytest.raises(StoreError) as caught:
        objects.publish([digest])
    assert time.monotonic() - begun < 2
    assert "AWS_PROFILE" in caught.value.hint


def test_a_bucket_that_is_not_there_is_named(s3, tmp_path):
    objects = RemoteObjects("s3://nobody-made-this/x", str(tmp_path / "here"), deadline_s=2)
    digest, _ = objects.stage(DATA)
    with pytest.raises(StoreError, match="cannot write") as caught:
        objects.publish([digest])
    assert "spelled right" in caught.value.hint


def test_eight_machines_publish_one_object(machine):
    faults, gate = [], threading.Barrier(8)
    data = random.Random(2).randbytes(1_000_000)

    def write(number):
        try:
            objects = machine(f"m{number}", timeout_s=10.0)
            digest, _ = objects.stage(data)
            gate.wait(10)
            objects.publish([digest])
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    reader = machine("reader", timeout_s=10.0)
    assert [item.size for item in reader.walk()] == [len(data)]
    assert reader.read(digest_bytes(data)) == data


WRITER = """
    import sys
    from penstock.store.remote import RemoteObjects
    objects = RemoteObjects(sys.argv[1], sys.argv[2], timeout_s=5.0)
    digests = [objects.stage(b"%d" % n * 50_000)[0] for n in range(8)]
    print("staged", flush=True)
    objects.publish(digests)
    print("published", flush=True)
"""


@pytest.mark.parametrize("after", [1, 3, 6])
def test_a_writer_killed_in_the_middle_of_its_uploads_leaves_whole_objects_or_none(s3, proxy, tmp_path, after):
    digests = [digest_bytes(b"%d" % number * 50_000) for number in range(8)]
    command = [sys.executable, "-c", textwrap.dedent(WRITER), s3, str(tmp_path / "writer")]
    for kill in (True, False):
        proxy.plan(*[Fault("delay", 0.2, "PUT ")] * (20 if kill else 0))
        seen = len(proxy.seen)
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert writer.stdout.readline() == "staged\n"
        while kill and sum(line.startswith("PUT") for line in proxy.seen[seen:]) < after + 1:
            time.sleep(0.005)
        if kill:
            writer.send_signal(signal.SIGKILL)
        out, err = writer.communicate(timeout=60)
        assert kill or (out, err) == ("published\n", "")
        proxy.faults.clear()
        reader = RemoteObjects(s3, str(tmp_path / f"reader-{kill}")).direct()
        there = [item.digest for item in reader.walk()]
        for digest in there:
            reader.read(digest)  # verified
        assert kill or sorted(there) == sorted(digests)


# ── uploads in parts ─────────────────────────────────────────────────────────────────────────────────────────

LARGE = random.Random(2).randbytes(12 << 20)


@pytest.fixture
def parts(monkeypatch):
    """Parts of 5 MiB, the least that S3 takes; the client's own are of 50 MiB."""
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda _size, chunksize=None: chunksize or 5 << 20)


def open_uploads(s3, proxy):
    bucket = s3.removeprefix("s3://").partition("/")[0]
    with urllib.request.urlopen(f"{proxy.url}/{bucket}?uploads") as answer:
        return answer.read().count(b"<UploadId>")


@pytest.mark.parametrize(
    "fault",
    [None, Fault("status", 503, "partNumber=2"), Fault("cut", 0, "partNumber=3"), Fault("lost", 500, "partNumber=1"),
     Fault("status", 503, "uploadId="), Fault("delay", 0.5, "partNumber=1")],
    ids=lambda fault: "none" if fault is None else f"{fault.kind}-{fault.match}",
)  # fmt: skip
def test_a_large_object_goes_up_in_parts_and_is_seen_whole(machine, s3, proxy, parts, fault):
    writer = machine("writer")
    digest, size = writer.stage(LARGE)
    assert size == len(LARGE)
    if fault is not None:
        proxy.plan(fault)
    writer.publish([digest])
    assert proxy.faults == []
    asked = [line for line in proxy.seen if "partNumber=" in line]
    assert {line.partition("partNumber=")[2][0] for line in asked} == {"1", "2", "3"}
    assert machine("reader").direct().read(digest) == LARGE
    assert [(item.digest, item.size) for item in writer.direct().walk()] == [(digest, len(LARGE))]
    assert open_uploads(s3, proxy) == 0  # one that was cut off is given up, and costs nothing


def test_an_upload_in_parts_that_never_ends_leaves_no_object(machine, s3, proxy, parts):
    writer = machine("writer", deadline_s=1.0)
    digest, _ = writer.stage(LARGE)
    proxy.plan(*[Fault("status", 503, "partNumber=2")] * 50)
    with pytest.raises(StoreError, match="cannot write"):
        writer.publish([digest])
    proxy.faults.clear()
    reader = machine("reader").direct()
    assert reader.missing([digest]) == {digest}
    assert open_uploads(s3, proxy) == 0
    writer.publish([digest])
    assert reader.read(digest) == LARGE
