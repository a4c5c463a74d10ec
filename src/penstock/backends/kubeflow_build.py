"""A flow as a pipeline of Kubeflow Pipelines 2, made with the official SDK: IR YAML, the same for the same flow."""

from __future__ import annotations

import contextlib
import inspect
import linecache
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, cast

from penstock.backends.backend import Options
from penstock.backends.call import MARGIN_S
from penstock.backends.compiled import Compiled, text_of
from penstock.backends.kubeflow_task import OUTPUTS, PART, PASSED, PREFIX, RUN, RUN_VARIABLE, WHOLE
from penstock.backends.tasks import Task
from penstock.errors import MissingExtraError

NAME = "kubeflow"
TASK = "penstock.backends.kubeflow_task"
SECRET = "penstock"  # noqa: S105  the name of a Secret, which holds it
"""Secret of Kubernetes that is asked for values, unless `--option secret=` names another."""
MOST_NAME = 63
"""Characters of a pipeline's name, which begins the names of what Kubernetes makes for it."""
RUN_LABEL = "metadata.labels['pipeline/runid']"
"""Where a pod has the id of its run."""
HERE = "penstock_task"
"""What a Python function calls, beside its inputs."""
GPU = "nvidia.com/gpu"
"""Kind of accelerator, unless `--option accelerator=` names another."""
RETURNED = "Output"
"""What a Python function returns; the local runner looks up no other output in a condition, and no container has it."""
PULL_S = 600.0
"""Seconds that a node may take to pull the image: a pod's deadline counts from before."""
BESIDE = 2**29
"""Bytes that a container may use beside its step: the processes that start it, which have Penstock loaded."""


def sdk() -> Any:
    """The SDK.

    Raises
    ------
    MissingExtraError
    """
    try:
        import kfp
        import kfp.kubernetes  # secrets, labels of nodes and time limits
    except ImportError:
        what = "a pipeline is made with Kubeflow's SDK, not installed here"
        raise MissingExtraError(what, hint="pip install 'penstock[kubeflow]'") from None
    return kfp


def pipeline_of(flow: Compiled, options: Options, owner: int | None = None) -> str:
    """The pipeline as YAML.

    Parameters
    ----------
    flow : Compiled
    options : Options
        Without an image each task is a Python function, as the SDK's local runner wants it.
    owner : int, optional
        A process of this machine without which the tasks are to end.

    Raises
    ------
    MissingExtraError
    """
    kfp = sdk()
    from kfp import compiler, dsl

    taken = _taken(flow)

    def component(task: Task, given: Mapping[str, Any]) -> Any:
        name = f"{task.id}_part" if PART in given else task.id
        made = _container(dsl, flow, task, options, name) if options.image else _function(dsl, flow, task, owner, name)
        return _asked(made(**{RUN: dsl.PIPELINE_JOB_ID_PLACEHOLDER}, **given), task, options)

    def add(task: Task, params: Mapping[str, Any], made: Mapping[str, Any]) -> Any:
        given = {_input(name): channel for name, channel in params.items()}
        needed = [made[need] for need in task.needs]
        if task.parts:  # the task itself makes a whole of what its parts have put on record
            slices = [f"{k}/{task.parts}" for k in range(1, task.parts + 1)]
            with dsl.ParallelFor(slices, name=f"{task.id} in parts") as part:
                needed = [component(task, {PART: part, **given}).after(*needed)]
        return component(task, given).after(*needed).set_display_name(_shown(task))

    def body(*given: Any) -> None:
        params = dict(zip(taken, given, strict=True))
        made: dict[str, Any] = {}
        behind = _behind(flow)
        gate = next((task.id for task in flow.tasks if task.refuses), "")
        for task in flow.tasks:
            if task.id not in behind:
                made[task.id] = add(task, params, made)
        if behind:
            outcome = made[gate].outputs["outcome" if options.image else RETURNED]
            with dsl.If(outcome == PASSED, name="passed"):
                for task in flow.tasks:
                    if task.id in behind:
                        made[task.id] = add(task, params, made)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(n, kind, default=value, annotation=_kind(value)) for n, value in taken.items()]
    _signed(body, "pipeline", parameters)
    about = f"{flow.name}: {len(flow.graph.nodes)} steps in {len(flow.tasks)} tasks, by Penstock"
    pipeline = dsl.pipeline(name=_dashed(flow.name), description=about)(body)
    handle, path = tempfile.mkstemp(suffix=".yaml")
    os.close(handle)
    try:
        cast("Any", compiler).Compiler().compile(pipeline, path)
        with open(path, encoding="utf-8") as file:
            text = file.read()
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
    return f"# {about}; made by kfp {kfp.__version__}. Export it again rather than change it.\n{text}"


