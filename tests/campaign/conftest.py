"""Short tests here write to a disk of memory."""

import pytest

from memory_disk import tmp_path

__all__ = ["tmp_path"]


@pytest.fixture
def report(capfd):
    """Prints a line past pytest's capture: what a campaign did, for the record."""

    def say(line):
        with capfd.disabled():
            print(f"\n{line}")

    return say
