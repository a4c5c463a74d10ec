"""GPUs of one machine, of which each is in use by one step at most, whichever run's: a lock on a file for each.

The system lets go of a lock when the process that holds it ends, however it ends. So nothing is left behind by a run
that was killed, and nobody has to ask who still lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

VARIABLE = "PENSTOCK_GPU_LOCKS"
"""Names another folder for the locks: for runs of several users, or in containers, that share one."""


def folder() -> str:
    """Where the locks of this user's runs are, the same for every process whatever its `TMPDIR` says."""
    return os.environ.get(VARIABLE) or f"/tmp/penstock-{os.getuid()}"  # noqa: S108  it must be ours, which is checked


@dataclass(eq=False)
class Slots:
    """The GPUs that this process holds.

    Attributes
    ----------
    place : str
        The folder of the locks, made when the first one is taken; where it cannot be, or is another user's, nothing
        is locked.
    """

    place: str = field(default_factory=folder)
    _held: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weakref.finalize(self, _let_go, self._held)  # of a run that ends without a word, in a process that goes on

    def take(self, ids: Sequence[str], number: int) -> tuple[str, ...] | None:
        """The first so many of these that no other process holds, from now on ours; None where there are fewer.

        Parameters
        ----------
        ids : sequence of str
            As `CUDA_VISIBLE_DEVICES` has them; none of them is ours already.
        number : int
        """
        if not self._usable():
            return tuple(ids[:number])
        taken: list[str] = []
        for one in ids:
            if len(taken) == number:
                break
            if self._lock(one):
                taken.append(one)
        if len(taken) < number:
            self.give(taken)
            return None
        return tuple(taken)

    def give(self, ids: Iterable[str]) -> None:
        """Let go of some."""
        for one in ids:
            if (file := self._held.pop(one, None)) is not None:
                os.close(file)

    def close(self) -> None:
        """Let go of all."""
        _let_go(self._held)

    def _lock(self, one: str) -> bool:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", one)[:100]
        try:
            file = os.open(os.path.join(self.place, f"gpu-{name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._held[one] = file
        return True

    def _usable(self) -> bool:
        """Whether the folder is there and nobody but its owner could have put another in its place."""
        with contextlib.suppress(OSError):
            if os.environ.get(VARIABLE) == self.place:
                os.makedirs(self.place, exist_ok=True)
                return os.access(self.place, os.W_OK)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.place, 0o700)
            found = os.lstat(self.place)
            return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        return False


def _let_go(held: dict[str, int]) -> None:
    while held:
        os.close(held.popitem()[1])
