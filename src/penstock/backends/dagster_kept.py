"""A compiled flow as a text, for processes that are to build the same assets without importing the user's file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from penstock.backends.compiled import Compiled
from penstock.backends.tasks import compile_flow
from penstock.core.flow import Graph
from penstock.lifecycle.run import Request
from penstock.project import open_home


def packed(flow: Compiled, group: str) -> str:
    """What `unpacked` makes the same tasks of.

    Parameters
    ----------
    flow : Compiled
    group : str
        As it was compiled with.
    """
    request = flow.request
    return json.dumps(
        {
            "graph": slim(flow.graph).to_json(),
            "parts": {task.id: task.parts for task in flow.tasks if task.parts},
            "group": group,
            "environment": flow.home.config.environment,
            "python": flow.python,
            "request": [request.file, request.variable, dict(request.params), request.until, dict(request.extra)],
        }
    )


def unpacked(text: str) -> Compiled:
    """A flow as it was when `packed`: its tasks are as they were, and nothing of the user's is imported."""
    data = json.loads(text)
    graph = Graph.from_json(data["graph"])
    file, variable, params, until, extra = data["request"]
    request = Request(file, variable, params=params, until=until, extra=extra)
    parts = data["parts"]  # how many items a step has stood in its arguments
    tasks = tuple(replace(task, parts=parts.get(task.id, 0)) for task in compile_flow(graph, data["group"], 0))
    return Compiled(open_home(file, environment=data["environment"]), graph, tasks, request, data["python"])


def slim(graph: Graph) -> Graph:
    """A flow without what only the worker needs: arguments, the parts of its code, and most of what it declares."""
    nodes = tuple(replace(node, tree=node.tree if node.mapped else None) for node in graph.nodes)
    about = {name: graph.about[name] for name in ("workflow",) if name in graph.about}
    return replace(graph, nodes=nodes, codes={}, about=about)


def _context() -> tuple[Any, bool]:
    """Dagster's own record of the definitions that are being loaded, and whether they were loaded before."""
    try:
        from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType

        context = DefinitionsLoadContext.get()
        return context, context.load_type == DefinitionsLoadType.RECONSTRUCTION
    except (ImportError, AttributeError):  # not part of what Dagster promises: without it the file is read again
        return None, False


def kept(key: str) -> str | None:
    """What Dagster kept when the code location was loaded; None where it is loaded now, or by nobody."""
    context, again = _context()
    found = context.reconstruction_metadata.get(key) if again else None
    return str(found) if found is not None else None


def keep_texts(texts: Mapping[str, str]) -> None:
    """Have Dagster hand these texts to the processes of runs and steps."""
    context, again = _context()
    if context is None or again:
        return
    for key, text in texts.items():
        context.add_to_pending_reconstruction_metadata(key, text)
