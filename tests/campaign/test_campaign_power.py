"""Power cuts: a loop-mounted ext4 is shut down under a writer, without flushing its journal, and mounted again."""

import contextlib
import fcntl
import os
import random
import shutil
import struct
import subprocess
import time

import pytest

from penstock.testing.crash import Acknowledged, Spawned, breaches

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Disk:
    """An ext4 file system in a file, whose power can be cut."""

    def __init__(self, folder):
        self.image, self.mount = str(folder / "disk.img"), str(folder / "disk")
        os.mkdir(self.mount)
        with open(self.image, "wb") as file:
            file.truncate(256 << 20)
        self.ready = run("mkfs.ext4", "-q", self.image).returncode == 0 and self.plug_in()

    def plug_in(self):
        return run("mount", "-o", "loop", self.image, self.mount).returncode == 0

    def cut(self):
        fd = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def unplug(self):
        for _ in range(50):
            if run("umount", self.mount).returncode == 0:
                return
            time.sleep(0.05)
        run("umount", "-l", self.mount)


@pytest.fixture
def disk(tmp_path, system_command):
    system_command("mkfs.ext4")
    if os.geteuid() != 0:
        pytest.skip("only root may mount: power cuts are not tested")
    disk = Disk(tmp_path)
    if not disk.ready:
        pytest.skip("no loop device can be mounted here: power cuts are not tested")
    yield disk
    with contextlib.suppress(OSError):
        disk.unplug()


def cuts(disk, number, *, first_seed=0, longest_s=0.15, **given):
    """Cut the power again and again; give acknowledgements and breaches. A fresh store every ten cuts."""
    total, found = 0, []
    for seed in range(first_seed, first_seed + number):
        if (seed - first_seed) % 10 == 0:
            shutil.rmtree(f"{disk.mount}/{seed - 10}", ignore_errors=True)
            root, acknowledged = f"{disk.mount}/{seed}", Acknowledged()
        child = Spawned(root, seed, **given)
        time.sleep(random.Random(seed).uniform(0.005, longest_s))
        disk.cut()
        before = len(acknowledged)
        child.kill(acknowledged)
        acknowledged.failed.clear()  # "input/output error" is what a writer without power should say
        total += len(acknowledged) - before
        disk.unplug()
        assert disk.plug_in()
        found += [f"seed {seed}: {breach}" for breach in breaches(root, acknowledged)]
    return total, found


def test_four_cuts(disk):
    total, found = cuts(disk, 4)
    assert found == []
    assert total > 20


@pytest.mark.parametrize(
    ("given", "breach"),
    [
        ({"fault": "no-fsync", "verbs": ("put",)}, "lost object"),
        ({"fault": "no-file-fsync", "verbs": ("put",)}, "torn object"),
        ({"ledger_fault": "no-fsync", "verbs": ("promote",)}, "lost entry"),
    ],
)
def test_control_without_fsync_what_was_acknowledged_is_lost(disk, given, breach):
    found = cuts(disk, 2, longest_s=0.3, **given)[1]
    assert any(breach in text for text in found)


@pytest.mark.campaign
@pytest.mark.timeout(400)
def test_a_hundred_and_fifty_cuts(disk, report):
    total, found = cuts(disk, 150, first_seed=2_000)
    report(f"150 power cuts, seeds 2000-2149: {total} acknowledged, {len(found)} breaches")
    assert found == []
    assert total > 1_000


@pytest.mark.campaign
@pytest.mark.timeout(200)
def test_control_ten_cuts_without_fsync(disk, report):
    total, found = cuts(disk, 10, first_seed=3_000, fault="no-fsync", verbs=("put",))
    lost = {text.split()[-1] for text in found if "lost object" in text}
    report(f"10 power cuts without fsync, seeds 3000-3009: {len(lost)} of {total} acknowledged objects lost")
    assert len(lost) > total * 0.5
