"""A store behind a URL: the promises of every store, on two kinds of remote file system."""

import errno
import os
import threading
import time
import uuid

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from penstock.core.digest import digest_bytes
from penstock.errors import CorruptObjectError, MissingObjectError, StoreError, StoreTooNewError
from penstock.store.bucket import Bucket
from penstock.store.remote import DOWNLOADS, RemoteObjects
from penstock.testing import ObjectsSuite


def path_of(digest):
    return f"objects/{digest[:2]}/{digest[2:]}"


def overwrite(path, data):
    os.chmod(path, 0o644)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o444)


@pytest.fixture
def url():
    yield (url := f"memory://store-{uuid.uuid4().hex}")
    fs = fsspec.filesystem("memory")
    if fs.exists(url):
        fs.rm(url, recursive=True)


class TestRemoteObjects(ObjectsSuite):
    @pytest.fixture
    def damage(self, objects, damage_remote):
        return lambda digest, data: damage_remote(objects, digest, data)

    @pytest.fixture
    def objects(self, tmp_path, url):
        yield (objects := RemoteObjects(url, str(tmp_path / "here")))
        assert [item for item in objects.leftovers() if item.kind != "staged"] == []


class TestWithoutCopies(TestRemoteObjects):
    """As `fsck` reads."""

    @pytest.fixture
    def objects(self, tmp_path, url):
        return RemoteObjects(url, str(tmp_path / "here")).direct()


