"""The text of a DAG file: data at its top, then the functions that never change.

It is the only code of ours that Airflow imports, so it needs nothing but Airflow and the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_LINE = 110
"""Characters of a line that a literal may fill."""


def literal(value: Any, indent: int = 0) -> str:
    """A value of plain data as Python source, in one line where it fits, else an item a line.

    Examples
    --------
    >>> print(literal({"calls": [["a"]], "needs": []}))
    {"calls": [["a"]], "needs": []}
    """
    short = _short(value)
    if len(short) + indent <= MOST_LINE or not isinstance(value, (dict, list)) or not value:
        return short
    inner = " " * (indent + 4)
    if isinstance(value, dict):
        items = [f"{_short(name)}: {literal(one, indent + 4)}" for name, one in value.items()]
    else:
        items = [literal(one, indent + 4) for one in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return opening + "".join(f"\n{inner}{item}," for item in items) + f"\n{' ' * indent}{closing}"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_short(name)}: {_short(one)}" for name, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_short, value)) + "]"
    if isinstance(value, str):
        plain = repr(value)
        return f'"{plain[1:-1]}"' if plain.startswith("'") and '"' not in plain else plain
    return repr(value)


def written(data: Mapping[str, Any], parts: list[str]) -> str:
    """A whole file.

    Parameters
    ----------
    data : dict
        Name → value of each constant, in order. "DOC" is the file's docstring; a value that is no plain data is
        given as its source, in a tuple of one.
    parts : list of str
        What stands before the data (imports) and after it, in order.
    """
    doc = str(data["DOC"]).replace("\\", "/").replace('"', "'")
    constants = [
        f"{name} = {value[0] if isinstance(value, tuple) else literal(value)}"
        for name, value in data.items()
        if name != "DOC"
    ]
    return (
        "\n".join([f'"""{doc}"""', "", parts[0].strip("\n"), "", *constants, *(p.rstrip("\n") for p in parts[1:])])
        + "\n"
    )


IMPORTS = """
import datetime
import json
import os
import shlex
import signal
import subprocess
import tempfile
import threading

from airflow.sdk import DAG, Asset, AssetAlias, BaseOperator, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
"""
IMPORTS_WITH_SECRETS = """
import datetime
import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
import threading
import urllib.parse

