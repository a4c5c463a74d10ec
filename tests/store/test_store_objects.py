"""What only the directory promises: its layout, its first start, its races, its refusals."""

import errno
import json
import os
import subprocess
import sys
import time

import pytest

import penstock
from penstock.core.digest import digest_bytes
from penstock.errors import MissingObjectError, StoreError, StoreTooNewError
from penstock.store import mark
from penstock.store.fsck import fsck
from penstock.store.objects import DirectoryObjects
from penstock.testing import MemoryLedger
from penstock.testing.sabotage import DropsFileFsync


@pytest.fixture
def objects(tmp_path):
    return DirectoryObjects(str(tmp_path / "store"))


def listing(objects, folder):
    return sorted(os.listdir(os.path.join(objects.root, folder)))


# ── layout and first start ───────────────────────────────────────────────────────────────────────────────────


def test_layout(objects):
    digest, _ = objects.stage(b"x")
    assert listing(objects, "staging") == [digest]
    objects.publish([digest])
    assert objects.fetch(digest) == os.path.join(objects.root, "objects", digest[:2], digest[2:])
    assert sorted(os.listdir(objects.root)) == ["format", "objects", "quarantine", "staging", "tmp"]
    with open(os.path.join(objects.root, "format")) as file:
        assert json.load(file) == {"penstock-store": 1}


def test_a_store_in_dot_penstock_is_ignored_by_git(tmp_path):
    DirectoryObjects(str(tmp_path / ".penstock" / "store"))
    assert (tmp_path / ".penstock" / ".gitignore").read_text() == "*\n"
    DirectoryObjects(str(tmp_path / "elsewhere" / "store"))
    assert not (tmp_path / "elsewhere" / ".gitignore").exists()


def test_a_users_gitignore_is_left_alone(tmp_path):
    (tmp_path / ".penstock").mkdir()
    (tmp_path / ".penstock" / ".gitignore").write_text("mine")
    DirectoryObjects(str(tmp_path / ".penstock" / "store"))
    assert (tmp_path / ".penstock" / ".gitignore").read_text() == "mine"


def test_a_first_start_that_stops_anywhere_is_completed(tmp_path, monkeypatch):
    """Each mutating call of `init` fails once; the next start makes the store whole."""
    calls = []
    for name in ("mkdir", "rename", "fsync", "open", "write"):
        real = getattr(os, name)

        def counted(*args, name=name, real=real, **kwargs):
            calls.append(name)
            if len(calls) == stop:
                raise OSError(errno.EIO, "stopped here")
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, counted)
    stop = 0
    for stop in range(1, 200):
        calls.clear()
        root = str(tmp_path / str(stop) / ".penstock" / "store")
        try:
            DirectoryObjects(root)
        except StoreError:
            assert not os.path.exists(os.path.join(root, "format")) or stop >= len(calls)
            calls.clear()
            calls.extend(["past"] * stop)
            objects = DirectoryObjects(root)
            assert objects.read(objects.stage(b"x")[0]) == b"x"
            continue
        break
    assert 20 < stop < 199


def test_a_newer_store_is_refused_and_untouched(objects):
    path = os.path.join(objects.root, "format")
    with open(path, "w") as file:
        json.dump({"penstock-store": 7}, file)
    with pytest.raises(StoreTooNewError, match=r"format 7.*up to 1") as caught:
        DirectoryObjects(objects.root)
    assert (caught.value.facts["found"], caught.value.facts["known"]) == (7, mark.FORMAT)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"other": 1}', '{"penstock-store": "x"}', "\udcff"])
def test_a_strange_mark_is_refused(objects, text):
    with open(os.path.join(objects.root, "format"), "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError, match="not the mark"):
        DirectoryObjects(objects.root)


def test_a_file_where_the_store_should_be(tmp_path):
    (tmp_path / "store").write_text("x")
    with pytest.raises(StoreError, match="→"):
        DirectoryObjects(str(tmp_path / "store"))


# ── durability, call by call ─────────────────────────────────────────────────────────────────────────────────


class Journal:
    """Records fsyncs and renames of one publish, by inode, in order."""

    def __init__(self, monkeypatch):
        self.calls = []
        fsync, rename = os.fsync, os.rename

        def on_fsync(fd):
            self.calls.append(("fsync", os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd).st_ino))
            return fsync(fd)

        def on_rename(old, new):
            inode = os.stat(old).st_ino
            rename(old, new)
            self.calls.append(("rename", new, inode))

        monkeypatch.setattr(os, "fsync", on_fsync)
        monkeypatch.setattr(os, "rename", on_rename)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc here: the order of fsyncs is not looked at")
