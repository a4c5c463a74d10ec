"""A flow as Dagster's own: an asset a task, checks, a job, a schedule and a sensor. Dagster is imported when asked."""

from __future__ import annotations

import inspect
from typing import Any

from penstock.backends.call import MARGIN_S
from penstock.backends.compiled import Compiled
from penstock.backends.dagster_task import (
    Native,
    carried_out,
    key_of,
    params_key,
    part_carried_out,
    word,
)
from penstock.backends.dagster_told import CHECKED
from penstock.backends.docstrings import docstring_of
from penstock.backends.tasks import Task
from penstock.core.digest import digest_value

ASSET_SCHEDULE = "asset:"
PRELOADED = ("dagster", "dagster._cli", "penstock.backends.dagster")
"""What the server of step processes imports once; without the second each imports Dagster's command line anew."""


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
        executor_def=native.executor or forking(),
    )
    schedules, sensors = _schedules(flow, job, native), _sensors(flow, job, native)
    resources = {params_key(flow): _params(flow)} if flow.graph.params else {}
    return dg.Definitions(assets=assets, jobs=[job], schedules=schedules, sensors=sensors, resources=resources)


def asset_of(flow: Compiled, task: Task, native: Native) -> Any:
    """One task as an asset, which starts the worker once for each of the task's calls, or for each part of its step.

    Returns
    -------
    dagster.AssetsDefinition
    """
    import dagster as dg

    key = key_of(flow, task)
    nodes = [flow.graph.node(step) for step in task.steps]
    is_workflow = "workflow" in flow.graph.about
    checks = [node.part for node in nodes if is_workflow and node.part in CHECKED]
    about: dict[str, Any] = {
        "description": _description(flow, task),
        "group_name": f"{word(flow.name)}_{word(task.part)}" if is_workflow and task.part else word(flow.name),
        "kinds": {"penstock", kind_of(flow, task)},
        "code_version": digest_value("codes", [node.code for node in nodes])[:16],
        "metadata": {"steps": ", ".join(task.steps), "declared in": dg.MetadataValue.path(flow.request.file)},
        "tags": {"penstock/flow": word(flow.name)[:63]},
    }
    if task.parts:
        return _in_parts(flow, task, native, about)
    needs = _needs(flow, task, native)

    @dg.multi_asset(
        name=f"{word(flow.name)}__{task.id}",
        specs=[dg.AssetSpec(key, deps=needs, skippable=True, **about)],
        check_specs=[dg.AssetCheckSpec(name, asset=key, description=_CHECKS[name]) for name in dict.fromkeys(checks)],
        can_subset=True,
        op_tags=_op_tags(task),
        **_op(flow, task),
    )
    def made(context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  Dagster takes its own types here, or none
        yield from carried_out(context, flow, task, native)

    return made


def _needs(flow: Compiled, task: Task, native: Native) -> list[Any]:
    """Keys of the assets that a task takes from: of what needs nothing, those that its schedule waits for."""
    import dagster as dg

    keys = [dg.AssetKey([word(flow.name), need]) for need in task.needs]
    return keys or (awaited(native.schedule) if native.schedule.startswith(ASSET_SCHEDULE) else [])


def awaited(schedule: str) -> list[Any]:
    """Keys of the assets that "asset:warehouse/orders,prices" names."""
    import dagster as dg

    names = schedule.removeprefix(ASSET_SCHEDULE).split(",")
    return [dg.AssetKey([part.strip() for part in name.split("/")]) for name in names]


def _op(flow: Compiled, task: Task) -> dict[str, Any]:
    """How Dagster runs what starts the worker."""
    keys = {params_key(flow)} if flow.graph.params else set()
    return {"required_resource_keys": keys, "retry_policy": _retries(task), "pool": pool_of(task)}


def _in_parts(flow: Compiled, task: Task, native: Native, about: dict[str, Any]) -> Any:
    """A mapped step as an asset of several ops: parts of its items side by side, then what makes a whole of them."""
    import dagster as dg

    name, needs = f"{word(flow.name)}__{task.id}", _needs(flow, task, native)
    inputs = {f"after_{number}": key for number, key in enumerate(needs)}
    native_op = _op(flow, task) | {"tags": _op_tags(task), "out": dg.Out(dg.Nothing, is_required=False)}

    def part(number: int) -> Any:
        def made(context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  as above
            yield from part_carried_out(context, flow, task, native, f"{number}/{task.parts}")

        ins = {one: dg.In(dg.Nothing) for one in inputs}
        return dg.op(name=f"{name}__part_{number}", ins=ins, **native_op)(made).alias(f"part_{number}")

    def whole(context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  as above
        yield from carried_out(context, flow, task, native)

    gather = dg.op(name=f"{name}__whole", ins={"parts": dg.In(dg.Nothing)}, **native_op)(whole).alias("whole")

    def composed(**before: Any) -> Any:
        return gather([part(number)(**before) for number in range(1, task.parts + 1)])

    composed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # Dagster reads the inputs from it
        [inspect.Parameter(one, inspect.Parameter.POSITIONAL_OR_KEYWORD) for one in inputs]
    )
    ins = {one: dg.AssetIn(key=key, dagster_type=dg.Nothing) for one, key in inputs.items()}
    return dg.graph_asset(name=task.id, key_prefix=word(flow.name), ins=ins, **about)(composed)


_CHECKS = {
    "validate": "The table is as its schema and its checks say.",
    "audit": "No leak was found between what the model learns from and what it is judged by.",
    "gate": "The version may become champion.",
}


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


def forking(jobs: int | None = None) -> Any:
    """Processes from one warm server: a step need not import Dagster anew.

    Parameters
    ----------
    jobs : int, optional
        How many at once, unless the run's config says so; by default as many as there are cores.
    """
    import dagster as dg

    def given(config: dict[str, Any]) -> dict[str, Any]:
        most = config.get("max_concurrent") or jobs
        server = {"start_method": {"forkserver": {"preload_modules": list(PRELOADED)}}}
        return server | ({"max_concurrent": most} if most else {})

    schema = {"max_concurrent": dg.Field(dg.Noneable(dg.Int), is_required=False)}
    return dg.multiprocess_executor.configured(given, name="multiprocess", config_schema=schema)


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
        found.append(assets_sensor(f"{word(flow.name)}_assets", job, awaited(native.schedule)))
    places = [place for node in flow.graph.nodes for place in node.places if "://" not in place]
    if places:
        found.append(sources_sensor(f"{word(flow.name)}_sources", job, places, running=native.watch))
    return found
