"""A flow as Dagster's own: an asset a task, checks, a job, a schedule and a sensor. Dagster is imported when asked."""

from __future__ import annotations

import itertools
import keyword
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.backends.call import MARGIN_S, Told, call
from penstock.backends.compiled import Compiled, text_of
from penstock.backends.dagster_told import CHECKED, FilePath, Markdown, checks_of, facts_of
from penstock.backends.docstrings import docstring_of
from penstock.backends.tasks import Task
from penstock.core.digest import digest_value
from penstock.errors import bounded

NAME = "dagster"
"""As the ledger knows this backend."""
RESUMED = ("dagster/is_resume_retry", "dagster/is_asset_resume_retry")
"""Tags of a run that goes on where another failed: with its steps, or with its assets."""
TAKEN = frozenset({"context", "conf", "config", "meta", "arg_dict", "dict", "input_arg_dict", "output_arg_dict"}) | {
    "int", "str", "float", "bool", "input", "output", "type", ""
}  # fmt: skip
"""Words that Dagster, which takes no name that is a word of Python either, keeps for itself."""
ASSET_SCHEDULE = "asset:"
MOST_LINES = 1_000
"""Lines that Penstock says of a task which go to the event log."""
PRELOADED = ("dagster", "dagster._cli", "penstock.backends.dagster")
"""What the server of step processes imports once; without the second each imports Dagster's command line anew."""
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
    stopped : callable
        Called in the process of a task when something interrupts it.
    """

    schedule: str = ""
    timezone: str = "UTC"
    watch: bool = False
    executor: Any = None
    environment: Mapping[str, str] = field(default_factory=dict)
    listen: Listen = lambda *_: None
    echo: bool = True
    stopped: Callable[[], None] = lambda: None


def word(text: str) -> str:
    """A name as Dagster takes it: letters, digits and `_`, and no word that is taken.

    Examples
    --------
    >>> word("churn-eu"), word("config")
    ('churn_eu', 'flow_config')
    """
    plain = re.sub(r"\W", "_", text, flags=re.ASCII)
    return f"flow_{plain}" if plain in TAKEN or keyword.iskeyword(plain) else plain


def definitions_of(flow: Compiled, native: Native) -> Any:
    """Everything that Dagster is to know of one flow.

    Returns
    -------
    dagster.Definitions
    """
    import dagster as dg

    assets = [asset_of(flow, task, native) for task in flow.tasks]
    job = dg.define_asset_job(
        word(flow.name),
        selection=dg.AssetSelection.assets(*assets),
        description=f"All of {flow.name}, by Penstock.",
        tags=_job_tags(flow),
        executor_def=native.executor or _executor(),
    )
    schedules, sensors = _schedules(flow, job, native), _sensors(flow, job, native)
    resources = {params_key(flow): _params(flow)} if flow.graph.params else {}
    return dg.Definitions(assets=assets, jobs=[job], schedules=schedules, sensors=sensors, resources=resources)


def asset_of(flow: Compiled, task: Task, native: Native) -> Any:
    """One task as an asset, which starts the worker once for each of the task's calls.

    Returns
    -------
    dagster.AssetsDefinition
    """
    import dagster as dg

    key = key_of(flow, task)
    nodes = [flow.graph.node(step) for step in task.steps]
    is_workflow = "workflow" in flow.graph.about
    checks = [node.part for node in nodes if is_workflow and node.part in CHECKED]
    needs = [dg.AssetKey([word(flow.name), need]) for need in task.needs]
    spec = dg.AssetSpec(
        key,
        deps=needs,
        skippable=True,
        description=_description(flow, task),
        group_name=word(task.part if is_workflow and task.part else flow.name),
        kinds={"penstock", kind_of(flow, task)},
        code_version=digest_value("codes", [node.code for node in nodes])[:16],
        metadata={"steps": ", ".join(task.steps), "declared in": dg.MetadataValue.path(flow.request.file)},
        tags={"penstock/flow": word(flow.name)[:63]},
    )

    @dg.multi_asset(
        name=f"{word(flow.name)}__{task.id}",
        specs=[spec],
        check_specs=[dg.AssetCheckSpec(name, asset=key, description=_CHECKS[name]) for name in dict.fromkeys(checks)],
        can_subset=True,
        required_resource_keys={params_key(flow)} if flow.graph.params else set(),
        retry_policy=_retries(task),
        op_tags=_op_tags(task),
        pool=pool_of(task),
    )
    def made(context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  Dagster takes its own types here, or none
        yield from carried_out(context, flow, task, native)

    return made


_CHECKS = {
    "validate": "The table is as its schema and its checks say.",
    "audit": "No leak was found between what the model learns from and what it is judged by.",
    "gate": "The version may become champion.",
}


def key_of(flow: Compiled, task: Task) -> Any:
    """The key of a task's asset: the flow's name, then the task's."""
    import dagster as dg

    return dg.AssetKey([word(flow.name), task.id])


