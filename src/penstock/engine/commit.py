"""Group commit: recomputable results become durable together, at most 100 ms after they were made."""

from __future__ import annotations

import time

from penstock.core.ports import Ledger, Objects
from penstock.core.run import Decided, Group, Result, Run, SourceStat, StepRun

DELAY_S = 0.1
"""How long a result may wait for others."""
LIMIT = 500
"""Rows after which a group is committed at once."""


class Committer:
    """Collects facts and writes them in groups: bytes first, then one transaction.

    A crash between two groups costs recomputation, never a wrong hit: nothing is on record before its bytes are
    durable. Decisions (registration, promotion) do not pass through here.
    """

    def __init__(self, objects: Objects, ledger: Ledger) -> None:
        self._objects = objects
        self._ledger = ledger
        self._group = Group()
        self._staged: dict[str, None] = {}
        self._since: float | None = None
        self._rows = 0

    def add(
        self,
        *,
        run: Run | None = None,
        result: Result | None = None,
        step_run: StepRun | None = None,
        decided: tuple[str, Decided] | None = None,
        codes: dict[str, dict[str, str]] | None = None,
        sources: list[SourceStat] | None = None,
    ) -> None:
        """Take facts into the present group."""
        if run is not None:
            self._group.runs.append(run)
        if codes:
            self._group.codes.update(codes)
        if sources:
            self._group.sources += sources
        if result is not None:
            self._group.results.append(result)
        if decided is not None:
            self._group.decided.append(decided)
        if step_run is not None:
            self._group.step_runs.append(step_run)
            self._staged.update(dict.fromkeys(step_run.figures))
            for artifact in step_run.outputs:
                if artifact.text is None and step_run.action == "run":
                    self._staged[artifact.digest] = None
                    self._staged.update(dict.fromkeys(artifact.refs))
        self._rows += 1
        if self._since is None:
            self._since = time.monotonic()

    def due(self) -> float | None:
        """Seconds until the group should be written; None when there is nothing to write."""
        if self._since is None:
            return None
        return 0.0 if self._rows >= LIMIT else max(0.0, self._since + DELAY_S - time.monotonic())

    def flush(self) -> None:
        """Publish the bytes, then commit the rows.

        Raises
        ------
        StoreError
            Nothing of the group is on record then; the group is kept.
        """
        if not self._group:
            return
        if self._staged:
            self._objects.publish(list(self._staged))
        self._ledger.commit(self._group)
        self._group, self._staged, self._since, self._rows = Group(), {}, None, 0
