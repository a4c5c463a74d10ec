"""The containers of an exported pipeline, started as the launcher of Kubeflow Pipelines would, but without a cluster.

What the launcher does is done here after the format's description: inputs are looked up, placeholders replaced, items
gone through, conditions asked, and what a container wrote is read back.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.project import open_home

ROOT = Path(__file__).resolve().parents[2]

WIDE = """
import penstock as ps

@ps.step
def base(n: int):
    return n

@ps.step
def score(item, base: int):
    print("scoring", item, flush=True)
    return item * base

@ps.step
def gather(scores, as_of: str):
    return [list(scores), as_of]

wide = ps.Flow(gather(score.map(["a", "b", "c"], base(ps.Param("n", 2))), ps.Param("as_of")), name="wide")
"""
EXPORT = """
import json, sys, yaml
from penstock.backends.backend import Options
from penstock.backends.compiled import compiled
from penstock.backends.kubeflow import Kubeflow
file, python = sys.argv[1:3]
flow, options = compiled(file, file=sys.argv[3]), Options(image="r/x@sha256:0", python=python)
text = Kubeflow().export(flow, options)
assert text == Kubeflow().export(flow, options), "the same flow gives the same bytes"
print(json.dumps(next(yaml.safe_load_all(text))))
"""
PLACEHOLDER = re.compile(r"\{\{\$\.(inputs|outputs)\.(parameters|artifacts)\['([^']+)'\](?:\.(\w+))?\}\}")
ASKED = re.compile(r"inputs\.parameter_values\['([^']+)'\] == '([^']*)'")


class Launcher:
    """Runs the tasks of a pipeline's specification one after another.

    Attributes
    ----------
    ran : dict
        Task, with the number of its item, to what it wrote to its outputs, by name, and "said": its log.
    """

    def __init__(self, spec: Mapping[str, Any], folder: Path) -> None:
        self.spec, self.folder = spec, folder
        self.ran: dict[str, dict[str, str]] = {}

    def dag(self, dag: Mapping[str, Any], given: Mapping[str, Any], prefix: str = "") -> None:
        """All tasks of a graph."""
        made: dict[str, dict[str, str]] = {}
        left = dict(dag["tasks"])
        while left:
            name = next(name for name, task in left.items() if not left.keys() & set(task.get("dependentTasks", ())))
            task = left.pop(name)
            inputs = {
                key: value
                for key, one in task.get("inputs", {}).get("parameters", {}).items()
                if (value := self.value(one, given, made)) is not None
            }
            condition = task.get("triggerPolicy", {}).get("condition", "")
            if condition and not all(inputs[key] == wanted for key, wanted in ASKED.findall(condition)):
                continue
            iterator = task.get("parameterIterator")
            items = json.loads(iterator["items"]["raw"]) if iterator else [None]
            for number, item in enumerate(items):
                more = {iterator["itemInput"]: item} if iterator else {}
                where = f"{prefix}{number}-" if iterator else prefix
                component = self.spec["components"][task["componentRef"]["name"]]
                if "dag" in component:
                    self.dag(component["dag"], {**inputs, **more}, where)
                else:
                    made[name] = self.ran[f"{where}{name}"] = self.container(f"{where}{name}", component, inputs)

    @staticmethod
    def value(one: Mapping[str, Any], given: Mapping[str, Any], made: Mapping[str, Any]) -> Any:
        if "componentInputParameter" in one:
            return given.get(one["componentInputParameter"])
        if "taskOutputParameter" in one:
            output = one["taskOutputParameter"]
            return made[output["producerTask"]][output["outputParameterKey"]]
        constant = one["runtimeValue"]["constant"]
        return "run 1" if constant == "{{$.pipeline_job_uuid}}" else constant

    def container(self, name: str, component: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, str]:
        """One container; what it wrote."""
        at = self.folder / name
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        outputs = component["outputDefinitions"]
        paths = {key: str(at / key) for kind in ("parameters", "artifacts") for key in outputs[kind]}
        executor = {
            "inputs": {"parameterValues": inputs},
            "outputs": {
                "parameters": {key: {"outputFile": paths[key]} for key in outputs["parameters"]},
                "artifacts": {
                    key: {"artifacts": [{"name": key, "uri": f"s3://b/{key}", "type": one["artifactType"]}]}
                    for key, one in outputs["artifacts"].items()
                },
                "outputFile": str(at / "executor_output.json"),
            },
        }

        def filled(word: str) -> str:
            text = word.replace("{{$}}", json.dumps(executor))
            return PLACEHOLDER.sub(lambda found: paths[found[3]] if found[1] == "outputs" else inputs[found[3]], text)

        command = [*container["command"], *map(filled, container["args"])]
        done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "{{$" not in " ".join(command)
        written = {path.name: path.read_text() for path in at.iterdir()}
        return {**written, "said": done.stderr}


@pytest.fixture
def wide(kubeflow: Any, tmp_path: Path) -> tuple[Path, Mapping[str, Any]]:
    """The project as an image has it, elsewhere than where it was exported; and the pipeline."""
    here, app = tmp_path / "here", tmp_path / "app"
    for folder in (here, app):
        folder.mkdir()
        (folder / "penstock.toml").write_text("")
        (folder / "flows.py").write_text(WIDE)
    words = (here / "flows.py", sys.executable, app / "flows.py")
    return app, json.loads(kubeflow.processes.run("-c", EXPORT, *words))


def test_the_containers_of_a_kubeflow_pipeline_do_the_flow(wide: tuple[Path, Mapping[str, Any]]) -> None:
    """A container for each part of a mapped step, another for the whole; empty stands for a default of None."""
    folder, spec = wide
    launcher = Launcher(spec, folder / "out")
    launcher.dag(spec["root"]["dag"], {"n": 3.0, "as_of": ""})
    assert list(launcher.ran) == ["base", "0-score-part", "1-score-part", "2-score-part", "score", "gather"]
    said = [launcher.ran[f"{k}-score-part"]["said"] for k in range(3)]
    assert [line for text in said for line in text.splitlines() if "scoring" in line] == [f"scoring {x}" for x in "abc"]
    assert "scoring" not in launcher.ran["score"]["said"]
    home = open_home(str(folder))
    [run] = home.ledger.runs()
    last = [row for row in home.ledger.step_runs(run.id) if row.step == "gather"][-1]
    assert home.formats.load(last.outputs[0], home.objects) == [["aaa", "bbb", "ccc"], None]
    assert (run.state, run.info["backend"]) == ("done", {"name": "kubeflow", "run": "run 1"})
    assert launcher.ran["gather"]["outcome"] == "passed"
    assert "<th>gather</th>" in launcher.ran["gather"]["answer"]
    told = json.loads(launcher.ran["gather"]["executor_output.json"])["artifacts"]
    assert told["answer"]["artifacts"][0]["metadata"]["run"] == run.id
    tasks = spec["root"]["dag"]["tasks"]
    [parts] = [name for name, task in tasks.items() if "parameterIterator" in task]
    assert tasks["score"]["dependentTasks"] == [parts]
    assert json.loads(tasks[parts]["parameterIterator"]["items"]["raw"]) == ["1/3", "2/3", "3/3"]


def test_the_dockerfile_of_the_how_to_for_kubeflow_makes_what_its_commands_ask_for() -> None:
    """Read, not built: extras that there are, the file where `--at` says, and nothing of one's own machine in it."""
    text = (ROOT / "docs" / "how-to" / "kubeflow.md").read_text()
    blocks = {
        block.split("\n")[0]: block.split("\n")[1:] for block in re.findall(r"```text\n(# .*?)```", text, re.DOTALL)
    }
    instructions = [line.partition(" ")[::2] for line in blocks["# Dockerfile"] if line]
    assert [name for name, _ in instructions] == ["FROM", "RUN", "WORKDIR", "COPY", "RUN"]
    told = dict(instructions[2:4])
    [at] = re.findall(r"--at (\S+)", text)
    assert (told["COPY"], at) == (". .", f"{told['WORKDIR']}/scores.py")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [extras] = re.findall(r"penstock\[([a-z0-9,]+)\]", instructions[1][1])
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    [python] = re.findall(r"python:([0-9.]+)-slim", instructions[0][1])
    assert project["requires-python"].startswith(f">={python}")
    assert ".penstock" in blocks["# .dockerignore"]