def params_key(flow: Compiled) -> str:
    """The resource that holds the parameters of all of a flow's tasks."""
    return f"{word(flow.name)}_params"


def kind_of(flow: Compiled, task: Task) -> str:
    """What sort of thing a task makes, as Dagster shows it beside the asset's name."""
    parts = {flow.graph.node(step).part for step in task.steps}
    for part, kind in (("deploy", "deployment"), ("gate", "verdict"), ("train", "model"), ("evaluate", "report")):
        if part in parts and "workflow" in flow.graph.about:
            return kind
    return "source" if all(flow.graph.node(step).kind == "source" for step in task.steps) else "python"


def pool_of(task: Task) -> str | None:
    """The pool whose slots bound how many such tasks run at once: the label "pool", else "gpu" for who wants one."""
    named = task.resources.get("labels", {}).get("pool")
    return str(named) if named else "gpu" if task.resources.get("gpu") else None


def _description(flow: Compiled, task: Task) -> str:
    lines = []
    for step in task.steps:
        text = docstring_of(flow.graph.node(step).entry, flow.request.file, flow.home.config.root)
        lines.append(text if len(task.steps) == 1 else f"* **{step}** {text}".rstrip())
    return "\n".join(lines)


def _retries(task: Task) -> Any:
    import dagster as dg

    if not task.retries:
        return None
    return dg.RetryPolicy(max_retries=task.retries, delay=task.backoff_s, backoff=dg.Backoff.EXPONENTIAL)


def _op_tags(task: Task) -> dict[str, Any]:
    """What it asks for, for executors that start a container a step."""
    asked: dict[str, str] = {}
    if "cpu" in task.resources:
        asked["cpu"] = f"{task.resources['cpu']:g}"
    if "memory" in task.resources:
        asked["memory"] = str(task.resources["memory"])
    if "gpu" in task.resources:
        asked["nvidia.com/gpu"] = str(task.resources["gpu"])
    labels = {name: text for name, text in task.resources.get("labels", {}).items() if name != "pool"}
    tags: dict[str, Any] = {f"penstock/{word(name)}": text for name, text in labels.items()}
    if asked:
        limits = {name: text for name, text in asked.items() if name.startswith("nvidia")}
        requests = {"requests": asked} | ({"limits": limits} if limits else {})
        tags["dagster-k8s/config"] = {"container_config": {"resources": requests}}
    return tags


def _job_tags(flow: Compiled) -> dict[str, str]:
    """The whole run's time, where every task has a limit: all tries of all of them, and the worker's margin."""
    tags = {"penstock/flow": word(flow.name)[:63]}
    times = [None if task.timeout_s is None else longest(task) for task in flow.tasks]
    if None not in times:
        tags["dagster/max_runtime"] = str(round(sum(time for time in times if time is not None)))
    return tags


