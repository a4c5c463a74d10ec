"""A pipeline in the SDK's local runner, in a process of its own, which can be ended and leaves nothing behind.

The runner changes the process that it runs in: where components run from then on, what `print` does, what is logged. It
knows no cancelling, and makes a folder a task that it never removes.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from types import FrameType

from penstock.backends.call import GRACE_S, end
from penstock.core.processes import descendants, die_with_parent
from penstock.errors import InternalError, bounded

ASK_S = 0.25
"""Seconds between two looks whether something has ended."""
FAILED = 1
"""Exit code where a task of the pipeline failed; another but 0 is the runner's own fault."""
PYTHON = "python3"
"""What the runner replaces in every word of a command line, in values of parameters too."""
PROC = "/proc"
"""Where Linux tells of processes."""
MOST_TAIL = 4_000
"""Characters of the runner's log that a message holds."""


def run_pipeline(text: str, look: Callable[[], None]) -> str:
    """Run a compiled pipeline and wait for its end.

    Parameters
    ----------
    text : str
        As YAML.
    look : callable
        Called a few times a second while it runs.

    Returns
    -------
    str
        Why it failed; "" where it did not.

    Raises
    ------
    InternalError
        The runner itself failed.
    BaseException
        Whatever interrupts this process meanwhile; the runner is ended first, with its task.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-kfp-", ignore_cleanup_errors=True) as folder:
        path, said = os.path.join(folder, "pipeline.yaml"), os.path.join(folder, "log")
        _write(path, text)
        with open(said, "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, path, folder],
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(ASK_S)
                look()
        except BaseException:
            end(process)
            raise
        return _why(process.returncode, said)


def _environment(folder: str) -> Mapping[str, str]:
    """The runner's environment: its folders go into ours, and `python3` is the Python that runs us.

    What that starts has the environment that we have. A path with a space would not survive the runner's shell, and a
    word that it finds `python3` in keeps it only where it is replaced by the same.
    """
    lines = [f"export {name}={shlex.quote(os.environ[name])}" for name in ("PATH", "TMPDIR") if name in os.environ]
    lines += [] if "TMPDIR" in os.environ else ["unset TMPDIR"]
    path = os.path.join(folder, PYTHON)
    _write(path, "\n".join(["#!/bin/sh", *lines, f'exec {shlex.quote(sys.executable)} -P "$@"', ""]))
    os.chmod(path, 0o700)
    search = os.pathsep.join((folder, os.environ.get("PATH", os.defpath)))
    return {**os.environ, "PATH": search, "TMPDIR": folder, "PYTHONUNBUFFERED": "1"}


def _why(code: int, log: str) -> str:
    """Why the pipeline failed, from the log of the runner."""
    if code == 0:
        return ""
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file]
    if code != FAILED:
        tail = "\n".join(lines)[-MOST_TAIL:]
        raise InternalError(f"the local runner of Kubeflow's SDK ended with {code}:\n{tail}")
    said = [line for line in lines if line.startswith("penstock: ")] or lines
    return bounded(said[-1].removeprefix("penstock: ") if said else "", 500) or "a task failed"


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main(path: str, folder: str) -> int:
    """Be the runner's process.

    Parameters
    ----------
    path, folder : str
        The pipeline, and where its tasks' outputs go.

    Returns
    -------
    int
        0, or `FAILED`.
    """
    die_with_parent()
    signal.signal(signal.SIGTERM, _stop)
    from kfp import components, local

    sys.executable = PYTHON
    root = os.path.join(folder, "outputs")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root, workspace_root=os.path.join(folder, "work"))
    try:
        components.load_component_from_file(path)()
    except RuntimeError as error:  # only its text tells a failed task from a fault of the runner
        if "finished with status" not in str(error):
            raise
        return FAILED
    return 0


def _stop(number: int, _frame: FrameType | None) -> None:
    """Ask the tasks to end, wait until they have, and end: the runner itself would begin the next try."""
    signal.signal(number, signal.SIG_IGN)
    below = descendants(os.getpid())
    os.killpg(0, number)  # the shells and Pythons of its tasks are in its group; a worker is ended by the Python
    over = time.monotonic() + GRACE_S
    while any(map(lives, below)) and time.monotonic() < over:
        time.sleep(ASK_S)
    os._exit(128 + number)


def lives(pid: int) -> bool:
    """Whether there is a process of that id; where the system tells, one that has not ended."""
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        if os.path.isdir(f"{PROC}/self"):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another's
        return True
    return True


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