from airflow.sdk import DAG, Asset, AssetAlias, BaseOperator, Connection, Param, Variable
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk.log import mask_secret
"""

WORKER = '''
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
DURATIONS = ("retry_delay", "execution_timeout")
TOLD = ("run", "state", "passed", "version", "champion")
FINAL = (2, 3, 6)
NOT_GIVEN = ("AIRFLOW", "_AIRFLOW", "__AIRFLOW", "PYTHON")
LINE = 10_000  # characters


class Worker(BaseOperator):
    """Starts the worker once for each call, in order, and ends as it says. Its log is the task's log."""

    custom_operator_name = "Penstock"
    template_fields = ("command",)
    template_fields_renderers = {"command": "bash"}
    process = None
    stopped = False

    def __init__(self, *, calls, part="", **given):
        super().__init__(**given)
        self.calls, self.part = calls, part
        self.command = "{{ task.commands(run_id, params) }}"  # for people to read and to paste: nothing runs it

    def execute(self, context):
        told, why = {}, "nothing to do"
        for steps in self.calls:
            command = [PYTHON, *WORKER, *self.words(steps, context["run_id"], context["params"])]
            print("$", shlex.join(command), flush=True)
            code, answer = self.start_worker(command)
            state, why = answer.get("state"), reason(code, answer)
            if code == 99 and state == "skipped":  # something before it refused: no failure, and nothing to do
                print(why, flush=True)
            elif code == 0 and state in ("done", "reused"):
                if answer.get("verdict") and "passed" not in told:
                    print(answer["verdict"]["sentence"], flush=True)
                told["outputs"] = told.get("outputs", {}) | digests(answer)
                told |= {name: answer[name] for name in TOLD if answer.get(name) is not None}
            elif self.stopped:  # by a person, and then its state is what they said; or with its machine
                raise AirflowException("Airflow ended the task")
            elif code in FINAL or answer.get("retriable") is False:
                raise AirflowFailException(why)
            else:
                raise AirflowException(why)
        if self.calls and not told:
            raise AirflowSkipException(why)
        if self.outlets and told.get("passed") is not False:
            about = {name: told[name] for name in TOLD if name in told}
            context["outlet_events"][self.outlets[0]].add(Asset(ASSET), extra=about)
        return told

    def commands(self, run, params):
        start = shlex.join([PYTHON, *WORKER])
        return "\\n".join(f"{start} \\\\\\n    {shlex.join(self.words(steps, run, params))}" for steps in self.calls)

    def words(self, steps, run, params):
        words = [word for step in steps for word in ("--step", step)]
        words += ["--part", self.part] if self.part else []
        for name, default in PARAMS.items():
            value = params.get(name, default)
            if type(default) is int and isinstance(value, float):  # JSON has one kind of number
                value = int(value)
            if value is not None:
                words += ["--param", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
        return [*words, "--run", f"{DAG_ID}/{run}"]

    def start_worker(self, command):
        if self.stopped:
            raise AirflowException("Airflow ended the task")
        supervisor = os.getppid()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_GIVEN)}
        with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
            path = os.path.join(folder, "answer.json")
            ours = {"PENSTOCK_RESULT": path, "PENSTOCK_TIED": str(os.getpid())}  # it ends when we are killed
            try:
                self.process = process = subprocess.Popen(
                    command,
                    env={**environment, **ENVIRONMENT,$SECRETS **ours},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as error:
                raise AirflowFailException(f"{PYTHON} does not start: {error}; export with --python") from error
            log = threading.Thread(target=copy_log, args=(process.stderr,), daemon=True)
            log.start()
            try:
                while log.is_alive() and process.poll() is None:
                    log.join(1)
                    if os.getppid() != supervisor:
                        raise AirflowException("the process of Airflow that watches over this task is gone")
                code = process.wait()
                log.join(5)  # not for ever: what the worker started may hold its end open
            finally:
                end(process)
            try:
                with open(path, encoding="utf-8") as file:
                    return code, json.load(file)
            except (OSError, ValueError):
                return code, {}

    def on_kill(self):
        """Airflow ends the task itself five seconds after this."""
        self.stopped = True
        if self.process is not None:
            self.process.terminate()
            timer = threading.Timer(4.0, end, [self.process, 0.0])
            timer.daemon = True
            timer.start()


def copy_log(lines):
    with lines:
        while line := lines.readline(LINE):
            print(line.rstrip("\\n"), flush=True)


def end(process, grace=4.0):
    """Ask the worker to end, with all that it started; then make them."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def digests(answer):
    steps = answer.get("steps", {}).items()
    return {step: {name: one["digest"] for name, one in found["outputs"].items()} for step, found in steps}


def reason(code, answer):
    error = answer.get("error") or {}
    where = f"{error['where']}: " if error.get("where") else ""
    return where + (error.get("what") or answer.get("reason") or f"the worker ended with {code} and no answer")
'''
SECRETS = '''

def secrets():
    """What Airflow keeps, for the worker's environment alone; masked in every log."""
    found = {}
    for name, (kind, key, field) in SECRETS.items():
        if kind == "variable":
            value = Variable.get(key)
        else:
            connection = Connection.get(key)
            value = getattr(connection, field) if field else connection.get_uri()
            if not field:
                value = re.sub("^postgres:", "postgresql:", value)
                mask(urllib.parse.quote(connection.password or "", safe=""))
        if value is None:
            raise AirflowFailException(f"{name}: Airflow's connection {key} has no {field}")
        found[name] = str(value)
        mask(found[name])
    return found


def mask(text):
    for one in (text, *text.splitlines()):  # a log has lines
        mask_secret(one)
'''
NATIVE = """

def native(task):
    given = {"retries": task.get("retries", 0), "retry_exponential_backoff": 2}
    given |= {name: datetime.timedelta(seconds=task[name]) for name in DURATIONS if name in task}
    given["doc_md"] = "\\n".join(f"* **{step}**: {text}" for step, text in task.get("docs", {}).items()) or None
    return given | {name: task[name] for name in ("pool", "queue") if name in task}


with DAG(
    DAG_ID,
    description=DESCRIPTION,
    doc_md=__doc__,
    schedule=SCHEDULE,
    start_date=START,
    catchup=False,
    max_active_runs=1,
    params={name: Param(value, type=TYPES.get(type(value), ["string", "null"])) for name, value in PARAMS.items()},
    tags=["penstock"],
) as dag:
"""
DAG = """    made = {}
    for name, task in TASKS.items():
        before, given = [made[need] for need in task["needs"]], {"calls": task["calls"], **native(task)}
        if "parts" in task:  # several workers share the items; the task itself then makes a whole of what they gave
            shares = [f"{k}/{task['parts']}" for k in range(1, task["parts"] + 1)]
            part = Worker.partial(task_id=f"{name}.parts", map_index_template="part {{ task.part }}", **given)
            parts = part.expand(part=shares)
            before >> parts
            before = [parts]
        made[name] = Worker(task_id=name, outlets=[AssetAlias(ASSET)] if name == LAST else [], **given)
        before >> made[name]
"""

IMAGE_IMPORTS = {
    "kubernetes": """
import datetime

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.secret import Secret
from airflow.sdk import DAG, Asset, BaseOperator, Param
from kubernetes.client import models
""",
    "docker": """
import datetime

from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk import DAG, Asset, BaseOperator, Param
from docker.types import DeviceRequest
""",
}
CONTAINERS = {
    "kubernetes": '''
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
DURATIONS = ("retry_delay", "execution_timeout")


def container(task_id, steps, task, parts, given):
    """A pod that starts the worker once; of a step that is divided, a pod a part."""
    given |= {
        "task_id": task_id,
        "name": task_id.replace("_", "-").replace(".", "-"),
        "image": IMAGE,
        "cmds": WORKER[:1],
        "env_vars": ENVIRONMENT,
        "secrets": [Secret("env", name, SECRET, name) for name in SECRETS],
        "container_resources": models.V1ResourceRequirements(requests=task["requests"], limits=task["limits"]),
        "skip_on_exit_code": 99,
    }
    words = WORKER[1:] + [word for step in steps for word in ("--step", step)] + TEMPLATED
    if not parts:
        return KubernetesPodOperator(arguments=words, **given)
    each = [[*words, "--part", f"{k}/{parts}"] for k in range(1, parts + 1)]
    return KubernetesPodOperator.partial(**given).expand(arguments=each)
''',
    "docker": '''
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
DURATIONS = ("retry_delay", "execution_timeout")


def container(task_id, steps, task, parts, given):
    """A container that starts the worker once; of a step that is divided, a container a part."""
    wanted, gpus = task["requests"], task["requests"].get("nvidia.com/gpu")
    given |= {
        "task_id": task_id,
        "image": IMAGE,
        "environment": ENVIRONMENT,
        "cpus": float(wanted.get("cpu", 0)),  # 0: as many as there are
        "mem_limit": task["limits"].get("memory"),
        "device_requests": [DeviceRequest(count=int(gpus), capabilities=[["gpu"]])] if gpus else None,
        "mount_tmp_dir": False,
        "auto_remove": "success",
        "skip_on_exit_code": 99,
    }
    words = WORKER + [word for step in steps for word in ("--step", step)] + TEMPLATED
    if not parts:
        return DockerOperator(command=words, **given)
    each = [[*words, "--part", f"{k}/{parts}"] for k in range(1, parts + 1)]
    return DockerOperator.partial(**given).expand(command=each)
''',
}
UPDATE = '''

class Updated(BaseOperator):
    """Updates the asset, when all that ends the flow has ended."""

    def execute(self, context):
        print(f"{ASSET} is new")
'''
IMAGE_DAG = """\
    first, last = {}, {}
    for name, task in TASKS.items():
        for task_id, steps in task["calls"].items():
            outlets = [Asset(ASSET)] if task_id == LAST else []
            begin = pod = container(task_id, steps, task, 0, native(task) | {"outlets": outlets})
            if "parts" in task:
                begin = container(f"{task_id}.parts", steps, task, task["parts"], native(task))
                begin >> pod
            if name in last:
                last[name] >> begin
            first.setdefault(name, begin)
            last[name] = pod
        if not task["calls"]:
            first[name] = Updated(task_id=name, outlets=[Asset(ASSET)])
        for need in task["needs"]:
            last[need] >> first[name]
"""
