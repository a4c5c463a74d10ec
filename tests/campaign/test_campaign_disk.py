"""A full disk: a clear refusal, nothing half-written, and all goes on when there is room again."""

import os
import resource
import shutil
import subprocess
import time
import uuid

import fsspec
import pytest

from penstock.errors import StoreError
from penstock.store.objects import DirectoryObjects
from penstock.store.remote import RemoteObjects
from penstock.testing.crash import VERBS, Acknowledged, breaches, work


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount: full disks are not tested")
    place = str(tmp_path / "small")
    os.mkdir(place)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", place], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("no tmpfs can be mounted here: full disks are not tested")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def work_until_refused(root, capfd, verbs, seed=1):
    work(root, seed, verbs, forever=True)
    return Acknowledged().read(capfd.readouterr().out.encode())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("verbs", [("put",), ("register",), ("promote", "commit"), VERBS])
def test_a_full_disk(small_disk, capfd, verbs, seed):
    filler = os.path.join(small_disk, "filler")
    with open(filler, "wb") as file:
        file.write(bytes((1 << 20) + seed * 1500))
    said = work_until_refused(small_disk, capfd, verbs, seed)
    assert len(said) > 0
    [text] = said.failed
    assert "full" in text
    assert "→" in text
    assert breaches(small_disk, said) == []
    os.unlink(filler)
    work(small_disk, 2, list(VERBS))
    after = Acknowledged().read(capfd.readouterr().out.encode())
    assert after.failed == []
    assert len(after) > 5
    assert breaches(small_disk, after) == []


def test_a_full_disk_below_the_copies_of_a_remote_store(small_disk, tmp_path):
    """What arrives, and what is made, is refused in a sentence and leaves nothing; then all goes on without repair."""
    url = f"memory://disk-{uuid.uuid4().hex}"
    maker = RemoteObjects(url, str(tmp_path / "maker"))
    digests = [maker.stage(bytes([number]) * 900_000)[0] for number in range(5)]
    maker.publish(digests)
    here = RemoteObjects(url, os.path.join(small_disk, "here"))
    began = time.monotonic()
    with pytest.raises(StoreError, match="the disk is full") as caught:
        for digest in digests:
            here.fetch(digest)
    with pytest.raises(StoreError, match="the disk is full"):
        here.stage(bytes(2_000_000))
    assert time.monotonic() - began < 5.0  # nothing is tried again: no wait empties a disk
    assert "→" in str(caught.value)
    copies = list(here.local.walk())
    assert 1 <= len(copies) <= 3
    assert os.listdir(os.path.join(here.local.root, "tmp")) == []
    assert list(here.leftovers()) == []
    for item in copies:
        here.local.delete(item.digest)
    assert here.read(digests[-1]) == bytes([4]) * 900_000
    staged, _ = here.stage(b"made when there was room again")
    here.publish([staged])
    assert maker.read(staged) == b"made when there was room again"
    fsspec.filesystem("memory").rm(url, recursive=True)


def in_child(do):
    """Run in a forked child, whose limits are its own; True when it ended well."""
    pid = os.fork()
    if pid == 0:
        try:
            do()
            os._exit(0)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("verbs", [("put",), ("promote", "commit"), VERBS])
def test_a_limit_on_file_sizes(tmp_path, capfd, verbs):
    root = str(tmp_path)
    work(root, 0, list(VERBS))
    capfd.readouterr()

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        work(root, 1, ("commit", "promote") if verbs != ("put",) else verbs, forever=verbs != ("put",))

    assert in_child(limited)
    said = Acknowledged().read(capfd.readouterr().out.encode())
    if verbs != ("put",):
        assert len(said.failed) == 1  # the ledger cannot grow
    assert breaches(root, said) == []
    work(root, 2, list(VERBS))
    assert Acknowledged().read(capfd.readouterr().out.encode()).failed == []


def test_an_object_above_the_limit_leaves_nothing(tmp_path):
    objects = DirectoryObjects(str(tmp_path / "store"))

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
        with pytest.raises(StoreError, match="larger than this system allows"):
            objects.stage(bytes(100_000))

    assert in_child(limited)
    assert list(objects.walk()) == []
    assert list(objects.leftovers()) == []


def test_too_few_files_may_be_open(tmp_path):
    objects = DirectoryObjects(str(tmp_path / "store"))

    def limited():
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
        held = []
        with pytest.raises(OSError, match="open"):
            while True:
                held.append(os.open("/", os.O_RDONLY))
        with pytest.raises(StoreError, match="too many files are open"):
            objects.stage(b"x")
        for fd in held:
            os.close(fd)

    assert in_child(limited)
    assert list(objects.walk()) == []
