"""Kubeflow Pipelines: what a flow is compiled to, and every backend's promises in the SDK's local runner."""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.backends.backend import Options, backend
from penstock.backends.compiled import Compiled, compiled
from penstock.backends.kubeflow import Kubeflow as Backend
from penstock.backends.kubeflow_references import faults
from penstock.cli.elsewhere import _options, split_place
from penstock.errors import MissingExtraError, UsageError
from penstock.testing.backend_suite import BackendSuite, TaskEnded, Went

SMALL = """
import penstock as ps

@ps.step(retries=2, backoff_s=0.1, timeout_s=60)
def first(n: int, as_of: str, metrics: float):
    return n

@ps.step(resources=ps.Resources(gpu=1, cpu=0.5, memory="1GiB", labels={"zone": "eu"}))
def second(n):
    return n + 1

flow = ps.Flow(second(first(ps.Param("n", 1), ps.Param("as_of"), ps.Param("metrics", 0.5))), name="Small_one")
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("small")
    (folder / "penstock.toml").write_text("")
    (folder / "flows.py").write_text(SMALL)
    return compiled(str(folder / "flows.py"), group="step")


# ── what is said beforehand ──────────────────────────────────────────────────────────────────────────────────────────


def whats(small: Compiled, grade: str, **options: Any) -> list[str]:
    return [one.what for one in Backend().check(small, Options(**options)) if one.grade == grade]


def test_a_pipeline_for_kubeflow_needs_an_image(small: Compiled) -> None:
    assert isinstance(backend("kubeflow"), Backend)
    assert whats(small, "error") == ["every task runs in a container, and no image is named"]
    assert whats(small, "error", image="r/x@sha256:0") == []
    assert whats(small, "error", more={"local": "yes"}) == whats(small, "error", more={"on": ""}) == []
    assert len(whats(small, "error", more={"on": "host"})) == 1


def test_what_kubeflow_cannot_hold_is_said_with_a_remedy(small: Compiled) -> None:
    told = whats(small, "error", image="r/x:1", schedule="@daily", more={"acelerator": "tpu"})
    assert [text.partition(":")[0] for text in told] == ["a pipeline's file holds no schedule", "--option acelerator"]
    assert "may change between two tasks" in whats(small, "warning", image="r/x:1")[0]
    notes = whats(small, "note", image="r/x@sha256:0", secrets=("TOKEN",), more={"secret": "mine"})
    assert "the Secret mine must hold TOKEN" in notes
    assert any("tries again whatever failed" in text for text in notes)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"image": "r/x y"}, "r/x y: no name of an image"),
        ({"image": "r/x@sha256:0", "more": {"local": "yes"}}, "the SDK's local runner runs no images"),
        ({"image": "r/x@sha256:0", "more": {"on": ""}}, "the SDK's local runner runs no images"),
        ({"more": {"local": "no"}}, "--option local=no: no such value"),
        ({"image": "r/x@sha256:0", "more": {"scheme": "ftp", "on": "h"}}, "--option scheme=ftp: no such value"),
        ({"image": "r/x@sha256:0", "more": {"secret": "A_b"}}, "--option secret=A_b: Kubernetes takes no such name"),
        ({"image": "r/x@sha256:0", "secrets": ("A B",)}, "'A B': no name of a variable"),
        ({"image": "r/x@sha256:0", "environment": {"A=B": "1"}}, "'A=B': no name of a variable"),
    ],
)
def test_an_option_for_kubeflow_that_cannot_be_meant_is_an_error(
    small: Compiled, options: dict[str, Any], told: str
) -> None:
    assert whats(small, "error", **options) == [told]


def test_the_local_runner_of_kubeflow_has_the_secrets_of_its_own_process(small: Compiled) -> None:
    [told] = [text for text in whats(small, "note", secrets=("TOKEN",), more={"local": "yes"}) if "TOKEN" in text]
    assert told == "the local runner knows no Secrets: TOKEN must be set where it is started"


def test_a_value_that_kubeflow_would_replace_is_an_error(small: Compiled) -> None:
    graph = replace(small.graph, params={"good": "{{ name }}", "bad": "{{$.pipeline_job_name}}"})
    found = whats(replace(small, graph=graph), "error", image="r/x@sha256:0")
    assert [text.split(":")[0] for text in found] == ["parameter bad"]


def test_a_label_that_no_node_of_kubernetes_can_have_is_an_error(small: Compiled) -> None:
    first, second = small.tasks
    wrong = replace(second, resources={"labels": {"zone": "no such", "acme.org/kind": "gpu"}})
    found = whats(replace(small, tasks=(first, wrong)), "error", image="r/x@sha256:0")
    assert found == ["task second: no node can have the label zone=no such"]


def test_a_name_that_is_no_input_of_a_pipeline_is_an_error(small: Compiled) -> None:
    graph = replace(small.graph, params={"good": 1, "no-good": 1, "class": 1, "_n": 1, "naïve": 1})
    found = whats(replace(small, graph=graph), "error", image="r/x@sha256:0")
    assert [text.split(":")[0] for text in found] == [
        f"parameter {name!r}" for name in ("no-good", "class", "_n", "naïve")
    ]


def test_without_the_sdk_kubeflow_says_what_to_install(small: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kfp", None)
    with pytest.raises(MissingExtraError) as told:
        Backend().export(small, Options(image="r/x:1"))
    assert told.value.hint == "pip install 'penstock[kubeflow]'"


def test_a_cluster_needs_an_image(small: Compiled) -> None:
    with pytest.raises(UsageError) as told:
        Backend().run(small, "kfp.acme", Options(), lambda *_: None)
    assert told.value.hint == "--on 'kfp://kfp.acme?image=NAME'"


def test_an_image_stands_in_the_place_of_a_kubeflow_cluster() -> None:
    place, _, more = "kfp://host:80?image=r/x:1&namespace=team".partition("?")
    name, where = split_place(place)
    assert (name, where) == ("kubeflow", "host:80")
    assert _options(more, where) == Options(group="step", image="r/x:1", more={"namespace": "team", "on": "host:80"})


# ── references ───────────────────────────────────────────────────────────────────────────────────────────────────────

SPEC: dict[str, Any] = {
    "components": {
        "comp-a": {
            "executorLabel": "exec-a",
            "inputDefinitions": {"parameters": {"n": {}}},
            "outputDefinitions": {"parameters": {"outcome": {}}},
        },
        "comp-if": {
            "dag": {
                "tasks": {
                    "b": {
                        "componentRef": {"name": "comp-a"},
                        "inputs": {"parameters": {"n": {"componentInputParameter": "pipelinechannel--n"}}},
                    }
                }
            },
            "inputDefinitions": {"parameters": {"pipelinechannel--n": {}, "pipelinechannel--a-outcome": {}}},
        },
    },
    "deploymentSpec": {"executors": {"exec-a": {"container": {"args": ["{{$.inputs.parameters['n']}}"]}}}},
    "root": {
        "inputDefinitions": {"parameters": {"n": {}}},
        "dag": {
            "tasks": {
                "a": {
                    "componentRef": {"name": "comp-a"},
                    "inputs": {"parameters": {"n": {"componentInputParameter": "n"}}},
                },
                "if": {
                    "componentRef": {"name": "comp-if"},
                    "dependentTasks": ["a"],
                    "inputs": {
                        "parameters": {
                            "pipelinechannel--n": {"componentInputParameter": "n"},
                            "pipelinechannel--a-outcome": {
                                "taskOutputParameter": {"producerTask": "a", "outputParameterKey": "outcome"}
                            },
                        }
                    },
                    "triggerPolicy": {"condition": "inputs.parameter_values['pipelinechannel--a-outcome'] == 'passed'"},
                },
            }
        },
    },
}
GIVEN = ("root", "dag", "tasks", "if", "inputs", "parameters")


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("root", "dag", "tasks", "a", "componentRef", "name"), "comp-z", "root/a: there is no component comp-z"),
        (("root", "dag", "tasks", "if", "dependentTasks"), ["a", "z"], "root/if: there is no task z to wait for"),
        (("root", "dag", "tasks", "if", "dependentTasks"), [], "is of a, for which it does not wait"),
        (("root", "dag", "tasks", "a", "dependentTasks"), ["if"], "root: tasks wait for one another"),
        ((*GIVEN, "pipelinechannel--a-outcome", "taskOutputParameter", "producerTask"), "z", "is of no task z"),
        (
            (*GIVEN, "pipelinechannel--a-outcome", "taskOutputParameter", "outputParameterKey"),
            "z",
            "a has no output z",
        ),
        ((*GIVEN, "pipelinechannel--n", "componentInputParameter"), "z", "is no input z of the whole"),
        (("root", "dag", "tasks", "a", "inputs", "parameters"), {}, "root/a: input n is not given"),
        (
            ("root", "dag", "tasks", "a", "inputs", "parameters", "z"),
            {"runtimeValue": {"constant": 1}},
            "root/a: it takes no input z",
        ),
        (
            ("root", "dag", "tasks", "a", "parameterIterator"),
            {"itemInput": "z"},
            "root/a: it goes through items for an input z, which it has not",
        ),
        (
            ("root", "dag", "tasks", "if", "triggerPolicy", "condition"),
            "inputs.parameter_values['z'] == 1",
            "its condition asks for z, which it is not given",
        ),
        (("components", "comp-a", "executorLabel"), "exec-z", "comp-a: there is no executor exec-z"),
        (("components", "comp-z"), {"executorLabel": "exec-a"}, "no task uses comp-z"),
        (("deploymentSpec", "executors", "exec-z"), {}, "no component uses exec-z"),
        (
            ("deploymentSpec", "executors", "exec-a", "container", "args"),
            ["{{$.outputs.artifacts['z'].path}}"],
            "comp-a: its command asks for outputs.artifacts.z, which it has not",
        ),
        (
            ("components", "comp-if", "dag", "outputs"),
            {"parameters": {"o": {"valueFromParameter": {"producerSubtask": "z", "outputParameterKey": "outcome"}}}},
            "comp-if: output o is of no task z",
        ),
    ],
)
def test_a_reference_of_a_kubeflow_pipeline_that_leads_nowhere_is_found(
    path: tuple[str, ...], value: Any, told: str
) -> None:
    assert faults(SPEC) == []
    broken = copy.deepcopy(SPEC)
    at = broken
    for word in path[:-1]:
        at = at.setdefault(word, {})
    at[path[-1]] = value
    assert any(told in text for text in faults(broken)), faults(broken)


def test_a_platform_that_names_an_unknown_executor_is_found() -> None:
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-a": {}, "exec-z": {}}}}}}
    assert faults(SPEC, platform) == ["kubernetes: there is no executor exec-z"]


# ── what the SDK makes of it ─────────────────────────────────────────────────────────────────────────────────────────

EXPORT = """
import json, sys
from penstock.backends.backend import Options
from penstock.backends.compiled import compiled
from penstock.backends.kubeflow import Kubeflow
file, group, path, python, options = sys.argv[1:]
flow = compiled(file, group=group, python=python)
given = Options(group=group, **json.loads(options))
text = Kubeflow().export(flow, given)
assert Kubeflow().export(flow, given) == text
with open(path, "w") as written:
    written.write(text)
