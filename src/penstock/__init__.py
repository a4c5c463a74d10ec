"""Penstock takes a tabular model from raw data to production and keeps it there.

Names are bound when they are first used, so that `import penstock` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.backends.dagster import to_dagster
    from penstock.backends.prefect import to_prefect
    from penstock.core.audit import Audit
    from penstock.core.data_check import Check, check
    from penstock.core.fit import Fit
    from penstock.core.flow import Flow
    from penstock.core.gate import (
        AtLeast,
        AtMost,
        Beats,
        Calibrated,
        Faster,
        Improves,
        MaxGap,
        NotWorse,
        NoWorseOn,
        Smaller,
    )
    from penstock.core.join import asof_join
    from penstock.core.metric import Metric, metric
    from penstock.core.notes import log
    from penstock.core.resources import Resources
    from penstock.core.secret import Secret
    from penstock.core.source import read
    from penstock.core.split import Split
    from penstock.core.step import Param, Ref, Step, step
    from penstock.core.target import Target
    from penstock.core.threshold import Threshold
    from penstock.core.workflow import Monitor, Workflow
    from penstock.errors import PenstockError
    from penstock.python.loading import load
    from penstock.python.result import Plan, Run, Verdict
    from penstock.python.running import plan, run
    from penstock.python.table import Runs, runs
    from penstock.stages.comparison import Comparison

__version__ = "0.1.0"

_LAZY = {
    "AtLeast": "penstock.core.gate",
    "AtMost": "penstock.core.gate",
    "Audit": "penstock.core.audit",
    "Beats": "penstock.core.gate",
    "Calibrated": "penstock.core.gate",
    "Check": "penstock.core.data_check",
    "Comparison": "penstock.stages.comparison",
    "Faster": "penstock.core.gate",
    "Fit": "penstock.core.fit",
    "Flow": "penstock.core.flow",
    "Improves": "penstock.core.gate",
    "MaxGap": "penstock.core.gate",
    "Metric": "penstock.core.metric",
    "Monitor": "penstock.core.workflow",
    "NoWorseOn": "penstock.core.gate",
    "NotWorse": "penstock.core.gate",
    "Param": "penstock.core.step",
    "PenstockError": "penstock.errors",
    "Plan": "penstock.python.result",
    "Ref": "penstock.core.step",
    "Resources": "penstock.core.resources",
    "Run": "penstock.python.result",
    "Runs": "penstock.python.table",
    "Secret": "penstock.core.secret",
    "Smaller": "penstock.core.gate",
    "Split": "penstock.core.split",
    "Step": "penstock.core.step",
    "Target": "penstock.core.target",
    "Threshold": "penstock.core.threshold",
    "Verdict": "penstock.python.result",
    "Workflow": "penstock.core.workflow",
    "asof_join": "penstock.core.join",
    "check": "penstock.core.data_check",
    "load": "penstock.python.loading",
    "log": "penstock.core.notes",
    "metric": "penstock.core.metric",
    "plan": "penstock.python.running",
    "read": "penstock.core.source",
    "run": "penstock.python.running",
    "runs": "penstock.python.table",
    "step": "penstock.core.step",
    "to_dagster": "penstock.backends.dagster",
    "to_prefect": "penstock.backends.prefect",
}

__all__ = [
    "AtLeast",
    "AtMost",
    "Audit",
    "Beats",
    "Calibrated",
    "Check",
    "Comparison",
    "Faster",
    "Fit",
    "Flow",
    "Improves",
    "MaxGap",
    "Metric",
    "Monitor",
    "NoWorseOn",
    "NotWorse",
    "Param",
    "PenstockError",
    "Plan",
    "Ref",
    "Resources",
    "Run",
    "Runs",
    "Secret",
    "Smaller",
    "Split",
    "Step",
    "Target",
    "Threshold",
    "Verdict",
    "Workflow",
    "asof_join",
    "check",
    "load",
    "log",
    "metric",
    "plan",
    "read",
    "run",
    "runs",
    "step",
    "to_dagster",
    "to_prefect",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
