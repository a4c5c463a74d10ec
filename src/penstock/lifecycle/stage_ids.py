"""Ids of the steps that a workflow becomes: alone in a file, so that a flow of steps loads nothing of workflows."""

from __future__ import annotations

STAGES = (
    "validate",
    "split",
    "train",
    "evaluate",
    "decide",
    "refit",
    "scramble",
    "audit",
    "package",
    "register",
    "champion",
    "compare",
    "gate",
    "deploy",
)
"""Step ids of Penstock's own, in the order in which they are shown; a user's step may not be called so."""
OFFICIAL = "validate.test"
"""Id of the step that holds an official test file against the schema of the training table."""
FINAL = ("final", "opened")
"""Ids of the steps that open the final hold-out."""
ON_RECORD = {"compare": "gate", "final": "opened"}
"""A step that looks at held-out rows is never a run's last one: the next puts on record that it looked."""
CANDIDATE = "evaluate."
"""What the id of a candidate's evaluation begins with."""
EVALUATED = ("report", "predictions")
"""What every evaluation gives."""
