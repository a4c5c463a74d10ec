"""Figures of a stage's report as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def figure_text(metric: Mapping[str, Any]) -> str:
    """A figure under its name, with its interval where it has one.

    Parameters
    ----------
    metric : dict
        With "shown": {"name", "value", "low", "high", "lower_is_better"}.

    Examples
    --------
    >>> shown = {"name": "log_loss", "value": 0.4212, "low": 0.41, "high": 0.4333, "lower_is_better": True}
    >>> figure_text({"shown": shown})
    'log_loss 0.421 [0.410, 0.433] (lower is better)'
    """
    shown = metric["shown"]
    text = f"{shown['name']} {number(shown['value'])}"
    if shown.get("low") is not None and shown.get("high") is not None:
        text += f" [{number(shown['low'])}, {number(shown['high'])}]"
    return text + (" (lower is better)" if shown.get("lower_is_better") else "")


def number(value: float | None) -> str:
    """A figure as a run tells it: three digits behind the point, or three that count where it is large or tiny.

    Examples
    --------
    >>> number(0.84312), number(86.767), number(1234.5678), number(0.00012), number(None)
    ('0.843', '86.8', '1,235', '0.00012', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}" if size >= 0.01 or value == 0 else f"{value:.2g}"