def test_every_file_is_synced_before_its_rename_and_each_parent_once(objects, monkeypatch):
    digests = [objects.stage(b"%d" % number)[0] for number in range(300)]
    journal = Journal(monkeypatch)
    objects.publish(digests)
    renames = [place for place, call in enumerate(journal.calls) if call[0] == "rename"]
    before, after = journal.calls[: renames[0]], journal.calls[renames[-1] + 1 :]
    assert len(renames) == len(before) == 300
    assert {inode for _, _, inode in before} == {journal.calls[place][2] for place in renames}
    parents = [path for _, path, _ in after]
    assert len(parents) == len(set(parents))
    assert set(parents) == {os.path.dirname(objects.fetch(digest)) for digest in digests} | {objects.root + "/objects"}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc here: the order of fsyncs is not looked at")
def test_what_another_process_renamed_is_synced_too(objects, monkeypatch):
    """It may not have come to its own fsync yet; we must not acknowledge before that."""
    digest, _ = objects.stage(b"x")
    objects.publish([digest])
    other = DirectoryObjects(objects.root)
    journal = Journal(monkeypatch)
    other.publish([digest])
    assert {path for _, path, _ in journal.calls} == {os.path.dirname(objects.fetch(digest)), objects.root + "/objects"}


def fail_at(monkeypatch, nth, code=errno.EIO):
    """The n-th fsync fails, the others do not: as on Linux, where an error is told once."""
    real, count = os.fsync, [0]

    def fsync(fd):
        count[0] += 1
        if count[0] == nth:
            raise OSError(code, os.strerror(code))
        return real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return count


def test_an_error_of_fsync_is_final(objects, monkeypatch):
    """Not acknowledged; the suspect bytes are dropped; staging them again writes them anew."""
    first, second = objects.stage(b"first")[0], objects.stage(b"second")[0]
    fail_at(monkeypatch, 2)
    with pytest.raises(StoreError, match="input/output") as caught:
        objects.publish([first, second])
    assert caught.value.facts["errno"] == errno.EIO
    assert objects.missing([first, second]) == {second}
    assert not any(not item.staged for item in objects.walk())
    objects.stage(b"second")
    objects.publish([first, second])
    assert objects.read(second) == b"second"


def test_control_of_the_error_of_fsync(objects, monkeypatch):
    """A store that never asks cannot be told."""
    careless = DropsFileFsync(objects.root)
    digest, _ = careless.stage(b"x")
    count = fail_at(monkeypatch, 3)
    careless.publish([digest])
    assert count == [2]


def test_an_error_of_a_directorys_fsync_takes_the_name_back(objects, monkeypatch):
    digest, _ = objects.stage(b"x")
    fail_at(monkeypatch, 2)
    with pytest.raises(StoreError):
        objects.publish([digest])
    assert [item.staged for item in objects.walk()] == [True]
    objects.publish([digest])
    assert [item.staged for item in objects.walk()] == [False]


