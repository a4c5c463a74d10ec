"""Kubeflow Pipelines: the SDK's compiler and its local runner, which starts a process for each task."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.backends.engines.processes import ROOT, Processes

_RUN = """
import json, os, sys, threading
from kfp import components, local
from kfp.local.orchestrator import task_executor

states, tries, places, here = {}, {}, {}, threading.local()
execute, dispatch = task_executor.execute_single_task, task_executor.task_dispatcher.run_single_task_implementation

def noted(task_name, **rest):
    here.task = task_name
    places.setdefault(task_name, set()).add(rest["pipeline_resource_name"])
    outputs, status = execute(task_name=task_name, **rest)
    states[task_name] = status.name
    return outputs, status

def counted(**rest):
    tries[here.task] = tries.get(here.task, 0) + 1
    return dispatch(**rest)

task_executor.execute_single_task = noted
task_executor.task_dispatcher.run_single_task_implementation = counted
pipeline = components.load_component_from_file(sys.argv[1])
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])
try:
    pipeline(**json.loads(sys.argv[3]))
    state = "SUCCESS"
except RuntimeError as error:  # only its text tells a failed task from a fault of the pipeline
    if "finished with status" not in str(error):
        raise
    print(error)
    state = "FAILURE"
with open(sys.argv[4], "w") as file:
    json.dump([state, states, tries, {name: len(found) for name, found in places.items()}], file)
"""
_VALIDATE = """
import sys, yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
messages = (pipeline_spec_pb2.PipelineSpec(), pipeline_spec_pb2.PlatformSpec())  # the second only with secrets
for found, message in zip(yaml.safe_load_all(open(sys.argv[1])), messages):
    json_format.ParseDict(found, message)
"""
_COLOUR = re.compile(r"\x1b\[\d+m")


@dataclass(frozen=True)
class Ran:
    """How a pipeline ended: `SUCCESS` or `FAILURE`, each task that was started by its name, and the log.

    `copies` says for how many items of a loop a task was started; 1 outside of one.
    """

    state: str
    tasks: dict[str, str]
    tries: dict[str, int]
    copies: dict[str, int]
    log: str


class Kubeflow:
    """The SDK in its environment; nothing runs between calls.

    What had to be found out:

    * The local runner takes lightweight Python components only; container components compile but need Docker.
      `@dsl.component(install_kfp_package=False)`, else each task asks pip first.
    * With `use_venv=False` a component's `python3` is the one that runs the SDK.
    * A compiled file is run by `components.load_component_from_file`: what is tested is what would be uploaded.
    * A local task's outputs lie in a folder by component, not by task: two tasks of one component overwrite each
      other's. In the log, too, a task has the component's name.
    * The runner logs retries, but at a level that its own set-up hides: tries are counted around its two functions.
      Between tries it waits the policy's `backoff_duration`, doubled each time; 0 by default.
    * The items of a `dsl.ParallelFor` run in threads, two at once; each has a folder of its own, by its number.
    * A task behind a `dsl.If` that does not hold is not among the tasks; its pipeline succeeds.
    * All tasks' lines go to stdout, stderr of the component included.
    * CPU, memory and accelerator limits, and secrets, are compiled but mean nothing locally: it warns of them.
    """

    def __init__(self) -> None:
        self.processes = Processes("kubeflow", {"PYTHONPATH": str(ROOT / "src")})
        self._runs = 0

    def compile(self, name: str, text: str) -> Path:
        """Run a file whose last function is a `@dsl.pipeline` called `pipeline`; the compiled file."""
        source = self.processes.folder / f"{name}.py"
        source.write_text(text)
        path = self.processes.folder / f"{name}.yaml"
        words = "import runpy, sys; from kfp import compiler; found = runpy.run_path(sys.argv[1]);"
        self.processes.run("-c", words + "compiler.Compiler().compile(found['pipeline'], sys.argv[2])", source, path)
        return path

    def validate(self, path: Path) -> None:
        """Read a compiled file into the protobuf message, which refuses fields that are not known.

        Raises
        ------
        AssertionError
            It does not fit. A reference to a component that is not there does fit.
        """
        self.processes.run("-c", _VALIDATE, path)

    def run(self, path: Path, *, timeout: float = 540, **parameters: Any) -> Ran:
        """Run a compiled file in the local runner until it ends.

        Raises
        ------
        AssertionError
            The runner itself failed.
        """
        self._runs += 1
        ended = self.processes.folder / f"run-{self._runs}.json"
        root = self.processes.folder / "outputs"
        done = subprocess.run(
            [str(self.processes.python), "-c", _RUN, str(path), str(root), json.dumps(parameters), str(ended)],
            cwd=self.processes.folder, env=self.processes.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4_000:]
        state, tasks, tries, copies = json.loads(ended.read_text())
        return Ran(state, tasks, tries, copies, _COLOUR.sub("", done.stdout))

    def close(self) -> None:
        """Remove the folder, and end what a run left behind."""
        self.processes.close()
