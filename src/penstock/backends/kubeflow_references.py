"""Whether every reference of a compiled pipeline leads somewhere; the format's own message does not ask."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

PLACEHOLDER = re.compile(r"\{\{\$\.(inputs|outputs)\.(parameters|artifacts)\[\\?'([^'\\]+)\\?'\]")
CONDITION = re.compile(r"inputs\.parameter_values\['([^']+)'\]")

Json = Mapping[str, Any]


def faults(spec: Json, platform: Json | None = None) -> list[str]:
    """What of a pipeline leads nowhere, or is led to by nothing.

    Parameters
    ----------
    spec : dict
        A `PipelineSpec` as JSON.
    platform : dict, optional
        The `PlatformSpec` that goes with it.

    Examples
    --------
    >>> faults({"root": {"dag": {"tasks": {"a": {"componentRef": {"name": "comp-a"}}}}}})
    ['root/a: there is no component comp-a']
    """
    components: Json = spec.get("components", {})
    executors: Json = spec.get("deploymentSpec", {}).get("executors", {})
    found = [*_dag("root", spec["root"], components)]
    for name, component in components.items():
        if "dag" in component:
            found += _dag(name, component, components)
        elif component.get("executorLabel") not in executors:
            found.append(f"{name}: there is no executor {component.get('executorLabel')}")
        else:
            found += _executor(name, component, executors[component["executorLabel"]])
    found += _unused(spec, components, executors)
    for kind, one in (platform or {}).get("platforms", {}).items():
        asked: Json = one.get("deploymentSpec", {}).get("executors", {})
        found += [f"{kind}: there is no executor {label}" for label in asked if label not in executors]
    return found


def _dag(name: str, component: Json, components: Json) -> Iterator[str]:
    """References among the tasks of one graph."""
    tasks: Json = component["dag"].get("tasks", {})
    for task, spec in tasks.items():
        where = f"{name}/{task}"
        made = components.get(spec["componentRef"]["name"])
        if made is None:
            yield f"{where}: there is no component {spec['componentRef']['name']}"
            continue
        for before in spec.get("dependentTasks", ()):
            if before not in tasks:
                yield f"{where}: there is no task {before} to wait for"
        for kind in ("parameters", "artifacts"):
            yield from _given(where, kind, spec, made, component, tasks, components)
        condition = spec.get("triggerPolicy", {}).get("condition", "")
        for asked in CONDITION.findall(condition):
            if asked not in spec.get("inputs", {}).get("parameters", {}):
                yield f"{where}: its condition asks for {asked}, which it is not given"
    for kind in ("parameters", "artifacts"):
        for output, chosen in component["dag"].get("outputs", {}).get(kind, {}).items():
            for selector in _selectors(chosen):
                if selector.get("producerSubtask") not in tasks:
                    yield f"{name}: output {output} is of no task {selector.get('producerSubtask')}"
    if _has_cycle(tasks):
        yield f"{name}: tasks wait for one another"


def _given(
    where: str, kind: str, spec: Json, made: Json, component: Json, tasks: Json, components: Json
) -> Iterator[str]:
    """What a task is given: each of its component's inputs, and nothing else, from where it is."""
    wanted: Json = made.get("inputDefinitions", {}).get(kind, {})
    given: Json = spec.get("inputs", {}).get(kind, {})
    own: Json = component.get("inputDefinitions", {}).get(kind, {})
    item = spec.get(f"{kind.removesuffix('s')}Iterator", {}).get("itemInput")
    if item is not None and item not in wanted:
        yield f"{where}: it goes through items for an input {item}, which it has not"
    for name, one in wanted.items():
        if name not in given and name != item and not one.get("isOptional") and "defaultValue" not in one:
            yield f"{where}: input {name} is not given"
    word = kind.removesuffix("s").capitalize()
    for name, source in given.items():
        if name not in wanted and "dag" not in made:
            yield f"{where}: it takes no input {name}"
        outer = source.get(f"componentInput{word}")
        if outer is not None and outer not in own:
            yield f"{where}: input {name} is no input {outer} of the whole"
        output = source.get(f"taskOutput{word}")
        if output is None:
            continue
        producer = output["producerTask"]
        if producer not in tasks:
            yield f"{where}: input {name} is of no task {producer}"
            continue
        if producer not in spec.get("dependentTasks", ()):
            yield f"{where}: input {name} is of {producer}, for which it does not wait"
        maker: Json = components.get(tasks[producer]["componentRef"]["name"], {})
        if output[f"output{word}Key"] not in maker.get("outputDefinitions", {}).get(kind, {}):
            yield f"{where}: {producer} has no output {output[f'output{word}Key']}"


def _executor(name: str, component: Json, executor: Json) -> Iterator[str]:
    """Placeholders of a container's command line."""
    for side, kind, key in PLACEHOLDER.findall(json.dumps(executor)):
        defined: Json = component.get(f"{side.removesuffix('s')}Definitions", {}).get(kind, {})
        if key not in defined:
            yield f"{name}: its command asks for {side}.{kind}.{key}, which it has not"


def _unused(spec: Json, components: Json, executors: Json) -> Iterator[str]:
    """Components that no task uses, and executors that no component uses."""
    graphs = [spec["root"], *(one for one in components.values() if "dag" in one)]
    used = {task["componentRef"]["name"] for one in graphs for task in one["dag"].get("tasks", {}).values()}
    yield from (f"no task uses {name}" for name in components if name not in used)
    labels = {one.get("executorLabel") for one in components.values()}
    yield from (f"no component uses {label}" for label in executors if label not in labels)


def _selectors(chosen: Json) -> Iterator[Json]:
    for value in chosen.values():
        if isinstance(value, Mapping):
            yield from ([value] if "producerSubtask" in value else _selectors(value))
        elif isinstance(value, list):
            yield from (one for one in value if isinstance(one, Mapping) and "producerSubtask" in one)


def _has_cycle(tasks: Json) -> bool:
    left = {name: set(spec.get("dependentTasks", ())) & tasks.keys() for name, spec in tasks.items()}
    while free := [name for name, before in left.items() if not before]:
        left = {name: before - set(free) for name, before in left.items() if name not in free}
    return bool(left)
