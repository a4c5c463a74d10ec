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
import signal
import subprocess
import tempfile
import threading

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


class Worker(BaseOperator):
    """Starts the worker once for each call, in order, and ends as it says. Its log is the task's log."""

    process = None
    stopped = False

    def __init__(self, *, calls, **given):
        super().__init__(**given)
        self.calls = calls

    def execute(self, context):
        told = {}
        for steps in self.calls:
            if self.stopped:
                raise AirflowFailException("Airflow ended the task")
            code, answer = self.start_worker(steps, context)
            state, why = answer.get("state"), reason(code, answer)
            if code == 99 and state == "skipped":  # something before it refused: no failure, and nothing to do
                print(why, flush=True)
            elif code == 0 and state in ("done", "reused"):
                told["outputs"] = told.get("outputs", {}) | digests(answer)
                told |= {name: answer[name] for name in TOLD if answer.get(name) is not None}
            elif self.stopped or code in FINAL or answer.get("retriable") is False:
                raise AirflowFailException(why)
            else:
                raise AirflowException(why)
        if not told:
            raise AirflowSkipException(why)
        if self.outlets and told.get("passed") is not False:
            about = {name: told[name] for name in TOLD if name in told}
            context["outlet_events"][self.outlets[0]].add(Asset(ASSET), extra=about)
        return told

    def start_worker(self, steps, context):
        command = [PYTHON, *WORKER, "--run", f"{DAG_ID}/{context['run_id']}"]
        command += [word for step in steps for word in ("--step", step)]
        given = {name: context["params"].get(name, value) for name, value in PARAMS.items()}
        for name, value in given.items():
            if value != PARAMS[name] and value is not None:
                command += ["--param", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_GIVEN)}
        with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
            path = os.path.join(folder, "answer.json")
            try:
                self.process = process = subprocess.Popen(
                    command,
                    env={**environment, **ENVIRONMENT,$SECRETS "PENSTOCK_RESULT": path},
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
        for line in lines:
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
        found[name] = str(value).replace("postgres://", "postgresql://", 1)
        mask_secret(found[name])
    return found
'''
NATIVE = """

def native(task):
    given = {"retries": task.get("retries", 0), "retry_exponential_backoff": 2}
    given |= {name: datetime.timedelta(seconds=task[name]) for name in DURATIONS if name in task}
    return given | {name: task[name] for name in ("pool", "queue") if name in task}


with DAG(
    DAG_ID,
    description=DESCRIPTION,
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
        made[name] = Worker(
            task_id=name,
            calls=task["calls"],
            outlets=[AssetAlias(ASSET)] if name == LAST else [],
            **native(task),
        )
        for need in task["needs"]:
            made[need] >> made[name]
"""

IMAGE_IMPORTS = {
    "kubernetes": """
import datetime

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.secret import Secret
from airflow.sdk import DAG, Asset, Param
from kubernetes.client import models
""",
    "docker": """
import datetime

from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk import DAG, Asset, Param
""",
}
CONTAINERS = {
    "kubernetes": '''
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
DURATIONS = ("retry_delay", "execution_timeout")


def container(task_id, steps, task, **given):
    """A pod that starts the worker once."""
    return KubernetesPodOperator(
        task_id=task_id,
        name=task_id.replace("_", "-").replace(".", "-"),
        image=IMAGE,
        cmds=WORKER[:1],
        arguments=WORKER[1:] + [word for step in steps for word in ("--step", step)] + TEMPLATED,
        env_vars=ENVIRONMENT,
        secrets=[Secret("env", name, SECRET, name) for name in SECRETS],
        container_resources=models.V1ResourceRequirements(requests=task["requests"], limits=task["limits"]),
        skip_on_exit_code=99,
        **given,
    )
''',
    "docker": '''
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
DURATIONS = ("retry_delay", "execution_timeout")


def container(task_id, steps, task, **given):
    """A container that starts the worker once."""
    return DockerOperator(
        task_id=task_id,
        image=IMAGE,
        command=WORKER + [word for step in steps for word in ("--step", step)] + TEMPLATED,
        environment=ENVIRONMENT,
        mount_tmp_dir=False,
        auto_remove="success",
        skip_on_exit_code=99,
        **given,
    )
''',
}
IMAGE_DAG = """\
    first, last = {}, {}
    for name, task in TASKS.items():
        for task_id, steps in task["calls"].items():
            outlets = [Asset(ASSET)] if task_id == LAST else []
            pod = container(task_id, steps, task, outlets=outlets, **native(task))
            if name in last:
                last[name] >> pod
            first.setdefault(name, pod)
            last[name] = pod
        for need in task["needs"]:
            last[need] >> first[name]
"""
