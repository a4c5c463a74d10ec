"""The command line by which a backend asks for a step, and the answer that it reads.

``python -P -m penstock.worker step --file churn.py --step train --backend airflow --run manual__2026-11-22``

The log goes to standard error while it is written. The answer is one line of JSON: the last on standard output, and
the whole of the file that `PENSTOCK_RESULT` names.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from penstock.core.ports import Home
from penstock.core.processes import die_with_parent
from penstock.engine.events import Event
from penstock.engine.processes import Terminated, terminable
from penstock.errors import CancelledError, InternalError, PenstockError, UsageError, bounded
from penstock.lifecycle.naming import split_file
from penstock.lifecycle.rehearse import rehearse_with
from penstock.lifecycle.remote import Answer, cancelled, may_get_better, run_part
from penstock.lifecycle.remote_record import Part
from penstock.lifecycle.run import Request
from penstock.lifecycle.sweep import given_of, single

RESULT = "PENSTOCK_RESULT"
"""Variable of the environment that names the file for the answer."""
TIED = "PENSTOCK_TIED"
"""Set to its process id by a caller that waits in the thread that started us: once it is killed, nobody ends us."""
SERVER = "penstock.serve"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"worker step: {message}", hint="the flow was exported by another version: export it again")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of `step`.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> parse(["--file", "a.py", "--step", "train", "--backend", "airflow", "--run", "r"]).step
    ['train']
    """
    parser = _Parser("penstock.worker step", add_help=False, allow_abbrev=False)
    for name in ("--file", "--backend", "--run"):
        parser.add_argument(name, required=True)
    parser.add_argument("--step", action="append", required=True)
    parser.add_argument("--param", action="append", default=[])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--part")
    parser.add_argument("--until")
    parser.add_argument("--env")
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args(list(arguments))
    given.part = _part(given.part) if given.part is not None else None
    return given


def call(arguments: Sequence[str], entry: str, open_home: Callable[[str], Home]) -> int:
    """Run the steps that the arguments name and write the answer.

    Parameters
    ----------
    arguments : sequence of str
        Those after ``step``.
    entry : str
        Module of the worker's process entry, which imports the user's file.
    open_home : callable
        Opens the project that a file belongs to.

    Returns
    -------
    int
        Exit code: 0 done, reused or refused, 99 skipped, 2, 3 and 6 final failures, 1 and 5 others, 130 or 143
        cancelled.
    """
    result = os.environ.pop(RESULT, "")  # ours alone: what a step starts must not answer for it
    caller = os.environ.pop(TIED, "")
    if caller:
        die_with_parent()
    try:
        if caller.isdecimal() and not _is_there(int(caller)):  # it ended before we could be tied to it
            raise Terminated
        with terminable():
            answer = _answered(parse(arguments), entry, open_home)
        told, error = answer.to_json(), answer.error
    except (KeyboardInterrupt, Terminated) as stop:
        error = cancelled(stop)
        told = _failed(error)
    except PenstockError as raised:
        told, error = _failed(raised), raised
    except Exception as raised:
        error = InternalError(bounded(f"{type(raised).__name__}: {raised}", 500))
        told = _failed(error)
        import traceback

        traceback.print_exc()
    if error is not None:
        print(f"penstock: {error}", file=sys.stderr, flush=True)
        if trace := getattr(error, "facts", {}).get("traceback") or getattr(error, "traceback", ""):
            print(trace, file=sys.stderr, flush=True)
    _write(told, result)
    return int(told["exit"])


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _answered(given: argparse.Namespace, entry: str, open_home: Callable[[str], Home]) -> Answer:
    file, variable = split_file(given.file)
    path = os.path.abspath(file)
    if not os.path.isfile(path):
        raise UsageError(f"there is no file {file}", hint="a worker needs the project's files where it runs")
    if given.env:
        os.environ["PENSTOCK_ENV"] = given.env
    home = open_home(path)
    extra: dict[str, Any] = {"set": single(given_of(given.set))} if given.set else {}
    request = Request(
        path,
        variable,
        params=_pairs(given.param),
        until=given.until,
        extra=extra | ({"full": True} if given.full else {}),
    )
    part = Part(given.backend, given.run, tuple(given.step), given.part)
    return run_part(home, request, part, entry, rehearse=rehearse_with(SERVER), listen=_tell, log=sys.stderr.fileno())


def _part(text: str) -> tuple[int, int]:
    """K and N of "K/N"."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    k, n = (int(found[1]), int(found[2])) if found is not None else (0, 0)
    if not 1 <= k <= n:
        raise UsageError(f"--part {text}: K/N is meant, with K from 1 to N")
    return k, n


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--param {text}: NAME=VALUE is meant")
        found[name] = value
    return found


def _tell(event: Event) -> None:
    """One line of the log for each thing that happens to a step."""
    reason = f" ({event.decision.reason})" if event.decision is not None else ""
    took = f" in {event.wall_s:.3g} s" if event.wall_s else ""
    if event.kind in ("started", "done", "reused", "skipped", "failed", "note"):
        text = event.facts.get("text", "") if event.kind == "note" else f"{event.step} {event.kind}{took}{reason}"
        print(f"penstock: {text}", file=sys.stderr, flush=True)


def _failed(error: PenstockError) -> dict[str, Any]:
    """The answer of a task that did not come to know its run."""
    state = "cancelled" if isinstance(error, CancelledError) else "failed"
    told = {"state": state, "run": "", "flow": "", "exit": error.exit_code, "retriable": may_get_better(error)}
    told |= {"reason": error.what, "steps": {}, "passed": None, "verdict": None, "version": None, "champion": False}
    return told | {"error": error.to_json()}


def _write(told: dict[str, Any], path: str) -> None:
    """The answer to its file, whole or not at all, and to standard output."""
    try:
        line = json.dumps(told, separators=(",", ":"), allow_nan=False, default=str)
    except ValueError:  # no number: JSON knows none
        told = json.loads(json.dumps(told, default=str), parse_constant=lambda _: None)
        line = json.dumps(told, separators=(",", ":"))
    if path:
        with open(f"{path}.part", "w", encoding="utf-8") as file:
            file.write(line)
        os.replace(f"{path}.part", path)
    with contextlib.suppress(*([BrokenPipeError] if path else [])):  # whoever named a file need not read this too
        print(line, flush=True)
