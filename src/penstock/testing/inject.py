"""Kill a writer at its n-th system call, or let that call fail: by strace, without touching the product's code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from typing import NamedTuple

from penstock.testing.crash import Acknowledged

_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")


class Call(NamedTuple):
    """The n-th call of one system call by a process, counted from its start."""

    name: str
    nth: int


class Outcome(NamedTuple):
    """How a writer under injection ended: its acknowledgements, its exit code (negative: signal), its errors."""

    acknowledged: Acknowledged
    exit_code: int
    errors: str


def available() -> bool:
    """Whether strace is installed and may trace here."""
    if shutil.which("strace") is None:
        return False
    probe = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, check=False)
    return probe.returncode == 0


def _strace(options: list[str], root: str, verbs: list[str], fault: str) -> Outcome:
    # `-u`-less and with byte code off, a writer makes the same calls each time.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    writer = [sys.executable, "-m", "penstock.testing.crash", root, *verbs, "--fault", fault]
    done = subprocess.run(["strace", "-qq", *options, *writer], capture_output=True, env=environment, check=False)
    return Outcome(Acknowledged().read(done.stdout), done.returncode, done.stderr.decode(errors="replace"))


def calls(root: str, verbs: list[str], log: str, *, fault: str = "") -> list[Call]:
    """Every system call that a writer makes between its first line of output and its last.

    Parameters
    ----------
    root : str
        Directory of the test; the writer does its work there.
    verbs : list of str
        What it does, as on the command line of `penstock.testing.crash`.
    log : str
        A file for strace.
    """
    _strace(["-o", log], root, verbs, fault)
    counted: Counter[str] = Counter()
    found: list[Call] = []
    within = False
    with open(log, encoding="utf-8", errors="replace") as file:
        for line in file:
            if (match := _LINE.match(line)) is None:
                continue
            name, rest = match.groups()
            counted[name] += 1
            if within:
                found.append(Call(name, counted[name]))
            if name == "write" and rest.startswith('1, "\\"begin'):
                within = True
    last = max((place for place, call in enumerate(found) if call.name == "write"), default=len(found) - 1)
    return found[: last + 1]


def inject(root: str, verbs: list[str], call: Call, what: str, *, fault: str = "") -> Outcome:
    """Run a writer and interfere at one call.

    Parameters
    ----------
    what : str
        "signal=KILL" or "error=EIO", as strace says it.
    """
    options = ["-o", os.devnull, "-e", f"trace={call.name}", "-e", f"inject={call.name}:{what}:when={call.nth}"]
    return _strace(options, root, verbs, fault)
