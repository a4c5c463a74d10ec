"""Dagster: a flow as software-defined assets, each of which starts the worker."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.backends.backend import Done, Ended, Finding, Options
from penstock.backends.compiled import Compiled, beside, compiled
from penstock.backends.dagster_assets import ASSET_SCHEDULE, definitions_of
from penstock.backends.dagster_kept import keep_texts, kept, packed, unpacked
from penstock.backends.dagster_run import is_wide, run_job
from penstock.backends.dagster_task import NAME, Native, word
from penstock.backends.tasks import MOST_PARTS, Task, compile_flow
from penstock.core.digest import digest_value
from penstock.errors import MissingExtraError, UsageError
from penstock.lifecycle.found import find

if TYPE_CHECKING:
    import dagster

NAMED_TIMES = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
"""Schedules that are no five fields."""
CRON = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
"""Least and greatest number of each field of a cron expression: minute, hour, day, month, day of the week."""
_NAMES = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat"
_ENDS = re.compile(rf"(\*|\d+|{_NAMES}|l)(?:-(\d+|{_NAMES}))?(?:/[1-9]\d*|#[1-5])?", re.IGNORECASE)
A_ZONE = "a name such as Europe/Berlin"
A_SCHEDULE = 'a cron expression such as "0 6 * * 1", "@daily", or asset:NAME'
TIMEZONE = "timezone"
"""The option that only this backend knows."""
EXECUTOR = "executor"
"""Likewise of a run from here: `--on "dagster?executor=in_process"`."""
EXECUTORS = ("in_process", "multiprocess")
"""What it may be; the second where steps can run side by side."""


def to_dagster(
    *declared: Any,
    group: str = "step",
    parts: int = MOST_PARTS,
    schedule: str = "",
    timezone: str = "UTC",
    watch: bool = False,
    until: str | None = None,
    params: Mapping[str, Any] | None = None,
    settings: Mapping[str, str] | None = None,
    full: bool = False,
    env: str | None = None,
    python: str | None = None,
    environment: Mapping[str, str] | None = None,
    executor: Any = None,
) -> dagster.Definitions:
    """Flows as Dagster's assets, with a job, a sensor and, if asked for, a schedule each.

    Parameters
    ----------
    declared : Workflow, Flow, Ref or str
        One or several: in hand, as an imported file declares them, or "churn.py" or "churn.py:variable".
    group : {"step", "part", "workflow"}, default="step"
        What makes one asset: a step, a part (prepare, train, judge), or all.
    parts : int, default=8
        At most so many ops that do the items of a mapped step at once; 0 leaves each step in one.
    schedule : str
        A cron expression, "@daily" and its like, or "asset:NAME[,NAME…]": when these assets were made anew.
    timezone : str, default="UTC"
        Of the schedule.
    watch : bool, default=False
        Whether the sensor that starts a run when a source file has changed is on from the beginning.
    until : str, optional
        Last step.
    params : dict, optional
        Other defaults of the flow's parameters; a run sets them in the config of the resource "NAME_params".
    settings : dict, optional
        Path → value, as `penstock run --set` has them.
    full : bool, default=False
        As `penstock run --full`.
    env : str, optional
        Environment whose settings hold.
    python : str, optional
        Path of the Python that runs the steps; this one by default.
    environment : dict, optional
        Variables that each step gets.
    executor : dagster.ExecutorDefinition, optional
        Of the flows' jobs. By default each step is a process, forked from one that has imported Dagster.

    Returns
    -------
    dagster.Definitions
        To be assigned to a variable of a code location's module; `dagster.Definitions.merge` joins it with others.

    Raises
    ------
    MissingExtraError
        Dagster is not installed.
    UsageError
        Nothing was given, no file declares it, or two flows have one name.
    PenstockError
        The declaration has a fault.

    Examples
    --------
    A file ``definitions.py``, for ``dagster dev -f definitions.py``::

        import penstock as ps

        defs = ps.to_dagster("churn.py", schedule="0 6 * * *")
    """
    dg = _dagster()
    if not declared:
        raise UsageError("to_dagster: a workflow, a flow or a file is meant", hint='to_dagster("churn.py")')
    for fault, hint in ((schedule_fault(schedule), A_SCHEDULE), (zone_fault(timezone), A_ZONE)):
        if fault:
            raise UsageError(f"to_dagster: {fault}", hint=hint)
    caller = str(sys._getframe(1).f_globals.get("__file__", ""))  # noqa: SLF001  whose folder paths start from
    extra: dict[str, Any] = ({"set": dict(settings)} if settings else {}) | ({"full": True} if full else {})
    native = Native(schedule, timezone, watch, executor, dict(environment or {}))
    found: list[Compiled] = []
    keep: dict[str, str] = {}
    for one in (beside(one, caller) for one in declared):
        given = {
            "group": group,
            "parts": parts,
            "until": until,
            "params": dict(params or {}),
            "extra": extra,
            "env": env,
        }
        flow, text = _compiled(one, given, python)
        found.append(flow)
        keep |= text
    names = [word(flow.name) for flow in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"to_dagster: several flows are called {', '.join(twice)}", hint="give each its own name=")
    made = dg.Definitions.merge(*(definitions_of(flow, native) for flow in found))
    keep_texts(keep)
    return made


def _dagster() -> Any:
    try:
        import dagster
    except ImportError as error:
        raise MissingExtraError(f"Dagster: {error}", hint="pip install 'penstock[dagster]'") from error
    return dagster


def _compiled(declared: Any, given: dict[str, Any], python: str | None) -> tuple[Compiled, dict[str, str]]:
    """A declaration made ready, and what the processes of its steps need in order not to do it again.

    A step's process loads the definitions anew. Dagster hands it what was kept when they were loaded first: so it
    imports no file of the user's, and sees the flow as the code location has it.
    """
    target = find(declared)
    key = f"penstock/{digest_value('compiled', [target.file, target.variable, repr(sorted(given.items()))])[:16]}"
    text = kept(key)
    flow = unpacked(text) if text is not None else compiled(declared, **given)
    text = text if text is not None else packed(flow, given["group"])
    return (replace(flow, python=python) if python else flow), {key: text}


class Dagster:
    """Assets, checks, jobs, schedules and sensors, in the project's own code location."""

    name = NAME
    away = False
    group = "step"

    def check(self, flow: Compiled, options: Options) -> list[Finding]:
        """What Dagster cannot do of it."""
        from importlib.util import find_spec

        found = []
        if options.image:
            what = f"--image {options.image}: Dagster starts the worker by a Python of the machine that runs its steps"
            found.append(Finding("error", what, "leave it out: the image is that of Dagster's code location"))
        if fault := schedule_fault(options.schedule):
            found.append(Finding("error", fault, A_SCHEDULE))
        if fault := zone_fault(options.more.get(TIMEZONE, "UTC")):
            found.append(Finding("error", fault, A_ZONE))
        if unknown := sorted(set(options.more) - {TIMEZONE, EXECUTOR, "on"}):
            found.append(Finding("error", f"--option {', '.join(unknown)}: not of Dagster", f"{TIMEZONE}=NAME is one"))
        if options.more.get(EXECUTOR, EXECUTORS[0]) not in EXECUTORS:
            what = f"executor={options.more[EXECUTOR]}: not of a run on Dagster"
            found.append(Finding("error", what, f"there are {' and '.join(EXECUTORS)}"))
        if find_spec("dagster") is None:
            what = "Dagster is not installed here: whatever loads the definitions needs it beside Penstock"
            found.append(Finding("warning", what, "pip install 'penstock[dagster]' there"))
        if options.secrets:
            what = f"{', '.join(options.secrets)}: taken from the environment of Dagster's processes"
            found.append(Finding("note", what, "set them for the code location, or in a .env file beside it"))
        asking = [task.id for task in flow.tasks if set(task.resources) - {"labels"}]
        if asking:
            what = (
                f"{', '.join(asking[:5])}: a machine alone does not hold what they ask for (the tag dagster-k8s/config)"
            )
            found.append(
                Finding("note", what, "there, pools bound what runs at once: dagster instance concurrency set")
            )
        return found

    def export(self, flow: Compiled, options: Options) -> str:
        """A small ``definitions.py``."""
        given: dict[str, Any] = {"group": options.group}
        if divided(flow.tasks) != divided(compile_flow(flow.graph, options.group)):
            given |= {"parts": max(divided(flow.tasks).values(), default=0)}
        given |= {"schedule": options.schedule} if options.schedule else {}
        given |= {TIMEZONE: options.more[TIMEZONE]} if TIMEZONE in options.more else {}
        given |= {"until": flow.request.until} if flow.request.until else {}
        given |= {"params": dict(flow.request.params)} if flow.request.params else {}
        given |= {"settings": dict(flow.request.extra["set"])} if flow.request.extra.get("set") else {}
        given |= {"full": True} if flow.request.extra.get("full") else {}
        given |= {"env": flow.home.config.environment} if flow.home.config.environment != "dev" else {}
        given |= {"python": options.python} if options.python else {}
        given |= {"environment": dict(options.environment)} if options.environment else {}
        words = [f"    {_quoted(flow.target)},", *(f"    {name}={_quoted(value)}," for name, value in given.items())]
        lines = [
            f'"""{word(flow.name)} as Dagster\'s assets: dagster dev -f definitions.py."""',
            "",
            "import penstock as ps",
        ]
        return "\n".join([*lines, "", "defs = ps.to_dagster(", *words, ")", ""])

    def run(self, flow: Compiled, where: str, options: Options, done: Done) -> Ended:
        """Run the job on the instance of `DAGSTER_HOME`, or on one that lasts as long as the run.

        Steps that do not wait for each other run side by side, each task in a process that Dagster forks. A flow in
        which each waits for the one before runs in this process, which costs less; the option "executor" decides
        otherwise.

        Raises
        ------
        UsageError
            A place was named, or `DAGSTER_HOME` is no folder.
        MissingExtraError
        CancelledError
        """
        if where:
            hint = "leave out what follows the name: a run goes to the instance of DAGSTER_HOME"
            raise UsageError(f"dagster://{where}: Dagster's webserver takes no runs from here", hint=hint)
        os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
        _dagster()
        executor = options.more.get(EXECUTOR) or EXECUTORS[is_wide(flow.tasks)]
        return run_job(flow, options, done, side_by_side=executor == EXECUTORS[True])


