"""The model process: the one place beside workers where classes of the project run.

``python -P -m penstock.serve.answering FD LIFELINE``, started by a server and by nobody else. It is two processes. The
keeper runs nothing of the project's: it adopts whatever the other leaves behind and ends all of it when the other ends,
or when the server does. The other loads one estimator and answers, one question after the other.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any

from penstock.core.processes import adopt_orphans, descendants, die_with_parent
from penstock.serve.pipe import receive, send

SPARE_ADDRESSES = 2 << 30
"""Bytes of address space beyond the memory that is allowed: libraries map far more than they use."""

OPEN_FILES = 1_024


def main(arguments: list[str] | None = None) -> int:
    """Entry of the process.

    Parameters
    ----------
    arguments : list of str, optional
        File descriptors of the socket and of the pipe whose end of file ends it.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2 or not all(word.isdecimal() for word in given):
        print("penstock.serve.answering is started by a server", file=sys.stderr)
        return 2
    talk, lifeline = map(int, given)
    adopt_orphans()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # no handler, no wake-up
    worker = os.fork()
    if worker == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in (woken, wake, lifeline):
            os.close(fd)
        die_with_parent()
        _answer(socket.socket(fileno=talk))
        os._exit(0)
    os.close(talk)
    return keep(worker, lifeline, woken)


# ── the keeper ───────────────────────────────────────────────────────────────────────────────────────────────


def keep(worker: int, lifeline: int, woken: int) -> int:
    """Wait for the worker's end or the server's; then end everything below. Gives the worker's exit code."""
    code = 0
    while True:
        ready, _, _ = select.select([lifeline, woken], [], [])
        if woken in ready:
            os.read(woken, 4_096)
        if lifeline in ready and not os.read(lifeline, 1):
            break
        if (status := _reap(worker)) is not None:
            code = os.waitstatus_to_exitcode(status)
            break
    _end_all()
    return 128 - code if code < 0 else code


def _reap(worker: int) -> int | None:
    """Take in every child that has ended; the worker's status if it was among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == worker:
                found = status
    return found


def _end_all() -> None:
    """Kill what lives below until nothing does; orphans come to this process, so none is overlooked."""
    while True:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


# ── the worker ───────────────────────────────────────────────────────────────────────────────────────────────


def _answer(connection: socket.socket) -> None:
    """Load what the first message says, then answer until the server closes the socket."""
    about, data = receive(connection)
    limit(about["memory"])
    try:
        asked = _load(about, data)
    except BaseException as error:
        send(connection, _failure(error))
        return
    del data
    send(connection, {"ready": os.getpid()})
    while True:
        try:
            question, blob = receive(connection)
        except (EOFError, ConnectionError):
            return
        try:
            answer = {"answers": asked(question, blob)}
        except BaseException as error:
            answer = _failure(error)
        send(connection, answer)


def _failure(error: BaseException) -> dict[str, Any]:
    """An error as plain data: those of values are the request's, all others the model's."""
    from penstock.errors import PenstockError, bounded

    if isinstance(error, PenstockError):
        return {"fault": "ours", "kind": type(error).__name__, "what": error.what, "hint": error.hint}
    is_value = isinstance(error, (ValueError, TypeError, ArithmeticError))
    said = bounded(str(error), 500)
    return {"fault": "value" if is_value else "model", "kind": type(error).__name__, "what": said, "hint": ""}


def limit(memory: int) -> None:
    """Bound address space, core files and open files of this process and of what it starts."""
    if sys.platform == "win32":
        return
    import resource

    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_AS: memory + SPARE_ADDRESSES,
    }
    for what, asked in wanted.items():
        _, hard = resource.getrlimit(what)
        most = asked if hard == resource.RLIM_INFINITY else min(asked, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(what, (most, most))


class _FromSource(SourceFileLoader):
    """Compiles a module's source each time: no byte code that somebody left beside it is run."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError(path)


class SourceFinder(MetaPathFinder):
    """Finds the project's modules in its folders first, and only by their source; libraries are left to others."""

    def __init__(self, root: str, folders: list[str], files: Mapping[str, str]) -> None:
        self._root = os.path.join(os.path.realpath(root), "")
        self._folders = folders
        self._files = dict(files)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """As `MetaPathFinder.find_spec`; a type's module is the file whose source was held against the bundle.

        Raises
        ------
        ImportError
            The module would come from another file.
        """
        spec = PathFinder.find_spec(name, self._folders if path is None else path, target)
        found = spec.origin if spec is not None else None
        if name in self._files and (found is None or os.path.realpath(found) != os.path.realpath(self._files[name])):
            raise ImportError(f"{name} would be imported from {found}, not from the file that was read")
        if spec is None or found is None or not os.path.realpath(found).startswith(self._root):
            return None
        if type(spec.loader) is SourceFileLoader and "site-packages" not in found:
            spec.loader = _FromSource(name, found)
        return spec


def _load(about: Mapping[str, Any], data: bytes) -> Any:
    """The function that answers questions, once the estimator is there."""
    import warnings

    import numpy as np

    from penstock.core.answer import answers
    from penstock.formats import parquet, skops
    from penstock.serve.contract import Contract

    warnings.simplefilter("default")
    os.chdir(about["root"])
    sys.path[:0] = about["folders"]
    sys.meta_path.insert(0, SourceFinder(about["root"], about["folders"], about["files"]))
    contract = Contract.from_json(about["contract"])
    estimator = skops.loads(data, [*about["trust"], *about["names"]])

    def answer(question: Mapping[str, Any], blob: bytes) -> Any:
        if "records" in question:
            frame = contract.frame(question["records"])
        else:
            frame = parquet.loads(blob, "pandas")
        with np.errstate(all="ignore"):
            return answers(estimator, frame, contract.raw)

    return answer


if __name__ == "__main__":
    status = main()
    os._exit(status)