def longest(task: Task) -> float:
    """Seconds that all tries of a task with a limit may take, with the pauses between them.

    Examples
    --------
    >>> longest(Task("a", ("a",), (("a",),), retries=2, backoff_s=1.0, timeout_s=10.0))
    123.0
    """
    pauses = task.backoff_s * float(2**task.retries - 1)
    return ((task.timeout_s or 0.0) + MARGIN_S) * (task.retries + 1) + pauses


def _executor() -> Any:
    """Processes from one warm server: a step need not import Dagster anew."""
    import dagster as dg

    return dg.multiprocess_executor.configured({"start_method": {"forkserver": {"preload_modules": list(PRELOADED)}}})


def _params(flow: Compiled) -> Any:
    """The flow's parameters as one resource, so that a run sets each of them once."""
    import dagster as dg

    def typed(value: Any) -> Any:
        kind = {bool: dg.Bool, int: dg.Int, float: dg.Float, str: dg.String}.get(type(value))
        return dg.Field(dg.Noneable(dg.String), is_required=False) if kind is None else dg.Field(
            kind, default_value=value, is_required=False
        )  # fmt: skip

    schema = {name: typed(value) for name, value in flow.graph.params.items()}

    return dg.ResourceDefinition(
        lambda context: dict(context.resource_config),
        config_schema=schema,
        description=f"Parameters of {flow.name}, as `penstock run --param` sets them.",
    )


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
    given = getattr(context.resources, params_key(flow)) if flow.graph.params else {}
    run = run_id(context)
    tolds: list[Told] = []
    for steps in task.calls:
        command = flow.command(steps, NAME, run, params_given(flow, given))
        echo = echo_to(context, printing=native.echo)
        try:
            limit = limit_of(flow, steps)
            told = call(command, environment=native.environment, echo=echo, timeout_s=limit, unwanted=orphaned())
        except BaseException:
            native.stopped()  # Dagster itself tells whoever waits only that the run has failed
            raise
        tolds.append(told)
        yield from _results(context, flow, task, told)
        if told.state not in ("done", "reused") or told.refused:
            break
    native.listen(run, task.steps)
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
    facts = _metadata(facts_of(flow.home, task.steps, tolds))
    if last.state in ("failed", "cancelled"):
        hint = str((last.answer.get("error") or {}).get("hint") or "")
        facts |= {"hint": dg.MetadataValue.text(hint)} if hint else {}
        raise dg.Failure(bounded(last.reason, 4_000), metadata=facts, allow_retries=last.retriable)
    if last.refused or last.state == "skipped":
        context.log.info("%s: %s; nothing after it is to happen", task.id, bounded(last.reason, 2_000))
        if key in context.selected_asset_keys:
            context.log_event(dg.AssetObservation(key, metadata=facts))
        return
    if key in context.selected_asset_keys:
        yield dg.MaterializeResult(asset_key=key, metadata=facts, data_version=dg.DataVersion(_version(tolds)))


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


def _schedules(flow: Compiled, job: Any, native: Native) -> list[Any]:
    import dagster as dg

    if not native.schedule or native.schedule.startswith(ASSET_SCHEDULE):
        return []
    return [
        dg.ScheduleDefinition(
            name=f"{word(flow.name)}_schedule",
            job=job,
            cron_schedule=native.schedule,
            execution_timezone=native.timezone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )
    ]


def _sensors(flow: Compiled, job: Any, native: Native) -> list[Any]:
    from penstock.backends.dagster_sensors import assets_sensor, sources_sensor

    found = []
    if native.schedule.startswith(ASSET_SCHEDULE):
        names = native.schedule.removeprefix(ASSET_SCHEDULE).split(",")
        found.append(assets_sensor(f"{word(flow.name)}_assets", job, names))
    places = [place for node in flow.graph.nodes for place in node.places if "://" not in place]
    if places:
        found.append(sources_sensor(f"{word(flow.name)}_sources", job, places, running=native.watch))
    return found
