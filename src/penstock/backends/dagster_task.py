"""What a process of Dagster does with one task: start the worker, and tell Dagster what came of it."""

from __future__ import annotations

import itertools
import keyword
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.backends.call import MARGIN_S, Told, call
from penstock.backends.compiled import Compiled, text_of
from penstock.backends.dagster_told import FilePath, Markdown, checks_of, facts_of
from penstock.backends.tasks import Task
from penstock.core.digest import digest_value
from penstock.errors import PenstockError, bounded
from penstock.lifecycle.run import jobs_of

NAME = "dagster"
"""As the ledger knows this backend."""
RESUMED = ("dagster/is_resume_retry", "dagster/is_asset_resume_retry")
"""Tags of a run that goes on where another failed: with its steps, or with its assets."""
TAKEN = frozenset({"context", "conf", "config", "meta", "arg_dict", "dict", "input_arg_dict", "output_arg_dict"}) | {
    "int", "str", "float", "bool", "input", "output", "type", ""
}  # fmt: skip
"""Words that Dagster, which takes no name that is a word of Python either, keeps for itself."""
MOST_LINES = 1_000
"""Lines that Penstock says of a task which go to the event log."""
JOBS = "PENSTOCK_JOBS"
"""How many processes the worker may use for items."""
Listen = Callable[[str, tuple[str, ...]], None]


@dataclass(frozen=True, slots=True)
class Native:
    """What is asked of Dagster beside the flow.

    Attributes
    ----------
    schedule : str
        A cron expression, "@daily" and its like, "asset:NAME[,NAME…]", or "".
    timezone : str
        Of the schedule.
    watch : bool
        Whether the sensor that looks at source files runs from the beginning.
    executor : ExecutorDefinition or None
        Of the flow's job; None for one process a step from one warm server.
    environment : dict
        Variables that each step gets.
    listen : callable
        Called in the process of a task with the run's id and the steps that have ended.
    echo : bool
        Whether what the steps print is printed, which is how Dagster captures it.
    """

    schedule: str = ""
    timezone: str = "UTC"
    watch: bool = False
    executor: Any = None
    environment: Mapping[str, str] = field(default_factory=dict)
    listen: Listen = lambda *_: None
    echo: bool = True


def word(text: str) -> str:
    """A name as Dagster takes it: letters, digits and `_`, and no word that is taken.

    Examples
    --------
    >>> word("churn-eu"), word("config")
    ('churn_eu', 'flow_config')
    """
    plain = re.sub(r"\W", "_", text, flags=re.ASCII)
    return f"flow_{plain}" if plain in TAKEN or keyword.iskeyword(plain) else plain


def key_of(flow: Compiled, task: Task) -> Any:
    """The key of a task's asset: the flow's name, then the task's."""
    import dagster as dg

    return dg.AssetKey([word(flow.name), task.id])


def params_key(flow: Compiled) -> str:
    """The resource that holds the parameters of all of a flow's tasks."""
    return f"{word(flow.name)}_params"


def params_given(flow: Compiled, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a run's parameters that are not as the declaration has them."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value  # as people write it
        for name, value in given.items()
        if value is not None and text_of(value) != text_of(flow.graph.params.get(name))
    }


def run_id(context: Any) -> str:
    """Under which run of ours a task counts: Dagster's, or the one that failed where this one goes on."""
    run = context.run
    while any(run.tags.get(tag) == "true" for tag in RESUMED) and run.parent_run_id:
        before = context.instance.get_run_by_id(run.parent_run_id)
        if before is None:
            return str(run.parent_run_id)
        run = before
    return str(run.run_id)


def called(
    context: Any, flow: Compiled, steps: tuple[str, ...], native: Native, *, limit: float | None, part: str = ""
) -> Told:
    """Start the worker for one of a task's calls, or for a part of its step, and wait for what it tells."""
    given = getattr(context.resources, params_key(flow)) if flow.graph.params else {}
    command = flow.command(steps, NAME, run_id(context), params_given(flow, given), part)
    echo = echo_to(context, printing=native.echo)
    return call(command, environment=native.environment, echo=echo, timeout_s=limit, unwanted=orphaned())