def _behind(flow: Compiled) -> set[str]:
    """Tasks that a refusal of the gate leaves nothing to do, directly or not."""
    found: set[str] = set()
    gates = {task.id for task in flow.tasks if task.refuses}
    for task in flow.tasks:
        if (gates | found) & set(task.needs):
            found.add(task.id)
    return found


def _asked(added: Any, task: Task, options: Options) -> Any:
    """A task of the pipeline with what it asks of Kubeflow."""
    added.set_caching_options(enable_caching=False)  # the worker knows what may be reused
    if task.retries:
        added.set_retry(task.retries, backoff_duration=f"{max(1, math.ceil(task.backoff_s))}s")
    for name, value in options.environment.items():
        added.set_env_variable(name, value)
    if options.image:
        _ask(added, task, options)
    return added


def _shown(task: Task) -> str:
    return task.id if task.steps == (task.id,) else f"{task.id} ({len(task.steps)} steps)"


def _ask(added: Any, task: Task, options: Options) -> None:
    """What the task asks of the cluster."""
    from kfp import kubernetes

    asked = task.resources
    if "cpu" in asked:
        cpu = f"{asked['cpu']:g}" if float(asked["cpu"]).is_integer() else f"{math.ceil(asked['cpu'] * 1000)}m"
        added.set_cpu_request(cpu).set_cpu_limit(cpu)
    if "memory" in asked:
        added.set_memory_request(_memory(asked["memory"]))
    most = max(task.memory or 0, asked.get("memory", 0)) if task.memory is not None else None
    if most is not None:
        added.set_memory_limit(_memory(most + BESIDE))
    if asked.get("gpu"):
        added.set_accelerator_type(options.more.get("accelerator", GPU)).set_accelerator_limit(int(asked["gpu"]))
    for name, value in asked.get("labels", {}).items():
        kubernetes.add_node_selector(added, name, value)
    if task.timeout_s is not None:
        kubernetes.set_timeout(added, math.ceil(task.timeout_s + 2 * MARGIN_S + PULL_S))
    if options.secrets:
        kubernetes.use_secret_as_env(
            added, options.more.get("secret", SECRET), {name: name for name in options.secrets}
        )
    kubernetes.use_field_path_as_env(added, RUN_VARIABLE, RUN_LABEL)
    if "pull_secret" in options.more:
        kubernetes.set_image_pull_secrets(added, [options.more["pull_secret"]])


def _memory(size: int) -> str:
    """Bytes as Kubernetes writes them.

    Examples
    --------
    >>> _memory(4 * 2**30), _memory(1000)
    ('4Gi', '1000')
    """
    for unit, many in (("Gi", 2**30), ("Mi", 2**20)):
        if size % many == 0:
            return f"{size // many}{unit}"
    return str(size)


def _words(flow: Compiled, task: Task) -> list[str]:
    """Arguments of the task's process, beside those that Kubeflow fills in."""
    words = [word for steps in task.calls for word in ("--call", *steps)]
    if task.timeout_s is not None:
        words += ["--limit-s", f"{task.timeout_s:g}"]
    words += [word for name, value in flow.graph.params.items() if value is None for word in ("--optional", name)]
    return [*words, "--", *flow.arguments((), NAME)[1:]]


def _taken(flow: Compiled) -> dict[str, Any]:
    """Parameters by name with their defaults, as inputs; the empty text for None.

    An input without a default, of which nothing is given, ends a run on older servers, on newer ones inside a
    condition or a loop, and in the local runner.
    """
    given = {name: "" if value is None else value for name, value in flow.graph.params.items()}
    return {name: value if _is_exact(value) else text_of(value) for name, value in given.items()}


