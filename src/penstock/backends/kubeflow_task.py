"""What a task of a pipeline runs: the worker for each of its calls, then outputs as Kubeflow Pipelines reads them.

``python -P -m penstock.backends.kubeflow_task --executor-input JSON --outcome PATH --call train -- --file churn.py …``

A container has one command and one exit code, and every code but 0 is a failure there. So this process stands between
it and the worker: a step that was skipped ends with 0, and the outcome says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from penstock.backends.call import MARGIN_S, Told, call
from penstock.backends.call import SKIPPED as LEFT_OUT
from penstock.backends.kubeflow_local import lives
from penstock.backends.kubeflow_page import page
from penstock.errors import UsageError
from penstock.lifecycle.naming import split_file
from penstock.project import find_root

RUN = "penstock_run"
"""Input of every task: the run's id, as Kubeflow has it."""
RUN_VARIABLE = "KFP_RUN_ID"
"""Variable with the same from a label of the pod: not every server puts the id for the input's placeholder."""
PART = "penstock_part"
"""Input of a part of a mapped step: "3/8" for the third of eight."""
OUTPUTS = ("outcome", "metrics", "answer")
"""Outputs of every task: a word for conditions, numbers for comparisons, and a page for people."""
PREFIX = "param_"
"""Set before parameters whose names a task keeps for itself."""
PASSED, REFUSED, SKIPPED, FAILED = "passed", "refused", "skipped", "failed"
LAST = 200
"""Lines of a worker's log that are looked through for its reason."""
MOST_REPORT = 5_000_000
"""Characters of a version's report that are handed on."""
WHOLE = 2**53
"""Numbers from here on are no whole numbers any more in JSON."""


@dataclass(slots=True)
class Did:
    """What came of all calls of a task.

    Attributes
    ----------
    told : list of Told
        One for each start of the worker.
    report : str
        The page of the version that came of it; "" where none did.
    """

    told: list[Told] = field(default_factory=list)
    report: str = ""

    @property
    def outcome(self) -> str:
        """Either "passed", "refused", "skipped" or "failed"."""
        if any(one.state in ("failed", "cancelled") for one in self.told):
            return FAILED
        if any(one.refused for one in self.told):
            return REFUSED
        return SKIPPED if self.told and all(one.state == "skipped" for one in self.told) else PASSED

    @property
    def code(self) -> int:
        """Exit code for Kubeflow: 0 unless it failed; then the worker's, or 1 where that has none of its own."""
        if self.outcome != FAILED:
            return 0
        last = self.told[-1].code
        return last if last > 0 and last != LEFT_OUT else 1

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of its evaluations by name; those of several candidates by step too."""
        found: dict[str, float] = {}
        for one in self.told:
            for step, seen in one.answer.get("steps", {}).items():
                for name, value in seen.get("metrics", {}).items():
                    found[name if step == "evaluate" else f"{step}.{name}"] = float(value)
        return found

    @property
    def facts(self) -> dict[str, str]:
        """Ids of what was made, as text."""
        found = {"outcome": self.outcome}
        for one in self.told:
            for name in ("run", "flow", "version"):
                if one.answer.get(name):
                    found[name] = str(one.answer[name])
        return found

    @property
    def page(self) -> str:
        """All of it as HTML, which Kubeflow's UI shows, with the version's report where this task wrote it."""
        why = [one.reason for one in self.told if one.state in ("failed", "cancelled")]
        return page(self.outcome, [one.answer for one in self.told], why, self.report)


def perform(
    calls: Sequence[Sequence[str]],
    arguments: Sequence[str],
    inputs: Mapping[str, Any],
    *,
    limit_s: float | None = None,
    python: str = "",
    unwanted: Callable[[], bool] | None = None,
) -> Did:
    """Start the worker for each call, in order, until one fails.

    Parameters
    ----------
    calls : sequence of sequence of str
        Steps by start of the worker.
    arguments : sequence of str
        What every start is given, as ``--file``.
    inputs : dict
        Parameters of the run as Kubeflow gives them, with `RUN`, and `PART` where it is one.
    limit_s : float, optional
        Seconds that all steps together may take; the worker holds the limit of each.
    python : str
        The Python that runs them; this one by default.
    unwanted : callable, optional
        Says that nobody waits for them any more.
    """
    did, run = Did(), _run_of(inputs)
    if not run:
        error = UsageError(
            f"Kubeflow told no id of the run: {inputs.get(RUN)!r}", hint="its pods lack the label pipeline/runid"
        )
        _echo(deque(), f"penstock: {error}")
        did.told.append(Told(error.exit_code, {"state": "failed", "retriable": False, "error": error.to_json()}))
        return did
    given = ["--run", run]
    given += ["--part", str(inputs[PART])] if PART in inputs else []
    for name, value in inputs.items():
        if name not in (RUN, PART) and value is not None:
            given += ["--param", f"{name.removeprefix(PREFIX)}={text_of(value)}"]
    end = None if limit_s is None else time.monotonic() + limit_s + MARGIN_S
    for steps in calls:
        named = [word for step in steps for word in ("--step", step)]
        command = [python or sys.executable, "-P", "-m", "penstock.worker", "step", *arguments, *named, *given]
        left = None if end is None else max(1.0, end - time.monotonic())
        said: deque[str] = deque(maxlen=LAST)
        told = call(command, echo=partial(_echo, said), timeout_s=left, unwanted=unwanted)
        did.told.append(told)
        if did.outcome == FAILED:
            if not any(told.reason in line for line in said):  # it was killed, or never began: nobody else tells
                _echo(said, f"penstock: {told.reason}")
            break
    return did


def _run_of(inputs: Mapping[str, Any]) -> str:
    """The run's id: two runs that both took a placeholder for it would be one on the ledger."""
    given = str(inputs.get(RUN) or "")
    return os.environ.get(RUN_VARIABLE, "") if "{{" in given else given