def part_carried_out(context: Any, flow: Compiled, task: Task, native: Native, part: str) -> Iterator[Any]:
    """Do a part of a task's mapped step, "3/8"; what it makes is on the ledger.

    Yields
    ------
    Output
        Nothing, so that what makes a whole of the parts may begin; none where there is nothing to do, which skips it.

    Raises
    ------
    Failure
    """
    import dagster as dg

    share = {JOBS: str(max(1, jobs_of(flow.home) // task.parts))}  # the parts stand side by side on one machine
    alone = replace(native, environment={**share, **native.environment})
    told = called(context, flow, task.steps, alone, limit=None, part=part)
    native.listen(run_id(context), task.steps)
    if told.state in ("failed", "cancelled"):
        raise _failure(flow, task, [told])
    if told.state in ("done", "reused") and not told.refused:
        yield dg.Output(None, metadata={"part": part, "penstock run": str(told.answer.get("run", ""))})


def carried_out(context: Any, flow: Compiled, task: Task, native: Native) -> Iterator[Any]:
    """Start the worker for each call of a task, and tell Dagster what came of it.

    Yields
    ------
    AssetCheckResult or MaterializeResult
        No materialisation of what was refused or skipped: so all behind it is skipped.

    Raises
    ------
    Failure
        Not to be tried again where no try can end better.
    """
    tolds: list[Told] = []
    for steps in task.calls:
        told = called(context, flow, steps, native, limit=limit_of(flow, steps))
        tolds.append(told)
        yield from _results(context, flow, task, told)
        if told.state not in ("done", "reused") or told.refused:
            break
    native.listen(run_id(context), task.steps)
    yield from _ended(context, flow, task, tolds)


def orphaned() -> Callable[[], bool] | None:
    """Whether the run that this process carries out a step of has died; None where it is no process of a step.

    Dagster ends a step with its run when it can. A run that was killed leaves the processes of its steps behind.
    """
    run = multiprocessing.parent_process()
    if run is None or run.pid == os.getppid():  # it was not forked by the server that the run has started
        return None
    return lambda: not run.is_alive()


def limit_of(flow: Compiled, steps: Sequence[str]) -> float | None:
    """The worker holds each step's limit, and that of each item; this is for a worker that does not."""
    nodes = [flow.graph.node(step) for step in steps]
    times = [None if node.mapped else node.timeout_s for node in nodes]
    return None if None in times else sum(time for time in times if time is not None) + MARGIN_S


def echo_to(context: Any, *, printing: bool) -> Callable[[str], None]:
    """All of the worker's log goes to the step's captured output, and what Penstock says of steps to the event log.

    Each line there is a row of Dagster's database: so there are no more than `MOST_LINES` of a step.
    """
    lines = itertools.count(1)

    def told(line: str) -> None:
        if printing:
            print(line, file=sys.stderr, flush=True)
        if line.startswith("penstock: ") and (number := next(lines)) <= MOST_LINES:
            context.log.info(bounded(line.removeprefix("penstock: "), 2_000))
            if number == MOST_LINES:
                context.log.info("the rest stands among what the step printed")

    return told


def _results(context: Any, flow: Compiled, task: Task, told: Told) -> Iterator[Any]:
    import dagster as dg

    key = key_of(flow, task)
    wanted = {one.name for one in context.selected_asset_check_keys}
    for one in checks_of(flow.home, flow.graph, told):
        if one.name in wanted:
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=one.name,
                passed=one.passed,
                severity=dg.AssetCheckSeverity.ERROR if one.grade == "error" else dg.AssetCheckSeverity.WARN,
                description=one.sentence or None,
                metadata=_metadata(one.facts),
            )


def _ended(context: Any, flow: Compiled, task: Task, tolds: Sequence[Told]) -> Iterator[Any]:
    import dagster as dg

    last, key = tolds[-1], key_of(flow, task)
    if last.state in ("failed", "cancelled"):
        raise _failure(flow, task, tolds)
    facts = _facts(flow, task, tolds)
    if last.refused or last.state == "skipped":
        context.log.info("%s: %s; nothing after it is to happen", task.id, bounded(last.reason, 2_000))
        if key in context.selected_asset_keys:
            context.log_event(dg.AssetObservation(key, metadata=facts))
        return
    if key in context.selected_asset_keys:
        yield dg.MaterializeResult(asset_key=key, metadata=facts, data_version=dg.DataVersion(_version(tolds)))


def _failure(flow: Compiled, task: Task, tolds: Sequence[Told]) -> Any:
    import dagster as dg

    last, facts = tolds[-1], _facts(flow, task, tolds)
    hint = str((last.answer.get("error") or {}).get("hint") or "")
    facts |= {"hint": dg.MetadataValue.text(hint)} if hint else {}
    return dg.Failure(bounded(last.reason, 4_000), metadata=facts, allow_retries=last.retriable)


def _facts(flow: Compiled, task: Task, tolds: Sequence[Told]) -> dict[str, Any]:
    """What is shown of a task; where it cannot be read now, that: a step that is done does not fail for it."""
    try:
        return _metadata(facts_of(flow.home, task.steps, tolds))
    except (PenstockError, OSError) as error:
        run = next((str(told.answer["run"]) for told in tolds if told.answer.get("run")), "")
        return _metadata({"penstock run": run, "facts": bounded(f"cannot be read: {error}", 500)})


def _version(tolds: Sequence[Told]) -> str:
    """The data's version is its digest; of several outputs, a digest of theirs."""
    digests = [
        str(one["digest"])
        for told in tolds
        for step in told.answer.get("steps", {}).values()
        for one in step["outputs"].values()
    ]
    return digests[0] if len(digests) == 1 else digest_value("outputs", digests)


def _metadata(facts: Mapping[str, Any]) -> dict[str, Any]:
    import dagster as dg

    found: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Markdown):
            found[name] = dg.MetadataValue.md(str(value))
        elif isinstance(value, FilePath):
            found[name] = dg.MetadataValue.path(str(value))
        else:
            found[name] = value
    return found