def _is_exact(value: Any) -> bool:
    """Whether JSON gives a number back as it was; there all of them are of double precision, and finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return abs(value) < WHOLE if isinstance(value, int) else math.isfinite(value)


def _inputs(flow: Compiled, *, part: bool) -> list[inspect.Parameter]:
    """The run's id, which part of a step it is, and the run's parameters, as a component takes them."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    ours = [inspect.Parameter(name, kind, annotation=str) for name in ((RUN, PART) if part else (RUN,))]
    given = _taken(flow).items()
    return [*ours, *(inspect.Parameter(_input(name), kind, annotation=_kind(value)) for name, value in given)]


def _container(dsl: Any, flow: Compiled, task: Task, options: Options, name: str) -> Any:
    """A component that starts the task's process in an image, without a shell."""
    kind = inspect.Parameter.KEYWORD_ONLY
    outputs = [
        inspect.Parameter("outcome", kind, annotation=dsl.OutputPath(str)),
        inspect.Parameter("metrics", kind, annotation=dsl.Output[dsl.Metrics]),
        inspect.Parameter("answer", kind, annotation=dsl.Output[dsl.HTML]),
    ]

    def component(*given: Any) -> Any:
        outcome, metrics, answer = given[-3:]
        paths = ["--outcome", outcome, "--metrics", metrics.path, "--answer", answer.path]
        command = [options.python or "python", "-P", "-m", TASK]
        return dsl.ContainerSpec(
            image=options.image, command=command, args=["--executor-input", "{{$}}", *paths, *_words(flow, task)]
        )

    _signed(component, name, [*_inputs(flow, part=name != task.id), *outputs])
    component.__doc__ = _about(flow, task)
    return dsl.container_component(component)


def _function(dsl: Any, flow: Compiled, task: Task, owner: int | None, name: str) -> Any:
    """A component that is a Python function, for the local runner, which reads its source."""
    taken = _inputs(flow, part=name != task.id)
    shown = [f"{one.name}: {one.annotation.__name__}" for one in taken]
    made = ["metrics: dsl.Output[dsl.Metrics]", "answer: dsl.Output[dsl.HTML]"]
    waits = ["--owner", str(owner)] if owner is not None else []
    words = ["--python", flow.python, *waits, *_words(flow, task)]
    inputs = ", ".join(f"{one.name!r}: {one.name}" for one in taken)
    source = (
        f"def {name}({', '.join([*shown, *made])}) -> str:\n"
        f"    from {TASK} import here as {HERE}\n\n"
        f"    return {HERE}({words!r}, {{{inputs}}}, metrics, answer)\n"
    )
    place = f"<task {name}>"
    linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
    space: dict[str, Any] = {"dsl": dsl}
    exec(compile(source, place, "exec", dont_inherit=True), space)  # noqa: S102  the SDK takes functions, whose source it sends
    try:
        return dsl.component(install_kfp_package=False, base_image="python:3.11")(space[name])
    finally:
        del linecache.cache[place]


def _about(flow: Compiled, task: Task) -> str:
    return f"{flow.name}: {', '.join(task.steps)}"


def _signed(function: Callable[..., Any], name: str, parameters: list[inspect.Parameter]) -> None:
    """Give a function the name and the parameters that the SDK is to see."""
    function.__name__ = name
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # as inspect reads it


def _kind(value: Any) -> Any:
    """The type of a pipeline's input by its default."""
    return next((kind for kind in (bool, int, float) if isinstance(value, kind)), str)


def _input(name: str) -> str:
    """A parameter's name as an input of a task, which keeps some names for itself.

    Examples
    --------
    >>> _input("n"), _input("metrics")
    ('n', 'param_metrics')
    """
    return f"{PREFIX}{name}" if name in (RUN, PART, HERE, *OUTPUTS) or name.startswith(PREFIX) else name


def _dashed(name: str) -> str:
    """A flow's name as Kubernetes takes it.

    Examples
    --------
    >>> _dashed("My_flow")
    'my-flow'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:MOST_NAME].strip("-") or "flow"
