"""Rows of the ledger for what unfinished steps have finished: a step that was killed finds them in its next run.

Chunk n of a step has a recipe of its own, made of the step's and n. A step's chunks are read until one is missing.
Parts of a step that other processes do have series of their own, so that none writes where another does.
They are results like others: committed in groups, checked by `fsck`, forgotten by `gc`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from penstock.core.artifact import INLINE_LIMIT, Artifact
from penstock.core.digest import digest_recipe
from penstock.core.flow import Node
from penstock.core.plan import Decision
from penstock.core.ports import Ledger
from penstock.core.run import Result
from penstock.engine.commit import Committer
from penstock.engine.events import Event, Listener

ENTRIES = ("penstock.stages.train:train", "penstock.stages.evaluate:evaluate")
"""The steps that may take hours and keep what they have finished; candidates and their winner too."""
MOST_PARTS = 64
"""Series of chunks of one step, beside the one of those that are done as a whole: one for each of its parts."""
_CANDIDATES = "penstock.stages.candidates:"
_SEARCHES = ("sklearn.model_selection._search:", "sklearn.model_selection._search_successive_halving:")
_PAGE = 64


def keeps(node: Node) -> bool:
    """Whether a step keeps what it has finished."""
    return node.entry in ENTRIES or node.entry.startswith(_CANDIDATES)


def searches(node: Node) -> bool:
    """Whether a step fits the candidates of a search of scikit-learn's, which can be done in parts.

    Examples
    --------
    >>> grid = ["estimator", "sklearn.model_selection._search:GridSearchCV", {"cv": 3}]
    >>> searches(Node("train", ENTRIES[0], ["list", [["list", []], ["dict", [["model", grid]]]]], ""))
    True
    """
    stack = [node.tree] if keeps(node) and not node.uncacheable else []
    while stack:
        value = stack.pop()
        if isinstance(value, list | tuple):
            if len(value) > 1 and value[0] == "estimator" and str(value[1]).startswith(_SEARCHES):
                return True
            stack += value
        elif isinstance(value, dict):
            stack += value.values()
    return False


class Chunks:
    """The chunks of the steps of one run.

    Parameters
    ----------
    codes : dict
        Code digest → its parts, as the graph has them.
    part : (int, int), optional
        K and N, where this process does the K-th of N parts of a step.
    """

    def __init__(self, codes: Mapping[str, Mapping[str, str]], part: tuple[int, int] | None = None) -> None:
        self._codes, self._part = codes, part
        self._series = (part[0] - 1) % MOST_PARTS + 1 if part is not None else 0
        self._count: dict[str, int] = {}

    def task(self, node: Node, recipe: str | None, ledger: Ledger, commit: Committer) -> dict[str, Any]:
        """What a worker is told of earlier tries at a step, as part of its task."""
        if recipe is None or not keeps(node):
            return {}
        commit.flush()
        return {"checkpoints": self.known(ledger, node, recipe)} | ({"part": self._part} if self._part else {})

    def took(
        self, node: Node, decision: Decision, data: Mapping[str, Any], commit: Committer, listen: Listener, run: str
    ) -> bool:
        """Put part of a step's work on record, if a message holds that, and tell of it; else False."""
        if "kept" not in data:
            return False
        if (row := self.row(node, decision.recipe, data["kept"], run)) is not None:
            commit.add(result=row, codes={node.code: dict(self._codes.get(node.code, {}))})
        listen(Event("progress", node.id, decision, facts=data["progress"]))
        return True

    def known(self, ledger: Ledger, node: Node, recipe: str) -> dict[str, Any]:
        """What a step has kept in this run and in earlier ones.

        Parameters
        ----------
        ledger : Ledger
        node : Node
        recipe : str
            The step's.
        """
        first = {_recipe(node, recipe, 0, series)[0]: series for series in range(1, MOST_PARTS + 1)}
        values: dict[str, Any] = {}
        self._count[node.id] = 0
        for series in {0, self._series, *(first[one] for one in ledger.results(list(first)))}:
            found, n = _read(ledger, node, recipe, series)
            values |= found
            if series == self._series:
                self._count[node.id] = n
        return values

    def row(self, node: Node, recipe: str | None, kept: Mapping[str, Any], run: str) -> Result | None:
        """The row for one more chunk; None for nothing, and for what is too large for a row."""
        text = json.dumps(kept, separators=(",", ":"), sort_keys=True)
        data = text.encode()
        if recipe is None or not kept or len(data) > INLINE_LIMIT:
            return None
        n = self._count.get(node.id, 0)
        self._count[node.id] = n + 1
        own, tree = _recipe(node, recipe, n, self._series)
        artifact = Artifact(hashlib.sha256(data).hexdigest(), "json", len(data), text)
        return Result(own, node.code, tree, None, (artifact,), {"run": run, "step": node.id})


def _read(ledger: Ledger, node: Node, recipe: str, series: int) -> tuple[dict[str, Any], int]:
    """What the chunks of one series hold, and how many there are."""
    values: dict[str, Any] = {}
    n = 0
    while True:
        recipes = [_recipe(node, recipe, n + i, series)[0] for i in range(_PAGE)]
        found = ledger.results(recipes)
        for one in recipes:
            if one not in found:
                return values, n
            values |= _values(found[one])
            n += 1


def _recipe(node: Node, recipe: str, n: int, series: int) -> tuple[str, Any]:
    tree = ["list", ["checkpoint", recipe, n, *([series] if series else [])]]
    return digest_recipe(node.code, tree, None), tree


def _values(result: Result) -> dict[str, Any]:
    text = result.outputs[0].text if result.outputs else None
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}