kinds = {name: type(value).__name__ for name, value in flow.graph.params.items()}
print(json.dumps([{task.id: task.steps for task in flow.tasks}, kinds]))
"""
GATED = """
from dataclasses import replace
compile_plainly = compiled
def compiled(file, **more):
    flow = compile_plainly(file, **more)
    return replace(flow, tasks=(replace(flow.tasks[0], refuses=True), *flow.tasks[1:]))
"""
PYTHON = sys.executable  # the SDK stays in its own environment; steps run where all extras are
KINDS: dict[str, Any] = {"int": int, "float": float, "str": str}


class Runner:
    """Exports a file and runs what was written in the SDK's local runner, as it would be uploaded."""

    name = "kubeflow"
    lacks: frozenset[str] = frozenset()

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    gated = ""

    def export(self, file: Path, group: str, **options: Any) -> tuple[Path, dict[str, list[str]], dict[str, str]]:
        path = file.parent / f"{group}.yaml"
        script = EXPORT.replace("file, group, path, p", f"{self.gated}file, group, path, p")
        words = ("-c", script, file, group, path, PYTHON, json.dumps(options))
        tasks, kinds = json.loads(self.engine.processes.run(*words).splitlines()[-1])
        self.engine.validate(path)
        return path, tasks, kinds

    def run(
        self, file: Path, *, params: Mapping[str, str], group: str = "step", cancel_when: Path | None = None
    ) -> Went:
        if cancel_when is not None:
            return self.cancelled(file, params, cancel_when)
        path, tasks, kinds = self.export(file, group, more={"local": "yes"})
        ran = self.engine.run(path, **{name: KINDS[kinds[name]](text) for name, text in params.items()})
        words: dict[str | None, TaskEnded] = {"SUCCESS": "success", "FAILURE": "failed"}
        words[None] = "skipped" if ran.state == "SUCCESS" else "not run"  # behind a condition that did not hold
        ended = {step: words[ran.tasks.get(task.replace("_", "-"))] for task, steps in tasks.items() for step in steps}

        def log(step: str) -> str:
            [task] = [task for task, steps in tasks.items() if step in steps]
            name = task.replace("_", "-")
            begun = ran.log.partition(f"Executing task '{name}'")[2]
            return str(begun.partition(f"Task '{name}' finished")[0])

        parts = {step: ran.copies.get(f"{t.replace('_', '-')}-part", 0) for t, steps in tasks.items() for step in steps}
        whole = {step: number for step, number in parts.items() if number}
        return Went("success" if ran.state == "SUCCESS" else "failed", ended, log, whole)

    def cancelled(self, file: Path, params: Mapping[str, str], when: Path) -> Went:
        """The SDK's runner cannot be told to stop: `penstock run --on kubeflow` can, by Ctrl-C."""
        words = [word for name, text in params.items() for word in ("--param", f"{name}={text}")]
        command = ("python", "-P", "-m", "penstock", "run", file, "--on", "kubeflow", *words)
        process = self.engine.processes.start("cancelled", *command)
        self.engine.processes.wait("step", when.exists)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        self.engine.processes.forget("cancelled")
        assert process.returncode == 130
        return Went("cancelled", {"slow": "failed", "after": "not run"})


