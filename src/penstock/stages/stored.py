"""Stored out-of-fold predictions, read back as answers that any metric can judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.stages.predicted import Predicted
from penstock.stages.problem import Problem

if TYPE_CHECKING:
    import pandas as pd


def from_frame(frame: pd.DataFrame, problem: Problem) -> Predicted:
    """The inverse of `Predicted.to_frame`.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        As `evaluate` stores it.
    problem : Problem

    Returns
    -------
    Predicted
        Of a binary task the probability of the other class is 1 minus the stored one.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"y_true": ["no", "yes"], "label": ["no", "no"], "proba": [0.2, 0.4]})
    >>> from_frame(frame, Problem("binary", ("no", "yes"))).answers.tolist()
    [[0.0, 0.8, 0.2], [0.0, 0.6, 0.4]]
    """
    import numpy as np

    truth = problem.encode(frame["y_true"])
    prefix = "column:"
    beside: dict[str, Any] = {
        "weight": frame["weight"].to_numpy(dtype=np.float64) if "weight" in frame.columns else None,
        "columns": {n.removeprefix(prefix): frame[n].to_numpy() for n in frame.columns if n.startswith(prefix)},
    }
    if problem.task == "regression":
        values = frame["value"].to_numpy(dtype=np.float64)[:, None]
        return Predicted(problem, truth, values, **beside)
    parts = [problem.encode(frame["label"]).astype(np.float64)[:, None]]
    proba = _add(parts, _columns(frame, "proba", problem))
    decision = _add(parts, _columns(frame, "decision", problem))
    return Predicted(problem, truth, np.hstack(parts), proba, decision, **beside)


def _columns(frame: pd.DataFrame, name: str, problem: Problem) -> Any:
    """Stored probabilities or decision values as `Predicted` lays them out; None where there are none."""
    import numpy as np

    if problem.task == "binary":
        if name not in frame.columns:
            return None
        values = frame[name].to_numpy(dtype=np.float64)[:, None]
        return np.hstack([1 - values, values]) if name == "proba" else values
    names = [f"{name}:{label}" for label in problem.classes]
    return frame[names].to_numpy(dtype=np.float64) if set(names) <= set(frame.columns) else None


def _add(parts: list[Any], values: Any) -> slice | None:
    if values is None:
        return None
    start = sum(part.shape[1] for part in parts)
    parts.append(values)
    return slice(start, start + values.shape[1])
