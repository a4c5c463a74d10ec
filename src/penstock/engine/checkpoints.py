"""Rows of the ledger for what unfinished steps have finished: a step that was killed finds them in its next run.

Chunk n of a step has a recipe of its own, made of the step's and n. A step's chunks are read until one is missing.
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
_CANDIDATES = "penstock.stages.candidates:"
_PAGE = 64


def keeps(node: Node) -> bool:
    """Whether a step keeps what it has finished."""
    return node.entry in ENTRIES or node.entry.startswith(_CANDIDATES)


class Chunks:
    """The chunks of the steps of one run.

    Parameters
    ----------
    codes : dict
        Code digest → its parts, as the graph has them.
    """

    def __init__(self, codes: Mapping[str, Mapping[str, str]]) -> None:
        self._codes = codes
        self._count: dict[str, int] = {}

    def task(self, node: Node, recipe: str | None, ledger: Ledger, commit: Committer) -> dict[str, Any]:
        """What a worker is told of earlier tries at a step, as part of its task."""
        if recipe is None or not keeps(node):
            return {}
        commit.flush()
        return {"checkpoints": self.known(ledger, node, recipe)}

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
        values: dict[str, Any] = {}
        n = 0
        while True:
            recipes = [_recipe(node, recipe, n + i)[0] for i in range(_PAGE)]
            found = ledger.results(recipes)
            for one in recipes:
                if one not in found:
                    self._count[node.id] = n
                    return values
                values |= _values(found[one])
                n += 1

    def row(self, node: Node, recipe: str | None, kept: Mapping[str, Any], run: str) -> Result | None:
        """The row for one more chunk; None for nothing, and for what is too large for a row."""
        text = json.dumps(kept, separators=(",", ":"), sort_keys=True)
        data = text.encode()
        if recipe is None or not kept or len(data) > INLINE_LIMIT:
            return None
        n = self._count.get(node.id, 0)
        self._count[node.id] = n + 1
        own, tree = _recipe(node, recipe, n)
        artifact = Artifact(hashlib.sha256(data).hexdigest(), "json", len(data), text)
        return Result(own, node.code, tree, None, (artifact,), {"run": run, "step": node.id})


def _recipe(node: Node, recipe: str, n: int) -> tuple[str, Any]:
    tree = ["list", ["checkpoint", recipe, n]]
    return digest_recipe(node.code, tree, None), tree


def _values(result: Result) -> dict[str, Any]:
    text = result.outputs[0].text if result.outputs else None
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}
