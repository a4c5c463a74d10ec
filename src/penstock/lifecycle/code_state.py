"""Where the code of a run comes from: its commit, and what differs from it in the files that the run reaches."""

from __future__ import annotations

import os
from typing import Any

from penstock.core.flow import Graph
from penstock.core.ports import Home
from penstock.lifecycle.kept_code import harmless
from penstock.lifecycle.register import git_state, json_artifact

MOST_DIFF = 256 << 10
"""Characters of a difference that are kept."""
TIMEOUT_S = 10


def code_state(home: Home, graph: Graph, file: str) -> dict[str, Any]:
    """Commit, whether the tree differs from it, and the difference of the files that the run's code stands in.

    Parameters
    ----------
    home : Home
    graph : Graph
    file : str
        The declaring file, absolute.

    Returns
    -------
    dict
        "commit", "dirty"; "diff": the artifact of {"diff": text, "cut": bool} where one of the files differs. Empty
        outside Git. Values of secrets and passwords in URLs are not in the text.
    """
    folder = os.path.dirname(os.path.abspath(file))
    state = git_state(folder)
    if not state.get("dirty"):
        return state
    text = difference(folder, files_of(graph, home.config.root, file))
    if not text:
        return state
    text = harmless(text, graph, folder)
    kept = json_artifact(home.objects, {"diff": text[:MOST_DIFF], "cut": len(text) > MOST_DIFF})
    if kept.text is None:
        home.objects.publish([kept.digest])
    return state | {"diff": kept.to_json()}


def files_of(graph: Graph, root: str, file: str) -> list[str]:
    """The declaring file, and those of the project's modules that the steps' code reaches."""
    modules = {name.partition(":")[0] for parts in graph.codes.values() for name in parts if ":" in name}
    folders = dict.fromkeys([os.path.dirname(os.path.abspath(file)), root])
    found = {os.path.abspath(file): None}
    for module in sorted(modules):
        path = module.replace(".", "/")
        places = [os.path.join(folder, f"{path}{end}") for folder in folders for end in (".py", "/__init__.py")]
        found |= dict.fromkeys([place for place in places if os.path.isfile(place)][:1])
    return list(found)


def difference(folder: str, files: list[str]) -> str:
    """What Git says that differs from its commit in some files; files that it does not know are new as a whole."""
    import subprocess

    def git(*arguments: str) -> str:
        command = ["git", "-C", folder, *arguments]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        return done.stdout.decode("utf-8", "replace")

    try:
        text = git("diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD", "--", *files)
        for name in git("ls-files", "--others", "--exclude-standard", "-z", "--", *files).split("\0"):
            if name:
                text += git("diff", "--no-color", "--no-ext-diff", "--no-index", "--", os.devnull, name)
    except (OSError, subprocess.SubprocessError):
        return ""
    return text