def divided(tasks: Sequence[Task]) -> dict[str, int]:
    """In how many parts each task is done that is divided."""
    return {task.id: task.parts for task in tasks if task.parts}


def schedule_fault(schedule: str) -> str:
    """What is wrong with a schedule; "" for nothing, or none.

    Examples
    --------
    >>> schedule_fault("0 6 * * 1"), schedule_fault("0 24 * * *")
    ('', "schedule '0 24 * * *': not understood by Dagster: 24")
    """
    if not schedule or schedule in NAMED_TIMES:
        return ""
    if schedule.startswith(ASSET_SCHEDULE):
        names = schedule.removeprefix(ASSET_SCHEDULE).split(",")
        wrong = [] if all(part.strip() for name in names for part in name.split("/")) else ["a name is empty"]
    else:
        fields = schedule.split()
        wrong = [field for field, bounds in zip(fields, CRON, strict=False) if not _is_field(field, *bounds)]
        wrong += [] if len(fields) == len(CRON) else ["five fields are meant"]
    return f"schedule {schedule!r}: not understood by Dagster: {', '.join(wrong)}" if wrong else ""


def _is_field(text: str, least: int, greatest: int) -> bool:
    """Whether this may be one field of a cron expression: `*`, numbers and names, their ranges, lists and steps."""
    for one in text.split(","):
        if not (found := _ENDS.fullmatch(one)):
            return False
        if any(end and end.isdigit() and not least <= int(end) <= greatest for end in found.groups()):
            return False
    return True


def zone_fault(name: str) -> str:
    """What is wrong with the name of a time zone; "" for nothing."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return f"timezone {name!r}: there is no such zone"
    return ""


def _quoted(value: Any) -> str:
    """A value as Python has it, texts in the usual quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(name)}: {_quoted(one)}" for name, one in value.items()) + "}"
    return repr(value)