class Piecemeal(MemoryFileSystem):
    """A file system whose uploads can be seen half done, as SFTP's or a mounted folder's, and whose moves are whole."""

    protocol = "piecemeal"
    store = {}
    pseudo_dirs = [""]
    watch = staticmethod(lambda fs: None)
    cuts = 0
    refuses_names_in_use = False

    def pipe_file(self, path, value, mode="overwrite", **_):
        super().pipe_file(path, value[: len(value) // 2])
        type(self).watch(self)
        if type(self).cuts:
            type(self).cuts -= 1
            raise ConnectionResetError("cut off")
        super().pipe_file(path, value)

    def get_file(self, rpath, lpath, **_):
        """Whole: fsspec's own gives all readers of a name one file object with one position."""
        with open(lpath, "wb") as file:
            file.write(self.cat_file(rpath))

    def mv(self, path1, path2, **options):
        if self.refuses_names_in_use and self.exists(path2):
            raise OSError("Failure")  # all that SFTP says
        super().mv(path1, path2, **options)


@pytest.fixture
def piecemeal(monkeypatch):
    fsspec.register_implementation("piecemeal", Piecemeal, clobber=True)
    for name, value in (("store", {}), ("pseudo_dirs", [""]), ("cuts", 0), ("watch", lambda fs: None)):
        monkeypatch.setattr(Piecemeal, name, staticmethod(value) if callable(value) else value)
    return "piecemeal://folder"


class TestPiecemeal(TestRemoteObjects):
    """Uploads go under another name first."""

    @pytest.fixture
    def url(self, piecemeal):
        return piecemeal


class TestNamesInUse(TestPiecemeal):
    """And nothing can be moved onto a name that is taken."""

    @pytest.fixture
    def url(self, piecemeal, monkeypatch):
        monkeypatch.setattr(Piecemeal, "refuses_names_in_use", True)
        return piecemeal


@pytest.fixture
def machines(tmp_path, url):
    """Two machines with one store."""
    return RemoteObjects(url, str(tmp_path / "one")), RemoteObjects(url, str(tmp_path / "two"))


def published(objects, data=b"bytes"):
    digest, _ = objects.stage(data)
    objects.publish([digest])
    return digest


def test_what_one_machine_published_another_reads_and_keeps_a_copy(machines, url):
    one, two = machines
    digest = published(one)
    assert two.missing([digest]) == set()
    assert two.read(digest) == b"bytes"
    fsspec.filesystem("memory").rm(url, recursive=True)
    assert two.read(digest) == b"bytes"  # the copy
    assert two.direct().missing([digest]) == {digest}
    with pytest.raises(MissingObjectError):
        two.direct().fetch(digest)


def test_what_is_only_staged_is_seen_on_no_other_machine(machines):
    one, two = machines
    digest, _ = one.stage(b"bytes")
    assert two.missing([digest]) == {digest}
    assert list(two.walk()) == []
    with pytest.raises(MissingObjectError):
        two.publish([digest])


def test_a_damaged_copy_is_fetched_again(machines):
    one, two = machines
    digest = published(one)
    overwrite(two.fetch(digest), b"bytez")
    assert two.read(digest) == b"bytes"
    overwrite(one.fetch(digest), b"")
    assert one.stage(b"bytes") == (digest, 5)
    assert one.read(digest) == b"bytes"


def test_wrong_bytes_behind_the_url_are_moved_aside_by_the_maker(machines, url):
    one, two = machines
    digest = digest_bytes(b"bytes")
    one._bucket.put(path_of(digest), b"lies!")
    with pytest.raises(CorruptObjectError) as caught:
        two.read(digest)
    assert caught.value.facts["found"] == digest_bytes(b"lies!")
    assert published(one) == digest
    assert two.read(digest) == b"bytes"
    assert [name.partition(".")[0] for name, _ in one._bucket.listed("quarantine")] == [digest]


def test_an_object_cut_behind_the_url_is_written_anew(machines):
    one, two = machines
    digest = published(one)
    one._bucket.put(path_of(digest), b"byt")
    one._seen.clear()  # as in another process
    one.publish([digest])
    assert two.read(digest) == b"bytes"


def test_a_store_of_a_newer_layout_is_left_alone(tmp_path, url):
    Bucket(url).put("format", b'{"penstock-store": 99}')
    objects = RemoteObjects(url, str(tmp_path / "here"))
    digest, _ = objects.stage(b"bytes")
    with pytest.raises(StoreTooNewError):
        objects.publish([digest])
    assert Bucket(url).stat(path_of(digest)) is None


@pytest.mark.parametrize("lies", [2, 3])
def test_a_mark_that_arrives_cut_is_read_again_before_the_store_is_refused(machines, monkeypatch, lies):
    one, two = machines
    digest = published(one)
    get, asked = Bucket.get, []

    def cut(self, name, path):
        found = get(self, name, path)
        if name == "format" and len(asked) < lies:
            asked.append(name)
            overwrite(path, b"{")
        return found

    monkeypatch.setattr(Bucket, "get", cut)
    if lies < DOWNLOADS:
        assert two.read(digest) == b"bytes"
    else:
        with pytest.raises(StoreError, match="not the mark"):
            two.read(digest)


def test_many_names_are_looked_up_by_one_listing(machines, monkeypatch):
    one, two = machines
    digests = {published(one, b"%d" % number) for number in range(5)}
    monkeypatch.setattr("penstock.store.remote.MANY", 3)
    monkeypatch.setattr(Bucket, "stats", None)
    absent = digest_bytes(b"absent")
    assert two.missing([*digests, absent]) == {absent}


# ── the copies ───────────────────────────────────────────────────────────────────────────────────────────────


def test_copies_go_when_there_are_too_many_and_the_longest_unused_first(tmp_path, url):
    objects = RemoteObjects(url, str(tmp_path / "here"), limit=3_000)
    digests = [published(objects, bytes([number]) * 1_000) for number in range(5)]
    staged, _ = objects.stage(b"s" * 1_000)
    assert objects.local.evict() == 0  # all are in use
    for age, digest in enumerate(digests):
        os.utime(objects.local._final(digest), (0, time.time() - 10_000 + age))
    os.utime(objects.local._staged(staged), (0, 0))
    objects.local.evict()
    kept = [digest for digest in digests if os.path.exists(objects.local._final(digest))]
    assert kept == digests[2:]
    assert objects.read(staged) == b"s" * 1_000  # what is nowhere else stays
    assert [objects.read(digest)[0] for digest in digests] == [0, 1, 2, 3, 4]


def test_the_limit_is_held_while_objects_come(tmp_path, url, monkeypatch):
    monkeypatch.setattr("penstock.store.scratch.IN_USE_S", -1.0)
    objects = RemoteObjects(url, str(tmp_path / "here"), limit=10_000)
    for number in range(60):
        published(objects, bytes([number]) * 1_000)
    kept = [item for item in objects.local.walk() if not item.staged]
    assert 8 <= len(kept) <= 11
    assert len(list(objects.walk())) == 60


# ── a collection beside writers ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def soon(tmp_path, url):
    """Two machines for which every object is old at once."""
    return [RemoteObjects(url, str(tmp_path / name), refresh_s=0.0) for name in ("one", "two")]


def test_an_object_that_is_published_again_is_young_again(soon):
    one, two = soon
    digest = published(one)
    before = time.time()
    time.sleep(0.01)
    two.publish([digest])  # which it has no copy of
    assert not one.delete_unless_touched(digest, before)
    assert one.delete_unless_touched(digest, time.time() + 1) is True
    assert two.direct().missing([digest]) == {digest}


def test_nothing_is_collected_that_a_writer_would_leave_as_it_is(tmp_path, url):
    objects = RemoteObjects(url, str(tmp_path / "here"), refresh_s=3_600)
    digest = published(objects)
    assert not objects.delete_unless_touched(digest, time.time() + 10)


@pytest.mark.parametrize("pause", ["claim", "stat", "delete"])
def test_a_writer_that_comes_during_a_collection_keeps_its_object(soon, pause, monkeypatch):
    """Whatever the collector is about to do when the writer publishes the old object again."""
    one, two = soon
    digest = published(one)
    writer = threading.Thread(target=two.publish, args=([digest],))
    bucket, done = one._bucket, []
    real = {name: getattr(bucket, name) for name in ("put", "stat", "delete")}

    def begin(name, *args, **kwargs):
        if not done and args[0] == {"claim": f"collecting/{digest}"}.get(pause, path_of(digest)):
            done.append(pause)
            writer.start()
            if pause == "claim":
                writer.join(10)
            else:
                time.sleep(0.3)
        return real[name](*args, **kwargs)

    name = {"claim": "put"}.get(pause, pause)
    monkeypatch.setattr(bucket, name, lambda *args, **kwargs: begin(name, *args, **kwargs))
    time.sleep(0.02)
    one.delete_unless_touched(digest, time.time())
    writer.join(20)
    assert not writer.is_alive()
    assert two.direct().read(digest) == b"bytes"
    assert list(bucket.listed("collecting")) == []


def test_without_the_mark_of_the_collector_the_object_would_be_lost(soon, monkeypatch):
    """Sabotage of the safeguard that the test above relies on."""
    one, two = soon
    digest = published(one)
    monkeypatch.setattr(one, "_claim", lambda digest: True)  # says nothing to anybody
    real = one._bucket.delete

    def late(name):
        if name == path_of(digest):
            two.publish([digest])
        real(name)

    monkeypatch.setattr(one._bucket, "delete", late)
    one.delete_unless_touched(digest, time.time() + 5)
    assert two.direct().missing([digest]) == {digest}


def test_of_two_collectors_one_looks_at_an_object(soon):
    one, two = soon
    digest = published(one)
    assert one._claim(digest)
    assert not two._claim(digest)
    assert not two.delete_unless_touched(digest, time.time() + 5)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────


class Flaky:
    """A file system that fails as often as it is told to."""

    def __init__(self, fs, error, times):
        self._fs, self._error, self.left = fs, error, times

    def __getattr__(self, name):
        real = getattr(self._fs, name)

        def call(*args, **kwargs):
            if self.left:
                self.left -= 1
                raise self._error
            return real(*args, **kwargs)

        return call


def flaky(url, error, times, **options):
    waits = []
    bucket = Bucket(url, wait=waits.append, **options)
    fs = Flaky(bucket._fs(), error, times)
    bucket._made = (os.getpid(), fs)
    return bucket, fs, waits


class Status(OSError):
    def __init__(self, status):
        super().__init__(f"status {status}")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.mark.parametrize("error", [Status(503), Status(409), Status(500), Status(429), TimeoutError("slow"), OSError()])
def test_what_may_pass_is_tried_again(url, error):
    bucket, _, waits = flaky(url, error, 3)
    assert bucket.put("name", b"bytes") is True
    assert len(waits) == 3
    assert all(0 <= wait <= 5 for wait in waits)


@pytest.mark.parametrize("error", [Status(403), Status(400), PermissionError("no"), ValueError("odd")])
def test_what_will_stay_is_told_at_once(url, error):
    bucket, _, waits = flaky(url, error, 1)
    with pytest.raises(StoreError) as caught:
        bucket.put("name", b"bytes")
    assert waits == []
    assert caught.value.where == url


def test_after_the_deadline_it_is_an_error_with_the_number_of_tries(url):
    bucket, fs, _ = flaky(url, Status(503), 10**9, deadline_s=2.0)
    with pytest.raises(StoreError, match=r"\(\d+ tries\)"):
        bucket.put("name", b"bytes")
    assert fs.left > 0


def test_no_error_shows_a_credential(url, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    bucket, _, _ = flaky(url, ValueError("bad wJalrXUtnFEMI at https://ana:s3cret@proxy/"), 1)
    with pytest.raises(StoreError) as caught:
        bucket.put("name", b"bytes")
    assert "bad *** at https://ana:***@proxy/" in str(caught.value)


def test_a_provider_without_conditional_writes_is_written_to_all_the_same(url):
    bucket, fs, _ = flaky(url, Status(501), 0)
    real = bucket._send

    def send(fs, name, data, options):
        if options:
            raise Status(501)
        real(fs, name, data, options)

    bucket._send = send
    fs._pipe_file = lambda path, data, mode="overwrite": None
    assert bucket.put("name", b"bytes", create=True)
    assert bucket.stat("name").size == 5
    assert not bucket.put("name", b"other bytes", create=True)
    assert bucket.stat("name").size == 5


def test_without_conditional_writes_what_is_there_is_not_overwritten(url, monkeypatch):
    """Else of two collectors both would claim an object, and a writer would not look for the collector."""
    monkeypatch.setattr("penstock.store.bucket._takes_mode", lambda fs: False)
    bucket = Bucket(url)
    assert [bucket.put("name", data, create=True) for data in (b"bytes", b"other bytes")] == [True, False]
    assert bucket.stat("name").size == 5


# ── uploads that can be seen half done ───────────────────────────────────────────────────────────────────────


def names_seen(piecemeal, tmp_path):
    """Publish an object; the names below `objects` that were there while an upload was half done."""
    seen = []
    Piecemeal.watch = staticmethod(lambda fs: seen.extend(fs.find("/folder/objects")))
    objects = RemoteObjects(piecemeal, str(tmp_path / "here"))
    digest = published(objects, b"bytes" * 100)
    assert objects.direct().read(digest) == b"bytes" * 100
    return seen


def test_a_half_upload_is_never_seen_under_its_name(piecemeal, tmp_path):
    assert names_seen(piecemeal, tmp_path) == []


def test_without_the_other_name_a_half_upload_would_be_seen(piecemeal, tmp_path, monkeypatch):
    """Sabotage of the safeguard that the test above relies on."""
    monkeypatch.setattr("penstock.store.bucket._WHOLE_PUTS", ("piecemeal",))
    assert names_seen(piecemeal, tmp_path) != []


def test_an_upload_that_is_cut_off_is_tried_again_and_one_that_never_ends_leaves_no_object(piecemeal, tmp_path):
    waits = []
    bucket = Bucket(piecemeal, wait=waits.append)
    Piecemeal.cuts = 2
    assert bucket.put("objects/ab/cd", b"bytes", create=True)
    assert len(waits) == 2
    assert not bucket.put("objects/ab/cd", b"other", create=True)
    assert list(bucket.listed("tmp")) == []
    Piecemeal.cuts = 10**6
    with pytest.raises(StoreError, match="ConnectionResetError"):
        Bucket(piecemeal, deadline_s=0.2).put("objects/ef/01", b"bytes")
    Piecemeal.cuts = 0
    assert [name for name, _ in bucket.listed("objects")] == ["ab/cd"]
    objects = RemoteObjects(piecemeal, str(tmp_path / "here"))
    assert [item.kind for item in objects.leftovers() if item.kind == "tmp"] == ["tmp"]
    assert objects.sweep(-60.0) == 1
    assert list(bucket.listed("tmp")) == []


# ── a full disk on this machine ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "said"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota is used up"), (errno.EROFS, "read-only")],
)
def test_a_full_disk_here_is_told_at_once_and_is_not_the_provider_s_fault(url, tmp_path, code, said):
    Bucket(url).put("name", b"bytes")
    bucket, _, waits = flaky(url, OSError(code, os.strerror(code), str(tmp_path)), 1)
    with pytest.raises(StoreError, match=said) as caught:
        bucket.get("name", str(tmp_path / "copy"))
    assert waits == []
    assert caught.value.where == str(tmp_path)
    assert "network" not in str(caught.value)
    wrapped = OSError("cannot write")
    wrapped.__cause__ = OSError(code, os.strerror(code))
    bucket, _, waits = flaky(url, wrapped, 1)
    with pytest.raises(StoreError, match=said):
        bucket.get("name", str(tmp_path / "copy"))
    assert waits == []