@pytest.mark.parametrize("name", ["open", "write", "rename", "utime", "link", "makedirs"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EXDEV])
def test_any_failing_call_leaves_nothing_half_written(objects, monkeypatch, name, code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        told = None
        try:
            objects.publish([objects.stage(b"data")[0]])
        except StoreError as error:
            told = error
    assert told is None or ("→" in str(told) and told.facts["errno"] == code)
    assert listing(objects, "tmp") == []
    assert {objects.read(item.digest) for item in objects.walk()} <= {b"data"}
    objects.publish([objects.stage(b"data")[0]])
    assert objects.read(digest_bytes(b"data")) == b"data"


# ── races ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_staged_file_that_is_replaced_while_it_is_linked(objects, monkeypatch):
    """Linux answers ENOENT when the linked file was renamed over at that moment: look again."""
    digest, _ = objects.stage(b"x")
    real, refused = os.link, []

    def link(old, new):
        if len(refused) < 3:
            refused.append(old)
            raise FileNotFoundError(errno.ENOENT, "replaced")
        return real(old, new)

    monkeypatch.setattr(os, "link", link)
    objects.publish([digest])
    assert len(refused) == 3
    assert [item.staged for item in objects.walk()] == [False]


def test_bytes_staged_anew_during_a_publish_are_not_renamed_unsynced(objects, monkeypatch):
    """What is renamed is the file that was synced, whoever replaces the staged one in between."""
    digest, _ = objects.stage(b"x")
    synced, real = [], os.fsync

    def fsync(fd):
        real(fd)
        if not synced:
            synced.append(os.fstat(fd).st_ino)
            objects._stage_bytes(digest, b"x")  # another process, right after our fsync

    monkeypatch.setattr(os, "fsync", fsync)
    objects.publish([digest])
    assert os.stat(objects.fetch(digest)).st_ino == synced[0]


def test_a_wrong_size_is_seen_when_the_maker_stages_again(objects):
    """A power cut on a careless file system leaves empty files: the maker's second write must not be skipped."""
    digest, _ = objects.stage(b"good")
    objects.publish([digest])
    path = objects.fetch(digest)
    os.chmod(path, 0o644)
    with open(path, "wb"):
        pass
    objects.stage(b"good")
    assert objects.read(digest) == b"good"


def test_staged_bytes_that_a_power_cut_tore_are_not_published(objects):
    """Of the right size, but zeros: another process of the next boot stages the same bytes."""
    digest, _ = objects.stage(b"good")
    path = objects.fetch(digest)
    os.chmod(path, 0o644)
    with open(path, "wb") as file:
        file.write(bytes(4))
    [finding] = fsck(objects, MemoryLedger())
    assert (finding.kind, finding.fault) == ("torn", False)
    objects.publish([objects.stage(b"good")[0]])
    assert objects.read(digest) == b"good"
    assert fsck(objects, MemoryLedger()) == []


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hard_linked_file_is_copied(objects, tmp_path):
    """Its other name could change the bytes in the store."""
    path, other = str(tmp_path / "a"), str(tmp_path / "b")
    with open(path, "wb") as file:
        file.write(b"shared")
    os.link(path, other)
    digest, _ = objects.stage(path)
    with open(other, "wb") as file:
        file.write(b"broken")
    assert objects.read(digest) == b"shared"
    assert not os.path.exists(path)


def test_a_symbolic_link_is_read_not_kept(objects, tmp_path):
    (tmp_path / "target").write_bytes(b"data")
    os.symlink(tmp_path / "target", tmp_path / "link")
    digest, _ = objects.stage(str(tmp_path / "link"))
    (tmp_path / "target").write_bytes(b"other")
    assert objects.read(digest) == b"data"


def test_a_file_from_another_file_system(objects, tmp_path, monkeypatch):
    path = str(tmp_path / "a")
    with open(path, "wb") as file:
        file.write(bytes(700_000))
    real = os.rename

    def rename(old, new):
        if old == path:
            raise OSError(errno.EXDEV, "cross-device link")
        return real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    digest, size = objects.stage(path)
    assert (size, objects.read(digest)) == (700_000, bytes(700_000))
    assert not os.path.exists(path)


def test_a_file_that_cannot_be_taken_stays(objects, tmp_path, monkeypatch):
    path = str(tmp_path / "a")
    with open(path, "wb") as file:
        file.write(b"rows")

    def refuse(path, mode):
        raise OSError(errno.EIO, "disk")

    monkeypatch.setattr(os, "chmod", refuse)
    with pytest.raises(StoreError):
        objects.stage(path)
    with open(path, "rb") as file:
        assert file.read() == b"rows"
    assert listing(objects, "tmp") == []


@pytest.mark.parametrize("name", ["absent", ""])
def test_a_path_that_is_no_file(objects, tmp_path, name):
    with pytest.raises(StoreError, match="→"):
        objects.stage(str(tmp_path / name))


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_staging_again_touches(objects):
    digest, _ = objects.stage(b"x")
    objects.publish([digest])
    for again in (lambda: objects.stage(b"x"), lambda: objects.publish([digest])):
        os.utime(objects.fetch(digest), (1, 1))
        again()
        assert time.time() - os.stat(objects.fetch(digest)).st_mtime < 60


def test_a_read_only_store_can_be_read(objects, monkeypatch):
    """Root ignores modes, so the system's answer is given instead."""
    digest, _ = objects.stage(b"x")
    objects.publish([digest])

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "read-only")

    for name in ("mkdir", "rename", "link", "utime", "unlink", "write"):
        monkeypatch.setattr(os, name, refuse)
    reader = DirectoryObjects(objects.root)
    assert reader.read(digest) == b"x"
    assert reader.missing([digest]) == set()
    with pytest.raises(StoreError, match="read-only"):
        reader.stage(b"y")
    with pytest.raises(StoreError, match="read-only"):
        reader.delete(digest)


def test_a_store_that_was_removed(objects):
    digest, _ = objects.stage(b"x")
    import shutil

    shutil.rmtree(objects.root)
    with pytest.raises(MissingObjectError):
        objects.read(digest)
    with pytest.raises(StoreError, match="gone"):
        objects.stage(b"x")
    assert list(objects.walk()) == []


def test_walk_passes_over_strangers(objects):
    os.makedirs(objects.root + "/objects/zz")
    for path in ("objects/zz/x", "objects/file", "staging/x"):
        with open(os.path.join(objects.root, path), "w") as file:
            file.write("x")
    assert list(objects.walk()) == []
    assert {item.kind for item in objects.leftovers()} == {"stray"}


def test_the_coordinator_loads_nothing_heavy():
    code = (
        "import sys; before = set(sys.modules); import penstock.store.objects, penstock.store.ledger; "
        "print(*sorted({'pathlib', 'shutil', 'tempfile', 'logging', 'asyncio', 'numpy'} & ("
        "set(sys.modules) - before)))"
    )
    source = os.path.dirname(os.path.dirname(penstock.__file__))
    environment = {**os.environ, "PYTHONPATH": source}
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == ""