def _report(arguments: Sequence[str], told: Iterable[Told], since: float) -> str:
    """The report that a worker has written below the project's folder, which a container takes with it."""
    version = next((str(one.answer["version"]) for one in told if one.answer.get("version")), "")
    if not version or "--file" not in arguments:
        return ""
    root = find_root(split_file(arguments[arguments.index("--file") + 1])[0])
    path = os.path.join(root, ".penstock", "reports", f"{version.replace('@', '-')}.html")
    with contextlib.suppress(OSError):
        if os.path.getmtime(path) >= since:
            with open(path, encoding="utf-8") as file:
                return file.read(MOST_REPORT)
    return ""


def _echo(said: deque[str], line: str) -> None:
    said.append(line)
    print(line, file=sys.stderr, flush=True)


def text_of(value: Any) -> str:
    """A parameter as the worker reads it: JSON makes 3.0 of 3, and says true.

    Examples
    --------
    >>> text_of(7.0), text_of(0.5), text_of(True), text_of("x")
    ('7', '0.5', 'true', 'x')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < WHOLE:
        return str(int(value))
    return str(value)


class Artifact(Protocol):
    """An output of a task, as the SDK gives it to a Python function."""

    path: str
    metadata: dict[str, Any]


def here(
    words: Sequence[str],
    inputs: Mapping[str, Any],
    metrics: Artifact,
    answer: Artifact,
) -> str:
    """Do the work of a task in a Python function of the SDK, which is what its local runner can run.

    Parameters
    ----------
    words : sequence of str
        As of `main`, without the executor's input and paths.
    inputs : dict
        Parameters of the run, with `RUN`.
    metrics, answer : Artifact

    Returns
    -------
    str
        The outcome.

    Raises
    ------
    SystemExit
        The task failed.
    """
    signal.signal(signal.SIGTERM, _stop)
    asked = parse(words)
    did = _performed(asked, inputs)
    metrics.metadata.update(did.metrics)
    answer.metadata.update(did.facts)
    _write(answer.path, did.page)
    if did.code:
        raise SystemExit(did.code)
    return did.outcome


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a task.

    Examples
    --------
    >>> parse(["--call", "a", "b", "--call", "c", "--", "--file", "x.py"]).call
    [['a', 'b'], ['c']]
    """
    parser = argparse.ArgumentParser("penstock.backends.kubeflow_task", allow_abbrev=False)
    for name in ("--executor-input", "--outcome", "--metrics", "--answer", "--python"):
        parser.add_argument(name, default="")
    parser.add_argument("--owner", type=int, help="a process that waits for this")
    parser.add_argument("--optional", action="append", default=[], help="a parameter that is None where it is empty")
    parser.add_argument("--limit-s", type=float)
    parser.add_argument("--call", action="append", nargs="+", required=True)
    at = list(words).index("--")
    found = parser.parse_args(list(words[:at]))
    found.arguments = list(words[at + 1 :])
    return found


def main(words: Sequence[str]) -> int:
    """Do the work of a task in a container.

    Parameters
    ----------
    words : sequence of str
        ``--executor-input`` with what Kubeflow puts for ``{{$}}``, paths for the outputs, ``--limit-s``, a ``--call``
        with steps for each start of the worker, and after ``--`` what every start is given.

    Returns
    -------
    int
        0, or the failure's exit code.
    """
    signal.signal(signal.SIGTERM, _stop)
    asked = parse(words)
    executor = json.loads(asked.executor_input)
    did = _performed(asked, executor.get("inputs", {}).get("parameterValues", {}))
    _write(asked.outcome, did.outcome)
    _write(asked.metrics, json.dumps(did.metrics))
    _write(asked.answer, did.page)
    outputs: Mapping[str, Any] = executor.get("outputs", {})
    noted = {"metrics": did.metrics, "answer": did.facts}
    told = {
        name: {"artifacts": [{**made["artifacts"][0], "metadata": noted[name]}]}
        for name, made in outputs.get("artifacts", {}).items()
        if name in noted
    }
    _write(outputs.get("outputFile", ""), json.dumps({"artifacts": told}))
    return did.code


def _performed(asked: argparse.Namespace, inputs: Mapping[str, Any]) -> Did:
    since = time.time()
    did = perform(
        asked.call,
        asked.arguments,
        {
            name: value
            for name, value in inputs.items()
            if value != "" or name.removeprefix(PREFIX) not in asked.optional
        },
        limit_s=asked.limit_s,
        python=asked.python,
        unwanted=(lambda: not lives(asked.owner)) if asked.owner else None,
    )
    did.report = _report(asked.arguments, did.told, since)
    return did


def _stop(_number: int, _frame: Any) -> None:
    """A pod that is deleted is asked to end: so is the worker, by what ends us."""
    raise SystemExit(143)


def _write(path: str, text: str) -> None:
    if path:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