@pytest.mark.kubeflow
class TestKubeflow(BackendSuite):
    """Every backend's promises, and Kubeflow's own."""

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls, engines: Any) -> Runner:
        return Runner(engines.get("kubeflow"))

    def test_requests_retries_and_secrets_are_in_the_file(self, runner: Runner, tmp_path: Path) -> None:
        """As the format has them; the SDK's own messages took the file, and no reference leads nowhere."""
        (tmp_path / "penstock.toml").write_text("")
        (tmp_path / "flows.py").write_text(SMALL)
        path, _, _ = runner.export(tmp_path / "flows.py", "step", image="r/x@sha256:0", secrets=["TOKEN"])
        read = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))"
        spec, platform = json.loads(runner.engine.processes.run("-c", read, path))
        assert (spec["pipelineInfo"]["name"], spec["sdkVersion"]) == ("small-one", "kfp-2.17.0")
        assert spec["root"]["inputDefinitions"]["parameters"] == {
            "n": {"defaultValue": 1.0, "isOptional": True, "parameterType": "NUMBER_INTEGER"},
            "metrics": {"defaultValue": 0.5, "isOptional": True, "parameterType": "NUMBER_DOUBLE"},
            "as_of": {"defaultValue": "", "isOptional": True, "parameterType": "STRING"},
        }
        first, second = (spec["root"]["dag"]["tasks"][name] for name in ("first", "second"))
        assert first["retryPolicy"]["maxRetryCount"] == 2
        assert "retryPolicy" not in second
        assert second["dependentTasks"] == ["first"]
        assert not first["cachingOptions"].get("enableCache")
        executors = spec["deploymentSpec"]["executors"]
        container = executors["exec-first"]["container"]
        assert (container["image"], container["command"][:3]) == ("r/x@sha256:0", ["python", "-P", "-m"])
        words = ["--call", "first", "--limit-s", "60", "--optional", "as_of", "--", "--file"]
        words.append(os.fspath(tmp_path / "flows.py"))
        assert container["args"][-len(words) - 2 :] == [*words, "--backend", "kubeflow"]
        asked = executors["exec-second"]["container"]["resources"]
        assert {name: asked[name] for name in ("resourceCpuRequest", "resourceMemoryRequest")} == {
            "resourceCpuRequest": "500m",
            "resourceMemoryRequest": "1Gi",
        }
        assert asked["resourceMemoryLimit"] == "1536Mi"
        gpu = asked["accelerator"]
        assert (gpu["resourceCount"], gpu["resourceType"]) == ("1", "nvidia.com/gpu")
        at = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        assert at["exec-second"]["nodeSelector"] == {"labels": {"zone": "eu"}}
        assert at["exec-first"]["activeDeadlineSeconds"] == "720"
        label = {"name": "KFP_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}
        assert at["exec-first"]["fieldPathAsEnv"] == at["exec-second"]["fieldPathAsEnv"] == [label]
        assert at["exec-first"]["secretAsEnv"][0]["keyToEnv"][0]["envVar"] == "TOKEN"

    def test_what_stands_behind_a_gate_runs_when_it_passes(
        self, runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The condition is written for the local runner too, which looks up one output only."""
        (tmp_path / "penstock.toml").write_text("")
        (tmp_path / "flows.py").write_text(SMALL)
        monkeypatch.setattr(runner, "gated", GATED)
        went = runner.run(tmp_path / "flows.py", params={"n": "3"})
        assert "condition-1" in (tmp_path / "step.yaml").read_text()
        assert went == Went("success", {"first": "success", "second": "success"}, went.log)
