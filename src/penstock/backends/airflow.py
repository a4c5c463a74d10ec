"""Airflow 3: a DAG file that needs Airflow and the standard library alone, and whose tasks start the worker."""

from __future__ import annotations

import datetime as dt
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.backends.airflow_file import (
    CONTAINERS,
    DAG,
    IMAGE_DAG,
    IMAGE_IMPORTS,
    IMPORTS,
    IMPORTS_WITH_SECRETS,
    NATIVE,
    SECRETS,
    UPDATE,
    WORKER,
    literal,
    written,
)
from penstock.backends.backend import Done, Ended, Finding, Options
from penstock.backends.call import MARGIN_S
from penstock.backends.compiled import WORKER as MODULE
from penstock.backends.compiled import Compiled, text_of
from penstock.backends.docstrings import docstring_of
from penstock.backends.tasks import Task
from penstock.core.names import did_you_mean
from penstock.core.split import duration_s
from penstock.core.urls import has_password, is_credential
from penstock.errors import UsageError

DOC = """{flow} on Airflow 3, by `penstock export airflow {source}`: change the flow and export again, not this file.

A task starts the worker of Penstock once for each of its steps, and the worker decides whether it runs, is reused or is
skipped. `penstock runs`, in the project, shows what became of it."""
MOST_TOLD = 300
"""Characters of what a step says of itself."""
UPDATED = "updated"
"""Task that updates the asset where several tasks end a flow."""
MORE = ("dag", "start", "operator", "secret")
"""What `--option` may name: the DAG's id, its first day, and of an image what starts it and where its secrets are."""
OPERATORS = ("kubernetes", "docker")
NATIVE_LABELS = ("pool", "queue")
"""Labels of `ps.Resources` that Airflow knows."""
PRESETS = ("@once", "@continuous", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
FIELDS = ("login", "password", "host", "schema", "port", "extra")
"""Fields of a connection that a secret may name."""
KINDS = (bool, int, float, str)
"""Types of parameters that a run may set."""
CRON = (("minute", 0, 59), ("hour", 0, 23), ("day of a month", 1, 31), ("month", 1, 12), ("day of a week", 0, 7))
"""Fields of a cron expression, and the numbers in them."""
_NAME = "[A-Za-z]{3}"
_ITEM = rf"(\*|\?|L|({_NAME}|\d+)(-({_NAME}|\d+))?(#\d|L|W)?)(/\d+)?"
_CRON = re.compile(rf"{_ITEM}(,{_ITEM})*")


class Airflow:
    """Writes a DAG file; Airflow's own scheduler runs it."""

    name = "airflow"
    away = False

    def check(self, flow: Compiled, options: Options) -> list[Finding]:
        """What of this flow does not work on Airflow."""
        found = [*_schedule_faults(options.schedule), *_option_faults(options), *_secret_faults(flow, options)]
        found += [*_param_faults(flow, options), *_label_notes(flow, options)]
        return found

    def export(self, flow: Compiled, options: Options) -> str:
        """The DAG file.

        Raises
        ------
        UsageError
            An option is not one of Airflow's.
        """
        wrong = [one for one in self.check(flow, options) if one.grade == "error"]
        if wrong:
            raise UsageError("; ".join(one.what for one in wrong), hint=wrong[0].remedy)
        return _with_image(flow, options) if options.image else _with_python(flow, options)

    def run(self, flow: Compiled, where: str, options: Options, done: Done) -> Ended:  # noqa: ARG002  the port's
        """Nothing waits for Airflow here.

        Raises
        ------
        UsageError
            Always: Airflow runs what stands in its own folder of DAGs.
        """
        file = os.path.basename(flow.request.file)
        what = "--on airflow: Airflow runs what stands in its folder of DAGs, when it is due"
        raise UsageError(what, hint=f"penstock export airflow {file} > dags/{flow.name}.py")


def _with_python(flow: Compiled, options: Options) -> str:
    """A file whose tasks start a Python of the machine that they run on."""
    data = _head(flow, options) | {
        "PYTHON": flow.python,
        "WORKER": ["-P", "-m", MODULE, *flow.arguments((), "airflow"), *_fixed(flow)],
        "ENVIRONMENT": dict(options.environment),
    }
    secrets = {name: list(place) for name, place in _secrets(options).items()}
    if secrets:
        data["SECRETS"] = secrets
    tasks = {task.id: _task(task, flow) for task in flow.tasks}
    if len(leaves := _leaves(flow)) > 1:
        tasks[_free(UPDATED, tasks)] = {"calls": [], "needs": leaves}
    data |= {"PARAMS": _params(flow), "TASKS": tasks, "LAST": list(tasks)[-1]}
    worker = WORKER.replace("$SECRETS", " **secrets()," if secrets else "")
    parts = [IMPORTS_WITH_SECRETS if secrets else IMPORTS, worker, *([SECRETS] if secrets else []), NATIVE, DAG]
    return written(data, parts)


def _with_image(flow: Compiled, options: Options) -> str:
    """A file whose tasks start containers, one for each start of the worker."""
    operator = options.more.get("operator", OPERATORS[0])
    params = _params(flow)
    templated = ["--run", "{{ dag.dag_id }}/{{ run_id }}"]
    for name, default in params.items():
        whole = " | int" if type(default) is int else ""  # JSON has one kind of number
        templated += ["--param", f"{name}={{{{ params[{name!r}]{whole} }}}}"]
    python = options.python or "python"
    data = _head(flow, options) | {
        "IMAGE": options.image,
        "WORKER": [python, "-P", "-m", MODULE, *flow.arguments((), "airflow"), *_fixed(flow)],
        "TEMPLATED": templated,
        "ENVIRONMENT": dict(options.environment),
    }
    if operator == "kubernetes":
        data |= {"SECRET": options.more.get("secret", "penstock"), "SECRETS": list(_secrets(options))}
    tasks = {task.id: _task(task, flow) | _in_container(task) for task in flow.tasks}
    last = _last_container(flow, tasks)
    if len(leaves := _leaves(flow)) > 1:
        tasks[last := _free(UPDATED, tasks)] = {"calls": {}, "needs": leaves}
    data |= {"PARAMS": params, "TASKS": tasks, "LAST": last}
    return written(data, [IMAGE_IMPORTS[operator], CONTAINERS[operator], UPDATE, NATIVE, IMAGE_DAG])


def _last_container(flow: Compiled, tasks: Mapping[str, Any]) -> str:
    """The container that updates the asset; "" where it is the gate, which succeeds when it refuses too."""
    name, steps = list(tasks[flow.tasks[-1].id]["calls"].items())[-1]
    gates = {node.id for node in flow.graph.nodes if node.kind == "effect" and node.part == "gate"}
    return "" if gates & set(steps) else str(name)


def _head(flow: Compiled, options: Options) -> dict[str, Any]:
    """What both kinds of file begin with."""
    source = os.path.basename(flow.request.file)
    start = options.more.get("start", "")
    when = dt.date.fromisoformat(start) if start else None
    return {
        "DOC": DOC.format(flow=flow.name, source=source),
        "DAG_ID": dag_id(flow.name, options),
        "DESCRIPTION": f"{flow.name}, as {source} declares it",
        "SCHEDULE": (_schedule(options.schedule),),
        "START": (
            f"datetime.datetime({when.year}, {when.month}, {when.day}, tzinfo=datetime.timezone.utc)"
            if when
            else "None",
        ),
        "ASSET": f"penstock://{_plain(flow.name)}",
    }


def _task(task: Task, flow: Compiled) -> dict[str, Any]:
    """One task as data: what it does not ask for is left out."""
    made: dict[str, Any] = {"calls": [list(steps) for steps in task.calls], "needs": list(task.needs)}
    entries = {node.id: node.entry for node in flow.graph.nodes}
    root = flow.home.config.root
    told = {step: docstring_of(entries[step], flow.request.file, root)[:MOST_TOLD] for step in task.steps}
    if docs := {step: text for step, text in told.items() if text}:
        made["docs"] = docs
    if task.parts:
        made["parts"] = task.parts
    if task.retries:
        made |= {"retries": task.retries, "retry_delay": task.backoff_s}
    if task.timeout_s is not None:
        made["execution_timeout"] = task.timeout_s + MARGIN_S
    return made | {name: text for name, text in task.resources.get("labels", {}).items() if name in NATIVE_LABELS}


def _leaves(flow: Compiled) -> list[str]:
    """Tasks that no other waits for."""
    needed = {need for task in flow.tasks for need in task.needs}
    return [task.id for task in flow.tasks if task.id not in needed]


def _free(name: str, taken: Mapping[str, object]) -> str:
    """A task id that no task has."""
    return name if name not in taken else _free(f"{name}_", taken)


def _in_container(task: Task) -> dict[str, Any]:
    """What a pod asks for, and a name for each start of the worker."""
    wanted = task.resources
    requests = {"cpu": f"{wanted['cpu']:g}"} if "cpu" in wanted else {}
    requests |= {"memory": str(wanted["memory"])} if "memory" in wanted else {}
    gpus = {"nvidia.com/gpu": str(wanted["gpu"])} if wanted.get("gpu") else {}
    limits = gpus | ({"memory": str(task.memory)} if task.memory is not None else {})
    one = len(task.calls) == 1
    names = [task.id if one else f"{task.id}.{re.sub(r'[^A-Za-z0-9_]', '_', steps[0])}" for steps in task.calls]
    calls = {name: list(steps) for name, steps in zip(names, task.calls, strict=True)}
    return {"calls": calls, "requests": requests | gpus, "limits": limits}


def dag_id(flow: str, options: Options) -> str:
    """The id of the DAG: `--option dag=…`, else the flow's name in the characters that Airflow takes.

    Examples
    --------
    >>> dag_id("churn: weekly", Options())
    'churn__weekly'
    """
    return options.more.get("dag") or _plain(flow)


def _plain(flow: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", flow)[:200]


def _params(flow: Compiled) -> dict[str, Any]:
    """Parameters that a run may set, with the values that it has by default."""
    return {
        name: value
        for name, value in flow.graph.params.items()
        if value is None or (type(value) in KINDS and not (isinstance(value, float) and not math.isfinite(value)))
    }


def _fixed(flow: Compiled) -> list[str]:
    """What every run sets as it was given to the export, since no run can set it otherwise."""
    given = {name: text for name, text in flow.request.params.items() if name not in _params(flow)}
    return [word for name, text in given.items() for word in ("--param", f"{name}={text}")]


def _schedule(text: str) -> str:
    """A schedule as Python source."""
    if not text:
        return "None"
    if text.startswith("asset:"):
        names = [name.strip() for name in text.removeprefix("asset:").split(",")]
        return f"[{', '.join(f'Asset({literal(name)})' for name in names)}]"
    seconds = _every(text)
    return literal(text) if seconds is None else f"datetime.timedelta(seconds={seconds:g})"


def _every(text: str) -> float | None:
    """Seconds of a duration such as "6h"; None of anything else."""
    try:
        return duration_s(text)
    except ValueError:
        return None


def _secrets(options: Options) -> dict[str, tuple[str, str, str]]:
    """Variable of the environment → where Airflow keeps its value: kind, name, and field of a connection."""
    found = {}
    for text in options.secrets:
        name, _, place = text.partition("=")
        kind, _, key = (place or f"variable:{name}").partition(":")
        head, _, last = key.rpartition(":")
        field = last if kind == "connection" and head and last in FIELDS else ""
        found[name] = (kind, head if field else key, field)
    return found


def _schedule_faults(text: str) -> Iterator[Finding]:
    remedy = 'a cron expression of five fields, "@daily" and its like, a duration such as "6h", or asset:NAME'
    if not text:
        return
    if text.startswith("asset:"):
        if not all(name.strip() for name in text.removeprefix("asset:").split(",")):
            yield Finding("error", f"--schedule {text}: an asset has no name", remedy)
    elif text.startswith("@"):
        if text not in PRESETS:
            yield Finding(
                "error", f"--schedule {text}: Airflow has no such preset{did_you_mean(text, PRESETS)}", remedy
            )
    elif (seconds := _every(text)) is not None:
        if seconds <= 0:
            yield Finding("error", f"--schedule {text}: a time above zero is meant", remedy)
    elif len(words := text.split()) != len(CRON):
        yield Finding("error", f"--schedule {text}: this is no schedule", remedy)
    else:
        for word, (field, low, high) in zip(words, CRON, strict=True):
            if not _is_cron(word, low, high):
                what = f"--schedule {text}: {word} is no {field}, which goes from {low} to {high}"
                yield Finding("error", what, remedy)


def _is_cron(word: str, low: int, high: int) -> bool:
    """Whether one field of a cron expression is well formed, and its numbers are in their range."""
    numbers = [int(number) for number in re.findall(r"(?<![/#\d])\d+", word)]
    steps = [int(number) for number in re.findall(r"/(\d+)", word)]
    return bool(_CRON.fullmatch(word)) and all(low <= n <= high for n in numbers) and all(step > 0 for step in steps)


def _is_day(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _option_faults(options: Options) -> Iterator[Finding]:
    for name in options.more:
        if name not in MORE:
            what = f"--option {name}: Airflow has no such option{did_you_mean(name, MORE)}"
            yield Finding("error", what, f"there are {', '.join(MORE)}")
    dag = options.more.get("dag", "")
    if dag and not re.fullmatch(r"[A-Za-z0-9_.-]{1,250}", dag):
        yield Finding("error", f"--option dag={dag}: no id of a DAG", "letters, digits, _, - and . are meant")
    start = options.more.get("start", "")
    if start and not _is_day(start):
        yield Finding("error", f"--option start={start}: no day", "a day such as 2026-01-01 is meant")
    operator = options.more.get("operator", OPERATORS[0])
    if operator not in OPERATORS:
        what = f"--option operator={operator}: unknown{did_you_mean(operator, OPERATORS)}"
        yield Finding("error", what, f"there are {', '.join(OPERATORS)}")
    wanted = [name for name in ("operator", "secret") if name in options.more and not options.image]
    for name in wanted:
        yield Finding("error", f"--option {name}: only a container has one", "--image names its image")
    if options.image:
        what = "Airflow retries a container whatever it ended with; the worker then repeats a final failure at once"
        yield Finding("note", what)


def _secret_faults(flow: Compiled, options: Options) -> Iterator[Finding]:
    remedy = f"NAME (a Variable of that name), NAME=variable:KEY or NAME=connection:ID[:{'|'.join(FIELDS)}]"
    for name, (kind, key, _) in _secrets(options).items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or kind not in ("variable", "connection") or not key:
            yield Finding("error", f"--secret {name}: no place in Airflow is named", remedy)
    if options.secrets and options.image and options.more.get("operator") == "docker":
        what = "--secret: a Docker container gets none"
        yield Finding("error", what, "--option operator=kubernetes, or give them to the Docker daemon's machine")
    for name, value in options.environment.items():
        if has_password(value) or is_credential(name, value):
            yield Finding("error", f"{name} holds a secret, and would stand in the file", f"--secret {name}")
    settings: Mapping[str, str] = flow.request.extra.get("set", {})
    for name, text in {**flow.request.params, **settings, **{n: text_of(v) for n, v in _params(flow).items()}}.items():
        if has_password(str(text)):
            what = f"the value of {name} holds a password, and would stand in the file"
            yield Finding("error", what, "name a variable of the environment instead, and give it by --secret")


def _param_faults(flow: Compiled, options: Options) -> Iterator[Finding]:
    known = _params(flow)
    for name, value in flow.graph.params.items():
        if name not in known:
            what = f"parameter {name} is a {type(value).__name__}: a run on Airflow cannot set it"
            yield Finding("note", what, "numbers, texts and true or false can be set")
        elif options.image and value is None:
            yield Finding(
                "error", f"parameter {name} has no value: a container's arguments need one", f"--param {name}=…"
            )


def _label_notes(flow: Compiled, options: Options) -> Iterator[Finding]:
    labels = {name: text for task in flow.tasks for name, text in task.resources.get("labels", {}).items()}
    for name, text in labels.items():
        if name == "pool":
            yield Finding("note", f"pool {text} must exist there", f"airflow pools set {text} SLOTS DESCRIPTION")
        elif name not in NATIVE_LABELS:
            yield Finding("note", f"label {name}={text} says nothing to Airflow", "pool and queue do")
    if not options.image and any({"cpu", "gpu"} & task.resources.keys() for task in flow.tasks):
        what = "Airflow reserves no processors and GPUs for a task"
        yield Finding("note", what, "label pool=… bounds how many tasks run at once; --image asks Kubernetes for them")
